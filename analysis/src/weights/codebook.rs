//! Blocks of llama.cpp whose values are looked up by eights or fours in a book: IQ1, IQ2 and IQ3. A code says which
//! entry, signs and a scale stand beside it.
//!
//! The books are constants of the format: those of `ggml-common.h`, as the Python package `gguf` 0.19.0 packs them
//! (`quants.py`, two bits a value and four for IQ3), in `assets/codebooks.bin`. Layouts: ggml, `ggml-quants.c`.

use super::ggml::{array, half};
use std::sync::LazyLock;

/// The books of IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S and IQ1, one behind the other.
const FILE: &[u8] = include_bytes!("../../../assets/codebooks.bin");

/// Entries of each book.
struct Books {
    two_xxs: Vec<[f32; 8]>,
    two_xs: Vec<[f32; 8]>,
    two_s: Vec<[f32; 8]>,
    three_xxs: Vec<[f32; 4]>,
    three_s: Vec<[f32; 4]>,
    one: Vec<[f32; 8]>,
}

static BOOKS: LazyLock<Books> = LazyLock::new(|| {
    let mut left = FILE;
    let mut next = |entries: usize, size: usize| left.split_off(..entries * size).unwrap_or_default();
    let two = [8.0, 25.0, 43.0, 0.0];
    Books {
        two_xxs: entries(next(256, 2), &two),
        two_xs: entries(next(512, 2), &two),
        two_s: entries(next(1024, 2), &two),
        three_xxs: entries(next(256, 2), &[4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0]),
        three_s: entries(next(512, 2), &[1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0]),
        one: entries(next(2048, 2), &[-1.0, 0.0, 1.0, 0.0]),
    }
});

/// Entries of `N` values, of two bytes each, by the values of their codes; the lowest bits come first.
fn entries<const N: usize>(packed: &[u8], values: &[f32]) -> Vec<[f32; N]> {
    let bits = 16 / N;
    let value = |code: u16, i: usize| values[usize::from(code >> (i * bits)) & (values.len() - 1)];
    packed.as_chunks().0.iter().map(|b| std::array::from_fn(|i| value(u16::from_le_bytes(*b), i))).collect()
}

/// Factors of eight values by a byte of their signs.
static SIGNS: [[f32; 8]; 256] = {
    let mut out = [[1.0; 8]; 256];
    let mut i = 0;
    while i < 8 * 256 {
        if (i / 8) >> (i % 8) & 1 == 1 {
            out[i / 8][i % 8] = -1.0;
        }
        i += 1;
    }
    out
};

/// The signs of seven bits: the eighth makes their number even.
fn even(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | (seven.count_ones() as u8 & 1) << 7
}

fn signed(out: &mut [f32; 8], d: f32, values: &[f32; 8], signs: u8) {
    let signs = &SIGNS[usize::from(signs)];
    *out = std::array::from_fn(|i| d * values[i] * signs[i]);
}

fn signed_pair(out: &mut [f32; 8], d: f32, [a, b]: [&[f32; 4]; 2], signs: u8) {
    signed(out, d, &std::array::from_fn(|i| if i < 4 { a[i] } else { b[i - 4] }), signs);
}

/// Four bits of a row of them, the lower half of each byte first.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    (bytes[i / 2] >> (4 * (i % 2))) & 15
}

fn word(bytes: &[u8], i: usize) -> u32 {
    u32::from_le_bytes(array(&bytes[4 * i..]))
}

fn short(bytes: &[u8], i: usize) -> u16 {
    u16::from_le_bytes(array(&bytes[2 * i..]))
}

/// A block of IQ2_XXS, 66 bytes: a scale, and of each 32 values four codes, four sevens of signs and four bits of scale.
pub(super) fn iq2_xxs(b: &[u8], out: &mut [f32]) {
    let (d, qs) = (half(b), &b[2..66]);
    for (j, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        let beside = word(qs, j / 4 * 2 + 1);
        let db = d * (0.5 + (beside >> 28) as f32) * 0.25;
        signed(out, db, &BOOKS.two_xxs[usize::from(qs[j / 4 * 8 + j % 4])], even(beside >> (7 * (j % 4))));
    }
}

/// A block of IQ2_XS, 74 bytes: a scale, codes of 9 bits with seven signs, four bits of scale for each 16 values.
pub(super) fn iq2_xs(b: &[u8], out: &mut [f32]) {
    let (d, qs, scales) = (half(b), &b[2..66], &b[66..74]);
    for (j, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        let (q, db) = (short(qs, j), d * (0.5 + f32::from(nibble(scales, j / 2))) * 0.25);
        signed(out, db, &BOOKS.two_xs[usize::from(q & 511)], even((q >> 9).into()));
    }
}

