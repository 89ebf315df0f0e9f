//! Words of a text as the published expressions find them, by hand instead of by an engine for any expression.
//!
//! Each function here follows one expression, alternative by alternative; a property test compares it with the engine.
//! Every character is in some word, so a text is its words in order.

use super::classes::{Classes, LETTER, LOWER, MARK, NUMBER, UPPER, WHITE};

/// The expressions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// Of r50k and p50k: `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+$|\s+(?!\S)|\s`
    Gpt2,
    /// Of cl100k: `'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+$|\s*[\r\n]|\s+(?!\S)|\s`
    Cl100k,
    /// Of o200k: `A|B|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`, where A is
    /// `[^\r\n\p{L}\p{N}]?U*W+(?i:'s|'t|'re|'ve|'m|'ll|'d)?`, B the same with `U+W*`, and U and W are
    /// [`UPPER`] and [`LOWER`].
    O200k,
}

impl Words {
    /// Where the word ends that begins at byte `at` of `text`, which is before its end.
    pub fn end(self, text: &str, at: usize) -> usize {
        let c = Classes::get();
        match self {
            Self::Gpt2 => gpt2(c, text, at),
            Self::Cl100k => cl100k(c, text, at),
            Self::O200k => o200k(c, text, at),
        }
    }
}

fn gpt2(c: &Classes, text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    if let Some(end) = short_form(text, at, false) {
        return end;
    }
    let start = at + usize::from(bytes[at] == b' ');
    match c.at(text, start).0 & (LETTER | NUMBER | MARK) {
        0 => all_but_last(text, at, c.run(text, at, WHITE)),
        class => c.run(text, start, class),
    }
}

fn cl100k(c: &Classes, text: &str, at: usize) -> usize {
    if let Some(end) = short_form(text, at, true) {
        return end;
    }
    let bytes = text.as_bytes();
    let (class, length) = c.at(text, at);
    if class & LETTER != 0 {
        return c.run(text, at, LETTER);
    }
    if class & NUMBER != 0 {
        return numbers(c, text, at);
    }
    if !is_break(bytes[at]) && c.at(text, at + length).0 & LETTER != 0 {
        return c.run(text, at + length, LETTER);
    }
    let start = at + usize::from(bytes[at] == b' ');
    if c.at(text, start).0 & MARK != 0 {
        let end = c.run(text, start, MARK);
        return end + bytes[end..].iter().take_while(|b| is_break(**b)).count();
    }
    let end = c.run(text, at, WHITE);
    match bytes[at..end].iter().rposition(|b| is_break(*b)) {
        Some(last) if end < text.len() => at + last + 1,
        _ => all_but_last(text, at, end),
    }
}

fn o200k(c: &Classes, text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let (class, length) = c.at(text, at);
    let prefix = class & (LETTER | NUMBER) == 0 && !is_break(bytes[at]);
    let starts = [prefix.then_some(at + length), Some(at)];
    let word =
        |find: fn(&Classes, &str, usize) -> Option<usize>| starts.iter().flatten().find_map(|s| find(c, text, *s));
    if let Some(end) = word(ends_low).or_else(|| word(begins_high)) {
        return short_form(text, end, true).unwrap_or(end);
    }
    if class & NUMBER != 0 {
        return numbers(c, text, at);
    }
    let start = at + usize::from(bytes[at] == b' ');
    if c.at(text, start).0 & MARK != 0 {
        let end = c.run(text, start, MARK);
        return end + bytes[end..].iter().take_while(|b| is_break(**b) || **b == b'/').count();
    }
    let end = c.run(text, at, WHITE);
    match bytes[at..end].iter().rposition(|b| is_break(*b)) {
        Some(last) => at + last + 1,
        None => all_but_last(text, at, end),
    }
}

/// The end of `U*W+`. What both classes hold goes to the second part only where nothing else is left for it.
fn ends_low(c: &Classes, text: &str, at: usize) -> Option<usize> {
    let high = c.run(text, at, UPPER);
    let low = c.run(text, high, LOWER);
    if low > high {
        return Some(low);
    }
    let back = text[at..high].char_indices().rev();
    back.map(|(i, _)| at + i).find(|i| c.at(text, *i).0 & LOWER != 0).map(|i| i + c.at(text, i).1)
}

/// The end of `U+W*`.
fn begins_high(c: &Classes, text: &str, at: usize) -> Option<usize> {
    let high = c.run(text, at, UPPER);
    (high > at).then(|| c.run(text, high, LOWER))
}

/// One to three numbers.
fn numbers(c: &Classes, text: &str, at: usize) -> usize {
    let next = |at: usize, _| match c.at(text, at) {
        (class, length) if class & NUMBER != 0 => at + length,
        _ => at,
    };
    (0..3).fold(at, next)
}

/// White space `at..end` goes to one word but for its last character, which the next word may begin with; all of it
/// where the text ends or it is one character.
fn all_but_last(text: &str, at: usize, end: usize) -> usize {
    let last = text[at..end].chars().next_back().map_or(0, char::len_utf8);
    if end == text.len() || end - last == at { end } else { end - last }
}

/// The end of `'s`, `'d`, `'m`, `'t`, `'ll`, `'ve` or `'re` at byte `at`.
fn short_form(text: &str, at: usize, any_case: bool) -> Option<usize> {
    let rest = text.as_bytes()[at..].strip_prefix(b"'")?;
    let fold = |b: &u8| if any_case { b.to_ascii_lowercase() } else { *b };
    match [rest.first().map(fold), rest.get(1).map(fold)] {
        [Some(b's' | b'd' | b'm' | b't'), _] => Some(at + 2),
        [Some(b'l'), Some(b'l')] | [Some(b'v' | b'r'), Some(b'e')] => Some(at + 3),
        // The long s is an s in another case.
        _ if any_case && rest.starts_with("ſ".as_bytes()) => Some(at + 1 + "ſ".len()),
        _ => None,
    }
}

fn is_break(b: u8) -> bool {
    matches!(b, b'\r' | b'\n')
}

/// The text in parts of `size` bytes and some that can be cut one by one, each with the byte that it begins at.
///
/// A part ends between a letter or a number and what is neither of these, no combining mark and no apostrophe. No
/// alternative of any expression goes on from the one to the other, so a word ends there. The words before stay as they
/// are when the text ends there: what looks at the end of the text looks at it behind white space. Those after it do,
/// too, because no alternative looks back.
pub fn parts(text: &str, size: usize) -> impl Iterator<Item = (usize, &str)> {
    let c = Classes::get();
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = &text[from..];
        if rest.is_empty() {
            return None;
        }
        let mut at = rest.floor_char_boundary(size);
        let mut inside = false;
        let end = loop {
            let (class, length) = c.at(rest, at);
            let ends = class & (LETTER | NUMBER | UPPER) == 0 && rest.as_bytes().get(at) != Some(&b'\'');
            if length == 0 || inside && ends {
                break at;
            }
            inside = class & (LETTER | NUMBER) != 0;
            at += length;
        };
        let part = (from, &rest[..end]);
        from += end;
        Some(part)
    })
}
