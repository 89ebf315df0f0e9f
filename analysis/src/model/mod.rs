//! Instrumented forward passes: one file per family, differences as config fields, a tap at every site.

mod albert;
mod beit;
mod bert;
pub mod blocks;
mod bloom;
mod cache;
mod clip;
mod cohere;
mod deberta;
mod decoder;
mod deepseek;
mod dinov2;
mod dinov3;
mod electra;
#[cfg(test)]
mod elsewhere {
    mod tests;
}
mod encoder;
mod exaone4;
mod falcon;
mod form;
mod gemma;
mod gemma_vl;
mod glm;
mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gpt_oss;
mod gptj;
mod internvl;
mod llada;
mod llama;
mod llava;
mod llava_next;
mod mamba;
mod modernbert;
mod moe;
mod mpnet;
mod mpt;
mod nemotron;
mod olmo;
mod opt;
mod patches;
mod phi;
mod qwen_vl;
mod relatives;
mod siglip;
mod smollm3;
mod smolvlm;
mod stablelm;
mod starcoder2;
mod swin;
mod t5;
#[cfg(test)]
pub(crate) mod tests;
mod vision;
mod vit;
mod vlm;

pub use cache::{KvCache, LayerCache};

use crate::ctx::Ctx;
use crate::image::ImageInput;
use crate::token::{Grid, Token};
use crate::trace::{AttentionRule, Rows, Sizes, Tap, Tower};
use crate::weights::{Numbers, Weights};
use crate::{Error, Result};
use blocks::{Config, Places, Stack};
use candle_core::backprop::GradStore;
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
    /// Width of one head's queries and keys.
    pub head_width: usize,
    /// Width of one head's values.
    pub value_width: usize,
    /// Width of the MLP, or of one expert.
    pub mlp_width: usize,
    /// Experts of a layer, and how many of them read a row; 0 where there is no router.
    pub experts: (usize, usize),
    /// Heads of a recurrence that mix the rows of a layer, each by a matrix of its own; 0 where attention does. What
    /// stands for queries and keys is as wide then as there are rows.
    pub mixers: usize,
    /// Whether position 0 is a class token.
    pub class_token: bool,
    /// Whether a norm stands between attention and the residual stream (Gemma 2 and 3): what one head adds then hangs
    /// on what the others say.
    pub norms_attention: bool,
    /// Whether attention and MLP read the residual stream as it is, with norms behind them.
    pub reads_stream: bool,
    /// What stands beside the components of a head's queries and keys where the model adds something to scores.
    pub added: Added,
    /// How a picture becomes rows, in towers for pictures.
    pub tile: Option<Tile>,
    /// Layers and heads of each stage, where a quarter of the rows, twice as wide, goes on from one to the next (Swin);
    /// empty where all layers are alike. The width above is that of the last.
    pub stages: Vec<(usize, usize)>,
}

/// Components of queries and keys that hold what is added to scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// None.
    None,
    /// One for each key.
    Keys,
    /// So many, one for each place of a window.
    Places(usize),
}

/// Rows of a tile of a picture, or of a text: a grid, and others beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patches {
    /// Rows and columns of the grid.
    pub grid: (usize, usize),
    /// Rows that have no place in it: class token, registers.
    pub beside: usize,
}

impl Patches {
    /// Rows of a text.
    pub fn of_text(n: usize) -> Self {
        Self { grid: (n, 1), beside: 0 }
    }

    /// All rows.
    pub fn rows(self) -> usize {
        self.grid.0 * self.grid.1 + self.beside
    }
}

/// How a tile of a picture becomes rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Height and width of a patch in pixels.
    pub patch: (usize, usize),
    /// The patches of a tile of the size that the model was made for.
    pub own: Patches,
    /// Whether what is left at the edges is filled up to a patch.
    pub pads: bool,
}