/// A block of IQ2_S, 82 bytes: a scale, codes, their signs, the upper two bits of codes, scales as in IQ2_XS.
pub(super) fn iq2_s(b: &[u8], out: &mut [f32]) {
    let (d, qs, signs, high, scales) = (half(b), &b[2..34], &b[34..66], &b[66..74], &b[74..82]);
    for (j, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        let q = usize::from(qs[j]) | usize::from(high[j / 4] >> (2 * (j % 4)) & 3) << 8;
        let db = d * (0.5 + f32::from(nibble(scales, j / 2))) * 0.25;
        signed(out, db, &BOOKS.two_s[q], signs[j]);
    }
}

/// A block of IQ3_XXS, 98 bytes: a scale, codes of fours, and of each 32 values four sevens of signs and a scale.
pub(super) fn iq3_xxs(b: &[u8], out: &mut [f32]) {
    let (d, qs, beside) = (half(b), &b[2..66], &b[66..98]);
    for (j, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        let beside = word(beside, j / 4);
        let db = d * (0.5 + (beside >> 28) as f32) * 0.5;
        let four = |i: usize| &BOOKS.three_xxs[usize::from(qs[i])];
        signed_pair(out, db, [four(2 * j), four(2 * j + 1)], even(beside >> (7 * (j % 4))));
    }
}

/// A block of IQ3_S, 110 bytes: a scale, codes of fours, their ninth bits, signs, a scale for each 32 values.
pub(super) fn iq3_s(b: &[u8], out: &mut [f32]) {
    let (d, qs, high, signs, scales) = (half(b), &b[2..66], &b[66..74], &b[74..106], &b[106..110]);
    for (j, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        let db = d * f32::from(1 + 2 * nibble(scales, j / 4));
        let four = |i: usize| &BOOKS.three_s[usize::from(qs[i]) | usize::from(high[i / 8] >> (i % 8) & 1) << 8];
        signed_pair(out, db, [four(2 * j), four(2 * j + 1)], signs[j]);
    }
}

/// What all values of a group of IQ1 are moved by, one way or the other.
const DELTA: f32 = 0.125;

fn moved(out: &mut [f32; 8], d: f32, code: usize, down: bool) {
    let (values, by) = (&BOOKS.one[code], if down { -DELTA } else { DELTA });
    *out = std::array::from_fn(|i| d * (values[i] + by));
}

/// A block of IQ1_S, 50 bytes: a scale, codes, and of each 32 values the upper bits of codes, a scale and the direction.
pub(super) fn iq1_s(b: &[u8], out: &mut [f32]) {
    let (d, qs, beside) = (half(b), &b[2..34], &b[34..50]);
    for (j, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        let beside = short(beside, j / 4);
        let code = usize::from(qs[j]) | usize::from(beside >> (3 * (j % 4)) & 7) << 8;
        moved(out, d * f32::from(2 * (beside >> 12 & 7) + 1), code, beside >> 15 == 1);
    }
}

/// A block of IQ1_M, 56 bytes: codes, of each 8 values the upper bits of the code and the direction, scales of 16
/// values, between which the scale of the block lies in four parts.
pub(super) fn iq1_m(b: &[u8], out: &mut [f32]) {
    let (qs, beside, scales) = (&b[..32], &b[32..48], &b[48..56]);
    let whole = (0..4).fold(0, |all, i| all | (short(scales, i) >> 12) << (4 * i));
    let d = half(&whole.to_le_bytes());
    for (j, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        let (own, group) = (nibble(beside, j), j / 2);
        let scale = short(scales, group / 4) >> (3 * (group % 4)) & 7;
        let code = usize::from(qs[j]) | usize::from(own & 7) << 8;
        moved(out, d * f32::from(2 * scale + 1), code, own & 8 != 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_fill_their_file_and_hold_no_entry_twice() {
        assert_eq!(FILE.len(), 2 * (256 + 512 + 1024 + 256 + 512 + 2048));
        let all = [&BOOKS.two_xxs, &BOOKS.two_xs, &BOOKS.two_s, &BOOKS.one];
        assert_eq!(all.map(Vec::len), [256, 512, 1024, 2048]);
        let mut seen = std::collections::HashSet::new();
        for (i, book) in all.into_iter().enumerate() {
            for e in book {
                assert!(e.iter().all(|x| *x != 0.0) || i == 3, "{e:?}");
                assert!(seen.insert((i, e.map(f32::to_bits))), "{e:?}");
            }
        }
        assert_eq!((BOOKS.three_xxs.len(), BOOKS.three_s.len()), (256, 512));
        assert_eq!((even(0), even(1), even(3), even(127)), (0, 129, 3, 255));
        assert_eq!(SIGNS[5], [-1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }
}
