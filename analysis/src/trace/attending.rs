//! What a layer's attention is about to read, for taps that look at some rows of the pattern or choose among the keys.

use super::{AttentionRule, MaskRule, Spans};
use crate::array::Array;
use crate::{Error, Result};
use candle_core::Tensor;

/// One answer for every head, or one for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PerHead<T> {
    /// The same for all.
    Same(T),
    /// One for each key-value head, or one for each query head.
    Each(Vec<T>),
}

/// Key rows, by index: cached ones first, then those of this pass.
pub type KeySet = PerHead<Vec<usize>>;

impl<T> PerHead<T> {
    /// The answer for head `head` of `n_heads`.
    pub fn of(&self, head: usize, n_heads: usize) -> &T {
        match self {
            Self::Same(x) => x,
            Self::Each(all) => &all[head * all.len() / n_heads.max(1)],
        }
    }

    /// The answers, once where they are the same.
    pub fn all(&self) -> &[T] {
        match self {
            Self::Same(x) => std::slice::from_ref(x),
            Self::Each(all) => all,
        }
    }
}

impl KeySet {
    /// The keys that both name. Errors where they count heads differently.
    pub fn and(&self, other: &Self) -> Result<Self> {
        let both = |a: &Vec<usize>, b: &Vec<usize>| a.iter().copied().filter(|k| b.contains(k)).collect();
        Ok(match (self, other) {
            (Self::Same(a), Self::Same(b)) => Self::Same(both(a, b)),
            (Self::Same(a), Self::Each(all)) | (Self::Each(all), Self::Same(a)) => {
                Self::Each(all.iter().map(|b| both(a, b)).collect())
            }
            (Self::Each(a), Self::Each(b)) if a.len() == b.len() => {
                Self::Each(a.iter().zip(b).map(|(a, b)| both(a, b)).collect())
            }
            _ => return Err(Error::invalid("two key sets count heads differently")),
        })
    }

    /// `mask` where only these keys may be read. Errors where the lists are not one per head of either kind.
    pub(crate) fn under(self, mask: &MaskRule, (heads, kv_heads): (usize, usize)) -> Result<MaskRule> {
        let only = |keys: Vec<usize>| MaskRule::Only { keys, of: Box::new(mask.clone()) };
        Ok(match self {
            Self::Same(keys) => only(keys),
            Self::Each(all) if all.len() == heads || all.len() == kv_heads => {
                MaskRule::PerHead(all.into_iter().map(only).collect())
            }
            Self::Each(all) => {
                let e = format!("{} key sets for {heads} heads over {kv_heads} key-value heads", all.len());
                return Err(Error::invalid(e));
            }
        })
    }
}

/// Keys and values of some key-value heads that hold the same rows.
#[derive(Debug, Clone)]
pub struct Held {
    /// Keys after rotary embedding and normalisation `[heads, m, e]`.
    pub k: Tensor,
    /// Values `[heads, m, e]`.
    pub v: Tensor,
    /// Position ids of the `m` rows.
    pub positions: Vec<usize>,
}

/// Queries of a layer and the keys that they are about to read.
pub struct Attending<'a> {
    /// Queries after rotary embedding and normalisation `[h, n, e]`.
    pub q: &'a Tensor,
    /// Keys and values: one entry where all heads hold the same rows, else one for each key-value head.
    pub held: &'a [Held],
    /// Heads, scale, mask and bound of the scores.
    pub rule: &'a AttentionRule,
    /// Position ids of the query rows.
    pub positions: &'a [usize],
    /// Tokens behind each key row, where attention is proportional to them.
    pub sizes: Option<&'a [usize]>,
}

impl Attending<'_> {
    /// Key rows that key-value head `head` holds.
    pub fn held_by(&self, head: usize) -> &Held {
        &self.held[head * self.held.len() / self.rule.n_kv_heads.max(1)]
    }

    /// Key rows of the head that holds most.
    pub fn n_keys(&self) -> usize {
        self.held.iter().map(|h| h.positions.len()).max().unwrap_or(0)
    }

    /// Rows of the pattern `[h, queries, keys]` for these query rows, without the whole of it. Where heads hold
    /// different keys, each has its own first, and zeros up to the longest. A query that sees nothing has zeros.
    ///
    /// Errors: a query row that is not there.
    pub fn rows(&self, queries: &[usize]) -> Result<Array> {
        let (h, n, e) = self.q.dims3()?;
        if let Some(q) = queries.iter().find(|&&q| q >= n) {
            return Err(Error::invalid(format!("there is no query row {q}; the pass has {n}")));
        }
        let index: Vec<u32> = queries.iter().map(|&q| q as u32).collect();
        let q = self.q.detach().contiguous()?.index_select(&Tensor::new(index, self.q.device())?, 1)?;
        let positions: Vec<usize> = queries.iter().map(|&q| self.positions[q]).collect();
        let (r, m) = (queries.len(), self.n_keys());
        let mut out = Array::zeros([h, r, m]);
        for (i, held) in self.held.iter().enumerate() {
            let (g, own) = (held.k.dim(0)?, held.positions.len());
            let heads = h / self.held.len();
            let q = q.narrow(0, i * heads, heads)?.contiguous()?.reshape((g, heads / g * r, e))?;
            let scores = q.matmul(&held.k.detach().transpose(1, 2)?.contiguous()?)?;
            let scores = Array::from_tensor(&scores)?;
            let mut spans: Option<Spans> = None;
            for head in 0..heads {
                let mask = self.rule.mask.of_head(i * heads + head, h).of_queries(queries);
                // Heads mostly see alike; only sets per head differ.
                let spans = match &mut spans {
                    Some(s) if !matches!(self.rule.mask, MaskRule::PerHead(_)) => &*s,
                    s => &*s.insert(Spans::new(&mask, &positions, &held.positions)),
                };
                for row in 0..r {
                    let from = (head * r + row) * own;
                    let to = ((i * heads + head) * r + row) * m;
                    let scores = &scores.data()[from..from + own];
                    let sink = self.rule.sink(i * heads + head);
                    self.share(scores, spans.of(row), sink, &mut out.data_mut()[to..to + own]);
                }
            }
        }
        Ok(out)
    }

    /// The softmax of what a query sees, in f64; `out` is zero elsewhere.
    fn share(&self, scores: &[f32], seen: &[(usize, usize)], sink: Option<f32>, out: &mut [f32]) {
        let keys = || seen.iter().flat_map(|&(a, b)| a..b);
        let score = |k: usize| {
            let s = f64::from(scores[k]) * f64::from(self.rule.scale);
            let s = self.rule.soft_cap.map_or(s, |c| f64::from(c) * (s / f64::from(c)).tanh());
            s + self.sizes.map_or(0.0, |sizes| (sizes[k] as f64).ln())
        };
        let sink = sink.map(f64::from);
        let max = keys().map(score).chain(sink).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = keys().map(score).chain(sink).map(|s| (s - max).exp()).sum();
        keys().for_each(|k| out[k] = ((score(k) - max).exp() / sum) as f32);
    }
}
