//! LocalLeap: what the model is sure of is revealed at once, and beside it what it is nearly sure of.
//!
//! Source: Kong et al. 2025, "Accelerating Diffusion LLM Inference via Local Determinism Propagation",
//! arXiv 2510.07081. Takes: guesses and their probabilities. Gives: those that stay. Departs: read in
//! silence1024/DAWN llada/generate.py, because the authors' repository is not available.

use super::{Method, golden};
use crate::Result;
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::mask::{BLOCK, Commit, GUIDANCE, LENGTH, Masked, Reveal, TEMPERATURE};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use serde_json::Value;

const SURE: Param = Param::number("threshold", "Probability from which a guess is an anchor and stays", 0.0, 1.0, 0.9);
const RELAXED: Param =
    Param::number("relaxed_threshold", "Probability from which a guess near an anchor stays", 0.0, 1.0, 0.75);
const RADIUS: Param = Param::count("radius", "Positions to either side that are near", 0, 64, 4);

static INFO: Info = Info {
    id: "localleap",
    title: "LocalLeap",
    summary: "Reveals what the model is sure of, and with a lower bar what lies near it.",
    family: "masked diffusion",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Accelerating Diffusion LLM Inference via Local Determinism Propagation",
        authors: "Kong et al.",
        year: 2025,
        arxiv: "2510.07081",
    }),
    departs: "the authors' code is not available; read in another project that carries it, with the same defaults",
    needs: &[Need::Fills],
    params: &[SURE, RELAXED, RADIUS, LENGTH, BLOCK, TEMPERATURE, GUIDANCE, SEED],
    budget: Some(&SURE),
    raw: &[Adapter { name: "localleap", run: raw }],
    ..Info::of(Kind::Reveal)
};

pub(super) struct LocalLeap;

impl Method for LocalLeap {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn policy(&self, params: &Params) -> Box<dyn Reveal> {
        let (sure, relaxed) = (params.number(&SURE), params.number(&RELAXED));
        Box::new(Leap { sure, relaxed, radius: params.count(&RADIUS) as usize })
    }
}

struct Leap {
    sure: f64,
    relaxed: f64,
    radius: usize,
}

impl Reveal for Leap {
    fn reveal(&mut self, now: &Masked) -> Vec<Commit> {
        let g = now.guesses;
        let anchors: Vec<usize> = g.iter().filter(|g| g.confidence >= self.sure).map(|g| g.position).collect();
        let surest = now.surest();
        let why = |(i, g): (usize, &crate::decode::mask::Guess)| {
            let near = anchors.iter().any(|a| a.abs_diff(g.position) <= self.radius);
            let why = match g.confidence {
                c if c >= self.sure => "an anchor",
                c if near && c >= self.relaxed => "near an anchor",
                _ if i == surest => "the surest",
                _ => return None,
            };
            Some(Commit { guess: i, why })
        };
        g.iter().enumerate().filter_map(why).collect()
    }
}

/// Raw entry: the stub of the golden with `threshold`, `relaxed_threshold`, `radius`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (sure, relaxed) = (input.read_or("threshold", 0.9)?, input.read_or("relaxed_threshold", 0.75)?);
    golden::run(input, &mut Leap { sure, relaxed, radius: input.read_or("radius", 4)? }, ctx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::mask::Guess;
    use crate::decode::row::Row;

    #[test]
    fn an_anchor_lowers_the_bar_for_those_near_it_and_one_always_stays() {
        let row = Row::Chances(vec![1.0]);
        let pick = |at: &[(usize, f64)]| {
            let guess = |&(position, confidence): &(usize, f64)| Guess { position, id: 0, confidence, row: &row };
            let guesses: Vec<Guess> = at.iter().map(guess).collect();
            let now = Masked { guesses: &guesses, step: 0, step_in_block: 0, block_masks: 9, n_blocks: 1 };
            let all = Leap { sure: 0.9, relaxed: 0.7, radius: 2 }.reveal(&now);
            all.iter().map(|c| (guesses[c.guess].position, c.why)).collect::<Vec<_>>()
        };
        // 5 is the anchor; 3 is near and sure enough, 7 is near and not, 8 is sure enough and not near.
        let got = pick(&[(3, 0.75), (5, 0.95), (7, 0.6), (8, 0.8)]);
        assert_eq!(got, [(3, "near an anchor"), (5, "an anchor")]);
        assert_eq!(pick(&[(3, 0.2), (4, 0.3), (5, 0.3)]), [(4, "the surest")]);
    }
}
