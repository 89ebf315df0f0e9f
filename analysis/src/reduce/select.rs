//! Rules that several reductions share.

use super::decide::Decision;
use super::place::Place;
use super::seen::{Seen, pick};
use crate::Result;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::argmax;
use crate::passes::{cosine_matrix, top_k};

/// Python's `round`: halves go to the even neighbour. Authors' code counts tokens with it.
pub fn round_half_even(x: f64) -> i64 {
    x.round_ties_even() as i64
}

/// How many of the rows that may be touched a share is; of an image's features at least one.
pub fn budget(seen: &dyn Seen, share: f64) -> usize {
    let n = seen.open().len();
    let least = usize::from(seen.place() == Place::Features).min(n);
    (round_half_even(share * n as f64) as usize).clamp(least, n)
}

/// Tokens that stand for the rest of an image, and which of them each other one of the rest goes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Contextual {
    /// Evenly spaced ones of the rest.
    pub targets: Vec<usize>,
    /// The others in order, each with the number of its target.
    pub others: Vec<(usize, usize)>,
}

impl Contextual {
    /// `n` of `rest`, ascending tokens with a metric `[tokens, d]`: every (rest / n)-th from the first on; the others go
    /// to the target of largest cosine, the first on a tie. Fewer where the rest is less.
    pub fn of(metric: &Array, rest: &[usize], n: usize, ctx: &Ctx) -> Result<Self> {
        let n = n.min(rest.len());
        if n == 0 {
            return Ok(Self { targets: Vec::new(), others: Vec::new() });
        }
        let step = (rest.len() / n).max(1);
        let is_target = |i: usize| i.is_multiple_of(step) && i / step < n;
        let (targets, others): (Vec<usize>, Vec<usize>) = (0..rest.len()).partition(|&i| is_target(i));
        let at = |some: &[usize]| some.iter().map(|&i| rest[i]).collect::<Vec<_>>();
        let (targets, others) = (at(&targets), at(&others));
        let cosines = cosine_matrix::run(&pick(metric, &others)?, &pick(metric, &targets)?, ctx)?;
        let best = |(i, t): (usize, usize)| (t, argmax(cosines.row(i)).unwrap_or(0));
        Ok(Self { others: others.into_iter().enumerate().map(best).collect(), targets })
    }

    /// Each target with the tokens that go to it; the weights of these are `weight` of their number.
    pub fn rows(&self, weight: impl Fn(usize) -> f64) -> Vec<Vec<(usize, f64)>> {
        let mut rows: Vec<Vec<(usize, f64)>> = self.targets.iter().map(|&t| vec![(t, 1.0)]).collect();
        self.others.iter().for_each(|&(o, t)| rows[t].push((o, 0.0)));
        for row in &mut rows {
            let w = weight(row.len() - 1);
            row[1..].iter_mut().for_each(|m| m.1 = w);
        }
        rows
    }
}

/// Tokens that go on as they are, and [`Contextual`] ones that stand for the rest.
pub struct Dominant {
    /// Those with the largest scores, ascending.
    pub dominant: Vec<usize>,
    /// All others, ascending.
    pub rest: Vec<usize>,
    /// Those of the rest that go on, and what goes to each.
    pub contextual: Contextual,
}

impl Dominant {
    /// So many of each kind, by a score for each token and a metric `[tokens, d]`.
    pub fn of(scores: &[f32], metric: &Array, (dominant, contextual): (usize, usize), ctx: &Ctx) -> Result<Self> {
        let dominant = top_k::of_row(scores, dominant, ctx)?;
        let rest: Vec<usize> = (0..scores.len()).filter(|i| dominant.binary_search(i).is_err()).collect();
        Ok(Self { contextual: Contextual::of(metric, &rest, contextual, ctx)?, dominant, rest })
    }

    /// The dominant ones as they are, then each target plus the mean of those that go to it.
    pub fn decide(&self, seen: &dyn Seen) -> Decision {
        let alone = self.dominant.iter().map(|&i| vec![(i, 1.0)]);
        Decision::remade(seen, alone.chain(self.contextual.rows(|n| 1.0 / n as f64)).collect(), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::{Half, Table};

    #[test]
    fn halves_round_to_even_like_python() {
        assert_eq!([0.5, 1.5, 2.5, 2.4, 3.6].map(round_half_even), [0, 2, 2, 2, 4]);
    }

    #[test]
    fn the_rest_goes_to_the_evenly_spaced_token_that_is_most_like_it() {
        let metric = Array::new([5, 2], vec![9.0, 9.0, 1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.1, 0.9]).unwrap();
        let found = Contextual::of(&metric, &[1, 2, 3, 4], 2, &Ctx::default()).unwrap();
        assert_eq!((found.targets.as_slice(), found.others.as_slice()), (&[1, 3][..], &[(2, 0), (4, 1)][..]));
        assert_eq!(found.rows(|n| 1.0 / n as f64), [[(1, 1.0), (2, 1.0)], [(3, 1.0), (4, 1.0)]]);
        // Two of three: the first two, since a step is one; more than there are: all.
        assert_eq!(Contextual::of(&metric, &[1, 2, 3], 2, &Ctx::default()).unwrap().targets, [1, 2]);
        assert_eq!(Contextual::of(&metric, &[1, 2], 9, &Ctx::default()).unwrap().targets, [1, 2]);
    }

    #[test]
    fn an_image_keeps_at_least_one_feature() {
        let at = |place| Table::new(place, 4, 1..4);
        assert_eq!(budget(&at(Place::Features), 0.0), 1);
        assert_eq!(budget(&at(Place::Decoder(0, Half::After)), 0.0), 0);
        assert_eq!(budget(&at(Place::Features), 0.5), 2);
    }
}
