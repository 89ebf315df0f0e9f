//! GGUF: header, metadata and tensor table of llama.cpp's format, checked before anything is believed, and what
//! they mean in Hugging Face's names.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian.

use super::ggml::Ggml;
use super::shard::Shard;
use super::{parts, recognise};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Meta {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Meta>),
}

impl Meta {
    pub fn text(&self) -> Option<&str> {
        if let Meta::Text(t) = self { Some(t) } else { None }
    }

    pub fn whole(&self) -> Option<u64> {
        match self {
            Meta::Unsigned(u) => Some(*u),
            Meta::Signed(i) => u64::try_from(*i).ok(),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Meta::Float(f) => Some(*f),
            Meta::Unsigned(u) => Some(*u as f64),
            Meta::Signed(i) => Some(*i as f64),
            _ => None,
        }
    }

    pub fn flag(&self) -> Option<bool> {
        if let Meta::Bool(b) = self { Some(*b) } else { None }
    }

    pub fn list(&self) -> Option<&[Meta]> {
        if let Meta::List(l) = self { Some(l) } else { None }
    }
}

/// One tensor of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub name: String,
    /// Outermost axis first, as everywhere else here; the file has it the other way round.
    pub shape: Vec<usize>,
    pub dtype: Ggml,
    /// Bytes `start..end` of the file; empty for types of unknown size.
    pub start: u64,
    pub end: u64,
}

/// What stands before the data.
#[derive(Debug)]
pub(crate) struct Header {
    pub meta: BTreeMap<String, Meta>,
    pub tensors: Vec<Entry>,
}

/// Lists in lists deeper than this are not read.
const MAX_DEPTH: usize = 4;

/// The largest header that is read, in bytes.
const MAX_HEADER: u64 = 1 << 30;

/// Values of all lists of a header: published ones stay below two million, and each takes tens of bytes here.
const MAX_ITEMS: usize = 1 << 24;

/// Why a header is not read.
#[derive(Debug, PartialEq)]
enum Fault {
    /// More bytes are needed than were read so far.
    Short,
    /// The file contradicts itself.
    Damaged(String),
    /// The file is of a form that is not read, with what helps.
    Unread(String, &'static str),
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Damaged(what)
    }
}

impl From<&str> for Fault {
    fn from(what: &str) -> Self {
        Self::Damaged(what.into())
    }
}

/// Reads the start of a file that is `len` bytes long.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    len: u64,
    /// Values of lists that may still come.
    items: usize,
}

type Parsed<T> = std::result::Result<T, Fault>;

impl<'a> Reader<'a> {
    /// Bytes that are left in the file.
    fn left(&self) -> u64 {
        self.len - self.at as u64
    }

    fn take(&mut self, n: usize) -> Parsed<&'a [u8]> {
        if n as u64 > self.left() {
            return Err(format!("the file ends at byte {}, in the middle of its header", self.len).into());
        }
        let out = self.bytes.get(self.at..self.at + n).ok_or(Fault::Short)?;
        self.at += n;
        Ok(out)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Parsed<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Parsed<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of things that take at least `size` bytes each, so that no claim outgrows the file.
    fn count(&mut self, size: u64, what: &str) -> Parsed<usize> {
        let n = self.u64()?;
        match usize::try_from(n) {
            Ok(own) if n <= self.left() / size => Ok(own),
            _ => Err(format!("the header claims {n} {what}, more than the file has room for").into()),
        }
    }

    /// Room for `n` things, but not for more than what was read can hold.
    fn room<T>(&self, n: usize) -> Vec<T> {
        Vec::with_capacity(n.min(self.bytes.len() - self.at))
    }

