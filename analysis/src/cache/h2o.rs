//! H2O: each head keeps the tokens that got most attention so far, the heavy hitters, and the newest ones.
//!
//! Source: Zhang et al. 2023, arXiv 2306.14048; FMInference/H2O, `h2o_hf/utils_hh/modify_llama.py`. Takes: queries and
//! keys of every pass. Gives: a key set per head. Departs: see [`Info::departs`]. Cost: O(heads · n² · width) for the
//! prompt, O(heads · held · width) a step.

use super::arrays::Arrays;
use super::{CacheSeen, Evict, Method, Moment, NEW};
use crate::ctx::Ctx;
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::trace::{Attending, KeySet, MaskRule, PerHead};
use crate::{Error, Result};
use serde_json::{Value, json};

const HEAVY: Param = Param::share("heavy", "Heavy hitters that each head keeps, as a share of the prompt", 0.1);
const RECENT: Param = Param::share("recent", "Newest tokens that stay, as a share of the prompt", 0.1);

static INFO: Info = Info {
    id: "h2o",
    title: "H2O",
    summary: "Keeps, per head, the tokens that got most attention so far, and the newest ones.",
    family: "cache policies",
    basis: Basis::Authors { repo: "FMInference/H2O", commit: "ac75c2a8a9e76832b2a4139b9363373b56336bfb" },
    paper: Some(Paper {
        title: "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
        authors: "Zhang et al.",
        year: 2023,
        arxiv: "2306.14048",
    }),
    departs: "what goes is gone, where the authors' mask still holds it; a token that leaves the newest ones can be read \
              on while it competes, where their mask hides it for one pass; heads that share keys add up what they give; \
              one new token stays at least",
    needs: &[Need::Writes],
    params: &[HEAVY, RECENT, NEW],
    budget: Some(&HEAVY),
    raw: &[Adapter { name: "h2o", run: raw }],
    ..Info::of(Kind::Cache)
};

pub(super) struct H2o;

impl Method for H2o {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start(&self, params: &Params) -> Result<Box<dyn Evict>> {
        Ok(Box::new(Hitters::new(params.share(&HEAVY), params.share(&RECENT))))
    }
}

/// Queries whose rows of the pattern are made at a time.
const CHUNK: usize = 64;

struct Hitters {
    shares: [f64; 2],
    heavy: usize,
    recent: usize,
    /// Attention that each held row got so far, by layer and key-value head.
    got: Vec<Vec<Vec<f64>>>,
}

impl Evict for Hitters {
    fn keep(&mut self, at: &CacheSeen) -> Result<Option<KeySet>> {
        let Moment::After { seen } = at.moment else { return Ok(None) };
        if at.step == 0 {
            self.read_prompt(seen.positions.len());
        }
        self.add(at.layer, seen)?;
        // All heads hold equally many rows: there is room for each or for none.
        let sets = self.got[at.layer].iter().map(|got| self.stay(got)).collect::<Option<Vec<_>>>();
        let Some(sets) = sets else { return Ok(None) };
        for (got, set) in self.got[at.layer].iter_mut().zip(&sets) {
            *got = set.iter().map(|&r| got[r]).collect();
        }
        Ok(Some(PerHead::Each(sets)))
    }
}

impl Hitters {
    fn new(heavy: f64, recent: f64) -> Self {
        Self { shares: [heavy, recent], heavy: 0, recent: 1, got: Vec::new() }
    }

    /// Budgets are shares of the prompt's `n` tokens, rounded down.
    fn read_prompt(&mut self, n: usize) {
        let [heavy, recent] = self.shares.map(|s| (s * n as f64) as usize);
        (self.heavy, self.recent) = (heavy, recent.max(1));
    }

    /// Adds what the queries of a pass give to each row that a key-value head holds.
    fn add(&mut self, layer: usize, seen: &Attending) -> Result<()> {
        let (groups, queries) = (seen.rule.n_kv_heads, (0..seen.positions.len()).collect::<Vec<_>>());
        self.got.resize(self.got.len().max(layer + 1), Vec::new());
        let got = &mut self.got[layer];
        got.resize(groups, Vec::new());
        got.iter_mut().enumerate().for_each(|(g, rows)| rows.resize(seen.held_by(g).positions.len(), 0.0));
        for chunk in queries.chunks(CHUNK) {
            let pattern = seen.rows(chunk)?;
            let [heads, r, m] = pattern.dims("rows of the pattern")?;
            for (i, row) in pattern.data().chunks(m.max(1)).enumerate() {
                let own = &mut got[i / r.max(1) * groups / heads];
                own.iter_mut().zip(row).for_each(|(sum, p)| *sum += f64::from(*p));
            }
        }
        Ok(())
    }

