//! Sums of products with one rounding per term, for many points side by side: with the processor's own instruction
//! where it has one, else in f64, to the same bits.

use pulp::{Arch, Simd, WithSimd};

/// Points that stand side by side.
pub const BLOCK: usize = 16;
/// Terms between which partial sums are rounded.
pub const STRETCH: usize = 384;

/// `a · b + sum`, rounded once, by instructions that every processor has. The product of two f32 is exact in f64; the
/// sum is rounded to odd there, so that its rounding to f32 is the first to lose anything.
#[inline(always)]
fn fused(a: f32, b: f32, sum: f32) -> f32 {
    let (product, sum) = (f64::from(a) * f64::from(b), f64::from(sum));
    let whole = product + sum;
    let of_sum = whole - product;
    let lost = (product - (whole - of_sum)) + (sum - of_sum);
    let bits = whole.to_bits();
    let even = bits & 1 == 0;
    let odd = if even && lost > 0.0 {
        if whole > 0.0 { bits + 1 } else { bits - 1 }
    } else if even && lost < 0.0 {
        if whole > 0.0 { bits - 1 } else { bits + 1 }
    } else {
        bits
    };
    f64::from_bits(odd) as f32
}

/// One point's products with the points of a block, and so on for [`BLOCK`] points.
pub type Square = [[f32; BLOCK]; BLOCK];

/// Products of all points of one block with all points of another, both `[component][point]`.
pub fn square(left: &[f32], right: &[f32]) -> Square {
    square_on(Arch::new(), left, right)
}

fn square_on(arch: Arch, left: &[f32], right: &[f32]) -> Square {
    let mut out = [[0f32; BLOCK]; BLOCK];
    if left.is_empty() {
        return out;
    }
    match arch {
        Arch::Scalar => out.iter_mut().enumerate().for_each(|(i, row)| *row = plain(&left[i..], BLOCK, right)),
        arch => arch.dispatch(Pair { left, right, out: &mut out }),
    }
    out
}

/// Products of `point` with the points of as many blocks as `out` has rows. `blocks` are one after another.
pub fn row(point: &[f32], blocks: &[f32], out: &mut [[f32; BLOCK]]) {
    row_on(Arch::new(), point, blocks, out);
}

fn row_on(arch: Arch, point: &[f32], blocks: &[f32], out: &mut [[f32; BLOCK]]) {
    match arch {
        Arch::Scalar => {
            let each = blocks.chunks_exact(BLOCK * point.len().max(1));
            out.iter_mut().zip(each).for_each(|(row, block)| *row = plain(point, 1, block));
        }
        arch => arch.dispatch(Row { point, blocks, out }),
    }
}

/// Products of one point, whose components are `apart` from each other, with a block's.
fn plain(point: &[f32], apart: usize, block: &[f32]) -> [f32; BLOCK] {
    let mut out = [0f32; BLOCK];
    for (columns, components) in block.chunks(STRETCH * BLOCK).zip(point.chunks(STRETCH * apart)) {
        let mut sums = [0f32; BLOCK];
        for (column, x) in columns.as_chunks::<BLOCK>().0.iter().zip(components.chunks(apart)) {
            sums.iter_mut().zip(column).for_each(|(sum, y)| *sum = fused(*y, x[0], *sum));
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    }
    out
}

struct Pair<'a> {
    left: &'a [f32],
    right: &'a [f32],
    out: &'a mut Square,
}

impl WithSimd for Pair<'_> {
    type Output = ();

    /// As many points of the left block at a time as keep sums enough in registers to hide what one takes.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left, right, out } = self;
        match S::F32_LANES {
            16 => (0..BLOCK).step_by(8).for_each(|i| some::<S, 8, 1>(simd, left, i, right, out)),
            8 => (0..BLOCK).step_by(4).for_each(|i| some::<S, 4, 2>(simd, left, i, right, out)),
            _ => (0..BLOCK).step_by(4).for_each(|i| some::<S, 4, 4>(simd, left, i, right, out)),
        }
    }
}

/// Products of `R` points of the left block from `first` on; `V` vectors hold the points of the right one.
#[inline(always)]
fn some<S: Simd, const R: usize, const V: usize>(simd: S, left: &[f32], first: usize, right: &[f32], out: &mut Square) {
    let mut totals = [[simd.splat_f32s(0.0); V]; R];
    for (left, right) in left.chunks(STRETCH * BLOCK).zip(right.chunks(STRETCH * BLOCK)) {
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        let columns = S::as_simd_f32s(right).0.as_chunks::<V>().0;
        for (x, y) in left.as_chunks::<BLOCK>().0.iter().zip(columns) {
            for r in 0..R {
                let x = simd.splat_f32s(x[first + r]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add_f32s(y[v], x, sums[r][v]);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                totals[r][v] = simd.add_f32s(totals[r][v], sums[r][v]);
            }
        }
    }
    for (row, totals) in out[first..].iter_mut().zip(totals) {
        S::as_mut_simd_f32s(row).0.iter_mut().zip(totals).for_each(|(out, total)| *out = total);
    }
}

struct Row<'a> {
    point: &'a [f32],
    blocks: &'a [f32],
    out: &'a mut [[f32; BLOCK]],
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.go::<S, 1>(simd),
            8 => self.go::<S, 2>(simd),
            _ => self.go::<S, 4>(simd),
        }
    }
}

