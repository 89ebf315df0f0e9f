//! A target of real size and a drafter that often agrees with it, both of random weights.
//!
//! Each token has a few successors that are much more probable than all others: the head holds, for each token, the
//! embeddings of those that it follows. Layers disturb that a little. The drafter is the target's first layer between the
//! same embedding and head, so that the two differ by what the other layers say.

use super::{Size, Stored, file, values};
use crate::rng;
use rand::RngCore as _;
use std::io::{self, Write};
use std::path::Path;

/// The set of random numbers that embeddings take.
const STREAM: u64 = 51;

/// Printable characters of which every two are a token, too; all but those that JSON escapes, and the last ones.
const LETTERS: usize = 89;

/// The target.
pub const TARGET: Size = Size {
    name: "target",
    width: 1024,
    layers: 16,
    heads: (16, 4),
    head_width: 64,
    middle: 2816,
    vocab: 256 + LETTERS * LETTERS,
    tied: false,
};

/// The drafter.
pub const DRAFT: Size = Size { name: "draft", layers: 1, ..TARGET };

/// How much of the embedding of a token is in the head of its successors, the most probable first.
const WEIGHTS: [f32; 4] = [1.0, 0.9, 0.8, 0.7];
/// Steps from a token to its successors; none shares a factor with the vocabulary.
const STEPS: [usize; 4] = [3, 5, 7, 11];
/// Logit of the first successor.
const PEAK: f32 = 13.0;
/// What the last product of attention and of the MLP is scaled by, so that layers disturb and do not decide.
const DAMPED: f32 = 0.5;

/// Writes `target` and `draft` into the folder `dir`.
///
/// Errors: those of writing; another type than f32 and bf16.
pub fn write(stored: Stored, seed: u64, dir: &Path) -> io::Result<()> {
    if !matches!(stored, Stored::F32 | Stored::Bf16) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a pair is stored as f32 or bf16"));
    }
    let embed = embedding(seed);
    for size in [TARGET, DRAFT] {
        let own = dir.join(size.name);
        std::fs::create_dir_all(&own)?;
        std::fs::write(own.join("config.json"), size.config())?;
        std::fs::write(own.join("tokenizer.json"), tokenizer())?;
        let mut out = file(&own.join("model.safetensors"))?;
        size.write_tensors(stored, &mut out, &mut |i, name, shape, out| match name {
            "model.embed_tokens.weight" => put(stored, &embed, out),
            "lm_head.weight" => head(&embed, stored, seed, out),
            // The norm before the head, and those of layers.
            _ if shape.len() == 1 => values(stored, shape, seed, i as u64, out),
            _ if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") => {
                let mut plain = Vec::new();
                values(Stored::F32, shape, seed, i as u64, &mut plain)?;
                let damped: Vec<f32> = plain.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) * DAMPED).collect();
                put(stored, &damped, out)
            }
            _ => values(stored, shape, seed, i as u64, out),
        })?;
    }
    Ok(())
}

/// Numbers from -√3 to √3, `[vocab, width]`: of mean square 1.
fn embedding(seed: u64) -> Vec<f32> {
    let mut rng = rng(STREAM, seed);
    let draw = |_| (rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0) * 3f32.sqrt();
    (0..TARGET.vocab * TARGET.width).map(draw).collect()
}

/// Where the `k`-th successor of a token lies.
fn successor(token: usize, k: usize, seed: u64) -> usize {
    let turn = seed.wrapping_mul(0x9e37_79b9).wrapping_add(1000 * (k as u64 + 1)) % TARGET.vocab as u64;
    (token * STEPS[k] + turn as usize) % TARGET.vocab
}

fn head(embed: &[f32], stored: Stored, seed: u64, out: &mut impl Write) -> io::Result<()> {
    let (n, d) = (TARGET.vocab, TARGET.width);
    // Tokens that each one follows.
    let mut before = vec![[0usize; WEIGHTS.len()]; n];
    (0..n).for_each(|v| (0..WEIGHTS.len()).for_each(|k| before[successor(v, k, seed)][k] = v));
    let mut row = vec![0f32; d];
    for own in before {
        row.fill(0.0);
        for (v, w) in own.into_iter().zip(WEIGHTS) {
            let scale = w * PEAK / d as f32;
            row.iter_mut().zip(&embed[v * d..(v + 1) * d]).for_each(|(r, e)| *r += scale * e);
        }
        put(stored, &row, out)?;
    }
    Ok(())
}

fn put(stored: Stored, values: &[f32], out: &mut impl Write) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 << 12);
    for some in values.chunks(1 << 12) {
        bytes.clear();
        match stored {
            Stored::Bf16 => some.iter().for_each(|x| bytes.extend(((x.to_bits() >> 16) as u16).to_le_bytes())),
            _ => some.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// `tokenizer.json` of bytes and of pairs of printable characters.
fn tokenizer() -> String {
    let whole = super::tokenizer();
    let letters: Vec<char> = (33u8..127).map(char::from).filter(|c| !matches!(c, '"' | '\\')).take(LETTERS).collect();
    let pairs = || letters.iter().flat_map(|a| letters.iter().map(move |b| (a, b)));
    let vocab: String = pairs().enumerate().map(|(i, (a, b))| format!(r#","{a}{b}":{}"#, 256 + i)).collect();
    let merges: Vec<String> = pairs().map(|(a, b)| format!(r#""{a} {b}""#)).collect();
    whole.replace(r#"},"merges":[]"#, &format!(r#"{vocab}}},"merges":[{}]"#, merges.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_shares_what_it_should_and_has_the_size_that_it_says() {
        assert!((100_000_000..300_000_000).contains(&TARGET.n_params()), "{}", TARGET.n_params());
        assert!(DRAFT.n_params() * 5 < TARGET.n_params());
        assert!(DRAFT.tensors(false)[..10].iter().eq(&TARGET.tensors(false)[..10]));
        // Each token follows exactly one by each step, or the head would miss rows.
        for k in 0..WEIGHTS.len() {
            let mut seen = vec![false; TARGET.vocab];
            (0..TARGET.vocab).for_each(|v| seen[successor(v, k, 7)] = true);
            assert!(seen.iter().all(|s| *s), "{k}");
        }
        let text = tokenizer();
        assert!(text.contains(r##","!!":256,"!#":257"##) && text.contains(r##""merges":["! !","##), "{}", &text[..99]);
        assert!(text.contains(&format!(":{}}},\"merges\"", TARGET.vocab - 1)));
    }
}
