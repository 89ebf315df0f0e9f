//! Which tokens of two runs stand for the same part of the input, so that what was found of one can be taken from what
//! was found of the other: by the bytes of the text where tokenizers or prompts differ, by place in the picture, by name
//! where a token stands for nothing of the input.

use crate::token::{Source, Token};
use crate::trace::{Tower, Trace};
use similar::{Algorithm, DiffOp, capture_diff_slices};
use std::collections::BTreeMap;
use std::ops::Range;

/// Tokens of two runs that cover the same part of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Indices in the first run, at least one.
    pub first: Range<usize>,
    /// Indices in the second run, at least one.
    pub second: Range<usize>,
    /// What they cover, in words.
    pub label: String,
}

/// The tokens of two runs in the smallest pieces whose edges are edges of tokens in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairing {
    /// The pieces, in the order of both runs.
    pub pairs: Vec<Pair>,
    /// Tokens of each run.
    pub n: [usize; 2],
}

/// Words that differ on one side, up to which it is searched which of them are the same; of more, only what both texts
/// begin and end with is paired.
const MAX_WORDS: usize = 5_000;
/// Pixels by which the places of two patches may differ and be the same.
const SAME_PLACE: f32 = 0.5;

impl Pairing {
    /// Pairs the tokens of two runs on these texts.
    pub fn new([a, b]: [&[Token]; 2], texts: [&str; 2]) -> Self {
        let n = [a.len(), b.len()];
        if a == b && texts[0] == texts[1] {
            let pair = |(i, t): (usize, &Token)| Pair { first: i..i + 1, second: i..i + 1, label: t.text.clone() };
            return Self { pairs: a.iter().enumerate().map(pair).collect(), n };
        }
        let text = by_bytes(a, b, &blocks(texts));
        // What lies between two pieces of the text has no bytes: marks and patches.
        let (mut pairs, mut at) = (Vec::new(), [0, 0]);
        let end = (a.len()..a.len(), b.len()..b.len());
        for (first, second) in text.into_iter().chain([end]) {
            between(a, b, at[0]..first.start, at[1]..second.start, &mut pairs);
            at = [first.end, second.end];
            if !first.is_empty() {
                pairs.push((first, second));
            }
        }
        let label = |r: &Range<usize>| a[r.clone()].iter().map(|t| t.text.as_str()).collect();
        let pair = |(first, second): (Range<usize>, Range<usize>)| Pair { label: label(&first), first, second };
        Self { pairs: pairs.into_iter().map(pair).collect(), n }
    }

    /// Whether every token has one partner, at its own place.
    pub fn is_plain(&self) -> bool {
        let plain = |(i, p): (usize, &Pair)| p.first == (i..i + 1) && p.second == (i..i + 1);
        self.n == [self.pairs.len(); 2] && self.pairs.iter().enumerate().all(plain)
    }

    /// The tokens of the second run that stand for what these of the first do, as one range; `None` where none does.
    pub fn second_of(&self, first: Range<usize>) -> Option<Range<usize>> {
        let touched = self.pairs.iter().filter(|p| p.first.start < first.end && first.start < p.first.end);
        let own = touched.map(|p| p.second.clone());
        own.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
    }

    /// Tokens of each run that have no partner.
    pub fn alone(&self) -> [usize; 2] {
        let paired = |side: fn(&Pair) -> &Range<usize>| self.pairs.iter().map(|p| side(p).len()).sum::<usize>();
        [self.n[0] - paired(|p| &p.first), self.n[1] - paired(|p| &p.second)]
    }

    /// How the tokens were paired, where there is something to say about it.
    pub fn words(&self) -> Option<String> {
        let several = self.pairs.iter().filter(|p| p.first.len() + p.second.len() > 2).count();
        let [a, b] = self.alone();
        let mut out = Vec::new();
        if several > 0 {
            let pieces = if several == 1 { "1 piece is".to_string() } else { format!("{several} pieces are") };
            out.push(format!("{pieces} several tokens in one run or both, between bytes where both cut"));
        }
        if a + b > 0 {
            out.push(format!("without a partner: {a} of {} tokens here, {b} of {} there", self.n[0], self.n[1]));
        }
        (!out.is_empty()).then(|| out.join("; "))
    }
}

