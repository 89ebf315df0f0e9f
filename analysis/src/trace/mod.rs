//! What one run of one model on one input left behind.
//!
//! Attention probabilities are not stored: post-rotary Q and K are, with scale and mask rule, and maps are
//! computed from them when looked at (see [`crate::passes`]). Memory is O(layers · tokens · width).
//!
//! # The file
//!
//! A trace file is a [safetensors](https://github.com/huggingface/safetensors) file, whatever its name ends with, that
//! [`write_trace`] writes and [`read_trace`] reads; `tokenscope recorder` prints a Python program that writes one of any
//! `transformers` model. Its metadata have the one key `tokenscope_trace`, whose value is the header: a JSON object.
//! Entries marked with a star must be there; readers pass over entries and tensors that they do not know.
//!
//! | entry | what |
//! |---|---|
//! | `version`\* | 2; files of a newer format are refused. 2 added token types, decode steps and rules that name keys |
//! | `model`\* | name of the model, for titles |
//! | `architecture`\* | class of the model, as `LlamaForCausalLM` |
//! | `fingerprint`\* | says which weights these are; empty if unknown |
//! | `text`\* | the text that was read, empty without one; `bytes` of tokens are counted in it |
//! | `image_size`\* | `[width, height]` of the original picture in pixels, or `null` |
//! | `towers`\* | object with `text` (language model or text encoder), `vision` (image encoder) or both; see below |
//! | `rows`\* | list of row maps `{"tokens": [[0], [1], …], "positions": [0, 1, …]}`: for each row of an array the indices of the tokens behind it, and its position id; where the rotary embedding has three sections, `"turns"`, `[time, row, column]` of each |
//! | `arrays`\* | list of what the file holds: `{"step": 0, "tower": "text", "tile": 0, "layer": 3, "site": "q", "rows": 0}`; `rows` is an index into the row maps, `step` 0 the pass over the prompt and later ones its continuation |
//! | `extras`\* | names of further tensors |
//! | `token_types` | segment id of each token, or `null` where all are 0 |
//! | `logit_rows`\* | tokens whose logits are kept, in their order |
//! | `continuation`\*, `continuation_text`\* | ids that the model wrote, and their text |
//! | `notes`\* | sentences that the window shows: what was cut, what was not found |
//! | `dtype` | type that was computed in, as `float32` or `bfloat16` |
//! | `parts` | `[left, top, width, height]` of each of several pictures that lie side by side on `picture` |
//!
//! A tower is an object:
//!
//! | entry | what |
//! |---|---|
//! | `tokens`\* | list of `{"id": 17, "text": " fox", "kind": "text", "source": {"bytes": {"start": 0, "end": 4}}}`; `id` is `null` for patches, `kind` one of `text`, `image`, `special`, `padding`, `source` is `"none"`, bytes of the text, or `{"rect": {"x": 0, "y": 0, "w": 14, "h": 14}}` in pixels of the original picture |
//! | `n_layers`\*, `width`\* | layers, width of the residual stream |
//! | `attention`\* | for each layer `{"n_heads": 8, "n_kv_heads": 2, "scale": 0.125, "mask": "causal", "soft_cap": null}`: probabilities are the softmax of `scale · q · k`, or of `soft_cap · tanh(scale · q · k / soft_cap)`, over the keys that the mask lets a query see. `sinks`, where it is there, has a score for each query head that belongs to no key and takes its share of every query. A layer whose queries and keys are not there has any rule, as one with 0 heads |
//! | `grids`\* | list of `{"rows": 24, "cols": 24, "first": 5, "tile": 0, "gap": 0}`: image tokens row by row from token `first` on, with `gap` other tokens behind each row |
//! | `n_tiles`\* | tiles of a picture that ran through the layers one by one; 1 for all others |
//! | `class_token`\* | index of the class token, or `null` |
//!
//! A `mask` ([`MaskRule`]) is `"causal"`, `"bidirectional"`, `{"sliding_window": 4096}`, `{"windows": [64, 128]}`,
//! `{"blocks": {"runs": [[5, 581]], "of": "causal"}}`, `{"back": {"window": 4096, "of": "causal"}}`, `{"near": 64}`,
//! `{"table": [[0], [0, 1], …]}`, `{"only": {"keys": [2, 3], "of": "causal"}}` or `{"per_head": ["causal", …]}`.
//!
//! The tensor of an array is called `TOWER.TILE.LAYER.SITE`, as `text.0.3.q`, with `stepN.` in front for step `N` > 0.
//! It is F32 and has no batch axis. Its layer is counted from 0; what comes after the layers (`final`, `logits`) has
//! the number of layers as its own, and `features` has 0. [`Site`] says what is where, and [`Site::axes`] the shapes:
//! `resid_pre`, `attn_out`, `resid_mid`, `mlp_out`, `resid_post`, `final` are `[rows, width]`, `q` is `[heads, rows,
//! width of a head]`, `k` and `v` are `[key-value heads, rows, width of a head]` before they are repeated, `logits` is
//! `[logit rows, vocabulary]`. Any may be left out; views say what they miss. What a model adds to scores (ALiBi,
//! relative positions) is held by further components: `q` has one for every key with `addition / scale`, and `k` there
//! the identity matrix.
//!
//! Further tensors: `extra.NAME` (F32) for each of `extras`, such as `cross_attentions_0` `[heads, rows, keys]`, which the
//! recorder keeps of a layer that reads another sequence; `picture` (U8, `[height, width, 3]`), the picture itself;
//! `pixel_values` (F32), `image_grid_thw` or `spatial_shapes`, `image_sizes` and, of several pictures, `image_tiles`
//! (I64), what the model read of it, with which `tokenscope verify` repeats the run. Several pictures lie side by side on
//! one `picture`.

