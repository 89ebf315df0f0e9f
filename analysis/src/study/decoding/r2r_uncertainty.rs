//! R2R without its router: tokens at which a small model is unsure go to the large one.
//!
//! Source: Fu et al. 2025, "R2R: Efficiently Navigating Divergent Reasoning Paths with Small-Large Model Token Routing",
//! arXiv 2505.21600; thu-nics/R2R r2r/utils/metrics.py. Takes: the next-token logits of the small model. Gives: three
//! measures of how unsure it is, and who writes which token. Departs: none known; the router itself is trained. The measures
//! of the ten largest logits take them for evidence, which is defined for logits above −1 alone.

use super::super::Method;
use super::show;
use crate::ctx::Ctx;
use crate::finding::{Class, Classes, Datum, Figure, Finding, Heat, Look, Measure, Unit};
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput, number};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const BY: Param = Param::choice("by", "What sends a token to the large model", &["entropy", "aleatoric"]);
const ENTROPY: Param = Param::number("entropy_threshold", "Entropy in nats from which it is sent", 0.0, 8.0, 0.45);
const ALEATORIC: Param = Param::number(
    "aleatoric_threshold",
    "Aleatoric uncertainty of the ten largest logits from which it is sent",
    0.0,
    4.0,
    2.275,
);
const SMALL: Param = Param::number("small", "Size of the small model, in sizes of the large one", 0.0, 1.0, 0.05);

