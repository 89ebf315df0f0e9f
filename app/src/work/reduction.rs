//! Reductions, really carried out: at one budget with every cut, and at several budgets for a curve.

use super::{model_of, subject, tower, trace_of};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, RunKey, Scope};
use std::time::Instant;
use tokenscope_analysis::method::{Domain, Info, Params};
use tokenscope_analysis::prune::{self, Fate, Judgement, Plan, Pruner, Stage};
use tokenscope_analysis::run::{RunRequest, run, run_with};
use tokenscope_analysis::token::TokenKind;
use tokenscope_analysis::trace::{CaptureSpec, Tower, Trace};
use tokenscope_analysis::{Ctx, Error, Result};

/// What a reduction would do: made once, for whoever carries it out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PlanOf {
    /// The stack that is reduced.
    pub scope: Scope,
    /// The method.
    pub call: Call,
}

impl Ask for PlanOf {
    type Out = Plan;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Plan> {
        let run = &self.scope.run;
        let (t, open) = (trace_of(run, store, ctx)?, model_of(run, store, ctx)?);
        prune::find(&self.call.method)?.plan(&subject(&t, &self.scope, Some(&open)), &self.call.params, ctx)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.scope.run)
    }
}

/// A reduction, really carried out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReducedOf(pub PlanOf);

/// A reduction and what the reduced model says.
pub struct Reduced {
    /// What became of each token in the end.
    pub fates: Vec<Fate>,
    /// The same after each cut, with its stage.
    pub cuts: Vec<(Stage, Vec<Fate>)>,
    /// Reduced against full.
    pub judgement: Judgement,
    /// Most probable next tokens of the full model, as text.
    pub full: Vec<(String, f32)>,
    /// Those of the reduced one.
    pub reduced: Vec<(String, f32)>,
}

impl Ask for ReducedOf {
    type Out = Reduced;

    /// The reduction, its cuts, and what the reduced model says.
    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Reduced> {
        let run = &self.0.scope.run;
        let (t, open) = (trace_of(run, store, ctx)?, model_of(run, store, ctx)?);
        let plan = store.get(&self.0, ctx)?;
        let start = Instant::now();
        let judgement = prune::judge(open.model.as_ref(), &t, &plan, &|| start.elapsed(), ctx)?;
        let name = |list: &[(u32, f32)]| -> Vec<(String, f32)> {
            let text = |id| open.tokenizer.as_ref().map_or_else(|| format!("<{id}>"), |t| t.token_text(id));
            list.iter().map(|&(id, p)| (text(id), p)).collect()
        };
        let (full, reduced) = (name(&judgement.full_top), name(&judgement.reduced_top));
        let mut cuts = Vec::new();
        for i in 0..plan.cuts.len() {
            let part = Plan { cuts: plan.cuts[..=i].to_vec(), ..Plan::clone(&plan) };
            cuts.push((plan.cuts[i].stage, fates(&part, &t)?));
        }
        Ok(Reduced { fates: fates(&plan, &t)?, cuts, judgement, full, reduced })
    }

    fn run(&self) -> Option<&RunKey> {
        self.0.run()
    }
}

/// What became of each token of the plan's tower. A plan between encoder and language model counts image features,
/// which are the image tokens in their order.
pub(super) fn fates(plan: &Plan, trace: &Trace) -> Result<Vec<Fate>> {
    let own = plan.outcome()?.fates;
    let tokens = &trace.tower(plan.tower)?.tokens;
    if own.len() == tokens.len() {
        return Ok(own);
    }
    let mut features = own.into_iter();
    Ok(tokens
        .iter()
        .map(|t| if t.kind == TokenKind::Image { features.next().unwrap_or(Fate::Kept) } else { Fate::Kept })
        .collect())
}

/// Shares of the tokens that a curve looks at.
const SHARES: [f64; 9] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0];

/// `params` at several budgets, the smallest first. `n` is the number of tokens.
fn budgets(info: &Info, params: &Params, n: usize) -> Vec<Params> {
    let Some(budget) = info.budget else { return Vec::new() };
    let key = budget.key;
    match budget.domain {
        Domain::Share { .. } => SHARES.iter().map(|s| params.clone().set(key, *s)).collect(),
        // A count says how much goes.
        Domain::Count { max, .. } => {
            // Bipartite matching merges at most half of the tokens at a time.
            let mut counts: Vec<i64> = [2, 3, 4, 6, 8, 12, 16, 32].iter().map(|d| (n / d) as i64).chain([0]).collect();
            counts.retain(|c| *c <= max);
            counts.dedup();
            counts.iter().map(|c| params.clone().set(key, *c)).collect()
        }
        _ => Vec::new(),
    }
}

/// Seeds that a random reduction is averaged over.
pub const SEEDS: i64 = 3;

/// The same reduction at several budgets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RetentionOf(pub PlanOf);

