//! What each query sees, as runs of key rows: one form for every mask rule, which the models, the passes and the
//! shaders read.

use super::MaskRule;
use std::ops::Range;

/// Per query, ascending runs of key rows that it sees; neither empty nor touching each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans {
    /// Runs of query q are `runs[offsets[q]..offsets[q + 1]]`.
    offsets: Vec<usize>,
    runs: Vec<(usize, usize)>,
}

impl Spans {
    /// Reads `mask` for queries and keys at these positions.
    pub fn new(mask: &MaskRule, q_positions: &[usize], k_positions: &[usize]) -> Self {
        let m = k_positions.len();
        match mask {
            MaskRule::Only { keys, of } => {
                let mut read = vec![false; m];
                keys.iter().filter(|&&k| k < m).for_each(|&k| read[k] = true);
                return Self::new(of, q_positions, k_positions).among(&read);
            }
            MaskRule::PerHead(all) => return Self::any(all, q_positions, k_positions),
            _ => {}
        }
        let ascending = k_positions.is_sorted();
        let mut out = Self { offsets: vec![0], runs: Vec::new() };
        for (i, &q) in q_positions.iter().enumerate() {
            match mask {
                MaskRule::Bidirectional => out.push(0, m),
                MaskRule::Causal if ascending => out.push(0, k_positions.partition_point(|&k| k <= q)),
                MaskRule::SlidingWindow(w) if ascending => {
                    let first = k_positions.partition_point(|&k| k.saturating_add(*w) <= q);
                    out.push(first, k_positions.partition_point(|&k| k <= q));
                }
                MaskRule::Windows(edges) if ascending => {
                    let w = edges.partition_point(|&e| e <= q);
                    let first = w.checked_sub(1).map_or(0, |w| k_positions.partition_point(|&k| k < edges[w]));
                    out.push(first, edges.get(w).map_or(m, |&e| k_positions.partition_point(|&k| k < e)));
                }
                MaskRule::Table(table) => {
                    let mut keys = std::borrow::Cow::Borrowed(table.get(i).map_or(&[][..], Vec::as_slice));
                    if !keys.is_sorted() {
                        keys.to_mut().sort_unstable();
                    }
                    keys.iter().take_while(|&&k| k < m).for_each(|&k| out.push(k, k + 1));
                }
                _ => (0..m).filter(|&k| mask.allows(i, q, k, k_positions[k])).for_each(|k| out.push(k, k + 1)),
            }
            out.offsets.push(out.runs.len());
        }
        out
    }

    /// The keys of these for which `read` holds.
    fn among(&self, read: &[bool]) -> Self {
        let mut out = Self { offsets: vec![0], runs: Vec::new() };
        for q in 0..self.offsets.len() - 1 {
            for k in self.of(q).iter().flat_map(|&(a, b)| a..b).filter(|&k| read[k]) {
                out.push(k, k + 1);
            }
            out.offsets.push(out.runs.len());
        }
        out
    }

    /// What each query sees in some head.
    fn any(heads: &[MaskRule], q_positions: &[usize], k_positions: &[usize]) -> Self {
        let all: Vec<Self> = heads.iter().map(|m| Self::new(m, q_positions, k_positions)).collect();
        let mut out = Self { offsets: vec![0], runs: Vec::new() };
        for q in 0..q_positions.len() {
            let mut runs: Vec<(usize, usize)> = all.iter().flat_map(|s| s.of(q).iter().copied()).collect();
            runs.sort_unstable();
            runs.into_iter().for_each(|(a, b)| out.push(a, b));
            out.offsets.push(out.runs.len());
        }
        out
    }

    /// Adds a run to the present query, joined to its last one where they touch.
    fn push(&mut self, first: usize, end: usize) {
        if first >= end {
            return;
        }
        let own = self.offsets[self.offsets.len() - 1];
        match self.runs[own..].last_mut() {
            Some(last) if last.1 >= first => last.1 = last.1.max(end),
            _ => self.runs.push((first, end)),
        }
    }

