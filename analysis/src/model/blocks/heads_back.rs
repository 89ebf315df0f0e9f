//! Gradients of attention on plain values: what the way there made of scores is made again block by block, so that
//! no array of queries by keys is kept.

use super::cpu::{self, Matrix};
use super::frozen;
use super::heads::{Block, QUERIES, SCORES, Seen, dense, values};
use crate::ctx::Ctx;
use crate::trace::{AttentionRule, Spans};
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;
use std::sync::Arc;

/// Attention with gradients of queries, keys and values. Not for capped scores.
pub(super) fn attend_with_gradients(
    [q, k, v]: [&Tensor; 3],
    rule: &AttentionRule,
    seen: Arc<Seen>,
    ctx: &Ctx,
) -> Result<Tensor> {
    if rule.soft_cap.is_some() {
        return Err(Error::invalid("capped scores have no gradients block by block"));
    }
    let ((h, n, _), w, plain) = (q.dims3()?, v.dim(2)?, [q, k, v].map(|t| t.detach()));
    let z = values(plain.each_ref(), rule, &seen, ctx)?;
    let (rule, ctx) = (rule.clone(), ctx.clone());
    let back = move |inputs: [&Tensor; 3], z: &Tensor, grad: &Tensor| {
        gradients(inputs, z, grad, &Way { rule: &rule, seen: &seen, ctx: &ctx })
    };
    Ok(frozen::of_three("attention", [q, k, v], (z, (n, h, w).into()), back)?.transpose(0, 1)?)
}

struct Way<'a> {
    rule: &'a AttentionRule,
    seen: &'a Seen,
    ctx: &'a Ctx,
}

/// Values of one head: `[rows, e]`, with rows `row` apart.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    row: usize,
}

impl<'a> Rows<'a> {
    /// From row `first` on.
    fn from(&self, first: usize) -> Self {
        Self { values: &self.values[first * self.row..], ..*self }
    }

    fn row(&self, i: usize, e: usize) -> &'a [f32] {
        &self.values[i * self.row..][..e]
    }

    fn matrix(&self) -> Matrix<'a> {
        Matrix { values: self.values, row: self.row, col: 1 }
    }

    fn turned(&self) -> Matrix<'a> {
        Matrix { values: self.values, row: 1, col: self.row }
    }
}

/// Gradients of `[h, n, e]` queries, `[g, m, e]` keys and `[g, m, w]` values, from results and their gradients
/// `[n, h, w]`.
fn gradients([q, k, v]: [&Tensor; 3], z: &Tensor, grad: &Tensor, way: &Way) -> Result<[Tensor; 3]> {
    let ((h, n, e), (g, m, _), w) = (q.dims3()?, k.dims3()?, v.dim(2)?);
    let (mut dq, mut dk, mut dv) = (vec![0f32; h * n * e], vec![0f32; g * m * e], vec![0f32; g * m * w]);
    let (rep, keys, values, threads) = (h / g, (m * e).max(1), (m * w).max(1), rayon::current_num_threads());
    // Groups of heads that share keys go side by side; where they are too few for that, the threads share each.
    let wide = !g.is_multiple_of(threads) && g < 4 * threads;
    let all = [&dense(q)?, &dense(k)?, &dense(v)?, &z.transpose(0, 1)?, &dense(grad)?.transpose(0, 1)?];
    cpu::read_all(all, |all| {
        let of = |i: usize, head: usize| {
            let (values, at) = all[i];
            Rows { values: &values[head * at[0]..], row: at[1] }
        };
        let group = |own: usize, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]| {
            let mut room = (Vec::new(), Vec::new());
            for (i, dq) in dq.chunks_mut((n * e).max(1)).enumerate() {
                let head = own * rep + i;
                let (spans, k, v) = (way.seen.by(head, h), of(1, own), of(2, own));
                let one = Head { n, m, e, w, sink: way.rule.sink(head), way, spans, k, v, wide };
                one.back([of(0, head), of(3, head), of(4, head)], [dq, &mut *dk, &mut *dv], &mut room);
            }
        };
        let size = (rep * n * e).max(1);
        if wide {
            let groups = dq.chunks_mut(size).zip(dk.chunks_mut(keys)).zip(dv.chunks_mut(values));
            groups.enumerate().for_each(|(own, ((dq, dk), dv))| group(own, dq, dk, dv));
        } else {
            let groups = dq.par_chunks_mut(size).zip(dk.par_chunks_mut(keys)).zip(dv.par_chunks_mut(values));
            groups.enumerate().for_each(|(own, ((dq, dk), dv))| group(own, dq, dk, dv));
        }
        Ok(())
    })?;
    way.ctx.check()?;
    let tensor = |x: Vec<f32>, of: &Tensor| -> Result<Tensor> { Ok(Tensor::from_vec(x, of.dims(), of.device())?) };
    Ok([tensor(dq, q)?, tensor(dk, k)?, tensor(dv, v)?])
}

