//! Small functions of numbers that several rooms need.

use crate::cpu::{LANES, max, vectorised, wide};

/// `ln Σ exp` of logits, in nats; the sum in f64.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let (top, sum) = exp_sum(logits, 1.0);
    top + sum.ln()
}

/// `ln softmax` of logits, in nats; sums in f64.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let whole = log_sum_exp(logits);
    logits.iter().map(|&x| f64::from(x) - whole).collect()
}

/// Kullback–Leibler divergence of a distribution from another, in nats, both given as logarithms. What the first one
/// rules out counts 0; rounding takes it nowhere below 0.
pub fn divergence(from: &[f64], to: &[f64]) -> f64 {
    let part = |(p, q): (&f64, &f64)| if p.is_finite() { p.exp() * (p - q) } else { 0.0 };
    from.iter().zip(to).map(part).sum::<f64>().max(0.0)
}

/// The dot product, in f64.
pub fn dot<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B]) -> f64 {
    let product = |(&a, &b): (&A, &B)| -> f64 {
        let (a, b): (f64, f64) = (a.into(), b.into());
        a * b
    };
    a.iter().zip(b).map(product).sum()
}

/// The length of a vector, in f64.
pub fn length<T: Copy + Into<f64>>(v: &[T]) -> f64 {
    dot(v, v).sqrt()
}

/// The cosine of two vectors, in f64; 0 where one has no direction.
pub fn cosine<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B]) -> f64 {
    let whole = length(a) * length(b);
    if whole > 0.0 { dot(a, b) / whole } else { 0.0 }
}

/// The softmax of logits at a temperature above 0, in f64.
pub fn softmax<T: Copy + Into<f64>>(logits: &[T], temperature: f64) -> Vec<f64> {
    let mut e: Vec<f64> = logits.iter().map(|&x| x.into()).collect();
    into_shares(&mut e, temperature);
    e
}

wide! {
    fn into_shares<'a>(e: &'a mut [f64], temperature: f64) {
        let mut top = f64::NEG_INFINITY;
        for x in e.iter() {
            top = if *x > top { *x } else { top };
        }
        // A loop of its own: the compiler finds no vectors where it is joined with sums.
        for x in e.iter_mut() {
            *x = exp_f64((*x - top) / temperature);
        }
        let sum = sum_f64(e);
        for x in e.iter_mut() {
            *x /= sum;
        }
    }
}

/// The shares of some entries in the [`softmax`] of all; 0 for one that is not there.
pub fn softmax_of(logits: &[f32], temperature: f64, entries: impl IntoIterator<Item = usize>) -> Vec<f64> {
    let (top, sum) = exp_sum(logits, temperature);
    let e = |&x: &f32| exp_f64((f64::from(x) - top) / temperature) / sum;
    entries.into_iter().map(|i| logits.get(i).map_or(0.0, e)).collect()
}

wide! {
    /// The largest logit, and the sum of all exponentials around it.
    fn exp_sum<'a>(logits: &'a [f32], temperature: f64) -> (f64, f64) {
        let top = f64::from(max(logits));
        let (mut held, mut sum) = ([0f64; 16 * LANES], 0.0);
        for some in logits.chunks(16 * LANES) {
            let e = &mut held[..some.len()];
            for (e, x) in e.iter_mut().zip(some) {
                *e = exp_f64((f64::from(*x) - top) / temperature);
            }
            sum += sum_f64(e);
        }
        (top, sum)
    }
}

/// Brings values to a sum of 1; `false`, and nothing is changed, where they have none above 0.
pub fn normalise(p: &mut [f64]) -> bool {
    vectorised(|| {
        let sum = sum_f64(p);
        if sum > 0.0 {
            p.iter_mut().for_each(|x| *x /= sum);
        }
        sum > 0.0
    })
}

/// Sum in lanes.
#[inline(always)]
fn sum_f64(x: &[f64]) -> f64 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0f64; LANES];
    for c in chunks {
        lanes.iter_mut().zip(c).for_each(|(lane, x)| *lane += x);
    }
    lanes.iter().sum::<f64>() + rest.iter().sum::<f64>()
}

/// Index of the largest value, the lowest one on a tie; `None` if there is none or all are NaN.
pub fn argmax(v: &[f32]) -> Option<usize> {
    let top = vectorised(|| max(v));
    v.iter().position(|&x| x == top)
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
    for (at, some) in values.chunks(FEW).enumerate() {
        // Mostly nothing in it comes near the last of the best; what is no number is looked at.
        let bar = best.last().filter(|_| best.len() >= k).map_or(f64::NEG_INFINITY, |&last| values[last].into());
        let below = some.iter().fold(true, |below, &x| below & (x.into() < bar));
        for i in (at * FEW..at * FEW + some.len()).filter(|_| !below) {
            if best.len() < k || best.last().is_some_and(|last| before(&i, last).is_lt()) {
                best.insert(best.partition_point(|b| before(b, &i).is_lt()), i);
                best.truncate(k);
            }
        }
    }
    best
}

