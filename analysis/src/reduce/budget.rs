//! Reductions at several budgets: the curve of how close the reduced model stays, and the setting that keeps a share.

use super::judge::{Full, Judgement, judge};
use super::{Method, Plan, plan};
use crate::ctx::Ctx;
use crate::method::{Domain, Info, Param, Params};
use crate::token::TokenKind;
use crate::{Error, Result, Subject};
use std::time::Duration;

/// One point of a retention curve.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Retained {
    /// Share of the tokens that are rows of their own or part of one in the end, 0..=1; of the image's where there are
    /// such in a language model.
    pub kept: f64,
    /// Divergence of the next-token distribution in nats, for models with logits.
    pub kl: Option<f64>,
    /// Share of runs whose most probable token is the full model's, for models with logits.
    pub top1: Option<f64>,
    /// Cosine of the embedding, for models without logits.
    pub cosine: Option<f64>,
}

/// Shares of the tokens that a curve looks at.
const SHARES: [f64; 9] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0];

/// Seeds that a random reduction is averaged over.
pub const SEEDS: usize = 3;

/// `params` at several budgets. `n` is the number of tokens; empty for methods without a budget.
fn budgets(info: &Info, params: &Params, n: usize) -> Vec<Params> {
    let Some(Param { key, domain, .. }) = info.budget else { return Vec::new() };
    match *domain {
        Domain::Share { .. } => SHARES.iter().map(|s| params.clone().set(key, *s)).collect(),
        Domain::Count { min, max, .. } => {
            // A count of what goes: at most half of the tokens at a time.
            let mut counts: Vec<i64> =
                [2, 3, 4, 6, 8, 12, 16, 32].iter().map(|d| (n / d) as i64).chain([min]).collect();
            counts.retain(|c| (min..=max).contains(c));
            counts.dedup();
            counts.iter().map(|c| params.clone().set(key, *c)).collect()
        }
        // More of them where the range begins, since thresholds mostly act there.
        Domain::Number { min, max, .. } => (0..SHARES.len())
            .map(|i| (i as f64 / (SHARES.len() - 1) as f64).powi(3))
            .map(|s| params.clone().set(key, min + s * (max - min)))
            .collect(),
        _ => Vec::new(),
    }
}

/// The tokens that a budget is about: the image's in a language model, else all of the tower.
pub fn counted(on: &Subject) -> Result<Vec<usize>> {
    let tokens = &on.tower()?.tokens;
    let image: Vec<usize> = (0..tokens.len()).filter(|&i| tokens[i].kind == TokenKind::Image).collect();
    let inside = on.tower == crate::trace::Tower::Text && !image.is_empty();
    Ok(if inside { image } else { (0..tokens.len()).collect() })
}

/// Share of the tokens that a budget is about which a plan leaves as rows.
pub fn kept(on: &Subject, plan: &Plan) -> Result<f64> {
    let among = counted(on)?;
    Ok(plan.left(on.tower, &among) as f64 / among.len().max(1) as f64)
}

/// The reduction at several budgets, each really run and held against the full model, sorted by what was kept.
///
/// Errors: a method without a budget; those of the method.
pub fn curve(method: &dyn Method, full: &Full, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Vec<Retained>> {
    let info = method.info();
    let n = on.tower()?.tokens.iter().filter(|t| t.kind == TokenKind::Image).count();
    let all = budgets(info, params, n);
    if all.is_empty() {
        return Err(Error::invalid(format!("{} has no budget to vary", info.title)));
    }
    let seed = info.params.iter().find(|p| p.domain == Domain::Seed);
    let seeds = if seed.is_some() { SEEDS } else { 1 };
    let mut out: Vec<Retained> = Vec::new();
    for (i, params) in all.iter().enumerate() {
        let mut runs = Vec::new();
        for s in 0..seeds {
            ctx.step(i * seeds + s, all.len() * seeds)?;
            let params = seed.map_or_else(|| params.clone(), |p| params.clone().set(p.key, s as i64));
            let part = ctx.part(i * seeds + s, all.len() * seeds);
            let (plan, judgement) = judge(full, on, vec![method.start(on, &params)?], &Duration::default, &part)?;
            runs.push((kept(on, &plan)?, judgement));
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

/// Tries in a search over a number.
const TRIES: usize = 12;

/// `params` with the budget that comes closest to keeping `share` of the tokens. A budget that is a share is set; one
/// that says how much goes is searched for, with as many `steps` as the share needs where the method has those.
pub fn at_share(method: &dyn Method, on: &Subject, params: &Params, share: f64, ctx: &Ctx) -> Result<Params> {
    let info = method.info();
    let Some(Param { key, domain, .. }) = info.budget else { return Ok(params.clone()) };
    let wanted = share * counted(on)?.len() as f64;
    let mut params = params.clone();
    let left = |params: &Params| -> Result<f64> {
        let plan = plan(method, on, params, ctx)?;
        Ok(plan.left(on.tower, &counted(on)?) as f64)
    };
    match *domain {
        Domain::Share { .. } => Ok(params.set(key, share)),
        Domain::Count { min, max, .. } => {
            if let Some(Param { key, domain: Domain::Count { max, .. }, .. }) = info.param("steps")
                && !params.has(key)
            {
                params = params.set(key, halvings(share).min(*max));
            }
            let (mut low, mut high) = (min, (on.tower()?.tokens.len() as i64).min(max));
            // More that goes never leaves more: the smallest count that leaves no more than is wanted.
            while low < high {
                let middle = (low + high) / 2;
                if left(&params.clone().set(key, middle))? > wanted.round() { low = middle + 1 } else { high = middle }
            }
            let (under, over) = (params.clone().set(key, low), params.set(key, (low - 1).max(min)));
            let off = |p: &Params| Ok::<_, Error>((left(p)? - wanted.round()).abs());
            Ok(if off(&over)? < off(&under)? { over } else { under })
        }
        Domain::Number { min, max, .. } => {
            let (mut low, mut high) = (min, max);
            let mut best = (f64::INFINITY, low);
            // A threshold leaves fewer the higher it is; what has to be exceeded to merge leaves more.
            let rises = left(&params.clone().set(key, max))? > left(&params.clone().set(key, min))?;
            for _ in 0..TRIES {
                let middle = (low + high) / 2.0;
                let n = left(&params.clone().set(key, middle))?;
                if (n - wanted).abs() < best.0 {
                    best = ((n - wanted).abs(), middle);
                }
                if (n > wanted) != rises { low = middle } else { high = middle }
            }
            Ok(params.set(key, best.1))
        }
        _ => Ok(params),
    }
}

/// Steps that halve at most each, to come down to this share.
fn halvings(share: f64) -> i64 {
    ((1.0 / share.max(1e-3)).log2().ceil() as i64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::{all, find};

    #[test]
    fn every_budget_is_a_legal_value_and_there_are_enough_of_them() {
        for m in all() {
            let budgets = budgets(m.info(), &Params::new(), 576);
            budgets.iter().for_each(|p| m.info().check(p).unwrap());
            assert!(m.info().budget.is_none() || budgets.len() >= 6, "{}", m.info().id);
        }
        assert!(find("tome").unwrap().info().budget.is_some());
    }

    #[test]
    fn merging_is_given_as_many_steps_as_the_share_needs() {
        assert_eq!([1.0, 0.5, 0.4, 0.25, 0.1].map(halvings), [1, 1, 2, 2, 4]);
    }
}
