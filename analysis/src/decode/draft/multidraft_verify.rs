//! SpecInfer: a tree of fixed widths whose siblings are drawn independently, verified one after another.
//!
//! Source: Miao et al. 2023, "SpecInfer: Accelerating Generative LLM Serving with Tree-based Speculative Inference and
//! Verification", arXiv 2305.09781; the verifiers of Infini-AI-Lab/Sequoia Tree/{SpecTree,SpecInferTree}.py. Takes: two
//! models with one vocabulary. Gives: a tree per round. Departs: greedy decodes put the most probable tokens there, as the
//! paper does, and all widths are the same from the second level on. Lossless.

use crate::ctx::Ctx;
use crate::decode::chance::{Chance, every};
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::row::Row;
use crate::decode::small::{Small, put};
use crate::decode::tree::Tree;
use crate::decode::verify::recursive_rejection::RecursiveRejection;
use crate::decode::verify::walk::Siblings;
use crate::decode::verify::with_replacement::WithReplacement;
use crate::decode::verify::{Offer, Verify};
use crate::decode::{Method, SEED, With};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

const FIRST: Param = Param::count("first_width", "Tokens drawn below the last one of the text", 1, 16, 4);
const WIDTH: Param = Param::count("width", "Tokens drawn below each drafted one", 1, 4, 1);
const DEPTH: Param = Param::count("depth", "Levels of the tree", 1, 16, 4);

static INFO: Info = Info {
    id: "multidraft_verify",
    title: "SpecInfer",
    summary: "Draws several tokens at once from the small model at each place and accepts the first that stands the test.",
    family: "speculative",
    basis: Basis::Authors { repo: "Infini-AI-Lab/Sequoia", commit: "0ff3ff7" },
    paper: Some(Paper {
        title: "SpecInfer: Accelerating Generative LLM Serving with Tree-based Speculative Inference and Verification",
        authors: "Miao et al.",
        year: 2023,
        arxiv: "2305.09781",
    }),
    departs: "one draft model; two widths instead of one per level; a tree ends at 256 guesses",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[FIRST, WIDTH, DEPTH, NEW, TEMPERATURE, TOP_K, TOP_P, SEED],
    raw: &[Adapter { name: "multidraft_verify", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct SpecInfer;

impl Method for SpecInfer {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let of = |p| params.count(p) as usize;
        Ok(Box::new(Drawn { small: with.small(ctx)?, widths: [of(&FIRST), of(&WIDTH)], depth: of(&DEPTH) }))
    }

    fn verify<'a>(&self, _: &With<'a>, _: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(Box::new(WithReplacement))
    }
}

struct Drawn<O> {
    small: Small<O>,
    /// Of the first level and of all others.
    widths: [usize; 2],
    depth: usize,
}

impl<O: Oracle> Draft for Drawn<O> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        self.small.grow(turn, self.depth, ctx, &mut |tree, node, row| {
            let width = self.widths[usize::from(node > 0)];
            if turn.temperature == 0.0 {
                return put(tree, node, row, &row.top(width), 1.0);
            }
            let q = row.distribution(turn.temperature);
            for _ in 0..width {
                let x = chance.draw(&q);
                tree.push(node, x as u32, Some(q[x]), None);
            }
            tree.draws_from(node, q);
        })
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        self.small.learn(round, ctx)
    }
}

/// More ways than this in which siblings can be drawn and verified are not gone through.
const MAX_WAYS: usize = 1_000_000;

/// A node with these children, drawn from `q`.
fn siblings(q: &[f64], children: &[usize]) -> Tree {
    let mut tree = Tree::new(0);
    children.iter().for_each(|&c| {
        tree.push(0, c as u32, None, None);
    });
    tree.draws_from(0, q.to_vec());
    tree
}