/// The pairings of two runs, by stack of layers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pairings(BTreeMap<Tower, Pairing>);

impl Pairings {
    /// Pairs what both runs have.
    pub fn new(a: &Trace, b: &Trace) -> Self {
        let texts = [a.text.as_str(), b.text.as_str()];
        let both = a.towers.iter().filter_map(|(name, own)| Some((*name, own, b.towers.get(name)?)));
        Self(both.map(|(name, a, b)| (name, Pairing::new([&a.tokens, &b.tokens], texts))).collect())
    }

    /// One stack of layers, paired.
    #[cfg(test)]
    pub(super) fn of_one(tower: Tower, pairing: Pairing) -> Self {
        Self(BTreeMap::from([(tower, pairing)]))
    }

    /// The pairing of a stack of layers, if both runs have it.
    pub fn get(&self, tower: Tower) -> Option<&Pairing> {
        self.0.get(&tower)
    }
}

/// A text in words and single other characters, each with the white space before it, as most tokenizers cut: else a
/// space would be found the same that stands before another word.
fn words(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut last) = (0, None);
    for (i, c) in text.char_indices() {
        let (space, word) = (c.is_whitespace(), c.is_alphanumeric());
        // A word goes on, or something follows the white space before it.
        let goes_on = last.is_none_or(|(s, w): (bool, bool)| s || (w && word));
        if !goes_on {
            out.push(&text[start..i]);
            start = i;
        }
        last = Some((space, word));
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    out
}

/// Bytes that two texts share, as start in the first, start in the second, and length; ascending in both.
fn blocks(texts: [&str; 2]) -> Vec<[usize; 3]> {
    if texts[0] == texts[1] {
        return vec![[0, 0, texts[0].len()]];
    }
    let [a, b] = texts.map(words);
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = a.iter().zip(&b).take_while(same).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(same).count();
    let middle = [&a[head..a.len() - tail], &b[head..b.len() - tail]];
    let bytes = |words: &[&str]| words.iter().map(|w| w.len()).sum::<usize>();
    let mut out = vec![[0, 0, bytes(&a[..head])]];
    if middle.iter().all(|m| m.len() <= MAX_WORDS) {
        let starts = [(&a, head), (&b, head)].map(|(words, from)| {
            let start = bytes(&words[..from]);
            let ends = words[from..].iter().scan(start, |at, w| {
                *at += w.len();
                Some(*at)
            });
            std::iter::once(start).chain(ends).collect::<Vec<usize>>()
        });
        for op in capture_diff_slices(Algorithm::Myers, middle[0], middle[1]) {
            if let DiffOp::Equal { old_index, new_index, len } = op {
                let at = starts[0][old_index];
                out.push([at, starts[1][new_index], starts[0][old_index + len] - at]);
            }
        }
    }
    let end = bytes(&a[a.len() - tail..]);
    out.push([texts[0].len() - end, texts[1].len() - end, end]);
    out.retain(|b| b[2] > 0);
    out
}

/// A token of the text on the scale of the first text's bytes.
struct Span {
    /// First byte and the one after the last.
    on: Range<usize>,
    /// Whether it is one of the second run.
    second: bool,
    /// Its index in its run.
    at: usize,
    /// Whether all of its bytes are bytes of both texts, side by side in both.
    whole: bool,
}

