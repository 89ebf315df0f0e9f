//! BERT, RoBERTa and DistilBERT: post-norm, learned positions, with the heads that `transformers` puts on them.
//! Devlin et al. 2019, arXiv 1810.04805; Liu et al. 2019, arXiv 1907.11692; Sanh et al. 2019, arXiv 1910.01108.

use super::blocks::{Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Scope, Stack};
use super::encoder::{Encoder, Heads, Labels, Words};
use super::{Model, Writes};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// How a family spells the parts of a layer, and the keys of its sizes.
pub(super) struct Spelling {
    pub layers: &'static str,
    /// Maps for q, k, v and the output.
    pub attention: [&'static str; 4],
    pub norm1: &'static str,
    pub mlp: [&'static str; 2],
    pub norm2: &'static str,
    pub width: &'static str,
    pub heads: &'static str,
    pub inner: &'static str,
    pub n_layers: &'static str,
    pub act: &'static str,
    pub defaults: Defaults,
}

pub(super) const BERT: Spelling = Spelling {
    layers: "encoder.layer",
    attention: ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"],
    norm1: "attention.output.LayerNorm",
    mlp: ["intermediate.dense", "output.dense"],
    norm2: "output.LayerNorm",
    width: "hidden_size",
    heads: "num_attention_heads",
    inner: "intermediate_size",
    n_layers: "num_hidden_layers",
    act: "hidden_act",
    defaults: &[
        ("vocab_size", 30522.0),
        ("hidden_size", 768.0),
        ("num_hidden_layers", 12.0),
        ("num_attention_heads", 12.0),
        ("intermediate_size", 3072.0),
        ("max_position_embeddings", 512.0),
    ],
};

const DISTILBERT: Spelling = Spelling {
    layers: "transformer.layer",
    attention: ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"],
    norm1: "sa_layer_norm",
    mlp: ["ffn.lin1", "ffn.lin2"],
    norm2: "output_layer_norm",
    width: "dim",
    heads: "n_heads",
    inner: "hidden_dim",
    n_layers: "n_layers",
    act: "activation",
    defaults: &[
        ("vocab_size", 30522.0),
        ("dim", 768.0),
        ("n_layers", 6.0),
        ("n_heads", 12.0),
        ("hidden_dim", 3072.0),
        ("max_position_embeddings", 512.0),
    ],
};

/// Whether tokens see only those before them.
///
/// Errors: positions or attention of a kind that is not supported.
pub(super) fn decodes(c: &Config, kind: &str) -> Result<bool> {
    if c.word(&["position_embedding_type"], "absolute")? != "absolute" {
        return Err(Error::invalid(format!("config.json: only absolute position embeddings are supported for {kind}")));
    }
    let decoder = c.flag(&["is_decoder"], false)?;
    let decodes = matches!(kind, "bert" | "camembert" | "electra" | "roberta" | "xlm-roberta");
    if c.flag(&["add_cross_attention"], false)? || (decoder && !decodes) {
        return Err(Error::invalid(format!("config.json: {kind} as a decoder beside an encoder is not supported")));
    }
    Ok(decoder)
}

/// Loads a checkpoint with or without prefix and heads.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let kind = c.word(&["model_type"], "bert")?;
    let names = if kind == "distilbert" { &DISTILBERT } else { &BERT };
    let c = c.with(names.defaults);
    let d = c.size(&[names.width])?;
    let vocab = c.size(&["vocab_size"])?;
    let max = c.size(&["max_position_embeddings"])?;
    let roberta = matches!(kind, "roberta" | "xlm-roberta" | "camembert");
    let eps = c.eps(&["layer_norm_eps"], 1e-12)?;
    let act = Activation::parse(c.word(&[names.act], "gelu")?)?;
    let decoder = decodes(&c, kind)?;
    let root = Scope::root(w, device);
    let s = root.first(&["bert", "roberta", "distilbert", ""], "embeddings.word_embeddings.weight");
    let em = s.sub("embeddings");
    let mask = if decoder { MaskRule::Causal } else { MaskRule::Bidirectional };
    let mut blocks = Vec::new();
    for i in 0..c.size(&[names.n_layers])? {
        blocks.push(block(&s.sub(format!("{}.{i}", names.layers)), &c, names, (d, eps, act), &mask)?);
    }
    let words = em.get("word_embeddings.weight", &[vocab, d])?;
    let types = match c.count(&["type_vocab_size"], 2)? {
        _ if kind == "distilbert" => None,
        0 => None,
        n => Some(em.get("token_type_embeddings.weight", &[n, d])?),
    };
    let heads = heads(&c, kind, &root, &s, &words, (d, eps, act))?;
    let pad = if roberta { Some(c.count(&["pad_token_id"], 1)? as u32) } else { None };
    let stack = Stack { blocks, order: Order::PostNorm, width: d };
    let mut out = Encoder {
        positions: Some(em.get("position_embeddings.weight", &[max, d])?),
        types,
        norm: Some(Norm::layer(&em.sub("LayerNorm"), d, eps)?),
        pad: pad.map(|p| (p, p as usize)),
        causal: decoder,
        ..Encoder::new(w, words, stack, heads, device)
    };
    if decoder && out.heads.words.is_some() {
        out.info.writes = Writes::Causal;
    }
    out.ready(Some(max - pad.map_or(0, |p| p as usize + 1).min(max - 1)))
}

/// A block whose parts are called as `names` says.
pub(super) fn block(
    b: &Scope,
    c: &Config,
    names: &Spelling,
    (d, eps, act): (usize, f64, Activation),
    mask: &MaskRule,
) -> Result<Block> {
    let h = c.size(&[names.heads])?;
    let e = Config::split(d, h, "heads")?;
    let inner = c.size(&[names.inner])?;
    let [q, k, v, o] = names.attention;
    let [up, down] = names.mlp;
    Ok(Block {
        norm1: Norm::layer(&b.sub(names.norm1), d, eps)?,
        attention: Attention::new(
            [
                Linear::load(&b.sub(q), d, d, true)?,
                Linear::load(&b.sub(k), d, d, true)?,
                Linear::load(&b.sub(v), d, d, true)?,
                Linear::load(&b.sub(o), d, d, true)?,
            ],
            AttentionRule::new((h, h), e, mask.clone()),
            e,
        ),
        norm2: Norm::layer(&b.sub(names.norm2), d, eps)?,
        mlp: Mlp {
            gate: None,
            up: Linear::load(&b.sub(up), d, inner, true)?,
            down: Linear::load(&b.sub(down), inner, d, true)?,
            act,
        }
        .into(),
        after1: None,
        after2: None,
    })
}

/// A map `[d]` → `[as many as the file has]`.
pub(super) fn open_ended(s: &Scope, d: usize) -> Result<Linear> {
    let out = match s.shape("weight") {
        Some(&[out, _]) => out,
        _ => 2,
    };
    Linear::load(s, d, out, true)
}

/// The heads that `architectures` of `config.json` names; without a name, those whose weights are there.
pub(super) fn heads(
    c: &Config,
    kind: &str,
    root: &Scope,
    s: &Scope,
    embed: &Tensor,
    (d, eps, act): (usize, f64, Activation),
) -> Result<Heads> {
    let architecture = c.architecture();
    let task = architecture.find("For").map_or("", |i| &architecture[i..]);
    let pooler = || Linear::load(&s.sub("pooler.dense"), d, d, true);
    let mut out = Heads::default();
    let labels = |name, dense: Linear, act, last: Scope| -> Result<Option<Labels>> {
        Ok(Some(Labels { dense, act, out: open_ended(&last, d)?, name }))
    };
    match (task, kind) {
        // One of several answers is chosen by a number for each of them.
        ("ForSequenceClassification" | "ForMultipleChoice", "bert") => {
            out.labels = labels("logits", pooler()?, Activation::Tanh, root.sub("classifier"))?;
            return Ok(out);
        }
        ("ForSequenceClassification" | "ForMultipleChoice", "distilbert") => {
            let dense = Linear::load(&root.sub("pre_classifier"), d, d, true)?;
            out.labels = labels("logits", dense, Activation::Relu, root.sub("classifier"))?;
            return Ok(out);
        }
        ("ForSequenceClassification", _) => {
            let dense = Linear::load(&root.sub("classifier.dense"), d, d, true)?;
            out.labels = labels("logits", dense, Activation::Tanh, root.sub("classifier.out_proj"))?;
            return Ok(out);
        }
        ("ForMultipleChoice", _) => {
            out.labels = labels("logits", pooler()?, Activation::Tanh, root.sub("classifier"))?;
            return Ok(out);
        }
        ("ForNextSentencePrediction", _) => {
            out.labels = labels("logits", pooler()?, Activation::Tanh, root.sub("cls.seq_relationship"))?;
            return Ok(out);
        }
        ("ForPreTraining", _) => {
            let last = root.sub("cls.seq_relationship");
            out.labels = labels("seq_relationship_logits", pooler()?, Activation::Tanh, last)?;
        }
        ("ForTokenClassification", _) => {
            out.tokens = Some(open_ended(&root.sub("classifier"), d)?);
            return Ok(out);
        }
        ("ForQuestionAnswering", _) => {
            out.span = Some(Linear::load(&root.sub("qa_outputs"), d, 2, true)?);
            return Ok(out);
        }
        _ => {}
    }
    // Where the output map stands, the map to it, the norm between, and its non-linearity.
    let bert = root.sub("cls.predictions");
    let roberta = root.sub("lm_head");
    let (own, dense, norm, decoder, act, eps) = if bert.has("transform.dense.weight") {
        (&bert, bert.sub("transform.dense"), bert.sub("transform.LayerNorm"), "decoder", act, eps)
    } else if roberta.has("dense.weight") {
        (&roberta, roberta.sub("dense"), roberta.sub("layer_norm"), "decoder", Activation::Gelu, eps)
    } else if root.has("vocab_transform.weight") {
        (root, root.sub("vocab_transform"), root.sub("vocab_layer_norm"), "vocab_projector", act, 1e-12)
    } else {
        // A model with a language-model head is loaded by transformers without its pooler, whatever the file holds.
        out.pooler = s.has("pooler.dense.weight").then(pooler).transpose()?;
        return Ok(out);
    };
    let vocab = embed.dim(0)?;
    let last = own.sub(decoder);
    let matrix = if last.has("weight") {
        last.get("weight", &[vocab, d])?
    } else if c.flag(&["tie_word_embeddings"], true)? {
        embed.clone()
    } else {
        last.get("weight", &[vocab, d])?
    };
    let bias = if last.has("bias") { last.get("bias", &[vocab])? } else { own.get("bias", &[vocab])? };
    out.words = Some(Words {
        dense: Linear::load(&dense, d, d, true)?,
        act,
        norm: Norm::layer(&norm, d, eps)?,
        decoder: Linear::from_matrix(&matrix, Some(bias))?,
    });
    Ok(out)
}
