//! Idefics3 and SmolVLM: every tile through a SigLIP-like tower, pixel shuffle, one linear map, a Llama.
//! Laurençon et al. 2024, arXiv 2408.12637; Marafioti et al. 2025, arXiv 2504.05299.

use super::blocks::{Config, Linear, Scope, Stack};
use super::patches::Fit;
use super::vision::VisionTower;
use super::vlm::{self, Connect, Features, Vlm};
use super::{Model, TowerRun, llama, siglip};
use crate::ctx::Ctx;
use crate::image::ImageInput;
use crate::token::{Grid, Source};
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
    let text = llama::decoder(w, &tc, &root, (base, "lm_head"), c.flag(&["tie_word_embeddings"], false)?)?;
    let p = root.first(&["model.connector", "connector"], "modality_projection.proj.weight");
    let wide = tower
        .stack
        .width
        .checked_mul(factor * factor)
        .ok_or_else(|| Error::invalid("config.json: scale_factor is too large"))?;
    let proj = Linear::load(&p.sub("modality_projection.proj"), wide, text.width(), false)?;
    let image_token = vlm::image_token(&c, &["image_token_id", "image_token_index"], 128_257)?;
    let mut info = text.info().clone();
    info.towers.insert(Tower::Vision, tower.stack.info(false));
    Ok(Box::new(Vlm { info, connector: Shuffle { tower, proj, factor }, text, image_token }))
}

impl Connect for Shuffle {
    fn stack(&self) -> &Stack {
        &self.tower.stack
    }

    fn features(&self, image: &ImageInput, run: &mut TowerRun, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Features> {
        let (tower, f) = (&self.tower, self.factor);
        let (mut parts, mut of, mut tokens, mut grids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for tile in 0..image.tiles.len() {
            let first = run.tokens.len();
            let t = tower.tile(image, tile, &[], run, tap, ctx)?;
            let (rows, cols) = t.grid;
            if rows % f != 0 || cols % f != 0 {
                return Err(Error::invalid(format!("a tile of {rows} x {cols} patches does not divide by {f}")));
            }
            let d = t.last.dim(1)?;
            let x = if t.rows.len() == rows * cols && t.rows.is_unmerged() {
                t.last
            } else {
                // The shuffle needs the whole grid: merged patches share their row, dropped ones are zero.
                let zero = Tensor::zeros((1, d), t.last.dtype(), t.last.device())?;
                let ids: Vec<u32> =
                    (first..first + rows * cols).map(|k| t.rows.row_of(k).unwrap_or(t.rows.len()) as u32).collect();
                Tensor::cat(&[t.last, zero], 0)?.index_select(&Tensor::new(ids, tower.positions.device())?, 0)?
            };
            let (r, c) = (rows / f, cols / f);
            let x = x.reshape((r, f, c, f, d))?.permute([0, 2, 1, 3, 4])?.contiguous()?;
            parts.push(self.proj.apply(&x.reshape((r * c, f * f * d))?)?);
            grids.push(Grid { rows: r, cols: c, first: tokens.len(), tile, gap: 0 });
            for (i, j) in (0..r).flat_map(|i| (0..c).map(move |j| (i, j))) {
                of.push(vec![tokens.len()]);
                let source = match run.tokens[first + i * f * cols + j * f].source {
                    Source::Rect { x, y, w, h } => Source::Rect { x, y, w: w * f as f32, h: h * f as f32 },
                    other => other,
                };
                tokens.push((format!("tile {tile} {i},{j}"), source));
            }
        }
        Ok(Features { x: Tensor::cat(&parts, 0)?, of, tokens, grids, ..Features::default() })
    }
}
