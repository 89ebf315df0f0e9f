//! The files that make a tokenizer beside or instead of a `tokenizer.json`, as Hugging Face's `AutoTokenizer` reads them.

use super::{recipe, sentence_piece};
use crate::weights::{hub, read_bounded, read_json, recognise};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// The largest list of words or merges that is read, in bytes.
const MAX_LIST: u64 = 64 << 20;

/// What a tokenizer is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// `tokenizer.json`.
    Json(PathBuf),
    /// `vocab.json` and `merges.txt`.
    Merges(PathBuf, PathBuf),
    /// `vocab.txt`.
    Words(PathBuf),
    /// A SentencePiece model.
    Pieces(PathBuf),
    /// A vocabulary in GGUF.
    Gguf(PathBuf),
}

/// Names of SentencePiece models.
const PIECES: [&str; 6] =
    ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "spm.model", "source.spm"];

/// What lies in `dir`, the most complete first.
pub(super) fn inside(dir: &Path) -> Option<Source> {
    let file = |name: &str| Some(dir.join(name)).filter(|p| p.exists());
    if let Some(json) = file("tokenizer.json") {
        return Some(Source::Json(json));
    }
    if let (Some(vocab), Some(merges)) = (file("vocab.json"), file("merges.txt")) {
        return Some(Source::Merges(vocab, merges));
    }
    if let Some(pieces) = PIECES.iter().find_map(|n| file(n)) {
        return Some(Source::Pieces(pieces));
    }
    file("vocab.txt").map(Source::Words)
}

/// The source that `path` names: a file, a folder, or an entry of the Hugging Face cache; and the folder whose other
/// files say more about it.
pub(super) fn find(path: &Path) -> Result<(Source, Option<PathBuf>)> {
    if !path.is_dir() {
        let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
        let beside = |other: &str| path.with_file_name(other);
        let dir = path.parent().map(|d| if d.as_os_str().is_empty() { PathBuf::from(".") } else { d.to_path_buf() });
        return Ok(match name.as_str() {
            _ if recognise::is_gguf(path) => (Source::Gguf(path.to_path_buf()), None),
            "vocab.json" if beside("merges.txt").exists() => {
                (Source::Merges(path.to_path_buf(), beside("merges.txt")), dir)
            }
            "merges.txt" if beside("vocab.json").exists() => {
                (Source::Merges(beside("vocab.json"), path.to_path_buf()), dir)
            }
            n if n.ends_with(".model") || n.ends_with(".spm") => (Source::Pieces(path.to_path_buf()), dir),
            n if n.ends_with("vocab.txt") => (Source::Words(path.to_path_buf()), dir),
            // A file that is given itself is read as it stands.
            _ => (Source::Json(path.to_path_buf()), None),
        });
    }
    let dir = hub::snapshot(path, &|d| inside(d).is_some()).filter(|_| inside(path).is_none());
    let dir = dir.unwrap_or_else(|| path.to_path_buf());
    if let Some(source) = inside(&dir) {
        return Ok((source, Some(dir)));
    }
    match crate::weights::hf_dir::gguf(&dir) {
        Ok(Some(files)) => Ok((Source::Gguf(files[0].clone()), None)),
        Err(e) => Err(e),
        Ok(None) => Err(nothing(&dir)),
    }
}

/// The error for a folder without a tokenizer.
fn nothing(dir: &Path) -> Error {
    let has = |name: &str| dir.join(name).exists();
    let other = [
        ("tekken.json", "Mistral's tekken.json"),
        ("qwen.tiktoken", "a tiktoken vocabulary (qwen.tiktoken)"),
        ("vocab.json", "a vocab.json without its merges.txt"),
        ("merges.txt", "a merges.txt without its vocab.json"),
        ("bpe.codes", "fastBPE codes (bpe.codes)"),
    ];
    if let Some((_, what)) = other.iter().find(|o| has(o.0)) {
        let remedy =
            "get the model's tokenizer.json, or make it with AutoTokenizer.from_pretrained(…).save_pretrained(…)";
        return Error::file(dir, format!("the folder holds {what}, of which no tokenizer can be made"), remedy);
    }
    if let Some(e) = hub::cache(dir) {
        return e;
    }
    let what = "the folder has no tokenizer (tokenizer.json, vocab.json with merges.txt, vocab.txt, or a .model file)";
    Error::file(dir, what, "choose the folder or the file of a tokenizer")
}

