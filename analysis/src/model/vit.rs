//! ViT, DeiT, MSN and I-JEPA, with or without pooler and classifier; I-JEPA has no class token, and reads the mean.
//! Dosovitskiy et al. 2020, arXiv 2010.11929; Touvron et al. 2020, arXiv 2012.12877; Assran et al. 2022, arXiv 2204.07141;
//! 2023, arXiv 2301.08243.

use super::blocks::{Activation, Block, Config, Linear, Mlp, Norm, Order, Scope, Stack};
use super::patches::{Fit, PatchEmbed};
use super::vision::{BASE, Pixels, Sizes, VisionTower, attention, patch_mean, patch_rows, put_labels, row_of};
use super::{Input, Model, ModelInfo, Output, only};
use crate::ctx::Ctx;
use crate::trace::{MaskRule, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

struct Vit {
    info: ModelInfo,
    tower: VisionTower,
    norm: Norm,
    pooler: Option<(Linear, Activation)>,
    /// One classifier per leading token; DeiT with a teacher has two, and their mean counts.
    classifiers: Vec<Linear>,
    /// What guesses the pixels of masked patches.
    pixels: Option<Pixels>,
    device: Device,
}

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(BASE);
    let z = Sizes::read(&c)?;
    let d = z.d;
    let inner = c.size(&["intermediate_size"])?;
    let eps = c.eps(&["layer_norm_eps"], 1e-12)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu")?)?;
    let qkv_bias = c.flag(&["qkv_bias"], true)?;
    let root = Scope::root(w, device);
    let s = root.first(&["vit", "deit", "ijepa", ""], "embeddings.patch_embeddings.projection.weight");
    // MSN with a classifier is saved with its layers beside the rest of the encoder.
    let layers = if s.has("encoder.layer.0.layernorm_before.weight") { &s } else { &root };
    let mut blocks = Vec::new();
    for i in 0..z.layers {
        let b = layers.sub(format!("encoder.layer.{i}"));
        let names = ["attention.query", "attention.key", "attention.value", "output.dense"];
        blocks.push(Block {
            norm1: Norm::layer(&b.sub("layernorm_before"), d, eps)?,
            attention: attention(&b.sub("attention"), names, (d, z.heads), (qkv_bias, true), MaskRule::Bidirectional)?,
            norm2: Norm::layer(&b.sub("layernorm_after"), d, eps)?,
            mlp: Mlp::plain(&b, ["intermediate.dense", "output.dense"], (d, inner), true, act)?.into(),
            after1: None,
            after2: None,
        });
    }
    let em = s.sub("embeddings");
    let mut leading = Vec::new();
    for name in ["cls_token", "distillation_token"] {
        if em.has(name) {
            leading.push(em.get(name, &[1, 1, d])?.squeeze(0)?);
        }
    }
    let n_lead = leading.len();
    let positions = em.get("position_embeddings", &[1, z.positions() + n_lead, d])?.squeeze(0)?;
    let norm = Norm::layer(&s.sub("layernorm"), d, eps)?;
    let tower = VisionTower {
        patch: PatchEmbed::load(&em.sub("patch_embeddings.projection"), z.channels, z.sides, d)?,
        leading: (n_lead > 0).then(|| Tensor::cat(&leading, 0)).transpose()?,
        leading_positions: (n_lead > 0).then(|| positions.narrow(0, 0, n_lead)).transpose()?,
        registers: None,
        positions: positions.narrow(0, n_lead, z.positions())?.contiguous()?,
        table: z.grid,
        fit: Fit::Bicubic { antialias: false },
        pre_norm: None,
        stack: Stack { blocks, order: Order::PreNorm, width: d },
        post_norm: Some(norm.clone()),
    };
    let mut classifiers = Vec::new();
    for name in ["classifier", "cls_classifier", "distillation_classifier"] {
        let h = root.sub(name);
        if let Some(&[labels, _]) = h.shape("weight") {
            classifiers.push(Linear::load(&h, d, labels, true)?);
        }
    }
    let pooler = match s.shape("pooler.dense.weight") {
        // A classifier is loaded by transformers without the pooler, whatever the file holds.
        Some(&[size, _]) if classifiers.is_empty() => {
            let act = Activation::parse(c.word(&["pooler_act"], "tanh")?)?;
            Some((Linear::load(&s.sub("pooler.dense"), d, size, true)?, act))
        }
        _ => None,
    };
    let pixels = root.has("decoder.0.weight").then(|| Pixels::load(&root, &c, (d, z.channels))).transpose()?;
    let mut info = super::describe(w);
    info.towers.insert(Tower::Vision, tower.info(n_lead > 0)?);
    info.vocab = classifiers.first().map_or(Ok(0), Linear::outputs)?;
    Ok(Box::new(Vit { info, tower, norm, pooler, classifiers, pixels, device: device.clone() }))
}

impl Model for Vit {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let mut out = Output::default();
        let t = self.tower.picture(input, &mut out, tap, ctx)?;
        if !self.classifiers.is_empty() {
            let mut sum: Option<Tensor> = None;
            for (i, head) in self.classifiers.iter().enumerate() {
                let read = match self.tower.leading {
                    Some(_) => row_of(&t.last, &t.rows, i)?,
                    None => patch_mean(&t.last, &t.rows, 0)?,
                };
                let y = head.apply(&read)?;
                if self.classifiers.len() > 1 {
                    let name = if i == 0 { "cls_logits" } else { "distillation_logits" };
                    out.extras.insert(name.into(), y.squeeze(0)?);
                }
                sum = Some(match sum {
                    Some(s) => (s + y)?,
                    None => y,
                });
            }
            let mut logits = sum.ok_or_else(|| Error::invalid("the model has no classifier"))?;
            if self.classifiers.len() > 1 {
                logits = (logits / self.classifiers.len() as f64)?;
            }
            let layer = self.tower.stack.blocks.len();
            put_labels(&mut out, logits, (layer, &t.rows, t.rows.row_of(0).unwrap_or(0)), tap)?;
        } else if let Some(pixels) = &self.pixels {
            let patches = patch_rows(&t.last, &t.rows, self.tower.n_leading()?)?;
            out.extras.insert("reconstruction".into(), pixels.apply(&patches, t.grid)?);
        } else {
            if let Some((dense, act)) = &self.pooler {
                let pooled = act.apply(&dense.apply(&row_of(&t.last, &t.rows, 0)?)?)?;
                out.extras.insert("pooler_output".into(), pooled.squeeze(0)?);
            }
            out.extras.insert("last_hidden_state".into(), t.last);
        }
        Ok(out)
    }

    fn stack(&self, tower: Tower) -> Result<&Stack> {
        only(&self.tower.stack, Tower::Vision, tower)
    }

    fn lens(&self, resid: &Tensor) -> Result<Tensor> {
        let head = self.classifiers.first().filter(|_| self.tower.leading.is_some());
        let head = head.ok_or_else(|| Error::invalid("this model has no classifier that reads single tokens"))?;
        head.apply(&self.norm.apply(resid)?)
    }

    fn device(&self) -> &Device {
        &self.device
    }
}
