//! Tokens and where each one comes from in the user's input.

use serde::{Deserialize, Serialize};

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A piece of the text.
    Text,
    /// A patch, or a group of merged patches, of the image.
    Image,
    /// A token the tokenizer or processor added: begin, end, class, register, row end.
    Special,
    /// Filler without content.
    Padding,
}

/// The part of the user's input that a token covers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Nothing of the input.
    None,
    /// Bytes `start..end` of the text (UTF-8).
    Bytes {
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
    },
    /// A rectangle in pixels of the original image, before any resize or crop; may stick out where the
    /// processor padded.
    Rect {
        /// Left edge.
        x: f32,
        /// Top edge.
        y: f32,
        /// Width.
        w: f32,
        /// Height.
        h: f32,
    },
}

/// One input token of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Vocabulary id; `None` for image patches.
    pub id: Option<u32>,
    /// What to print: the decoded text of this token, or a short name such as `patch 3,4`.
    pub text: String,
    /// What it stands for.
    pub kind: TokenKind,
    /// Where it comes from.
    pub source: Source,
}

/// Position of patch tokens in their grid, for overlays: row-major, one entry per image token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Rows of the grid.
    pub rows: usize,
    /// Columns of the grid.
    pub cols: usize,
    /// Index of the grid's first token in the sequence.
    pub first: usize,
    /// Which tile of a tiled image; 0 when there is one.
    pub tile: usize,
    /// Tokens behind each row that are no part of it (marks of a row's end).
    #[serde(default)]
    pub gap: usize,
}

impl Grid {
    /// Indices of its tokens, row by row.
    pub fn tokens(&self) -> impl Iterator<Item = usize> + use<> {
        let Self { rows, cols, first, gap, .. } = *self;
        (0..rows).flat_map(move |r| (0..cols).map(move |c| first + r * (cols + gap) + c))
    }
}

impl Token {
    /// The byte range, for tokens of the text.
    pub fn bytes(&self) -> Option<std::ops::Range<usize>> {
        match self.source {
            Source::Bytes { start, end } => Some(start..end),
            _ => None,
        }
    }
}
