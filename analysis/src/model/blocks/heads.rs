//! Attention of all heads on plain values: block by block of queries, only over keys that the block can see, so that
//! no array of queries by keys is ever made.

use super::cpu::{self, Matrix, Scores};
use crate::ctx::Ctx;
use crate::trace::{AttentionRule, MaskRule, Spans};
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;

/// Queries of a block at most, where keys are few; the product is fastest with many.
pub(super) const QUERIES: usize = 128;
/// Queries from which on their keys are turned beforehand.
const TURNING: usize = 32;
/// Scores that one block holds at most, so that memory does not grow with the text and a block takes milliseconds.
pub(super) const SCORES: usize = 1 << 21;

/// What queries see of keys, and how much more a key weighs that stands for several tokens.
pub(super) struct Seen {
    /// Of all heads, or of each.
    spans: Vec<Spans>,
    /// Added to the scores of each key.
    bias: Option<Vec<f32>>,
    n_queries: usize,
    n_keys: usize,
}

impl Seen {
    /// Reads `mask` for queries and keys at these positions; `sizes` are tokens per key row for proportional attention.
    pub fn new(mask: &MaskRule, queries: &[usize], keys: &[usize], sizes: Option<&[usize]>) -> Self {
        // Heads mostly see alike.
        let spans = match mask {
            MaskRule::PerHead(all) => all.iter().map(|m| Spans::new(m, queries, keys)).collect(),
            mask => vec![Spans::new(mask, queries, keys)],
        };
        let bias = sizes.map(|s| s.iter().map(|&s| (s as f32).ln()).collect());
        Self { spans, bias, n_queries: queries.len(), n_keys: keys.len() }
    }

    /// What head `head` of `n_heads` sees.
    pub fn by(&self, head: usize, n_heads: usize) -> &Spans {
        &self.spans[head * self.spans.len() / n_heads]
    }

    /// What is added to the scores of each key.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }
}

/// `softmax(scale · q kᵀ + mask) v` per head: `[h, n, e]` queries over `[g, m, e]` keys and `[g, m, w]` values →
/// `[h, n, w]`, laid out so that the heads of a row lie together. A query that sees no key gives zeros. What is seen
/// does not come from the rule.
pub(super) fn attend(inputs: [&Tensor; 3], rule: &AttentionRule, seen: &Seen, ctx: &Ctx) -> Result<Tensor> {
    let ((h, n, _), w) = (inputs[0].dims3()?, inputs[2].dim(2)?);
    let z = values(inputs, rule, seen, ctx)?;
    Ok(Tensor::from_vec(z, (n, h, w), inputs[0].device())?.transpose(0, 1)?)
}

/// [`attend`] as values `[n, h, w]`.
pub(super) fn values([q, k, v]: [&Tensor; 3], rule: &AttentionRule, seen: &Seen, ctx: &Ctx) -> Result<Vec<f32>> {
    let ((h, n, e), (g, m, _)) = (q.dims3()?, k.dims3()?);
    let w = v.dim(2)?;
    let fits = k.dim(2)? == e && v.dims()[..2] == k.dims()[..2] && (seen.n_queries, seen.n_keys) == (n, m);
    if g == 0 || h % g != 0 || !fits {
        return Err(Error::shape("keys", format!("[divisor of {h}, {m}, {e}]"), k.dims()));
    }
    let (q, k, v) = (dense(q)?, dense(k)?, dense(v)?);
    let mut z = vec![0f32; n * h * w];
    let little = 2 * h * n * m * (e + w) < cpu::ALONE;
    cpu::read_all([&q, &k, &v], |[(q, q_at), (k, k_at), (v, v_at)]| {
        // Every block of queries would turn the keys for its product.
        let turned = if little || n < TURNING { Vec::new() } else { turned(k, k_at, [g, m, e]) };
        let one = |rows: std::ops::Range<usize>, head: usize, z: &mut [f32], scores: &mut Vec<f32>| {
            if ctx.cancelled() {
                return;
            }
            let own = head / (h / g);
            let q = Matrix { values: &q[head * q_at[0] + rows.start * q_at[1]..], row: q_at[1], col: 1 };
            let k = match turned.is_empty() {
                true => Matrix { values: &k[own * k_at[0]..], row: 1, col: k_at[1] },
                false => Matrix { values: &turned[own * m * e..], row: m, col: 1 },
            };
            let v = Matrix { values: &v[own * v_at[0]..], row: v_at[1], col: 1 };
            let block = Block { rule, sink: rule.sink(head), bias: seen.bias(), spans: seen.by(head, h), rows, e };
            block.attend(q, k, v, w, (z, h * w), scores);
        };
        // Two products, and shares between them.
        if little {
            let mut scores = Vec::new();
            (0..h).for_each(|head| one(0..n, head, &mut z[head * w..], &mut scores));
        } else if n == 1 {
            z.par_chunks_mut(w.max(1)).enumerate().for_each_init(Vec::new, |s, (head, z)| one(0..1, head, z, s));
        } else {
            let share = n.div_ceil(4 * rayon::current_num_threads());
            let rows = share.clamp(16, QUERIES).min((SCORES / m.max(1)).max(16));
            // Later queries see more keys, so the last blocks go first.
            z.par_chunks_mut((rows * h * w).max(1)).enumerate().rev().for_each_init(Vec::new, |s, (i, z)| {
                let rows = i * rows..((i + 1) * rows).min(n);
                (0..h).for_each(|head| one(rows.clone(), head, &mut z[head * w..], s));
            });
        }
        Ok(())
    })?;
    ctx.check()?;
    Ok(z)
}

