//! Vocabularies that come with the `tiktoken-rs` crate.

mod classes;
mod ranks;
mod words;

use super::Encoding;
use super::bpe::{Step, byte_merge_history};
use super::parts::{self, PART};
use crate::ctx::Ctx;
use crate::{Error, Result};
use ranks::{Ranks, Room};
use std::sync::OnceLock;
use words::Words;

pub(super) use classes::{Classes, LETTER, NUMBER};

/// Names that [`super::Tokenizer::named`] knows; `gpt2` is the published name of `r50k_base`.
pub const NAMES: &[&str] = &["gpt2", "r50k_base", "p50k_base", "cl100k_base", "o200k_base"];

pub(super) struct Tiktoken {
    words: Words,
    ranks: &'static Ranks,
    vocab_size: usize,
}

impl Tiktoken {
    pub(super) fn named(name: &str) -> Result<Self> {
        static TABLES: [OnceLock<Ranks>; 4] = [const { OnceLock::new() }; 4];
        let (k, make, words, vocab_size): (usize, fn() -> _, _, _) = match name {
            "gpt2" | "r50k_base" => (0, tiktoken_rs::r50k_base, Words::Gpt2, 50_257),
            "p50k_base" => (1, tiktoken_rs::p50k_base, Words::Gpt2, 50_281),
            "cl100k_base" => (2, tiktoken_rs::cl100k_base, Words::Cl100k, 100_277),
            "o200k_base" => (3, tiktoken_rs::o200k_base, Words::O200k, 200_019),
            _ => return Err(Error::Unknown { kind: "tokenizer", name: name.into(), known: NAMES.join(", ") }),
        };
        let ranks = match TABLES[k].get() {
            Some(ranks) => ranks,
            None => {
                // The crate's own tables are several times larger and go again.
                let all = make().map_err(|e| Error::invalid(format!("the vocabulary {name} is damaged: {e}")))?;
                TABLES[k].get_or_init(|| Ranks::new(vocab_size, |id| all.decode_bytes(&[id]).ok()))
            }
        };
        Ok(Self { words, ranks, vocab_size })
    }

    /// Cuts a text and hands the tokens over in order, some at a time. Special-token text is ordinary text: what a user
    /// types never becomes a control token.
    pub(super) fn encode_each(
        &self,
        text: &str,
        ctx: &Ctx,
        each: &mut dyn FnMut(Encoding) -> Result<()>,
    ) -> Result<()> {
        parts::each(words::parts(text, PART), |start, part| self.cut(start, part, ctx), each)
    }

    /// The tokens of a part that begins at byte `start` of the text.
    fn cut(&self, start: usize, text: &str, ctx: &Ctx) -> Result<Encoding> {
        let (mut at, mut room, mut ids, mut look) = (0, Room::default(), Vec::with_capacity(text.len() / 4), 0);
        while at < text.len() {
            // What has no place to be parted at is long, too.
            if at >= look {
                ctx.check()?;
                look = at + PART;
            }
            let end = self.words.end(text, at);
            self.ranks.cut(&text.as_bytes()[at..end], &mut room, &mut ids);
            at = end;
        }
        let mut out =
            Encoding { special_mask: vec![false; ids.len()], type_ids: vec![0; ids.len()], ..Encoding::default() };
        out.offsets_byte.reserve(ids.len());
        out.tokens.reserve(ids.len(), text.len());
        let mut at = start;
        for &id in &ids {
            let bytes = self.ranks.bytes(id).unwrap_or_default();
            out.offsets_byte.push((at, at + bytes.len()));
            at += bytes.len();
            match std::str::from_utf8(bytes) {
                Ok(token) => out.tokens.push(token),
                Err(_) => out.tokens.push(&spelled(bytes)),
            }
        }
        out.ids = ids;
        Ok(out)
    }

    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id).unwrap_or_default()).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(super) fn token(&self, id: u32) -> Option<String> {
        self.bytes(id).map(spelled)
    }

    /// Merges that make the token `id` of its bytes. Here a pair's rank is the id of what it makes.
    pub(super) fn merges(&self, id: u32) -> Vec<Step> {
        let rank = |piece: &[u8]| self.id(piece).map(|id| id as usize);
        self.bytes(id).map_or_else(Vec::new, |word| byte_merge_history(word, &rank, &spelled))
    }

    /// Bytes that `id` spells.
    pub(super) fn bytes(&self, id: u32) -> Option<&'static [u8]> {
        self.ranks.bytes(id)
    }

    /// Id of the token that spells these bytes.
    pub(super) fn id(&self, bytes: &[u8]) -> Option<u32> {
        self.ranks.id(bytes)
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

/// Text where the bytes are text, `<0xE2><0x82>` where they cut a character.
fn spelled(bytes: &[u8]) -> String {
    let hex = |_| bytes.iter().map(|b| format!("<0x{b:02X}>")).collect();
    std::str::from_utf8(bytes).map_or_else(hex, ToString::to_string)
}

#[cfg(test)]
mod tests;
