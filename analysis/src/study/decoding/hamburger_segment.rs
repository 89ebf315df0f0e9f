//! HAMburger: tokens that are easy to foresee are smashed into one step of the large model.
//!
//! Source: Liu & Yu 2025, "HAMburger: Accelerating LLM Inference via Token Smashing", arXiv 2505.20438;
//! Jingyu6/hamburger hamburger/data/strategies.py. Takes: the entropy of the next token at each place. Gives: segments by
//! four rules. Departs: none known; the model that writes them is trained.

use super::super::Method;
use super::show;
use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Figure, Finding, Heat, Measure, Plot, Series, Style, Unit};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Result, Subject};
use serde_json::{Value, json};

const RULE: Param = Param::choice(
    "rule",
    "decreasing: entropy falls below 0.3 of the first; decreasing_v2: below 0.05 or 0.3 of the largest; sliding: the model \
     is 70% sure; small_group: tokens that are foreseen to less than 95% stand alone",
    &["decreasing", "decreasing_v2", "sliding", "small_group"],
);
const STEPS: Param = Param::count("max_steps", "Tokens of a segment at most", 1, 16, 4);

static INFO: Info = Info {
    id: "hamburger_segment",
    title: "HAMburger segments",
    summary: "Shows which tokens could be written in one step because they are easy to foresee.",
    family: "adaptive compute",
    basis: Basis::Authors { repo: "Jingyu6/hamburger", commit: "8df2e4b" },
    paper: Some(Paper {
        title: "HAMburger: Accelerating LLM Inference via Token Smashing",
        authors: "Liu & Yu",
        year: 2025,
        arxiv: "2505.20438",
    }),
    departs: "segments of training only; the micro decoder that writes them is trained",
    needs: &[Need::Residual, Need::Logits, Need::Writes],
    params: &[RULE, STEPS],
    raw: &[Adapter { name: "hamburger_segment", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Hamburger;

/// Entropy of a distribution that is `sure` of one of Llama 3's 128256 ids and even among the others.
fn entropy_at(sure: f64) -> f64 {
    const OTHERS: f64 = 128_255.0;
    let rest = (1.0 - sure) / OTHERS;
    -(sure * sure.ln() + OTHERS * rest * rest.ln())
}

/// Lengths of segments of at most `most` tokens, where `goes_on` says from the first and the largest entropy so far
/// whether another one joins.
fn joined(entropies: &[f64], most: usize, goes_on: impl Fn(f64, f64, f64) -> bool) -> Vec<usize> {
    let (mut out, mut first, mut largest) = (Vec::new(), 0, f64::NEG_INFINITY);
    for i in 1..=entropies.len() {
        largest = largest.max(entropies[i - 1]);
        let ends = entropies.get(i).is_none_or(|h| i - first >= most || !goes_on(entropies[first], largest, *h));
        if ends {
            out.push(i - first);
            (first, largest) = (i, f64::NEG_INFINITY);
        }
    }
    out
}

/// Segments by a rule of [`RULE`].
fn segments(rule: &str, entropies: &[f64], most: usize) -> Vec<usize> {
    match rule {
        "decreasing" => joined(entropies, most, |first, _, h| h <= 0.3 * first),
        "decreasing_v2" => joined(entropies, most, |_, largest, h| h < 0.05 || h < 0.3 * largest),
        "sliding" => joined(entropies, most, |_, _, h| h < entropy_at(0.7)),
        // What is hard stands alone, and so ends what is before it.
        _ => joined(entropies, most, |first, _, h| h.max(first) <= entropy_at(0.95)),
    }
}

impl Method for Hamburger {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        show::ready(on, &INFO, params)?;
        let rows = show::last_logits(on, &INFO, ctx)?;
        let n = on.tower()?.tokens.len();
        // Token i is foreseen at i − 1; nothing foresees the first.
        let mut entropies = Vec::with_capacity(n.saturating_sub(1));
        for i in 1..n {
            ctx.step(i, n)?;
            entropies.push(show::entropy(rows.row(i - 1)));
        }
        let sizes = segments(params.choice(&RULE), &entropies, params.count(&STEPS) as usize);
        let mut step = vec![None; n];
        let mut at = 1;
        for (s, size) in sizes.iter().enumerate() {
            step[at..at + size].fill(Some(s as f32));
            at += size;
        }
        let points = entropies.iter().enumerate().map(|(i, h)| [(i + 1) as f64, *h]).collect();
        let plot = Plot::new(
            "entropy before each token",
            Axis::Unit(Unit::Tokens(on.tower)),
            Measure::new("entropy", "nats"),
            vec![Series::new("entropy", Style::Line, points)],
        );
        let share = if entropies.is_empty() { 1.0 } else { sizes.len() as f64 / entropies.len() as f64 };
        Ok(Finding::of(Heat::new("step of each token", Unit::Tokens(on.tower), Measure::new("step", ""), step))
            .with(plot)
            .figure(Figure::new("steps", Datum::Count(sizes.len()), "segments; each is one step of the large model"))
            .figure(Figure::new(
                "steps per token",
                Datum::Share(share),
                "segments divided by tokens that are foreseen",
            )))
    }
}

/// Raw entry: `entropies_nats` and `max_steps` → segments by every rule.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let h: Vec<f64> = input.read("entropies_nats")?;
    let most = input.within("max_steps", 1..=1_000_000)?;
    let rules = ["decreasing", "decreasing_v2", "sliding", "small_group"];
    let all: Vec<Vec<usize>> = rules.iter().map(|rule| segments(rule, &h, most)).collect();
    let mut out = serde_json::Map::new();
    let mut share = serde_json::Map::new();
    for (rule, sizes) in rules.iter().zip(&all) {
        out.insert((*rule).into(), json!(sizes));
        share.insert((*rule).into(), json!(sizes.len() as f64 / h.len().max(1) as f64));
    }
    out.insert(
        "thresholds".into(),
        json!({ "small_group_default(conf0.95)": entropy_at(0.95), "sliding_default(conf0.7)": entropy_at(0.7) }),
    );
    out.insert("macro_steps_per_token".into(), share.into());
    Ok(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_by_hand() {
        let h = [1.0, 0.2, 0.3, 0.04, 2.0];
        assert_eq!(segments("decreasing", &h, 4), [4, 1]);
        assert_eq!(segments("decreasing", &h, 2), [2, 2, 1]);
        // 0.3 is not below 0.3 of the largest, 1.
        assert_eq!(segments("decreasing_v2", &h, 4), [2, 2, 1]);
        assert_eq!((segments("sliding", &h, 4), segments("small_group", &h, 4)), (vec![4, 1], vec![1, 3, 1]));
        assert!(segments("sliding", &[], 4).is_empty());
    }
}
