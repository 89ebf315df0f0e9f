//! What many language models are: rows of a table, blocks of attention with rotary positions and an MLP under the names
//! of Llama's parts, a norm, a head. What tells them apart are the fields of a [`Form`].

use super::Model;
use super::blocks::{Activation, Attention, Block, Config, Linear, Mlp, Norm, Order, Rope, Scope, Stack};
use super::decoder::{Decoder, End, Parts};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// The norms of a model.
#[derive(Clone, Copy)]
pub(super) enum Norms {
    /// RMS norms.
    Rms,
    /// Layer norms with weight and bias.
    Layer,
    /// Layer norms with a weight alone.
    Weighted,
    /// Layer norms with neither.
    Bare,
    /// Layer norms with a bias whose weight is stored less 1.
    AroundOne,
}

impl Norms {
    fn load(self, s: &Scope, d: usize, eps: f64) -> Result<Norm> {
        match self {
            Self::Rms => Norm::rms(s, d, eps),
            Self::Layer => Norm::layer(s, d, eps),
            Self::Weighted => Norm::layer_with(s, d, eps, false),
            Self::Bare => Norm::layer_without_weights(d, eps, s.device()),
            Self::AroundOne => Norm::layer(s, d, eps)?.around_one(),
        }
    }
}

/// The norms of queries and keys.
#[derive(Clone, Copy)]
pub(super) enum HeadNorms {
    /// None.
    None,
    /// RMS norms of each head, all with one weight.
    Each,
    /// RMS norms of all heads together.
    Together,
    /// Layer norms of each head, each with a weight of its own: one tensor `[heads, width]`, or one for each head.
    Own,
}