/// What the files beside a tokenizer say.
#[derive(Default)]
pub(super) struct Beside {
    /// `tokenizer_config.json`.
    config: Map<String, Value>,
    /// `model_type` of `config.json`.
    model: String,
    /// Tokens that are added, by id: `added_tokens_decoder`, or `added_tokens.json`.
    tokens: Vec<(u32, Value)>,
    /// `special_tokens_map.json`, where the configuration is silent.
    map: Map<String, Value>,
}

impl Beside {
    /// Whether what fills a text up stands before it: `padding_side`, or what its class says.
    pub fn pads_before(&self) -> bool {
        let word = |key: &str| self.config.get(key).and_then(Value::as_str);
        word("padding_side").map_or(word("tokenizer_class") == Some("Siglip2Tokenizer"), |side| side == "left")
    }

    /// `model_max_length`, where it is one, and `pad_token`.
    pub fn padding(&self) -> Option<(usize, String)> {
        let length = self.config.get("model_max_length")?.as_u64().filter(|n| (1..=1 << 20).contains(n))?;
        let token = self.config.get("pad_token")?;
        let token = token.as_str().or_else(|| token.get("content")?.as_str())?;
        Some((length as usize, token.to_string()))
    }

    /// Reads what lies in `dir`. Errors: a file that is no JSON object.
    pub fn read(dir: &Path) -> Result<Self> {
        let object = |name: &str| -> Result<Map<String, Value>> {
            let path = dir.join(name);
            if !path.exists() {
                return Ok(Map::new());
            }
            match read_json(&path)? {
                Value::Object(map) => Ok(map),
                _ => Err(Error::file(path, "not a JSON object", "get the model's own one, or remove it")),
            }
        };
        let config = object("tokenizer_config.json")?;
        // What is wrong with the model's configuration is said where it is opened.
        let model = object("config.json").unwrap_or_default();
        let model = model.get("model_type").and_then(Value::as_str).unwrap_or_default().to_string();
        let mut tokens: Vec<(u32, Value)> = match config.get("added_tokens_decoder").and_then(Value::as_object) {
            Some(list) => list.iter().filter_map(|(id, t)| Some((id.parse().ok()?, t.clone()))).collect(),
            None => object("added_tokens.json")?
                .into_iter()
                .filter_map(|(t, id)| Some((u32::try_from(id.as_u64()?).ok()?, Value::String(t))))
                .collect(),
        };
        tokens.sort_by_key(|t| t.0);
        Ok(Self { map: object("special_tokens_map.json")?, config, model, tokens })
    }

    /// A value of the configuration that is not null.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.config.get(key).filter(|v| !v.is_null())
    }

    /// A flag, where the configuration has it.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.value(key)?.as_bool()
    }

    /// A special token, such as `bos_token`, as it is spelled.
    pub fn token(&self, key: &str) -> Option<&str> {
        spelled(self.value(key).or_else(|| self.map.get(key))?)
    }

    /// Whether the class of the tokenizer, or the model where no class is named, is one of `names`.
    pub fn is(&self, names: &[&str]) -> bool {
        let class = self.value("tokenizer_class").and_then(Value::as_str).unwrap_or_default().to_lowercase();
        let own = class.trim_end_matches("fast").trim_end_matches("tokenizer");
        let model = self.model.replace(['-', '_'], "");
        names.iter().any(|n| if own.is_empty() || own == "pretrained" { model == *n } else { own == *n })
    }

    /// The tokens that AutoTokenizer adds to a vocabulary: those of `added_tokens_decoder`, then special tokens that are
    /// only named. Each with its id, where one is said.
    pub fn added(&self) -> Vec<(Option<u32>, Value)> {
        let mut out: Vec<(Option<u32>, Value)> = self.tokens.iter().map(|(id, t)| (Some(*id), t.clone())).collect();
        let keys = [
            "bos_token",
            "eos_token",
            "unk_token",
            "sep_token",
            "pad_token",
            "cls_token",
            "mask_token",
            "additional_special_tokens",
            "extra_special_tokens",
        ];
        let special: Vec<&str> = keys.iter().filter_map(|k| self.token(k)).collect();
        for (_, t) in &mut out {
            let named = spelled(t).is_some_and(|s| special.contains(&s));
            match t {
                Value::Object(t) if named => drop(t.insert("special".into(), Value::Bool(true))),
                Value::String(s) => *t = json!({ "content": s, "special": named, "normalized": !named }),
                _ => {}
            }
        }
        for key in keys {
            let lists = self.value(key).or_else(|| self.map.get(key));
            let each: Vec<&Value> = match lists {
                Some(Value::Array(list)) => list.iter().collect(),
                Some(Value::Object(map)) if !map.contains_key("content") => map.values().collect(),
                other => other.into_iter().collect(),
            };
            for t in each {
                let Some(text) = spelled(t).filter(|s| !s.is_empty()) else { continue };
                if !out.iter().any(|o| spelled(&o.1) == Some(text)) {
                    let mut own = match t {
                        Value::Object(o) => Value::Object(o.clone()),
                        _ => json!({ "content": text, "normalized": false }),
                    };
                    own["special"] = Value::Bool(true);
                    out.push((None, own));
                }
            }
        }
        out
    }
}

