//! Attention flow: the largest flow from a node down to each input through the layers' maps as capacities.
//!
//! Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", arXiv 2005.00928.
//! Takes: maps of every layer. Gives: a share per token. Departs: none known.
//! Cost: one max-flow per input token, each O(layers · n²) per augmenting path.

use super::maps::{self, PAPER, augment};
use super::{Method, Scores};
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Params};
use crate::passes::rollout_product;
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::collections::VecDeque;

static INFO: Info = Info {
    id: "attention_flow",
    title: "Attention flow",
    summary: "Finds the largest flow from a token down to each input with attention as capacity.",
    family: "attention",
    paper: Some(PAPER),
    needs: &[Need::Attention],
    basis: Basis::Authors { repo: "samiraabnar/attention_flow", commit: "" },
    raw: &[ADAPTER],
    slow: true,
    ..Info::of(Kind::Score)
};

pub(super) struct AttentionFlow;

/// Flows below this are rounding.
const EPS: f64 = 1e-12;

/// The largest flow from node `from` above layer `maps.len() - 1` down to input `to`. `maps[l]` is `[n, n]`:
/// capacity from (l, i) to (l − 1, j). Shortest augmenting paths (Edmonds–Karp).
pub fn max_flow(maps: &[Vec<f64>], n: usize, from: usize, to: usize) -> f64 {
    let levels = maps.len() + 1;
    let source = maps.len() * n + from;
    // Residual capacities between neighbouring levels: down[l][i][j] from (l+1, i) to (l, j), and back up.
    let mut down = maps.to_vec();
    let mut up = vec![vec![0.0; n * n]; maps.len()];
    let mut total = 0.0;
    loop {
        let mut before = vec![usize::MAX; levels * n];
        before[source] = source;
        let mut queue = VecDeque::from([source]);
        while let Some(node) = queue.pop_front() {
            if node == to {
                break;
            }
            let (level, i) = (node / n, node % n);
            for j in 0..n {
                if level > 0 && down[level - 1][i * n + j] > EPS {
                    let next = (level - 1) * n + j;
                    if before[next] == usize::MAX {
                        before[next] = node;
                        queue.push_back(next);
                    }
                }
                if level + 1 < levels && up[level][j * n + i] > EPS {
                    let next = (level + 1) * n + j;
                    if before[next] == usize::MAX {
                        before[next] = node;
                        queue.push_back(next);
                    }
                }
            }
        }
        if before[to] == usize::MAX {
            return total;
        }
        let mut path = vec![to];
        while *path.last().expect("the path starts at the sink") != source {
            path.push(before[path[path.len() - 1]]);
        }
        path.reverse();
        let capacity = |down: &[Vec<f64>], up: &[Vec<f64>], a: usize, b: usize| {
            let (la, lb) = (a / n, b / n);
            if lb < la { down[lb][(a % n) * n + b % n] } else { up[la][(b % n) * n + a % n] }
        };
        let push = path.windows(2).map(|w| capacity(&down, &up, w[0], w[1])).fold(f64::INFINITY, f64::min);
        for w in path.windows(2) {
            let (a, b) = (w[0], w[1]);
            let (la, lb) = (a / n, b / n);
            if lb < la {
                down[lb][(a % n) * n + b % n] -= push;
                up[lb][(a % n) * n + b % n] += push;
            } else {
                up[la][(b % n) * n + a % n] -= push;
                down[la][(b % n) * n + a % n] += push;
            }
        }
        total += push;
    }
}

/// Flows from one node to every input, divided by their sum.
fn flow_row(maps: &[Vec<f64>], n: usize, from: usize) -> Vec<f64> {
    let row: Vec<f64> = (0..n).map(|to| max_flow(maps, n, from, to)).collect();
    let sum: f64 = row.iter().sum();
    row.into_iter().map(|f| if sum > 0.0 { f / sum } else { 0.0 }).collect()
}

impl Method for AttentionFlow {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let means = maps::all_head_means(input.trace, input.tower, ctx)?;
        let n = means.first().map_or(0, |m| m.shape()[0]);
        let target = maps::explained_row(input)?;
        let augmented: Vec<_> = means.iter().map(|m| augment(m, true)).collect();
        let mut flows = Vec::new();
        for to in 0..n {
            ctx.step(to, n)?;
            flows.push(max_flow(&augmented, n, target, to));
        }
        let sum: f64 = flows.iter().sum();
        let shares: Vec<f32> = flows.iter().map(|f| (f / sum.max(f64::MIN_POSITIVE)) as f32).collect();
        Ok(Scores::new(maps::by_token(input, &shares)?, "share of the flow"))
    }
}

/// Raw entry: `attention_head_mean` `[layers, n, n]` → rollout with and without residual, and flows.
const ADAPTER: Adapter = Adapter { name: "attention_rollout_flow", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let a = input.array("attention_head_mean")?;
    a.check_finite("attention_head_mean")?;
    let [n_layers, n, m] = a.dims("attention_head_mean")?;
    if n != m {
        return Err(Error::shape("attention_head_mean", "[layers, n, n]", a.shape()));
    }
    let residual = input.read_or("add_residual", true)?;
    let maps = |residual: bool| (0..n_layers).map(|l| augment(&a.sub(l), residual)).collect::<Vec<_>>();
    let nested = |layers: Vec<Vec<f64>>| -> Vec<Vec<Vec<f64>>> {
        layers.iter().map(|l| l.chunks(n.max(1)).map(<[f64]>::to_vec).collect()).collect()
    };
    let augmented = maps(residual);
    let mut flow = Vec::new();
    for l in 0..n_layers {
        ctx.step(l, n_layers)?;
        flow.push((0..n).map(|i| flow_row(&augmented[..=l], n, i)).collect::<Vec<_>>());
    }
    Ok(json!({
        "rollout": nested(rollout_product::run(&augmented, n, ctx)?),
        "rollout_no_residual": nested(rollout_product::run(&maps(false), n, ctx)?),
        "flow": flow,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_layer_limits_the_flow() {
        // From node 1 two paths lead to input 0: through 0 (0.5 · min with 1) and through 1 (0.5, then 0.25).
        let top = vec![1.0, 0.0, 0.5, 0.5];
        let bottom = vec![1.0, 0.0, 0.25, 0.75];
        assert!((max_flow(&[bottom, top], 2, 1, 0) - 0.75).abs() < 1e-12);
    }
}
