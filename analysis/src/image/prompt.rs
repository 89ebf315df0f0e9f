//! Image placeholders in a prompt: each `<image>` becomes as many tokens as its image gives.

use crate::token::Source;
use crate::{Error, Result};

/// A prompt with its placeholders written out, and the way back to the user's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expansion {
    /// What the tokenizer reads.
    pub text: String,
    /// What was put in, in order.
    pieces: Vec<Piece>,
    /// Bytes of the user's text.
    whole: usize,
    /// Whether the tokenizer adds its own marks; some families write them themselves.
    pub marks: bool,
}

/// What stands in the place of one placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// First byte of it in [`Expansion::text`].
    start: usize,
    /// Its bytes.
    added: usize,
    /// Bytes of the user's text that were replaced; 0 where the placeholder was added.
    replaced: usize,
}

impl Expansion {
    /// Writes `images` in the places of `placeholder`, one each, or before the prompt if it has none, then each with
    /// `around` before and behind it.
    ///
    /// Errors if the prompt has another number of placeholders than there are images.
    pub fn new(prompt: &str, placeholder: &str, images: &[String], around: [&str; 2]) -> Result<Self> {
        let found: Vec<usize> = prompt.match_indices(placeholder).map(|m| m.0).collect();
        if !found.is_empty() && found.len() != images.len() {
            let (n, have) = (found.len(), images.len());
            let places = if n == 1 { "place" } else { "places" };
            let are = if have == 1 { "is one image".into() } else { format!("are {have} images") };
            return Err(Error::invalid(format!("the prompt has {n} {places} {placeholder}, but there {are}")));
        }
        let (mut text, mut pieces, mut at) = (String::new(), Vec::new(), 0);
        for (i, image) in images.iter().enumerate() {
            let (from, replaced, added) = match found.get(i) {
                Some(&from) => (from, placeholder.len(), image.clone()),
                None => (0, 0, format!("{}{image}{}", around[0], around[1])),
            };
            text.push_str(&prompt[at..from]);
            pieces.push(Piece { start: text.len(), added: added.len(), replaced });
            text.push_str(&added);
            at = from + replaced;
        }
        text.push_str(&prompt[at..]);
        Ok(Self { text, pieces, whole: prompt.len(), marks: true })
    }

    /// The same with `end` behind it, where the family writes all marks of the text itself.
    pub fn ended(mut self, end: &str) -> Self {
        self.text.push_str(end);
        self.marks = false;
        self
    }

    /// Where bytes `start..end` of [`Expansion::text`] lie in the user's text; nothing for what was put in.
    pub fn source(&self, start: usize, end: usize) -> Source {
        let (mut added, mut replaced) = (0, 0);
        for piece in &self.pieces {
            if end <= piece.start {
                break;
            }
            if start < piece.start + piece.added {
                return Source::None;
            }
            added += piece.added;
            replaced += piece.replaced;
        }
        let back = |i: usize| i - added + replaced;
        if back(end) > self.whole {
            return Source::None;
        }
        Source::Bytes { start: back(start), end: back(end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_the_image_point_into_the_users_text() {
        let e = Expansion::new("a<i>bc", "<i>", &["<i><i><i>".into()], ["", "\n"]).unwrap();
        assert_eq!(e.text, "a<i><i><i>bc");
        assert_eq!(e.source(0, 1), Source::Bytes { start: 0, end: 1 });
        assert_eq!(e.source(4, 7), Source::None);
        assert_eq!(e.source(10, 12), Source::Bytes { start: 4, end: 6 });
    }

    #[test]
    fn what_is_written_behind_the_text_has_no_place_in_it() {
        let e = Expansion::new("bc", "<i>", &["<i><b>".into()], ["", ""]).unwrap().ended("!");
        assert_eq!((e.text.as_str(), e.marks), ("<i><b>bc!", false));
        assert_eq!(e.source(7, 8), Source::Bytes { start: 1, end: 2 });
        assert_eq!(e.source(8, 9), Source::None);
    }

    #[test]
    fn a_prompt_without_a_place_gets_one_in_front_and_two_are_too_many() {
        let e = Expansion::new("bc", "<i>", &["<i><i>".into()], ["[", "\n"]).unwrap();
        assert_eq!(e.text, "[<i><i>\nbc");
        assert_eq!(e.source(8, 10), Source::Bytes { start: 0, end: 2 });
        let why = Expansion::new("<i><i>", "<i>", &["x".into()], ["", ""]).unwrap_err().to_string();
        assert!(why.contains("2 places <i>, but there is one image"), "{why}");
    }

    #[test]
    fn several_images_take_their_places_in_order() {
        let images = ["[xx]".to_string(), "[y]".to_string()];
        let e = Expansion::new("a<i>b<i>c", "<i>", &images, ["", ""]).unwrap();
        assert_eq!(e.text, "a[xx]b[y]c");
        let at = |start, end| e.source(start, end);
        assert_eq!(
            [at(0, 1), at(5, 6), at(9, 10)],
            [(0, 1), (4, 5), (8, 9)].map(|(start, end)| Source::Bytes { start, end })
        );
        assert_eq!([at(1, 5), at(4, 6), at(6, 9), at(8, 10)], [Source::None; 4]);
        let e = Expansion::new("c", "<i>", &images, ["(", ")"]).unwrap();
        assert_eq!((e.text.as_str(), e.source(11, 12)), ("([xx])([y])c", Source::Bytes { start: 0, end: 1 }));
        let why = Expansion::new("<i>", "<i>", &images, ["", ""]).unwrap_err().to_string();
        assert!(why.contains("1 place <i>, but there are 2 images"), "{why}");
    }
}
