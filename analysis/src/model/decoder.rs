//! A causal language model: token embeddings, a stack, final norm, head. GPT-2 and the Llama family are both this.

use super::blocks::{Block, Config, Deep, Linear, Norm, Order, Pass, Scope, Stack, embedding, look_up};
use super::vision::row_of;
use super::{Input, LogitRows, Model, ModelInfo, Output, TowerRun, Writes, embedded, only};
use crate::ctx::Ctx;
use crate::trace::{MaskRule, Rows, Site, Tap, Tower};
use crate::weights::{Table, Weights};
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// How positions enter.
pub(super) enum Positions {
    /// A table added to the embeddings, `[max, d]`.
    Learned(Tensor),
    /// Rotary, inside attention.
    InAttention,
}

/// What a causal language model is put together from.
pub(super) struct Parts {
    /// Token table `[vocab, d]`.
    pub embed: Table,
    pub positions: Positions,
    /// Factor on the token table's rows, but not on those of a head tied to it (Gemma).
    pub embed_factor: Option<f64>,
    pub stack: Stack,
    /// Norm behind the stack, where there is one.
    pub norm: Option<Norm>,
    /// Map between norm and head (OPT-350m).
    pub project: Option<Linear>,
    pub end: End,
    /// Bound that logits are bent under: `cap · tanh(x / cap)` (Gemma 2).
    pub logit_cap: Option<f64>,
    /// Longest text, where there is a limit.
    pub max: Option<usize>,
}

impl Parts {
    /// What most are: rows of a table as they are, blocks that find positions by themselves and texts of any length, and
    /// the head on what the last norm gives.
    pub fn of(embed: Table, stack: Stack, norm: Norm, end: End) -> Self {
        Self {
            embed,
            positions: Positions::InAttention,
            embed_factor: None,
            stack,
            norm: Some(norm),
            project: None,
            end,
            logit_cap: None,
            max: None,
        }
    }
}

/// What stands behind the final norm.
pub(super) enum End {
    /// Logits over the vocabulary.
    Head(Linear),
    /// One row of logits over labels, read from the last token that is not padding.
    Labels { score: Linear, pad: Option<u32> },
    /// Logits over labels for every token.
    TokenLabels(Linear),
    /// Start and end of an answer.
    Span(Linear),
    /// Nothing: a base model.
    Bare,
}

impl End {
    /// Reads the end that `architectures` of `config.json` names. A head in the file counts before tying; without
    /// one, `tied` says whether the token table serves.
    pub fn load(c: &Config, root: &Scope, head: &Scope, embed: &Table, tied: bool) -> Result<Self> {
        let (vocab, d) = embed.dims2()?;
        let architecture = c.architecture();
        if architecture.ends_with("ForSequenceClassification") {
            let s = root.sub("score");
            let labels = match s.shape("weight") {
                Some(&[labels, _]) => labels,
                _ => 2,
            };
            let pad = c.value(&["pad_token_id"]).and_then(serde_json::Value::as_u64);
            let pad = pad.and_then(|p| u32::try_from(p).ok());
            return Ok(Self::Labels { score: Linear::load(&s, d, labels, false)?, pad });
        }
        if architecture.ends_with("ForTokenClassification") {
            let s = root.first(&["score", "classifier"], "weight");
            let labels = match s.shape("weight") {
                Some(&[labels, _]) => labels,
                _ => 2,
            };
            return Ok(Self::TokenLabels(Linear::load(&s, d, labels, s.has("bias"))?));
        }
        if architecture.ends_with("ForQuestionAnswering") {
            return Ok(Self::Span(Linear::load(&root.sub("qa_outputs"), d, 2, true)?));
        }
        let bare = architecture.ends_with("Model") && !architecture.ends_with("LMHeadModel");
        let bias = head.has("bias").then(|| head.get("bias", &[vocab])).transpose()?;
        if !head.has("weight") && tied {
            return Ok(Self::Head(Linear::from_table(embed, bias)?));
        }
        if !head.has("weight") && bare {
            return Ok(Self::Bare);
        }
        Ok(Self::Head(Linear::from_table(&head.table("weight", &[vocab, d])?, bias)?))
    }
}

/// What a picture in the text changes in the language model's pass.
#[derive(Default)]
pub(super) struct Around {
    /// Runs of positions that see each other.
    pub seen: Vec<(usize, usize)>,
    /// Whether layers with a window do not see further back in these runs, either (Gemma 3; in PaliGemma they do).
    pub windowed: bool,
    /// Features that join the stream behind the first layers.
    pub deep: Option<Deep>,
}