/// One query head with the keys `[m, e]` and values `[m, w]` that it reads.
struct Head<'a> {
    n: usize,
    m: usize,
    e: usize,
    w: usize,
    sink: Option<f32>,
    way: &'a Way<'a>,
    spans: &'a Spans,
    k: Rows<'a>,
    v: Rows<'a>,
    /// Whether all threads work on this head.
    wide: bool,
}

impl Head<'_> {
    /// From queries `[n, e]`, results and their gradients `[n, w]`, adds to the gradients of queries `[n, e]`, keys
    /// `[m, e]` and values `[m, w]`.
    fn back(&self, [q, z, grad]: [Rows; 3], [dq, dk, dv]: [&mut [f32]; 3], room: &mut (Vec<f32>, Vec<f32>)) {
        let Self { n, e, w, wide, .. } = *self;
        let (p, ds) = room;
        let mut first = 0;
        while first < n && !self.way.ctx.cancelled() {
            let len = (SCORES / self.m.max(1)).clamp(16, QUERIES);
            let rows = first..(first + len).min(n);
            first = rows.end;
            let hull = self.spans.hull(rows.clone());
            if hull.is_empty() {
                continue;
            }
            let (b, m) = (rows.len(), hull.len());
            let (k, v) = (self.k.from(hull.start), self.v.from(hull.start));
            let (q, z, grad) = (q.from(rows.start), z.from(rows.start), grad.from(rows.start));
            p.resize(b * m, 0.0);
            ds.resize(b * m, 0.0);
            cpu::gemm([b, e, m], (p, m), false, q.matrix(), k.turned(), wide);
            cpu::gemm([b, w, m], (ds, m), false, grad.matrix(), v.turned(), wide);
            let (rule, bias) = (self.way.rule, self.way.seen.bias());
            let block = Block { rule, sink: self.sink, bias, spans: self.spans, rows, e };
            let scores_of = block.scores();
            let row = |i: usize, p: &mut [f32], ds: &mut [f32]| {
                let sum = scores_of.weigh(self.spans.of(block.rows.start + i), hull.start, p);
                let share = if sum > 0.0 { 1.0 / sum } else { 0.0 };
                let (z, grad, scale) = (z.row(i, w), grad.row(i, w), self.way.rule.scale);
                cpu::vectorised(|| {
                    let mean: f32 = z.iter().zip(grad).map(|(z, g)| z * g).sum();
                    for (p, ds) in p.iter_mut().zip(ds) {
                        *p *= share;
                        *ds = *p * (*ds - mean) * scale;
                    }
                });
            };
            if wide {
                let rows = p.par_chunks_exact_mut(m).zip(ds.par_chunks_exact_mut(m));
                rows.with_min_len(8).enumerate().for_each(|(i, (p, ds))| row(i, p, ds));
            } else {
                let rows = p.chunks_exact_mut(m).zip(ds.chunks_exact_mut(m));
                rows.enumerate().for_each(|(i, (p, ds))| row(i, p, ds));
            }
            let (own, keys) = (block.rows.start * e..block.rows.end * e, hull.start * e..hull.end * e);
            let scores = |values, turned| match turned {
                true => Matrix { values, row: 1, col: m },
                false => Matrix { values, row: m, col: 1 },
            };
            cpu::gemm([b, m, e], (&mut dq[own], e), false, scores(&ds[..], false), k.matrix(), wide);
            cpu::gemm([m, b, e], (&mut dk[keys], e), true, scores(&ds[..], true), q.matrix(), wide);
            let own = hull.start * w..hull.end * w;
            cpu::gemm([m, b, w], (&mut dv[own], w), true, scores(&p[..], true), grad.matrix(), wide);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::blocks::attention::AttentionMask;
    use crate::trace::MaskRule;
    use candle_core::{D, Device, Var};

    /// Gradients of one number made of the result: by blocks, and by whole tensors.
    fn both(rule: &AttentionRule, sizes: Option<&[usize]>, (h, g, n, e): (usize, usize, usize, usize)) {
        let device = Device::Cpu;
        let w = if rule.sinks.is_some() { e + 2 } else { e };
        let var = |a: usize, e: usize, salt: usize| {
            let x = (0..a * n * e).map(|i| ((i * 7919 + salt * 104_729) % 997) as f32 / 400.0 - 1.2);
            Var::from_tensor(&Tensor::from_vec(x.collect::<Vec<_>>(), (a, n, e), &device).unwrap()).unwrap()
        };
        let (q, k, v, weight) = (var(h, e, 1), var(g, e, 2), var(g, w, 3), var(h, w, 4));
        let line: Vec<usize> = (0..n).collect();
        let seen = Arc::new(Seen::new(&rule.mask, &line, &line, sizes));
        let inputs = [q.as_tensor(), k.as_tensor(), v.as_tensor()];
        let blocks = attend_with_gradients(inputs, rule, seen, &Ctx::default()).unwrap();
        let mask = AttentionMask::new(&rule.mask, &line, &line, sizes, &device).unwrap();
        let every = |t: &Tensor| {
            t.unsqueeze(1).unwrap().repeat((1, h / g, 1, 1)).unwrap().reshape((h, n, t.dim(2).unwrap())).unwrap()
        };
        let s = (q.matmul(&every(&k).t().unwrap().contiguous().unwrap()).unwrap() * f64::from(rule.scale)).unwrap();
        let s = s.broadcast_add(&mask.0).unwrap().maximum(-1e30f32).unwrap();
        let max = s.max_keepdim(D::Minus1).unwrap().detach();
        let w = s.broadcast_sub(&max).unwrap().exp().unwrap();
        let mut sum = w.sum_keepdim(D::Minus1).unwrap();
        if let Some(sinks) = &rule.sinks {
            let sinks = Tensor::from_slice(sinks, (h, 1, 1), &device).unwrap();
            sum = (sum + sinks.broadcast_sub(&max).unwrap().exp().unwrap()).unwrap();
        }
        let p = w.broadcast_div(&sum).unwrap();
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
        let rule =
            |mask, h, g| AttentionRule { n_heads: h, n_kv_heads: g, scale: 0.4, mask, soft_cap: None, sinks: None };
        both(&rule(MaskRule::Causal, 4, 2), None, (4, 2, 2 * QUERIES + 5, 3));
        both(&rule(MaskRule::Bidirectional, 3, 3), Some(&[1, 4, 2, 1, 9]), (3, 3, 5, 7));
        both(&rule(MaskRule::SlidingWindow(3), 2, 1), None, (2, 1, 40, 4));
        let sinks = AttentionRule { sinks: Some(vec![0.3, -1.0, 2.0, 0.0]), ..rule(MaskRule::Causal, 4, 2) };
        both(&sinks, None, (4, 2, QUERIES + 5, 3));
        // Few groups are computed by all threads together, several ones side by side.
        both(&rule(MaskRule::Causal, 2, 1), None, (2, 1, 300, 64));
        both(&rule(MaskRule::Causal, 32, 32), None, (32, 32, 20, 4));
    }
}
