//! SHA-256: says on every machine and for ever whether two files are the same, as `sha256sum` does.
//!
//! Source: FIPS 180-4. A crate for it would bring five more and save forty lines.

use std::fmt::Write as _;

/// First words of the fractional parts of the cube roots of the first 64 primes.
const ROUND: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
];

/// A hash under way.
#[derive(Debug, Clone)]
pub struct Sha256 {
    state: [u32; 8],
    /// What has not filled a block yet.
    rest: Vec<u8>,
    /// Bytes so far.
    len: u64,
}

impl Default for Sha256 {
    fn default() -> Self {
        let state = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
        Self { state, rest: Vec::with_capacity(64), len: 0 }
    }
}

impl Sha256 {
    /// Adds bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.len = self.len.wrapping_add(bytes.len() as u64);
        if !self.rest.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(64 - self.rest.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() < 64 {
                return;
            }
            let block = std::mem::take(&mut self.rest);
            self.blocks(&block);
        }
        let whole = bytes.len() / 64 * 64;
        self.blocks(&bytes[..whole]);
        self.rest.extend_from_slice(&bytes[whole..]);
    }

    /// The hash of all bytes, in 64 hexadecimal digits.
    pub fn finish(mut self) -> String {
        let mut end = std::mem::take(&mut self.rest);
        end.push(0x80);
        // The length takes the last eight bytes of a block.
        end.resize(if end.len() <= 56 { 64 } else { 128 }, 0);
        let at = end.len() - 8;
        end[at..].copy_from_slice(&self.len.wrapping_mul(8).to_be_bytes());
        self.blocks(&end);
        self.state.iter().fold(String::with_capacity(64), |mut out, word| {
            // Writing to a string does not fail.
            let _ = write!(out, "{word:08x}");
            out
        })
    }

    /// Takes in whole blocks of 64 bytes.
    fn blocks(&mut self, bytes: &[u8]) {
        for block in bytes.as_chunks::<64>().0 {
            let mut w = [0u32; 64];
            for (w, b) in w.iter_mut().zip(block.as_chunks::<4>().0) {
                *w = u32::from_be_bytes(*b);
            }
            for i in 16..64 {
                let (a, b) = (w[i - 15], w[i - 2]);
                let low = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
                let high = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
                w[i] = w[i - 16].wrapping_add(low).wrapping_add(w[i - 7]).wrapping_add(high);
            }
            let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = self.state;
            for (k, w) in ROUND.iter().zip(w) {
                let high = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
                let first = h.wrapping_add(high).wrapping_add((e & f) ^ (!e & g)).wrapping_add(*k).wrapping_add(w);
                let low = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
                let second = low.wrapping_add((a & b) ^ (a & c) ^ (b & c));
                (h, g, f, e) = (g, f, e, d.wrapping_add(first));
                (d, c, b, a) = (c, b, a, first.wrapping_add(second));
            }
            for (s, v) in self.state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
                *s = s.wrapping_add(v);
            }
        }
    }
}

/// The hash of `bytes`, in 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let mut hash = Sha256::default();
    hash.update(bytes);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_own_examples_come_out() {
        for (text, hash) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ] {
            assert_eq!(sha256(text.as_bytes()), hash, "{text}");
        }
        let million = sha256(&vec![b'a'; 1_000_000]);
        assert_eq!(million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }

    #[test]
    fn pieces_of_any_length_make_the_hash_of_the_whole() {
        let bytes: Vec<u8> = (0..700u32).map(|i| (i * 31 % 251) as u8).collect();
        for n in [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 700] {
            for piece in [1, 7, 64, 100] {
                let mut hash = Sha256::default();
                bytes[..n].chunks(piece).for_each(|p| hash.update(p));
                assert_eq!(hash.finish(), sha256(&bytes[..n]), "{n} bytes by {piece}");
            }
        }
    }
}
