//! The largest flow through levels of nodes, each joined to the next below by a map of capacities.
//!
//! Source: Dinitz 1970: paths of the shortest length until none is left, then of the next length. The value is what
//! any other way finds, up to rounding.

/// Flows below this are rounding.
const EPS: f64 = 1e-12;
/// Steps to a node that no way leads to.
const FAR: u32 = u32::MAX;

/// A network of levels, with room for one flow at a time: 2 f64 per capacity.
pub struct Network<'a> {
    /// `maps[l]` is `[n, n]`: capacity from (l + 1, i) to (l, j).
    maps: &'a [Vec<f64>],
    n: usize,
    /// What is left of each capacity.
    down: Vec<Vec<f64>>,
    /// What flows from (l + 1, j) to (l, i), and so could be sent back, at `i · n + j`.
    up: Vec<Vec<f64>>,
    /// Which capacities are not as they were: map, from, to.
    touched: Vec<(usize, usize, usize)>,
    /// Steps from the source to each node.
    steps: Vec<u32>,
    /// Per level, the nodes that no way was found to yet.
    unseen: Vec<Vec<usize>>,
    /// Per node, which neighbour to try next: the n below, then the n above.
    next: Vec<usize>,
    /// Nodes in the order in which they are reached.
    queue: Vec<usize>,
}

impl<'a> Network<'a> {
    /// Of maps `[n, n]`, the lowest first.
    pub fn new(maps: &'a [Vec<f64>], n: usize) -> Self {
        let nodes = (maps.len() + 1) * n;
        Self {
            maps,
            n,
            down: maps.to_vec(),
            up: vec![vec![0.0; n * n]; maps.len()],
            touched: Vec::new(),
            steps: vec![FAR; nodes],
            unseen: vec![Vec::new(); maps.len() + 1],
            next: vec![0; nodes],
            queue: Vec::new(),
        }
    }

    /// The largest flow from node `from` above the highest map down to input `to`.
    pub fn flow(&mut self, from: usize, to: usize) -> f64 {
        let n = self.n;
        for (l, i, j) in self.touched.drain(..) {
            self.down[l][i * n + j] = self.maps[l][i * n + j];
            self.up[l][j * n + i] = 0.0;
        }
        let source = self.maps.len() * n + from;
        let mut total = 0.0;
        while source != to && self.reach(source, to) {
            total += self.fill(source, to);
        }
        total
    }

    /// Counts the steps from the source to every node nearer than the sink; false if no way leads to the sink.
    fn reach(&mut self, source: usize, to: usize) -> bool {
        let n = self.n;
        let Self { steps, unseen, queue, down, up, .. } = self;
        steps.fill(FAR);
        unseen.iter_mut().enumerate().for_each(|(level, unseen)| {
            unseen.clear();
            unseen.extend((0..n).filter(|i| level * n + i != source));
        });
        steps[source] = 0;
        queue.clear();
        queue.push(source);
        let mut at = 0;
        while at < queue.len() && steps[to] == FAR {
            let (level, i, after) = (queue[at] / n, queue[at] % n, steps[queue[at]] + 1);
            at += 1;
            let mut visit = |level: usize, left: &[f64]| {
                unseen[level].retain(|&j| {
                    let open = left[j] > EPS;
                    if open {
                        steps[level * n + j] = after;
                        queue.push(level * n + j);
                    }
                    !open
                });
            };
            if level > 0 {
                visit(level - 1, &down[level - 1][i * n..][..n]);
            }
            if level < up.len() {
                visit(level + 1, &up[level][i * n..][..n]);
            }
        }
        steps[to] != FAR
    }

    /// Sends all that paths of the shortest length hold.
    fn fill(&mut self, source: usize, to: usize) -> f64 {
        self.next.fill(0);
        let mut total = 0.0;
        let mut path = vec![source];
        while let Some(&node) = path.last() {
            if node == to {
                let push = path.windows(2).map(|w| self.left(w[0], w[1])).fold(f64::INFINITY, f64::min);
                total += push;
                let mut full = path.len();
                for i in (1..path.len()).rev() {
                    self.send(path[i - 1], path[i], push);
                    if self.left(path[i - 1], path[i]) <= EPS {
                        full = i;
                    }
                }
                path.truncate(full);
            } else if let Some(neighbour) = self.advance(node, to) {
                path.push(neighbour);
            } else {
                // Nothing more goes through here.
                self.steps[node] = FAR;
                path.pop();
            }
        }
        total
    }

