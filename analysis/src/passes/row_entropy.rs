//! Entropy of each row of a matrix of probabilities, in nats. Values that are not positive count 0.

use super::{Pass, Sample, samples};
use crate::Result;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, Layout, Record, Side, gpu_struct, grid, pieces};
use rayon::prelude::*;

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Rows of the piece.
        n_rows: u32,
        /// Values of a row.
        n_cols: u32,
        /// Row of the first workgroup.
        first_row: u32,
    }
}

const KERNEL: Kernel =
    Kernel { shader: "row_entropy", source: include_str!("../../../shaders/row_entropy.wgsl"), entry: "main" };

/// The plain loops in f64, one value per row of `rows` `[n, m]`.
pub fn cpu(rows: &Array) -> Result<Vec<f32>> {
    let [n, _] = rows.dims("rows")?;
    Ok((0..n).map(|r| of_row(rows.row(r))).collect())
}

fn of_row(row: &[f32]) -> f32 {
    let mut sum = 0f64;
    for &p in row {
        if p > 0.0 {
            sum -= f64::from(p) * f64::from(p).ln();
        }
    }
    sum as f32
}

/// The same, rows in parallel.
pub fn fast(rows: &Array) -> Result<Vec<f32>> {
    let [n, _] = rows.dims("rows")?;
    Ok((0..n).into_par_iter().map(|r| of_row(rows.row(r))).collect())
}

/// The shader.
pub fn gpu(rows: &Array, gpu: &Gpu, ctx: &Ctx) -> Result<Vec<f32>> {
    let [n, m] = rows.dims("rows")?;
    gpu.run(|work| {
        let mut out = Vec::with_capacity(n);
        for piece in pieces(n, m, work.binding_bytes()) {
            ctx.step(piece.start, n)?;
            let values = work.upload("rows", &rows.data()[piece.start * m..piece.end * m])?;
            let entropy = work.buffer("entropy", piece.len())?;
            let params = Params { n_rows: piece.len() as u32, n_cols: m as u32, first_row: 0 };
            work.dispatch(&KERNEL, &params, &[&values, &entropy], grid(piece.len())?)?;
            out.extend(work.read::<f32>(&entropy)?);
        }
        Ok(out)
    })
}

/// On the side that the context's rule chooses.
pub fn run(rows: &Array, ctx: &Ctx) -> Result<Vec<f32>> {
    ctx.compute(|| fast(rows), |device| gpu(rows, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct RowEntropy;

impl Pass for RowEntropy {
    fn name(&self) -> &'static str {
        "row_entropy"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let each = |(name, mut x): (String, Array)| {
            // Shares with zeros and negative values between them.
            let m = x.shape()[1].max(1) as f32;
            x.data_mut().iter_mut().for_each(|v| *v = (*v + 0.5) / m);
            // Sums of up to 300 terms of a few hundredths.
            Sample::new(name, 1e-5, move |side, ctx| {
                let found = match side {
                    Side::Cpu => cpu(&x)?,
                    Side::Fast => fast(&x)?,
                    Side::Gpu(g) => gpu(&x, g, ctx)?,
                };
                Ok(found.into_iter().map(f64::from).collect())
            })
        };
        samples::matrices().into_iter().map(each).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certain_row_has_none_and_an_even_one_the_logarithm_of_its_length() {
        let rows = Array::new([3, 2], vec![1.0, 0.0, 0.5, 0.5, 0.25, 0.75]).unwrap();
        let by_hand = [0.0, 2f32.ln(), 0.25 * 4f32.ln() + 0.75 * (4f32 / 3.0).ln()];
        for got in [cpu(&rows).unwrap(), fast(&rows).unwrap()] {
            assert!(got.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
        }
    }
}
