//! DeepSeek-V2 and V3: keys and values through a narrow latent, with one rotary key for all heads, and mixtures of
//! experts with shared ones and choice by groups. DeepSeek-AI 2024, arXiv 2405.04434; 2412.19437.

use super::Model;
use super::blocks::{
    Activation, Attention, Block, Config, Defaults, Experts, FeedForward, Groups, Latent, Linear, Mlp, Names, Norm,
    Pairs, Part, Rope, Scope, Shares,
};
use super::decoder::Decoder;
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

const V2: Defaults = &[
    ("vocab_size", 102_400.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 11008.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("max_position_embeddings", 2048.0),
    ("q_lora_rank", 1536.0),
    ("kv_lora_rank", 512.0),
    ("qk_nope_head_dim", 128.0),
    ("qk_rope_head_dim", 64.0),
    ("v_head_dim", 128.0),
    ("n_routed_experts", 64.0),
    ("n_shared_experts", 2.0),
    ("moe_intermediate_size", 1407.0),
];
const V3: Defaults = &[
    ("vocab_size", 129_280.0),
    ("hidden_size", 7168.0),
    ("intermediate_size", 18432.0),
    ("num_hidden_layers", 61.0),
    ("num_attention_heads", 128.0),
    ("max_position_embeddings", 4096.0),
    ("q_lora_rank", 1536.0),
    ("kv_lora_rank", 512.0),
    ("qk_nope_head_dim", 128.0),
    ("qk_rope_head_dim", 64.0),
    ("v_head_dim", 128.0),
    ("n_routed_experts", 256.0),
    ("n_shared_experts", 1.0),
    ("num_experts_per_tok", 8.0),
    ("moe_intermediate_size", 2048.0),
    ("n_group", 8.0),
    ("topk_group", 4.0),
];

const NAMES: &[Names] =
    &[Names { router: "mlp.gate", experts: "mlp.experts", maps: ["gate_proj", "up_proj", "down_proj"] }];

/// The norms of the latents have the default of their class, whatever the configuration says.
const LATENT_EPS: f64 = 1e-6;

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let third = c.word(&["model_type"], "")? == "deepseek_v3";
    let c = &c.with(if third { V3 } else { V2 });
    let root = &Scope::root(w, device);
    let s = root.first(&["model", ""], "embed_tokens.weight");
    let d = c.size(&["hidden_size"])?;
    let eps = c.eps(&["rms_norm_eps"], 1e-6)?;
    let act = Activation::parse(c.word(&["hidden_act"], "silu")?)?;
    let biased = !third && c.flag(&["mlp_bias"], false)?;
    let dense = c.count(&["first_k_dense_replace"], if third { 3 } else { 0 })?;
    let rope = Rope::load(c, c.size(&["qk_rope_head_dim"])?, None, Part::Whole)?;
    let mut blocks = Vec::new();
    for i in 0..c.size(&["num_hidden_layers"])? {
        let b = s.sub(format!("layers.{i}"));
        let mlp = if i < dense {
            mlp(&b.sub("mlp"), (d, c.size(&["intermediate_size"])?), act, biased)?.into()
        } else {
            FeedForward::Experts(experts(c, &b, third, (d, act), biased)?)
        };
        blocks.push(Block {
            norm1: Norm::rms(&b.sub("input_layernorm"), d, eps)?,
            attention: attention(c, &b.sub("self_attn"), third, d, rope.clone())?,
            norm2: Norm::rms(&b.sub("post_attention_layernorm"), d, eps)?,
            mlp,
            after1: None,
            after2: None,
        });
    }
    Decoder::plain(w, c, (root, &s), blocks, eps)
}