/// Pieces of the text whose edges are edges of tokens in both runs.
fn by_bytes(a: &[Token], b: &[Token], blocks: &[[usize; 3]]) -> Vec<(Range<usize>, Range<usize>)> {
    let spans = |tokens: &[Token]| -> Vec<(usize, Range<usize>)> {
        let bytes = tokens.iter().enumerate().filter_map(|(i, t)| Some((i, t.bytes()?)));
        bytes.filter(|(_, r)| !r.is_empty()).collect()
    };
    let mut all: Vec<Span> = Vec::new();
    for (at, on) in spans(a) {
        let last = blocks.partition_point(|b| b[0] <= on.start).checked_sub(1);
        let whole = last.is_some_and(|l| on.end <= blocks[l][0] + blocks[l][2]);
        all.push(Span { on, second: false, at, whole });
    }
    for (at, bytes) in spans(b) {
        // The blocks that it touches; a token that no block touches has no partner.
        let first = blocks.partition_point(|b| b[1] + b[2] <= bytes.start);
        let touched = blocks[first..].iter().take_while(|b| b[1] < bytes.end);
        let on = touched.clone().map(|b| {
            let (from, to) = (bytes.start.max(b[1]) - b[1], bytes.end.min(b[1] + b[2]) - b[1]);
            b[0] + from..b[0] + to
        });
        let hull = on.clone().reduce(|x, y| x.start.min(y.start)..x.end.max(y.end));
        let whole = touched.count() == 1 && on.clone().map(|r| r.len()).sum::<usize>() == bytes.len();
        all.extend(hull.map(|on| Span { on, second: true, at, whole }));
    }
    all.sort_by_key(|s| (s.on.start, s.second, s.at));
    let mut out = Vec::new();
    let mut rest = &all[..];
    while let Some(first) = rest.first() {
        // Everything that overlaps, directly or through others.
        let (mut end, mut n) = (first.on.end, 1);
        while let Some(next) = rest.get(n).filter(|s| s.on.start < end) {
            end = end.max(next.on.end);
            n += 1;
        }
        piece(&rest[..n], &mut out);
        rest = &rest[n..];
    }
    out
}

/// What overlaps as one piece, or token by token where both runs cut it alike; nothing where the runs do not cover the
/// same bytes.
fn piece(spans: &[Span], out: &mut Vec<(Range<usize>, Range<usize>)>) {
    let side = |second: bool| spans.iter().filter(move |s| s.second == second);
    let hull = |second| side(second).map(|s| s.on.clone()).reduce(|x, y| x.start.min(y.start)..x.end.max(y.end));
    let range = |second: bool| {
        let (first, last) = (side(second).map(|s| s.at).min()?, side(second).map(|s| s.at).max()?);
        (last - first + 1 == side(second).count()).then_some(first..last + 1)
    };
    let same = spans.iter().all(|s| s.whole) && hull(false) == hull(true);
    let (Some(first), Some(second), true) = (range(false), range(true), same) else { return };
    let alike = first.len() == second.len() && side(false).zip(side(true)).all(|(a, b)| a.on == b.on);
    if alike {
        out.extend(first.zip(second).map(|(i, j)| (i..i + 1, j..j + 1)));
    } else {
        out.push((first, second));
    }
}

/// Pairs tokens without bytes that lie between two pieces of the text, in order.
fn between(
    a: &[Token],
    b: &[Token],
    first: Range<usize>,
    second: Range<usize>,
    out: &mut Vec<(Range<usize>, Range<usize>)>,
) {
    let mut from = second.start;
    for i in first {
        if let Some(j) = (from..second.end).find(|&j| same(&a[i], &b[j])) {
            out.push((i..i + 1, j..j + 1));
            from = j + 1;
        }
    }
}

