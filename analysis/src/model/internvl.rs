//! InternVL in the form of transformers: tiles of the best shape through InternViT, pixel shuffle, two maps, a language
//! model. Zhu et al. 2025, arXiv 2504.10479.

use super::blocks::{Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Scope, Stack};
use super::decoder::Decoder;
use super::patches::{Fit, PatchEmbed, shuffle};
use super::vision::{Sizes, VisionTower};
use super::vlm::{self, Connect, Features, Vlm};
use super::{Model, TowerRun};
use crate::ctx::Ctx;
use crate::image::ImageInput;
use crate::trace::{AttentionRule, MaskRule, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

const VISION: Defaults = &[
    ("hidden_size", 1024.0),
    ("intermediate_size", 4096.0),
    ("num_hidden_layers", 24.0),
    ("num_attention_heads", 16.0),
    ("image_size", 448.0),
    ("patch_size", 14.0),
];

struct InternVl {
    tower: VisionTower,
    norm: Norm,
    first: Linear,
    act: Activation,
    second: Linear,
    /// Hidden state that is read.
    layer: usize,
    /// Leading tokens that are left out.
    skip: usize,
    /// Patches per side that become one token.
    factor: usize,
}

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let root = Scope::root(w, device);
    let (vc, tc) = (vlm::part(&c, "vision_config")?.with(VISION), vlm::part(&c, "text_config")?);
    let s = root.first(&["model.vision_tower", "vision_tower"], "embeddings.cls_token");
    let tower = tower(&s, &vc)?;
    let text = text(w, &c, &tc, &root)?;
    let n = tower.stack.blocks.len() as i64;
    let layer = match c.value(&["vision_feature_layer"]) {
        None => Some(n),
        Some(v) => v.as_i64().map(|i| if i < 0 { i + n + 1 } else { i }),
    };
    let layer = layer.filter(|i| (0..=n).contains(i)).map(|i| i as usize);
    let layer = layer.ok_or_else(|| Error::invalid("config.json: vision_feature_layer is not a layer of the tower"))?;
    let skip = match c.word(&["vision_feature_select_strategy"], "default")? {
        "default" => 1,
        "full" => 0,
        other => {
            let e = format!("config.json: vision_feature_select_strategy {other} is not supported");
            return Err(Error::invalid(e));
        }
    };
    let ratio = c.number(&["downsample_ratio"], 0.5)?;
    let factor = (1.0 / ratio).round();
    if !(ratio > 0.0 && (1.0..=64.0).contains(&factor) && (ratio * factor - 1.0).abs() < 1e-6) {
        return Err(Error::invalid(format!("config.json: downsample_ratio {ratio} merges no patches")));
    }
    let factor = factor as usize;
    let p = root.first(&["model.multi_modal_projector", "multi_modal_projector"], "linear_1.weight");
    let (wide, d) = (tower.stack.width * factor * factor, text.width());
    let connector = InternVl {
        norm: Norm::layer(&p.sub("layer_norm"), wide, 1e-5)?,
        first: Linear::load(&p.sub("linear_1"), wide, d, true)?,
        act: Activation::parse(c.word(&["projector_hidden_act"], "gelu")?)?,
        second: Linear::load(&p.sub("linear_2"), d, d, true)?,
        tower,
        layer,
        skip,
        factor,
    };
    let image_token = vlm::image_token(&c, &["image_token_id", "image_token_index"], 151_667)?;
    let mut info = text.info().clone();
    info.towers.insert(Tower::Vision, connector.tower.info(true)?);
    Ok(Box::new(Vlm { info, connector, text, image_token }))
}

fn text(w: &Weights, c: &Config, tc: &Config, root: &Scope) -> Result<Decoder> {
    let newer = root.has("model.language_model.embed_tokens.weight");
    let names =
        if newer { ("model.language_model", "lm_head") } else { ("language_model.model", "language_model.lm_head") };
    vlm::text(w, tc, root, names, c.flag(&["tie_word_embeddings"], true)?)
}

