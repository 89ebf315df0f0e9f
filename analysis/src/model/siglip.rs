//! SigLIP and the variant of SigLIP 2 that reads pictures in their own shape: an image tower with an attention-pooling
//! head, a text tower that sees both ways, or one of them. Zhai et al. 2023, arXiv 2303.15343; Tschannen et al. 2025,
//! 2502.14786.

use super::blocks::{Activation, Config, Defaults, Linear, Mlp, Norm, Order, Pass, Scope, Stack, embedding};
use super::clip::blocks;
use super::patches::{Fit, PatchEmbed};
use super::vision::{BASE, Sizes, VisionTower, normalise, patch_rows, put_labels, row_of, seen_rows};
use super::{Input, Model, ModelInfo, Output, TowerRun};
use crate::ctx::Ctx;
use crate::trace::{MaskRule, Site, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{D, Device, Tensor};

/// One learned query attends to all patches.
struct Head {
    probe: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    heads: usize,
    norm: Norm,
    mlp: Mlp,
}

/// Texts of a fixed length, pooled at their last token.
struct TextTower {
    words: Tensor,
    positions: Tensor,
    stack: Stack,
    norm: Norm,
    head: Linear,
    pad: u32,
}

/// The image half.
struct Images {
    tower: VisionTower,
    head: Option<Head>,
    /// Labels, from the mean of the patches.
    classifier: Option<Linear>,
}

struct Siglip {
    info: ModelInfo,
    images: Option<Images>,
    text: Option<TextTower>,
    /// Scale and offset of the similarity, where both towers are there.
    compare: Option<(Tensor, Tensor)>,
    device: Device,
}

const TEXT: Defaults = &[
    ("vocab_size", 32000.0),
    ("hidden_size", 768.0),
    ("intermediate_size", 3072.0),
    ("num_hidden_layers", 12.0),
    ("num_attention_heads", 12.0),
    ("max_position_embeddings", 64.0),
];

/// The image tower of Idefics3 and SmolVLM where a file says nothing.
pub(super) const IDEFICS: Defaults = &[
    ("hidden_size", 1152.0),
    ("intermediate_size", 3072.0),
    ("num_hidden_layers", 12.0),
    ("num_attention_heads", 16.0),
    ("image_size", 224.0),
    ("patch_size", 32.0),
];

/// The image tower below `s`; also that of LLaVA variants and, with [`Fit::Buckets`], of Idefics3 and SmolVLM.
pub(super) fn tower(s: &Scope, c: &Config, fit: Fit) -> Result<VisionTower> {
    let z = Sizes::read(c)?;
    let d = z.d;
    let em = s.sub("embeddings");
    let post = s.sub("post_layernorm");
    Ok(VisionTower {
        patch: PatchEmbed::load(&em.sub("patch_embedding"), z.channels, z.sides, d)?,
        leading: None,
        leading_positions: None,
        registers: None,
        positions: em.get("position_embedding.weight", &[z.positions(), d])?,
        table: z.grid,
        fit,
        pre_norm: None,
        stack: Stack {
            blocks: blocks(s, c, (d, z.heads), 1e-6, "gelu_pytorch_tanh", &MaskRule::Bidirectional)?,
            order: Order::PreNorm,
            width: d,
        },
        post_norm: Some(Norm::layer(&post, d, c.eps(&["layer_norm_eps"], 1e-6)?)?),
    })
}

/// The image tower of SigLIP 2: patches come as a list with a grid, and a square table is fitted to it.
fn listed_tower(s: &Scope, c: &Config) -> Result<VisionTower> {
    let (d, heads) = (c.size(&["hidden_size"])?, c.size(&["num_attention_heads"])?);
    let (side, n) = (c.size(&["patch_size"])?, c.size(&["num_patches"])?);
    let channels = c.size_opt(&["num_channels"])?.unwrap_or(3);
    let grid = n.isqrt();
    if grid * grid != n {
        return Err(Error::invalid(format!("config.json: num_patches {n} is no square")));
    }
    let em = s.sub("embeddings");
    let blocks = blocks(s, c, (d, heads), 1e-6, "gelu_pytorch_tanh", &MaskRule::Bidirectional)?;
    Ok(VisionTower {
        patch: PatchEmbed::load_listed(&em.sub("patch_embedding"), channels, side, d)?,
        leading: None,
        leading_positions: None,
        registers: None,
        positions: em.get("position_embedding.weight", &[n, d])?,
        table: (grid, grid),
        fit: Fit::Tent,
        pre_norm: None,
        stack: Stack { blocks, order: Order::PreNorm, width: d },
        post_norm: Some(Norm::layer(&s.sub("post_layernorm"), d, c.eps(&["layer_norm_eps"], 1e-6)?)?),
    })
}

/// The text tower below `s`.
fn text_tower(s: &Scope, c: &Config) -> Result<TextTower> {
    let (d, heads) = (c.size(&["hidden_size"])?, c.size(&["num_attention_heads"])?);
    let (vocab, max) = (c.size(&["vocab_size"])?, c.size(&["max_position_embeddings"])?);
    let blocks = blocks(s, c, (d, heads), 1e-6, "gelu_pytorch_tanh", &MaskRule::Bidirectional)?;
    let out = c.size_opt(&["projection_size"])?.unwrap_or(d);
    Ok(TextTower {
        words: s.get("embeddings.token_embedding.weight", &[vocab, d])?,
        positions: s.get("embeddings.position_embedding.weight", &[max, d])?,
        stack: Stack { blocks, order: Order::PreNorm, width: d },
        norm: Norm::layer(&s.sub("final_layer_norm"), d, c.eps(&["layer_norm_eps"], 1e-6)?)?,
        head: Linear::load(&s.sub("head"), d, out, true)?,
        pad: c.count(&["pad_token_id"], 1)? as u32,
    })
}

/// The image half below `root`.
fn images(root: &Scope, c: &Config, second: bool) -> Result<Images> {
    let s = root.first(&["vision_model", ""], "embeddings.patch_embedding.weight");
    let tower = if second { listed_tower(&s, c)? } else { tower(&s, c, Fit::Bicubic { antialias: false })? };
    let d = tower.stack.width;
    let head = if c.flag(&["vision_use_head"], s.has("head.probe"))? {
        let h = s.sub("head");
        let a = h.sub("attention");
        let all = Linear::from_matrix(&a.get("in_proj_weight", &[3 * d, d])?, Some(a.get("in_proj_bias", &[3 * d])?))?;
        let inner = c.size(&["intermediate_size"])?;
        Some(Head {
            probe: h.get("probe", &[1, 1, d])?.squeeze(0)?,
            q: all.slice(0, d)?,
            k: all.slice(d, d)?,
            v: all.slice(2 * d, d)?,
            o: Linear::load(&a.sub("out_proj"), d, d, true)?,
            heads: c.size(&["num_attention_heads"])?,
            norm: Norm::layer(&h.sub("layernorm"), d, c.eps(&["layer_norm_eps"], 1e-6)?)?,
            mlp: Mlp {
                gate: None,
                up: Linear::load(&h.sub("mlp.fc1"), d, inner, true)?,
                down: Linear::load(&h.sub("mlp.fc2"), inner, d, true)?,
                act: Activation::parse(c.word(&["hidden_act"], "gelu_pytorch_tanh")?)?,
            },
        })
    } else {
        None
    };
    let classifier = match root.shape("classifier.weight") {
        Some(&[labels, _]) => Some(Linear::load(&root.sub("classifier"), d, labels, true)?),
        _ => None,
    };
    Ok(Images { tower, head, classifier })
}

/// Loads both towers, or the one that the checkpoint holds.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let root = Scope::root(w, device);
    let probe = "embeddings.token_embedding.weight";
    let kind = c.word(&["model_type"], "siglip")?;
    let (second, only_text) = (kind.starts_with("siglip2"), kind.ends_with("text_model"));
    let has_text = only_text || root.has(&format!("text_model.{probe}"));
    let has_images = !only_text && (!has_text || root.has("vision_model.embeddings.patch_embedding.weight"));
    let mut info = super::describe(w);
    let images = match has_images {
        true => Some(images(&root, &c.sub("vision_config").unwrap_or(c).with(BASE), second)?),
        false => None,
    };
    if let Some(i) = &images {
        info.towers.insert(Tower::Vision, i.tower.info(false)?);
        info.vocab = i.classifier.as_ref().map_or(Ok(0), Linear::outputs)?;
    }
    let text = match has_text {
        true => {
            let tc = c.sub("text_config").unwrap_or(c).with(TEXT);
            Some(text_tower(&root.first(&["text_model", ""], probe), &tc)?)
        }
        false => None,
    };
    if let Some(t) = &text {
        info.towers.insert(Tower::Text, t.stack.info(false));
        info.max_tokens = Some(t.positions.dim(0)?);
    }
    let compare = match images.is_some() && text.is_some() {
        true => Some((root.get("logit_scale", &[1])?, root.get("logit_bias", &[1])?)),
        false => None,
    };
    Ok(Box::new(Siglip { info, images, text, compare, device: device.clone() }))
}

