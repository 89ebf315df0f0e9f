//! CLIP: an image tower, a causal text tower, two projections into one space.
//! Radford et al. 2021, arXiv 2103.00020.

use super::blocks::{Activation, Block, Config, Linear, Mlp, Norm, Pass, Scope, Stack, embedding};
use super::patches::{Fit, PatchEmbed};
use super::vision::{Sizes, VisionTower, attention, need_image, normalise, row_of};
use super::{Input, Model, ModelInfo, Output, TowerRun};
use crate::ctx::Ctx;
use crate::trace::{MaskRule, Rows, Site, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

struct TextTower {
    words: Tensor,
    positions: Tensor,
    stack: Stack,
    norm: Norm,
    /// Id whose first place is pooled; `None` pools at the highest id, as the first checkpoints need.
    eos: Option<u32>,
}

struct Clip {
    info: ModelInfo,
    vision: VisionTower,
    text: Option<TextTower>,
    visual_projection: Option<Linear>,
    text_projection: Option<Linear>,
    logit_scale: Option<Tensor>,
    device: Device,
}

/// Blocks named as CLIP, SigLIP and Idefics3 name them, below `s`.
pub(super) fn blocks(
    s: &Scope,
    c: &Config,
    (d, heads): (usize, usize),
    eps: f64,
    act: &str,
    mask: &MaskRule,
) -> Result<Vec<Block>> {
    let inner = c.size(&["intermediate_size"])?;
    let act = Activation::parse(c.word(&["hidden_act"], act))?;
    let eps = c.number(&["layer_norm_eps"], eps)?;
    let mut blocks = Vec::new();
    for i in 0..c.size(&["num_hidden_layers"])? {
        let b = s.sub(format!("encoder.layers.{i}"));
        let names = ["q_proj", "k_proj", "v_proj", "out_proj"];
        blocks.push(Block {
            norm1: Norm::layer(&b.sub("layer_norm1"), d, eps)?,
            attention: attention(&b.sub("self_attn"), names, (d, heads), true, mask.clone())?,
            norm2: Norm::layer(&b.sub("layer_norm2"), d, eps)?,
            mlp: Mlp {
                gate: None,
                up: Linear::load(&b.sub("mlp.fc1"), d, inner, true)?,
                down: Linear::load(&b.sub("mlp.fc2"), inner, d, true)?,
                act,
            },
            scale1: None,
            scale2: None,
        });
    }
    Ok(blocks)
}

/// The image tower below `s`; also that of LLaVA.
pub(super) fn tower(s: &Scope, c: &Config) -> Result<VisionTower> {
    let z = Sizes::read(c)?;
    let d = z.d;
    let eps = c.number(&["layer_norm_eps"], 1e-5)?;
    let em = s.sub("embeddings");
    let positions = em.get("position_embedding.weight", &[z.grid + 1, d])?;
    let post = s.sub("post_layernorm");
    Ok(VisionTower {
        patch: PatchEmbed::load(&em.sub("patch_embedding"), z.channels, z.side, d)?,
        leading: Some(em.get("class_embedding", &[d])?.unsqueeze(0)?),
        leading_positions: Some(positions.narrow(0, 0, 1)?),
        registers: None,
        positions: positions.narrow(0, 1, z.grid)?.contiguous()?,
        fit: Fit::Bicubic { antialias: false },
        // The misspelling is the checkpoints' own.
        pre_norm: Some(Norm::layer(&s.sub("pre_layrnorm"), d, eps)?),
        stack: Stack {
            blocks: blocks(s, c, (d, z.heads), 1e-5, "quick_gelu", &MaskRule::Bidirectional)?,
            post_norm: false,
            width: d,
        },
        // Vision-language models read earlier layers, and some leave this norm out.
        post_norm: post.has("weight").then(|| Norm::layer(&post, d, eps)).transpose()?,
    })
}

/// Loads both towers, or the image tower alone.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config(w.config());
    let root = Scope::root(w, device);
    let vc = c.sub("vision_config").unwrap_or(c);
    let vision = tower(&root.first(&["vision_model", ""], "embeddings.class_embedding"), &vc)?;
    let dim = c.size_opt(&["projection_dim"])?.or(vc.size_opt(&["projection_dim"])?).unwrap_or(512);
    let mut info = super::describe(w);
    info.towers.insert(Tower::Vision, vision.stack.info(true, vc.size(&["intermediate_size"])?));
    let project = |name: &str, d: usize| -> Result<Option<Linear>> {
        let s = root.sub(name);
        s.has("weight").then(|| Linear::load(&s, d, dim, false)).transpose()
    };
    let visual_projection = project("visual_projection", vision.stack.width)?;
    let (mut text, mut text_projection) = (None, None);
    if let Some(tc) = c.sub("text_config").filter(|_| root.has("text_model.embeddings.token_embedding.weight")) {
        let s = root.sub("text_model");
        let (d, heads) = (tc.size(&["hidden_size"])?, tc.size(&["num_attention_heads"])?);
        let (vocab, max) = (tc.size(&["vocab_size"])?, tc.size(&["max_position_embeddings"])?);
        let eps = tc.number(&["layer_norm_eps"], 1e-5)?;
        let eos = tc.0.get("eos_token_id").and_then(serde_json::Value::as_u64).unwrap_or(49407);
        let stack = Stack {
            blocks: blocks(&s, &tc, (d, heads), 1e-5, "quick_gelu", &MaskRule::Causal)?,
            post_norm: false,
            width: d,
        };
        info.towers.insert(Tower::Text, stack.info(false, tc.size(&["intermediate_size"])?));
        info.max_tokens = Some(max);
        text = Some(TextTower {
            words: s.get("embeddings.token_embedding.weight", &[vocab, d])?,
            positions: s.get("embeddings.position_embedding.weight", &[max, d])?,
            stack,
            norm: Norm::layer(&s.sub("final_layer_norm"), d, eps)?,
            eos: (eos != 2).then_some(eos as u32),
        });
        text_projection = project("text_projection", d)?;
    }
    let logit_scale = root.has("logit_scale").then(|| root.get("logit_scale", &[])).transpose()?;
    let device = device.clone();
    Ok(Box::new(Clip { info, vision, text, visual_projection, text_projection, logit_scale, device }))
}

