//! Maximal marginal relevance: tokens one after the other, each by its own importance less how like it is to those that
//! were chosen before.
//!
//! Source: Carbonell and Goldstein 1998, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
//! Summaries", as IDPruner uses it on image tokens.

use super::host::greedy::best;
use super::{Pass, Sample, samples, tokens_of};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, Layout, Record, Side, gpu_struct, grid, pieces};
use crate::{Error, Result};

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Tokens.
        n: u32,
        /// Tokens of the piece of cosines.
        n_rows: u32,
        /// Number of its first one.
        first: u32,
        /// Number of the choice.
        step: u32,
        /// 1 while nothing was chosen before.
        begins: u32,
        /// Weight of the importance.
        lambda: f32,
    }
}

const fn kernel(entry: &'static str) -> Kernel {
    Kernel { shader: "marginal_relevance", source: include_str!("../../../shaders/marginal_relevance.wgsl"), entry }
}

/// What to choose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Number of tokens, at most all.
    pub k: usize,
    /// Weight of the importance; the rest is that of the likeness.
    pub lambda: f32,
    /// Tokens that are chosen before likeness is looked at again; at least one.
    pub at_once: usize,
}

/// Tokens, and the importance of each. Errors: cosines that are no square, or another number of importances.
fn side(cosines: &Array, importance: &[f32]) -> Result<usize> {
    let n = tokens_of(cosines)?;
    if importance.len() != n {
        return Err(Error::invalid(format!("{} importances for {n} tokens", importance.len())));
    }
    Ok(n)
}

/// The first tokens are the `at_once` most important ones; then always those with the largest `lambda` · importance −
/// (1 − `lambda`) · largest cosine with a chosen one. Gives each with that value; `approach` raises the largest cosines.
fn select(
    (n, importance): (usize, &[f32]),
    rule: &Rule,
    ctx: &Ctx,
    approach: impl Fn(usize, &mut [f32]),
) -> Result<Vec<(usize, f32)>> {
    let k = rule.k.min(n);
    let (mut most, mut taken) = (vec![-2f32; n], vec![false; n]);
    let mut order: Vec<(usize, f32)> = Vec::with_capacity(k);
    let mut values = importance.to_vec();
    while order.len() < k {
        ctx.step(order.len(), k)?;
        let before = order.len();
        for _ in 0..rule.at_once.max(1).min(k - before) {
            // What is no number comes last.
            let Some(i) = best(&values, &taken).or_else(|| taken.iter().position(|t| !t)) else { break };
            taken[i] = true;
            order.push((i, values[i]));
        }
        order[before..].iter().for_each(|&(i, _)| approach(i, &mut most));
        let value = |(i, m): (&f32, &f32)| rule.lambda * i - (1.0 - rule.lambda) * m;
        values = importance.iter().zip(&most).map(value).collect();
    }
    Ok(order)
}

/// The plain loops, by the cosines `[n, n]` of the tokens with each other and an importance for each.
pub fn cpu(cosines: &Array, importance: &[f32], rule: &Rule, ctx: &Ctx) -> Result<Vec<(usize, f32)>> {
    let n = side(cosines, importance)?;
    select((n, importance), rule, ctx, |chosen, most| {
        for (i, m) in most.iter_mut().enumerate() {
            *m = m.max(cosines.data()[chosen * n + i]);
        }
    })
}

/// The same, a row of cosines at a time; results are the same to the bit.
pub fn fast(cosines: &Array, importance: &[f32], rule: &Rule, ctx: &Ctx) -> Result<Vec<(usize, f32)>> {
    let n = side(cosines, importance)?;
    select((n, importance), rule, ctx, |chosen, most| {
        most.iter_mut().zip(cosines.row(chosen)).for_each(|(m, c)| *m = m.max(*c));
    })
}

