//! BEiT and data2vec for pictures: a ViT whose scores know how far apart two patches are, with a factor on what each part
//! adds. Bao et al. 2021, arXiv 2106.08254; Baevski et al. 2022, arXiv 2202.03555.

use super::blocks::{Activation, Bias, Block, Config, Linear, Mlp, Norm, Order, Scope, Stack};
use super::patches::{Fit, PatchEmbed};
use super::vision::{BASE, Sizes, VisionTower, attention, patch_mean, patch_rows, put_labels, row_of};
use super::{Input, Model, ModelInfo, Output, only};
use crate::ctx::Ctx;
use crate::trace::{MaskRule, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// A number per head for every distance in rows and columns, and three for what the class token has to do with.
struct Apart {
    /// `[(2 · rows − 1) · (2 · columns − 1) + 3, h]`.
    table: Tensor,
    grid: (usize, usize),
}

impl Bias for Apart {
    fn of(&self, q: &Tensor, _k: &Tensor, positions: &[usize]) -> Result<Tensor> {
        let (n, (rows, cols)) = (positions.len(), self.grid);
        if q.dim(1)? != n || positions.iter().any(|&p| p > rows * cols) {
            let e = format!("this model reads pictures of {rows} x {cols} patches only; give one of its own size");
            return Err(Error::invalid(e));
        }
        let all = (2 * rows - 1) * (2 * cols - 1);
        let mut ids = Vec::with_capacity(n * n);
        for &a in positions {
            for &b in positions {
                ids.push(match (a, b) {
                    (0, 0) => all + 2,
                    (0, _) => all,
                    (_, 0) => all + 1,
                    (a, b) => {
                        let ((r, c), (s, d)) = (((a - 1) / cols, (a - 1) % cols), ((b - 1) / cols, (b - 1) % cols));
                        (r + rows - 1 - s) * (2 * cols - 1) + c + cols - 1 - d
                    }
                } as u32);
            }
        }
        let h = self.table.dim(1)?;
        let ids = Tensor::new(ids, self.table.device())?;
        Ok(self.table.index_select(&ids, 0)?.reshape((n, n, h))?.permute([2, 0, 1])?.contiguous()?)
    }
}

struct Beit {
    info: ModelInfo,
    tower: VisionTower,
    /// Norm of the mean of the patches, where that is read; without it the class token is.
    pooled: Option<Norm>,
    /// Whether the mean or the class token is given beside the rows.
    pools: bool,
    classifier: Option<Linear>,
    /// Norm and map from a patch to the codes that a masked one is guessed among.
    codes: Option<(Norm, Linear)>,
    device: Device,
}

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config()).with(BASE);
    let z = Sizes::read(&c)?;
    let (d, inner) = (z.d, c.size(&["intermediate_size"])?);
    let eps = c.eps(&["layer_norm_eps"], 1e-12)?;
    let act = Activation::parse(c.word(&["hidden_act"], "gelu")?)?;
    let root = Scope::root(w, device);
    let s = root.first(&["beit", "data2vec_vision", ""], "embeddings.cls_token");
    let n = (2 * z.grid.0 - 1) * (2 * z.grid.1 - 1) + 3;
    let table = |s: &Scope, flag: &str| -> Result<Option<Tensor>> {
        let s = s.sub("relative_position_bias");
        c.flag(&[flag], false)?.then(|| s.get("relative_position_bias_table", &[n, z.heads])).transpose()
    };
    let shared = table(&s.sub("encoder"), "use_shared_relative_position_bias")?;
    let scales = c.number(&["layer_scale_init_value"], 0.1)? > 0.0;
    let mut blocks = Vec::new();
    for i in 0..z.layers {
        let b = s.sub(format!("encoder.layer.{i}"));
        let names = ["attention.query", "attention.key", "attention.value", "output.dense"];
        let mut a = attention(&b.sub("attention"), names, (d, z.heads), (false, true), MaskRule::Bidirectional)?;
        // Keys alone have no bias.
        let with_bias = |name: &str| Linear::load(&b.sub("attention").sub(name), d, d, true);
        (a.q, a.v) = (with_bias(names[0])?, with_bias(names[2])?);
        // What a layer adds by itself and what all of them add hang on the same distances.
        let table = match (table(&b.sub("attention.attention"), "use_relative_position_bias")?, &shared) {
            (Some(own), Some(shared)) => Some((own + shared)?),
            (own, shared) => own.or(shared.clone()),
        };
        a.bias = table.map(|table| Arc::new(Apart { table, grid: z.grid }) as Arc<dyn Bias>);
        let mut mlp = Mlp::plain(&b, ["intermediate.dense", "output.dense"], (d, inner), true, act)?;
        if scales {
            a.o = a.o.scaled(&b.get("lambda_1", &[d])?)?;
            mlp.down = mlp.down.scaled(&b.get("lambda_2", &[d])?)?;
        }
        blocks.push(Block {
            norm1: Norm::layer(&b.sub("layernorm_before"), d, eps)?,
            attention: a,
            norm2: Norm::layer(&b.sub("layernorm_after"), d, eps)?,
            mlp: mlp.into(),
            after1: None,
            after2: None,
        });
    }
    let em = s.sub("embeddings");
    let positions = match c.flag(&["use_absolute_position_embeddings"], false)? {
        true => em.get("position_embeddings", &[1, z.positions() + 1, d])?.squeeze(0)?,
        false => Tensor::zeros((z.positions() + 1, d), candle_core::DType::F32, device)?,
    };
    let means = c.flag(&["use_mean_pooling"], true)?;
    let tower = VisionTower {
        patch: PatchEmbed::load(&em.sub("patch_embeddings.projection"), z.channels, z.sides, d)?,
        leading: Some(em.get("cls_token", &[1, 1, d])?.squeeze(0)?),
        leading_positions: Some(positions.narrow(0, 0, 1)?),
        registers: None,
        positions: positions.narrow(0, 1, z.positions())?.contiguous()?,
        table: z.grid,
        fit: Fit::Bicubic { antialias: false },
        pre_norm: None,
        stack: Stack { blocks, order: Order::PreNorm, width: d },
        post_norm: (!means).then(|| Norm::layer(&s.sub("layernorm"), d, eps)).transpose()?,
    };
    let classifier = match root.shape("classifier.weight") {
        Some(&[labels, _]) => Some(Linear::load(&root.sub("classifier"), d, labels, true)?),
        _ => None,
    };
    let codes = match root.shape("lm_head.weight") {
        Some(&[codes, _]) => {
            let map = Linear::load(&root.sub("lm_head"), d, codes, true)?;
            Some((Norm::layer(&root.sub("layernorm"), d, eps)?, map))
        }
        _ => None,
    };
    let pooled = match means && (classifier.is_some() || s.has("pooler.layernorm.weight")) {
        true => Some(Norm::layer(&s.sub("pooler.layernorm"), d, eps)?),
        false => None,
    };
    let mut info = super::describe(w);
    info.towers.insert(Tower::Vision, tower.info(true)?);
    info.vocab = classifier.as_ref().map_or(Ok(0), Linear::outputs)?;
    let pools = pooled.is_some() || !means;
    Ok(Box::new(Beit { info, tower, pooled, pools, classifier, codes, device: device.clone() }))
}

