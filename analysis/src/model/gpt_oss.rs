//! GPT-OSS: a sink beside the keys of every head, windows on every other layer, a mixture of experts with clamped
//! gates, and weights of four bits. OpenAI 2025, arXiv 2508.10925; sinks: Xiao et al. 2023, arXiv 2309.17453.

use super::Model;
use super::blocks::{
    Activation, Attention, Block, Clamped, Config, Defaults, Experts, FeedForward, Linear, Mlp, Norm, Part, Rope,
    Scope, Shares,
};
use super::decoder::Decoder;
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;
use serde_json::{Map, Value, json};

const GPT_OSS: Defaults = &[
    ("vocab_size", 201_088.0),
    ("hidden_size", 2880.0),
    ("intermediate_size", 2880.0),
    ("num_hidden_layers", 36.0),
    ("num_attention_heads", 64.0),
    ("num_key_value_heads", 8.0),
    ("head_dim", 64.0),
    ("max_position_embeddings", 131_072.0),
    ("sliding_window", 128.0),
    ("rms_norm_eps", 1e-5),
    ("rope_theta", 150_000.0),
    ("num_local_experts", 128.0),
    ("num_experts_per_tok", 4.0),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = &Config::new(w.config()).with(GPT_OSS);
    let root = &Scope::root(w, device);
    let s = root.first(&["model", ""], "embed_tokens.weight");
    let (d, h) = (c.size(&["hidden_size"])?, c.size(&["num_attention_heads"])?);
    let g = c.size_opt(&["num_key_value_heads"])?.unwrap_or(h);
    let e = match c.size_opt(&["head_dim"])? {
        Some(e) => e,
        None => Config::split(d, h, "heads")?,
    };
    Config::split(h, g, "groups of heads")?;
    let eps = c.eps(&["rms_norm_eps"], 1e-5)?;
    let bias = c.flag(&["attention_bias"], true)?;
    let rope = rope(c, e)?;
    let mut blocks = Vec::new();
    for i in 0..c.size(&["num_hidden_layers"])? {
        let b = s.sub(format!("layers.{i}"));
        let a = b.sub("self_attn");
        let map = |name: &str, heads: usize| Linear::load(&a.sub(name), d, heads * e, bias);
        let sinks = Some(a.get("sinks", &[h])?.to_vec1()?);
        let rule = AttentionRule { sinks, ..AttentionRule::new((h, g), e, mask(c, i)?) };
        blocks.push(Block {
            norm1: Norm::rms(&b.sub("input_layernorm"), d, eps)?,
            attention: Attention {
                rope: Some(rope.clone()),
                ..Attention::new(
                    [
                        map("q_proj", h)?,
                        map("k_proj", g)?,
                        map("v_proj", g)?,
                        Linear::load(&a.sub("o_proj"), h * e, d, bias)?,
                    ],
                    rule,
                    e,
                )
            },
            norm2: Norm::rms(&b.sub("post_attention_layernorm"), d, eps)?,
            mlp: FeedForward::Experts(experts(c, &b.sub("mlp"), d)?),
            after1: None,
            after2: None,
        });
    }
    Decoder::plain(w, c, (root, &s), blocks, eps)
}

/// The rotary embedding; a file that says nothing of it means the published one.
fn rope(c: &Config, e: usize) -> Result<Rope> {
    if c.value(&["rope_parameters", "rope_scaling"]).is_some() {
        return Rope::load(c, e, None, Part::Of(1.0));
    }
    let theta = c.number(&["rope_theta"], 150_000.0)?;
    let max = c.size_opt(&["max_position_embeddings"])?;
    let yarn = json!({ "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
        "original_max_position_embeddings": 4096, "rope_theta": theta });
    let map: Map<String, Value> =
        [("rope_parameters".to_string(), yarn), ("max_position_embeddings".into(), json!(max))].into_iter().collect();
    Rope::load(&Config::new(&map), e, None, Part::Of(1.0))
}

/// Every other layer slides, from the first on, unless `layer_types` says otherwise.
fn mask(c: &Config, layer: usize) -> Result<MaskRule> {
    let slides = match c.value(&["layer_types"]) {
        None => layer.is_multiple_of(2),
        Some(types) => match types.get(layer).and_then(Value::as_str) {
            Some("full_attention") => false,
            Some("sliding_attention") => true,
            other => {
                let e = format!("config.json: the type {other:?} of layer {layer} is not usable here");
                return Err(Error::invalid(e));
            }
        },
    };
    Ok(match c.size_opt(&["sliding_window"])?.filter(|_| slides) {
        Some(window) => MaskRule::SlidingWindow(window),
        None => MaskRule::Causal,
    })
}

/// The experts below `s`: all of them in one tensor, as numbers by input, or as blocks of four bits by output. The rows
/// of the first map give gate and value in turn, unless these are maps of their own.
fn experts(c: &Config, s: &Scope, d: usize) -> Result<Experts> {
    let inner = c.size(&["intermediate_size"])?;
    let (all, chosen) = (c.size(&["num_local_experts", "num_experts"])?, c.size(&["num_experts_per_tok"])?);
    Experts::check_counts(all, chosen)?;
    let clamped =
        Clamped { alpha: c.number(&["swiglu_alpha"], 1.702)? as f32, limit: c.number(&["swiglu_limit"], 7.0)? as f32 };
    let e = s.sub("experts");
    // GGUF files have gate and value apart.
    let apart = e.has("gate_proj");
    let by_output = apart || e.is_packed("gate_up_proj");
    let maps = |name: &str, input: usize, output: usize| -> Result<Vec<Linear>> {
        let (high, wide) = if by_output { (output, input) } else { (input, output) };
        let table = e.table(name, &[all, high, wide])?;
        let biases = e.get(&format!("{name}_bias"), &[all, output])?;
        let one = |i: usize| {
            let own = table.rows(i * high..(i + 1) * high)?;
            Linear::from_table(&if by_output { own } else { own.turned()? }, Some(biases.get(i)?))
        };
        (0..all).map(one).collect()
    };
    let gates: Vec<Option<Linear>> = match apart {
        true => maps("gate_proj", d, inner)?.into_iter().map(Some).collect(),
        false => vec![None; all],
    };
    let first = if apart { maps("up_proj", d, inner)? } else { maps("gate_up_proj", d, 2 * inner)? };
    let second = maps("down_proj", inner, d)?;
    let one = |((gate, up), down)| Mlp { gate, up, down, act: Activation::Linear };
    Ok(Experts {
        router: Linear::load(&s.sub("router"), d, all, true)?,
        chosen,
        shares: Shares::chosen(),
        experts: gates.into_iter().zip(first).zip(second).map(one).collect(),
        clamped: Some(clamped),
        shared: None,
    })
}
