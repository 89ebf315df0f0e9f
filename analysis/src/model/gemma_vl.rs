//! PaliGemma and Gemma 3 with pictures: a SigLIP tower, one map, a Gemma. What stands in the prompt (PaliGemma), or the
//! tokens of the picture (Gemma 3), see each other in both directions.
//! Beyer et al. 2024, arXiv 2407.07726; Gemma Team 2025, 2503.19786.

use super::blocks::{Config, Linear, Norm, Scope, Stack};
use super::patches::Fit;
use super::vision::{BASE, VisionTower};
use super::vlm::{self, Both, Connect, Features, Vlm};
use super::{Model, TowerRun, gemma, siglip};
use crate::ctx::Ctx;
use crate::image::ImageInput;
use crate::token::{Grid, Source};
use crate::trace::{Regroup, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

struct ToGemma {
    tower: VisionTower,
    /// Before the map (Gemma 3).
    norm: Option<Norm>,
    map: Linear,
    /// Tokens of a side that patches are averaged to (Gemma 3); `None` keeps every patch.
    side: Option<usize>,
}

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let pali = c.word(&["model_type"], "gemma3")? == "paligemma";
    let root = Scope::root(w, device);
    let (vc, tc) = (vlm::part(&c, "vision_config")?.with(BASE), vlm::part(&c, "text_config")?);
    let names = ["vision_tower.vision_model", "vision_tower", "model.vision_tower.vision_model", "model.vision_tower"];
    let s = root.first(&names, "embeddings.patch_embedding.weight");
    let tower = siglip::tower(&s, &vc, Fit::Bicubic { antialias: false })?;
    let newer = root.has("model.language_model.embed_tokens.weight");
    let names =
        if newer { ("model.language_model", "lm_head") } else { ("language_model.model", "language_model.lm_head") };
    let text = gemma::decoder(w, &tc, &root, names, gemma::Within::Gemma)?;
    let (dv, dt) = (tower.stack.width, text.width());
    let connector = if pali {
        let p = root.first(&["multi_modal_projector", "model.multi_modal_projector"], "linear.weight");
        ToGemma { map: Linear::load(&p.sub("linear"), dv, dt, true)?, tower, norm: None, side: None }
    } else {
        let names = ["multi_modal_projector", "model.multi_modal_projector"];
        let p = root.first(&names, "mm_input_projection_weight");
        let tokens = c.size_opt(&["mm_tokens_per_image"])?.unwrap_or(256);
        let side = tokens.isqrt();
        if side * side != tokens {
            return Err(Error::invalid(format!("config.json: mm_tokens_per_image {tokens} is not a square")));
        }
        let eps = vc.eps(&["layer_norm_eps"], 1e-6)?;
        let map = p.get("mm_input_projection_weight", &[dv, dt])?.t()?.contiguous()?;
        ToGemma {
            norm: Some(Norm::rms_around_one(&p.sub("mm_soft_emb_norm"), dv, eps)?),
            map: Linear::from_matrix(&map, None)?,
            tower,
            side: Some(side),
        }
    };
    let keys = ["image_token_index", "image_token_id"];
    let image_token = vlm::image_token(&c, &keys, if pali { 257_152 } else { 262_144 })?;
    let mut info = text.info().clone();
    info.towers.insert(Tower::Vision, connector.tower.info(false)?);
    Ok(Box::new(Vlm { info, connector, text, image_token }))
}

impl Connect for ToGemma {
    fn stack(&self) -> &Stack {
        &self.tower.stack
    }

    fn both(&self) -> Both {
        if self.side.is_some() { Both::Image } else { Both::Prompt }
    }

    /// PaliGemma counts from 1.
    fn first_position(&self) -> usize {
        usize::from(self.side.is_none())
    }

    fn features(&self, image: &ImageInput, run: &mut TowerRun, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Features> {
        let (mut parts, mut out) = (Vec::new(), Features::default());
        for tile in 0..image.tiles.len() {
            let first = run.tokens.len();
            let t = self.tower.tile(image, tile, &[], run, tap, ctx)?;
            let (rows, cols) = t.grid;
            let Some(side) = self.side else {
                out.grids.push(Grid { rows, cols, first: out.tokens.len(), tile, gap: 0 });
                let base = out.tokens.len();
                out.of.extend(t.rows.tokens.iter().map(|of| of.iter().map(|k| base + k - first).collect()));
                out.tokens.extend(run.tokens[first..].iter().map(|t| (t.text.clone(), t.source)));
                parts.push(t.last);
                continue;
            };
            if rows % side != 0 || cols % side != 0 {
                let e = format!("a picture of {rows} x {cols} patches does not divide into {side} x {side} tokens");
                return Err(Error::invalid(e));
            }
            let (h, w) = (rows / side, cols / side);
            out.grids.push(Grid { rows: side, cols: side, first: out.tokens.len(), tile, gap: 0 });
            let share = 1.0 / (h * w) as f32;
            let mut groups = Vec::new();
            for (r, c) in (0..side).flat_map(|r| (0..side).map(move |c| (r, c))) {
                let patches = (0..h * w).map(|k| first + (r * h + k / w) * cols + c * w + k % w);
                // Patches that were pruned count as zero.
                let group: Vec<(usize, f32)> = patches.filter_map(|k| Some((t.rows.row_of(k)?, share))).collect();
                let source = match run.tokens[first + r * h * cols + c * w].source {
                    Source::Rect { x, y, w: pw, h: ph } => Source::Rect { x, y, w: pw * w as f32, h: ph * h as f32 },
                    other => other,
                };
                if !group.is_empty() {
                    out.of.push(vec![out.tokens.len()]);
                    groups.push(group);
                }
                out.tokens.push((format!("{r},{c}"), source));
            }
            parts.push(super::blocks::apply_regroup(&t.last, &Regroup::of(groups))?);
        }
        let x = Tensor::cat(&parts, 0)?;
        let x = self.norm.as_ref().map_or(Ok(x.clone()), |norm| norm.apply(&x))?;
        out.x = self.map.apply(&x)?;
        Ok(out)
    }
}
