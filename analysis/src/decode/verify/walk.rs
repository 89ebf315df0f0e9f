//! What verifiers that look at siblings one after another share: the way down a tree.

use super::{Offer, Verdict, likely};
use crate::decode::chance::Chance;

/// One way to go through the children of a node.
pub trait Siblings {
    /// Offers the children of `node` one after another: `accepted` is told the child from which to go on and the
    /// probability with which it is accepted once it is looked at, and says whether to stop there. Gives what the
    /// target's own token is drawn from where all are refused, `[vocab]`.
    fn offer(&self, offer: &Offer, node: usize, accepted: &mut dyn FnMut(usize, f64) -> bool) -> Vec<f64>;
}

/// The distribution of the first token of a round, for these guesses `[vocab]`.
pub fn first_token(way: &dyn Siblings, offer: &Offer) -> Vec<f64> {
    let (mut out, mut reach) = (vec![0.0; offer.target(0).len()], 1.0);
    let left = way.offer(offer, 0, &mut |child, share| {
        let share = share.min(1.0);
        if let Some(p) = out.get_mut(offer.tree.nodes()[child].token as usize) {
            *p += reach * share;
        }
        reach *= 1.0 - share;
        false
    });
    out.iter_mut().zip(left).for_each(|(p, l)| *p += reach * l);
    out
}

/// Goes down from the root as far as children are accepted.
pub fn walk(way: &dyn Siblings, offer: &Offer, chance: &mut dyn Chance) -> Verdict {
    let n = offer.tree.len();
    let (accept, looked) = (vec![0.0; n], vec![false; n]);
    let mut out = Verdict { path: Vec::new(), own: 0, from: Vec::new(), accept, looked };
    out.looked[0] = true;
    let mut at = 0;
    loop {
        let mut next = None;
        let left = way.offer(offer, at, &mut |child, share| {
            out.looked[child] = true;
            let hit = chance.test(share);
            next = hit.then_some(child);
            hit
        });
        let Some(child) = next else {
            (out.own, out.from) = (chance.draw(&left) as u32, likely(&left));
            break;
        };
        out.path.push(child);
        at = child;
    }
    for node in (0..n).filter(|&node| offer.tree.children(node).next().is_some()) {
        way.offer(offer, node, &mut |child, share| {
            out.accept[child] = share;
            false
        });
    }
    out
}
