//! The logit lens: what the model would predict at every layer and position.

use super::{model_of, trace_of};
use crate::jobs::{Ask, Store};
use crate::keys::RunKey;
use tokenscope_analysis::run::argmax;
use tokenscope_analysis::trace::{Site, Tower};
use tokenscope_analysis::{Ctx, Result};

/// Most probable token at every layer and position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LensOf(pub RunKey);

/// The logit lens.
pub struct Lens {
    /// Per layer and token: text and probability of the most probable next token.
    pub top: Vec<Vec<(String, f32)>>,
}

impl Ask for LensOf {
    type Out = Lens;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Lens> {
        let (t, open) = (trace_of(&self.0, store, ctx)?, model_of(&self.0, store, ctx)?);
        let n_layers = t.tower(Tower::Text)?.n_layers;
        let mut top = Vec::new();
        for layer in 0..n_layers {
            ctx.step(layer, n_layers)?;
            let e = t.get(Tower::Text, layer, Site::ResidPost)?;
            let shape = e.array.shape().to_vec();
            let resid = candle_core::Tensor::from_slice(e.array.data(), shape, open.model.device())?;
            let rows = open.model.lens(&resid)?.to_vec2::<f32>()?;
            let read = |row: Vec<f32>| {
                let best = argmax(&row).unwrap_or(0);
                let sum: f32 = row.iter().map(|x| (x - row[best]).exp()).sum();
                (open.tokenizer.as_ref().map_or_else(|| format!("<{best}>"), |t| t.token_text(best as u32)), 1.0 / sum)
            };
            top.push(rows.into_iter().map(read).collect());
        }
        Ok(Lens { top })
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0)
    }

    fn bytes(l: &Lens) -> u64 {
        l.top.iter().map(|layer| 48 * layer.len() as u64).sum()
    }
}
