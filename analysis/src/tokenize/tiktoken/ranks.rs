//! A vocabulary of bytes in little memory, and the merges of a word by its ranks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No id.
const NONE: u32 = u32::MAX;
/// Words up to this length are merged by looking at all their pairs at each step, in bytes.
const SHORT: usize = 64;

/// Tokens by id and ids by bytes. An id is the rank of the merge that makes the token.
pub struct Ranks {
    /// What the tokens spell, one after the other.
    bytes: Vec<u8>,
    /// Where each id ends in `bytes`; an id without a token spells nothing.
    ends: Vec<u32>,
    /// Ids at the place that the hash of their bytes gives, or the next free one, with another part of that hash.
    slots: Vec<(u32, u32)>,
    /// Ids of single bytes and of pairs of bytes.
    singles: [u32; 256],
    pairs: Vec<u32>,
}

/// Lists that [`Ranks::cut`] works in, kept from word to word.
#[derive(Default)]
pub struct Room {
    /// Starts of what is merged so far, with the rank of the pair that begins there.
    parts: Vec<(usize, u32)>,
}

impl Ranks {
    /// The vocabulary of `n` ids that `spell` gives the bytes of.
    pub fn new(n: usize, spell: impl Fn(u32) -> Option<Vec<u8>>) -> Self {
        let mut out = Self {
            bytes: Vec::new(),
            ends: Vec::with_capacity(n),
            slots: vec![(0, NONE); (2 * n).next_power_of_two()],
            singles: [NONE; 256],
            pairs: vec![NONE; 1 << 16],
        };
        for id in 0..n as u32 {
            let bytes = spell(id).unwrap_or_default();
            out.bytes.extend(&bytes);
            out.ends.push(out.bytes.len() as u32);
            match *bytes.as_slice() {
                [] => continue,
                [a] => out.singles[usize::from(a)] = id,
                [a, b] => out.pairs[usize::from(a) << 8 | usize::from(b)] = id,
                _ => {}
            }
            let (mut at, tag) = out.place(&bytes);
            while out.slots[at].1 != NONE {
                at = (at + 1) & (out.slots.len() - 1);
            }
            out.slots[at] = (tag, id);
        }
        out
    }

