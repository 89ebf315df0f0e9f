//! BLOOM: scores that grow from key to key instead of positions, a norm behind the token table.
//! BigScience 2022, arXiv 2211.05100; Press et al. 2021, arXiv 2108.12409.

use super::Model;
use super::blocks::{Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Scope, Slopes, Stack};
use super::decoder::{Decoder, End, Parts};
use super::gpt_neox::by_head;
use crate::Result;
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use candle_core::Device;

const DEFAULTS: Defaults = &[("vocab_size", 250_880.0), ("hidden_size", 64.0), ("n_layer", 2.0), ("n_head", 8.0)];

/// Loads a checkpoint, with or without the `transformer.` prefix.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    // Files of the first checkpoints call it otherwise.
    let d = match c.value(&["n_embed"]) {
        Some(_) => c.size(&["n_embed"])?,
        None => c.size(&["hidden_size"])?,
    };
    let h = c.size(&["n_head", "num_attention_heads"])?;
    let vocab = c.size(&["vocab_size"])?;
    let eps = c.eps(&["layer_norm_epsilon"], 1e-5)?;
    let e = Config::split(d, h, "heads")?;
    let order = match c.flag(&["apply_residual_connection_post_layernorm"], false)? {
        true => Order::OnNorms,
        false => Order::PreNorm,
    };
    let root = Scope::root(w, device);
    let s = root.first(&["transformer", ""], "word_embeddings.weight");
    let mut blocks = Vec::new();
    for i in 0..c.size(&["n_layer", "num_hidden_layers"])? {
        let b = s.sub(format!("h.{i}"));
        let a = b.sub("self_attention");
        let [q, k, v] = by_head(&a.sub("query_key_value"), d, h, true)?;
        blocks.push(Block {
            norm1: Norm::layer(&b.sub("input_layernorm"), d, eps)?,
            attention: Attention {
                slopes: Some(Slopes::exact(slopes(h))),
                ..Attention::new(
                    [q, k, v, Linear::load(&a.sub("dense"), d, d, true)?],
                    AttentionRule::new((h, h), e, MaskRule::Causal),
                    e,
                )
            },
            norm2: Norm::layer(&b.sub("post_attention_layernorm"), d, eps)?,
            mlp: Mlp::plain(&b, ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], (d, 4 * d), true, Activation::GeluTanh)?
                .into(),
            after1: None,
            after2: None,
        });
    }
    let embed = s.table("word_embeddings.weight", &[vocab, d])?;
    let tied = c.flag(&["tie_word_embeddings"], true)?;
    let end = End::load(&c, &root, &root.sub("lm_head"), &embed, tied)?;
    let parts = Parts::of(embed, Stack { blocks, order, width: d }, Norm::layer(&s.sub("ln_f"), d, eps)?, end);
    let first = Norm::layer(&s.sub("word_embeddings_layernorm"), d, eps)?;
    Ok(Box::new(Decoder::new(w, parts)?.that_normalises(first)))
}

/// What scores grow by from a key to the next one: powers of 2 between 1 and 2^-8, of every other one for the heads
/// beyond the last power of 2.
pub(super) fn slopes(heads: usize) -> Vec<f32> {
    let even = 1usize << heads.max(1).ilog2();
    let of = |n: usize, i: usize| 2f64.powf(-8.0 * i as f64 / n as f64) as f32;
    let more = (0..heads - even).map(|i| of(2 * even, 2 * i + 1));
    (1..=even).map(|i| of(even, i)).chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_of_heads_that_are_no_power_of_two_lie_between_the_others() {
        assert_eq!(slopes(2), [0.0625, 0.003_906_25]);
        assert_eq!(slopes(3), [0.0625, 0.003_906_25, 0.25]);
    }
}
