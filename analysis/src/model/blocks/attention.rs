//! Multi-head attention with grouped keys, cache, any mask, and a tap on q, k, v and z.

use super::bias::Bias;
use super::cpu;
use super::heads::attend;
use super::heads_back::attend_with_gradients;
use super::rope::Tables;
use super::stack::Pass;
use super::{Latent, Linear, Norm, Rope};
use crate::ctx::Ctx;
use crate::trace::{AttentionRule, Held, MaskRule, Site, Spans};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp2, D, Layout, Shape, Tensor};
use std::sync::Arc;

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
    /// Norm of queries, where the model has one: per head, or over all heads together where it is as wide as they are.
    pub q_norm: Option<Norm>,
    /// Norm of keys, likewise.
    pub k_norm: Option<Norm>,
    /// Rotary embedding, where the model has one.
    pub rope: Option<Rope>,
    /// Heads, scale and mask.
    pub rule: AttentionRule,
    /// Width of a head.
    pub head_width: usize,
    /// What is added to scores, where the model adds something.
    pub bias: Option<Arc<dyn Bias>>,
    /// Where keys and values come through a latent: then `k` gives it with the rotary key behind it, and `v` makes keys
    /// and values of it.
    pub latent: Option<Latent>,
    /// What queries, keys and values are kept within, on both sides of 0 (OLMo).
    pub clip: Option<f32>,
    /// What scores grow by from key to key, where distance counts so.
    pub slopes: Option<Slopes>,
}

/// For each query head what a score grows by from a key to the next one (ALiBi; Press et al. 2021, arXiv 2108.12409).
/// Queries and keys hold it in components of their own, so that whatever multiplies them has the model's scores: the slope
/// and the position; where products are rounded, one for each query head of a group, and the keys have the products.
#[derive(Debug, Clone)]
pub struct Slopes {
    /// Slopes of the query heads.
    pub of: Vec<f32>,
    /// What the products of slopes and positions count in a score.
    pub factor: f32,
    /// Whether slopes, positions and their products are rounded to bf16.
    pub rounded: bool,
}

impl Slopes {
    /// Slopes that count as they are.
    pub fn exact(of: Vec<f32>) -> Self {
        Self { of, factor: 1.0, rounded: false }
    }

    /// Queries `[h, n, e]` with what they ask of positions, for scores that are multiplied by `scale`.
    fn queries(&self, q: &Tensor, g: usize, scale: f32) -> Result<Tensor> {
        let (h, n, _) = q.dims3()?;
        let rep = if self.rounded { h / g } else { 1 };
        let mut own = vec![0f32; h * rep];
        for (head, slope) in self.of.iter().enumerate().take(h) {
            own[head * rep + head % rep] = self.factor / scale * if self.rounded { 1.0 } else { *slope };
        }
        let own = Tensor::from_vec(own, (h, 1, rep), q.device())?.broadcast_as((h, n, rep))?.contiguous()?;
        Ok(Tensor::cat(&[&q.contiguous()?, &own], 2)?)
    }

    /// Keys `[g, m, e]` with their positions.
    fn keys(&self, k: &Tensor, positions: &[usize]) -> Result<Tensor> {
        let (g, m, _) = k.dims3()?;
        let rep = if self.rounded { self.of.len() / g } else { 1 };
        let round = |x: f32| half::bf16::from_f32(x).to_f32();
        let mut own = Vec::with_capacity(g * m * rep);
        for group in 0..g {
            for &p in positions {
                match self.rounded {
                    true => {
                        own.extend(self.of[group * rep..][..rep].iter().map(|s| round(round(*s) * round(p as f32))))
                    }
                    false => own.push(p as f32),
                }
            }
        }
        Ok(Tensor::cat(&[&k.contiguous()?, &Tensor::from_vec(own, (g, m, rep), k.device())?], 2)?)
    }
}

/// An additive mask `[n, m]`, or `[heads, n, m]` where heads read different keys: 0 where a key is seen (or the
/// logarithm of its size), −∞ elsewhere.
#[derive(Clone)]
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
        let bias = |j: usize| sizes.map_or(0.0, |s| (s[j] as f32).ln());
        let rules = match rule {
            MaskRule::PerHead(all) => all.as_slice(),
            one => std::slice::from_ref(one),
        };
        let (n, m) = (q.len(), k.len());
        let mut values = vec![f32::NEG_INFINITY; rules.len() * n * m];
        for (rule, mask) in rules.iter().zip(values.chunks_mut((n * m).max(1))) {
            let spans = Spans::new(rule, q, k);
            for (i, row) in mask.chunks_mut(m.max(1)).enumerate() {
                spans.of(i).iter().flat_map(|&(a, b)| a..b).for_each(|j| row[j] = bias(j));
            }
        }
        let shape = if rules.len() == 1 { vec![n, m] } else { vec![rules.len(), n, m] };
        Ok(Self(Tensor::from_vec(values, shape, device)?))
    }

    /// The part for `len` heads from `first` on.
    fn heads(&self, first: usize, len: usize) -> Result<Self> {
        Ok(if self.0.rank() == 2 { self.clone() } else { Self(self.0.narrow(0, first, len)?.contiguous()?) })
    }
}

