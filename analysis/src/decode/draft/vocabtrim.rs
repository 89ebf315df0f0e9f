//! VocabTrim: the small model drafts over the most frequent ids alone, so that its head costs less.
//!
//! Source: Goel et al. 2025, "VOCABTRIM: Vocabulary Pruning for Efficient Speculative Decoding in LLMs", arXiv 2506.22694. Takes:
//! two models with one vocabulary. Gives: a chain per round. Departs: own reading of the paper; live, frequent ids are those
//! of the text so far, filled up from the lowest, where the authors count what the target wrote beforehand. Lossless.

use crate::ctx::Ctx;
use crate::decode::chance::Chance;
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::small::Small;
use crate::decode::tree::Tree;
use crate::decode::verify::{self, Verify};
use crate::decode::{Method, SEED, With};
use crate::math::{largest, softmax};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

const KEEP: Param = Param::count("keep", "Ids that the drafter may write", 1, 65_536, 256);
const GAMMA: Param = Param::count("gamma", "Tokens drafted per round", 1, 16, 4);

static INFO: Info = Info {
    id: "vocabtrim",
    title: "VocabTrim",
    summary: "Lets the small model draft over the most frequent ids only, which the target's test makes up for.",
    family: "speculative",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "VOCABTRIM: Vocabulary Pruning for Efficient Speculative Decoding in LLMs",
        authors: "Goel et al.",
        year: 2025,
        arxiv: "2506.22694",
    }),
    departs: "frequent ids are those of the text so far, filled up from the lowest; the head is masked, so that no time is \
              saved here",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[KEEP, GAMMA, NEW, verify::DRAWN, TEMPERATURE, TOP_K, TOP_P, SEED],
    budget: Some(&GAMMA),
    raw: &[Adapter { name: "vocabtrim", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct VocabTrim;

impl Method for VocabTrim {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let of = |p| params.count(p) as usize;
        Ok(Box::new(Trimmed {
            small: with.small(ctx)?,
            keep: of(&KEEP),
            gamma: of(&GAMMA),
            counts: Vec::new(),
            read: 0,
        }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::DRAWN))
    }
}

/// The most frequent ids, ascending; the lower one on a tie.
fn kept(counts: &[usize], keep: usize) -> Vec<usize> {
    let counts: Vec<f64> = counts.iter().map(|n| *n as f64).collect();
    let mut ids = largest(&counts, keep);
    ids.sort_unstable();
    ids
}

struct Trimmed<O> {
    small: Small<O>,
    keep: usize,
    gamma: usize,
    /// How often each id stands in the text.
    counts: Vec<usize>,
    /// Tokens of the text that are counted.
    read: usize,
}

impl<O: Oracle> Draft for Trimmed<O> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        for &id in &turn.text[self.read.min(turn.text.len())..] {
            let id = id as usize;
            self.counts.resize(self.counts.len().max(id + 1), 0);
            self.counts[id] += 1;
        }
        self.read = turn.text.len();
        // The same all round, once the size of the vocabulary is known.
        let (keep, counts, mut ids) = (self.keep, &mut self.counts, None);
        self.small.grow(turn, self.gamma, ctx, &mut |tree, node, row| {
            let ids: &Vec<usize> = ids.get_or_insert_with(|| {
                counts.resize(row.len(), 0);
                kept(counts, keep)
            });
            let whole = row.distribution(turn.warmth());
            let mut q = vec![0.0; whole.len()];
            ids.iter().for_each(|&id| q[id] = whole[id]);
            let sum: f64 = q.iter().sum();
            if sum > 0.0 {
                q.iter_mut().for_each(|q| *q /= sum);
                let x = if turn.temperature == 0.0 { largest(&q, 1)[0] } else { chance.draw(&q) };
                tree.push(node, x as u32, Some(q[x]), None);
                tree.draws_from(node, q);
            }
        })
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        self.small.learn(round, ctx)
    }
}

/// Raw entry: a `token_stream` of ids below `vocab`, `keep`, a head, hidden rows, the target's probabilities → kept ids, what
/// drafts become, how often they are accepted.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let vocab = input.within("vocab", 1..=1 << 22)?;
    let keep = input.within("keep", 1..=vocab)?;
    let stream: Vec<usize> = input.read("token_stream")?;
    let (head, hidden, target) = (input.table("lm_head")?, input.table("hidden")?, input.table("target_probs")?);
    if stream.iter().any(|x| *x >= vocab) {
        return Err(Error::invalid("token_stream must be ids below vocab"));
    }
    if head.len() != vocab
        || hidden[0].len() != head[0].len()
        || target.len() != hidden.len()
        || target[0].len() != vocab
    {
        return Err(Error::invalid(
            "lm_head needs a row for each of vocab, hidden its width, target_probs a row for each of hidden",
        ));
    }
    let mut counts = vec![0; vocab];
    stream.iter().for_each(|&x| counts[x] += 1);
    let ids = kept(&counts, keep);
    let covered: usize = ids.iter().map(|&i| counts[i]).sum();
    let mut rows = Vec::with_capacity(hidden.len());
    for (h, p) in hidden.iter().zip(&target) {
        ctx.check()?;
        let logits: Vec<f64> = head.iter().map(|w| w.iter().zip(h).map(|(a, b)| a * b).sum()).collect();
        let own: Vec<f64> = ids.iter().map(|&i| logits[i]).collect();
        let (full, trimmed) = (softmax(&logits, 1.0), softmax(&own, 1.0));
        let alpha_full: f64 = p.iter().zip(&full).map(|(p, q)| p.min(*q)).sum();
        let alpha_trimmed: f64 = ids.iter().zip(&trimmed).map(|(&i, q)| p[i].min(*q)).sum();
        rows.push(json!({ "greedy_full": largest(&logits, 1)[0], "greedy_trimmed": ids[largest(&own, 1)[0]],
            "alpha_full": alpha_full, "alpha_trimmed": alpha_trimmed }));
    }
    Ok(json!({
        "counts": counts,
        "kept_ids": ids,
        "coverage": covered as f64 / stream.len().max(1) as f64,
        "rows": rows,
        "head_params_ratio": keep as f64 / vocab as f64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::chance::every;
    use crate::decode::engine::{Decode, Rules};
    use crate::decode::toy::Markov;
    use crate::decode::verify::recursive_rejection::RecursiveRejection;

    #[test]
    fn a_trimmed_drafter_gives_exactly_the_targets_text() {
        assert_eq!((kept(&[2, 5, 2, 0], 2), kept(&[0, 0], 5)), (vec![0, 1], vec![0, 1]));
        let (p, q) = (vec![vec![0.2, 0.3, 0.5]; 3], vec![vec![0.4, 0.1, 0.5]; 3]);
        let all = every(9999, |chance| {
            let small = Small(Markov::first_order(q.clone(), "Q")?);
            let mut draft = Trimmed { small, keep: 2, gamma: 2, counts: Vec::new(), read: 0 };
            let rules = Rules { new: 1, rounds: 1, temperature: 1.0, end: Vec::new() };
            let target = Markov::first_order(p.clone(), "P")?;
            let one = Decode { target, prompt: &[1], draft: &mut draft, verify: &RecursiveRejection, rules };
            Ok(one.run(chance, &Ctx::default(), &mut |_| ())?.output()[0])
        });
        let mut seen = [0.0; 3];
        all.unwrap().into_iter().for_each(|(x, w)| seen[x as usize] += w);
        assert!(seen.iter().zip(&p[1]).all(|(a, b)| (a - b).abs() < 1e-12), "{seen:?}");
    }
}
