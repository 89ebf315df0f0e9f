//! Multi-head attention with grouped keys, cache, any mask, and a tap on q, k, v and z.

use super::cpu;
use super::heads::{Places, attend};
use super::stack::Pass;
use super::{Linear, Norm, Rope};
use crate::Result;
use crate::ctx::Ctx;
use crate::trace::{AttentionRule, MaskRule, Site};
use candle_core::{CpuStorage, CustomOp2, D, Layout, Shape, Tensor};

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
        let heads = |t: Tensor, count: usize| -> Result<Tensor> { Ok(t.reshape((n, count, e))?.transpose(0, 1)?) };
        let mut q = heads(self.q.apply_in(x, pass.ctx)?, h)?;
        let mut k = heads(self.k.apply_in(x, pass.ctx)?, g)?;
        let v = heads(self.v.apply_in(x, pass.ctx)?, g)?;
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
        let z = if [&q, &k, &v].into_iter().all(cpu::is_plain) {
            let sizes = pass.sizes(key_positions.len());
            let places = Places { queries: &pass.rows.positions, keys: &key_positions, sizes: sizes.as_deref() };
            attend((&q, &k, &v), &rule, &places, pass.ctx)?
        } else {
            self.attend_by_tensors(&q, &k, &v, &pass.mask(&rule.mask, &key_positions, x.device())?)?
        };
        pass.note_rule(layer, rule);
        let z = pass.tap(Site::Z, layer, z)?;
        self.o.apply_in(&z.transpose(0, 1)?.reshape((n, h * e))?, pass.ctx)
    }

    /// `[h, n, e]` queries over `[g, m, e]` keys and values → `[h, n, e]`, by whole tensors, for gradients and other
    /// devices.
    fn attend_by_tensors(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: &AttentionMask) -> Result<Tensor> {
        let ((h, n, e), (g, m, _)) = (q.dims3()?, k.dims3()?);
        // Query heads of one group share their keys: stacking them as rows avoids repeating the keys.
        let rep = h / g;
        let q = q.contiguous()?.reshape((g, rep * n, e))?;
        let (k, v) = (k.contiguous()?, v.contiguous()?);
        let z = if q.track_op() || h * n * m <= MAX_SCORES {
            self.mix(&q, &k, &v, mask, rep)?
        } else {
            let part = |i| self.mix(&q.narrow(0, i, 1)?, &k.narrow(0, i, 1)?, &v.narrow(0, i, 1)?, mask, rep);
            Tensor::cat(&(0..g).map(part).collect::<Result<Vec<_>>>()?, 0)?
        };
        Ok(z.reshape((h, n, e))?)
    }

    /// `[g, rep·n, e]` queries over `[g, m, e]` keys and values → `[g, rep·n, e]`.
    fn mix(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: &AttentionMask, rep: usize) -> Result<Tensor> {
        let scores = q.matmul(&k.transpose(1, 2)?)?;
        let (g, rows, m) = scores.dims3()?;
        let scores = scores.reshape((g * rep, rows / rep, m))?;
        let scale = f64::from(self.rule.scale);
        let p = if !scores.device().is_cpu() || self.rule.soft_cap.is_some() {
            let mut s = (scores * scale)?;
            if let Some(cap) = self.rule.soft_cap {
                s = ((s / f64::from(cap))?.tanh()? * f64::from(cap))?;
            }
            let s = s.broadcast_add(&mask.0)?;
            let s = s.broadcast_sub(&s.max_keepdim(D::Minus1)?)?.exp()?;
            s.broadcast_div(&s.sum_keepdim(D::Minus1)?)?
        } else {
            scores.contiguous()?.apply_op2(&mask.0, MaskedSoftmax { scale: self.rule.scale })?
        };
        Ok(p.reshape((g, rows, m))?.matmul(v)?)
    }
}

/// `softmax(scale · x + mask)` over the last axis, `[b, n, m]` and `[n, m]`, with its gradient.
struct MaskedSoftmax {
    scale: f32,
}

/// The f32 values behind contiguous storage.
fn values<'a>(s: &'a CpuStorage, l: &Layout) -> candle_core::Result<&'a [f32]> {
    let (CpuStorage::F32(x), Some((a, b))) = (s, l.contiguous_offsets()) else {
        candle_core::bail!("masked_softmax needs contiguous f32");
    };
    Ok(&x[a..b])
}

impl MaskedSoftmax {
    fn apply(&self, x: &mut [f32], mask: &[f32], (n, m): (usize, usize)) {
        cpu::each(x, m, &Ctx::default(), |i, row| {
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
    }
}

impl CustomOp2 for MaskedSoftmax {
    fn name(&self) -> &'static str {
        "masked_softmax"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let mut x = values(s1, l1)?.to_vec();
        self.apply(&mut x, values(s2, l2)?, l2.shape().dims2()?);
        Ok((CpuStorage::F32(x), l1.shape().clone()))
    }

    /// Nothing goes back to the mask.
    fn bwd(
        &self,
        _x: &Tensor,
        _mask: &Tensor,
        p: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let back = SoftmaxBack { scale: self.scale };
        Ok((Some(p.detach().apply_op2_no_bwd(&grad.contiguous()?, &back)?), None))
    }
}

/// From probabilities `p` and the gradient `g` of them to that of the scores: `scale · p · (g − Σ g p)`.
struct SoftmaxBack {
    scale: f32,
}

impl CustomOp2 for SoftmaxBack {
    fn name(&self) -> &'static str {
        "masked_softmax_back"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (mut out, g) = (values(s1, l1)?.to_vec(), values(s2, l2)?);
        let m = l1.shape().dims().last().copied().unwrap_or(0);
        cpu::each(&mut out, m, &Ctx::default(), |i, row| {
            let g = &g[i * m..][..m];
            let dot: f32 = row.iter().zip(g).map(|(p, g)| p * g).sum();
            row.iter_mut().zip(g).for_each(|(p, g)| *p *= self.scale * (g - dot));
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn the_softmax_and_its_gradient_are_those_of_plain_arithmetic() {
        let cpu = Device::Cpu;
        let x =
            Var::new(&[[[0.3f32, -1.2, 2.0], [0.7, 0.1, -0.4]], [[1.5, 0.2, 0.9], [-2.0, 0.6, 0.8]]], &cpu).unwrap();
        let mask = Tensor::new(&[[0f32, f32::NEG_INFINITY, 0.0], [0.0, 0.5, -0.5]], &cpu).unwrap();
        let weight = Tensor::new(&[[[1f32, 2.0, -1.0], [0.5, 3.0, 1.0]], [[2.0, -2.0, 0.1], [1.0, 0.0, 4.0]]], &cpu);
        let weight = weight.unwrap();
        let fused = x.as_tensor().apply_op2(&mask, MaskedSoftmax { scale: 0.7 }).unwrap();
        let e = (x.as_tensor() * 0.7).unwrap().broadcast_add(&mask).unwrap().exp().unwrap();
        let plain = e.broadcast_div(&e.sum_keepdim(D::Minus1).unwrap()).unwrap();
        let back = |p: &Tensor| {
            let grads = (p * &weight).unwrap().sum_all().unwrap().backward().unwrap();
            grads.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (a, b) in flat(&fused).iter().zip(flat(&plain)).chain(back(&fused).iter().zip(back(&plain))) {
            assert!((a - b).abs() < 1e-6, "{a} and {b}");
        }
        // A masked key gets no probability and no gradient.
        assert_eq!((flat(&fused)[1], back(&fused)[1]), (0.0, 0.0));
    }
}
