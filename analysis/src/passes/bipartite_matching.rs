//! Bipartite soft matching (ToMe): even rows look for the odd row of largest cosine, the first one on a tie.
//!
//! Source: Bolya et al. 2023, "Token Merging: Your ViT But Faster", arXiv 2210.09461. The choice of the best pairs
//! and their merging are the method's; this pass is the O(n² · d) search.

use super::shared::best_right::{Params, best_right};
use super::single::{BLOCK, Blocks, dot, unit_rows};
use super::{Pass, Sample, samples};
use crate::Result;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, Layout, Record, Side};
use rayon::prelude::*;

const KERNEL: Kernel = Kernel {
    shader: "bipartite_matching",
    source: concat!(
        include_str!("../../../shaders/shared/dot_block.wgsl"),
        include_str!("../../../shaders/shared/best_right.wgsl"),
        include_str!("../../../shaders/bipartite_matching.wgsl"),
    ),
    entry: "main",
};

/// The best match of one even row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// The cosine; −∞ where there is no partner.
    pub cosine: f32,
    /// Odd row 2 · partner + 1.
    pub partner: usize,
}

impl Match {
    const NONE: Self = Self { cosine: f32::NEG_INFINITY, partner: 0 };

    /// Takes the first of the cosines from `from` on that is better than all so far; they are those of the odd rows
    /// from the one numbered `first` on.
    #[inline]
    fn better(&mut self, cosines: &[f32], from: usize, first: usize) {
        for (k, &cosine) in cosines.iter().enumerate().skip(from) {
            if cosine > self.cosine {
                *self = Self { cosine, partner: first + k };
            }
        }
    }
}

/// The best of an even row's cosines with the odd rows, which come with their numbers.
fn best(cosines: impl Iterator<Item = (usize, f32)>, i: usize, leading: usize) -> Match {
    let mut found = Match::NONE;
    if i < leading {
        return found;
    }
    for (j, cosine) in cosines.filter(|(j, _)| *j >= leading) {
        if cosine > found.cosine {
            found = Match { cosine, partner: j / 2 };
        }
    }
    found
}

/// The plain loops: one match per even row of `rows` `[n, d]`. The first `leading` rows (class and register
/// tokens) and rows of zeros match nobody.
pub fn cpu(rows: &Array, leading: usize) -> Result<Vec<Match>> {
    let [n, _] = rows.dims("rows to match")?;
    let unit = unit_rows(rows);
    let cosines = |i: usize| (1..n).step_by(2).map(|j| (j, dot(&unit[i], &unit[j]))).collect::<Vec<_>>().into_iter();
    Ok((0..n).step_by(2).map(|i| best(cosines(i), i, leading)).collect())
}

/// The same, rows in blocks and in parallel; results are the same to the bit.
pub fn fast(rows: &Array, leading: usize) -> Result<Vec<Match>> {
    let [n, _] = rows.dims("rows to match")?;
    let [even, odd] = [0, 1].map(|first| Blocks::unit(rows, &(first..n).step_by(2).collect::<Vec<_>>()));
    let mut found = vec![Match::NONE; n.div_ceil(2)];
    found.par_chunks_mut(BLOCK).enumerate().for_each(|(b, found)| {
        for other in 0..odd.len() {
            let cosines = even.square(b, &odd, other);
            let seen = (leading / 2).saturating_sub(other * BLOCK)..(odd.points() - other * BLOCK).min(BLOCK);
            for (i, (found, cosines)) in found.iter_mut().zip(&cosines).enumerate() {
                if 2 * (b * BLOCK + i) >= leading {
                    found.better(&cosines[..seen.end], seen.start, other * BLOCK);
                }
            }
        }
    });
    Ok(found)
}

/// The shader, in f32: a partner may differ where two cosines are equal to seven digits.
pub fn gpu(rows: &Array, leading: usize, gpu: &Gpu, ctx: &Ctx) -> Result<Vec<Match>> {
    let [n, d] = rows.dims("rows to match")?;
    let unit = unit_rows(rows);
    let valid = |i: &usize| *i >= leading && unit[*i].iter().all(|v| v.is_finite());
    let left: Vec<usize> = (0..n).step_by(2).filter(valid).collect();
    let right: Vec<usize> = (1..n).step_by(2).filter(valid).collect();
    let gather = |some: &[usize]| -> Vec<f32> { some.iter().flat_map(|&i| unit[i].iter().copied()).collect() };
    let mut out = vec![Match::NONE; n.div_ceil(2)];
    if right.is_empty() {
        return Ok(out);
    }
    let sizes = [left.len(), right.len(), d];
    let found = best_right(&KERNEL, [&gather(&left), &gather(&right)], sizes, gpu, ctx)?;
    for (&i, (j, cosine)) in left.iter().zip(found).filter_map(|(i, found)| Some((i, found?))) {
        out[i / 2] = Match { cosine, partner: right[j] / 2 };
    }
    Ok(out)
}

/// On the side that the context's rule chooses.
pub fn run(rows: &Array, leading: usize, ctx: &Ctx) -> Result<Vec<Match>> {
    ctx.compute(|| fast(rows, leading), |device| gpu(rows, leading, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct BipartiteMatching;

impl Pass for BipartiteMatching {
    fn name(&self) -> &'static str {
        "bipartite_matching"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let mut all = Vec::new();
        for (name, mut x) in samples::matrices() {
            let [n, d] = [x.shape()[0], x.shape()[1]];
            if n > 6 && d > 1 {
                // Row 4 has no direction; rows 3 and 5 are the same, so whoever likes them best must take row 3.
                x.data_mut()[4 * d..5 * d].fill(0.0);
                x.data_mut().copy_within(3 * d..4 * d, 5 * d);
            }
            for leading in [0, 1, 3] {
                let x = x.clone();
                // A cosine is off by 10⁻⁷; partners are whole numbers and must be the same.
                all.push(Sample::new(format!("{name}, {leading} leading"), 1e-6, move |side, ctx| {
                    let found = match side {
                        Side::Cpu => cpu(&x, leading)?,
                        Side::Fast => fast(&x, leading)?,
                        Side::Gpu(g) => gpu(&x, leading, g, ctx)?,
                    };
                    // With one component every cosine is 1 or −1 up to rounding, so partners are a matter of it.
                    let partner = |m: &Match| if d > 1 { m.partner as f64 } else { 0.0 };
                    Ok(found.iter().flat_map(|m| [f64::from(m.cosine.max(-9.0)), partner(m)]).collect())
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
    fn even_rows_find_the_odd_row_in_their_direction() {
        let x = Array::new([5, 2], vec![1.0, 0.1, 0.0, 1.0, 0.1, 2.0, 5.0, 0.0, 0.0, 0.0]).unwrap();
        for found in [cpu(&x, 0).unwrap(), fast(&x, 0).unwrap()] {
            assert_eq!(found.iter().map(|m| m.partner).collect::<Vec<_>>(), [1, 0, 0]);
            assert!((found[0].cosine - 1.0 / 1.01f32.sqrt()).abs() < 1e-6 && found[2] == Match::NONE);
        }
        assert_eq!(cpu(&x, 2).unwrap()[0], Match::NONE);
        assert_eq!(cpu(&x, 2).unwrap()[1].partner, 1);
    }
}
