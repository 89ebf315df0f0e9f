//! What an oracle says about one next token: the logits of a model, or the probabilities of a golden's toy.

use crate::array::Array;
use crate::math::{argmax, largest, softmax, softmax_of};

/// One value per entry of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Logits `[vocab]`, as a model gives them.
    Logits(Vec<f32>),
    /// Probabilities `[vocab]` at temperature 1, as a table gives them.
    Chances(Vec<f64>),
}

impl Row {
    /// What stands behind token `at` of path `path` in logits `[paths, length, vocab]`. Panics out of range, like
    /// indexing.
    pub fn recorded(logits: &Array, path: usize, at: usize) -> Self {
        let vocab = logits.shape()[2];
        Row::Logits(logits.row(path)[at * vocab..(at + 1) * vocab].to_vec())
    }

    /// The most probable id, the lowest on a tie.
    pub fn best(&self) -> usize {
        match self {
            Row::Logits(x) => argmax(x).unwrap_or(0),
            Row::Chances(p) => (0..p.len()).fold(0, |b, i| if p[i] > p[b] { i } else { b }),
        }
    }

    /// The most probable id that is not `mask`; the lowest where no other is possible.
    pub fn best_but(&self, mask: u32) -> u32 {
        let lowest = u32::from(mask == 0 && self.len() > 1);
        self.top(2).into_iter().map(|id| id as u32).find(|id| *id != mask).unwrap_or(lowest)
    }

    /// The ids of the `k` largest values, the largest first, the lower id on a tie; fewer where fewer are possible.
    pub fn top(&self, k: usize) -> Vec<usize> {
        let mut ids = match self {
            Row::Logits(x) => largest(x, k),
            Row::Chances(p) => largest(p, k),
        };
        ids.retain(|&i| match self {
            Row::Logits(x) => x[i] > f32::NEG_INFINITY,
            Row::Chances(p) => p[i] > 0.0,
        });
        ids
    }

    /// The distribution over the next token `[vocab]`; at temperature 0 all of it on the most probable id.
    pub fn distribution(&self, temperature: f64) -> Vec<f64> {
        match self {
            _ if temperature == 0.0 => {
                let best = self.best();
                (0..self.len()).map(|i| f64::from(u8::from(i == best))).collect()
            }
            Row::Logits(x) => softmax(x, temperature),
            Row::Chances(p) if temperature == 1.0 => p.clone(),
            Row::Chances(p) => {
                let warm: Vec<f64> = p.iter().map(|x| x.powf(1.0 / temperature)).collect();
                let sum: f64 = warm.iter().sum();
                warm.into_iter().map(|x| x / sum).collect()
            }
        }
    }

    /// The probabilities of some ids at a temperature above 0, without a list of all.
    pub fn probabilities(&self, ids: impl IntoIterator<Item = u32>, temperature: f64) -> Vec<f64> {
        match self {
            Row::Logits(x) => softmax_of(x, temperature, ids.into_iter().map(|id| id as usize)),
            Row::Chances(p) if temperature == 1.0 => {
                ids.into_iter().map(|id| p.get(id as usize).copied().unwrap_or(0.0)).collect()
            }
            Row::Chances(_) => {
                let all = self.distribution(temperature);
                ids.into_iter().map(|id| all.get(id as usize).copied().unwrap_or(0.0)).collect()
            }
        }
    }

    /// The probability of one id in the arithmetic of a model in f32, which rounds what is almost sure to 1.
    pub fn confidence_f32(&self, id: u32) -> f32 {
        match self {
            Row::Logits(x) => {
                let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = x.iter().map(|&x| (x - max).exp()).sum();
                x.get(id as usize).map_or(0.0, |&x| (x - max).exp() / sum)
            }
            Row::Chances(p) => p.get(id as usize).map_or(0.0, |&p| p as f32),
        }
    }

    /// Entries of the vocabulary.
    pub fn len(&self) -> usize {
        match self {
            Row::Logits(x) => x.len(),
            Row::Chances(p) => p.len(),
        }
    }

    /// True where there is no vocabulary.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_and_chances_of_one_distribution_say_the_same() {
        let (a, b) = (Row::Logits(vec![0.0, 3f32.ln(), 0.0]), Row::Chances(vec![0.2, 0.6, 0.2]));
        for t in [0.0, 0.5, 1.0, 2.0] {
            for (x, y) in a.distribution(t).iter().zip(b.distribution(t)) {
                assert!((x - y).abs() < 1e-7, "{t}: {x} and {y}");
            }
        }
        // At half the temperature chances are squared: 9 of 11.
        assert!((a.probabilities([1], 0.5)[0] - 9.0 / 11.0).abs() < 1e-7);
        assert_eq!((a.best(), b.best(), a.top(2), b.top(2)), (1, 1, vec![1, 0], vec![1, 0]));
        assert_eq!((a.best_but(1), a.best_but(0)), (0, 1));
        let mask = Row::Chances(vec![1.0, 0.0, 0.0]);
        assert_eq!((mask.best_but(0), mask.top(2)), (1, vec![0]));
        assert!((a.confidence_f32(1) - 0.6).abs() < 1e-6);
        assert_eq!(Row::Logits(vec![20.0, 0.0]).confidence_f32(0), 1.0);
    }
}
