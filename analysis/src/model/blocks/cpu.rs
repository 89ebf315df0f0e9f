//! Plain f32 arrays on the CPU: where no gradient is asked for, blocks compute on slices, with the work split over
//! rayon's threads, and look at the cancel flag often enough that a stop takes effect within a fraction of a second.

pub(super) use crate::cpu::{
    ALONE, Matrix, PARALLEL, SOME, Scores, collect, exp, gemm, is_here, is_little, share, sum, tanh, turn, vectorised,
};
use crate::ctx::Ctx;
use crate::{Error, Result};
use candle_core::{CpuStorage, DType, Storage, Tensor};
use rayon::prelude::*;

/// Multiplications and additions between two looks at the cancel flag: some hundredths of a second, also where other
/// programs take most of the machine.
pub(super) const POLL_FLOPS: usize = 2_000_000_000;

/// Columns and rows of a product that are multiplied at once: fewer make it slower.
const LEAST: (usize, usize) = (256, 64);

/// How many of `all` make up each of the fewest parts of about one size with up to `most`; whole tiles of the product.
fn even(all: usize, most: usize) -> usize {
    let most = most / LEAST.1 * LEAST.1;
    all.div_ceil(all.div_ceil(most).max(1)).next_multiple_of(LEAST.1)
}

/// A product `[n, d] × [d, out]` in parts between which the cancel flag is looked at: for each the first row and the
/// first column, and how many.
pub(super) fn tiles((n, d, out): (usize, usize, usize)) -> impl Iterator<Item = ([usize; 2], [usize; 2])> {
    let wide = even(out, (POLL_FLOPS / (2 * n * d).max(1)).max(LEAST.0));
    let high = even(n, (POLL_FLOPS / (2 * d * wide.min(out)).max(1)).max(LEAST.1));
    let columns = (0..out).step_by(wide.max(1)).map(move |j| (j, wide.min(out - j)));
    columns.flat_map(move |(j, w)| (0..n).step_by(high.max(1)).map(move |r| ([r, j], [high.min(n - r), w])))
}

/// Whether `t` can be computed on as a slice: f32, on the CPU, and nobody asks for gradients.
pub(super) fn is_plain(t: &Tensor) -> bool {
    is_here(t.device()) && t.dtype() == DType::F32 && !t.track_op()
}

/// Calls `f` with the values of a plain tensor from its first one on, and its strides.
pub(super) fn read<R>(t: &Tensor, f: impl FnOnce(&[f32], &[usize]) -> Result<R>) -> Result<R> {
    read_all([t], |[(values, strides)]| f(values, strides))
}

/// The same of several tensors.
pub(super) fn read_all<const N: usize, R>(
    t: [&Tensor; N],
    f: impl FnOnce([(&[f32], &[usize]); N]) -> Result<R>,
) -> Result<R> {
    let all = t.map(Tensor::storage_and_layout);
    let mut out: [(&[f32], &[usize]); N] = [(&[], &[]); N];
    for (out, (storage, layout)) in out.iter_mut().zip(&all) {
        let Storage::Cpu(CpuStorage::F32(values)) = &**storage else {
            return Err(Error::invalid("a tensor that should be plain is not f32 on the CPU"));
        };
        *out = (&values[layout.start_offset()..], layout.stride());
    }
    f(out)
}

/// `f` of each value of `x` and of `y` at its place; both plain and of one shape.
pub(super) fn zip(x: &Tensor, y: &Tensor, f: impl Fn(f32, f32) -> f32 + Sync + Copy) -> Result<Tensor> {
    let (x_of, y_of, n) = (x.contiguous()?, y.contiguous()?, x.elem_count());
    let out = read_all([&x_of, &y_of], |[(x, _), (y, _)]| {
        Ok(collect(n, PART, |i| x[i * PART..n].iter().zip(&y[i * PART..n]).map(move |(x, y)| f(*x, *y))))
    })?;
    Ok(Tensor::from_vec(out, x.dims(), x.device())?)
}

/// Puts `f(x, y)` in the place of each value of `x`; `y` holds as many at least.
pub(super) fn zip_in_place(x: &mut [f32], y: &[f32], ctx: &Ctx, f: impl Fn(f32, f32) -> f32 + Sync + Copy) {
    each(x, PART, ctx, |i, part| {
        let y = &y[i * PART..][..part.len()];
        vectorised(|| part.iter_mut().zip(y).for_each(|(x, y)| *x = f(*x, *y)));
    });
}

/// Values that a thread takes at a time.
const PART: usize = 1 << 13;

/// Calls `f` with each `len` values of `x` and their index, on several threads where there are many; stops early
/// if the job was cancelled, so ask `ctx` before using the result.
pub(super) fn each(x: &mut [f32], len: usize, ctx: &Ctx, f: impl Fn(usize, &mut [f32]) + Sync) {
    if len == 0 {
        return;
    }
    let part = |i: usize, part: &mut [f32]| {
        if !ctx.cancelled() {
            f(i, part);
        }
    };
    if x.len() < PARALLEL {
        x.chunks_mut(len).enumerate().for_each(|(i, c)| part(i, c));
    } else {
        // Several short rows make one task.
        x.par_chunks_mut(len).with_min_len((PARALLEL / 4).div_ceil(len)).enumerate().for_each(|(i, c)| part(i, c));
    }
}

