//! SnapKV: after the prompt each head keeps the tokens that the prompt's last queries look at, in clusters, and those
//! last tokens themselves.
//!
//! Source: Li et al. 2024, arXiv 2404.14469; FasterDecoding/SnapKV, `snapkv_utils.py`, `SnapKVCluster.update_kv`.
//! Takes: queries and keys of the prompt. Gives: a key set per head. Cost: O(heads · window · n · width) once.

use super::arrays::Arrays;
use super::{CacheSeen, Evict, Method, Moment, NEW};
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::topk::topk;
use crate::trace::{Attending, KeySet, MaskRule, PerHead};
use crate::{Error, Result};
use serde_json::{Value, json};

const CAPACITY: Param =
    Param::count("capacity", "Rows that each head keeps of the prompt, the window included", 1, 1 << 20, 16);
const WINDOW: Param =
    Param::count("window", "Last tokens of the prompt, whose queries vote and which stay", 1, 4096, 4);
const KERNEL: Param = Param::count("kernel", "Neighbours that votes are pooled over, an odd number", 1, 255, 5);
const POOLING: Param = Param::choice("pooling", "How votes of neighbours are pooled", &["avgpool", "maxpool"]);

static INFO: Info = Info {
    id: "snapkv",
    title: "SnapKV",
    summary: "Keeps, per head, the prompt's tokens that its last queries vote for, and those last tokens.",
    family: "cache policies",
    basis: Basis::Authors { repo: "FasterDecoding/SnapKV", commit: "e216ddc84c5bd210378cbdbbba12ba02102aa640" },
    paper: Some(Paper {
        title: "SnapKV: LLM Knows What You are Looking for Before Generation",
        authors: "Li et al.",
        year: 2024,
        arxiv: "2404.14469",
    }),
    departs: "heads that share keys vote together, where the authors' code repeats the keys for each; window and \
              capacity are 4 and 16 by default for short prompts, in the paper's experiments 32 and 1024 to 4096",
    needs: &[Need::Writes],
    params: &[CAPACITY, WINDOW, KERNEL, POOLING, NEW],
    budget: Some(&CAPACITY),
    raw: &[Adapter { name: "snapkv", run: raw }],
    ..Info::of(Kind::Cache)
};

pub(super) struct SnapKv;

impl Method for SnapKv {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start(&self, params: &Params) -> Result<Box<dyn Evict>> {
        let count = |p: &Param| params.count(p).unsigned_abs() as usize;
        let max = params.choice(&POOLING) == "maxpool";
        Ok(Box::new(Snap::new(count(&CAPACITY), count(&WINDOW), count(&KERNEL), max)?))
    }
}

struct Snap {
    capacity: usize,
    window: usize,
    kernel: usize,
    max: bool,
}

/// What one key-value head makes of the prompt.
struct Vote {
    /// Votes of the window for each earlier token.
    votes: Vec<f32>,
    /// The same pooled over neighbours.
    pooled: Vec<f32>,
    /// Tokens that stay: by falling vote, then the window.
    kept: Vec<usize>,
}

impl Evict for Snap {
    fn keep(&mut self, at: &CacheSeen) -> Result<Option<KeySet>> {
        match at.moment {
            Moment::After { seen } if at.step == 0 && seen.positions.len() >= self.capacity => {
                Ok(Some(PerHead::Each(self.vote(seen)?.into_iter().map(|v| v.kept).collect())))
            }
            _ => Ok(None),
        }
    }
}

impl Snap {
    fn new(capacity: usize, window: usize, kernel: usize, max: bool) -> Result<Self> {
        if window >= capacity {
            return Err(Error::invalid(format!("a window of {window} leaves nothing to choose of {capacity} rows")));
        }
        if kernel.is_multiple_of(2) {
            return Err(Error::invalid(format!("the kernel is {kernel}; votes are pooled over an odd number")));
        }
        Ok(Self { capacity, window, kernel, max })
    }