/// One point of a retention curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retained {
    /// Share of the tower's tokens that are rows of their own or part of one in the end, 0..=1.
    pub kept: f64,
    /// Divergence of the next-token distribution in nats, for models with logits.
    pub kl: Option<f64>,
    /// Share of runs whose most probable token is the full model's, for models with logits.
    pub top1: Option<f64>,
    /// Cosine of the embedding, for models without logits.
    pub cosine: Option<f64>,
}

impl Ask for RetentionOf {
    type Out = Vec<Retained>;

    /// The reduction at several budgets, each really run, sorted by what was kept.
    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<Retained>> {
        let PlanOf { scope, call } = &self.0;
        let (t, open) = (trace_of(&scope.run, store, ctx)?, model_of(&scope.run, store, ctx)?);
        let (model, tower, start) = (open.model.as_ref(), tower(scope, &t), Instant::now());
        let info = prune::find(&call.method)?.info();
        let n = t.tower(tower)?.tokens.iter().filter(|t| t.kind == TokenKind::Image).count();
        let all = budgets(info, &call.params, n);
        if all.is_empty() {
            return Err(Error::invalid(format!("{} has no budget to vary", info.title)));
        }
        let seeds = if info.params.iter().any(|p| p.domain == Domain::Seed) { 0..SEEDS } else { 0..1 };
        let clock = || start.elapsed();
        let full = prune::full(model, &t, tower, &clock, ctx)?;
        let mut out: Vec<Retained> = Vec::new();
        for (i, params) in all.iter().enumerate() {
            let mut runs = Vec::new();
            for seed in seeds.clone() {
                ctx.step(i * seeds.clone().count() + seed as usize, all.len() * seeds.clone().count())?;
                let params = if seeds.end > 1 { params.clone().set("seed", seed) } else { params.clone() };
                let at = PlanOf { scope: scope.clone(), call: Call::new(info.id, &params) };
                let plan = store.get(&at, ctx)?;
                let rows = plan.outcome()?.rows.last().map_or(plan.n_rows, |r| r.len());
                let kept = rows as f64 / plan.n_rows.max(1) as f64;
                runs.push((kept, prune::judge_against(&full, model, &t, &plan, &clock, ctx)?));
            }
            let mean = |f: &dyn Fn(&Judgement) -> Option<f64>| -> Option<f64> {
                let values: Vec<f64> = runs.iter().filter_map(|r| f(&r.1)).collect();
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            out.push(Retained {
                kept: runs.iter().map(|r| r.0).sum::<f64>() / runs.len().max(1) as f64,
                kl: mean(&|j| j.kl),
                top1: mean(&|j| j.top1_same.map(|s| f64::from(u8::from(s)))),
                cosine: mean(&|j| j.cosine),
            });
        }
        out.sort_by(|a, b| a.kept.total_cmp(&b.kept));
        out.dedup_by(|a, b| a.kept == b.kept && a.kl == b.kl && a.cosine == b.cosine);
        Ok(out)
    }

    fn run(&self) -> Option<&RunKey> {
        self.0.run()
    }
}

/// Tokens that an answer has at most.
const ANSWER: usize = 12;

/// How the full (`None`) or the reduced model goes on after the input, greedily.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AnswerOf {
    /// The run.
    pub run: RunKey,
    /// The reduction.
    pub plan: Option<PlanOf>,
}

impl Ask for AnswerOf {
    type Out = Vec<String>;

    /// How the model goes on after the trace's input, token by token, with the reduction carried out on the input or
    /// without one. Tokens after the input are not reduced.
    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<String>> {
        let (t, open) = (trace_of(&self.run, store, ctx)?, model_of(&self.run, store, ctx)?);
        let model = open.model.as_ref();
        let ids = t.tower(Tower::Text)?.tokens.iter().filter_map(|t| t.id).collect();
        let request = RunRequest { ids: Some(ids), image: t.image.clone(), greedy: ANSWER, ..RunRequest::default() };
        let spec = CaptureSpec::sites(&[]);
        let trace = match &self.plan {
            None => run(model, None, &request, &spec, ctx)?,
            Some(plan) => {
                let plan = store.get(plan, ctx)?;
                run_with(model, None, &request, &spec, &mut Pruner::new(&plan)?, ctx)?
            }
        };
        let text = |id: &u32| open.tokenizer.as_ref().map_or_else(|| format!("<{id}>"), |t| t.token_text(*id));
        Ok(trace.continuation.iter().map(text).collect())
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_budget_is_a_legal_value_and_random_and_uniform_have_one() {
        for m in prune::ALL {
            for params in budgets(m.info(), &Params::new(), 576) {
                m.info().check(&params).unwrap();
            }
        }
        for id in ["random", "uniform", "tome", "divprune"] {
            assert!(budgets(prune::find(id).unwrap().info(), &Params::new(), 64).len() >= 6, "{id}");
        }
    }
}
