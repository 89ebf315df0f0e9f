//! What moving the threshold of a flow graph costs: edges sorted by where they end, and the routes to a token, for a
//! lattice of 16,384 nodes.

use criterion::Criterion;
use std::hint::black_box;
use tokenscope_analysis::finding::Incoming;
use tokenscope_analysis::flow::{Edge, FlowGraph, Node};
use tokenscope_analysis::threads::alone;
use tokenscope_analysis::trace::Tower;

const LAYERS: usize = 15;
const TOKENS: usize = 1024;
/// Edges into each node above the input.
const INTO: usize = 24;

/// Every node is reached from itself and from tokens before it, with falling weights.
fn lattice() -> FlowGraph {
    let mut edges = Vec::new();
    for (level, to) in (1..=LAYERS).flat_map(|level| (0..TOKENS).map(move |to| (level, to))) {
        for i in 0..INTO.min(to + 1) {
            let from = to - i * 37 % (to + 1);
            let weight = 1.0 / (i + 2) as f32 + (to * 31 + level) as f32 * 1e-6;
            edges.push(Edge { from: Node::resid(level - 1, from), to: Node::resid(level, to), weight }.into());
        }
    }
    FlowGraph::new(Tower::Text, LAYERS, TOKENS, edges, 0.0)
}

fn filter(c: &mut Criterion) {
    let graph = lattice();
    let target = Node::resid(LAYERS, TOKENS - 1).into();
    let mut group = c.benchmark_group(format!("{} edges between 16384 nodes", graph.links.links.len()));
    let every: Vec<u32> = (0..graph.links.links.len() as u32).collect();
    for threshold in [0.0, 0.1] {
        let strongest = graph.links.above(threshold).len();
        let grown = || {
            let mut incoming = Incoming::new(&graph.links);
            incoming.grow(&graph.links, black_box(strongest));
            incoming
        };
        group.bench_function(format!("threshold {threshold}, first"), |b| b.iter(grown));
        let incoming = grown();
        group.bench_function(format!("threshold {threshold}, routes"), |b| {
            b.iter(|| incoming.routes(&graph.links, black_box(strongest), &[target], &every[..strongest]))
        });
    }
    group.finish();
}

fn main() {
    alone(all);
}

fn all() {
    let mut c = Criterion::default().configure_from_args();
    filter(&mut c);
    c.final_summary();
}