mod attending;
mod capture;
mod check;
mod file;
mod rows;
mod site;
mod spans;
mod spill;
mod tap;

pub use attending::{Attending, Held, KeySet, PerHead};
pub use capture::{Capture, CaptureSpec};
pub use file::{Stored, is_trace, read_outline, read_tensors, read_trace, write_tensors, write_trace};
pub use rows::{Positions, Regroup, Rows};
pub use site::{At, Axis, Per, Site, Sizes, Tower};
pub use spans::Spans;
pub use spill::Spill;
pub use tap::{Both, NoTap, Tap};

use crate::array::Array;
use crate::token::{Grid, Token, TokenKind};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which keys a query may look at. Positions are position ids of rows, not row indices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskRule {
    /// Keys at positions up to the query's.
    Causal,
    /// Every key.
    Bidirectional,
    /// Causal, and at most this many positions back, the query's own included.
    SlidingWindow(usize),
    /// Keys between the same two of these ascending edges as the query (windows of an image encoder).
    Windows(Vec<usize>),
    /// As `of`, and positions within one of these runs, each from its first to one past its last, see each other
    /// (the block of an image, a prefix).
    Blocks {
        /// Ascending runs of positions.
        runs: Vec<(usize, usize)>,
        /// What else is seen.
        of: Box<MaskRule>,
    },
    /// As `of`, and at most this many positions back, the query's own included; what is ahead is as near as it is (layers
    /// with a window that read an image both ways).
    Back {
        /// Positions back.
        window: usize,
        /// What else must hold.
        of: Box<MaskRule>,
    },
    /// Not more than this many positions away on either side (encoders with local attention).
    Near(usize),
    /// Listed per query row: the key rows it may look at (tree attention, prefix masks).
    Table(#[serde(with = "shared")] Arc<Vec<Vec<usize>>>),
    /// As `of`, but only these key rows are read.
    Only {
        /// Key rows, in any order.
        keys: Vec<usize>,
        /// Which of them a query may look at.
        of: Box<MaskRule>,
    },
    /// One for each query head, or one for each key-value head.
    PerHead(Vec<MaskRule>),
}

/// A value in files that several share in memory.
mod shared {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    pub fn serialize<T: Serialize, S: Serializer>(x: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        x.as_ref().serialize(to)
    }

    pub fn deserialize<'a, T: Deserialize<'a>, D: Deserializer<'a>>(from: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(from).map(Arc::new)
    }
}

