//! Learning to continue stories: `sample-lm` and `sample-draft`.
//!
//! The first rows hold no stories but their tokens in random order, again and again. Nothing else than looking up
//! what followed last time helps there, so heads that do so form soon, and the stories' look-ups build on them.
//! In most other rows the stories do not see each other, because one names people and places as another does.

use crate::fit::{Task, cross_entropy};
use crate::params::Params;
use crate::shapes::Llama;
use crate::words::{BEGIN, SPECIAL, Words};
use candle_core::Tensor;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};
use std::sync::Arc;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::{Input, Model};
use tokenscope_analysis::trace::NoTap;
use tokenscope_generate::stories::Story;

/// Weight of a token that earlier ones decide, against 1 for the others: chance words teach little.
const DECIDED: f32 = 8.0;

/// So many samples are such rows, then one in so many until that sample.
const TWINS: (u64, u64, u64) = (5_280, 8, 24_000);

/// One row in so many holds stories that see those before them.
const TOGETHER: u64 = 4;

/// The task.
pub struct Stories<'a> {
    /// The tokenizer.
    pub words: &'a Words,
    /// The model.
    pub shape: Llama,
}

/// Ids of stories one after another, and for each whether its story decides it.
pub struct Row {
    /// Ids.
    pub ids: Vec<u32>,
    /// Whether earlier tokens decide this one.
    pub decided: Vec<bool>,
}

impl Row {
    /// The row of this number: `length` tokens of stories.
    pub fn new(words: &Words, sample: u64, length: usize) -> anyhow::Result<Self> {
        let mut out = Row { ids: Vec::new(), decided: Vec::new() };
        // No row of this length has more stories.
        let most = 64;
        for seed in (sample * most..).take(most as usize) {
            if out.ids.len() >= length {
                break;
            }
            out.push(words, &Story::new(seed))?;
        }
        out.ids.truncate(length);
        out.decided.truncate(length);
        Ok(out)
    }

    /// Some of its tokens in random order, again and again; gives the index of the last that is new.
    fn shuffle_and_repeat(&mut self, seed: u64) -> usize {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let length = self.ids.len();
        let mut some: Vec<u32> = self.ids.iter().copied().filter(|&id| id >= SPECIAL).collect();
        some.sort_unstable();
        some.dedup();
        some.shuffle(&mut rng);
        some.truncate(rng.random_range(6..=length.max(24) / 4));
        let period = some.len();
        self.ids = std::iter::once(BEGIN).chain(some.into_iter().cycle()).take(length).collect();
        self.decided = vec![false; self.ids.len()];
        period
    }

    /// Adds a story.
    pub fn push(&mut self, words: &Words, story: &Story) -> anyhow::Result<()> {
        let cut = words.cut(&story.text)?;
        self.ids.push(BEGIN);
        self.decided.push(false);
        for (id, bytes) in cut.ids.iter().zip(&cut.bytes) {
            let inside = story.links.iter().any(|l| bytes.start < l.answer.end && bytes.end > l.answer.start);
            self.ids.push(*id);
            self.decided.push(inside);
        }
        Ok(())
    }
}

/// What each token sees where every `<s>` begins a text of its own, and its position in that text.
fn apart(ids: &[u32]) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut first = 0;
    let rows = ids.iter().enumerate().map(|(i, &id)| {
        first = if id == BEGIN { i } else { first };
        ((first..=i).collect(), i - first)
    });
    rows.unzip()
}

impl Task for Stories<'_> {
    fn config(&self) -> Map<String, Value> {
        self.shape.config(self.words.len())
    }

    fn loss(&self, model: &dyn Model, _params: &Params, sample: u64, _gone: f64) -> anyhow::Result<Tensor> {
        let length = self.shape.context;
        let mut row = Row::new(self.words, sample, length)?;
        let again = sample < TWINS.0 || sample < TWINS.2 && sample.is_multiple_of(TWINS.1);
        let known = if again { row.shuffle_and_repeat(sample) + 1 } else { 0 };
        let n = row.ids.len() - 1;
        let mut input = Input { ids: row.ids[..n].to_vec(), ..Input::default() };
        if !again && sample % TOGETHER != 1 {
            let (mask, positions) = apart(&input.ids);
            (input.mask, input.positions) = (Some(Arc::new(mask)), Some(positions));
        }
        let out = model.forward(&mut input, &mut NoTap, &Ctx::default())?;
        let targets: Vec<(u32, u32, f32)> =
            (known..n).map(|i| (i as u32, row.ids[i + 1], if row.decided[i + 1] { DECIDED } else { 1.0 })).collect();
        let logits = out.logits.ok_or_else(|| anyhow::anyhow!("a language model gave no logits"))?;
        cross_entropy(&logits, &targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_apart_see_themselves_and_count_from_their_beginning() {
        let (mask, positions) = apart(&[BEGIN, 7, 8, BEGIN, 9]);
        assert_eq!(mask, [vec![0], vec![0, 1], vec![0, 1, 2], vec![3], vec![3, 4]]);
        assert_eq!(positions, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn a_repeating_row_is_known_behind_its_first_part() {
        let words = Words::train(60).unwrap();
        for sample in 0..20 {
            let mut row = Row::new(&words, sample, 64).unwrap();
            let length = row.ids.len();
            let period = row.shuffle_and_repeat(sample);
            assert!(row.ids.len() == length && row.decided.len() == length && row.ids[0] == BEGIN);
            assert!((6..=16).contains(&period));
            assert!((period + 1..length).all(|i| row.ids[i] == row.ids[i - period]));
            let mut first = row.ids[1..=period].to_vec();
            first.sort_unstable();
            first.dedup();
            assert_eq!(first.len(), period);
        }
    }
}
