//! GLM-4: neighbours are turned in half of each head, gate and first map of the MLP are one; GLM-4-0414 (`glm4`) has
//! norms behind the parts, too. Team GLM 2024, arXiv 2406.12793.

use super::Model;
use super::blocks::{Config, Defaults, Part, Rope};
use super::form::{Form, Middle, Sizes};
use crate::Result;
use crate::trace::MaskRule;
use crate::weights::Weights;
use candle_core::Device;

const DEFAULTS: Defaults = &[
    ("vocab_size", 151_552.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 13696.0),
    ("num_hidden_layers", 40.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 2.0),
    ("head_dim", 128.0),
    ("max_position_embeddings", 131_072.0),
    ("rms_norm_eps", 1.5625e-7),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let later = c.word(&["model_type"], "glm")? == "glm4";
    let c = c.with(DEFAULTS);
    let form = Form {
        after: later.then_some(["post_self_attn_layernorm", "post_mlp_layernorm"]),
        biases: [c.flag(&["attention_bias"], true)?, false, false],
        middle: Middle::Joined,
        ..Form::new(&c, c.eps(&["rms_norm_eps"], 1e-5)?, "silu")?
    };
    let rope = Rope::load(&c, Sizes::read(&c)?.e, None, Part::Of(0.5))?.of_neighbours();
    form.load(w, &c, device, |_| Ok((Some(rope.clone()), MaskRule::Causal)))
}
