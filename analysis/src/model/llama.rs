//! Llama, Mistral, Qwen2 and Qwen3: rotary positions, RMS norm, gated MLP, grouped keys; the differences are fields.
//! Touvron et al. 2023, arXiv 2302.13971; Jiang et al. 2023, arXiv 2310.06825; Qwen 2024, arXiv 2407.10671; 2025, arXiv 2505.09388.

use super::Model;
use super::blocks::{Activation, Attention, Block, Config, Linear, Mlp, Norm, Rope, Scope, Stack};
use super::decoder::{Decoder, Positions};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config(w.config());
    let root = Scope::root(w, device);
    Ok(Box::new(decoder(w, &c, &root, "model", "lm_head")?))
}

/// The language model below `base`, with its head at `head`; also the text half of vision-language models.
pub(super) fn decoder(w: &Weights, c: &Config, root: &Scope, base: &str, head: &str) -> Result<Decoder> {
    let kind = c.word(&["model_type"], "llama");
    let d = c.size(&["hidden_size"])?;
    let h = c.size(&["num_attention_heads"])?;
    let g = c.size_opt(&["num_key_value_heads"])?.unwrap_or(h);
    let n_layers = c.size(&["num_hidden_layers"])?;
    let vocab = c.size(&["vocab_size"])?;
    let inner = c.size(&["intermediate_size"])?;
    let e = match c.size_opt(&["head_dim"])? {
        Some(e) => e,
        None => Config::split(d, h, "heads")?,
    };
    Config::split(h, g, "groups of heads")?;
    let eps = c.number(&["rms_norm_eps"], 1e-6)?;
    let act = Activation::parse(c.word(&["hidden_act"], "silu"))?;
    let s = root.first(&[base, ""], "embed_tokens.weight");
    // Qwen2 has biases on q, k and v that its configuration does not mention; elsewhere a flag says so.
    let qkv_bias = c.flag(&["attention_bias"], kind == "qwen2");
    let o_bias = kind != "qwen2" && qkv_bias;
    let mlp_bias = c.flag(&["mlp_bias"], false);
    let rope = Rope::load(c, e)?;
    let mut blocks = Vec::new();
    for i in 0..n_layers {
        let b = s.sub(format!("layers.{i}"));
        let a = b.sub("self_attn");
        let m = b.sub("mlp");
        let norm = |name: &str| -> Result<Option<Norm>> {
            a.has(&format!("{name}.weight")).then(|| Norm::rms(&a.sub(name), e, eps)).transpose()
        };
        let (q_norm, k_norm) = (norm("q_norm")?, norm("k_norm")?);
        if kind == "qwen3" && (q_norm.is_none() || k_norm.is_none()) {
            return Err(Error::Weight {
                name: format!("layers.{i}.self_attn.q_norm.weight"),
                what: "missing; Qwen3 needs it".into(),
            });
        }
        let rule = AttentionRule {
            n_heads: h,
            n_kv_heads: g,
            scale: (e as f32).powf(-0.5),
            mask: mask(c, kind, i)?,
            soft_cap: None,
        };
        blocks.push(Block {
            norm1: Norm::rms(&b.sub("input_layernorm"), d, eps)?,
            attention: Attention {
                q: Linear::load(&a.sub("q_proj"), d, h * e, qkv_bias)?,
                k: Linear::load(&a.sub("k_proj"), d, g * e, qkv_bias)?,
                v: Linear::load(&a.sub("v_proj"), d, g * e, qkv_bias)?,
                o: Linear::load(&a.sub("o_proj"), h * e, d, o_bias)?,
                q_norm,
                k_norm,
                rope: Some(rope.clone()),
                rule,
                head_width: e,
            },
            norm2: Norm::rms(&b.sub("post_attention_layernorm"), d, eps)?,
            mlp: Mlp {
                gate: Some(Linear::load(&m.sub("gate_proj"), d, inner, mlp_bias)?),
                up: Linear::load(&m.sub("up_proj"), d, inner, mlp_bias)?,
                down: Linear::load(&m.sub("down_proj"), inner, d, mlp_bias)?,
                act,
            },
            scale1: None,
            scale2: None,
        });
    }
    let embed = s.get("embed_tokens.weight", &[vocab, d])?;
    let head = root.first(&[head, "lm_head"], "weight");
    let tied = c.flag(&["tie_word_embeddings"], !head.has("weight"));
    let head = if tied { embed.clone() } else { head.get("weight", &[vocab, d])? };
    let norm = Norm::rms(&s.sub("norm"), d, eps)?;
    Decoder::build(
        w,
        embed,
        Positions::InAttention,
        Stack { blocks, post_norm: false, width: d },
        norm,
        &head,
        inner,
        c.size_opt(&["max_position_embeddings"])?,
    )
}

/// Mistral slides on every layer; Qwen only where `use_sliding_window` says so, by layer.
fn mask(c: &Config, kind: &str, layer: usize) -> Result<MaskRule> {
    let window = c.size_opt(&["sliding_window"])?;
    let slides = match c.value(&["layer_types"]).and_then(|v| v.as_array()) {
        Some(types) => types.get(layer).and_then(|t| t.as_str()) == Some("sliding_attention"),
        None => match kind {
            "mistral" => true,
            "qwen2" | "qwen3" => {
                c.flag(&["use_sliding_window"], false)
                    && layer >= c.0.get("max_window_layers").and_then(|v| v.as_u64()).unwrap_or(28) as usize
            }
            _ => false,
        },
    };
    Ok(match window {
        Some(w) if slides => MaskRule::SlidingWindow(w),
        _ => MaskRule::Causal,
    })
}
