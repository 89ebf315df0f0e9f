//! Parallel prompt decoding's acceptance: guesses stay where the target finds them typical.
//!
//! Source: Chen et al. 2024, "Hardware-Aware Parallel Prompt Decoding for Memory-Efficient Acceleration of LLM Inference",
//! arXiv 2405.18628; hmarkc/parallel-prompt-decoding prompt/model/model.py. Takes: two models with one vocabulary. Gives: a
//! tree per round. Departs: live, a small model drafts where the authors trained prompt tokens. Not lossless above
//! temperature 0.

use crate::ctx::Ctx;
use crate::decode::chance::Seeded;
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE};
use crate::decode::row::Row;
use crate::decode::small::Narrowing;
use crate::decode::tree::Tree;
use crate::decode::verify::typical::Typical;
use crate::decode::verify::{Offer, Verify};
use crate::decode::{Method, SEED, With};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Map, Value, json};

const WIDTH: Param = Param::count("width", "Guesses at the first place; one less at each further one", 1, 8, 3);
const DEPTH: Param = Param::count("depth", "Levels of the tree; three in the paper", 1, 8, 3);
const THRESHOLD: Param = Param::share("posterior_threshold", "Probability above which a guess stays in any case", 0.3);
const ALPHA: Param =
    Param::share("posterior_alpha", "Share of exp(−entropy) that it must pass where that is less", 0.09);

static INFO: Info = Info {
    id: "ppd_typical",
    title: "Typical acceptance",
    summary: "Accepts guesses that the target finds likely for how sure it is, which is not lossless.",
    family: "speculative",
    basis: Basis::Authors { repo: "hmarkc/parallel-prompt-decoding", commit: "2ba3a1c" },
    paper: Some(Paper {
        title: "Hardware-Aware Parallel Prompt Decoding for Memory-Efficient Acceleration of LLM Inference",
        authors: "Chen et al.",
        year: 2024,
        arxiv: "2405.18628",
    }),
    departs: "a small model drafts where the authors trained prompt tokens; a tree ends at 256 guesses; not lossless by \
              design, greedy decodes are",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[WIDTH, DEPTH, THRESHOLD, ALPHA, NEW, TEMPERATURE, TOP_K, TOP_P, SEED],
    raw: &[Adapter { name: "ppd_typical", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct PpdTypical;

impl Method for PpdTypical {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let of = |p| params.count(p) as usize;
        Ok(Box::new(Narrowing { small: with.small(ctx)?, width: of(&WIDTH), depth: of(&DEPTH) }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(Box::new(Typical { threshold: params.share(&THRESHOLD), alpha: params.share(&ALPHA) }))
    }
}

/// Raw entry: `candidates` `[paths, length]`, their first token being the last of the text, and the target's `logits`
/// `[paths, length, vocab]` after each → the best path and its length, greedy and at `temperature`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (logits, [n, length, vocab]) = input.finite("logits")?;
    let (paths, [n_paths, n_ids]) = input.finite("candidates")?;
    let ids = paths.data().iter().all(|x| *x < vocab as f32 && x.fract() == 0.0);
    if n == 0 || length == 0 || n_paths != n || n_ids != length || !ids {
        return Err(Error::invalid("candidates must be paths of ids of the vocabulary, shaped as logits"));
    }
    let temperature: f64 = input.read("temperature")?;
    let threshold = input.read_or("posterior_threshold", 0.3)?;
    let verify = Typical { threshold, alpha: input.read_or("posterior_alpha", 0.09)? };
    if !temperature.is_finite() || temperature < 0.0 {
        return Err(Error::invalid("temperature must be a number from 0 on"));
    }
    let mut out = Map::new();
    for t in [0.0, temperature] {
        let mut best: Option<(usize, usize, f64)> = None;
        for i in 0..n {
            ctx.check()?;
            let path: Vec<i64> = paths.row(i).iter().map(|&x| x as i64).collect();
            let root = path.first().copied().unwrap_or(0).max(0);
            let path: Vec<i64> = [root].into_iter().chain(path.into_iter().skip(1)).collect();
            let Some((tree, _)) = Tree::of_paths(&[path]) else { continue };
            let rows: Vec<Row> = (0..tree.len()).map(|d| Row::recorded(logits, i, d)).collect();
            let v = verify.verify(&Offer::new(&tree, &rows, t), &mut Seeded::new(0));
            // Of equally long paths the most probable, but greedily the first.
            let share = |d: usize| rows[d].probabilities([tree.nodes()[d + 1].token], t)[0].ln();
            let sum = if t == 0.0 { 0.0 } else { (0..v.path.len()).map(share).sum() };
            if best.is_none_or(|b| (v.path.len(), sum) > (b.1, b.2)) {
                best = Some((i, v.path.len(), sum));
            }
        }
        let (path, tokens, _) = best.unwrap_or((0, 0, 0.0));
        out.insert(format!("greedy_T{t:?}"), json!({ "best_candidate": path, "accept_length": tokens }));
    }
    Ok(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_stays_where_it_is_typical_and_the_longest_path_wins() {
        let verify = Typical { threshold: 0.3, alpha: 0.09 };
        // Sure: exp(−entropy) of (0.9, 0.1) is 0.72, and 0.09 of it 0.065; 0.1 passes that.
        assert!((verify.bar(&[0.9, 0.1]) - 0.09 * (0.9f64 * 0.9f64.ln() + 0.1 * 0.1f64.ln()).exp()).abs() < 1e-4);
        let (tree, _) = Tree::of_paths(&[vec![0, 0], vec![0, 1, 1], vec![0, 1, 0]]).unwrap();
        let rows = vec![Row::Chances(vec![0.9, 0.1]); 5];
        let v = verify.verify(&Offer::new(&tree, &rows, 1.0), &mut Seeded::new(0));
        // Below token 1 both stay, and token 0 is more probable.
        assert_eq!((v.path, v.looked), (vec![2, 4], vec![true, true, true, true, true]));
        let strict = Typical { threshold: 0.3, alpha: 1.0 };
        let v = strict.verify(&Offer::new(&tree, &rows, 1.0), &mut Seeded::new(0));
        assert_eq!(v.path, [1]);
    }
}
