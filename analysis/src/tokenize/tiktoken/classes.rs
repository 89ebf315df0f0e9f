//! Classes of characters that the published expressions are written with.

use regex_syntax::hir::{Class, HirKind};
use std::sync::OnceLock;

/// Letters, `\p{L}`.
pub const LETTER: u8 = 1;
/// Numbers, `\p{N}`.
pub const NUMBER: u8 = 2;
/// White space, `\s`.
pub const WHITE: u8 = 4;
/// Neither of these, `[^\s\p{L}\p{N}]`.
pub const MARK: u8 = 8;
/// Characters of the first part of a word in o200k, `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`.
pub const UPPER: u8 = 16;
/// Those of its second part, `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`.
pub const LOWER: u8 = 32;

/// The expressions of each class; what they mean is read by the crate that also reads the published ones.
const EXPRESSIONS: [(u8, &str); 4] = [
    (LETTER, r"\p{L}"),
    (NUMBER, r"\p{N}"),
    (UPPER, r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"),
    (LOWER, r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"),
];

/// The classes of every character, as bits.
pub struct Classes(Vec<u8>);

impl Classes {
    /// The one table, made when it is first asked for.
    pub fn get() -> &'static Self {
        static TABLE: OnceLock<Classes> = OnceLock::new();
        TABLE.get_or_init(|| {
            let mut of = vec![0; char::MAX as usize + 1];
            for (class, expression) in EXPRESSIONS {
                let read = regex_syntax::parse(expression).expect("a class of Unicode").into_kind();
                let HirKind::Class(Class::Unicode(ranges)) = read else { continue };
                for r in ranges.ranges() {
                    of[r.start() as usize..=r.end() as usize].iter_mut().for_each(|of| *of |= class);
                }
            }
            ('\0'..=char::MAX).filter(|c| c.is_whitespace()).for_each(|c| of[c as usize] |= WHITE);
            of.iter_mut().filter(|of| **of & (LETTER | NUMBER | WHITE) == 0).for_each(|of| *of |= MARK);
            Self(of)
        })
    }

    /// Classes of the character at byte `at` and its length in bytes; none and 0 at the end of the text.
    #[inline]
    pub fn at(&self, text: &str, at: usize) -> (u8, usize) {
        match text.as_bytes().get(at) {
            Some(&b) if b < 0x80 => (self.0[usize::from(b)], 1),
            _ => text[at..].chars().next().map_or((0, 0), |c| (self.0[c as usize], c.len_utf8())),
        }
    }

    /// Where the characters of these classes that begin at byte `at` end.
    #[inline]
    pub fn run(&self, text: &str, mut at: usize, classes: u8) -> usize {
        loop {
            match self.at(text, at) {
                (of, length) if of & classes != 0 => at += length,
                _ => return at,
            }
        }
    }
}
