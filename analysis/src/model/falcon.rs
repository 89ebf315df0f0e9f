//! Falcon: attention and MLP side by side behind one norm or two, keys and values of one head or of a few; the first
//! ones add to scores by distance instead of turning heads.
//! Almazrouei et al. 2023, arXiv 2311.16867.

use super::Model;
use super::blocks::{
    Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Part, Rope, Scope, Slopes, Stack,
};
use super::bloom::slopes;
use super::decoder::{Decoder, End, Parts};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

const DEFAULTS: Defaults = &[
    ("vocab_size", 65024.0),
    ("hidden_size", 4544.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 71.0),
    ("max_position_embeddings", 2048.0),
];

/// Loads a checkpoint, with or without the `transformer.` prefix.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let (d, h) = (c.size(&["hidden_size"])?, c.size(&["num_attention_heads"])?);
    let vocab = c.size(&["vocab_size"])?;
    let inner = c.size_opt(&["ffn_hidden_size"])?.unwrap_or(4 * d);
    let eps = c.eps(&["layer_norm_epsilon"], 1e-5)?;
    let act = Activation::parse(c.word(&["activation"], "gelu")?)?;
    let bias = c.flag(&["bias"], false)?;
    let e = Config::split(d, h, "heads")?;
    // transformers rounds what it adds to bf16, and adds it twice, both times divided as scores are.
    let alibi = c.flag(&["alibi"], false)?;
    let slopes = alibi.then(|| Slopes { of: slopes(h), factor: 2.0 * (e as f32).powf(-0.5), rounded: true });
    let newer = c.flag(&["new_decoder_architecture"], false)?;
    let g = match (newer, c.flag(&["multi_query"], true)?) {
        (true, _) => c.size_opt(&["num_kv_heads"])?.unwrap_or(h),
        (false, true) => 1,
        (false, false) => h,
    };
    Config::split(h, g, "groups of heads")?;
    let parallel = c.flag(&["parallel_attn"], true)?;
    let two = newer && c.size_opt(&["num_ln_in_parallel_attn"])?.unwrap_or(2) == 2;
    if newer && !parallel {
        return Err(Error::invalid("config.json: new_decoder_architecture without parallel_attn is not supported"));
    }
    let names = match (two, parallel) {
        (true, _) => ["ln_attn", "ln_mlp"],
        (false, true) => ["input_layernorm"; 2],
        (false, false) => ["input_layernorm", "post_attention_layernorm"],
    };
    let rope = Rope::load(&c, e, None, Part::Whole)?;
    let root = Scope::root(w, device);
    let s = root.first(&["transformer", ""], "word_embeddings.weight");
    let mut blocks = Vec::new();
    for i in 0..c.size(&["num_hidden_layers"])? {
        let b = s.sub(format!("h.{i}"));
        let a = b.sub("self_attention");
        let [q, k, v] = grouped(&a.sub("query_key_value"), d, (h, g, e), bias)?;
        blocks.push(Block {
            norm1: Norm::layer(&b.sub(names[0]), d, eps)?,
            attention: Attention {
                rope: (!alibi).then(|| rope.clone()),
                slopes: slopes.clone(),
                ..Attention::new(
                    [q, k, v, Linear::load(&a.sub("dense"), d, d, bias)?],
                    AttentionRule::new((h, g), e, MaskRule::Causal),
                    e,
                )
            },
            norm2: Norm::layer(&b.sub(names[1]), d, eps)?,
            mlp: Mlp::plain(&b, ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], (d, inner), bias, act)?.into(),
            after1: None,
            after2: None,
        });
    }
    let embed = s.table("word_embeddings.weight", &[vocab, d])?;
    let tied = c.flag(&["tie_word_embeddings"], true)?;
    let end = End::load(&c, &root, &root.sub("lm_head"), &embed, tied)?;
    let stack = Stack { blocks, order: if parallel { Order::Parallel } else { Order::PreNorm }, width: d };
    let parts = Parts {
        max: c.size_opt(&["max_position_embeddings"])?,
        ..Parts::of(embed, stack, Norm::layer(&s.sub("ln_f"), d, eps)?, end)
    };
    Ok(Box::new(Decoder::new(w, parts)?))
}

/// Queries, keys and values of one stored map, in which the heads of a group are followed by their keys and values.
fn grouped(s: &Scope, d: usize, (h, g, e): (usize, usize, usize), bias: bool) -> Result<[Linear; 3]> {
    let (rows, each) = ((h + 2 * g) * e, h / g);
    let weight = s.table("weight", &[rows, d])?;
    let bias = bias.then(|| s.get("bias", &[rows])).transpose()?;
    let part = |first: usize, len: usize| -> Result<Linear> {
        let heads = (0..g).flat_map(|group| (0..len).map(move |i| group * (each + 2) + first + i));
        let rows: Vec<u32> = heads.flat_map(|head| (0..e).map(move |i| (head * e + i) as u32)).collect();
        let bias = bias.as_ref().map(|b| b.index_select(&Tensor::new(&*rows, b.device())?, 0)).transpose()?;
        Linear::from_table(&weight.pick(&rows)?, bias)
    };
    Ok([part(0, each)?, part(each, 1)?, part(each + 1, 1)?])
}
