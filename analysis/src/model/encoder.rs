//! Encoders of texts: token, position and segment embeddings, a stack, heads. BERT and its followers are all this.

use super::blocks::{Activation, Joins, Linear, Norm, Pass, Stack, embedding};
use super::vision::row_of;
use super::{Input, LogitRows, Model, ModelInfo, Output, TowerRun, Writes, embedded, only};
use crate::ctx::Ctx;
use crate::trace::{Rows, Site, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// Logits over the vocabulary for every token.
pub(super) struct Words {
    pub dense: Linear,
    pub act: Activation,
    pub norm: Norm,
    pub decoder: Linear,
}

/// Logits over labels for the whole text, from its first token.
pub(super) struct Labels {
    pub dense: Linear,
    pub act: Activation,
    pub out: Linear,
    /// Name of the result.
    pub name: &'static str,
}

/// What stands on the encoder; what is not there is `None`.
#[derive(Default)]
pub(super) struct Heads {
    pub words: Option<Words>,
    pub labels: Option<Labels>,
    /// Labels of every token.
    pub tokens: Option<Linear>,
    /// Start and end of an answer.
    pub span: Option<Linear>,
    pub pooler: Option<Linear>,
    /// Whether each token is the original one: map, non-linearity, map to one logit (ELECTRA).
    pub real: Option<(Linear, Activation, Linear)>,
    /// Behind the labels' first map (ModernBERT).
    pub label_norm: Option<Norm>,
    /// Labels are read from the mean of all tokens, not from the first one.
    pub mean: bool,
    /// What stands before the labels of every token, or before start and end of an answer (ModernBERT).
    pub token_head: Option<(Linear, Activation, Norm)>,
}

impl Heads {
    /// Whether the encoder's own result is the model's.
    fn bare(&self) -> bool {
        self.words.is_none()
            && self.labels.is_none()
            && self.tokens.is_none()
            && self.span.is_none()
            && self.real.is_none()
    }
}

/// A convolution over neighbouring tokens of the embeddings that joins what the first layer gives (DeBERTa-v2).
pub(super) struct Conv {
    /// `[d, d / groups, size]`.
    pub weight: Tensor,
    pub bias: Tensor,
    pub groups: usize,
    pub act: Activation,
    pub norm: Norm,
}

impl Joins for Conv {
    fn join(&self, first: &Tensor, out: &Tensor) -> Result<Tensor> {
        if first.dim(0)? != out.dim(0)? {
            return Err(Error::invalid(
                "rows cannot change in the first layer: a convolution reads its input beside it",
            ));
        }
        let pad = (self.weight.dim(2)? - 1) / 2;
        let x = first.t()?.unsqueeze(0)?.contiguous()?.conv1d(&self.weight, pad, 1, 1, self.groups)?;
        let x = x.squeeze(0)?.t()?.contiguous()?.broadcast_add(&self.bias)?;
        self.norm.apply(&(out + self.act.apply(&x)?)?)
    }
}

/// An encoder of texts.
pub(super) struct Encoder {
    pub info: ModelInfo,
    /// Token table.
    pub words: Tensor,
    /// Learned positions, where there are some.
    pub positions: Option<Tensor>,
    /// Segments.
    pub types: Option<Tensor>,
    /// Norm of the embeddings.
    pub norm: Option<Norm>,
    /// From narrow embeddings to the width of the stack.
    pub project: Option<Linear>,
    /// Whether that map stands before the norm.
    pub project_first: bool,
    pub stack: Stack,
    pub conv: Option<Conv>,
    /// Norm behind the stack.
    pub after: Option<Norm>,
    pub heads: Heads,
    /// Id of the padding, and the position it keeps; others count from behind it (RoBERTa).
    pub pad: Option<(u32, usize)>,
    /// Whether tokens see only those before them.
    pub causal: bool,
    /// Whether texts begin with a token that stands for all.
    pub class_token: bool,
    pub device: Device,
}

impl Encoder {
    /// An encoder of these parts; what else there is, is set by its family.
    pub fn new(w: &Weights, words: Tensor, stack: Stack, heads: Heads, device: &Device) -> Self {
        Self {
            info: super::describe(w),
            words,
            positions: None,
            types: None,
            norm: None,
            project: None,
            project_first: false,
            stack,
            conv: None,
            after: None,
            heads,
            pad: None,
            causal: false,
            class_token: true,
            device: device.clone(),
        }
    }

    /// The model, with the longest text that it reads.
    pub fn ready(mut self, max: Option<usize>) -> Result<Box<dyn Model>> {
        self.info.towers.insert(Tower::Text, self.stack.info(self.class_token));
        if self.heads.words.is_some() {
            self.info.vocab = self.words.dim(0)?;
            if self.info.writes == Writes::No {
                self.info.writes = Writes::Fills;
            }
        }
        self.info.max_tokens = max;
        Ok(Box::new(self))
    }
}

impl Words {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.decoder.apply(&self.norm.apply(&self.act.apply(&self.dense.apply(x)?)?)?)
    }
}

impl Encoder {
    fn word_logits(&self, x: &Tensor) -> Result<Tensor> {
        match &self.heads.words {
            Some(head) => head.apply(x),
            None => Err(Error::invalid("this model has no language-model head")),
        }
    }