/// What becomes of `k` siblings, over all ways in which they can be drawn and verified.
fn exactly(p: &[f64], q: &[f64], k: usize, again: bool, ctx: &Ctx) -> Result<Value> {
    let rows = vec![Row::Chances(p.to_vec()); k + 1];
    let all = every(MAX_WAYS, |chance| {
        ctx.check()?;
        let children = match again {
            true => (0..k).map(|_| chance.draw(q)).collect(),
            false => chance.draw_some(q, k),
        };
        let tree = siblings(q, &children);
        let offer = Offer::new(&tree, &rows, 1.0);
        let v = if again { WithReplacement.verify(&offer, chance) } else { RecursiveRejection.verify(&offer, chance) };
        let token = v.path.first().map_or(v.own, |&i| tree.nodes()[i].token);
        Ok((v.path.first().copied(), token))
    })?;
    let (mut marginal, mut at, mut refused) = (vec![0.0; p.len()], vec![0.0; k], 0.0);
    for ((child, token), weight) in all {
        marginal[token as usize] += weight;
        match child {
            Some(i) => at[i - 1] += weight,
            None => refused += weight,
        }
    }
    Ok(json!({
        "output_marginal": marginal,
        "total_acceptance": at.iter().sum::<f64>(),
        "prob_accept_at_child": at,
        "prob_reject_all": refused,
    }))
}

/// What becomes of given siblings with given uniforms: the accepted one from 1, and what is left where none is.
fn traced(way: &dyn Siblings, p: &[f64], q: &[f64], children: &[usize], r: &[f64], strict: bool) -> Value {
    let tree = siblings(q, children);
    let rows = vec![Row::Chances(p.to_vec()); children.len() + 1];
    let mut hit = None;
    let left = way.offer(&Offer::new(&tree, &rows, 1.0), 0, &mut |child, share| {
        let r = r[child - 1];
        let accepted = if strict { share > r } else { share >= r && share > 0.0 };
        hit = accepted.then_some(child);
        accepted
    });
    let residual = if hit.is_none() { json!(left) } else { Value::Null };
    json!({ "accepted_child_1based_or_-1": hit.map_or(-1, |c| c as i64), "residual": residual })
}

/// Raw entry: a target `p`, a draft `q` and `k` siblings → what they give, exactly, with and without replacement; and
/// what recorded siblings and uniforms in `traces` give.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (p, q) = (input.shares("p")?, input.shares("q")?);
    let k = input.within("k", 1..=16)?;
    let ways = (p.len() as f64).powi(k as i32 + 1);
    if p.len() != q.len() || ways > MAX_WAYS as f64 {
        return Err(Error::invalid("p and q must be of one size, and k small enough to go through every way"));
    }
    let recorded: Vec<Value> = input.read_or("traces", Vec::new())?;
    let mut traces = Vec::with_capacity(recorded.len());
    for t in recorded {
        let ids = |key: &str| -> Option<Vec<usize>> {
            let ids: Option<Vec<usize>> = t[key].as_array()?.iter().map(|x| x.as_u64().map(|x| x as usize)).collect();
            ids.filter(|ids| ids.iter().all(|x| *x < p.len()))
        };
        let r: Option<Vec<f64>> = t["r"].as_array().and_then(|r| r.iter().map(Value::as_f64).collect());
        let fits = |c: &Vec<usize>, r: &Vec<f64>| r.len() >= c.len();
        let (Some(one), Some(again), Some(r)) = (ids("children"), ids("children_iid"), r) else {
            return Err(Error::invalid("traces need children, children_iid and r, ids of the vocabulary and numbers"));
        };
        if !fits(&one, &r) || !fits(&again, &r) {
            return Err(Error::invalid("traces need a number r for each child"));
        }
        traces.push(json!({
            "children": one,
            "r": r,
            "sequoia": traced(&RecursiveRejection, &p, &q, &one, &r, true),
            "children_iid": again,
            "specinfer": traced(&WithReplacement, &p, &q, &again, &r, false),
        }));
    }
    Ok(json!({
        "sequoia_without_replacement": exactly(&p, &q, k, false, ctx)?,
        "specinfer_with_replacement": exactly(&p, &q, k, true, ctx)?,
        "traces": traces,
        "p": p,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_with_replacement_give_the_target_and_accept_less_than_without() {
        let (p, q) = ([0.5, 0.2, 0.3, 0.0], [0.1, 0.6, 0.2, 0.1]);
        let of = |again| exactly(&p, &q, 3, again, &Ctx::default()).unwrap();
        let (with, without) = (of(true), of(false));
        for all in [&with, &without] {
            for (x, want) in p.iter().enumerate() {
                let got = all["output_marginal"][x].as_f64().unwrap();
                assert!((got - want).abs() < 1e-12, "token {x}: {got} and {want}");
            }
        }
        assert!(with["total_acceptance"].as_f64() < without["total_acceptance"].as_f64());
    }
}
