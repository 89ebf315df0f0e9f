//! Command R and Command R7B (Cohere, Cohere 2): layer norms without bias, attention and MLP side by side behind one of
//! them, pairs beside each other that are turned, a factor on the logits; Cohere 2 slides, and turns only layers that do.
//! Cohere 2025, arXiv 2504.00698.

use super::Model;
use super::blocks::{Config, Defaults, Order, Part, Rope};
use super::form::{Form, HeadNorms, Norms, Sizes, mask, slides};
use crate::Result;
use crate::trace::MaskRule;
use crate::weights::Weights;
use candle_core::Device;

const DEFAULTS: Defaults = &[
    ("vocab_size", 256_000.0),
    ("hidden_size", 8192.0),
    ("intermediate_size", 22528.0),
    ("num_hidden_layers", 40.0),
    ("num_attention_heads", 64.0),
    ("max_position_embeddings", 8192.0),
    ("sliding_window", 4096.0),
    ("rope_theta", 500_000.0),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let second = c.word(&["model_type"], "cohere")? == "cohere2";
    let c = c.with(DEFAULTS);
    let eps = c.eps(&["layer_norm_eps"], 1e-5)?;
    let own = !second && c.flag(&["use_qk_norm"], false)?;
    let form = Form {
        norms: (Norms::Weighted, eps),
        order: Order::Parallel,
        names: ["input_layernorm"; 2],
        head_norms: if own { HeadNorms::Own } else { HeadNorms::None },
        biases: [c.flag(&["attention_bias"], false)?, c.flag(&["attention_bias"], false)?, false],
        logits: Some(c.number(&["logit_scale"], 0.0625)? as f32),
        tied: c.flag(&["tie_word_embeddings"], true)?,
        ..Form::new(&c, eps, "silu")?
    };
    let rope = Rope::load(&c, Sizes::read(&c)?.e, None, Part::Whole)?.of_neighbours();
    let every = c.size_opt(&["sliding_window_pattern"])?.unwrap_or(4);
    form.load(w, &c, device, |i| {
        let near = second && slides(&c, i, every)?;
        Ok(if second { (near.then(|| rope.clone()), mask(&c, near)?) } else { (Some(rope.clone()), MaskRule::Causal) })
    })
}
