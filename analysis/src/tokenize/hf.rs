//! `tokenizer.json` through the `tokenizers` crate.

use super::Encoding;
use super::bpe::{Step, merge_history};
use super::byte_level::ByteLevel;
use crate::ctx::Ctx;
use crate::foreign::foreign;
use crate::{Error, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::{Model as _, OffsetType, PreTokenizedString, PreTokenizer as _, Tokenizer};

/// The crate that cuts, for messages.
const CRATE: &str = "tokenizers";

/// The largest `tokenizer.json` that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// A tokenizer of the crate, with a faster way through it where its kind allows.
pub(super) struct Hf {
    pub inner: Tokenizer,
    fast: Option<ByteLevel>,
    /// Whether a text without special tokens around it is left as it was cut.
    bare: bool,
}

impl Hf {
    pub fn new(inner: Tokenizer) -> Self {
        let fast = ByteLevel::of(&inner);
        let bare = leaves_bare(&inner);
        Self { inner, fast, bare }
    }

    pub fn encode(&self, text: &str, pair: Option<&str>, special: bool, ctx: &Ctx) -> Result<Encoding> {
        foreign(CRATE, || self.cut(text, pair, special, ctx))
            .unwrap_or_else(|why| Err(Error::invalid(format!("cannot cut the text: {why}"))))
    }

    /// The text of `ids`.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> std::result::Result<String, String> {
        foreign(CRATE, || self.inner.decode(ids, skip_special).map_err(|e| e.to_string())).and_then(|text| text)
    }

    fn cut(&self, text: &str, pair: Option<&str>, special: bool, ctx: &Ctx) -> Result<Encoding> {
        if let (Some(fast), true, None, false) = (&self.fast, self.bare, pair, special)
            && let Some(lists) = fast.encode(&self.inner, text, ctx)?
        {
            let n = lists.ids.len();
            return Ok(Encoding {
                ids: lists.ids,
                tokens: lists.tokens,
                offsets_byte: lists.offsets,
                special_mask: vec![false; n],
                type_ids: vec![0; n],
            });
        }
        let one = |text: &str, segment: u32| match &self.fast {
            Some(fast) => match fast.encode(&self.inner, text, ctx)? {
                Some(lists) => Ok(lists.encoding(segment)),
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

/// Whether post-processing only puts tokens around a text, and counts one text as the first.
fn leaves_bare(t: &Tokenizer) -> bool {
    let Some(p) = t.get_post_processor() else { return true };
    let Ok(p) = serde_json::to_value(p) else { return false };
    let texts = p["single"].as_array().into_iter().flatten().filter_map(|part| part.get("Sequence"));
    p["type"] == "TemplateProcessing" && texts.map(|t| (&t["id"], &t["type_id"])).eq([(&"A".into(), &0.into())])
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
    foreign(CRATE, || checked(bytes)).unwrap_or_else(|why| Err(format!("damaged tokenizer: {why}")))
}

fn checked(bytes: &[u8]) -> std::result::Result<Tokenizer, String> {
    // The crate panics where a decoder is cut off in its middle, with words that help nobody.
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map_err(|e| format!("damaged tokenizer: {e}"))?;
    let mut t = Tokenizer::from_bytes(bytes).map_err(|e| format!("damaged tokenizer: {e}"))?;
    // Padding and truncation are settings of a training script, not of the text: a microscope shows it all.
    t.with_padding(None);
    t.with_truncation(None).map_err(|e| format!("damaged tokenizer: {e}"))?;
    if t.get_vocab_size(true) == 0 {
        return Err("the vocabulary is empty".into());
    }
    // The crate writes a vocabulary by counting up to its largest id.
    if let Some((token, id)) = t.get_vocab(true).into_iter().find(|(_, id)| *id > MAX_ID) {
        return Err(format!("damaged tokenizer: the token {token:?} has the id {id}, more than {MAX_ID}"));
    }
    let part = |v: serde_json::Result<Value>| v.map_err(|e| format!("damaged tokenizer: {e}"));
    let longer = growth(&part(serde_json::to_value(t.get_normalizer()))?);
    if longer > MAX_GROWTH {
        return Err(format!("the normalizer can make a text {longer:.0} times longer, more than {MAX_GROWTH}"));
    }
    check_templates(&part(serde_json::to_value(t.get_post_processor()))?)?;
    Ok(t)
}

/// The largest id of a token; published vocabularies end below 300,000.
const MAX_ID: u32 = 1 << 24;

/// A text may become this many times longer before it is cut; published tokenizers stay below 10.
const MAX_GROWTH: f64 = 1000.0;

/// How many times longer a normalizer can make a text, by its replacements.
fn growth(normalizer: &Value) -> f64 {
    let words = |v: &Value| v.as_str().map_or(0, str::len) as f64;
    match normalizer["type"].as_str() {
        Some("Sequence") => normalizer["normalizers"].as_array().into_iter().flatten().map(growth).product(),
        Some("Replace") => {
            let content = words(&normalizer["content"]);
            match words(&normalizer["pattern"]["String"]) {
                // A regular expression, or no text at all, is found anywhere.
                0.0 => 1.0 + content,
                pattern => (content / pattern).max(1.0),
            }
        }
        _ => 1.0,
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
mod tests {
    use super::*;
    use serde_json::json;

    fn load(key: &str, value: Value) -> std::result::Result<Tokenizer, String> {
        let mut t = json!({ "version": "1.0", "added_tokens": [], "model":
            { "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": [["a", "b"]] } });
        t[key] = value;
        from_bytes(t.to_string().as_bytes())
    }

    #[test]
    fn a_normalizer_that_blows_texts_up_is_refused() {
        let replace =
            |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        let tenfold = replace(json!({ "Regex": "." }), "123456789");
        let some = |n: usize| json!({ "type": "Sequence", "normalizers": vec![tenfold.clone(); n] });
        assert!(load("normalizer", some(3)).is_ok());
        assert!(load("normalizer", some(4)).unwrap_err().contains("10000 times longer"));
        assert!(load("normalizer", replace(json!({ "String": " " }), "▁")).is_ok());
        assert!(load("normalizer", replace(json!({ "String": "" }), &"x".repeat(1000))).is_err());
    }

    #[test]
    fn a_template_that_explains_its_tokens_is_needed() {
        let template = |known: Value| {
            json!({ "type": "TemplateProcessing", "single":
            [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": known })
        };
        let known = template(json!({ "<s>": { "id": "<s>", "ids": [0], "tokens": ["<s>"] } }));
        let t = load("post_processor", known).unwrap();
        assert_eq!(t.encode("ab", true).unwrap().get_ids(), [0, 2]);
        let unknown = template(json!({}));
        assert!(load("post_processor", unknown.clone()).unwrap_err().contains("<s>"));
        assert!(load("post_processor", json!({ "type": "Sequence", "processors": [unknown] })).is_err());
    }

    #[test]
    fn what_is_cut_out_before_words_is_merged_with_nothing() {
        let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true });
        let split = json!({ "type": "Split", "pattern": { "Regex": "b" }, "behavior": "Isolated", "invert": false });
        let both = json!({ "type": "Sequence", "pretokenizers": [split, level] });
        for (pre, ids) in [(level, vec![2, 2, 0]), (both, vec![0, 1, 0, 1, 0])] {
            let t = Hf::new(load("pre_tokenizer", pre).unwrap());
            assert!(t.fast.is_some());
            assert_eq!(t.encode("ababa", None, false, &Ctx::default()).unwrap().ids, ids);
        }
    }

    /// Texts of pieces that pre-tokenizers treat differently, put together at random.
    fn texts() -> impl Iterator<Item = String> {
        let pieces = [
            "a",
            "The",
            " fox",
            "  ",
            "\n",
            "\n\n ",
            "\t",
            "12",
            " 7",
            "345",
            "'s",
            "'LL",
            "!?",
            " …",
            "漢字",
            "é",
            "e\u{301}",
            "👩\u{200d}👧",
            "<s>",
            "<image>",
            "\r\n",
            "_",
            "x'y",
            "ﬁ",
            "\u{a0}",
            "नमस्ते",
            " שלום",
            "ABCdef",
            "0",
        ];
        let mut state = 1u64;
        let mut next = move |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        (0..400).map(move |i| (0..i % 24).map(|_| pieces[next(pieces.len())]).collect())
    }

    #[test]
    fn the_fast_way_cuts_as_the_crate_does() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = vec![root.join("sample_data/models/sample-lm/tokenizer.json")];
        for folder in ["tests/golden/models", "tests/golden/models/tokenizers"] {
            let entries = std::fs::read_dir(root.join(folder)).unwrap();
            files.extend(entries.map(|e| e.unwrap().path().join("tokenizer.json")).filter(|f| f.exists()));
        }
        files.sort();
        let (mut fast, mut bare) = (0, 0);
        for file in files {
            let t = Hf::new(super::load(&file).unwrap());
            if t.fast.is_none() {
                continue;
            }
            (fast, bare) = (fast + 1, bare + usize::from(t.bare));
            for text in texts() {
                for special in [false, true] {
                    let own = t.encode(&text, None, special, &Ctx::default()).unwrap();
                    let cut = cut(&t.inner, &text, 0, &Ctx::default()).unwrap();
                    let want = t.inner.post_process(cut, None, special).unwrap();
                    let at = format!("{} {text:?} {special}", file.display());
                    assert_eq!(own.ids, want.get_ids(), "{at}");
                    assert_eq!(own.tokens, want.get_tokens(), "{at}");
                    assert_eq!(own.offsets_byte, want.get_offsets(), "{at}");
                    assert_eq!(own.type_ids, want.get_type_ids(), "{at}");
                    let mask: Vec<u32> = own.special_mask.iter().map(|m| (*m).into()).collect();
                    assert_eq!(mask, want.get_special_tokens_mask(), "{at}");
                }
            }
        }
        assert!(fast > 3 && bare > 0, "{fast} fast, {bare} bare");
    }
}