/// `eˣ` of a number that is not positive, within a unit in the last place; 0 below the smallest normal number. Made
/// of plain arithmetic, so that loops over it become vector code.
#[inline(always)]
fn exp_f64(x: f64) -> f64 {
    const LOW: f64 = -708.0;
    let y = if x < LOW { LOW } else { x };
    // Adding 1.5 · 2⁵² rounds to a whole number and leaves it in the low bits.
    let t = y * std::f64::consts::LOG2_E + 6_755_399_441_055_744.0;
    let n = t - 6_755_399_441_055_744.0;
    // ln 2 in two parts, so that the rest is exact.
    let r = (y - n * 0.693_147_180_369_123_8) - n * 1.908_214_929_270_587_7e-10;
    let mut p = 1.0 / 6_227_020_800.0;
    for c in [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = p * r + c;
    }
    let n = t.to_bits().wrapping_sub(6_755_399_441_055_744f64.to_bits());
    let e = p * f64::from_bits(n.wrapping_add(1023) << 52);
    if x < LOW { 0.0 } else { e }
}

/// How probable it is that a chi-squared number of `freedom` degrees is at least `x`.
pub fn chi_square_tail(x: f64, freedom: f64) -> f64 {
    let (a, x) = (freedom / 2.0, x / 2.0);
    if x.is_nan() || a <= 0.0 {
        return f64::NAN;
    }
    if x <= 0.0 {
        return 1.0;
    }
    if x.is_infinite() {
        return 0.0;
    }
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        // The series of the lower part.
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return (1.0 - front * sum).clamp(0.0, 1.0);
    }
    // The continued fraction of the upper part, by Lentz's method.
    const TINY: f64 = 1e-300;
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / TINY, 1.0 / b);
    let mut h = d;
    for i in 1..100_000 {
        let i = f64::from(i);
        let step = -i * (i - a);
        b += 2.0;
        let nonzero = |v: f64| if v.abs() < TINY { TINY } else { v };
        d = 1.0 / nonzero(step * d + b);
        c = nonzero(b + step / c);
        let delta = c * d;
        h *= delta;
        if (delta - 1.0).abs() < 1e-15 {
            break;
        }
    }
    (front * h).clamp(0.0, 1.0)
}

/// The logarithm of the gamma function above 0, by Lanczos's approximation.
fn ln_gamma(x: f64) -> f64 {
    const C: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let t = x + 7.5;
    let sum = C.iter().enumerate().skip(1).fold(C[0], |sum, (i, c)| sum + c / (x + i as f64));
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of published tables: quantiles at 0.05, 0.001 and 0.00003, and closed forms.
    #[test]
    fn the_tail_of_chi_square_is_that_of_tables() {
        let near = |x: f64, freedom: f64, want: f64, by: f64| {
            let got = chi_square_tail(x, freedom);
            assert!((got - want).abs() < by, "{x} with {freedom}: {got}");
        };
        near(3.841, 1.0, 0.05, 2e-5);
        near(16.266, 3.0, 0.001, 1e-6);
        near(124.342, 100.0, 0.05, 1e-5);
        // With two degrees it is exp(-x/2), with four exp(-x/2) (1 + x/2).
        for x in [0.1, 1.0, 7.0, 40.0] {
            near(x, 2.0, (-x / 2.0f64).exp(), 1e-13);
            near(x, 4.0, (-x / 2.0f64).exp() * (1.0 + x / 2.0), 1e-13);
        }
        assert_eq!((chi_square_tail(0.0, 5.0), chi_square_tail(f64::INFINITY, 5.0)), (1.0, 0.0));
    }

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
    fn divergences_and_cosines_by_hand() {
        let (p, q) = ([0.5f64.ln(), 0.5f64.ln(), f64::NEG_INFINITY], [0.25f64.ln(), 0.75f64.ln(), f64::NEG_INFINITY]);
        assert!((divergence(&p, &q) - 0.5 * (4f64 / 3.0).ln()).abs() < 1e-12);
        assert_eq!((divergence(&p, &p), divergence(&q, &p) > 0.1), (0.0, true));
        assert_eq!((cosine(&[3f32, 4.0], &[6f64, 8.0]), cosine(&[0f32], &[1f32])), (1.0, 0.0));
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
    fn the_exponential_of_shares_is_the_exact_one() {
        for i in 0..=40_000 {
            let x = -707.9 * (f64::from(i) / 40_000.0).powi(3);
            let (got, want) = (exp_f64(x), x.exp());
            assert!((got - want).abs() <= 3e-16 * want, "exp({x}) is {got:e}, not {want:e}");
        }
        assert_eq!((exp_f64(-709.0), exp_f64(f64::NEG_INFINITY), exp_f64(0.0)), (0.0, 0.0, 1.0));
        assert!(exp_f64(f64::NAN).is_nan());
    }

    #[test]
    fn shares_of_some_are_those_among_all() {
        let logits: Vec<f32> = (0..70).map(|i| (i * 37 % 53) as f32 / 7.0).collect();
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) / 0.7).exp()).sum();
        let want: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / 0.7).exp() / sum).collect();
        let (all, some) = (softmax(&logits, 0.7), softmax_of(&logits, 0.7, [3, 69, 70]));
        assert!(all.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-15));
        assert!((some[0] - want[3]).abs() < 1e-15 && (some[1] - want[69]).abs() < 1e-15 && some[2] == 0.0);
        assert!((log_sum_exp(&logits) - logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln()).abs() < 1e-12);
    }

    #[test]
    fn the_largest_of_all_is_the_first_of_equals_and_a_number() {
        let mut v: Vec<f32> = (0..100).map(|i| (i * 37 % 53) as f32).collect();
        assert_eq!(argmax(&v), v.iter().position(|&x| x == 52.0));
        (v[3], v[40]) = (f32::NAN, 99.0);
        assert_eq!((argmax(&v), argmax(&[]), argmax(&[f32::NAN; 3])), (Some(40), None, None));
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), Some(1));
    }
}
