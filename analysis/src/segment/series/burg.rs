//! Linear prediction: Burg's autoregressive model of a window, its poles, its cepstrum, its spectrum.
//!
//! Source: Burg 1967 as MDFahimAnjum/TurboLPC carries it out, with its frequency-warped form. Takes samples in f64.

use num_complex::Complex64;
use std::f64::consts::PI;

/// The least power of a model's noise, so that the logarithm of silence is finite.
const SILENCE: f64 = 1e-20;
/// How near to the unit circle a pole may count, so that the logarithm of its distance is finite.
const NEAREST: f64 = 1e-12;

/// An autoregressive model: x_t + a_1 x_(t-1) + … + a_p x_(t-p) is noise.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Model {
    /// a_1 … a_p.
    pub a: Vec<f64>,
    /// Power of the noise, above 0.
    pub noise: f64,
    /// Reflection coefficients, one per order.
    pub reflection: Vec<f64>,
}

impl Model {
    /// The model of order `p` of a window longer than `p`; `warp`, -1 to 1, stretches low frequencies where it is
    /// above 0.
    pub fn burg(x: &[f64], p: usize, warp: f64) -> Self {
        let mut noise = x.iter().map(|v| v * v).sum::<f64>() / x.len().max(1) as f64;
        let (mut forward, mut backward) = (x.to_vec(), x.to_vec());
        let (mut a, mut reflection) = (vec![1.0], Vec::with_capacity(p));
        for _ in 0..p {
            // The backward error one step late, which without warping is the one before.
            let mut late = Vec::with_capacity(backward.len().saturating_sub(1));
            let mut before = 0.0;
            for w in backward.windows(2) {
                before = w[0] - warp * (w[1] - before);
                late.push(before);
            }
            let now = forward.get(1..).unwrap_or_default();
            let both: f64 = now.iter().zip(&late).map(|(f, b)| f * b).sum();
            let power: f64 = now.iter().chain(&late).map(|v| v * v).sum();
            // Nothing is left to predict.
            let k = if power > 0.0 { -2.0 * both / power } else { 0.0 };
            let next = now.iter().zip(&late).map(|(f, b)| (f + k * b, b + k * f)).unzip();
            (forward, backward) = next;
            a.push(0.0);
            a = a.iter().zip(a.iter().rev()).map(|(x, y)| x + k * y).collect();
            noise *= 1.0 - k * k;
            reflection.push(k);
        }
        a.remove(0);
        Self { a, noise: noise.max(SILENCE), reflection }
    }

    /// Poles by rising frequency, of a pair the one of positive frequency first, of real ones the larger first.
    pub fn poles(&self) -> Vec<Complex64> {
        let mut out = roots(&self.a);
        // What is real up to rounding is real, or its sign would make its frequency jump.
        out.iter_mut().filter(|z| z.im.abs() < 1e-9).for_each(|z| z.im = 0.0);
        let key = |z: &Complex64| z.arg().abs();
        out.sort_by(|x, y| match (key(x) - key(y)).abs() < 1e-9 {
            true => y.im.total_cmp(&x.im).then(y.norm().total_cmp(&x.norm())),
            false => key(x).total_cmp(&key(y)),
        });
        out
    }

    /// -2 log10 of each pole's distance to the unit circle, then each pole's frequency at `rate` samples a second.
    pub fn pole_features(&self, rate: f64) -> Vec<f64> {
        let poles = self.poles();
        let near = |z: &Complex64| -2.0 * (1.0 - z.norm()).max(NEAREST).log10();
        poles.iter().map(near).chain(poles.iter().map(|z| rate * z.arg() / (2.0 * PI))).collect()
    }

    /// Cepstrum c_0 … c_p, where c_0 is the natural logarithm of the noise's power.
    pub fn cepstrum(&self) -> Vec<f64> {
        let mut c = vec![self.noise.ln()];
        for n in 1..=self.a.len() {
            let earlier: f64 = (1..n).map(|m| (1.0 - m as f64 / n as f64) * self.a[m - 1] * c[n - m]).sum();
            c.push(-self.a[n - 1] - earlier);
        }
        c
    }

    /// The model whose cepstrum this is.
    pub fn of_cepstrum(c: &[f64]) -> Self {
        let mut a = Vec::new();
        for n in 1..c.len() {
            let earlier: f64 = (1..n).map(|m| (1.0 - m as f64 / n as f64) * a[m - 1] * c[n - m]).sum();
            a.push(-c[n] - earlier);
        }
        Self { a, noise: c.first().copied().unwrap_or(0.0).exp(), reflection: Vec::new() }
    }

    /// The model that has these poles.
    pub fn of_poles(poles: &[Complex64], noise: f64) -> Self {
        let mut a = vec![Complex64::new(1.0, 0.0)];
        for z in poles {
            a.push(Complex64::ZERO);
            for i in (1..a.len()).rev() {
                let before = a[i - 1];
                a[i] -= z * before;
            }
        }
        Self { a: a[1..].iter().map(|z| z.re).collect(), noise, reflection: Vec::new() }
    }

    /// Power in decibels at a frequency of `turn` radians a sample, with the warping that the model was made with.
    pub fn decibels(&self, turn: f64, warp: f64) -> f64 {
        let seen = turn + 2.0 * (warp * turn.sin()).atan2(1.0 - warp * turn.cos());
        let sum = |s: Complex64, (i, a): (usize, &f64)| s + Complex64::from_polar(*a, -seen * (i + 1) as f64);
        let denominator = self.a.iter().enumerate().fold(Complex64::new(1.0, 0.0), sum).norm_sqr();
        10.0 * (self.noise / denominator.max(NEAREST)).log10()
    }
}

