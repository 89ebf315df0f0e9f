//! Attention flow: the largest flow from a node down to each input through the layers' maps as capacities.
//!
//! Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", arXiv 2005.00928.
//! Takes: maps of every layer. Gives: a share per token. Departs: none known.
//! Cost: one max-flow per input token, each a few times O(layers · n²).

use super::maps::{self, PAPER, augment};
use super::max_flow::Network;
use super::{Method, Scores};
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Params};
use crate::passes::rollout_product;
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Flows from the nodes `from` above the highest map down to every input, `[from, n]`. Every thread takes the next pair
/// of nodes and has a network of its own.
fn flows(maps: &[Vec<f64>], n: usize, from: Range<usize>, ctx: &Ctx) -> Result<Vec<f64>> {
    let (one, pairs) = ((2 * size_of::<f64>() * maps.len() * n * n) as u64, from.len() * n);
    ctx.fits(one, "shorten the prompt")?;
    // Where not all threads find room, fewer work.
    let threads = (1..=rayon::current_num_threads().min(pairs)).rev().find(|&t| ctx.fits(one * t as u64, "").is_ok());
    let threads = threads.unwrap_or(0);
    let next = AtomicUsize::new(0);
    let some = |_| {
        let (mut network, mut found) = (Network::new(maps, n), Vec::new());
        loop {
            let pair = next.fetch_add(1, Ordering::Relaxed);
            if pair >= pairs {
                return Ok(found);
            }
            ctx.step(pair, pairs)?;
            found.push((pair, network.flow(from.start + pair / n, pair % n)));
        }
    };
    let mut out = vec![0.0; pairs];
    for (pair, flow) in (0..threads).into_par_iter().map(some).collect::<Result<Vec<_>>>()?.concat() {
        out[pair] = flow;
    }
    Ok(out)
}

/// Values divided by their sum.
fn shares(flows: &[f64]) -> Vec<f64> {
    let sum: f64 = flows.iter().sum();
    flows.iter().map(|f| if sum > 0.0 { f / sum } else { 0.0 }).collect()
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
        let flows = flows(&augmented, n, target..target + 1, ctx)?;
        let shares: Vec<f32> = shares(&flows).into_iter().map(|s| s as f32).collect();
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
        let flows = flows(&augmented[..=l], n, 0..n, &ctx.part(l, n_layers))?;
        flow.push(flows.chunks(n.max(1)).map(shares).collect::<Vec<_>>());
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
    fn every_input_gets_its_flow_on_whichever_thread() {
        let n = 9;
        let map = |l: usize| (0..n * n).map(|e| ((e * 7919 + l * 104_729) % 97) as f64 / 97.0).collect::<Vec<_>>();
        let maps: Vec<Vec<f64>> = (0..3).map(map).collect();
        let flow = |from: usize| (0..n).map(move |to| (from, to)).collect::<Vec<_>>();
        let want = |pairs: Vec<(usize, usize)>| -> Vec<f64> {
            pairs.into_iter().map(|(from, to)| Network::new(&maps, n).flow(from, to)).collect()
        };
        assert_eq!(flows(&maps, n, 4..5, &Ctx::default()).unwrap(), want(flow(4)));
        assert_eq!(flows(&maps, n, 0..n, &Ctx::default()).unwrap(), want((0..n).flat_map(flow).collect()));
        assert!((shares(&want(flow(4))).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(shares(&[0.0; 2]), [0.0; 2]);
        let stop = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        assert!(flows(&maps, n, 4..5, &stop).is_err());
    }
}
