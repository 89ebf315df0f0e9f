//! Multi-draft rejection: siblings are drawn from one distribution again and again, so that it stays what it is.
//!
//! Source: Miao et al. 2023, "SpecInfer: Accelerating Generative LLM Serving with Tree-based Speculative Inference and
//! Verification", arXiv 2305.09781, as in Infini-AI-Lab/Sequoia Tree/SpecInferTree.py. Takes: a tree whose siblings were
//! drawn independently, two of them may be the same token. Gives: the accepted path and one token more. Departs: guesses
//! that were put there and not drawn are accepted with the target's probability of them. Lossless.

use super::recursive_rejection::{accept_probability, residual, without};
use super::walk::{Siblings, walk};
use super::{Claim, Offer, Verdict, Verify};
use crate::decode::chance::Chance;

/// See above.
pub struct WithReplacement;

impl Siblings for WithReplacement {
    fn offer(&self, offer: &Offer, node: usize, accepted: &mut dyn FnMut(usize, f64) -> bool) -> Vec<f64> {
        let mut target = offer.target(node);
        let draft = offer.tree.drawn_from(node);
        for child in offer.tree.children(node) {
            let x = offer.tree.nodes()[child].token as usize;
            let share = draft.map_or(target[x], |q| accept_probability(&target, q, x));
            if accepted(child, share) {
                break;
            }
            target = match draft {
                Some(q) => residual(&target, q),
                None => without(&target, x).unwrap_or_else(|| vec![0.0; target.len()]),
            };
        }
        target
    }
}

impl Verify for WithReplacement {
    fn verify(&self, offer: &Offer, chance: &mut dyn Chance) -> Verdict {
        walk(self, offer, chance)
    }

    fn lossless(&self) -> Claim {
        Claim::Lossless
    }
}
