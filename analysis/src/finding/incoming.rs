//! The edges of a graph by where they end, so that walking backwards looks only at what it needs.

use super::{LinkEnd, Links};

/// Edges of one graph by the node they end in, as far down their weights as somebody asked: a threshold that falls adds
/// the edges between it and the one before, and one that rises costs nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// Number of the first node of each level, and of all nodes.
    firsts: Vec<usize>,
    /// Into each node, by falling weight: index of the edge in the graph, and number of the node that it comes from.
    into: Vec<Vec<(u32, u32)>>,
    /// Edges that were sorted in.
    sorted: usize,
}

impl Incoming {
    /// Nothing of `graph` yet.
    pub fn new(graph: &Links) -> Self {
        let mut firsts = vec![0];
        for level in &graph.levels {
            firsts.push(firsts.last().copied().unwrap_or(0) + level.n);
        }
        let nodes = firsts.last().copied().unwrap_or(0);
        Self { firsts, into: vec![Vec::new(); nodes], sorted: 0 }
    }

    /// Sorts in the `strongest` edges of `graph`, which this was made of, as far as they are not yet.
    pub fn grow(&mut self, graph: &Links, strongest: usize) {
        let strongest = strongest.min(graph.links.len());
        for i in self.sorted..strongest {
            let link = &graph.links[i];
            let (from, to) = (self.slot(link.from), self.slot(link.to));
            if let Some(into) = self.into.get_mut(to) {
                into.push((i as u32, from as u32));
            }
        }
        self.sorted = self.sorted.max(strongest);
    }

    /// Number of a node; one past the last for one that is not there.
    fn slot(&self, end: LinkEnd) -> usize {
        let level = self.firsts.get(end.level as usize).zip(self.firsts.get(end.level as usize + 1));
        let nowhere = self.into.len();
        level.map(|(first, next)| (first + end.at as usize, next)).filter(|(i, next)| i < next).map_or(nowhere, |p| p.0)
    }

    /// Those of the `strongest` edges that end in `node`, as indices into the graph's edges, by falling weight.
    pub fn of(&self, node: LinkEnd, strongest: usize) -> impl Iterator<Item = u32> {
        self.among(self.slot(node), strongest).map(|(edge, _)| edge)
    }

    fn among(&self, slot: usize, strongest: usize) -> impl Iterator<Item = (u32, u32)> {
        let all = self.into.get(slot).map_or(&[][..], Vec::as_slice);
        all.iter().copied().take_while(move |(edge, _)| (*edge as usize) < strongest)
    }

    /// Which of `edges` lie on a path of the `strongest` edges of `graph` that ends in one of `targets`.
    pub fn routes(&self, graph: &Links, strongest: usize, targets: &[LinkEnd], edges: &[u32]) -> Vec<u32> {
        let mut seen = vec![false; self.into.len()];
        let mut stack = Vec::new();
        let mut reach = |slot: usize, stack: &mut Vec<usize>| {
            if let Some(seen) = seen.get_mut(slot)
                && !std::mem::replace(seen, true)
            {
                stack.push(slot);
            }
        };
        targets.iter().for_each(|&t| reach(self.slot(t), &mut stack));
        while let Some(node) = stack.pop() {
            self.among(node, strongest).for_each(|(_, from)| reach(from as usize, &mut stack));
        }
        // An edge into a node that leads there leads there, too.
        let leads = |i: &u32| {
            let link = graph.links.get(*i as usize).filter(|_| (*i as usize) < strongest);
            link.is_some_and(|l| seen.get(self.slot(l.to)) == Some(&true))
        };
        edges.iter().copied().filter(leads).collect()
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
        let mut incoming = Incoming::new(&graph);
        let every: Vec<u32> = (0..5).collect();
        // From a high threshold to a low one and back: what was sorted in before stays.
        incoming.grow(&graph, 4);
        let strong = incoming.clone();
        incoming.grow(&graph, 5);
        incoming.grow(&graph, 2);
        let of = |node, strongest| incoming.of(node, strongest).collect::<Vec<u32>>();
        assert_eq!(of(b, 5), [3, 4]);
        assert_eq!(of(b, 4), [3]);
        assert!(of(end(0, 1), 5).is_empty() && of(end(7, 1), 5).is_empty() && of(end(1, 7), 5).is_empty());
        let routes = |strongest, targets: &[LinkEnd]| incoming.routes(&graph, strongest, targets, &every);
        assert_eq!(routes(5, &[y]), [1, 3, 4]);
        assert_eq!(routes(5, &[x, y]), [0, 1, 2, 3, 4]);
        assert_eq!(routes(4, &[y]), [1, 3]);
        assert!(routes(4, &[]).is_empty());
        assert_eq!(incoming.routes(&graph, 5, &[y], &[0, 4]), [4]);
        assert_eq!(strong.routes(&graph, 4, &[y], &every), [1, 3]);
    }
}
