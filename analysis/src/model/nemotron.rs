//! Nemotron-4 and Minitron: layer norms whose weight is stored less 1, half of each head turned, an MLP of squared ReLU
//! without gate. Parmar et al. 2024, arXiv 2402.16819; Muralidharan et al. 2024, arXiv 2407.14679.

use super::Model;
use super::blocks::{Config, Defaults, Part, Rope};
use super::form::{Form, Middle, Norms, Sizes};
use crate::Result;
use crate::trace::MaskRule;
use crate::weights::Weights;
use candle_core::Device;

const DEFAULTS: Defaults = &[
    ("vocab_size", 256_000.0),
    ("hidden_size", 6144.0),
    ("intermediate_size", 24576.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 48.0),
    ("max_position_embeddings", 4096.0),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let eps = c.eps(&["norm_eps"], 1e-5)?;
    let bias = c.flag(&["attention_bias"], false)?;
    let form = Form {
        norms: (Norms::AroundOne, eps),
        biases: [bias, bias, c.flag(&["mlp_bias"], false)?],
        middle: Middle::Plain(["up_proj", "down_proj"]),
        ..Form::new(&c, eps, "relu2")?
    };
    let rope = Rope::load(&c, Sizes::read(&c)?.e, None, Part::Of(0.5))?;
    form.load(w, &c, device, |_| Ok((Some(rope.clone()), MaskRule::Causal)))
}