/// The maps of an MLP.
#[derive(Clone, Copy)]
pub(super) enum Middle {
    /// `gate_proj`, `up_proj`, `down_proj`.
    Gated,
    /// Gate and first map as one, `gate_up_proj`, and `down_proj`.
    Joined,
    /// Two maps of these names without a gate.
    Plain([&'static str; 2]),
}

/// What tells a family from another.
pub(super) struct Form {
    /// What the families' norms are, and the constant in them.
    pub norms: (Norms, f64),
    pub order: Order,
    /// The norm in front of attention, or behind it, and that of the MLP; the same name where both read one.
    pub names: [&'static str; 2],
    /// Norms of what attention and MLP add, beside those in front of them.
    pub after: Option<[&'static str; 2]>,
    pub head_norms: HeadNorms,
    /// Biases of queries, keys and values; of the output map; of the MLP.
    pub biases: [bool; 3],
    pub middle: Middle,
    pub act: Activation,
    /// What queries, keys and values are kept within.
    pub clip: Option<f32>,
    /// Factor on the logits.
    pub logits: Option<f32>,
    /// Whether the token table serves as head.
    pub tied: bool,
}

impl Form {
    /// The form of a Llama, with the constant of its norms: what the others differ from.
    pub fn new(c: &Config, eps: f64, act: &str) -> Result<Self> {
        Ok(Self {
            norms: (Norms::Rms, eps),
            order: Order::PreNorm,
            names: ["input_layernorm", "post_attention_layernorm"],
            after: None,
            head_norms: HeadNorms::None,
            biases: [c.flag(&["attention_bias"], false)?; 3],
            middle: Middle::Gated,
            act: Activation::parse(c.word(&["hidden_act"], act)?)?,
            clip: None,
            logits: None,
            tied: c.flag(&["tie_word_embeddings"], false)?,
        })
    }

    /// Loads a checkpoint of this form, with or without the `model.` prefix; `layer` says what turns the heads of a
    /// layer and what its queries see.
    pub fn load(
        &self,
        w: &Weights,
        c: &Config,
        device: &Device,
        layer: impl Fn(usize) -> Result<(Option<Rope>, MaskRule)>,
    ) -> Result<Box<dyn Model>> {
        let z = Sizes::read(c)?;
        let Sizes { d, h, g, e } = z;
        let (vocab, inner) = (c.size(&["vocab_size"])?, c.size(&["intermediate_size"])?);
        let norm = |s: Scope| self.norms.0.load(&s, d, self.norms.1);
        let [qkv, out, mid] = self.biases;
        let root = Scope::root(w, device);
        // Files for answers call the model otherwise.
        let s = root.first(&["model", "transformer", ""], "embed_tokens.weight");
        let mut blocks = Vec::new();
        for i in 0..c.size(&["num_hidden_layers"])? {
            let b = s.sub(format!("layers.{i}"));
            let (a, m) = (b.sub("self_attn"), b.sub("mlp"));
            let map = |name: &str, heads: usize| Linear::load(&a.sub(name), d, heads * e, qkv);
            let maps = [
                map("q_proj", h)?,
                map("k_proj", g)?,
                map("v_proj", g)?,
                Linear::load(&a.sub("o_proj"), h * e, d, out)?,
            ];
            let (rope, mask) = layer(i)?;
            let mlp = match self.middle {
                Middle::Gated => Mlp {
                    gate: Some(Linear::load(&m.sub("gate_proj"), d, inner, mid)?),
                    up: Linear::load(&m.sub("up_proj"), d, inner, mid)?,
                    down: Linear::load(&m.sub("down_proj"), inner, d, mid)?,
                    act: self.act,
                },
                Middle::Joined => {
                    let both = Linear::load(&m.sub("gate_up_proj"), d, 2 * inner, mid)?;
                    Mlp {
                        gate: Some(both.slice(0, inner)?),
                        up: both.slice(inner, inner)?,
                        down: Linear::load(&m.sub("down_proj"), inner, d, mid)?,
                        act: self.act,
                    }
                }
                Middle::Plain(names) => Mlp::plain(&m, names, (d, inner), mid, self.act)?,
            };
            let behind = |k: usize| self.after.map(|names| norm(b.sub(names[k]))).transpose();
            blocks.push(Block {
                norm1: norm(b.sub(self.names[0]))?,
                attention: Attention {
                    q_norm: self.head_norm(&a, "q", h, e)?,
                    k_norm: self.head_norm(&a, "k", g, e)?,
                    rope,
                    clip: self.clip,
                    ..Attention::new(maps, AttentionRule::new((h, g), e, mask), e)
                },
                norm2: norm(b.sub(self.names[1]))?,
                mlp: mlp.into(),
                after1: behind(0)?,
                after2: behind(1)?,
            });
        }
        let embed = s.table("embed_tokens.weight", &[vocab, d])?;
        let end = match (End::load(c, &root, &root.sub("lm_head"), &embed, self.tied)?, self.logits) {
            (End::Head(head), Some(by)) => End::Head(head.scaled(&Tensor::full(by, head.outputs()?, device)?)?),
            (end, _) => end,
        };
        let parts = Parts {
            max: c.size_opt(&["max_position_embeddings"])?,
            ..Parts::of(embed, Stack { blocks, order: self.order, width: d }, norm(s.sub("norm"))?, end)
        };
        Ok(Box::new(Decoder::new(w, parts)?))
    }

    fn head_norm(&self, a: &Scope, of: &str, heads: usize, e: usize) -> Result<Option<Norm>> {
        let (s, eps) = (a.sub(format!("{of}_norm")), self.norms.1);
        Ok(match self.head_norms {
            HeadNorms::None => None,
            HeadNorms::Each => Some(Norm::rms(&s, e, eps)?),
            HeadNorms::Together => Some(Norm::rms(&s, heads * e, eps)?),
            HeadNorms::Own if s.has("weight") => {
                Some(Norm::of_parts(s.get("weight", &[heads, e])?.flatten_all()?, e, eps))
            }
            HeadNorms::Own => {
                let s = a.sub(format!("{of}_layernorm.norms"));
                let one = |i: usize| s.get(&format!("{i}.weight"), &[e]);
                let all = (0..heads).map(one).collect::<Result<Vec<_>>>()?;
                Some(Norm::of_parts(Tensor::cat(&all, 0)?, e, eps))
            }
        })
    }
}

/// Widths and heads.
pub(super) struct Sizes {
    pub d: usize,
    pub h: usize,
    pub g: usize,
    pub e: usize,
}

impl Sizes {
    pub fn read(c: &Config) -> Result<Self> {
        let (d, h) = (c.size(&["hidden_size"])?, c.size(&["num_attention_heads"])?);
        let g = c.size_opt(&["num_key_value_heads"])?.unwrap_or(h);
        Config::split(h, g, "groups of heads")?;
        let e = match c.size_opt(&["head_dim"])? {
            Some(e) => e,
            None => Config::split(d, h, "heads")?,
        };
        Ok(Self { d, h, g, e })
    }
}

/// Whether a layer looks through a window: as `layer_types` says, else all but every so many.
pub(super) fn slides(c: &Config, layer: usize, every: usize) -> Result<bool> {
    let Some(types) = c.value(&["layer_types"]) else { return Ok(!(layer + 1).is_multiple_of(every.max(1))) };
    match types.get(layer).and_then(|t| t.as_str()) {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        other => {
            let e = format!("config.json: the type {other:?} of layer {layer} is not usable here");
            Err(Error::invalid(e))
        }
    }
}

/// The mask of a layer that looks through the window of the configuration, or sees all before it.
pub(super) fn mask(c: &Config, slides: bool) -> Result<MaskRule> {
    if !slides {
        return Ok(MaskRule::Causal);
    }
    let window = c.size_opt(&["sliding_window"])?;
    let e = || Error::invalid("config.json has layers that slide, and no sliding_window");
    window.map(MaskRule::SlidingWindow).ok_or_else(e)
}