/// Whether two tokens without bytes stand for the same.
fn same(a: &Token, b: &Token) -> bool {
    let near = |x: f32, y: f32| (x - y).abs() <= SAME_PLACE;
    a.kind == b.kind
        && match (a.source, b.source) {
            (Source::None, Source::None) => a.text == b.text,
            (Source::Rect { x, y, w, h }, Source::Rect { x: p, y: q, w: v, h: u }) => {
                near(x, p) && near(y, q) && near(w, v) && near(h, u)
            }
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenKind;

    /// Tokens of these lengths in bytes, in order; 0 is a mark.
    fn tokens(text: &str, lengths: &[usize]) -> Vec<Token> {
        let mut at = 0;
        let token = |&n: &usize| {
            let source = if n == 0 { Source::None } else { Source::Bytes { start: at, end: at + n } };
            let kind = if n == 0 { TokenKind::Special } else { TokenKind::Text };
            let words = if n == 0 { "<s>" } else { text.get(at..at + n).unwrap_or("?") };
            at += n;
            Token { id: None, text: words.into(), kind, source }
        };
        lengths.iter().map(token).collect()
    }

    fn pairs(a: (&str, &[usize]), b: (&str, &[usize])) -> Vec<(Range<usize>, Range<usize>)> {
        let p = Pairing::new([&tokens(a.0, a.1), &tokens(b.0, b.1)], [a.0, b.0]);
        p.pairs.into_iter().map(|p| (p.first, p.second)).collect()
    }

    #[test]
    fn pieces_end_where_both_tokenizers_cut() {
        let text = "the foxes ran";
        // the| fox|es| ran  and  the| f|oxes| r|an, after a mark in one and in both
        assert_eq!(
            pairs((text, &[0, 3, 4, 2, 4]), (text, &[3, 2, 4, 2, 2])),
            [(1..2, 0..1), (2..4, 1..3), (4..5, 3..5)]
        );
        let both = Pairing::new([&tokens(text, &[0, 9, 4]), &tokens(text, &[0, 3, 6, 4])], [text, text]);
        assert_eq!(both.pairs[0].label, "<s>");
        assert_eq!((both.pairs[1].first.clone(), both.pairs[1].second.clone()), (1..2, 1..3));
        assert_eq!((both.alone(), both.is_plain()), ([0, 0], false));
        assert_eq!((both.second_of(1..3), both.second_of(9..10)), (Some(1..4), None));
        assert!(both.words().unwrap().starts_with("1 piece is several tokens"));
    }

    #[test]
    fn words_that_one_prompt_has_stay_alone() {
        let (a, b) = ("the old fox ran", "the fox fled");
        // the| old| fox| ran  and  the| fox| fled
        assert_eq!(pairs((a, &[3, 4, 4, 4]), (b, &[3, 4, 5])), [(0..1, 0..1), (2..3, 1..2)]);
        let p = Pairing::new([&tokens(a, &[3, 4, 4, 4]), &tokens(b, &[3, 4, 5])], [a, b]);
        assert_eq!(p.alone(), [2, 1]);
        // A token over what is the same and what is not has no partner: " foxr" of "the foxran".
        assert_eq!(pairs(("x, y", &[1, 3]), ("x; y", &[1, 1, 2])), [(0..1, 0..1)]);
    }

    #[test]
    fn tokens_that_share_the_bytes_of_a_character_pair_one_by_one_where_both_runs_have_them() {
        let text = "é!";
        let shared = |text: &str| {
            let mut t = tokens(text, &[2, 2, 1]);
            t[1].source = Source::Bytes { start: 0, end: 2 };
            t[2].source = Source::Bytes { start: 2, end: 3 };
            t
        };
        let other = tokens(text, &[2, 1]);
        let p = Pairing::new([&shared(text), &other], [text, text]);
        assert_eq!((p.pairs[0].first.clone(), p.pairs[0].second.clone()), (0..2, 0..1));
        let mut renamed = shared(text);
        renamed[0].text = "other".into();
        let p = Pairing::new([&shared(text), &renamed], [text, text]);
        assert!(p.is_plain());
    }

    #[test]
    fn patches_pair_by_their_place_and_long_texts_that_differ_by_their_ends() {
        let patch = |x: f32| Token {
            id: None,
            text: format!("patch {x}"),
            kind: TokenKind::Image,
            source: Source::Rect { x, y: 0.0, w: 8.0, h: 8.0 },
        };
        let p = Pairing::new([&[patch(0.0), patch(8.0)], &[patch(8.2), patch(16.0)]], ["", ""]);
        assert_eq!((p.pairs.len(), p.pairs[0].first.clone(), p.pairs[0].second.clone()), (1, 1..2, 0..1));
        let long = |word: &str| format!("begin {}end", format!("{word} ").repeat(MAX_WORDS));
        let (a, b) = (long("a"), long("b"));
        let shared = blocks([&a, &b]);
        assert_eq!(shared, [[0, 0, 5], [a.len() - 4, b.len() - 4, 4]]);
    }
}
