//! Encodings that spell the same: every sequence of tokens of a vocabulary that gives one string.
//!
//! That many sequences decode to one string, of which a tokenizer makes one, is the subject of "Say Anything but This"
//! (see the atlas). Counting and listing are dynamic programs over the bytes of the string.

use crate::ctx::Ctx;
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Raw entry: a word and a vocabulary in, the number of encodings and the shortest fifty out.
pub(crate) const ADAPTER: Adapter = Adapter { name: "alternative_encodings", run: raw };

/// Which tokens spell which bytes of a string.
#[derive(Debug, Clone, Default)]
pub struct Lattice {
    /// Per byte, the tokens that begin there: one past their last byte, and id.
    edges: Vec<Vec<(usize, u32)>>,
}

impl Lattice {
    /// The lattice of a string of `n` bytes; `find` adds the ids of the tokens that spell bytes `start..end`.
    pub fn new(n: usize, mut find: impl FnMut(usize, usize, &mut Vec<u32>)) -> Self {
        let mut ids = Vec::new();
        let mut at = |start: usize| {
            let mut out = Vec::new();
            for end in start + 1..=n {
                find(start, end, &mut ids);
                out.extend(ids.drain(..).map(|id| (end, id)));
            }
            out
        };
        Self { edges: (0..n).map(&mut at).collect() }
    }

    /// Per byte, and for the end, the number of encodings of the rest; `None` where it passes 2^64.
    pub fn counts(&self) -> Vec<Option<u64>> {
        let n = self.edges.len();
        let mut counts = vec![Some(1); n + 1];
        for start in (0..n).rev() {
            let sum = |sum: u64, (end, _): &(usize, u32)| sum.checked_add(counts[*end]?);
            counts[start] = self.edges[start].iter().try_fold(0, sum);
        }
        counts
    }

    /// The first `keep` encodings, short ones first, those of one length by their ids.
    pub fn shortest(&self, keep: usize) -> Vec<Vec<u32>> {
        let n = self.edges.len();
        // The best of the whole begin with a token and go on with one of the best of the rest.
        let mut best = vec![Vec::new(); n];
        best.push(vec![Vec::new()]);
        for start in (0..n).rev() {
            let longer = |(end, id): &(usize, u32)| {
                let id = *id;
                best[*end].iter().map(move |rest: &Vec<u32>| std::iter::once(id).chain(rest.iter().copied()).collect())
            };
            let mut all: Vec<Vec<u32>> = self.edges[start].iter().flat_map(longer).collect();
            all.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
            all.truncate(keep);
            best[start] = all;
        }
        best.swap_remove(0)
    }
}

/// The encodings of one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encodings {
    /// How many there are; `None` where it passes 2^64.
    pub count: Option<u64>,
    /// The shortest, each as ids.
    pub shortest: Vec<Vec<u32>>,
}

impl Encodings {
    /// Counts, and keeps the shortest `keep`.
    pub fn of(lattice: &Lattice, keep: usize) -> Self {
        Self { count: lattice.counts()[0], shortest: lattice.shortest(keep) }
    }
}

/// Bytes of the word of the raw entry at most: work grows with their cube.
const MAX_WORD: usize = 1000;

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (word, vocab): (String, Vec<String>) = (input.read("word")?, input.read("vocab")?);
    ctx.check()?;
    if word.len() > MAX_WORD {
        return Err(Error::invalid(format!("the word has {} bytes; at most {MAX_WORD} are read", word.len())));
    }
    let mut ids: HashMap<&[u8], Vec<u32>> = HashMap::new();
    for (id, token) in vocab.iter().enumerate() {
        ids.entry(token.as_bytes()).or_default().push(id as u32);
    }
    let lattice = Lattice::new(word.len(), |start, end, out| {
        out.extend(ids.get(&word.as_bytes()[start..end]).into_iter().flatten());
    });
    let too_many = || Error::invalid("the word has more than 2^64 encodings: give a shorter one");
    let counts = lattice.counts().into_iter().collect::<Option<Vec<u64>>>().ok_or_else(too_many)?;
    let shortest = lattice.shortest(50);
    Ok(json!({
        "count": counts[0], "suffix_counts": counts, "min_tokens": shortest.first().map(Vec::len),
        "first_50_sorted": shortest,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lattice(word: &'static str, vocab: &[&str]) -> Lattice {
        Lattice::new(word.len(), |start, end, out| {
            let same = |(i, t): (usize, &&str)| (*t == &word[start..end]).then_some(i as u32);
            out.extend(vocab.iter().enumerate().filter_map(same));
        })
    }

    #[test]
    fn the_encodings_of_a_short_word_by_hand() {
        // abab: ab ab, ab a b, a b ab, a b a b, aba b.
        let l = lattice("abab", &["a", "b", "ab", "aba"]);
        assert_eq!(l.counts(), [Some(5), Some(2), Some(2), Some(1), Some(1)]);
        let all = [vec![2, 2], vec![3, 1], vec![0, 1, 2], vec![2, 0, 1], vec![0, 1, 0, 1]];
        assert_eq!(l.shortest(9), all);
        assert_eq!(l.shortest(2), all[..2]);
        assert_eq!(Encodings::of(&lattice("abc", &["a", "b"]), 3), Encodings { count: Some(0), shortest: Vec::new() });
        assert_eq!(lattice("", &["a"]).shortest(3), [Vec::<u32>::new()]);
    }

    #[test]
    fn what_passes_the_count_is_said_to_and_not_wrapped() {
        // Every byte can end a token or not: 2^99 ways for 100 bytes.
        let l = Lattice::new(100, |_, end, out| out.push(end as u32));
        let counts = l.counts();
        assert_eq!((counts[0], counts[36], counts[37]), (None, Some(1 << 63), Some(1 << 62)));
        assert_eq!(l.shortest(2), [vec![100], vec![1, 100]]);
    }
}
