//! Greedy choices: one token after the other, each by how like it is to those that were chosen before. All take the
//! cosines `[n, n]` of the tokens with each other; among equals the first one is taken.

use crate::array::Array;
use crate::cpu::{LANES, vectorised};
use crate::ctx::Ctx;
use crate::math::argmax;
use crate::passes::tokens_of;
use crate::{Error, Result};
use rayon::prelude::*;

/// Takes `k` of `n`: `first`, then what `next` says of those that are left after it was told the last one.
fn one_by_one(
    (n, k): (usize, usize),
    first: usize,
    ctx: &Ctx,
    mut next: impl FnMut(usize, &[bool]) -> Option<usize>,
) -> Result<Vec<usize>> {
    let (mut order, mut taken) = (Vec::with_capacity(k.min(n)), vec![false; n]);
    let mut at = (k > 0 && first < n).then_some(first);
    while let Some(chosen) = at {
        ctx.step(order.len(), k)?;
        order.push(chosen);
        taken[chosen] = true;
        at = if order.len() < k.min(n) { next(chosen, &taken) } else { None };
    }
    Ok(order)
}

/// The best of those that are left.
pub(in crate::passes) fn best(values: &[f32], taken: &[bool]) -> Option<usize> {
    let left: Vec<f32> = values.iter().zip(taken).map(|(v, t)| if *t { f32::NAN } else { *v }).collect();
    argmax(&left)
}

/// From `first` on, always the token with the smallest sum of cosines with all that were chosen: the largest sum of
/// distances.
pub fn least_alike(cosines: &Array, first: usize, k: usize, ctx: &Ctx) -> Result<Vec<usize>> {
    let n = tokens_of(cosines)?;
    let mut sums = vec![0f64; n];
    one_by_one((n, k), first, ctx, |chosen, taken| {
        sums.iter_mut().zip(cosines.row(chosen)).for_each(|(s, c)| *s += f64::from(*c));
        (0..n).filter(|&i| !taken[i]).min_by(|&a, &b| sums[a].total_cmp(&sums[b]).then(a.cmp(&b)))
    })
}

/// The token of the largest weight, then always the one whose distance to the nearest chosen one, times its weight, is
/// largest. Distances are 1 − cosine.
pub fn weighted_farthest(cosines: &Array, weights: &[f32], k: usize, ctx: &Ctx) -> Result<Vec<usize>> {
    let n = tokens_of(cosines)?;
    let mut near = vec![f32::INFINITY; n];
    let first = argmax(weights).unwrap_or(0);
    one_by_one((n, k), first, ctx, |chosen, taken| {
        near.iter_mut().zip(cosines.row(chosen)).for_each(|(d, c)| *d = d.min(1.0 - c));
        let values: Vec<f32> = near.iter().zip(weights).map(|(d, w)| d * w).collect();
        best(&values, taken)
    })
}

/// For each token of `from`, its largest cosine with one of `to`; −∞ where there is none.
pub fn most_alike(cosines: &Array, from: &[usize], to: &[usize]) -> Result<Vec<f32>> {
    let n = tokens_of(cosines)?;
    if let Some(i) = from.iter().chain(to).find(|i| **i >= n) {
        return Err(Error::invalid(format!("there is no token {i} among {n}")));
    }
    let most = |&i: &usize| {
        let row = cosines.row(i);
        to.iter().map(|&j| row[j]).fold(f32::NEG_INFINITY, f32::max)
    };
    Ok(from.par_iter().with_min_len(64).map(most).collect())
}

/// How a token's gain in coverage and its weight become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combined {
    /// Their product.
    Product,
    /// Their sum.
    Sum,
}

/// One choice of [`coverage`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Covering {
    /// The token.
    pub token: usize,
    /// What it was chosen by.
    pub value: f32,
    /// Mean over all tokens of the largest cosine with a chosen one, never below 0, afterwards.
    pub covered: f32,
}

/// Always the token by which the others gain most cosine with their nearest chosen one, together with its weight.
///
/// Gains never grow, so a token whose old value is not the best need not be looked at again.
pub fn coverage(cosines: &Array, weights: &[f32], how: Combined, k: usize, ctx: &Ctx) -> Result<Vec<Covering>> {
    let n = tokens_of(cosines)?;
    if weights.len() != n || weights.iter().any(|w| w.is_nan() || *w < 0.0) {
        return Err(Error::invalid(format!("{} weights, none below 0, are needed for {n} tokens", n)));
    }
    let (mut covered, mut taken) = (vec![0f32; n], vec![false; n]);
    let value = |j: usize, covered: &[f32]| {
        let gain = vectorised(|| gained(cosines.row(j), covered));
        match how {
            Combined::Product => gain * weights[j],
            Combined::Sum => gain + weights[j],
        }
    };
    let mut values: Vec<f32> = (0..n).map(|j| value(j, &covered)).collect();
    let mut fresh = vec![true; n];
    let mut order = Vec::with_capacity(k.min(n));
    while order.len() < k.min(n) {
        ctx.step(order.len(), k)?;
        let Some(j) = best(&values, &taken).or_else(|| taken.iter().position(|t| !t)) else { break };
        if !fresh[j] {
            (values[j], fresh[j]) = (value(j, &covered), true);
            continue;
        }
        taken[j] = true;
        covered.iter_mut().zip(cosines.row(j)).for_each(|(c, s)| *c = c.max(*s));
        fresh.fill(false);
        let mean = covered.iter().map(|c| f64::from(*c)).sum::<f64>() / n as f64;
        order.push(Covering { token: j, value: values[j], covered: mean as f32 });
    }
    Ok(order)
}

