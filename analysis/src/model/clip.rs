//! CLIP: an image tower, a causal text tower, two projections into one space.
//! Radford et al. 2021, arXiv 2103.00020.

use super::blocks::{Activation, Block, Config, Defaults, Linear, Mlp, Norm, Order, Pass, Scope, Stack, embedding};
use super::patches::{Fit, PatchEmbed};
use super::vision::{Sizes, TileRun, VisionTower, attention, normalise, patch_mean, put_labels, row_of};
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

/// The image tower where a file says nothing.
pub(super) const VISION: Defaults = &[
    ("hidden_size", 768.0),
    ("intermediate_size", 3072.0),
    ("num_hidden_layers", 12.0),
    ("num_attention_heads", 12.0),
    ("image_size", 224.0),
    ("patch_size", 32.0),
];
const TEXT: Defaults = &[
    ("vocab_size", 49408.0),
    ("hidden_size", 512.0),
    ("intermediate_size", 2048.0),
    ("num_hidden_layers", 12.0),
    ("num_attention_heads", 8.0),
    ("max_position_embeddings", 77.0),
];

/// Both towers, or one of them.
struct Clip {
    info: ModelInfo,
    vision: Option<VisionTower>,
    text: Option<TextTower>,
    /// Labels of images, from the mean of the patches.
    classifier: Option<Linear>,
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
    let act = Activation::parse(c.word(&["hidden_act"], act)?)?;
    let eps = c.eps(&["layer_norm_eps"], eps)?;
    let mut blocks = Vec::new();
    for i in 0..c.size(&["num_hidden_layers"])? {
        let b = s.sub(format!("encoder.layers.{i}"));
        let names = ["q_proj", "k_proj", "v_proj", "out_proj"];
        blocks.push(Block {
            norm1: Norm::layer(&b.sub("layer_norm1"), d, eps)?,
            attention: attention(&b.sub("self_attn"), names, (d, heads), (true, true), mask.clone())?,
            norm2: Norm::layer(&b.sub("layer_norm2"), d, eps)?,
            mlp: Mlp::plain(&b, ["mlp.fc1", "mlp.fc2"], (d, inner), true, act)?.into(),
            after1: None,
            after2: None,
        });
    }
    Ok(blocks)
}

/// The image tower below `s`; also that of LLaVA.
pub(super) fn tower(s: &Scope, c: &Config) -> Result<VisionTower> {
    let z = Sizes::read(c)?;
    let d = z.d;
    let eps = c.eps(&["layer_norm_eps"], 1e-5)?;
    let em = s.sub("embeddings");
    let positions = em.get("position_embedding.weight", &[z.positions() + 1, d])?;
    let post = s.sub("post_layernorm");
    Ok(VisionTower {
        patch: PatchEmbed::load(&em.sub("patch_embedding"), z.channels, z.sides, d)?,
        leading: Some(em.get("class_embedding", &[d])?.unsqueeze(0)?),
        leading_positions: Some(positions.narrow(0, 0, 1)?),
        registers: None,
        positions: positions.narrow(0, 1, z.positions())?.contiguous()?,
        table: z.grid,
        fit: Fit::Bicubic { antialias: false },
        // The misspelling is the checkpoints' own.
        pre_norm: Some(Norm::layer(&s.sub("pre_layrnorm"), d, eps)?),
        stack: Stack {
            blocks: blocks(s, c, (d, z.heads), 1e-5, "quick_gelu", &MaskRule::Bidirectional)?,
            order: Order::PreNorm,
            width: d,
        },
        // Vision-language models read earlier layers, and some leave this norm out.
        post_norm: post.has("weight").then(|| Norm::layer(&post, d, eps)).transpose()?,
    })
}

/// The text tower below `s`.
fn text_tower(s: &Scope, c: &Config) -> Result<TextTower> {
    let (d, heads) = (c.size(&["hidden_size"])?, c.size(&["num_attention_heads"])?);
    let (vocab, max) = (c.size(&["vocab_size"])?, c.size(&["max_position_embeddings"])?);
    let eos = c.value(&["eos_token_id"]).map_or(Some(49407), serde_json::Value::as_u64);
    let eos = eos
        .and_then(|e| u32::try_from(e).ok())
        .ok_or_else(|| Error::invalid("config.json: eos_token_id of the text tower is not one token id"))?;
    let stack = Stack {
        blocks: blocks(s, c, (d, heads), 1e-5, "quick_gelu", &MaskRule::Causal)?,
        order: Order::PreNorm,
        width: d,
    };
    Ok(TextTower {
        words: s.get("embeddings.token_embedding.weight", &[vocab, d])?,
        positions: s.get("embeddings.position_embedding.weight", &[max, d])?,
        stack,
        norm: Norm::layer(&s.sub("final_layer_norm"), d, c.eps(&["layer_norm_eps"], 1e-5)?)?,
        eos: (eos != 2).then_some(eos),
    })
}

