//! Rules that several reductions share.

use super::place::Place;
use super::seen::Seen;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::{Half, Table};

    #[test]
    fn halves_round_to_even_like_python() {
        assert_eq!([0.5, 1.5, 2.5, 2.4, 3.6].map(round_half_even), [0, 2, 2, 2, 4]);
    }

    #[test]
    fn an_image_keeps_at_least_one_feature() {
        let at = |place| Table::new(place, 4, 1..4);
        assert_eq!(budget(&at(Place::Features), 0.0), 1);
        assert_eq!(budget(&at(Place::Decoder(0, Half::After)), 0.0), 0);
        assert_eq!(budget(&at(Place::Features), 0.5), 2);
    }
}
