//! Raw entries of the classic subword algorithms: a vocabulary and texts in, pieces and spans out.
//!
//! Sources: Sennrich et al. 2016, arXiv 1508.07909 (BPE); Schuster & Nakajima 2012 (WordPiece);
//! Kudo 2018, arXiv 1804.10959 (unigram). Carried out by the `tokenizers` crate; the merge history is ours.

use crate::ctx::Ctx;
use crate::foreign::foreign;
use crate::raw::{Adapter, RawInput};
use crate::tokenize::bpe::{byte_alphabet, merge_history};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

/// Raw entry of byte-level BPE.
pub(super) const BPE: Adapter = Adapter { name: "bpe_bytelevel", run: |input, ctx| caught(bpe, input, ctx) };
/// Raw entry of WordPiece.
pub(super) const WORDPIECE: Adapter = Adapter { name: "wordpiece", run: |input, ctx| caught(wordpiece, input, ctx) };
/// Raw entry of unigram.
pub(super) const UNIGRAM: Adapter = Adapter { name: "unigram", run: |input, ctx| caught(unigram, input, ctx) };

/// A tokenizer from the parts of a `tokenizer.json`.
fn build(model: Value, pre_tokenizer: Value) -> Result<Tokenizer> {
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null, "model": model,
    });
    Tokenizer::from_bytes(json.to_string()).map_err(|e| Error::invalid(format!("the vocabulary does not load: {e}")))
}

/// An entry, with panics of the crate as errors: some vocabularies make it panic.
fn caught(entry: fn(&RawInput, &Ctx) -> Result<Value>, input: &RawInput, ctx: &Ctx) -> Result<Value> {
    foreign("tokenizers", || entry(input, ctx))
        .unwrap_or_else(|why| Err(Error::invalid(format!("the vocabulary does not serve: {why}"))))
}

fn fail(e: tokenizers::Error) -> Error {
    Error::invalid(format!("cannot cut the text: {e}"))
}

fn bpe(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let vocab: Map<String, Value> = input.read("vocab")?;
    let merges: Vec<(String, String)> = input.read("merges")?;
    let texts: Vec<String> = input.read("texts")?;
    let pre = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true });
    let t = build(json!({ "type": "BPE", "vocab": vocab, "merges": merges }), pre)?;
    let ranks: HashMap<(&str, &str), usize> =
        merges.iter().enumerate().map(|(i, (a, b))| ((a.as_str(), b.as_str()), i)).rev().collect();
    let alphabet = byte_alphabet();
    let letter: HashMap<char, u8> = alphabet.iter().enumerate().map(|(b, &c)| (c, b as u8)).collect();
    let mut encodings = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        ctx.step(i, texts.len())?;
        let e = t.encode(text.as_str(), false).map_err(fail)?;
        let mut at = 0;
        let spans: Vec<(usize, usize)> = e
            .get_tokens()
            .iter()
            .map(|token| {
                // In the byte alphabet every letter is one byte of the text.
                let start = at;
                at += token.chars().filter(|c| letter.contains_key(c)).count();
                (start, at)
            })
            .collect();
        let mut pre = PreTokenizedString::from(text.as_str());
        if let Some(p) = t.get_pre_tokenizer() {
            p.pre_tokenize(&mut pre).map_err(fail)?;
        }
        let trace: Vec<Value> = pre
            .get_splits(OffsetReferential::Original, OffsetType::Byte)
            .into_iter()
            .map(|(word, _, _)| {
                let merges: Vec<Value> = merge_history(word, &ranks)
                    .into_iter()
                    .map(|m| json!([m.rank, m.index, m.left, m.right]))
                    .collect();
                json!({ "pretoken": word, "merges": merges })
            })
            .collect();
        encodings
            .push(json!({ "ids": e.get_ids(), "tokens": e.get_tokens(), "byte_spans": spans, "merge_trace": trace }));
    }
    Ok(json!({ "encodings": encodings }))
}

fn wordpiece(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let vocab: Map<String, Value> = input.read("vocab")?;
    let texts: Vec<String> = input.read("texts")?;
    let model = json!({
        "type": "WordPiece", "vocab": vocab,
        "unk_token": input.read_or("unk_token", "[UNK]".to_string())?,
        "continuing_subword_prefix": input.read_or("continuing_subword_prefix", "##".to_string())?,
        "max_input_chars_per_word": input.read_or("max_input_chars_per_word", 100)?,
    });
    let t = build(model, json!({ "type": "BertPreTokenizer" }))?;
    let mut encodings = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        ctx.step(i, texts.len())?;
        let e = t.encode(text.as_str(), false).map_err(fail)?;
        encodings.push(json!({ "ids": e.get_ids(), "tokens": e.get_tokens(), "byte_spans": e.get_offsets() }));
    }
    Ok(json!({ "encodings": encodings }))
}

/// Bytes of a piece at most: the crate takes its tree apart by recursion, a level a byte.
const MAX_PIECE: usize = 1000;

fn unigram(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let vocab: Vec<(String, f64)> = input.read("vocab")?;
    let texts: Vec<String> = input.read("texts")?;
    let unk: Option<u32> = input.read_or("unk_id", Some(0))?;
    if let Some((piece, _)) = vocab.iter().find(|(piece, _)| piece.len() > MAX_PIECE) {
        return Err(Error::invalid(format!(
            "a piece of vocab has {} bytes; at most {MAX_PIECE} are read",
            piece.len()
        )));
    }
    let pre = json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true });
    let t = build(json!({ "type": "Unigram", "unk_id": unk, "vocab": vocab, "byte_fallback": false }), pre)?;
    let mut encodings = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        ctx.step(i, texts.len())?;
        let e = t.encode_char_offsets(text.as_str(), false).map_err(fail)?;
        let ids = e.get_ids();
        let known = !ids.iter().any(|id| Some(*id) == unk);
        let log_prob = known.then(|| ids.iter().map(|&id| vocab.get(id as usize).map_or(0.0, |v| v.1)).sum::<f64>());
        encodings.push(json!({
            "ids": ids, "tokens": e.get_tokens(), "char_offsets": e.get_offsets(), "log_prob": log_prob,
        }));
    }
    Ok(json!({ "encodings": encodings }))
}
