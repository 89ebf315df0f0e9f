//! The bytes that each token of a vocabulary stands for inside of a text.

use super::bpe::byte_alphabet;
use super::{Backend, Tokenizer};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// How a vocabulary spells bytes.
enum Spelling {
    /// A letter for each byte.
    ByteLevel(HashMap<char, u8>),
    /// As text with `▁` for spaces, and bytes that are no text as `<0xAB>`.
    Pieces,
    /// As whatever the tokenizer prints.
    Printed,
}

impl Tokenizer {
    /// The bytes of every token, by id; empty for special tokens, which stand for no text, and for ids without a token.
    pub fn token_bytes(&self) -> Vec<Vec<u8>> {
        let (spelling, special) = match &self.backend {
            Backend::Hf(t) => {
                let decoder = serde_json::to_value(t.inner.get_decoder()).unwrap_or(Value::Null);
                let special = t.inner.get_added_tokens_decoder();
                (spelling(&decoder), special.into_iter().filter(|t| t.1.special).map(|t| t.0).collect())
            }
            Backend::Tiktoken(_) => (Spelling::Printed, HashSet::new()),
        };
        let bytes = |id: u32| -> Vec<u8> {
            let Some(raw) = self.token(id).filter(|_| !special.contains(&id)) else { return Vec::new() };
            match &spelling {
                // What is added to such a vocabulary is spelled as it is.
                Spelling::ByteLevel(bytes) => {
                    raw.chars().map(|c| bytes.get(&c).copied()).collect::<Option<_>>().unwrap_or(raw.into_bytes())
                }
                Spelling::Pieces => match raw.strip_prefix("<0x").and_then(|r| r.strip_suffix('>')) {
                    Some(hex) if hex.len() == 2 => u8::from_str_radix(hex, 16).map_or(Vec::new(), |b| vec![b]),
                    _ => raw.replace('▁', " ").into_bytes(),
                },
                Spelling::Printed => {
                    let text = self.token_text(id);
                    if text.contains('\u{fffd}') { Vec::new() } else { text.into_bytes() }
                }
            }
        };
        (0..self.vocab_size() as u32).map(bytes).collect()
    }
}

/// What a decoder says about the vocabulary.
fn spelling(decoder: &Value) -> Spelling {
    let mut types = Vec::new();
    let mut todo = vec![decoder];
    while let Some(v) = todo.pop() {
        types.extend(v["type"].as_str());
        todo.extend(v["decoders"].as_array().into_iter().flatten());
    }
    if types.contains(&"ByteLevel") {
        let letters = byte_alphabet();
        return Spelling::ByteLevel(letters.into_iter().enumerate().map(|(b, c)| (c, b as u8)).collect());
    }
    if types.contains(&"ByteFallback") || types.contains(&"Metaspace") {
        return Spelling::Pieces;
    }
    Spelling::Printed
}
