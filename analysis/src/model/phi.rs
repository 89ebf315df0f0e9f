//! Phi-1, Phi-1.5 and Phi-2: rotary positions on half of each head, attention and MLP side by side behind one norm,
//! biases everywhere. Gunasekar et al. 2023, arXiv 2306.11644; Li et al. 2023, arXiv 2309.05463.

use super::Model;
use super::blocks::{
    Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Part, Rope, Scope, Stack,
};
use super::decoder::{Decoder, End, Parts};
use crate::Result;
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use candle_core::Device;

const DEFAULTS: Defaults = &[
    ("vocab_size", 51200.0),
    ("hidden_size", 2048.0),
    ("intermediate_size", 8192.0),
    ("num_hidden_layers", 24.0),
    ("num_attention_heads", 32.0),
    ("max_position_embeddings", 2048.0),
];

/// Loads a checkpoint, with or without the `model.` prefix.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let d = c.size(&["hidden_size"])?;
    let h = c.size(&["num_attention_heads"])?;
    let g = c.size_opt(&["num_key_value_heads"])?.unwrap_or(h);
    let n_layers = c.size(&["num_hidden_layers"])?;
    let inner = c.size(&["intermediate_size"])?;
    let vocab = c.size(&["vocab_size"])?;
    let eps = c.eps(&["layer_norm_eps"], 1e-5)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu_new")?)?;
    let e = Config::split(d, h, "heads")?;
    Config::split(h, g, "groups of heads")?;
    let normed = c.flag(&["qk_layernorm"], false)?;
    let rope = Rope::load(&c, e, None, Part::Of(0.5))?;
    let root = Scope::root(w, device);
    let s = root.first(&["model", ""], "embed_tokens.weight");
    let mut blocks = Vec::new();
    for i in 0..n_layers {
        let b = s.sub(format!("layers.{i}"));
        let a = b.sub("self_attn");
        let norm = |name: &str| normed.then(|| Norm::layer(&a.sub(name), e, eps)).transpose();
        let both = Norm::layer(&b.sub("input_layernorm"), d, eps)?;
        blocks.push(Block {
            norm1: both.clone(),
            attention: Attention {
                q_norm: norm("q_layernorm")?,
                k_norm: norm("k_layernorm")?,
                rope: Some(rope.clone()),
                ..Attention::new(
                    [
                        Linear::load(&a.sub("q_proj"), d, h * e, true)?,
                        Linear::load(&a.sub("k_proj"), d, g * e, true)?,
                        Linear::load(&a.sub("v_proj"), d, g * e, true)?,
                        Linear::load(&a.sub("dense"), h * e, d, true)?,
                    ],
                    AttentionRule::new((h, g), e, MaskRule::Causal),
                    e,
                )
            },
            norm2: both,
            mlp: Mlp::plain(&b, ["mlp.fc1", "mlp.fc2"], (d, inner), true, act)?.into(),
            after1: None,
            after2: None,
        });
    }
    let embed = s.table("embed_tokens.weight", &[vocab, d])?;
    let tied = c.flag(&["tie_word_embeddings"], false)?;
    let end = End::load(&c, &root, &root.sub("lm_head"), &embed, tied)?;
    let parts = Parts {
        max: c.size_opt(&["max_position_embeddings"])?,
        ..Parts::of(
            embed,
            Stack { blocks, order: Order::Parallel, width: d },
            Norm::layer(&s.sub("final_layernorm"), d, eps)?,
            end,
        )
    };
    Ok(Box::new(Decoder::new(w, parts)?))
}
