//! Reductions, really carried out: at one budget with every step, and at several budgets for a curve.

use super::{Around, Serves, Told, TraceFrom, main_scope, model_of, subject, trace_of};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, RunKey, Scope};
use crate::pane::Pane;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;
use tokenscope_analysis::finding::Finding;
use tokenscope_analysis::math::log_softmax;
use tokenscope_analysis::model::{Input, LogitRows, Writes};
use tokenscope_analysis::reduce::budget::{self, Retained};
use tokenscope_analysis::reduce::{self, Fate, Full, Judgement, Place, Plan, Runner, Step};
use tokenscope_analysis::run::{RunRequest, run, run_with};
use tokenscope_analysis::trace::{CaptureSpec, Positions};
use tokenscope_analysis::{Ctx, Error, Result};

/// What the full model says, which every reduction of a run is held against.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FullOf(Scope);

impl Ask for FullOf {
    type Out = Full;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Full> {
        let (t, open) = (trace_of(&self.0.run, store, ctx)?, model_of(&self.0.run, store, ctx)?);
        let start = Instant::now();
        reduce::full(&subject(&t, &self.0, Some(&open)), &|| start.elapsed(), ctx)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0.run)
    }
}

/// A reduction, really carried out. What it did is in the product, for whoever does it again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ReducedOf {
    /// The run, and the stack that is looked at.
    pub scope: Scope,
    /// The method.
    pub call: Call,
}

/// A reduction and what the reduced model says.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Reduced {
    /// What was done, in every stack.
    pub plan: Plan,
    /// What became of each token of the stack that is looked at in the end.
    pub fates: Vec<Fate>,
    /// The same step by step.
    pub stages: Vec<Stage>,
    /// Share of the tokens that are left as rows in the end: of the image's in a language model that reads one.
    pub kept: f64,
    /// Reduced against full.
    pub judgement: Judgement,
    /// Most probable next tokens of the full model, as text.
    pub full: Vec<(String, f32)>,
    /// Those of the reduced one.
    pub reduced: Vec<(String, f32)>,
}

/// What one step of a reduction left, by the tokens of the stack that is looked at.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Stage {
    /// Where it is.
    pub place: Place,
    /// What had become of each token after it.
    pub fates: Vec<Fate>,
    /// Scores that tokens were chosen by; empty without scores.
    pub scores: Vec<Option<f32>>,
    /// The score below which tokens go, where that is the rule.
    pub threshold: Option<f32>,
    /// What became of the position ids.
    pub positions: Positions,
}

impl Ask for ReducedOf {
    type Out = Reduced;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Reduced> {
        let run = &self.scope.run;
        let (t, open) = (trace_of(run, store, ctx)?, model_of(run, store, ctx)?);
        let on = subject(&t, &self.scope, Some(&open));
        let full = store.get(&FullOf(self.scope.clone()), ctx)?;
        let decider = reduce::find(self.call.method)?.start(&on, &self.call.params)?;
        let start = Instant::now();
        let (plan, judgement) = reduce::judge(&full, &on, vec![decider], &|| start.elapsed(), ctx)?;
        let name = |list: &[(u32, f32)]| -> Vec<(String, f32)> {
            let text = |id| open.tokenizer.as_ref().map_or_else(|| format!("<{id}>"), |t| t.token_text(id));
            list.iter().map(|&(id, p)| (text(id), p)).collect()
        };
        let (full, reduced) = (name(&judgement.full_top), name(&judgement.reduced_top));
        let n = on.tower()?.tokens.len();
        let stage = |(step, fates): (&Step, Vec<Fate>)| {
            let (place, threshold, positions) = (step.place, step.threshold, step.positions);
            Stage { place, fates, scores: step.by_token(n), threshold, positions }
        };
        let stages: Vec<Stage> = plan.of(on.tower).zip(plan.fates(on.tower)).map(stage).collect();
        let fates = stages.last().map_or_else(|| vec![Fate::Kept; n], |s| s.fates.clone());
        Ok(Reduced { kept: budget::kept(&on, &plan)?, plan, fates, stages, judgement, full, reduced })
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.scope.run)
    }
}

impl Serves for ReducedOf {
    fn of(pane: &Pane, call: Call) -> Self {
        Self { scope: pane.scope(), call }
    }

    fn found<'a>(&self, p: &'a Reduced, trace: &TraceFrom) -> Result<Cow<'a, Finding>> {
        Ok(Cow::Owned(p.plan.finding(&subject(&*trace()?, &self.scope, None), Some(&p.judgement))?))
    }

    fn tell<'a>(&self, p: &'a Reduced, around: &Around) -> Result<Told<'a>> {
        let trace = around.trace(&self.scope.run)?;
        let on = subject(&trace, &self.scope, None);
        let top = |list: &[(String, f32)]| list.iter().map(|(t, p)| json!({ "text": t, "p": p })).collect::<Value>();
        let j = &p.judgement;
        let fields = json!({
            "tokens": on.tower()?.tokens, "fates": p.fates.iter().map(fate).collect::<Value>(),
            "steps": p.stages.iter().map(stage).collect::<Value>(),
            "plan": p.plan.steps.iter().map(step).collect::<Value>(),
            "kept_share": p.kept, "kl_nats": j.kl, "top1_same": j.top1_same, "cosine": j.cosine,
            "full": top(&p.full), "reduced": top(&p.reduced), "rows_by_layer": j.rows_by_layer,
            "kv_bytes_by_layer": j.kv_bytes_by_layer, "flops_share": j.flops_share,
        });
        Ok(Told { found: self.found(p, &|| Ok(trace.clone()))?, fields })
    }
}

