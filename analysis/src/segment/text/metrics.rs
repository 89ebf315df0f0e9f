//! What a cut costs, as numbers of one row.
//!
//! Sources: fertility as in Rust et al. 2021 (arXiv 2012.15613); Rényi efficiency as in Zouhar et al. 2023
//! (arXiv 2306.16842); premium as in Petrov et al. 2023 (arXiv 2305.15425), here between tokenizers of one text.

use super::Row;
use serde::Serialize;
use std::collections::HashMap;

/// Order of the Rényi entropy.
pub const ALPHA: f64 = 2.5;

/// Ids that are counted in a list.
const MOST_IDS: usize = 1 << 20;

/// Numbers of one row. `None` where the number has no meaning for the row or the text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Metrics {
    /// Pieces.
    pub tokens: usize,
    /// Bytes of text over pieces.
    pub bytes_per_token: Option<f64>,
    /// Pieces over words, words being what white space separates.
    pub fertility: Option<f64>,
    /// Different pieces.
    pub distinct: usize,
    /// Shannon entropy of the pieces' shares of this text, in bits.
    pub entropy_bits: Option<f64>,
    /// Rényi entropy of order [`ALPHA`] over log2 of the vocabulary's size, 0..=1.
    pub renyi_efficiency: Option<f64>,
}

impl Metrics {
    /// The numbers of `row`, a cut of `text`.
    pub fn of(row: &Row, text: &str) -> Self {
        let n = row.pieces.len();
        let words = text.split_whitespace().count();
        let counts = counts(row);
        let share = |c: &usize| *c as f64 / n as f64;
        let entropy: f64 = counts.iter().map(share).map(|p| -p * p.log2()).sum();
        let renyi = counts.iter().map(share).map(|p| p.powf(ALPHA)).sum::<f64>().log2() / (1.0 - ALPHA);
        let vocab = row.vocab.filter(|v| *v > 1);
        Self {
            tokens: n,
            bytes_per_token: (n > 0).then(|| text.len() as f64 / n as f64),
            fertility: (words > 0).then(|| n as f64 / words as f64),
            distinct: counts.len(),
            // One piece only gives -0.
            entropy_bits: (n > 0).then(|| entropy.max(0.0) + 0.0),
            renyi_efficiency: vocab.filter(|_| n > 0).map(|v| (renyi.max(0.0) + 0.0) / (v as f64).log2()),
        }
    }

    /// Tokens of this row for each one of `reference`.
    pub fn premium(&self, reference: &Metrics) -> Option<f64> {
        (reference.tokens > 0).then(|| self.tokens as f64 / reference.tokens as f64)
    }
}

/// How often each different piece occurs, in the order of first occurrence: sums must not depend on a hash's seed.
fn counts(row: &Row) -> Vec<usize> {
    let mut out = Vec::new();
    let mut count = |place: &mut usize| {
        if *place == usize::MAX {
            *place = out.len();
            out.push(0);
        }
        out[*place] += 1;
    };
    // Ids of a vocabulary are small numbers, which need no hash.
    let mut by_id = vec![usize::MAX; row.vocab.unwrap_or(0).min(MOST_IDS)];
    let mut rest: HashMap<(Option<u32>, &str), usize> = HashMap::new();
    for p in &row.pieces {
        match p.id.and_then(|id| by_id.get_mut(id as usize)) {
            Some(place) => count(place),
            // Rules have no ids; their pieces are told apart by what they say.
            None => {
                let key = (p.id, if p.id.is_some() { "" } else { p.token.as_str() });
                count(rest.entry(key).or_insert(usize::MAX));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::text::Piece;

    fn row(ids: &[u32], vocab: Option<usize>) -> Row {
        let piece = |&id: &u32| Piece { id: Some(id), token: String::new(), start: 0, end: 1, special: false };
        Row { name: "row".into(), pieces: ids.iter().map(piece).collect(), vocab, continuing: String::new() }
    }

    #[test]
    fn numbers_of_four_tokens_by_hand() {
        // Shares 1/2, 1/4, 1/4: H = 0.5 + 0.5 + 0.5 = 1.5 bits.
        let m = Metrics::of(&row(&[7, 7, 1, 2], Some(16)), "ab cd ef");
        assert_eq!((m.tokens, m.distinct), (4, 3));
        assert_eq!((m.bytes_per_token, m.entropy_bits), (Some(2.0), Some(1.5)));
        assert_eq!(m.fertility, Some(4.0 / 3.0));
        // Sum of p^2.5 = 2^-2.5 + 2 * 4^-2.5 = 0.17678 + 0.0625 = 0.23928; -log2 of it = 2.06324; / 1.5 = 1.37549;
        // over log2 16 = 4.
        assert!((m.renyi_efficiency.unwrap() - 0.34387).abs() < 1e-5, "{m:?}");
        let other = Metrics::of(&row(&[1, 2], Some(16)), "ab cd ef");
        assert_eq!((m.premium(&other), other.premium(&m)), (Some(2.0), Some(0.5)));
    }

    #[test]
    fn equal_shares_of_the_whole_vocabulary_are_fully_efficient() {
        let m = Metrics::of(&row(&[0, 1, 2, 3], Some(4)), "abcd");
        assert!((m.renyi_efficiency.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(m.entropy_bits, Some(2.0));
    }

    #[test]
    fn what_has_no_meaning_is_left_out() {
        let none = Metrics::of(&row(&[], Some(4)), "");
        assert_eq!((none.bytes_per_token, none.fertility, none.entropy_bits), (None, None, None));
        assert_eq!((none.renyi_efficiency, Metrics::of(&row(&[1], None), "a").renyi_efficiency), (None, None));
        assert_eq!(none.premium(&none), None);
        // One and the same piece: no surprise at all, and no negative zero.
        let same = Metrics::of(&row(&[5, 5], Some(4)), "aa");
        assert_eq!(same.entropy_bits.map(f64::to_bits), Some(0.0_f64.to_bits()));
    }
}