impl Model for Beit {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let mut out = Output::default();
        let t = self.tower.picture(input, &mut out, tap, ctx)?;
        let pooled = match &self.pooled {
            Some(norm) => norm.apply(&patch_mean(&t.last, &t.rows, 1)?)?,
            None => row_of(&t.last, &t.rows, 0)?,
        };
        if let Some((norm, map)) = &self.codes {
            let patches = patch_rows(&t.last, &t.rows, 1)?;
            out.extras.insert("logits".into(), map.apply(&norm.apply(&patches)?)?);
        }
        match &self.classifier {
            Some(head) => {
                let layer = self.tower.stack.blocks.len();
                put_labels(&mut out, head.apply(&pooled)?, (layer, &t.rows, t.rows.row_of(0).unwrap_or(0)), tap)?;
            }
            None => {
                if self.pools {
                    out.extras.insert("pooler_output".into(), pooled.squeeze(0)?);
                }
                out.extras.insert("last_hidden_state".into(), t.last);
            }
        }
        Ok(out)
    }

    fn stack(&self, tower: Tower) -> Result<&Stack> {
        only(&self.tower.stack, Tower::Vision, tower)
    }

    fn lens(&self, _resid: &Tensor) -> Result<Tensor> {
        Err(Error::invalid("this model's classifier reads the mean of the patches, so it has no head to look with"))
    }

    fn device(&self) -> &Device {
        &self.device
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_rows_before_columns_and_the_class_token_has_its_own() {
        // 1 x 2 patches: 3 distances, then class to patch, patch to class, class to class.
        let table = Tensor::from_vec((0..6).map(|i| i as f32).collect(), (6, 1), &Device::Cpu).unwrap();
        let apart = Apart { table, grid: (1, 2) };
        let q = Tensor::zeros((1, 3, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let got = apart.of(&q, &q, &[0, 1, 2]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(got, [5.0, 3.0, 3.0, 4.0, 1.0, 0.0, 4.0, 2.0, 1.0]);
        assert!(apart.of(&q, &q, &[0, 1, 3]).is_err());
    }
}
