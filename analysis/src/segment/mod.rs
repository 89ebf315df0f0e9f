//! Cutting an input into pieces with ids: a text into bytes, a picture into rectangles, a series into windows.
//!
//! | folder | cuts | pieces |
//! |---|---|---|
//! | [`text`] | tokenizers, vocabularies, rules of Unicode | bytes `start..end` |
//! | [`image`] | patch grids and codes of patches | rectangles in pixels of the picture |
//! | [`series`] | codes of windows | samples `start..end` |

mod finding;
pub mod image;
pub mod series;
pub mod text;

pub use finding::waveform;
pub use image::{Rect, Tile, Tiles};
pub use series::{Window, Windows};
pub use text::{Cell, CellKind, Chip, Line, Metrics, Piece, Row, Strip};

use crate::ctx::Ctx;
use crate::image::Picture;
use crate::method::{Info, Params};
use crate::series::Series;
use crate::{Error, Result};

/// What is cut.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A text in UTF-8.
    Text(&'a str),
    /// A picture.
    Image(&'a Picture),
    /// One channel of samples.
    Series(&'a Series),
}

/// What a way to cut reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reads {
    /// A text.
    Text,
    /// A picture.
    Image,
    /// A series.
    Series,
}

impl Reads {
    /// All of them.
    pub const ALL: [Reads; 3] = [Reads::Text, Reads::Image, Reads::Series];

    /// In words, as in "cuts …".
    pub fn words(self) -> &'static str {
        match self {
            Reads::Text => "a text",
            Reads::Image => "a picture",
            Reads::Series => "a series",
        }
    }
}

impl<'a> Input<'a> {
    /// What it is.
    pub fn kind(self) -> Reads {
        match self {
            Input::Text(_) => Reads::Text,
            Input::Image(_) => Reads::Image,
            Input::Series(_) => Reads::Series,
        }
    }

    fn other(self, method: &Info, reads: Reads) -> Error {
        Error::invalid(format!("{} cuts {} and was given {}", method.id, reads.words(), self.kind().words()))
    }

    /// The text, for the method that reads one. Errors: something else.
    pub fn text(self, method: &Info) -> Result<&'a str> {
        match self {
            Input::Text(text) => Ok(text),
            other => Err(other.other(method, Reads::Text)),
        }
    }

    /// The picture, for the method that reads one. Errors: something else.
    pub fn image(self, method: &Info) -> Result<&'a Picture> {
        match self {
            Input::Image(picture) => Ok(picture),
            other => Err(other.other(method, Reads::Image)),
        }
    }

    /// The series, for the method that reads one. Errors: something else.
    pub fn series(self, method: &Info) -> Result<&'a Series> {
        match self {
            Input::Series(series) => Ok(series),
            other => Err(other.other(method, Reads::Series)),
        }
    }
}

/// An input in pieces, in the order of reading.
#[derive(Debug, Clone, PartialEq)]
pub enum Segmentation {
    /// Of a text.
    Text(Row),
    /// Of a picture.
    Image(Tiles),
    /// Of a series.
    Series(Windows),
}

impl Segmentation {
    /// Number of pieces.
    pub fn len(&self) -> usize {
        match self {
            Segmentation::Text(row) => row.pieces.len(),
            Segmentation::Image(tiles) => tiles.tiles.len(),
            Segmentation::Series(windows) => windows.windows.len(),
        }
    }

    /// Whether there is no piece.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ids of the pieces; `None` for a piece of a cut without a vocabulary.
    pub fn ids(&self) -> Vec<Option<u32>> {
        match self {
            Segmentation::Text(row) => row.pieces.iter().map(|p| p.id).collect(),
            Segmentation::Image(tiles) => tiles.tiles.iter().map(|t| t.id).collect(),
            Segmentation::Series(windows) => windows.windows.iter().map(|w| w.id).collect(),
        }
    }

    /// Number of ids there can be; `None` for cuts that follow a rule.
    pub fn vocab(&self) -> Option<usize> {
        match self {
            Segmentation::Text(row) => row.vocab,
            Segmentation::Image(tiles) => tiles.vocab,
            Segmentation::Series(windows) => windows.vocab,
        }
    }

