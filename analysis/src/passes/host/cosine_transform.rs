//! The discrete cosine transform of grids (DCT-II), and what is left of a grid when high frequencies are cut off.

use std::f64::consts::PI;

/// How a transform is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// So that it keeps lengths.
    Orthonormal,
    /// As SciPy does without a norm: twice the sum of products with cosines, and its inverse undoes that.
    Plain,
}

/// The first `k` rows of the transform of `n` values, `[k, n]`.
pub fn forward(k: usize, n: usize, norm: Norm) -> Vec<f64> {
    let row = |u: usize| {
        let scale = match (norm, u) {
            (Norm::Plain, _) => 2.0,
            (_, 0) => (1.0 / n as f64).sqrt(),
            _ => (2.0 / n as f64).sqrt(),
        };
        (0..n).map(move |i| scale * (PI * (2 * i + 1) as f64 * u as f64 / (2 * n) as f64).cos())
    };
    (0..k).flat_map(row).collect()
}

/// The inverse transform of the first `k` coefficients into `n` values, `[n, k]`; the rest counts as zero.
pub fn inverse(n: usize, k: usize, norm: Norm) -> Vec<f64> {
    let forward = forward(k, n, norm);
    let scale = |u: usize| match (norm, u) {
        (Norm::Orthonormal, _) => 1.0,
        (Norm::Plain, 0) => 1.0 / (4 * n) as f64,
        (Norm::Plain, _) => 1.0 / (2 * n) as f64,
    };
    (0..n).flat_map(|i| (0..k).map(move |u| (i, u))).map(|(i, u)| forward[u * n + i] * scale(u)).collect()
}

/// `[m, k]` times `[k, n]`.
fn product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let cell = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f64>();
    (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| cell(i, j)).collect()
}

/// How `k` values are made of `n` by keeping the `k` lowest frequencies and transforming these back, `[k, n]`.
pub fn squeeze(k: usize, n: usize, norm: Norm) -> Vec<f64> {
    product(&inverse(k, k, norm), &forward(k, n, norm), [k, k, n])
}

/// A map over rows and one over columns as one map over the cells of a grid: `[rows of both, cells of both]`, by
/// (row · columns + column).
pub fn of_grid(
    (down, out_rows, rows): (&[f64], usize, usize),
    (across, out_cols, cols): (&[f64], usize, usize),
) -> Vec<f64> {
    let mut out = Vec::with_capacity(out_rows * out_cols * rows * cols);
    for (a, b) in (0..out_rows).flat_map(|a| (0..out_cols).map(move |b| (a, b))) {
        for y in 0..rows {
            out.extend((0..cols).map(|x| down[a * rows + y] * across[b * cols + x]));
        }
    }
    out
}

/// A map `[m, n]` over rows of values `[n, d]`, in f64: `[m, d]`.
pub fn apply(map: &[f64], x: &[f32], n: usize) -> Vec<f32> {
    let d = x.len() / n.max(1);
    let row = |weights: &[f64]| {
        let mut sum = vec![0f64; d];
        for (w, row) in weights.iter().zip(x.chunks_exact(d.max(1))).filter(|(w, _)| **w != 0.0) {
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += w * f64::from(*v));
        }
        sum.into_iter().map(|v| v as f32)
    };
    map.chunks_exact(n.max(1)).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transform_and_back_is_the_identity_and_an_even_grid_grows_by_the_root() {
        for norm in [Norm::Orthonormal, Norm::Plain] {
            let both = product(&inverse(5, 5, norm), &forward(5, 5, norm), [5, 5, 5]);
            for (i, v) in both.iter().enumerate() {
                assert!((v - f64::from(u8::from(i % 6 == 0))).abs() < 1e-12, "{norm:?} {i} {v}");
            }
        }
        // Half of eight equal values: √2 times as large, or twice without a norm.
        for (norm, factor) in [(Norm::Orthonormal, 2f64.sqrt()), (Norm::Plain, 2.0)] {
            let map = squeeze(4, 8, norm);
            let got: Vec<f64> = map.chunks(8).map(|r| r.iter().sum()).collect();
            assert!(got.iter().all(|v| (v - factor).abs() < 1e-12), "{got:?}");
        }
    }

    #[test]
    fn a_map_of_a_grid_is_one_over_rows_and_one_over_columns() {
        let map = of_grid((&[1.0, 2.0], 1, 2), (&[1.0, 0.0, 0.0, 1.0], 2, 2));
        assert_eq!(map, [1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 2.0]);
        assert_eq!(apply(&map, &[1.0, 10.0, 100.0, 1000.0], 4), [201.0, 2010.0]);
    }
}