impl Head {
    /// `[n, d]` → `[1, d]`.
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (n, d) = x.dims2()?;
        let e = d / self.heads;
        let split = |t: Tensor, n: usize| -> Result<Tensor> {
            Ok(t.reshape((n, self.heads, e))?.transpose(0, 1)?.contiguous()?)
        };
        let q = split(self.q.apply(&self.probe)?, 1)?;
        let (k, v) = (split(self.k.apply(x)?, n)?, split(self.v.apply(x)?, n)?);
        let s = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? / (e as f64).sqrt())?;
        let s = s.broadcast_sub(&s.max_keepdim(D::Minus1)?)?.exp()?;
        let p = s.broadcast_div(&s.sum_keepdim(D::Minus1)?)?;
        let y = self.o.apply(&p.matmul(&v)?.transpose(0, 1)?.reshape((1, d))?)?;
        Ok((&y + self.mlp.apply(&self.norm.apply(&y)?)?)?)
    }
}

impl Siglip {
    fn images(&self) -> Result<&Images> {
        self.images.as_ref().ok_or_else(|| Error::invalid("this model has no image tower; it reads text"))
    }

    fn text(&self) -> Result<&TextTower> {
        self.text.as_ref().ok_or_else(|| Error::invalid("this model has no text tower"))
    }

