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

/// Goes down from the root as far as children are accepted. Each node is looked at once.
pub fn walk(way: &dyn Siblings, offer: &Offer, chance: &mut dyn Chance) -> Verdict {
    if offer.temperature == 0.0 {
        return greedy(offer);
    }
    let (tree, n) = (offer.tree, offer.tree.len());
    let (accept, looked) = (vec![0.0; n], vec![false; n]);
    let mut out = Verdict { path: Vec::new(), own: 0, from: Vec::new(), accept, looked };
    out.looked[0] = true;
    let (mut at, mut passed) = (0, vec![false; n]);
    loop {
        let (mut next, mut open) = (None, tree.children(at).count());
        passed[at] = true;
        let left = way.offer(offer, at, &mut |child, share| {
            if next.is_none() {
                out.looked[child] = true;
                next = chance.test(share).then_some(child);
            }
            // Behind an accepted one the others are offered all the same, for the probability that they have.
            out.accept[child] = share;
            open = open.saturating_sub(1);
            open == 0 && next.is_some()
        });
        let Some(child) = next else {
            (out.own, out.from) = (chance.draw(&left) as u32, likely(&left));
            break;
        };
        out.path.push(child);
        at = child;
    }
    for node in (0..n).filter(|&node| !passed[node]) {
        let mut open = tree.children(node).count();
        if open > 0 {
            way.offer(offer, node, &mut |child, share| {
                out.accept[child] = share;
                open = open.saturating_sub(1);
                open == 0
            });
        }
    }
    out
}

/// Without chance every way accepts what the target would choose and nothing else, so that no distributions are made.
fn greedy(offer: &Offer) -> Verdict {
    let (tree, n) = (offer.tree, offer.tree.len());
    let mut out = Verdict { path: Vec::new(), own: 0, from: Vec::new(), accept: vec![0.0; n], looked: vec![false; n] };
    let chosen = |at: usize| tree.children(at).find(|&c| tree.nodes()[c].token as usize == offer.best(at));
    for at in 0..n {
        if let Some(child) = chosen(at) {
            out.accept[child] = 1.0;
        }
    }
    out.looked[0] = true;
    let mut at = 0;
    loop {
        let next = chosen(at);
        for child in tree.children(at).take_while(|&c| next.is_none_or(|n| c <= n)) {
            out.looked[child] = true;
        }
        let Some(child) = next else { break };
        out.path.push(child);
        at = child;
    }
    out.own = offer.best(at) as u32;
    out.from = vec![(out.own, 1.0)];
    out
}
