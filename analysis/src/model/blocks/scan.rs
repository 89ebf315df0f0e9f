//! The recurrence of selective state spaces, and the matrix of rows by rows that it amounts to. Gu & Dao 2023, arXiv
//! 2312.00752; Dao & Gu 2024, 2405.21060; the matrix: Ali et al. 2024, 2403.01590.

use super::cpu;
use crate::Result;
use crate::ctx::Ctx;
use candle_core::{DType, Tensor};
use rayon::prelude::*;

/// What a layer's recurrence has of its own: each head keeps a state of `states` values for each of its `width`
/// channels, `h ← exp(Δ A) h + Δ B x`, and gives `C h + D x`.
pub struct Recurrence {
    /// `A`, `[heads, states]`, or `[heads, 1]` where all states of a head fade alike.
    pub fade: Tensor,
    /// `D`, `[heads]`.
    pub skip: Tensor,
    /// Channels of a head.
    pub width: usize,
    /// Values of a state.
    pub states: usize,
}

/// What the recurrence reads of `n` rows.
pub struct Steps {
    /// `[n, heads · width]`.
    pub x: Tensor,
    /// `Δ`, `[n, heads]`.
    pub step: Tensor,
    /// `B`, `[n, groups · states]`; each group serves as many heads.
    pub write: Tensor,
    /// `C`, likewise.
    pub read: Tensor,
}

/// The same as values, for loops.
struct Values {
    x: Vec<f32>,
    step: Vec<f32>,
    write: Vec<f32>,
    read: Vec<f32>,
    fade: Vec<f32>,
    skip: Vec<f32>,
    rows: usize,
    heads: usize,
    groups: usize,
}

/// A state that has faded so far counts for nothing in f32.
const FADED: f32 = 1e-30;

impl Recurrence {
    /// Heads.
    pub fn heads(&self) -> Result<usize> {
        Ok(self.skip.dim(0)?)
    }

    /// `[n, heads · width]` behind the recurrence and the state `[heads, width, states]` after the last row; before the
    /// first it is `state`, or zeros.
    ///
    /// Errors: cancelled, those of the tensor library.
    pub fn run(&self, s: &Steps, state: Option<&Tensor>, ctx: &Ctx) -> Result<(Tensor, Tensor)> {
        if ![&s.x, &s.step, &s.write, &s.read].into_iter().all(cpu::is_plain) {
            return self.run_by_tensors(s, state, ctx);
        }
        let v = self.values(s)?;
        let (n, p, size) = (v.rows, self.width, self.states);
        let start = state.map(|s| s.flatten_all()?.to_vec1::<f32>()).transpose()?;
        let one = |head: usize| {
            let mut h = match &start {
                Some(all) => all[head * p * size..][..p * size].to_vec(),
                None => vec![0f32; p * size],
            };
            let mut y = vec![0f32; n * p];
            let mut fades = vec![0f32; size];
            for i in 0..n {
                if i % 64 == 0 && ctx.cancelled() {
                    break;
                }
                let (step, write, read) = v.row(i, head, size);
                self.fades(&v, head, step, &mut fades);
                for (c, h) in h.chunks_exact_mut(size).enumerate() {
                    let x = v.x[(i * v.heads + head) * p + c];
                    let mut sum = 0f32;
                    for (((h, fade), w), r) in h.iter_mut().zip(&fades).zip(write).zip(read) {
                        *h = *h * fade + step * w * x;
                        sum += *h * r;
                    }
                    y[i * p + c] = sum + v.skip[head] * x;
                }
            }
            (y, h)
        };
        let heads: Vec<(Vec<f32>, Vec<f32>)> = (0..v.heads).into_par_iter().map(one).collect();
        ctx.check()?;
        let mut y = vec![0f32; n * v.heads * p];
        let mut state = Vec::with_capacity(v.heads * p * size);
        for (head, (own, h)) in heads.into_iter().enumerate() {
            for (row, own) in y.chunks_exact_mut(v.heads * p).zip(own.chunks_exact(p)) {
                row[head * p..(head + 1) * p].copy_from_slice(own);
            }
            state.extend(h);
        }
        let device = s.x.device();
        Ok((Tensor::from_vec(y, (n, v.heads * p), device)?, Tensor::from_vec(state, (v.heads, p, size), device)?))
    }

