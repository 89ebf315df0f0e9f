//! Rules that several reductions share.

/// Python's `round`: halves go to the even neighbour. Authors' code counts tokens with it.
pub fn round_half_even(x: f64) -> i64 {
    let floor = x.floor();
    let up = match (x - floor).total_cmp(&0.5) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => floor.rem_euclid(2.0) == 1.0,
    };
    floor as i64 + i64::from(up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even_like_python() {
        assert_eq!([0.5, 1.5, 2.5, 2.4, 3.6].map(round_half_even), [0, 2, 2, 2, 4]);
    }
}