    /// Runs of key rows that query `query` sees.
    pub fn of(&self, query: usize) -> &[(usize, usize)] {
        &self.runs[self.offsets[query]..self.offsets[query + 1]]
    }

    /// From the first key that any of `queries` sees to one past the last one.
    pub fn hull(&self, queries: Range<usize>) -> Range<usize> {
        let runs = &self.runs[self.offsets[queries.start]..self.offsets[queries.end]];
        let first = runs.iter().map(|r| r.0).min().unwrap_or(0);
        first..runs.iter().map(|r| r.1).max().unwrap_or(0)
    }

    /// Number of queries that see each of the `n_keys` keys.
    pub fn seen_by(&self, n_keys: usize) -> Vec<usize> {
        let mut change = vec![0isize; n_keys + 1];
        for &(first, end) in &self.runs {
            change[first] += 1;
            change[end] -= 1;
        }
        let mut now = 0;
        change[..n_keys]
            .iter()
            .map(|c| {
                now += c;
                now.unsigned_abs()
            })
            .collect()
    }

    /// Pairs of query and key that see each other.
    pub fn n_pairs(&self) -> usize {
        self.runs.iter().map(|r| r.1 - r.0).sum()
    }

    /// Offsets and runs of `queries` as a shader reads them, counted from the first of them.
    pub(crate) fn words(&self, queries: Range<usize>) -> (Vec<usize>, Vec<usize>) {
        let offsets = &self.offsets[queries.start..=queries.end];
        let runs = &self.runs[offsets[0]..offsets[offsets.len() - 1]];
        (offsets.iter().map(|o| o - offsets[0]).collect(), runs.iter().flat_map(|r| [r.0, r.1]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_say_what_the_rule_says_for_every_rule_and_order_of_positions() {
        let table = vec![vec![0], vec![3, 1, 0, 1], vec![], vec![2, 9]];
        let rules = [
            MaskRule::Causal,
            MaskRule::Bidirectional,
            MaskRule::SlidingWindow(0),
            MaskRule::SlidingWindow(2),
            MaskRule::SlidingWindow(usize::MAX),
            MaskRule::Windows(vec![0, 2, 4]),
            MaskRule::Windows(vec![3]),
            MaskRule::Near(1),
            MaskRule::Blocks { runs: vec![(0, 3), (4, 8)], of: Box::new(MaskRule::SlidingWindow(2)) },
            MaskRule::Back {
                window: 2,
                of: Box::new(MaskRule::Blocks { runs: vec![(0, 4)], of: Box::new(MaskRule::Causal) }),
            },
            MaskRule::Table(table.clone().into()),
            MaskRule::Only { keys: vec![3, 0, 9], of: Box::new(MaskRule::Causal) },
            MaskRule::Only { keys: vec![1, 2], of: Box::new(MaskRule::Table(table.into())) },
            MaskRule::PerHead(vec![
                MaskRule::SlidingWindow(1),
                MaskRule::Only { keys: vec![0], of: Box::new(MaskRule::Bidirectional) },
            ]),
        ];
        for positions in [[0, 1, 2, 3], [0, 4, 4, 9], [7, 1, 3, 2]] {
            for rule in &rules {
                let spans = Spans::new(rule, &positions, &positions);
                let mut seen_by = [0; 4];
                for q in 0..4 {
                    for k in 0..4 {
                        let want = rule.allows(q, positions[q], k, positions[k]);
                        let got = spans.of(q).iter().any(|&(a, b)| (a..b).contains(&k));
                        assert_eq!(got, want, "{rule:?} {positions:?} {q} {k}");
                        seen_by[k] += usize::from(want);
                        assert!(!want || spans.hull(0..4).contains(&k));
                    }
                }
                assert_eq!(spans.seen_by(4), seen_by);
                assert_eq!(spans.n_pairs(), seen_by.iter().sum::<usize>());
            }
        }
    }

    #[test]
    fn touching_keys_are_one_run() {
        let spans = Spans::new(&MaskRule::Table(vec![vec![2, 0, 1, 5]].into()), &[0], &[0; 6]);
        assert_eq!(spans.of(0), [(0, 3), (5, 6)]);
    }
}
