//! Unit rows and their dot products in f32, to the bit as torch forms them on a CPU: where two cosines are equal but
//! for rounding, methods whose reference is torch choose as it does.

mod fused;
mod pairs;

pub(super) use fused::{BLOCK, Square};
pub(super) use pairs::Pairs;

use crate::array::Array;
use crate::cpu::vectorised;
use fused::STRETCH;
use rayon::prelude::*;

/// Lanes in which a row's squares are summed.
const LANES: usize = 8;

/// The length of a row, its squares added in the order of torch's `norm`.
#[inline(always)]
fn length(row: &[f32]) -> f32 {
    let whole = row.len() / LANES * LANES;
    let mut lanes = [0f32; LANES];
    for chunk in row[..whole].chunks(LANES) {
        lanes.iter_mut().zip(chunk).for_each(|(sum, v)| *sum += v * v);
    }
    let mut sum = lanes[0];
    lanes[1..].iter().for_each(|v| sum += v);
    let rest = &row[whole..];
    let (four, last) = rest.split_at(rest.len() / 4 * 4);
    four.iter().for_each(|v| sum += v * v);
    last.iter().for_each(|&v| sum = v.mul_add(v, sum));
    sum.sqrt()
}

/// Rows of `x` `[n, d]` divided by their length; a row of zeros becomes NaN.
pub(super) fn unit_rows(x: &Array) -> Vec<Vec<f32>> {
    let unit = |i: usize| {
        let row = x.row(i);
        vectorised(|| {
            let length = length(row);
            row.iter().map(|v| v / length).collect()
        })
    };
    (0..x.shape().first().copied().unwrap_or(0)).into_par_iter().with_min_len(16).map(unit).collect()
}

/// Whether all values are numbers.
pub(super) fn all_finite(x: &[f32]) -> bool {
    vectorised(|| x.iter().fold(true, |all, v| all & v.is_finite()))
}

/// Puts rows of `width` values, divided by their lengths, side by side into `block` `[component][point]`; 0 where there
/// is none. Some components at a time, so that what is written to lies in the nearest cache.
#[inline(always)]
fn turn_units(rows: &[Option<&[f32]>; BLOCK], block: &mut [f32], width: usize) {
    let lengths = rows.map(|row| row.map_or(1.0, length));
    for (first, block) in (0..width).step_by(BLOCK).zip(block.chunks_mut(BLOCK * BLOCK)) {
        let mut tile = [[0f32; BLOCK]; BLOCK];
        for ((tile, row), length) in tile.iter_mut().zip(rows).zip(&lengths) {
            if let Some(row) = row {
                tile.iter_mut().zip(&row[first..]).for_each(|(to, v)| *to = v / length);
            }
        }
        for (c, to) in block.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            *to = std::array::from_fn(|i| tile[i][c]);
        }
    }
}

/// The dot product with fused multiply-add, component by component, rounded between stretches.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let stretch = |(a, b): (&[f32], &[f32])| a.iter().zip(b).fold(0.0, |sum, (x, y)| x.mul_add(*y, sum));
    a.chunks(STRETCH).zip(b.chunks(STRETCH)).map(stretch).fold(0.0, |sum, v| sum + v)
}

/// Points side by side in blocks, `[block][component][point]`; what is missing of the last one is 0.
pub(super) struct Blocks {
    n: usize,
    width: usize,
    values: Vec<f32>,
}

impl Blocks {
    /// Those rows of `x` `[n, d]` that `which` numbers, divided by their lengths as [`unit_rows`] divides them.
    pub fn unit(x: &Array, which: &[usize]) -> Self {
        let width = x.shape().get(1).copied().unwrap_or(0);
        let mut values = vec![0.0; which.len().div_ceil(BLOCK) * BLOCK * width];
        values.par_chunks_mut((BLOCK * width).max(1)).zip(which.par_chunks(BLOCK)).for_each(|(block, which)| {
            let row = |i: usize| which.get(i).map(|&row| x.row(row));
            let rows: [Option<&[f32]>; BLOCK] = std::array::from_fn(row);
            vectorised(|| turn_units(&rows, block, width));
        });
        Self { n: which.len(), width, values }
    }

    /// Whether every point has a direction.
    pub fn are_finite(&self) -> bool {
        self.values.par_chunks(1 << 15).all(all_finite)
    }

    /// Number of points.
    pub fn points(&self) -> usize {
        self.n
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.n.div_ceil(BLOCK)
    }

    fn some(&self, block: usize, n: usize) -> &[f32] {
        let size = BLOCK * self.width;
        &self.values[block * size..][..n * size]
    }

    /// Products of the points of a block with those of a block of `others`, the same to the bit as [`dot`]; 0 where a
    /// block is not full.
    pub fn square(&self, block: usize, others: &Self, other: usize) -> Square {
        fused::square(self.some(block, 1), others.some(other, 1))
    }

    /// Products of `point` with the points of as many blocks from `first` on as `dots` has, the same to the bit as
    /// [`dot`].
    pub fn dots(&self, first: usize, point: &[f32], dots: &mut [[f32; BLOCK]]) {
        fused::row(point, self.some(first, dots.len()), dots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gives_what_single_products_give() {
        // Longer than a stretch, with more points than a block.
        let values: Vec<f32> = (0..19 * 500).map(|i| ((i * 7919) % 997) as f32 / 500.0 - 1.0).collect();
        let x = Array::new([19, 500], values).unwrap();
        let unit = unit_rows(&x);
        let every: Vec<usize> = (0..19).collect();
        let blocks = Blocks::unit(&x, &every);
        for (i, p) in unit.iter().enumerate() {
            let mut dots = vec![[0f32; BLOCK]; blocks.len()];
            blocks.dots(0, p, &mut dots);
            let want: Vec<f32> = unit.iter().map(|q| dot(q, p)).collect();
            assert_eq!(dots.concat()[..19], want);
            let square = |b| blocks.square(i / BLOCK, &blocks, b)[i % BLOCK];
            assert_eq!([square(0), square(1)].concat()[..19], want);
            assert!((dot(p, p) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn lengths_are_torchs_to_the_bit() {
        // torch 2.15 on a CPU: torch.arange(1, n + 1, dtype=torch.float32).div(7)[None].norm(dim=1)
        for (n, bits) in [(3, 0x3f08_d677), (6, 0x3fae_6f42), (13, 0x4082_d372), (31, 0x4169_46fb)] {
            let row: Vec<f32> = (1..=n).map(|i| i as f32 / 7.0).collect();
            assert_eq!(length(&row).to_bits(), bits, "{n}");
        }
    }
}
