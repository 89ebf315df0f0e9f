//! The prompt, shared: it is part of nearly every request, and requests are compared in every frame.

use serde::{Deserialize, Serialize, Serializer};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A text whose clones, and comparisons of clones, do not depend on its length.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Text(Arc<Inner>);

struct Inner {
    hash: u64,
    text: Box<str>,
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(Arc::new(Inner { hash: hasher.finish(), text: text.into() }))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.to_string().into()
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl Default for Text {
    fn default() -> Self {
        String::new().into()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.text
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.hash == other.0.hash && self.0.text == other.0.text)
    }
}

impl Eq for Text {}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.text.fmt(f)
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn equal_texts_are_one_key_and_clones_share() {
        let (a, b, c) = (Text::from("cat"), Text::from("cat".to_string()), Text::from("dog"));
        assert!(a == b && a != c);
        assert_eq!(HashSet::from([a.clone(), b, c]).len(), 2);
        assert!(std::ptr::eq(&*a, &*a.clone()));
    }
}
