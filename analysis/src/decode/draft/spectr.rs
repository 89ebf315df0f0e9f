//! SpecTr: several drafts side by side, drawn independently; those that share what was accepted go on.
//!
//! Source: Sun et al. 2023, "SpecTr: Fast Speculative Decoding via Optimal Transport", arXiv 2310.15141. Takes: two models
//! with one vocabulary. Gives: a tree of drafts per round. Departs: own reading of the paper; greedy decodes begin with the
//! most probable tokens, since drafts would all be the same. Lossless.

use crate::ctx::Ctx;
use crate::decode::chance::Chance;
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::small::{Small, put};
use crate::decode::tree::Tree;
use crate::decode::verify::Verify;
use crate::decode::verify::k_seq::{KSeq, Scale};
use crate::decode::{Method, SEED, With};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

const DRAFTS: Param = Param::count("drafts", "Drafts side by side", 1, 16, 4);
const LENGTH: Param = Param::count("length", "Tokens of each draft", 1, 16, 4);

static INFO: Info = Info {
    id: "spectr",
    title: "SpecTr",
    summary: "Draws several drafts independently and accepts from them nearly as often as is possible at all.",
    family: "speculative",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "SpecTr: Fast Speculative Decoding via Optimal Transport",
        authors: "Sun et al.",
        year: 2023,
        arxiv: "2310.15141",
    }),
    departs: "own reading of the paper, whose code is not public; greedy decodes begin with the most probable tokens",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[DRAFTS, LENGTH, NEW, TEMPERATURE, TOP_K, TOP_P, SEED],
    raw: &[Adapter { name: "spectr", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct SpecTr;

impl Method for SpecTr {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let of = |p| params.count(p) as usize;
        Ok(Box::new(Drafts { small: with.small(ctx)?, drafts: of(&DRAFTS), length: of(&LENGTH) }))
    }

    fn verify<'a>(&self, _: &With<'a>, _: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(Box::new(KSeq))
    }
}

struct Drafts<O> {
    small: Small<O>,
    drafts: usize,
    length: usize,
}

impl<O: Oracle> Draft for Drafts<O> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        // Drafts that pass through each node. Of siblings with the same token the first carries on for all.
        let mut through = vec![self.drafts];
        self.small.grow(turn, self.length, ctx, &mut |tree, node, row| {
            let n = through[node];
            if turn.temperature == 0.0 {
                put(tree, node, row, &row.top(n), 1.0);
                through.resize(tree.len(), 1);
                return;
            }
            if n == 0 {
                return;
            }
            let q = row.distribution(turn.temperature);
            let first = tree.len();
            for _ in 0..n {
                let x = chance.draw(&q);
                let id = tree.push(node, x as u32, Some(q[x]), None);
                let same = (first..id).find(|&i| tree.nodes()[i].token == x as u32).unwrap_or(id);
                through.push(0);
                through[same] += 1;
            }
            tree.draws_from(node, q);
        })
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        self.small.learn(round, ctx)
    }
}

/// The most that any verifier can accept of `k` independent drafts: the smallest of `p(S) + 1 − q(S)^k` over sets of
/// tokens. `−q^k` lies below each of its tangents, so that one of the sets {p/q below a bound} is the smallest.
fn optimum(p: &[f64], q: &[f64], k: usize) -> f64 {
    let mut order: Vec<usize> = (0..p.len()).filter(|&i| q[i] > 0.0).collect();
    order.sort_by(|&a, &b| (p[a] / q[a]).total_cmp(&(p[b] / q[b])));
    let (mut a, mut b, mut best) = (0.0, 0.0, 1.0f64);
    for i in order {
        (a, b) = (a + p[i], b + q[i]);
        best = best.min(a + 1.0 - f64::powi(b, k as i32));
    }
    best
}

/// Raw entry: the draft `draft_p`, the target `target_q` and `k` drafts → scale, acceptance, residual, and the optimum.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let (q, p) = (input.shares("draft_p")?, input.shares("target_q")?);
    let k = input.within("k", 1..=100_000)?;
    if p.len() != q.len() {
        return Err(Error::invalid("draft_p and target_q must be of one size"));
    }
    let (best, most) = (Scale::smallest(&p, &q, k), Scale::at(&p, &q, k, k as f64));
    let optimum = optimum(&p, &q, k);
    Ok(json!({
        "rho_star": best.rho,
        "beta": best.beta,
        "accept_prob_kseq": best.accept,
        "accepted_mass_by_token": best.accepted(&p, &q),
        "residual": best.residual(&p, &q),
        "optimal_otm_acceptance": optimum,
        "rho_equal_k": { "beta": most.beta, "accept_prob": most.accept },
        "alpha_single": Scale::at(&p, &q, 1, 1.0).beta,
        "ratio": if optimum > 0.0 { best.accept / optimum } else { 1.0 },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::chance::every;
    use crate::decode::engine::{Decode, Rules};
    use crate::decode::toy::Markov;
    use std::collections::BTreeMap;

    #[test]
    fn the_optimum_over_prefixes_is_that_over_all_sets() {
        let (p, q) = ([0.1, 0.35, 0.05, 0.3, 0.2], [0.3, 0.1, 0.25, 0.05, 0.3]);
        for k in 1..5 {
            let of = |s: usize| {
                let sum = |x: &[f64]| (0..5).filter(|i| s >> i & 1 == 1).map(|i| x[i]).sum::<f64>();
                sum(&p) + 1.0 - sum(&q).powi(k)
            };
            let all = (0..32).map(of).fold(f64::INFINITY, f64::min);
            assert!((optimum(&p, &q, k as usize) - all).abs() < 1e-12, "{k}");
        }
    }

    /// Every way in which two drafts of two tokens can go: the first two tokens are distributed as the target's.
    #[test]
    fn two_drafts_of_two_tokens_give_exactly_the_targets_text() {
        let (p, q) = (vec![vec![0.6, 0.4], vec![0.3, 0.7]], vec![vec![0.2, 0.8], vec![0.5, 0.5]]);
        let (target, small) = (Markov::first_order(p.clone(), "P").unwrap(), Markov::first_order(q, "Q").unwrap());
        let rules = Rules { new: 2, rounds: 9, temperature: 1.0, end: Vec::new() };
        let all = every(100_000, |chance| {
            let mut draft = Drafts { small: Small(small.clone()), drafts: 2, length: 2 };
            let prompt = &[0];
            let one = Decode { target: target.clone(), prompt, draft: &mut draft, verify: &KSeq, rules: rules.clone() };
            Ok(one.run(chance, &Ctx::default(), &mut |_| ())?.output())
        });
        let mut seen = BTreeMap::<Vec<u32>, f64>::new();
        all.unwrap().into_iter().for_each(|(text, w)| *seen.entry(text).or_default() += w);
        for a in 0..2 {
            for b in 0..2 {
                let (got, want) = (seen[&vec![a as u32, b as u32]], p[0][a] * p[a][b]);
                assert!((got - want).abs() < 1e-9, "{a} {b}: {got} and {want}");
            }
        }
    }
}
