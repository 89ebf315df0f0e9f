//! Scores of tokens gathered into those of words, sentences, lines, own segments of the text and regions of the picture.
//!
//! A token that reaches into several of them counts in each by its share: of the bytes, or of the area, that it has in
//! any of them. White space counts for nothing, so that the space before a word, which most tokenizers put into the
//! word's token, does not make that token part of two.

use crate::token::{Source, Token};
use crate::{Error, Result};
use std::ops::Range;
use unicode_segmentation::UnicodeSegmentation as _;

/// What scores are gathered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping<'a> {
    /// Words by the boundaries of Unicode (UAX 29); a sign of punctuation stands alone.
    Words,
    /// Sentences by the boundaries of Unicode.
    Sentences,
    /// Lines.
    Lines,
    /// These ranges of tokens, first and last.
    Segments(&'a [(usize, usize)]),
    /// A grid of `cells` by `cells` over the picture, row by row.
    Regions {
        /// Rows and columns.
        cells: usize,
        /// Width and height of the picture in pixels.
        size: (usize, usize),
    },
}

/// How the values of a group's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// The sum of values times shares: what each token gives is counted once.
    Sum,
    /// That sum over the sum of the shares.
    Mean,
    /// The largest value of a token that has a share, however small.
    Max,
}

impl By {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            By::Sum => "sum",
            By::Mean => "mean",
            By::Max => "max",
        }
    }
}

/// Where a group lies.
#[derive(Debug, Clone, PartialEq)]
pub enum Extent {
    /// Bytes of the text.
    Bytes(Range<usize>),
    /// Tokens, first and last.
    Tokens(usize, usize),
    /// Pixels of the picture: left, top, width, height.
    Rect([f32; 4]),
}

/// Tokens that are taken together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Where it lies.
    pub extent: Extent,
    /// Its tokens, ascending, and the share of each that it has.
    pub shares: Vec<(usize, f64)>,
}

/// The groups, in the order of text or picture; those without a token are among them, those without a letter are not.
///
/// `text` is what the tokens' bytes are of. Errors: a segment that ends before it begins, reaches beyond the tokens, or
/// shares tokens with another; no cells; a picture without pixels.
pub fn groups(tokens: &[Token], text: &str, grouping: Grouping) -> Result<Vec<Group>> {
    let spans = match grouping {
        Grouping::Words => text
            .split_word_bound_indices()
            .map(|(at, word)| at..at + word.len())
            .filter_map(|r| trimmed(text, r))
            .collect(),
        Grouping::Sentences => {
            let all = text.split_sentence_bound_indices().map(|(at, s)| at..at + s.len());
            all.filter_map(|r| trimmed(text, r)).collect()
        }
        Grouping::Lines => lines(text),
        Grouping::Segments(of) => return segments(tokens.len(), of),
        Grouping::Regions { cells, size } => return regions(tokens, cells, size),
    };
    Ok(by_bytes(tokens, text, spans))
}

/// A range without the white space at its ends; `None` where nothing is left.
fn trimmed(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let part = text.get(range.clone())?;
    let start = range.start + (part.len() - part.trim_start().len());
    let end = start + part.trim().len();
    (end > start).then_some(start..end)
}

fn lines(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let each = text.split('\n').map(|line| {
        let range = start..start + line.len();
        start = range.end + 1;
        range
    });
    let all: Vec<Range<usize>> = each.collect();
    all.into_iter().filter_map(|r| trimmed(text, r)).collect()
}

/// Tokens by the bytes that they have in each span. Spans follow each other; tokens may come in any order.
fn by_bytes(tokens: &[Token], text: &str, spans: Vec<Range<usize>>) -> Vec<Group> {
    let mut out: Vec<Group> =
        spans.iter().map(|s| Group { extent: Extent::Bytes(s.clone()), shares: Vec::new() }).collect();
    // White space inside a sentence or line is part of no word of it.
    let inked = |range: Range<usize>| match text.get(range.clone()) {
        Some(part) => part.chars().filter(|c| !c.is_whitespace()).map(char::len_utf8).sum(),
        // A token may end inside a letter; such bytes count as they are.
        None => range.len(),
    };
    for (i, token) in tokens.iter().enumerate() {
        let Some(bytes) = token.bytes() else { continue };
        let first = spans.partition_point(|s| s.end <= bytes.start);
        let here = (first..spans.len()).take_while(|s| spans[*s].start < bytes.end);
        let parts: Vec<(usize, f64)> = here
            .map(|s| (s, inked(spans[s].start.max(bytes.start)..spans[s].end.min(bytes.end)) as f64))
            .filter(|p| p.1 > 0.0)
            .collect();
        let whole: f64 = parts.iter().map(|p| p.1).sum();
        parts.into_iter().for_each(|(s, part)| out[s].shares.push((i, part / whole)));
    }
    out
}

