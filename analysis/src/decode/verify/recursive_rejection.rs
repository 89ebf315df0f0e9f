//! Recursive rejection: a guess is accepted with min(1, p/q); a refused one leaves the residual to its siblings.
//!
//! Source: Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", arXiv 2211.17192, and
//! Chen et al. 2023, arXiv 2302.01318, for chains; Miao et al. 2023, "SpecInfer", arXiv 2305.09781, and Xiong et al.
//! 2024, "DySpec", arXiv 2410.11744, for trees whose siblings are drawn without replacement. Takes: a tree, the
//! distributions its guesses were drawn from, and the target's. Gives: the accepted path and one token more.
//! Departs: none known. Lossless: what is emitted is distributed as the target's own text, whatever the draft is.

use super::walk::{Siblings, walk};
use super::{Claim, Offer, Verdict, Verify};
use crate::decode::chance::Chance;
use crate::math::normalise;
use std::borrow::Cow;

/// The probability with which token `x` is accepted; where the draft cannot have drawn it, 1 if the target can.
pub fn accept_probability(p: &[f64], q: &[f64], x: usize) -> f64 {
    match q[x] {
        q if q > 0.0 => (p[x] / q).min(1.0),
        _ => f64::from(u8::from(p[x] > 0.0)),
    }
}

/// `norm(max(0, p − q))`; all zeros where p = q, when it is never drawn from.
pub fn residual(p: &[f64], q: &[f64]) -> Vec<f64> {
    let mut out = p.to_vec();
    refuse(&mut out, q);
    out
}

/// Makes `p` its own [`residual`].
pub fn refuse(p: &mut [f64], q: &[f64]) {
    p.iter_mut().zip(q).for_each(|(p, q)| *p = if *p > *q { *p - *q } else { 0.0 });
    normalise(p);
}

/// `p` without token `x`, renormalised; `None` if nothing is left.
pub fn without(p: &[f64], x: usize) -> Option<Vec<f64>> {
    let mut out = p.to_vec();
    out[x] = 0.0;
    normalise(&mut out).then_some(out)
}

/// See above.
pub struct RecursiveRejection;

impl Siblings for RecursiveRejection {
    fn offer(&self, offer: &Offer, node: usize, accepted: &mut dyn FnMut(usize, f64) -> bool) -> Vec<f64> {
        let mut target = offer.target(node);
        let mut draft = offer.tree.drawn_from(node).map(Cow::Borrowed);
        let drawn = draft.is_some();
        let mut children = offer.tree.children(node).peekable();
        while let Some(child) = children.next() {
            let x = offer.tree.nodes()[child].token as usize;
            // A guess that was put there is drawn with certainty.
            let share = match &draft {
                Some(q) => accept_probability(&target, q, x),
                None if drawn => break,
                None => target[x],
            };
            if accepted(child, share) {
                break;
            }
            match draft {
                Some(q) => {
                    refuse(&mut target, &q);
                    // What is left to draw from matters to those that are still to come.
                    draft = if children.peek().is_some() { without(&q, x).map(Cow::Owned) } else { None };
                }
                None => {
                    target[x] = 0.0;
                    normalise(&mut target);
                }
            }
        }
        target
    }
}

impl Verify for RecursiveRejection {
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
    use crate::decode::chance::{Drawn, Recorded, every};
    use crate::decode::row::Row;
    use crate::decode::tree::Tree;
    use std::collections::BTreeMap;

    fn chances(p: &[f64]) -> Row {
        Row::Chances(p.to_vec())
    }

    #[test]
    fn a_refused_guess_is_replaced_from_the_residual() {
        // p/q of token 0 is 0.5 and the uniform is above it; the residual is all on token 1.
        let mut tree = Tree::new(0);
        tree.draws_from(0, vec![0.5, 0.5]);
        tree.push(0, 0, Some(0.5), None);
        let rows = [chances(&[0.25, 0.75]), chances(&[1.0, 0.0])];
        let offer = Offer::new(&tree, &rows, 1.0);
        let mut chance = Recorded::new([0.6], [Drawn::Uniform(0.0)]);
        let v = RecursiveRejection.verify(&offer, &mut chance);
        assert_eq!((v.path, v.own, v.accept[1]), (vec![], 1, 0.5));
    }

    /// Every way in which a tree of two drawn siblings, or of two that were put there, can be verified: the first
    /// token must be distributed exactly as the target's.
    #[test]
    fn the_first_token_is_exactly_distributed_as_the_targets() {
        let (p, q) = ([0.5, 0.2, 0.3, 0.0], [0.1, 0.6, 0.2, 0.1]);
        for drawn in [true, false] {
            let all = every(1000, |chance| {
                let mut tree = Tree::new(0);
                let mut left = q.to_vec();
                for i in 0..2 {
                    let token = if drawn { chance.draw(&left) } else { [3, 0][i] };
                    tree.push(0, token as u32, None, None);
                    left = without(&left, token).unwrap();
                }
                if drawn {
                    tree.draws_from(0, q.to_vec());
                }
                let rows = vec![chances(&p); 3];
                let v = RecursiveRejection.verify(&Offer::new(&tree, &rows, 1.0), chance);
                Ok(v.path.first().map_or(v.own, |&i| tree.nodes()[i].token))
            });
            let mut seen: BTreeMap<u32, f64> = BTreeMap::new();
            all.unwrap().into_iter().for_each(|(token, w)| *seen.entry(token).or_default() += w);
            for (token, want) in p.iter().enumerate() {
                let got = seen.get(&(token as u32)).copied().unwrap_or(0.0);
                assert!((got - want).abs() < 1e-12, "drawn {drawn}, token {token}: {got} and {want}");
            }
        }
    }
}
