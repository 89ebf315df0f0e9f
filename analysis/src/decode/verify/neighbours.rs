//! Relaxed acceptance: a guess borrows the probability of the tokens nearest to it.
//!
//! Source: Jang et al. 2024, "LANTERN: Accelerating Visual Autoregressive Models with Relaxed Speculative Decoding",
//! arXiv 2410.03355, and Park et al. 2025, "LANTERN++", arXiv 2502.06352, in the form of jadohu/LANTERN
//! models/ea_model_llamagen.py. Takes: a tree whose guesses were put there, and for each token its nearest ones. Gives:
//! the accepted path and one token more. Departs: none known. Not lossless: a guess takes
//! what it borrows, and a refused one takes the neighbours that could have lent with it. How far a text strays is measured.

use super::walk::{Siblings, first_token, walk};
use super::{Claim, Offer, Verdict, Verify, apart};
use crate::decode::chance::Chance;

/// The nearest tokens of a token, the nearest first, itself left out; at least `k + 1` where there are so many.
pub type Nearest<'a> = Box<dyn Fn(u32) -> Vec<u32> + 'a>;

/// See above.
pub struct Neighbours<'a> {
    /// Neighbours that may lend at most; `None` accepts plainly.
    pub k: Option<usize>,
    /// What they may lend at most: mass up to 1, or above 1 the part above as a multiple of the guess's own (LANTERN++).
    pub delta: f64,
    /// The neighbours.
    pub nearest: Nearest<'a>,
}

impl Neighbours<'_> {
    /// The relaxed probability of `x` under `p`, and how many neighbours lend.
    pub fn relaxed(&self, p: &[f64], x: u32, nearest: &[u32]) -> (f64, usize) {
        let own = p.get(x as usize).copied().unwrap_or(0.0);
        let bound = if self.delta > 1.0 { (self.delta - 1.0) * own } else { self.delta };
        let (mut sum, mut n) = (0.0, 0);
        for &y in nearest.iter().take(self.k.unwrap_or(0)) {
            let more = sum + p.get(y as usize).copied().unwrap_or(0.0);
            if more > bound {
                break;
            }
            (sum, n) = (more, n + 1);
        }
        (own + sum, n)
    }
}

impl Siblings for Neighbours<'_> {
    fn offer(&self, offer: &Offer, node: usize, accepted: &mut dyn FnMut(usize, f64) -> bool) -> Vec<f64> {
        let mut p = offer.target(node);
        let mut seen = Vec::new();
        for child in offer.tree.children(node) {
            let x = offer.tree.nodes()[child].token;
            if seen.contains(&x) {
                continue;
            }
            seen.push(x);
            let nearest = match self.k {
                Some(_) if offer.temperature > 0.0 => (self.nearest)(x),
                _ => Vec::new(),
            };
            let (share, lent) = self.relaxed(&p, x, &nearest);
            if accepted(child, share) {
                break;
            }
            let gone = nearest.iter().take(if lent > 0 { self.k.unwrap_or(0).saturating_add(1) } else { 0 });
            let before = p.clone();
            [x].iter().chain(gone).for_each(|&y| p.iter_mut().skip(y as usize).take(1).for_each(|p| *p = 0.0));
            let sum: f64 = p.iter().sum();
            // Where nothing is left the target goes on as it was.
            p = if sum > 0.0 { p.into_iter().map(|x| x / sum).collect() } else { before };
        }
        p
    }
}

impl Verify for Neighbours<'_> {
    fn verify(&self, offer: &Offer, chance: &mut dyn Chance) -> Verdict {
        walk(self, offer, chance)
    }

    fn lossless(&self) -> Claim {
        Claim::Approximate
    }

    fn strays(&self, offer: &Offer, _: &Verdict) -> Option<f64> {
        if offer.temperature == 0.0 {
            return Some(0.0);
        }
        Some(apart(&first_token(self, offer), &offer.target(0)))
    }
}
