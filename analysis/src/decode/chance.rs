//! Where decoding leaves something to chance: seeded for people, recorded for goldens, every way at once for proofs.

use crate::math::largest;
use crate::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Decides whatever is random in a decode.
pub trait Chance {
    /// True with probability `p`; never where `p` is 0.
    fn test(&mut self, p: f64) -> bool;
    /// An index, each with its probability; the values sum to 1.
    fn draw(&mut self, p: &[f64]) -> usize;
    /// A number from 0 to 1, for whoever draws many tokens at once by keys.
    fn uniform(&mut self) -> f64;

    /// At most `k` different indices, one after another without replacement, each with what is then its probability:
    /// the largest of `ln p + Gumbel noise` (Kool et al. 2019, arXiv 1903.06059).
    fn draw_some(&mut self, p: &[f64], k: usize) -> Vec<usize> {
        let keys: Vec<f64> = p.iter().map(|x| x.ln() + gumbel(self.uniform())).collect();
        largest(&keys, k).into_iter().filter(|&i| p[i] > 0.0).collect()
    }
}

/// A draw of the standard Gumbel distribution.
pub fn gumbel(uniform: f64) -> f64 {
    -(-uniform.ln()).ln()
}

/// The index at which the cumulative sum passes `u`, the last possible one if rounding leaves none.
pub fn inverse_cdf(p: &[f64], u: f64) -> usize {
    let mut sum = 0.0;
    for (i, x) in p.iter().enumerate() {
        sum += x;
        if sum > u {
            return i;
        }
    }
    p.iter().rposition(|&x| x > 0.0).unwrap_or(0)
}

/// Chance from a seed: one uniform for each question.
pub struct Seeded(ChaCha8Rng);

impl Seeded {
    /// The same seed decides the same.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// One of many of the same seed that have nothing to do with each other.
    pub fn one_of(seed: u64, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        Self(rng)
    }
}

impl Chance for Seeded {
    fn test(&mut self, p: f64) -> bool {
        passes(self.0.random(), p)
    }

    fn draw(&mut self, p: &[f64]) -> usize {
        inverse_cdf(p, self.0.random())
    }

    fn uniform(&mut self) -> f64 {
        self.0.random()
    }
}

fn passes(u: f64, p: f64) -> bool {
    p > 0.0 && u <= p
}

/// What a recorded decode drew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drawn {
    /// This index.
    Index(usize),
    /// By inverse CDF of this uniform.
    Uniform(f64),
}

/// Chance that was recorded elsewhere: tests and draws in the order in which they were asked for.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    tests: std::collections::VecDeque<f64>,
    draws: std::collections::VecDeque<Drawn>,
    uniforms: std::collections::VecDeque<f64>,
    short: bool,
}

impl Recorded {
    /// Uniforms of the tests, and the draws.
    pub fn new(tests: impl IntoIterator<Item = f64>, draws: impl IntoIterator<Item = Drawn>) -> Self {
        Self { tests: tests.into_iter().collect(), draws: draws.into_iter().collect(), ..Self::default() }
    }

    /// Uniforms of the keys of many tokens at once.
    pub fn keys(uniforms: impl IntoIterator<Item = f64>) -> Self {
        Self { uniforms: uniforms.into_iter().collect(), ..Self::default() }
    }

    /// Errors if more was asked for than had been recorded.
    pub fn check(&self) -> Result<()> {
        if self.short { Err(Error::invalid("fewer chances were recorded than the decode asks for")) } else { Ok(()) }
    }
}

impl Chance for Recorded {
    fn test(&mut self, p: f64) -> bool {
        let u = self.tests.pop_front();
        self.short |= u.is_none();
        passes(u.unwrap_or(1.0), p)
    }

    fn draw(&mut self, p: &[f64]) -> usize {
        match self.draws.pop_front() {
            Some(Drawn::Index(i)) => i.min(p.len().saturating_sub(1)),
            Some(Drawn::Uniform(u)) => inverse_cdf(p, u),
            None => {
                self.short = true;
                inverse_cdf(p, 0.0)
            }
        }
    }

    fn uniform(&mut self) -> f64 {
        let u = self.uniforms.pop_front();
        self.short |= u.is_none();
        u.unwrap_or(0.5)
    }
}

/// Runs `f` once for every way that chance can go and gives each outcome with its probability. Exact, where
/// outcomes are few.
///
/// Errors: more than `most` ways, whatever `f` fails with.
pub fn every<T>(most: usize, mut f: impl FnMut(&mut dyn Chance) -> Result<T>) -> Result<Vec<(T, f64)>> {
    let (mut out, mut walk) = (Vec::new(), Walk::default());
    loop {
        if out.len() == most {
            return Err(Error::invalid(format!("there are more than {most} ways in which chance can go")));
        }
        walk.at = 0;
        let value = f(&mut walk)?;
        if walk.endless {
            return Err(Error::invalid("chance that goes in endlessly many ways cannot be gone through"));
        }
        walk.forks.truncate(walk.at);
        out.push((value, walk.forks.iter().map(|f| f[0].1).product()));
        // The last fork that has another way left takes it; those after it begin anew.
        while let Some(last) = walk.forks.last_mut() {
            last.remove(0);
            if !last.is_empty() {
                break;
            }
            walk.forks.pop();
        }
        if walk.forks.is_empty() {
            return Ok(out);
        }
    }
}

