//! Exact bytes of pieces that stand for parts of a character.

use super::Piece;
use crate::tokenize::bpe::byte_alphabet;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Byte of each letter of GPT-2's byte alphabet.
static BYTES: LazyLock<HashMap<char, u8>> =
    LazyLock::new(|| byte_alphabet().iter().enumerate().map(|(b, c)| (*c, b as u8)).collect());

/// The bytes that a vocabulary's spelling stands for: `<0xE6>` of byte fallback, or letters of the byte alphabet.
fn spelled(token: &str, out: &mut Vec<u8>) -> Option<()> {
    if let Some(hex) = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'))
        && hex.len() == 2
    {
        out.push(u8::from_str_radix(hex, 16).ok()?);
        return Some(());
    }
    for c in token.chars() {
        out.push(*BYTES.get(&c)?);
    }
    Some(())
}

/// Gives pieces that share bytes their own ones, where their spellings together are exactly those bytes.
pub(super) fn share_out(pieces: &mut [Piece], text: &str) {
    let mut from = 0;
    while from < pieces.len() {
        let (start, mut end, mut to) = (pieces[from].start, pieces[from].end, from + 1);
        while to < pieces.len() && pieces[to].start < end && pieces[to].start >= start {
            end = end.max(pieces[to].end);
            to += 1;
        }
        if to > from + 1 {
            share(&mut pieces[from..to], start, text.as_bytes().get(start..end).unwrap_or_default());
        }
        from = to;
    }
}

fn share(pieces: &mut [Piece], start: usize, bytes: &[u8]) {
    let mut all = Vec::with_capacity(bytes.len());
    let mut ends = Vec::with_capacity(pieces.len());
    for p in pieces.iter() {
        if spelled(&p.token, &mut all).is_none() {
            return;
        }
        ends.push(start + all.len());
    }
    if all != bytes {
        return;
    }
    let mut at = start;
    for (p, end) in pieces.iter_mut().zip(ends) {
        (p.start, p.end) = (at, end);
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(text: &str, list: &[(&str, usize, usize)]) -> Vec<(usize, usize)> {
        let piece = |&(token, start, end): &(&str, usize, usize)| Piece {
            id: Some(1),
            token: token.into(),
            start,
            end,
            special: false,
        };
        let mut pieces: Vec<Piece> = list.iter().map(piece).collect();
        share_out(&mut pieces, text);
        pieces.iter().map(|p| (p.start, p.end)).collect()
    }

    #[test]
    fn parts_of_a_character_get_their_bytes() {
        // 漢 is E6 BC A2; in the byte alphabet these are æ, ¼ and ¢, and a space is Ġ.
        assert_eq!(
            shared("a 漢", &[("a", 0, 1), ("Ġæ", 1, 5), ("¼", 2, 5), ("¢", 2, 5)]),
            [(0, 1), (1, 3), (3, 4), (4, 5)]
        );
        assert_eq!(shared("漢", &[("<0xE6>", 0, 3), ("<0xBC>", 0, 3), ("<0xA2>", 0, 3)]), [(0, 1), (1, 2), (2, 3)]);
    }

    #[test]
    fn what_is_not_spelled_in_those_bytes_stays() {
        let mark = [("▁", 0, 1), ("In", 0, 2)];
        assert_eq!(shared("In", &mark), [(0, 1), (0, 2)]);
        let other = [("<0xE6>", 0, 3), ("<0xBC>", 0, 3)];
        assert_eq!(shared("漢", &other), [(0, 3), (0, 3)]);
    }
}