    /// The same row by row with whole tensors, for gradients and for what is not f32 on the CPU.
    fn run_by_tensors(&self, s: &Steps, state: Option<&Tensor>, ctx: &Ctx) -> Result<(Tensor, Tensor)> {
        let (heads, p, size, n) = (self.heads()?, self.width, self.states, s.x.dim(0)?);
        let groups = s.write.dim(1)? / size;
        let of_heads = |t: &Tensor| -> Result<Tensor> {
            let t = t.reshape((n, groups, 1, size))?.broadcast_as((n, groups, heads / groups, size))?;
            Ok(t.contiguous()?.reshape((n, heads, 1, size))?)
        };
        let (write, read) = (of_heads(&s.write)?, of_heads(&s.read)?);
        let x = s.x.reshape((n, heads, p, 1))?;
        let step = s.step.reshape((n, heads, 1, 1))?;
        let fade = self.fade.reshape((heads, 1, self.fade.dim(1)?))?;
        let skip = self.skip.reshape((heads, 1))?;
        let mut h = match state {
            Some(h) => h.clone(),
            None => Tensor::zeros((heads, p, size), DType::F32, s.x.device())?,
        };
        let mut rows = Vec::with_capacity(n);
        for i in 0..n {
            ctx.check()?;
            let (x, step) = (x.get(i)?, step.get(i)?);
            let fades = step.broadcast_mul(&fade)?.exp()?;
            h = (h.broadcast_mul(&fades)? + x.broadcast_mul(&step.broadcast_mul(&write.get(i)?)?)?)?;
            let y = h.broadcast_mul(&read.get(i)?)?.sum(2)?;
            rows.push((y + x.squeeze(2)?.broadcast_mul(&skip)?)?.reshape((1, heads * p))?);
        }
        Ok((Tensor::cat(&rows, 0)?, h))
    }

    /// The matrix `[n, n]` of each head: what row `i` gets of row `j` beside `D`, so that the result is
    /// `Σ_j matrix[i, j] · x_j + D x_i`. `take` gets head and matrix, on several threads.
    ///
    /// Errors: cancelled, those of the tensor library.
    fn matrices(&self, s: &Steps, ctx: &Ctx, take: impl Fn(usize, &[f32]) + Sync) -> Result<()> {
        let v = self.values(s)?;
        let (n, size) = (v.rows, self.states);
        (0..v.heads).into_par_iter().for_each_init(
            || (vec![0f32; n * n], vec![0f32; n * size], vec![0f32; size]),
            |(matrix, fades, h), head| {
                for i in 0..n {
                    self.fades(&v, head, v.row(i, head, size).0, &mut fades[i * size..][..size]);
                }
                matrix.fill(0.0);
                for j in 0..n {
                    if ctx.cancelled() {
                        return;
                    }
                    let (step, write, _) = v.row(j, head, size);
                    h.iter_mut().zip(write).for_each(|(h, w)| *h = step * w);
                    for i in j..n {
                        if i > j {
                            h.iter_mut().zip(&fades[i * size..]).for_each(|(h, f)| *h *= f);
                            if h.iter().all(|h| h.abs() < FADED) {
                                break;
                            }
                        }
                        matrix[i * n + j] = h.iter().zip(v.row(i, head, size).2).map(|(h, r)| h * r).sum();
                    }
                }
                take(head, matrix);
            },
        );
        ctx.check()
    }