/// Loads both towers, or the one that the checkpoint holds.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let root = Scope::root(w, device);
    let kind = c.word(&["model_type"], "clip")?;
    let (text_probe, image_probe) = ("embeddings.token_embedding.weight", "embeddings.class_embedding");
    let (vc, tc) = match kind {
        "clip_text_model" => (None, Some(c)),
        "clip_vision_model" => (Some(c), None),
        _ => {
            let empty = |part: &str| c.sub(part).ok_or_else(|| Error::invalid(format!("config.json has no {part}")));
            let text = root.has(&format!("text_model.{text_probe}"));
            let image = root.has(&format!("vision_model.{image_probe}"));
            let text = if text || !image { Some(empty("text_config")?) } else { None };
            (if image || text.is_none() { Some(empty("vision_config")?) } else { None }, text)
        }
    };
    let mut info = super::describe(w);
    let project = |name: &str, d: usize, own: &Config| -> Result<Option<Linear>> {
        let s = root.sub(name);
        let dim = c.size_opt(&["projection_dim"])?.or(own.size_opt(&["projection_dim"])?).unwrap_or(512);
        s.has("weight").then(|| Linear::load(&s, d, dim, false)).transpose()
    };
    let (mut vision, mut visual_projection, mut classifier) = (None, None, None);
    if let Some(vc) = vc {
        let t = tower(&root.first(&["vision_model", ""], image_probe), &vc.with(VISION))?;
        info.towers.insert(Tower::Vision, t.info(true)?);
        visual_projection = project("visual_projection", t.stack.width, &vc)?;
        if let Some(&[labels, _]) = root.shape("classifier.weight") {
            classifier = Some(Linear::load(&root.sub("classifier"), t.stack.width, labels, true)?);
            info.vocab = labels;
        }
        vision = Some(t);
    }
    let (mut text, mut text_projection) = (None, None);
    if let Some(tc) = tc {
        let t = text_tower(&root.first(&["text_model", ""], text_probe), &tc.with(TEXT))?;
        info.towers.insert(Tower::Text, t.stack.info(false));
        info.max_tokens = Some(t.positions.dim(0)?);
        text_projection = project("text_projection", t.stack.width, &tc)?;
        text = Some(t);
    }
    let logit_scale = root.has("logit_scale").then(|| root.get("logit_scale", &[])).transpose()?;
    let device = device.clone();
    Ok(Box::new(Clip { info, vision, text, classifier, visual_projection, text_projection, logit_scale, device }))
}

impl Clip {
    fn text(&self) -> Result<&TextTower> {
        self.text.as_ref().ok_or_else(|| Error::invalid("this model has no text tower"))
    }

    fn vision(&self) -> Result<&VisionTower> {
        self.vision.as_ref().ok_or_else(|| Error::invalid("this model has no image tower; it reads text"))
    }

    /// Results of the image tower; its embedding, where there is one, normalised if a text is compared with it.
    fn image(&self, t: TileRun, out: &mut Output, tap: &mut dyn Tap) -> Result<Option<Tensor>> {
        if let Some(head) = &self.classifier {
            let logits = head.apply(&patch_mean(&t.raw, &t.rows, 1)?)?;
            let layer = self.vision()?.stack.blocks.len();
            put_labels(out, logits, (layer, &t.rows, t.rows.row_of(0).unwrap_or(0)), tap)?;
            return Ok(None);
        }
        let pooled = row_of(&t.last, &t.rows, 0)?;
        let embedded = self.visual_projection.as_ref().map(|p| p.apply(&pooled)).transpose()?;
        if self.text.is_some() {
            if let Some(e) = &embedded {
                out.extras.insert("vision_pooled".into(), e.squeeze(0)?);
            }
            return embedded.map(|e| normalise(&e)).transpose();
        }
        out.extras.insert("last_hidden_state".into(), t.raw);
        if embedded.is_none() {
            out.extras.insert("pooler_output".into(), pooled.squeeze(0)?);
        }
        // CLIPVisionModelWithProjection gives its embedding as it is.
        Ok(embedded)
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
        pass.table.clone_from(&input.mask);
        let x = t.stack.apply(x, &mut pass)?;
        let x = pass.tap(Site::Final, n_layers, t.norm.apply(&x)?)?;
        if self.vision.is_none() {
            out.extras.insert("last_hidden_state".into(), x.clone());
        }
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
            let t = self.vision()?.picture(input, &mut out, tap, ctx)?;
            image = self.image(t, &mut out, tap)?;
        }
        if has_text {
            let pooled = self.run_text(input, &mut out, tap, ctx)?;
            let embedded = self.text_projection.as_ref().map(|p| p.apply(&pooled)).transpose()?;
            text = match embedded {
                Some(e) if self.vision.is_some() => {
                    out.extras.insert("text_pooled".into(), e.squeeze(0)?);
                    Some(normalise(&e)?)
                }
                Some(e) => Some(e),
                None => {
                    out.extras.insert("pooler_output".into(), pooled.squeeze(0)?);
                    None
                }
            };
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

    fn stack(&self, tower: Tower) -> Result<&Stack> {
        match tower {
            Tower::Vision => Ok(&self.vision()?.stack),
            Tower::Text => Ok(&self.text()?.stack),
        }
    }

    fn lens(&self, _resid: &Tensor) -> Result<Tensor> {
        Err(Error::invalid("this model has no language-model head"))
    }

    fn device(&self) -> &Device {
        &self.device
    }
}
