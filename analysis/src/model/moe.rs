//! The mixtures of experts of Mixtral, Qwen2-MoE, Qwen3-MoE and OLMoE: which layers have them, and how they choose.
//! Jiang et al. 2024, arXiv 2401.04088; Qwen 2024, arXiv 2407.10671; 2025, arXiv 2505.09388.

use super::blocks::{Activation, Config, Defaults, Experts, Linear, Mlp, Names, Scope, Shares};
use crate::{Error, Result};
use serde_json::Value;

pub(super) const MIXTRAL: Defaults = &[
    ("vocab_size", 32000.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 14336.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 8.0),
    ("max_position_embeddings", 131_072.0),
    ("rms_norm_eps", 1e-5),
    ("rope_theta", 1e6),
    ("num_local_experts", 8.0),
    ("num_experts_per_tok", 2.0),
];
pub(super) const QWEN2: Defaults = &[
    ("vocab_size", 151_936.0),
    ("hidden_size", 2048.0),
    ("intermediate_size", 5632.0),
    ("num_hidden_layers", 24.0),
    ("num_attention_heads", 16.0),
    ("num_key_value_heads", 16.0),
    ("max_position_embeddings", 32768.0),
    ("sliding_window", 4096.0),
    ("moe_intermediate_size", 1408.0),
    ("shared_expert_intermediate_size", 5632.0),
    ("num_experts", 60.0),
    ("num_experts_per_tok", 4.0),
];
pub(super) const QWEN3: Defaults = &[
    ("vocab_size", 151_936.0),
    ("hidden_size", 2048.0),
    ("intermediate_size", 6144.0),
    ("num_hidden_layers", 24.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 4.0),
    ("max_position_embeddings", 32768.0),
    ("sliding_window", 4096.0),
    ("moe_intermediate_size", 768.0),
    ("num_experts", 128.0),
    ("num_experts_per_tok", 8.0),
    // Of Qwen3-VL; others have no sections of time, rows and columns.
    ("mrope_interleaved", 1.0),
];

pub(super) const OLMOE: Defaults = &[
    ("vocab_size", 50304.0),
    ("hidden_size", 2048.0),
    ("intermediate_size", 2048.0),
    ("num_hidden_layers", 16.0),
    ("num_attention_heads", 16.0),
    ("max_position_embeddings", 4096.0),
    ("rms_norm_eps", 1e-5),
    ("num_experts", 64.0),
    ("num_experts_per_tok", 8.0),
];

/// As Mixtral's first files and newer ones name them.
const MIXTRAL_NAMES: &[Names] = &[
    Names { router: "block_sparse_moe.gate", experts: "block_sparse_moe.experts", maps: ["w1", "w3", "w2"] },
    Names { router: "mlp.gate", experts: "mlp.experts", maps: ["w1", "w3", "w2"] },
];
const QWEN_NAMES: &[Names] =
    &[Names { router: "mlp.gate", experts: "mlp.experts", maps: ["gate_proj", "up_proj", "down_proj"] }];

/// The experts of layer `layer`, whose block is `b`; `None` where it has one MLP.
pub(super) fn experts(
    c: &Config,
    kind: &str,
    b: &Scope,
    layer: usize,
    (d, act): (usize, Activation),
) -> Result<Option<Experts>> {
    if kind == "mixtral" {
        let inner = c.size(&["intermediate_size"])?;
        let counts = (c.size(&["num_local_experts"])?, c.size(&["num_experts_per_tok"])?);
        return Experts::load(b, MIXTRAL_NAMES, (d, inner), counts, (act, Shares::chosen())).map(Some);
    }
    if kind == "olmoe" {
        let inner = c.size(&["intermediate_size"])?;
        let counts = (c.size(&["num_experts", "num_local_experts"])?, c.size(&["num_experts_per_tok"])?);
        let shares = if c.flag(&["norm_topk_prob"], false)? { Shares::chosen() } else { Shares::softmax() };
        return Experts::load(b, QWEN_NAMES, (d, inner), counts, (act, shares)).map(Some);
    }
    if !matches!(kind, "qwen2_moe" | "qwen3_moe" | "qwen3_vl_moe") {
        return Ok(None);
    }
    let dense: Vec<u64> = match c.value(&["mlp_only_layers"]) {
        None => Vec::new(),
        Some(v) => {
            let list: Option<Vec<u64>> = v.as_array().and_then(|l| l.iter().map(Value::as_u64).collect());
            list.ok_or_else(|| Error::invalid("config.json: mlp_only_layers is not a list of layers"))?
        }
    };
    let step = c.size_opt(&["decoder_sparse_step"])?.unwrap_or(1);
    if dense.contains(&(layer as u64)) || !(layer + 1).is_multiple_of(step) {
        return Ok(None);
    }
    let inner = c.size(&["moe_intermediate_size"])?;
    // Newer files of Qwen3-MoE count them under Mixtral's name.
    let counts = (c.size(&["num_experts", "num_local_experts"])?, c.size(&["num_experts_per_tok"])?);
    // Qwen3-VL's text model divides whatever its files say.
    let divides = c.flag(&["norm_topk_prob"], false)? || kind == "qwen3_vl_moe";
    let shares = if divides { Shares::chosen() } else { Shares::softmax() };
    let mut out = Experts::load(b, QWEN_NAMES, (d, inner), counts, (act, shares))?;
    if kind == "qwen2_moe" {
        let (s, wide) = (b.sub("mlp.shared_expert"), c.size(&["shared_expert_intermediate_size"])?);
        let shared = Mlp {
            gate: Some(Linear::load(&s.sub("gate_proj"), d, wide, false)?),
            up: Linear::load(&s.sub("up_proj"), d, wide, false)?,
            down: Linear::load(&s.sub("down_proj"), wide, d, false)?,
            act,
        };
        out.shared = Some((shared, Some(Linear::load(&b.sub("mlp.shared_expert_gate"), d, 1, false)?)));
    }
    Ok(Some(out))
}