impl MaskRule {
    /// Whether the query at row `qi`, position `q` sees the key at row `ki`, position `k`; in some head, where heads
    /// differ.
    pub fn allows(&self, qi: usize, q: usize, ki: usize, k: usize) -> bool {
        match self {
            MaskRule::Causal => k <= q,
            MaskRule::Bidirectional => true,
            MaskRule::SlidingWindow(w) => k <= q && q - k < *w,
            MaskRule::Windows(edges) => window_of(edges, q) == window_of(edges, k),
            MaskRule::Blocks { runs, of } => {
                of.allows(qi, q, ki, k) || runs.iter().any(|&(a, b)| (a..b).contains(&q) && (a..b).contains(&k))
            }
            MaskRule::Back { window, of } => k.saturating_add(*window) > q && of.allows(qi, q, ki, k),
            MaskRule::Near(w) => q.abs_diff(k) <= *w,
            MaskRule::Table(t) => t.get(qi).is_some_and(|row| row.contains(&ki)),
            MaskRule::Only { keys, of } => keys.contains(&ki) && of.allows(qi, q, ki, k),
            MaskRule::PerHead(all) => all.iter().any(|m| m.allows(qi, q, ki, k)),
        }
    }

    /// Whether one of `n` rows that stand at positions 0, 1, … sees the row behind it.
    pub fn sees_ahead(&self, n: usize) -> bool {
        match self {
            MaskRule::Causal | MaskRule::SlidingWindow(_) => false,
            MaskRule::PerHead(all) => all.iter().any(|m| m.sees_ahead(n)),
            rule => (1..n).any(|k| rule.allows(k - 1, k - 1, k, k)),
        }
    }

    /// The rule of head `head` of `n_heads`.
    pub fn of_head(&self, head: usize, n_heads: usize) -> &Self {
        match self {
            MaskRule::PerHead(all) if !all.is_empty() => &all[head * all.len() / n_heads.max(1)],
            rule => rule,
        }
    }

    /// The rule of heads `heads` of `n_heads`, counted from the first of them.
    pub(crate) fn of_heads(&self, heads: std::ops::Range<usize>, n_heads: usize) -> Cow<'_, Self> {
        match self {
            MaskRule::PerHead(_) => {
                Cow::Owned(MaskRule::PerHead(heads.map(|h| self.of_head(h, n_heads).clone()).collect()))
            }
            rule => Cow::Borrowed(rule),
        }
    }

    /// The rule for these query rows alone, counted in that order.
    pub(crate) fn of_queries(&self, queries: &[usize]) -> Cow<'_, Self> {
        let of = |m: &Self| m.of_queries(queries).into_owned();
        match self {
            MaskRule::Table(t) => {
                let rows: Vec<_> = queries.iter().map(|&q| t.get(q).cloned().unwrap_or_default()).collect();
                Cow::Owned(MaskRule::Table(rows.into()))
            }
            MaskRule::Only { keys, of: m } => Cow::Owned(MaskRule::Only { keys: keys.clone(), of: Box::new(of(m)) }),
            MaskRule::PerHead(all) => Cow::Owned(MaskRule::PerHead(all.iter().map(of).collect())),
            MaskRule::Blocks { runs, of: m } => {
                Cow::Owned(MaskRule::Blocks { runs: runs.clone(), of: Box::new(of(m)) })
            }
            MaskRule::Back { window, of: m } => Cow::Owned(MaskRule::Back { window: *window, of: Box::new(of(m)) }),
            rule => Cow::Borrowed(rule),
        }
    }

    /// The rule for rows that stood at the positions `old` and stand at `new` now.
    pub(crate) fn moved(&self, old: &[usize], new: &[usize]) -> Self {
        let rows = || old.iter().zip(new);
        // Positions that an edge had before it lie before it now.
        let edge = |e: usize| rows().filter(|(o, _)| **o < e).map(|(_, n)| n + 1).max().unwrap_or(0);
        match self {
            MaskRule::Windows(edges) => MaskRule::Windows(edges.iter().map(|&e| edge(e)).collect()),
            MaskRule::Blocks { runs, of } => {
                let run = |&(a, b): &(usize, usize)| {
                    let within = || rows().filter(|(o, _)| (a..b).contains(*o)).map(|(_, n)| *n);
                    Some((within().min()?, within().max()? + 1))
                };
                MaskRule::Blocks { runs: runs.iter().filter_map(run).collect(), of: Box::new(of.moved(old, new)) }
            }
            MaskRule::Only { keys, of } => MaskRule::Only { keys: keys.clone(), of: Box::new(of.moved(old, new)) },
            MaskRule::Back { window, of } => MaskRule::Back { window: *window, of: Box::new(of.moved(old, new)) },
            MaskRule::PerHead(all) => MaskRule::PerHead(all.iter().map(|m| m.moved(old, new)).collect()),
            rule => rule.clone(),
        }
    }

    /// The shortest window that a query looks through, where there is one.
    pub fn window(&self) -> Option<usize> {
        match self {
            MaskRule::SlidingWindow(w) => Some(*w),
            MaskRule::Back { window, of } => Some(of.window().map_or(*window, |w| w.min(*window))),
            MaskRule::Only { of, .. } | MaskRule::Blocks { of, .. } => of.window(),
            MaskRule::PerHead(all) => all.iter().filter_map(Self::window).min(),
            MaskRule::Near(w) => Some(w + 1),
            MaskRule::Causal | MaskRule::Bidirectional | MaskRule::Table(_) | MaskRule::Windows(_) => None,
        }
    }
}

