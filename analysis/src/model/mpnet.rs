//! MPNet: a BERT whose scores know distances by bucket. Song et al. 2020, arXiv 2004.09297.

use super::Model;
use super::bert::{BERT, Spelling, block, heads};
use super::blocks::{Activation, Buckets, Config, Defaults, Norm, Order, Scope, Stack};
use super::encoder::Encoder;
use crate::trace::MaskRule;
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;
use std::sync::Arc;

const DEFAULTS: Defaults = &[
    ("vocab_size", 30527.0),
    ("hidden_size", 768.0),
    ("num_hidden_layers", 12.0),
    ("num_attention_heads", 12.0),
    ("intermediate_size", 3072.0),
    ("max_position_embeddings", 512.0),
];

const MPNET: Spelling = Spelling {
    attention: ["attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"],
    norm1: "attention.LayerNorm",
    ..BERT
};

/// Buckets of distances.
const BUCKETS: usize = 32;

/// Loads a checkpoint with or without prefix and heads.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let (d, h) = (c.size(&["hidden_size"])?, c.size(&["num_attention_heads"])?);
    let (vocab, max) = (c.size(&["vocab_size"])?, c.size(&["max_position_embeddings"])?);
    let eps = c.eps(&["layer_norm_eps"], 1e-12)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu")?)?;
    let root = Scope::root(w, device);
    let s = root.first(&["mpnet", ""], "embeddings.word_embeddings.weight");
    let em = s.sub("embeddings");
    // The configuration sizes the table; distances fall into 32 of its rows whatever it says.
    let n = c.size_opt(&["relative_attention_num_buckets"])?.unwrap_or(BUCKETS);
    if n < BUCKETS {
        return Err(Error::invalid(format!("config.json: relative_attention_num_buckets {n} is under {BUCKETS}")));
    }
    let table = s.get("encoder.relative_attention_bias.weight", &[n, h])?.narrow(0, 0, BUCKETS)?;
    // The distance from which all are the same is not in the configuration.
    let bias = Arc::new(Buckets { table, most: 128 });
    let mut blocks = Vec::new();
    for i in 0..c.size(&["num_hidden_layers"])? {
        let b = s.sub(format!("encoder.layer.{i}"));
        let mut b = block(&b, &c, &MPNET, (d, eps, act), &MaskRule::Bidirectional)?;
        b.attention.bias = Some(bias.clone());
        blocks.push(b);
    }
    let words = em.get("word_embeddings.weight", &[vocab, d])?;
    let heads = heads(&c, "roberta", &root, &s, &words, (d, eps, act))?;
    Encoder {
        positions: Some(em.get("position_embeddings.weight", &[max, d])?),
        norm: Some(Norm::layer(&em.sub("LayerNorm"), d, eps)?),
        // Whatever the padding of the text is, positions count on from behind 1 and stand still at id 1.
        pad: Some((1, 1)),
        ..Encoder::new(w, words, Stack { blocks, order: Order::PostNorm, width: d }, heads, device)
    }
    .ready(Some(max.saturating_sub(2).max(1)))
}
