//! Adaptive weighted rejection sampling: tokens are drawn until one is allowed, and a weight makes up for it.
//!
//! Source: Lipkin et al. 2025, "Fast Controlled Generation from Language Models with Adaptive Weighted Rejection Sampling",
//! arXiv 2504.05410; genlm/genlm-control sampler/token.py. Takes: a next-token distribution and a constraint. Gives: tokens
//! with weights, and how often the constraint was asked. Departs: none known.

use super::super::Method;
use super::show;
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::chance::{Chance, Seeded};
use crate::finding::{Datum, Figure, Finding, Table};
use crate::math::softmax;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

const CONSTRAINT: Param = Param::choice(
    "constraint",
    "What the next token must begin with, a space before it left out",
    &["capital", "vowel", "digit", "no_letter"],
);
const SAMPLES: Param = Param::count("samples", "Tokens drawn", 1, 2000, 200);

static INFO: Info = Info {
    id: "awrs",
    title: "Weighted rejection",
    summary: "Draws allowed next tokens by trying few of them, and weighs each so that nothing is distorted.",
    family: "constraints",
    basis: Basis::Authors { repo: "genlm/genlm-control", commit: "533a36e" },
    paper: Some(Paper {
        title: "Fast Controlled Generation from Language Models with Adaptive Weighted Rejection Sampling",
        authors: "Lipkin et al.",
        year: 2025,
        arxiv: "2504.05410",
    }),
    departs: "one token; the particles that carry the weights on are left out",
    needs: &[Need::Residual, Need::Logits, Need::Writes, Need::Tokenizer],
    params: &[CONSTRAINT, SAMPLES, SEED],
    raw: &[Adapter { name: "awrs", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Awrs;

/// The first allowed token of an order without replacement, its weight, and how often the constraint was asked; `None`
/// where none is allowed.
fn recursive(p: &[f64], order: &[usize], mut allowed: impl FnMut(usize) -> bool) -> (Option<(usize, f64)>, usize) {
    let (mut w, mut refused, mut asked) = (1.0, 0.0, 0);
    for (i, &x) in order.iter().enumerate() {
        let last = i + 1 == order.len();
        let q = if last { 1.0 } else { p[x] / (1.0 - refused) };
        asked += 1;
        if allowed(x) {
            let factor = match order.get(i + 1) {
                None => 1.0,
                Some(&next) => {
                    asked += 1;
                    if allowed(next) { 1.0 } else { q }
                }
            };
            return (Some((x, w * factor)), asked);
        }
        w *= 1.0 - q;
        refused += p[x];
    }
    (None, asked)
}

/// Two rounds, each up to its first allowed token: what was refused is not asked again but counted as often as it would
/// have been drawn, which `geometric` says for a mass refused so far.
fn geometric(
    p: &[f64],
    orders: [&[usize]; 2],
    mut allowed: impl FnMut(usize) -> bool,
    geometric: &mut dyn FnMut(f64) -> Option<u64>,
) -> Option<(Option<usize>, f64, usize)> {
    let (mut gone, mut refused, mut accepts, mut rejects, mut token, mut asked) =
        (HashSet::new(), 0.0, 0u64, 0u64, None, 0);
    for order in orders {
        for &x in order {
            if gone.contains(&x) {
                continue;
            }
            if refused > 0.0 {
                rejects = rejects.saturating_add(geometric(refused)?.saturating_sub(1));
            }
            asked += 1;
            if allowed(x) {
                accepts += 1;
                token = token.or(Some(x));
                break;
            }
            (rejects, refused) = (rejects.saturating_add(1), refused + p[x]);
            gone.insert(x);
        }
    }
    let weight = if accepts == 0 { 0.0 } else { 1.0 / (accepts - 1).saturating_add(rejects).max(1) as f64 };
    Some((token, weight, asked))
}

/// Above this probability of a single token the geometric weight is used.
const PEAKED: f64 = 2.0 / 3.0;

impl Method for Awrs {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        show::ready(on, &INFO, params)?;
        let at = on.explained(on.tower()?.tokens.len())?;
        let p = softmax(&show::last_logits_at(on, &INFO, at, ctx)?, 1.0);
        let rule = params.choice(&CONSTRAINT);
        let allowed = |x: usize| {
            let word = on.word(x as u32);
            let first = word.trim_start_matches([' ', '▁', 'Ġ']).chars().next();
            first.is_some_and(|c| match rule {
                "capital" => c.is_uppercase(),
                "vowel" => "aeiouAEIOU".contains(c),
                "digit" => c.is_ascii_digit(),
                _ => !c.is_alphabetic(),
            })
        };
        let valid: Vec<bool> = (0..p.len()).map(allowed).collect();
        let z: f64 = (0..p.len()).filter(|&x| valid[x]).map(|x| p[x]).sum();
        let (n, mut chance) = (params.count(&SAMPLES) as usize, Seeded::new(params.seed(&SEED)));
        let peaked = p.iter().any(|p| *p >= PEAKED);
        let (mut mass, mut weights, mut calls) = (BTreeMap::<usize, (usize, f64)>::new(), 0.0, 0);
        for i in 0..n {
            ctx.step(i, n)?;
            let one = chance.draw_some(&p, p.len());
            let two = if peaked { chance.draw_some(&p, p.len()) } else { Vec::new() };
            let (drawn, asked) = match peaked {
                false => recursive(&p, &one, |x| valid[x]),
                true => {
                    let mut draw = |refused: f64| {
                        let left = (1.0 - refused).clamp(1e-12, 1.0);
                        let u = 1.0 - chance.uniform();
                        Some(if left < 1.0 { (u.ln() / (1.0 - left).ln()).ceil().clamp(1.0, 1e9) as u64 } else { 1 })
                    };
                    let (token, w, asked) =
                        geometric(&p, [&one, &two], |x| valid[x], &mut draw).unwrap_or((None, 0.0, 0));
                    (token.map(|t| (t, w)), asked)
                }
            };
            calls += asked;
            if let Some((x, w)) = drawn {
                let of = mass.entry(x).or_default();
                (of.0, of.1, weights) = (of.0 + 1, of.1 + w, weights + w);
            }
        }
        let mut table = Table::new(&["token", "drawn", "mean weight", "estimate", "model"]).titled("allowed tokens");
        let mut rows: Vec<_> = mass.into_iter().collect();
        rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1).then(a.0.cmp(&b.0)));
        for (x, (count, sum)) in rows.into_iter().take(24) {
            let (mean, estimate) = (sum / count as f64, sum / n as f64);
            table.rows.push(vec![json!(on.word(x as u32)), json!(count), json!(mean), json!(estimate), json!(p[x])]);
        }
        let n_valid = valid.iter().filter(|v| **v).count();
        Ok(Finding::of(table)
            .figure(Figure::new(
                "allowed mass",
                Datum::Share(z.clamp(0.0, 1.0)),
                "what the model gives to allowed tokens",
            ))
            .figure(Figure::new(
                "estimated",
                Datum::Number(weights / n as f64),
                "mean weight; it is the allowed mass on average",
            ))
            .figure(Figure::new(
                "asked",
                Datum::Number(calls as f64 / n as f64),
                "times per token that the constraint was asked",
            ))
            .figure(Figure::new("asked by a full mask", Datum::Count(p.len()), "the size of the vocabulary"))
            .figure(Figure::new("allowed tokens", Datum::Count(n_valid), "of the vocabulary")))
    }
}

