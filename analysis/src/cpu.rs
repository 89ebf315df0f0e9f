//! How slices are computed on: loops compiled for the widest vectors that the processor has, and matrix products.

use candle_core::Device;
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Whether what lies on `device` can be computed on as slices, and not by whole tensors alone.
pub(crate) fn is_here(device: &Device) -> bool {
    device.is_cpu() && !elsewhere()
}

#[cfg(not(test))]
fn elsewhere() -> bool {
    false
}

#[cfg(test)]
thread_local! {
    /// Whether this thread's tensors are computed on as on another device, so that this can be tested without one.
    pub(crate) static ELSEWHERE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(test)]
fn elsewhere() -> bool {
    ELSEWHERE.get()
}

/// Runs `f` compiled for the widest vectors that the processor has. What `f` calls must be inlined into it.
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Sums and the like are kept in this many lanes, which the compiler can do at once and which round less than one.
pub(crate) const LANES: usize = 16;

/// Sum of `f` over the values, in lanes.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for c in chunks {
        for (lane, &x) in lanes.iter_mut().zip(c) {
            *lane += f(x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>()
}

/// The largest value; −∞ of none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for c in chunks {
        for (lane, &x) in lanes.iter_mut().zip(c) {
            *lane = larger(*lane, x);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

/// A matrix inside a slice: element (i, j) stands at `i · row + j · col`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub values: &'a [f32],
    pub row: usize,
    pub col: usize,
}

impl Matrix<'_> {
    fn holds(&self, rows: usize, cols: usize) -> bool {
        holds(self.values.len(), rows, cols, self.row, self.col)
    }
}

fn holds(len: usize, rows: usize, cols: usize, row: usize, col: usize) -> bool {
    let last = (rows - 1).checked_mul(row).zip((cols - 1).checked_mul(col)).and_then(|(a, b)| a.checked_add(b));
    last.is_some_and(|last| last < len)
}

/// Multiplications that are not worth waking another thread for: a tenth of a millisecond, several times what that takes.
pub(crate) const ALONE: usize = 1 << 23;

/// Whether a product is not worth waking another thread for; reading a factor takes as long as multiplying it a few times.
pub(crate) fn is_little([m, k, n]: [usize; 3]) -> bool {
    m.max(4) * k * n < ALONE
}

/// Columns of `n` that a thread multiplies at a time: some four parts for each thread, as wide as the product's own tiles
/// of 64 columns are or half of one.
pub(crate) fn share(n: usize) -> usize {
    let len = n.div_ceil(4 * rayon::current_num_threads());
    len.next_multiple_of(if len > 32 { 64 } else { 32 })
}

/// Up to so many rows, a product with a factor that lies by columns is faster in [`small`] parts than where it is turned.
pub(crate) const SOME: usize = 256;

/// Rows and columns at a time of `rows` times a factor that lies by columns. The product first turns such a factor, which
/// costs as much as some ten rows and more where it doesn't fit a cache; it does not for products of up to 256 values.
/// What is read of the factor is in the cache when the next rows come to it.
fn small(rows: usize) -> (usize, usize) {
    let high = rows.div_ceil(rows.div_ceil(16));
    (high, 256 / high)
}