    /// The matrices of all heads, `[heads, n, n]`, signed.
    ///
    /// Errors: no room, cancelled.
    pub fn mixing(&self, s: &Steps, ctx: &Ctx) -> Result<Tensor> {
        let (n, heads) = (s.x.dim(0)?, self.heads()?);
        let need = size_of::<f32>() * n * n * (heads + rayon::current_num_threads());
        ctx.fits(need as u64, "ask for the mixing matrices of a shorter text, or of fewer layers")?;
        let out = std::sync::Mutex::new(vec![0f32; heads * n * n]);
        self.matrices(s, ctx, |head, matrix| {
            if let Ok(mut out) = out.lock() {
                out[head * n * n..][..n * n].copy_from_slice(matrix);
            }
        })?;
        Ok(Tensor::from_vec(out.into_inner().unwrap_or_default(), (heads, n, n), s.x.device())?)
    }

    /// The size of each entry, as shares of its row: for each head `[heads, n, n]`, or `[1, n, n]` of the mean over heads
    /// where they are `one`. A row of which nothing is left has zeros.
    ///
    /// Errors: no room, cancelled.
    pub fn shares(&self, s: &Steps, one: bool, ctx: &Ctx) -> Result<Vec<f32>> {
        let n = s.x.dim(0)?;
        let heads = if one { 1 } else { self.heads()? };
        let need = size_of::<f32>() * n * n * (heads + 2 * rayon::current_num_threads());
        ctx.fits(need as u64, "shorten the text")?;
        let out = std::sync::Mutex::new(vec![0f32; heads * n * n]);
        self.matrices(s, ctx, |head, matrix| {
            if let Ok(mut out) = out.lock() {
                let own = &mut out[if one { 0 } else { head * n * n }..][..n * n];
                own.iter_mut().zip(matrix).for_each(|(o, m)| *o += m.abs());
            }
        })?;
        let mut out = out.into_inner().unwrap_or_default();
        for row in out.chunks_exact_mut(n.max(1)) {
            let sum: f32 = row.iter().sum();
            if sum > 0.0 {
                row.iter_mut().for_each(|x| *x /= sum);
            }
        }
        Ok(out)
    }

    /// How much of each state of a head is left after a row.
    fn fades(&self, v: &Values, head: usize, step: f32, out: &mut [f32]) {
        let own = v.fade.len() / v.heads;
        match &v.fade[head * own..][..own] {
            [all] => out.fill((step * all).exp()),
            each => out.iter_mut().zip(each).for_each(|(o, a)| *o = (step * a).exp()),
        }
    }

    fn values(&self, s: &Steps) -> Result<Values> {
        let flat = |t: &Tensor| -> Result<Vec<f32>> { Ok(t.detach().flatten_all()?.to_vec1::<f32>()?) };
        Ok(Values {
            x: flat(&s.x)?,
            step: flat(&s.step)?,
            write: flat(&s.write)?,
            read: flat(&s.read)?,
            fade: flat(&self.fade)?,
            skip: flat(&self.skip)?,
            rows: s.x.dim(0)?,
            heads: self.heads()?,
            groups: s.write.dim(1)? / self.states,
        })
    }
}

