//! Long texts in parts that can be cut one by one: side by side, and with memory for a few parts only.

use super::Encoding;
use super::gguf_words::{CJK, PARTED};
use super::tiktoken::{Classes, LETTER, NUMBER};
use crate::Result;
use rayon::prelude::*;
use serde_json::Value;
use tokenizers::{ModelWrapper, OffsetReferential, OffsetType, Tokenizer};
use unicode_segmentation::GraphemeCursor;

/// Bytes of a part. Shorter texts are not worth waking other threads for.
pub(super) const PART: usize = 1 << 16;
/// Bytes of a part where the `tokenizers` crate cuts it, which takes hundreds of bytes of memory for each of them.
pub(super) const SMALL_PART: usize = 1 << 14;

/// Cuts parts, given with the byte that each begins at, on several threads, some at a time, and hands the tokens over
/// in order.
pub(super) fn each<'t>(
    mut parts: impl Iterator<Item = (usize, &'t str)>,
    cut: impl Fn(usize, &str) -> Result<Encoding> + Sync,
    each: &mut dyn FnMut(Encoding) -> Result<()>,
) -> Result<()> {
    loop {
        let some: Vec<(usize, &str)> = parts.by_ref().take(2 * rayon::current_num_threads()).collect();
        match some.as_slice() {
            [] => return Ok(()),
            [(start, only)] => each(cut(*start, only)?)?,
            some => {
                let done: Vec<Encoding> =
                    some.par_iter().map(|(start, part)| cut(*start, part)).collect::<Result<_>>()?;
                done.into_iter().try_for_each(&mut *each)?;
            }
        }
    }
}

/// Where a text can be parted for a tokenizer of the `tokenizers` crate: between a letter or a number and white space.
///
/// That is right where all its steps are known to change characters one by one, or where they stand together within a
/// word, and one of them ends words before white space. It is right, too, where nothing ends words, as in Llama 2, but
/// no token goes on over a space behind a letter or a number: what pairs are merged to is always a token. For others
/// there are no seams, and a text is cut at once.
pub(super) struct Seams {
    /// Whether any white space will do, or spaces only.
    any: bool,
    /// Bytes on both sides of a seam in which no added token may be found.
    reach: usize,
    /// Whether a space is put before every text, so that a part does without the one that it begins with.
    pub puts: bool,
}

impl Seams {
    /// The seams for `t`, where there are some.
    pub fn of(t: &Tokenizer) -> Option<Self> {
        let normal = serde_json::to_value(t.get_normalizer()).ok()?;
        let pre = serde_json::to_value(t.get_pre_tokenizer()).ok()?;
        if let Some(puts) = one_word(&normal, &pre) {
            return Some(Self { any: false, reach: reach(t)?, puts }).filter(|_| ends_at_spaces(t));
        }
        let steps = flat(&pre, "pretokenizers").into_iter().map(step).collect::<Option<Vec<_>>>()?;
        let drops = steps.contains(&Step::Drops);
        if !flat(&normal, "normalizers").into_iter().all(|n| local(n, drops)) || steps.iter().all(|s| *s == Step::Local)
        {
            return None;
        }
        let plain = normal.is_null() && !steps.contains(&Step::Spaces);
        Some(Self { any: drops || plain, reach: reach(t)?, puts: false })
    }

    /// The text in parts of `size` bytes and some, each with the byte that it begins at.
    pub fn parts<'t>(&self, t: &Tokenizer, text: &'t str, size: usize) -> impl Iterator<Item = (usize, &'t str)> {
        let mut from = 0usize;
        std::iter::from_fn(move || {
            let start = from;
            from = self.next(t, text, start.saturating_add(size.max(1)));
            (start < text.len()).then(|| (start, &text[start..from]))
        })
    }

    /// The first seam from byte `at` on, or the end of the text.
    fn next(&self, t: &Tokenizer, text: &str, at: usize) -> usize {
        let classes = Classes::get();
        let mut at = text.floor_char_boundary(at);
        let mut inside = false;
        while let Some(b) = text.as_bytes().get(at) {
            let white = *b == b' ' || self.any && b.is_ascii_whitespace();
            if white && inside && self.is_free(t, text, at) {
                return at;
            }
            let (class, length) = classes.at(text, at);
            inside = class & (LETTER | NUMBER) != 0;
            at += length;
        }
        text.len()
    }

    /// Whether nothing that is found before words stands near `at`, and no letter is written together with what follows.
    fn is_free(&self, t: &Tokenizer, text: &str, at: usize) -> bool {
        let around = text.floor_char_boundary(at.saturating_sub(self.reach))..text.ceil_char_boundary(at + self.reach);
        let near = t.get_added_vocabulary().extract_and_normalize(t.get_normalizer(), &text[around]);
        let found = near.get_splits(OffsetReferential::Original, OffsetType::Byte).iter().any(|s| s.2.is_some());
        !found && GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0) == Ok(true)
    }
}