/// Keys `[g, m, e]` by component, `[g, e, m]`.
fn turned(k: &[f32], at: &[usize], [g, m, e]: [usize; 3]) -> Vec<f32> {
    let mut out = vec![0f32; g * m * e];
    let places = out.par_chunks_mut((m * e).max(1)).enumerate();
    places.for_each(|(i, out)| cpu::turn(&k[i * at[0]..], at[1], [m, e], out, m));
    out
}

/// The same values, with the components of a head one after the other.
pub(super) fn dense(t: &Tensor) -> Result<Tensor> {
    Ok(if t.stride().last() == Some(&1) { t.clone() } else { t.contiguous()? })
}

/// Some queries of one head.
pub(super) struct Block<'a> {
    pub rule: &'a AttentionRule,
    /// A score of the head that belongs to no key.
    pub sink: Option<f32>,
    pub bias: Option<&'a [f32]>,
    pub spans: &'a Spans,
    pub rows: std::ops::Range<usize>,
    pub e: usize,
}

impl Block<'_> {
    /// `q` begins at the block's first query, and `k` has keys as columns; `z` begins at its place for this head, with
    /// rows of `w` values `stride` apart.
    fn attend(
        &self,
        q: Matrix,
        k: Matrix,
        v: Matrix,
        w: usize,
        (z, stride): (&mut [f32], usize),
        scores: &mut Vec<f32>,
    ) {
        let hull = self.spans.hull(self.rows.clone());
        if hull.is_empty() {
            return;
        }
        let (b, m, e) = (self.rows.len(), hull.len(), self.e);
        let k = Matrix { values: &k.values[hull.start * k.col..], ..k };
        let v = Matrix { values: &v.values[hull.start * v.row..], ..v };
        scores.resize(b * m, 0.0);
        let p = &mut scores[..b * m];
        cpu::gemm([b, e, m], (p, m), false, q, k, false);
        let (mut sums, own) = (vec![0f32; b], self.scores());
        for ((query, p), sum) in self.rows.clone().zip(p.chunks_exact_mut(m)).zip(&mut sums) {
            *sum = own.weigh(self.spans.of(query), hull.start, p);
        }
        cpu::gemm([b, m, w], (z, stride), false, Matrix { values: p, row: m, col: 1 }, v, false);
        for (z, sum) in z.chunks_mut(stride).zip(sums) {
            let inv = if sum > 0.0 { 1.0 / sum } else { 0.0 };
            z[..w].iter_mut().for_each(|z| *z *= inv);
        }
    }

    /// What the block's products become before they are weighed.
    pub fn scores(&self) -> Scores<'_> {
        Scores { scale: self.rule.scale, cap: self.rule.soft_cap, bias: self.bias, sink: self.sink }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::MaskRule;
    use candle_core::Device;

    /// Softmax and sum by plain loops in f64.
    fn slow(
        q: &[Vec<Vec<f32>>],
        k: &[Vec<Vec<f32>>],
        v: &[Vec<Vec<f32>>],
        rule: &AttentionRule,
        (queries, keys, sizes): (&[usize], &[usize], Option<&[usize]>),
    ) -> Vec<f64> {
        let (h, g, m, w) = (q.len(), k.len(), k[0].len(), v[0][0].len());
        let mut out = Vec::new();
        for (head, rows) in q.iter().enumerate() {
            let (k, v) = (&k[head / (h / g)], &v[head / (h / g)]);
            for (i, row) in rows.iter().enumerate() {
                let score = |j: usize| {
                    let dot: f64 = row.iter().zip(&k[j]).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                    let mut s = dot * f64::from(rule.scale);
                    if let Some(cap) = rule.soft_cap {
                        s = f64::from(cap) * (s / f64::from(cap)).tanh();
                    }
                    sizes.map_or(1.0, |s| s[j] as f64) * s.exp()
                };
                let mask = rule.mask.of_head(head, h);
                let seen: Vec<usize> = (0..m).filter(|&j| mask.allows(i, queries[i], j, keys[j])).collect();
                let sink = rule.sink(head).map_or(0.0, |s| f64::from(s).exp());
                let sum = seen.iter().map(|&j| score(j)).sum::<f64>() + sink;
                let part = |c: usize| seen.iter().map(|&j| score(j) * f64::from(v[j][c])).sum::<f64>();
                out.extend((0..w).map(|c| if seen.is_empty() { 0.0 } else { part(c) / sum }));
            }
        }
        out
    }

    fn check(mask: MaskRule, cap: Option<f32>, n: usize, keys: &[usize], sizes: Option<&[usize]>) {
        for (sinks, w) in [(None, 3), (Some(vec![0.5, -2.0, 3.0, 0.0]), 5)] {
            check_wide(mask.clone(), cap, n, keys, sizes, sinks, w);
        }
    }

    /// With a sink for each head, and values of another width than keys.
    fn check_wide(
        mask: MaskRule,
        cap: Option<f32>,
        n: usize,
        keys: &[usize],
        sizes: Option<&[usize]>,
        sinks: Option<Vec<f32>>,
        w: usize,
    ) {
        let (h, g, e, m) = (4, 2, 3, keys.len());
        let make = |a: usize, n: usize, e: usize, salt: usize| {
            let x: Vec<f32> =
                (0..a * n * e).map(|i| ((i * 7919 + salt * 104_729) % 997) as f32 / 400.0 - 1.2).collect();
            Tensor::from_vec(x, (n, a, e), &Device::Cpu).unwrap().transpose(0, 1).unwrap()
        };
        let (q, k, v) = (make(h, n, e, 1), make(g, m, e, 2), make(g, m, w, 3).contiguous().unwrap());
        let rule = AttentionRule { n_heads: h, n_kv_heads: g, scale: 0.8, mask, soft_cap: cap, sinks };
        // Queries stand at the last positions, as with a cache.
        let queries = &keys[m - n..];
        let seen = Seen::new(&rule.mask, queries, keys, sizes);
        let got = attend([&q, &k, &v], &rule, &seen, &Ctx::default()).unwrap();
        let got = got.contiguous().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let list = |t: &Tensor| t.to_vec3::<f32>().unwrap();
        let want = slow(&list(&q), &list(&k), &list(&v), &rule, (queries, keys, sizes));
        for (i, (a, b)) in got.iter().zip(&want).enumerate() {
            assert!((f64::from(*a) - b).abs() < 2e-6, "{:?}: value {i} is {a}, not {b}", rule.mask);
        }
    }

    #[test]
    fn every_mask_gives_what_plain_loops_give() {
        // Enough for more than one thread.
        let n = 4 * QUERIES + 5;
        let line: Vec<usize> = (0..n).collect();
        check(MaskRule::Causal, None, n, &line, None);
        check(MaskRule::Causal, Some(1.5), n, &line, None);
        check(MaskRule::Bidirectional, None, n, &line, None);
        check(MaskRule::SlidingWindow(40), None, n, &line, None);
        check(MaskRule::SlidingWindow(1), None, 7, &line, None);
        check(MaskRule::Causal, None, 1, &line, None);
        // Positions that leave gaps, repeat, or go down, as after pruning and in trees.
        check(MaskRule::Causal, None, 6, &[0, 2, 3, 3, 7, 9, 12, 12], None);
        check(MaskRule::Causal, None, 6, &[4, 0, 3, 9, 7, 2], None);
        check(MaskRule::SlidingWindow(4), None, 6, &[4, 0, 3, 9, 7, 2], None);
        check(MaskRule::Bidirectional, None, 5, &line[..5], Some(&[1, 4, 2, 1, 9]));
        // A tree over three cached rows, a row that sees nothing, and one whose list is short and out of order.
        let tree = vec![vec![0, 1, 2, 3], vec![0, 1, 2, 4], vec![0, 1, 3, 5], Vec::new(), vec![7, 2]];
        check(MaskRule::Table(tree.into()), None, 5, &line[..8], None);
        // Some keys alone, the same for all heads; others for each head, with a head that reads nothing.
        let only = |keys: &[usize], of: MaskRule| MaskRule::Only { keys: keys.to_vec(), of: Box::new(of) };
        check(only(&[7, 0, 4, 3], MaskRule::Causal), None, 6, &line[..8], None);
        let sets = [&[0, 1, 2, 9, 40][..], &[3, 5, 6], &[], &[0, 39, 38, 37]];
        let each = |of: MaskRule| MaskRule::PerHead(sets.iter().map(|keys| only(keys, of.clone())).collect());
        check(each(MaskRule::Causal), None, 40, &line[..41], None);
        check(each(MaskRule::SlidingWindow(6)), Some(2.0), 40, &line[..41], None);
    }

    #[test]
    fn a_cancelled_job_gets_no_result() {
        let t = Tensor::ones((2, 40, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let rule = AttentionRule {
            n_heads: 2,
            n_kv_heads: 2,
            scale: 1.0,
            mask: MaskRule::Causal,
            soft_cap: None,
            sinks: None,
        };
        let line: Vec<usize> = (0..40).collect();
        let ctx = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        let seen = Seen::new(&rule.mask, &line, &line, None);
        assert!(matches!(attend([&t; 3], &rule, &seen, &ctx), Err(Error::Cancelled)));
    }
}