    /// The next neighbour that lies one step farther and has room.
    fn advance(&mut self, node: usize, to: usize) -> Option<usize> {
        let (n, level, i) = (self.n, node / self.n, node % self.n);
        let (after, last) = (self.steps[node].checked_add(1)?, self.steps[to]);
        let serves = |node: usize| self.steps[node] == after && (after < last || node == to);
        let mut k = self.next[node];
        let found = loop {
            if k < n && level > 0 {
                let left = &self.down[level - 1][i * n..][..n];
                let below = (level - 1) * n;
                match (k..n).find(|&j| left[j] > EPS && serves(below + j)) {
                    Some(j) => break Some((j, below + j)),
                    None => k = n,
                }
            } else if k < 2 * n && level < self.up.len() {
                let left = &self.up[level][i * n..][..n];
                let above = (level + 1) * n;
                break (k.max(n) - n..n).find(|&j| left[j] > EPS && serves(above + j)).map(|j| (n + j, above + j));
            } else {
                break None;
            }
        };
        self.next[node] = found.map_or(2 * n, |f| f.0);
        found.map(|f| f.1)
    }

    /// What more could go from one node to its neighbour.
    fn left(&self, a: usize, b: usize) -> f64 {
        let (n, i, j) = (self.n, a % self.n, b % self.n);
        if a / n > b / n { self.down[b / n][i * n + j] } else { self.up[a / n][i * n + j] }
    }

    fn send(&mut self, a: usize, b: usize, push: f64) {
        let (n, i, j) = (self.n, a % self.n, b % self.n);
        if a / n > b / n {
            self.down[b / n][i * n + j] -= push;
            if self.up[b / n][j * n + i] == 0.0 {
                self.touched.push((b / n, i, j));
            }
            self.up[b / n][j * n + i] += push;
        } else {
            self.up[a / n][i * n + j] -= push;
            self.down[a / n][j * n + i] += push;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_layer_limits_the_flow() {
        // From node 1 two paths lead to input 0: through 0 (0.5 · min with 1) and through 1 (0.5, then 0.25).
        let top = vec![1.0, 0.0, 0.5, 0.5];
        let bottom = vec![1.0, 0.0, 0.25, 0.75];
        assert!((Network::new(&[bottom, top], 2).flow(1, 0) - 0.75).abs() < 1e-12);
    }

    /// The smallest sum of capacities that parts the source from the sink: each set of nodes is tried.
    fn narrowest_cut(maps: &[Vec<f64>], n: usize, from: usize, to: usize) -> f64 {
        let nodes = (maps.len() + 1) * n;
        let source = maps.len() * n + from;
        let within = |set: u32, node: usize| set >> node & 1 == 1;
        let sets = (0..1u32 << nodes).filter(|s| within(*s, source) && !within(*s, to));
        let cut = |set: u32| -> f64 {
            let crosses = |l: usize, i: usize, j: usize| within(set, (l + 1) * n + i) && !within(set, l * n + j);
            let edges = (0..maps.len() * n * n).map(|e| (e / (n * n), e / n % n, e % n));
            edges.filter(|&(l, i, j)| crosses(l, i, j)).map(|(l, i, j)| maps[l][i * n + j]).sum()
        };
        sets.map(cut).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn a_flow_is_as_large_as_the_narrowest_cut() {
        let n = 3;
        for seed in 0..40 {
            // Many zeros, so that flows must be sent back and ways be found around.
            let value = |l: usize, e: usize| match (e * 7919 + l * 104_729 + seed * 1299) % 11 {
                v @ 0..6 => v as f64 / 5.0,
                _ => 0.0,
            };
            let maps: Vec<Vec<f64>> = (0..3).map(|l| (0..n * n).map(|e| value(l, e)).collect()).collect();
            let mut network = Network::new(&maps, n);
            for (from, to) in (0..n).flat_map(|from| (0..n).map(move |to| (from, to))) {
                let (got, want) = (network.flow(from, to), narrowest_cut(&maps, n, from, to));
                assert!((got - want).abs() < 1e-12, "{seed}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn without_layers_nothing_flows() {
        assert_eq!(Network::new(&[], 2).flow(0, 1), 0.0);
    }
}
