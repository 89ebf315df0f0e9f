//! Byte-level byte-pair vocabularies (GPT-2, RoBERTa, Llama 3, Qwen2, …) without the bookkeeping that the `tokenizers`
//! crate does for normalised texts: words are found in the text as it stands and each different word is cut once.
//! What the crate does before (added tokens) and after (special tokens, trimmed offsets) stays the crate's.

use super::Spellings;
use super::bpe::byte_alphabet;
use super::recipe::GPT2;
use crate::ctx::Ctx;
use crate::{Error, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokenizers::utils::SysRegex;
use tokenizers::{
    Encoding, Model, ModelWrapper, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, Tokenizer,
};

/// Different words whose cut is remembered.
const REMEMBERED: usize = 1 << 16;
/// Longer words are not remembered, in bytes.
const LONG: usize = 256;
/// Words between two looks at the cancel flag.
const POLL: usize = 1 << 12;

/// Id, and bytes `start..end` of the word.
type Part = (u32, usize, usize);

/// The cut of words by one tokenizer.
pub(super) struct ByteLevel {
    /// What is cut out before words are found, e.g. digits; each of these and what lies between them is cut alone.
    before: Option<SysRegex>,
    words: SysRegex,
    /// Whether the normalizer leaves only ASCII as it is.
    ascii: bool,
    alphabet: [char; 256],
    known: Mutex<HashMap<Box<str>, Arc<[Part]>>>,
}

impl ByteLevel {
    /// The fast cut for `t`; `None` if `t` does something else than find words and merge their bytes.
    pub fn of(t: &Tokenizer) -> Option<Self> {
        let ModelWrapper::BPE(bpe) = t.get_model() else { return None };
        let empty = |s: &Option<String>| s.as_ref().is_none_or(String::is_empty);
        let plain = empty(&bpe.continuing_subword_prefix) && empty(&bpe.end_of_word_suffix);
        if !plain || bpe.fuse_unk && bpe.unk_token.is_some() {
            return None;
        }
        let ascii = match t.get_normalizer() {
            None => false,
            Some(NormalizerWrapper::NFC(_)) => true,
            Some(_) => return None,
        };
        let pre = serde_json::to_value(t.get_pre_tokenizer()?).ok()?;
        let bytes = |v: &Value, regex: bool| {
            v["type"] == "ByteLevel" && v["add_prefix_space"] == false && v["use_regex"] == regex
        };
        let isolated = |split: &Value| {
            let whole = split["type"] == "Split" && split["behavior"] == "Isolated" && split["invert"] == false;
            SysRegex::new(split["pattern"]["Regex"].as_str().filter(|_| whole)?).ok()
        };
        let gpt2 = || SysRegex::new(GPT2).ok();
        let (before, words) = match pre["pretokenizers"].as_array().map(Vec::as_slice) {
            None if bytes(&pre, true) => (None, gpt2()?),
            Some([split, level]) if bytes(level, false) => (None, isolated(split)?),
            Some([split, level]) if bytes(level, true) => (Some(isolated(split)?), gpt2()?),
            _ => return None,
        };
        Some(Self { before, words, ascii, alphabet: byte_alphabet(), known: Mutex::default() })
    }

    /// Tokens of `text`, as the crate gives them before post-processing; `None` if this text needs the crate.
    pub fn encode(&self, t: &Tokenizer, text: &str, ctx: &Ctx) -> Result<Option<Lists>> {
        if self.ascii && !text.is_ascii() {
            return Ok(None);
        }
        let pieces: PreTokenizedString = t.get_added_vocabulary().extract_and_normalize(t.get_normalizer(), text);
        // Taken out and put back, so that two threads at worst cut some words twice.
        let mut known = std::mem::take(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner));
        let mut out = Lists::default();
        let mut done = 0;
        for (piece, (start, end), tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            if let Some(tokens) = tokens {
                tokens.iter().for_each(|token| out.push(token.id, &token.value, (start, end), done));
                done += 1;
                continue;
            }
            let mut word = |a: usize, b: usize| {
                self.word(t, &piece[a..b], &mut known, |(id, s, e)| {
                    let (s, e) = (piece.floor_char_boundary(a + s), piece.ceil_char_boundary(a + e));
                    out.push(id, &t.get_model().id_to_token(id).unwrap_or_default(), (start + s, start + e), done);
                })?;
                done += 1;
                if (done as usize).is_multiple_of(POLL) { ctx.check() } else { Ok(()) }
            };
            match &self.before {
                None => parts(&self.words, piece, &mut word)?,
                Some(before) => {
                    parts(before, piece, &mut |a, b| parts(&self.words, &piece[a..b], &mut |c, d| word(a + c, a + d)))?
                }
            }
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(Some(out))
    }

    fn word(
        &self,
        t: &Tokenizer,
        word: &str,
        known: &mut HashMap<Box<str>, Arc<[Part]>>,
        push: impl FnMut(Part),
    ) -> Result<()> {
        let parts = match known.get(word) {
            Some(parts) => parts.clone(),
            None => {
                let spelled: String = word.bytes().map(|b| self.alphabet[b as usize]).collect();
                let cut = t.get_model().tokenize(&spelled);
                let cut = cut.map_err(|e| Error::invalid(format!("cannot cut the text: {e}")))?;
                // Letters of the byte alphabet are bytes of the word.
                let mut at = (0, 0);
                let mut byte = |to: usize| {
                    at = (to, at.1 + spelled[at.0..to].chars().count());
                    at.1
                };
                let parts: Arc<[Part]> = cut.iter().map(|p| (p.id, byte(p.offsets.0), byte(p.offsets.1))).collect();
                if word.len() <= LONG && known.len() < REMEMBERED {
                    known.insert(word.into(), parts.clone());
                }
                parts
            }
        };
        parts.iter().copied().for_each(push);
        Ok(())
    }
}

/// Calls `each` with the bytes of every match in `text` and of what lies between two, in order.
fn parts(pattern: &SysRegex, text: &str, each: &mut dyn FnMut(usize, usize) -> Result<()>) -> Result<()> {
    let mut from = 0;
    let mut found = pattern.find_iter(text);
    while from < text.len() {
        // The rest is one part if the search gives up.
        let (a, b) = found.next().unwrap_or((text.len(), text.len()));
        for (a, b) in [(from, a), (a, b)].into_iter().filter(|(a, b)| a < b) {
            each(a, b)?;
        }
        from = b;
    }
    Ok(())
}

/// The lists of an encoding.
#[derive(Default)]
pub(super) struct Lists {
    pub ids: Vec<u32>,
    pub tokens: Spellings,
    pub offsets: Vec<(usize, usize)>,
    words: Vec<Option<u32>>,
}

impl Lists {
    fn push(&mut self, id: u32, token: &str, offsets: (usize, usize), word: u32) {
        self.ids.push(id);
        self.tokens.push(token);
        self.offsets.push(offsets);
        self.words.push(Some(word));
    }

    /// The same for the crate.
    pub fn encoding(self, segment: u32) -> Encoding {
        let n = self.ids.len();
        let (zeros, ones) = (vec![0; n], vec![1; n]);
        let segments = vec![segment; n];
        Encoding::new(
            self.ids,
            segments,
            self.tokens.iter().map(ToString::to_string).collect(),
            self.words,
            self.offsets,
            zeros,
            ones,
            Vec::new(),
            Default::default(),
        )
    }
}
