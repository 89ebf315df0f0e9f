//! dParallel: each step reveals every guess at a place of low entropy, and the lowest in any case.
//!
//! Source: Chen et al. 2025, "dParallel: Learnable Parallel Decoding for dLLMs", arXiv 2509.26488; czg1225/dParallel
//! LLaDA/generate.py. Takes: what the model says at each masked place. Gives: guesses that stay. Departs: see
//! [`crate::decode::mask`]; the distillation that makes models sure earlier is training.

use super::{Method, golden};
use crate::Result;
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::mask::{BLOCK, Commit, GUIDANCE, Guess, LENGTH, Masked, Reveal, TEMPERATURE};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use serde_json::Value;

const BAR: Param = Param::number("entropy_threshold", "Entropy in nats up to which a guess stays", 0.0, 8.0, 0.5);

static INFO: Info = Info {
    id: "dparallel_entropy",
    title: "Entropy threshold",
    summary: "Reveals all guesses at places of low entropy, at least the one of the lowest.",
    family: "masked diffusion",
    basis: Basis::Authors { repo: "czg1225/dParallel", commit: "2ca4d14" },
    paper: Some(Paper {
        title: "dParallel: Learnable Parallel Decoding for dLLMs",
        authors: "Chen et al.",
        year: 2025,
        arxiv: "2509.26488",
    }),
    departs: "the rule without the distilled model that it was made for",
    needs: &[Need::Fills],
    params: &[BAR, LENGTH, BLOCK, TEMPERATURE, GUIDANCE, SEED],
    budget: Some(&BAR),
    raw: &[Adapter { name: "dparallel_entropy", run: raw }],
    ..Info::of(Kind::Reveal)
};

pub(super) struct DParallel;

impl Method for DParallel {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn policy(&self, params: &Params) -> Box<dyn Reveal> {
        Box::new(LowEntropy { bar: params.number(&BAR) })
    }
}

struct LowEntropy {
    bar: f64,
}

/// As the authors compute it, with a little added inside of the logarithm.
fn entropy(g: &Guess) -> f64 {
    -g.row.distribution(1.0).iter().map(|p| p * (p + 1e-12).ln()).sum::<f64>()
}

impl Reveal for LowEntropy {
    fn reveal(&mut self, now: &Masked) -> Vec<Commit> {
        let all: Vec<f64> = now.guesses.iter().map(entropy).collect();
        let lowest = (0..all.len()).fold(0, |b, i| if all[i] < all[b] { i } else { b });
        let why = |i: usize| match all[i] <= self.bar {
            true => Some(Commit { guess: i, why: "low entropy" }),
            false => (i == lowest).then_some(Commit { guess: i, why: "the lowest entropy" }),
        };
        (0..all.len()).filter_map(why).collect()
    }
}

/// Raw entry: the stub of the golden with `entropy_threshold`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    golden::run(input, &mut LowEntropy { bar: input.read_or("entropy_threshold", 0.5)? }, ctx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::row::Row;

    #[test]
    fn low_entropies_stay_and_the_lowest_in_any_case() {
        // 0.587 nats and 0.647: the second is nearer to a coin.
        let rows = [Row::Chances(vec![0.85, 0.05, 0.05, 0.05]), Row::Chances(vec![0.65, 0.35, 0.0, 0.0])];
        let guesses: Vec<Guess> =
            rows.iter().enumerate().map(|(position, row)| Guess { position, id: 0, confidence: 0.0, row }).collect();
        let now = Masked { guesses: &guesses, step: 0, step_in_block: 0, block_masks: 2, n_blocks: 1 };
        let pick = |bar| LowEntropy { bar }.reveal(&now).iter().map(|c| c.guess).collect::<Vec<_>>();
        assert!((entropy(&guesses[1]) - 0.647).abs() < 1e-3 && (entropy(&guesses[0]) - 0.587).abs() < 1e-3);
        assert_eq!((pick(0.6), pick(0.7), pick(0.1)), (vec![0], vec![0, 1], vec![0]));
    }
}
