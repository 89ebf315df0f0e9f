//! Local outlier factors of numbers: how much less crowded each stands than its nearest neighbours.
//!
//! Source: Breunig et al. 2000, "LOF: Identifying Density-Based Local Outliers", as scikit-learn carries it out.

use crate::Result;
use crate::ctx::Ctx;

/// The local outlier factor of each value among `neighbours` others, fewer where there are fewer. About 1 inside a crowd.
pub fn local_factors(values: &[f32], neighbours: usize, ctx: &Ctx) -> Result<Vec<f64>> {
    let n = values.len();
    let k = neighbours.min(n.saturating_sub(1));
    if k == 0 {
        return Ok(vec![1.0; n]);
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
    let x: Vec<f64> = order.iter().map(|&i| f64::from(values[i])).collect();
    // The nearest of a sorted value stand around it: a window that grows to the nearer side.
    let around = |i: usize| {
        let (mut low, mut high) = (i, i);
        while high - low < k {
            let left = low.checked_sub(1).map_or(f64::INFINITY, |l| x[i] - x[l]);
            let right = x.get(high + 1).map_or(f64::INFINITY, |r| r - x[i]);
            if left <= right { low -= 1 } else { high += 1 }
        }
        (low, high)
    };
    let windows: Vec<(usize, usize)> = (0..n).map(around).collect();
    let reach: Vec<f64> = (0..n).map(|i| (x[i] - x[windows[i].0]).max(x[windows[i].1] - x[i])).collect();
    let others = |i: usize| (windows[i].0..=windows[i].1).filter(move |&j| j != i);
    let mut density = Vec::with_capacity(n);
    for i in 0..n {
        ctx.step(i, n)?;
        let mean = others(i).map(|j| (x[i] - x[j]).abs().max(reach[j])).sum::<f64>() / k as f64;
        density.push(1.0 / (mean + 1e-10));
    }
    let mut out = vec![0.0; n];
    for (i, &at) in order.iter().enumerate() {
        out[at] = others(i).map(|j| density[j] / density[i]).sum::<f64>() / k as f64;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_stands_apart_has_a_large_factor() {
        let found = local_factors(&[0.0, 1.0, 2.0, 3.0, 10.0], 2, &Ctx::default()).unwrap();
        // Of 10: neighbours 3 and 2, reach 7 and 8, mean 7.5. Of 3: 2 and 1, reach 1 and 2, mean 1.5; of 2: mean 1.5.
        assert!((found[4] - 7.5 / 1.5).abs() < 1e-6, "{found:?}");
        assert!(found[..4].iter().all(|f| *f < 1.5), "{found:?}");
        assert_eq!(local_factors(&[3.0], 10, &Ctx::default()).unwrap(), [1.0]);
    }
}