/// The shader, in f32: the order may differ where values are equal to seven digits. Numbers that are none are left to the
/// CPU, since shaders need not know them.
pub fn gpu(cosines: &Array, importance: &[f32], rule: &Rule, gpu: &Gpu, ctx: &Ctx) -> Result<Vec<(usize, f32)>> {
    let n = side(cosines, importance)?;
    let k = rule.k.min(n);
    if k == 0 {
        return Ok(Vec::new());
    }
    if !importance.iter().chain(cosines.data()).all(|v| v.is_finite()) {
        return fast(cosines, importance, rule, ctx);
    }
    let base = Params { n: n as u32, n_rows: 0, first: 0, step: 0, begins: 1, lambda: rule.lambda };
    gpu.run(|work| {
        let mut parts = Vec::new();
        for rows in pieces(n, n, work.binding_bytes()) {
            let values = work.upload("cosines", &cosines.data()[rows.start * n..rows.end * n])?;
            parts.push((rows, values));
        }
        let own = work.upload("importance", importance)?;
        let begin: Vec<f32> = (0..n).flat_map(|_| [-2.0, 0.0]).collect();
        let state = work.upload("largest cosines", &begin)?;
        let (order, gained) = (work.buffer("order", k)?, work.buffer("values", k)?);
        let mut done = 0;
        while done < k {
            let until = k.min(done + rule.at_once.max(1));
            for step in done..until {
                let params = Params { step: step as u32, begins: u32::from(done == 0), ..base };
                work.dispatch(&kernel("pick"), &params, &[&own, &state, &order, &gained], [1, 1, 1])?;
            }
            for step in done..until {
                for (rows, part) in &parts {
                    let (n_rows, first) = (rows.len() as u32, rows.start as u32);
                    let params = Params { n_rows, first, step: step as u32, ..base };
                    work.dispatch(&kernel("approach"), &params, &[part, &state, &order], grid(n.div_ceil(64))?)?;
                }
            }
            if done / 32 != until / 32 {
                ctx.step(done, k)?;
                work.wait()?;
            }
            done = until;
        }
        let (order, values) = (work.read::<u32>(&order)?, work.read::<f32>(&gained)?);
        Ok(order.into_iter().map(|i| i as usize).zip(values).collect())
    })
}

/// On the side that the context's rule chooses.
pub fn run(cosines: &Array, importance: &[f32], rule: &Rule, ctx: &Ctx) -> Result<Vec<(usize, f32)>> {
    ctx.compute(|| fast(cosines, importance, rule, ctx), |device| gpu(cosines, importance, rule, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct MarginalRelevance;

impl Pass for MarginalRelevance {
    fn name(&self) -> &'static str {
        "marginal_relevance"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        ["pick", "approach"].map(|entry| (kernel(entry), Params::LAYOUT)).into()
    }

    fn samples(&self) -> Vec<Sample> {
        let mut all = Vec::new();
        for (name, cosines) in samples::cosines() {
            let n = cosines.shape()[0];
            for (lambda, at_once, k) in [(0.5, 1, n.min(40)), (0.9, 3, n), (0.1, 200, n.min(7))] {
                let (cosines, rule) = (cosines.clone(), Rule { k, lambda, at_once });
                let importance = samples::values(n, n as u64 + 5);
                all.push(Sample::new(format!("{name}, {rule:?}"), 1e-6, move |side, ctx| {
                    let found = match side {
                        Side::Cpu => cpu(&cosines, &importance, &rule, ctx)?,
                        Side::Fast => fast(&cosines, &importance, &rule, ctx)?,
                        Side::Gpu(g) => gpu(&cosines, &importance, &rule, g, ctx)?,
                    };
                    Ok(found.into_iter().flat_map(|(i, v)| [i as f64, f64::from(v)]).collect())
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
    fn relevance_first_and_then_less_what_is_there() {
        // Tokens 0 and 1 alike, 2 across, 3 opposite to 0.
        let rows = [[1.0, 0.9, 0.0, -1.0], [0.9, 1.0, 0.1, -0.9], [0.0, 0.1, 1.0, 0.0], [-1.0, -0.9, 0.0, 1.0]];
        let cosines = Array::new([4, 4], rows.concat()).unwrap();
        let ctx = Ctx::default();
        for side in [cpu, fast] {
            let of = |own: &[f32], k, at_once| side(&cosines, own, &Rule { k, lambda: 0.5, at_once }, &ctx).unwrap();
            let order = of(&[1.0, 0.9, 0.2, 0.1], 3, 1);
            // After 0: 0.45 − 0.45, 0.1 − 0, 0.05 + 0.5.
            assert_eq!(order.iter().map(|o| o.0).collect::<Vec<_>>(), [0, 3, 2]);
            assert!((order[1].1 - 0.55).abs() < 1e-6);
            assert_eq!(of(&[1.0, 0.9, 0.2, 0.1], 2, 2).iter().map(|o| o.0).collect::<Vec<_>>(), [0, 1]);
            // What is no number comes last, and no more than there are.
            assert_eq!(of(&[f32::NAN; 4], 9, 1).iter().map(|o| o.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        }
        let rule = Rule { k: 1, lambda: 0.5, at_once: 1 };
        assert!(
            cpu(&cosines, &[1.0], &rule, &ctx).is_err() && cpu(&Array::zeros([1, 2]), &[1.0], &rule, &ctx).is_err()
        );
    }
}
