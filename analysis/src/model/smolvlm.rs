//! Idefics3 and SmolVLM: every tile through a SigLIP-like tower, pixel shuffle, one linear map, a Llama.
//! Laurençon et al. 2024, arXiv 2408.12637; Marafioti et al. 2025, arXiv 2504.05299.

use super::blocks::{Config, Linear, Scope, Stack};
use super::patches::{Fit, shuffle};
use super::vision::VisionTower;
use super::vlm::{self, Connect, Features, Vlm};
use super::{Model, TowerRun, siglip};
use crate::ctx::Ctx;
use crate::image::ImageInput;
use crate::trace::{Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

struct Shuffle {
    tower: VisionTower,
    proj: Linear,
    /// Patches per side that become one token.
    factor: usize,
}

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let (vc, tc) = (vlm::part(&c, "vision_config")?.with(siglip::IDEFICS), vlm::part(&c, "text_config")?);
    let factor = c.size_opt(&["scale_factor"])?.unwrap_or(2);
    let root = Scope::root(w, device);
    let s = root.first(&["model.vision_model", "vision_model"], "embeddings.patch_embedding.weight");
    let tower = siglip::tower(&s, &vc, Fit::Buckets)?;
    let base = if root.has("text_model.embed_tokens.weight") { "text_model" } else { "model.text_model" };
    let text = vlm::text(w, &tc, &root, (base, "lm_head"), c.flag(&["tie_word_embeddings"], false)?)?;
    let p = root.first(&["model.connector", "connector"], "modality_projection.proj.weight");
    let wide = tower
        .stack
        .width
        .checked_mul(factor * factor)
        .ok_or_else(|| Error::invalid("config.json: scale_factor is too large"))?;
    let proj = Linear::load(&p.sub("modality_projection.proj"), wide, text.width(), false)?;
    let image_token = vlm::image_token(&c, &["image_token_id", "image_token_index"], 128_257)?;
    let mut info = text.info().clone();
    info.towers.insert(Tower::Vision, tower.info(false)?);
    Ok(Box::new(Vlm { info, connector: Shuffle { tower, proj, factor }, text, image_token }))
}

impl Connect for Shuffle {
    fn stack(&self) -> &Stack {
        &self.tower.stack
    }

    fn features(&self, image: &ImageInput, run: &mut TowerRun, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Features> {
        let (mut parts, mut out) = (Vec::new(), Features::default());
        for tile in 0..image.tiles.len() {
            let first = run.tokens.len();
            let t = self.tower.tile(image, tile, &[], run, tap, ctx)?;
            let x = shuffle((&t.last, &t.rows), first, t.grid, self.factor, run, (tile, &mut out))?;
            parts.push(self.proj.apply(&x)?);
        }
        out.x = Tensor::cat(&parts, 0)?;
        Ok(out)
    }
}
