//! Ministral, Arcee, Seed-OSS and Helium: Llamas with a setting of their own each. Mistral AI 2024,
//! <https://mistral.ai/news/ministraux>; Arcee AI 2025; ByteDance Seed 2025; Kyutai 2025.

use super::Model;
use super::blocks::{Config, Defaults, Part, Rope};
use super::form::{Form, Middle, Sizes, mask, slides};
use crate::Result;
use crate::trace::MaskRule;
use crate::weights::Weights;
use candle_core::Device;

const MINISTRAL: Defaults = &[
    ("vocab_size", 32000.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 14336.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 8.0),
    ("max_position_embeddings", 131_072.0),
    ("sliding_window", 4096.0),
];
const ARCEE: Defaults = &[
    ("vocab_size", 32000.0),
    ("hidden_size", 2560.0),
    ("intermediate_size", 18432.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("max_position_embeddings", 4096.0),
];
const SEED: Defaults = &[
    ("vocab_size", 155_136.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 27648.0),
    ("num_hidden_layers", 64.0),
    ("num_attention_heads", 80.0),
    ("num_key_value_heads", 8.0),
    ("head_dim", 128.0),
    ("max_position_embeddings", 524_288.0),
];
const HELIUM: Defaults = &[
    ("vocab_size", 48000.0),
    ("hidden_size", 2560.0),
    ("intermediate_size", 7040.0),
    ("num_hidden_layers", 24.0),
    ("num_attention_heads", 20.0),
    ("num_key_value_heads", 20.0),
    ("head_dim", 128.0),
    ("max_position_embeddings", 4096.0),
    ("rope_theta", 100_000.0),
];

/// Loads a Ministral: layers slide as `layer_types` says, else all of them where there is a window.
pub(super) fn ministral(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(MINISTRAL);
    let form = Form { biases: [false; 3], ..Form::new(&c, c.eps(&["rms_norm_eps"], 1e-6)?, "silu")? };
    let rope = Rope::load(&c, Sizes::read(&c)?.e, None, Part::Whole)?;
    let windows = c.size_opt(&["sliding_window"])?.is_some();
    form.load(w, &c, device, |i| {
        let slides = if c.value(&["layer_types"]).is_some() { slides(&c, i, 1)? } else { windows };
        Ok((Some(rope.clone()), mask(&c, slides)?))
    })
}

/// Loads an Arcee: an MLP of squared ReLU without gate.
pub(super) fn arcee(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(ARCEE);
    let bias = c.flag(&["attention_bias"], false)?;
    let form = Form {
        biases: [bias, bias, c.flag(&["mlp_bias"], false)?],
        middle: Middle::Plain(["up_proj", "down_proj"]),
        ..Form::new(&c, c.eps(&["rms_norm_eps"], 1e-5)?, "relu2")?
    };
    whole(w, &c, form, device, false)
}

/// Loads a Seed-OSS: a bias of the output map by itself.
pub(super) fn seed_oss(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(SEED);
    let form = Form {
        biases: [
            c.flag(&["attention_bias"], true)?,
            c.flag(&["attention_out_bias"], false)?,
            c.flag(&["mlp_bias"], false)?,
        ],
        ..Form::new(&c, c.eps(&["rms_norm_eps"], 1e-6)?, "silu")?
    };
    whole(w, &c, form, device, false)
}

/// Loads a Helium: neighbours are turned.
pub(super) fn helium(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(HELIUM);
    let form = Form {
        biases: [c.flag(&["attention_bias"], false)?, false, c.flag(&["mlp_bias"], false)?],
        ..Form::new(&c, c.eps(&["rms_norm_eps"], 1e-8)?, "silu")?
    };
    whole(w, &c, form, device, true)
}

/// Loads a model all of whose layers see everything before them and are turned alike.
fn whole(w: &Weights, c: &Config, form: Form, device: &Device, neighbours: bool) -> Result<Box<dyn Model>> {
    let rope = Rope::load(c, Sizes::read(c)?.e, None, Part::Whole)?;
    let rope = if neighbours { rope.of_neighbours() } else { rope };
    form.load(w, c, device, |_| Ok((Some(rope.clone()), MaskRule::Causal)))
}
