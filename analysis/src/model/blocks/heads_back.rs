//! Gradients of attention on plain values: what the way there made of scores is made again block by block, so that
//! no array of queries by keys is kept.

use super::cpu::{self, Matrix};
use super::frozen;
use super::heads::{Block, Places, QUERIES, SCORES, attend};
use crate::ctx::Ctx;
use crate::trace::{AttentionRule, MaskRule, Spans};
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;

/// [`attend`] with gradients of queries, keys and values. Not for capped scores.
pub(super) fn attend_with_gradients(
    [q, k, v]: [&Tensor; 3],
    rule: &AttentionRule,
    mask: &MaskRule,
    places: &Places,
    ctx: &Ctx,
) -> Result<Tensor> {
    if rule.soft_cap.is_some() {
        return Err(Error::invalid("capped scores have no gradients block by block"));
    }
    let z = attend((&q.detach(), &k.detach(), &v.detach()), rule, mask, places, ctx)?;
    let bias = places.sizes.map(|s| s.iter().map(|&s| (s as f32).ln()).collect::<Vec<f32>>());
    let (rule, mask, ctx) = (rule.clone(), mask.clone(), ctx.clone());
    let (queries, keys) = (places.queries.to_vec(), places.keys.to_vec());
    let back = move |inputs: [&Tensor; 3], z: &Tensor, grad: &Tensor| {
        let spans: Vec<Spans> = match &mask {
            MaskRule::PerHead(all) => all.iter().map(|m| Spans::new(m, &queries, &keys)).collect(),
            mask => vec![Spans::new(mask, &queries, &keys)],
        };
        gradients(inputs, z, grad, &Way { rule: &rule, spans: &spans, bias: bias.as_deref(), ctx: &ctx })
    };
    frozen::of_three("attention", [q, k, v], &z, back)
}

struct Way<'a> {
    rule: &'a AttentionRule,
    spans: &'a [Spans],
    bias: Option<&'a [f32]>,
    ctx: &'a Ctx,
}

/// Gradients of `[h, n, e]` queries and `[g, m, e]` keys and values.
fn gradients([q, k, v]: [&Tensor; 3], z: &Tensor, grad: &Tensor, way: &Way) -> Result<[Tensor; 3]> {
    let ((h, n, e), (g, m, _)) = (q.dims3()?, k.dims3()?);
    let flat = |t: &Tensor| -> Result<Vec<f32>> { Ok(t.flatten_all()?.to_vec1()?) };
    let (q_of, k_of, v_of, z_of, grad_of) = (flat(q)?, flat(k)?, flat(v)?, flat(z)?, flat(grad)?);
    let (mut dq, mut dk, mut dv) = (vec![0f32; h * n * e], vec![0f32; g * m * e], vec![0f32; g * m * e]);
    let (rep, keys) = (h / g, (m * e).max(1));
    let groups = dq.par_chunks_mut((rep * n * e).max(1)).zip(dk.par_chunks_mut(keys)).zip(dv.par_chunks_mut(keys));
    groups.enumerate().for_each(|(own, ((dq, dk), dv))| {
        let (k, v) = (&k_of[own * m * e..][..m * e], &v_of[own * m * e..][..m * e]);
        let mut room = (Vec::new(), Vec::new());
        for (i, dq) in dq.chunks_mut((n * e).max(1)).enumerate() {
            let head = own * rep + i;
            let one = Head { e, way, spans: &way.spans[head * way.spans.len() / h], k, v };
            let rows = [&q_of, &z_of, &grad_of].map(|x| &x[head * n * e..][..n * e]);
            one.back(rows, [dq, &mut *dk, &mut *dv], &mut room);
        }
    });
    way.ctx.check()?;
    let tensor = |x: Vec<f32>, of: &Tensor| -> Result<Tensor> { Ok(Tensor::from_vec(x, of.dims(), of.device())?) };
    Ok([tensor(dq, q)?, tensor(dk, k)?, tensor(dv, v)?])
}

/// One query head with the keys and values `[m, e]` that it reads.
struct Head<'a> {
    e: usize,
    way: &'a Way<'a>,
    spans: &'a Spans,
    k: &'a [f32],
    v: &'a [f32],
}

