//! Judging a reduction by really running the reduced model.

use super::{Decide, Place, Plan, Runner};
use crate::ctx::Ctx;
use crate::math::{divergence, largest, log_softmax};
use crate::model::{Input, LogitRows, Model, Output};
use crate::trace::{NoTap, Tap, Tower};
use crate::{Error, Result, Subject};
use std::time::Duration;

/// Reduced output against the full one, at the last token.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
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
    /// Rows that each layer of the judged tower works on in the reduced model.
    pub rows_by_layer: Vec<usize>,
    /// Bytes of keys and values per layer of that tower that what is written later reads, reduced (f32).
    pub kv_bytes_by_layer: Vec<usize>,
    /// Share of the attention and MLP operations that remains, in the towers that the reduction changes.
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

impl Full {
    /// Time of the pass; zero where the caller has no clock.
    pub fn time(&self) -> Duration {
        self.time
    }
}

/// What a caller's clock says. The library has none.
pub type Clock<'a> = &'a dyn Fn() -> Duration;

/// Runs the model in full on the run's input.
pub fn full(on: &Subject, clock: Clock, ctx: &Ctx) -> Result<Full> {
    let (answer, time) = pass(on, &mut NoTap, clock, ctx)?;
    Ok(Full { answer, time })
}

fn weights<'a>(on: &Subject<'a>) -> Result<&'a dyn Model> {
    on.model.ok_or_else(|| Error::invalid("a reduced model can only be run with the model's weights"))
}

fn pass(on: &Subject, tap: &mut dyn Tap, clock: Clock, ctx: &Ctx) -> Result<(Answer, Duration)> {
    let model = weights(on)?;
    let start = clock();
    let logits = Some(if model.info().vocab > 0 { LogitRows::Last } else { LogitRows::None });
    let out = model.forward(&mut Input { logits, ..on.again() }, tap, ctx)?;
    Ok((answer(&out, on.tower)?, clock().saturating_sub(start)))
}

/// Runs the model with these deciders, and says what they did and what it says then. `on.tower` is the judged one.
pub fn judge(
    full: &Full,
    on: &Subject,
    deciders: Vec<Box<dyn Decide + '_>>,
    clock: Clock,
    ctx: &Ctx,
) -> Result<(Plan, Judgement)> {
    let mut runner = Runner::new(on, deciders, ctx)?;
    let (reduced, reduced_time) = pass(on, &mut runner, clock, ctx)?;
    let plan = runner.plan();
    let (mut kl, mut cosine) = (None, None);
    let (mut full_top, mut reduced_top) = (Vec::new(), Vec::new());
    match (&full.answer, &reduced) {
        (Answer::Next(p), Answer::Next(q)) => {
            kl = Some(divergence(p, q));
            (full_top, reduced_top) = (top(p), top(q));
        }
        (Answer::Embedding(a), Answer::Embedding(b)) => {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
            cosine = Some(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
        }
        _ => return Err(Error::invalid("the full and the reduced model gave different kinds of answers")),
    }
    let judgement = Judgement {
        kl,
        cosine,
        top1_same: kl.is_some().then(|| full_top.first().map(|t| t.0) == reduced_top.first().map(|t| t.0)),
        kv_bytes_by_layer: kv_bytes(on, &plan)?,
        full_top,
        reduced_top,
        rows_by_layer: plan.rows_by_layer(on.tower, on.tower()?.n_layers).into_iter().map(|r| r.0).collect(),
        flops_share: flops_share(on, &plan)?,
        full_time: full.time,
        reduced_time,
    };
    Ok((plan, judgement))
}

/// What a plan costs, in closed form and without a pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Floating-point operations of attention and MLPs over the input, of all stacks of the model.
    pub flops: f64,
    /// Bytes of keys and values that what is written later reads, in all layers of the judged stack (f32).
    pub kv_bytes: usize,
}

/// What the run costs with `plan`; with [`Plan::none`], what it costs in full.
///
/// For a layer of width d with h query heads and g key-value heads, of width e for keys and w for values, a rows in the
/// attention and m in the MLP of width f, of which k experts read a row: 2a(d(he + g(e + w)) + hwd) + 2a²h(e + w) +
/// 6kmdf. Tiles that an encoder reads one by one attend to themselves only.
///
/// Errors: no weights.
pub fn cost(on: &Subject, plan: &Plan) -> Result<Cost> {
    let flops = flops(on, plan, &|_| true)?;
    Ok(Cost { flops, kv_bytes: kv_bytes(on, plan)?.into_iter().sum() })
}

/// Bytes of keys and values by layer, less those that are forgotten when the answer begins.
fn kv_bytes(on: &Subject, plan: &Plan) -> Result<Vec<usize>> {
    let t = &weights(on)?.info().towers[&on.tower];
    let forget =
        plan.steps.iter().find(|s| s.place == Place::Step).and_then(|s| Some((s.forget.clone()?, s.rows.len())));
    let rows = plan.rows_by_layer(on.tower, t.n_layers).into_iter().enumerate();
    let left = |(layer, (n, _)): (usize, (usize, usize))| match &forget {
        Some((layers, left)) if on.tower == Tower::Text && layers.contains(&layer) => n.min(*left),
        _ => n,
    };
    Ok(rows.map(left).map(|n| n * t.n_kv_heads * (t.head_width + t.value_width) * 4).collect())
}

/// Operations of the reduced model over those of the full one, in the towers that the plan changes.
fn flops_share(on: &Subject, plan: &Plan) -> Result<f64> {
    let changes = |tower: Tower| tower == on.tower || plan.of(tower).next().is_some();
    let all = Plan { tokens: plan.tokens.clone(), ..Plan::default() };
    Ok(flops(on, plan, &changes)? / flops(on, &all, &changes)?.max(1.0))
}

/// The operations that [`cost`] counts, of the stacks that count.
fn flops(on: &Subject, plan: &Plan, counts: &dyn Fn(Tower) -> bool) -> Result<f64> {
    let mut sum = 0f64;
    for (&tower, t) in &weights(on)?.info().towers {
        if !counts(tower) || !plan.tokens.contains_key(&tower) {
            continue;
        }
        let tiles = on.trace.towers.get(&tower).map_or(1, |t| t.n_tiles.max(1)) as f64;
        let [d, h, g, e, w] = [t.width, t.n_heads, t.n_kv_heads, t.head_width, t.value_width].map(|v| v as f64);
        let experts = t.experts.1.max(1) as f64;
        for (a, m) in plan.rows_by_layer(tower, t.n_layers) {
            let (a, m) = (a as f64, m as f64);
            let projections = 2.0 * a * (d * (h * e + g * (e + w)) + h * w * d);
            sum += projections + 2.0 * a * a / tiles * h * (e + w) + 6.0 * experts * m * d * t.mlp_width as f64;
        }
    }
    Ok(sum)
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
    Ok(Answer::Embedding(out.embedding(tower)?))
}

fn top(logp: &[f64]) -> Vec<(u32, f32)> {
    largest(logp, TOP).into_iter().map(|i| (i as u32, logp[i].exp() as f32)).collect()
}
