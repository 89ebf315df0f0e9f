//! LANTERN: guesses are accepted with the probability of tokens that mean about the same.
//!
//! Source: Jang et al. 2024, "LANTERN: Accelerating Visual Autoregressive Models with Relaxed Speculative Decoding",
//! arXiv 2410.03355; LANTERN++, arXiv 2502.06352; jadohu/LANTERN models/ea_model_llamagen.py. Takes: two models with one
//! vocabulary, and the target's embeddings. Gives: a tree per round. Departs: live, neighbours are those of the embeddings
//! of any target, where the authors take a codebook of image tokens, and a small model drafts. Not lossless.

use crate::ctx::Ctx;
use crate::decode::chance::Chance;
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE};
use crate::decode::row::Row;
use crate::decode::small::Narrowing;
use crate::decode::tree::Tree;
use crate::decode::verify::neighbours::Neighbours;
use crate::decode::verify::{Offer, Verify};
use crate::decode::{Method, SEED, With};
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

const WIDTH: Param = Param::count("width", "Guesses at the first place; one less at each further one", 1, 8, 3);
const DEPTH: Param = Param::count("depth", "Levels of the tree", 1, 8, 4);
const K: Param = Param::count("lantern_k", "Neighbours that may lend to a guess", 1, 1000, 16);
const DELTA: Param = Param::number(
    "lantern_delta",
    "Mass that they may lend; above 1, what is above 1 times the guess's own probability (LANTERN++)",
    0.0,
    4.0,
    0.1,
);

