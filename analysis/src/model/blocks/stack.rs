//! A stack of blocks and the state of one pass through it: tap, row map, cache, masks.

use super::{Attention, AttentionMask, Mlp, Norm};
use crate::ctx::Ctx;
use crate::model::{KvCache, TowerInfo};
use crate::trace::{At, AttentionRule, MaskRule, Regroup, Rows, Site, Tap, Tower};
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// One transformer block.
pub struct Block {
    /// Norm before attention, or after its residual sum where the order is post-norm.
    pub norm1: Norm,
    /// Attention.
    pub attention: Attention,
    /// Norm before the MLP, or after its residual sum where the order is post-norm.
    pub norm2: Norm,
    /// MLP.
    pub mlp: Mlp,
    /// Norm of what attention adds (Gemma 2 and 3).
    pub after1: Option<Norm>,
    /// Norm of what the MLP adds.
    pub after2: Option<Norm>,
}

/// Where a block's norms stand, and what its MLP reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Norms before the parts.
    PreNorm,
    /// Norms after the sums (BERT).
    PostNorm,
    /// Norms before the parts; the MLP reads the stream as it was before attention (GPT-NeoX, Phi).
    Parallel,
}

/// Blocks in order.
pub struct Stack {
    /// The blocks.
    pub blocks: Vec<Block>,
    /// Order of norms and parts.
    pub order: Order,
    /// Width of the residual stream.
    pub width: usize,
}

/// A mask and what it was made of.
struct CachedMask {
    rule: MaskRule,
    queries: Vec<usize>,
    keys: Vec<usize>,
    mask: Tensor,
}

/// What travels with the residual stream through one pass.
pub struct Pass<'a> {
    /// Which tower.
    pub tower: Tower,
    /// Which tile.
    pub tile: usize,
    /// The tap.
    pub tap: &'a mut dyn Tap,
    /// Progress and cancel.
    pub ctx: &'a Ctx,
    /// Row → token, and positions.
    pub rows: Rows,
    /// Keys and values of earlier tokens.
    pub cache: Option<&'a mut KvCache>,
    /// Another mask than the model's: per query row, key rows (cached first).
    pub table: Option<Vec<Vec<usize>>>,
    /// The rule that each layer really used.
    pub rules: Vec<AttentionRule>,
    mask: Option<CachedMask>,
}

impl<'a> Pass<'a> {
    /// A pass over `rows`.
    pub fn new(tower: Tower, tile: usize, rows: Rows, tap: &'a mut dyn Tap, ctx: &'a Ctx) -> Self {
        Self { tower, tile, tap, ctx, rows, cache: None, table: None, rules: Vec::new(), mask: None }
    }

    /// Lets the tap see `x`, if it wants to.
    pub fn tap(&mut self, site: Site, layer: usize, x: Tensor) -> Result<Tensor> {
        let at = At { tower: self.tower, tile: self.tile, layer, site, rows: &self.rows };
        if self.tap.wants(&at) { self.tap.pass(&at, x) } else { Ok(x) }
    }

    /// Asks the tap for other rows and applies them to `x`, what else waits by row (`beside`) and the row map.
    pub fn regroup(&mut self, site: Site, layer: usize, x: Tensor, beside: &mut Option<Tensor>) -> Result<Tensor> {
        let at = At { tower: self.tower, tile: self.tile, layer, site, rows: &self.rows };
        let Some(r) = self.tap.regroup(&at, &x)? else { return Ok(x) };
        if self.table.is_some() {
            return Err(Error::invalid("rows cannot be pruned or merged under a mask that lists rows"));
        }
        self.rows = self.rows.regroup(&r)?;
        self.mask = None;
        if let Some(b) = beside {
            *b = apply_regroup(b, &r)?;
        }
        apply_regroup(&x, &r)
    }

    fn stops_after(&self, layer: usize) -> bool {
        let at = At { tower: self.tower, tile: self.tile, layer, site: Site::ResidPost, rows: &self.rows };
        self.tap.stop_after(&at)
    }

    pub(super) fn extend_cache(&mut self, layer: usize, k: Tensor, v: Tensor) -> Result<(Tensor, Tensor, Vec<usize>)> {
        let positions = self.rows.positions.clone();
        let Some(cache) = &mut self.cache else { return Ok((k, v, positions)) };
        if cache.layers.len() <= layer {
            cache.layers.resize_with(layer + 1, Default::default);
        }
        let slot = &mut cache.layers[layer];
        // Rows of the cache are picked and joined later, which needs them in order.
        let (k, v) = (k.contiguous()?, v.contiguous()?);
        let (k, v) = match &slot.kv {
            Some((ck, cv)) => (Tensor::cat(&[ck, &k], 1)?, Tensor::cat(&[cv, &v], 1)?),
            None => (k, v),
        };
        slot.positions.extend_from_slice(&positions);
        slot.kv = Some((k.clone(), v.clone()));
        Ok((k, v, slot.positions.clone()))
    }

    pub(super) fn rule(&self, own: &AttentionRule) -> AttentionRule {
        match &self.table {
            Some(t) => AttentionRule { mask: MaskRule::Table(t.clone()), ..own.clone() },
            None => own.clone(),
        }
    }

