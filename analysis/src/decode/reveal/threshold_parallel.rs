//! Threshold decoding: each step reveals every guess that the model is sure enough of, and the surest in any case.
//!
//! Source: Wu et al. 2025, "Fast-dLLM", arXiv 2505.22618. Takes: guesses and their probabilities. Gives: those that
//! stay. Departs: see [`Info::departs`].

use super::{Method, golden};
use crate::Result;
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::mask::{BLOCK, Commit, GUIDANCE, LENGTH, Masked, Reveal, TEMPERATURE};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use serde_json::Value;

const THRESHOLD: Param = Param::number("threshold", "Probability from which a guess stays", 0.0, 1.0, 0.9);

static INFO: Info = Info {
    id: "threshold_parallel",
    title: "Threshold decoding",
    summary: "Reveals all guesses whose probability reaches a threshold, at least the surest one.",
    family: "masked diffusion",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Fast-dLLM: Training-free Acceleration of Diffusion LLM by Enabling KV Cache and Parallel Decoding",
        authors: "Wu et al.",
        year: 2025,
        arxiv: "2505.22618",
    }),
    departs: "the paper's cache of keys and values between steps is left out: every pass reads the whole text; read in \
              another project that carries the rule",
    needs: &[Need::Fills],
    params: &[THRESHOLD, LENGTH, BLOCK, TEMPERATURE, GUIDANCE, SEED],
    budget: Some(&THRESHOLD),
    raw: &[Adapter { name: "threshold_parallel", run: raw }],
    ..Info::of(Kind::Reveal)
};

pub(super) struct ThresholdParallel;

impl Method for ThresholdParallel {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn policy(&self, params: &Params) -> Box<dyn Reveal> {
        Box::new(Sure { threshold: params.number(&THRESHOLD) })
    }
}

struct Sure {
    threshold: f64,
}

impl Reveal for Sure {
    fn reveal(&mut self, now: &Masked) -> Vec<Commit> {
        let g = now.guesses;
        let surest = now.surest();
        let why = |i: usize| match g[i].confidence >= self.threshold {
            true => Some(Commit { guess: i, why: "sure enough" }),
            false => (i == surest).then_some(Commit { guess: i, why: "the surest" }),
        };
        (0..g.len()).filter_map(why).collect()
    }
}

/// Raw entry: the stub of the golden with `threshold`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    golden::run(input, &mut Sure { threshold: input.read_or("threshold", 0.9)? }, ctx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::mask::Guess;
    use crate::decode::row::Row;

    #[test]
    fn all_that_reach_the_bar_stay_and_below_it_the_first_of_the_surest() {
        let row = Row::Chances(vec![1.0]);
        let pick = |sure: &[f64]| {
            let guess = |(position, &confidence)| Guess { position, id: 0, confidence, row: &row };
            let guesses: Vec<Guess> = sure.iter().enumerate().map(guess).collect();
            let now = Masked { guesses: &guesses, step: 0, step_in_block: 0, block_masks: 9, n_blocks: 1 };
            let all = Sure { threshold: 0.7 }.reveal(&now);
            all.iter().map(|c| (c.guess, c.why)).collect::<Vec<_>>()
        };
        assert_eq!(pick(&[0.9, 0.6, 0.7]), [(0, "sure enough"), (2, "sure enough")]);
        assert_eq!(pick(&[0.2, 0.5, 0.5]), [(1, "the surest")]);
        // A guess without a probability is never surer than another.
        assert_eq!(pick(&[f64::NAN, f64::NAN]), [(0, "the surest")]);
    }
}
