//! STAR: the tokens of a fine scale are fixed in several steps, few at first and more later.
//!
//! Source: Ma et al. 2024, "STAR: Scale-wise Text-conditioned AutoRegressive image generation", arXiv 2406.10797;
//! Davinci-XLab/STAR-T2I models/mask_utils.py. Takes: the side of a scale and a number of steps. Gives: how many tokens each
//! step fixes. Departs: none known; which tokens are surest is what the trained sampler says.

use super::super::Method;
use super::show::bars;
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding, Measure};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Result, Subject};
use serde_json::{Value, json};

const SIDE: Param = Param::count("side", "Tokens along a side of the scale", 1, 64, 16);
const STEPS: Param = Param::count("steps", "Steps in which they are fixed; random places in the first five", 1, 64, 8);

static INFO: Info = Info {
    id: "star_mask_schedule",
    title: "STAR schedule",
    summary: "Shows how many tokens of a fine scale each step fixes.",
    family: "decode orders",
    basis: Basis::Authors { repo: "Davinci-XLab/STAR-T2I", commit: "4ae4492" },
    paper: Some(Paper {
        title: "STAR: Scale-wise Text-conditioned AutoRegressive image generation",
        authors: "Ma et al.",
        year: 2024,
        arxiv: "2406.10797",
    }),
    departs: "the counts only: which tokens are fixed is what a trained sampler is surest of",
    params: &[SIDE, STEPS],
    budget: Some(&STEPS),
    raw: &[Adapter { name: "star_mask_schedule", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Star;

/// Tokens of each step: in proportion to `arccos` of a line from 1 to 0, at least one, the rest in the last step, which
/// may be short of none where there are more steps than tokens.
fn schedule(side: usize, steps: usize) -> Vec<i64> {
    let all = (side * side) as i64;
    let share = |k: usize| (1.0 - k as f64 / (steps.max(2) - 1) as f64).acos() / std::f64::consts::FRAC_PI_2;
    let shares: Vec<f64> = (0..steps).map(share).collect();
    let sum: f64 = shares.iter().sum();
    let own = |s: &f64| if sum > 0.0 { ((s / sum * all as f64).round_ties_even() as i64).max(1) } else { 1 };
    let mut out: Vec<i64> = shares.iter().map(own).collect();
    let rest = all - out.iter().sum::<i64>();
    out.iter_mut().last().into_iter().for_each(|last| *last += rest);
    out
}

impl Method for Star {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let (side, steps) = (params.count(&SIDE) as usize, params.count(&STEPS) as usize);
        let counts = schedule(side, steps);
        let mut out = Finding::of(bars(
            "tokens fixed together",
            "step",
            Measure::new("tokens", ""),
            counts.iter().map(|n| *n as f64),
        ));
        if counts.iter().any(|n| *n <= 0) {
            out.notes
                .push("there are more steps than the scale has tokens: the last ones take back what is missing".into());
        }
        Ok(out.figure(Figure::new("tokens", Datum::Count(side * side), "tokens of the scale")))
    }
}

/// Raw entry: `side` and `steps` → tokens of each step.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let (side, steps) = (input.within("side", 1..=4096)?, input.within("steps", 1..=10_000)?);
    let counts = schedule(side, steps);
    Ok(json!({ "total": counts.iter().sum::<i64>(), "tokens_per_step": counts }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_grow_and_add_up() {
        // arccos of 1, 1/2, 0 is 0, 2/3, 1 of a right angle: of 9 none, 3.6 and 5.4, so 1, 4 and the rest.
        assert_eq!(schedule(3, 3), [1, 4, 4]);
        assert_eq!((schedule(4, 1), schedule(1, 3)), (vec![16], vec![1, 1, -1]));
    }
}
