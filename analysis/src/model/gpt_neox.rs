//! GPT-NeoX and Pythia: rotary positions on a part of each head, layer norms, attention and MLP side by side.
//! Black et al. 2022, arXiv 2204.06745; Biderman et al. 2023, arXiv 2304.01373.

use super::Model;
use super::blocks::{
    Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Part, Rope, Scope, Stack,
};
use super::decoder::{Decoder, End, Parts, Positions};
use crate::Result;
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use candle_core::{Device, Tensor};

const DEFAULTS: Defaults = &[
    ("vocab_size", 50432.0),
    ("hidden_size", 6144.0),
    ("num_hidden_layers", 44.0),
    ("num_attention_heads", 64.0),
    ("intermediate_size", 24576.0),
    ("max_position_embeddings", 2048.0),
];

/// Loads a checkpoint, with or without the `gpt_neox.` prefix.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let d = c.size(&["hidden_size"])?;
    let h = c.size(&["num_attention_heads"])?;
    let n_layers = c.size(&["num_hidden_layers"])?;
    let inner = c.size(&["intermediate_size"])?;
    let vocab = c.size(&["vocab_size"])?;
    let eps = c.eps(&["layer_norm_eps"], 1e-5)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu")?)?;
    let bias = c.flag(&["attention_bias"], true)?;
    let parallel = c.flag(&["use_parallel_residual"], true)?;
    let e = Config::split(d, h, "heads")?;
    let rope = Rope::load(&c, e, None, Part::Of(0.25))?;
    let root = Scope::root(w, device);
    let s = root.first(&["gpt_neox", ""], "embed_in.weight");
    let mut blocks = Vec::new();
    for i in 0..n_layers {
        let b = s.sub(format!("layers.{i}"));
        let a = b.sub("attention");
        let [q, k, v] = by_head(&a.sub("query_key_value"), d, h, bias)?;
        blocks.push(Block {
            norm1: Norm::layer(&b.sub("input_layernorm"), d, eps)?,
            attention: Attention {
                rope: Some(rope.clone()),
                ..Attention::new(
                    [q, k, v, Linear::load(&a.sub("dense"), d, d, bias)?],
                    AttentionRule::new((h, h), e, MaskRule::Causal),
                    e,
                )
            },
            norm2: Norm::layer(&b.sub("post_attention_layernorm"), d, eps)?,
            mlp: Mlp::plain(&b, ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], (d, inner), true, act)?.into(),
            after1: None,
            after2: None,
        });
    }
    let embed = s.table("embed_in.weight", &[vocab, d])?;
    let tied = c.flag(&["tie_word_embeddings"], false)?;
    let end = End::load(&c, &root, &root.sub("embed_out"), &embed, tied)?;
    let parts = Parts {
        embed,
        positions: Positions::InAttention,
        embed_factor: None,
        stack: Stack { blocks, order: if parallel { Order::Parallel } else { Order::PreNorm }, width: d },
        norm: Some(Norm::layer(&s.sub("final_layer_norm"), d, eps)?),
        project: None,
        end,
        logit_cap: None,
        max: c.size_opt(&["max_position_embeddings"])?,
    };
    Ok(Box::new(Decoder::new(w, parts)?))
}

/// Queries, keys and values of one stored map, in which they follow each other head by head.
pub(super) fn by_head(s: &Scope, d: usize, h: usize, bias: bool) -> Result<[Linear; 3]> {
    let (weight, e) = (s.table("weight", &[3 * d, d])?, d / h);
    let bias = bias.then(|| s.get("bias", &[3 * d])).transpose()?;
    let part = |i: usize| -> Result<Linear> {
        let rows: Vec<u32> = (0..d).map(|r| ((r / e * 3 + i) * e + r % e) as u32).collect();
        let bias = bias.as_ref().map(|b| b.index_select(&Tensor::new(&*rows, b.device())?, 0)).transpose()?;
        Linear::from_table(&weight.pick(&rows)?, bias)
    };
    Ok([part(0)?, part(1)?, part(2)?])
}
