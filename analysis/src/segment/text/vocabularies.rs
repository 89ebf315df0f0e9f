//! Cuts by published vocabularies that are part of the program.
//!
//! Source: byte-pair encoding, arXiv 1508.07909, with the vocabularies of the `tiktoken-rs` crate. Takes: a text. Gives:
//! the pieces with ids of the vocabulary; text that looks like a special token is cut as text. Departs: none known.

use super::{by_tokenizer, raw};
use crate::Result;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Paper, Params};
use crate::raw::Adapter;
use crate::segment::{Input, Method, Reads, Segmentation};
use crate::tokenize::{ENCODINGS, Tokenizer};

const BPE: Paper = Paper {
    title: "Neural Machine Translation of Rare Words with Subword Units",
    authors: "Sennrich et al.",
    year: 2016,
    arxiv: "1508.07909",
};

/// A vocabulary by its name.
pub(super) struct Vocabulary(&'static Info);

const fn info(id: &'static str, title: &'static str, summary: &'static str, raw: &'static [Adapter]) -> Info {
    let basis = Basis::Authors { repo: "openai/tiktoken", commit: "" };
    let departs = "pairs of bytes and not of characters, as the vocabulary was trained";
    Info {
        id,
        title,
        summary,
        family: "vocabularies",
        first: true,
        basis,
        paper: Some(BPE),
        departs,
        raw,
        ..Info::of(Kind::Segment)
    }
}

pub(super) static R50K: Vocabulary = Vocabulary(&info(
    "r50k_base",
    "r50k (GPT-2)",
    "Cuts the text by GPT-2's 50,257 pieces of byte pairs.",
    &[raw::BPE, raw::UNIGRAM, raw::WORDPIECE, ENCODINGS],
));
pub(super) static CL100K: Vocabulary =
    Vocabulary(&info("cl100k_base", "cl100k (GPT-4)", "Cuts the text by GPT-4's 100,277 pieces of byte pairs.", &[]));
pub(super) static O200K: Vocabulary =
    Vocabulary(&info("o200k_base", "o200k (GPT-4o)", "Cuts the text by GPT-4o's 200,019 pieces of byte pairs.", &[]));

impl Method for Vocabulary {
    fn info(&self) -> &'static Info {
        self.0
    }

    fn reads(&self) -> Reads {
        Reads::Text
    }

    fn cut(&self, input: Input, params: &Params, ctx: &Ctx) -> Result<Segmentation> {
        self.0.check(params)?;
        by_tokenizer(self.0.id, &Tokenizer::named(self.0.id)?, input.text(self.0)?, ctx).map(Segmentation::Text)
    }
}
