//! The vocabulary inside a GGUF file, rebuilt as the `tokenizer.json` it came from.

use super::recipe::{added, around, bpe, by_patterns, byte_level, merges_by_score};
use super::{gguf_words, hf};
use crate::weights::gguf::{Header, Meta};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER: u64 = 4;
const BYTE: u64 = 6;

/// Builds the tokenizer; what was guessed goes to `notes`. Errors: no vocabulary, or one of an unknown kind.
pub(super) fn load(path: &Path, header: &Header, notes: &mut Vec<String>) -> Result<tokenizers::Tokenizer> {
    let bad = |what: String| Error::file(path, what, "give the model's tokenizer.json or its folder instead");
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
    let is_added = |i: &usize| matches!(kind(*i), UNKNOWN | CONTROL | USER) && !tokens[*i].is_empty();
    let extra: Vec<Value> =
        (0..tokens.len()).filter(is_added).map(|i| added(i as u32, tokens[i], kind(i) != USER)).collect();
    let flag = |key: &str, default: bool| get(key).and_then(Meta::flag).unwrap_or(default);
    let name_of = |key: &str| {
        let id = u32::try_from(get(key).and_then(Meta::whole)?).ok()?;
        tokens.get(id as usize).map(|t| (t.to_string(), id))
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
            let words = gguf_words::of(pre);
            if words.guessed {
                notes.push(format!(
                    "the pre-tokenizer {pre:?} is not known; words are found as llama.cpp does without one, \
                     so the cut may differ from the model's own"
                ));
            }
            let pre_tokenizer = match words.patterns {
                [gguf_words::GPT2] => byte_level(true, false),
                patterns => by_patterns(patterns),
            };
            let normalizer = if words.composed { json!({ "type": "NFC" }) } else { Value::Null };
            let whole_words = words.whole;
            let merges = texts("merges")?;
            let pairs: Vec<Value> = merges
                .iter()
                .map(|m| match m.split_once(' ') {
                    Some((a, b)) if !b.contains(' ') => Ok(json!([a, b])),
                    _ => Err(bad(format!("the merge {m:?} is not two pieces"))),
                })
                .collect::<Result<_>>()?;
            let own = json!({
                "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "decoder": byte_level(true, false),
                "model": bpe(vocab, pairs, whole_words),
            });
            (own, words.bos)
        }
        "" => return Err(bad("the file has no vocabulary".into())),
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
    json["added_tokens"] = Value::Array(extra);
    json["post_processor"] = around(bos, eos);
    let bytes = serde_json::to_vec(&json).map_err(|e| bad(e.to_string()))?;
    hf::from_bytes(&bytes).map_err(|e| bad(format!("the vocabulary does not make a tokenizer: {e}")))
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
    let pairs = merges_by_score(tokens, scores, &|_| true);
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