static INFO: Info = Info {
    id: "lantern",
    title: "LANTERN",
    summary: "Accepts a guess with the probability of its nearest tokens too, which is not lossless.",
    family: "speculative",
    basis: Basis::Authors { repo: "jadohu/LANTERN", commit: "3a56e45" },
    paper: Some(Paper {
        title: "LANTERN: Accelerating Visual Autoregressive Models with Relaxed Speculative Decoding",
        authors: "Jang et al.",
        year: 2024,
        arxiv: "2410.03355",
    }),
    departs: "neighbours are nearest by cosine among the target's embeddings, not in a codebook of images; a small model \
              drafts the tree, which ends at 256 guesses; not lossless by design, greedy decodes are",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[WIDTH, DEPTH, K, DELTA, NEW, TEMPERATURE, TOP_K, TOP_P, SEED],
    raw: &[Adapter { name: "lantern", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct Lantern;

impl Method for Lantern {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let of = |p| params.count(p) as usize;
        Ok(Box::new(Narrowing { small: with.small(ctx)?, width: of(&WIDTH), depth: of(&DEPTH) }))
    }

    fn verify<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        let (k, meanings) = (params.count(&K) as usize, with.meanings(ctx)?);
        let known: RefCell<HashMap<u32, Vec<u32>>> = RefCell::default();
        let find = move |x: u32| -> Vec<u32> {
            let own = meanings.row(x as usize);
            let n = own.len().max(1);
            let near = |row: &[f32]| row.iter().zip(own).map(|(a, b)| a * b).sum::<f32>();
            let near: Vec<f32> = meanings.data().chunks(n).map(near).collect();
            largest(&near, k + 2).into_iter().map(|y| y as u32).filter(|y| *y != x).take(k + 1).collect()
        };
        let nearest = move |x: u32| known.borrow_mut().entry(x).or_insert_with(|| find(x)).clone();
        Ok(Box::new(Neighbours { k: Some(k), delta: params.number(&DELTA), nearest: Box::new(nearest) }))
    }
}

/// Recorded uniforms, and what was drawn from last.
#[derive(Default)]
struct Forced {
    r: VecDeque<f64>,
    last: Vec<f64>,
    short: bool,
}

impl Chance for Forced {
    fn test(&mut self, p: f64) -> bool {
        let r = self.r.pop_front();
        self.short |= r.is_none();
        r.is_some_and(|r| p > 0.0 && r <= p)
    }
    fn draw(&mut self, p: &[f64]) -> usize {
        self.last = p.to_vec();
        0
    }
    fn uniform(&mut self) -> f64 {
        self.short = true;
        0.5
    }
}

/// Raw entry: `candidates` `[paths, length]` (ids below 0 are padding), `nearest` `[vocab, neighbours]`, `logits`
/// `[paths, length, vocab]`; the relaxed acceptance of each guess below the root, and what recorded uniforms in `traces`
/// (`lantern`: relaxed or plain, `r`) accept and leave.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (logits, [n, length, vocab]) = input.finite("logits")?;
    let (paths, [n_paths, n_ids]) = input.finite("candidates")?;
    let (nearest, [n_rows, n_near]) = input.finite("nearest")?;
    let k = input.within("lantern_k", 0..=1_000_000)?;
    let delta: f64 = input.read("lantern_delta")?;
    let ids = |x: &&f32| **x < vocab as f32 && x.fract() == 0.0;
    if n == 0 || length == 0 || n_paths != n || n_ids != length || !paths.data().iter().all(|x| ids(&x)) {
        return Err(Error::invalid("candidates must be paths of ids of the vocabulary, shaped as logits"));
    }
    if n_rows != vocab || n_near == 0 || !nearest.data().iter().all(|x| ids(&x) && *x >= 0.0) {
        return Err(Error::invalid("nearest must hold a row of ids for each entry of the vocabulary"));
    }
    let all: Vec<Vec<i64>> = (0..n).map(|i| paths.row(i).iter().map(|&x| x as i64).collect()).collect();
    let Some((tree, nodes)) = Tree::of_paths(&all) else {
        return Err(Error::invalid("candidates must begin with the same id"));
    };
    // The first path that passes a node says what follows it.
    let first = |node: usize| nodes.iter().enumerate().find_map(|(i, p)| Some((i, p.iter().position(|&x| x == node)?)));
    let rows = (0..tree.len()).map(|node| {
        let (i, d) = first(node).unwrap_or((0, 0));
        Row::recorded(logits, i, d)
    });
    let rows: Vec<Row> = rows.collect();
    let near = |x: u32| nearest.row(x as usize).iter().map(|&y| y as u32).collect::<Vec<_>>();
    let of = |k: Option<usize>| Neighbours { k, delta, nearest: Box::new(near) };
    let p = rows[0].distribution(1.0);
    let mut root = Map::new();
    for child in tree.children(0) {
        let x = tree.nodes()[child].token;
        let (relaxed, lent) = of(Some(k)).relaxed(&p, x, &near(x));
        root.insert(x.to_string(), json!({ "p": p[x as usize], "relaxed": relaxed, "n_neighbours": lent }));
    }
    let recorded: Vec<Value> = input.read_or("traces", Vec::new())?;
    let mut traces = Vec::with_capacity(recorded.len());
    for t in recorded {
        ctx.check()?;
        let r: Option<Vec<f64>> = t["r"].as_array().and_then(|r| r.iter().map(Value::as_f64).collect());
        let (Some(r), Some(relaxed)) = (r, t["lantern"].as_bool()) else {
            return Err(Error::invalid("traces need lantern, true or false, and numbers r"));
        };
        let mut chance = Forced { r: r.iter().copied().collect(), ..Forced::default() };
        let verify = of(relaxed.then_some(k));
        let v = verify.verify(&Offer::new(&tree, &rows, 1.0), &mut chance);
        if chance.short {
            return Err(Error::invalid("traces hold fewer numbers r than guesses are looked at"));
        }
        let best = first(v.path.last().copied().unwrap_or(0)).map_or(0, |at| at.0);
        traces.push(json!({ "lantern": relaxed, "r": r, "best_candidate": best, "accept_length": v.path.len(),
            "sample_p": chance.last }));
    }
    Ok(json!({ "root_child_acceptance": root, "traces": traces }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::chance::every;

    /// The first token of every way, against the target: how far they are apart, by hand, as measured, and without loans.
    #[test]
    fn loans_and_refusals_lead_the_text_astray_as_far_as_is_measured() {
        let p = vec![0.3, 0.25, 0.2, 0.15, 0.1];
        let near = |x: u32| [1, 0, 3, 2, 0].iter().map(|d| (x + d) % 5).filter(|y| *y != x).collect::<Vec<u32>>();
        let far = |delta: f64| {
            let verify = Neighbours { k: Some(1), delta, nearest: Box::new(near) };
            let mut tree = Tree::new(0);
            tree.push(0, 2, None, None);
            let rows = vec![Row::Chances(p.clone()); 2];
            let offer = Offer::new(&tree, &rows, 1.0);
            let all = every(999, |chance| {
                let v = verify.verify(&offer, chance);
                Ok((v.path.first().map_or(v.own, |&i| tree.nodes()[i].token), verify.strays(&offer, &v)))
            });
            let (mut seen, mut measured) = ([0.0; 5], 0.0);
            for ((x, strays), w) in all.unwrap() {
                (seen[x as usize], measured) = (seen[x as usize] + w, strays.unwrap());
            }
            let distance = seen.iter().zip(&p).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
            assert!((distance - measured).abs() < 1e-12, "{delta}: {distance} and {measured}");
            distance
        };
        assert!(far(0.0) < 1e-12);
        // Token 2 borrows 0.15 of token 3, its nearest: accepted with 0.35. Refused, it takes tokens 3 and 0 with it, so
        // that 1 and 4 share 0.65 by 0.25 to 0.1: what 2, 1 and 4 gain is 0.15 + 0.214… + 0.0857….
        assert!((far(0.2) - 0.45).abs() < 1e-12, "{}", far(0.2));
    }
}