    /// Results of the image tower; its embedding, normalised, if a text can be compared with it.
    fn run_image(&self, input: &Input, out: &mut Output, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Option<Tensor>> {
        let own = self.images()?;
        let t = own.tower.picture(input, out, tap, ctx)?;
        let patches = || match t.unseen.is_empty() {
            true => patch_rows(&t.last, &t.rows, 0),
            false => seen_rows(&t.last, &t.rows, &t.unseen),
        };
        if let Some(head) = &own.classifier {
            let logits = head.apply(&patches()?.mean_keepdim(0)?)?;
            put_labels(out, logits, (own.tower.stack.blocks.len(), &t.rows, 0), tap)?;
            return Ok(None);
        }
        let pooled = own.head.as_ref().map(|head| head.apply(&patches()?)).transpose()?;
        if self.compare.is_some()
            && let Some(pooled) = &pooled
        {
            out.extras.insert("vision_pooled".into(), pooled.squeeze(0)?);
            return normalise(pooled).map(Some);
        }
        if let Some(pooled) = pooled {
            out.extras.insert("pooler_output".into(), pooled.squeeze(0)?);
        }
        out.extras.insert("last_hidden_state".into(), t.last);
        Ok(None)
    }

    /// The pooled text `[1, d]`.
    fn run_text(&self, input: &Input, out: &mut Output, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Tensor> {
        let t = self.text()?;
        let x = match &input.embeds {
            Some(x) => x.clone(),
            None => embedding(&t.words, &input.ids, "token id")?,
        };
        let (n, n_layers) = (x.dim(0)?, t.stack.blocks.len());
        let rows = input.rows(n)?;
        let ids: Vec<u32> = rows.positions.iter().map(|&p| p as u32).collect();
        let x = (x + embedding(&t.positions, &ids, "position")?)?;
        let mut pass = Pass::new(Tower::Text, 0, rows, tap, ctx);
        pass.table.clone_from(&input.mask);
        let x = t.stack.apply(x, &mut pass)?;
        let x = pass.tap(Site::Final, n_layers, t.norm.apply(&x)?)?;
        let attention = std::mem::take(&mut pass.rules);
        out.towers.insert(Tower::Text, TowerRun { attention, n_tiles: 1, ..TowerRun::default() });
        let pooled = t.head.apply(&row_of(&x, &pass.rows, n.saturating_sub(1))?)?;
        let name = if self.compare.is_some() { "text_pooled" } else { "pooler_output" };
        out.extras.insert(name.into(), pooled.squeeze(0)?);
        if self.compare.is_none() {
            out.extras.insert("last_hidden_state".into(), x);
        }
        Ok(pooled)
    }
}

impl Model for Siglip {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let has_text = self.text.is_some() && (!input.ids.is_empty() || input.embeds.is_some());
        if input.image.is_none() && !has_text {
            return Err(Error::invalid(match (&self.images, &self.text) {
                (Some(_), Some(_)) => "this model reads an image, a text, or both; give it one",
                (Some(_), None) => "this model reads images; give it one",
                _ => "this model reads a text; give it one",
            }));
        }
        let mut out = Output::default();
        let image = match input.image.is_some() {
            true => self.run_image(input, &mut out, tap, ctx)?,
            false => None,
        };
        let text = match has_text {
            true => Some(self.run_text(input, &mut out, tap, ctx)?),
            false => None,
        };
        let Some((scale, bias)) = &self.compare else { return Ok(out) };
        let text = text.map(|t| normalise(&t)).transpose()?;
        if let (Some(i), Some(t)) = (&image, &text) {
            let y = ((i * t)?.sum_all()?.broadcast_mul(&scale.exp()?)? + bias)?;
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
            Tower::Vision => Ok(&self.images()?.tower.stack),
            Tower::Text => Ok(&self.text()?.stack),
        }
    }

    fn lens(&self, _resid: &Tensor) -> Result<Tensor> {
        Err(Error::invalid("this model has no head to look with"))
    }

    fn padding(&self) -> Option<(usize, u32)> {
        self.text.as_ref().and_then(|t| Some((t.positions.dim(0).ok()?, t.pad)))
    }

    fn device(&self) -> &Device {
        &self.device
    }
}
