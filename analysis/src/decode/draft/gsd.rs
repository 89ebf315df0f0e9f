//! Grouped speculative decoding: a guess is accepted by the mass of the group of tokens that it belongs to.
//!
//! Source: So et al. 2025, "Grouped Speculative Decoding for Autoregressive Image Generation", arXiv 2508.07747;
//! junhyukso/GSD scheduler/jacobi_iteration_lumina_mgpt.py. Takes: two models with one vocabulary, and the target's
//! embeddings. Gives: a chain per round. Departs: live, a small model drafts where the authors iterate the target's own
//! tokens (Jacobi), and tokens are apart by the cosine of the target's embeddings. Not lossless.

use crate::ctx::Ctx;
use crate::decode::chance::Chance;
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::small::Small;
use crate::decode::tree::Tree;
use crate::decode::verify::Verify;
use crate::decode::verify::grouped::{Group, Grouped, ascending};
use crate::decode::verify::recursive_rejection::accept_probability;
use crate::decode::{Method, SEED, With};
use crate::math::softmax;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

const GAMMA: Param = Param::count("gamma", "Tokens drafted per round", 1, 16, 4);
const NEAR: Param = Param::share("p_threshold", "Members of a group differ in probability by less than this", 0.15);
const ALIKE: Param =
    Param::number("d_threshold", "Members are nearer than this: 1 − cosine of the embeddings", 0.0, 2.0, 0.5);
const WINDOW: Param =
    Param::count("window", "Ranks below the guess, and as many from it on, that are looked at", 0, 64, 7);

static INFO: Info = Info {
    id: "gsd",
    title: "Grouped acceptance",
    summary: "Accepts a guess by the mass of tokens that are as probable and mean about the same, which is not lossless.",
    family: "speculative",
    basis: Basis::Authors { repo: "junhyukso/GSD", commit: "4216c7c" },
    paper: Some(Paper {
        title: "Grouped Speculative Decoding for Autoregressive Image Generation",
        authors: "So et al.",
        year: 2025,
        arxiv: "2508.07747",
    }),
    departs: "a small model drafts where the authors iterate the target's own tokens; distance is 1 − cosine of the \
              target's embeddings; not lossless by design, greedy decodes are",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[GAMMA, NEAR, ALIKE, WINDOW, NEW, TEMPERATURE, TOP_K, TOP_P, SEED],
    budget: Some(&GAMMA),
    raw: &[Adapter { name: "gsd", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct Gsd;

impl Method for Gsd {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        Ok(Box::new(Chain { small: with.small(ctx)?, gamma: params.count(&GAMMA) as usize }))
    }

    fn verify<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        let meanings = with.meanings(ctx)?;
        let distance = move |x: u32, y: u32| {
            let (a, b) = (meanings.row(x as usize), meanings.row(y as usize));
            1.0 - f64::from(a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>())
        };
        let window = params.count(&WINDOW) as usize;
        let group =
            Group { p_threshold: params.share(&NEAR), d_threshold: params.number(&ALIKE), window: [window, window] };
        Ok(Box::new(Grouped { group, distance: Box::new(distance) }))
    }
}

struct Chain<O> {
    small: Small<O>,
    gamma: usize,
}

impl<O: Oracle> Draft for Chain<O> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        self.small.grow(turn, self.gamma, ctx, &mut |tree, node, row| {
            let (x, q) = turn.draw(row, chance);
            tree.push(node, x as u32, Some(q[x]), None);
            tree.draws_from(node, q);
        })
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        self.small.learn(round, ctx)
    }
}

/// Raw entry: logits of draft and target `[vocab]`, distances `[vocab, vocab]` → with which probability each token is
/// accepted, by its group and plainly; those in `tokens`, or all of them.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (target, [n]) = input.finite("target_logits")?;
    let (draft, [m]) = input.finite("draft_logits")?;
    let (distance, [rows, columns]) = input.finite("distance")?;
    if n == 0 || m != n || rows != n || columns != n {
        return Err(Error::invalid("target_logits, draft_logits and distance must be of one vocabulary"));
    }
    let p_threshold = input.read_or("p_threshold", 0.15)?;
    let d_threshold = input.read_or("d_threshold", 0.5)?;
    let group = Group { p_threshold, d_threshold, window: input.read_or("window", [7, 7])? };
    let tokens: Vec<usize> = input.read_or("tokens", (0..n).collect())?;
    if tokens.iter().any(|x| *x >= n) {
        return Err(Error::invalid("tokens must be ids of the vocabulary"));
    }
    let (p, q) = (softmax(target.data(), 1.0), softmax(draft.data(), 1.0));
    let logits: Vec<f64> = target.data().iter().map(|&x| f64::from(x)).collect();
    let order = ascending(&logits);
    let mut rank = vec![0; n];
    order.iter().enumerate().for_each(|(at, &x)| rank[x] = at);
    let mut out = Vec::with_capacity(tokens.len());
    for x in tokens {
        ctx.check()?;
        let near = &order[group.ranks(n, rank[x])];
        let share = group.share(&p, &q, x, near, &|y| f64::from(distance.row(x)[y]));
        out.push(json!({ "token": x, "accept_prob": share, "plain_accept_prob": accept_probability(&p, &q, x) }));
    }
    Ok(json!({ "rows": out }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::chance::every;
    use crate::decode::row::Row;
    use crate::decode::verify::Offer;

    /// Every way in which one drawn guess can go: with groups of one it is the target, with larger ones it strays.
    #[test]
    fn groups_of_one_are_plain_acceptance_and_larger_ones_stray() {
        let (p, q) = (vec![0.4, 0.3, 0.2, 0.1], vec![0.1, 0.4, 0.3, 0.2]);
        let far = |near: f64| {
            let group = Group { p_threshold: 0.25, d_threshold: 0.5, window: [1, 2] };
            let verify = Grouped { group, distance: Box::new(move |a, b| if a == b { 0.0 } else { near }) };
            let rows = vec![Row::Chances(p.clone()); 2];
            let all = every(999, |chance| {
                let mut tree = Tree::new(0);
                tree.push(0, chance.draw(&q) as u32, None, None);
                tree.draws_from(0, q.clone());
                let v = verify.verify(&Offer::new(&tree, &rows, 1.0), chance);
                Ok(v.path.first().map_or(v.own, |&i| tree.nodes()[i].token))
            });
            let mut seen = [0.0; 4];
            all.unwrap().into_iter().for_each(|(x, w)| seen[x as usize] += w);
            let mut tree = Tree::new(0);
            tree.draws_from(0, q.clone());
            let offer = Offer::new(&tree, &rows, 1.0);
            let own = verify.verify(&offer, &mut crate::decode::chance::Seeded::new(0));
            let far = seen.iter().zip(&p).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
            assert!((verify.strays(&offer, &own).unwrap() - far).abs() < 1e-12);
            far
        };
        // Token 1 is accepted always, by 0.9 / 0.8 of its group, though it is drafted with 0.4 and the target's is 0.3.
        assert!(far(1.0) < 1e-12 && (far(0.1) - 0.1).abs() < 1e-12, "{} {}", far(1.0), far(0.1));
    }
}
