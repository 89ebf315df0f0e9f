//! BERT and RoBERTa: bidirectional, post-norm, learned positions, optional pooler and masked-language head.
//! Devlin et al. 2019, arXiv 1810.04805; Liu et al. 2019, arXiv 1907.11692.

use super::blocks::{Activation, Attention, Block, Config, Linear, Mlp, Norm, Pass, Scope, Stack, embedding};
use super::{Input, LogitRows, Model, ModelInfo, Output, TowerRun};
use crate::ctx::Ctx;
use crate::trace::{AttentionRule, MaskRule, Rows, Site, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

struct Head {
    dense: Linear,
    act: Activation,
    norm: Norm,
    decoder: Linear,
}

struct Bert {
    info: ModelInfo,
    words: Tensor,
    positions: Tensor,
    types: Option<Tensor>,
    norm: Norm,
    stack: Stack,
    pooler: Option<Linear>,
    head: Option<Head>,
    /// RoBERTa counts positions from `pad + 1`, and padding keeps `pad`.
    pad: Option<u32>,
    device: Device,
}

/// Loads a checkpoint with or without prefix and heads.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config(w.config());
    let d = c.size(&["hidden_size"])?;
    let h = c.size(&["num_attention_heads"])?;
    let e = Config::split(d, h, "heads")?;
    let inner = c.size(&["intermediate_size"])?;
    let vocab = c.size(&["vocab_size"])?;
    let max = c.size(&["max_position_embeddings"])?;
    let eps = c.number(&["layer_norm_eps"], 1e-12)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu"))?;
    let roberta = matches!(c.word(&["model_type"], "bert"), "roberta" | "xlm-roberta" | "camembert");
    if c.word(&["position_embedding_type"], "absolute") != "absolute" {
        return Err(Error::invalid("config.json: only absolute position embeddings are supported for BERT"));
    }
    let root = Scope::root(w, device);
    let s = root.first(&["bert", "roberta", ""], "embeddings.word_embeddings.weight");
    let em = s.sub("embeddings");
    let mut blocks = Vec::new();
    for i in 0..c.size(&["num_hidden_layers"])? {
        let b = s.sub(format!("encoder.layer.{i}"));
        let a = b.sub("attention");
        blocks.push(Block {
            norm1: Norm::layer(&a.sub("output.LayerNorm"), d, eps)?,
            attention: Attention {
                q: Linear::load(&a.sub("self.query"), d, d, true)?,
                k: Linear::load(&a.sub("self.key"), d, d, true)?,
                v: Linear::load(&a.sub("self.value"), d, d, true)?,
                o: Linear::load(&a.sub("output.dense"), d, d, true)?,
                q_norm: None,
                k_norm: None,
                rope: None,
                rule: AttentionRule {
                    n_heads: h,
                    n_kv_heads: h,
                    scale: (e as f32).powf(-0.5),
                    mask: MaskRule::Bidirectional,
                    soft_cap: None,
                },
                head_width: e,
            },
            norm2: Norm::layer(&b.sub("output.LayerNorm"), d, eps)?,
            mlp: Mlp {
                gate: None,
                up: Linear::load(&b.sub("intermediate.dense"), d, inner, true)?,
                down: Linear::load(&b.sub("output.dense"), inner, d, true)?,
                act,
            },
            scale1: None,
            scale2: None,
        });
    }
    let words = em.get("word_embeddings.weight", &[vocab, d])?;
    let types = match c.0.get("type_vocab_size").and_then(serde_json::Value::as_u64) {
        Some(0) => None,
        n => Some(em.get("token_type_embeddings.weight", &[n.unwrap_or(2) as usize, d])?),
    };
    let cls = root.sub("cls.predictions");
    let lm = root.sub("lm_head");
    let tied = |own: &Scope| {
        if own.has("decoder.weight") { own.get("decoder.weight", &[vocab, d]) } else { Ok(words.clone()) }
    };
    let bias = |own: &Scope| own.get(if own.has("bias") { "bias" } else { "decoder.bias" }, &[vocab]);
    let head = if cls.has("transform.dense.weight") {
        Some(Head {
            dense: Linear::load(&cls.sub("transform.dense"), d, d, true)?,
            act,
            norm: Norm::layer(&cls.sub("transform.LayerNorm"), d, eps)?,
            decoder: Linear::from_matrix(&tied(&cls)?, Some(bias(&cls)?))?,
        })
    } else if lm.has("dense.weight") {
        Some(Head {
            dense: Linear::load(&lm.sub("dense"), d, d, true)?,
            act: Activation::Gelu,
            norm: Norm::layer(&lm.sub("layer_norm"), d, eps)?,
            decoder: Linear::from_matrix(&tied(&lm)?, Some(bias(&lm)?))?,
        })
    } else {
        None
    };
    // A masked-language model is loaded by transformers without its pooler, whatever the file holds.
    let pooled = head.is_none() && s.has("pooler.dense.weight");
    let pooler = pooled.then(|| Linear::load(&s.sub("pooler.dense"), d, d, true)).transpose()?;
    let pad = roberta.then(|| c.0.get("pad_token_id").and_then(serde_json::Value::as_u64).unwrap_or(1) as u32);
    let stack = Stack { blocks, post_norm: true, width: d };
    let mut info = super::describe(w);
    info.towers.insert(Tower::Text, stack.info(true, inner));
    info.vocab = if head.is_some() { vocab } else { 0 };
    info.max_tokens = Some(max - pad.map_or(0, |p| p as usize + 1).min(max - 1));
    Ok(Box::new(Bert {
        info,
        positions: em.get("position_embeddings.weight", &[max, d])?,
        types,
        norm: Norm::layer(&em.sub("LayerNorm"), d, eps)?,
        words,
        stack,
        pooler,
        head,
        pad,
        device: device.clone(),
    }))
}