/// Scores that fit here are computed for all heads at once; larger ones group by group, to bound memory.
const MAX_SCORES: usize = 1 << 24;

impl Attention {
    /// One without norms, rotary embedding and additions to scores: maps of queries, keys, values and output, and how
    /// heads of this width read.
    pub fn new([q, k, v, o]: [Linear; 4], rule: AttentionRule, head_width: usize) -> Self {
        Self {
            q,
            k,
            v,
            o,
            q_norm: None,
            k_norm: None,
            rope: None,
            rule,
            head_width,
            bias: None,
            latent: None,
            clip: None,
            slopes: None,
        }
    }

    /// `[n, d]` → `[n, d]`.
    pub fn apply(&self, x: &Tensor, layer: usize, pass: &mut Pass) -> Result<Tensor> {
        let tables = self.rope.as_ref().map(|rope| pass.tables(rope, x.device())).transpose()?;
        let (q, k, v) = self.project(x, tables.as_ref(), &pass.rows.positions, pass.ctx)?;
        self.mix([q, k, v], &self.rule, None, layer, pass)
    }

    /// From queries `[h, n, e]`, keys `[g, n, e]` and values `[g, n, w]` to `[n, d]`, under `own`. What a query's shares
    /// of keys leave of 1 (where a sink takes some) counts `rest`, `[g, 1, w]`; nothing without it.
    pub(in crate::model) fn mix(
        &self,
        [q, k, v]: [Tensor; 3],
        own: &AttentionRule,
        rest: Option<&Tensor>,
        layer: usize,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let q = pass.tap(Site::Q, layer, q)?;
        let k = pass.tap(Site::K, layer, k)?;
        let mut v = pass.tap(Site::V, layer, v)?;
        if let Some(rest) = rest {
            v = v.broadcast_sub(rest)?;
        }
        let held = pass.extend_cache(layer, k, v)?;
        let rule = pass.rule(own, layer, &q, &held)?;
        let mut z = self.read(&q, &held, &rule, layer, pass)?;
        if let Some(rest) = rest {
            z = z.broadcast_add(rest)?;
        }
        pass.note_rule(layer, rule);
        let z = pass.tap(Site::Z, layer, z)?;
        let (h, n, e) = z.dims3()?;
        self.o.apply_in(&z.transpose(0, 1)?.reshape((n, h * e))?, pass.ctx)
    }

    /// Width of a head's values.
    pub fn value_width(&self) -> usize {
        self.latent.as_ref().map_or(self.head_width, |l| l.values)
    }

