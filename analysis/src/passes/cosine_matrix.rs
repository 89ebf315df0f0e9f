//! Cosines between the rows of two matrices: `[n, d]` and `[m, d]` give `[n, m]`. A row of zeros has cosine 0 with all.

use super::{Pass, Sample, samples};
use crate::array::Array;
use crate::cpu::{Matrix, gemm};
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, Layout, Record, Side, gpu_struct, grid, pieces};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Rows of the left piece.
        n_left: u32,
        /// Rows of the right piece.
        n_right: u32,
        /// Components of a row.
        width: u32,
        /// Number of the first workgroup.
        first_group: u32,
    }
}

const KERNEL: Kernel = Kernel {
    shader: "cosine_matrix",
    source: concat!(
        include_str!("../../../shaders/shared/dot_block.wgsl"),
        include_str!("../../../shaders/shared/dot_matrix.wgsl"),
        include_str!("../../../shaders/cosine_matrix.wgsl"),
    ),
    entry: "main",
};

/// Rows divided by their L2 norm, in f64; NaN where a row is zero.
pub fn unit_rows(x: &Array) -> Vec<Vec<f64>> {
    let n = x.shape().first().copied().unwrap_or(0);
    (0..n)
        .map(|i| {
            let row: Vec<f64> = x.row(i).iter().map(|&v| f64::from(v)).collect();
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.into_iter().map(|v| v / norm).collect()
        })
        .collect()
}

/// The dot product.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// 1 / length of each row, 0 for a row of zeros.
fn inverse_lengths(x: &Array) -> Vec<f32> {
    let inverse = |row: &[f32]| {
        let length = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        if length > 0.0 { (1.0 / length) as f32 } else { 0.0 }
    };
    (0..x.shape()[0]).map(|i| inverse(x.row(i))).collect()
}

/// The values of rows divided by their lengths; those of a row of zeros stay.
pub(super) fn unit_values(x: &Array) -> Vec<f32> {
    let d = x.shape().last().copied().unwrap_or(0).max(1);
    x.data().chunks_exact(d).zip(inverse_lengths(x)).flat_map(|(r, f)| r.iter().map(move |v| v * f)).collect()
}

fn sizes(left: &Array, right: &Array) -> Result<(usize, usize, usize)> {
    let [n, d] = left.dims("left rows")?;
    let [m, e] = right.dims("right rows")?;
    if d != e {
        return Err(Error::shape("right rows", format!("[any, {d}]"), right.shape()));
    }
    Ok((n, m, d))
}

/// The plain loops in f64.
pub fn cpu(left: &Array, right: &Array) -> Result<Array> {
    let (n, m, _) = sizes(left, right)?;
    let (a, b) = (unit_rows(left), unit_rows(right));
    let mut out = Vec::with_capacity(n * m);
    for x in &a {
        for y in &b {
            let c = dot(x, y);
            out.push(if c.is_nan() { 0.0 } else { c as f32 });
        }
    }
    Array::new([n, m], out)
}

/// One f32 matrix product.
pub fn fast(left: &Array, right: &Array) -> Result<Array> {
    let (n, m, d) = sizes(left, right)?;
    if n * m * d == 0 {
        return Ok(Array::zeros([n, m]));
    }
    let unit = |x: &Array| -> Result<Tensor> { Ok(Tensor::from_vec(unit_values(x), (x.shape()[0], d), &Device::Cpu)?) };
    Array::from_tensor(&unit(left)?.matmul(&unit(right)?.t()?)?)
}

/// Rows of one block of [`fast_itself`].
const BLOCK: usize = 192;
/// Values of a line of the processor's cache.
const LINE: usize = 16;

/// [`fast`] of a matrix with itself: products of what stands right of the diagonal, which are those left of it.
pub fn fast_itself(x: &Array, ctx: &Ctx) -> Result<Array> {
    let [n, d] = x.dims("rows")?;
    if n * d == 0 {
        return Ok(Array::zeros([n, n]));
    }
    let unit = unit_values(x);
    let mut out = vec![0f32; n * n];
    for first in (0..n).step_by(BLOCK) {
        ctx.step(first, n)?;
        let rows = BLOCK.min(n - first);
        let a = Matrix { values: &unit[first * d..], row: d, col: 1 };
        let b = Matrix { values: &unit[first * d..], row: 1, col: d };
        gemm([rows, d, n - first], (&mut out[first * n + first..], n), false, a, b, true);
    }
    // What stands left of the blocks on the diagonal, some rows at a time: a line of the cache of each row above.
    for first in (BLOCK..n).step_by(BLOCK) {
        let (done, rest) = out.split_at_mut(first * n);
        let rows = BLOCK.min(n - first);
        rest[..rows * n].par_chunks_mut(LINE * n).enumerate().for_each(|(i, some)| {
            for (c, above) in done.chunks_exact(n).enumerate() {
                let values = &above[first + i * LINE..];
                some.chunks_exact_mut(n).zip(values).for_each(|(row, v)| row[c] = *v);
            }
        });
    }
    Array::new([n, n], out)
}