/// Σ max(0, cosine − covered), in lanes whose order does not change, so that equals stay equal.
#[inline(always)]
fn gained(cosines: &[f32], covered: &[f32]) -> f32 {
    let (a, rest_a) = cosines.as_chunks::<LANES>();
    let (b, rest_b) = covered.as_chunks::<LANES>();
    let more = |s: f32, c: f32| if s > c { s - c } else { 0.0 };
    let mut lanes = [0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((lane, s), c) in lanes.iter_mut().zip(a).zip(b) {
            *lane += more(*s, *c);
        }
    }
    lanes.iter().sum::<f32>() + rest_a.iter().zip(rest_b).map(|(s, c)| more(*s, *c)).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens 0 and 1 alike, 2 across, 3 opposite to 0.
    fn cosines() -> Array {
        let rows = [[1.0, 0.9, 0.0, -1.0], [0.9, 1.0, 0.1, -0.9], [0.0, 0.1, 1.0, 0.0], [-1.0, -0.9, 0.0, 1.0]];
        Array::new([4, 4], rows.concat()).unwrap()
    }

    #[test]
    fn the_most_alike_is_looked_for_among_some() {
        assert_eq!(most_alike(&cosines(), &[0, 3], &[1, 2]).unwrap(), [0.9, 0.0]);
        assert_eq!(most_alike(&cosines(), &[0], &[]).unwrap(), [f32::NEG_INFINITY]);
        assert!(most_alike(&cosines(), &[4], &[0]).is_err());
    }

    #[test]
    fn the_sum_of_distances_counts_all_that_were_chosen() {
        // 1 is as like one as it is unlike the other, and 2 is like neither: the first of equals.
        assert_eq!(least_alike(&cosines(), 0, 9, &Ctx::default()).unwrap(), [0, 3, 1, 2]);
        assert!(least_alike(&cosines(), 0, 0, &Ctx::default()).unwrap().is_empty());
    }

    #[test]
    fn a_heavy_token_is_taken_though_it_is_near() {
        let even = weighted_farthest(&cosines(), &[1.0; 4], 2, &Ctx::default()).unwrap();
        assert_eq!(even, [0, 3]);
        let heavy = weighted_farthest(&cosines(), &[1.0, 1.0, 1.0, 0.4], 2, &Ctx::default()).unwrap();
        assert_eq!(heavy, [0, 2]);
    }

    #[test]
    fn coverage_counts_no_cosine_below_zero_and_equals_the_plain_loop() {
        let found = coverage(&cosines(), &[1.0; 4], Combined::Product, 2, &Ctx::default()).unwrap();
        // Token 1 covers 0.9 + 1 + 0.1; then token 3 adds 1 and token 2 adds 0.9.
        assert_eq!(found.iter().map(|c| c.token).collect::<Vec<_>>(), [1, 3]);
        assert!((found[0].value - 2.0).abs() < 1e-6 && (found[1].covered - 0.75).abs() < 1e-6);
        let n = 40;
        let cell =
            |i: usize, j: usize| if i == j { 1.0 } else { ((i + j) as f32 * 0.37 + (i * j) as f32 * 0.11).sin() * 0.9 };
        let s = Array::new([n, n], (0..n * n).map(|c| cell(c / n, c % n)).collect()).unwrap();
        let weights: Vec<f32> = (0..n).map(|i| 1.0 + (i % 5) as f32).collect();
        for how in [Combined::Product, Combined::Sum] {
            let (mut covered, mut order) = (vec![0f32; n], Vec::new());
            for _ in 0..12 {
                let value = |j: usize| {
                    let gain: f64 = (0..n).map(|i| f64::from((cell(j, i) - covered[i]).max(0.0))).sum();
                    if how == Combined::Sum { gain + f64::from(weights[j]) } else { gain * f64::from(weights[j]) }
                };
                let left = (0..n).filter(|j| !order.contains(j));
                let next = left.max_by(|&a, &b| value(a).total_cmp(&value(b)).then(b.cmp(&a))).unwrap();
                order.push(next);
                (0..n).for_each(|i| covered[i] = covered[i].max(cell(next, i)));
            }
            let got = coverage(&s, &weights, how, 12, &Ctx::default()).unwrap();
            assert_eq!(got.iter().map(|c| c.token).collect::<Vec<_>>(), order, "{how:?}");
        }
    }
}
