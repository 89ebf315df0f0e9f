//! Instrumented forward passes: one file per family, differences as config fields, a tap at every site.

use crate::ctx::Ctx;
use crate::token::{Grid, Token};
use crate::trace::{AttentionRule, MaskRule, Tap, Tower};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// One stack of layers, as far as callers must know it.
#[derive(Debug, Clone, PartialEq)]
pub struct TowerInfo {
    /// Layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Width of the MLP.
    pub mlp_width: usize,
    /// Whether position 0 is a class token.
    pub class_token: bool,
}

/// What a loaded model says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Folder or file name, for titles.
    pub name: String,
    /// Architecture as in `config.json` or the GGUF header.
    pub architecture: String,
    /// Stacks of layers.
    pub towers: BTreeMap<Tower, TowerInfo>,
    /// Output vocabulary; 0 for models without logits.
    pub vocab: usize,
    /// Whether the text attention is causal, so that the model can continue a text.
    pub generates: bool,
    /// Longest text in tokens, where the model has a limit.
    pub max_tokens: Option<usize>,
    /// Number of parameters.
    pub n_params: usize,
    /// Type the weights are stored in, e.g. `bf16`.
    pub dtype: String,
    /// Fingerprint of the weights.
    pub fingerprint: String,
}

/// For which rows logits are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogitRows {
    /// Every row.
    All,
    /// The last row only.
    Last,
    /// None.
    None,
}

/// Keys and values of earlier tokens, per layer: `[kv_heads, n, head_width]`.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    /// Per layer.
    pub layers: Vec<Option<(Tensor, Tensor)>>,
    /// Position ids of the cached rows.
    pub positions: Vec<usize>,
}

impl KvCache {
    /// Number of cached rows.
    pub fn len(&self) -> usize {
        self.positions.len()
    }
    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }
    /// Keeps the first `n` rows, e.g. after rejected drafts.
    pub fn truncate(&mut self, n: usize) -> Result<()> {
        if n >= self.len() {
            return Ok(());
        }
        for l in self.layers.iter_mut().flatten() {
            *l = (l.0.narrow(1, 0, n)?.contiguous()?, l.1.narrow(1, 0, n)?.contiguous()?);
        }
        self.positions.truncate(n);
        Ok(())
    }
    /// Keeps exactly these rows, in this order, e.g. the accepted path of a draft tree.
    pub fn select(&mut self, rows: &[usize]) -> Result<()> {
        let idx: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
        for l in self.layers.iter_mut().flatten() {
            let i = Tensor::new(idx.as_slice(), l.0.device())?;
            *l = (l.0.index_select(&i, 1)?, l.1.index_select(&i, 1)?);
        }
        self.positions = rows.iter().map(|&r| self.positions[r]).collect();
        Ok(())
    }
}

/// An image as the processor hands it to the encoder.
#[derive(Debug, Clone)]
pub struct ImageInput {
    /// Pixels per tile, `[3, height, width]`, normalised.
    pub tiles: Vec<Tensor>,
    /// Per tile: the rectangle (x, y, w, h) of the original image, in pixels, that the tile shows.
    pub rects: Vec<[f32; 4]>,
    /// Rows and columns of the tile layout without the global tile; (1, 1) for one plain image.
    pub layout: (usize, usize),
    /// Size of the original image, width and height; (0, 0) if only pixel values are known.
    pub original: (u32, u32),
}

/// What one forward pass is given.
#[derive(Default)]
pub struct Input<'a> {
    /// Token ids; empty for image-only models. For vision-language models the image tokens are in place.
    pub ids: Vec<u32>,
    /// Segment ids of BERT.
    pub token_types: Option<Vec<u32>>,
    /// The image.
    pub image: Option<ImageInput>,
    /// Position ids; `None` counts on from the cache.
    pub positions: Option<Vec<usize>>,
    /// Another mask than the model's own: per new row the key rows (cache first, then new rows) it sees.
    pub mask: Option<Arc<Vec<Vec<usize>>>>,
    /// Token embeddings `[n, d]` instead of a look-up of `ids`, e.g. to differentiate by.
    pub embeds: Option<Tensor>,
    /// Keys and values of earlier tokens; the new ones are appended.
    pub cache: Option<&'a mut KvCache>,
    /// For which rows logits are computed. `None` means all.
    pub logits: Option<LogitRows>,
}

/// What one forward pass gives, beside what the tap saw.
#[derive(Debug, Default)]
pub struct Output {
    /// `[rows, vocab]`.
    pub logits: Option<Tensor>,
    /// Which rows `logits` holds.
    pub logit_rows: Vec<usize>,
    /// Further results under the names of `transformers` (`pooler_output`, `image_embeds`, …).
    pub extras: BTreeMap<String, Tensor>,
    /// Per tower, what a trace must know about this run.
    pub towers: BTreeMap<Tower, TowerRun>,
}

/// What a run says about one tower.
#[derive(Debug, Clone, Default)]
pub struct TowerRun {
    /// Attention by layer.
    pub attention: Vec<AttentionRule>,
    /// For image towers: the tokens with their rectangles; text towers are filled in from the tokenizer.
    pub tokens: Vec<Token>,
    /// Grids of image tokens.
    pub grids: Vec<Grid>,
    /// Tiles.
    pub n_tiles: usize,
}

/// A loaded model.
pub trait Model: Send + Sync {
    /// What it is.
    fn info(&self) -> &ModelInfo;

    /// One forward pass. `tap` sees every site; `ctx` is asked once a layer.
    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output>;

    /// Token embeddings `[n, d]` as they enter the model (before positions), to differentiate by.
    fn embed(&self, ids: &[u32]) -> Result<Tensor>;

    /// Output projection of a layer's attention as `[heads, head_width, d]`, for per-head contributions.
    fn output_projection(&self, tower: Tower, layer: usize) -> Result<Tensor>;

    /// Final norm and head on a residual stream `[n, d]` → `[n, vocab]`, for the logit lens.
    fn lens(&self, resid: &Tensor) -> Result<Tensor>;

    /// Id of the placeholder that image features replace, for vision-language models.
    fn image_token(&self) -> Option<u32> {
        None
    }

    /// Device of the weights.
    fn device(&self) -> &Device;
}

/// Architectures that [`load`] knows, as `config.json` names them.
pub const ARCHITECTURES: &[&str] = &[];

/// Loads a Hugging Face folder (or its cache layout) or a GGUF file onto `device`.
pub fn load(path: &Path, _device: &Device, _ctx: &Ctx) -> Result<Box<dyn Model>> {
    let _ = MaskRule::Causal;
    Err(Error::Architecture { name: path.display().to_string(), supported: ARCHITECTURES.join(", ") })
}
