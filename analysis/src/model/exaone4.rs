//! EXAONE 4: norms of what the parts add and of each head's queries and keys; three of four layers slide, and the others
//! are not turned. LG AI Research 2025, arXiv 2507.11407.

use super::Model;
use super::blocks::{Config, Defaults, Order, Part, Rope};
use super::form::{Form, HeadNorms, Sizes, mask, slides};
use crate::Result;
use crate::trace::MaskRule;
use crate::weights::Weights;
use candle_core::Device;

const DEFAULTS: Defaults = &[
    ("vocab_size", 102_400.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 16384.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 32.0),
    ("max_position_embeddings", 2048.0),
    ("sliding_window", 4096.0),
    ("rms_norm_eps", 1e-5),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let form = Form {
        order: Order::OfParts,
        names: ["post_attention_layernorm", "post_feedforward_layernorm"],
        head_norms: HeadNorms::Each,
        biases: [false; 3],
        ..Form::new(&c, c.eps(&["rms_norm_eps"], 1e-5)?, "silu")?
    };
    let rope = Rope::load(&c, Sizes::read(&c)?.e, None, Part::Whole)?;
    let windows = c.size_opt(&["sliding_window"])?.is_some();
    let every = c.size_opt(&["sliding_window_pattern"])?.unwrap_or(4);
    form.load(w, &c, device, |i| {
        if !windows {
            return Ok((Some(rope.clone()), MaskRule::Causal));
        }
        let slides = slides(&c, i, every)?;
        Ok((slides.then(|| rope.clone()), mask(&c, slides)?))
    })
}