    /// The rows that stay of those that got this much, ascending; `None` where there is room for all.
    fn stay(&self, got: &[f64]) -> Option<Vec<usize>> {
        let earlier = got.len().checked_sub(self.recent).filter(|n| *n > self.heavy)?;
        let mut rows = largest(&got[..earlier], self.heavy);
        rows.sort_unstable();
        Some(rows.into_iter().chain(earlier..got.len()).collect())
    }
}

/// Raw entry: `q` and `k` `[1, heads, n, width]`; `heavy_ratio`, `recent_ratio`, and the `prompt_len` tokens that are read
/// first. Gives the keys that may be read next and the sums after each pass, with zeros for what is gone.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (arrays, prompt): (_, usize) = (Arrays::of(input)?, input.read("prompt_len")?);
    let (heads, n) = arrays.size()?;
    if !(1..=n).contains(&prompt) {
        return Err(Error::invalid(format!("prompt_len is {prompt}, and there are {n} tokens")));
    }
    let mut hitters = Hitters::new(input.read("heavy_ratio")?, input.read("recent_ratio")?);
    hitters.read_prompt(prompt);
    let (mut steps, mut mask) = (Vec::new(), MaskRule::Causal);
    for end in prompt..=n {
        ctx.step(end - prompt, n - prompt + 1)?;
        let from = if end == prompt { 0 } else { end - 1 };
        arrays.pass(from..end, mask, |seen| hitters.add(0, seen))?;
        let stay: Vec<Option<Vec<usize>>> = hitters.got[0].iter().map(|got| hitters.stay(got)).collect();
        for (got, stay) in hitters.got[0].iter_mut().zip(&stay) {
            let gone = |r: &usize| stay.as_ref().is_some_and(|s| s.binary_search(r).is_err());
            (0..end).filter(gone).for_each(|r| got[r] = 0.0);
        }
        // The first of the newest is hidden from the next pass, and comes back if it is a heavy hitter by then.
        let read = |stay: Option<Vec<usize>>| match stay {
            Some(rows) => rows.into_iter().filter(|r| r + hitters.recent != end).chain([end]).collect(),
            None => (0..=end).collect::<Vec<_>>(),
        };
        let allowed: Vec<Vec<usize>> = stay.into_iter().map(read).collect();
        steps.push(json!({ "allowed_next": allowed, "scores_after_mask": hitters.got[0] }));
        mask = KeySet::Each(allowed).under(&MaskRule::Causal, (heads, heads))?;
    }
    Ok(json!({ "steps": steps }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;

    #[test]
    fn sums_of_attention_decide_and_the_newest_stay() {
        let hitters = Hitters { heavy: 1, recent: 2, ..Hitters::new(0.0, 0.0) };
        assert_eq!(hitters.stay(&[3.0, 1.0, 2.0, 9.0, 0.5, 0.1]), Some(vec![3, 4, 5]));
        assert_eq!(hitters.stay(&[3.0, 1.0, 2.0]), None);
        // Two heads over one key-value head, of width 1: queries of 0 share evenly, the last of each looks at row 1.
        let column = |h: usize, x: &[f32]| Array::new([h, 4, 1], x.to_vec()).unwrap();
        let q = column(2, &[0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0]);
        let arrays = Arrays::new(&q, &column(1, &[0.0, 9.0, 0.0, 0.0])).unwrap();
        let mut hitters = Hitters::new(0.25, 0.25);
        let kept = arrays.pass(0..4, MaskRule::Causal, |seen| {
            hitters.keep(&CacheSeen { step: 0, layer: 0, held: &[4], moment: Moment::After { seen } })
        });
        // Both give row 0 1 + 1/2 + 1/3, row 1 1/2 + 1/3 + 1 and a little less, row 2 1/3.
        assert_eq!(kept.unwrap(), Some(PerHead::Each(vec![vec![0, 3]])));
        let want = 2.0 * (1.5 + 1.0 / 3.0);
        assert!(hitters.got[0][0].len() == 2 && (hitters.got[0][0][0] - want).abs() < 1e-5);
    }
}
