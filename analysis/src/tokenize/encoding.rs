//! A text as tokens.

use crate::Result;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::ops::Range;

/// A text as tokens; all lists are equally long.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Encoding {
    /// Vocabulary ids.
    pub ids: Vec<u32>,
    /// The vocabulary's own spelling.
    pub tokens: Spellings,
    /// Bytes `start..end` of the text that the token covers; for the second text of a pair, of that text.
    pub offsets_byte: Vec<(usize, usize)>,
    /// True for tokens that the tokenizer added.
    pub special_mask: Vec<bool>,
    /// Segment ids (0, or 1 for the second text).
    pub type_ids: Vec<u32>,
}

impl Encoding {
    /// The tokens that `cut` hands over, together.
    pub(super) fn of_parts(cut: impl FnOnce(&mut dyn FnMut(Self) -> Result<()>) -> Result<()>) -> Result<Self> {
        let mut out = Self::default();
        cut(&mut |part| {
            out.append(part);
            Ok(())
        })?;
        Ok(out)
    }

    /// Some of its tokens.
    pub(super) fn part(&self, range: Range<usize>) -> Self {
        Self {
            ids: self.ids[range.clone()].to_vec(),
            tokens: range.clone().filter_map(|i| self.tokens.get(i)).collect(),
            offsets_byte: self.offsets_byte[range.clone()].to_vec(),
            special_mask: self.special_mask[range.clone()].to_vec(),
            type_ids: self.type_ids[range].to_vec(),
        }
    }

    /// Adds the tokens of `other` behind its own.
    pub(super) fn append(&mut self, other: Self) {
        if self.ids.is_empty() {
            *self = other;
            return;
        }
        self.ids.extend(other.ids);
        self.tokens.append(&other.tokens);
        self.offsets_byte.extend(other.offsets_byte);
        self.special_mask.extend(other.special_mask);
        self.type_ids.extend(other.type_ids);
    }
}

/// Strings, one after the other in one piece of memory: a long text is millions of tokens of four bytes each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spellings {
    text: String,
    ends: Vec<usize>,
}

impl Spellings {
    /// Adds a string.
    pub fn push(&mut self, token: &str) {
        self.text.push_str(token);
        self.ends.push(self.text.len());
    }

    /// Makes room for so many more strings, of so many bytes together.
    pub fn reserve(&mut self, strings: usize, bytes: usize) {
        self.ends.reserve(strings);
        self.text.reserve(bytes);
    }

    /// Adds the strings of `other` behind its own.
    fn append(&mut self, other: &Self) {
        let start = self.text.len();
        self.text.push_str(&other.text);
        self.ends.extend(other.ends.iter().map(|end| start + end));
    }

    /// The string at `i`.
    pub fn get(&self, i: usize) -> Option<&str> {
        let end = *self.ends.get(i)?;
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }

    /// All strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.ends.len()).map(|i| self.get(i).unwrap_or_default())
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Spellings {
    fn from_iter<T: IntoIterator<Item = S>>(strings: T) -> Self {
        let mut out = Self::default();
        strings.into_iter().for_each(|s| out.push(s.as_ref()));
        out
    }
}

impl Serialize for Spellings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        self.iter().try_for_each(|token| list.serialize_element(token))?;
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appended_strings_are_found_where_they_stand() {
        let mut all = Spellings::from_iter(["a", ""]);
        all.append(&Spellings::from_iter(["漢", "b"]));
        assert_eq!(all.iter().collect::<Vec<_>>(), ["a", "", "漢", "b"]);
        assert_eq!((all.get(2), all.get(4), all.len()), (Some("漢"), None, 4));
        assert_eq!(serde_json::to_string(&all).unwrap(), r#"["a","","漢","b"]"#);
    }
}
