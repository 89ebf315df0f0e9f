//! FasterVLM: keeps the image patches that the encoder's class token attends to most.
//!
//! Source: Zhang et al. 2024, "[CLS] Attention is All You Need for Training-Free Visual Token Pruning", arXiv 2412.01818.
//! Takes: the class row of one encoder layer `[views, heads, n]`, class column removed. Gives: the top k per view.
//! Departs: none known. Cost: O(heads · n).

use super::select::top_k;
use crate::ctx::Ctx;
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

/// Mean over heads of the class row: `[heads, n]` flattened → one score per patch.
pub fn scores(cls: &[f32], heads: usize) -> Vec<f32> {
    let n = cls.len() / heads.max(1);
    let mean = |j: usize| (0..heads).map(|h| f64::from(cls[h * n + j])).sum::<f64>() / heads.max(1) as f64;
    (0..n).map(|j| mean(j) as f32).collect()
}

/// Raw entry: `cls_attn` `[views, heads, n]` and `visual_token_num`.
pub(super) static ADAPTER: Adapter = Adapter { name: "fastervlm", methods: &["fastervlm"], run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let a = input.array("cls_attn")?;
    a.check_finite("cls_attn")?;
    let [views, heads, n] = a.dims("cls_attn")?;
    let k: usize = input.read("visual_token_num")?;
    if k > n {
        return Err(Error::invalid(format!("visual_token_num is {k}, but a view has {n} tokens")));
    }
    let (mut score, mut keep) = (Vec::new(), Vec::new());
    for v in 0..views {
        ctx.step(v, views)?;
        let s = scores(a.row(v), heads);
        keep.push(top_k(&s, k));
        score.push(s);
    }
    Ok(json!({ "score": score, "keep": keep }))
}
