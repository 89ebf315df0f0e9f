//! For each row the centre that it is most like: the largest cosine, the first on a tie. The assignment of k-means; no
//! matrix of cosines is kept.

use super::cosine_matrix::{self, unit_values};
use super::shared::best_right::{Params, best_right};
use super::{Pass, Sample, samples};
use crate::array::Array;
use crate::cpu::{Matrix, gemm};
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, Layout, Record, Side};
use crate::math::argmax;
use crate::{Error, Result};

const KERNEL: Kernel = Kernel {
    shader: "nearest_centre",
    source: concat!(
        include_str!("../../../shaders/shared/dot_block.wgsl"),
        include_str!("../../../shaders/shared/best_right.wgsl"),
        include_str!("../../../shaders/nearest_centre.wgsl"),
    ),
    entry: "main",
};

/// A row's centre.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// Its number.
    pub centre: usize,
    /// Cosine with it; 0 where one of the two is zero.
    pub cosine: f32,
}

impl Nearest {
    /// By a row's cosines with all centres, of which there is one at least.
    fn of(cosines: &[f32]) -> Self {
        let centre = argmax(cosines).unwrap_or(0);
        Self { centre, cosine: cosines[centre] }
    }
}

fn sizes(x: &Array, centres: &Array) -> Result<[usize; 3]> {
    let ([n, d], [k, e]) = (x.dims("rows")?, centres.dims("centres")?);
    if d != e || k == 0 {
        return Err(Error::shape("centres", format!("[at least 1, {d}]"), centres.shape()));
    }
    Ok([n, k, d])
}

/// The plain loops in f64, for rows `[n, d]` and centres `[k, d]`.
pub fn cpu(x: &Array, centres: &Array) -> Result<Vec<Nearest>> {
    sizes(x, centres)?;
    let cosines = cosine_matrix::cpu(x, centres)?;
    Ok((0..x.shape()[0]).map(|i| Nearest::of(cosines.row(i))).collect())
}

/// Rows whose cosines are held at a time.
const BLOCK: usize = 256;

/// The same as matrix products in f32, a block of rows after the other.
pub fn fast(x: &Array, centres: &Array, ctx: &Ctx) -> Result<Vec<Nearest>> {
    let [n, k, d] = sizes(x, centres)?;
    if d == 0 {
        return Ok(vec![Nearest { centre: 0, cosine: 0.0 }; n]);
    }
    let (left, right) = (unit_values(x), unit_values(centres));
    let mut out = Vec::with_capacity(n);
    let mut cosines = vec![0f32; BLOCK.min(n) * k];
    for first in (0..n).step_by(BLOCK) {
        ctx.step(first, n)?;
        let rows = BLOCK.min(n - first);
        let a = Matrix { values: &left[first * d..], row: d, col: 1 };
        let b = Matrix { values: &right, row: 1, col: d };
        gemm([rows, d, k], (&mut cosines[..rows * k], k), false, a, b, true);
        out.extend(cosines[..rows * k].chunks_exact(k).map(Nearest::of));
    }
    Ok(out)
}

/// The shader, in f32: a centre may differ where two cosines are equal to seven digits.
pub fn gpu(x: &Array, centres: &Array, gpu: &Gpu, ctx: &Ctx) -> Result<Vec<Nearest>> {
    let [n, k, d] = sizes(x, centres)?;
    if d == 0 || n == 0 {
        return Ok(vec![Nearest { centre: 0, cosine: 0.0 }; n]);
    }
    let found = best_right(&KERNEL, [&unit_values(x), &unit_values(centres)], [n, k, d], gpu, ctx)?;
    // A row that is like no centre, of values that are no numbers, goes to the first one.
    let own = |found: Option<(usize, f32)>| found.map_or((0, f32::NAN), |f| f);
    Ok(found.into_iter().map(own).map(|(centre, cosine)| Nearest { centre, cosine }).collect())
}

/// On the side that the context's rule chooses.
pub fn run(x: &Array, centres: &Array, ctx: &Ctx) -> Result<Vec<Nearest>> {
    ctx.compute(|| fast(x, centres, ctx), |device| gpu(x, centres, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct NearestCentre;

impl Pass for NearestCentre {
    fn name(&self) -> &'static str {
        "nearest_centre"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let mut all = Vec::new();
        // With one component all cosines are 1 or −1, and the first of equals is taken.
        for (name, x) in samples::matrices() {
            let d = x.shape()[1];
            for k in [1, 3, 40] {
                let centres = Array::new([k, d], samples::values(k * d, (d * 7 + k) as u64)).expect("as many values");
                let x = x.clone();
                all.push(Sample::new(format!("{name}, {k} centres"), 1e-5, move |side, ctx| {
                    let found = match side {
                        Side::Cpu => cpu(&x, &centres)?,
                        Side::Fast => fast(&x, &centres, ctx)?,
                        Side::Gpu(g) => gpu(&x, &centres, g, ctx)?,
                    };
                    // In one dimension rounding decides between equals, so that cosines alone are compared.
                    let of = |n: Nearest| [if d > 1 { n.centre as f64 } else { 0.0 }, f64::from(n.cosine)];
                    Ok(found.into_iter().flat_map(of).collect())
                }));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_does_not_matter_and_the_first_of_equals_is_taken() {
        let x = Array::new([3, 2], vec![5.0, 0.1, 0.0, 0.2, 0.0, 0.0]).unwrap();
        let centres = Array::new([3, 2], vec![1.0, 0.0, 0.0, 3.0, 2.0, 0.0]).unwrap();
        for got in [cpu(&x, &centres).unwrap(), fast(&x, &centres, &Ctx::default()).unwrap()] {
            assert_eq!(got.iter().map(|n| n.centre).collect::<Vec<_>>(), [0, 1, 0]);
            assert!((got[1].cosine - 1.0).abs() < 1e-6 && got[2].cosine == 0.0);
        }
        assert!(cpu(&x, &Array::zeros([0, 2])).is_err() && cpu(&x, &Array::zeros([1, 3])).is_err());
    }
}
