//! Gemma, Gemma 2 and the text model of Gemma 3: gated MLP, norms whose weight is stored less 1, scaled embeddings;
//! from 2 on norms behind the parts, too, and layers that look through a window; the differences are fields.
//! Gemma Team 2024, arXiv 2403.08295 and 2408.00118; 2025, arXiv 2503.19786.

use super::Model;
use super::blocks::{
    Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Part, Rope, Scope, Stack,
};
use super::decoder::{Decoder, End, Parts};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;

const GEMMA: Defaults = &[
    ("vocab_size", 256_000.0),
    ("hidden_size", 3072.0),
    ("intermediate_size", 24576.0),
    ("num_hidden_layers", 28.0),
    ("num_attention_heads", 16.0),
    ("num_key_value_heads", 16.0),
    ("head_dim", 256.0),
    ("max_position_embeddings", 8192.0),
];
const GEMMA2: Defaults = &[
    ("vocab_size", 256_000.0),
    ("hidden_size", 2304.0),
    ("intermediate_size", 9216.0),
    ("num_hidden_layers", 26.0),
    ("num_attention_heads", 8.0),
    ("num_key_value_heads", 4.0),
    ("head_dim", 256.0),
    ("max_position_embeddings", 8192.0),
    ("query_pre_attn_scalar", 256.0),
    ("sliding_window", 4096.0),
    ("final_logit_softcapping", 30.0),
    ("attn_logit_softcapping", 50.0),
];
const GEMMA3: Defaults = &[
    ("vocab_size", 262_208.0),
    ("hidden_size", 2304.0),
    ("intermediate_size", 9216.0),
    ("num_hidden_layers", 26.0),
    ("num_attention_heads", 8.0),
    ("num_key_value_heads", 4.0),
    ("head_dim", 256.0),
    ("max_position_embeddings", 131_072.0),
    ("query_pre_attn_scalar", 256.0),
    ("sliding_window", 4096.0),
    ("rope_theta", 1_000_000.0),
];

/// Loads a checkpoint, with or without the `model.` prefix.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let root = Scope::root(w, device);
    Ok(Box::new(decoder(w, &c, &root, ("model", "lm_head"), Within::Nothing)?))
}

/// What a language model is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    /// It stands by itself.
    Nothing,
    /// PaliGemma, or Gemma 3 with pictures, which say what its tokens see.
    Gemma,
    /// Another model that reads pictures; the flag says whether the token table serves as head.
    Other(bool),
}

/// The language model below `base`, with its head at `head`; also the text half of PaliGemma, Gemma 3 and others, where
/// the logits of Gemma 3 have no bound, whatever the text's settings say, and elsewhere than in PaliGemma those of
/// Gemma 2 neither.
pub(super) fn decoder(
    w: &Weights,
    c: &Config,
    root: &Scope,
    (base, head): (&str, &str),
    within: Within,
) -> Result<Decoder> {
    let kind = c.word(&["model_type"], "gemma")?;
    let c = c.with(match kind {
        "gemma2" => GEMMA2,
        "gemma3_text" => GEMMA3,
        _ => GEMMA,
    });
    // Gemma 1 and 2 have the setting, too, and their masks do not hang on it.
    let both = kind == "gemma3_text" && c.flag(&["use_bidirectional_attention"], false)?;
    let later = kind != "gemma";
    let d = c.size(&["hidden_size"])?;
    let h = c.size(&["num_attention_heads"])?;
    let g = c.size_opt(&["num_key_value_heads"])?.unwrap_or(h);
    let n_layers = c.size(&["num_hidden_layers"])?;
    let inner = c.size(&["intermediate_size"])?;
    let vocab = c.size(&["vocab_size"])?;
    let e = c.size(&["head_dim"])?;
    Config::split(h, g, "groups of heads")?;
    let eps = c.eps(&["rms_norm_eps"], 1e-6)?;
    let act = activation(&c, later)?;
    let bias = c.flag(&["attention_bias"], false)?;
    let width = if later { c.number(&["query_pre_attn_scalar"], 256.0)? } else { e as f64 };
    // Gemma 3 has norms of queries and keys instead of a bound on scores; what its files say of one is not used.
    let score_cap = if kind == "gemma2" { cap(&c, "attn_logit_softcapping")? } else { None };
    let capped = match within {
        Within::Nothing => later,
        Within::Gemma => kind == "gemma2",
        Within::Other(_) => false,
    };
    let logit_cap = if capped { cap(&c, "final_logit_softcapping")? } else { None };
    if width <= 0.0 {
        return Err(Error::invalid(format!("config.json: query_pre_attn_scalar is {width}, not positive")));
    }
    let s = root.first(&[base, ""], "embed_tokens.weight");
    let [far, near] = ropes(&c, kind, e)?;
    let mut blocks = Vec::new();
    for i in 0..n_layers {
        let b = s.sub(format!("layers.{i}"));
        let (a, m) = (b.sub("self_attn"), b.sub("mlp"));
        let norm = |name: &str| Norm::rms_around_one(&b.sub(name), d, eps);
        let by_head =
            |name: &str| (kind == "gemma3_text").then(|| Norm::rms_around_one(&a.sub(name), e, eps)).transpose();
        let window = if later { window(&c, kind, i)? } else { None };
        let rule = AttentionRule {
            n_heads: h,
            n_kv_heads: g,
            scale: width.powf(-0.5) as f32,
            mask: match window {
                // A window is as wide to both sides together as it was to one; it is so, too, where a model around this
                // one says that tokens see only what is before them.
                Some(w) if both && within == Within::Gemma => MaskRule::SlidingWindow(w / 2 + 1),
                Some(w) if both => MaskRule::Near(w / 2),
                None if both && within != Within::Gemma => MaskRule::Bidirectional,
                Some(w) => MaskRule::SlidingWindow(w),
                None => MaskRule::Causal,
            },
            soft_cap: score_cap.map(|c| c as f32),
            sinks: None,
        };
        blocks.push(Block {
            norm1: norm("input_layernorm")?,
            attention: Attention {
                q_norm: by_head("q_norm")?,
                k_norm: by_head("k_norm")?,
                rope: Some(if window.is_some() { near.clone() } else { far.clone() }),
                ..Attention::new(
                    [
                        Linear::load(&a.sub("q_proj"), d, h * e, bias)?,
                        Linear::load(&a.sub("k_proj"), d, g * e, bias)?,
                        Linear::load(&a.sub("v_proj"), d, g * e, bias)?,
                        Linear::load(&a.sub("o_proj"), h * e, d, bias)?,
                    ],
                    rule,
                    e,
                )
            },
            norm2: norm(if later { "pre_feedforward_layernorm" } else { "post_attention_layernorm" })?,
            mlp: Mlp {
                gate: Some(Linear::load(&m.sub("gate_proj"), d, inner, false)?),
                up: Linear::load(&m.sub("up_proj"), d, inner, false)?,
                down: Linear::load(&m.sub("down_proj"), inner, d, false)?,
                act,
            }
            .into(),
            after1: later.then(|| norm("post_attention_layernorm")).transpose()?,
            after2: later.then(|| norm("post_feedforward_layernorm")).transpose()?,
        });
    }
    let embed = s.table("embed_tokens.weight", &[vocab, d])?;
    // Beside a picture, the text's settings do not count here.
    let tied = match within {
        Within::Nothing => c.flag(&["tie_word_embeddings"], true)?,
        Within::Gemma => true,
        Within::Other(tied) => tied,
    };
    let end = End::load(&c, root, &root.first(&[head, "lm_head"], "weight"), &embed, tied)?;
    let parts = Parts {
        embed_factor: Some((d as f64).sqrt()),
        logit_cap,
        max: c.size_opt(&["max_position_embeddings"])?,
        ..Parts::of(
            embed,
            Stack { blocks, order: Order::PreNorm, width: d },
            Norm::rms_around_one(&s.sub("norm"), d, eps)?,
            end,
        )
    };
    Decoder::new(w, parts)
}

