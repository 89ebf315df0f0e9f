//! StableLM: layer norms, a quarter of each head turned; some have norms of each head with weights of their own, or
//! attention and MLP side by side. Bellagente et al. 2024, arXiv 2402.17834.

use super::Model;
use super::blocks::{Config, Defaults, Order, Part, Rope};
use super::form::{Form, HeadNorms, Norms, Sizes};
use crate::Result;
use crate::trace::MaskRule;
use crate::weights::Weights;
use candle_core::Device;

const DEFAULTS: Defaults = &[
    ("vocab_size", 50304.0),
    ("hidden_size", 2560.0),
    ("intermediate_size", 6912.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 32.0),
    ("max_position_embeddings", 4096.0),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let eps = c.eps(&["layer_norm_eps"], 1e-5)?;
    let parallel = c.flag(&["use_parallel_residual"], false)?;
    let form = Form {
        norms: (Norms::Layer, eps),
        order: if parallel { Order::Parallel } else { Order::PreNorm },
        names: ["input_layernorm", if parallel { "input_layernorm" } else { "post_attention_layernorm" }],
        head_norms: if c.flag(&["qk_layernorm"], false)? { HeadNorms::Own } else { HeadNorms::None },
        biases: [c.flag(&["use_qkv_bias"], false)?, false, false],
        ..Form::new(&c, eps, "silu")?
    };
    let rope = Rope::load(&c, Sizes::read(&c)?.e, None, Part::Of(0.25))?;
    form.load(w, &c, device, |_| Ok((Some(rope.clone()), MaskRule::Causal)))
}