    pub(super) fn note_rule(&mut self, layer: usize, rule: AttentionRule) {
        self.rules.truncate(layer);
        self.rules.push(rule);
    }

    /// Tokens behind each of `n_keys` key rows, where the tap wants proportional attention.
    pub(super) fn sizes(&self, n_keys: usize) -> Option<Vec<usize>> {
        // With a cache, sizes of the cached rows are not known here; merging and continuing do not mix.
        let proportional = self.tap.proportional_attention() && self.rows.len() == n_keys;
        proportional.then(|| (0..self.rows.len()).map(|i| self.rows.size(i)).collect())
    }

    /// The additive mask; layers with the same rule and rows share one.
    pub(super) fn mask(&mut self, rule: &MaskRule, keys: &[usize], device: &Device) -> Result<AttentionMask> {
        let queries = &self.rows.positions;
        if let Some(c) = &self.mask
            && c.rule == *rule
            && c.queries == *queries
            && c.keys == keys
        {
            return Ok(AttentionMask(c.mask.clone()));
        }
        let m = AttentionMask::new(rule, queries, keys, self.sizes(keys.len()).as_deref(), device)?;
        let cached =
            CachedMask { rule: rule.clone(), queries: queries.clone(), keys: keys.to_vec(), mask: m.0.clone() };
        self.mask = Some(cached);
        Ok(m)
    }
}

/// New rows as weighted sums of old ones: `[n, d]` → `[groups, d]`.
pub fn apply_regroup(x: &Tensor, r: &Regroup) -> Result<Tensor> {
    let n = x.dim(0)?;
    if r.groups.iter().all(|g| g.len() == 1 && g[0].1 == 1.0) {
        let idx: Vec<u32> = r.groups.iter().map(|g| g[0].0 as u32).collect();
        return Ok(x.index_select(&Tensor::new(idx.as_slice(), x.device())?, 0)?);
    }
    let mut m = vec![0f32; r.groups.len() * n];
    for (i, g) in r.groups.iter().enumerate() {
        for &(row, w) in g {
            m[i * n + row] += w;
        }
    }
    Ok(Tensor::from_vec(m, (r.groups.len(), n), x.device())?.matmul(x)?)
}

impl Stack {
    /// Runs the blocks on `[n, d]`. The result has `pass.rows.len()` rows, which may be fewer than before.
    pub fn apply(&self, mut x: Tensor, pass: &mut Pass) -> Result<Tensor> {
        let n_layers = self.blocks.len();
        for (i, b) in self.blocks.iter().enumerate() {
            pass.ctx.step(i, n_layers)?;
            x = pass.tap(Site::ResidPre, i, x)?;
            let post_norm = self.order == Order::PostNorm;
            let input = if post_norm { x.clone() } else { b.norm1.apply(&x)? };
            let mut beside = (self.order == Order::Parallel).then(|| b.norm2.apply(&x)).transpose()?;
            let mut a = b.attention.apply(&input, i, pass)?;
            if let Some(norm) = &b.after1 {
                a = norm.apply(&a)?;
            }
            let a = pass.tap(Site::AttnOut, i, a)?;
            x = (x + a)?;
            if post_norm {
                x = b.norm1.apply(&x)?;
            }
            x = pass.tap(Site::ResidMid, i, x)?;
            x = pass.regroup(Site::ResidMid, i, x, &mut beside)?;
            let input = match beside {
                Some(y) => y,
                None if post_norm => x.clone(),
                None => b.norm2.apply(&x)?,
            };
            let mut m = b.mlp.apply_in(&input, pass.ctx)?;
            if let Some(norm) = &b.after2 {
                m = norm.apply(&m)?;
            }
            let m = pass.tap(Site::MlpOut, i, m)?;
            x = (x + m)?;
            if post_norm {
                x = b.norm2.apply(&x)?;
            }
            x = pass.tap(Site::ResidPost, i, x)?;
            x = pass.regroup(Site::ResidPost, i, x, &mut None)?;
            if pass.stops_after(i) {
                break;
            }
        }
        pass.ctx.step(n_layers, n_layers)?;
        Ok(x)
    }

    /// What the stack says about itself.
    pub fn info(&self, class_token: bool) -> TowerInfo {
        let a = self.blocks.first().map(|b| &b.attention);
        let mlp_width = self.blocks.first().and_then(|b| b.mlp.up.matrix().dim(1).ok()).unwrap_or(0);
        TowerInfo {
            n_layers: self.blocks.len(),
            width: self.width,
            n_heads: a.map_or(0, |a| a.rule.n_heads),
            n_kv_heads: a.map_or(0, |a| a.rule.n_kv_heads),
            head_width: a.map_or(0, |a| a.head_width),
            mlp_width,
            class_token,
            norms_attention: self.blocks.iter().any(|b| b.after1.is_some()),
        }
    }

    /// A layer's output projection as `[heads, head_width, d]`.
    pub fn output_projection(&self, layer: usize) -> Result<Tensor> {
        let b = self.blocks.get(layer).ok_or_else(|| Error::invalid(format!("there is no layer {layer}")))?;
        let (h, e) = (b.attention.rule.n_heads, b.attention.head_width);
        Ok(b.attention.o.matrix().contiguous()?.reshape((h, e, self.width))?)
    }
}
