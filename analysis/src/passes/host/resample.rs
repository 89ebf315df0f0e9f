//! Grids made larger or smaller: adaptive pooling, bilinear interpolation, nearest cells. Every result is a list of
//! (cell, weight) for each new cell, in raster order, so that it serves values, scores and plans alike.

/// Weights of old cells in a new one.
pub type Weights = Vec<(usize, f64)>;

/// Cells `from..to` of `n` that cell `i` of `m` pools, as adaptive pooling has it; they overlap where `m` does not
/// divide `n`.
pub fn pooled(i: usize, m: usize, n: usize) -> std::ops::Range<usize> {
    i * n / m..((i + 1) * n).div_ceil(m)
}

fn grid(
    (rows, cols): (usize, usize),
    (out_rows, out_cols): (usize, usize),
    along: impl Fn(usize, usize, usize) -> Weights,
) -> Vec<Weights> {
    let (down, across): (Vec<Weights>, Vec<Weights>) = (
        (0..out_rows).map(|i| along(i, out_rows, rows)).collect(),
        (0..out_cols).map(|i| along(i, out_cols, cols)).collect(),
    );
    let cell = |a: &Weights, b: &Weights| {
        a.iter().flat_map(|&(y, v)| b.iter().map(move |&(x, w)| (y * cols + x, v * w))).collect()
    };
    down.iter().flat_map(|a| across.iter().map(move |b| (a, b))).map(|(a, b)| cell(a, b)).collect()
}

/// Adaptive average pooling of a grid to another.
pub fn average(from: (usize, usize), to: (usize, usize)) -> Vec<Weights> {
    grid(from, to, |i, m, n| {
        let cells = pooled(i, m, n);
        let w = 1.0 / cells.len() as f64;
        cells.map(|c| (c, w)).collect()
    })
}

/// Bilinear interpolation between the middles of cells, without antialiasing; beyond the outer middles the edge counts.
pub fn bilinear(from: (usize, usize), to: (usize, usize)) -> Vec<Weights> {
    grid(from, to, bilinear_at)
}

/// The one or two of `n` cells along an axis that cell `i` of `m` is between.
pub fn bilinear_at(i: usize, m: usize, n: usize) -> Weights {
    let at = ((i as f64 + 0.5) * n as f64 / m as f64 - 0.5).max(0.0);
    let low = (at as usize).min(n - 1);
    let (high, w) = ((low + 1).min(n - 1), at - low as f64);
    if high == low || w == 0.0 { vec![(low, 1.0)] } else { vec![(low, 1.0 - w), (high, w)] }
}

/// The nearest cell, as a grid is blown up.
pub fn nearest(from: (usize, usize), to: (usize, usize)) -> Vec<Weights> {
    grid(from, to, |i, m, n| vec![(i * n / m, 1.0)])
}

/// The one cell, of a grid pooled to `to`, that each cell of `from` counts as its own.
pub fn owners(from: (usize, usize), to: (usize, usize)) -> Vec<usize> {
    nearest(to, from).into_iter().flatten().map(|w| w.0).collect()
}

/// What each of these new cells is made of, in two: the old cells that it owns, and those that it shares with their owner.
pub fn parted(cells: Vec<Weights>, owners: &[usize]) -> Vec<(Weights, Weights)> {
    let own = |(cell, w): (usize, Weights)| w.into_iter().partition(|m| owners[m.0] == cell);
    cells.into_iter().enumerate().map(own).collect()
}

/// Values `[cells, d]` of a grid under such weights.
pub fn apply(weights: &[Weights], x: &[f32], d: usize) -> Vec<f32> {
    let cell = |w: &Weights| {
        let mut sum = vec![0f64; d];
        w.iter().for_each(|&(c, w)| sum.iter_mut().zip(&x[c * d..]).for_each(|(s, v)| *s += w * f64::from(*v)));
        sum.into_iter().map(|v| v as f32).collect::<Vec<_>>()
    };
    weights.iter().flat_map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_cells_of_four_overlap_and_bilinear_stops_at_the_edge() {
        let x = [0.0, 1.0, 2.0, 3.0];
        assert_eq!(apply(&average((1, 4), (1, 3)), &x, 1), [0.5, 1.5, 2.5]);
        assert_eq!(apply(&bilinear((1, 2), (1, 4)), &x[..2], 1), [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(apply(&bilinear((2, 2), (1, 1)), &x, 1), [1.5]);
        assert_eq!(apply(&nearest((1, 2), (1, 4)), &x[..2], 1), [0.0, 0.0, 1.0, 1.0]);
    }
}
