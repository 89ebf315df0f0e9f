//! How a target makes up its mind about a tree of guesses: which path it accepts, and its own token after it.

pub mod exact_match;
pub mod grouped;
pub mod k_seq;
pub mod neighbours;
pub mod recursive_rejection;
pub mod typical;
pub mod walk;
pub mod with_replacement;

use super::chance::Chance;
use super::row::Row;
use super::tree::Tree;
use crate::math::largest;
use crate::method::{Param, Params};
use rayon::prelude::*;
use serde::Serialize;
use std::cell::Cell;

/// What a verifier is shown.
pub struct Offer<'a> {
    /// The guesses.
    pub tree: &'a Tree,
    /// What the target says after each node.
    pub rows: &'a [Row],
    /// 0 decodes greedily.
    pub temperature: f64,
    /// The most probable id after each node.
    best: Vec<usize>,
    /// Per node: the target's probability of it, once it was worked out.
    p: Vec<Cell<Option<f64>>>,
}

/// Entries of rows from which on several threads look at them.
const MANY: usize = 1 << 18;

/// `f` of each row of `of`, by several threads where that is much work.
fn each<T: Send>(rows: &[Row], of: &[usize], f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    match of.len() * rows.first().map_or(0, Row::len) < MANY {
        true => of.iter().map(|&i| f(i)).collect(),
        false => of.par_iter().map(|&i| f(i)).collect(),
    }
}

impl<'a> Offer<'a> {
    /// Guesses, with what the target says after each node of the tree.
    pub fn new(tree: &'a Tree, rows: &'a [Row], temperature: f64) -> Self {
        let all: Vec<usize> = (0..rows.len()).collect();
        let best = each(rows, &all, |i| rows[i].best());
        Self { tree, rows, temperature, best, p: vec![Cell::new(None); tree.len()] }
    }

    /// The target's distribution `[vocab]` after a node.
    pub fn target(&self, node: usize) -> Vec<f64> {
        let p = self.rows[node].distribution(self.temperature);
        if self.temperature > 0.0 {
            for child in self.tree.children(node) {
                let x = self.tree.nodes()[child].token as usize;
                self.p[child].set(p.get(x).copied());
            }
        }
        p
    }

    /// The target's most probable id after a node.
    pub fn best(&self, node: usize) -> usize {
        self.best[node]
    }

    /// The target's probability of each guess, at temperature 1 where it decodes greedily; the root has none. What was
    /// worked out before is not worked out again.
    pub fn shares(&self) -> Vec<Option<f64>> {
        let token = |i: usize| self.tree.nodes()[i].token;
        let mut out: Vec<Option<f64>> = self.p.iter().map(Cell::get).collect();
        let lacks = |&at: &usize| self.tree.children(at).any(|c| out[c].is_none());
        let at: Vec<usize> = (0..self.rows.len().min(self.tree.len())).filter(lacks).collect();
        let warmth = if self.temperature == 0.0 { 1.0 } else { self.temperature };
        let (tree, rows) = (self.tree, self.rows);
        let all = each(rows, &at, |i| rows[i].probabilities(tree.children(i).map(token), warmth));
        for (&at, p) in at.iter().zip(all) {
            tree.children(at).zip(p).for_each(|(child, p)| out[child] = Some(p));
        }
        self.p.iter().zip(&out).for_each(|(cell, p)| cell.set(*p));
        out
    }
}

/// What verification made of a tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Accepted nodes from the root, left out, downwards.
    pub path: Vec<usize>,
    /// The token after the last accepted node, from the target.
    pub own: u32,
    /// What that token was drawn from: its most probable ids with their probabilities, the most probable first. Where
    /// guesses were refused before it, that is what they left.
    pub from: Vec<(u32, f64)>,
    /// Per node: the probability with which it is accepted once it is looked at; the root's says nothing.
    pub accept: Vec<f64>,
    /// Per node: whether it was looked at.
    pub looked: Vec<bool>,
}

/// Ids that are kept of a distribution.
const KEPT: usize = 12;

/// The most probable ids of a distribution `[vocab]`, those that are possible at all.
pub fn likely(p: &[f64]) -> Vec<(u32, f64)> {
    largest(p, KEPT).into_iter().filter(|&i| p[i] > 0.0).map(|i| (i as u32, p[i])).collect()
}

/// What is certain about a text that was verified so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// At temperature 0 it is the target's own greedy text; above, it is distributed as the target's own texts.
    Lossless,
    /// It is near the target's own in a way that the method states.
    Approximate,
}

/// One way to verify. It works on the trees of any drafting policy.
pub trait Verify {
    /// Decides.
    fn verify(&self, offer: &Offer, chance: &mut dyn Chance) -> Verdict;
    /// What is certain about the text.
    fn lossless(&self) -> Claim;
    /// How far the first token of a round is from the target's own, as the total-variation distance of the two
    /// distributions, for the guesses of `offer`; `None` where it is the same by design.
    fn strays(&self, _offer: &Offer, _verdict: &Verdict) -> Option<f64> {
        None
    }
}

/// Total-variation distance of two distributions.
pub fn apart(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0
}

const DOC: &str = "How guesses are accepted: against what is left of the draft's distribution, or where they are what the \
                   target chooses by itself";
const RECURSIVE: &str = "recursive_rejection";
const EXACT: &str = "exact_match";

/// The verifier, for policies that draw guesses from a distribution.
pub const DRAWN: Param = Param::choice("verify", DOC, &[RECURSIVE, EXACT]);
/// The verifier, for policies that put guesses there.
pub const PUT: Param = Param::choice("verify", DOC, &[EXACT, RECURSIVE]);

/// The verifier that was chosen; `param` is [`DRAWN`] or [`PUT`].
pub fn chosen(params: &Params, param: &Param) -> Box<dyn Verify> {
    match params.choice(param) {
        EXACT => Box::new(exact_match::ExactMatch),
        _ => Box::new(recursive_rejection::RecursiveRejection),
    }
}