/// The text of a token that is written as such or as an object.
pub(super) fn spelled(t: &Value) -> Option<&str> {
    t.as_str().or_else(|| t.get("content")?.as_str())
}

/// The `tokenizer.json` that `source` would have.
///
/// Errors: damaged files, vocabularies that are not of a kind known here.
pub(super) fn build(source: &Source, beside: &Beside) -> Result<Value> {
    match source {
        Source::Merges(vocab, merges) => from_merges(vocab, merges, beside),
        Source::Words(path) => from_words(path, beside),
        Source::Pieces(path) => sentence_piece::build(path, beside),
        Source::Json(path) | Source::Gguf(path) => {
            Err(Error::file(path, "no vocabulary to build from", "choose another"))
        }
    }
}

/// The special tokens of a class that stand in its vocabulary, as added tokens: they are found in texts.
fn special_of(vocab: &Map<String, Value>, names: &[&str], beside: &Beside) -> Value {
    // What the configuration spells out itself is added from there, with its own ways to be found.
    let said = beside.added();
    let names = names.iter().filter(|n| !said.iter().any(|t| spelled(&t.1) == Some(**n)));
    let id = |t: &str| vocab.get(t).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    names.filter_map(|t| Some(recipe::added(id(t)?, t, true))).collect()
}

/// Puts the parts of a tokenizer together.
pub(super) fn assemble(
    normalizer: Value,
    pre_tokenizer: Value,
    model: Value,
    post_processor: Value,
    decoder: Value,
) -> Value {
    json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": decoder, "model": model })
}

