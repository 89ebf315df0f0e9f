//! OPT: learned positions, layer norms before or (OPT-350m) after the parts, ReLU, tied head.
//! Zhang et al. 2022, arXiv 2205.01068.

use super::Model;
use super::blocks::{Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Scope, Stack};
use super::decoder::{Decoder, End, Parts, Positions};
use crate::Result;
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::{Table, Weights};
use candle_core::{DType, Device, Tensor};

const DEFAULTS: Defaults = &[
    ("vocab_size", 50272.0),
    ("hidden_size", 768.0),
    ("num_hidden_layers", 12.0),
    ("num_attention_heads", 12.0),
    ("ffn_dim", 3072.0),
    ("max_position_embeddings", 2048.0),
];

/// Rows before the first position in the table of positions.
const OFFSET: usize = 2;
const EPS: f64 = 1e-5;

/// Loads a checkpoint, with or without the `model.` prefix.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let d = c.size(&["hidden_size"])?;
    let h = c.size(&["num_attention_heads"])?;
    let n_layers = c.size(&["num_hidden_layers"])?;
    let inner = c.size(&["ffn_dim"])?;
    let vocab = c.size(&["vocab_size"])?;
    let max = c.size(&["max_position_embeddings"])?;
    let narrow = c.size_opt(&["word_embed_proj_dim"])?.unwrap_or(d);
    let act = Activation::parse(c.word(&["activation_function"], "relu")?)?;
    let bias = c.flag(&["enable_bias"], true)?;
    let weighted = c.flag(&["layer_norm_elementwise_affine"], true)?;
    let before = c.flag(&["do_layer_norm_before"], true)?;
    let e = Config::split(d, h, "heads")?;
    let root = Scope::root(w, device);
    let s = root.first(&["model.decoder", "decoder", ""], "embed_tokens.weight");
    let norm = |s: &Scope| match weighted {
        true => Norm::layer(s, d, EPS),
        false => Norm::layer_without_weights(d, EPS, device),
    };
    // The queries are scaled as they are made, so that the product with the keys is not.
    let scale = (Tensor::ones(d, DType::F32, device)? * (e as f64).powf(-0.5))?;
    let mut blocks = Vec::new();
    for i in 0..n_layers {
        let b = s.sub(format!("layers.{i}"));
        let a = b.sub("self_attn");
        blocks.push(Block {
            norm1: norm(&b.sub("self_attn_layer_norm"))?,
            attention: Attention::new(
                [
                    Linear::load(&a.sub("q_proj"), d, d, bias)?.scaled(&scale)?,
                    Linear::load(&a.sub("k_proj"), d, d, bias)?,
                    Linear::load(&a.sub("v_proj"), d, d, bias)?,
                    Linear::load(&a.sub("out_proj"), d, d, bias)?,
                ],
                AttentionRule { scale: 1.0, ..AttentionRule::new((h, h), e, MaskRule::Causal) },
                e,
            ),
            norm2: norm(&b.sub("final_layer_norm"))?,
            mlp: Mlp::plain(&b, ["fc1", "fc2"], (d, inner), bias, act)?.into(),
            after1: None,
            after2: None,
        });
    }
    let table = s.table("embed_tokens.weight", &[vocab, narrow])?;
    let tied = c.flag(&["tie_word_embeddings"], true)?;
    let end = End::load(&c, &root, &root.sub("lm_head"), &table, tied)?;
    // OPT-350m has narrower token vectors than its stream; the way in is one with the table.
    let (embed, project) = if narrow == d {
        (table, None)
    } else {
        let wide = Linear::load(&s.sub("project_in"), narrow, d, false)?.apply(&table.tensor()?)?;
        (Table::Memory(wide), Some(Linear::load(&s.sub("project_out"), d, narrow, false)?))
    };
    let last = before && !c.flag(&["_remove_final_layer_norm"], false)?;
    let parts = Parts {
        embed,
        positions: Positions::Learned(s.get("embed_positions.weight", &[max + OFFSET, d])?.narrow(0, OFFSET, max)?),
        embed_factor: None,
        stack: Stack { blocks, order: if before { Order::PreNorm } else { Order::PostNorm }, width: d },
        norm: last.then(|| norm(&s.sub("final_layer_norm"))).transpose()?,
        project,
        end,
        logit_cap: None,
        max: Some(max),
    };
    Ok(Box::new(Decoder::new(w, parts)?))
}
