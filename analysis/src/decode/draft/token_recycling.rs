//! Token Recycling: drafts a static tree from a matrix of each token's latest top successors.
//!
//! Source: Luo et al. 2024, "Turning Trash into Treasure: Accelerating Inference of Large Language Models with
//! Token Recycling", arXiv 2408.08696. Takes: what the target says after every tree node. Gives: a tree per round.
//! Departs: none known. The paper decodes greedily; above temperature 0 the same tree is matched with what the target
//! samples.

use crate::ctx::Ctx;
use crate::decode::chance::{Chance, Seeded};
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Decode, Draft, NEW, Rules, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::toy::Markov;
use crate::decode::tree::Tree;
use crate::decode::verify::exact_match::ExactMatch;
use crate::decode::verify::{self, Verify};
use crate::decode::{Ended, Learnt, Method, SEED, With};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The paper's static tree of 80 nodes: a path per word, one digit per rank.
const TREE: &str = "0 1 2 3 4 5 6 7 00 01 02 03 04 05 06 07 10 11 12 13 20 21 22 30 31 40 50 60 70 000 001 002 003 004 \
    005 006 007 010 011 012 020 021 030 040 050 060 070 100 101 110 200 300 400 500 0000 0001 0002 0003 0004 0010 \
    0011 0020 0030 0040 0100 0200 1000 2000 3000 00000 00001 00002 00010 00020 00100 01000 10000 000000 000001 000100";

const WIDTH: Param = Param::count("successors", "Successors kept per token; the tree uses ranks below", 1, 8, 8);
const DEPTH: Param = Param::count("depth", "Deepest level of the tree", 1, 6, 6);

static INFO: Info = Info {
    id: "token_recycling",
    title: "Token recycling",
    summary: "Drafts a tree from the candidates that the target itself listed for each token when it last saw it.",
    family: "speculative",
    basis: Basis::Authors { repo: "Luowaterbi/TokenRecycling", commit: "1b4c05c" },
    paper: Some(Paper {
        title: "Turning Trash into Treasure: Accelerating Inference of Large Language Models with Token Recycling",
        authors: "Luo et al.",
        year: 2024,
        arxiv: "2408.08696",
    }),
    departs: "none known; above temperature 0, where the paper does not go, the tree is matched with what the target samples",
    needs: &[Need::Writes],
    params: &[NEW, WIDTH, DEPTH, verify::PUT, TEMPERATURE, TOP_K, TOP_P, SEED],
    raw: &[Adapter { name: "token_recycling", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct TokenRecycling;

impl Method for TokenRecycling {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let (k, deepest) = (params.count(&WIDTH) as usize, params.count(&DEPTH) as usize);
        let path = |w: &str| -> Vec<usize> { w.bytes().map(|b| usize::from(b - b'0')).collect() };
        let fits = |p: &Vec<usize>| p.len() <= deepest && p.iter().all(|r| *r < k);
        Ok(Box::new(Recycler::new(&TREE.split_whitespace().map(path).filter(fits).collect::<Vec<_>>(), k)?))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::PUT))
    }
}

/// A fixed tree, filled in from what the target said after each token when it last saw it.
struct Recycler {
    /// Per node of the tree: parent, 0 being the root, and rank among its parent's successors.
    nodes: Vec<(usize, usize)>,
    /// Successors kept per token.
    k: usize,
    /// Successors of the tokens seen so far. As with the authors, every other token is followed by token 0.
    successors: HashMap<u32, Vec<usize>>,
    /// Tokens whose successors the last round changed, with those before.
    changed: Vec<(u32, Vec<usize>)>,
}

/// Nodes of a tree at most; the authors' has 80.
const MAX_TREE: usize = 2000;

impl Recycler {
    /// A tree of paths such as `[0]`, `[0, 2]`. Errors if a path comes before its parent, or asks for a rank that is
    /// not kept.
    fn new(paths: &[Vec<usize>], k: usize) -> Result<Self> {
        if paths.len() > MAX_TREE {
            return Err(Error::invalid(format!(
                "tree_template has {} paths; at most {MAX_TREE} are read",
                paths.len()
            )));
        }
        let mut index: HashMap<&[usize], usize> = HashMap::from([(&[][..], 0)]);
        let mut nodes = Vec::new();
        for path in paths {
            let Some((&rank, above)) = path.split_last() else { continue };
            let parent = *index
                .get(above)
                .ok_or_else(|| Error::invalid(format!("tree path {path:?} comes before its parent")))?;
            if rank >= k {
                return Err(Error::invalid(format!("the tree asks for successor {rank} of {k}")));
            }
            nodes.push((parent, rank));
            index.insert(path, nodes.len());
        }
        Ok(Self { nodes, k, successors: HashMap::new(), changed: Vec::new() })
    }
}

impl Draft for Recycler {
    fn grow(&mut self, turn: &Turn, _: &mut dyn Chance, _: &Ctx) -> Result<Tree> {
        let mut tree = Tree::new(turn.root());
        for &(parent, rank) in &self.nodes {
            let known = self.successors.get(&tree.nodes()[parent].token);
            let token = known.and_then(|row| row.get(rank)).copied().unwrap_or(0);
            tree.push(parent, token as u32, None, None);
        }
        Ok(tree)
    }

    fn learn(&mut self, round: &Verified, _: &Ctx) -> Result<()> {
        self.changed.clear();
        for (node, row) in round.tree.nodes().iter().zip(round.rows) {
            let before = self.successors.insert(node.token, row.top(self.k)).unwrap_or_default();
            // Of a token that is there twice, what it had before the round.
            if self.changed.iter().all(|c| c.0 != node.token) {
                self.changed.push((node.token, before));
            }
        }
        self.changed.retain(|(token, before)| self.successors.get(token) != Some(before));
        Ok(())
    }

