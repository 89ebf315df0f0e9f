//! Byte-level byte-pair vocabularies (GPT-2, RoBERTa, Llama 3, Qwen2, …) without the bookkeeping that the `tokenizers`
//! crate does for normalised texts: words are found in the text as it stands and each different word is cut once.
//! What the crate does before (added tokens) and after (special tokens, trimmed offsets) stays the crate's.

use super::Encoding;
use super::bpe::byte_alphabet;
use super::recipe::GPT2;
use crate::ctx::Ctx;
use crate::{Error, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokenizers::utils::SysRegex;
use tokenizers::{
    Model, ModelWrapper, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, Tokenizer,
};

/// Different words whose cut each thread remembers.
const REMEMBERED: usize = 1 << 15;
/// Tokens that they may be together.
const REMEMBERED_TOKENS: usize = 1 << 17;
/// Longer words are not remembered, in bytes.
const LONG: usize = 256;
/// Words between two looks at the cancel flag.
const POLL: usize = 1 << 12;

/// Id, and bytes `start..end` of the word.
type Part = (u32, u32, u32);

/// Words and their cuts, and the tokens of all of them.
#[derive(Default)]
struct Known {
    cuts: HashMap<Box<str>, Arc<[Part]>>,
    tokens: usize,
}

/// The cut of words by one tokenizer.
pub(super) struct ByteLevel {
    /// What is cut out before words are found, e.g. digits; each of these and what lies between them is cut alone.
    before: Option<SysRegex>,
    words: SysRegex,
    /// Whether the normalizer leaves only ASCII as it is.
    ascii: bool,
    /// Bytes that are no tokens. Of them nothing is left, and the crate counts what follows as if they had not been there.
    missing: Vec<u8>,
    alphabet: [char; 256],
    known: Mutex<Vec<Known>>,
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
        let alphabet = byte_alphabet();
        let no_token = |b: &u8| t.token_to_id(&alphabet[usize::from(*b)].to_string()).is_none();
        let missing = if bpe.unk_token.is_none() { (0..=255).filter(no_token).collect() } else { Vec::new() };
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
        Some(Self { before, words, ascii, missing, alphabet, known: Mutex::default() })
    }

    /// Tokens of `text`, as the crate gives them before post-processing; `None` if this text needs the crate.
    pub fn encode(&self, t: &Tokenizer, text: &str, ctx: &Ctx) -> Result<Option<Encoding>> {
        let lacks = !self.missing.is_empty() && text.bytes().any(|b| self.missing.contains(&b));
        if lacks || self.ascii && !text.is_ascii() {
            return Ok(None);
        }
        let pieces: PreTokenizedString = t.get_added_vocabulary().extract_and_normalize(t.get_normalizer(), text);
        // Taken out and put back: each thread of a long text has its own.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let mut out = Encoding::default();
        let mut done = 0usize;
        for (piece, (start, end), tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            if let Some(tokens) = tokens {
                tokens.iter().for_each(|token| push(&mut out, token.id, &token.value, (start, end)));
                continue;
            }
            let mut word = |a: usize, b: usize| {
                self.word(t, &piece[a..b], &mut known, |(id, s, e)| {
                    let (s, e) = (piece.floor_char_boundary(a + s as usize), piece.ceil_char_boundary(a + e as usize));
                    push(&mut out, id, &t.get_model().id_to_token(id).unwrap_or_default(), (start + s, start + e));
                })?;
                done += 1;
                if done.is_multiple_of(POLL) { ctx.check() } else { Ok(()) }
            };
            match &self.before {
                None => parts(&self.words, piece, &mut word)?,
                Some(before) => {
                    parts(before, piece, &mut |a, b| parts(&self.words, &piece[a..b], &mut |c, d| word(a + c, a + d)))?
                }
            }
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).push(known);
        (out.special_mask, out.type_ids) = (vec![false; out.ids.len()], vec![0; out.ids.len()]);
        Ok(Some(out))
    }

    fn word(&self, t: &Tokenizer, word: &str, known: &mut Known, push: impl FnMut(Part)) -> Result<()> {
        let parts = match known.cuts.get(word) {
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
                let parts: Arc<[Part]> =
                    cut.iter().map(|p| (p.id, byte(p.offsets.0) as u32, byte(p.offsets.1) as u32)).collect();
                if word.len() <= LONG && known.cuts.len() < REMEMBERED && known.tokens < REMEMBERED_TOKENS {
                    known.tokens += parts.len();
                    known.cuts.insert(word.into(), parts.clone());
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

fn push(out: &mut Encoding, id: u32, token: &str, offsets: (usize, usize)) {
    out.ids.push(id);
    out.tokens.push(token);
    out.offsets_byte.push(offsets);
}
