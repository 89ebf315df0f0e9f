//! DINOv3's ViT: patches are turned by where they lie in the picture, class and register tokens are not; no table of
//! positions, layer scale, MLPs with or without a gate. Siméoni et al. 2025, arXiv 2508.10104.

use super::blocks::{Activation, Block, Config, Defaults, Linear, Mlp, Norm, Order, Rope, Scope, Stack};
use super::patches::{Fit, PatchEmbed};
use super::vision::{Sizes, VisionTower, attention, row_of};
use super::{Input, Model, ModelInfo, Output, only};
use crate::ctx::Ctx;
use crate::trace::{MaskRule, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

struct Dinov3 {
    info: ModelInfo,
    tower: VisionTower,
    device: Device,
}

const DEFAULTS: Defaults = &[
    ("hidden_size", 384.0),
    ("intermediate_size", 1536.0),
    ("num_hidden_layers", 12.0),
    ("num_attention_heads", 6.0),
    ("image_size", 224.0),
    ("patch_size", 16.0),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(DEFAULTS);
    let z = Sizes::read(&c)?;
    let (d, inner) = (z.d, c.size(&["intermediate_size"])?);
    let eps = c.eps(&["layer_norm_eps"], 1e-5)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu")?)?;
    let gated = c.flag(&["use_gated_mlp"], false)?;
    let (o_bias, mlp_bias) = (c.flag(&["proj_bias"], true)?, c.flag(&["mlp_bias"], true)?);
    let biases = [("q_proj", "query_bias", true), ("k_proj", "key_bias", false), ("v_proj", "value_bias", true)];
    let rope = Rope::of_centres(c.number(&["rope_theta"], 100.0)?, Config::split(d, z.heads, "heads")?)?;
    let root = Scope::root(w, device);
    let s = root.first(&["model", "dinov3_vit", ""], "embeddings.cls_token");
    let mut blocks = Vec::new();
    for i in 0..z.layers {
        let b = root.first(&["model.layer", "dinov3_vit.layer", "layer"], &format!("{i}.norm1.weight")).sub(i);
        let (a, m) = (b.sub("attention"), b.sub("mlp"));
        let names = ["q_proj", "k_proj", "v_proj", "o_proj"];
        let mut own = attention(&a, names, (d, z.heads), (false, o_bias), MaskRule::Bidirectional)?;
        for (map, (name, key, default)) in [&mut own.q, &mut own.k, &mut own.v].into_iter().zip(biases) {
            *map = Linear::load(&a.sub(name), d, d, c.flag(&[key], default)?)?;
        }
        own.rope = Some(rope.clone());
        let wide = |name: &str| Linear::load(&m.sub(name), d, inner, mlp_bias);
        let mut mlp = Mlp {
            gate: gated.then(|| wide("gate_proj")).transpose()?,
            up: wide("up_proj")?,
            down: Linear::load(&m.sub("down_proj"), inner, d, mlp_bias)?,
            act,
        };
        // Layer scale goes into the last maps, so that output projections are what the residual stream gets.
        own.o = own.o.scaled(&b.get("layer_scale1.lambda1", &[d])?)?;
        mlp.down = mlp.down.scaled(&b.get("layer_scale2.lambda1", &[d])?)?;
        blocks.push(Block {
            norm1: Norm::layer(&b.sub("norm1"), d, eps)?,
            attention: own,
            norm2: Norm::layer(&b.sub("norm2"), d, eps)?,
            mlp: mlp.into(),
            after1: None,
            after2: None,
        });
    }
    let em = s.sub("embeddings");
    let registers = match c.count(&["num_register_tokens"], 0)? {
        0 => None,
        n => Some(em.get("register_tokens", &[1, n, d])?.squeeze(0)?),
    };
    let tower = VisionTower {
        patch: PatchEmbed::load(&em.sub("patch_embeddings"), z.channels, z.sides, d)?,
        leading: Some(em.get("cls_token", &[1, 1, d])?.squeeze(0)?),
        leading_positions: None,
        registers,
        positions: Tensor::zeros((1, d), DType::F32, device)?,
        table: (1, 1),
        fit: Fit::Unused,
        pre_norm: None,
        stack: Stack { blocks, order: Order::PreNorm, width: d },
        post_norm: Some(Norm::layer(&s.sub("norm"), d, eps)?),
    };
    let mut info = super::describe(w);
    info.towers.insert(Tower::Vision, tower.info(true)?);
    Ok(Box::new(Dinov3 { info, tower, device: device.clone() }))
}

impl Model for Dinov3 {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let mut out = Output::default();
        let t = self.tower.picture(input, &mut out, tap, ctx)?;
        out.extras.insert("pooler_output".into(), row_of(&t.last, &t.rows, 0)?.squeeze(0)?);
        out.extras.insert("last_hidden_state".into(), t.last);
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
