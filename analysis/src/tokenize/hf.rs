//! `tokenizer.json` through the `tokenizers` crate.

use super::Encoding;
use super::bpe::{Step, merge_history};
use super::byte_level::ByteLevel;
use super::parts::{self, SMALL_PART, Seams};
use crate::ctx::Ctx;
use crate::foreign::foreign;
use crate::weights::{read_bounded, recognise};
use crate::{Error, Result};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::utils::SysRegex;
use tokenizers::{
    Model as _, ModelWrapper, OffsetType, PostProcessorWrapper, PreTokenizedString, PreTokenizer as _, Tokenizer,
};

/// The crate that cuts, for messages.
const CRATE: &str = "tokenizers";

/// The largest `tokenizer.json` that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// A tokenizer of the crate, with a faster way through it where its kind allows.
pub(super) struct Hf {
    pub inner: Tokenizer,
    fast: Option<ByteLevel>,
    /// Where a long text can be parted.
    seams: Option<Seams>,
    /// Whether spaces are taken off the bytes of tokens, and whether one is put before a text.
    trim: Option<bool>,
}

impl Hf {
    pub fn new(mut inner: Tokenizer) -> Self {
        // The crate takes characters off where it counts bytes; it is done here instead.
        let mut post = serde_json::to_value(inner.get_post_processor()).unwrap_or(Value::Null);
        let trim = no_trimming(&mut post);
        let untrimmed = trim.and_then(|_| serde_json::from_value::<PostProcessorWrapper>(post).ok());
        let trim = trim.filter(|_| untrimmed.is_some());
        if untrimmed.is_some() {
            inner.with_post_processor(untrimmed);
        }
        let fast = ByteLevel::of(&inner);
        let seams = Seams::of(&inner);
        Self { inner, fast, seams, trim }
    }

    /// Cuts one text and hands the tokens over in order, some at a time.
    pub fn encode_each(
        &self,
        text: &str,
        special: bool,
        ctx: &Ctx,
        each: &mut dyn FnMut(Encoding) -> Result<()>,
    ) -> Result<()> {
        self.in_parts(text, SMALL_PART, special, ctx, each)
    }

    /// [`Hf::encode_each`] by parts of `size` bytes and some, where the text can be parted.
    fn in_parts(
        &self,
        text: &str,
        size: usize,
        special: bool,
        ctx: &Ctx,
        each: &mut dyn FnMut(Encoding) -> Result<()>,
    ) -> Result<()> {
        let Some(around) = self.guarded(|| self.around(special))? else {
            return each(self.guarded(|| self.joined(text, None, special, ctx))?);
        };
        each(around.before)?;
        let cut = |start: usize, part: &str| {
            let mut out = self.guarded(|| self.cut(start, part, ctx))?;
            out.type_ids = vec![around.type_id; out.ids.len()];
            Ok(out)
        };
        match &self.seams {
            Some(seams) => parts::each(seams.parts(&self.inner, text, size), cut, each)?,
            None => each(cut(0, text)?)?,
        }
        each(around.behind)
    }

    /// Cuts two texts as one.
    pub fn encode_pair(&self, text: &str, pair: &str, special: bool, ctx: &Ctx) -> Result<Encoding> {
        self.guarded(|| self.joined(text, Some(pair), special, ctx))
    }