/// Which of the windows between ascending `edges` a position lies in.
fn window_of(edges: &[usize], position: usize) -> usize {
    edges.partition_point(|&e| e <= position)
}

/// How the attention of a tower turns Q and K into probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttentionRule {
    /// Query heads.
    pub n_heads: usize,
    /// Key-value heads; each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Factor on the dot products.
    pub scale: f32,
    /// Which keys are seen.
    pub mask: MaskRule,
    /// `cap · tanh(score / cap)` before the softmax, where the model caps scores.
    pub soft_cap: Option<f32>,
    /// For each query head a score that takes its share of every query and belongs to no key, so that the shares of the
    /// keys sum to less than 1 (GPT-OSS). Neither scaled nor capped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks: Option<Vec<f32>>,
}

impl AttentionRule {
    /// `heads` query and key-value heads whose scores are divided by the square root of `width`, under `mask`, without
    /// cap and sinks.
    pub fn new((heads, kv_heads): (usize, usize), width: usize, mask: MaskRule) -> Self {
        let scale = (width as f32).powf(-0.5);
        Self { n_heads: heads, n_kv_heads: kv_heads, scale, mask, soft_cap: None, sinks: None }
    }

    /// The sink of a query head, where heads have one.
    pub fn sink(&self, head: usize) -> Option<f32> {
        self.sinks.as_ref().and_then(|s| s.get(head).copied())
    }
}

/// What is kept about one stack of layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TowerTrace {
    /// Tokens of this tower, in order. For the language model of a vision-language model this is the
    /// whole sequence, image tokens included.
    pub tokens: Vec<Token>,
    /// Layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Attention by layer, for this run.
    pub attention: Vec<AttentionRule>,
    /// Grids of image tokens in `tokens`, one per tile.
    pub grids: Vec<Grid>,
    /// Tiles run one after another (1 for everything but tiled images); arrays are kept per tile.
    pub n_tiles: usize,
    /// Index of the class token, where the tower has one.
    pub class_token: Option<usize>,
}

impl TowerTrace {
    /// Whether some of its tokens are tokens of an image.
    pub fn has_image(&self) -> bool {
        self.tokens.iter().any(|t| t.kind == TokenKind::Image)
    }
}

/// Names one array of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Which stack of layers.
    pub tower: Tower,
    /// Tile, 0 where there is one.
    pub tile: usize,
    /// Layer.
    pub layer: usize,
    /// Place in the layer.
    pub site: Site,
}

/// One captured array and the tokens behind its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The values, shaped as [`Site`] says.
    pub array: Arc<Array>,
    /// Row → token.
    pub rows: Arc<Rows>,
}

