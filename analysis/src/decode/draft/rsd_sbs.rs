//! RSD-S: the tree of a stochastic beam search, drafts drawn without replacement as whole sequences.
//!
//! Source: Jeon et al. 2024, "Recursive Speculative Decoding: Accelerating LLM Inference via Sampling Without
//! Replacement", arXiv 2402.14160; the search of Kool et al. 2019, arXiv 1903.06059. Takes: two models with one vocabulary.
//! Gives: a tree per round. Departs: own reading of the paper, whose code is not public. Lossless.

use crate::ctx::Ctx;
use crate::decode::chance::{Chance, Recorded, gumbel};
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

const BEAM: Param = Param::count("beam", "Guesses per level", 1, 16, 4);
const DEPTH: Param = Param::count("depth", "Levels of the tree", 1, 16, 4);

static INFO: Info = Info {
    id: "rsd_sbs",
    title: "RSD-S",
    summary: "Keeps a beam of drafts that were drawn without replacement, where they are likely together.",
    family: "speculative",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Recursive Speculative Decoding: Accelerating LLM Inference via Sampling Without Replacement",
        authors: "Jeon et al.",
        year: 2024,
        arxiv: "2402.14160",
    }),
    departs: "own reading of the paper, whose code is not public; greedy decodes keep the most probable beams",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[BEAM, DEPTH, NEW, verify::DRAWN, TEMPERATURE, TOP_K, TOP_P, SEED],
    raw: &[Adapter { name: "rsd_sbs", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct RsdS;

impl Method for RsdS {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let of = |p| params.count(p) as usize;
        Ok(Box::new(Beams { small: with.small(ctx)?, width: of(&BEAM), depth: of(&DEPTH), noted: Vec::new() }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::DRAWN))
    }
}

/// One beam: its node, its log-probability, and that with noise.
#[derive(Clone, Copy)]
struct Beam {
    node: usize,
    sum: f64,
    perturbed: f64,
}

struct Beams<O> {
    small: Small<O>,
    width: usize,
    depth: usize,
    /// Log-probability of each guess of the last tree, and that with noise.
    noted: Vec<(f64, f64)>,
}

/// Noise of a parent's children such that the largest is the parent's: `−ln(e^−parent − e^−largest + e^−g)`, written so
/// that nothing overflows.
fn under(parent: f64, largest: f64, g: f64) -> f64 {
    let v = parent - g + (-(g - largest).exp()).ln_1p();
    parent - v.max(0.0) - (-v.abs()).exp().ln_1p()
}

impl<O: Oracle> Draft for Beams<O> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        let mut tree = Tree::new(turn.root());
        let mut beams = vec![Beam { node: 0, sum: 0.0, perturbed: 0.0 }];
        self.noted.clear();
        for _ in 0..self.depth.min(turn.room) {
            let rows = self.small.rows(&mut tree, ctx)?;
            // (slot, token), log-probability, with noise.
            let (mut places, mut sums, mut keys) = (Vec::new(), Vec::new(), Vec::new());
            for (slot, beam) in beams.iter().enumerate() {
                let q = rows[beam.node].distribution(turn.warmth());
                let own: Vec<f64> = q.iter().map(|q| beam.sum + q.ln()).collect();
                if turn.temperature == 0.0 {
                    keys.extend(&own);
                } else {
                    let g: Vec<f64> = own.iter().map(|sum| sum + gumbel(chance.uniform())).collect();
                    let top = g.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    keys.extend(
                        g.iter().map(|&g| if g == f64::NEG_INFINITY { g } else { under(beam.perturbed, top, g) }),
                    );
                }
                places.extend((0..q.len()).map(|x| (slot, x)));
                sums.extend(own);
                tree.draws_from(beam.node, q);
            }
            let kept = largest(&keys, self.width).into_iter().filter(|&i| sums[i] > f64::NEG_INFINITY);
            // Per beam: probability of those of its children that are there.
            let (mut next, mut before) = (Vec::new(), vec![0.0f64; beams.len()]);
            for i in kept {
                let (slot, x) = places[i];
                let parent = beams[slot].node;
                let q = tree.drawn_from(parent).map_or(0.0, |q| q[x]);
                let node = tree.push(parent, x as u32, Some((q / (1.0 - before[slot])).min(1.0)), None);
                before[slot] += q;
                next.push(Beam { node, sum: sums[i], perturbed: keys[i] });
                self.noted.push((sums[i], keys[i]));
            }
            beams = next;
        }
        Ok(tree)
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        self.small.learn(round, ctx)
    }
}

