//! Matrix products on slices.

use super::wide;
use gemm::Parallelism;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, Ordering};

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

/// Whether a product is not worth waking another thread for; reading a factor takes as long as multiplying it a few
/// times.
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
pub(crate) const SOME: usize = 112;

/// Rows and columns at a time of `rows` times a factor that lies by columns. The product first turns such a factor, which
/// costs as much as some ten rows and more where it doesn't fit a cache; it does not for products of up to 256 values.
/// What is read of the factor is in the cache when the next rows come to it.
fn small(rows: usize) -> (usize, usize) {
    let high = rows.div_ceil(rows.div_ceil(16));
    (high, 256 / high)
}

/// Rows that are turned at once: as many values as a line of the processor's cache holds.
const LINE: usize = 16;

wide! {
    /// Some rows of some values each (`size`), which begin `row` apart in `x`, become columns of `out`, whose rows begin
    /// `stride` apart.
    pub(crate) fn turn<'a>(x: &'a [f32], row: usize, size: [usize; 2], out: &'a mut [f32], stride: usize) {
        let [rows, width] = size;
        for first in (0..rows).step_by(LINE) {
            if rows - first >= LINE {
                turn_some::<LINE>(&x[first * row..], row, width, &mut out[first..], stride);
            } else {
                (first..rows).for_each(|i| turn_some::<1>(&x[i * row..], row, width, &mut out[i..], stride));
            }
        }
    }
}

#[inline(always)]
fn turn_some<const N: usize>(x: &[f32], row: usize, width: usize, out: &mut [f32], stride: usize) {
    let rows: [&[f32]; N] = std::array::from_fn(|i| &x[i * row..][..width]);
    for c in 0..width {
        let own: [f32; N] = std::array::from_fn(|i| rows[i][c]);
        out[c * stride..][..N].copy_from_slice(&own);
    }
}

/// Columns and rows of a factor that a thread turns at a time: as many as stay in the cache until they are multiplied.
const PANEL: [usize; 2] = [128, 1024];

thread_local! {
    /// A place for a panel of a factor, kept from product to product.
    static TURNED: RefCell<Vec<f32>> = RefCell::default();
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
    let place = AtomicPtr::new(dst.as_mut_ptr());
    // Some rows and columns of the product, and some of its terms, with what of `b` belongs to them.
    let part = |[rows, columns, terms]: [Range<usize>; 3], b: Matrix, threads: Parallelism| {
        assert!(b.holds(terms.len(), columns.len()), "the part of the factor holds what is read");
        let add = add || terms.start > 0;
        #[expect(unsafe_code, reason = "the fast matrix product takes pointers; the bounds were checked above")]
        // SAFETY: the ranges are not empty and lie within `m`, `n` and `k`, so the largest index of each operand was
        // found inside its slice; `dst` is borrowed alone, and no two calls at a time write the same columns of it.
        unsafe {
            gemm::gemm(
                rows.len(),
                columns.len(),
                terms.len(),
                place.load(Ordering::Relaxed).add(rows.start * stride + columns.start),
                1,
                stride as isize,
                add,
                a.values.as_ptr().add(rows.start * a.row + terms.start * a.col),
                a.col as isize,
                a.row as isize,
                b.values.as_ptr(),
                b.col as isize,
                b.row as isize,
                if add { 1.0 } else { 0.0 },
                1f32,
                false,
                false,
                false,
                threads,
            );
        }
    };
    if b.col == 1 {
        return part([0..m, 0..n, 0..k], b, if threads { Parallelism::Rayon(0) } else { Parallelism::None });
    }
    let turning = |first: usize, end: usize, held: &mut Vec<f32>| {
        let [wide, deep] = PANEL;
        for j in (first..end).step_by(wide) {
            let len = wide.min(end - j);
            for l in (0..k).step_by(deep) {
                let terms = deep.min(k - l);
                held.resize(terms * len, 0.0);
                turn(&b.values[j * b.col + l..], b.col, [len, terms], held, len);
                let turned = Matrix { values: held, row: len, col: 1 };
                part([0..m, j..j + len, l..l + terms], turned, Parallelism::None);
            }
        }
    };
    let (high, wide) = if m <= SOME && m > 1 { small(m) } else { (m, n) };
    let columns = |first: usize, end: usize| {
        if m > SOME && b.row == 1 {
            return TURNED.with_borrow_mut(|held| turning(first, end, held));
        }
        for j in (first..end).step_by(wide) {
            let (end, own) = (end.min(j + wide), Matrix { values: &b.values[j * b.col..], ..b });
            (0..m).step_by(high).for_each(|i| part([i..m.min(i + high), j..end, 0..k], own, Parallelism::None));
        }
    };
    if threads {
        // Such a factor is turned as it is read: in the product's own threads as a whole before any of them begins, and
        // from far apart; by columns each thread turns what it needs while another one multiplies.
        let len = if m > SOME { share(n).next_multiple_of(PANEL[0] / 2) } else { share(n) };
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
        // Enough for several threads, with columns that no part divides; rows that are few, and so many that a factor is
        // turned, in panels that are not as deep as the product.
        let values = |len: usize, salt: usize| (0..len).map(|i| ((i * 37 + salt) % 23) as f32 - 11.0).collect();
        for (m, k, n) in [(70, 300, 413), (SOME + 9, PANEL[1] + 60, 2 * PANEL[0] + 37)] {
            let stride = n + 7;
            let (a, b): (Vec<f32>, Vec<f32>) = (values(m * k, 1), values(k * n, 2));
            assert!(m * k * n > ALONE);
            let whole: Vec<f32> = values(m * stride, 3);
            for (row, col) in [(1, k), (n, 1)] {
                let product = |add: bool, threads: bool| {
                    let mut dst = whole.clone();
                    let a = Matrix { values: &a, row: k, col: 1 };
                    gemm([m, k, n], (&mut dst, stride), add, a, Matrix { values: &b, row, col }, threads);
                    dst
                };
                // Whole numbers, whose sums are exact in any order.
                let cell = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * row + j * col]).sum::<f32>();
                for (add, threads) in [(true, true), (true, false), (false, true), (false, false)] {
                    let got = product(add, threads);
                    for i in [0, 1, m / 2, m - 1] {
                        for j in 0..stride {
                            let before = whole[i * stride + j];
                            let want = if j < n { cell(i, j) + if add { before } else { 0.0 } } else { before };
                            assert_eq!(got[i * stride + j], want, "{m} × {k} × {n}, ({i}, {j}), {add}, {threads}");
                        }
                    }
                }
                assert_eq!(product(true, true), product(true, false));
            }
        }
    }

    #[test]
    fn turned_rows_are_columns() {
        // A whole tile, a row too much, rows that are longer than what is taken of them, and room that stays as it is.
        let (rows, width, row, stride) = (LINE + 3, 5, 7, LINE + 6);
        let x: Vec<f32> = (0..rows * row).map(|i| i as f32).collect();
        let mut out = vec![-1.0; width * stride];
        turn(&x, row, [rows, width], &mut out, stride);
        for (i, got) in out.iter().enumerate() {
            let (c, r) = (i / stride, i % stride);
            assert_eq!(*got, if r < rows { x[r * row + c] } else { -1.0 });
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
