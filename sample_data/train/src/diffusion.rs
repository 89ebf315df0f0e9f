//! Learning to fill in stories: `sample-diffusion`.
//! Nie et al. 2025, arXiv 2502.09992.

use crate::fit::{Task, cross_entropy};
use crate::lm::Row;
use crate::params::Params;
use crate::shapes::Llama;
use crate::words::{MASK, Words};
use anyhow::Context as _;
use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::{Input, Model};
use tokenscope_analysis::trace::NoTap;

/// The task.
pub struct Filling<'a> {
    /// The tokenizer.
    pub words: &'a Words,
    /// The model.
    pub shape: Llama,
}

/// Masks about `share` of `ids`, at least one, and says which. `<s>` in front stays.
pub fn mask(ids: &mut [u32], share: f64, rng: &mut impl Rng) -> Vec<(usize, u32)> {
    let mut out = Vec::new();
    if ids.len() < 2 {
        return out;
    }
    for (i, id) in ids.iter_mut().enumerate().skip(1) {
        if rng.random_bool(share) {
            out.push((i, std::mem::replace(id, MASK)));
        }
    }
    if out.is_empty() {
        let i = rng.random_range(1..ids.len());
        out.push((i, std::mem::replace(&mut ids[i], MASK)));
    }
    out
}

/// The logits of every row.
pub fn logits(model: &dyn Model, ids: &[u32]) -> anyhow::Result<Tensor> {
    let mut input = Input { ids: ids.to_vec(), ..Input::default() };
    let out = model.forward(&mut input, &mut NoTap, &Ctx::default())?;
    out.logits.context("a language model gave no logits")
}

impl Task for Filling<'_> {
    fn config(&self) -> Map<String, Value> {
        self.shape.llada_config(self.words.len())
    }

    /// Mean over the masked tokens, which weighs rows by one over their masked share as LLaDA's bound does.
    fn loss(&self, model: &dyn Model, _params: &Params, sample: u64, _gone: f64) -> anyhow::Result<Tensor> {
        let mut ids = Row::new(self.words, sample, self.shape.context)?.ids;
        let mut rng = ChaCha8Rng::seed_from_u64(sample);
        rng.set_stream(8);
        let share = rng.random_range(0.05..1.0);
        let hidden = mask(&mut ids, share, &mut rng);
        let targets: Vec<(u32, u32, f32)> = hidden.iter().map(|&(i, id)| (i as u32, id, 1.0)).collect();
        cross_entropy(&logits(model, &ids)?, &targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_keeps_the_first_token_and_remembers_the_rest() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let ids: Vec<u32> = (0..200).map(|i| 10 + i).collect();
        let mut masked = ids.clone();
        let hidden = mask(&mut masked, 0.3, &mut rng);
        assert!((30..90).contains(&hidden.len()) && masked[0] == 10);
        for (i, id) in hidden {
            assert_eq!((masked[i], ids[i]), (MASK, id));
            masked[i] = id;
        }
        assert_eq!(masked, ids);
        assert_eq!(mask(&mut [1, 2], 1e-9, &mut rng), [(1, 2)]);
    }
}