    /// Queries `[h, n, e]`, keys and values `[g, n, e]` of rows `[n, d]`, as attention reads them; `tables` turn them,
    /// where the model has a rotary embedding.
    pub fn project(
        &self,
        x: &Tensor,
        tables: Option<&Tables>,
        positions: &[usize],
        ctx: &Ctx,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        if let Some(latent) = &self.latent {
            return latent.project(self, x, tables, ctx);
        }
        let n = x.dim(0)?;
        let (h, g, e) = (self.rule.n_heads, self.rule.n_kv_heads, self.head_width);
        let heads = |t: Tensor, count: usize| -> Result<Tensor> { Ok(t.reshape((n, count, e))?.transpose(0, 1)?) };
        let whole = |norm: &Option<Norm>, count: usize| norm.clone().filter(|n| count > 1 && n.width() == count * e);
        let clip = |t: Tensor| self.clip.map_or(Ok(t.clone()), |by| Ok::<_, Error>(t.clamp(-by, by)?));
        let (mut q, mut k) = (clip(self.q.apply_in(x, ctx)?)?, clip(self.k.apply_in(x, ctx)?)?);
        let (all_q, all_k) = (whole(&self.q_norm, h), whole(&self.k_norm, g));
        if let Some(norm) = &all_q {
            q = norm.apply(&q)?;
        }
        if let Some(norm) = &all_k {
            k = norm.apply(&k)?;
        }
        let (mut q, mut k) = (heads(q, h)?, heads(k, g)?);
        let v = heads(clip(self.v.apply_in(x, ctx)?)?, g)?;
        if let Some(norm) = self.q_norm.as_ref().filter(|_| all_q.is_none()) {
            q = norm.apply(&q)?;
        }
        if let Some(norm) = self.k_norm.as_ref().filter(|_| all_k.is_none()) {
            k = norm.apply(&k)?;
        }
        if let Some((rope, tables)) = self.rope.as_ref().zip(tables) {
            q = rope.turn(&q, tables)?;
            k = rope.turn(&k, tables)?;
        }
        if let Some(slopes) = &self.slopes {
            q = slopes.queries(&q, g, self.rule.scale)?;
            k = slopes.keys(&k, positions)?;
        }
        if let Some(bias) = &self.bias {
            // Queries and keys get a component for every key, so that whatever multiplies them has the model's scores.
            ctx.fits((size_of::<f32>() * 3 * h * n * n) as u64, "shorten the text")?;
            let added = (bias.of(&q, &k, positions)? / f64::from(self.rule.scale))?;
            let own = Tensor::eye(n, k.dtype(), k.device())?.unsqueeze(0)?.broadcast_as((g, n, n))?;
            q = Tensor::cat(&[&q.contiguous()?, &added], 2)?;
            k = Tensor::cat(&[&k.contiguous()?, &own.contiguous()?], 2)?;
        }
        Ok((q, k, v))
    }

    /// Weighted values `[h, n, e]` of queries over what the layer holds.
    fn read(&self, q: &Tensor, held: &[Held], rule: &AttentionRule, layer: usize, pass: &mut Pass) -> Result<Tensor> {
        if pass.wants(Site::Pattern, layer) {
            let p = self.pattern(q, held, rule, pass)?;
            let own = p.id();
            let p = pass.tap(Site::Pattern, layer, p)?;
            // Who only looks leaves the numbers as they are without anybody looking.
            if p.id() != own {
                return weigh(&p, held);
            }
        }
        let heads = q.dim(0)? / held.len();
        let mut parts = Vec::with_capacity(held.len());
        for (i, kept) in held.iter().enumerate() {
            let first = i * heads;
            let q = if held.len() == 1 { q.clone() } else { q.narrow(0, first, heads)? };
            let mask = rule.mask.of_heads(first..first + heads, rule.n_heads);
            let inputs = [&q, &kept.k, &kept.v];
            let widened = self.bias.is_some();
            parts.push(if !widened && inputs.into_iter().all(cpu::is_plain) {
                attend(inputs, rule, &pass.seen(&mask, &kept.positions), pass.ctx)?
            } else if !widened && rule.soft_cap.is_none() && inputs.iter().all(|t| cpu::is_plain(&t.detach())) {
                attend_with_gradients(inputs, rule, pass.seen(&mask, &kept.positions), pass.ctx)?
            } else {
                let mask = pass.mask(&mask, &kept.positions, q.device())?;
                attend_by_tensors(inputs, rule, (&mask, first), pass.ctx)?
            });
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, 0)? })
    }

    /// The whole pattern `[h, n, m]`; where heads hold different keys, filled up with zeros to the longest.
    fn pattern(&self, q: &Tensor, held: &[Held], rule: &AttentionRule, pass: &mut Pass) -> Result<Tensor> {
        let (h, n, e) = q.dims3()?;
        let m = held.iter().map(|k| k.positions.len()).max().unwrap_or(0);
        // Scores, shares, and what the tap makes of them.
        let need = 3 * size_of::<f32>() * h * n * m;
        pass.ctx.fits(need as u64, "ask for the attention maps of a shorter input")?;
        let heads = h / held.len();
        let mut parts = Vec::with_capacity(held.len());
        for (i, kept) in held.iter().enumerate() {
            let (first, g, own) = (i * heads, kept.k.dim(0)?, kept.positions.len());
            let mask = rule.mask.of_heads(first..first + heads, h);
            let mask = pass.mask(&mask, &kept.positions, q.device())?;
            let (rep, k) = (heads / g, kept.k.contiguous()?);
            let q = q.narrow(0, first, heads)?.contiguous()?.reshape((g, rep * n, e))?;
            let one = |g: Groups, mask: &AttentionMask| {
                shares((&g.of(&q)?, &g.of(&k)?), rule, (mask, rep, first + g.first * rep))
            };
            let p = group_by_group((heads * n * own, g, rep), &mask, one, pass.ctx)?;
            parts.push(if own == m { p } else { p.pad_with_zeros(2, 0, m - own)? });
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, 0)? })
    }

    /// Keys `[heads, m, e]` turned from the positions `from` to the positions `to`; as they are where the model has no
    /// rotary embedding.
    ///
    /// Errors: an embedding that turns otherwise at one of the two lengths.
    pub fn moved(&self, k: &Tensor, from: &[usize], to: &[usize]) -> Result<Tensor> {
        match &self.rope {
            Some(rope) if from != to => {
                let tables = rope.between(from, to, k.device())?;
                self.latent.as_ref().map_or_else(|| rope.turn(k, &tables), |l| l.moved(rope, k, &tables))
            }
            _ => match &self.slopes {
                Some(slopes) => slopes.keys(&k.narrow(2, 0, self.head_width)?, to),
                None => Ok(k.clone()),
            },
        }
    }
}