/// `dst += a · b` where `add`, else `dst = a · b`, for `a` `[m, k]`, `b` `[k, n]` and `dst` `[m, n]` with rows
/// `stride` apart, on one thread or, where `threads` and there is enough to do, on all.
pub(crate) fn gemm(
    [m, k, n]: [usize; 3],
    (dst, stride): (&mut [f32], usize),
    add: bool,
    a: Matrix,
    b: Matrix,
    threads: bool,
) {
    if m == 0 || n == 0 || k == 0 {
        if !add {
            dst.chunks_mut(stride.max(1)).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    assert!(stride >= n && holds(dst.len(), m, n, stride, 1), "the product fits its place");
    assert!(a.holds(m, k) && b.holds(k, n), "the factors hold what is read");
    let threads = threads && !is_little([m, k, n]);
    let keep = if add { 1.0 } else { 0.0 };
    let place = AtomicPtr::new(dst.as_mut_ptr());
    let part = |rows: Range<usize>, columns: Range<usize>, threads: Parallelism| {
        #[expect(unsafe_code, reason = "the fast matrix product takes pointers; the bounds were checked above")]
        // SAFETY: the ranges lie within `m` and `n`, so the largest index of each operand was found inside its slice; `dst`
        // is borrowed alone, and no two calls at a time write the same columns of it.
        unsafe {
            gemm::gemm(
                rows.len(),
                columns.len(),
                k,
                place.load(Ordering::Relaxed).add(rows.start * stride + columns.start),
                1,
                stride as isize,
                add,
                a.values.as_ptr().add(rows.start * a.row),
                a.col as isize,
                a.row as isize,
                b.values.as_ptr().add(columns.start * b.col),
                b.col as isize,
                b.row as isize,
                keep,
                1f32,
                false,
                false,
                false,
                threads,
            );
        }
    };
    if b.col == 1 {
        return part(0..m, 0..n, if threads { Parallelism::Rayon(0) } else { Parallelism::None });
    }
    let (high, wide) = if m <= SOME && m > 1 { small(m) } else { (m, n) };
    let columns = |first: usize, end: usize| {
        for j in (first..end).step_by(wide) {
            (0..m).step_by(high).for_each(|i| part(i..m.min(i + high), j..end.min(j + wide), Parallelism::None));
        }
    };
    if threads {
        // Such a factor is turned as it is read: in the product's own threads as a whole before any of them begins, and
        // from far apart; by columns each thread turns what it needs while another one multiplies.
        let len = share(n);
        let some = |i: usize| columns(i * len, n.min((i + 1) * len));
        (0..n.div_ceil(len)).into_par_iter().with_max_len(1).for_each(some);
    } else {
        columns(0, n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_with_strides_are_those_of_three_loops() {
        let (m, k, n) = (5, 7, 9);
        let a: Vec<f32> = (0..m * k).map(|i| (i * 37 % 11) as f32 - 5.0).collect();
        // b is stored transposed, and the product goes to rows 12 apart on top of what is there.
        let b: Vec<f32> = (0..n * k).map(|i| (i * 29 % 13) as f32 - 6.0).collect();
        let mut dst = vec![1f32; 5 * 12];
        let (a_of, b_of) = (Matrix { values: &a, row: k, col: 1 }, Matrix { values: &b, row: 1, col: k });
        gemm([m, k, n], (&mut dst, 12), true, a_of, b_of, false);
        for i in 0..m {
            for j in 0..12 {
                let dot: f32 = (0..k).map(|l| if j < n { a[i * k + l] * b[j * k + l] } else { 0.0 }).sum();
                assert_eq!(dst[i * 12 + j], 1.0 + dot);
            }
        }
    }

    #[test]
    fn threads_give_what_one_gives_however_factors_lie() {
        // Enough for several threads, with columns that no part divides.
        let (m, k, n, stride) = (70, 300, 413, 420);
        let values = |len: usize, salt: usize| (0..len).map(|i| ((i * 37 + salt) % 23) as f32 - 11.0).collect();
        let (a, b): (Vec<f32>, Vec<f32>) = (values(m * k, 1), values(k * n, 2));
        assert!(m * k * n > ALONE);
        for (row, col) in [(1, k), (n, 1)] {
            let product = |threads: bool| {
                let mut dst: Vec<f32> = values(m * stride, 3);
                let a = Matrix { values: &a, row: k, col: 1 };
                gemm([m, k, n], (&mut dst, stride), true, a, Matrix { values: &b, row, col }, threads);
                dst
            };
            assert_eq!(product(true), product(false));
        }
    }

    #[test]
    #[should_panic(expected = "the factors hold what is read")]
    fn a_factor_that_is_too_short_is_not_read() {
        let (short, whole) = ([0f32; 3], [0f32; 4]);
        let m = |values| Matrix { values, row: 2, col: 1 };
        gemm([2, 2, 2], (&mut [0f32; 4], 2), false, m(&short[..]), m(&whole[..]), false);
    }
}
