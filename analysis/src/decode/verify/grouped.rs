//! Acceptance of a group: a guess is accepted by the mass of tokens that are as probable and mean about the same.
//!
//! Source: So et al. 2025, "Grouped Speculative Decoding for Autoregressive Image Generation", arXiv 2508.07747, in the
//! form of junhyukso/GSD scheduler/jacobi_iteration_lumina_mgpt.py. Takes: a tree, what it was drawn from, distances
//! between tokens. Gives: the accepted path and one token more. Departs: none known. Not lossless: the group is accepted,
//! the residual is not grouped.

use super::recursive_rejection::{accept_probability, residual, without};
use super::walk::{Siblings, walk};
use super::{Claim, Offer, Verdict, Verify, apart};
use crate::decode::chance::Chance;
use crate::math::largest;
use std::borrow::Cow;
use std::ops::Range;

/// What a group is.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Members differ in probability by less than this.
    pub p_threshold: f64,
    /// Members are nearer than this.
    pub d_threshold: f64,
    /// Ranks below and above, in ascending order of the target's values, that are looked at; above counts the token.
    pub window: [usize; 2],
}

impl Group {
    /// The ranks that are looked at for the token of rank `at` of `n`; mostly those around it.
    pub fn ranks(&self, n: usize, at: usize) -> Range<usize> {
        let [below, above] = self.window;
        // As the authors' slice: a start before the first rank counts from the end, where it finds nothing unless the
        // vocabulary is smaller than the window.
        let start = if at >= below { at - below } else { (n + at).saturating_sub(below) };
        start..at.saturating_add(above).min(n).max(start)
    }

    /// The tokens of the [`Group::ranks`] of `x` by ascending value, without an order of all others.
    fn around(&self, p: &[f64], x: usize) -> Vec<usize> {
        let before = |a: &usize, b: &usize| p[*a].total_cmp(&p[*b]).then(a.cmp(b));
        let mut all: Vec<usize> = (0..p.len()).collect();
        let Range { start, end } = self.ranks(p.len(), all.iter().filter(|i| before(i, &x).is_lt()).count());
        if end < all.len() {
            all.select_nth_unstable_by(end, before);
            all.truncate(end);
        }
        if start < all.len() {
            all.select_nth_unstable_by(start, before);
        }
        let mut near = all.split_off(start.min(all.len()));
        near.sort_unstable_by(before);
        near
    }

    /// The probability with which token `x` is accepted: `min(1, Σ p / Σ q)` over its group, or plainly where that is
    /// empty. `near` holds the tokens of its [`Group::ranks`] by ascending value of the target, `distance` is that from
    /// the token.
    pub fn share(&self, p: &[f64], q: &[f64], x: usize, near: &[usize], distance: &dyn Fn(usize) -> f64) -> f64 {
        let member = |y: &usize| (p[x] - p[*y]).abs() < self.p_threshold && distance(*y) < self.d_threshold;
        let group: Vec<usize> = near.iter().copied().filter(member).collect();
        let (a, b): (f64, f64) = (group.iter().map(|&y| p[y]).sum(), group.iter().map(|&y| q[y]).sum());
        if b > 0.0 { (a / b).min(1.0) } else { accept_probability(p, q, x) }
    }
}

/// All tokens by ascending probability, the lower id first on a tie.
pub fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    order
}

/// Guesses whose groups are looked at to see how far a text strays.
const LIKELY: usize = 1024;

/// How far two tokens are apart.
pub type Distance<'a> = Box<dyn Fn(u32, u32) -> f64 + 'a>;

/// See above.
pub struct Grouped<'a> {
    /// What a group is.
    pub group: Group,
    /// How far two tokens are apart.
    pub distance: Distance<'a>,
}

impl Siblings for Grouped<'_> {
    fn offer(&self, offer: &Offer, node: usize, accepted: &mut dyn FnMut(usize, f64) -> bool) -> Vec<f64> {
        let mut target = offer.target(node);
        let mut draft = offer.tree.drawn_from(node).map(Cow::Borrowed);
        for child in offer.tree.children(node) {
            let id = offer.tree.nodes()[child].token;
            let x = id as usize;
            let share = match &draft {
                // Greedy decodes accept nothing but the best.
                _ if offer.temperature == 0.0 => target[x],
                Some(q) => {
                    let distance = |y: usize| (self.distance)(id, y as u32);
                    self.group.share(&target, q, x, &self.group.around(&target, x), &distance)
                }
                None => target[x],
            };
            if accepted(child, share) {
                break;
            }
            match draft {
                Some(q) if offer.temperature != 0.0 => {
                    (target, draft) = (nonzero(residual(&target, &q), target), without(&q, x).map(Cow::Owned));
                }
                _ => target = nonzero(without(&target, x).unwrap_or_default(), target),
            }
        }
        target
    }
}

/// What is left, or what there was where nothing is: a group may be refused though its token is as likely as drafted.
fn nonzero(left: Vec<f64>, before: Vec<f64>) -> Vec<f64> {
    if left.iter().any(|x| *x > 0.0) { left } else { before }
}

impl Verify for Grouped<'_> {
    fn verify(&self, offer: &Offer, chance: &mut dyn Chance) -> Verdict {
        walk(self, offer, chance)
    }

    fn lossless(&self) -> Claim {
        Claim::Approximate
    }

    /// Over every guess that the draft could have made there.
    fn strays(&self, offer: &Offer, _: &Verdict) -> Option<f64> {
        let Some(q) = offer.tree.drawn_from(0).filter(|_| offer.temperature > 0.0) else { return Some(0.0) };
        let p = offer.target(0);
        let (order, left) = (ascending(&p), nonzero(residual(&p, q), p.clone()));
        let (mut out, mut refused) = (vec![0.0; p.len()], 0.0);
        // Of a large vocabulary, those that the draft hardly makes are taken as accepted plainly.
        let mut likely = vec![false; q.len()];
        largest(q, LIKELY).into_iter().for_each(|x| likely[x] = true);
        for (at, &x) in order.iter().enumerate().filter(|(_, x)| q[**x] > 0.0) {
            let share = match likely[x] {
                true => {
                    let near = &order[self.group.ranks(p.len(), at)];
                    self.group.share(&p, q, x, near, &|y| (self.distance)(x as u32, y as u32))
                }
                false => accept_probability(&p, q, x),
            };
            out[x] += q[x] * share;
            refused += q[x] * (1.0 - share);
        }
        out.iter_mut().zip(left).for_each(|(o, l)| *o += refused * l);
        Some(apart(&out, &p))
    }
}
