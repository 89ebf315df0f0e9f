//! What the attention passes share: one head's queries, keys and rule, and the plain arithmetic of its map.

mod blocks;
pub(super) mod device;
mod means;
mod sweep;

pub(super) use blocks::{Blocks, QUERIES, Running, edges, in_parallel, query_units};
pub(super) use means::means;
pub(super) use sweep::{Norm, sweep, sweep_rows};

use crate::array::Array;
use crate::trace::{AttentionRule, Key, MaskRule, Site, Spans, Tower, Trace};
use crate::{Error, Result};

/// One query head: all that its map `softmax(cap(scale · q kᵀ) + mask)` is computed from.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Queries `[n_queries, width]`.
    pub q: &'a [f32],
    /// Keys of the head's group `[n_keys, width]`.
    pub k: &'a [f32],
    /// Components of a query and of a key.
    pub width: usize,
    /// Factor on the dot products.
    pub scale: f32,
    /// `cap · tanh(score / cap)` before the softmax, where the model caps scores.
    pub soft_cap: Option<f32>,
    /// A score that belongs to no key and takes its share of every query.
    pub sink: Option<f32>,
    /// Which keys a query sees.
    pub mask: &'a MaskRule,
    /// Position ids of the query rows.
    pub q_positions: &'a [usize],
    /// Position ids of the key rows.
    pub k_positions: &'a [usize],
}

impl<'a> Head<'a> {
    /// Query head `head` of a layer with queries `[h, n, e]` and keys `[g, m, e]`; each of the g key heads serves h / g
    /// query heads. Errors if the shapes do not fit each other or the positions.
    pub fn new(
        q: &'a Array,
        k: &'a Array,
        rule: &'a AttentionRule,
        q_positions: &'a [usize],
        k_positions: &'a [usize],
        head: usize,
    ) -> Result<Self> {
        let [h, n, e] = q.dims("queries")?;
        let [g, m, ek] = k.dims("keys")?;
        if g == 0 || h % g != 0 || e != ek || m != k_positions.len() {
            let want = format!("[divisor of {h}, {}, {e}]", k_positions.len());
            return Err(Error::shape("keys", want, k.shape()));
        }
        if n != q_positions.len() {
            return Err(Error::shape("queries", format!("[{h}, {}, {e}]", q_positions.len()), q.shape()));
        }
        if head >= h {
            return Err(Error::invalid(format!("there is no head {head}; the layer has {h}")));
        }
        if n.max(m) >= 1 << 31 {
            return Err(Error::invalid(format!("{} rows are more than a map can have", n.max(m))));
        }
        let group = head / (h / g);
        Ok(Self {
            q: &q.data()[head * n * e..(head + 1) * n * e],
            k: &k.data()[group * m * e..(group + 1) * m * e],
            width: e,
            scale: rule.scale,
            soft_cap: rule.soft_cap,
            sink: rule.sink(head),
            mask: rule.mask.of_head(head, h),
            q_positions,
            k_positions,
        })
    }

    /// A head of a trace. Errors if queries and keys of the layer were not captured.
    pub fn of_trace(trace: &'a Trace, tower: Tower, tile: usize, layer: usize, head: usize) -> Result<Self> {
        let run = trace.tower(tower)?;
        let rule = run.attention.get(layer);
        let rule = rule.ok_or_else(|| Error::invalid(format!("there is no layer {layer} in this run")))?;
        let get = |site| {
            trace.arrays.get(&Key { tower, tile, layer, site }).ok_or_else(|| {
                Error::invalid(format!("the trace holds no {site:?} of layer {layer}; run again with q and k captured"))
            })
        };
        let (q, k) = (get(Site::Q)?, get(Site::K)?);
        Self::new(&q.array, &k.array, rule, &q.rows.positions, &k.rows.positions, head)
    }

    /// Query rows.
    pub fn n_queries(&self) -> usize {
        self.q_positions.len()
    }

    /// Key rows.
    pub fn n_keys(&self) -> usize {
        self.k_positions.len()
    }

    /// What each query sees.
    pub fn spans(&self) -> Spans {
        Spans::new(self.mask, self.q_positions, self.k_positions)
    }

