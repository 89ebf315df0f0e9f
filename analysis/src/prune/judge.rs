//! Judging a reduction by really running the reduced model.

use super::{Plan, Pruner, Stage};
use crate::ctx::Ctx;
use crate::model::{Input, LogitRows, Model};
use crate::trace::{NoTap, Tap, Tower, Trace};
use crate::{Error, Result};
use std::time::Duration;

/// Reduced output against the full one, at the last token.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Kullback–Leibler divergence of the reduced from the full next-token distribution, in nats.
    pub kl: f64,
    /// Whether both prefer the same token.
    pub top1_same: bool,
    /// Most probable next tokens of the full model: id and probability.
    pub full_top: Vec<(u32, f32)>,
    /// Those of the reduced model.
    pub reduced_top: Vec<(u32, f32)>,
    /// Rows that each layer works on in the reduced model.
    pub rows_by_layer: Vec<usize>,
    /// Bytes of keys and values per layer, reduced (f32).
    pub kv_bytes_by_layer: Vec<usize>,
    /// Share of the full model's attention and MLP operations that remains.
    pub flops_share: f64,
    /// Time of the full pass; zero where the caller has no clock.
    pub full_time: Duration,
    /// Time of the reduced pass.
    pub reduced_time: Duration,
}

/// Number of candidates listed.
const TOP: usize = 10;

/// Runs `model` full and reduced on the trace's tokens. `clock` gives a monotonic time; the library has none.
pub fn judge(
    model: &dyn Model,
    trace: &Trace,
    plan: &Plan,
    clock: &dyn Fn() -> Duration,
    ctx: &Ctx,
) -> Result<Judgement> {
    let tower = trace.tower(plan.tower)?;
    let info = model.info();
    if plan.tower != Tower::Text || info.vocab == 0 {
        return Err(Error::Need { method: "judging a reduction".into(), need: "a language model's own tokens".into() });
    }
    let ids: Vec<u32> = tower.tokens.iter().filter_map(|t| t.id).collect();
    let run = |tap: &mut dyn Tap| -> Result<(Vec<f64>, Duration)> {
        let start = clock();
        let mut input =
            Input { ids: ids.clone(), image: trace.image.clone(), logits: Some(LogitRows::Last), ..Input::default() };
        let out = model.forward(&mut input, tap, ctx)?;
        let logits = out.logits.ok_or_else(|| Error::invalid("the model gave no logits"))?;
        Ok((log_softmax(&logits.squeeze(0)?.to_vec1::<f32>()?), clock().saturating_sub(start)))
    };
    let (full, full_time) = run(&mut NoTap)?;
    let (reduced, reduced_time) = run(&mut Pruner::new(plan)?)?;
    let kl = full.iter().zip(&reduced).map(|(p, q)| p.exp() * (p - q)).sum::<f64>().max(0.0);
    let t = &info.towers[&plan.tower];
    let outcome = plan.outcome()?;
    let mut rows_by_layer = Vec::new();
    let mut n = plan.n_rows;
    let (mut cost, mut full_cost) = (0f64, 0f64);
    for layer in 0..t.n_layers {
        rows_by_layer.push(n);
        let attention = |n: usize| {
            4.0 * (n * n * t.n_heads * t.head_width) as f64 + 8.0 * (n * t.width * t.n_heads * t.head_width) as f64
        };
        let mlp = |n: usize| 6.0 * (n * t.width * t.mlp_width) as f64;
        let after = |stage: Stage, n: usize| {
            plan.cuts.iter().position(|c| c.stage == stage).map_or(n, |i| outcome.rows[i].len())
        };
        cost += attention(n);
        n = after(Stage::Mid(layer), n);
        cost += mlp(n);
        n = after(Stage::After(layer), n);
        full_cost += attention(plan.n_rows) + mlp(plan.n_rows);
    }
    let (full_top, reduced_top) = (top(&full), top(&reduced));
    Ok(Judgement {
        kl,
        top1_same: full_top.first().map(|t| t.0) == reduced_top.first().map(|t| t.0),
        kv_bytes_by_layer: rows_by_layer.iter().map(|n| n * t.n_kv_heads * t.head_width * 2 * 4).collect(),
        full_top,
        reduced_top,
        rows_by_layer,
        flops_share: cost / full_cost.max(1.0),
        full_time,
        reduced_time,
    })
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    logits.iter().map(|&x| f64::from(x - max) - sum.ln()).collect()
}

fn top(logp: &[f64]) -> Vec<(u32, f32)> {
    let mut order: Vec<usize> = (0..logp.len()).collect();
    order.sort_by(|&a, &b| logp[b].total_cmp(&logp[a]).then(a.cmp(&b)));
    order.truncate(TOP);
    order.into_iter().map(|i| (i as u32, logp[i].exp() as f32)).collect()
}