impl Bert {
    fn head(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.head.as_ref().ok_or_else(|| Error::invalid("this model has no language-model head"))?;
        h.decoder.apply(&h.norm.apply(&h.act.apply(&h.dense.apply(x)?)?)?)
    }
}

impl Model for Bert {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let x = match &input.embeds {
            Some(x) => x.clone(),
            None => self.embed(&input.ids)?,
        };
        let n = x.dim(0)?;
        if n == 0 {
            return Err(Error::invalid("the input has no tokens; type a prompt"));
        }
        let mut rows = Rows::identity(n);
        match (&input.positions, self.pad) {
            (Some(p), _) if p.len() == n => rows.positions.clone_from(p),
            (Some(p), _) => return Err(Error::invalid(format!("{} positions for {n} tokens", p.len()))),
            (None, Some(pad)) => {
                let mut next = pad as usize + 1;
                for (i, p) in rows.positions.iter_mut().enumerate() {
                    let is_pad = input.ids.get(i) == Some(&pad);
                    *p = if is_pad { pad as usize } else { next };
                    next += usize::from(!is_pad);
                }
            }
            (None, None) => {}
        }
        let max = self.positions.dim(0)?;
        if rows.positions.iter().any(|&p| p >= max) {
            return Err(Error::invalid(format!(
                "the text has more tokens than this model has positions ({max}); shorten the prompt"
            )));
        }
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
        pass.table = input.mask.as_ref().map(|m| m.as_ref().clone());
        let x = self.stack.apply(x, &mut pass)?;
        let x = pass.tap(Site::Final, n_layers, x)?;
        let mut out = Output::default();
        if let Some(pooler) = &self.pooler {
            out.extras.insert("pooler_output".into(), pooler.apply(&x.narrow(0, 0, 1)?)?.tanh()?.squeeze(0)?);
        }
        if self.head.is_none() {
            out.extras.insert("last_hidden_state".into(), x.clone());
        } else if input.logits != Some(LogitRows::None) {
            let n = x.dim(0)?;
            let last = input.logits == Some(LogitRows::Last);
            out.logit_rows = if last { vec![n - 1] } else { (0..n).collect() };
            let x = if last { x.narrow(0, n - 1, 1)? } else { x };
            out.logits = Some(pass.tap(Site::Logits, n_layers, self.head(&x)?)?);
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

    fn output_projection(&self, _tower: Tower, layer: usize) -> Result<Tensor> {
        self.stack.output_projection(layer)
    }

    fn lens(&self, resid: &Tensor) -> Result<Tensor> {
        self.head(resid)
    }

    fn device(&self) -> &Device {
        &self.device
    }
}
