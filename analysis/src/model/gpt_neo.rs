//! GPT-Neo: a GPT-2 whose scores have no factor and every second of whose layers looks through a window.
//! Black et al. 2021, <https://doi.org/10.5281/zenodo.5297715>.

use super::Model;
use super::blocks::{Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Scope, Stack};
use super::decoder::{Decoder, End, Parts, Positions};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;
use serde_json::Value;

const DEFAULTS: Defaults = &[
    ("vocab_size", 50257.0),
    ("hidden_size", 2048.0),
    ("num_layers", 24.0),
    ("num_heads", 16.0),
    ("max_position_embeddings", 2048.0),
    ("window_size", 256.0),
];

/// Loads a checkpoint, with or without the `transformer.` prefix.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let (d, h) = (c.size(&["hidden_size"])?, c.size(&["num_heads"])?);
    let (vocab, max) = (c.size(&["vocab_size"])?, c.size(&["max_position_embeddings"])?);
    let inner = c.size_opt(&["intermediate_size"])?.unwrap_or(4 * d);
    let window = c.size(&["window_size"])?;
    let eps = c.eps(&["layer_norm_epsilon"], 1e-5)?;
    let act = Activation::parse(c.word(&["activation_function"], "gelu_new")?)?;
    let e = Config::split(d, h, "heads")?;
    let n_layers = c.size(&["num_layers"])?;
    let kinds = kinds(&c, n_layers)?;
    let root = Scope::root(w, device);
    let s = root.first(&["transformer", ""], "wte.weight");
    let mut blocks = Vec::new();
    for (i, near) in kinds.into_iter().enumerate() {
        let b = s.sub(format!("h.{i}"));
        let a = b.sub("attn.attention");
        let map = |name: &str| Linear::load(&a.sub(name), d, d, false);
        let mask = if near { MaskRule::SlidingWindow(window) } else { MaskRule::Causal };
        blocks.push(Block {
            norm1: Norm::layer(&b.sub("ln_1"), d, eps)?,
            attention: Attention::new(
                [map("q_proj")?, map("k_proj")?, map("v_proj")?, Linear::load(&a.sub("out_proj"), d, d, true)?],
                AttentionRule { scale: 1.0, ..AttentionRule::new((h, h), e, mask) },
                e,
            ),
            norm2: Norm::layer(&b.sub("ln_2"), d, eps)?,
            mlp: Mlp::plain(&b, ["mlp.c_fc", "mlp.c_proj"], (d, inner), true, act)?.into(),
            after1: None,
            after2: None,
        });
    }
    let embed = s.table("wte.weight", &[vocab, d])?;
    let tied = c.flag(&["tie_word_embeddings"], true)?;
    let end = End::load(&c, &root, &root.sub("lm_head"), &embed, tied)?;
    let parts = Parts {
        positions: Positions::Learned(s.get("wpe.weight", &[max, d])?),
        max: Some(max),
        ..Parts::of(embed, Stack { blocks, order: Order::PreNorm, width: d }, Norm::layer(&s.sub("ln_f"), d, eps)?, end)
    };
    Ok(Box::new(Decoder::new(w, parts)?))
}

/// Which layers look through the window, from `attention_types`: lists of kinds, and how often each is repeated.
fn kinds(c: &Config, n_layers: usize) -> Result<Vec<bool>> {
    let wrong = || Error::invalid("config.json: attention_types does not say global or local for each layer");
    let Some(types) = c.value(&["attention_types"]) else { return Ok((0..n_layers).map(|i| i % 2 == 1).collect()) };
    let mut out = Vec::new();
    for item in types.as_array().ok_or_else(wrong)? {
        let (list, times) = (item[0].as_array(), item[1].as_u64());
        let (list, times) = list.zip(times).ok_or_else(wrong)?;
        let near = |v: &Value| match v.as_str() {
            Some("global") => Ok(false),
            Some("local") => Ok(true),
            _ => Err(wrong()),
        };
        let list = list.iter().map(near).collect::<Result<Vec<_>>>()?;
        for _ in 0..times {
            if out.len() > n_layers || list.is_empty() {
                return Err(wrong());
            }
            out.extend(&list);
        }
    }
    if out.len() != n_layers {
        return Err(wrong());
    }
    Ok(out)
}
