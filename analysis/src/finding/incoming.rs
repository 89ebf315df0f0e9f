//! The edges of a graph above a threshold by where they end, so that walking backwards looks only at what it needs.

use super::{LinkEnd, Links};

/// Edges of one graph above one threshold, by the node they end in.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// Number of the first node of each level, and of all nodes.
    firsts: Vec<usize>,
    /// Edges into node `i` are `edges[starts[i]..starts[i + 1]]`.
    starts: Vec<u32>,
    /// Indices into the graph's edges, those of a node in their order there: by falling weight.
    edges: Vec<u32>,
}

impl Incoming {
    /// Sorts the edges of `graph` at or above `threshold` by where they end.
    pub fn new(graph: &Links, threshold: f32) -> Self {
        let above = graph.above(threshold);
        let mut firsts = vec![0];
        for level in &graph.levels {
            firsts.push(firsts.last().copied().unwrap_or(0) + level.n);
        }
        let n_nodes = firsts.last().copied().unwrap_or(0);
        let mut out = Self { firsts, starts: vec![0; n_nodes + 1], edges: vec![0; above.len()] };
        let slots: Vec<usize> = above.iter().map(|l| out.slot(l.to)).collect();
        for slot in slots.iter().filter(|s| **s < n_nodes) {
            out.starts[slot + 1] += 1;
        }
        for i in 1..out.starts.len() {
            out.starts[i] += out.starts[i - 1];
        }
        let mut next = out.starts.clone();
        for (i, slot) in slots.into_iter().enumerate().filter(|(_, s)| *s < n_nodes) {
            let place = &mut next[slot];
            out.edges[*place as usize] = i as u32;
            *place += 1;
        }
        out
    }

    /// Number of a node; one past the last for one that is not there.
    fn slot(&self, end: LinkEnd) -> usize {
        let level = self.firsts.get(end.level as usize).zip(self.firsts.get(end.level as usize + 1));
        let nowhere = self.starts.len() - 1;
        level.map(|(first, next)| (first + end.at as usize, next)).filter(|(i, next)| i < next).map_or(nowhere, |p| p.0)
    }

    /// Edges into `node`, as indices into the graph's edges, by falling weight.
    pub fn of(&self, node: LinkEnd) -> &[u32] {
        let slot = self.slot(node);
        let range = self.starts.get(slot).zip(self.starts.get(slot + 1));
        range.map_or(&[], |(a, b)| &self.edges[*a as usize..*b as usize])
    }

    /// Edges on a path that ends in one of `targets`, as ascending indices into the edges of `graph`, which this was
    /// made of.
    pub fn routes(&self, graph: &Links, targets: &[LinkEnd]) -> Vec<u32> {
        let mut seen = vec![false; self.starts.len()];
        let mut stack: Vec<LinkEnd> = Vec::new();
        let mut reach = |node: LinkEnd, stack: &mut Vec<LinkEnd>| {
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
                reach(graph.links[i as usize].from, &mut stack);
            }
        }
        out.sort_unstable();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Level, Link, Measure, Unit};
    use super::*;

    #[test]
    fn routes_by_hand_and_only_above_the_threshold() {
        let end = |level, at| LinkEnd { level, at };
        let link = |from, to, weight| Link { from, to, weight };
        // Inputs, attention, outputs of two tokens.
        let level = Level { name: String::new(), unit: Unit::Positions, n: 2, height: 0.0, aside: 0.0 };
        let (a, b) = (end(1, 0), end(1, 1));
        let (x, y) = (end(2, 0), end(2, 1));
        let links = vec![
            link(end(0, 0), a, 0.9),
            link(b, y, 0.8),
            link(a, x, 0.7),
            link(end(0, 1), b, 0.6),
            link(end(0, 0), b, 0.2),
        ];
        let graph = Links::new("l", vec![level; 3], Measure::new("flow", "share"), links);
        let all = Incoming::new(&graph, 0.1);
        assert_eq!(all.of(b), [3, 4]);
        assert_eq!(all.of(end(0, 1)), [0u32; 0]);
        assert_eq!(all.of(end(7, 1)), [0u32; 0]);
        assert_eq!(all.of(end(1, 7)), [0u32; 0]);
        assert_eq!(all.routes(&graph, &[y]), [1, 3, 4]);
        assert_eq!(all.routes(&graph, &[x, y]), [0, 1, 2, 3, 4]);
        let strong = Incoming::new(&graph, 0.5);
        assert_eq!(strong.routes(&graph, &[y]), [1, 3]);
        assert_eq!(strong.routes(&graph, &[]), [0u32; 0]);
    }
}
