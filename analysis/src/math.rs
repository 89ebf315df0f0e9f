//! Small functions of numbers that several rooms need.

/// `ln Σ exp` of logits, in nats; the sum in f64.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    f64::from(max) + sum.ln()
}

/// `ln softmax` of logits, in nats; sums in f64.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let whole = log_sum_exp(logits);
    logits.iter().map(|&x| f64::from(x) - whole).collect()
}

/// The softmax of logits at a temperature above 0, in f64.
pub fn softmax<T: Copy + Into<f64>>(logits: &[T], temperature: f64) -> Vec<f64> {
    let max = logits.iter().map(|&x| x.into()).fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = logits.iter().map(|&x| ((x.into() - max) / temperature).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|x| x / sum).collect()
}

/// Index of the largest value, the lowest one on a tie; `None` if there is none or all are NaN.
pub fn argmax(v: &[f32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, x) in v.iter().enumerate() {
        if !x.is_nan() && best.is_none_or(|b| *x > v[b]) {
            best = Some(i);
        }
    }
    best
}

/// Few enough to be held in order while the values pass by.
const FEW: usize = 32;

/// Indices of the `k` largest values, the largest first, the lower index on a tie. Sorts no more than those.
pub fn largest<T: Copy + Into<f64>>(values: &[T], k: usize) -> Vec<usize> {
    let before = |a: &usize, b: &usize| {
        let (x, y): (f64, f64) = (values[*a].into(), values[*b].into());
        y.total_cmp(&x).then(a.cmp(b))
    };
    if k > FEW {
        let mut order: Vec<usize> = (0..values.len()).collect();
        if k < order.len() {
            order.select_nth_unstable_by(k, before);
            order.truncate(k);
        }
        order.sort_unstable_by(before);
        return order;
    }
    let mut best: Vec<usize> = Vec::with_capacity(k + 1);
    for i in 0..values.len() {
        if best.len() < k || best.last().is_some_and(|last| before(&i, last).is_lt()) {
            best.insert(best.partition_point(|b| before(b, &i).is_lt()), i);
            best.truncate(k);
        }
    }
    best
}

/// `eˣ` within two units in the last place; 0 below the smallest normal number. Made of plain arithmetic, so that
/// loops over it become vector code.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOW: f32 = -87.33;
    let y = if x > 88.7 { 88.7 } else { x };
    let y = if y < LOW { LOW } else { y };
    // Adding 1.5 · 2²³ rounds to a whole number and leaves it in the low bits.
    let t = y * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = t - 12_582_912.0;
    // ln 2 in two parts, so that the rest is exact.
    let r = (y - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    // The product of two powers reaches 2¹²⁸ where one would overflow.
    let n = t.to_bits().wrapping_sub(12_582_912f32.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    let e = p * power(half) * power(n - half);
    if x < LOW { 0.0 } else { e }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_softmax_and_the_largest_by_hand() {
        let p = log_softmax(&[0.0, 3f32.ln(), f32::NEG_INFINITY]);
        assert!((p[0] - 0.25f64.ln()).abs() < 1e-6 && (p[1] - 0.75f64.ln()).abs() < 1e-6 && p[2] == f64::NEG_INFINITY);
        assert_eq!(largest(&[1.0, 4.0, 4.0, 2.0], 3), [1, 2, 3]);
        assert!(largest::<f64>(&[], 3).is_empty() && largest(&[1f32], 0).is_empty());
        let even = softmax(&[1.0, 1.0, f32::NEG_INFINITY], 0.3);
        assert_eq!(even, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn the_largest_are_those_of_a_whole_sort_however_many_are_asked_for() {
        let values: Vec<f32> = (0..300).map(|i| ((i * 37 + 11) % 53) as f32).collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        for k in [1, 2, 31, 32, 33, 100, 299, 300, 1000] {
            assert_eq!(largest(&values, k), order[..k.min(300)], "{k}");
        }
    }

    #[test]
    fn the_fast_exponential_is_the_exact_one_to_single_precision() {
        for i in 0..=40_000 {
            let x = -87.3 + 176.0 * i as f32 / 40_000.0;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got - want).abs() <= 2.4e-7 * want, "exp({x}) is {got}, not {want}");
        }
        assert_eq!((exp(-100.0), exp(f32::NEG_INFINITY), exp(0.0)), (0.0, 0.0, 1.0));
        assert!(exp(f32::NAN).is_nan());
    }
}