    fn learnt(&mut self) -> Vec<Learnt> {
        let ids = |row: &[usize]| row.iter().map(|&id| id as u32).collect();
        let one = |(token, before): (u32, Vec<usize>)| {
            let after = self.successors.get(&token).map_or_else(Vec::new, |row| ids(row));
            Learnt { token, before: ids(&before), after }
        };
        std::mem::take(&mut self.changed).into_iter().map(one).collect()
    }
}

/// Tokens that the raw entry writes at most.
const MAX_NEW: usize = 1 << 20;

/// Raw entry: an order-2 Markov model `T[prev, cur, next]` of logits, a prompt and a tree.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let mut target = Markov::second_order(input.array("T")?.clone(), "T")?;
    let k: usize = input.read_or("topk", 8)?;
    let mut draft = Recycler::new(&input.read::<Vec<Vec<usize>>>("tree_template")?, k)?;
    let prompt: Vec<u32> = input.read("prompt")?;
    let eos: Option<u32> = input.read_or("eos", None)?;
    let max_new: usize = input.read("max_new_tokens")?;
    let v = target.vocab();
    let Some((_, before)) = prompt.split_last().filter(|_| prompt.iter().all(|&x| (x as usize) < v)) else {
        return Err(Error::invalid("the prompt must hold ids of the vocabulary, at least one"));
    };
    if !(1..=MAX_NEW).contains(&max_new) {
        return Err(Error::invalid(format!("max_new_tokens must be from 1 to {MAX_NEW}")));
    }
    if k > v {
        return Err(Error::invalid(format!("topk is {k}, more than the vocabulary of {v}")));
    }
    target.read(before, ctx)?;
    // The authors count a round's root and accepted tokens, not the target's own last one, stop beyond `max_new`, and
    // do at most one round per token asked for.
    let rules = Rules { new: max_new + 2, rounds: max_new, temperature: 0.0, end: eos.into_iter().collect() };
    let whole = Decode { target, prompt: &prompt, draft: &mut draft, verify: &ExactMatch, rules };
    let run = whole.run(&mut Seeded::new(0), ctx, &mut |_| ())?;
    let mut text = before.to_vec();
    let (mut accept_lengths, mut rounds) = (Vec::new(), Vec::new());
    for r in &run.rounds {
        let accepted = r.accepted();
        accept_lengths.push(1 + accepted.len());
        text.push(r.root);
        text.extend(accepted);
        let tokens: Vec<u32> = [r.root].into_iter().chain(r.nodes.iter().map(|n| n.token)).collect();
        let argmax: Vec<u32> = [r.next].into_iter().chain(r.nodes.iter().map(|n| n.next)).collect();
        rounds.push(json!({ "tree_tokens": tokens, "argmax": argmax }));
    }
    let zeros = vec![0; k];
    let matrix: Vec<&Vec<usize>> = (0..v as u32).map(|id| draft.successors.get(&id).unwrap_or(&zeros)).collect();
    // An end token that would be the next root is a new token, but not part of the text; `steps` counts the rounds
    // that did not end it.
    let ended = usize::from(run.ended == Ended::OwnEnd);
    let steps = run.rounds.len() - usize::from(run.ended != Ended::Rounds);
    Ok(json!({
        "num_new": text.len() + ended - prompt.len(),
        "lossless_vs_greedy_ar": run.lossless.is_some_and(|(same, _)| same),
        "output_ids": text,
        "steps": steps,
        "accept_lengths": accept_lengths,
        "rounds": rounds,
        "final_matrix": matrix,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::row::Row;

    #[test]
    fn a_token_is_followed_by_what_was_listed_when_it_was_last_seen() {
        let mut recycler = Recycler::new(&[vec![0], vec![1], vec![1, 0]], 2).unwrap();
        let grow = |r: &mut Recycler| {
            let turn = Turn { text: &[5], room: 9, temperature: 0.0 };
            r.grow(&turn, &mut Seeded::new(0), &Ctx::default()).unwrap()
        };
        let blank = grow(&mut recycler);
        assert_eq!((blank.tokens(), blank.parents()), (vec![5, 0, 0, 0], vec![0, 0, 0, 2]));
        let row = |first: usize, second: usize| {
            Row::Logits(
                (0..9)
                    .map(|i| {
                        if i == first {
                            2.0
                        } else if i == second {
                            1.0
                        } else {
                            0.0
                        }
                    })
                    .collect(),
            )
        };
        // After 5 come 7 and 6; of the zeros the last row read stays.
        let rows = [row(7, 6), row(1, 2), row(3, 4), row(8, 5)];
        recycler.learn(&Verified { tree: &blank, rows: &rows, path: &[], own: 7 }, &Ctx::default()).unwrap();
        assert_eq!(recycler.successors[&0], [8, 5]);
        // What changed is told once, of the token that was there three times as it is in the end.
        let learnt = |token, after: [u32; 2]| Learnt { token, before: Vec::new(), after: after.to_vec() };
        assert_eq!(recycler.learnt(), [learnt(5, [7, 6]), learnt(0, [8, 5])]);
        recycler.learn(&Verified { tree: &blank, rows: &rows, path: &[], own: 7 }, &Ctx::default()).unwrap();
        assert!(recycler.learnt().is_empty());
        assert_eq!(grow(&mut recycler).tokens(), [5, 7, 6, 0]);
        assert!(Recycler::new(&[vec![0, 1]], 2).is_err() && Recycler::new(&[vec![2]], 2).is_err());
    }
}
