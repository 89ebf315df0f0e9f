//! Typical acceptance: a guess stays where the target finds it likely enough for how sure it is altogether.
//!
//! Source: Cai et al. 2024, "Medusa", arXiv 2401.10774, in the form of hmarkc/parallel-prompt-decoding
//! prompt/model/model.py. Takes: a tree and the target's row after each node. Gives: the longest accepted path, of
//! equally long ones the most probable. Departs: none known. Greedy decodes match exactly; above temperature 0 it is not
//! lossless.

use super::exact_match::ExactMatch;
use super::{Claim, Offer, Verdict, Verify, likely};
use crate::decode::chance::Chance;

/// See above.
#[derive(Debug, Clone, Copy)]
pub struct Typical {
    /// A guess that is more probable than this stays in any case.
    pub threshold: f64,
    /// Share of `exp(−entropy)` that a guess must pass.
    pub alpha: f64,
}

impl Typical {
    /// What a probability must pass after a distribution.
    pub fn bar(&self, p: &[f64]) -> f64 {
        let entropy: f64 = -p.iter().map(|p| p * (p + 1e-5).ln()).sum::<f64>();
        self.threshold.min(self.alpha * (-entropy).exp())
    }
}

impl Verify for Typical {
    fn verify(&self, offer: &Offer, chance: &mut dyn Chance) -> Verdict {
        if offer.temperature == 0.0 {
            return ExactMatch.verify(offer, chance);
        }
        let (tree, n) = (offer.tree, offer.tree.len());
        // Nodes are there after their parents: length and logarithm of the accepted path that ends in each.
        let mut ends: Vec<Option<(usize, f64)>> = vec![None; n];
        ends[0] = Some((0, 0.0));
        let mut accept = vec![0.0; n];
        for at in 0..n {
            let mut children = tree.children(at).peekable();
            if children.peek().is_none() {
                continue;
            }
            let p = offer.target(at);
            let bar = self.bar(&p);
            for child in children {
                let share = p.get(tree.nodes()[child].token as usize).copied().unwrap_or(0.0);
                let stays = share > bar;
                accept[child] = f64::from(u8::from(stays));
                ends[child] = ends[at].filter(|_| stays).map(|(depth, sum)| (depth + 1, sum + share.ln()));
            }
        }
        let best = (0..n).fold(0, |b, i| if ends[i] > ends[b] { i } else { b });
        let path = tree.path(best);
        let looked = |i: usize| i == 0 || tree.nodes()[i].parent == 0 || path.contains(&tree.nodes()[i].parent);
        let looked = (0..n).map(looked).collect();
        let p = offer.target(best);
        Verdict { own: chance.draw(&p) as u32, from: likely(&p), path, accept, looked }
    }

    fn lossless(&self) -> Claim {
        Claim::Approximate
    }

    /// Nothing is left to chance: an accepted guess comes whatever the target's probability of it is.
    fn strays(&self, offer: &Offer, verdict: &Verdict) -> Option<f64> {
        let first = verdict.path.first().map(|&i| offer.tree.nodes()[i].token as usize);
        Some(first.map_or(0.0, |x| 1.0 - offer.target(0).get(x).copied().unwrap_or(0.0)))
    }
}