    /// Rows of a text: identity; positions as given, or counted on from the cache, or as RoBERTa counts them. And the
    /// rows of the position table: the same, but those of RoBERTa where tokens see only what is before them, because
    /// what is before a token is told by where it stands, whatever its position is called.
    fn rows(&self, n: usize, input: &Input) -> Result<(Rows, Vec<usize>)> {
        let mut rows = input.rows(n)?;
        let mut places = rows.positions.clone();
        if let Some((pad, keeps)) = self.pad {
            let is_pad = |i: usize| input.ids.get(i) == Some(&pad);
            if input.positions.is_none() {
                let mut next = keeps + 1 + if self.causal { places.first().copied().unwrap_or(0) } else { 0 };
                for (i, p) in places.iter_mut().enumerate() {
                    *p = if is_pad(i) { keeps } else { next };
                    next += usize::from(!is_pad(i));
                }
            } else if self.causal {
                places.iter_mut().enumerate().for_each(|(i, p)| *p = if is_pad(i) { keeps } else { *p + keeps + 1 });
            }
        }
        if !self.causal {
            rows.positions.clone_from(&places);
        }
        let max = self.positions.as_ref().map_or(Ok(usize::MAX), |p| p.dim(0))?;
        if places.iter().any(|&p| p >= max) {
            return Err(Error::invalid(format!(
                "the text has more tokens than this model has positions ({max}); shorten the prompt"
            )));
        }
        Ok((rows, places))
    }
}

impl Model for Encoder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let x = embedded(self, input)?;
        let n = x.dim(0)?;
        let (rows, places) = self.rows(n, input)?;
        let mut x = x;
        if let Some(positions) = &self.positions {
            let ids: Vec<u32> = places.iter().map(|&p| p as u32).collect();
            x = (x + embedding(positions, &ids, "position")?)?;
        }
        if let Some(types) = &self.types {
            let zeros = vec![0; n];
            // RoBERTa's single row serves every segment.
            let one_row = types.dim(0)? == 1;
            let ids = input.token_types.as_ref().filter(|_| !one_row).unwrap_or(&zeros);
            if ids.len() != n {
                return Err(Error::invalid(format!("{} segment ids for {n} tokens", ids.len())));
            }
            x = (x + embedding(types, ids, "segment id")?)?;
        }
        let project = |x: Tensor| self.project.as_ref().map_or(Ok(x.clone()), |p| p.apply(&x));
        if self.project_first {
            x = project(x)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.apply(&x)?;
        }
        if !self.project_first {
            x = project(x)?;
        }
        let n_layers = self.stack.blocks.len();
        let mut pass = Pass::new(Tower::Text, 0, rows, tap, ctx);
        pass.table.clone_from(&input.mask);
        pass.cache = input.cache.as_deref_mut().filter(|_| self.info.writes == Writes::Causal);
        pass.step = input.step;
        pass.joins = self.conv.as_ref().map(|c| c as &dyn Joins);
        let x = self.stack.apply(x, &mut pass)?;
        let x = self.after.as_ref().map_or(Ok(x.clone()), |norm| norm.apply(&x))?;
        let x = pass.tap(Site::Final, n_layers, x)?;
        let mut out = Output::default();
        let mut say = |name: &str, t: Tensor| out.extras.insert(name.into(), t);
        if let Some(pooler) = &self.heads.pooler {
            say("pooler_output", pooler.apply(&row_of(&x, &pass.rows, 0)?)?.tanh()?.squeeze(0)?);
        }
        if let Some(head) = &self.heads.labels {
            let first = if self.heads.mean { x.mean_keepdim(0)? } else { row_of(&x, &pass.rows, 0)? };
            let mut y = head.act.apply(&head.dense.apply(&first)?)?;
            if let Some(norm) = &self.heads.label_norm {
                y = norm.apply(&y)?;
            }
            say(head.name, head.out.apply(&y)?.squeeze(0)?);
        }
        let before_labels = || -> Result<Tensor> {
            match &self.heads.token_head {
                Some((dense, act, norm)) => norm.apply(&act.apply(&dense.apply(&x)?)?),
                None => Ok(x.clone()),
            }
        };
        if let Some(head) = &self.heads.tokens {
            say("logits", head.apply(&before_labels()?)?);
        }
        if let Some((dense, act, last)) = &self.heads.real {
            say("logits", last.apply(&act.apply(&dense.apply(&x)?)?)?.squeeze(1)?);
        }
        if let Some(head) = &self.heads.span {
            let both = head.apply(&before_labels()?)?.t()?.contiguous()?;
            say("start_logits", both.get(0)?);
            say("end_logits", both.get(1)?);
        }
        if self.heads.bare() {
            say("last_hidden_state", x.clone());
        }
        if self.heads.words.is_some() {
            let (x, rows) = LogitRows::of(input.logits.as_ref(), &x)?;
            if !rows.is_empty() {
                out.logits = Some(pass.tap(Site::Logits, n_layers, self.word_logits(&x)?)?);
            }
            out.logit_rows = rows;
        }
        out.towers.insert(
            Tower::Text,
            TowerRun { attention: std::mem::take(&mut pass.rules), n_tiles: 1, ..TowerRun::default() },
        );
        Ok(out)
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        embedding(&self.words, ids, "token id")
    }

    fn reads_segments(&self) -> bool {
        self.types.as_ref().and_then(|t| t.dim(0).ok()).is_some_and(|rows| rows > 1)
    }

    fn stack(&self, tower: Tower) -> Result<&Stack> {
        only(&self.stack, Tower::Text, tower)
    }

    fn lens(&self, resid: &Tensor) -> Result<Tensor> {
        match &self.after {
            Some(norm) => self.word_logits(&norm.apply(resid)?),
            None => self.word_logits(resid),
        }
    }

    fn device(&self) -> &Device {
        &self.device
    }
}