/// Raw entry: an order-1 Markov draft, a context, a beam, a depth, and uniforms by level, beam and token → the tree.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let table = input.table("draft")?;
    let v = table.len();
    let small = Markov::first_order(table, "draft")?;
    let start = input.within("ctx", 0..=v - 1)?;
    let (width, depth) = (input.within("beam", 1..=1000)?, input.within("depth", 0..=1000)?);
    let uniforms: Vec<Vec<Vec<f64>>> = input.read("uniforms")?;
    if uniforms.iter().flatten().any(|u| u.len() != v || u.iter().any(|u| !(0.0..1.0).contains(u))) {
        return Err(Error::invalid("uniforms must be numbers from 0 to 1, one per entry of the vocabulary"));
    }
    // The beams of a level are as many as the level before gave; further recorded ones were not needed.
    let (mut given, mut beams) = (Vec::new(), 1usize);
    for level in uniforms.iter().take(depth) {
        given.extend(level.iter().take(beams).flatten().copied());
        beams = width.min(beams.saturating_mul(v));
    }
    let mut chance = Recorded::keys(given);
    let turn = Turn { text: &[start as u32], room: usize::MAX, temperature: 1.0 };
    let mut draft = Beams { small: Small(small), width, depth, noted: Vec::new() };
    let tree = draft.grow(&turn, &mut chance, ctx)?;
    chance.check()?;
    let node = |i: usize| {
        let (n, (sum, perturbed)) = (&tree.nodes()[i], draft.noted[i - 1]);
        json!({ "id": i, "parent": n.parent, "token": n.token, "depth": n.depth, "logprob": sum, "perturbed": perturbed })
    };
    Ok(json!({ "nodes": (1..tree.len()).map(node).collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::chance::Seeded;
    use crate::decode::engine::{Decode, Rules};
    use crate::decode::verify::recursive_rejection::RecursiveRejection;

    fn toy(p: &[[f64; 4]; 4]) -> Markov {
        Markov::first_order(p.iter().map(|r| r.to_vec()).collect(), "table").unwrap()
    }

    const P: [[f64; 4]; 4] =
        [[0.7, 0.1, 0.1, 0.1], [0.05, 0.15, 0.3, 0.5], [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.4, 0.1]];
    const Q: [[f64; 4]; 4] =
        [[0.3, 0.1, 0.5, 0.1], [0.4, 0.3, 0.2, 0.1], [0.3, 0.1, 0.5, 0.1], [0.85, 0.05, 0.05, 0.05]];

    #[test]
    fn the_surest_child_has_the_noise_of_its_parent() {
        assert!((under(-1.5, 2.0, 2.0) + 1.5).abs() < 1e-12);
        // −ln(e^1.5 − e^−2 + e^1) by hand.
        let want = -(1.5f64.exp() - (-2.0f64).exp() + 1f64.exp()).ln();
        assert!((under(-1.5, 2.0, -1.0) - want).abs() < 1e-12);
        let mut draft = Beams { small: Small(toy(&Q)), width: 3, depth: 3, noted: Vec::new() };
        let turn = Turn { text: &[1], room: 9, temperature: 1.0 };
        for seed in 0..50 {
            draft.grow(&turn, &mut Seeded::new(seed), &Ctx::default()).unwrap();
            // The first of each level continues the first of the level before.
            assert!(draft.noted[0].1.abs() < 1e-9 && draft.noted[3].1.abs() < 1e-9 && draft.noted[6].1.abs() < 1e-9);
        }
    }

    /// Error level 1e-6 each: the 1 − 1e-6 quantile of chi-squared with 3 degrees of freedom is 30.66.
    #[test]
    fn what_a_beam_emits_is_distributed_as_the_target() {
        let rules = Rules { new: 9, rounds: 1, temperature: 1.0, end: Vec::new() };
        let (mut chance, mut first, mut after) = (Seeded::new(3), [0.0; 4], [[0.0; 4]; 4]);
        for _ in 0..40_000 {
            let mut draft = Beams { small: Small(toy(&Q)), width: 3, depth: 2, noted: Vec::new() };
            let verify = &RecursiveRejection;
            let one = Decode { target: toy(&P), prompt: &[1], draft: &mut draft, verify, rules: rules.clone() };
            let out = one.run(&mut chance, &Ctx::default(), &mut |_| ()).unwrap().output();
            first[out[0] as usize] += 1.0;
            if let Some(b) = out.get(1) {
                after[out[0] as usize][*b as usize] += 1.0;
            }
        }
        let chi = |seen: &[f64; 4], p: &[f64; 4]| {
            let n: f64 = seen.iter().sum();
            seen.iter().zip(p).map(|(c, p)| (c - n * p).powi(2) / (n * p)).sum::<f64>()
        };
        assert!(chi(&first, &P[1]) < 30.66, "{}", chi(&first, &P[1]));
        for a in [2, 3] {
            assert!(chi(&after[a], &P[a]) < 30.66, "after {a}: {}", chi(&after[a], &P[a]));
        }
    }
}
