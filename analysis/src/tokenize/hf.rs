//! `tokenizer.json` through the `tokenizers` crate.

use super::Encoding;
use super::byte_level::ByteLevel;
use crate::ctx::Ctx;
use crate::segment::bpe::{Step, merge_history};
use crate::{Error, Result};
use std::collections::HashMap;
use std::path::Path;
use tokenizers::{Model as _, OffsetType, PreTokenizedString, PreTokenizer as _, Tokenizer};

/// The largest `tokenizer.json` that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// A tokenizer of the crate, with a faster way through it where its kind allows.
pub(super) struct Hf {
    pub inner: Tokenizer,
    fast: Option<ByteLevel>,
}

impl Hf {
    pub fn new(inner: Tokenizer) -> Self {
        let fast = ByteLevel::of(&inner);
        Self { inner, fast }
    }

    pub fn encode(&self, text: &str, pair: Option<&str>, special: bool, ctx: &Ctx) -> Result<Encoding> {
        let one = |text: &str, segment: u32| match &self.fast {
            Some(fast) => match fast.encode(&self.inner, text, segment, ctx)? {
                Some(e) => Ok(e),
                None => cut(&self.inner, text, segment, ctx),
            },
            None => cut(&self.inner, text, segment, ctx),
        };
        let first = one(text, 0)?;
        let second = pair.map(|pair| one(pair, 1)).transpose()?;
        let e = self.inner.post_process(first, second, special).map_err(fail)?;
        Ok(Encoding {
            ids: e.get_ids().to_vec(),
            offsets_byte: e.get_offsets().to_vec(),
            special_mask: e.get_special_tokens_mask().iter().map(|&m| m != 0).collect(),
            type_ids: e.get_type_ids().to_vec(),
            tokens: e.get_tokens().to_vec(),
        })
    }
}

fn fail(e: tokenizers::Error) -> Error {
    Error::invalid(format!("cannot cut the text: {e}"))
}

/// The tokens of one text before post-processing, by the crate's own steps, with looks at the cancel flag between.
fn cut(t: &Tokenizer, text: &str, segment: u32, ctx: &Ctx) -> Result<tokenizers::Encoding> {
    ctx.check()?;
    let mut pieces: PreTokenizedString = t.get_added_vocabulary().extract_and_normalize(t.get_normalizer(), text);
    ctx.check()?;
    if let Some(p) = t.get_pre_tokenizer() {
        p.pre_tokenize(&mut pieces).map_err(fail)?;
    }
    let cut = pieces.tokenize(|piece| {
        ctx.check()?;
        t.get_model().tokenize(piece.get())
    });
    ctx.check()?;
    cut.map_err(fail)?;
    pieces.into_encoding(None, segment, OffsetType::Byte).map_err(fail)
}

pub(super) fn load(path: &Path) -> Result<Tokenizer> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        return Err(Error::file(
            path,
            "not a tokenizer.json of sensible size",
            "choose the tokenizer.json of the model",
        ));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let bad = |what: String| Error::file(path, what, "download tokenizer.json again");
    from_bytes(&bytes).map_err(bad)
}

/// A tokenizer from the bytes of a `tokenizer.json`. The error says what is wrong, without a file name.
pub(super) fn from_bytes(bytes: &[u8]) -> std::result::Result<Tokenizer, String> {
    let mut t = Tokenizer::from_bytes(bytes).map_err(|e| format!("damaged tokenizer: {e}"))?;
    // Padding and truncation are settings of a training script, not of the text: a microscope shows it all.
    t.with_padding(None);
    t.with_truncation(None).map_err(|e| format!("damaged tokenizer: {e}"))?;
    if t.get_vocab_size(true) == 0 {
        return Err("the vocabulary is empty".into());
    }
    Ok(t)
}

/// The merges that make `token`, if the vocabulary is of byte-pair kind.
pub(super) fn merges(t: &Tokenizer, token: &str) -> Option<Vec<Step>> {
    // The crate keeps its merges to itself, but writes them.
    let model = serde_json::to_value(t.get_model()).ok()?;
    if model.get("type")?.as_str()? != "BPE" {
        return None;
    }
    let list = model.get("merges")?.as_array()?;
    let mut ranks = HashMap::with_capacity(list.len());
    for (rank, m) in list.iter().enumerate() {
        let pair = match m {
            serde_json::Value::String(s) => s.split_once(' '),
            pair => Some((pair.get(0)?.as_str()?, pair.get(1)?.as_str()?)),
        };
        ranks.entry(pair?).or_insert(rank);
    }
    Some(merge_history(token, &ranks))
}
