//! Image placeholders in a prompt: one `<image>` becomes as many tokens as the image gives.

use crate::token::Source;
use crate::{Error, Result};

/// A prompt with its placeholder written out, and the way back to the user's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expansion {
    /// What the tokenizer reads.
    pub text: String,
    /// Bytes of the user's text before the image.
    at: usize,
    /// Bytes of the user's text that were replaced; 0 where the placeholder was added.
    replaced: usize,
    /// Bytes in their place.
    added: usize,
    /// Bytes of the user's text.
    whole: usize,
    /// Whether the tokenizer adds its own marks; some families write them themselves.
    pub marks: bool,
}

impl Expansion {
    /// Writes `image` in the place of `placeholder`, or before the prompt if it has none, then with `around` before and
    /// behind it.
    ///
    /// Errors if the prompt has several placeholders: there is one image.
    pub fn new(prompt: &str, placeholder: &str, image: &str, around: [&str; 2]) -> Result<Self> {
        let mut found = prompt.match_indices(placeholder);
        let (at, replaced, added) = match (found.next(), found.next()) {
            (Some(_), Some(_)) => {
                let n = prompt.matches(placeholder).count();
                return Err(Error::invalid(format!("the prompt has {n} places {placeholder}, but there is one image")));
            }
            (Some((at, _)), None) => (at, placeholder.len(), image.to_string()),
            (None, _) => (0, 0, format!("{}{image}{}", around[0], around[1])),
        };
        let text = format!("{}{added}{}", &prompt[..at], &prompt[at + replaced..]);
        Ok(Self { text, at, replaced, added: added.len(), whole: prompt.len(), marks: true })
    }

    /// The same with `end` behind it, where the family writes all marks of the text itself.
    pub fn ended(mut self, end: &str) -> Self {
        self.text.push_str(end);
        self.marks = false;
        self
    }

    /// Where bytes `start..end` of [`Expansion::text`] lie in the user's text; nothing for what was put in.
    pub fn source(&self, start: usize, end: usize) -> Source {
        if end <= self.at {
            Source::Bytes { start, end }
        } else if start >= self.at + self.added {
            let back = |i: usize| i - self.added + self.replaced;
            if back(end) > self.whole {
                return Source::None;
            }
            Source::Bytes { start: back(start), end: back(end) }
        } else {
            Source::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_the_image_point_into_the_users_text() {
        let e = Expansion::new("a<i>bc", "<i>", "<i><i><i>", ["", "\n"]).unwrap();
        assert_eq!(e.text, "a<i><i><i>bc");
        assert_eq!(e.source(0, 1), Source::Bytes { start: 0, end: 1 });
        assert_eq!(e.source(4, 7), Source::None);
        assert_eq!(e.source(10, 12), Source::Bytes { start: 4, end: 6 });
    }

    #[test]
    fn what_is_written_behind_the_text_has_no_place_in_it() {
        let e = Expansion::new("bc", "<i>", "<i><b>", ["", ""]).unwrap().ended("!");
        assert_eq!((e.text.as_str(), e.marks), ("<i><b>bc!", false));
        assert_eq!(e.source(7, 8), Source::Bytes { start: 1, end: 2 });
        assert_eq!(e.source(8, 9), Source::None);
    }

    #[test]
    fn a_prompt_without_a_place_gets_one_in_front_and_two_are_too_many() {
        let e = Expansion::new("bc", "<i>", "<i><i>", ["[", "\n"]).unwrap();
        assert_eq!(e.text, "[<i><i>\nbc");
        assert_eq!(e.source(8, 10), Source::Bytes { start: 0, end: 2 });
        assert!(Expansion::new("<i><i>", "<i>", "x", ["", ""]).is_err());
    }
}
