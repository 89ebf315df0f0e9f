//! Kangaroo: the target drafts by itself, from an early layer, as long as it is sure.
//!
//! Source: Liu et al. 2024, "Kangaroo: Lossless Self-Speculative Decoding via Double Early Exiting", arXiv 2404.18911;
//! Equationliu/Kangaroo evaluation/inference_kangaroo.py. Takes: a model. Gives: a chain per round. Departs: live, the logit
//! lens stands in for the trained adapter, and drafts cost whole passes. Lossless.

use crate::ctx::Ctx;
use crate::decode::chance::{Chance, Seeded};
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Decode, Draft, NEW, Rules, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::small::Small;
use crate::decode::toy::Clock;
use crate::decode::tree::Tree;
use crate::decode::verify::exact_match::ExactMatch;
use crate::decode::verify::{self, Verify};
use crate::decode::{Method, SEED, With};
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params, Role};
use crate::raw::{Adapter, RawInput};
use crate::trace::Tower;
use crate::{Error, Result};
use serde_json::{Value, json};

const LAYER: Param = Param::layer_of("exit_layer", "Layer behind which drafts are made", Tower::Text, LayerPick::At(1));
const STEPS: Param = Param::count("steps", "Tokens drafted at most", 1, 16, 6);
const SURE: Param =
    Param::share("threshold", "Drafting stops behind a token of lower probability, which is still verified", 0.6);

static INFO: Info = Info {
    id: "kangaroo",
    title: "Kangaroo",
    summary: "Lets the model draft from an early layer, as long as it is sure there, and verifies with all layers.",
    family: "speculative",
    basis: Basis::Authors { repo: "Equationliu/Kangaroo", commit: "4f0949d" },
    role: Role::StandIn,
    paper: Some(Paper {
        title: "Kangaroo: Lossless Self-Speculative Decoding via Double Early Exiting",
        authors: "Liu et al.",
        year: 2024,
        arxiv: "2404.18911",
    }),
    departs: "the logit lens stands in for the trained adapter, and its drafts cost whole passes where the authors go on from \
              the early layer",
    needs: &[Need::Writes],
    params: &[LAYER, STEPS, SURE, NEW, verify::DRAWN, TEMPERATURE, TOP_K, TOP_P, SEED],
    budget: Some(&STEPS),
    raw: &[Adapter { name: "kangaroo", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct Kangaroo;

impl Method for Kangaroo {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let model = with.on.weights(with.info)?;
        let layers = model.info().towers.get(&Tower::Text).map_or(0, |t| t.n_layers);
        let early = with.early(params.one_layer(&LAYER, layers)?, ctx)?;
        let (steps, sure) = (params.count(&STEPS) as usize, params.share(&SURE));
        Ok(Box::new(Early { small: Small(early), steps, sure, noted: Vec::new() }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::DRAWN))
    }
}

/// A chain that ends behind the first guess that is not sure enough.
struct Early<O> {
    small: Small<O>,
    steps: usize,
    sure: f64,
    /// Every guess so far: place, token before, token, its probability.
    noted: Vec<(usize, u32, u32, f64)>,
}

impl<O: Oracle> Draft for Early<O> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        let mut tree = Tree::new(turn.root());
        let mut own = self.small.0.clone();
        let mut last = turn.root();
        for at in 0..self.steps.min(turn.room) {
            ctx.check()?;
            let row = own.read(&[last], ctx)?.pop().ok_or_else(|| Error::invalid("the model gave no logits"))?;
            let (x, q) = turn.draw(&row, chance);
            self.noted.push((turn.text.len() - 1 + at, last, x as u32, q[x]));
            last = x as u32;
            tree.push(at, last, Some(q[x]), None);
            let stop = q.iter().copied().fold(0.0, f64::max) < self.sure;
            tree.draws_from(at, q);
            tree.passes += 1;
            if stop {
                break;
            }
        }
        Ok(tree)
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        self.small.learn(round, ctx)
    }
}

/// Raw entry: stubs by place and token of the target and of its early exit, `[period, vocab, vocab]` logits each.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let mut target = Clock::new(input.array("target_logits")?.clone(), "target_logits")?;
    let mut early = Clock::new(input.array("early_logits")?.clone(), "early_logits")?;
    let mut prompt: Vec<u32> = input.read("prompt")?;
    let eos: Option<u32> = input.read_or("eos", None)?;
    let (most, steps) = (input.within("max_new_tokens", 0..=1 << 16)?, input.within("steps", 1..=1 << 10)?);
    let sure: f64 = input.read_or("threshold", 0.6)?;
    if early.vocab() != target.vocab() || prompt.is_empty() || prompt.iter().any(|x| *x as usize >= target.vocab()) {
        return Err(Error::invalid(
            "target_logits and early_logits must be of one vocabulary, prompt ids of it, not empty",
        ));
    }
    let n = prompt.len();
    early.read(&prompt, ctx)?;
    // The prompt's own pass gives the first token.
    let first = target.read(&prompt, ctx)?.last().map_or(0, |r| r.best()) as u32;
    prompt.push(first);
    // A round begins as long as its last token stands before this place; the last one may go beyond.
    let limit = (n + most).saturating_sub(1 + steps);
    let mut draft = Early { small: Small(early), steps, sure, noted: Vec::new() };
    let rules =
        Rules { new: limit + 2 * steps + 2, rounds: most + 1, temperature: 0.0, end: eos.into_iter().collect() };
    let whole = Decode { target, prompt: &prompt, draft: &mut draft, verify: &ExactMatch, rules };
    let run = whole.run(&mut Seeded::new(0), ctx, &mut |_| ())?;
    let (mut text, mut accepts, mut verified, mut drafted) = (prompt.clone(), vec![1], Vec::new(), 0);
    for round in &run.rounds {
        if text.len() > limit {
            break;
        }
        let ends = round.emitted.iter().position(|x| Some(*x) == eos).map(|i| i + 1);
        let kept = &round.emitted[..ends.unwrap_or(round.emitted.len())];
        text.extend(kept);
        accepts.push(kept.len());
        verified.push(round.nodes.len() + 1);
        drafted += round.nodes.len();
        if ends.is_some() {
            break;
        }
    }
    let reference = run.reference.unwrap_or_default();
    let same = text[n + 1..].iter().zip(&reference).all(|(a, b)| a == b);
    Ok(json!({
        "output": text,
        "accept_lengths": accepts,
        "verified_features_per_round": verified,
        "lossless_vs_greedy": same,
        "drafted(pos,token_in,token_out,top_prob)": &draft.noted[..drafted],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::toy::Markov;

    #[test]
    fn a_guess_that_is_not_sure_is_the_last_one() {
        let small = Markov::first_order(vec![vec![0.1, 0.9], vec![0.6, 0.4]], "Q").unwrap();
        let mut early = Early { small: Small(small), steps: 5, sure: 0.7, noted: Vec::new() };
        let turn = Turn { text: &[0], room: 9, temperature: 0.0 };
        let tree = early.grow(&turn, &mut Seeded::new(0), &Ctx::default()).unwrap();
        assert_eq!((tree.tokens(), early.noted[1]), (vec![0, 1, 0], (1, 1, 0, 0.6)));
    }
}