impl Row<'_> {
    /// Blocks at a time, so that several sums grow at once.
    const SEVERAL: usize = 4;

    #[inline(always)]
    fn go<S: Simd, const V: usize>(self, simd: S) {
        let size = (BLOCK * self.point.len()).max(1);
        for (blocks, out) in self.blocks.chunks(Self::SEVERAL * size).zip(self.out.chunks_mut(Self::SEVERAL)) {
            if let [a, b, c, d] = out {
                let block = |i: usize| &blocks[i * size..][..size];
                one::<S, 4, V>(simd, self.point, [0, 1, 2, 3].map(block), [a, b, c, d]);
            } else {
                blocks
                    .chunks_exact(size)
                    .zip(out)
                    .for_each(|(block, out)| one::<S, 1, V>(simd, self.point, [block], [out]));
            }
        }
    }
}

/// Products of one point with the points of `C` blocks.
#[inline(always)]
fn one<S: Simd, const C: usize, const V: usize>(
    simd: S,
    point: &[f32],
    blocks: [&[f32]; C],
    out: [&mut [f32; BLOCK]; C],
) {
    let mut totals = [[simd.splat_f32s(0.0); V]; C];
    for (i, x) in point.chunks(STRETCH).enumerate() {
        let mut sums = [[simd.splat_f32s(0.0); V]; C];
        let part = i * STRETCH * BLOCK..(i * STRETCH + x.len()) * BLOCK;
        let columns = blocks.map(|b| &S::as_simd_f32s(&b[part.clone()]).0.as_chunks::<V>().0[..x.len()]);
        for (j, x) in x.iter().enumerate() {
            let x = simd.splat_f32s(*x);
            for c in 0..C {
                for v in 0..V {
                    sums[c][v] = simd.mul_add_f32s(columns[c][j][v], x, sums[c][v]);
                }
            }
        }
        for c in 0..C {
            for v in 0..V {
                totals[c][v] = simd.add_f32s(totals[c][v], sums[c][v]);
            }
        }
    }
    for (row, totals) in out.into_iter().zip(totals) {
        S::as_mut_simd_f32s(row).0.iter_mut().zip(totals).for_each(|(out, total)| *out = total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    #[test]
    fn without_the_instruction_a_product_and_sum_is_rounded_once_too() {
        // The square of 1 + 2⁻¹² is the middle of two f32; what is beside it decides, though f64 does not see it there.
        let (near, tiny) = (1.0 + 2f32.powi(-12), 2f32.powi(-80));
        let (lower, upper) = (1.0 + 2f32.powi(-11), 1.0 + 2f32.powi(-11) + f32::EPSILON);
        assert_eq!([0.0, -tiny, tiny].map(|sum| fused(near, near, sum)), [lower, lower, upper]);
        assert_eq!([0.0, -tiny, tiny].map(|sum| fused(-near, near, sum)), [-lower, -upper, -lower]);
        let mut rng = SmallRng::seed_from_u64(5);
        let mut hard = 0;
        for _ in 0..100_000 {
            // Products of up to 26 digits, and sums far from them.
            let mut digits = |n: u32| rng.random_range(-(1i32 << n)..1 << n) as f32;
            let (a, b, few) = (digits(13), digits(13), digits(3));
            let sum = few * 2f32.powi(rng.random_range(-60..60));
            let twice = (f64::from(a) * f64::from(b) + f64::from(sum)) as f32;
            hard += usize::from(twice != a.mul_add(b, sum));
            assert_eq!(fused(a, b, sum), a.mul_add(b, sum), "{a} {b} {sum}");
        }
        assert!(hard > 10, "{hard}");
        for (a, b, sum) in [(f32::MAX, 2.0, -f32::MAX), (f32::MAX, 2.0, 0.0), (1e-30, 1e-12, 1e-45)] {
            assert_eq!(fused(a, b, sum), a.mul_add(b, sum), "{a} {b} {sum}");
        }
        assert!(fused(f32::NAN, 1.0, 1.0).is_nan() && fused(f32::INFINITY, 1.0, f32::NEG_INFINITY).is_nan());
    }

    #[test]
    fn every_way_gives_the_same_bits() {
        let mut rng = SmallRng::seed_from_u64(7);
        for width in [0, 1, 2, 7, 16, 383, 384, 385, 1000] {
            let mut block = |n: usize| (0..n * width * BLOCK).map(|_| rng.random_range(-1f32..1.0)).collect::<Vec<_>>();
            let (left, right) = (block(1), block(7));
            let want = |i: usize, b: usize, j: usize| {
                let mut total = 0f32;
                for stretch in (0..width).collect::<Vec<_>>().chunks(STRETCH) {
                    let value = |block: &[f32], c: usize, p: usize| block[c * BLOCK + p];
                    total += stretch.iter().fold(0f32, |sum, &c| {
                        value(&left, c, i).mul_add(value(&right[b * width * BLOCK..], c, j), sum)
                    });
                }
                total
            };
            for arch in [Arch::Scalar, Arch::new()] {
                let got = square_on(arch, &left, &right[..width * BLOCK]);
                let point: Vec<f32> = (0..width).map(|c| left[c * BLOCK + 3]).collect();
                let mut rows = [[0f32; BLOCK]; 7];
                row_on(arch, &point, &right, &mut rows);
                for j in 0..BLOCK {
                    (0..BLOCK).for_each(|i| assert_eq!(got[i][j], want(i, 0, j), "{arch:?} {width} {i} {j}"));
                    (0..7).for_each(|b| assert_eq!(rows[b][j], want(3, b, j), "{arch:?} {width} {b} {j}"));
                }
            }
        }
    }
}
