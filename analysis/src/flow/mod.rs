//! Graphs of how information travels between tokens and layers.

mod information_flow_routes;
mod rollout_graph;

use crate::ctx::Ctx;
use crate::finding::{Finding, Level, Link, LinkEnd, Links, Measure, Unit};
use crate::method::{Info, Params};
use crate::trace::Tower;
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

impl Node {
    /// The residual stream of a token: 0 for the input, `l + 1` for the output of layer `l`.
    pub fn resid(level: usize, token: usize) -> Self {
        Self { level: level as u32, part: Part::Resid, token: token as u32 }
    }
}

/// A layer has three levels of a picture: after its attention, its MLP, and its output, which lies on a whole height.
impl From<Node> for LinkEnd {
    fn from(n: Node) -> Self {
        let inside = match n.part {
            Part::Attn => 2,
            Part::Mlp => 1,
            Part::Resid => 0,
        };
        Self { level: (3 * n.level).saturating_sub(inside), at: n.token }
    }
}

impl From<LinkEnd> for Node {
    fn from(end: LinkEnd) -> Self {
        let part = match end.level % 3 {
            1 => Part::Attn,
            2 => Part::Mlp,
            _ => Part::Resid,
        };
        Self { level: end.level.div_ceil(3), part, token: end.at }
    }
}

/// A weighted edge, pointing the way that information travels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Edge {
    /// From (earlier level).
    pub from: Node,
    /// To.
    pub to: Node,
    /// Share of what arrives at `to`; shares into a node sum to at most 1.
    pub weight: f32,
}

impl From<Edge> for Link {
    fn from(e: Edge) -> Self {
        Self { from: e.from.into(), to: e.to.into(), weight: e.weight }
    }
}

impl From<&Link> for Edge {
    fn from(l: &Link) -> Self {
        Self { from: l.from.into(), to: l.to.into(), weight: l.weight }
    }
}

/// A flow graph over the lattice of one tower.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowGraph {
    /// Layers.
    pub n_layers: usize,
    /// Tokens.
    pub n_tokens: usize,
    /// The graph: its ends are [`Node`]s, its weights shares of what arrives.
    pub links: Links,
}

impl FlowGraph {
    /// A graph of these edges on the lattice of `n_layers` by `n_tokens` of `tower`. Edges below `floor` were left out.
    pub fn new(tower: Tower, n_layers: usize, n_tokens: usize, edges: Vec<Link>, floor: f32) -> Self {
        let level = |name: String, height: f32, aside: f32| Level {
            name,
            unit: Unit::Tokens(tower),
            n: n_tokens,
            height,
            aside,
        };
        let mut levels = vec![level("in".into(), 0.0, 0.0)];
        for l in 0..n_layers {
            // The nodes inside a layer have no name: edges pass through them.
            let inside = l as f32 + 0.55;
            levels.push(level(String::new(), inside, 0.0));
            levels.push(level(String::new(), inside, 0.22));
            levels.push(level(format!("L{l}"), l as f32 + 1.0, 0.0));
        }
        let links = Links::new("flow", levels, Measure::new("flow", "share of what arrives"), edges);
        Self { n_layers, n_tokens, links: Links { floor, ..links } }
    }

    /// Edges of at least `threshold`, the strongest first.
    pub fn above(&self, threshold: f32) -> impl Iterator<Item = Edge> {
        self.links.above(threshold).iter().map(Edge::from)
    }

    /// The graph as a finding.
    pub fn finding(&self) -> Finding {
        Finding::of(self.links.clone())
    }
}

/// Pairs of tokens, over all layers, of which every edge is kept.
const ALL_KEPT: usize = 1 << 24;
/// Of more, edges below this share are left out: far too little to be drawn, and far too many to be held.
const FLOOR: f32 = 2e-4;

/// The share below which edges are left out of a graph with `n_pairs` edges between tokens.
fn floor(n_pairs: usize) -> f32 {
    if n_pairs > ALL_KEPT { FLOOR } else { 0.0 }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_ends_on_levels_and_back() {
        for part in [Part::Resid, Part::Attn, Part::Mlp] {
            let node = Node { level: 2, part, token: 5 };
            assert_eq!(Node::from(LinkEnd::from(node)), node);
        }
        assert_eq!(LinkEnd::from(Node::resid(0, 3)), LinkEnd { level: 0, at: 3 });
        assert_eq!(LinkEnd::from(Node::resid(2, 3)), LinkEnd { level: 6, at: 3 });
        let link = Edge { from: Node::resid(1, 0), to: Node::resid(2, 5), weight: 0.5 };
        let graph = FlowGraph::new(Tower::Text, 2, 6, vec![link.into()], 0.0);
        assert_eq!(graph.links.levels[6].name, "L1");
        assert!(graph.finding().check().is_ok() && graph.above(0.5).eq([link]) && graph.above(0.6).next().is_none());
    }
}