/// Entries of which every order is gone through at most.
const MOST: usize = 8;

/// Every order of `0..n`.
fn orders(n: usize) -> Vec<Vec<usize>> {
    let mut out = vec![Vec::new()];
    for _ in 0..n {
        let longer =
            |o: &Vec<usize>| (0..n).filter(|x| !o.contains(x)).map(|x| [&o[..], &[x]].concat()).collect::<Vec<_>>();
        out = out.iter().flat_map(longer).collect();
    }
    out
}

/// Raw entry: `p` and `valid` → the exact distribution of tokens and weights over every order, and what recorded orders and
/// geometric draws in `geometric_traces` give.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let p = input.shares("p")?;
    let valid: Vec<u8> = input.read("valid")?;
    if valid.len() != p.len() || p.is_empty() || p.len() > MOST {
        return Err(Error::invalid(format!(
            "p and valid must be of one size, from 1 to {MOST}: every order is gone through"
        )));
    }
    let z: f64 = p.iter().zip(&valid).filter(|v| *v.1 != 0).map(|v| v.0).sum();
    // Weights that agree to 12 digits are one, as the reference rounds them.
    let mut joint = BTreeMap::<(usize, i64), f64>::new();
    let (mut expected, mut calls) = (vec![0.0; p.len()], 0.0);
    for order in orders(p.len()) {
        ctx.check()?;
        let (mut share, mut left) = (1.0, 1.0);
        for &x in &order {
            share *= if left > 1e-15 { p[x] / left } else { 1.0 };
            left -= p[x];
        }
        let (drawn, asked) = recursive(&p, &order, |x| valid[x] != 0);
        calls += share * asked as f64;
        if let Some((x, w)) = drawn {
            *joint.entry((x, (w * 1e12).round() as i64)).or_default() += share;
            expected[x] += share * w;
        }
    }
    let recorded: Vec<Value> = input.read_or("geometric_traces", Vec::new())?;
    let mut traces = Vec::with_capacity(recorded.len());
    for t in recorded {
        let list = |key: &str| -> Option<Vec<u64>> { t[key].as_array()?.iter().map(Value::as_u64).collect() };
        let ids = |key: &str| {
            let ids: Vec<usize> = list(key)?.into_iter().map(|x| x as usize).collect();
            ids.iter().all(|x| *x < p.len()).then_some(ids)
        };
        let bad = || Error::invalid("geometric_traces need order_round1, order_round2 and enough geometric_draws");
        let (Some(one), Some(two), Some(draws)) = (ids("order_round1"), ids("order_round2"), list("geometric_draws"))
        else {
            return Err(bad());
        };
        let mut next = draws.iter().copied();
        let (token, weight, _) =
            geometric(&p, [&one, &two], |x| valid[x] != 0, &mut |_| next.next()).ok_or_else(bad)?;
        traces.push(json!({ "order_round1": one, "order_round2": two, "geometric_draws": draws, "token": token,
            "weight": weight }));
    }
    let joint: Vec<Value> = joint.into_iter().map(|((x, w), share)| json!([x, w as f64 / 1e12, share])).collect();
    let local = |x: usize| if valid[x] != 0 && z > 0.0 { p[x] / z } else { 0.0 };
    Ok(json!({
        "p": p,
        "valid": valid,
        "Z": z,
        "locally_constrained_distribution": (0..p.len()).map(local).collect::<Vec<_>>(),
        "joint_token_weight_prob": joint,
        "expected_weight_by_token": expected,
        "expected_constraint_calls": calls,
        "full_masking_calls": p.len(),
        "geometric_traces": traces,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_weight_of_each_token_is_its_probability() {
        let (p, valid) = ([0.1, 0.2, 0.3, 0.4], [true, false, true, false]);
        let mut mean = [0.0; 4];
        for order in orders(4) {
            let (mut share, mut left) = (1.0, 1.0);
            for &x in &order {
                (share, left) = (share * p[x] / left, left - p[x]);
            }
            if let (Some((x, w)), _) = recursive(&p, &order, |x| valid[x]) {
                mean[x] += share * w;
            }
        }
        assert!(mean.iter().zip([0.1, 0.0, 0.3, 0.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{mean:?}");
    }
}
