//! Rules that several reductions share.

use crate::array::Array;

/// Python's `round`: halves go to the even neighbour. Authors' code counts tokens with it.
pub fn round_half_even(x: f64) -> i64 {
    let floor = x.floor();
    let up = match (x - floor).total_cmp(&0.5) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => floor.rem_euclid(2.0) == 1.0,
    };
    floor as i64 + i64::from(up)
}

/// Indices of the `k` largest values, ascending by index; ties go to the lower index.
pub fn top_k(values: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(k);
    order.sort_unstable();
    order
}

/// Rows divided by their L2 norm, in f64.
pub fn normalized(x: &Array) -> Vec<Vec<f64>> {
    let n = x.shape().first().copied().unwrap_or(0);
    (0..n)
        .map(|i| {
            let row: Vec<f64> = x.row(i).iter().map(|&v| f64::from(v)).collect();
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.into_iter().map(|v| v / norm).collect()
        })
        .collect()
}

/// The dot product.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even_like_python() {
        assert_eq!([0.5, 1.5, 2.5, 2.4, 3.6].map(round_half_even), [0, 2, 2, 2, 4]);
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        assert_eq!(top_k(&[1.0, 3.0, 3.0, 3.0], 2), [1, 2]);
    }
}
