//! Cuts that follow a rule and need no vocabulary.
//!
//! Source: Unicode Standard Annex 29 for graphemes, words and sentences, through `unicode-segmentation`.
//! Takes: a text. Gives: pieces that cover every byte once. Departs: none known.

use super::{Piece, Row};
use crate::Result;
use crate::ctx::Ctx;
use crate::method::{Info, Kind, Paper, Params};
use crate::segment::{Input, Method, Reads, Segmentation};
use unicode_segmentation::UnicodeSegmentation as _;

/// A rule: how it is called, and the bytes `start..end` of its pieces.
pub(super) struct Rule {
    info: &'static Info,
    spans: fn(&str) -> Vec<(usize, usize)>,
}

const fn info(id: &'static str, title: &'static str, summary: &'static str, paper: Option<Paper>) -> Info {
    Info { id, title, summary, family: "rules", paper, ..Info::of(Kind::Segment) }
}

/// Pieces that stand where an iterator over indices and texts says.
fn indexed<'t>(pieces: impl Iterator<Item = (usize, &'t str)>) -> Vec<(usize, usize)> {
    pieces.map(|(i, piece)| (i, i + piece.len())).collect()
}

pub(super) static BYTES: Rule = Rule {
    info: &info(
        "bytes",
        "Bytes",
        "Cuts the text into the bytes of its UTF-8, as models without a tokenizer read it.",
        Some(Paper {
            title: "ByT5: Towards a Token-Free Future with Pre-trained Byte-to-Byte Models",
            authors: "Xue et al.",
            year: 2021,
            arxiv: "2105.13626",
        }),
    ),
    spans: |text| (0..text.len()).map(|i| (i, i + 1)).collect(),
};

pub(super) static CHARACTERS: Rule = Rule {
    info: &info(
        "characters",
        "Characters",
        "Cuts the text into Unicode code points.",
        Some(Paper {
            title: "CANINE: Pre-training an Efficient Tokenization-Free Encoder for Language Representation",
            authors: "Clark et al.",
            year: 2021,
            arxiv: "2103.06874",
        }),
    ),
    spans: |text| text.char_indices().map(|(i, c)| (i, i + c.len_utf8())).collect(),
};

pub(super) static GRAPHEMES: Rule = Rule {
    info: &info("graphemes", "Graphemes", "Cuts the text into what readers see as one character.", None),
    spans: |text| indexed(text.grapheme_indices(true)),
};

pub(super) static WORDS: Rule = Rule {
    info: &Info {
        first: true,
        ..info(
            "words",
            "Words",
            "Cuts the text at the word boundaries of Unicode; spaces are pieces of their own.",
            None,
        )
    },
    spans: |text| indexed(text.split_word_bound_indices()),
};

pub(super) static SENTENCES: Rule = Rule {
    info: &info("sentences", "Sentences", "Cuts the text at the sentence boundaries of Unicode.", None),
    spans: |text| indexed(text.split_sentence_bound_indices()),
};

pub(super) static LINES: Rule = Rule {
    info: &info("lines", "Lines", "Cuts the text after every line break.", None),
    spans: |text| {
        let end = |at: &mut usize, line: &str| {
            let start = *at;
            *at += line.len();
            Some((start, *at))
        };
        text.split_inclusive('\n').scan(0, end).collect()
    },
};

impl Method for Rule {
    fn info(&self) -> &'static Info {
        self.info
    }

    fn reads(&self) -> Reads {
        Reads::Text
    }

    fn cut(&self, input: Input, params: &Params, ctx: &Ctx) -> Result<Segmentation> {
        self.info.check(params)?;
        let text = input.text(self.info)?;
        ctx.check()?;
        let token = |a: usize, b: usize| match text.get(a..b) {
            Some(s) => s.to_string(),
            None => text.as_bytes()[a..b].iter().map(|x| format!("<0x{x:02X}>")).collect(),
        };
        let piece =
            |(start, end): (usize, usize)| Piece { id: None, token: token(start, end), start, end, special: false };
        let pieces = (self.spans)(text).into_iter().map(piece).collect();
        Ok(Segmentation::Text(Row { name: self.info.id.into(), pieces, vocab: None, continuing: String::new() }))
    }
}
