//! DySpec: grows the draft tree where the draft model is most sure, with a heap or level by level.
//!
//! Source: Xiong et al. 2024, "DySpec: Faster Speculative Decoding with Dynamic Token Tree Structure",
//! arXiv 2410.11744. Takes: draft distributions. Gives: a tree whose node values sum to the expected number of
//! accepted tokens. Departs: own reading of the paper; the authors' code is not public.

use crate::ctx::Ctx;
use crate::decode::chance::{Chance, Drawn, Recorded, Seeded};
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::toy::Markov;
use crate::decode::tree::Tree;
use crate::decode::verify::recursive_rejection::without;
use crate::decode::verify::{self, Verify};
use crate::decode::{Method, SEED, With};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

const SIZE: Param = Param::count("tree_size", "Nodes drafted per round, at most", 1, 256, 16);
const GROWTH: Param = Param::choice(
    "growth",
    "heap: always the surest node next; levels: all children worth more than the threshold",
    &["heap", "levels"],
);
const THRESHOLD: Param =
    Param::number("threshold", "levels: value that must be left for another child", 0.001, 1.0, 0.05);
const DEPTH: Param = Param::count("depth", "levels: deepest level", 1, 32, 8);

static INFO: Info = Info {
    id: "dyspec",
    title: "DySpec",
    summary: "Grows the draft tree where the draft model is most sure, node by node.",
    family: "speculative",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "DySpec: Faster Speculative Decoding with Dynamic Token Tree Structure",
        authors: "Xiong et al.",
        year: 2024,
        arxiv: "2410.11744",
    }),
    departs: "own reading of the paper, whose code is not public",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[SIZE, GROWTH, THRESHOLD, DEPTH, NEW, verify::DRAWN, TEMPERATURE, TOP_K, TOP_P, SEED],
    budget: Some(&SIZE),
    raw: &[Adapter { name: "dyspec", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct DySpec;

impl Method for DySpec {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let size = params.count(&SIZE) as usize;
        let levels = Levels { threshold: params.number(&THRESHOLD), depth: params.count(&DEPTH) as usize };
        let levels = (params.choice(&GROWTH) == "levels").then_some(levels);
        Ok(Box::new(Grown { small: with.partner(ctx)?, size, levels }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::DRAWN))
    }
}

/// Growth level by level.
struct Levels {
    threshold: f64,
    depth: usize,
}

/// A small model that grows trees of at most `size` nodes.
struct Grown<O> {
    small: O,
    size: usize,
    levels: Option<Levels>,
}

/// What is left to draw below a node.
struct Left {
    node: usize,
    /// Value of the node, less that of the children drawn so far.
    value: f64,
    /// What the next child is drawn from; `None` until somebody needs it.
    p: Option<Vec<f64>>,
}

impl<O: Oracle> Grown<O> {
    /// The small model's distribution after `node`; it has read the root.
    fn after(&self, tree: &mut Tree, node: usize, warmth: f64, ctx: &Ctx) -> Result<Vec<f64>> {
        ctx.check()?;
        let row = self.small.clone().read(&tree.words(node), ctx)?.pop();
        tree.passes += 1;
        Ok(row.ok_or_else(|| Error::invalid("the model gave no logits"))?.distribution(warmth))
    }

    /// Draws one child of `left`; gives its index and what is left then, if anything is.
    fn child(
        &self,
        tree: &mut Tree,
        left: Left,
        turn: &Turn,
        chance: &mut dyn Chance,
        ctx: &Ctx,
    ) -> Result<(usize, Option<Left>)> {
        let p = match left.p {
            Some(p) => p,
            None => {
                let p = self.after(tree, left.node, turn.warmth(), ctx)?;
                tree.draws_from(left.node, p.clone());
                p
            }
        };
        let surest = || (0..p.len()).fold(0, |b, i| if p[i] > p[b] { i } else { b });
        let token = if turn.temperature == 0.0 { surest() } else { chance.draw(&p) };
        let value = left.value * p[token];
        let id = tree.push(left.node, token as u32, Some(p[token]), Some(value));
        let rest = without(&p, token).map(|p| Left { node: left.node, value: left.value - value, p: Some(p) });
        Ok((id, rest))
    }
}

impl<O: Oracle> Draft for Grown<O> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        let mut tree = Tree::new(turn.root());
        let row = self.small.read(&[turn.root()], ctx)?.pop();
        let first = row.ok_or_else(|| Error::invalid("the model gave no logits"))?.distribution(turn.warmth());
        tree.passes += 1;
        tree.draws_from(0, first.clone());
        let root = Left { node: 0, value: 1.0, p: Some(first) };
        let Some(levels) = &self.levels else {
            // Pushed in order; the first of the largest is taken, so ties go to the earlier one.
            let mut heap = vec![root];
            while tree.len() <= self.size && !heap.is_empty() {
                let top = (0..heap.len()).fold(0, |b, i| if heap[i].value > heap[b].value { i } else { b });
                let (id, rest) = self.child(&mut tree, heap.remove(top), turn, chance, ctx)?;
                heap.extend(rest);
                heap.push(Left { node: id, value: tree.nodes()[id].value.unwrap_or(0.0), p: None });
            }
            return Ok(tree);
        };
        let mut level = vec![root];
        for _ in 0..levels.depth {
            let mut next = Vec::new();
            for left in level {
                let mut left = Some(left);
                while let Some(now) = left.take_if(|l| l.value > levels.threshold && tree.len() <= self.size) {
                    let (id, rest) = self.child(&mut tree, now, turn, chance, ctx)?;
                    next.push(Left { node: id, value: tree.nodes()[id].value.unwrap_or(0.0), p: None });
                    left = rest;
                }
            }
            level = next;
        }
        Ok(tree)
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        // It has read the root; the accepted path follows.
        let path: Vec<u32> = round.path.iter().map(|&i| round.tree.nodes()[i].token).collect();
        if !path.is_empty() {
            self.small.read(&path, ctx)?;
        }
        Ok(())
    }
}