/// Cosines of the rows of a matrix with each other, `[n, n]`.
pub fn of_itself(x: &Array, ctx: &Ctx) -> Result<Array> {
    let n = x.shape().first().copied().unwrap_or(0);
    ctx.fits((size_of::<f32>() * n * n) as u64, "take a smaller picture")?;
    ctx.compute(|| fast_itself(x, ctx), |device| gpu(x, x, device, ctx))
}

/// The shader.
pub fn gpu(left: &Array, right: &Array, gpu: &Gpu, ctx: &Ctx) -> Result<Array> {
    let (n, m, d) = sizes(left, right)?;
    let (inverse_left, inverse_right) = (inverse_lengths(left), inverse_lengths(right));
    let mut out = Array::zeros([n, m]);
    gpu.run(|work| {
        let limit = work.binding_bytes();
        for columns in pieces(m, d, limit) {
            let b = work.upload("right rows", &right.data()[columns.start * d..columns.end * d])?;
            let inverse_b = work.upload("right lengths", &inverse_right[columns.clone()])?;
            for rows in pieces(n, d.max(columns.len()), limit) {
                ctx.step(columns.start * n + rows.start * columns.len(), n * m)?;
                let a = work.upload("left rows", &left.data()[rows.start * d..rows.end * d])?;
                let inverse_a = work.upload("left lengths", &inverse_left[rows.clone()])?;
                let cosines = work.buffer("cosines", rows.len() * columns.len())?;
                let params = Params {
                    n_left: rows.len() as u32,
                    n_right: columns.len() as u32,
                    width: d as u32,
                    first_group: 0,
                };
                let groups = grid(rows.len().div_ceil(32) * columns.len().div_ceil(32))?;
                work.dispatch(&KERNEL, &params, &[&a, &b, &inverse_a, &inverse_b, &cosines], groups)?;
                let found = work.read::<f32>(&cosines)?;
                for (i, row) in rows.clone().zip(found.chunks_exact(columns.len())) {
                    out.data_mut()[i * m + columns.start..i * m + columns.end].copy_from_slice(row);
                }
            }
        }
        Ok(())
    })?;
    Ok(out)
}

/// On the side that the context's rule chooses.
pub fn run(left: &Array, right: &Array, ctx: &Ctx) -> Result<Array> {
    ctx.compute(|| fast(left, right), |device| gpu(left, right, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct CosineMatrix;

impl Pass for CosineMatrix {
    fn name(&self) -> &'static str {
        "cosine_matrix"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let each = |(name, a): (String, Array)| {
            let (n, d) = (a.shape()[0], a.shape()[1]);
            let mut b = Array::new([n / 2 + 3, d], samples::values((n / 2 + 3) * d, 77)).expect("as many values");
            // A row of zeros on both sides of the product.
            b.data_mut()[..d].fill(0.0);
            // Sums of up to 80 products that stay below 1.
            Sample::new(name, 1e-6, move |side, ctx| {
                let c = match side {
                    Side::Cpu => cpu(&a, &b)?,
                    Side::Fast => fast(&a, &b)?,
                    Side::Gpu(g) => gpu(&a, &b, g, ctx)?,
                };
                Ok(c.data().iter().map(|&v| f64::from(v)).collect())
            })
        };
        samples::matrices().into_iter().map(each).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_does_not_matter_and_zero_has_no_direction() {
        let left = Array::new([2, 2], vec![3.0, 4.0, 0.0, 0.0]).unwrap();
        let right = Array::new([3, 2], vec![10.0, 0.0, -6.0, -8.0, 4.0, -3.0]).unwrap();
        for got in [cpu(&left, &right).unwrap(), fast(&left, &right).unwrap()] {
            let want = [0.6, -1.0, 0.0, 0.0, 0.0, 0.0];
            assert!(got.data().iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
        }
        assert!(cpu(&left, &Array::zeros([1, 3])).is_err());
    }

    #[test]
    fn a_matrix_with_itself_is_its_own_mirror_and_what_the_loops_give() {
        for n in [0, 1, 5, BLOCK + 1, 2 * BLOCK + 7] {
            let x = Array::new([n, 9], samples::values(9 * n, 5)).unwrap();
            let (got, want) = (fast_itself(&x, &Ctx::default()).unwrap(), cpu(&x, &x).unwrap());
            assert!(got.data().iter().zip(want.data()).all(|(a, b)| (a - b).abs() < 1e-6), "{n}");
            assert!((0..n * n).all(|c| got.data()[c] == got.data()[c % n.max(1) * n + c / n.max(1)]), "{n}");
        }
    }
}