    fn text(&mut self) -> Parsed<String> {
        let n = self.count(1, "bytes of text")?;
        let bytes = self.take(n)?;
        // Vocabularies may hold pieces of characters; the rest is UTF-8.
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn value(&mut self, kind: u32, depth: usize) -> Parsed<Meta> {
        Ok(match kind {
            0 => Meta::Unsigned(self.array::<1>()?[0].into()),
            1 => Meta::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Meta::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Meta::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Meta::Unsigned(self.u32()?.into()),
            5 => Meta::Signed(i32::from_le_bytes(self.array()?).into()),
            6 => Meta::Float(f32::from_le_bytes(self.array()?).into()),
            7 => match self.array::<1>()?[0] {
                0 => Meta::Bool(false),
                1 => Meta::Bool(true),
                other => return Err(format!("a truth value is {other}").into()),
            },
            8 => Meta::Text(self.text()?),
            9 if depth < MAX_DEPTH => {
                let kind = self.u32()?;
                let size = match kind {
                    0 | 1 | 7 => 1,
                    2 | 3 => 2,
                    4..=6 => 4,
                    8 | 10..=12 => 8,
                    9 => 12,
                    other => return Err(format!("value type {other} is unknown").into()),
                };
                let n = self.count(size, "list items")?;
                let claims = format!("the header claims more than {MAX_ITEMS} list items");
                self.items = self.items.checked_sub(n).ok_or(claims)?;
                let mut list = self.room(n);
                for _ in 0..n {
                    list.push(self.value(kind, depth + 1)?);
                }
                Meta::List(list)
            }
            9 => return Err("lists are nested too deeply".into()),
            10 => Meta::Unsigned(self.u64()?),
            11 => Meta::Signed(i64::from_le_bytes(self.array()?)),
            12 => Meta::Float(f64::from_le_bytes(self.array()?)),
            other => return Err(format!("value type {other} is unknown").into()),
        })
    }
}

/// The header of a GGUF file. Errors name the file and what is wrong with it.
pub(crate) fn header(shard: &Shard) -> Result<Header> {
    let mut some = 1 << 20;
    loop {
        let bytes = shard.start(some)?;
        let damaged = |what: String| Error::file(&shard.path, format!("damaged GGUF: {what}"), "download it again");
        return match read(&bytes, shard.len) {
            Err(Fault::Short) if some < MAX_HEADER => {
                some = (some * 8).min(MAX_HEADER);
                continue;
            }
            Err(Fault::Short) => Err(damaged("the header is over 1 GB".into())),
            Err(Fault::Damaged(what)) => Err(recognise::strange(&shard.path).unwrap_or_else(|| damaged(what))),
            Err(Fault::Unread(what, remedy)) => Err(Error::file(&shard.path, what, remedy)),
            Ok(header) => Ok(header),
        };
    }
}

fn read(bytes: &[u8], len: u64) -> Parsed<Header> {
    let mut r = Reader { bytes, at: 0, len, items: MAX_ITEMS };
    if r.take(4).is_ok_and(|m| m != b"GGUF") || bytes.len() < 4 {
        return Err("it does not begin with GGUF".into());
    }
    match r.u32()? {
        2 | 3 => {}
        v if matches!(v.swap_bytes(), 1..=3) => {
            let what = "this GGUF file is big-endian; only little-endian files are read";
            return Err(Fault::Unread(what.into(), "convert it with gguf_convert_endian.py of llama.cpp"));
        }
        v => {
            let what = format!("this is version {v} of GGUF; versions 2 and 3 are read");
            return Err(Fault::Unread(what, "convert the model with a present llama.cpp"));
        }
    }
    let n_tensors = r.count(24, "tensors")?;
    let n_meta = r.count(13, "entries of metadata")?;
    let mut meta = BTreeMap::new();
    for _ in 0..n_meta {
        let key = r.text()?;
        let kind = r.u32()?;
        let value = r.value(kind, 0).map_err(|e| match e {
            Fault::Damaged(what) => Fault::Damaged(format!("{key}: {what}")),
            other => other,
        })?;
        if meta.insert(key.clone(), value).is_some() {
            return Err(format!("{key} stands in the metadata twice").into());
        }
    }
    let alignment = match meta.get("general.alignment") {
        None => 32,
        Some(v) => v
            .whole()
            .filter(|a| a.is_multiple_of(8) && (8..=1 << 20).contains(a))
            .ok_or("general.alignment is not a multiple of 8")?,
    };
    let mut tensors = r.room(n_tensors);
    let mut names = HashSet::new();
    for _ in 0..n_tensors {
        let name = r.text()?;
        let n_axes = r.u32()?;
        if n_axes == 0 || n_axes > 4 {
            return Err(format!("tensor {name} has {n_axes} axes").into());
        }
        let mut shape = Vec::new();
        for _ in 0..n_axes {
            shape.push(usize::try_from(r.u64()?).map_err(|_| format!("tensor {name} is too large"))?);
        }
        shape.reverse();
        let dtype = Ggml::of(r.u32()?);
        let offset = r.u64()?;
        if !names.insert(name.clone()) {
            return Err(format!("tensor {name} stands in the table twice").into());
        }
        tensors.push((name, shape, dtype, offset));
    }
    let data = (r.at as u64).next_multiple_of(alignment);
    let mut out = Vec::with_capacity(tensors.len());
    for (name, shape, dtype, offset) in tensors {
        let row = shape.last().copied().unwrap_or(0);
        let values = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s)).filter(|n| *n > 0);
        let values = values.ok_or_else(|| format!("tensor {name} has the shape {shape:?}"))?;
        let (mut block, mut size) = dtype.block().unwrap_or((1, 0));
        if !dtype.is_read() && !row.is_multiple_of(block) {
            // What is not read may be cut in ways that are not known here.
            (block, size) = (1, 0);
        }
        if !row.is_multiple_of(block) || !offset.is_multiple_of(alignment) {
            return Err(format!("tensor {name} does not fill whole blocks or is not aligned").into());
        }
        let span = ((values / block) as u64).checked_mul(size as u64).and_then(|size| {
            let start = data.checked_add(offset)?;
            Some((start, start.checked_add(size)?))
        });
        let (start, end) = span.ok_or_else(|| format!("tensor {name} is too large"))?;
        out.push(Entry { name, shape, dtype, start, end });
    }
    Ok(Header { meta, tensors: out })
}

