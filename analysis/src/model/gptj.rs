//! GPT-J and CodeGen: neighbours are turned in a part of each head, attention and MLP stand side by side behind one norm,
//! the head has a bias. Wang and Komatsuzaki 2021, <https://github.com/kingoflolz/mesh-transformer-jax>; Nijkamp et al.
//! 2022, arXiv 2203.13474.

use super::Model;
use super::blocks::{Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Rope, Scope, Stack};
use super::decoder::{Decoder, End, Parts};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;

const DEFAULTS: Defaults = &[
    ("vocab_size", 50400.0),
    ("n_positions", 2048.0),
    ("n_embd", 4096.0),
    ("n_layer", 28.0),
    ("n_head", 16.0),
    ("rotary_dim", 64.0),
];

/// Parts that CodeGen's queries, values and keys are stored in, one after the other.
const SHARDS: usize = 4;

/// Loads a checkpoint, with or without the `transformer.` prefix.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let codegen = c.word(&["model_type"], "gptj")? == "codegen";
    let c = c.with(DEFAULTS);
    let (d, h) = (c.size(&["n_embd"])?, c.size(&["n_head"])?);
    let vocab = c.size(&["vocab_size"])?;
    let inner = c.size_opt(&["n_inner"])?.unwrap_or(4 * d);
    let eps = c.eps(&["layer_norm_epsilon"], 1e-5)?;
    let act = Activation::parse(c.word(&["activation_function"], "gelu_new")?)?;
    let e = Config::split(d, h, "heads")?;
    let turned = c.size_opt(&["rotary_dim"])?;
    let turned = turned.ok_or_else(|| Error::invalid("config.json: without rotary_dim this model is not supported"))?;
    let rope = Rope::of_part(10_000.0, turned, e)?.of_neighbours();
    let root = Scope::root(w, device);
    let s = root.first(&["transformer", ""], "wte.weight");
    let mut blocks = Vec::new();
    for i in 0..c.size(&["n_layer"])? {
        let b = s.sub(format!("h.{i}"));
        let a = b.sub("attn");
        let [q, k, v] = match codegen {
            true => sharded(&a.sub("qkv_proj"), d)?,
            false => {
                let map = |name: &str| Linear::load(&a.sub(name), d, d, false);
                [map("q_proj")?, map("k_proj")?, map("v_proj")?]
            }
        };
        let both = Norm::layer(&b.sub("ln_1"), d, eps)?;
        blocks.push(Block {
            norm1: both.clone(),
            attention: Attention {
                rope: Some(rope.clone()),
                ..Attention::new(
                    [q, k, v, Linear::load(&a.sub("out_proj"), d, d, false)?],
                    AttentionRule::new((h, h), e, MaskRule::Causal),
                    e,
                )
            },
            norm2: both,
            mlp: Mlp::plain(&b, ["mlp.fc_in", "mlp.fc_out"], (d, inner), true, act)?.into(),
            after1: None,
            after2: None,
        });
    }
    let embed = s.table("wte.weight", &[vocab, d])?;
    let tied = c.flag(&["tie_word_embeddings"], false)?;
    let end = End::load(&c, &root, &root.sub("lm_head"), &embed, tied)?;
    let parts = Parts {
        max: Some(c.size(&["n_positions"])?),
        ..Parts::of(
            embed,
            Stack { blocks, order: Order::Parallel, width: d },
            Norm::layer(&s.sub("ln_f"), d, eps)?,
            end,
        )
    };
    Ok(Box::new(Decoder::new(w, parts)?))
}

/// Queries, keys and values of CodeGen's one map.
fn sharded(s: &Scope, d: usize) -> Result<[Linear; 3]> {
    let weight = s.table("weight", &[3 * d, d])?;
    let part = Config::split(d, SHARDS, "parts of CodeGen's heads")?;
    let one = |of: usize| -> Result<Linear> {
        let rows: Vec<u32> = (0..d).map(|r| ((r / part * 3 + of) * part + r % part) as u32).collect();
        Linear::from_table(&weight.pick(&rows)?, None)
    };
    Ok([one(0)?, one(2)?, one(1)?])
}
