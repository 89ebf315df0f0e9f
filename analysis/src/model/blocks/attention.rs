//! Multi-head attention with grouped keys, cache, any mask, and a tap on q, k, v and z.

use super::stack::Pass;
use super::{Linear, Norm, Rope};
use crate::Result;
use crate::trace::{AttentionRule, MaskRule, Site};
use candle_core::{CpuStorage, D, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;

/// One layer's attention.
pub struct Attention {
    /// Query projection.
    pub q: Linear,
    /// Key projection.
    pub k: Linear,
    /// Value projection.
    pub v: Linear,
    /// Output projection.
    pub o: Linear,
    /// Norm of queries per head, where the model has one.
    pub q_norm: Option<Norm>,
    /// Norm of keys per head, where the model has one.
    pub k_norm: Option<Norm>,
    /// Rotary embedding, where the model has one.
    pub rope: Option<Rope>,
    /// Heads, scale and mask.
    pub rule: AttentionRule,
    /// Width of a head.
    pub head_width: usize,
}

/// An additive mask `[n, m]`: 0 where a key is seen (or the logarithm of its size), −∞ elsewhere.
pub struct AttentionMask(pub Tensor);

impl AttentionMask {
    /// The mask of `rule` for queries and keys at these positions; `sizes` are tokens per key row for
    /// proportional attention.
    pub fn new(
        rule: &MaskRule,
        q: &[usize],
        k: &[usize],
        sizes: Option<&[usize]>,
        device: &candle_core::Device,
    ) -> Result<Self> {
        let bias: Vec<f32> = match sizes {
            Some(s) => s.iter().map(|&s| (s as f32).ln()).collect(),
            None => vec![0.0; k.len()],
        };
        let mut m = vec![f32::NEG_INFINITY; q.len() * k.len()];
        let rows = m.chunks_mut(k.len().max(1));
        if let MaskRule::Table(t) = rule {
            for (row, keys) in rows.zip(t) {
                for &j in keys.iter().filter(|&&j| j < k.len()) {
                    row[j] = bias[j];
                }
            }
        } else {
            for (i, row) in rows.enumerate() {
                for (j, v) in row.iter_mut().enumerate() {
                    if rule.allows(i, q[i], j, k[j]) {
                        *v = bias[j];
                    }
                }
            }
        }
        Ok(Self(Tensor::from_vec(m, (q.len(), k.len()), device)?))
    }
}

/// Scores that fit here are computed for all heads at once; larger ones group by group, to bound memory.
const MAX_SCORES: usize = 1 << 24;

impl Attention {
    /// `[n, d]` → `[n, d]`.
    pub fn apply(&self, x: &Tensor, layer: usize, pass: &mut Pass) -> Result<Tensor> {
        let n = x.dim(0)?;
        let (h, g, e) = (self.rule.n_heads, self.rule.n_kv_heads, self.head_width);
        let heads = |t: Tensor, count: usize| -> Result<Tensor> {
            Ok(t.reshape((n, count, e))?.transpose(0, 1)?.contiguous()?)
        };
        let mut q = heads(self.q.apply(x)?, h)?;
        let mut k = heads(self.k.apply(x)?, g)?;
        let v = heads(self.v.apply(x)?, g)?;
        if let Some(norm) = &self.q_norm {
            q = norm.apply(&q)?;
        }
        if let Some(norm) = &self.k_norm {
            k = norm.apply(&k)?;
        }
        if let Some(rope) = &self.rope {
            let tables = rope.tables(&pass.rows.positions, x.device())?;
            q = rope.turn(&q, &tables)?;
            k = rope.turn(&k, &tables)?;
        }
        let q = pass.tap(Site::Q, layer, q)?;
        let k = pass.tap(Site::K, layer, k)?;
        let v = pass.tap(Site::V, layer, v)?;

        let (k, v, key_positions) = pass.extend_cache(layer, k, v)?;
        let rule = pass.rule(&self.rule);
        let mask = pass.mask(&rule.mask, &key_positions, x.device())?;
        let m = k.dim(1)?;
        // Query heads of one group share their keys: stacking them as rows avoids repeating the keys.
        let rep = h / g;
        let q = q.reshape((g, rep * n, e))?;
        let z = if q.track_op() || h * n * m <= MAX_SCORES {
            self.mix(&q, &k, &v, &mask, rep)?
        } else {
            let part = |i| self.mix(&q.narrow(0, i, 1)?, &k.narrow(0, i, 1)?, &v.narrow(0, i, 1)?, &mask, rep);
            Tensor::cat(&(0..g).map(part).collect::<Result<Vec<_>>>()?, 0)?
        };
        pass.note_rule(layer, rule);
        let z = pass.tap(Site::Z, layer, z.reshape((h, n, e))?)?;
        self.o.apply(&z.transpose(0, 1)?.reshape((n, h * e))?)
    }

    /// `[g, rep·n, e]` queries over `[g, m, e]` keys and values → `[g, rep·n, e]`.
    fn mix(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: &AttentionMask, rep: usize) -> Result<Tensor> {
        let scores = q.matmul(&k.transpose(1, 2)?)?;
        let (g, rows, m) = scores.dims3()?;
        let scores = scores.reshape((g * rep, rows / rep, m))?;
        let scale = f64::from(self.rule.scale);
        let p = if scores.track_op() || !scores.device().is_cpu() || self.rule.soft_cap.is_some() {
            let mut s = (scores * scale)?;
            if let Some(cap) = self.rule.soft_cap {
                s = ((s / f64::from(cap))?.tanh()? * f64::from(cap))?;
            }
            let s = s.broadcast_add(&mask.0)?;
            let s = s.broadcast_sub(&s.max_keepdim(D::Minus1)?)?.exp()?;
            s.broadcast_div(&s.sum_keepdim(D::Minus1)?)?
        } else {
            scores.inplace_op2(&mask.0, &MaskedSoftmax { scale: self.rule.scale })?;
            scores
        };
        Ok(p.reshape((g, rows, m))?.matmul(v)?)
    }
}

/// `softmax(scale · x + mask)` over the last axis in place, rows in parallel. It has no gradient, so it is
/// used only where none is asked for.
struct MaskedSoftmax {
    scale: f32,
}

impl InplaceOp2 for MaskedSoftmax {
    fn name(&self) -> &'static str {
        "masked_softmax"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(x), CpuStorage::F32(mask)) = (s1, s2) else {
            candle_core::bail!("masked_softmax needs f32");
        };
        let (Some((a, b)), Some((c, d))) = (l1.contiguous_offsets(), l2.contiguous_offsets()) else {
            candle_core::bail!("masked_softmax needs contiguous arrays");
        };
        let (x, mask) = (&mut x[a..b], &mask[c..d]);
        let (n, m) = l2.shape().dims2()?;
        if m == 0 {
            return Ok(());
        }
        x.par_chunks_mut(m).enumerate().for_each(|(i, row)| {
            let mask = &mask[(i % n) * m..][..m];
            let mut max = f32::NEG_INFINITY;
            for (x, b) in row.iter_mut().zip(mask) {
                *x = *x * self.scale + b;
                max = max.max(*x);
            }
            let mut sum = 0.0;
            for x in row.iter_mut() {
                *x = if *x == f32::NEG_INFINITY { 0.0 } else { (*x - max).exp() };
                sum += *x;
            }
            let inv = 1.0 / sum;
            row.iter_mut().for_each(|x| *x *= inv);
        });
        Ok(())
    }
}
