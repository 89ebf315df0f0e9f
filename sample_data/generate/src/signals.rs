//! Signals with their truth: noise through one of a few resonances at a time, and which one when.

use crate::rng;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::f64::consts::TAU;
use std::ops::Range;

/// Samples a second.
pub const RATE: f64 = 8000.0;
/// Samples of a signal: two seconds.
pub const LENGTH: usize = 16_000;
/// Frequency of each voice's resonance, in hertz.
pub const VOICES: [f64; 4] = [300.0, 900.0, 1700.0, 2900.0];

/// The set of random numbers that signals take.
const STREAM: u64 = 40;
/// Shortest and longest stretch of one voice, in samples; whole windows of 256.
const STRETCH: (usize, usize) = (4, 12);
const WINDOW: usize = 256;

/// A signal of [`LENGTH`] samples within -1..=1.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// The samples.
    pub samples: Vec<f32>,
    /// Stretches in order, and the voice of each, by index into [`VOICES`].
    pub stretches: Vec<(Range<usize>, usize)>,
}

impl Signal {
    /// The signal of this seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = rng(STREAM, seed);
        let (mut samples, mut stretches) = (Vec::with_capacity(LENGTH), Vec::new());
        let mut voice = rng.random_range(0..VOICES.len());
        let mut state = [0.0; 2];
        while samples.len() < LENGTH {
            let start = samples.len();
            let end = (start + WINDOW * rng.random_range(STRETCH.0..=STRETCH.1)).min(LENGTH);
            for _ in start..end {
                samples.push(step(&mut rng, &mut state, VOICES[voice]) as f32);
            }
            stretches.push((start..end, voice));
            // Another voice than before.
            voice = (voice + rng.random_range(1..VOICES.len())) % VOICES.len();
        }
        let loudest = samples.iter().fold(0f32, |a, x| a.max(x.abs())).max(f32::MIN_POSITIVE);
        samples.iter_mut().for_each(|x| *x *= 0.9 / loudest);
        Self { samples, stretches }
    }
}

/// The next sample of noise through a resonance at `frequency`.
fn step(rng: &mut ChaCha8Rng, state: &mut [f64; 2], frequency: f64) -> f64 {
    const RADIUS: f64 = 0.97;
    let noise: f64 = rng.random_range(-1.0..1.0);
    let next = noise + 2.0 * RADIUS * (TAU * frequency / RATE).cos() * state[0] - RADIUS * RADIUS * state[1];
    *state = [next, state[0]];
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_signal_whose_stretches_cover_it_with_changing_voices() {
        let s = Signal::new(7);
        assert_eq!(s, Signal::new(7));
        assert_ne!(s.samples, Signal::new(8).samples);
        assert_eq!((s.samples.len(), s.stretches.last().unwrap().0.end), (LENGTH, LENGTH));
        assert!(s.stretches.windows(2).all(|w| w[0].0.end == w[1].0.start && w[0].1 != w[1].1));
        let loudest = s.samples.iter().fold(0f32, |a, x| a.max(x.abs()));
        assert!((loudest - 0.9).abs() < 1e-5);
    }

    #[test]
    fn a_voice_crosses_zero_at_about_its_frequency() {
        let s = Signal::new(3);
        for (range, voice) in &s.stretches {
            let part = &s.samples[range.start + 64..range.end];
            let crossings = part.windows(2).filter(|w| (w[0] < 0.0) != (w[1] < 0.0)).count();
            let frequency = crossings as f64 / 2.0 / part.len() as f64 * RATE;
            assert!((frequency - VOICES[*voice]).abs() < 250.0, "{frequency} for {}", VOICES[*voice]);
        }
    }
}
