//! Unit rows and their dot products in f32, to the bit as torch forms them on a CPU: where two cosines are equal but
//! for rounding, methods whose reference is torch choose as it does.

use crate::array::Array;

/// Lanes in which a row's squares are summed.
const LANES: usize = 8;
/// Components between which partial sums are rounded.
const STRETCH: usize = 384;
/// Points whose products are formed together.
pub(super) const BLOCK: usize = 8;

/// `a · b + sum`, rounded once: the product of two f32 is exact in f64.
fn fused(a: f32, b: f32, sum: f32) -> f32 {
    (f64::from(a) * f64::from(b) + f64::from(sum)) as f32
}

/// The length of a row, its squares added in the order of torch's `norm`.
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
    last.iter().for_each(|&v| sum = fused(v, v, sum));
    sum.sqrt()
}

/// Rows of `x` `[n, d]` divided by their length; a row of zeros becomes NaN.
pub(super) fn unit_rows(x: &Array) -> Vec<Vec<f32>> {
    let unit = |row: &[f32]| {
        let length = length(row);
        row.iter().map(|v| v / length).collect()
    };
    (0..x.shape().first().copied().unwrap_or(0)).map(|i| unit(x.row(i))).collect()
}

/// The dot product with fused multiply-add, component by component, rounded between stretches.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let stretch = |(a, b): (&[f32], &[f32])| a.iter().zip(b).fold(0.0, |sum, (x, y)| fused(*x, *y, sum));
    a.chunks(STRETCH).zip(b.chunks(STRETCH)).map(stretch).fold(0.0, |sum, v| sum + v)
}

/// Points side by side in blocks, `[block][component][point]`.
pub(super) struct Blocks {
    n: usize,
    width: usize,
    values: Vec<f32>,
}

impl Blocks {
    pub fn new(unit: &[Vec<f32>]) -> Self {
        let width = unit.first().map_or(0, Vec::len);
        let mut values = vec![0.0; unit.len().div_ceil(BLOCK) * BLOCK * width];
        for (i, row) in unit.iter().enumerate() {
            let first = i / BLOCK * BLOCK * width + i % BLOCK;
            row.iter().enumerate().for_each(|(c, &v)| values[first + c * BLOCK] = v);
        }
        Self { n: unit.len(), width, values }
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.n.div_ceil(BLOCK)
    }

    /// Products of `point` with every point of a block, the same to the bit as [`dot`]; 0 where the block is not full.
    pub fn dots(&self, block: usize, point: &[f32]) -> [f32; BLOCK] {
        let values = &self.values[block * BLOCK * self.width..][..BLOCK * self.width];
        let mut dots = [0f32; BLOCK];
        for (columns, components) in values.chunks(STRETCH * BLOCK).zip(point.chunks(STRETCH)) {
            let mut sums = [0f32; BLOCK];
            for (column, &v) in columns.chunks_exact(BLOCK).zip(components) {
                sums.iter_mut().zip(column).for_each(|(sum, &w)| *sum = fused(w, v, *sum));
            }
            dots.iter_mut().zip(sums).for_each(|(dot, sum)| *dot += sum);
        }
        dots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gives_what_single_products_give() {
        // Longer than a stretch, with more points than a block.
        let values: Vec<f32> = (0..11 * 500).map(|i| ((i * 7919) % 997) as f32 / 500.0 - 1.0).collect();
        let unit = unit_rows(&Array::new([11, 500], values).unwrap());
        let blocks = Blocks::new(&unit);
        for p in &unit {
            let all: Vec<f32> = (0..blocks.len()).flat_map(|b| blocks.dots(b, p)).take(11).collect();
            assert_eq!(all, unit.iter().map(|q| dot(q, p)).collect::<Vec<_>>());
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