impl TowerInfo {
    /// The patches of each tile of a picture, or of the one tile of a picture of the size that the model was made for.
    /// None in towers for texts.
    pub fn tiles(&self, image: Option<&ImageInput>) -> Vec<Patches> {
        let Some(tile) = self.tile else { return Vec::new() };
        let Some(image) = image else { return vec![tile.own] };
        let many = |pixels: usize, patch: usize| match tile.pads {
            true => pixels.div_ceil(patch.max(1)),
            false => pixels / patch.max(1),
        };
        let grid = |t: &Tensor| match *t.dims() {
            [_, height, width] => (many(height, tile.patch.0), many(width, tile.patch.1)),
            [patches, _] => (patches, 1),
            _ => tile.own.grid,
        };
        image.all().flat_map(|i| &i.tiles).map(|t| Patches { grid: grid(t), ..tile.own }).collect()
    }

    /// The stages one after the other as towers of equal layers, each with its layers and its rows, where the first one
    /// has these.
    pub fn by_stage(&self, rows: Patches) -> Vec<(Self, std::ops::Range<usize>, usize)> {
        let (mut first, mut rows, last) = (0, rows, self.stages.len().saturating_sub(1));
        let stage = |(i, &(layers, n_heads)): (usize, &(usize, usize))| {
            let (width, own, n) = (self.width >> (last - i), first..first + layers, rows.rows());
            first += layers;
            rows.grid = (rows.grid.0.div_ceil(2), rows.grid.1.div_ceil(2));
            let head_width = width / n_heads.max(1);
            let t = Self {
                width,
                n_heads,
                n_kv_heads: n_heads,
                head_width,
                value_width: head_width,
                mlp_width: self.mlp_width >> (last - i),
                ..self.clone()
            };
            (t, own, n)
        };
        match self.stages.is_empty() {
            true => vec![(self.clone(), 0..self.n_layers, rows.rows())],
            false => self.stages.iter().enumerate().map(stage).collect(),
        }
    }

    /// What the axes of activations count in a run of `rows` rows, with an output vocabulary.
    pub fn sizes(&self, rows: usize, vocab: usize) -> Sizes {
        Sizes {
            rows,
            keys: rows,
            heads: self.n_heads,
            kv_heads: self.n_kv_heads,
            head_width: match self.added {
                _ if self.mixers > 0 => rows,
                Added::None => self.head_width,
                Added::Keys => self.head_width + rows,
                Added::Places(n) => self.head_width + n,
            },
            value_width: self.value_width,
            width: self.width,
            mlp_width: self.mlp_width,
            experts: self.experts,
            mixers: self.mixers,
            vocab,
        }
    }
}

/// What a model can do with text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Writes {
    /// Continues it, token after token.
    Causal,
    /// Fills in what is masked.
    Fills,
    /// Nothing: it reads only.
    No,
}

impl Writes {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Causal => "causal",
            Self::Fills => "fills",
            Self::No => "no",
        }
    }
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
    /// What it can do with text.
    pub writes: Writes,
    /// Longest text in tokens, where the model has a limit.
    pub max_tokens: Option<usize>,
    /// Number of parameters.
    pub n_params: usize,
    /// Type the weights are stored in, e.g. `bf16`.
    pub dtype: String,
    /// Numbers that its matrices are in.
    pub numbers: Numbers,
    /// Fingerprint of the weights in these numbers.
    pub fingerprint: String,
}

/// For which rows logits are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogitRows {
    /// Every row.
    All,
    /// The last row only.
    Last,
    /// These rows, in this order.
    These(Vec<usize>),
    /// None.
    None,
}

impl LogitRows {
    /// The rows that are asked for among the rows of `x`, and their numbers. Errors on a row that is not there.
    fn of(asked: Option<&Self>, x: &Tensor) -> Result<(Tensor, Vec<usize>)> {
        let n = x.dim(0)?;
        let rows = match asked {
            Some(Self::None) => Vec::new(),
            Some(Self::Last) => vec![n - 1],
            Some(Self::These(rows)) => rows.clone(),
            Some(Self::All) | None => return Ok((x.clone(), (0..n).collect())),
        };
        if let Some(r) = rows.iter().find(|&&r| r >= n) {
            return Err(Error::invalid(format!("there is no row {r} to compute logits for; the run has {n}")));
        }
        let index: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
        Ok((x.index_select(&Tensor::new(index, x.device())?, 0)?, rows))
    }
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
    /// Which pass of a text that is written on, for taps: 0 reads the prompt.
    pub step: usize,
}