/// Roots of z^p + a_1 z^(p-1) + … + a_p, all at once by Aberth's iterations.
fn roots(a: &[f64]) -> Vec<Complex64> {
    // Zeros at the end are roots at 0.
    let Some(p) = a.iter().rposition(|x| *x != 0.0).map(|i| i + 1) else { return vec![Complex64::ZERO; a.len()] };
    let radius = a[..p].iter().enumerate().map(|(i, c)| c.abs().powf(1.0 / (i + 1) as f64)).fold(0.0, f64::max);
    // Not symmetric to the real axis, or pairs could not part.
    let start = |i: usize| Complex64::from_polar(0.8 * radius, 2.0 * PI * i as f64 / p as f64 + 0.4);
    let mut z: Vec<Complex64> = (0..p).map(start).collect();
    for _ in 0..500 {
        let mut moved: f64 = 0.0;
        for i in 0..p {
            let (mut value, mut slope) = (Complex64::new(1.0, 0.0), Complex64::ZERO);
            for c in &a[..p] {
                slope = slope * z[i] + value;
                value = value * z[i] + c;
            }
            if value == Complex64::ZERO {
                continue;
            }
            let newton = slope / value;
            let others: Complex64 = (0..p).filter(|j| *j != i && z[*j] != z[i]).map(|j| (z[i] - z[j]).inv()).sum();
            let step = (newton - others).inv();
            if step.is_finite() {
                z[i] -= step;
                moved = moved.max(step.norm());
            }
        }
        if moved < 1e-14 * radius {
            break;
        }
    }
    z.resize(a.len(), Complex64::ZERO);
    z
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_coefficient_by_hand() {
        // 1, 2, 3: forward 2, 3 against 1, 2. k = -2 · 8 / (13 + 5) = -8/9; noise 14/3 · (1 - 64/81).
        let m = Model::burg(&[1.0, 2.0, 3.0], 1, 0.0);
        assert!((m.a[0] + 8.0 / 9.0).abs() < 1e-12 && m.reflection == m.a);
        assert!((m.noise - 14.0 / 3.0 * 17.0 / 81.0).abs() < 1e-12);
        // Warped by 1/2 the late errors are 1 - 1/2 · 2 = 0 and 2 - 1/2 · (3 - 0) = 1/2: k = -2 · 1.5 / (13 + 0.25).
        let m = Model::burg(&[1.0, 2.0, 3.0], 1, 0.5);
        assert!((m.a[0] + 3.0 / 13.25).abs() < 1e-12);
    }

    #[test]
    fn poles_come_by_frequency_and_give_the_model_back() {
        // (z - 0.9)(z + 0.5)(z² - z + 0.5): poles 0.9, 0.5 ± 0.5i, -0.5.
        let want = [(0.9, 0.0), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.0)].map(|(re, im)| Complex64::new(re, im));
        let m = Model::of_poles(&want, 2.0);
        for (z, w) in m.poles().iter().zip(want) {
            assert!((z - w).norm() < 1e-9, "{z} {w}");
        }
        let f = m.pole_features(100.0);
        assert!((f[0] - 2.0).abs() < 1e-6 && f[4] == 0.0 && (f[5] - 12.5).abs() < 1e-6 && f[7] == 50.0, "{f:?}");
        // 1 - |z| = 0.1 gives 2.
        let back = Model::of_cepstrum(&m.cepstrum());
        assert!(back.a.iter().zip(&m.a).all(|(x, y)| (x - y).abs() < 1e-12) && (back.noise - 2.0).abs() < 1e-12);
        let many = Model { a: vec![0.0; 3], noise: 1.0, reflection: Vec::new() };
        assert_eq!(many.poles(), [Complex64::ZERO; 3]);
    }

    #[test]
    fn many_poles_on_all_sides_are_found() {
        let turn = |i: usize| 0.1 + 2.9 * i as f64 / 15.0;
        let want: Vec<Complex64> =
            (0..16).flat_map(|i| [1.0, -1.0].map(|s| Complex64::from_polar(0.95, s * turn(i)))).collect();
        let got = Model::of_poles(&want, 1.0).poles();
        assert!(got.iter().zip(&want).all(|(z, w)| (z - w).norm() < 1e-6), "{got:?}");
    }

    #[test]
    fn silence_and_constants_stay_finite() {
        for x in [[0.0; 8], [3.0; 8]] {
            for warp in [0.0, 0.4] {
                let m = Model::burg(&x, 4, warp);
                let all = [m.a.clone(), m.pole_features(10.0), m.cepstrum(), vec![m.decibels(0.0, warp)]].concat();
                assert!(all.iter().all(|v| v.is_finite()), "{x:?} {all:?}");
            }
        }
    }

    #[test]
    fn a_resonance_peaks_at_its_frequency() {
        let m = Model::of_poles(&[0.7, -0.7].map(|t| Complex64::from_polar(0.95, t)), 1.0);
        let peak =
            (0..100).map(|i| i as f64 * PI / 100.0).max_by(|x, y| m.decibels(*x, 0.0).total_cmp(&m.decibels(*y, 0.0)));
        assert!((peak.unwrap() - 0.7).abs() < 0.05);
        // At 0 without poles the spectrum is the noise itself.
        let flat = Model { a: vec![0.0], noise: 100.0, reflection: Vec::new() };
        assert!((flat.decibels(1.0, 0.3) - 20.0).abs() < 1e-12);
    }
}