/// Raw entry: an order-1 Markov draft model and a context → the trees by either growth.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let small = Markov::first_order(input.read("draft")?, "draft")?;
    let (start, size): (usize, usize) = (input.read("ctx")?, input.read("tree_size")?);
    let uniforms: Vec<f64> = input.read_or("uniforms", Vec::new())?;
    let (most, depth): (usize, usize) = (input.read("threshold_max_nodes")?, input.read("threshold_max_depth")?);
    let levels = Levels { threshold: input.read("threshold")?, depth };
    if start >= small.vocab() || uniforms.len() < size || size.max(most) > 100_000 || depth > 1000 {
        return Err(Error::invalid(
            "ctx must be in the vocabulary, with a uniform per node, and the trees not too large",
        ));
    }
    let mut recorded = Recorded::new([], uniforms.into_iter().map(Drawn::Uniform));
    let mut greedy = Seeded::new(0);
    let mut grow = |size: usize, levels: Option<Levels>, sampled: bool| {
        let turn = Turn { text: &[start as u32], room: 1, temperature: f64::from(u8::from(sampled)) };
        let chance: &mut dyn Chance = if sampled { &mut recorded } else { &mut greedy };
        Grown { small: small.clone(), size, levels }.grow(&turn, chance, ctx)
    };
    let node = |(id, n): (usize, &crate::decode::tree::Node), conditional: bool| {
        let mut out = json!({ "id": id, "parent": n.parent, "token": n.token, "depth": n.depth, "value": n.value });
        if conditional {
            out["q_conditional"] = json!(n.p_draft);
        }
        out
    };
    let list = |tree: &Tree, conditional: bool| -> Vec<Value> {
        tree.nodes().iter().enumerate().skip(1).map(|n| node(n, conditional)).collect()
    };
    let argmax = grow(size, None, false)?;
    let expected: f64 = argmax.nodes().iter().filter_map(|n| n.value).sum();
    Ok(json!({
        "argmax": list(&argmax, true),
        "sampled": list(&grow(size, None, true)?, true),
        "threshold_tree": list(&grow(most, Some(levels), false)?, false),
        "expected_accepted_argmax": expected,
        "expected_tokens_argmax": 1.0 + expected,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::engine::{Decode, Rules};
    use crate::decode::verify::exact_match::ExactMatch;
    use crate::decode::verify::recursive_rejection::RecursiveRejection;

    fn toy(table: &[[f64; 4]]) -> Markov {
        Markov::first_order(table.iter().map(|r| r.to_vec()).collect(), "table").unwrap()
    }

    #[test]
    fn the_surest_continuation_grows_first() {
        let small = Markov::first_order(vec![vec![0.9, 0.1]; 2], "table").unwrap();
        let turn = Turn { text: &[0], room: 9, temperature: 0.0 };
        let grow = |size, levels| {
            let mut grown = Grown { small: small.clone(), size, levels };
            grown.grow(&turn, &mut Seeded::new(0), &Ctx::default()).unwrap()
        };
        // After the root 0.9 goes to token 0; its child is worth 0.9 · 0.9 = 0.81, more than the sibling's 0.1.
        let tree = grow(2, None);
        assert_eq!((tree.nodes()[2].parent, tree.nodes()[2].token), (1, 0));
        assert!((tree.nodes()[2].value.unwrap() - 0.81).abs() < 1e-12);
        // The root and the first child were read; nobody asks what follows the second.
        assert_eq!(tree.passes, 2);
        // Level by level, as long as more than 0.05 is left: both children of the root (0.9 and 0.1), both of the first
        // (0.81 and 0.09), and of the second one, which leaves 0.01.
        let tree = grow(9, Some(Levels { threshold: 0.05, depth: 2 }));
        assert_eq!(tree.parents(), [0, 0, 0, 1, 1, 2]);
    }

    /// Error level 1e-6 in each of the three comparisons: the 1 - 1e-6 quantile of chi-squared with 3 degrees of
    /// freedom is 30.66, so a correct program fails this test about three times in a million seeds.
    #[test]
    fn what_a_sampled_tree_emits_is_distributed_as_the_target_whatever_the_draft_is() {
        const LIMIT: f64 = 30.66;
        const P: [[f64; 4]; 4] =
            [[0.7, 0.1, 0.1, 0.1], [0.05, 0.15, 0.3, 0.5], [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.4, 0.1]];
        // The draft is wrong, even in order.
        let (target, small) = (
            toy(&P),
            toy(&[[0.3, 0.1, 0.5, 0.1], [0.4, 0.3, 0.2, 0.1], [0.3, 0.1, 0.5, 0.1], [0.97, 0.01, 0.01, 0.01]]),
        );
        let chi_squared = |counts: &[usize; 4], p: &[f64; 4]| -> f64 {
            let n = counts.iter().sum::<usize>() as f64;
            counts.iter().zip(p).map(|(&c, p)| (c as f64 - n * p).powi(2) / (n * p)).sum()
        };
        for (verify, levels) in
            [(&RecursiveRejection as &dyn Verify, false), (&RecursiveRejection, true), (&ExactMatch, false)]
        {
            let mut chance = Seeded::new(11);
            let (mut first, mut after) = ([0usize; 4], [[0usize; 4]; 4]);
            for _ in 0..60_000 {
                let levels = levels.then_some(Levels { threshold: 0.2, depth: 3 });
                let mut draft = Grown { small: small.clone(), size: 7, levels };
                let rules = Rules { new: 9, rounds: 1, temperature: 1.0, end: Vec::new() };
                let one = Decode { target: target.clone(), prompt: &[1], draft: &mut draft, verify, rules };
                let out = one.run(&mut chance, &Ctx::default(), &mut |_| ()).unwrap().output();
                first[out[0] as usize] += 1;
                if let Some(second) = out.get(1) {
                    after[out[0] as usize][*second as usize] += 1;
                }
            }
            let x = chi_squared(&first, &P[1]);
            assert!(x < LIMIT, "first token: {x}");
            for a in [2, 3] {
                let x = chi_squared(&after[a], &P[a]);
                assert!(x < LIMIT && after[a].iter().sum::<usize>() > 1000, "after {a}: {x}, {:?}", after[a]);
            }
        }
    }
}