    /// What `call` into the crate gives.
    fn guarded<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        foreign(CRATE, call).unwrap_or_else(|why| {
            let why = match empty_pattern(&self.inner) {
                Some(p) => format!("the pattern {p:?} of the tokenizer finds empty text, on which {CRATE} fails"),
                None => why,
            };
            Err(Error::invalid(format!("cannot cut the text: {why}")))
        })
    }

    /// The text of `ids`.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> std::result::Result<String, String> {
        foreign(CRATE, || self.inner.decode(ids, skip_special).map_err(|e| e.to_string())).and_then(|text| text)
    }

    /// The tokens of a part of a text that begins at byte `start` of it, before post-processing.
    fn cut(&self, start: usize, text: &str, ctx: &Ctx) -> Result<Encoding> {
        // Where a space is put before every text, it stands for the one that a later part begins with.
        let lent = usize::from(start > 0 && self.seams.as_ref().is_some_and(|s| s.puts));
        let (whole, text) = (start, &text[lent..]);
        let start = start + lent;
        let fast = self.fast.as_ref().map(|f| f.encode(&self.inner, text, ctx)).transpose()?.flatten();
        let mut out = match fast {
            Some(out) => out,
            None => own(&cut(&self.inner, text, 0, ctx)?),
        };
        if let Some(prefix) = self.trim {
            trim(text, out.tokens.iter(), &mut out.offsets_byte, prefix && start == 0);
        }
        out.offsets_byte.iter_mut().for_each(|at| *at = (at.0 + start, at.1 + start));
        if let (1, Some(at), Some(token)) = (lent, out.offsets_byte.first_mut(), out.tokens.get(0)) {
            // The space alone has no bytes of the part.
            *at = (whole, if token.chars().count() == 1 { start } else { at.1 });
        }
        Ok(out)
    }

    /// One text or two, with post-processing by the crate.
    fn joined(&self, text: &str, pair: Option<&str>, special: bool, ctx: &Ctx) -> Result<Encoding> {
        let first = theirs(&self.cut(0, text, ctx)?, 0);
        let second = pair.map(|pair| Ok::<_, Error>(theirs(&self.cut(0, pair, ctx)?, 1))).transpose()?;
        Ok(own(&self.inner.post_process(first, second, special).map_err(fail)?))
    }

    /// What stands around a text; `None` where that is not all that post-processing does.
    fn around(&self, special: bool) -> Result<Option<Around>> {
        let one = Encoding { special_mask: vec![false], type_ids: vec![0], ids: vec![0], ..Encoding::default() };
        let one = Encoding { tokens: ["a"].into_iter().collect(), offsets_byte: vec![(0, 1)], ..one };
        let whole = own(&self.inner.post_process(theirs(&one, 0), None, special).map_err(fail)?);
        let at: Vec<usize> = (0..whole.ids.len()).filter(|i| !whole.special_mask[*i]).collect();
        let &[at] = at.as_slice() else { return Ok(None) };
        if whole.ids[at] != 0 || whole.tokens.get(at) != Some("a") || whole.offsets_byte[at] != (0, 1) {
            return Ok(None);
        }
        let (before, behind) = (whole.part(0..at), whole.part(at + 1..whole.ids.len()));
        Ok(Some(Around { before, behind, type_id: whole.type_ids[at] }))
    }
}

/// What post-processing puts around one text, and the segment that it counts the text as.
struct Around {
    before: Encoding,
    behind: Encoding,
    type_id: u32,
}

/// An encoding of the crate as one of ours.
fn own(e: &tokenizers::Encoding) -> Encoding {
    Encoding {
        ids: e.get_ids().to_vec(),
        offsets_byte: e.get_offsets().to_vec(),
        special_mask: e.get_special_tokens_mask().iter().map(|&m| m != 0).collect(),
        type_ids: e.get_type_ids().to_vec(),
        tokens: e.get_tokens().iter().collect(),
    }
}

/// One of ours as an encoding of the crate, which asks for words only to cut texts off.
fn theirs(e: &Encoding, segment: u32) -> tokenizers::Encoding {
    let n = e.ids.len();
    tokenizers::Encoding::new(
        e.ids.clone(),
        vec![segment; n],
        e.tokens.iter().map(ToString::to_string).collect(),
        vec![None; n],
        e.offsets_byte.clone(),
        vec![0; n],
        vec![1; n],
        Vec::new(),
        Default::default(),
    )
}

/// Switches trimming off in a post-processor. Gives whether a space is put before a text, if it was on.
fn no_trimming(post: &mut Value) -> Option<bool> {
    if let Some(list) = post.get_mut("processors").and_then(Value::as_array_mut) {
        return list.iter_mut().fold(None, |found, p| no_trimming(p).or(found));
    }
    let trims =
        matches!(post["type"].as_str(), Some("ByteLevel" | "RobertaProcessing")) && post["trim_offsets"] == true;
    trims.then(|| {
        post["trim_offsets"] = Value::Bool(false);
        post["add_prefix_space"] == true
    })
}

/// Takes leading and trailing spaces of tokens off their bytes. A space that the tokenizer put before the text has no
/// bytes; with `prefix`, one space before the first word is left, as the crate does.
fn trim<'t>(text: &str, tokens: impl Iterator<Item = &'t str>, offsets: &mut [(usize, usize)], prefix: bool) {
    let space = |c: &char| *c == 'Ġ' || c.is_whitespace();
    for (i, (token, at)) in tokens.zip(offsets).enumerate() {
        let before = token.chars().take_while(space).count();
        let behind = token.chars().rev().take_while(space).count();
        if before == 0 && behind == 0 {
            continue;
        }
        let only = before == token.chars().count();
        let own = |at: (usize, usize)| text.get(at.0..at.1).unwrap_or_default();
        if !(prefix && before == 1 && (i == 0 || at.0 == 0)) {
            let spaces = own(*at).chars().take(before).take_while(|c| c.is_whitespace());
            at.0 += spaces.map(char::len_utf8).sum::<usize>();
        }
        if only {
            at.1 = at.0;
        } else {
            let spaces = own(*at).chars().rev().take(behind).take_while(|c| c.is_whitespace());
            at.1 -= spaces.map(char::len_utf8).sum::<usize>();
        }
    }
}