    /// Scores of one query with every key in f64, −∞ where it does not see the key: the plain loop that every faster
    /// path is tested against.
    pub fn scores(&self, query: usize) -> Vec<f64> {
        let q = &self.q[query * self.width..(query + 1) * self.width];
        let mut out = vec![f64::NEG_INFINITY; self.n_keys()];
        for (j, score) in out.iter_mut().enumerate() {
            if !self.mask.allows(query, self.q_positions[query], j, self.k_positions[j]) {
                continue;
            }
            let k = &self.k[j * self.width..(j + 1) * self.width];
            let dot: f64 = q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let s = dot * f64::from(self.scale);
            *score = match self.soft_cap {
                Some(cap) => f64::from(cap) * (s / f64::from(cap)).tanh(),
                None => s,
            };
        }
        out
    }

    /// One row of the map in f64: the softmax of [`Head::scores`], beside the sink where there is one. Zeros where the
    /// query sees nothing.
    pub fn probabilities(&self, query: usize) -> Vec<f64> {
        let scores = self.scores(query);
        let (max, sum) = self.norm(&scores);
        scores.iter().map(|s| if *s == f64::NEG_INFINITY { 0.0 } else { (s - max).exp() / sum }).collect()
    }

    /// The largest score, the sink's included, and Σ exp(score − max); −∞ and 0 where there is none.
    pub fn norm(&self, scores: &[f64]) -> (f64, f64) {
        let all = || scores.iter().copied().chain(self.sink.map(f64::from)).filter(|s| *s > f64::NEG_INFINITY);
        let max = all().fold(f64::NEG_INFINITY, f64::max);
        (max, all().map(|s| (s - max).exp()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(mask: MaskRule) -> AttentionRule {
        AttentionRule { n_heads: 2, n_kv_heads: 1, scale: 1.0, mask, soft_cap: None, sinks: None }
    }

    #[test]
    fn a_causal_row_by_hand() {
        // Head 1: q = (5, ln 3), k = (0, 1): the second row's scores are 0 and ln 3, so shares 1/4 and 3/4.
        let q = Array::new([2, 2, 1], vec![0.0, 0.0, 5.0, 3f32.ln()]).unwrap();
        let k = Array::new([1, 2, 1], vec![0.0, 1.0]).unwrap();
        let rule = rule(MaskRule::Causal);
        let head = Head::new(&q, &k, &rule, &[0, 1], &[0, 1], 1).unwrap();
        assert_eq!(head.probabilities(0), [1.0, 0.0]);
        let row = head.probabilities(1);
        assert!((row[0] - 0.25).abs() < 1e-7 && (row[1] - 0.75).abs() < 1e-7, "{row:?}");
    }

    #[test]
    fn a_sink_takes_its_share_by_hand() {
        // Scores 0 and ln 3 beside a sink of ln 4: shares 1/8 and 3/8, and half for the sink; the first row sees 0 alone.
        let q = Array::new([2, 2, 1], vec![0.0, 0.0, 5.0, 3f32.ln()]).unwrap();
        let k = Array::new([1, 2, 1], vec![0.0, 1.0]).unwrap();
        let rule = AttentionRule { sinks: Some(vec![9.0, 4f32.ln()]), ..rule(MaskRule::Causal) };
        let head = Head::new(&q, &k, &rule, &[0, 1], &[0, 1], 1).unwrap();
        let close = |got: Vec<f64>, want: [f64; 2]| {
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-7), "{got:?}, not {want:?}");
        };
        close(head.probabilities(0), [0.2, 0.0]);
        close(head.probabilities(1), [0.125, 0.375]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let (q, k) = (Array::zeros([2, 3, 4]), Array::zeros([1, 3, 4]));
        let rule = rule(MaskRule::Causal);
        assert!(Head::new(&q, &k, &rule, &[0, 1], &[0, 1, 2], 0).is_err());
        assert!(Head::new(&q, &k, &rule, &[0, 1, 2], &[0, 1], 0).is_err());
        assert!(Head::new(&q, &k, &rule, &[0, 1, 2], &[0, 1, 2], 2).is_err());
        assert!(Head::new(&q, &Array::zeros([1, 3, 5]), &rule, &[0, 1, 2], &[0, 1, 2], 0).is_err());
    }
}