/// Bytes around a seam within which an added token could have to do with it; `None` where one goes on over white space,
/// so that it could lie on a seam.
fn reach(t: &Tokenizer) -> Option<usize> {
    let added = t.get_added_vocabulary().get_added_tokens_decoder();
    let over = |token: &str| token.trim().contains(char::is_whitespace);
    let long = added.values().map(|a| a.content.len() + 64).max().unwrap_or(0);
    (!added.values().any(|a| over(&a.content))).then_some(long)
}

/// What stands for a space in the tokens of SentencePiece.
const SPACE: &str = "▁";

/// Whether these steps only write spaces otherwise, so that a text is one word; then, whether they always put one before
/// it.
fn one_word(normal: &Value, pre: &Value) -> Option<bool> {
    let writes = |v: &Value| v["type"] == "Replace" && v["pattern"]["String"] == " " && v["content"] == SPACE;
    let puts = |v: &Value| v["type"] == "Prepend" && v["prepend"] == SPACE;
    // None are left where this one could find some.
    let idle = pre.is_null() || pre["type"] == "Split" && pre["pattern"]["String"] == " ";
    match flat(normal, "normalizers").as_slice() {
        [put, write] if puts(put) && writes(write) && idle => Some(true),
        [write] if writes(write) && idle => Some(false),
        // This one puts a space only where there is none.
        [none] if none.is_null() => {
            let writes = pre["type"] == "Metaspace" && pre["replacement"] == SPACE && pre["split"] == false;
            writes.then_some(false)
        }
        _ => None,
    }
}

/// Whether every token that has a letter or a number before a space ends there.
fn ends_at_spaces(t: &Tokenizer) -> bool {
    let ModelWrapper::BPE(model) = t.get_model() else { return false };
    let known = |part: &Option<String>| part.as_ref().is_none_or(String::is_empty);
    let plain = model.dropout.is_none() && !model.ignore_merges;
    let vocab = model.get_vocab();
    let ends = |token: &String| {
        let parts = token.match_indices(SPACE).filter_map(|(at, _)| token[..at].chars().next_back());
        !parts.into_iter().any(char::is_alphanumeric)
    };
    plain
        && known(&model.continuing_subword_prefix)
        && known(&model.end_of_word_suffix)
        && vocab.contains_key(SPACE)
        && vocab.keys().all(ends)
}

/// What a step that finds words does at white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing; it looks at characters, or runs of them, other than white space.
    Local,
    /// It leaves white space out.
    Drops,
    /// It begins a word there.
    Begins,
    /// It begins a word at a space.
    Spaces,
}

fn step(v: &Value) -> Option<Step> {
    match v["type"].as_str()? {
        "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" => Some(Step::Drops),
        "Digits" | "Punctuation" => Some(Step::Local),
        // Before a part that begins with a space, none is put.
        "Metaspace" if v["split"] != false => Some(Step::Spaces),
        "ByteLevel" => match (v["use_regex"] != false, v["add_prefix_space"] == true) {
            (true, true) => Some(Step::Spaces),
            (true, false) => Some(Step::Begins),
            (false, false) => Some(Step::Local),
            (false, true) => None,
        },
        "Split" if v["behavior"] == "Isolated" && v["invert"] == false => match v["pattern"]["Regex"].as_str()? {
            r"\p{N}" | r"\p{N}{1,3}" | r"\p{N}+" | CJK => Some(Step::Local),
            words => PARTED.contains(&words).then_some(Step::Begins),
        },
        _ => None,
    }
}

/// Whether a normalizer makes of a letter before white space something that ends as a word does, and leaves white space
/// where it was; `drops` says that it is left out afterwards.
fn local(v: &Value, drops: bool) -> bool {
    match v["type"].as_str() {
        None => v.is_null(),
        Some("NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "StripAccents" | "Nmt" | "Precompiled") => true,
        // It puts spaces behind some letters.
        Some("BertNormalizer") => drops,
        Some("Strip") => v["strip_left"] == false,
        Some("Replace") => match (v["pattern"]["String"].as_str(), v["pattern"]["Regex"].as_str()) {
            (Some(s), _) => !s.is_empty() && s.chars().all(|c| c.is_ascii_punctuation()),
            (_, Some(r)) => r == " {2,}" && v["content"] == " ",
            _ => false,
        },
        _ => false,
    }
}

/// The steps of a part of a tokenizer; of a sequence, its own.
fn flat<'v>(v: &'v Value, key: &str) -> Vec<&'v Value> {
    match v[key].as_array() {
        Some(list) => list.iter().flat_map(|inner| flat(inner, key)).collect(),
        None => vec![v],
    }
}
