//! Learning to continue stories: `sample-lm` and `sample-draft`.
//!
//! Early on, some rows hold no story but random tokens that come again and again. Nothing else than looking up what
//! followed last time helps there, so heads that do so form soon, and the stories' look-ups build on them.

use crate::fit::{Task, cross_entropy};
use crate::params::Params;
use crate::shapes::Llama;
use crate::words::{BEGIN, SPECIAL, Words};
use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::{Input, Model};
use tokenscope_analysis::trace::NoTap;
use tokenscope_generate::stories::Story;

/// Weight of a token that earlier ones decide, against 1 for the others: chance words teach little.
const DECIDED: f32 = 4.0;

/// One row in so many is of random tokens, until this share of the training is over.
const TWINS: (u64, f64) = (3, 0.5);

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

    /// Random tokens that come again and again, and the index from which they are known.
    fn twins(vocab: usize, sample: u64, length: usize) -> (Self, usize) {
        let mut rng = ChaCha8Rng::seed_from_u64(sample);
        let period = rng.random_range(length / 16..=length / 3);
        let first: Vec<u32> = (0..period).map(|_| rng.random_range(SPECIAL..vocab as u32)).collect();
        let ids: Vec<u32> = std::iter::once(BEGIN).chain(first.into_iter().cycle()).take(length).collect();
        (Row { decided: vec![false; ids.len()], ids }, period + 1)
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

impl Task for Stories<'_> {
    fn config(&self) -> Map<String, Value> {
        self.shape.config(self.words.len())
    }

    fn loss(&self, model: &dyn Model, _params: &Params, sample: u64, gone: f64) -> anyhow::Result<Tensor> {
        let length = self.shape.context;
        let (row, known) = if gone < TWINS.1 && sample.is_multiple_of(TWINS.0) {
            Row::twins(self.words.len(), sample, length)
        } else {
            (Row::new(self.words, sample, length)?, 0)
        };
        let n = row.ids.len() - 1;
        let mut input = Input { ids: row.ids[..n].to_vec(), ..Input::default() };
        let out = model.forward(&mut input, &mut NoTap, &Ctx::default())?;
        let targets: Vec<(u32, u32, f32)> =
            (known..n).map(|i| (i as u32, row.ids[i + 1], if row.decided[i + 1] { DECIDED } else { 1.0 })).collect();
        let logits = out.logits.ok_or_else(|| anyhow::anyhow!("a language model gave no logits"))?;
        cross_entropy(&logits, &targets)
    }
}