impl Values {
    /// Step, `B` and `C` of a row for a head.
    fn row(&self, i: usize, head: usize, size: usize) -> (f32, &[f32], &[f32]) {
        let at = (i * self.groups + head / (self.heads / self.groups)) * size;
        (self.step[i * self.heads + head], &self.write[at..][..size], &self.read[at..][..size])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// Two heads of two channels in one group, two states, three rows.
    fn small() -> (Recurrence, Steps) {
        let t = |x: &[f32], shape: (usize, usize)| Tensor::from_slice(x, shape, &Device::Cpu).unwrap();
        let r = Recurrence {
            fade: t(&[-0.5, -1.0, -0.25, -2.0], (2, 2)),
            skip: Tensor::new(&[1.0f32, -0.5], &Device::Cpu).unwrap(),
            width: 2,
            states: 2,
        };
        let s = Steps {
            x: t(&[1.0, 2.0, -1.0, 0.5, 0.0, 1.0, 2.0, -2.0, 3.0, 1.0, 0.5, 1.5], (3, 4)),
            step: t(&[1.0, 0.5, 2.0, 1.0, 0.5, 0.25], (3, 2)),
            write: t(&[1.0, 0.5, -1.0, 2.0, 0.5, 1.0], (3, 2)),
            read: t(&[2.0, 1.0, 1.0, -1.0, 0.5, 3.0], (3, 2)),
        };
        (r, s)
    }

    fn flat(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn near(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} and {b:?}");
    }

    #[test]
    fn two_rows_by_hand() {
        let (r, s) = small();
        let (y, _) = r.run(&s, None, &Ctx::default()).unwrap();
        // Head 0, channel 0: the state is 1 · (1, 0.5) · 1, read by (2, 1): 2.5, and 1 of itself.
        let y = flat(&y);
        assert_eq!(y[0], 3.5);
        // Then exp(-1) and exp(-2) of it are left, and 0 comes to it: 1 · e⁻¹ - 0.5 · e⁻².
        assert!((y[4] - ((-1f32).exp() - 0.5 * (-2f32).exp())).abs() < 1e-6, "{}", y[4]);
    }

    #[test]
    fn the_matrix_is_what_the_recurrence_does_and_parts_are_the_whole() {
        let (r, s) = small();
        let ctx = Ctx::default();
        let (y, state) = r.run(&s, None, &ctx).unwrap();
        let (m, x) = (flat(&r.mixing(&s, &ctx).unwrap()), flat(&s.x));
        let skip = flat(&r.skip);
        let mut by_matrix = vec![0f32; 12];
        for (i, c) in (0..3).flat_map(|i| (0..4).map(move |c| (i, c))) {
            let head = c / 2;
            let sum: f32 = (0..3).map(|j| m[(head * 3 + i) * 3 + j] * x[j * 4 + c]).sum();
            by_matrix[i * 4 + c] = sum + skip[head] * x[i * 4 + c];
        }
        near(&flat(&y), &by_matrix);
        assert_eq!((m[1], m[2], m[5]), (0.0, 0.0, 0.0));
        // From the state after the first row on.
        let part = |from: usize, len: usize| {
            let of = |t: &Tensor| t.narrow(0, from, len).unwrap();
            Steps { x: of(&s.x), step: of(&s.step), write: of(&s.write), read: of(&s.read) }
        };
        let (_, first) = r.run(&part(0, 1), None, &ctx).unwrap();
        let (rest, last) = r.run(&part(1, 2), Some(&first), &ctx).unwrap();
        near(&flat(&rest), &flat(&y)[4..]);
        near(&flat(&last), &flat(&state));
        // Shares of rows, of each head and of both.
        let each = r.shares(&s, false, &ctx).unwrap();
        near(&[each[3] + each[4], each[9]], &[1.0, 1.0]);
        near(&each[3..5], &[m[3].abs() / (m[3].abs() + m[4].abs()), m[4].abs() / (m[3].abs() + m[4].abs())]);
        let both = r.shares(&s, true, &ctx).unwrap();
        let size = |i: usize| m[i].abs() + m[9 + i].abs();
        near(&both[3..5], &[size(3) / (size(3) + size(4)), size(4) / (size(3) + size(4))]);
    }

    #[test]
    fn whole_tensors_give_the_same_and_gradients() {
        let (r, s) = small();
        let x = Var::from_tensor(&s.x).unwrap();
        let watched = Steps { x: x.as_tensor().clone(), ..small().1 };
        let (y, state) = r.run(&watched, None, &Ctx::default()).unwrap();
        let (plain, plain_state) = r.run(&s, None, &Ctx::default()).unwrap();
        near(&flat(&y), &flat(&plain));
        near(&flat(&state), &flat(&plain_state));
        // The gradient of the sum of the last row by the first value is its entry of the matrix.
        let grads = y.get(2).unwrap().sum_all().unwrap().backward().unwrap();
        let m = flat(&r.mixing(&s, &Ctx::default()).unwrap());
        assert!((flat(grads.get(&x).unwrap())[0] - m[6]).abs() < 1e-6);
    }
}
