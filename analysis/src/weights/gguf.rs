//! GGUF: header, metadata and tensor table of llama.cpp's format, checked before anything is believed. What they mean
//! in Hugging Face's names says [`super::arch`].
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian.

use super::ggml::Ggml;
use super::shard::Shard;
use super::{parts, recognise};
use crate::{Error, Result};
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

    /// An entry of the architecture, e.g. `block_count`.
    pub fn own(&self, key: &str) -> Option<&Meta> {
        self.meta.get(&format!("{}.{key}", self.architecture()?))
    }

    /// The shape of a tensor, by its name in the file.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.iter().find(|t| t.name == name).map(|t| t.shape.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