impl Input<'_> {
    /// Identity rows for `n` new tokens, at the given positions or counting on from the cache.
    ///
    /// Errors: another number of positions.
    fn rows(&self, n: usize) -> Result<Rows> {
        let mut rows = Rows::span(self.cache.as_ref().map_or(0, |c| c.next_position), n);
        if let Some(p) = &self.positions {
            if p.len() != n {
                return Err(Error::invalid(format!("{} positions for {n} tokens", p.len())));
            }
            rows.positions.clone_from(p);
        }
        if let Some(by) = self.cache.as_ref().and_then(|c| c.turn_ahead) {
            rows.turns = rows.positions.iter().map(|p| [p.saturating_add_signed(by) as u32; 3]).collect();
        }
        Ok(rows)
    }
}

/// The rows `[n, d]` that `model` begins with: those given, or the embeddings of the ids.
///
/// Errors: no rows; an id that the model does not have.
fn embedded(model: &dyn Model, input: &Input) -> Result<Tensor> {
    let x = match &input.embeds {
        Some(x) => x.clone(),
        None => model.embed(&input.ids)?,
    };
    if x.dim(0)? == 0 {
        return Err(Error::invalid("the input has no tokens; type a prompt"));
    }
    Ok(x)
}

/// The stack of a model that has no other, if `asked` is its tower.
fn only(stack: &Stack, own: Tower, asked: Tower) -> Result<&Stack> {
    if asked == own {
        Ok(stack)
    } else {
        Err(Error::invalid(format!("this model has no {asked:?} tower").to_lowercase()))
    }
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

impl Output {
    /// An embedding of the input, as one row: of the picture where `tower` is its encoder, else of the text; the pooled
    /// output, or the first row of the last states where there is none.
    ///
    /// Errors: the model gave nothing of the kind.
    pub fn embedding(&self, tower: Tower) -> Result<Vec<f32>> {
        let own =
            if tower == Tower::Vision { ["image_embeds", "vision_pooled"] } else { ["text_embeds", "text_pooled"] };
        for name in own.into_iter().chain(["pooler_output"]) {
            if let Some(t) = self.extras.get(name) {
                return Ok(t.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        let last = self.extras.get("last_hidden_state");
        Ok(last.ok_or_else(|| Error::invalid("the model gave no output to compare"))?.get(0)?.to_vec1::<f32>()?)
    }
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

    /// Token embeddings `[n, d]` as they enter the model (before positions), to differentiate by. Errors where the
    /// model reads pixels alone.
    fn embed(&self, _ids: &[u32]) -> Result<Tensor> {
        Err(Error::invalid("this model has no token embeddings; it reads pixels"))
    }

    /// The blocks of a tower. Errors where it has no such tower.
    fn stack(&self, tower: Tower) -> Result<&Stack>;

    /// Final norm and head on a residual stream `[n, d]` → `[n, vocab]`, for the logit lens.
    fn lens(&self, resid: &Tensor) -> Result<Tensor>;

    /// The last norm on a residual stream `[n, d]` of the text. Errors where the model has no text.
    fn last_norm(&self, _resid: &Tensor) -> Result<Tensor> {
        Err(Error::invalid("this model has no last norm of a text"))
    }

    /// What the projector makes of patches as the encoder gives them, `[n, encoder's width]` → `[n, d]`. Errors where
    /// the model has none, or one that reads several patches at once.
    fn project(&self, _patches: &Tensor) -> Result<Tensor> {
        Err(Error::invalid("this model has no projector that reads patches one by one"))
    }

    /// The encoder layer whose output goes through [`Model::project`], if the model has such a projector.
    fn projected_layer(&self) -> Option<usize> {
        None
    }

    /// Output projection of a layer's attention as `[heads, head_width, d]`, for per-head contributions.
    fn output_projection(&self, tower: Tower, layer: usize) -> Result<Tensor> {
        self.stack(tower)?.output_projection(layer)
    }

    /// Queries `[h, n, e]` and keys `[g, n, e]`, turned to these places, that a layer would make of a residual
    /// stream `[n, d]`: what the next layer would look at, before it does.
    fn queries_keys(&self, tower: Tower, layer: usize, resid: &Tensor, places: Places) -> Result<(Tensor, Tensor)> {
        self.stack(tower)?.queries_keys(layer, resid, places)
    }

    /// Id of the placeholder that image features replace, for vision-language models.
    fn image_token(&self) -> Option<u32> {
        None
    }

    /// Id of the token that stands for a gap, for models that fill in.
    fn mask_token(&self) -> Option<u32> {
        None
    }

    /// Whether it tells the texts of a pair apart by segment ids.
    fn reads_segments(&self) -> bool {
        false
    }

    /// The length in tokens that every text is brought to, and the id that fills it up, for models that were trained so
    /// without a mask.
    fn padding(&self) -> Option<(usize, u32)> {
        None
    }

    /// Device of the weights.
    fn device(&self) -> &Device;
}

type Loader = fn(&Weights, &Device) -> Result<Box<dyn Model>>;

/// `model_type` of `config.json` and what loads it.
const FAMILIES: &[(&str, Loader)] = &[
    ("albert", albert::load),
    ("arcee", relatives::arcee),
    ("beit", beit::load),
    ("bert", bert::load),
    ("bloom", bloom::load),
    ("camembert", bert::load),
    ("clip", clip::load),
    ("clip_text_model", clip::load),
    ("clip_vision_model", clip::load),
    ("codegen", gptj::load),
    ("cohere", cohere::load),
    ("cohere2", cohere::load),
    ("data2vec-vision", beit::load),
    ("deberta-v2", deberta::load),
    ("deepseek_v2", deepseek::load),
    ("deepseek_v3", deepseek::load),
    ("deit", vit::load),
    ("dinov2", dinov2::load),
    ("dinov2_with_registers", dinov2::load),
    ("dinov3_vit", dinov3::load),
    ("distilbert", bert::load),
    ("electra", electra::load),
    ("exaone4", exaone4::load),
    ("falcon", falcon::load),
    ("gemma", gemma::load),
    ("gemma2", gemma::load),
    ("gemma3", gemma_vl::load),
    ("gemma3_text", gemma::load),
    ("glm", glm::load),
    ("glm4", glm::load),
    ("gpt2", gpt2::load),
    ("gpt_bigcode", gpt_bigcode::load),
    ("gpt_neo", gpt_neo::load),
    ("gpt_neox", gpt_neox::load),
    ("gpt_oss", gpt_oss::load),
    ("gptj", gptj::load),
    ("granite", llama::load),
    ("helium", relatives::helium),
    ("idefics3", smolvlm::load),
    ("ijepa", vit::load),
    ("internvl", internvl::load),
    ("llada", llada::load),
    ("llama", llama::load),
    ("llava", llava::load),
    ("llava_next", llava_next::load),
    ("llava_onevision", llava_next::load),
    ("mamba", mamba::load),
    ("mamba2", mamba::load),
    ("ministral", relatives::ministral),
    ("mistral", llama::load),
    ("mixtral", llama::load),
    ("modernbert", modernbert::load),
    ("mpnet", mpnet::load),
    ("mpt", mpt::load),
    ("nemotron", nemotron::load),
    ("olmo", olmo::load),
    ("olmo2", llama::load),
    ("olmo3", olmo::load),
    ("olmoe", llama::load),
    ("opt", opt::load),
    ("paligemma", gemma_vl::load),
    ("phi", phi::load),
    ("phi3", llama::load),
    ("qwen2", llama::load),
    ("qwen2_5_vl", qwen_vl::load),
    ("qwen2_moe", llama::load),
    ("qwen2_vl", qwen_vl::load),
    ("qwen3", llama::load),
    ("qwen3_moe", llama::load),
    ("qwen3_vl", qwen_vl::load),
    ("qwen3_vl_moe", qwen_vl::load),
    ("roberta", bert::load),
    ("seed_oss", relatives::seed_oss),
    ("siglip", siglip::load),
    ("siglip2", siglip::load),
    ("siglip2_text_model", siglip::load),
    ("siglip2_vision_model", siglip::load),
    ("siglip_text_model", siglip::load),
    ("siglip_vision_model", siglip::load),
    ("smollm3", smollm3::load),
    ("smolvlm", smolvlm::load),
    ("stablelm", stablelm::load),
    ("starcoder2", starcoder2::load),
    ("swin", swin::load),
    ("swinv2", swin::load),
    ("t5", t5::load),
    ("vit", vit::load),
    ("vit_msn", vit::load),
    ("xlm-roberta", bert::load),
];

/// Names of the architectures that [`load`] knows.
pub fn architectures() -> Vec<&'static str> {
    FAMILIES.iter().map(|(name, _)| *name).collect()
}

/// The gradients of one number. Errors: those of the way back, cancelled.
pub fn backward(x: &Tensor, ctx: &Ctx) -> Result<GradStore> {
    // A part that was cancelled on its way comes back as an error of the tensor library.
    x.backward().map_err(|e| ctx.check().err().unwrap_or_else(|| e.into()))
}

/// Loads a Hugging Face folder, an entry of its cache, or a GGUF file onto `device`.
///
/// Errors: [`Error::Architecture`] for a family that is not here, [`Error::File`] and [`Error::Weight`] for
/// damaged checkpoints.
pub fn load(path: &Path, device: &Device) -> Result<Box<dyn Model>> {
    let weights = Weights::open(path)?;
    from_weights(&weights, device)
}

/// Loads an open checkpoint.
pub fn from_weights(weights: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let config = Config::new(weights.config());
    let kind = config.word(&["model_type"], "")?;
    let Some((_, load)) = FAMILIES.iter().find(|(name, _)| *name == kind) else {
        let name = if kind.is_empty() { "(config.json names none)".to_string() } else { kind.to_string() };
        let path = weights.gguf_file().map_or_else(|| weights.dir().join("config.json"), Path::to_path_buf);
        return Err(Error::Architecture { path, name, supported: architectures().join(", ") });
    };
    load(weights, device).map_err(|e| about(weights, e))
}

/// What is wrong with the configuration, with the file that says so.
fn about(weights: &Weights, e: Error) -> Error {
    match e {
        Error::Invalid(what) if what.starts_with("config.json") => {
            let what = what.trim_start_matches("config.json").trim_start_matches([':', ' ']);
            match weights.gguf_file() {
                Some(file) => Error::file(
                    file,
                    format!("metadata: {what}"),
                    "open the model's original folder, or another conversion",
                ),
                None => {
                    // The file is intact: what it says cannot be done here, or nowhere.
                    let beyond = ["not supported", "not usable here", "cannot be met"].iter().any(|w| what.contains(w));
                    let remedy = match beyond {
                        true => "record a run of the model where transformers opens it: tokenscope recorder",
                        false => "check that it is this model's own, and what was changed in it",
                    };
                    Error::file(weights.dir().join("config.json"), what, remedy)
                }
            }
        }
        other => other,
    }
}

/// Whether the checkpoint is of a class that gives feature maps to others (`SwinBackbone` and the like).
fn is_backbone(w: &Weights) -> bool {
    Config::new(w.config()).architecture().ends_with("Backbone")
}

/// What every family says about its checkpoint; towers and vocabulary are filled in by the family.
fn describe(w: &Weights) -> ModelInfo {
    let config = Config::new(w.config());
    let architecture = match config.architecture() {
        "" => config.value(&["model_type"]).and_then(serde_json::Value::as_str).unwrap_or("?"),
        name => name,
    };
    ModelInfo {
        name: w.name().to_string(),
        architecture: architecture.to_string(),
        towers: BTreeMap::new(),
        vocab: 0,
        writes: Writes::No,
        max_tokens: None,
        n_params: w.n_params(),
        dtype: w.dtype(),
        numbers: w.numbers(),
        fingerprint: w.fingerprint(),
    }
}