static INFO: Info = Info {
    id: "r2r_uncertainty",
    title: "R2R baselines",
    summary: "Shows which tokens a small model would hand to a large one because it is unsure of what comes next.",
    family: "adaptive compute",
    basis: Basis::Authors { repo: "thu-nics/R2R", commit: "560f5ec" },
    paper: Some(Paper {
        title: "R2R: Efficiently Navigating Divergent Reasoning Paths with Small-Large Model Token Routing",
        authors: "Fu et al.",
        year: 2025,
        arxiv: "2505.21600",
    }),
    departs: "the baselines that need no training; the router is trained",
    needs: &[Need::Residual, Need::Logits, Need::Writes],
    params: &[BY, ENTROPY, ALEATORIC, SMALL],
    raw: &[Adapter { name: "r2r_uncertainty", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct R2r;

/// Logits that are taken for evidence.
const TOP: usize = 10;

/// Digamma, by recurrence up to 12 and the asymptotic series there.
fn digamma(mut x: f64) -> f64 {
    let mut out = 0.0;
    while x < 12.0 {
        out -= 1.0 / x;
        x += 1.0;
    }
    let s = 1.0 / (x * x);
    out + x.ln() - 0.5 / x - s * (1.0 / 12.0 - s * (1.0 / 120.0 - s * (1.0 / 252.0 - s / 240.0)))
}

/// Aleatoric and epistemic uncertainty of the `k` largest logits as evidence; not a number where it is not defined.
fn evidence(row: &[f32], k: usize) -> (f64, f64) {
    let l: Vec<f64> = largest(row, k).into_iter().map(|i| f64::from(row[i])).collect();
    let alpha: f64 = l.iter().sum();
    if l.iter().any(|l| *l <= -1.0) || alpha <= 0.0 {
        return (f64::NAN, f64::NAN);
    }
    let aleatoric = -l.iter().map(|l| l / alpha * (digamma(l + 1.0) - digamma(alpha + 1.0))).sum::<f64>();
    (aleatoric, k as f64 / (alpha + k as f64))
}

impl Method for R2r {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        show::ready(on, &INFO, params)?;
        let rows = show::last_logits(on, &INFO, ctx)?;
        let n = on.tower()?.tokens.len();
        let by_entropy = params.choice(&BY) == "entropy";
        let (mut entropies, mut aleatoric, mut who) = (vec![None; n], vec![None; n], vec![2; n]);
        // Token i is written from what is said at i − 1.
        for i in 1..n {
            ctx.step(i, n)?;
            let row = rows.row(i - 1);
            let (h, (au, _)) = (show::entropy(row), evidence(row, TOP));
            entropies[i] = Some(h as f32);
            aleatoric[i] = au.is_finite().then_some(au as f32);
            let large = if by_entropy { h >= params.number(&ENTROPY) } else { au >= params.number(&ALEATORIC) };
            who[i] = usize::from(large);
        }
        let sent = who.iter().filter(|w| **w == 1).count() as f64 / n.saturating_sub(1).max(1) as f64;
        let classes = vec![
            Class::new("small", "the small model writes it", Look::Plain),
            Class::new("large", "handed to the large model", Look::Category(1)),
            Class::new("given", "nothing comes before it", Look::Given),
        ];
        let unit = || Unit::Tokens(on.tower);
        Ok(Finding::of(Classes::new("who writes each token", unit(), classes, who.into_iter().map(Some).collect()))
            .with(Heat::new("entropy before each token", unit(), Measure::new("entropy", "nats"), entropies))
            .with(Heat::new("aleatoric uncertainty", unit(), Measure::new("uncertainty", ""), aleatoric))
            .figure(Figure::new(
                "handed over",
                Datum::Share(sent),
                "tokens that go to the large model, of those written",
            ))
            .figure(Figure::new(
                "active parameters",
                Datum::Number(params.number(&SMALL) + sent),
                "small model plus the large one's share, in sizes of the large one",
            )))
    }
}

/// Raw entry: `logits` `[tokens, vocab]` → the measures, and who writes by either threshold.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (logits, [n, vocab]) = input.finite("logits")?;
    let k = input.read_or("topk", TOP)?;
    let bars: BTreeMap<String, Option<f64>> = input.read_or("thresholds", BTreeMap::new())?;
    let bar = |name: &str, default: f64| bars.get(name).copied().flatten().unwrap_or(default);
    let (au_bar, h_bar) = (bar("aleatoric", 2.275), bar("entropy", 0.45));
    if k == 0 || k > vocab {
        return Err(Error::invalid(format!("topk must be from 1 to {vocab}, the vocabulary of logits")));
    }
    let mut out: [Vec<f64>; 3] = Default::default();
    for i in 0..n {
        ctx.check()?;
        let (au, eu) = evidence(logits.row(i), k);
        out[0].push(au);
        out[1].push(eu);
        out[2].push(show::entropy(logits.row(i)));
    }
    let route = |x: &[f64], bar: f64| x.iter().map(|x| u8::from(x.is_nan() || *x >= bar)).collect::<Vec<_>>();
    let list = |x: &[f64]| x.iter().map(|x| number(*x)).collect::<Vec<_>>();
    let mut all = serde_json::Map::new();
    all.insert("aleatoric".into(), list(&out[0]).into());
    all.insert("epistemic".into(), list(&out[1]).into());
    all.insert("entropy".into(), list(&out[2]).into());
    all.insert(format!("route_entropy_{h_bar:?}"), json!(route(&out[2], h_bar)));
    all.insert(format!("route_aleatoric_{au_bar:?}"), json!(route(&out[0], au_bar)));
    Ok(Value::Object(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digamma_and_even_evidence() {
        // ψ(1) = −γ, ψ(2) = 1 − γ.
        assert!(
            (digamma(1.0) + 0.577_215_664_901_532_9).abs() < 1e-12
                && (digamma(2.0) - 0.422_784_335_098_467_1).abs() < 1e-12
        );
        // Two logits of 1: −(ψ(2) − ψ(3)) = 1/2, and 2 / (2 + 2).
        let (au, eu) = evidence(&[1.0, 1.0], 2);
        assert!((au - 0.5).abs() < 1e-12 && (eu - 0.5).abs() < 1e-12);
        assert!(evidence(&[1.0, -2.0], 2).0.is_nan());
    }
}
