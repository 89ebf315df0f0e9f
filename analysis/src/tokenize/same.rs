//! Whether two vocabularies are one: by what their ids spell, not by how many they are.

use super::Tokenizer;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::PoisonError;

/// Comparisons that are kept.
const KEPT: usize = 8;

/// What two vocabularies have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shared {
    /// The first ids, as many as this, are spelled the same in both; one may have more.
    First(usize),
    /// This id is spelled in two ways.
    Differs {
        /// The first such id.
        id: u32,
        /// Its spelling in the one.
        one: String,
        /// Its spelling in the other.
        other: String,
    },
}

impl Tokenizer {
    /// What this vocabulary has in common with `other`. Views ask in every frame, so the last answers are kept.
    pub fn shared(&self, other: &Self) -> Shared {
        let asked = other.print();
        let known = |all: &Vec<(u64, Shared)>| all.iter().find(|k| k.0 == asked).map(|k| k.1.clone());
        let lock = || self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known(&lock()) {
            return known;
        }
        let found = self.compare(other);
        let mut all = lock();
        all.truncate(KEPT - 1);
        all.insert(0, (asked, found.clone()));
        found
    }

    /// A number that equal vocabularies have in common.
    fn print(&self) -> u64 {
        *self.print.get_or_init(|| {
            let mut h = DefaultHasher::new();
            (0..self.ids_to() as u32).for_each(|id| self.token(id).hash(&mut h));
            h.finish()
        })
    }

    fn compare(&self, other: &Self) -> Shared {
        let (a, b) = (self.ids_to(), other.ids_to());
        let n = a.min(b);
        let spelled = |t: &Self, id: usize| t.token(id as u32);
        for id in 0..n {
            let (one, other) = (spelled(self, id), spelled(other, id));
            // Gaps are no spellings.
            if let (Some(one), Some(other)) = (one, other)
                && one != other
            {
                return Shared::Differs { id: id as u32, one, other };
            }
        }
        Shared::First(n)
    }

    /// One past the largest id.
    fn ids_to(&self) -> usize {
        match &self.backend {
            super::Backend::Tiktoken(_) => self.vocab_size(),
            // There may be gaps, so that the number of ids does not say it.
            super::Backend::Hf(t) => t.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::{Backend, hf};
    use serde_json::json;

    fn of(words: &[&str]) -> Tokenizer {
        of_ids(&words.iter().enumerate().map(|(i, w)| (*w, i)).collect::<Vec<_>>())
    }

    fn of_ids(ids: &[(&str, usize)]) -> Tokenizer {
        let vocab: serde_json::Map<_, _> = ids.iter().map(|(w, i)| (w.to_string(), json!(i))).collect();
        let model = json!({ "type": "WordLevel", "vocab": vocab, "unk_token": ids[0].0 });
        let json = json!({ "version": "1.0", "added_tokens": [], "model": model }).to_string();
        let inner = hf::from_bytes(json.as_bytes()).unwrap();
        Tokenizer::new(String::new(), Backend::Hf(Box::new(hf::Hf::new(inner))), Vec::new())
    }

    #[test]
    fn more_ids_behind_are_no_difference_and_other_spellings_are() {
        let (a, longer, other) = (of(&["a", "b", "c"]), of(&["a", "b", "c", "d"]), of(&["a", "c", "b"]));
        assert_eq!(a.shared(&longer), Shared::First(3));
        assert_eq!(longer.shared(&a), Shared::First(3));
        assert_eq!(longer.shared(&of(&["a", "b", "c"])), Shared::First(3));
        // Behind a gap, where there are fewer ids than the largest says.
        let gap = |last: &str| of_ids(&[("a", 0), ("b", 1), (last, 9)]);
        assert_eq!(gap("x").shared(&gap("y")), Shared::Differs { id: 9, one: "x".into(), other: "y".into() });
        assert_eq!(a.shared(&other), Shared::Differs { id: 1, one: "b".into(), other: "c".into() });
    }
}
