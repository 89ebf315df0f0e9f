//! Cutting text: one row per tokenizer, aligned by bytes, with what each cut costs.

pub mod bpe;
mod raw;

use crate::Result;
use crate::ctx::Ctx;
use serde::Serialize;

/// One piece of a segmentation.
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
pub struct Segmentation {
    /// Name of the row.
    pub name: String,
    /// Pieces in order.
    pub pieces: Vec<Piece>,
    /// Size of the vocabulary; `None` for rule-based cuts.
    pub vocab: Option<usize>,
}

/// One merge of a BPE history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Merge {
    /// Left part before the merge.
    pub left: String,
    /// Right part before the merge.
    pub right: String,
    /// Rank of the merge rule: lower is learned earlier.
    pub rank: usize,
    /// The pieces after it.
    pub pieces: Vec<String>,
}

/// Something that cuts text.
pub trait Segmenter: Send + Sync {
    /// Name of the row, e.g. `cl100k_base`.
    fn name(&self) -> String;
    /// Cuts `text`; special tokens the tokenizer would add are included.
    fn segment(&self, text: &str, ctx: &Ctx) -> Result<Segmentation>;
    /// How BPE arrives at its pieces for one pre-token or chip of the text; `None` for other algorithms.
    fn merge_history(&self, _text: &str) -> Result<Option<Vec<Merge>>> {
        Ok(None)
    }
}

/// Segmenters that need no file: tiktoken vocabularies, bytes, characters, graphemes, words, …
pub fn built_in() -> Vec<Box<dyn Segmenter>> {
    Vec::new()
}

/// Raw entries of this folder.
pub static ADAPTERS: &[&crate::raw::Adapter] = &[&raw::BPE, &raw::UNIGRAM, &raw::WORDPIECE];