impl Head<'_> {
    /// From queries, results and their gradients `[n, e]`, adds to the gradients of queries `[n, e]`, keys and values
    /// `[m, e]`.
    fn back(&self, [q, z, grad]: [&[f32]; 3], [dq, dk, dv]: [&mut [f32]; 3], room: &mut (Vec<f32>, Vec<f32>)) {
        let e = self.e;
        let n = q.len() / e.max(1);
        let (p, ds) = room;
        let mut first = 0;
        while first < n && !self.way.ctx.cancelled() {
            let len = (SCORES / (self.k.len() / e.max(1)).max(1)).clamp(16, QUERIES);
            let rows = first..(first + len).min(n);
            first = rows.end;
            let hull = self.spans.hull(rows.clone());
            if hull.is_empty() {
                continue;
            }
            let (b, m) = (rows.len(), hull.len());
            let own = rows.start * e..rows.end * e;
            let matrix = |values, row, col| Matrix { values, row, col };
            let (k, v) = (&self.k[hull.start * e..], &self.v[hull.start * e..]);
            let (q, z, grad) = (&q[own.clone()], &z[own.clone()], &grad[own.clone()]);
            p.resize(b * m, 0.0);
            ds.resize(b * m, 0.0);
            cpu::gemm([b, e, m], (p, m), false, matrix(q, e, 1), matrix(k, 1, e), false);
            cpu::gemm([b, e, m], (ds, m), false, matrix(grad, e, 1), matrix(v, 1, e), false);
            let block = Block { rule: self.way.rule, bias: self.way.bias, spans: self.spans, rows: rows.clone(), e };
            for (i, (p, ds)) in p.chunks_exact_mut(m).zip(ds.chunks_exact_mut(m)).enumerate() {
                let sum = block.weigh(self.spans.of(rows.start + i), hull.start, p);
                let share = if sum > 0.0 { 1.0 / sum } else { 0.0 };
                let (z, grad) = (&z[i * e..][..e], &grad[i * e..][..e]);
                let scale = self.way.rule.scale;
                cpu::vectorised(|| {
                    let mean: f32 = z.iter().zip(grad).map(|(z, g)| z * g).sum();
                    for (p, ds) in p.iter_mut().zip(ds) {
                        *p *= share;
                        *ds = *p * (*ds - mean) * scale;
                    }
                });
            }
            let keys = hull.start * e..hull.end * e;
            cpu::gemm([b, m, e], (&mut dq[own], e), false, matrix(ds, m, 1), matrix(k, e, 1), false);
            cpu::gemm([m, b, e], (&mut dk[keys.clone()], e), true, matrix(ds, 1, m), matrix(q, e, 1), false);
            cpu::gemm([m, b, e], (&mut dv[keys], e), true, matrix(p, 1, m), matrix(grad, e, 1), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::blocks::attention::AttentionMask;
    use candle_core::{D, Device, Var};

    /// Gradients of one number made of the result: by blocks, and by whole tensors.
    fn both(rule: &AttentionRule, sizes: Option<&[usize]>, (h, g, n, e): (usize, usize, usize, usize)) {
        let device = Device::Cpu;
        let var = |a: usize, salt: usize| {
            let x = (0..a * n * e).map(|i| ((i * 7919 + salt * 104_729) % 997) as f32 / 400.0 - 1.2);
            Var::from_tensor(&Tensor::from_vec(x.collect::<Vec<_>>(), (a, n, e), &device).unwrap()).unwrap()
        };
        let (q, k, v, weight) = (var(h, 1), var(g, 2), var(g, 3), var(h, 4));
        let line: Vec<usize> = (0..n).collect();
        let places = Places { queries: &line, keys: &line, sizes };
        let inputs = [q.as_tensor(), k.as_tensor(), v.as_tensor()];
        let blocks = attend_with_gradients(inputs, rule, &rule.mask, &places, &Ctx::default()).unwrap();
        let mask = AttentionMask::new(&rule.mask, &line, &line, sizes, &device).unwrap();
        let every = |t: &Tensor| t.unsqueeze(1).unwrap().repeat((1, h / g, 1, 1)).unwrap().reshape((h, n, e)).unwrap();
        let s = (q.matmul(&every(&k).t().unwrap().contiguous().unwrap()).unwrap() * f64::from(rule.scale)).unwrap();
        let s = s.broadcast_add(&mask.0).unwrap().maximum(-1e30f32).unwrap();
        let w = s.broadcast_sub(&s.max_keepdim(D::Minus1).unwrap().detach()).unwrap().exp().unwrap();
        let p = w.broadcast_div(&w.sum_keepdim(D::Minus1).unwrap()).unwrap();
        let whole = p.matmul(&every(&v)).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let grads = |z: &Tensor| {
            let grads = (z * weight.as_tensor().detach()).unwrap().sum_all().unwrap().backward().unwrap();
            [&q, &k, &v].map(|x| flat(grads.get(x).unwrap()))
        };
        for (a, b) in
            grads(&blocks).concat().iter().zip(grads(&whole).concat()).chain(flat(&blocks).iter().zip(flat(&whole)))
        {
            assert!((a - b).abs() < 2e-5 * (1.0 + b.abs()), "{:?}: {a}, not {b}", rule.mask);
        }
    }

    #[test]
    fn gradients_by_blocks_are_those_of_whole_tensors() {
        let rule = |mask, h, g| AttentionRule { n_heads: h, n_kv_heads: g, scale: 0.4, mask, soft_cap: None };
        both(&rule(MaskRule::Causal, 4, 2), None, (4, 2, 2 * QUERIES + 5, 3));
        both(&rule(MaskRule::Bidirectional, 3, 3), Some(&[1, 4, 2, 1, 9]), (3, 3, 5, 7));
        both(&rule(MaskRule::SlidingWindow(3), 2, 1), None, (2, 1, 40, 4));
    }
}
