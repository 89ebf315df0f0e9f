//! A static tree of a drafter's most probable tokens, verified as a whole: how EAGLE, Chimera and FLASH draft.
//!
//! Source: Zeng et al. 2024, "Chimera: A Lossless Decoding Method for Accelerating Large Language Models Inference by
//! Fusing all Tokens", arXiv 2402.15758, whose tree and verification FLASH shares; kafkayu/Chimera model/utils.py and
//! choices.py. Takes: two models with one vocabulary. Gives: a tree per round. Departs: a small model drafts where the
//! authors trained a head. Lossless.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::decode::chance::{Chance, Seeded};
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::row::Row;
use crate::decode::small::{Small, put};
use crate::decode::tree::Tree;
use crate::decode::verify::exact_match::ExactMatch;
use crate::decode::verify::{self, Offer, Verify};
use crate::decode::{Method, SEED, With};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

/// The authors' tree (`mc_sim_7b_63`): ranks among the drafter's most probable tokens, a digit per level.
const TREE: &str = "0 1 2 3 00 01 02 10 11 20 21 30 000 001 002 010 011 020 021 100 0000 0001 0002 00000 00001";

const WIDTH: Param = Param::count("ranks", "Most probable tokens that the tree may use at a place", 1, 4, 4);
const DEPTH: Param = Param::count("depth", "Levels of the tree", 1, 5, 5);
const GROUP: Param =
    Param::count("group", "Tokens that a draft pass would give at once (FLASH); what passes cost", 1, 8, 1);

static INFO: Info = Info {
    id: "tree_greedy_verify",
    title: "Static tree",
    summary: "Fills a fixed tree with the small model's most probable tokens and accepts the longest right path.",
    family: "speculative",
    basis: Basis::Authors { repo: "kafkayu/Chimera", commit: "a4cd9f4" },
    paper: Some(Paper {
        title: "Chimera: A Lossless Decoding Method for Accelerating Large Language Models Inference by Fusing all Tokens",
        authors: "Zeng et al.",
        year: 2024,
        arxiv: "2402.15758",
    }),
    departs: "a small model drafts where the authors trained a head; guesses are put there, so that above temperature 0 \
              they are matched with what the target samples",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[WIDTH, DEPTH, GROUP, NEW, verify::PUT, TEMPERATURE, TOP_K, TOP_P, SEED],
    raw: &[Adapter { name: "tree_greedy_verify", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct StaticTree;

impl Method for StaticTree {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let of = |p| params.count(p) as usize;
        let (width, depth) = (of(&WIDTH), of(&DEPTH));
        let path = |w: &str| -> Vec<usize> { w.bytes().map(|b| usize::from(b - b'0')).collect() };
        let fits = |p: &Vec<usize>| p.len() <= depth && p.iter().all(|r| *r < width);
        let paths = TREE.split_whitespace().map(path).filter(fits).collect();
        Ok(Box::new(Filled { small: with.small(ctx)?, paths, depth, group: of(&GROUP) }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::PUT))
    }
}

struct Filled<O> {
    small: Small<O>,
    /// Ranks from the root, parents before children.
    paths: Vec<Vec<usize>>,
    depth: usize,
    group: usize,
}

impl<O: Oracle> Draft for Filled<O> {
    fn grow(&mut self, turn: &Turn, _: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        let mut ranks: Vec<Vec<usize>> = vec![Vec::new()];
        let mut tree = self.small.grow(turn, self.depth, ctx, &mut |tree, node, row| {
            let own = ranks[node].clone();
            let below: Vec<usize> = self
                .paths
                .iter()
                .filter(|p| p.split_last().is_some_and(|(_, above)| above == own))
                .map(|p| p[own.len()])
                .collect();
            let top = row.top(below.iter().max().map_or(0, |r| r + 1));
            let below: Vec<usize> = below.into_iter().filter(|r| *r < top.len()).collect();
            put(tree, node, row, &below.iter().map(|&r| top[r]).collect::<Vec<_>>(), turn.warmth());
            ranks.extend(below.into_iter().map(|r| [&own[..], &[r]].concat()));
        })?;
        tree.passes = tree.passes.div_ceil(self.group);
        Ok(tree)
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        self.small.learn(round, ctx)
    }
}

/// Raw entry: `candidates` `[paths, length]`, their first token being the last of the text and ids below 0 padding, and
/// the target's `logits` `[paths, length, vocab]` after each → the longest right path and the token after it.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (logits, [n, length, vocab]) = input.finite("logits")?;
    let candidates: Vec<Vec<i64>> = input.read("candidates")?;
    let fits =
        |c: &Vec<i64>| c.len() == length && c.iter().all(|x| *x < vocab as i64) && c.first().is_some_and(|x| *x >= 0);
    if n == 0 || length == 0 || vocab == 0 || candidates.len() != n || !candidates.iter().all(fits) {
        return Err(Error::invalid(format!(
            "candidates must be {n} paths of {length} ids below {vocab}, padded below 0"
        )));
    }
    let mut best: Option<(usize, usize, u32)> = None;
    for (i, path) in candidates.iter().enumerate() {
        ctx.check()?;
        let (tokens, own) = one(path, logits, i)?;
        if best.is_none_or(|b| tokens > b.1) {
            best = Some((i, tokens, own));
        }
    }
    let (path, tokens, own) = best.unwrap_or((0, 0, 0));
    Ok(json!({ "candidates": candidates, "best_candidate": path, "accept_length": tokens, "next_token": own }))
}

/// How many tokens of a path the target says itself, and its own token after them.
fn one(path: &[i64], logits: &Array, i: usize) -> Result<(usize, u32)> {
    let Some((tree, _)) = Tree::of_paths(&[path.to_vec()]) else {
        return Err(Error::invalid("candidates must begin with an id"));
    };
    let rows: Vec<Row> = (0..tree.len()).map(|d| Row::recorded(logits, i, d)).collect();
    let v = ExactMatch.verify(&Offer::new(&tree, &rows, 0.0), &mut Seeded::new(0));
    Ok((v.path.len(), v.own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::toy::Markov;

    #[test]
    fn the_tree_is_filled_with_ranks_of_what_the_small_model_says() {
        // After token i the most probable are i + 1, i + 2, … of four.
        let row = |i: usize| (0..4).map(|j| [0.1, 0.4, 0.3, 0.2][(j + 4 - i) % 4]).collect();
        let small = Markov::first_order((0..4).map(row).collect(), "Q").unwrap();
        let paths = vec![vec![0], vec![2], vec![0, 1], vec![2, 0]];
        let mut filled = Filled { small: Small(small), paths, depth: 2, group: 2 };
        let turn = Turn { text: &[0], room: 9, temperature: 0.0 };
        let tree = filled.grow(&turn, &mut Seeded::new(0), &Ctx::default()).unwrap();
        // Below 0: 1 and 3; below 1 its second, 3; below 3 its first, 0.
        assert_eq!((tree.tokens(), tree.parents()), (vec![0, 1, 3, 3, 0], vec![0, 0, 0, 1, 2]));
        assert_eq!(tree.passes, 1);
    }
}
