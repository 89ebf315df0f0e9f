//! The energy of tokens among others (PiToMe): high where a token has many like it. Of cosines `[n, n]`, a mean over each
//! row of what the pairs add.
//!
//! Source: Tran et al. 2024, "Accelerating Transformers with Spectrum-Preserving Token Merging", arXiv 2405.16148.

use super::{Pass, Sample, samples, tokens_of};
use crate::Result;
use crate::array::Array;
use crate::cpu::{exp, vectorised};
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, Layout, Record, Side, gpu_struct, grid, pieces};
use rayon::prelude::*;

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Rows of the piece.
        n_rows: u32,
        /// Cosines of a row.
        n_cols: u32,
        /// Row of the first workgroup.
        first_row: u32,
        /// 1 for [`Pair::Normal`].
        normal: u32,
        /// Of [`Pair::Elu`].
        margin: f32,
        /// Of [`Pair::Elu`].
        alpha: f32,
        /// Of [`Pair::Normal`].
        sigma: f32,
    }
}

const KERNEL: Kernel =
    Kernel { shader: "pair_energy", source: include_str!("../../../shaders/pair_energy.wgsl"), entry: "main" };

/// What a pair of tokens adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pair {
    /// ELU of cosine − margin, with this factor on its falling side (pictures).
    Elu {
        /// Cosine at which it is 0.
        margin: f32,
        /// Factor below.
        alpha: f32,
    },
    /// A normal density of the distance, of this width (texts).
    Normal {
        /// Standard deviation.
        sigma: f32,
    },
}

impl Pair {
    /// What a cosine adds, in f64.
    fn added(self, cosine: f32) -> f64 {
        match self {
            Self::Elu { margin, alpha } => {
                let x = f64::from(cosine - margin);
                if x > 0.0 { x } else { f64::from(alpha) * (x.exp() - 1.0) }
            }
            Self::Normal { sigma } => {
                let sigma = f64::from(sigma);
                let z = (1.0 - f64::from(cosine)) / sigma;
                (-0.5 * z * z).exp() / (sigma * (2.0 * std::f64::consts::PI).sqrt())
            }
        }
    }
}

/// The plain loops in f64: mean over all tokens, itself among them, of what the pairs add.
pub fn cpu(cosines: &Array, pair: Pair) -> Result<Vec<f32>> {
    let n = tokens_of(cosines)?;
    Ok((0..n).map(|i| (cosines.row(i).iter().map(|c| pair.added(*c)).sum::<f64>() / n as f64) as f32).collect())
}

/// The same, rows in parallel and the exponentials of pictures in lanes.
pub fn fast(cosines: &Array, pair: Pair) -> Result<Vec<f32>> {
    let n = tokens_of(cosines)?;
    let row = |i: usize| {
        let sum: f64 = match pair {
            Pair::Elu { margin, alpha } => vectorised(|| {
                let elu = |x: f32| {
                    let low = alpha * (exp(x) - 1.0);
                    if x > 0.0 { x } else { low }
                };
                // Of few at a time, so that single precision does for the sums.
                cosines.row(i).chunks(64).map(|c| f64::from(c.iter().map(|s| elu(s - margin)).sum::<f32>())).sum()
            }),
            Pair::Normal { .. } => cosines.row(i).iter().map(|c| pair.added(*c)).sum(),
        };
        (sum / n as f64) as f32
    };
    Ok((0..n).into_par_iter().with_min_len(16).map(row).collect())
}

/// The shader.
pub fn gpu(cosines: &Array, pair: Pair, gpu: &Gpu, ctx: &Ctx) -> Result<Vec<f32>> {
    let n = tokens_of(cosines)?;
    let (normal, margin, alpha, sigma) = match pair {
        Pair::Elu { margin, alpha } => (0, margin, alpha, 1.0),
        Pair::Normal { sigma } => (1, 0.0, 0.0, sigma),
    };
    gpu.run(|work| {
        let mut out = Vec::with_capacity(n);
        for piece in pieces(n, n, work.binding_bytes()) {
            ctx.step(piece.start, n)?;
            let values = work.upload("cosines", &cosines.data()[piece.start * n..piece.end * n])?;
            let energy = work.buffer("energy", piece.len())?;
            let n_rows = piece.len() as u32;
            let params = Params { n_rows, n_cols: n as u32, first_row: 0, normal, margin, alpha, sigma };
            work.dispatch(&KERNEL, &params, &[&values, &energy], grid(piece.len())?)?;
            out.extend(work.read::<f32>(&energy)?);
        }
        Ok(out)
    })
}

/// On the side that the context's rule chooses.
pub fn run(cosines: &Array, pair: Pair, ctx: &Ctx) -> Result<Vec<f32>> {
    ctx.compute(|| fast(cosines, pair), |device| gpu(cosines, pair, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct PairEnergy;

impl Pass for PairEnergy {
    fn name(&self) -> &'static str {
        "pair_energy"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let pairs = [
            Pair::Elu { margin: 0.4, alpha: 1.0 },
            Pair::Elu { margin: -0.2, alpha: 0.5 },
            Pair::Normal { sigma: 0.3 },
        ];
        let each = |(name, cosines): (String, Array)| {
            pairs.map(|pair| {
                let cosines = cosines.clone();
                Sample::new(format!("{name}, {pair:?}"), 1e-5, move |side, ctx| {
                    let found = match side {
                        Side::Cpu => cpu(&cosines, pair)?,
                        Side::Fast => fast(&cosines, pair)?,
                        Side::Gpu(g) => gpu(&cosines, pair, g, ctx)?,
                    };
                    Ok(found.into_iter().map(f64::from).collect())
                })
            })
        };
        samples::cosines().into_iter().flat_map(each).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energies_by_hand() {
        let s = Array::new([2, 2], vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        let e = fast(&s, Pair::Elu { margin: 0.5, alpha: 2.0 }).unwrap();
        assert!((e[0] - (0.5 + 2.0 * ((-0.5f32).exp() - 1.0)) / 2.0).abs() < 1e-6 && e[0] == e[1]);
        let e = fast(&s, Pair::Normal { sigma: 0.5 }).unwrap();
        let want = (1.0 + (-2f64).exp()) / (2.0 * 0.5 * (2.0 * std::f64::consts::PI).sqrt());
        assert!((f64::from(e[0]) - want).abs() < 1e-6);
    }
}
