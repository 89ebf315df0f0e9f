//! The layers' residual-augmented head means as edges, the graph that attention rollout multiplies along.
//!
//! Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", arXiv 2005.00928.
//! Takes: maps of every layer. Gives: edges between residual nodes. Departs: none known. Cost: O(layers · n² · heads).

use super::{Edge, FlowGraph, Method, Node};
use crate::Result;
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Params};
use crate::score::{all_head_means, augment};

static INFO: Info = Info {
    id: "rollout_graph",
    title: "Rollout graph",
    summary: "Draws the attention of every layer, residual included, as edges between tokens.",
    family: "attention",
    paper: Some(Paper {
        title: "Quantifying Attention Flow in Transformers",
        authors: "Abnar, Zuidema",
        year: 2020,
        arxiv: "2005.00928",
    }),
    needs: &[Need::Attention],
    basis: Basis::Authors { repo: "samiraabnar/attention_flow", commit: "" },
    ..Info::of(Kind::Flow)
};

pub(super) struct RolloutGraph;

impl Method for RolloutGraph {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn graph(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<FlowGraph> {
        INFO.check(params)?;
        let means = all_head_means(input.trace, input.tower, ctx)?;
        let n = means.first().map_or(0, |m| m.shape()[0]);
        let mut edges = Vec::new();
        let floor = super::floor(means.len() * n * n);
        for (layer, mean) in means.iter().enumerate() {
            let there = |w: f64| w > 0.0 && w as f32 >= floor;
            for (i, &weight) in augment(mean, true).iter().enumerate().filter(|(_, w)| there(**w)) {
                let (from, to) = (Node::resid(layer, i % n), Node::resid(layer + 1, i / n));
                edges.push(Edge { from, to, weight: weight as f32 }.into());
            }
        }
        Ok(FlowGraph::new(input.tower, means.len(), n, edges, floor))
    }
}
