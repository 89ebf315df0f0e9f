//! GPTBigCode (SantaCoder, StarCoder): a GPT-2 all of whose heads read the keys and values of one.
//! Ben Allal et al. 2023, arXiv 2301.03988; Li et al. 2023, arXiv 2305.06161; Shazeer 2019, arXiv 1911.02150.

use super::Model;
use super::blocks::{Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Scope, Stack};
use super::decoder::{Decoder, End, Parts, Positions};
use super::gpt_neox::by_head;
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;

const DEFAULTS: Defaults =
    &[("vocab_size", 50257.0), ("n_positions", 1024.0), ("n_embd", 768.0), ("n_layer", 12.0), ("n_head", 12.0)];

/// Loads a checkpoint, with or without the `transformer.` prefix.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let (d, h) = (c.size(&["n_embd"])?, c.size(&["n_head"])?);
    let (vocab, max) = (c.size(&["vocab_size"])?, c.size(&["n_positions"])?);
    let inner = c.size_opt(&["n_inner"])?.unwrap_or(4 * d);
    let eps = c.eps(&["layer_norm_epsilon"], 1e-5)?;
    let act = Activation::parse(c.word(&["activation_function"], "gelu_pytorch_tanh")?)?;
    let e = Config::split(d, h, "heads")?;
    if c.flag(&["add_cross_attention"], false)? {
        return Err(Error::invalid("config.json: GPTBigCode with cross attention is not supported"));
    }
    let one = c.flag(&["multi_query"], true)?;
    let scale = if c.flag(&["scale_attn_weights"], true)? { (e as f32).powf(-0.5) } else { 1.0 };
    let root = Scope::root(w, device);
    let s = root.first(&["transformer", ""], "wte.weight");
    let mut blocks = Vec::new();
    for i in 0..c.size(&["n_layer"])? {
        let b = s.sub(format!("h.{i}"));
        let a = b.sub("attn");
        let [q, k, v] = match one {
            true => {
                let all = Linear::load(&a.sub("c_attn"), d, d + 2 * e, true)?;
                [all.slice(0, d)?, all.slice(d, e)?, all.slice(d + e, e)?]
            }
            false => by_head(&a.sub("c_attn"), d, h, true)?,
        };
        let rule = AttentionRule::new((h, if one { 1 } else { h }), e, MaskRule::Causal);
        blocks.push(Block {
            norm1: Norm::layer(&b.sub("ln_1"), d, eps)?,
            attention: Attention::new(
                [q, k, v, Linear::load(&a.sub("c_proj"), d, d, true)?],
                AttentionRule { scale, ..rule },
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
