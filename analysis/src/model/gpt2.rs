//! GPT-2: learned positions, pre-norm, fused q-k-v in `Conv1D` layout, tied head.
//! Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

use super::Model;
use super::blocks::{Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Scope, Stack};
use super::decoder::{Decoder, End, Parts, Positions};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;

const DEFAULTS: Defaults =
    &[("vocab_size", 50257.0), ("n_positions", 1024.0), ("n_embd", 768.0), ("n_layer", 12.0), ("n_head", 12.0)];

/// Loads a checkpoint, with or without the `transformer.` prefix.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let d = c.size(&["n_embd", "hidden_size"])?;
    let h = c.size(&["n_head", "num_attention_heads"])?;
    let n_layers = c.size(&["n_layer", "num_hidden_layers"])?;
    let max = c.size(&["n_positions", "max_position_embeddings"])?;
    let vocab = c.size(&["vocab_size"])?;
    let inner = c.size_opt(&["n_inner"])?.unwrap_or(4 * d);
    let eps = c.eps(&["layer_norm_epsilon"], 1e-5)?;
    let act = Activation::parse(c.word(&["activation_function"], "gelu_new")?)?;
    let e = Config::split(d, h, "heads")?;
    if c.flag(&["add_cross_attention"], false)? {
        return Err(Error::invalid("GPT-2 with cross attention is not supported"));
    }
    let root = Scope::root(w, device);
    let s = root.first(&["transformer", ""], "wte.weight");
    let mut blocks = Vec::new();
    for i in 0..n_layers {
        let b = s.sub(format!("h.{i}"));
        let qkv = Linear::load_conv1d(&b.sub("attn.c_attn"), d, 3 * d)?;
        let mut scale = if c.flag(&["scale_attn_weights"], true)? { (e as f32).powf(-0.5) } else { 1.0 };
        if c.flag(&["scale_attn_by_inverse_layer_idx"], false)? {
            scale /= (i + 1) as f32;
        }
        let rule = AttentionRule { scale, ..AttentionRule::new((h, h), e, MaskRule::Causal) };
        blocks.push(Block {
            norm1: Norm::layer(&b.sub("ln_1"), d, eps)?,
            attention: Attention::new(
                [
                    qkv.slice(0, d)?,
                    qkv.slice(d, d)?,
                    qkv.slice(2 * d, d)?,
                    Linear::load_conv1d(&b.sub("attn.c_proj"), d, d)?,
                ],
                rule,
                e,
            ),
            norm2: Norm::layer(&b.sub("ln_2"), d, eps)?,
            mlp: Mlp {
                gate: None,
                up: Linear::load_conv1d(&b.sub("mlp.c_fc"), d, inner)?,
                down: Linear::load_conv1d(&b.sub("mlp.c_proj"), inner, d)?,
                act,
            }
            .into(),
            after1: None,
            after2: None,
        });
    }
    let embed = s.table("wte.weight", &[vocab, d])?;
    let tied = c.flag(&["tie_word_embeddings"], true)?;
    let end = End::load(&c, &root, &root.sub("lm_head"), &embed, tied)?;
    let parts = Parts {
        positions: Positions::Learned(s.get("wpe.weight", &[max, d])?),
        max: Some(max),
        ..Parts::of(embed, Stack { blocks, order: Order::PreNorm, width: d }, Norm::layer(&s.sub("ln_f"), d, eps)?, end)
    };
    Ok(Box::new(Decoder::new(w, parts)?))
}
