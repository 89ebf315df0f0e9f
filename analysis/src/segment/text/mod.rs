//! Cutting text: one row per tokenizer, aligned by bytes, with what each cut costs.

mod bytes;
mod cells;
mod metrics;
mod raw;
mod rules;
mod seen;
mod strip;
mod vocabularies;

pub use cells::{Cell, CellKind, hex, label_columns};
pub use metrics::{ALPHA, Metrics};
pub use seen::{seen, sign};
pub use strip::{Chip, Line, Strip};

use super::{Input, Method};
use crate::ctx::Ctx;
use crate::method::Params;
use crate::tokenize::Tokenizer;
use crate::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;
use std::ops::Range;

/// One piece of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Piece {
    /// Vocabulary id, where there is a vocabulary.
    pub id: Option<u32>,
    /// The vocabulary's own spelling, e.g. `Ġthe`.
    pub token: String,
    /// Bytes `start..end` of the text; empty for special tokens. May cut a character.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Added by the tokenizer.
    pub special: bool,
}

/// A text cut by one segmenter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the row.
    pub name: String,
    /// Pieces in order.
    pub pieces: Vec<Piece>,
    /// Size of the vocabulary; `None` for rule-based cuts.
    pub vocab: Option<usize>,
    /// What pieces begin with that go on in a word, for vocabularies that mark them: `##`. Else empty.
    pub continuing: String,
}

/// Cuts `text` by a tokenizer, without the tokens it would put around it. Pieces that are single bytes of a character
/// get those bytes, where the tokenizer itself says only which character it was.
pub fn by_tokenizer(name: &str, tokenizer: &Tokenizer, text: &str, ctx: &Ctx) -> Result<Row> {
    let e = tokenizer.encode_in(text, None, false, ctx)?;
    let piece = |(i, token): (usize, &str)| Piece {
        id: Some(e.ids[i]),
        token: token.to_string(),
        start: e.offsets_byte[i].0,
        end: e.offsets_byte[i].1,
        special: e.special_mask[i],
    };
    let mut pieces: Vec<Piece> = e.tokens.iter().enumerate().map(piece).collect();
    bytes::share_out(&mut pieces, text);
    Ok(Row { name: name.to_string(), pieces, vocab: Some(tokenizer.vocab_size()), continuing: tokenizer.continuing() })
}

/// The ids of [`ALL`].
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|m| m.info().id)
}

/// The way to cut a text of that id. The error lists the known ones.
pub fn find(id: &str) -> Result<&'static dyn Method> {
    ALL.iter().copied().find(|m| m.info().id == id).ok_or_else(|| Error::Unknown {
        kind: "way to cut a text",
        name: id.into(),
        known: names().collect::<Vec<_>>().join(", "),
    })
}

/// The text cut by each of these tokenizers, under these names, and by those of [`ALL`] that are named.
pub fn rows(tokenizers: &[(String, &Tokenizer)], named: &[&str], text: &str, ctx: &Ctx) -> Result<Vec<Row>> {
    let own = tokenizers.len();
    let row = |i: usize| match tokenizers.get(i) {
        Some((name, t)) => by_tokenizer(name, t, text, ctx),
        None => find(named[i - own])?.cut(Input::Text(text), &Params::default(), ctx)?.text(),
    };
    (0..own + named.len()).into_par_iter().with_max_len(1).map(row).collect()
}

/// The pieces of the word that piece `at` stands in: those up to the next white space or punctuation on both sides,
/// without a gap. White space before a word is part of it, as byte-pair vocabularies have it.
pub fn word_of(row: &Row, text: &str, at: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let white = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_whitespace);
    // Where a character is cut, nothing ends.
    let punctuated = |at: usize| match (text.get(..at), text.get(at..)) {
        (Some(before), Some(after)) => {
            let sides = (before.chars().next_back(), after.chars().next());
            sides.0.is_some_and(|c| c.is_ascii_punctuation()) != sides.1.is_some_and(|c| c.is_ascii_punctuation())
        }
        _ => false,
    };
    // Whether the word goes on from piece i to the one after it.
    let joined = |i: usize| match (row.pieces.get(i), row.pieces.get(i + 1)) {
        (Some(a), Some(b)) => {
            let meet = a.end == b.start && a.start < a.end && b.start < b.end && !a.special && !b.special;
            let meet = meet && b.token.starts_with(&row.continuing) && !punctuated(b.start);
            meet && !white(b.start) && !(a.end > 0 && white(a.end - 1) && a.end - a.start > 1)
        }
        _ => false,
    };
    let first = (0..at).rev().take_while(|i| joined(*i)).last().unwrap_or(at);
    let last = (at..row.pieces.len()).find(|i| !joined(*i)).unwrap_or(at);
    first..last + 1
}

/// Every way to cut a text that needs no file: vocabularies first, then rules from small to large pieces.
pub static ALL: &[&dyn Method] = &[
    &vocabularies::R50K,
    &vocabularies::CL100K,
    &vocabularies::O200K,
    &rules::BYTES,
    &rules::CHARACTERS,
    &rules::GRAPHEMES,
    &rules::WORDS,
    &rules::SENTENCES,
    &rules::LINES,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_ends_at_white_space_gaps_and_where_the_vocabulary_says() {
        let row = |pieces: &[(&str, usize, usize)], continuing: &str| Row {
            name: "row".into(),
            pieces: pieces
                .iter()
                .map(|&(token, start, end)| Piece {
                    id: Some(0),
                    token: token.into(),
                    start,
                    end,
                    special: start == end,
                })
                .collect(),
            vocab: Some(1),
            continuing: continuing.into(),
        };
        let words = |row: &Row, text: &str| -> Vec<Range<usize>> {
            (0..row.pieces.len()).map(|i| word_of(row, text, i)).collect()
        };
        // Byte pairs: a space belongs to the word after it.
        let pairs =
            row(&[("", 0, 0), ("ab", 0, 2), ("cd", 2, 4), (" e", 4, 6), ("f", 6, 7), ("\n", 7, 8), ("g", 8, 9)], "");
        assert_eq!(words(&pairs, "abcd ef\ng"), [0..1, 1..3, 1..3, 3..5, 3..5, 5..7, 5..7]);
        let dots = row(&[(" ab", 0, 3), ("c", 3, 4), ("..", 4, 6), (".", 6, 7)], "");
        assert_eq!(words(&dots, " abc..."), [0..2, 0..2, 2..4, 2..4]);
        // WordPiece: the comma meets the word, but is not marked as part of it; no piece holds the space.
        let pieces = row(&[("ab", 0, 2), ("##cd", 2, 4), (",", 4, 5), ("e", 6, 7)], "##");
        assert_eq!(words(&pieces, "abcd, e"), [0..2, 0..2, 2..3, 3..4]);
    }
}