fn from_merges(vocab_file: &Path, merges_file: &Path, beside: &Beside) -> Result<Value> {
    let Value::Object(vocab) = read_json(vocab_file)? else {
        return Err(Error::file(vocab_file, "not an object of words with their ids", "get the model's own vocab.json"));
    };
    let mut merges = Vec::new();
    for (n, line) in text(merges_file)?.lines().enumerate() {
        if line.is_empty() || n == 0 && line.starts_with("#version") {
            continue;
        }
        match line.split_once(' ') {
            Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains(' ') => merges.push(json!([a, b])),
            _ => {
                let what = format!("line {} is not a pair of pieces: {line:?}", n + 1);
                return Err(Error::file(merges_file, what, "get the model's own merges.txt"));
            }
        }
    }
    let id = |token: &str| vocab.get(token).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let special = |key: &str, default: &str| {
        let t = beside.token(key).unwrap_or(default).to_string();
        id(&t).map(|id| (t, id))
    };
    let prefix = beside.flag("add_prefix_space").unwrap_or(false);
    let words_end = vocab.keys().any(|t| t.ends_with("</w>"));
    let bytes = vocab.keys().any(|t| t.contains('Ġ') || t.contains('Ċ'));
    if words_end && (bytes || beside.is(&["clip", "cliptextmodel"])) {
        let (bos, eos) = (special("bos_token", "<|startoftext|>"), special("eos_token", "<|endoftext|>"));
        let own = special_of(&vocab, &["<|startoftext|>", "<|endoftext|>"], beside);
        return Ok(with_added(clip(vocab, merges, bos, eos), own));
    }
    if !bytes {
        let what = "this vocabulary of pairs is not of bytes, and is read only as a tokenizer.json";
        let remedy = "make it with AutoTokenizer.from_pretrained(…).save_pretrained(…) in Python";
        return Err(Error::file(vocab_file, what, remedy));
    }
    let model = recipe::bpe(vocab.clone(), merges, false);
    let decoder = recipe::byte_level(true, true);
    if beside.is(&["qwen2", "qwen3", "qwen2vl", "qwen25vl", "qwen2moe", "qwen3moe"]) {
        let pre = recipe::by_patterns(&[recipe::QWEN2]);
        let own = special_of(&vocab, &["<|endoftext|>"], beside);
        return Ok(with_added(assemble(json!({ "type": "NFC" }), pre, model, Value::Null, decoder), own));
    }
    let pre = recipe::byte_level(true, prefix);
    let pairs = ["roberta", "longformer", "bart", "led", "mvp", "xlmrobertaxl", "blenderbot"];
    let post = if beside.is(&pairs) {
        let (cls, sep) = (special("cls_token", "<s>"), special("sep_token", "</s>"));
        match (cls, sep) {
            (Some(cls), Some(sep)) => json!({ "type": "RobertaProcessing", "sep": sep, "cls": cls,
                "trim_offsets": beside.flag("trim_offsets").unwrap_or(true), "add_prefix_space": prefix }),
            _ => Value::Null,
        }
    } else {
        let opt = beside.model == "opt";
        let with = |flag: &str, key: &str, default: bool| {
            special(key, "<|endoftext|>").filter(|_| beside.flag(flag).unwrap_or(default))
        };
        recipe::around(with("add_bos_token", "bos_token", opt), with("add_eos_token", "eos_token", false))
    };
    let own = match beside.is(&pairs) {
        true => special_of(&vocab, &["<s>", "<pad>", "</s>", "<unk>", "<mask>"], beside),
        false => special_of(&vocab, &["<|endoftext|>"], beside),
    };
    Ok(with_added(assemble(Value::Null, pre, model, post, decoder), own))
}

/// The same with added tokens.
fn with_added(mut json: Value, added: Value) -> Value {
    json["added_tokens"] = added;
    json
}

/// CLIP: small letters, pieces that say where words end.
fn clip(
    vocab: Map<String, Value>,
    merges: Vec<Value>,
    bos: Option<recipe::Special>,
    eos: Option<recipe::Special>,
) -> Value {
    let normalizer = json!({ "type": "Sequence", "normalizers": [
        { "type": "NFC" },
        { "type": "Replace", "pattern": { "Regex": "\\s+" }, "content": " " },
        { "type": "Lowercase" },
    ] });
    let pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let pre = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Removed", "invert": true },
        recipe::byte_level(true, false),
    ] });
    let mut model = recipe::bpe(vocab, merges, false);
    model["end_of_word_suffix"] = json!("</w>");
    model["unk_token"] = json!(eos.as_ref().map(|e| &e.0));
    let post = match (bos, eos) {
        (Some(bos), Some(eos)) => json!({ "type": "RobertaProcessing", "sep": eos, "cls": bos,
            "trim_offsets": false, "add_prefix_space": false }),
        _ => Value::Null,
    };
    let decoder = json!({ "type": "Sequence", "decoders": [
        recipe::byte_level(true, true),
        { "type": "Replace", "pattern": { "String": "</w>" }, "content": " " },
    ] });
    assemble(normalizer, pre, model, post, decoder)
}