/// A causal language model.
pub(super) struct Decoder {
    info: ModelInfo,
    parts: Parts,
    /// What stands for a gap, where the model fills in.
    mask: Option<u32>,
    /// Factor on features of a picture, where they are treated as rows of the token table are (Granite).
    feature_factor: Option<f64>,
    /// Norm of what the first layer reads (BLOOM).
    first: Option<Norm>,
}

impl Decoder {
    /// The model of a checkpoint, from its parts.
    pub fn new(w: &Weights, mut parts: Parts) -> Result<Self> {
        let c = Config::new(w.config());
        if !c.sub("text_config").unwrap_or(c).flag(&["is_causal"], true)? {
            see_both_ways(&mut parts.stack);
        }
        let mut info = super::describe(w);
        info.towers.insert(Tower::Text, parts.stack.info(false));
        if let End::Head(head) = &parts.end {
            info.vocab = head.outputs()?;
            info.writes = Writes::Causal;
        }
        info.max_tokens = parts.max;
        Ok(Self { info, parts, mask: None, feature_factor: None, first: None })
    }

    /// What many families are beside their blocks: rows of a table without factors, pre-norm blocks, an RMS norm and a
    /// head. `scopes` are the checkpoint's root and where `embed_tokens` and `norm` stand.
    pub fn plain(
        w: &Weights,
        c: &Config,
        (root, s): (&Scope, &Scope),
        blocks: Vec<Block>,
        eps: f64,
    ) -> Result<Box<dyn Model>> {
        let (d, vocab) = (c.size(&["hidden_size"])?, c.size(&["vocab_size"])?);
        let embed = s.table("embed_tokens.weight", &[vocab, d])?;
        let tied = c.flag(&["tie_word_embeddings"], false)?;
        let end = End::load(c, root, &root.sub("lm_head"), &embed, tied)?;
        let parts = Parts {
            embed,
            positions: Positions::InAttention,
            embed_factor: None,
            stack: Stack { blocks, order: Order::PreNorm, width: d },
            norm: Some(Norm::rms(&s.sub("norm"), d, eps)?),
            project: None,
            logit_cap: None,
            end,
            max: c.size_opt(&["max_position_embeddings"])?,
        };
        Ok(Box::new(Self::new(w, parts)?))
    }

    /// What stands between the last block and the head.
    fn finish(&self, x: Tensor) -> Result<Tensor> {
        let x = self.parts.norm.as_ref().map_or(Ok(x.clone()), |norm| norm.apply(&x))?;
        self.parts.project.as_ref().map_or(Ok(x.clone()), |project| project.apply(&x))
    }