    /// The row of a text. Errors: the cut is one of something else.
    pub fn text(self) -> Result<Row> {
        match self {
            Segmentation::Text(row) => Ok(row),
            _ => Err(Error::invalid("this cut is not one of a text")),
        }
    }
}

/// One way to cut an input.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// What it reads.
    fn reads(&self) -> Reads;
    /// The pieces of `input`. Together with what the cut says it left out, they cover all of it.
    ///
    /// Errors: an input of another kind, parameters out of range, a need of memory that is not there, cancelled.
    fn cut(&self, input: Input, params: &Params, ctx: &Ctx) -> Result<Segmentation>;
}

/// Every way to cut: of texts, pictures, series.
pub fn all() -> impl Iterator<Item = &'static dyn Method> {
    [text::ALL, image::ALL, series::ALL].into_iter().flatten().copied()
}

/// Every way to cut what `reads` says.
pub fn of(reads: Reads) -> impl Iterator<Item = &'static dyn Method> {
    all().filter(move |m| m.reads() == reads)
}

/// The way of that id.
pub fn find(id: &str) -> Result<&'static dyn Method> {
    all().find(|m| m.info().id == id).ok_or_else(|| Error::Unknown {
        kind: "way to cut",
        name: id.into(),
        known: all().map(|m| m.info().id).collect::<Vec<_>>().join(", "),
    })
}

/// How the ids of a cut spread over its vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// Ids that occur and how often, the most frequent first, the lower id on a tie.
    pub counts: Vec<(u32, usize)>,
    /// Shannon entropy of their shares, in bits; 0 without pieces.
    pub entropy_bits: f64,
}

impl Usage {
    /// Counts `ids`.
    pub fn of(ids: impl IntoIterator<Item = u32>) -> Self {
        let mut all = std::collections::BTreeMap::<u32, usize>::new();
        ids.into_iter().for_each(|id| *all.entry(id).or_default() += 1);
        let mut counts: Vec<(u32, usize)> = all.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let n: usize = counts.iter().map(|c| c.1).sum();
        let term = |c: &(u32, usize)| {
            let p = c.1 as f64 / n as f64;
            -p * p.log2()
        };
        // One id only gives -0.
        let entropy_bits = counts.iter().map(term).sum::<f64>().max(0.0) + 0.0;
        Self { counts, entropy_bits }
    }

    /// Two to the power of the entropy: how many equally frequent ids would spread as much.
    pub fn perplexity(&self) -> f64 {
        self.entropy_bits.exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_covers_every_byte_once() {
        let sample = "naïve 👩‍👩‍👧 = 12,\n";
        for method in text::ALL {
            let name = method.info().id;
            let row = method.cut(Input::Text(sample), &Params::new(), &Ctx::default()).unwrap().text().unwrap();
            let mut at = 0;
            for p in &row.pieces {
                assert_eq!(p.start, at, "{name}");
                at = p.end;
            }
            assert_eq!(at, sample.len(), "{name}");
        }
        let pieces = |id: &str, text: &str| {
            find(id).unwrap().cut(Input::Text(text), &Params::new(), &Ctx::default()).unwrap().len()
        };
        let (words, family) = ("Yes. No!\nOh", "👩‍👩‍👧");
        assert_eq!((pieces("sentences", words), pieces("lines", words)), (3, 2));
        assert_eq!((pieces("graphemes", family), pieces("characters", family), pieces("bytes", family)), (1, 5, 18));
        let unknown = text::find("syllables").err().unwrap().to_string();
        assert!(unknown.contains("syllables") && unknown.contains("graphemes"), "{unknown}");
    }

    #[test]
    fn what_cannot_be_cut_is_said_in_words() {
        let why = find("fsq").unwrap().cut(Input::Text("a"), &Params::new(), &Ctx::default()).unwrap_err().to_string();
        assert_eq!(why, "fsq cuts a picture and was given a text");
    }

    #[test]
    fn usage_by_hand() {
        let u = Usage::of([5, 1, 5, 9]);
        assert_eq!(u.counts, [(5, 2), (1, 1), (9, 1)]);
        assert!((u.entropy_bits - 1.5).abs() < 1e-12 && (u.perplexity() - 1.5f64.exp2()).abs() < 1e-12);
        let none = Usage::of([]);
        assert_eq!((none.entropy_bits.to_bits(), none.perplexity()), (0, 1.0));
    }
}
