//! A causal language model: token embeddings, a stack, final norm, head. GPT-2 and the Llama family are both this.

use super::blocks::{Linear, Norm, Pass, Stack, embedding};
use super::{Input, LogitRows, Model, ModelInfo, Output, TowerRun};
use crate::ctx::Ctx;
use crate::trace::{Rows, Site, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// How positions enter.
pub(super) enum Positions {
    /// A table added to the embeddings, `[max, d]`.
    Learned(Tensor),
    /// Rotary, inside attention.
    InAttention,
}

/// A causal language model.
pub(super) struct Decoder {
    info: ModelInfo,
    embed: Tensor,
    positions: Positions,
    stack: Stack,
    norm: Norm,
    head: Linear,
    device: Device,
}

impl Decoder {
    #[expect(clippy::too_many_arguments, reason = "the parts of a model, each of another type")]
    pub(super) fn boxed(
        w: &Weights,
        embed: Tensor,
        positions: Positions,
        stack: Stack,
        norm: Norm,
        head: &Tensor,
        inner: usize,
        max: Option<usize>,
    ) -> Result<Box<dyn Model>> {
        Ok(Box::new(Self::build(w, embed, positions, stack, norm, head, inner, max)?))
    }

    /// `head` is `[vocab, d]`; `inner` the width of the MLP; `max` the longest text.
    #[expect(clippy::too_many_arguments, reason = "the parts of a model, each of another type")]
    pub(super) fn build(
        w: &Weights,
        embed: Tensor,
        positions: Positions,
        stack: Stack,
        norm: Norm,
        head: &Tensor,
        inner: usize,
        max: Option<usize>,
    ) -> Result<Self> {
        let device = embed.device().clone();
        let mut info = super::describe(w);
        info.towers.insert(Tower::Text, stack.info(false, inner));
        info.vocab = head.dim(0)?;
        info.generates = true;
        info.max_tokens = max;
        let head = Linear::from_matrix(head, None)?;
        Ok(Self { info, embed, positions, stack, norm, head, device })
    }

    /// Runs on embeddings `[n, d]` with `rows` standing for them.
    pub(super) fn run(
        &self,
        mut x: Tensor,
        rows: Rows,
        input: &mut Input,
        tap: &mut dyn Tap,
        ctx: &Ctx,
    ) -> Result<Output> {
        let n_layers = self.stack.blocks.len();
        if let Positions::Learned(table) = &self.positions {
            let ids: Vec<u32> = rows.positions.iter().map(|&p| p as u32).collect();
            x = (x + embedding(table, &ids, "position")?)?;
        }
        let mut pass = Pass::new(Tower::Text, 0, rows, tap, ctx);
        pass.table = input.mask.as_ref().map(|m| m.as_ref().clone());
        pass.cache = input.cache.as_deref_mut();
        let x = self.stack.apply(x, &mut pass)?;
        if let Some(cache) = &mut pass.cache {
            cache.next_position = pass.rows.positions.iter().map(|p| p + 1).max().unwrap_or(0).max(cache.next_position);
        }
        let n = x.dim(0)?;
        let x = self.norm.apply(&x)?;
        let x = pass.tap(Site::Final, n_layers, x)?;
        let logit_rows: Vec<usize> = match input.logits {
            Some(LogitRows::None) => Vec::new(),
            Some(LogitRows::Last) => vec![n - 1],
            Some(LogitRows::All) | None => (0..n).collect(),
        };
        let mut out = Output { logit_rows, ..Output::default() };
        if !out.logit_rows.is_empty() {
            let x = if out.logit_rows.len() == n { x } else { x.narrow(0, n - 1, 1)? };
            out.logits = Some(pass.tap(Site::Logits, n_layers, self.head.apply(&x)?)?);
        }
        out.towers.insert(
            Tower::Text,
            TowerRun { attention: std::mem::take(&mut pass.rules), n_tiles: 1, ..TowerRun::default() },
        );
        Ok(out)
    }

    /// Rows of a plain text pass: identity, at the given positions or counting on from the cache.
    pub(super) fn rows(&self, n: usize, input: &Input) -> Result<Rows> {
        let first = input.cache.as_ref().map_or(0, |c| c.next_position);
        let mut rows = Rows::span(first, n);
        if let Some(p) = &input.positions {
            if p.len() != n {
                return Err(Error::invalid(format!("{} positions for {n} tokens", p.len())));
            }
            rows.positions.clone_from(p);
        }
        if let (Positions::Learned(table), Some(&worst)) = (&self.positions, rows.positions.iter().max())
            && worst >= table.dim(0)?
        {
            return Err(Error::invalid(format!(
                "the text has more tokens than this model has positions ({}); shorten the prompt",
                table.dim(0)?
            )));
        }
        Ok(rows)
    }
}

impl Model for Decoder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let x = match &input.embeds {
            Some(x) => x.clone(),
            None => self.embed(&input.ids)?,
        };
        let n = x.dim(0)?;
        if n == 0 {
            return Err(Error::invalid("the input has no tokens; type a prompt"));
        }
        let rows = self.rows(n, input)?;
        self.run(x, rows, input, tap, ctx)
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        embedding(&self.embed, ids, "token id")
    }

    fn output_projection(&self, _tower: Tower, layer: usize) -> Result<Tensor> {
        self.stack.output_projection(layer)
    }

    fn lens(&self, resid: &Tensor) -> Result<Tensor> {
        self.head.apply(&self.norm.apply(resid)?)
    }

    fn device(&self) -> &Device {
        &self.device
    }
}
