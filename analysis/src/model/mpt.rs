//! MPT: scores that grow from key to key instead of positions, no biases, one map for queries, keys and values that may
//! be kept within bounds. MosaicML 2023, <https://www.databricks.com/blog/mpt-7b>; Press et al. 2021, arXiv 2108.12409.

use super::Model;
use super::blocks::{Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Scope, Slopes, Stack};
use super::bloom::slopes;
use super::decoder::{Decoder, End, Parts};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;

const DEFAULTS: Defaults =
    &[("vocab_size", 50368.0), ("d_model", 2048.0), ("n_heads", 16.0), ("n_layers", 24.0), ("max_seq_len", 2048.0)];

/// Loads a checkpoint, with or without the `transformer.` prefix.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let (d, h, vocab) = (c.size(&["d_model"])?, c.size(&["n_heads"])?, c.size(&["vocab_size"])?);
    let eps = c.eps(&["layer_norm_epsilon"], 1e-5)?;
    let e = Config::split(d, h, "heads")?;
    let none = serde_json::Map::new();
    let a = c.sub("attn_config").unwrap_or(Config::new(&none));
    // 0 counts as none.
    let clip = a.number(&["clip_qkv"], 0.0)? as f32;
    let scale = a.number(&["softmax_scale"], (e as f64).powf(-0.5))? as f32;
    if clip < 0.0 || scale == 0.0 {
        return Err(Error::invalid("config.json: clip_qkv or softmax_scale of attn_config is not positive"));
    }
    let root = Scope::root(w, device);
    let s = root.first(&["transformer", ""], "wte.weight");
    let norm = |s: Scope| Norm::layer_with(&s, d, eps, false);
    let mut blocks = Vec::new();
    for i in 0..c.size(&["n_layers"])? {
        let b = s.sub(format!("blocks.{i}"));
        let all = Linear::load(&b.sub("attn.Wqkv"), d, 3 * d, false)?;
        let rule = AttentionRule { scale, ..AttentionRule::new((h, h), e, MaskRule::Causal) };
        let out = Linear::load(&b.sub("attn.out_proj"), d, d, false)?;
        blocks.push(Block {
            norm1: norm(b.sub("norm_1"))?,
            attention: Attention {
                clip: Some(clip).filter(|by| *by > 0.0),
                // Whatever `alibi_bias_max` says.
                slopes: Some(Slopes::exact(slopes(h))),
                ..Attention::new([all.slice(0, d)?, all.slice(d, d)?, all.slice(2 * d, d)?, out], rule, e)
            },
            norm2: norm(b.sub("norm_2"))?,
            mlp: Mlp::plain(&b, ["ffn.up_proj", "ffn.down_proj"], (d, 4 * d), false, Activation::Gelu)?.into(),
            after1: None,
            after2: None,
        });
    }
    let embed = s.table("wte.weight", &[vocab, d])?;
    let tied = c.flag(&["tie_word_embeddings"], true)?;
    let end = End::load(&c, &root, &root.sub("lm_head"), &embed, tied)?;
    let parts = Parts {
        max: Some(c.size(&["max_seq_len"])?),
        ..Parts::of(embed, Stack { blocks, order: Order::PreNorm, width: d }, norm(s.sub("norm_f"))?, end)
    };
    Ok(Box::new(Decoder::new(w, parts)?))
}