/// Some of the groups of heads that share their keys.
#[derive(Clone, Copy)]
struct Groups {
    first: usize,
    len: usize,
}

impl Groups {
    /// Their part of a tensor `[groups, …]`.
    fn of(self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.narrow(0, self.first, self.len)
    }
}

/// What `one` makes of all `g` groups of `rep` heads at once where they have up to [`MAX_SCORES`] scores; else group by
/// group, to bound memory and to be stopped between.
fn group_by_group(
    (scores, g, rep): (usize, usize, usize),
    mask: &AttentionMask,
    one: impl Fn(Groups, &AttentionMask) -> Result<Tensor>,
    ctx: &Ctx,
) -> Result<Tensor> {
    if scores <= MAX_SCORES {
        ctx.check()?;
        return one(Groups { first: 0, len: g }, mask);
    }
    let part = |first: usize| {
        ctx.check()?;
        one(Groups { first, len: 1 }, &mask.heads(first * rep, rep)?)
    };
    Ok(Tensor::cat(&(0..g).map(part).collect::<Result<Vec<_>>>()?, 0)?)
}

/// `[h, n, e]` queries of the heads from `first` on over `[g, m, e]` keys and `[g, m, w]` values → `[h, n, w]`, by whole
/// tensors, for gradients of capped scores and for what is not f32 on the CPU.
fn attend_by_tensors(
    [q, k, v]: [&Tensor; 3],
    rule: &AttentionRule,
    (mask, first): (&AttentionMask, usize),
    ctx: &Ctx,
) -> Result<Tensor> {
    let ((h, n, e), (g, m, _)) = (q.dims3()?, k.dims3()?);
    let wide = v.dim(2)?;
    // Query heads of one group share their keys: stacking them as rows avoids repeating the keys.
    let rep = h / g;
    let q = q.contiguous()?.reshape((g, rep * n, e))?;
    let (k, v) = (k.contiguous()?, v.contiguous()?);
    let one = |some: Groups, mask: &AttentionMask| -> Result<Tensor> {
        let p = shares((&some.of(&q)?, &some.of(&k)?), rule, (mask, rep, first + some.first * rep))?;
        Ok(p.reshape((some.len, rep * n, m))?.matmul(&some.of(&v)?)?)
    };
    // Where the way back is kept, parts would be kept, too.
    let scores = if q.track_op() { 0 } else { h * n * m };
    Ok(group_by_group((scores, g, rep), mask, one, ctx)?.reshape((h, n, wide))?)
}

/// Probabilities `[g·rep, n, m]` of `[g, rep·n, e]` queries of the heads from `first` on over `[g, m, e]` keys. A query
/// that sees no key has zeros.
fn shares(
    (q, k): (&Tensor, &Tensor),
    rule: &AttentionRule,
    (mask, rep, first): (&AttentionMask, usize, usize),
) -> Result<Tensor> {
    let scores = q.matmul(&k.transpose(1, 2)?)?;
    let (g, rows, m) = scores.dims3()?;
    let mut scores = scores.reshape((g * rep, rows / rep, m))?;
    let mut scale = rule.scale;
    if let Some(cap) = rule.soft_cap {
        scores = ((scores * f64::from(scale / cap))?.tanh()? * f64::from(cap))?;
        scale = 1.0;
    }
    let mut mask = mask.0.clone();
    if let Some(sinks) = &rule.sinks {
        // One more key, which every query sees with the score of the head's sink, and which is left out again.
        let own = sinks.get(first..first + g * rep).ok_or_else(|| Error::invalid("heads without a sink"))?;
        let own: Vec<f32> = own.iter().map(|s| s / scale).collect();
        let own = Tensor::from_vec(own, (g * rep, 1, 1), scores.device())?;
        scores = Tensor::cat(&[&scores, &own.broadcast_as((g * rep, rows / rep, 1))?.contiguous()?], 2)?;
        mask = mask.pad_with_zeros(D::Minus1, 0, 1)?;
    }
    let p = if cpu::is_here(scores.device()) {
        scores.contiguous()?.apply_op2(&mask.contiguous()?, MaskedSoftmax { scale })?
    } else {
        let s = (scores * f64::from(scale))?.broadcast_add(&mask)?;
        // A finite bound, so that rows that see nothing stay numbers.
        let s = s.broadcast_sub(&s.max_keepdim(D::Minus1)?.maximum(f32::MIN)?)?.exp()?;
        s.broadcast_div(&s.sum_keepdim(D::Minus1)?.maximum(f32::MIN_POSITIVE)?)?
    };
    Ok(if rule.sinks.is_some() { p.narrow(2, 0, m)?.contiguous()? } else { p })
}

