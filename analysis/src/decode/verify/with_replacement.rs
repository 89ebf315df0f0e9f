//! Multi-draft rejection: siblings are drawn from one distribution again and again, so that it stays what it is.
//!
//! Source: Miao et al. 2023, "SpecInfer: Accelerating Generative LLM Serving with Tree-based Speculative Inference and
//! Verification", arXiv 2305.09781, as in Infini-AI-Lab/Sequoia Tree/SpecInferTree.py. Takes: a tree whose siblings were
//! drawn independently, two of them may be the same token. Gives: the accepted path and one token more. Departs: guesses
//! that were put there and not drawn are accepted with the target's probability of them. Lossless.

use super::recursive_rejection::{RecursiveRejection, accept_probability, refuse};
use super::walk::{Siblings, walk};
use super::{Claim, Offer, Verdict, Verify};
use crate::decode::chance::Chance;

/// See above.
pub struct WithReplacement;

impl Siblings for WithReplacement {
    fn offer(&self, offer: &Offer, node: usize, accepted: &mut dyn FnMut(usize, f64) -> bool) -> Vec<f64> {
        let Some(q) = offer.tree.drawn_from(node) else {
            return RecursiveRejection.offer(offer, node, accepted);
        };
        let mut target = offer.target(node);
        for child in offer.tree.children(node) {
            let x = offer.tree.nodes()[child].token as usize;
            if accepted(child, accept_probability(&target, q, x)) {
                break;
            }
            refuse(&mut target, q);
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