    /// Logits under their bound.
    fn bend(&self, x: Tensor) -> Result<Tensor> {
        Ok(match self.parts.logit_cap {
            Some(cap) => ((x / cap)?.tanh()? * cap)?,
            None => x,
        })
    }

    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.parts.stack.width
    }

    /// The same as a model whose logits are about the tokens themselves: it fills in what is masked; `mask` stands for a
    /// gap.
    pub(super) fn that_fills_in(mut self, mask: Option<u32>) -> Self {
        self.info.writes = Writes::Fills;
        self.mask = mask;
        self
    }

    /// The same with a factor on what stands in the place of a picture.
    pub(super) fn that_scales_features(mut self, by: Option<f64>) -> Self {
        self.feature_factor = by;
        self
    }

    /// The same with a norm in front of the first layer.
    pub(super) fn that_normalises(mut self, norm: Norm) -> Self {
        self.first = Some(norm);
        self
    }

    /// Features `[n, d]` of a picture as the first layer reads them.
    pub(super) fn features(&self, x: Tensor) -> Result<Tensor> {
        self.feature_factor.map_or(Ok(x.clone()), |by| Ok((x * by)?))
    }

    /// Runs on embeddings `[n, d]` with `rows` standing for them.
    pub(super) fn run(&self, x: Tensor, rows: Rows, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        self.run_with(x, rows, input, Around::default(), tap, ctx)
    }

    /// [`Decoder::run`] with what a picture in the text changes.
    pub(super) fn run_with(
        &self,
        mut x: Tensor,
        rows: Rows,
        input: &mut Input,
        around: Around,
        tap: &mut dyn Tap,
        ctx: &Ctx,
    ) -> Result<Output> {
        let n_layers = self.parts.stack.blocks.len();
        if let Positions::Learned(table) = &self.parts.positions {
            let ids: Vec<u32> = rows.positions.iter().map(|&p| p as u32).collect();
            x = (x + embedding(table, &ids, "position")?)?;
        }
        if let Some(norm) = &self.first {
            x = norm.apply(&x)?;
        }
        let mut pass = Pass::new(Tower::Text, 0, rows, tap, ctx);
        pass.table.clone_from(&input.mask);
        pass.cache = input.cache.as_deref_mut();
        pass.step = input.step;
        pass.deep = around.deep;
        if !around.seen.is_empty() {
            let own = self.parts.stack.blocks.iter().map(|b| b.attention.rule.mask.clone());
            let both = |of: MaskRule| {
                let blocks = |of: MaskRule| MaskRule::Blocks { runs: around.seen.clone(), of: Box::new(of) };
                Some(match of {
                    MaskRule::SlidingWindow(window) if around.windowed => {
                        MaskRule::Back { window, of: Box::new(blocks(MaskRule::Causal)) }
                    }
                    of => blocks(of),
                })
            };
            pass.masks = own.map(both).collect();
        }
        let x = self.parts.stack.apply(x, &mut pass)?;
        let x = self.finish(x)?;
        let x = pass.tap(Site::Final, n_layers, x)?;
        let mut out = Output::default();
        match &self.parts.end {
            End::Head(head) => {
                let (x, rows) = LogitRows::of(input.logits.as_ref(), &x)?;
                if !rows.is_empty() {
                    out.logits = Some(pass.tap(Site::Logits, n_layers, self.bend(head.apply_in(&x, ctx)?)?)?);
                }
                out.logit_rows = rows;
            }
            End::Labels { score, pad } => {
                // Padding stands on either side; a text of nothing else is read at its first token.
                let last = (0..input.ids.len()).rev().find(|&i| Some(input.ids[i]) != *pad).unwrap_or(0);
                let row = row_of(&x, &pass.rows, if pad.is_some() { last } else { input.ids.len().max(1) - 1 })?;
                out.extras.insert("logits".into(), score.apply(&row)?.squeeze(0)?);
            }
            End::TokenLabels(head) => {
                out.extras.insert("logits".into(), head.apply(&x)?);
            }
            End::Span(head) => {
                let both = head.apply(&x)?.t()?.contiguous()?;
                out.extras.insert("start_logits".into(), both.get(0)?);
                out.extras.insert("end_logits".into(), both.get(1)?);
            }
            End::Bare => {}
        }
        out.towers.insert(
            Tower::Text,
            TowerRun { attention: std::mem::take(&mut pass.rules), n_tiles: 1, ..TowerRun::default() },
        );
        Ok(out)
    }

    /// Rows of a plain text pass: identity, at the given positions or counting on from the cache.
    pub(super) fn rows(&self, n: usize, input: &Input) -> Result<Rows> {
        let rows = input.rows(n)?;
        if let (Positions::Learned(table), Some(&worst)) = (&self.parts.positions, rows.positions.iter().max())
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

/// What `is_causal` of a configuration does, which any decoder's may have: everything is seen, and as much of what
/// follows as of what is before where there is a window (models that embed texts).
fn see_both_ways(stack: &mut Stack) {
    for block in &mut stack.blocks {
        let mask = &mut block.attention.rule.mask;
        match *mask {
            MaskRule::Causal => *mask = MaskRule::Bidirectional,
            MaskRule::SlidingWindow(w) => *mask = MaskRule::Near(w),
            _ => {}
        }
    }
}

impl Model for Decoder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let x = embedded(self, input)?;
        let rows = self.rows(x.dim(0)?, input)?;
        self.run(x, rows, input, tap, ctx)
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let x = look_up(&self.parts.embed, ids, "token id")?;
        Ok(match self.parts.embed_factor {
            Some(factor) => (x * factor)?,
            None => x,
        })
    }

    fn stack(&self, tower: Tower) -> Result<&Stack> {
        only(&self.parts.stack, Tower::Text, tower)
    }

    fn lens(&self, resid: &Tensor) -> Result<Tensor> {
        match &self.parts.end {
            End::Head(head) => self.bend(head.apply(&self.finish(resid.clone())?)?),
            _ => Err(Error::invalid("this model has no language-model head to look with")),
        }
    }

    fn last_norm(&self, resid: &Tensor) -> Result<Tensor> {
        self.parts.norm.as_ref().map_or(Ok(resid.clone()), |norm| norm.apply(resid))
    }

    fn mask_token(&self) -> Option<u32> {
        self.mask
    }

    fn device(&self) -> &Device {
        self.parts.embed.device()
    }
}
