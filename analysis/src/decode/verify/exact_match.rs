//! Exact match: the target chooses by itself, and guesses that say the same are accepted.
//!
//! Source: greedy verification as in Luo et al. 2024, arXiv 2408.08696; with sampling it is the naive sampling of
//! Miao et al. 2023, "SpecInfer", arXiv 2305.09781. Takes: a tree and the target's row after each node. Gives: the
//! longest path that the target's choices follow. Departs: none known. Lossless, whatever the guesses are.

use super::{Claim, Offer, Verdict, Verify, likely};
use crate::decode::chance::Chance;

/// See above.
pub struct ExactMatch;

impl Verify for ExactMatch {
    fn verify(&self, offer: &Offer, chance: &mut dyn Chance) -> Verdict {
        let (tree, n) = (offer.tree, offer.tree.len());
        // Nodes with the same words above them are one choice of the target's. A policy may put a token there twice
        // and hang more below one of the two.
        let mut same = vec![0];
        let (own, from) = loop {
            let (own, from) = match offer.temperature {
                0.0 => {
                    let best = offer.best(same[0]) as u32;
                    (best, vec![(best, 1.0)])
                }
                _ => {
                    let p = offer.target(same[0]);
                    (chance.draw(&p) as u32, likely(&p))
                }
            };
            let next: Vec<usize> =
                (1..n).filter(|&i| tree.nodes()[i].token == own && same.contains(&tree.nodes()[i].parent)).collect();
            if next.is_empty() {
                break (own, from);
            }
            same = next;
        };
        // The path that is kept is the one to the first leaf below.
        let depth = tree.nodes()[same[0]].depth;
        let path = tree.leaves().into_iter().map(|leaf| tree.path(leaf));
        let mut fits = path.filter(|p| depth > 0 && p.get(depth - 1).is_some_and(|i| same.contains(i)));
        let path = fits.next().map_or(Vec::new(), |p| p[..depth].to_vec());
        let (mut accept, mut looked) = (vec![1.0; n], vec![true; n]);
        let p = if offer.temperature == 0.0 { Vec::new() } else { offer.shares() };
        for i in 1..n {
            let (at, token) = (tree.nodes()[i].parent, tree.nodes()[i].token);
            let greedy = f64::from(u8::from(token as usize == offer.best(at)));
            accept[i] = p.get(i).map_or(greedy, |p| p.unwrap_or(0.0));
            looked[i] = at == 0 || path.contains(&at);
        }
        Verdict { path, own, from, accept, looked }
    }

    fn lossless(&self) -> Claim {
        Claim::Lossless
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::chance::{Seeded, every};
    use crate::decode::row::Row;
    use crate::decode::tree::Tree;

    fn row(best: usize) -> Row {
        Row::Chances((0..10).map(|i| if i == best { 0.91 } else { 0.01 }).collect())
    }

    #[test]
    fn the_longest_confirmed_path_is_taken_though_its_first_token_is_there_twice() {
        let mut tree = Tree::new(5);
        for (parent, token) in [(0, 6), (0, 7), (0, 7), (3, 9), (3, 8)] {
            tree.push(parent, token, None, None);
        }
        // After 5 comes 7, which is nodes 2 and 3; only below node 3 hangs the 9 that comes next.
        let rows: Vec<Row> = [7, 0, 9, 9, 0, 0].into_iter().map(row).collect();
        let v = ExactMatch.verify(&Offer::new(&tree, &rows, 0.0), &mut Seeded::new(0));
        assert_eq!((v.path, v.own), (vec![3, 4], 0));
        assert_eq!(v.accept[1..], [0.0, 1.0, 1.0, 1.0, 0.0]);
        assert!(v.looked[1..].iter().all(|l| *l));
    }

    #[test]
    fn a_sampled_text_is_the_targets_own_choice_token_by_token() {
        let mut tree = Tree::new(0);
        tree.push(0, 1, None, None);
        let rows = vec![Row::Chances(vec![0.4, 0.6]), Row::Chances(vec![0.25, 0.75])];
        let offer = Offer::new(&tree, &rows, 1.0);
        let all = every(10, |chance| {
            let v = ExactMatch.verify(&offer, chance);
            Ok((v.path.len(), v.own))
        });
        // 0 ends the round at once; 1 is the guess, after which the target goes on with 0 or 1.
        assert_eq!(all.unwrap(), [((0, 0), 0.4), ((1, 0), 0.6 * 0.25), ((1, 1), 0.6 * 0.75)]);
    }
}
