//! StreamingLLM: the first tokens, on which attention rests, and the newest ones stay; positions count places in the
//! cache.
//!
//! Source: Xiao et al. 2023, arXiv 2309.17453; mit-han-lab/streaming-llm, `kv_cache.py`, `StartRecentKVCache`.
//! Takes: how many rows are held. Gives: one key set for all heads. Cost: none.

use super::{CacheSeen, Evict, Method, Moment, NEW};
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::trace::{KeySet, PerHead};
use crate::{Error, Result};
use serde_json::{Value, json};

const START: Param = Param::count("start", "First tokens that always stay (attention sinks)", 0, 1 << 16, 4);
const RECENT: Param = Param::count("recent", "Newest tokens that stay", 1, 1 << 20, 12);

static INFO: Info = Info {
    id: "streaming_llm",
    title: "StreamingLLM",
    summary: "Keeps the first tokens and the newest ones, numbered by their place in the cache.",
    family: "cache policies",
    basis: Basis::Authors { repo: "mit-han-lab/streaming-llm", commit: "2e5042606d69933d88fbf909bd77907456b9b4dd" },
    paper: Some(Paper {
        title: "Efficient Streaming Language Models with Attention Sinks",
        authors: "Xiao et al.",
        year: 2023,
        arxiv: "2309.17453",
    }),
    departs: "the prompt is read in one pass over all of it; keys are turned from place to place where the authors' \
              code turns them anew in each pass; 12 recent tokens by default for short prompts, there 2000",
    needs: &[Need::Writes],
    params: &[START, RECENT, NEW],
    budget: Some(&RECENT),
    raw: &[Adapter { name: "streaming_llm", run: raw }],
    first: true,
    ..Info::of(Kind::Cache)
};

pub(super) struct StreamingLlm;

impl Method for StreamingLlm {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start(&self, params: &Params) -> Result<Box<dyn Evict>> {
        let count = |p: &Param| params.count(p).unsigned_abs() as usize;
        Ok(Box::new(Ends { start: count(&START), recent: count(&RECENT) }))
    }
}

struct Ends {
    start: usize,
    recent: usize,
}

impl Ends {
    /// Rows that stay of `n` where `coming` are about to be added; `None` where there is room for all.
    fn of(&self, n: usize, coming: usize) -> Option<Vec<usize>> {
        let room = self.start.saturating_add(self.recent);
        (n + coming > room).then(|| {
            let newest = (n + coming).saturating_sub(self.recent).max(self.start).min(n);
            (0..self.start.min(n)).chain(newest..n).collect()
        })
    }
}

impl Evict for Ends {
    fn keep(&mut self, at: &CacheSeen) -> Result<Option<KeySet>> {
        let coming = match at.moment {
            Moment::Before { coming } => coming,
            Moment::After { .. } => 0,
        };
        // All heads hold the same.
        Ok(self.of(at.held.first().copied().unwrap_or(0), coming).map(PerHead::Same))
    }

    fn renumbers(&self) -> bool {
        true
    }
}

/// Raw entry: `chunk_lengths`, tokens that come in each step; `start_size`, `recent_size`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let mut policy = Ends { start: input.read("start_size")?, recent: input.read("recent_size")? };
    let chunks: Vec<usize> = input.read("chunk_lengths")?;
    if chunks.iter().try_fold(0usize, |a, &n| a.checked_add(n)).is_none_or(|n| n > MAX_TOKENS) {
        return Err(Error::invalid(format!("chunk_lengths: more than {MAX_TOKENS} tokens")));
    }
    let (mut held, mut read, mut steps) = (Vec::new(), 0, Vec::new());
    for (step, &coming) in chunks.iter().enumerate() {
        ctx.step(step, chunks.len())?;
        // After a pass nothing is coming, which is all that counts then.
        let mut keep = |held: &mut Vec<usize>, coming: usize| -> Result<()> {
            let moment = Moment::Before { coming };
            let kept = policy.keep(&CacheSeen { step, layer: 0, held: &[held.len()], moment })?;
            if let Some(rows) = kept {
                *held = rows.of(0, 1).iter().map(|&r| held[r]).collect();
            }
            Ok(())
        };
        let mut before = None;
        if step > 0 {
            keep(&mut held, coming)?;
            before = Some(held.clone());
        }
        held.extend(read..read + coming);
        read += coming;
        let appended = held.clone();
        keep(&mut held, 0)?;
        steps.push(json!({
            "coming": coming, "kept_before_append": before, "after_append": appended, "after_call": held,
        }));
    }
    Ok(json!({ "steps": steps }))
}

/// Tokens that the raw entry lists at most.
const MAX_TOKENS: usize = 1 << 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_newest_stay() {
        let ends = Ends { start: 1, recent: 3 };
        assert_eq!(ends.of(4, 0), None);
        assert_eq!(ends.of(6, 0), Some(vec![0, 3, 4, 5]));
        // One comes: two of the newest make room for it.
        assert_eq!(ends.of(4, 1), Some(vec![0, 2, 3]));
        // More come than are kept: the first stay all the same.
        assert_eq!(ends.of(4, 9), Some(vec![0]));
    }
}
