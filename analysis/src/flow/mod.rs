//! Graphs of how information travels between tokens and layers.

mod incoming;
mod information_flow_routes;
mod rollout_graph;

pub use incoming::Incoming;

use crate::ctx::Ctx;
use crate::method::{Info, Params};
use crate::{Error, Result, Subject};
use serde::Serialize;

/// What a node of the layer × token lattice stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Residual stream: the input for level 0, the output of layer `level - 1` otherwise.
    Resid,
    /// After the attention of layer `level - 1`.
    Attn,
    /// MLP of layer `level - 1`.
    Mlp,
}

/// A node of the lattice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Node {
    /// 0 for the inputs, `l + 1` for the nodes of layer `l`.
    pub level: u32,
    /// Which node of the layer.
    pub part: Part,
    /// Token.
    pub token: u32,
}

/// A weighted edge, pointing the way information travels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Edge {
    /// From (earlier level).
    pub from: Node,
    /// To.
    pub to: Node,
    /// Share of what arrives at `to`; shares into a node sum to at most 1.
    pub weight: f32,
}

/// A flow graph over the lattice of one tower.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlowGraph {
    /// Layers.
    pub n_layers: usize,
    /// Tokens.
    pub n_tokens: usize,
    /// Edges, sorted by falling weight, so that a threshold is a prefix.
    pub edges: Vec<Edge>,
    /// What a weight is, for the legend.
    pub unit: &'static str,
    /// Edges below this share were left out, because there would be too many; 0 where all are there.
    pub floor: f32,
}

/// Pairs of tokens, over all layers, of which every edge is kept.
const ALL_KEPT: usize = 1 << 24;
/// Of more, edges below this share are left out: far too little to be drawn, and far too many to be held.
const FLOOR: f32 = 2e-4;

/// The share below which edges are left out of a graph with `n_pairs` edges between tokens.
fn floor(n_pairs: usize) -> f32 {
    if n_pairs > ALL_KEPT { FLOOR } else { 0.0 }
}

impl FlowGraph {
    /// Edges at or above `threshold` (a prefix of `edges`).
    pub fn above(&self, threshold: f32) -> &[Edge] {
        &self.edges[..self.edges.partition_point(|e| e.weight >= threshold)]
    }
}

/// One way to make a graph of a run.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// The graph.
    fn graph(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<FlowGraph>;
}

/// Every flow method, alphabetical by id.
pub static ALL: &[&dyn Method] = &[&information_flow_routes::InformationFlowRoutes, &rollout_graph::RolloutGraph];

/// The flow method of that id.
pub fn find(id: &str) -> Result<&'static dyn Method> {
    ALL.iter().copied().find(|m| m.info().id == id).ok_or_else(|| Error::Unknown {
        kind: "flow method",
        name: id.into(),
        known: ALL.iter().map(|m| m.info().id).collect::<Vec<_>>().join(", "),
    })
}
