//! What scores of tokens are gathered into: words, sentences, lines, own segments, regions of the picture.

use serde::{Deserialize, Serialize};
use tokenscope_analysis::aggregate::By;

/// What scores of tokens are gathered into, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Aggregate {
    /// Into what.
    pub per: Per,
    /// How.
    pub by: Gather,
    /// Own segments: first and last token of each.
    pub segments: Vec<(usize, usize)>,
    /// Regions of the picture in a row, and rows of them.
    pub cells: usize,
}

impl Default for Aggregate {
    fn default() -> Self {
        Self { per: Per::Token, by: Gather::Sum, segments: Vec::new(), cells: 4 }
    }
}

/// What scores are gathered into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the texts of `tip` say what each is")]
pub enum Per {
    Token,
    Word,
    Sentence,
    Line,
    Segment,
    Region,
}

impl Per {
    /// Every one.
    pub const ALL: [Per; 6] = [Per::Token, Per::Word, Per::Sentence, Per::Line, Per::Segment, Per::Region];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Per::Token => "token",
            Per::Word => "word",
            Per::Sentence => "sentence",
            Per::Line => "line",
            Per::Segment => "segment",
            Per::Region => "region",
        }
    }

    /// What one of them is called.
    pub fn words(self) -> &'static str {
        match self {
            Per::Segment => "own segment",
            Per::Region => "picture region",
            other => other.name(),
        }
    }

    /// One sentence about it.
    pub fn tip(self) -> &'static str {
        match self {
            Per::Token => "As the score gives them",
            Per::Word => "Words by the rules of Unicode; signs of punctuation stand alone",
            Per::Sentence => "Sentences by the rules of Unicode",
            Per::Line => "Lines of the text",
            Per::Segment => "Ranges of tokens that you select",
            Per::Region => "The fields of a square grid over the picture",
        }
    }

    /// What is done with tokens that several have a part of, for figures.
    pub fn rule(self) -> &'static str {
        match self {
            Per::Word | Per::Sentence | Per::Line => "; a token in several counts in each by its bytes",
            Per::Region => "; a token in several counts in each by its area",
            Per::Token | Per::Segment => "",
        }
    }
}

/// How the values of several tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the texts of `tip` say what each is")]
pub enum Gather {
    Sum,
    Mean,
    Max,
}

impl Gather {
    /// Every way.
    pub const ALL: [Gather; 3] = [Gather::Sum, Gather::Mean, Gather::Max];

    /// Its name.
    pub fn name(self) -> &'static str {
        By::from(self).name()
    }

    /// One sentence about it.
    pub fn tip(self) -> &'static str {
        match self {
            Gather::Sum => "Values times shares, added up: nothing is counted twice",
            Gather::Mean => "That sum over the sum of the shares",
            Gather::Max => "The largest value among the tokens that have a part in it",
        }
    }
}

impl From<Gather> for By {
    fn from(how: Gather) -> Self {
        match how {
            Gather::Sum => By::Sum,
            Gather::Mean => By::Mean,
            Gather::Max => By::Max,
        }
    }
}