/// Every pattern in a part of a tokenizer, and whether it is a regular expression.
fn patterns(part: &Value, out: &mut Vec<(String, bool)>) {
    match part {
        Value::Object(o) => {
            for (key, v) in o {
                match (key.as_str(), v["Regex"].as_str(), v["String"].as_str()) {
                    ("pattern", Some(r), _) => out.push((r.into(), true)),
                    ("pattern", _, Some(s)) => out.push((s.into(), false)),
                    _ => patterns(v, out),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|v| patterns(v, out)),
        _ => {}
    }
}

/// A pattern that finds empty text.
fn empty_pattern(t: &Tokenizer) -> Option<String> {
    let mut all = Vec::new();
    patterns(&serde_json::to_value(t.get_normalizer()).ok()?, &mut all);
    patterns(&serde_json::to_value(t.get_pre_tokenizer()).ok()?, &mut all);
    let empty = |(pattern, regex): &(String, bool)| match regex {
        true => SysRegex::new(pattern).is_ok_and(|r| ["", "a b"].iter().any(|t| r.find_iter(t).any(|m| m.0 == m.1))),
        false => pattern.is_empty(),
    };
    foreign(CRATE, || all.into_iter().find(empty)).ok().flatten().map(|p| p.0)
}

/// The first regular expression of a `tokenizer.json` that cannot be read, and why.
fn unread_pattern(json: &Value) -> Option<(String, String)> {
    let mut all = Vec::new();
    ["normalizer", "pre_tokenizer", "decoder"].iter().for_each(|k| patterns(&json[*k], &mut all));
    all.into_iter().filter(|p| p.1).find_map(|(p, _)| {
        let why = SysRegex::new(&p).err()?.to_string();
        Some((p, why))
    })
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

/// Bytes of a file that should be a `tokenizer.json`, without a byte order mark.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = read_bounded(path, MAX_BYTES)?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}

/// The error for a file that makes no tokenizer.
pub(super) fn refused(path: &Path, what: String) -> Error {
    let remedy = match what.starts_with(DAMAGED) {
        true => "download tokenizer.json again",
        false => "choose a file that the tokenizers library reads",
    };
    recognise::strange(path).unwrap_or_else(|| Error::file(path, what, remedy))
}

#[cfg(test)]
pub(super) fn load(path: &Path) -> Result<Tokenizer> {
    from_bytes(&bytes(path)?).map_err(|what| refused(path, what))
}

/// How the error of a file begins that is not even JSON.
const DAMAGED: &str = "damaged tokenizer";

/// A tokenizer from the bytes of a `tokenizer.json`. The error says what is wrong, without a file name.
pub(super) fn from_bytes(bytes: &[u8]) -> std::result::Result<Tokenizer, String> {
    foreign(CRATE, || checked(bytes)).unwrap_or_else(|why| Err(format!("{DAMAGED}: {why}")))
}

fn checked(bytes: &[u8]) -> std::result::Result<Tokenizer, String> {
    // The crate panics where a decoder is cut off in its middle, with words that help nobody.
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map_err(|e| format!("{DAMAGED}: {e}"))?;
    if bytes.windows(CHARSMAP.len()).any(|w| w == CHARSMAP.as_bytes())
        && let Ok(parts) = serde_json::from_slice::<Value>(bytes)
    {
        check_charsmaps(&parts["normalizer"])?;
    }
    let mut t = Tokenizer::from_bytes(bytes).map_err(|e| unread(bytes, &e.to_string()))?;
    // Padding and truncation are settings of a training script, not of the text: a microscope shows it all.
    t.with_padding(None);
    t.with_truncation(None).map_err(|e| format!("{DAMAGED}: {e}"))?;
    // So is dropout, which would cut one text in many ways.
    if let ModelWrapper::BPE(bpe) = t.get_model()
        && bpe.dropout.is_some()
    {
        let mut whole = bpe.clone();
        whole.dropout = None;
        t.with_model(whole);
    }
    if t.get_vocab_size(true) == 0 {
        return Err("the vocabulary is empty".into());
    }
    // The crate writes a vocabulary by counting up to its largest id.
    if let Some((token, id)) = t.get_vocab(true).into_iter().find(|(_, id)| *id > MAX_ID) {
        return Err(format!("{DAMAGED}: the token {token:?} has the id {id}, more than {MAX_ID}"));
    }
    let part = |v: serde_json::Result<Value>| v.map_err(|e| format!("{DAMAGED}: {e}"));
    let (longer, more) = growth(&part(serde_json::to_value(t.get_normalizer()))?);
    if longer > MAX_GROWTH {
        return Err(format!("the normalizer can make a text {longer:.0} times longer, more than {MAX_GROWTH}"));
    }
    if more > MAX_MORE {
        return Err(format!("the normalizer can put {more:.0} bytes before a text, more than {MAX_MORE}"));
    }
    check_templates(&part(serde_json::to_value(t.get_post_processor()))?)?;
    Ok(t)
}

/// Where a SentencePiece normalizer keeps its tables.
const CHARSMAP: &str = "precompiled_charsmap";

/// Errors if tables are said to be longer than they are; the crate would take memory for what is said.
fn check_charsmaps(normalizer: &Value) -> std::result::Result<(), String> {
    normalizer["normalizers"].as_array().into_iter().flatten().try_for_each(check_charsmaps)?;
    let Some(map) = normalizer[CHARSMAP].as_str().and_then(|s| BASE64_STANDARD.decode(s).ok()) else { return Ok(()) };
    let said = map.first_chunk().map_or(0, |n| u32::from_le_bytes(*n) as usize);
    if said > map.len().saturating_sub(4) {
        let there = map.len().saturating_sub(4);
        return Err(format!("{DAMAGED}: its normalizer says that its table has {said} bytes; there are {there}"));
    }
    Ok(())
}

/// What is wrong with a file that is JSON, but not a tokenizer to the crate.
fn unread(bytes: &[u8], why: &str) -> String {
    let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
    if let Some((pattern, why)) = unread_pattern(&json) {
        return format!("the regular expression {pattern:?} is not read by Oniguruma ({why})");
    }
    if !json["model"].is_object() {
        return "this is JSON, but no tokenizer.json: it has no model".into();
    }
    format!("a part of this tokenizer.json is not read ({why})")
}

/// The largest id of a token; published vocabularies end below 300,000.
const MAX_ID: u32 = 1 << 24;

/// A text may become this many times longer before it is cut; published tokenizers stay below 10.
const MAX_GROWTH: f64 = 1000.0;

/// Bytes that may be put before a text; published tokenizers put a space.
const MAX_MORE: f64 = 10_000.0;

/// How many times longer a normalizer can make a text, and how many bytes it puts before it, by its replacements.
fn growth(normalizer: &Value) -> (f64, f64) {
    let words = |v: &Value| v.as_str().map_or(0, str::len) as f64;
    match normalizer["type"].as_str() {
        Some("Sequence") => {
            let parts = normalizer["normalizers"].as_array().into_iter().flatten().map(growth);
            // What was put before a text grows with it.
            parts.fold((1.0, 0.0), |(times, more), (t, m)| (times * t, more * t + m))
        }
        Some("Prepend") => (1.0, words(&normalizer["prepend"])),
        Some("Replace") => {
            let content = words(&normalizer["content"]);
            match words(&normalizer["pattern"]["String"]) {
                // A regular expression, or no text at all, is found anywhere.
                0.0 => (1.0 + content, content),
                pattern => ((content / pattern).max(1.0), 0.0),
            }
        }
        _ => (1.0, 0.0),
    }
}

/// Errors if a template names a special token that it does not explain; the crate would panic at the first text.
fn check_templates(processor: &Value) -> std::result::Result<(), String> {
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    for inner in list(&processor["processors"]) {
        check_templates(&inner)?;
    }
    for piece in list(&processor["single"]).iter().chain(&list(&processor["pair"])) {
        let name = piece["SpecialToken"]["id"].as_str();
        if let Some(name) = name.filter(|n| processor["special_tokens"].get(*n).is_none()) {
            return Err(format!("the template of the post-processor has no ids for {name}"));
        }
    }
    Ok(())
}

/// The merges that make `token`, if the vocabulary is of byte-pair kind.
pub(super) fn merges(t: &Tokenizer, token: &str) -> Option<Vec<Step>> {
    // The crate keeps its merges to itself, but writes them.
    let model = foreign(CRATE, || serde_json::to_value(t.get_model())).ok()?.ok()?;
    if model.get("type")?.as_str()? != "BPE" {
        return None;
    }
    let list = model.get("merges")?.as_array()?;
    let mut ranks = HashMap::with_capacity(list.len());
    for (rank, m) in list.iter().enumerate() {
        let pair = match m {
            Value::String(s) => s.split_once(' '),
            pair => Some((pair.get(0)?.as_str()?, pair.get(1)?.as_str()?)),
        };
        ranks.entry(pair?).or_insert(rank);
    }
    Some(merge_history(token, &ranks))
}

#[cfg(test)]
mod tests;