/// The files of the set that `path` is a part of: by their names, or else by what their headers say.
///
/// Errors: parts that are not there.
pub(super) fn set(path: &Path) -> Result<Vec<PathBuf>> {
    if parts::Part::of(path).is_some() {
        return parts::set(path);
    }
    let number = |p: &Path| Some(header(&Shard::open(p).ok()?).ok()?.part()).flatten();
    let Some((own, of)) = number(path).filter(|p| p.1 > 1) else { return Ok(vec![path.to_path_buf()]) };
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found: BTreeMap<usize, PathBuf> = BTreeMap::from([(own, path.to_path_buf())]);
    for file in recognise::with_end(dir, ".gguf")? {
        if let Some((i, _)) = number(&file).filter(|p| p.1 == of && parts::Part::of(&file).is_none()) {
            found.entry(i).or_insert(file);
        }
    }
    if found.len() == of && found.keys().eq(&(0..of).collect::<Vec<_>>()) {
        return Ok(found.into_values().collect());
    }
    let missing: Vec<String> = (0..of).filter(|i| !found.contains_key(i)).map(|i| format!("part {}", i + 1)).collect();
    Err(parts::lacking(path, own + 1, of, &missing))
}

impl Header {
    /// Number from 0 and how many there are, if this is a file of a set.
    pub fn part(&self) -> Option<(usize, usize)> {
        let whole = |key: &str| usize::try_from(self.meta.get(key)?.whole()?).ok();
        let (number, of) = (whole("split.no")?, whole("split.count")?);
        (number < of && of <= 100_000).then_some((number, of))
    }

    /// Errors unless the data of all tensors lie in a file of `len` bytes, and apart from each other.
    pub fn check_extents(&self, path: &Path, len: u64) -> Result<()> {
        let damaged = |what: String| Error::file(path, format!("damaged GGUF: {what}"), "download it again");
        if let Some(t) = self.tensors.iter().find(|t| t.end > len) {
            return Err(damaged(format!("the data of tensor {} lies beyond the end of the file", t.name)));
        }
        let mut spans: Vec<(u64, u64)> = self.tensors.iter().map(|t| (t.start, t.end)).collect();
        spans.sort_unstable();
        if spans.windows(2).any(|w| w[0].1 > w[1].0) {
            return Err(damaged("the data of two tensors overlap".into()));
        }
        Ok(())
    }

