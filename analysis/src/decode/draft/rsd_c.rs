//! RSD-C: a tree of fixed widths whose siblings are drawn without replacement.
//!
//! Source: Jeon et al. 2024, "Recursive Speculative Decoding: Accelerating LLM Inference via Sampling Without
//! Replacement", arXiv 2402.14160. Takes: two models with one vocabulary. Gives: a tree per round. Departs: own reading of
//! the paper, whose code is not public. Lossless.

use crate::ctx::Ctx;
use crate::decode::chance::{Chance, Recorded};
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::small::Small;
use crate::decode::toy::Markov;
use crate::decode::tree::Tree;
use crate::decode::verify::{self, Verify};
use crate::decode::{Method, SEED, With};
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

const WIDTHS: Param =
    Param::schedule("widths", "Tokens drawn below each one, level by level", 1.0, 16.0, &[3.0, 2.0, 1.0]);

static INFO: Info = Info {
    id: "rsd_c",
    title: "RSD-C",
    summary: "Draws several different tokens at each place of a tree of fixed widths.",
    family: "speculative",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Recursive Speculative Decoding: Accelerating LLM Inference via Sampling Without Replacement",
        authors: "Jeon et al.",
        year: 2024,
        arxiv: "2402.14160",
    }),
    departs: "own reading of the paper, whose code is not public; greedy decodes take the most probable tokens; a tree ends \
              at 256 guesses",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[WIDTHS, NEW, verify::DRAWN, TEMPERATURE, TOP_K, TOP_P, SEED],
    raw: &[Adapter { name: "rsd_c", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct RsdC;

impl Method for RsdC {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let widths = params.schedule(&WIDTHS).iter().map(|w| w.round() as usize).collect();
        Ok(Box::new(Fixed { small: with.small(ctx)?, widths }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::DRAWN))
    }
}

struct Fixed<O> {
    small: Small<O>,
    /// Of each level.
    widths: Vec<usize>,
}

impl<O: Oracle> Draft for Fixed<O> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        self.small.grow(turn, self.widths.len(), ctx, &mut |tree, node, row| {
            let (q, width) = (row.distribution(turn.warmth()), self.widths[tree.nodes()[node].depth]);
            let drawn = if turn.temperature == 0.0 { largest(&q, width) } else { chance.draw_some(&q, width) };
            let mut left = 1.0;
            for x in drawn {
                tree.push(node, x as u32, Some((q[x] / left).min(1.0)), None);
                left -= q[x];
            }
            tree.draws_from(node, q);
        })
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        self.small.learn(round, ctx)
    }
}

/// Raw entry: an order-1 Markov draft, a context, widths by level, and a list of uniforms per expanded node → the tree.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let table = input.table("draft")?;
    let v = table.len();
    let small = Markov::first_order(table, "draft")?;
    let start = input.within("ctx", 0..=v - 1)?;
    let widths: Vec<usize> = input.read("branching")?;
    let (mut level, mut all) = (1usize, 0usize);
    for w in &widths {
        level = level.saturating_mul(*w.min(&v));
        all = all.saturating_add(level);
    }
    if widths.len() > 64 || all > crate::decode::small::MAX_NODES || widths.contains(&0) {
        return Err(Error::invalid("branching must be widths from 1, of a tree of at most 256 guesses"));
    }
    let uniforms: Vec<Vec<f64>> = input.read("uniforms")?;
    if uniforms.iter().any(|u| u.len() != v || u.iter().any(|u| !(0.0..1.0).contains(u))) {
        return Err(Error::invalid("uniforms must be numbers from 0 to 1, one per entry of the vocabulary"));
    }
    let mut chance = Recorded::keys(uniforms.into_iter().flatten());
    let turn = Turn { text: &[start as u32], room: usize::MAX, temperature: 1.0 };
    let tree = Fixed { small: Small(small), widths }.grow(&turn, &mut chance, ctx)?;
    chance.check()?;
    let mut order = vec![0; tree.len()];
    let nodes: Vec<Value> = (1..tree.len())
        .map(|i| {
            let n = &tree.nodes()[i];
            let at = order[n.parent];
            order[n.parent] += 1;
            let q = tree.drawn_from(n.parent).map(|q| q[n.token as usize]);
            json!({ "id": i, "parent": n.parent, "token": n.token, "depth": n.depth, "order": at, "q_unconditional": q,
                "q_conditional_without_replacement": n.p_draft })
        })
        .collect();
    Ok(json!({ "num_nodes": nodes.len(), "nodes": nodes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::chance::every;
    use crate::decode::engine::{Decode, Rules};
    use crate::decode::verify::recursive_rejection::RecursiveRejection;
    use std::collections::BTreeMap;

    /// Every way in which a tree of widths 2 and 2 can be drawn and verified.
    #[test]
    fn two_tokens_are_exactly_distributed_as_the_targets() {
        let (p, q) = (
            vec![vec![0.6, 0.3, 0.1], vec![0.1, 0.2, 0.7], vec![0.3, 0.4, 0.3]],
            vec![vec![0.2, 0.7, 0.1], vec![0.5, 0.25, 0.25], vec![0.6, 0.2, 0.2]],
        );
        let (target, small) = (Markov::first_order(p.clone(), "P").unwrap(), Markov::first_order(q, "Q").unwrap());
        let rules = Rules { new: 2, rounds: 9, temperature: 1.0, end: Vec::new() };
        let all = every(1_000_000, |chance| {
            let mut draft = Fixed { small: Small(small.clone()), widths: vec![2, 1] };
            let verify = &RecursiveRejection;
            let one = Decode { target: target.clone(), prompt: &[0], draft: &mut draft, verify, rules: rules.clone() };
            Ok(one.run(chance, &Ctx::default(), &mut |_| ())?.output())
        });
        let mut seen = BTreeMap::<Vec<u32>, f64>::new();
        all.unwrap().into_iter().for_each(|(text, w)| *seen.entry(text).or_default() += w);
        for (text, got) in seen {
            let (a, b) = (text[0] as usize, text[1] as usize);
            assert!((got - p[0][a] * p[a][b]).abs() < 1e-9, "{text:?}: {got}");
        }
    }
}
