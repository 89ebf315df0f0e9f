//! ELECTRA: a BERT whose embeddings may be narrower, that fills in words (generator) or finds the false ones
//! (discriminator). Clark et al. 2020, arXiv 2003.10555.

use super::bert::{BERT, block, decodes, heads, open_ended};
use super::blocks::{Activation, Config, Defaults, Linear, Norm, Order, Scope, Stack};
use super::encoder::{Encoder, Heads, Labels, Words};
use super::{Model, Writes};
use crate::trace::MaskRule;
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

const DEFAULTS: Defaults = &[
    ("vocab_size", 30522.0),
    ("hidden_size", 256.0),
    ("num_hidden_layers", 12.0),
    ("num_attention_heads", 4.0),
    ("intermediate_size", 1024.0),
    ("max_position_embeddings", 512.0),
    ("embedding_size", 128.0),
];

/// Loads a checkpoint with or without prefix and heads.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let (d, narrow) = (c.size(&["hidden_size"])?, c.size(&["embedding_size"])?);
    let (vocab, max) = (c.size(&["vocab_size"])?, c.size(&["max_position_embeddings"])?);
    let eps = c.eps(&["layer_norm_eps"], 1e-12)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu")?)?;
    let decoder = decodes(&c, "electra")?;
    let mask = if decoder { MaskRule::Causal } else { MaskRule::Bidirectional };
    let root = Scope::root(w, device);
    let s = root.first(&["electra", ""], "embeddings.word_embeddings.weight");
    let em = s.sub("embeddings");
    let mut blocks = Vec::new();
    for i in 0..c.size(&["num_hidden_layers"])? {
        blocks.push(block(&s.sub(format!("encoder.layer.{i}")), &c, &BERT, (d, eps, act), &mask)?);
    }
    let words = em.get("word_embeddings.weight", &[vocab, narrow])?;
    let types = match c.count(&["type_vocab_size"], 2)? {
        0 => None,
        n => Some(em.get("token_type_embeddings.weight", &[n, narrow])?),
    };
    let heads = own_heads(&c, &root, &s, &words, (d, narrow, eps, act))?;
    let mut out = Encoder {
        positions: Some(em.get("position_embeddings.weight", &[max, narrow])?),
        types,
        norm: Some(Norm::layer(&em.sub("LayerNorm"), narrow, eps)?),
        project: (narrow != d).then(|| Linear::load(&s.sub("embeddings_project"), narrow, d, true)).transpose()?,
        causal: decoder,
        ..Encoder::new(w, words, Stack { blocks, order: Order::PostNorm, width: d }, heads, device)
    };
    if decoder && out.heads.words.is_some() {
        out.info.writes = Writes::Causal;
    }
    out.ready(Some(max))
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
    let mut out = Heads::default();
    match task {
        "ForTokenClassification" | "ForQuestionAnswering" => return heads(c, "electra", root, s, words, (d, eps, act)),
        "ForSequenceClassification" => {
            let dense = Linear::load(&root.sub("classifier.dense"), d, d, true)?;
            let last = open_ended(&root.sub("classifier.out_proj"), d)?;
            out.labels = Some(Labels { dense, act: Activation::Gelu, out: last, name: "logits" });
        }
        "ForMultipleChoice" => {
            match c.word(&["summary_type"], "first")? {
                "first" => {}
                "mean" => out.mean = true,
                other => return Err(Error::invalid(format!("config.json: summary_type {other} is not supported"))),
            }
            if !c.flag(&["summary_use_proj"], true)? {
                return Err(Error::invalid("config.json: a summary without summary_use_proj is not supported"));
            }
            let dense = Linear::load(&root.sub("sequence_summary.summary"), d, d, true)?;
            // Without a name, nothing stands between.
            let act = if c.speaks_of("summary_activation") { "linear" } else { "gelu" };
            let act = Activation::parse(c.word(&["summary_activation"], act)?)?;
            out.labels = Some(Labels { dense, act, out: open_ended(&root.sub("classifier"), d)?, name: "logits" });
        }
        "ForPreTraining" => {
            let p = root.sub("discriminator_predictions");
            let dense = Linear::load(&p.sub("dense"), d, d, true)?;
            out.real = Some((dense, act, Linear::load(&p.sub("dense_prediction"), d, 1, true)?));
        }
        _ if root.has("generator_predictions.dense.weight") => {
            let (p, last) = (root.sub("generator_predictions"), root.sub("generator_lm_head"));
            let vocab = words.dim(0)?;
            let matrix = if last.has("weight") { last.get("weight", &[vocab, narrow])? } else { words.clone() };
            out.words = Some(Words {
                dense: Linear::load(&p.sub("dense"), d, narrow, true)?,
                act: Activation::Gelu,
                norm: Norm::layer(&p.sub("LayerNorm"), narrow, eps)?,
                decoder: Linear::from_matrix(&matrix, Some(last.get("bias", &[vocab])?))?,
            });
        }
        _ => {}
    }
    Ok(out)
}
