//! Small functions of numbers that several rooms need.

/// `ln softmax` of logits, in nats; sums in f64.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    logits.iter().map(|&x| f64::from(x - max) - sum.ln()).collect()
}

/// Indices of the `k` largest values, the largest first, the lower index on a tie.
pub fn largest(values: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(k);
    order
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
        assert!(largest(&[], 3).is_empty());
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