fn segments(n: usize, of: &[(usize, usize)]) -> Result<Vec<Group>> {
    let mut all = of.to_vec();
    all.sort_unstable();
    for (i, (first, last)) in all.iter().enumerate() {
        if last < first || *last >= n {
            return Err(Error::invalid(format!("there is no segment from token {first} to {last}; the run has {n}")));
        }
        if i > 0 && all[i - 1].1 >= *first {
            return Err(Error::invalid(format!("token {first} is in two segments")));
        }
    }
    let group = |(first, last): (usize, usize)| Group {
        extent: Extent::Tokens(first, last),
        shares: (first..=last).map(|i| (i, 1.0)).collect(),
    };
    Ok(all.into_iter().map(group).collect())
}

/// Most rows and columns of a grid of regions.
pub const MAX_CELLS: usize = 64;

fn regions(tokens: &[Token], cells: usize, (width, height): (usize, usize)) -> Result<Vec<Group>> {
    if !(1..=MAX_CELLS).contains(&cells) || width == 0 || height == 0 {
        return Err(Error::invalid(format!(
            "a grid of {cells} x {cells} regions over {width} x {height} pixels; take 1 to {MAX_CELLS} regions a side"
        )));
    }
    let (w, h) = (width as f64 / cells as f64, height as f64 / cells as f64);
    let cell = |i: usize| [(i % cells) as f64 * w, (i / cells) as f64 * h];
    let rect = |i: usize| [cell(i)[0] as f32, cell(i)[1] as f32, w as f32, h as f32];
    let mut out: Vec<Group> =
        (0..cells * cells).map(|i| Group { extent: Extent::Rect(rect(i)), shares: Vec::new() }).collect();
    for (i, token) in tokens.iter().enumerate() {
        let Source::Rect { x, y, w: tw, h: th } = token.source else { continue };
        let [x, y, tw, th] = [x, y, tw, th].map(f64::from);
        let along = |from: f64, length: f64, start: f64, size: f64| {
            ((from + length).min(start + size) - from.max(start)).max(0.0)
        };
        let parts: Vec<(usize, f64)> = (0..out.len())
            .map(|c| (c, along(x, tw, cell(c)[0], w) * along(y, th, cell(c)[1], h)))
            .filter(|p| p.1 > 0.0)
            .collect();
        let whole: f64 = parts.iter().map(|p| p.1).sum();
        parts.into_iter().for_each(|(c, part)| out[c].shares.push((i, part / whole)));
    }
    Ok(out)
}

/// The value of each group, of `values` by token; `None` where none of its tokens has one.
pub fn gathered(groups: &[Group], values: &[Option<f32>], by: By) -> Vec<Option<f32>> {
    let of = |group: &Group| {
        let there = || {
            let value = |(i, share): &(usize, f64)| Some((f64::from(values.get(*i).copied().flatten()?), *share));
            group.shares.iter().filter_map(value)
        };
        let (sum, whole) = there().fold((0.0, 0.0), |(sum, whole), (v, share)| (sum + v * share, whole + share));
        let some = whole > 0.0;
        match by {
            By::Sum => some.then_some(sum as f32),
            By::Mean => some.then(|| (sum / whole) as f32),
            By::Max => there().map(|p| p.0).max_by(f64::total_cmp).map(|v| v as f32),
        }
    };
    groups.iter().map(of).collect()
}