/// `[h, n, m]` shares over the values that each head holds → `[h, n, e]`.
fn weigh(p: &Tensor, held: &[Held]) -> Result<Tensor> {
    let (h, n, m) = p.dims3()?;
    let heads = h / held.len();
    let mut parts = Vec::with_capacity(held.len());
    for (i, kept) in held.iter().enumerate() {
        let (g, own, e) = kept.v.dims3()?;
        let p = p.narrow(0, i * heads, heads)?;
        let p = if own == m { p } else { p.narrow(2, 0, own)? };
        let z = p.contiguous()?.reshape((g, heads / g * n, own))?.matmul(&kept.v.contiguous()?)?;
        parts.push(z.reshape((heads, n, e))?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, 0)? })
}

/// `softmax(scale · x + mask)` over the last axis, `[b, n, m]` and `[n, m]` or `[b, n, m]`, with its gradient; zeros
/// where a row sees nothing.
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
    fn apply(&self, x: &mut [f32], mask: &[f32], m: usize) {
        let n = mask.len() / m.max(1);
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
            let inv = if sum > 0.0 { 1.0 / sum } else { 0.0 };
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
        self.apply(&mut x, values(s2, l2)?, l1.shape().dims().last().copied().unwrap_or(0));
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

    /// Four heads in two groups, each with a mask and a sink of its own: what is too much at once is done group by
    /// group, with each group's own.
    #[test]
    fn maps_of_many_scores_are_those_of_few() {
        let values = |n: usize, by: f32| (0..n).map(|i| ((i * 37 % 23) as f32 - 11.0) * by).collect::<Vec<_>>();
        let q = Tensor::from_vec(values(2 * 6 * 5, 0.1), (2, 6, 5), &Device::Cpu).unwrap();
        let k = Tensor::from_vec(values(2 * 4 * 5, 0.07), (2, 4, 5), &Device::Cpu).unwrap();
        let each = vec![MaskRule::Causal, MaskRule::Bidirectional, MaskRule::SlidingWindow(2), MaskRule::Near(1)];
        let mask = AttentionMask::new(&MaskRule::PerHead(each), &[1, 2, 3], &[0, 1, 2, 3], None, &Device::Cpu).unwrap();
        let sinks = Some(vec![0.3, -1.0, 2.0, 0.0]);
        let rule = AttentionRule { sinks, ..AttentionRule::new((4, 2), 5, MaskRule::Causal) };
        let one = |g: Groups, mask: &AttentionMask| shares((&g.of(&q)?, &g.of(&k)?), &rule, (mask, 2, g.first * 2));
        let of = |scores: usize| {
            let p = group_by_group((scores, 2, 2), &mask, one, &Ctx::default()).unwrap();
            assert_eq!(p.dims(), [4, 3, 4]);
            p.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let (few, many) = (of(MAX_SCORES), of(MAX_SCORES + 1));
        assert!(few.iter().zip(&many).all(|(a, b)| (a - b).abs() < 1e-7), "{few:?} and {many:?}");
        // The third head's first query, at position 1, sees keys 0 and 1 of four.
        assert!(many[24] > 0.0 && many[25] > 0.0 && many[26..28] == [0.0, 0.0], "{:?}", &many[24..28]);
        let stop = Ctx::new(Arc::new(std::sync::atomic::AtomicBool::new(true)), Arc::new(|_| {}));
        assert!(matches!(group_by_group((0, 2, 2), &mask, one, &stop), Err(Error::Cancelled)));
    }

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
