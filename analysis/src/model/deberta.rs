//! DeBERTa-v2 and v3: scores know how far apart two tokens are, from the query's side and from the key's.
//! He et al. 2020, arXiv 2006.03654; 2021, 2111.09543.

use super::Model;
use super::bert::{BERT, block, heads, open_ended};
use super::blocks::{Activation, Bias, Config, Linear, Norm, Order, Scope, Stack};
use super::encoder::{Conv, Encoder, Heads, Labels, Words};
use crate::trace::MaskRule;
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// What a layer's scores get from distances.
struct Disentangled {
    /// Keys of distances `[h, 2 · span, e]`, which queries look at.
    keys: Option<Tensor>,
    /// Queries of distances, which look at keys.
    queries: Option<Tensor>,
    span: usize,
    buckets: usize,
    most: usize,
    /// Divisor of both.
    root: f64,
}

impl Disentangled {
    /// The row of a distance in the table.
    fn row(&self, by: isize) -> u32 {
        let by = if self.buckets > 0 && self.most > 0 { bucket(by, self.buckets, self.most) } else { by };
        (by + self.span as isize).clamp(0, 2 * self.span as isize - 1) as u32
    }
}

/// A distance as it is up to half of `buckets`, by its logarithm beyond. In f32 as in the original.
fn bucket(by: isize, buckets: usize, most: usize) -> isize {
    let mid = (buckets / 2) as isize;
    if by.abs() <= mid {
        return by;
    }
    let far = (by.abs() as f32 / mid as f32).ln() / ((most as f64 - 1.0) / mid as f64).ln() as f32;
    let far = (far * (mid - 1) as f32).ceil() as isize + mid;
    far * by.signum()
}

impl Bias for Disentangled {
    fn of(&self, q: &Tensor, k: &Tensor, positions: &[usize]) -> Result<Tensor> {
        let (h, n, _) = q.dims3()?;
        let mut ids = Vec::with_capacity(n * n);
        for &a in positions {
            ids.extend(positions.iter().map(|&b| self.row(a as isize - b as isize)));
        }
        let ids = Tensor::from_vec(ids, (1, n, n), q.device())?;
        let all = |ids: &Tensor| -> Result<Tensor> { Ok(ids.broadcast_as((h, n, n))?.contiguous()?) };
        let mut sum: Option<Tensor> = None;
        if let Some(keys) = &self.keys {
            let of = q.contiguous()?.matmul(&keys.transpose(1, 2)?.contiguous()?)?;
            sum = Some(of.gather(&all(&ids)?, 2)?);
        }
        if let Some(queries) = &self.queries {
            let of = k.contiguous()?.matmul(&queries.transpose(1, 2)?.contiguous()?)?;
            // Rows are keys here: what the distance is to them, seen from the query.
            let part = of.gather(&all(&ids.transpose(1, 2)?.contiguous()?)?, 2)?.transpose(1, 2)?.contiguous()?;
            sum = Some(match sum {
                Some(s) => (s + part)?,
                None => part,
            });
        }
        match sum {
            Some(s) => Ok((s / self.root)?),
            None => Ok(Tensor::zeros((h, n, n), q.dtype(), q.device())?),
        }
    }
}

