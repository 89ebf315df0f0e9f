//! The energy of tokens among others (PiToMe): high where a token has many like it.
//!
//! Source: Tran et al. 2024, "Accelerating Transformers with Spectrum-Preserving Token Merging", arXiv 2405.16148.

use crate::array::Array;
use crate::cpu::vectorised;
use crate::math::exp;
use crate::{Error, Result};
use rayon::prelude::*;

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

/// Mean over all tokens, itself among them, of what the pairs add; of cosines `[n, n]`.
pub fn of_cosines(cosines: &Array, pair: Pair) -> Result<Vec<f32>> {
    let [n, m] = cosines.dims("cosines")?;
    if n != m {
        return Err(Error::shape("cosines", format!("[{n}, {n}]"), cosines.shape()));
    }
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
            Pair::Normal { sigma } => {
                let sigma = f64::from(sigma);
                let whole = sigma * (2.0 * std::f64::consts::PI).sqrt();
                let density = |s: &f32| (-0.5 * ((1.0 - f64::from(*s)) / sigma).powi(2)).exp() / whole;
                cosines.row(i).iter().map(density).sum()
            }
        };
        (sum / n as f64) as f32
    };
    Ok((0..n).into_par_iter().with_min_len(16).map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energies_by_hand() {
        let s = Array::new([2, 2], vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        let e = of_cosines(&s, Pair::Elu { margin: 0.5, alpha: 2.0 }).unwrap();
        assert!((e[0] - (0.5 + 2.0 * ((-0.5f32).exp() - 1.0)) / 2.0).abs() < 1e-6 && e[0] == e[1]);
        let e = of_cosines(&s, Pair::Normal { sigma: 0.5 }).unwrap();
        let want = (1.0 + (-2f64).exp()) / (2.0 * 0.5 * (2.0 * std::f64::consts::PI).sqrt());
        assert!((f64::from(e[0]) - want).abs() < 1e-6);
    }
}