/// The first Gemma's files say `gelu` and mean the tanh form.
fn activation(c: &Config, later: bool) -> Result<Activation> {
    let name = match later {
        true => c.word(&["hidden_activation"], "gelu_pytorch_tanh")?,
        false => c.word(&["hidden_act"], "gelu_pytorch_tanh")?,
    };
    Activation::parse(if !later && name == "gelu" { "gelu_pytorch_tanh" } else { name })
}

/// The bound `key`, if it is set: a positive number.
fn cap(c: &Config, key: &str) -> Result<Option<f64>> {
    let default = if c.speaks_of(key) { None } else { c.default(key) };
    let cap = match c.value(&[key]) {
        Some(_) => Some(c.number(&[key], 0.0)?),
        None => default,
    };
    match cap {
        Some(v) if v <= 0.0 => Err(Error::invalid(format!("config.json: {key} is {v}, not positive"))),
        other => Ok(other),
    }
}

/// Rotary embeddings of layers that see everything and of those with a window; only Gemma 3 tells them apart.
fn ropes(c: &Config, kind: &str, e: usize) -> Result<[Rope; 2]> {
    if kind != "gemma3_text" {
        let one = Rope::load(c, e, None, Part::Whole)?;
        return Ok([one.clone(), one]);
    }
    let far = Rope::load(c, e, Some("full_attention"), Part::Whole)?;
    let own = c.sub("rope_parameters").and_then(|p| p.sub("sliding_attention"));
    let near = match own {
        Some(_) => Rope::load(c, e, Some("sliding_attention"), Part::Whole)?,
        None => Rope::plain(c.number(&["rope_local_base_freq"], 10_000.0)?, e)?,
    };
    Ok([far, near])
}

/// The window of a layer, if it has one: as `layer_types` says, else every second layer of Gemma 2 from the first on,
/// and all but every sixth of Gemma 3.
fn window(c: &Config, kind: &str, layer: usize) -> Result<Option<usize>> {
    let slides = match c.value(&["layer_types"]) {
        Some(types) => match types.get(layer).and_then(|t| t.as_str()) {
            Some("full_attention") => false,
            Some("sliding_attention") => true,
            other => {
                let e = format!("config.json: the type {other:?} of layer {layer} is not usable here");
                return Err(Error::invalid(e));
            }
        },
        None if kind == "gemma2" => layer.is_multiple_of(2),
        None => {
            let pattern = c.size_opt(&["sliding_window_pattern"])?.unwrap_or(6);
            !(layer + 1).is_multiple_of(pattern)
        }
    };
    match slides {
        true => Ok(Some(c.size(&["sliding_window"])?)),
        false => Ok(None),
    }
}
