//! Vocabularies that come with the `tiktoken-rs` crate.

use super::Encoding;
use super::bpe::{Step, byte_merge_history};
use crate::ctx::Ctx;
use crate::{Error, Result};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::OnceLock;
use tiktoken_rs::CoreBPE;

/// Names that [`super::Tokenizer::named`] knows; `gpt2` is the published name of `r50k_base`.
pub const NAMES: &[&str] = &["gpt2", "r50k_base", "p50k_base", "cl100k_base", "o200k_base"];

pub(super) struct Tiktoken {
    bpe: &'static CoreBPE,
    vocab_size: usize,
    ranks: &'static Ranks,
}

/// Ids by bytes, made when somebody asks for merges or other encodings, once for all who do.
type Ranks = OnceLock<HashMap<Vec<u8>, usize>>;
static R50K: Ranks = Ranks::new();
static P50K: Ranks = Ranks::new();
static CL100K: Ranks = Ranks::new();
static O200K: Ranks = Ranks::new();

impl Tiktoken {
    pub(super) fn named(name: &str) -> Result<Self> {
        let (bpe, vocab_size, ranks) = match name {
            "gpt2" | "r50k_base" => (tiktoken_rs::r50k_base_singleton(), 50_257, &R50K),
            "p50k_base" => (tiktoken_rs::p50k_base_singleton(), 50_281, &P50K),
            "cl100k_base" => (tiktoken_rs::cl100k_base_singleton(), 100_277, &CL100K),
            "o200k_base" => (tiktoken_rs::o200k_base_singleton(), 200_019, &O200K),
            _ => return Err(Error::Unknown { kind: "tokenizer", name: name.into(), known: NAMES.join(", ") }),
        };
        Ok(Self { bpe, vocab_size, ranks })
    }

    /// Special-token text is ordinary text: what a user types never becomes a control token. Parts of a long text are
    /// cut on several threads.
    pub(super) fn encode(&self, text: &str, ctx: &Ctx) -> Result<Encoding> {
        let cut = |part: &str| -> Result<(Vec<u32>, Vec<String>, Vec<usize>)> {
            ctx.check()?;
            let ids = self.bpe.encode_ordinary(part);
            let (mut tokens, mut lengths) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
            for &id in &ids {
                let bytes = self.bpe.decode_bytes(&[id]).unwrap_or_default();
                lengths.push(bytes.len());
                tokens.push(spelled(bytes));
            }
            Ok((ids, tokens, lengths))
        };
        let parts: Vec<&str> = parts(text).collect();
        // One part is not worth waking other threads for.
        let done = match parts.as_slice() {
            [only] => vec![cut(only)?],
            parts => parts.par_iter().map(|part| cut(part)).collect::<Result<_>>()?,
        };
        let mut out = Encoding::default();
        let mut at = 0;
        for (ids, tokens, lengths) in done {
            out.ids.extend(ids);
            out.tokens.extend(tokens);
            out.offsets_byte.extend(lengths.into_iter().map(|n| {
                at += n;
                (at - n, at)
            }));
        }
        out.special_mask = vec![false; out.ids.len()];
        out.type_ids = vec![0; out.ids.len()];
        Ok(out)
    }

    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bpe.decode_bytes(&[id]).unwrap_or_default()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(super) fn token(&self, id: u32) -> Option<String> {
        self.bpe.decode_bytes(&[id]).ok().map(spelled)
    }

    /// Merges that make the token `id` of its bytes. Here a pair's rank is the id of what it makes.
    pub(super) fn merges(&self, id: u32) -> Vec<Step> {
        let Ok(word) = self.bpe.decode_bytes(&[id]) else { return Vec::new() };
        byte_merge_history(&word, &|piece| self.ranks().get(piece).copied(), &spell)
    }

    fn ranks(&self) -> &HashMap<Vec<u8>, usize> {
        self.ranks.get_or_init(|| {
            let bytes = |id: u32| Some((self.bytes(id)?, id as usize));
            (0..self.vocab_size as u32).filter_map(bytes).collect()
        })
    }

    /// Bytes that `id` spells.
    pub(super) fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.bpe.decode_bytes(&[id]).ok()
    }

    /// Id of the token that spells these bytes.
    pub(super) fn id(&self, bytes: &[u8]) -> Option<u32> {
        self.ranks().get(bytes).map(|id| *id as u32)
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

/// Bytes of text that are cut between two looks at the cancel flag.
const PART: usize = 1 << 16;

/// The text in parts that can be cut one by one: a letter before a line break ends a word in every vocabulary here.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bytes = rest.as_bytes();
        let ends = |i: &usize| bytes[*i] == b'\n' && bytes[i - 1].is_ascii_alphabetic();
        let (part, after) = rest.split_at((PART..bytes.len()).find(ends).unwrap_or(bytes.len()));
        rest = after;
        Some(part)
    })
}

/// Text where the bytes are text, `<0xE2><0x82>` where they cut a character.
fn spelled(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| e.as_bytes().iter().map(|b| format!("<0x{b:02X}>")).collect())
}

fn spell(bytes: &[u8]) -> String {
    spelled(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_cut_in_parts_is_the_text_cut_at_once() {
        let line = "The naïve fox (aged 12) didn't jump!\n\n  Over 3 words…\r\n\tNEXT line\n";
        let text = line.repeat(3 * PART / line.len());
        assert!(parts(&text).count() > 2);
        for name in ["r50k_base", "cl100k_base", "o200k_base"] {
            let t = Tiktoken::named(name).unwrap();
            let e = t.encode(&text, &Ctx::default()).unwrap();
            assert_eq!(e.ids, t.bpe.encode_ordinary(&text), "{name}");
            assert_eq!(e.offsets_byte.last().map(|o| o.1), Some(text.len()));
        }
        let stop = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        assert!(Tiktoken::named("r50k_base").unwrap().encode(&text, &stop).is_err());
    }
}
