//! StarCoder2: layer norms, biases everywhere, an MLP without gate, a window where the file names one.
//! Lozhkov et al. 2024, arXiv 2402.19173.

use super::Model;
use super::blocks::{Config, Defaults, Part, Rope};
use super::form::{Form, Middle, Norms, Sizes, mask};
use crate::Result;
use crate::weights::Weights;
use candle_core::Device;

const DEFAULTS: Defaults = &[
    ("vocab_size", 49152.0),
    ("hidden_size", 3072.0),
    ("intermediate_size", 12288.0),
    ("num_hidden_layers", 30.0),
    ("num_attention_heads", 24.0),
    ("num_key_value_heads", 2.0),
    ("max_position_embeddings", 4096.0),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let eps = c.eps(&["norm_epsilon"], 1e-5)?;
    let form = Form {
        norms: (Norms::Layer, eps),
        biases: [c.flag(&["use_bias"], true)?; 3],
        middle: Middle::Plain(["c_fc", "c_proj"]),
        tied: c.flag(&["tie_word_embeddings"], true)?,
        ..Form::new(&c, eps, "gelu_pytorch_tanh")?
    };
    let rope = Rope::load(&c, Sizes::read(&c)?.e, None, Part::Whole)?;
    let slides = c.size_opt(&["sliding_window"])?.is_some();
    form.load(w, &c, device, |_| Ok((Some(rope.clone()), mask(&c, slides)?)))
}