/// Per question asked so far: the ways (answer, probability) not yet gone, the present one first.
#[derive(Default)]
struct Walk {
    forks: Vec<Vec<(usize, f64)>>,
    at: usize,
    /// A uniform was asked for.
    endless: bool,
}

impl Walk {
    fn ask(&mut self, ways: impl FnOnce() -> Vec<(usize, f64)>) -> usize {
        if self.at == self.forks.len() {
            let mut ways = ways();
            if ways.is_empty() {
                ways.push((0, 1.0));
            }
            self.forks.push(ways);
        }
        self.at += 1;
        self.forks[self.at - 1][0].0
    }
}

impl Chance for Walk {
    fn test(&mut self, p: f64) -> bool {
        let p = p.min(1.0);
        self.ask(|| [(1, p), (0, 1.0 - p)].into_iter().filter(|w| w.1 > 0.0).collect()) == 1
    }

    fn draw(&mut self, p: &[f64]) -> usize {
        self.ask(|| p.iter().copied().enumerate().filter(|w| w.1 > 0.0).collect())
    }

    fn uniform(&mut self) -> f64 {
        self.endless = true;
        0.5
    }

    fn draw_some(&mut self, p: &[f64], k: usize) -> Vec<usize> {
        let (mut left, mut out) = (p.to_vec(), Vec::new());
        for _ in 0..k.min(p.iter().filter(|x| **x > 0.0).count()) {
            let sum: f64 = left.iter().sum();
            let shares: Vec<f64> = left.iter().map(|x| x / sum).collect();
            let i = self.draw(&shares);
            left[i] = 0.0;
            out.push(i);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_gone_once_with_its_probability() {
        // A draw of three, one of them impossible; after the first a test.
        let all = every(10, |chance| {
            let i = chance.draw(&[0.25, 0.0, 0.75]);
            Ok((i, i == 0 && chance.test(0.4)))
        });
        let all = all.unwrap();
        assert_eq!(all.iter().map(|a| a.0).collect::<Vec<_>>(), [(0, true), (0, false), (2, false)]);
        assert!((all[0].1 - 0.1).abs() < 1e-12 && (all[1].1 - 0.15).abs() < 1e-12 && all[2].1 == 0.75);
        assert!(every(2, |chance| Ok(chance.draw(&[0.3, 0.3, 0.4]))).is_err());
        assert!(every(9, |chance| Ok(chance.uniform())).is_err());
    }

    #[test]
    fn several_are_drawn_without_replacement_by_keys_as_one_after_another() {
        let p = [0.5, 0.3, 0.2, 0.0];
        let all = every(99, |chance| Ok(chance.draw_some(&p, 2))).unwrap();
        assert_eq!(all.len(), 6);
        let (mut seeded, n) = (Seeded::new(5), 20_000);
        let mut seen = std::collections::BTreeMap::<Vec<usize>, f64>::new();
        (0..n).for_each(|_| *seen.entry(seeded.draw_some(&p, 2)).or_default() += 1.0 / f64::from(n));
        // 0 then 1 is 0.5 · 0.3 / 0.5; 5 standard deviations are less than 0.02.
        for (pair, share) in all {
            assert!((seen[&pair] - share).abs() < 0.02, "{pair:?}: {} and {share}", seen[&pair]);
        }
        assert_eq!(seeded.draw_some(&p, 9).len(), 3);
    }

    #[test]
    fn recorded_chance_is_repeated_and_its_end_is_noticed() {
        let mut r = Recorded::new([0.5, 0.5], [Drawn::Index(2), Drawn::Uniform(0.3)]);
        assert_eq!((r.draw(&[0.5, 0.5, 0.0]), r.draw(&[0.2, 0.8])), (2, 1));
        assert_eq!((r.test(0.5), r.test(0.4)), (true, false));
        assert!(r.check().is_ok());
        r.test(1.0);
        assert!(r.check().is_err());
    }

    #[test]
    fn what_is_impossible_never_passes() {
        assert!(!passes(0.0, 0.0) && passes(0.0, 1e-300) && passes(0.999, 1.0));
        assert_eq!((inverse_cdf(&[0.5, 0.5], 0.5), inverse_cdf(&[0.3, 0.3, 0.0], 0.9)), (1, 1));
    }
}
