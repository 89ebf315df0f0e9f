//! SentencePiece models (`tokenizer.model`, `spiece.model`), rebuilt as the `tokenizer.json` that they would have.
//!
//! A model is a message of protocol buffers (`sentencepiece_model.proto`); only the fields that matter are read.

use super::apply::LLAMA;
use super::folder::{Beside, assemble};
use super::recipe::{self, Special};
use crate::weights::{read_bounded, recognise};
use crate::{Error, Result};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The largest model that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Kinds of pieces.
const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER: u64 = 4;

/// A value of a message: a number, or bytes.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message: number and value of each, in order.
struct Message<'a>(&'a [u8]);

impl<'a> Iterator for Message<'a> {
    type Item = std::result::Result<(u64, Field<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.field().ok_or_else(|| "it ends in the middle of a value".to_string()))
    }
}

impl<'a> Message<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut out = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            out |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(out);
            }
        }
        None
    }

    fn take(&mut self, n: u64) -> Option<&'a [u8]> {
        let (own, rest) = self.0.split_at_checked(usize::try_from(n).ok()?)?;
        self.0 = rest;
        Some(own)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.varint();
        let value = key.and_then(|key| match key & 7 {
            0 => self.varint().map(Field::Number),
            1 => self.take(8).map(Field::Bytes),
            2 => self.varint().and_then(|n| self.take(n)).map(Field::Bytes),
            5 => self.take(4).map(Field::Bytes),
            _ => None,
        });
        if value.is_none() {
            self.0 = &[];
        }
        Some((key? >> 3, value?))
    }
}

/// What a model says.
#[derive(Debug, Default, PartialEq)]
struct Model {
    pieces: Vec<String>,
    scores: Vec<f64>,
    kinds: Vec<u64>,
    /// 1 is unigram, 2 byte pairs, 3 words, 4 characters.
    algorithm: u64,
    byte_fallback: bool,
    unknown: usize,
    bos: Option<usize>,
    eos: Option<usize>,
    charsmap: Vec<u8>,
    prefix: bool,
    squeeze: bool,
    escape: bool,
}

type Parsed<T> = std::result::Result<T, String>;