/// Applies `f` to every value in place; of long arithmetic, see [`map_wide!`].
pub(super) fn map(x: &mut [f32], ctx: &Ctx, f: impl Fn(f32) -> f32 + Sync + Copy) {
    parts(x, ctx, |part| vectorised(|| part.iter_mut().for_each(|x| *x = f(*x))));
}

/// Calls `f` with parts of `x`, as many as keep every thread at work.
pub(super) fn parts(x: &mut [f32], ctx: &Ctx, f: impl Fn(&mut [f32]) + Sync) {
    each(x, PARALLEL / 4, ctx, |_, part| f(part));
}

/// Applies a function of this name, which is always inlined, to every value in place.
macro_rules! map_wide {
    ($x:expr, $ctx:expr, $f:path) => {{
        $crate::cpu::wide! {
            fn all<'a>(x: &'a mut [f32]) {
                for x in x.iter_mut() {
                    *x = $f(*x);
                }
            }
        }
        $crate::model::blocks::cpu::parts($x, $ctx, |part| all(part))
    }};
}
pub(super) use map_wide;

/// `x Φ(x)`, the exact GELU, within 1e-7 of the larger of 1 and |x|.
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    x * below(x)
}

/// The slope of [`gelu`].
#[inline(always)]
pub(super) fn gelu_slope(x: f32) -> f32 {
    const HEIGHT: f32 = 0.398_942_3;
    below(x) + x * HEIGHT * exp(-0.5 * x * x)
}

/// `Φ(x)`, the normal distribution. The polynomial is a least-squares fit of `exp(t²) erfc(t)` in `1 / (1 + 0.3 t)`.
#[inline(always)]
pub(super) fn below(x: f32) -> f32 {
    let t = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let y = 1.0 / (1.0 + 0.3 * t);
    let p = -0.317_430_26;
    let p = p * y + 1.658_776_3;
    let p = p * y - 2.796_517_7;
    let p = p * y + 3.116_041_4;
    let p = p * y - 1.752_771_9;
    let p = p * y + 0.900_219_4;
    let p = p * y + 0.006_917_46;
    let p = p * y + 0.184_765_23;
    let tail = 0.5 * p * y * exp(-t * t);
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// `2 √(2/π)` and the weight of the cube in GELU by tanh.
const GELU_TANH: (f32, f32) = (1.595_769, 0.044_715);

/// GELU by tanh: `x / (1 + exp(−2 √(2/π) (x + 0.044715 x³)))`, which is the same.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    let (root, cube) = GELU_TANH;
    x / (1.0 + exp(-root * (x + cube * x * x * x)))
}

/// The slope of [`gelu_tanh`].
#[inline(always)]
pub(super) fn gelu_tanh_slope(x: f32) -> f32 {
    let (root, cube) = GELU_TANH;
    let s = 1.0 / (1.0 + exp(-root * (x + cube * x * x * x)));
    s + x * s * (1.0 - s) * root * (1.0 + 3.0 * cube * x * x)
}

/// The slope of [`swish`].
#[inline(always)]
pub(super) fn swish_slope(x: f32, k: f32) -> f32 {
    let s = 1.0 / (1.0 + exp(-k * x));
    s + k * x * s * (1.0 - s)
}

/// `1 / (1 + exp(−x))`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x · sigmoid(x)`.
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    swish(x, 1.0)
}

/// `x · sigmoid(1.702 x)`.
#[inline(always)]
pub(super) fn quick_gelu(x: f32) -> f32 {
    swish(x, 1.702)
}

/// `x / (1 + exp(−k x))`.
#[inline(always)]
pub(super) fn swish(x: f32, k: f32) -> f32 {
    x / (1.0 + exp(-k * x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(f: impl Fn(f32) -> f32, g: impl Fn(f64) -> f64, (low, high): (f32, f32), relative: f64, absolute: f64) {
        for i in 0..=20_000 {
            let x = low + (high - low) * i as f32 / 20_000.0;
            let (got, want) = (f64::from(f(x)), g(f64::from(x)));
            assert!((got - want).abs() <= relative * want.abs() + absolute, "f({x}) is {got}, not {want}");
        }
    }

    #[test]
    fn fast_functions_are_the_exact_ones_to_single_precision() {
        near(tanh, f64::tanh, (-12.0, 12.0), 6e-7, 0.0);
        near(|x| swish(x, 1.702), |x| x / (1.0 + (-1.702 * x).exp()), (-30.0, 30.0), 4e-6, 1e-30);
        let wide = |t: &candle_core::Tensor| t.to_vec1::<f64>().unwrap()[0];
        let one = |x: f64| candle_core::Tensor::new(&[x], &candle_core::Device::Cpu).unwrap();
        near(gelu, |x| wide(&one(x).gelu_erf().unwrap()), (-9.0, 9.0), 3e-7, 4e-7);
        near(gelu_tanh, |x| wide(&one(x).gelu().unwrap()), (-9.0, 9.0), 3e-7, 4e-7);
    }
}
