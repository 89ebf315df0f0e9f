//! The encoder of T5: norms before the parts, scores without a factor that know distances by bucket, no biases.
//! Raffel et al. 2019, arXiv 1910.10683.

use super::Model;
use super::bert::open_ended;
use super::blocks::{Activation, Attention, Block, Buckets, Config, Defaults, Linear, Mlp, Norm, Order, Scope, Stack};
use super::encoder::{Encoder, Heads};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;
use std::sync::Arc;

const DEFAULTS: Defaults = &[
    ("vocab_size", 32128.0),
    ("d_model", 512.0),
    ("d_kv", 64.0),
    ("d_ff", 2048.0),
    ("num_layers", 6.0),
    ("num_heads", 8.0),
];

/// Loads a checkpoint: an encoder, or the encoder of a whole one.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let (d, e) = (c.size(&["d_model"])?, c.size(&["d_kv"])?);
    let (h, inner) = (c.size(&["num_heads"])?, c.size(&["d_ff"])?);
    let vocab = c.size(&["vocab_size"])?;
    let eps = c.eps(&["layer_norm_epsilon"], 1e-6)?;
    let (gated, act) = match c.word(&["feed_forward_proj"], "relu")? {
        // Files of the first gated models mean the tanh form.
        "gated-gelu" => (true, "gelu_new"),
        other => (other.starts_with("gated-"), other.trim_start_matches("gated-")),
    };
    let act = Activation::parse(act)?;
    let root = Scope::root(w, device);
    let s = root.first(&["encoder", "transformer.encoder"], "block.0.layer.0.SelfAttention.q.weight");
    let n = c.size_opt(&["relative_attention_num_buckets"])?.unwrap_or(32);
    let most = c.size_opt(&["relative_attention_max_distance"])?.unwrap_or(128);
    let mut blocks = Vec::new();
    let table = s.get("block.0.layer.0.SelfAttention.relative_attention_bias.weight", &[n, h])?;
    let bias = Arc::new(Buckets { table, most });
    for i in 0..c.size(&["num_layers"])? {
        let b = s.sub(format!("block.{i}.layer"));
        let (a, m) = (b.sub("0.SelfAttention"), b.sub("1.DenseReluDense"));
        let to = |name: &str| Linear::load(&a.sub(name), d, h * e, false);
        let map = |name: &str| Linear::load(&m.sub(name), d, inner, false);
        let (gate, up) = match gated {
            true => (Some(map("wi_0")?), map("wi_1")?),
            false => (None, map("wi")?),
        };
        blocks.push(Block {
            norm1: Norm::rms(&b.sub("0.layer_norm"), d, eps)?,
            attention: Attention {
                bias: Some(bias.clone()),
                ..Attention::new(
                    [to("q")?, to("k")?, to("v")?, Linear::load(&a.sub("o"), h * e, d, false)?],
                    AttentionRule { scale: 1.0, ..AttentionRule::new((h, h), e, MaskRule::Bidirectional) },
                    e,
                )
            },
            norm2: Norm::rms(&b.sub("1.layer_norm"), d, eps)?,
            mlp: Mlp { gate, up, down: Linear::load(&m.sub("wo"), inner, d, false)?, act }.into(),
            after1: None,
            after2: None,
        });
    }
    let names = ["shared.weight", "encoder.embed_tokens.weight", "transformer.shared.weight"];
    let name = names.into_iter().find(|n| root.has(n)).ok_or_else(|| Error::Weight {
        name: names[0].into(),
        what: "missing; the encoder needs its token table".into(),
    })?;
    let words = root.get(name, &[vocab, d])?;
    let mut heads = Heads::default();
    if c.architecture().ends_with("ForTokenClassification") {
        heads.tokens = Some(open_ended(&root.sub("classifier"), d)?);
    }
    Encoder {
        after: Some(Norm::rms(&s.sub("final_layer_norm"), d, eps)?),
        class_token: false,
        ..Encoder::new(w, words, Stack { blocks, order: Order::PreNorm, width: d }, heads, device)
    }
    .ready(None)
}
