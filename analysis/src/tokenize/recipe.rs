//! Parts of a `tokenizer.json` that vocabularies without one are given.

use serde_json::{Map, Value, json};

/// How GPT-4 and Llama 3 find words: contractions, letters, numbers up to three digits, the rest.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with single digits (Qwen2).
pub(super) const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How GPT-2 does.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// A special token with its id.
pub(super) type Special = (String, u32);

/// Bytes as letters, with GPT-2's way to find words or without.
pub(super) fn byte_level(use_regex: bool, prefix: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": false, "use_regex": use_regex })
}

/// Words by each of these patterns in turn, then bytes as letters.
pub(super) fn by_patterns(patterns: &[&str]) -> Value {
    let split =
        |p: &&str| json!({ "type": "Split", "pattern": { "Regex": p }, "behavior": "Isolated", "invert": false });
    let mut steps: Vec<Value> = patterns.iter().map(split).collect();
    steps.push(byte_level(false, false));
    json!({ "type": "Sequence", "pretokenizers": steps })
}

/// A byte-pair model.
pub(super) fn bpe(vocab: Map<String, Value>, merges: Vec<Value>, whole_words: bool) -> Value {
    json!({ "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": whole_words, "vocab": vocab, "merges": merges })
}

/// A token that is found in a text before it is cut.
pub(super) fn added(id: u32, content: &str, special: bool) -> Value {
    json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special })
}

/// What stands around one text and between two; null where that is nothing.
pub(super) fn around(bos: Option<Special>, eos: Option<Special>) -> Value {
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let part = |name: &str, segment: u8| Template::new(segment).some(&bos).text(name).some(&eos).0;
    template(part("A", 0), [part("A", 0), part("B", 1)].concat(), bos.iter().chain(&eos))
}

/// Pieces of a template, one after the other.
pub(super) struct Template(pub Vec<Value>, u8);

impl Template {
    /// Nothing yet; texts and tokens count as this segment.
    pub fn new(segment: u8) -> Self {
        Self(Vec::new(), segment)
    }

    /// Adds a special token, where there is one.
    pub fn some(mut self, token: &Option<Special>) -> Self {
        self.0.extend(token.iter().map(|(t, _)| json!({ "SpecialToken": { "id": t, "type_id": self.1 } })));
        self
    }

    /// Adds the text `A` or `B`.
    pub fn text(mut self, name: &str) -> Self {
        self.0.push(json!({ "Sequence": { "id": name, "type_id": self.1 } }));
        self
    }
}

/// A post-processor out of its templates and the ids of the tokens in them.
pub(super) fn template<'a>(single: Vec<Value>, pair: Vec<Value>, tokens: impl Iterator<Item = &'a Special>) -> Value {
    let names: Map<String, Value> =
        tokens.map(|(t, id)| (t.clone(), json!({ "id": t, "ids": [id], "tokens": [t] }))).collect();
    json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": names })
}

/// Merges that make the vocabulary `tokens` of SentencePiece's byte-pair kind: of two neighbours that form a piece,
/// those of the highest score join first. `joins` says which tokens are pieces.
pub(super) fn merges_by_score(tokens: &[&str], scores: &[f64], joins: &dyn Fn(usize) -> bool) -> Vec<Value> {
    let ids: std::collections::HashMap<&str, usize> =
        tokens.iter().enumerate().rev().filter(|(i, _)| joins(*i)).map(|(i, t)| (*t, i)).collect();
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
    merges.iter().map(|&(_, a, b)| json!([tokens[a], tokens[b]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_piece_joins_first() {
        let merges = merges_by_score(&["a", "b", "c", "ab", "bc", "abc"], &[0., 0., 0., -3., -2., -4.], &|_| true);
        assert_eq!(json!(merges), json!([["b", "c"], ["a", "b"], ["a", "bc"], ["ab", "c"]]));
    }
}
