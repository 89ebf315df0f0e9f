//! PPD's trees: how many guesses at which distance, and how many prompt tokens behind each, give most accepted tokens.
//!
//! Source: Chen et al. 2024, "Hardware-Aware Parallel Prompt Decoding for Memory-Efficient Acceleration of LLM Inference",
//! arXiv 2405.18628; hmarkc/parallel-prompt-decoding prompt/inference/sparse_tree_builder.py. Takes: how often the guess of each
//! rank at each distance is right. Gives: the trees. Departs: live, accuracies follow a curve that is set, since the prompt
//! tokens that guess are trained. Cost: O(limit²) trees, each of O(limit · nodes).

use super::super::Method;
use crate::ctx::Ctx;
use crate::finding::{Class, Datum, Figure, Finding, Look, Measure, Tree, TreeNode};
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Paper, Param, Params, Role};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Map, Value, json};

const LIMIT: Param =
    Param::count("input_length_limit", "Guesses and prompt tokens together that a pass may hold", 12, 48, 20);
const FIRST: Param = Param::share("first", "How often the first guess at the first distance is right", 0.45);
const RANK: Param = Param::share("rank", "Of that, the share of each further rank", 0.5);
const FAR: Param = Param::share("far", "Of that, the share at each further distance", 0.8);