fn attention(c: &Config, a: &Scope, third: bool, d: usize, rope: Rope) -> Result<Attention> {
    let h = c.size(&["num_attention_heads"])?;
    // Every head has keys of its own, made of what all share.
    if c.size_opt(&["num_key_value_heads"])?.is_some_and(|g| g != h) {
        return Err(Error::invalid("config.json: num_key_value_heads other than the heads is not supported here"));
    }
    let (rank, plain) = (c.size(&["kv_lora_rank"])?, c.size(&["qk_nope_head_dim"])?);
    let (turned, values) = (c.size(&["qk_rope_head_dim"])?, c.size(&["v_head_dim"])?);
    let bias = c.flag(&["attention_bias"], false)?;
    let wide = plain + turned;
    let (queries, q) = match c.size_opt(&["q_lora_rank"])? {
        None => (None, Linear::load(&a.sub("q_proj"), d, h * wide, false)?),
        Some(rank) => {
            let down = Linear::load(&a.sub("q_a_proj"), d, rank, bias)?;
            let norm = Norm::rms(&a.sub("q_a_layernorm"), rank, LATENT_EPS)?;
            (Some((down, norm)), Linear::load(&a.sub("q_b_proj"), rank, h * wide, false)?)
        }
    };
    let pairs = match (third, c.flag(&["rope_interleave"], true)?) {
        (false, _) => Pairs::Beside,
        (true, true) => Pairs::Parted,
        (true, false) => Pairs::Apart,
    };
    let latent =
        Latent { queries, norm: Norm::rms(&a.sub("kv_a_layernorm"), rank, LATENT_EPS)?, rank, plain, values, pairs };
    let maps = [
        q,
        Linear::load(&a.sub("kv_a_proj_with_mqa"), d, rank + turned, bias)?,
        keys_values(a, (h, rank), (plain, values))?,
        Linear::load(&a.sub("o_proj"), h * values, d, bias)?,
    ];
    let rule = AttentionRule::new((h, h), wide, MaskRule::Causal);
    let rule = AttentionRule { scale: (f64::from(rule.scale) * sharper(c)?) as f32, ..rule };
    Ok(Attention { rope: Some(rope), latent: Some(latent), ..Attention::new(maps, rule, wide) })
}

/// The map from the latent to keys and values of each head. GGUF files may have the keys of each head by input, and the
/// values apart.
fn keys_values(a: &Scope, (h, rank): (usize, usize), (plain, values): (usize, usize)) -> Result<Linear> {
    if !a.has("k_b_proj.weight") {
        return Linear::load(&a.sub("kv_b_proj"), rank, h * (plain + values), false);
    }
    let keys = a.get("k_b_proj.weight", &[h, rank, plain])?.transpose(1, 2)?;
    let both = Tensor::cat(&[&keys.contiguous()?, &a.get("v_b_proj.weight", &[h, values, rank])?], 1)?;
    Linear::from_matrix(&both.reshape((h * (plain + values), rank))?, None)
}

/// How much sharper scores are in a text that is stretched: the square of YaRN's factor over all dimensions.
fn sharper(c: &Config) -> Result<f64> {
    let given = c.sub("rope_scaling").filter(|s| !s.is_empty()).or(c.sub("rope_parameters"));
    let Some(s) = given else { return Ok(1.0) };
    let all = s.number(&["mscale_all_dim"], 0.0)?;
    if s.word(&["rope_type", "type"], "default")? == "default" || all == 0.0 {
        return Ok(1.0);
    }
    let factor = s.number(&["factor"], 1.0)?;
    let by = if factor <= 1.0 { 1.0 } else { 0.1 * all * factor.ln() + 1.0 };
    Ok(by * by)
}

fn mlp(s: &Scope, (d, inner): (usize, usize), act: Activation, bias: bool) -> Result<Mlp> {
    Ok(Mlp {
        gate: Some(Linear::load(&s.sub("gate_proj"), d, inner, bias)?),
        up: Linear::load(&s.sub("up_proj"), d, inner, bias)?,
        down: Linear::load(&s.sub("down_proj"), inner, d, bias)?,
        act,
    })
}

fn experts(c: &Config, b: &Scope, third: bool, (d, act): (usize, Activation), bias: bool) -> Result<Experts> {
    let inner = c.size(&["moe_intermediate_size"])?;
    let all = c.size(&["n_routed_experts", "num_experts", "num_local_experts"])?;
    let chosen = c.size(&["num_experts_per_tok"])?;
    let groups = |best: usize| -> Result<Groups> {
        Ok(Groups { all: c.size(&["n_group"])?, open: c.size(&["topk_group"])?, best })
    };
    let shares = if third {
        let gate = b.sub("mlp.gate");
        Shares {
            sigmoid: true,
            divides: c.flag(&["norm_topk_prob"], true)?,
            factor: c.number(&["routed_scaling_factor"], 2.5)?,
            bias: gate.get("e_score_correction_bias", &[all])?.to_vec1()?,
            groups: Some(groups(2)?),
        }
    } else {
        let groups = match c.word(&["topk_method"], "greedy")? {
            "greedy" => None,
            "group_limited_greedy" => Some(groups(1)?),
            other => return Err(Error::invalid(format!("config.json: topk_method {other} is not supported"))),
        };
        Shares { factor: c.number(&["routed_scaling_factor"], 1.0)?, groups, ..Shares::softmax() }
    };
    let mut out = Experts::load(b, NAMES, (d, inner), (all, chosen), (act, shares))?;
    // Null means that no expert reads every row.
    if let Some(n) = c.size_opt(&["n_shared_experts"])? {
        out.shared = Some((mlp(&b.sub("mlp.shared_experts"), (d, inner * n), act, bias)?, None));
    }
    Ok(out)
}