    /// The architecture, e.g. `llama`.
    pub fn architecture(&self) -> Option<&str> {
        self.meta.get("general.architecture").and_then(Meta::text)
    }

    fn own(&self, key: &str) -> Option<&Meta> {
        self.meta.get(&format!("{}.{key}", self.architecture()?))
    }

    /// The configuration as a `config.json` would say it. `factors` are the values of `rope_freqs.weight`.
    ///
    /// Errors: an architecture outside the Llama family, missing or contradictory sizes.
    pub fn config(&self, path: &Path, factors: Option<&[f32]>) -> Result<Map<String, Value>> {
        let arch = self.architecture().unwrap_or("(the file names none)");
        let window = self.own("attention.sliding_window").and_then(Meta::whole).filter(|w| *w > 0);
        let kind = match arch {
            "llama" | "mistral" if window.is_some() => "mistral",
            "llama" | "mistral" => "llama",
            "qwen2" | "qwen3" => arch,
            _ => {
                let supported = "llama, mistral, qwen2, qwen3 (as GGUF)".to_string();
                return Err(Error::Architecture { path: path.to_path_buf(), name: arch.into(), supported });
            }
        };
        let bad =
            |what: String| Error::file(path, what, "open the model's original folder, or another conversion of it");
        let size = |key: &str| -> Result<u64> {
            let v = self.own(key).ok_or_else(|| bad(format!("the metadata has no {arch}.{key}")))?;
            // Some sizes may be lists with one number per layer; only equal ones are one model here.
            let n = match v {
                Meta::List(l) if l.windows(2).all(|w| w[0] == w[1]) => l.first().and_then(Meta::whole),
                v => v.whole(),
            };
            n.filter(|n| (1..=1 << 24).contains(n)).ok_or_else(|| bad(format!("{arch}.{key} is not a usable size")))
        };
        let (d, heads) = (size("embedding_length")?, size("attention.head_count")?);
        let groups =
            if self.own("attention.head_count_kv").is_some() { size("attention.head_count_kv")? } else { heads };
        let width = if self.own("attention.key_length").is_some() { size("attention.key_length")? } else { d / heads };
        for key in ["attention.value_length", "rope.dimension_count"] {
            if self.own(key).is_some() && size(key)? != width {
                return Err(bad(format!("{arch}.{key} differs from the head width {width}, which is not supported")));
            }
        }
        let shape = |name: &str| self.tensors.iter().find(|t| t.name == name).map(|t| t.shape.as_slice());
        let vocab = shape("token_embd.weight").and_then(|s| s.first());
        let vocab = vocab.ok_or_else(|| bad("the file has no token_embd.weight".into()))?;
        let number = |key: &str| self.own(key).and_then(Meta::number);
        let mut rope = json!({ "rope_type": "default", "rope_theta": number("rope.freq_base").unwrap_or(10_000.0) });
        if let Some(factors) = factors {
            rope["rope_type"] = json!("factors");
            rope["factors"] = json!(factors);
        } else if let Some(name) = self.own("rope.scaling.type").and_then(Meta::text).filter(|n| *n != "none") {
            if !matches!(name, "linear" | "yarn") {
                return Err(bad(format!("rope scaling {name} is not supported in GGUF files (linear and yarn are)")));
            }
            rope["rope_type"] = json!(name);
            rope["factor"] = json!(number("rope.scaling.factor").unwrap_or(1.0));
            for (theirs, ours) in [
                ("original_context_length", "original_max_position_embeddings"),
                ("yarn_beta_fast", "beta_fast"),
                ("yarn_beta_slow", "beta_slow"),
            ] {
                if let Some(v) = self.own(&format!("rope.scaling.{theirs}")).filter(|_| name == "yarn") {
                    rope[ours] = v.whole().map(|n| json!(n)).or(v.number().map(|n| json!(n))).unwrap_or(Value::Null);
                }
            }
            if number("rope.scaling.attn_factor").is_some_and(|f| f != 1.0) {
                return Err(bad("rope.scaling.attn_factor is not supported".into()));
            }
        } else if let Some(factor) = number("rope.scale_linear").filter(|f| *f != 1.0) {
            rope["rope_type"] = json!("linear");
            rope["factor"] = json!(factor);
        }
        if shape("rope_factors_long.weight").is_some() || shape("rope_factors_short.weight").is_some() {
            return Err(bad("LongRoPE in GGUF files is not supported".into()));
        }
        let has = |part: &str| shape(&format!("blk.0.{part}.bias")).is_some();
        if has("attn_q") != has("attn_k") || has("attn_q") != has("attn_v") || has("ffn_up") != has("ffn_down") {
            return Err(bad("biases on some maps of a layer only are not supported".into()));
        }
        if kind == "mistral" && has("attn_q") {
            return Err(bad("a sliding window beside attention biases is not supported".into()));
        }
        let class = match kind {
            "llama" => "LlamaForCausalLM",
            "mistral" => "MistralForCausalLM",
            "qwen2" => "Qwen2ForCausalLM",
            _ => "Qwen3ForCausalLM",
        };
        let config = json!({
            "architectures": [class],
            "model_type": kind,
            "hidden_size": d,
            "num_hidden_layers": size("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": groups,
            "head_dim": width,
            "intermediate_size": size("feed_forward_length")?,
            "vocab_size": vocab,
            "max_position_embeddings": size("context_length")?,
            "rms_norm_eps": number("attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
            "rope_parameters": rope,
            "attention_bias": has("attn_q"),
            "attention_output_bias": has("attn_output"),
            "mlp_bias": has("ffn_up"),
            "sliding_window": window,
            "tie_word_embeddings": shape("output.weight").is_none(),
        });
        Ok(config.as_object().cloned().unwrap_or_default())
    }

    /// For Llama, whose rows of q and k are stored with the halves of each head interleaved: the number of heads
    /// of that tensor. Qwen keeps Hugging Face's order.
    pub fn interleaved_heads(&self, name: &str) -> Option<usize> {
        if !matches!(self.architecture(), Some("llama" | "mistral")) {
            return None;
        }
        let heads = |key: &str| {
            let v = self.own(key)?;
            v.whole().or_else(|| v.list()?.first()?.whole()).and_then(|n| usize::try_from(n).ok())
        };
        match name.split('.').nth(2)? {
            "attn_q" => heads("attention.head_count"),
            "attn_k" => heads("attention.head_count_kv").or_else(|| heads("attention.head_count")),
            _ => None,
        }
    }
}

/// Hugging Face's name of a tensor of the Llama family; names it does not know stay.
pub(crate) fn hf_name(name: &str) -> String {
    match name {
        "token_embd.weight" => return "model.embed_tokens.weight".into(),
        "output_norm.weight" => return "model.norm.weight".into(),
        "output.weight" => return "lm_head.weight".into(),
        _ => {}
    }
    let mut parts = name.splitn(4, '.');
    let (Some("blk"), Some(layer), Some(part), Some(end)) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return name.into();
    };
    let part = match part {
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return name.into(),
    };
    format!("model.layers.{layer}.{part}.{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_hugging_face() {
        assert_eq!(hf_name("blk.11.attn_q.weight"), "model.layers.11.self_attn.q_proj.weight");
        assert_eq!(hf_name("token_embd.weight"), "model.embed_tokens.weight");
        assert_eq!(hf_name("rope_freqs.weight"), "rope_freqs.weight");
    }

    #[test]
    fn a_claim_larger_than_the_file_is_refused_before_anything_is_allocated() {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(u64::MAX.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        let claims = |e: Fault| matches!(e, Fault::Damaged(what) if what.contains("more than the file has room for"));
        assert!(claims(read(&bytes, bytes.len() as u64).unwrap_err()));
        assert!(read(b"GGU", 3).is_err() && read(b"", 0).is_err());
        // A claim that the file has room for, of which nothing was read yet.
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend((1u64 << 40).to_le_bytes());
        assert_eq!(read(&bytes, 1 << 50).unwrap_err(), Fault::Short);
    }
}