static INFO: Info = Info {
    id: "ppd_tree",
    title: "PPD trees",
    summary: "Finds the trees of guesses and prompt tokens that are expected to be accepted most in a pass of one size.",
    family: "adaptive compute",
    basis: Basis::Authors { repo: "hmarkc/parallel-prompt-decoding", commit: "2ba3a1c" },
    role: Role::StandIn,
    paper: Some(Paper {
        title: "Hardware-Aware Parallel Prompt Decoding for Memory-Efficient Acceleration of LLM Inference",
        authors: "Chen et al.",
        year: 2024,
        arxiv: "2405.18628",
    }),
    departs: "accuracies follow a curve that is set, since the prompt tokens that guess are trained",
    params: &[LIMIT, FIRST, RANK, FAR],
    budget: Some(&LIMIT),
    raw: &[Adapter { name: "ppd_tree", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct PpdTree;

/// Distances that are guessed at.
const FAR_MOST: usize = 3;
/// Guesses of the tree at distance 1.
const NEAR: usize = 10;

/// A path of ranks and its probability.
type Path = (Vec<usize>, f64);

/// Every path of at most `depth` ranks, a child after its parent and before the next sibling; products in f32, as the
/// authors' tensors are.
fn listing(accuracies: &[Vec<f64>], depth: usize) -> Vec<Path> {
    fn go(a: &[Vec<f64>], depth: usize, path: &[usize], p: f32, out: &mut Vec<Path>) {
        if path.len() == depth.min(a.len()) {
            return;
        }
        for (rank, own) in a[path.len()].iter().enumerate() {
            let (longer, p) = ([path, &[rank]].concat(), p * *own as f32);
            out.push((longer.clone(), f64::from(p)));
            go(a, depth, &longer, p, out);
        }
    }
    let mut out = Vec::new();
    go(accuracies, depth, &[], 1.0, &mut out);
    out
}

/// The `n` most probable paths, the first listed on a tie; probabilities rounded to 5 decimals.
fn best(listed: &[Path], n: usize) -> Vec<Path> {
    let p: Vec<f64> = listed.iter().map(|l| l.1).collect();
    largest(&p, n).into_iter().map(|i| (listed[i].0.clone(), (p[i] * 1e5).round() / 1e5)).collect()
}

/// A guess of a tree: ranks, probability that it is the last accepted one, prompt tokens behind it.
type Guess = (Vec<usize>, f64, usize);

/// Shares out prompt tokens: three behind each guess, less where `values` (by depth of the next tree) lose least, until all
/// fits into `limit`.
fn shared(paths: &[Path], limit: usize, values: &[f64]) -> Vec<Guess> {
    let mut out: Vec<Guess> = paths.iter().map(|(path, p)| (path.clone(), *p, FAR_MOST)).collect();
    for (path, p) in paths.iter().filter(|p| p.0.len() > 1) {
        if let Some(parent) = out.iter_mut().find(|g| g.0[..] == path[..path.len() - 1]) {
            parent.1 -= p;
        }
    }
    let mut all: usize = out.iter().map(|g| g.2).sum();
    while all + out.len() > limit {
        let gain = |g: &Guess| g.1 * (values[g.2 - 1] - values[g.2]);
        let open = (0..out.len()).filter(|&i| out[i].2 > 1);
        let Some(i) = open.reduce(|b, i| if gain(&out[i]) > gain(&out[b]) { i } else { b }) else { break };
        out[i].2 -= 1;
        all -= 1;
    }
    out
}

/// Share of passes with trees of depth 0 to 3 in the long run: after a guess comes the tree that its prompt tokens allow,
/// after none the bare root, after that the deepest. `None` where there is no such state.
fn steady(trees: &[Vec<Guess>]) -> Option<[f64; 4]> {
    // (M − 1) x = 0 with the last equation replaced by Σ x = 1.
    let mut m = [[0.0; 5]; 4];
    m[3][0] = 1.0;
    for (s, tree) in trees.iter().enumerate().map(|(i, t)| (i + 1, t)) {
        let mut none = 1.0;
        for (_, p, next) in tree {
            m[(*next).min(3)][s] += p;
            none -= p;
        }
        m[0][s] += none;
    }
    (0..4).for_each(|i| m[i][i] -= 1.0);
    m[3] = [1.0; 5];
    for i in 0..4 {
        let pivot = (i..4).max_by(|&a, &b| m[a][i].abs().total_cmp(&m[b][i].abs()))?;
        m.swap(i, pivot);
        if m[i][i].abs() < 1e-12 {
            return None;
        }
        let row = m[i];
        for (_, other) in m.iter_mut().enumerate().filter(|(k, _)| *k != i) {
            let factor = other[i] / row[i];
            other.iter_mut().zip(row).for_each(|(a, b)| *a -= factor * b);
        }
    }
    Some([0, 1, 2, 3].map(|i| m[i][4] / m[i][i]))
}

/// The trees of depth 1, 2, 3 that are expected to be accepted most, and how much.
fn search(accuracies: &[Vec<f64>], limit: usize, ctx: &Ctx) -> Result<(Vec<Vec<Guess>>, f64)> {
    let listed: Vec<Vec<Path>> = (1..=FAR_MOST).map(|d| listing(accuracies, d)).collect();
    let sizes = limit / 4..=limit / 2;
    let near = best(&listed[0], NEAR);
    let of = |d: usize| -> Vec<Vec<Path>> { sizes.clone().map(|n| best(&listed[d], n)).collect() };
    let (second, third) = (of(1), of(2));
    let sum = |paths: &[Path]| paths.iter().map(|p| p.1).sum::<f64>();
    let mut found: Option<(Vec<Vec<Guess>>, f64)> = None;
    for (i, two) in second.iter().enumerate() {
        ctx.step(i, second.len())?;
        for three in &third {
            let values = [0.0, sum(&near), sum(two), sum(three)];
            let trees: Vec<Vec<Guess>> = [&near, two, three].map(|t| shared(t, limit, &values)).to_vec();
            let Some(x) = steady(&trees) else { continue };
            let value: f64 = x.iter().zip(values).map(|(x, v)| x * v).sum();
            if found.as_ref().is_none_or(|f| value > f.1) {
                found = Some((trees, value));
            }
        }
    }
    found.ok_or_else(|| Error::invalid("accuracies and input_length_limit leave no tree"))
}

/// How often the guess of each rank at each distance is right, by the parameters of these names. One guess at most is
/// right, so that ranks share no more than 1.
fn curve(first: f64, rank: f64, far: f64) -> Vec<Vec<f64>> {
    let own = |d: i32| {
        let mut left = 1.0f64;
        let share = |r: i32| {
            let p = (first * far.powi(d) * rank.powi(r)).min(left);
            left -= p;
            p
        };
        (0..NEAR as i32).map(share).collect()
    };
    (0..FAR_MOST as i32).map(own).collect()
}

impl Method for PpdTree {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let (first, rank, far) = (params.share(&FIRST), params.share(&RANK), params.share(&FAR));
        let limit = params.count(&LIMIT) as usize;
        let (trees, value) = search(&curve(first, rank, far), limit, ctx)?;
        let mut out = Finding::default();
        for (d, tree) in trees.iter().enumerate() {
            let node = |parent, label: String, values, state| TreeNode {
                parent,
                label,
                id: None,
                position: None,
                values,
                state,
            };
            let mut nodes = vec![node(None, "text".into(), vec![None], 0)];
            let mut places = vec![Vec::new()];
            // A parent may be listed after its child only where both are equally likely.
            let mut order: Vec<&Guess> = tree.iter().collect();
            order.sort_by_key(|g| g.0.len());
            for (path, p, prompts) in order {
                let parent = places.iter().position(|q| q[..] == path[..path.len() - 1]).unwrap_or(0);
                let label = format!("rank {}", path.last().copied().unwrap_or(0) + 1);
                nodes.push(node(Some(parent), label, vec![Some(*p as f32)], *prompts));
                places.push(path.clone());
            }
            out = out.with(Tree {
                title: format!("where guesses at {} distances are there", d + 1),
                nodes,
                measures: vec![Measure::new("last accepted", "probability")],
                states: vec![
                    Class::new("text", "the last token", Look::Plain),
                    Class::new("1 prompt token", "the next tree is of depth 1", Look::Category(1)),
                    Class::new("2 prompt tokens", "the next tree is of depth 2", Look::Category(4)),
                    Class::new("3 prompt tokens", "the next tree is of depth 3", Look::Good),
                ],
            });
        }
        Ok(out.figure(Figure::new(
            "accepted",
            Datum::Number(value),
            "guesses per pass in the long run; the target adds one",
        )))
    }
}

/// Raw entry: `accuracies` by distance and rank, `input_length_limit` → the most probable paths and the trees.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let accuracies: Vec<Vec<f64>> = input.read("accuracies")?;
    let limit = input.within("input_length_limit", 4..=256)?;
    let proper = |a: &Vec<f64>| !a.is_empty() && a.len() <= 64 && a.iter().all(|p| (0.0..=1.0).contains(p));
    if accuracies.len() < FAR_MOST || !accuracies.iter().all(proper) {
        return Err(Error::invalid("accuracies need three lists of shares from 0 to 1, of at most 64 ranks"));
    }
    let (trees, _) = search(&accuracies, limit, ctx)?;
    let top = best(&listing(&accuracies, FAR_MOST), limit);
    let mut out = Map::new();
    for (d, tree) in trees.iter().enumerate() {
        out.insert((d + 1).to_string(), json!(tree));
    }
    Ok(json!({
        "top_paths_depth3": top.iter().map(|t| &t.0).collect::<Vec<_>>(),
        "top_path_probs_rounded5": top.iter().map(|t| t.1).collect::<Vec<_>>(),
        "best_trees": out,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_falls_by_rank_and_distance_and_shares_one() {
        let a = curve(0.5, 0.25, 0.5);
        assert_eq!((&a[0][..2], &a[2][..2]), (&[0.5, 0.125][..], &[0.125, 0.03125][..]));
        // Two ranks as good as the first take all that is left.
        assert_eq!(curve(0.375, 1.0, 1.0)[0][..4], [0.375, 0.375, 0.25, 0.0]);
    }

    #[test]
    fn paths_by_probability_and_prompt_tokens_where_they_count() {
        let a = vec![vec![0.5, 0.25], vec![0.5], vec![0.5]];
        let top = best(&listing(&a, 2), 4);
        assert_eq!(top.iter().map(|t| t.0.clone()).collect::<Vec<_>>(), [vec![0], vec![0, 0], vec![1], vec![1, 0]]);
        // Of six guesses and tokens two must go: the less likely guess loses them.
        let own = shared(&best(&listing(&a, 1), 2), 6, &[0.0, 0.5, 0.75, 0.8]);
        assert_eq!(own, [(vec![0], 0.5, 2), (vec![1], 0.25, 2)]);
        let x = steady(&[own.clone(), own.clone(), own]).unwrap();
        assert!((x.iter().sum::<f64>() - 1.0).abs() < 1e-12 && x[1].abs() < 1e-12);
    }
}