impl Clip {
    fn text(&self) -> Result<&TextTower> {
        self.text.as_ref().ok_or_else(|| Error::invalid("this model has no text tower"))
    }

    /// Pooled text before projection, `[1, d]`.
    fn run_text(&self, input: &Input, out: &mut Output, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Tensor> {
        let t = self.text()?;
        let x = match &input.embeds {
            Some(x) => x.clone(),
            None => embedding(&t.words, &input.ids, "token id")?,
        };
        let (n, n_layers) = (x.dim(0)?, t.stack.blocks.len());
        let mut rows = Rows::identity(n);
        if let Some(p) = &input.positions {
            if p.len() != n {
                return Err(Error::invalid(format!("{} positions for {n} tokens", p.len())));
            }
            rows.positions.clone_from(p);
        }
        let ids: Vec<u32> = rows.positions.iter().map(|&p| p as u32).collect();
        let x = (x + embedding(&t.positions, &ids, "position")?)?;
        let mut pass = Pass::new(Tower::Text, 0, rows, tap, ctx);
        pass.table = input.mask.as_ref().map(|m| m.as_ref().clone());
        let x = t.stack.apply(x, &mut pass)?;
        let x = pass.tap(Site::Final, n_layers, t.norm.apply(&x)?)?;
        let attention = std::mem::take(&mut pass.rules);
        out.towers.insert(Tower::Text, TowerRun { attention, n_tiles: 1, ..TowerRun::default() });
        let place = match t.eos {
            Some(eos) => input.ids.iter().position(|&i| i == eos).unwrap_or(0),
            None => {
                let best = input.ids.iter().enumerate().max_by_key(|(i, id)| (**id, std::cmp::Reverse(*i)));
                best.map_or(n.saturating_sub(1), |(i, _)| i)
            }
        };
        row_of(&x, &pass.rows, place)
    }
}

impl Model for Clip {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let has_text = !input.ids.is_empty() || input.embeds.is_some();
        if input.image.is_none() && !has_text {
            return Err(Error::invalid("this model reads an image, a text, or both; give it one"));
        }
        let mut out = Output::default();
        let (mut image, mut text) = (None, None);
        if input.image.is_some() {
            let mut run = TowerRun::default();
            let t = self.vision.tile(need_image(input)?, 0, &[], &mut run, tap, ctx)?;
            out.towers.insert(Tower::Vision, run);
            let pooled = row_of(&t.last, &t.rows, 0)?;
            if self.text.is_none() {
                out.extras.insert("last_hidden_state".into(), t.raw);
                out.extras.insert("pooler_output".into(), pooled.squeeze(0)?);
            }
            if let Some(p) = &self.visual_projection {
                let e = p.apply(&pooled)?;
                if self.text.is_some() {
                    out.extras.insert("vision_pooled".into(), e.squeeze(0)?);
                    image = Some(normalise(&e)?);
                } else {
                    // CLIPVisionModelWithProjection gives its embedding as it is.
                    image = Some(e);
                }
            }
        }
        if has_text {
            let pooled = self.run_text(input, &mut out, tap, ctx)?;
            if let Some(p) = &self.text_projection {
                let e = p.apply(&pooled)?;
                out.extras.insert("text_pooled".into(), e.squeeze(0)?);
                text = Some(normalise(&e)?);
            }
        }
        if let (Some(i), Some(t), Some(s)) = (&image, &text, &self.logit_scale) {
            let y = (i * t)?.sum_all()?.broadcast_mul(&s.exp()?)?.reshape(1)?;
            out.extras.insert("logits_per_image".into(), y.clone());
            out.extras.insert("logits_per_text".into(), y);
        }
        for (name, e) in [("image_embeds", image), ("text_embeds", text)] {
            if let Some(e) = e {
                out.extras.insert(name.into(), e.squeeze(0)?);
            }
        }
        Ok(out)
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        embedding(&self.text()?.words, ids, "token id")
    }

    fn output_projection(&self, tower: Tower, layer: usize) -> Result<Tensor> {
        match tower {
            Tower::Vision => self.vision.stack.output_projection(layer),
            Tower::Text => self.text()?.stack.output_projection(layer),
        }
    }

    fn lens(&self, _resid: &Tensor) -> Result<Tensor> {
        Err(Error::invalid("this model has no language-model head"))
    }

    fn device(&self) -> &Device {
        &self.device
    }
}