impl Model {
    fn parse(bytes: &[u8]) -> Parsed<Self> {
        let mut m = Self {
            algorithm: 1,
            bos: Some(1),
            eos: Some(2),
            prefix: true,
            squeeze: true,
            escape: true,
            ..Self::default()
        };
        for field in Message(bytes) {
            match field? {
                (1, Field::Bytes(piece)) => m.piece(piece)?,
                (2, Field::Bytes(trainer)) => {
                    for field in Message(trainer) {
                        // Ids are 32-bit numbers; none is -1.
                        let id = |n: u64| usize::try_from(n as i32).ok();
                        match field? {
                            (3, Field::Number(n)) => m.algorithm = n,
                            (35, Field::Number(n)) => m.byte_fallback = n != 0,
                            (40, Field::Number(n)) => m.unknown = id(n).unwrap_or(0),
                            (41, Field::Number(n)) => m.bos = id(n),
                            (42, Field::Number(n)) => m.eos = id(n),
                            _ => {}
                        }
                    }
                }
                (3, Field::Bytes(normalizer)) => {
                    for field in Message(normalizer) {
                        match field? {
                            (2, Field::Bytes(map)) => m.charsmap = map.to_vec(),
                            (3, Field::Number(n)) => m.prefix = n != 0,
                            (4, Field::Number(n)) => m.squeeze = n != 0,
                            (5, Field::Number(n)) => m.escape = n != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if m.pieces.is_empty() {
            return Err("it has no pieces".into());
        }
        Ok(m)
    }

    fn piece(&mut self, bytes: &[u8]) -> Parsed<()> {
        let (mut text, mut score, mut kind) = (String::new(), 0.0, NORMAL);
        for field in Message(bytes) {
            match field? {
                (1, Field::Bytes(t)) => text = String::from_utf8_lossy(t).into_owned(),
                (2, Field::Bytes(s)) => {
                    score = f64::from(f32::from_le_bytes(s.try_into().map_err(|_| "a score is no number")?))
                }
                (3, Field::Number(k)) => kind = k,
                _ => {}
            }
        }
        self.pieces.push(text);
        self.scores.push(score);
        self.kinds.push(kind);
        Ok(())
    }

    /// Puts `first` in the place of the first `instead_of` pieces, and `last` behind all: how some models count.
    fn renumber(&mut self, first: &[&str], instead_of: usize, last: &[String], unknown: usize) {
        let n = instead_of.min(self.pieces.len());
        let put = |at: std::ops::Range<usize>, new: &[String], m: &mut Self| {
            m.scores.splice(at.clone(), vec![0.0; new.len()]);
            m.kinds.splice(at.clone(), vec![CONTROL; new.len()]);
            m.pieces.splice(at, new.iter().cloned());
        };
        put(0..n, &first.iter().map(ToString::to_string).collect::<Vec<_>>(), self);
        let end = self.pieces.len();
        put(end..end, last, self);
        self.unknown = unknown;
        if let Some(kind) = self.kinds.get_mut(unknown) {
            *kind = UNKNOWN;
        }
    }

    /// What cuts out the pieces that the user defined: they are tokens wherever they stand.
    fn own_pattern(&self) -> Option<Value> {
        let mut own: Vec<&String> = (0..self.pieces.len())
            .filter(|&i| self.kinds[i] == USER && !self.pieces[i].is_empty())
            .map(|i| &self.pieces[i])
            .collect();
        own.sort_by_key(|p| std::cmp::Reverse(p.len()));
        let literal = |p: &&String| {
            p.chars()
                .map(|c| if c.is_alphanumeric() { c.to_string() } else { format!("\\x{{{:X}}}", u32::from(c)) })
                .collect::<String>()
        };
        let pattern = own.iter().map(literal).collect::<Vec<_>>().join("|");
        (!own.is_empty()).then(
            || json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false }),
        )
    }

    fn id(&self, piece: &str) -> Option<Special> {
        let at = self.pieces.iter().position(|p| p == piece)?;
        Some((piece.to_string(), u32::try_from(at).ok()?))
    }
}

/// The `tokenizer.json` of the model at `path`. Errors: damaged files, models of words or characters.
pub(super) fn build(path: &Path, beside: &Beside) -> Result<Value> {
    let bytes = read_bounded(path, MAX_BYTES)?;
    let damaged = |what: String| {
        recognise::strange(path).unwrap_or_else(|| {
            Error::file(path, format!("not a SentencePiece model: {what}"), "get the tokenizer's own file again")
        })
    };
    if is_ranks(&bytes) {
        let what = "this is a tiktoken vocabulary (as of Llama 3) and no SentencePiece model; it is not read";
        return Err(Error::file(path, what, "get the model's tokenizer.json"));
    }
    let m = Model::parse(&bytes).map_err(damaged)?;
    if !matches!(m.algorithm, 1 | 2) {
        let what = "this SentencePiece model is one of words or characters, which is not read";
        return Err(Error::file(path, what, "choose a unigram or BPE model"));
    }
    Ok(json_of(m, beside))
}

/// Whether these are lines of base 64 and a number.
fn is_ranks(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let text = std::str::from_utf8(line).ok().and_then(|l| l.trim_end().split_once(' '));
    text.is_some_and(|(a, b)| {
        let letters = a.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
        !a.is_empty() && letters && b.parse::<u32>().is_ok()
    })
}

fn json_of(mut m: Model, beside: &Beside) -> Value {
    let fairseq = beside.is(&["xlmroberta", "mbart", "mbart50", "nllb"]);
    let camembert = beside.is(&["camembert"]);
    let t5 = beside.is(&["t5", "mt5", "umt5"]);
    let albert = beside.is(&["albert"]);
    if fairseq {
        m.renumber(&["<s>", "<pad>", "</s>", "<unk>"], 3, &["<mask>".into()], 3);
    } else if camembert {
        let first = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"];
        m.renumber(&first, 3, &["<mask>".into()], 3);
    } else if t5 {
        let n = beside.value("extra_ids").and_then(Value::as_u64).unwrap_or(100).min(1000);
        let last: Vec<String> = (0..n).rev().map(|i| format!("<extra_id_{i}>")).collect();
        let unknown = m.unknown;
        m.renumber(&[], 0, &last, unknown);
    }
    let llama = beside.is(LLAMA);
    let gemma = beside.is(&["gemma", "gemma2", "gemma3text"]);
    // Words of these classes are found by spaces alone, whatever the model says of them.
    let by_words = fairseq || camembert || t5 || albert;
    let prefix = beside.flag("add_prefix_space").unwrap_or(m.prefix && !gemma);
    let scheme = match (prefix, beside.flag("legacy").unwrap_or(!llama)) {
        (false, _) => "never",
        (true, true) => "always",
        (true, false) => "first",
    };
    let replace = |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
    let mut steps = Vec::new();
    if albert {
        steps.push(replace(json!({ "String": "``" }), "\""));
        steps.push(replace(json!({ "String": "''" }), "\""));
        if !beside.flag("keep_accents").unwrap_or(false) {
            steps.extend([json!({ "type": "NFKD" }), json!({ "type": "StripAccents" })]);
        }
        if beside.flag("do_lower_case").unwrap_or(true) {
            steps.push(json!({ "type": "Lowercase" }));
        }
    }
    // These classes take letters as they come, whatever the model says of them.
    if !m.charsmap.is_empty() && !llama {
        steps.push(json!({ "type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(&m.charsmap) }));
    }
    let metaspace =
        |split: bool| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split });
    let pre = if by_words {
        json!({ "type": "Sequence", "pretokenizers": [{ "type": "WhitespaceSplit" }, metaspace(true)] })
    } else {
        if m.squeeze && !llama {
            steps.push(replace(json!({ "Regex": r"\A +| +\z" }), ""));
            steps.push(replace(json!({ "Regex": " {2,}" }), " "));
        }
        if m.escape {
            steps.push(replace(json!({ "String": " " }), "▁"));
        }
        if scheme == "always" {
            // The crate puts no space before a text that begins with one; SentencePiece does.
            steps.push(replace(json!({ "Regex": r"\A▁" }), "▁▁"));
        }
        match m.own_pattern() {
            Some(own) => json!({ "type": "Sequence", "pretokenizers": [metaspace(false), own] }),
            None => metaspace(false),
        }
    };
    let normalizer = if steps.is_empty() { Value::Null } else { json!({ "type": "Sequence", "normalizers": steps }) };
    let mut undo = vec![replace(json!({ "String": "▁" }), " ")];
    if m.byte_fallback {
        undo.push(json!({ "type": "ByteFallback" }));
    }
    undo.push(json!({ "type": "Fuse" }));
    if prefix {
        undo.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let decoder = json!({ "type": "Sequence", "decoders": undo });
    let added: Vec<Value> = (0..m.pieces.len())
        .filter(|&i| matches!(m.kinds[i], UNKNOWN | CONTROL) || by_words && m.kinds[i] == USER)
        .map(|i| recipe::added(i as u32, &m.pieces[i], m.kinds[i] != USER))
        .collect();
    let post = post_processor(&m, beside, by_words);
    let model = if m.algorithm == 1 {
        let vocab: Vec<Value> = m.pieces.iter().zip(&m.scores).map(|(p, s)| json!([p, s])).collect();
        json!({ "type": "Unigram", "unk_id": m.unknown, "vocab": vocab, "byte_fallback": m.byte_fallback })
    } else {
        let tokens: Vec<&str> = m.pieces.iter().map(String::as_str).collect();
        let merges = recipe::merges_by_score(&tokens, &m.scores, &|i| m.kinds[i] == NORMAL);
        let mut vocab = Map::new();
        for (i, t) in tokens.iter().enumerate() {
            vocab.entry(t.to_string()).or_insert(json!(i));
        }
        let mut model = recipe::bpe(vocab, merges, m.kinds.contains(&USER));
        model["unk_token"] = json!(m.pieces.get(m.unknown));
        model["fuse_unk"] = json!(true);
        model["byte_fallback"] = json!(m.byte_fallback);
        model
    };
    let mut out = assemble(normalizer, pre, model, post, decoder);
    out["added_tokens"] = Value::Array(added);
    out
}

/// What the class of the tokenizer puts around a text.
fn post_processor(m: &Model, beside: &Beside, by_words: bool) -> Value {
    let named = |key: &str, default: &str| m.id(beside.token(key).unwrap_or(default));
    if by_words && !beside.is(&["t5", "mt5", "umt5"]) {
        let albert = beside.is(&["albert"]);
        let cls = named("cls_token", if albert { "[CLS]" } else { "<s>" });
        let sep = named("sep_token", if albert { "[SEP]" } else { "</s>" });
        let (Some(c), Some(s)) = (&cls, &sep) else { return Value::Null };
        let single = recipe::Template::new(0).some(&cls).text("A").some(&sep).0;
        let second = match albert {
            true => recipe::Template::new(1).text("B").some(&sep).0,
            false => recipe::Template::new(0).some(&sep).text("B").some(&sep).0,
        };
        return recipe::template(single.clone(), [single, second].concat(), [c, s].into_iter());
    }
    let of_id = |id: Option<usize>, key: &str| {
        let own = id.and_then(|i| m.pieces.get(i)).map(String::as_str);
        m.id(beside.token(key).or(own).unwrap_or_default())
    };
    let bos = of_id(m.bos, "bos_token").filter(|_| beside.flag("add_bos_token").unwrap_or(false));
    let eos = of_id(m.eos, "eos_token").filter(|_| beside.flag("add_eos_token").unwrap_or(by_words));
    recipe::around(bos, eos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while n >= 128 {
            out.push(n as u8 | 128);
            n >>= 7;
        }
        out.push(n as u8);
        out
    }

    fn bytes(field: u64, b: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(b.len() as u64), b.to_vec()].concat()
    }

    fn number(field: u64, n: u64) -> Vec<u8> {
        [varint(field << 3), varint(n)].concat()
    }

    fn piece(text: &str, score: f32, kind: u64) -> Vec<u8> {
        let score = [varint(2 << 3 | 5), score.to_le_bytes().to_vec()].concat();
        bytes(1, &[bytes(1, text.as_bytes()), score, number(3, kind)].concat())
    }

    fn model(algorithm: u64) -> Vec<u8> {
        let pieces = [
            piece("<unk>", 0.0, UNKNOWN),
            piece("<s>", 0.0, CONTROL),
            piece("</s>", 0.0, CONTROL),
            piece("▁", -1.0, NORMAL),
            piece("a", -2.0, NORMAL),
            piece("b", -3.0, NORMAL),
            piece("ab", -1.5, NORMAL),
            piece("▁ab", -1.0, NORMAL),
            piece("<u.>", 0.0, USER),
        ];
        let trainer = [number(3, algorithm), number(40, 0), number(41, 1), number(42, u64::from(u32::MAX))].concat();
        [pieces.concat(), bytes(2, &trainer), bytes(3, &number(4, 1))].concat()
    }

    #[test]
    fn a_model_is_read_field_by_field() {
        let m = Model::parse(&model(2)).unwrap();
        assert_eq!((m.pieces.len(), m.scores[4], m.kinds[0], m.algorithm), (9, -2.0, UNKNOWN, 2));
        assert_eq!((m.unknown, m.bos, m.eos, m.squeeze), (0, Some(1), None, true));
        for cut in 1..model(2).len() {
            let _ = Model::parse(&model(2)[..cut]);
        }
        assert!(Model::parse(&[0x0a, 0xff]).is_err() && Model::parse(&[]).is_err());
        assert!(is_ranks(b"IQ== 0\nIg== 1\n") && !is_ranks(&model(1)));
    }

    #[test]
    fn both_algorithms_cut() {
        let beside = Beside::default();
        for algorithm in [1, 2] {
            let json = json_of(Model::parse(&model(algorithm)).unwrap(), &beside);
            let t = super::super::hf::from_bytes(json.to_string().as_bytes()).unwrap();
            let e = t.encode("ab  aab</s>", true).unwrap();
            assert_eq!(e.get_ids(), [7, 3, 4, 6, 2], "{algorithm}");
            // A piece of the user's own is cut out where it stands, behind the space before the text.
            assert_eq!(t.encode("<u.>ab <u.>", true).unwrap().get_ids(), [3, 8, 6, 3, 8], "{algorithm}");
            assert_eq!(t.decode(&[7, 3, 4, 6], true).unwrap(), "ab aab");
        }
    }
}