/// For each of `n` tokens the group that has most of it, the first of equal ones.
pub fn group_of(groups: &[Group], n: usize) -> Vec<Option<usize>> {
    let mut out: Vec<Option<(usize, f64)>> = vec![None; n];
    for (g, group) in groups.iter().enumerate() {
        for &(i, share) in &group.shares {
            if let Some(own) = out.get_mut(i)
                && own.is_none_or(|o| share > o.1)
            {
                *own = Some((g, share));
            }
        }
    }
    out.into_iter().map(|o| o.map(|o| o.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenKind;

    fn token(source: Source) -> Token {
        Token { id: None, text: String::new(), kind: TokenKind::Text, source }
    }

    fn cut(at: &[usize]) -> Vec<Token> {
        at.windows(2).map(|w| token(Source::Bytes { start: w[0], end: w[1] })).collect()
    }

    fn parts<'t>(text: &'t str, groups: &[Group]) -> Vec<&'t str> {
        let of = |g: &Group| match &g.extent {
            Extent::Bytes(r) => text[r.clone()].into(),
            _ => "",
        };
        groups.iter().map(of).collect()
    }

    #[test]
    fn words_take_their_space_with_them_and_signs_stand_alone() {
        let text = "The cat, sat";
        // "The", " cat", ",", " s", "at"
        let tokens = cut(&[0, 3, 7, 8, 10, 12]);
        let all = groups(&tokens, text, Grouping::Words).unwrap();
        assert_eq!(parts(text, &all), ["The", "cat", ",", "sat"]);
        let shares: Vec<&[(usize, f64)]> = all.iter().map(|g| &g.shares[..]).collect();
        assert_eq!(shares, [&[(0, 1.0)][..], &[(1, 1.0)], &[(2, 1.0)], &[(3, 1.0), (4, 1.0)]]);
        let values = [Some(1.0), Some(2.0), None, Some(4.0), Some(-6.0)];
        assert_eq!(gathered(&all, &values, By::Sum), [Some(1.0), Some(2.0), None, Some(-2.0)]);
        assert_eq!(gathered(&all, &values, By::Mean), [Some(1.0), Some(2.0), None, Some(-1.0)]);
        assert_eq!(gathered(&all, &values, By::Max), [Some(1.0), Some(2.0), None, Some(4.0)]);
        assert_eq!(group_of(&all, 5), [Some(0), Some(1), Some(2), Some(3), Some(3)]);
    }

    #[test]
    fn a_token_across_two_words_counts_in_each_by_its_bytes() {
        let text = "ab cdef";
        // "a", "b cde", "f": of the middle one, a byte lies in the first word and three in the second.
        let tokens = cut(&[0, 1, 6, 7]);
        let all = groups(&tokens, text, Grouping::Words).unwrap();
        assert_eq!(all[0].shares, [(0, 1.0), (1, 0.25)]);
        assert_eq!(all[1].shares, [(1, 0.75), (2, 1.0)]);
        let values = [Some(1.0), Some(8.0), Some(2.0)];
        assert_eq!(gathered(&all, &values, By::Sum), [Some(3.0), Some(8.0)]);
        // 3 / 1.25 and 8 / 1.75.
        assert_eq!(gathered(&all, &values, By::Mean), [Some(2.4), Some(8.0 / 1.75)]);
        assert_eq!(gathered(&all, &values, By::Max), [Some(8.0), Some(8.0)]);
        // Nothing is lost or counted twice.
        let whole: f32 = gathered(&all, &values, By::Sum).into_iter().flatten().sum();
        assert_eq!(whole, 11.0);
        assert_eq!(group_of(&all, 3), [Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn sentences_and_lines_are_without_the_white_space_around_them() {
        let text = "One. Two is it.\n\n Three!";
        let all = groups(&cut(&[0, 4, 8, 17, 24]), text, Grouping::Sentences).unwrap();
        assert_eq!(parts(text, &all), ["One.", "Two is it.", "Three!"]);
        // " Two" begins with the space that ends the sentence before.
        assert_eq!(all[0].shares, [(0, 1.0)]);
        assert_eq!(all[1].shares, [(1, 1.0), (2, 1.0)]);
        let all = groups(&cut(&[0, 15, 24]), text, Grouping::Lines).unwrap();
        assert_eq!(parts(text, &all), ["One. Two is it.", "Three!"]);
        assert_eq!(all[1].shares, [(1, 1.0)]);
        assert!(groups(&[], " \n\t", Grouping::Lines).unwrap().is_empty());
    }

    #[test]
    fn letters_of_several_bytes_may_be_cut_anywhere() {
        let text = "é ü";
        // The first byte of é, the rest of it with the space, and ü.
        let all = groups(&cut(&[0, 1, 3, 5]), text, Grouping::Words).unwrap();
        assert_eq!(parts(text, &all), ["é", "ü"]);
        assert_eq!(all[0].shares, [(0, 1.0), (1, 1.0)]);
        assert_eq!(all[1].shares, [(2, 1.0)]);
    }

    #[test]
    fn segments_are_those_that_were_named_and_may_not_overlap() {
        let tokens = cut(&[0, 1, 2, 3, 4]);
        let all = groups(&tokens, "abcd", Grouping::Segments(&[(3, 3), (0, 1)])).unwrap();
        assert_eq!(
            all.iter().map(|g| g.extent.clone()).collect::<Vec<_>>(),
            [Extent::Tokens(0, 1), Extent::Tokens(3, 3)]
        );
        assert_eq!(gathered(&all, &[Some(1.0), Some(2.0), Some(9.0), None], By::Sum), [Some(3.0), None]);
        for bad in [&[(2, 1)][..], &[(0, 4)], &[(0, 2), (2, 3)]] {
            assert!(groups(&tokens, "abcd", Grouping::Segments(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn regions_share_patches_by_area_and_what_sticks_out_is_cut() {
        // Patches of 40 over a picture of 90 x 60; the last of a row sticks out by 30.
        let at = |x: f32, y: f32| token(Source::Rect { x, y, w: 40.0, h: 40.0 });
        let tokens = [at(0.0, 0.0), at(40.0, 0.0), at(80.0, 0.0)];
        let all = groups(&tokens, "", Grouping::Regions { cells: 2, size: (90, 60) }).unwrap();
        assert_eq!(all[1].extent, Extent::Rect([45.0, 0.0, 45.0, 30.0]));
        // The first: 40 x 30 above and 40 x 10 below. The second: 5 and 35 wide.
        assert_eq!(all[0].shares, [(0, 0.75), (1, 0.75 * 0.125)]);
        assert_eq!(all[1].shares, [(1, 0.75 * 0.875), (2, 0.75)]);
        assert_eq!(all[2].shares, [(0, 0.25), (1, 0.25 * 0.125)]);
        let whole: f32 = gathered(&all, &[Some(1.0); 3], By::Sum).into_iter().flatten().sum();
        assert!((whole - 3.0).abs() < 1e-6);
        for cells in [0, MAX_CELLS + 1] {
            assert!(groups(&tokens, "", Grouping::Regions { cells, size: (90, 60) }).is_err());
        }
    }
}
