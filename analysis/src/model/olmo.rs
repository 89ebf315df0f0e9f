//! OLMo and OLMo 3: the first has layer norms without weights and may keep queries, keys and values within bounds; the
//! third has the norms of OLMo 2, and layers that slide, which nothing stretches.
//! Groeneveld et al. 2024, arXiv 2402.00838; Team Olmo 2025, <https://allenai.org/olmo>.

use super::Model;
use super::blocks::{Config, Defaults, Order, Part, Rope};
use super::form::{Form, HeadNorms, Norms, Sizes, mask, slides};
use crate::trace::MaskRule;
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;

const OLMO: Defaults = &[
    ("vocab_size", 50304.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 11008.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("max_position_embeddings", 2048.0),
];
const OLMO3: Defaults = &[
    ("vocab_size", 50304.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 11008.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("max_position_embeddings", 2048.0),
    ("sliding_window", 4096.0),
    ("rms_norm_eps", 1e-5),
    ("rope_theta", 500_000.0),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    if c.word(&["model_type"], "olmo")? == "olmo3" {
        return third(w, &c.with(OLMO3), device);
    }
    let c = c.with(OLMO);
    let clip = c.value(&["clip_qkv"]).map(|_| c.number(&["clip_qkv"], 0.0)).transpose()?;
    if clip.is_some_and(|by| by <= 0.0) {
        return Err(Error::invalid("config.json: clip_qkv is not positive"));
    }
    let bias = c.flag(&["attention_bias"], false)?;
    let form = Form {
        norms: (Norms::Bare, 1e-5),
        clip: clip.map(|by| by as f32),
        biases: [bias, bias, false],
        ..Form::new(&c, 1e-5, "silu")?
    };
    let rope = Rope::load(&c, Sizes::read(&c)?.e, None, Part::Whole)?;
    form.load(w, &c, device, |_| Ok((Some(rope.clone()), MaskRule::Causal)))
}

fn third(w: &Weights, c: &Config, device: &Device) -> Result<Box<dyn Model>> {
    let bias = c.flag(&["attention_bias"], false)?;
    let form = Form {
        order: Order::OfParts,
        names: ["post_attention_layernorm", "post_feedforward_layernorm"],
        head_norms: HeadNorms::Together,
        biases: [bias, bias, false],
        ..Form::new(c, c.eps(&["rms_norm_eps"], 1e-5)?, "silu")?
    };
    let e = Sizes::read(c)?.e;
    let far = Rope::load(c, e, Some("full_attention"), Part::Whole)?;
    let near = match c.sub("rope_parameters").and_then(|p| p.sub("sliding_attention")) {
        Some(_) => Rope::load(c, e, Some("sliding_attention"), Part::Whole)?,
        // What the file says of the base is about the other layers.
        None => Rope::plain(500_000.0, e)?,
    };
    form.load(w, c, device, |i| {
        let slides = slides(c, i, 4)?;
        Ok((Some(if slides { near.clone() } else { far.clone() }), mask(c, slides)?))
    })
}
