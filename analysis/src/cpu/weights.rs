//! From the scores of a query to what it weighs each key with.

use super::{max, sum, wide};

wide! {
    /// Each value becomes `exp(scale · x − max)`; gives the sum.
    pub(crate) fn raise<'a>(x: &'a mut [f32], scale: f32, max: f32) -> f32 {
        // A loop of its own: the compiler finds no vectors where it is joined with sums.
        for x in x.iter_mut() {
            *x = exp(*x * scale - max);
        }
        sum(x, |x| x)
    }
}

wide! {
    /// Each value becomes `cap · tanh(scale · x / cap)`.
    pub(crate) fn cap<'a>(x: &'a mut [f32], scale: f32, cap: f32) {
        for x in x.iter_mut() {
            *x = cap * tanh(*x * scale / cap);
        }
    }
}

wide! {
    fn largest<'a>(x: &'a [f32]) -> f32 {
        max(x)
    }
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

/// `tanh x`; near 0, where the quotient would cancel, by its series.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let s = x * x;
    let series = x * (1.0 - s * (1.0 / 3.0 - s * (2.0 / 15.0 - s * (17.0 / 315.0 - s * (62.0 / 2835.0)))));
    if x.abs() < 0.25 { series } else { 1.0 - 2.0 / (exp(2.0 * x) + 1.0) }
}

/// What products of a query and its keys become before they are weighed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scores<'a> {
    /// What products are multiplied by.
    pub scale: f32,
    /// What scores are kept within, softly.
    pub cap: Option<f32>,
    /// Added to the score of each key.
    pub bias: Option<&'a [f32]>,
    /// A score that belongs to no key.
    pub sink: Option<f32>,
}

impl Scores<'_> {
    /// Products of a query with the keys from `first` on become weights, of which the largest is 1, or the sink's; 0
    /// of keys outside `runs`, which the query sees. Gives their sum, the weight of the sink in it; 0 where nothing is
    /// seen.
    pub fn weigh(&self, runs: &[(usize, usize)], first: usize, p: &mut [f32]) -> f32 {
        let plain = self.cap.is_none() && self.bias.is_none() && self.scale > 0.0;
        let mut top = self.sink.unwrap_or(f32::NEG_INFINITY);
        for &(a, b) in runs {
            let p = &mut p[a - first..b - first];
            if plain {
                top = top.max(self.scale * largest(p));
                continue;
            }
            match self.cap {
                Some(cap) => self::cap(p, self.scale, cap),
                None => p.iter_mut().for_each(|s| *s *= self.scale),
            }
            if let Some(bias) = self.bias {
                p.iter_mut().zip(&bias[a..b]).for_each(|(s, b)| *s += b);
            }
            top = top.max(largest(p));
        }
        if top == f32::NEG_INFINITY {
            p.fill(0.0);
            return 0.0;
        }
        let scale = if plain { self.scale } else { 1.0 };
        let (mut total, mut done) = (self.sink.map_or(0.0, |s| exp(s - top)), 0);
        for &(a, b) in runs {
            p[done..a - first].fill(0.0);
            done = b - first;
            total += raise(&mut p[a - first..done], scale, top);
        }
        p[done..].fill(0.0);
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn weights_are_those_of_plain_arithmetic() {
        let products: Vec<f32> = (0..300).map(|i| ((i * 7919) % 997) as f32 / 100.0 - 5.0).collect();
        let bias: Vec<f32> = (0..1300).map(|i| (i % 7) as f32 / 3.0).collect();
        let first = 1000;
        for runs in [&[(1000, 1300)][..], &[(1001, 1020), (1020, 1021), (1100, 1290)], &[]] {
            for (scale, cap, biased, sink) in [
                (0.7, None, false, None),
                (-0.3, None, false, Some(2.0)),
                (0.7, Some(1.5), false, Some(-1.0)),
                (1.2, None, true, None),
                (0.9, Some(3.0), true, Some(9.0)),
            ] {
                let own = Scores { scale, cap, bias: biased.then_some(&bias[..]), sink };
                let mut got = products.clone();
                let sum = own.weigh(runs, first, &mut got);
                let score = |i: usize| {
                    let s = f64::from(products[i]) * f64::from(scale);
                    let s = cap.map_or(s, |c| f64::from(c) * (s / f64::from(c)).tanh());
                    s + if biased { f64::from(bias[first + i]) } else { 0.0 }
                };
                let seen = |i: usize| runs.iter().any(|&(a, b)| (a..b).contains(&(first + i)));
                let scores = (0..300).filter(|i| seen(*i)).map(score).chain(sink.map(f64::from));
                let top = scores.fold(f64::NEG_INFINITY, f64::max);
                let mut total = sink.map_or(0.0, |s| (f64::from(s) - top).exp());
                for (i, got) in got.iter().enumerate() {
                    let want = if seen(i) { (score(i) - top).exp() } else { 0.0 };
                    total += want;
                    assert!((f64::from(*got) - want).abs() < 2e-6, "{own:?}, {runs:?}, key {i}: {got}, not {want}");
                }
                assert!(
                    (f64::from(sum) - total).abs() < 2e-5 * total.max(1.0),
                    "{own:?}, {runs:?}: {sum}, not {total}"
                );
            }
        }
    }
}
