//! DINOv2 with and without registers: layer scale, optional gated MLP, positions interpolated to the input.
//! Oquab et al. 2023, arXiv 2304.07193; Darcet et al. 2023, arXiv 2309.16588.

use super::blocks::{Activation, Block, Config, Defaults, Linear, Mlp, Norm, Order, Scope, Stack};
use super::patches::{Fit, PatchEmbed};
use super::vision::{Sizes, VisionTower, attention, patch_mean, put_labels, row_of};
use super::{Input, Model, ModelInfo, Output, only};
use crate::ctx::Ctx;
use crate::trace::{MaskRule, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

struct Dinov2 {
    info: ModelInfo,
    tower: VisionTower,
    classifier: Option<Linear>,
    device: Device,
}

const DEFAULTS: Defaults = &[
    ("hidden_size", 768.0),
    ("num_hidden_layers", 12.0),
    ("num_attention_heads", 12.0),
    ("image_size", 224.0),
    ("patch_size", 14.0),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let z = Sizes::read(&c)?;
    let d = z.d;
    let eps = c.eps(&["layer_norm_eps"], 1e-6)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu")?)?;
    let qkv_bias = c.flag(&["qkv_bias"], true)?;
    let swiglu = c.flag(&["use_swiglu_ffn"], false)?;
    let with_registers = c.word(&["model_type"], "dinov2")? == "dinov2_with_registers";
    let ratio = c.number(&["mlp_ratio"], 4.0)?;
    let plain = d as f64 * ratio;
    if !(1.0..=1e7).contains(&plain) {
        return Err(Error::invalid(format!("config.json: mlp_ratio {ratio} gives no usable width")));
    }
    let plain = plain as usize;
    // The gated form keeps the parameter count of the plain one, rounded up to a multiple of 8.
    let inner = if swiglu { ((plain as f64 * 2.0 / 3.0) as usize).div_ceil(8) * 8 } else { plain };
    let root = Scope::root(w, device);
    let s = root.first(&["dinov2", "dinov2_with_registers", ""], "embeddings.cls_token");
    let mut blocks = Vec::new();
    for i in 0..z.layers {
        let b = s.sub(format!("encoder.layer.{i}"));
        let names = ["attention.query", "attention.key", "attention.value", "output.dense"];
        let mut attention =
            attention(&b.sub("attention"), names, (d, z.heads), (qkv_bias, true), MaskRule::Bidirectional)?;
        let m = b.sub("mlp");
        let mut mlp = if swiglu {
            let both = Linear::load(&m.sub("weights_in"), d, 2 * inner, true)?;
            Mlp {
                gate: Some(both.slice(0, inner)?),
                up: both.slice(inner, inner)?,
                down: Linear::load(&m.sub("weights_out"), inner, d, true)?,
                act: Activation::Silu,
            }
        } else {
            Mlp::plain(&m, ["fc1", "fc2"], (d, inner), true, act)?
        };
        // Layer scale goes into the last maps, so that output projections are what the residual stream gets.
        attention.o = attention.o.scaled(&b.get("layer_scale1.lambda1", &[d])?)?;
        mlp.down = mlp.down.scaled(&b.get("layer_scale2.lambda1", &[d])?)?;
        blocks.push(Block {
            norm1: Norm::layer(&b.sub("norm1"), d, eps)?,
            attention,
            norm2: Norm::layer(&b.sub("norm2"), d, eps)?,
            mlp: mlp.into(),
            after1: None,
            after2: None,
        });
    }
    let em = s.sub("embeddings");
    let positions = em.get("position_embeddings", &[1, z.positions() + 1, d])?.squeeze(0)?;
    let registers = if with_registers {
        let n = c.count(&["num_register_tokens"], 4)?;
        if n == 0 { None } else { Some(em.get("register_tokens", &[1, n, d])?.squeeze(0)?) }
    } else {
        None
    };
    let tower = VisionTower {
        patch: PatchEmbed::load(&em.sub("patch_embeddings.projection"), z.channels, z.sides, d)?,
        leading: Some(em.get("cls_token", &[1, 1, d])?.squeeze(0)?),
        leading_positions: Some(positions.narrow(0, 0, 1)?),
        registers,
        positions: positions.narrow(0, 1, z.positions())?.contiguous()?,
        table: z.grid,
        fit: Fit::Bicubic { antialias: with_registers },
        pre_norm: None,
        stack: Stack { blocks, order: Order::PreNorm, width: d },
        post_norm: Some(Norm::layer(&s.sub("layernorm"), d, eps)?),
    };
    let classifier = match root.shape("classifier.weight") {
        Some(&[labels, _]) => Some(Linear::load(&root.sub("classifier"), 2 * d, labels, true)?),
        _ => None,
    };
    let mut info = super::describe(w);
    info.towers.insert(Tower::Vision, tower.info(true)?);
    info.vocab = classifier.as_ref().map_or(Ok(0), Linear::outputs)?;
    Ok(Box::new(Dinov2 { info, tower, classifier, device: device.clone() }))
}

impl Model for Dinov2 {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let mut out = Output::default();
        let t = self.tower.picture(input, &mut out, tap, ctx)?;
        let class = row_of(&t.last, &t.rows, 0)?;
        if let Some(head) = &self.classifier {
            let mean = patch_mean(&t.last, &t.rows, self.tower.n_leading()?)?;
            let logits = head.apply(&Tensor::cat(&[class, mean], 1)?)?;
            let layer = self.tower.stack.blocks.len();
            put_labels(&mut out, logits, (layer, &t.rows, t.rows.row_of(0).unwrap_or(0)), tap)?;
        } else {
            out.extras.insert("pooler_output".into(), class.squeeze(0)?);
            out.extras.insert("last_hidden_state".into(), t.last);
        }
        Ok(out)
    }

    fn stack(&self, tower: Tower) -> Result<&Stack> {
        only(&self.tower.stack, Tower::Vision, tower)
    }

    fn lens(&self, _resid: &Tensor) -> Result<Tensor> {
        Err(Error::invalid("this model has no head that reads single tokens"))
    }

    fn device(&self) -> &Device {
        &self.device
    }
}