/// What became of a token, as JSON.
fn fate(f: &Fate) -> Value {
    match f {
        Fate::Kept => json!("kept"),
        Fate::Merged(row) => json!({ "merged": row }),
        Fate::Aside(step) => json!({ "aside": step }),
        Fate::Dropped(step) => json!({ "dropped": step }),
    }
}

/// What a step left, by the tokens of the stack that is looked at.
fn stage(s: &Stage) -> Value {
    json!({
        "place": s.place.to_string(), "fates": s.fates.iter().map(fate).collect::<Value>(), "scores": s.scores,
        "threshold": s.threshold, "positions": s.positions,
    })
}

/// A step of the whole plan: new rows as tokens with their weights.
fn step(s: &Step) -> Value {
    json!({
        "place": s.place.to_string(), "tower": s.place.tower(), "tile": s.tile, "rows": s.rows, "aside": s.aside,
        "gone": s.gone, "positions": s.positions, "forgets_in_layers": s.forget,
    })
}

/// The same reduction at several budgets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct RetentionOf(pub ReducedOf);

impl Ask for RetentionOf {
    type Out = Vec<Retained>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<Retained>> {
        let ReducedOf { scope, call } = &self.0;
        let (t, open) = (trace_of(&scope.run, store, ctx)?, model_of(&scope.run, store, ctx)?);
        let full = store.get(&FullOf(scope.clone()), ctx)?;
        let on = subject(&t, scope, Some(&open));
        budget::curve(reduce::find(call.method)?, &full, &on, &call.params, ctx)
    }

    fn run(&self) -> Option<&RunKey> {
        self.0.run()
    }
}

/// The same reduction with the budget that comes closest to keeping a share of the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AtShareOf {
    /// The reduction.
    pub reduced: ReducedOf,
    /// What is to be kept, in thousandths.
    pub share: u32,
}

impl Ask for AtShareOf {
    type Out = Arc<Reduced>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Arc<Reduced>> {
        let ReducedOf { scope, call } = &self.reduced;
        let (t, open) = (trace_of(&scope.run, store, ctx)?, model_of(&scope.run, store, ctx)?);
        let on = subject(&t, scope, Some(&open));
        let method = reduce::find(call.method)?;
        let params = budget::at_share(method, &on, &call.params, f64::from(self.share) / 1000.0, ctx)?;
        store.get(&ReducedOf { scope: scope.clone(), call: Call { method: call.method, params } }, ctx)
    }

    fn run(&self) -> Option<&RunKey> {
        self.reduced.run()
    }
}

/// Natural logarithms of the probabilities of all words behind the last token, of the model after a reduction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NextReducedOf(pub ReducedOf);

impl Ask for NextReducedOf {
    type Out = Vec<f64>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<f64>> {
        let run = &self.0.scope.run;
        let (t, open) = (trace_of(run, store, ctx)?, model_of(run, store, ctx)?);
        if open.model.info().writes != Writes::Causal {
            return Err(Error::invalid("this model does not predict the next token"));
        }
        let on = subject(&t, &main_scope(run), Some(&open));
        let reduced = store.get(&self.0, ctx)?;
        let mut runner = Runner::new(&on, vec![Box::new(reduced.plan.again())], ctx)?;
        let mut input = Input { logits: Some(LogitRows::Last), ..on.again() };
        let out = open.model.forward(&mut input, &mut runner, ctx)?;
        let logits = out.logits.ok_or_else(|| Error::invalid("the reduced model gives no logits"))?;
        Ok(log_softmax(&logits.squeeze(0)?.to_vec1::<f32>()?))
    }

    fn run(&self) -> Option<&RunKey> {
        self.0.run()
    }

    fn bytes(p: &Vec<f64>) -> u64 {
        size_of_val(p.as_slice()) as u64
    }
}

/// Tokens that an answer has at most.
const ANSWER: usize = 12;

/// How the full (`None`) or the reduced model goes on after the input, greedily.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct AnswerOf {
    /// The run.
    pub run: RunKey,
    /// The reduction, carried out on the input and on what is written after it.
    pub reduced: Option<ReducedOf>,
}

impl Ask for AnswerOf {
    type Out = Vec<String>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<String>> {
        let (t, open) = (trace_of(&self.run, store, ctx)?, model_of(&self.run, store, ctx)?);
        let model = open.model.as_ref();
        let on = subject(&t, &Scope { run: self.run.clone(), tower: None }, Some(&open));
        let request =
            RunRequest { ids: Some(on.ids()), image: t.image.clone(), greedy: ANSWER, ..RunRequest::default() };
        let spec = CaptureSpec::sites(&[]);
        let trace = match &self.reduced {
            None => run(model, None, &request, &spec, ctx)?,
            Some(reduced) => {
                let reduced = store.get(reduced, ctx)?;
                let mut runner = Runner::new(&on, vec![Box::new(reduced.plan.again())], ctx)?;
                run_with(model, None, &request, &spec, &mut runner, ctx)?
            }
        };
        let text = |id: &u32| open.tokenizer.as_ref().map_or_else(|| format!("<{id}>"), |t| t.token_text(*id));
        Ok(trace.continuation.iter().map(text).collect())
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.run)
    }
}