    fn vote(&self, seen: &Attending) -> Result<Vec<Vote>> {
        let n = seen.positions.len();
        // A prompt no longer than the window has nothing before it.
        let earlier = n.saturating_sub(self.window);
        let rows = seen.rows(&(earlier..n).collect::<Vec<_>>())?;
        let [heads, w, m] = rows.dims("rows of the pattern")?;
        let share = heads / seen.rule.n_kv_heads;
        let of = |group: usize| {
            let mut votes = vec![0f32; earlier];
            for row in rows.data()[group * share * w * m..(group + 1) * share * w * m].chunks(m) {
                votes.iter_mut().zip(row).for_each(|(v, p)| *v += p);
            }
            let pooled = self.pool(&votes);
            let kept = topk(&pooled, self.capacity - self.window).into_iter().chain(earlier..n).collect();
            Vote { votes, pooled, kept }
        };
        Ok((0..seen.rule.n_kv_heads).map(of).collect())
    }

    /// Means divide by the whole kernel at the ends, too, as if votes of 0 stood outside.
    fn pool(&self, votes: &[f32]) -> Vec<f32> {
        let half = self.kernel / 2;
        let around = |i: usize| &votes[i.saturating_sub(half)..(i + half + 1).min(votes.len())];
        let mean = |i| around(i).iter().sum::<f32>() / self.kernel as f32;
        let top = |i| around(i).iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (0..votes.len()).map(|i| if self.max { top(i) } else { mean(i) }).collect()
    }
}

/// Raw entry: `q` and `k` `[1, heads, n, width]` of a prompt; `window_size`, `max_capacity_prompt`, `kernel_size`,
/// `pooling`.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let pooling: String = input.read("pooling")?;
    if !matches!(pooling.as_str(), "avgpool" | "maxpool") {
        return Err(Error::invalid(format!("pooling {pooling} is not avgpool or maxpool")));
    }
    let (window, kernel) = (input.read("window_size")?, input.read("kernel_size")?);
    let snap = Snap::new(input.read("max_capacity_prompt")?, window, kernel, pooling == "maxpool")?;
    let arrays = Arrays::of(input)?;
    let votes = arrays.pass(0..arrays.size()?.1, MaskRule::Causal, |seen| snap.vote(seen))?;
    let of = |f: fn(&Vote) -> Value| votes.iter().map(f).collect::<Vec<_>>();
    Ok(json!({
        "kept_positions": of(|v| json!(v.kept)),
        "window_vote_sum": of(|v| json!(v.votes)),
        "pooled": of(|v| json!(v.pooled)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;

    #[test]
    fn votes_are_pooled_with_nothing_outside() {
        let pool = |max| Snap::new(4, 1, 3, max).unwrap().pool(&[3.0, 0.0, 6.0, 1.0]);
        assert_eq!(pool(false), [1.0, 3.0, 7.0 / 3.0, 7.0 / 3.0]);
        assert_eq!(pool(true), [3.0, 6.0, 6.0, 6.0]);
        assert!(Snap::new(4, 4, 3, true).is_err() && Snap::new(4, 1, 2, true).is_err());
    }

    #[test]
    fn keeps_the_token_that_the_last_query_looks_at_and_the_window() {
        // One head of width 1: the last query's scores are 0, 5, 0, 0, 0.
        let column = |x: &[f32]| Array::new([1, x.len(), 1], x.to_vec()).unwrap();
        let arrays = Arrays::new(&column(&[0.0, 0.0, 0.0, 0.0, 1.0]), &column(&[0.0, 5.0, 0.0, 0.0, 0.0])).unwrap();
        let mut snap = Snap::new(2, 1, 1, false).unwrap();
        let mut at = |step| {
            arrays.pass(0..5, MaskRule::Causal, |seen| {
                snap.keep(&CacheSeen { step, layer: 0, held: &[5], moment: Moment::After { seen } })
            })
        };
        assert_eq!(at(0).unwrap(), Some(PerHead::Each(vec![vec![1, 4]])));
        // Only the prompt is compressed.
        assert_eq!(at(1).unwrap(), None);
    }
}