    /// Bytes that `id` spells.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)? as usize;
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.bytes[start..end]).filter(|b| !b.is_empty())
    }

    /// Id of the token that spells these bytes.
    #[inline]
    pub fn id(&self, bytes: &[u8]) -> Option<u32> {
        let (mut at, tag) = self.place(bytes);
        loop {
            match self.slots[at] {
                (_, NONE) => return None,
                (t, id) if t == tag && self.bytes(id) == Some(bytes) => return Some(id),
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
    }

    /// Adds the ids of a word, which is not empty: its own where it has one, else what its bytes merge to, always by
    /// the lowest rank, leftmost first.
    pub fn cut(&self, word: &[u8], room: &mut Room, out: &mut Vec<u32>) {
        match self.id(word) {
            Some(id) => out.push(id),
            None if word.len() <= SHORT => self.merge(word, room, out),
            None => self.merge_long(word, out),
        }
    }

    fn rank(&self, bytes: &[u8]) -> u32 {
        self.id(bytes).unwrap_or(NONE)
    }

    fn pair(&self, a: u8, b: u8) -> u32 {
        self.pairs[usize::from(a) << 8 | usize::from(b)]
    }

    fn push(&self, part: &[u8], out: &mut Vec<u32>) {
        let id = if let [one] = *part { self.singles[usize::from(one)] } else { self.rank(part) };
        // Every byte is a token of every vocabulary here, and merges make tokens only.
        out.extend((id != NONE).then_some(id));
    }

    fn merge(&self, word: &[u8], room: &mut Room, out: &mut Vec<u32>) {
        let parts = &mut room.parts;
        parts.clear();
        parts.extend(word.windows(2).enumerate().map(|(i, w)| (i, self.pair(w[0], w[1]))));
        parts.push((word.len() - 1, NONE));
        let start = |parts: &[(usize, u32)], i: usize| parts.get(i).map_or(word.len(), |p| p.0);
        loop {
            // Ties go to the left.
            let best = (0..parts.len()).min_by_key(|i| parts[*i].1).filter(|i| parts[*i].1 != NONE);
            let Some(i) = best else { break };
            parts.remove(i + 1);
            let rank = |parts: &[(usize, u32)], i: usize| match parts.len() - i {
                1 => NONE,
                _ => self.rank(&word[parts[i].0..start(parts, i + 2)]),
            };
            parts[i].1 = rank(parts, i);
            if i > 0 {
                parts[i - 1].1 = rank(parts, i - 1);
            }
        }
        (0..parts.len()).for_each(|i| self.push(&word[parts[i].0..start(parts, i + 1)], out));
    }

    /// The same where looking at all pairs at each step would take the square of the length.
    fn merge_long(&self, word: &[u8], out: &mut Vec<u32>) {
        let n = word.len();
        // Neighbours of what begins at each byte, and the rank of the pair with the right one.
        let mut next: Vec<u32> = (1..=n as u32).collect();
        let mut before: Vec<u32> = (0..n as u32).map(|i| i.saturating_sub(1)).collect();
        let mut ranks: Vec<u32> = word.windows(2).map(|w| self.pair(w[0], w[1])).chain([NONE]).collect();
        let found = ranks.iter().enumerate().filter(|(_, r)| **r != NONE);
        let mut open: BinaryHeap<Reverse<(u32, u32)>> = found.map(|(i, r)| Reverse((*r, i as u32))).collect();
        while let Some(Reverse((rank, at))) = open.pop() {
            let i = at as usize;
            // What was merged since has another rank.
            if ranks[i] != rank {
                continue;
            }
            let gone = next[i] as usize;
            ranks[gone] = NONE;
            next[i] = next[gone];
            if let Some(b) = before.get_mut(next[i] as usize) {
                *b = at;
            }
            for left in [Some(i), (i > 0).then(|| before[i] as usize)].into_iter().flatten() {
                let right = next[left] as usize;
                ranks[left] = if right < n { self.rank(&word[left..next[right] as usize]) } else { NONE };
                if ranks[left] != NONE {
                    open.push(Reverse((ranks[left], left as u32)));
                }
            }
        }
        let mut at = 0;
        while at < n {
            let end = next[at] as usize;
            self.push(&word[at..end], out);
            at = end;
        }
    }

    /// Where the search for these bytes begins, and what else is kept of their hash.
    #[inline]
    fn place(&self, bytes: &[u8]) -> (usize, u32) {
        let h = hash(bytes);
        (h as usize & (self.slots.len() - 1), (h >> 32) as u32)
    }
}

/// A hash for words of a vocabulary, eight bytes at a time.
#[inline]
fn hash(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |h: u64, x: u64| {
        let h = (h ^ x).wrapping_mul(ODD);
        h ^ (h >> 32)
    };
    let (eights, rest) = bytes.as_chunks::<8>();
    let h = eights.iter().fold(bytes.len() as u64, |h, e| mix(h, u64::from_le_bytes(*e)));
    let rest = match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (Some(a), Some(b)) => u64::from(u32::from_le_bytes(*a)) | u64::from(u32::from_le_bytes(*b)) << 32,
        _ => rest.iter().fold(0, |x, b| x << 8 | u64::from(*b)),
    };
    mix(mix(h, rest), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Single bytes first, then these.
    fn ranks(more: &[&str]) -> Ranks {
        let spell = |id: u32| match u8::try_from(id) {
            Ok(b) => Some(vec![b]),
            Err(_) => more.get(id as usize - 256).map(|t| t.as_bytes().to_vec()),
        };
        Ranks::new(256 + more.len(), spell)
    }

    #[test]
    fn the_lowest_rank_merges_first_whether_a_word_is_short_or_long() {
        let r = ranks(&["bc", "ab", "abc", "aa"]);
        let cut = |word: &str| {
            let (mut short, mut long) = (Vec::new(), Vec::new());
            r.merge(word.as_bytes(), &mut Room::default(), &mut short);
            r.merge_long(word.as_bytes(), &mut long);
            assert_eq!(short, long, "{word}");
            short
        };
        assert_eq!(cut("abc"), [258]);
        assert_eq!(cut("abd"), [257, 100]);
        // Of three, the left two.
        assert_eq!(cut("aaa"), [259, 97]);
        assert_eq!(cut("aaaabcaab"), [259, 97, 258, 97, 257]);
        assert_eq!((r.id(b"abc"), r.id(b"abcd"), r.bytes(256)), (Some(258), None, Some(b"bc".as_slice())));
        assert_eq!((r.bytes(260), r.bytes(97)), (None, Some(b"a".as_slice())));
    }
}
