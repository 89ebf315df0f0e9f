//! Judging a reduction by really running the reduced model.

use super::{Plan, Pruner, Stage};
use crate::ctx::Ctx;
use crate::math::{largest, log_softmax};
use crate::model::{Input, LogitRows, Model, Output};
use crate::trace::{NoTap, Tap, Tower, Trace};
use crate::{Error, Result, Subject};
use std::time::Duration;

/// Reduced output against the full one, at the last token.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Kullback–Leibler divergence of the reduced from the full next-token distribution, in nats; `None` for
    /// models without logits.
    pub kl: Option<f64>,
    /// Whether both prefer the same token; `None` for models without logits.
    pub top1_same: Option<bool>,
    /// Cosine of the reduced and the full embedding of the input (pooled output, or the class token's last state);
    /// `None` for models with logits.
    pub cosine: Option<f64>,
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

/// What the full model says, so that several reductions of one run need it once.
pub struct Full {
    answer: Answer,
    time: Duration,
}

/// Runs `model` in full on the trace's tokens; `tower` is the one that will be reduced.
pub fn full(model: &dyn Model, trace: &Trace, tower: Tower, clock: &dyn Fn() -> Duration, ctx: &Ctx) -> Result<Full> {
    let (answer, time) = pass(model, trace, tower, &mut NoTap, clock, ctx)?;
    Ok(Full { answer, time })
}

fn pass(
    model: &dyn Model,
    trace: &Trace,
    tower: Tower,
    tap: &mut dyn Tap,
    clock: &dyn Fn() -> Duration,
    ctx: &Ctx,
) -> Result<(Answer, Duration)> {
    let start = clock();
    let logits = Some(if model.info().vocab > 0 { LogitRows::Last } else { LogitRows::None });
    let mut input = Input { logits, ..Subject::new(trace).again() };
    let out = model.forward(&mut input, tap, ctx)?;
    Ok((answer(&out, tower)?, clock().saturating_sub(start)))
}

/// Runs `model` full and reduced on the trace's tokens. `clock` gives a monotonic time; the library has none.
pub fn judge(
    model: &dyn Model,
    trace: &Trace,
    plan: &Plan,
    clock: &dyn Fn() -> Duration,
    ctx: &Ctx,
) -> Result<Judgement> {
    judge_against(&full(model, trace, plan.tower, clock, ctx)?, model, trace, plan, clock, ctx)
}

/// As [`judge`], with the full run already there.
pub fn judge_against(
    full: &Full,
    model: &dyn Model,
    trace: &Trace,
    plan: &Plan,
    clock: &dyn Fn() -> Duration,
    ctx: &Ctx,
) -> Result<Judgement> {
    let tower = trace.tower(plan.tower)?;
    let info = model.info();
    let (reduced, reduced_time) = pass(model, trace, plan.tower, &mut Pruner::new(plan)?, clock, ctx)?;
    let full_time = full.time;
    let (mut kl, mut cosine) = (None, None);
    let (mut full_top, mut reduced_top) = (Vec::new(), Vec::new());
    match (&full.answer, &reduced) {
        (Answer::Next(p), Answer::Next(q)) => {
            kl = Some(p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>().max(0.0));
            (full_top, reduced_top) = (top(p), top(q));
        }
        (Answer::Embedding(a), Answer::Embedding(b)) => {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
            cosine = Some(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
        }
        _ => return Err(Error::invalid("the full and the reduced model gave different kinds of answers")),
    }
    let t = &info.towers[&plan.tower];
    let outcome = plan.outcome()?;
    let mut rows_by_layer = Vec::new();
    // Features are only the image's part of the language model's rows.
    let all = tower.tokens.len();
    let mut n = match plan.cuts.first() {
        Some(c) if c.stage == Stage::Features => all - plan.n_rows + outcome.rows[0].len(),
        _ => plan.n_rows,
    };
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
        full_cost += attention(all) + mlp(all);
    }
    Ok(Judgement {
        kl,
        cosine,
        top1_same: kl.is_some().then(|| full_top.first().map(|t| t.0) == reduced_top.first().map(|t| t.0)),
        kv_bytes_by_layer: rows_by_layer.iter().map(|n| n * t.n_kv_heads * t.head_width * 2 * 4).collect(),
        full_top,
        reduced_top,
        rows_by_layer,
        flops_share: cost / full_cost.max(1.0),
        full_time,
        reduced_time,
    })
}

/// What a model says in the end.
enum Answer {
    /// Log-probabilities of the next token.
    Next(Vec<f64>),
    /// An embedding of the input.
    Embedding(Vec<f32>),
}

fn answer(out: &Output, tower: Tower) -> Result<Answer> {
    if let Some(logits) = &out.logits {
        return Ok(Answer::Next(log_softmax(&logits.squeeze(0)?.to_vec1::<f32>()?)));
    }
    let own = if tower == Tower::Vision { ["image_embeds", "vision_pooled"] } else { ["text_embeds", "text_pooled"] };
    for name in own.into_iter().chain(["pooler_output"]) {
        if let Some(t) = out.extras.get(name) {
            return Ok(Answer::Embedding(t.flatten_all()?.to_vec1::<f32>()?));
        }
    }
    let last =
        out.extras.get("last_hidden_state").ok_or_else(|| Error::invalid("the model gave no output to compare"))?;
    Ok(Answer::Embedding(last.get(0)?.to_vec1::<f32>()?))
}

fn top(logp: &[f64]) -> Vec<(u32, f32)> {
    largest(logp, TOP).into_iter().map(|i| (i as u32, logp[i].exp() as f32)).collect()
}