/// Loads a checkpoint with or without prefix and heads.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    const DEFAULTS: super::blocks::Defaults = &[
        ("vocab_size", 128_100.0),
        ("hidden_size", 1536.0),
        ("num_hidden_layers", 24.0),
        ("num_attention_heads", 24.0),
        ("intermediate_size", 6144.0),
        ("max_position_embeddings", 512.0),
    ];
    let c = Config::new(w.config()).with(DEFAULTS);
    let (d, h) = (c.size(&["hidden_size"])?, c.size(&["num_attention_heads"])?);
    let (vocab, max) = (c.size(&["vocab_size"])?, c.size(&["max_position_embeddings"])?);
    let narrow = c.size_opt(&["embedding_size"])?.unwrap_or(d);
    let e = Config::split(d, h, "heads")?;
    let eps = c.eps(&["layer_norm_eps"], 1e-7)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu")?)?;
    let root = Scope::root(w, device);
    let s = root.first(&["deberta", ""], "embeddings.word_embeddings.weight");
    let (em, en) = (s.sub("embeddings"), s.sub("encoder"));
    let relative = c.flag(&["relative_attention"], false)?;
    let kinds = match c.value(&["pos_att_type"]) {
        Some(serde_json::Value::Array(a)) => a.iter().filter_map(|v| v.as_str()).collect::<Vec<_>>().join("|"),
        Some(serde_json::Value::String(s)) => s.to_lowercase(),
        _ => String::new(),
    };
    let (c2p, p2c) = (kinds.split('|').any(|k| k.trim() == "c2p"), kinds.split('|').any(|k| k.trim() == "p2c"));
    let root_of = (e as f64 * (1.0 + f64::from(u8::from(c2p)) + f64::from(u8::from(p2c)))).sqrt();
    let buckets = c.number(&["position_buckets"], -1.0)?.max(0.0) as usize;
    let most = match c.number(&["max_relative_positions"], -1.0)? {
        n if n < 1.0 => max,
        n => n as usize,
    };
    let span = if buckets > 0 { buckets } else { most };
    if relative && (span > 1 << 20 || buckets == 1) {
        return Err(Error::invalid(format!("config.json: {span} relative positions are not usable")));
    }
    let distances = match relative {
        true => {
            let table = en.get("rel_embeddings.weight", &[2 * span, d])?;
            let norms = c.word(&["norm_rel_ebd"], "none")?.to_lowercase();
            Some(match norms.split('|').any(|k| k.trim() == "layer_norm") {
                true => Norm::layer(&en.sub("LayerNorm"), d, eps)?.apply(&table)?,
                false => table,
            })
        }
        false => None,
    };
    let share = c.flag(&["share_att_key"], false)?;
    let mut blocks = Vec::new();
    for i in 0..c.size(&["num_hidden_layers"])? {
        let mut b = block(
            &en.sub(format!("layer.{i}")),
            &c,
            &super::bert::Spelling {
                attention: [
                    "attention.self.query_proj",
                    "attention.self.key_proj",
                    "attention.self.value_proj",
                    "attention.output.dense",
                ],
                ..BERT
            },
            (d, eps, act),
            &MaskRule::Bidirectional,
        )?;
        let a = en.sub(format!("layer.{i}.attention.self"));
        b.attention.rule.scale = (1.0 / root_of) as f32;
        if let Some(table) = &distances {
            let heads = |map: &Linear| -> Result<Tensor> {
                Ok(map.apply(table)?.reshape((2 * span, h, e))?.transpose(0, 1)?.contiguous()?)
            };
            let own = |name: &str, shared: &Linear| -> Result<Tensor> {
                if share { heads(shared) } else { heads(&Linear::load(&a.sub(name), d, d, true)?) }
            };
            let keys = c2p.then(|| own("pos_key_proj", &b.attention.k)).transpose()?;
            let queries = p2c.then(|| own("pos_query_proj", &b.attention.q)).transpose()?;
            let bias = Disentangled { keys, queries, span, buckets, most, root: root_of };
            b.attention.bias = Some(Arc::new(bias));
        }
        blocks.push(b);
    }
    let words = em.get("word_embeddings.weight", &[vocab, narrow])?;
    let types = match c.count(&["type_vocab_size"], 0)? {
        0 => None,
        n => Some(em.get("token_type_embeddings.weight", &[n, narrow])?),
    };
    let positions = match c.flag(&["position_biased_input"], true)? {
        true => Some(em.get("position_embeddings.weight", &[max, narrow])?),
        false => None,
    };
    let project = (narrow != d).then(|| Linear::load(&em.sub("embed_proj"), narrow, d, false)).transpose()?;
    let conv = match c.count(&["conv_kernel_size"], 0)? {
        0 => None,
        size => {
            let s = en.sub("conv");
            let groups = c.size_opt(&["conv_groups"])?.unwrap_or(1);
            let weight = s.get("conv.weight", &[d, Config::split(d, groups, "groups")?, size])?;
            let act = Activation::parse(c.word(&["conv_act"], "tanh")?)?;
            let (bias, norm) = (s.get("conv.bias", &[d])?, Norm::layer(&s.sub("LayerNorm"), d, eps)?);
            Some(Conv { weight, bias, groups, act, norm })
        }
    };
    let heads = own_heads(&c, &root, &s, &words, (d, narrow, eps, act))?;
    let stack = Stack { blocks, order: Order::PostNorm, width: d };
    Encoder {
        positions,
        types,
        project,
        project_first: true,
        norm: Some(Norm::layer(&em.sub("LayerNorm"), d, eps)?),
        conv,
        ..Encoder::new(w, words, stack, heads, device)
    }
    .ready(Some(max).filter(|_| c.flag(&["position_biased_input"], true).unwrap_or(true)))
}

/// The heads of DeBERTa; those that are BERT's are read as BERT's.
fn own_heads(
    c: &Config,
    root: &Scope,
    s: &Scope,
    words: &Tensor,
    (d, narrow, eps, act): (usize, usize, f64, Activation),
) -> Result<Heads> {
    let architecture = c.architecture();
    let mut out = Heads::default();
    if architecture.ends_with("ForSequenceClassification") || architecture.ends_with("ForMultipleChoice") {
        let wide = c.size_opt(&["pooler_hidden_size"])?.unwrap_or(d);
        let dense = Linear::load(&root.sub("pooler.dense"), d, wide, true)?;
        let act = Activation::parse(c.word(&["pooler_hidden_act"], "gelu")?)?;
        out.labels = Some(Labels { dense, act, out: open_ended(&root.sub("classifier"), wide)?, name: "logits" });
        return Ok(out);
    }
    if architecture.ends_with("ForTokenClassification") || architecture.ends_with("ForQuestionAnswering") {
        return heads(c, "deberta-v2", root, s, words, (d, eps, act));
    }
    let (old, new) = (root.sub("cls.predictions"), root.sub("lm_predictions.lm_head"));
    let (dense, norm, own) = if old.has("transform.dense.weight") {
        (old.sub("transform.dense"), old.sub("transform.LayerNorm"), &old)
    } else if new.has("dense.weight") {
        (new.sub("dense"), new.sub("LayerNorm"), &new)
    } else {
        return Ok(out);
    };
    let vocab = words.dim(0)?;
    let last = own.sub("decoder");
    let matrix = if last.has("weight") { last.get("weight", &[vocab, narrow])? } else { words.clone() };
    let bias = if last.has("bias") { last.get("bias", &[vocab])? } else { own.get("bias", &[vocab])? };
    out.words = Some(Words {
        dense: Linear::load(&dense, d, narrow, true)?,
        act,
        norm: Norm::layer(&norm, narrow, eps)?,
        decoder: Linear::from_matrix(&matrix, Some(bias))?,
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_kept_near_and_grow_slowly_far() {
        // 8 buckets: up to 4 as they are; 8 of 64: ln 2 / ln(63 / 4) · 3 = 0.75, so 5.
        assert_eq!([3, -4, 8, -8, 63].map(|d| bucket(d, 8, 64)), [3, -4, 5, -5, 7]);
    }
}