/// A list of words, one a line, as BERT's WordPiece has it.
fn from_words(path: &Path, beside: &Beside) -> Result<Value> {
    if beside.is(&["esm", "bertweet", "phobert", "bertjapanese", "cpmant"]) {
        let what = "the vocab.txt of this class of tokenizers is not read";
        return Err(Error::file(path, what, "get the model's tokenizer.json"));
    }
    let text = text(path)?;
    let mut vocab = Map::new();
    for (id, word) in text.lines().enumerate() {
        // A word that stands twice has its last id, as in the reference.
        vocab.insert(word.trim_end_matches('\r').to_string(), json!(id));
    }
    let id = |t: &str| vocab.get(t).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let mpnet = beside.is(&["mpnet"]);
    let special = |key: &str, default: &str| {
        let t = beside.token(key).unwrap_or(default).to_string();
        id(&t).map(|id| (t, id))
    };
    let cls = special("cls_token", if mpnet { "<s>" } else { "[CLS]" });
    let sep = special("sep_token", if mpnet { "</s>" } else { "[SEP]" });
    let unknown = special("unk_token", "[UNK]");
    let Some((unknown, _)) = unknown else {
        let what = "the list has no [UNK], so it is no vocabulary of WordPiece";
        return Err(Error::file(path, what, "choose the tokenizer's own files"));
    };
    let normalizer = json!({ "type": "BertNormalizer", "clean_text": true,
        "handle_chinese_chars": beside.flag("tokenize_chinese_chars").unwrap_or(true),
        "strip_accents": beside.flag("strip_accents"),
        "lowercase": beside.flag("do_lower_case").unwrap_or(true) });
    let model = json!({ "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": vocab.clone() });
    let post = match (&cls, &sep) {
        (Some(c), Some(s)) => {
            let single = recipe::Template::new(0).some(&cls).text("A").some(&sep).0;
            let second = recipe::Template::new(1).text("B").some(&sep).0;
            recipe::template(single.clone(), [single, second].concat(), [c, s].into_iter())
        }
        _ => Value::Null,
    };
    let decoder = json!({ "type": "WordPiece", "prefix": "##", "cleanup": true });
    let names: &[&str] = match mpnet {
        true => &["<s>", "<pad>", "</s>", "[UNK]", "<mask>"],
        false => &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    };
    let own = special_of(&vocab, names, beside);
    Ok(with_added(assemble(normalizer, json!({ "type": "BertPreTokenizer" }), model, post, decoder), own))
}

/// The text of a list.
fn text(path: &Path) -> Result<String> {
    let bytes = read_bounded(path, MAX_LIST)?;
    if let Some(e) = recognise::strange(path) {
        return Err(e);
    }
    crate::utf::text(bytes).map_err(|what| Error::file(path, what, "get the model's own file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
        dir
    }

    #[test]
    fn what_is_added_comes_from_the_decoder_then_from_names() {
        let dir = folder(&[
            (
                "tokenizer_config.json",
                r#"{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": true},
                    "additional_special_tokens": ["<a>"],
                    "added_tokens_decoder": {"9": {"content": "<s>"}, "7": {"content": "x", "special": false}}}"#,
            ),
            ("special_tokens_map.json", r#"{"pad_token": "<pad>", "bos_token": "other"}"#),
            ("added_tokens.json", r#"{"never": 3}"#),
        ]);
        let b = Beside::read(dir.path()).unwrap();
        let added = b.added();
        let got: Vec<_> =
            added.iter().map(|(id, t)| (*id, spelled(t).unwrap(), t["special"].as_bool().unwrap())).collect();
        let want = [
            (Some(7), "x", false),
            (Some(9), "<s>", true),
            (None, "</s>", true),
            (None, "<pad>", true),
            (None, "<a>", true),
        ];
        assert_eq!(got, want);
        assert_eq!(added[2].1["lstrip"], true);
    }

    #[test]
    fn classes_are_known_by_name_or_by_the_model() {
        let class = |json: &str| Beside { config: serde_json::from_str(json).unwrap(), ..Beside::default() };
        assert!(class(r#"{"tokenizer_class": "BertTokenizerFast"}"#).is(&["bert"]));
        assert!(!class(r#"{"tokenizer_class": "RobertaTokenizer"}"#).is(&["bert"]));
        assert!(Beside { model: "xlm-roberta".into(), ..Beside::default() }.is(&["xlmroberta"]));
    }

    #[test]
    fn folders_give_the_most_complete_source() {
        let files = ["vocab.txt", "tokenizer.model", "vocab.json", "merges.txt", "tokenizer.json"];
        let dir = folder(&[]);
        let found = |name: &str| {
            std::fs::write(dir.path().join(name), "").unwrap();
            inside(dir.path())
        };
        let at = |n: &str| dir.path().join(n);
        let got = files.map(found);
        assert_eq!(got[0], Some(Source::Words(at("vocab.txt"))));
        assert_eq!(got[1], Some(Source::Pieces(at("tokenizer.model"))));
        assert_eq!(got[3], Some(Source::Merges(at("vocab.json"), at("merges.txt"))));
        assert_eq!(got[4], Some(Source::Json(at("tokenizer.json"))));
    }
}
