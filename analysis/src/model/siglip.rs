//! SigLIP's image tower with its attention-pooling head. Zhai et al. 2023, arXiv 2303.15343.

use super::blocks::{Activation, Config, Defaults, Linear, Mlp, Norm, Order, Scope, Stack};
use super::clip::blocks;
use super::patches::{Fit, PatchEmbed};
use super::vision::{BASE, Sizes, VisionTower, need_image, patch_mean, put_labels};
use super::{Input, Model, ModelInfo, Output, TowerRun, only};
use crate::ctx::Ctx;
use crate::trace::{MaskRule, Tap, Tower};
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

struct Siglip {
    info: ModelInfo,
    tower: VisionTower,
    head: Option<Head>,
    /// Labels, from the mean of the patches.
    classifier: Option<Linear>,
    device: Device,
}

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

/// Loads a checkpoint; of a two-tower one, the image half.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let c = c.sub("vision_config").unwrap_or(c).with(BASE);
    let root = Scope::root(w, device);
    let s = root.first(&["vision_model", ""], "embeddings.patch_embedding.weight");
    let tower = tower(&s, &c, Fit::Bicubic { antialias: false })?;
    let d = tower.stack.width;
    let inner = c.size(&["intermediate_size"])?;
    let head = if c.flag(&["vision_use_head"], s.has("head.probe"))? {
        let h = s.sub("head");
        let a = h.sub("attention");
        let all = Linear::from_matrix(&a.get("in_proj_weight", &[3 * d, d])?, Some(a.get("in_proj_bias", &[3 * d])?))?;
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
    let mut info = super::describe(w);
    info.towers.insert(Tower::Vision, tower.stack.info(false));
    let classifier = match root.shape("classifier.weight") {
        Some(&[labels, _]) => Some(Linear::load(&root.sub("classifier"), d, labels, true)?),
        _ => None,
    };
    info.vocab = classifier.as_ref().map_or(Ok(0), |l| l.matrix().dim(1))?;
    Ok(Box::new(Siglip { info, tower, head, classifier, device: device.clone() }))
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

impl Model for Siglip {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let mut run = TowerRun::default();
        let t = self.tower.tile(need_image(input)?, 0, &[], &mut run, tap, ctx)?;
        let mut out = Output::default();
        if let Some(head) = &self.classifier {
            let logits = head.apply(&patch_mean(&t.last, &t.rows, 0)?)?;
            let layer = self.tower.stack.blocks.len();
            put_labels(&mut out, logits, (layer, &t.rows, 0), tap)?;
            out.towers.insert(Tower::Vision, run);
            return Ok(out);
        }
        if let Some(head) = &self.head {
            out.extras.insert("pooler_output".into(), head.apply(&t.last)?.squeeze(0)?);
        }
        out.extras.insert("last_hidden_state".into(), t.last);
        out.towers.insert(Tower::Vision, run);
        Ok(out)
    }

    fn stack(&self, tower: Tower) -> Result<&Stack> {
        only(&self.tower.stack, Tower::Vision, tower)
    }

    fn lens(&self, _resid: &Tensor) -> Result<Tensor> {
        Err(Error::invalid("this model has no head to look with"))
    }

    fn device(&self) -> &Device {
        &self.device
    }
}
