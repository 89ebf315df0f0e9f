//! The vocabulary inside a GGUF file, rebuilt as the `tokenizer.json` it came from.

use super::hf;
use crate::weights::gguf::{Header, Meta};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER: u64 = 4;
const BYTE: u64 = 6;

/// Contractions, letters, numbers up to three digits, the rest: how GPT-4 and Llama 3 cut before merging.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with single digits (Qwen2).
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Builds the tokenizer. Errors: no vocabulary, an unknown kind of vocabulary or pre-tokenizer.
pub(super) fn load(path: &Path, header: &Header) -> Result<tokenizers::Tokenizer> {
    let bad = |what: String| Error::file(path, what, "convert the model again, or give its tokenizer.json");
    let get = |key: &str| header.meta.get(&format!("tokenizer.ggml.{key}"));
    let texts = |key: &str| -> Result<Vec<&str>> {
        let list = get(key).and_then(Meta::list).ok_or_else(|| bad(format!("the file has no tokenizer.ggml.{key}")))?;
        list.iter()
            .map(|m| m.text().ok_or_else(|| bad(format!("tokenizer.ggml.{key} is not a list of texts"))))
            .collect()
    };
    let tokens = texts("tokens")?;
    let list = |key: &str| get(key).and_then(Meta::list).unwrap_or(&[]);
    let kinds: Vec<u64> = list("token_type").iter().map(|m| m.whole().unwrap_or(1)).collect();
    let kind = |i: usize| kinds.get(i).copied().unwrap_or(1);
    let mut vocab = Map::new();
    for (i, t) in tokens.iter().enumerate() {
        // A spelling that stands twice belongs to its first id.
        vocab.entry(t.to_string()).or_insert(json!(i));
    }
    let added: Vec<Value> = (0..tokens.len())
        .filter(|&i| matches!(kind(i), UNKNOWN | CONTROL | USER))
        .map(|i| {
            json!({ "id": i, "content": tokens[i], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind(i) != USER })
        })
        .collect();
    let flag = |key: &str, default: bool| get(key).and_then(Meta::flag).unwrap_or(default);
    let name_of = |key: &str| {
        let id = get(key).and_then(Meta::whole)?;
        tokens.get(usize::try_from(id).ok()?).map(|t| (t.to_string(), id))
    };
    let pre = get("pre").and_then(Meta::text).unwrap_or("");
    let model = get("model").and_then(Meta::text).unwrap_or("");
    let (own, bos_default) = match model {
        "llama" => {
            let scores: Vec<f64> = list("scores").iter().map(|m| m.number().unwrap_or(f64::NEG_INFINITY)).collect();
            if scores.len() != tokens.len() {
                return Err(bad("tokenizer.ggml.scores does not have one score per token".into()));
            }
            let bytes = (0..tokens.len()).filter(|&i| kind(i) == BYTE).count();
            let unknown = name_of("unknown_token_id").map(|u| u.0);
            (sentence_piece(&tokens, &scores, &vocab, unknown, bytes == 256, flag("add_space_prefix", true)), true)
        }
        "gpt2" => {
            let split = |pattern: &str| {
                json!({ "type": "Sequence", "pretokenizers": [
                    { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false },
                    byte_level(false),
                ] })
            };
            let (pre_tokenizer, normalizer, whole_words) = match pre {
                "gpt-2" | "gpt2" => (byte_level(true), Value::Null, false),
                "llama-bpe" | "llama3" | "llama-v3" => (split(LLAMA3), Value::Null, true),
                "qwen2" => (split(QWEN2), json!({ "type": "NFC" }), false),
                "smollm" => {
                    let digits = json!({ "type": "Digits", "individual_digits": true });
                    (json!({ "type": "Sequence", "pretokenizers": [digits, byte_level(true)] }), Value::Null, false)
                }
                other => {
                    let known = "gpt-2, llama-bpe, qwen2, smollm";
                    return Err(bad(format!("the pre-tokenizer {other:?} is not supported ({known} are)")));
                }
            };
            let merges = texts("merges")?;
            let pairs: Vec<Value> = merges
                .iter()
                .map(|m| match m.split_once(' ') {
                    Some((a, b)) if !b.contains(' ') => Ok(json!([a, b])),
                    _ => Err(bad(format!("the merge {m:?} is not two pieces"))),
                })
                .collect::<Result<_>>()?;
            let own = json!({
                "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "decoder": byte_level(true),
                "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                    "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                    "ignore_merges": whole_words, "vocab": vocab, "merges": pairs },
            });
            (own, whole_words)
        }
        other => {
            return Err(bad(format!("a vocabulary of kind {other:?} is not supported (llama and gpt2 are)")));
        }
    };
    let bos = name_of("bos_token_id").filter(|_| flag("add_bos_token", bos_default));
    let eos = name_of("eos_token_id").filter(|_| flag("add_eos_token", false));
    let mut json = own;
    json["version"] = json!("1.0");
    json["truncation"] = Value::Null;
    json["padding"] = Value::Null;
    json["added_tokens"] = Value::Array(added);
    json["post_processor"] = template(bos, eos);
    let bytes = serde_json::to_vec(&json).map_err(|e| bad(e.to_string()))?;
    hf::from_bytes(&bytes).map_err(|e| bad(format!("the vocabulary does not make a tokenizer: {e}")))
}

fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex })
}

/// SentencePiece's byte-pair model: of two neighbours that form a piece, those of the highest score join first.
fn sentence_piece(
    tokens: &[&str],
    scores: &[f64],
    vocab: &Map<String, Value>,
    unknown: Option<String>,
    byte_fallback: bool,
    prefix: bool,
) -> Value {
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().rev().map(|(i, t)| (*t, i)).collect();
    let mut merges: Vec<(f64, usize, usize)> = Vec::new();
    for (i, t) in tokens.iter().enumerate() {
        if ids.get(t) != Some(&i) {
            continue;
        }
        let mut own: Vec<(f64, usize, usize)> = t
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| Some((scores[i], *ids.get(&t[..at])?, *ids.get(&t[at..])?)))
            .collect();
        own.sort_by_key(|m| (m.1, m.2));
        merges.append(&mut own);
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let pairs: Vec<[&str; 2]> = merges.iter().map(|&(_, a, b)| [tokens[a], tokens[b]]).collect();
    let spaces = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let start = json!({ "type": "Prepend", "prepend": "▁" });
    let steps = if prefix { vec![start, spaces] } else { vec![spaces] };
    let mut undo = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        undo.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({
        "normalizer": { "type": "Sequence", "normalizers": steps },
        "pre_tokenizer": null,
        "decoder": { "type": "Sequence", "decoders": undo },
        "model": { "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": byte_fallback, "ignore_merges": false,
            "vocab": vocab, "merges": pairs },
    })
}

/// What stands around one text and between two.
fn template(bos: Option<(String, u64)>, eos: Option<(String, u64)>) -> Value {
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let special = |t: &Option<(String, u64)>, segment: u8| {
        t.iter().map(|(t, _)| json!({ "SpecialToken": { "id": t, "type_id": segment } })).collect::<Vec<_>>()
    };
    let part = |name: &str, segment: u8| {
        let mut out = special(&bos, segment);
        out.push(json!({ "Sequence": { "id": name, "type_id": segment } }));
        out.extend(special(&eos, segment));
        out
    };
    let mut names = Map::new();
    for (t, id) in bos.iter().chain(&eos) {
        names.insert(t.clone(), json!({ "id": t, "ids": [id], "tokens": [t] }));
    }
    let pair = [part("A", 0), part("B", 1)].concat();
    json!({ "type": "TemplateProcessing", "single": part("A", 0), "pair": pair, "special_tokens": names })
}
