//! LLMCad: the small model drafts until its confidence in all of the draft falls below a bar that moves with success.
//!
//! Source: Xu et al. 2023, "LLMCad: Fast and Scalable On-device Large Language Model Inference", arXiv 2309.04255; lexical units
//! of Sun et al. 2024, "Decoding at the Speed of Thought", arXiv 2405.15208, in the raw entry. Takes: two models with one
//! vocabulary. Gives: a chain per round. Departs: the constants are recalled from the papers, whose code is not public; the
//! chain that its tree's best path is; verification does not overlap with drafting. Lossless.

use crate::ctx::Ctx;
use crate::decode::chance::Chance;
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::small::Small;
use crate::decode::tree::Tree;
use crate::decode::verify::{self, Verify};
use crate::decode::{Method, SEED, With};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

const ALPHA: Param = Param::number(
    "initial_alpha",
    "Confidence of the whole draft below which it is verified, at first",
    0.0001,
    1.0,
    0.01,
);
const MOST: Param = Param::count("most", "Tokens drafted at most", 1, 32, 16);

static INFO: Info = Info {
    id: "llmcad_lud",
    title: "LLMCad",
    summary: "Drafts while the small model is confident in all of its draft, with a bar that falls after successes.",
    family: "speculative",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "LLMCad: Fast and Scalable On-device Large Language Model Inference",
        authors: "Xu et al.",
        year: 2023,
        arxiv: "2309.04255",
    }),
    departs: "constants recalled from the paper, whose code is not public; the best path of its tree alone; drafting does not \
              go on while the target verifies",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[ALPHA, MOST, NEW, verify::DRAWN, TEMPERATURE, TOP_K, TOP_P, SEED],
    budget: Some(&MOST),
    raw: &[Adapter { name: "llmcad_lud", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct LlmCad;

impl Method for LlmCad {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let bar = Bar { alpha: params.number(&ALPHA), most: params.count(&MOST) as usize };
        Ok(Box::new(Confident { small: with.small(ctx)?, bar }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::DRAWN))
    }
}

/// When a draft is verified.
#[derive(Debug, Clone, Copy)]
struct Bar {
    alpha: f64,
    most: usize,
}

impl Bar {
    /// Whether a draft of `n` tokens with this confidence is long enough.
    fn reached(&self, n: usize, confidence: f64) -> bool {
        n >= self.most || confidence < self.alpha
    }

    /// Half where all was right, double where not.
    fn learn(&mut self, all_right: bool) {
        self.alpha *= if all_right { 0.5 } else { 2.0 };
    }
}

struct Confident<O> {
    small: Small<O>,
    bar: Bar,
}

impl<O: Oracle> Draft for Confident<O> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        let mut confidence = 1.0;
        let bar = self.bar;
        self.small.grow(turn, bar.most, ctx, &mut |tree, node, row| {
            if node > 0 && bar.reached(node, confidence) {
                return;
            }
            let (x, q) = turn.draw(row, chance);
            confidence *= q[x];
            tree.push(node, x as u32, Some(q[x]), Some(confidence));
            tree.draws_from(node, q);
        })
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        self.bar.learn(round.path.len() + 1 == round.tree.len());
        self.small.learn(round, ctx)
    }
}

/// Lengths of lexical units: a token and those after it that are at least so probable, `most` together.
fn units(p: &[f64], threshold: f64, most: usize) -> Vec<usize> {
    let mut out: Vec<usize> = Vec::new();
    for p in p {
        match out.last_mut().filter(|n| *p >= threshold && **n < most) {
            Some(n) => *n += 1,
            None => out.push(1),
        }
    }
    out
}

/// Raw entry: confidences of drafts in order, how many of each round were right, `initial_alpha` → the rounds; `lud_probs`
/// → lexical units.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let confidences: Vec<f64> = input.read("draft_confidences")?;
    let right: Vec<usize> = input.read("correct_counts")?;
    let mut bar = Bar { alpha: input.read("initial_alpha")?, most: input.read_or("max_draft", 16)? };
    let p: Vec<f64> = input.read("lud_probs")?;
    let (threshold, most): (f64, usize) = (input.read("lud_threshold")?, input.within("lud_max", 1..=1 << 20)?);
    if bar.most == 0 || !bar.alpha.is_finite() || bar.alpha <= 0.0 {
        return Err(Error::invalid("initial_alpha must be above 0, and max_draft at least 1"));
    }
    let (mut rounds, mut rest) = (Vec::new(), confidences.as_slice());
    for given in right {
        let (mut n, mut confidence) = (0, 1.0);
        while n < rest.len() && !(n > 0 && bar.reached(n, confidence)) {
            confidence *= rest[n];
            n += 1;
        }
        if n == 0 {
            break;
        }
        rest = &rest[n..];
        let own = given.min(n);
        rounds.push(json!({ "alpha": bar.alpha, "drafted": n, "cumulative_confidence": confidence, "correct": own }));
        bar.learn(own == n);
    }
    let units = units(&p, threshold, most);
    Ok(json!({
        "rounds": rounds,
        "lud_steps": units.len(),
        "lud_speedup_steps": if units.is_empty() { 1.0 } else { p.len() as f64 / units.len() as f64 },
        "lud_units": units,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_moves_and_units_join_what_is_sure() {
        let mut bar = Bar { alpha: 0.5, most: 3 };
        assert!(!bar.reached(2, 0.5) && bar.reached(1, 0.4) && bar.reached(3, 1.0));
        bar.learn(false);
        assert_eq!(bar.alpha, 1.0);
        bar.learn(true);
        assert_eq!(bar.alpha, 0.5);
        assert_eq!(units(&[0.9, 0.2, 0.95, 0.9, 0.9, 0.1], 0.9, 3), [1, 3, 1, 1]);
    }
}
