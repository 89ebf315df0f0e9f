//! K-SEQ: drafts drawn independently are accepted one after another against a scaled down draft distribution.
//!
//! Source: Sun et al. 2023, "SpecTr: Fast Speculative Decoding via Optimal Transport", arXiv 2310.15141. Takes: a tree
//! whose siblings were drawn independently; of the same token twice, the first has what follows. Gives: the accepted
//! path and one token more. Departs: guesses that were put there and not drawn are accepted with the target's
//! probability of them. Lossless, and at least `1 − (1 − 1/k)^k` of what any verifier could accept.

use super::recursive_rejection::RecursiveRejection;
use super::walk::{Siblings, walk};
use super::{Claim, Offer, Verdict, Verify};
use crate::decode::chance::Chance;

/// The scale of one node and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// By how much the draft is scaled, from 1 to the number of drafts.
    pub rho: f64,
    /// The probability that one draft is accepted: `Σ min(q, p/ρ)`.
    pub beta: f64,
    /// The probability that some draft is: `1 − (1 − β)^k`.
    pub accept: f64,
}

impl Scale {
    /// The scale `rho` for a target `p`, a draft `q` and `k` drafts.
    pub fn at(p: &[f64], q: &[f64], k: usize, rho: f64) -> Self {
        Self::of(rho, p.iter().zip(q).map(|(p, q)| q.min(p / rho)).sum(), k)
    }

    fn of(rho: f64, beta: f64, k: usize) -> Self {
        Self { rho, beta, accept: 1.0 - (1.0 - beta).max(0.0).powi(k.min(i32::MAX as usize) as i32) }
    }

    /// The smallest scale that is lossless, found by bisection.
    pub fn smallest(p: &[f64], q: &[f64], k: usize) -> Self {
        let fits = |s: &Self| s.accept <= s.rho * s.beta;
        let (mut low, mut high) = (1.0, k.max(1) as f64);
        let first = Self::at(p, q, k, low);
        if fits(&first) {
            return first;
        }
        // Whether min(q, p/ρ) is the one or the other is open for tokens with q < p < kq alone, which are few.
        let (mut scaled, mut plain, mut open) = (0.0, 0.0, (Vec::new(), Vec::new()));
        for (&p, &q) in p.iter().zip(q) {
            if p <= q {
                scaled += p;
            } else if p >= high * q {
                plain += q;
            } else {
                open.0.push(p);
                open.1.push(q);
            }
        }
        let at = |rho: f64| {
            let s = Self::at(&open.0, &open.1, k, rho);
            Self::of(rho, s.beta + scaled / rho + plain, k)
        };
        for _ in 0..100 {
            let mid = 0.5 * (low + high);
            if fits(&at(mid)) { high = mid } else { low = mid }
        }
        Self::at(p, q, k, high)
    }

    /// The probability with which token `x` is accepted once it is looked at.
    pub fn share(&self, p: &[f64], q: &[f64], x: usize) -> f64 {
        if q[x] > 0.0 { (p[x] / (self.rho * q[x])).min(1.0) } else { f64::from(u8::from(p[x] > 0.0)) }
    }

    /// Mass of each token that comes from accepted drafts `[vocab]`.
    pub fn accepted(&self, p: &[f64], q: &[f64]) -> Vec<f64> {
        let scale = if self.beta > 0.0 { self.accept / self.beta } else { 0.0 };
        p.iter().zip(q).map(|(p, q)| q.min(p / self.rho) * scale).collect()
    }

    /// What the target's own token is drawn from where no draft is accepted `[vocab]`; zeros where one always is.
    pub fn residual(&self, p: &[f64], q: &[f64]) -> Vec<f64> {
        let left = 1.0 - self.accept;
        let mass = |(p, a): (&f64, f64)| if left > 0.0 { ((p - a) / left).max(0.0) } else { 0.0 };
        p.iter().zip(self.accepted(p, q)).map(mass).collect()
    }
}

/// See above.
pub struct KSeq;

impl Siblings for KSeq {
    fn offer(&self, offer: &Offer, node: usize, accepted: &mut dyn FnMut(usize, f64) -> bool) -> Vec<f64> {
        let Some(q) = offer.tree.drawn_from(node) else {
            return RecursiveRejection.offer(offer, node, accepted);
        };
        let target = offer.target(node);
        let children: Vec<usize> = offer.tree.children(node).collect();
        let token = |child: usize| offer.tree.nodes()[child].token;
        let scale = Scale::smallest(&target, q, children.len());
        for &child in &children {
            let first = children.iter().copied().find(|&c| token(c) == token(child)).unwrap_or(child);
            if accepted(first, scale.share(&target, q, token(child) as usize)) {
                break;
            }
        }
        match children.is_empty() {
            true => target,
            false => scale.residual(&target, q),
        }
    }
}

impl Verify for KSeq {
    fn verify(&self, offer: &Offer, chance: &mut dyn Chance) -> Verdict {
        walk(self, offer, chance)
    }

    fn lossless(&self) -> Claim {
        Claim::Lossless
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_draft_is_plain_speculative_sampling() {
        // With one draft the scale is 1 and min(p, q) of each token is accepted.
        let (p, q) = ([0.5, 0.3, 0.2], [0.2, 0.2, 0.6]);
        let s = Scale::smallest(&p, &q, 1);
        assert!((s.rho - 1.0).abs() < 1e-12 && (s.accept - 0.6).abs() < 1e-12);
        let r = s.residual(&p, &q);
        assert!((r[0] - 0.75).abs() < 1e-12 && (r[1] - 0.25).abs() < 1e-12 && r[2].abs() < 1e-12);
        // With two, what is accepted and what is left are the target, and more is accepted.
        let s = Scale::smallest(&p, &q, 2);
        let all: Vec<f64> =
            s.accepted(&p, &q).iter().zip(s.residual(&p, &q)).map(|(a, r)| a + (1.0 - s.accept) * r).collect();
        assert!(all.iter().zip(p).all(|(a, p)| (a - p).abs() < 1e-9) && s.accept > 0.6, "{s:?} {all:?}");
    }
}
