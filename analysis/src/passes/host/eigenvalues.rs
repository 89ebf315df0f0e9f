//! Eigenvalues of small symmetric matrices, by Jacobi's rotations.

/// The eigenvalues of a symmetric matrix `[n, n]`, row-major, in no order. What is not finite gives NaN.
pub fn symmetric(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    let off =
        |a: &[f64]| (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum::<f64>();
    let whole: f64 = a.iter().map(|x| x * x).sum();
    // Each sweep squares what is left off the diagonal; a matrix needs a handful.
    for _ in 0..50 {
        if off(&a).is_nan() || off(&a) <= whole * 1e-30 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, n, p, q);
            }
        }
    }
    (0..n).map(|i| a[i * n + i]).collect()
}

/// Turns the plane of `p` and `q` so that their element vanishes.
fn rotate(a: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_by_hand() {
        let mut two = symmetric(vec![2.0, 1.0, 1.0, 2.0], 2);
        two.sort_by(f64::total_cmp);
        assert!((two[0] - 1.0).abs() < 1e-12 && (two[1] - 3.0).abs() < 1e-12);
        // A path of three: 2 − √2, 2, 2 + √2.
        let mut three = symmetric(vec![2.0, -1.0, 0.0, -1.0, 2.0, -1.0, 0.0, -1.0, 2.0], 3);
        three.sort_by(f64::total_cmp);
        let want = [2.0 - 2f64.sqrt(), 2.0, 2.0 + 2f64.sqrt()];
        assert!(three.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{three:?}");
    }
}