/// One run of one model on one input.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Name of the model, for titles.
    pub model: String,
    /// Architecture as in `config.json`.
    pub architecture: String,
    /// SHA-256-like fingerprint of the weights, empty if unknown.
    pub fingerprint: String,
    /// The prompt, empty for pure image models.
    pub text: String,
    /// Size of the original image in pixels, width and height.
    pub image_size: Option<(u32, u32)>,
    /// What is known per tower.
    pub towers: BTreeMap<Tower, TowerTrace>,
    /// Captured arrays.
    pub arrays: BTreeMap<Key, Entry>,
    /// The same of each pass that continued the text, where the run was asked to keep them.
    pub steps: Vec<BTreeMap<Key, Entry>>,
    /// Further results by name, e.g. `image_embeds`, `pooler_output`.
    pub extras: BTreeMap<String, Array>,
    /// Segment ids that the text was read with, for models that tell the texts of a pair apart; `None` where all are 0.
    pub token_types: Option<Vec<u32>>,
    /// Rows of the text tower whose logits are in `arrays[Logits]`; empty if none.
    pub logit_rows: Vec<usize>,
    /// Greedy continuation, if asked for.
    pub continuation: Vec<u32>,
    /// Continuation as text.
    pub continuation_text: String,
    /// Remarks of the run, e.g. that the input was cut.
    pub notes: Vec<String>,
    /// The image as the model got it, so that methods can run the model again; written to files and not read from them.
    pub image: Option<crate::image::ImageInput>,
    /// The original picture, where it was kept.
    pub picture: Option<Arc<crate::image::Picture>>,
    /// Type that was computed in, as `float32`, where that is known.
    pub dtype: Option<String>,
}

impl Trace {
    /// The array of `site` at `layer` of tile 0, with an error that says how to capture it.
    pub fn get(&self, tower: Tower, layer: usize, site: Site) -> Result<&Entry> {
        self.get_tile(tower, 0, layer, site)
    }

    /// The array of `site` at `layer` of one tile.
    pub fn get_tile(&self, tower: Tower, tile: usize, layer: usize, site: Site) -> Result<&Entry> {
        self.arrays.get(&Key { tower, tile, layer, site }).ok_or_else(|| {
            Error::invalid(format!(
                "the trace holds no {} of layer {layer}; run again with that site captured",
                site.name()
            ))
        })
    }

    /// A tower, or an error that names it.
    pub fn tower(&self, tower: Tower) -> Result<&TowerTrace> {
        self.towers.get(&tower).ok_or_else(|| Error::invalid(format!("this run has no {tower:?} tower").to_lowercase()))
    }

    /// The tower that views show first: the language model if there is one.
    pub fn main_tower(&self) -> Tower {
        if self.towers.contains_key(&Tower::Text) { Tower::Text } else { Tower::Vision }
    }

    /// The error for a run whose numbers are not finite: no method may make shares or ranks of them.
    pub fn check_finite(&self) -> Result<()> {
        self.not_finite().map_or(Ok(()), |what| Err(Error::invalid(what)))
    }

    /// Where this run stops being finite, and what helps, in words; `None` for a run that is.
    pub fn not_finite(&self) -> Option<String> {
        let every = self.arrays.iter().chain(self.steps.iter().flatten());
        let (key, _) = every.into_iter().find(|(key, e)| {
            // Minus infinity is what a model says of ids that it never gives.
            let bad = if key.site == Site::Logits {
                |x: f32| x.is_nan() || x == f32::INFINITY
            } else {
                |x: f32| !x.is_finite()
            };
            e.array.any(bad)
        })?;
        let at = match key.site.per() {
            Per::Layer => format!(" of layer {}", key.layer),
            Per::Tower | Per::Run => String::new(),
        };
        Some(format!(
            "the run is not finite: {}{at} holds NaN or infinity, so nothing is computed from it. The weights of {} may \
             hold such numbers, or overflow on this input: get them again, or try another input",
            key.site.name(),
            self.model
        ))
    }

    /// Bytes of the captured arrays and the picture. What leaves one block and enters the next is one.
    pub fn size_bytes(&self) -> usize {
        self.bytes_by(Array::all_bytes)
    }

    /// The same of what memory holds: arrays may lie in a file.
    pub fn memory_bytes(&self) -> usize {
        self.bytes_by(Array::own_bytes)
    }

    fn bytes_by(&self, of: impl Fn(&Array) -> usize) -> usize {
        let all = self.arrays.values().chain(self.steps.iter().flat_map(BTreeMap::values));
        let unique: BTreeMap<*const Array, usize> = all.map(|e| (Arc::as_ptr(&e.array), of(&e.array))).collect();
        unique.values().sum::<usize>() + self.picture.as_ref().map_or(0, |p| p.rgb.len())
    }
}