/// InternViT below `s`.
fn tower(s: &Scope, c: &Config) -> Result<VisionTower> {
    let z = Sizes::read(c)?;
    let (d, e) = (z.d, Config::split(z.d, z.heads, "heads")?);
    let inner = c.size(&["intermediate_size"])?;
    let eps = c.eps(&["layer_norm_eps"], 1e-6)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu")?)?;
    let bias = c.flag(&["attention_bias"], false)?;
    let rms = match c.word(&["norm_type"], "layer_norm")? {
        "rms_norm" => true,
        "layer_norm" => false,
        other => return Err(Error::invalid(format!("config.json: norm_type {other} is not supported"))),
    };
    let norms = c.flag(&["use_qk_norm"], false)?;
    let mut blocks = Vec::new();
    for i in 0..z.layers {
        let b = s.sub(format!("encoder.layer.{i}"));
        let (a, m) = (b.sub("attention"), b.sub("mlp"));
        let norm = |name: &str| if rms { Norm::rms(&b.sub(name), d, eps) } else { Norm::layer(&b.sub(name), d, eps) };
        // These two keep the default of their class, whatever the configuration says.
        let of_heads = |name: &str| norms.then(|| Norm::rms(&a.sub(name), d, 1e-6)).transpose();
        let map = |name: &str| Linear::load(&a.sub(name), d, d, bias);
        blocks.push(Block {
            norm1: norm("layernorm_before")?,
            attention: Attention {
                q_norm: of_heads("q_norm")?,
                k_norm: of_heads("k_norm")?,
                ..Attention::new(
                    [
                        map("q_proj")?,
                        map("k_proj")?,
                        map("v_proj")?,
                        Linear::load(&a.sub("projection_layer"), d, d, true)?.scaled(&b.get("lambda_1", &[d])?)?,
                    ],
                    AttentionRule::new((z.heads, z.heads), e, MaskRule::Bidirectional),
                    e,
                )
            },
            norm2: norm("layernorm_after")?,
            mlp: Mlp {
                gate: None,
                up: Linear::load(&m.sub("fc1"), d, inner, true)?,
                down: Linear::load(&m.sub("fc2"), inner, d, true)?.scaled(&b.get("lambda_2", &[d])?)?,
                act,
            }
            .into(),
            after1: None,
            after2: None,
        });
    }
    let em = s.sub("embeddings");
    let absolute = c.flag(&["use_absolute_position_embeddings"], true)?;
    let table = match absolute {
        true => em.get("position_embeddings", &[1, z.positions() + 1, d])?.squeeze(0)?,
        false => Tensor::zeros((z.positions() + 1, d), candle_core::DType::F32, s.device())?,
    };
    let means = c.flag(&["use_mean_pooling"], true)?;
    Ok(VisionTower {
        patch: PatchEmbed::load(&em.sub("patch_embeddings.projection"), z.channels, z.sides, d)?,
        leading: Some(em.get("cls_token", &[1, 1, d])?.squeeze(0)?),
        leading_positions: Some(table.narrow(0, 0, 1)?),
        registers: None,
        positions: table.narrow(0, 1, z.positions())?.contiguous()?,
        table: z.grid,
        fit: Fit::Bicubic { antialias: false },
        pre_norm: None,
        stack: Stack { blocks, order: Order::PreNorm, width: d },
        post_norm: (!means).then(|| Norm::layer(&s.sub("layernorm"), d, eps)).transpose()?,
    })
}

impl Connect for InternVl {
    fn stack(&self) -> &Stack {
        &self.tower.stack
    }

    fn features(&self, image: &ImageInput, run: &mut TowerRun, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Features> {
        let (mut parts, mut out) = (Vec::new(), Features::default());
        for tile in 0..image.tiles.len() {
            let first = run.tokens.len();
            let t = self.tower.tile(image, tile, &[self.layer], run, tap, ctx)?;
            let (x, rows) = match self.layer == self.tower.stack.blocks.len() {
                true => (&t.last, &t.rows),
                false => (&t.hidden[0].0, &t.hidden[0].1),
            };
            if self.skip == 0 {
                return Err(Error::invalid("config.json: patches and a class token together form no grid"));
            }
            parts.push(shuffle((x, rows), first + self.skip, t.grid, self.factor, run, (tile, &mut out))?);
        }
        let x = self.first.apply(&self.norm.apply(&Tensor::cat(&parts, 0)?)?)?;
        out.x = self.second.apply(&self.act.apply(&x)?)?;
        Ok(out)
    }
}
