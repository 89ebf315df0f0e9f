//! ALBERT: narrow embeddings, and layers that share their weights. Lan et al. 2019, arXiv 1909.11942.

use super::Model;
use super::bert::{BERT, Spelling, block, decodes, heads, open_ended};
use super::blocks::{Activation, Config, Defaults, Linear, Norm, Order, Scope, Stack};
use super::encoder::{Encoder, Heads, Labels, Words};
use crate::trace::MaskRule;
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

const DEFAULTS: Defaults = &[
    ("vocab_size", 30000.0),
    ("embedding_size", 128.0),
    ("hidden_size", 4096.0),
    ("num_hidden_layers", 12.0),
    ("num_attention_heads", 64.0),
    ("intermediate_size", 16384.0),
    ("max_position_embeddings", 512.0),
];

const ALBERT: Spelling = Spelling {
    attention: ["attention.query", "attention.key", "attention.value", "attention.dense"],
    norm1: "attention.LayerNorm",
    mlp: ["ffn", "ffn_output"],
    norm2: "full_layer_layer_norm",
    ..BERT
};

/// Loads a checkpoint with or without prefix and heads.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let (d, narrow) = (c.size(&["hidden_size"])?, c.size(&["embedding_size"])?);
    let (vocab, max) = (c.size(&["vocab_size"])?, c.size(&["max_position_embeddings"])?);
    let eps = c.eps(&["layer_norm_eps"], 1e-12)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu_new")?)?;
    decodes(&c, "albert")?;
    let root = Scope::root(w, device);
    let s = root.first(&["albert", ""], "embeddings.word_embeddings.weight");
    let (em, en) = (s.sub("embeddings"), s.sub("encoder"));
    let n = c.size(&["num_hidden_layers"])?;
    let groups = c.size_opt(&["num_hidden_groups"])?.unwrap_or(1);
    let inner = c.size_opt(&["inner_group_num"])?.unwrap_or(1);
    if groups > n {
        return Err(Error::invalid(format!("config.json: {groups} groups of {n} layers")));
    }
    let mut blocks = Vec::new();
    for i in 0..n {
        let group = (i as f64 / (n as f64 / groups as f64)) as usize;
        for j in 0..inner {
            let b = en.sub(format!("albert_layer_groups.{group}.albert_layers.{j}"));
            blocks.push(block(&b, &c, &ALBERT, (d, eps, act), &MaskRule::Bidirectional)?);
        }
    }
    let words = em.get("word_embeddings.weight", &[vocab, narrow])?;
    let types = match c.count(&["type_vocab_size"], 2)? {
        0 => None,
        n => Some(em.get("token_type_embeddings.weight", &[n, narrow])?),
    };
    let heads = own_heads(&c, &root, &s, &words, (d, narrow, eps, act))?;
    Encoder {
        positions: Some(em.get("position_embeddings.weight", &[max, narrow])?),
        types,
        norm: Some(Norm::layer(&em.sub("LayerNorm"), narrow, eps)?),
        project: Some(Linear::load(&en.sub("embedding_hidden_mapping_in"), narrow, d, true)?),
        ..Encoder::new(w, words, Stack { blocks, order: Order::PostNorm, width: d }, heads, device)
    }
    .ready(Some(max))
}

fn own_heads(
    c: &Config,
    root: &Scope,
    s: &Scope,
    words: &Tensor,
    (d, narrow, eps, act): (usize, usize, f64, Activation),
) -> Result<Heads> {
    let architecture = c.architecture();
    let task = architecture.find("For").map_or("", |i| &architecture[i..]);
    let pooler = || Linear::load(&s.sub("pooler"), d, d, true);
    let mut out = Heads::default();
    match task {
        "ForTokenClassification" | "ForQuestionAnswering" => return heads(c, "albert", root, s, words, (d, eps, act)),
        "ForSequenceClassification" | "ForMultipleChoice" => {
            let last = open_ended(&root.sub("classifier"), d)?;
            out.labels = Some(Labels { dense: pooler()?, act: Activation::Tanh, out: last, name: "logits" });
            return Ok(out);
        }
        "ForPreTraining" => {
            let last = open_ended(&root.sub("sop_classifier.classifier"), d)?;
            out.labels = Some(Labels { dense: pooler()?, act: Activation::Tanh, out: last, name: "sop_logits" });
        }
        _ => {}
    }
    let p = root.sub("predictions");
    if p.has("dense.weight") {
        let vocab = words.dim(0)?;
        let last = p.sub("decoder");
        let matrix = if last.has("weight") { last.get("weight", &[vocab, narrow])? } else { words.clone() };
        let bias = if last.has("bias") { last.get("bias", &[vocab])? } else { p.get("bias", &[vocab])? };
        out.words = Some(Words {
            dense: Linear::load(&p.sub("dense"), d, narrow, true)?,
            act,
            norm: Norm::layer(&p.sub("LayerNorm"), narrow, eps)?,
            decoder: Linear::from_matrix(&matrix, Some(bias))?,
        });
    } else {
        out.pooler = s.has("pooler.weight").then(pooler).transpose()?;
    }
    Ok(out)
}
