//! Low-confidence remasking: each step reveals its share of the block, the surest guesses first.
//!
//! Source: Nie et al. 2025, "Large Language Diffusion Models", arXiv 2502.09992; generate.py of the authors. Takes:
//! guesses and their probabilities. Gives: those that stay. Departs: see [`crate::decode::mask`]; their options that
//! hold end tokens back are not here.

use super::{Method, golden};
use crate::Result;
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::mask::{BLOCK, Commit, GUIDANCE, LENGTH, Masked, Reveal, TEMPERATURE};
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use serde_json::Value;

const STEPS: Param = Param::count("steps", "Steps for the whole text, spread evenly over its blocks", 1, 1024, 32);

static INFO: Info = Info {
    id: "llada_low_confidence",
    title: "Low-confidence remasking",
    summary: "Reveals the same number of tokens each step, those that the model is surest of.",
    family: "masked diffusion",
    basis: Basis::Authors { repo: "ML-GSAI/LLaDA", commit: "b7e6c35" },
    paper: Some(Paper {
        title: "Large Language Diffusion Models",
        authors: "Nie et al.",
        year: 2025,
        arxiv: "2502.09992",
    }),
    departs: "a mask is never a guess; no pass is spent on a block that is full; the options that hold end tokens back are left out",
    needs: &[Need::Fills],
    params: &[STEPS, LENGTH, BLOCK, TEMPERATURE, GUIDANCE, SEED],
    budget: Some(&STEPS),
    first: true,
    raw: &[Adapter { name: "llada_low_confidence", run: raw }],
    ..Info::of(Kind::Reveal)
};

pub(super) struct LowConfidence;

impl Method for LowConfidence {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn policy(&self, params: &Params) -> Box<dyn Reveal> {
        Box::new(Schedule { steps: params.count(&STEPS) as usize })
    }
}

struct Schedule {
    steps: usize,
}

impl Reveal for Schedule {
    fn reveal(&mut self, now: &Masked) -> Vec<Commit> {
        // Of the block's steps the first ones take one more where it does not go in evenly.
        let steps = (self.steps / now.n_blocks).max(1);
        let k = now.block_masks / steps + usize::from(now.step_in_block < now.block_masks % steps);
        // In the model's precision, as the authors do: there what is almost sure ties, and the first comes first.
        let sure: Vec<f32> = now.guesses.iter().map(|g| g.row.confidence_f32(g.id)).collect();
        let chosen = largest(&sure, k.max(1)).into_iter();
        chosen.map(|guess| Commit { guess, why: "among the surest" }).collect()
    }
}

/// Raw entry: the stub of the golden, `steps` for the whole text.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    golden::run(input, &mut Schedule { steps: input.read("steps")? }, ctx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::mask::Guess;
    use crate::decode::row::Row;

    #[test]
    fn a_block_of_five_in_two_steps_takes_three_and_two_of_the_surest() {
        let rows: Vec<Row> = [0.5, 0.9, 0.7, 0.9, 0.2].map(|p: f64| Row::Chances(vec![p, 1.0 - p])).to_vec();
        let guess = |i: usize| Guess { position: i, id: 0, confidence: 0.0, row: &rows[i] };
        let all: Vec<Guess> = (0..5).map(guess).collect();
        let pick = |guesses: &[Guess], step_in_block| {
            let now = Masked { guesses, step: step_in_block, step_in_block, block_masks: 5, n_blocks: 2 };
            Schedule { steps: 4 }.reveal(&now).iter().map(|c| c.guess).collect::<Vec<_>>()
        };
        assert_eq!((pick(&all, 0), pick(&all[..3], 1)), (vec![1, 3, 2], vec![1, 2]));
    }
}
