//! ModernBERT: rotary positions, norms before the parts, gated MLPs, layers that look near and layers that look
//! everywhere. Warner et al. 2024, arXiv 2412.13663.

use super::Model;
use super::bert::open_ended;
use super::blocks::{
    Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Part, Rope, Scope, Stack,
};
use super::encoder::{Encoder, Heads, Labels, Words};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

const DEFAULTS: Defaults = &[
    ("vocab_size", 50368.0),
    ("hidden_size", 768.0),
    ("intermediate_size", 1152.0),
    ("num_hidden_layers", 22.0),
    ("num_attention_heads", 12.0),
    ("max_position_embeddings", 8192.0),
];

/// Loads a checkpoint with or without prefix and heads.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let (d, h) = (c.size(&["hidden_size"])?, c.size(&["num_attention_heads"])?);
    let (vocab, max) = (c.size(&["vocab_size"])?, c.size(&["max_position_embeddings"])?);
    let e = Config::split(d, h, "heads")?;
    let inner = c.size(&["intermediate_size"])?;
    let eps = c.eps(&["norm_eps"], 1e-5)?;
    let act = Activation::parse(c.word(&["hidden_activation"], "gelu")?)?;
    let [norm_bias, attention_bias, mlp_bias] =
        [["norm_bias"], ["attention_bias"], ["mlp_bias"]].map(|k| c.flag(&k, false));
    let (norm_bias, attention_bias, mlp_bias) = (norm_bias?, attention_bias?, mlp_bias?);
    let every = c.size_opt(&["global_attn_every_n_layers"])?.unwrap_or(3);
    let near = c.size_opt(&["local_attention"])?.unwrap_or(128) / 2;
    let rope = |kind: &str, key: &str, base: f64| -> Result<Rope> {
        match c.sub("rope_parameters").and_then(|p| p.sub(kind)) {
            Some(_) => Rope::load(&c, e, Some(kind), Part::Whole),
            None => Rope::plain(c.number(&[key], base)?, e),
        }
    };
    let far_theta = c.number(&["global_rope_theta"], 160_000.0)?;
    let far = rope("full_attention", "global_rope_theta", 160_000.0)?;
    // Null means that both look by the same angles.
    let local =
        if c.speaks_of("local_rope_theta") && c.value(&["local_rope_theta"]).is_none() { far_theta } else { 10_000.0 };
    let close = rope("sliding_attention", "local_rope_theta", local)?;
    let root = Scope::root(w, device);
    let s = root.first(&["model", ""], "embeddings.tok_embeddings.weight");
    let em = s.sub("embeddings");
    let norm = |s: Scope| Norm::layer_with(&s, d, eps, norm_bias);
    let mut blocks = Vec::new();
    for i in 0..c.size(&["num_hidden_layers"])? {
        let b = s.sub(format!("layers.{i}"));
        let all = Linear::load(&b.sub("attn.Wqkv"), d, 3 * d, attention_bias)?;
        let both = Linear::load(&b.sub("mlp.Wi"), d, 2 * inner, mlp_bias)?;
        let slides = match c.value(&["layer_types"]) {
            Some(types) => match types.get(i).and_then(|t| t.as_str()) {
                Some("full_attention") => false,
                Some("sliding_attention") => true,
                other => {
                    let e = format!("config.json: the type {other:?} of layer {i} is not usable here");
                    return Err(Error::invalid(e));
                }
            },
            None => !i.is_multiple_of(every),
        };
        let first = b.sub("attn_norm");
        blocks.push(Block {
            // The first layer reads the embeddings' own norm.
            norm1: if i == 0 { Norm::none(d, device)? } else { norm(first)? },
            attention: Attention {
                rope: Some(if slides { close.clone() } else { far.clone() }),
                ..Attention::new(
                    [
                        all.slice(0, d)?,
                        all.slice(d, d)?,
                        all.slice(2 * d, d)?,
                        Linear::load(&b.sub("attn.Wo"), d, d, attention_bias)?,
                    ],
                    AttentionRule::new((h, h), e, if slides { MaskRule::Near(near) } else { MaskRule::Bidirectional }),
                    e,
                )
            },
            norm2: norm(b.sub("mlp_norm"))?,
            mlp: Mlp {
                gate: Some(both.slice(0, inner)?),
                up: both.slice(inner, inner)?,
                down: Linear::load(&b.sub("mlp.Wo"), inner, d, mlp_bias)?,
                act,
            }
            .into(),
            after1: None,
            after2: None,
        });
    }
    let words = em.get("tok_embeddings.weight", &[vocab, d])?;
    let heads = own_heads(&c, &root, &words, (d, eps, norm_bias))?;
    Encoder {
        norm: Some(norm(em.sub("norm"))?),
        after: Some(norm(s.sub("final_norm"))?),
        ..Encoder::new(w, words, Stack { blocks, order: Order::PreNorm, width: d }, heads, device)
    }
    .ready(Some(max))
}

fn own_heads(c: &Config, root: &Scope, words: &Tensor, (d, eps, norm_bias): (usize, f64, bool)) -> Result<Heads> {
    let mut out = Heads::default();
    let p = root.sub("head");
    if !p.has("dense.weight") {
        return Ok(out);
    }
    let act = Activation::parse(c.word(&["classifier_activation"], "gelu")?)?;
    let dense = Linear::load(&p.sub("dense"), d, d, c.flag(&["classifier_bias"], false)?)?;
    let norm = Norm::layer_with(&p.sub("norm"), d, eps, norm_bias)?;
    let architecture = c.architecture();
    if architecture.ends_with("ForSequenceClassification") || architecture.ends_with("ForMultipleChoice") {
        match c.word(&["classifier_pooling"], "cls")? {
            "cls" => {}
            "mean" => out.mean = true,
            other => return Err(Error::invalid(format!("config.json: classifier_pooling {other} is not supported"))),
        }
        out.labels = Some(Labels { dense, act, out: open_ended(&root.sub("classifier"), d)?, name: "logits" });
        out.label_norm = Some(norm);
    } else if architecture.ends_with("ForTokenClassification") {
        out.tokens = Some(open_ended(&root.sub("classifier"), d)?);
        out.token_head = Some((dense, act, norm));
    } else if architecture.ends_with("ForQuestionAnswering") {
        out.span = Some(Linear::load(&root.sub("classifier"), d, 2, true)?);
        out.token_head = Some((dense, act, norm));
    } else {
        let (vocab, last) = (words.dim(0)?, root.sub("decoder"));
        let matrix = if last.has("weight") { last.get("weight", &[vocab, d])? } else { words.clone() };
        let bias = c.flag(&["decoder_bias"], true)?.then(|| last.get("bias", &[vocab])).transpose()?;
        out.words = Some(Words { dense, act, norm, decoder: Linear::from_matrix(&matrix, bias)? });
    }
    Ok(out)
}
