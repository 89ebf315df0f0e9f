//! BERT, RoBERTa and DistilBERT: post-norm, learned positions, with the heads that `transformers` puts on them.
//! Devlin et al. 2019, arXiv 1810.04805; Liu et al. 2019, arXiv 1907.11692; Sanh et al. 2019, arXiv 1910.01108.

use super::blocks::{
    Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Pass, Scope, Stack, embedding,
};
use super::vision::row_of;
use super::{Input, LogitRows, Model, ModelInfo, Output, TowerRun, Writes, embedded, only};
use crate::ctx::Ctx;
use crate::trace::{AttentionRule, MaskRule, Rows, Site, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// How a family spells the parts of a layer, and the keys of its sizes.
struct Spelling {
    layers: &'static str,
    /// Maps for q, k, v and the output.
    attention: [&'static str; 4],
    norm1: &'static str,
    mlp: [&'static str; 2],
    norm2: &'static str,
    width: &'static str,
    heads: &'static str,
    inner: &'static str,
    n_layers: &'static str,
    act: &'static str,
    defaults: Defaults,
}

const BERT: Spelling = Spelling {
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

/// Logits over the vocabulary for every token.
struct Words {
    dense: Linear,
    act: Activation,
    norm: Norm,
    decoder: Linear,
}

/// Logits over labels for the whole text, from its first token.
struct Labels {
    dense: Linear,
    act: Activation,
    out: Linear,
    /// Name of the result.
    name: &'static str,
}

/// What stands on the encoder; what is not there is `None`.
#[derive(Default)]
struct Heads {
    words: Option<Words>,
    labels: Option<Labels>,
    /// Labels of every token.
    tokens: Option<Linear>,
    /// Start and end of an answer.
    span: Option<Linear>,
    pooler: Option<Linear>,
}

impl Heads {
    /// Whether the encoder's own result is the model's.
    fn bare(&self) -> bool {
        self.words.is_none() && self.labels.is_none() && self.tokens.is_none() && self.span.is_none()
    }
}

struct Bert {
    info: ModelInfo,
    words: Tensor,
    positions: Tensor,
    types: Option<Tensor>,
    norm: Norm,
    stack: Stack,
    heads: Heads,
    /// RoBERTa counts positions from `pad + 1`, and padding keeps `pad`.
    pad: Option<u32>,
    device: Device,
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
    if c.word(&["position_embedding_type"], "absolute")? != "absolute" {
        return Err(Error::invalid("config.json: only absolute position embeddings are supported for BERT"));
    }
    let decoder = c.flag(&["is_decoder"], false)?;
    if c.flag(&["add_cross_attention"], false)? || (decoder && kind != "bert") {
        return Err(Error::invalid(format!("config.json: {kind} as a decoder beside an encoder is not supported")));
    }
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
    let mut info = super::describe(w);
    info.towers.insert(Tower::Text, stack.info(true));
    info.vocab = if heads.words.is_some() { vocab } else { 0 };
    info.writes = match (&heads.words, decoder) {
        (None, _) => Writes::No,
        (Some(_), true) => Writes::Causal,
        (Some(_), false) => Writes::Fills,
    };
    info.max_tokens = Some(max - pad.map_or(0, |p| p as usize + 1).min(max - 1));
    Ok(Box::new(Bert {
        info,
        positions: em.get("position_embeddings.weight", &[max, d])?,
        types,
        norm: Norm::layer(&em.sub("LayerNorm"), d, eps)?,
        words,
        stack,
        heads,
        pad,
        device: device.clone(),
    }))
}

fn block(
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
        attention: Attention {
            q: Linear::load(&b.sub(q), d, d, true)?,
            k: Linear::load(&b.sub(k), d, d, true)?,
            v: Linear::load(&b.sub(v), d, d, true)?,
            o: Linear::load(&b.sub(o), d, d, true)?,
            q_norm: None,
            k_norm: None,
            rope: None,
            rule: AttentionRule {
                n_heads: h,
                n_kv_heads: h,
                scale: (e as f32).powf(-0.5),
                mask: mask.clone(),
                soft_cap: None,
            },
            head_width: e,
        },
        norm2: Norm::layer(&b.sub(names.norm2), d, eps)?,
        mlp: Mlp {
            gate: None,
            up: Linear::load(&b.sub(up), d, inner, true)?,
            down: Linear::load(&b.sub(down), inner, d, true)?,
            act,
        },
        after1: None,
        after2: None,
    })
}

/// A map `[d]` → `[as many as the file has]`.
fn open_ended(s: &Scope, d: usize) -> Result<Linear> {
    let out = match s.shape("weight") {
        Some(&[out, _]) => out,
        _ => 2,
    };
    Linear::load(s, d, out, true)
}

/// The heads that `architectures` of `config.json` names; without a name, those whose weights are there.
fn heads(
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
        ("ForSequenceClassification", "bert") => {
            out.labels = labels("logits", pooler()?, Activation::Tanh, root.sub("classifier"))?;
            return Ok(out);
        }
        ("ForSequenceClassification", "distilbert") => {
            let dense = Linear::load(&root.sub("pre_classifier"), d, d, true)?;
            out.labels = labels("logits", dense, Activation::Relu, root.sub("classifier"))?;
            return Ok(out);
        }
        ("ForSequenceClassification", _) => {
            let dense = Linear::load(&root.sub("classifier.dense"), d, d, true)?;
            out.labels = labels("logits", dense, Activation::Tanh, root.sub("classifier.out_proj"))?;
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

impl Words {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.decoder.apply(&self.norm.apply(&self.act.apply(&self.dense.apply(x)?)?)?)
    }
}

impl Bert {
    fn word_logits(&self, x: &Tensor) -> Result<Tensor> {
        match &self.heads.words {
            Some(head) => head.apply(x),
            None => Err(Error::invalid("this model has no language-model head")),
        }
    }

    /// Rows of a text: identity; positions as given, or counted on from the cache, or as RoBERTa counts them.
    fn rows(&self, n: usize, input: &Input) -> Result<Rows> {
        let mut rows = input.rows(n)?;
        if input.positions.is_none()
            && let Some(pad) = self.pad
        {
            let mut next = pad as usize + 1;
            for (i, p) in rows.positions.iter_mut().enumerate() {
                let is_pad = input.ids.get(i) == Some(&pad);
                *p = if is_pad { pad as usize } else { next };
                next += usize::from(!is_pad);
            }
        }
        let max = self.positions.dim(0)?;
        if rows.positions.iter().any(|&p| p >= max) {
            return Err(Error::invalid(format!(
                "the text has more tokens than this model has positions ({max}); shorten the prompt"
            )));
        }
        Ok(rows)
    }
}

impl Model for Bert {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let x = embedded(self, input)?;
        let n = x.dim(0)?;
        let rows = self.rows(n, input)?;
        let ids: Vec<u32> = rows.positions.iter().map(|&p| p as u32).collect();
        let mut x = (x + embedding(&self.positions, &ids, "position")?)?;
        if let Some(types) = &self.types {
            let zeros = vec![0; n];
            // RoBERTa's single row serves every segment.
            let one_row = types.dim(0)? == 1;
            let ids = input.token_types.as_ref().filter(|_| !one_row).unwrap_or(&zeros);
            if ids.len() != n {
                return Err(Error::invalid(format!("{} segment ids for {n} tokens", ids.len())));
            }
            x = (x + embedding(types, ids, "segment id")?)?;
        }
        let x = self.norm.apply(&x)?;
        let n_layers = self.stack.blocks.len();
        let mut pass = Pass::new(Tower::Text, 0, rows, tap, ctx);
        pass.table.clone_from(&input.mask);
        pass.cache = input.cache.as_deref_mut().filter(|_| self.info.writes == Writes::Causal);
        pass.step = input.step;
        let x = self.stack.apply(x, &mut pass)?;
        let x = pass.tap(Site::Final, n_layers, x)?;
        let mut out = Output::default();
        let mut say = |name: &str, t: Tensor| out.extras.insert(name.into(), t);
        if let Some(pooler) = &self.heads.pooler {
            say("pooler_output", pooler.apply(&row_of(&x, &pass.rows, 0)?)?.tanh()?.squeeze(0)?);
        }
        if let Some(head) = &self.heads.labels {
            let first = row_of(&x, &pass.rows, 0)?;
            say(head.name, head.out.apply(&head.act.apply(&head.dense.apply(&first)?)?)?.squeeze(0)?);
        }
        if let Some(head) = &self.heads.tokens {
            say("logits", head.apply(&x)?);
        }
        if let Some(head) = &self.heads.span {
            let both = head.apply(&x)?.t()?.contiguous()?;
            say("start_logits", both.get(0)?);
            say("end_logits", both.get(1)?);
        }
        if self.heads.bare() {
            say("last_hidden_state", x.clone());
        }
        if self.heads.words.is_some() {
            let (x, rows) = LogitRows::of(input.logits.as_ref(), &x)?;
            if !rows.is_empty() {
                out.logits = Some(pass.tap(Site::Logits, n_layers, self.word_logits(&x)?)?);
            }
            out.logit_rows = rows;
        }
        out.towers.insert(
            Tower::Text,
            TowerRun { attention: std::mem::take(&mut pass.rules), n_tiles: 1, ..TowerRun::default() },
        );
        Ok(out)
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        embedding(&self.words, ids, "token id")
    }

    fn stack(&self, tower: Tower) -> Result<&Stack> {
        only(&self.stack, Tower::Text, tower)
    }

    fn lens(&self, resid: &Tensor) -> Result<Tensor> {
        self.word_logits(resid)
    }

    fn device(&self) -> &Device {
        &self.device
    }
}
