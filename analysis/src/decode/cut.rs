//! What sampling leaves of a distribution before anybody draws from it or tests against it.

use crate::math::{largest, softmax};
use crate::method::{Param, Params};

/// How many ids may come at all.
pub const TOP_K: Param =
    Param::count("top_k", "Above temperature 0: only the k most probable ids can come; 0 keeps all", 0, 1 << 20, 0);
/// How much mass may come at all.
pub const TOP_P: Param = Param::number(
    "top_p",
    "Above temperature 0: only the most probable ids can come whose shares first reach this sum; 1 keeps all",
    0.0,
    1.0,
    1.0,
);

/// Top-k and top-p, in this order, at a temperature. Target and draft model are cut alike, so that all that follows,
/// drafts, tests and residuals, is about the distributions that one samples from.
///
/// As transformers does it: ids as probable as the k-th stay, and so does an id while those before it have less mass
/// than top-p; at least one stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    /// 0 decodes greedily, where a cut changes nothing and none is made.
    pub temperature: f64,
    /// Ids that stay at most; 0 is all.
    pub top_k: usize,
    /// Mass that stays; 1 is all.
    pub top_p: f64,
}

impl Cut {
    /// Cuts nothing.
    pub const NONE: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0 };

    /// As parameters say, at this temperature.
    pub fn of(params: &Params, temperature: f64) -> Self {
        Self { temperature, top_k: params.count(&TOP_K).max(0) as usize, top_p: params.number(&TOP_P) }
    }

    /// Makes logits `[vocab]` of what cannot come minus infinity.
    pub fn apply(&self, logits: &mut [f32]) {
        if self.temperature == 0.0 {
            return;
        }
        if self.top_k > 0
            && self.top_k < logits.len()
            && let Some(&last) = largest(logits, self.top_k).last()
        {
            let bar = logits[last];
            logits.iter_mut().filter(|x| **x < bar).for_each(|x| *x = f32::NEG_INFINITY);
        }
        if self.top_p < 1.0 {
            self.nucleus(logits);
        }
    }

    fn nucleus(&self, logits: &mut [f32]) {
        let p = softmax(logits, self.temperature);
        // Mostly few ids have most of the mass, so that not all are put in order.
        let mut n = 32;
        let stay = loop {
            let order = largest(logits, n);
            let mut before = 0.0;
            let reaches = |&i: &usize| {
                let now = before < self.top_p;
                before += p[i];
                now
            };
            let stay = order.iter().copied().take_while(reaches).count();
            if stay < order.len() || order.len() == logits.len() {
                break order[..stay.max(1).min(order.len())].to_vec();
            }
            n *= 8;
        };
        let mut cut = vec![f32::NEG_INFINITY; logits.len()];
        stay.into_iter().for_each(|i| cut[i] = logits[i]);
        logits.copy_from_slice(&cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids that are left of chances 0.1, 0.4, 0.2, 0.3.
    fn left(temperature: f64, top_k: usize, top_p: f64) -> Vec<usize> {
        let mut x: Vec<f32> = [0.1f32, 0.4, 0.2, 0.3].map(f32::ln).to_vec();
        Cut { temperature, top_k, top_p }.apply(&mut x);
        (0..4).filter(|&i| x[i] > f32::NEG_INFINITY).collect()
    }

    #[test]
    fn what_is_most_probable_stays_by_number_and_by_mass() {
        assert_eq!((left(1.0, 0, 1.0), left(1.0, 9, 1.0)), (vec![0, 1, 2, 3], vec![0, 1, 2, 3]));
        assert_eq!((left(1.0, 1, 1.0), left(1.0, 3, 1.0)), (vec![1], vec![1, 2, 3]));
        // Before the third there is 0.7.
        assert_eq!((left(1.0, 0, 0.65), left(1.0, 0, 0.75), left(1.0, 0, 0.0)), (vec![1, 3], vec![1, 2, 3], vec![1]));
        // Of the best two 4/7 is the first; squared, it is 0.16 of 0.30.
        assert_eq!((left(1.0, 2, 0.5), left(1.0, 2, 0.6)), (vec![1], vec![1, 3]));
        assert_eq!((left(0.5, 0, 0.5), left(0.5, 0, 0.54)), (vec![1], vec![1, 3]));
        // Greedy decodes ask for the best alone.
        assert_eq!(left(0.0, 1, 0.1), [0, 1, 2, 3]);
    }

    #[test]
    fn a_tie_at_the_last_place_stays_and_the_impossible_does_not_come_back() {
        let mut x = vec![1.0, 2.0, 1.0, f32::NEG_INFINITY];
        Cut { temperature: 1.0, top_k: 2, top_p: 1.0 }.apply(&mut x);
        assert_eq!(x, [1.0, 2.0, 1.0, f32::NEG_INFINITY]);
        // More ids than are put in order at first.
        let mut even = vec![0.0f32; 100];
        Cut { temperature: 1.0, top_k: 0, top_p: 0.605 }.apply(&mut even);
        assert_eq!(even.iter().filter(|x| x.is_finite()).count(), 61);
    }
}
