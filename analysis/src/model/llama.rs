//! Llama, Mistral, Qwen2, Qwen3 and Phi-3: rotary positions, RMS norm, gated MLP, grouped keys; the differences are fields.
//! Touvron et al. 2023, arXiv 2302.13971; Jiang et al. 2023, arXiv 2310.06825; Qwen 2024, arXiv 2407.10671; 2025, arXiv 2505.09388;
//! Abdin et al. 2024, arXiv 2404.14219.

use super::Model;
use super::blocks::{Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Rope, Scope, Stack};
use super::decoder::{Decoder, End, Parts, Positions};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;

const LLAMA: Defaults = &[
    ("vocab_size", 32000.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 11008.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("max_position_embeddings", 2048.0),
];
const MISTRAL: Defaults = &[
    ("vocab_size", 32000.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 14336.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 8.0),
    ("max_position_embeddings", 131_072.0),
    ("sliding_window", 4096.0),
];
const QWEN2: Defaults = &[
    ("vocab_size", 151_936.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 22016.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 32.0),
    ("max_position_embeddings", 32768.0),
    ("sliding_window", 4096.0),
];
const QWEN3: Defaults = &[
    ("vocab_size", 151_936.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 22016.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 32.0),
    ("head_dim", 128.0),
    ("max_position_embeddings", 32768.0),
    ("sliding_window", 4096.0),
];

const PHI3: Defaults = &[
    ("vocab_size", 32064.0),
    ("hidden_size", 3072.0),
    ("intermediate_size", 8192.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("max_position_embeddings", 4096.0),
    ("original_max_position_embeddings", 4096.0),
    ("rms_norm_eps", 1e-5),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let root = Scope::root(w, device);
    Ok(Box::new(decoder(w, &c, &root, ("model", "lm_head"), false)?))
}

/// The language model below `base`, with its head at `head`; also the text half of vision-language models.
/// `tied` says whether the token table serves as head where the configuration of the text does not say.
pub(super) fn decoder(
    w: &Weights,
    c: &Config,
    root: &Scope,
    (base, head): (&str, &str),
    tied: bool,
) -> Result<Decoder> {
    let kind = c.word(&["model_type"], "llama")?;
    let c = &c.with(match kind {
        "llama" => LLAMA,
        "mistral" => MISTRAL,
        "qwen2" => QWEN2,
        "qwen3" => QWEN3,
        "phi3" => PHI3,
        other => return Err(Error::invalid(format!("config.json: language model {other} is not supported"))),
    });
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
    let eps = c.eps(&["rms_norm_eps"], 1e-6)?;
    let act = Activation::parse(c.word(&["hidden_act"], "silu")?)?;
    let s = root.first(&[base, ""], "embed_tokens.weight");
    // Qwen2 has biases on q, k and v whatever its configuration says, Mistral none; elsewhere a flag says so. GGUF
    // files may have them on some maps only.
    let flagged = matches!(kind, "llama" | "qwen3") && c.flag(&["attention_bias"], false)?;
    let qkv_bias = flagged || kind == "qwen2";
    let o_bias = c.flag(&["attention_output_bias"], flagged)?;
    let mlp_bias = kind == "llama" && c.flag(&["mlp_bias"], false)?;
    let rope = Rope::load(c, e, None, 1.0)?;
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
        // Phi-3 stores the maps that read the same input as one.
        let (q, k, v) = if kind == "phi3" {
            let all = Linear::load(&a.sub("qkv_proj"), d, (h + 2 * g) * e, false)?;
            (all.slice(0, h * e)?, all.slice(h * e, g * e)?, all.slice((h + g) * e, g * e)?)
        } else {
            let load = |name: &str, heads: usize| Linear::load(&a.sub(name), d, heads * e, qkv_bias);
            (load("q_proj", h)?, load("k_proj", g)?, load("v_proj", g)?)
        };
        let (gate, up) = if kind == "phi3" {
            let both = Linear::load(&m.sub("gate_up_proj"), d, 2 * inner, false)?;
            (both.slice(0, inner)?, both.slice(inner, inner)?)
        } else {
            let load = |name: &str| Linear::load(&m.sub(name), d, inner, mlp_bias);
            (load("gate_proj")?, load("up_proj")?)
        };
        blocks.push(Block {
            norm1: Norm::rms(&b.sub("input_layernorm"), d, eps)?,
            attention: Attention {
                q,
                k,
                v,
                o: Linear::load(&a.sub("o_proj"), h * e, d, o_bias)?,
                q_norm,
                k_norm,
                rope: Some(rope.clone()),
                rule,
                head_width: e,
            },
            norm2: Norm::rms(&b.sub("post_attention_layernorm"), d, eps)?,
            mlp: Mlp { gate: Some(gate), up, down: Linear::load(&m.sub("down_proj"), inner, d, mlp_bias)?, act },
            after1: None,
            after2: None,
        });
    }
    let embed = s.get("embed_tokens.weight", &[vocab, d])?;
    let tied = c.flag(&["tie_word_embeddings"], tied)?;
    let end = End::load(c, root, &root.first(&[head, "lm_head"], "weight"), &embed, tied)?;
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
    Decoder::new(w, parts)
}

/// Mistral and Phi-3 slide on every layer; Qwen only where `use_sliding_window` says so, by layer.
fn mask(c: &Config, kind: &str, layer: usize) -> Result<MaskRule> {
    let qwen = matches!(kind, "qwen2" | "qwen3");
    let window = match kind {
        "mistral" | "phi3" => c.size_opt(&["sliding_window"])?,
        _ if qwen && c.flag(&["use_sliding_window"], false)? => c.size_opt(&["sliding_window"])?,
        _ => None,
    };
    let slides = match c.value(&["layer_types"]).filter(|_| qwen) {
        Some(types) => match types.get(layer).and_then(|t| t.as_str()) {
            Some("full_attention") => false,
            Some("sliding_attention") if window.is_some() => true,
            other => {
                let e = format!("config.json: the type {other:?} of layer {layer} is not usable here");
                return Err(Error::invalid(e));
            }
        },
        None => matches!(kind, "mistral" | "phi3") || layer >= c.count(&["max_window_layers"], 28)?,
    };
    Ok(match window {
        Some(w) if slides => MaskRule::SlidingWindow(w),
        _ => MaskRule::Causal,
    })
}
