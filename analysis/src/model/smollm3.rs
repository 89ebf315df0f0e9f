//! SmolLM3: a Llama that does not turn every fourth layer. Bakouch et al. 2025,
//! <https://huggingface.co/blog/smollm3>; Yang et al. 2025, arXiv 2501.18795.

use super::Model;
use super::blocks::{Config, Defaults, Part, Rope};
use super::form::{Form, Sizes, mask};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;

const DEFAULTS: Defaults = &[
    ("vocab_size", 128_256.0),
    ("hidden_size", 2048.0),
    ("intermediate_size", 11008.0),
    ("num_hidden_layers", 36.0),
    ("num_attention_heads", 16.0),
    ("num_key_value_heads", 4.0),
    ("max_position_embeddings", 32768.0),
    ("rope_theta", 2e6),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let bias = c.flag(&["attention_bias"], false)?;
    let form = Form {
        biases: [bias, bias, c.flag(&["mlp_bias"], false)?],
        tied: c.flag(&["tie_word_embeddings"], true)?,
        ..Form::new(&c, c.eps(&["rms_norm_eps"], 1e-6)?, "silu")?
    };
    let rope = Rope::load(&c, Sizes::read(&c)?.e, None, Part::Whole)?;
    let every = c.size_opt(&["no_rope_layer_interval"])?.unwrap_or(4);
    let turned = |i: usize| match c.value(&["no_rope_layers"]) {
        // The list says 1 where a layer is turned, whatever its name.
        Some(list) => list.get(i).and_then(|v| v.as_u64().or_else(|| v.as_bool().map(u64::from))).map(|v| v != 0),
        None => Some(!(i + 1).is_multiple_of(every)),
    };
    let windows = c.flag(&["use_sliding_window"], false)? && c.value(&["sliding_window"]).is_some();
    form.load(w, &c, device, |i| {
        let turned =
            turned(i).ok_or_else(|| Error::invalid("config.json: no_rope_layers is not one number a layer"))?;
        let slides = match c.value(&["layer_types"]) {
            Some(_) => super::form::slides(&c, i, 1)?,
            None => windows && !turned,
        };
        Ok((turned.then(|| rope.clone()), mask(&c, slides)?))
    })
}
