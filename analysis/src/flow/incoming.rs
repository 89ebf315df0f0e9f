//! The edges of a graph above a threshold by where they end, so that walking backwards looks only at what it needs.

use super::{FlowGraph, Node};

/// Parts that a level of the lattice has.
const PARTS: usize = 3;

/// Edges of one graph above one threshold, by the node they end in.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    n_tokens: usize,
    /// Edges into node `i` are `edges[starts[i]..starts[i + 1]]`.
    starts: Vec<u32>,
    /// Indices into the graph's edges, those of a node in their order there: by falling weight.
    edges: Vec<u32>,
}

impl Incoming {
    /// Sorts the edges of `graph` at or above `threshold` by where they end.
    pub fn new(graph: &FlowGraph, threshold: f32) -> Self {
        let above = graph.above(threshold);
        let n_nodes = (graph.n_layers + 1) * PARTS * graph.n_tokens;
        let mut out = Self { n_tokens: graph.n_tokens, starts: vec![0; n_nodes + 1], edges: vec![0; above.len()] };
        for e in above {
            let slot = out.slot(e.to);
            out.starts[slot + 1] += 1;
        }
        for i in 1..out.starts.len() {
            out.starts[i] += out.starts[i - 1];
        }
        let mut next = out.starts.clone();
        for (i, e) in above.iter().enumerate() {
            let place = &mut next[out.slot(e.to)];
            out.edges[*place as usize] = i as u32;
            *place += 1;
        }
        out
    }

    fn slot(&self, node: Node) -> usize {
        (node.level as usize * PARTS + node.part as usize) * self.n_tokens + node.token as usize
    }

    /// Edges into `node`, as indices into the graph's edges, by falling weight.
    pub fn of(&self, node: Node) -> &[u32] {
        let slot = self.slot(node);
        let range = self.starts.get(slot).zip(self.starts.get(slot + 1));
        range.map_or(&[], |(a, b)| &self.edges[*a as usize..*b as usize])
    }

    /// Edges on a path that ends in one of `targets`, as ascending indices into the edges of `graph`, which this was
    /// made of.
    pub fn routes(&self, graph: &FlowGraph, targets: &[Node]) -> Vec<u32> {
        let mut seen = vec![false; self.starts.len()];
        let mut stack: Vec<Node> = Vec::new();
        let mut reach = |node: Node, stack: &mut Vec<Node>| {
            if let Some(seen) = seen.get_mut(self.slot(node))
                && !std::mem::replace(seen, true)
            {
                stack.push(node);
            }
        };
        targets.iter().for_each(|&t| reach(t, &mut stack));
        let mut out = Vec::new();
        while let Some(node) = stack.pop() {
            for &i in self.of(node) {
                out.push(i);
                reach(graph.edges[i as usize].from, &mut stack);
            }
        }
        out.sort_unstable();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Edge, Part};
    use super::*;

    fn node(level: u32, part: Part, token: u32) -> Node {
        Node { level, part, token }
    }

    #[test]
    fn routes_by_hand_and_only_above_the_threshold() {
        use Part::{Attn, Resid};
        let edge = |from, to, weight| Edge { from, to, weight };
        let (a, b) = (node(1, Attn, 0), node(1, Attn, 1));
        let (x, y) = (node(1, Resid, 0), node(1, Resid, 1));
        let edges = vec![
            edge(node(0, Resid, 0), a, 0.9),
            edge(b, y, 0.8),
            edge(a, x, 0.7),
            edge(node(0, Resid, 1), b, 0.6),
            edge(node(0, Resid, 0), b, 0.2),
        ];
        let graph = FlowGraph { n_layers: 1, n_tokens: 2, edges, unit: "share", floor: 0.0 };
        let all = Incoming::new(&graph, 0.1);
        assert_eq!(all.of(b), [3, 4]);
        assert_eq!(all.of(node(0, Resid, 1)), [0u32; 0]);
        assert_eq!(all.of(node(7, Resid, 1)), [0u32; 0]);
        assert_eq!(all.routes(&graph, &[y]), [1, 3, 4]);
        assert_eq!(all.routes(&graph, &[x, y]), [0, 1, 2, 3, 4]);
        let strong = Incoming::new(&graph, 0.5);
        assert_eq!(strong.routes(&graph, &[y]), [1, 3]);
        assert_eq!(strong.routes(&graph, &[]), [0u32; 0]);
    }
}
