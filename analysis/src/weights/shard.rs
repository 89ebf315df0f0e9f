//! One file of a checkpoint, read piece by piece.
//!
//! Files are never mapped: a file that shrinks while a map of it is read ends the whole program with a bus error,
//! where a read gives an error that names the file. Weights that stay in their file are read again whenever they are
//! needed, out of the system's cache of files: it holds what is read often, and gives way where memory is short.

use super::recognise;
use crate::{Error, Result};
use safetensors::Dtype;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The largest header of a safetensors file that is read, in bytes; the format allows no more.
const MAX_HEADER: u64 = 100_000_000;

/// An open file of known length.
#[derive(Debug)]
pub(crate) struct Shard {
    pub path: PathBuf,
    pub len: u64,
    /// When it was last written, where the system says so.
    written: Option<SystemTime>,
    file: File,
}

/// A tensor of a safetensors file: type, shape, and bytes `start..end` of the file.
pub(super) struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub start: u64,
    pub end: u64,
}

impl Shard {
    /// Opens a regular file that is not empty.
    pub fn open(path: &Path) -> Result<Self> {
        let path = super::hub::real(path);
        let meta = std::fs::metadata(&path).map_err(|e| recognise::dangling(&path).unwrap_or(Error::io(&path, e)))?;
        if !meta.is_file() {
            return Err(Error::file(path, "not a regular file", "choose a file"));
        }
        let file = File::open(&path).map_err(|e| Error::io(&path, e))?;
        if meta.len() == 0 {
            return Err(Error::file(path, "the file is empty", "download it again"));
        }
        Ok(Self { len: meta.len(), written: meta.modified().ok(), path, file })
    }

    /// Errors if the file was written to since it was opened: its numbers may be others now.
    pub fn is_unchanged(&self) -> Result<()> {
        let meta = self.file.metadata().map_err(|e| Error::io(&self.path, e))?;
        match meta.len() == self.len && meta.modified().ok() == self.written {
            true => Ok(()),
            false => {
                Err(Error::file(&self.path, "the file was changed while the model is open", "open the model again"))
            }
        }
    }

    /// Fills `out` with the bytes from `at` on. Errors if the file ends before.
    pub fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        read_at(&self.file, out, at).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Error::file(&self.path, "the file became shorter while it was read", "open it again when it is whole")
            }
            _ => Error::io(&self.path, e),
        })
    }

    /// The first `n` bytes, or all where there are fewer.
    pub fn start(&self, n: u64) -> Result<Vec<u8>> {
        let mut out = vec![0; usize::try_from(n.min(self.len)).unwrap_or(0)];
        self.read(0, &mut out)?;
        Ok(out)
    }

    /// One byte; 0 where the file has shrunk.
    pub fn byte(&self, at: u64) -> u8 {
        let mut byte = [0];
        let _ = read_at(&self.file, &mut byte, at);
        byte[0]
    }

    /// The tensors of a safetensors file. Everything the header says is checked against the file: types, shapes, and
    /// that the tensors cover the rest of the file without gaps.
    pub(super) fn safetensors(&self) -> Result<BTreeMap<String, Stored>> {
        let damaged = |what: String| {
            recognise::strange(&self.path)
                .unwrap_or_else(|| Error::file(&self.path, format!("damaged safetensors: {what}"), "download it again"))
        };
        if self.len < 8 {
            return Err(damaged(format!("the file has {} bytes and cannot hold a header", self.len)));
        }
        let mut length = [0; 8];
        self.read(0, &mut length)?;
        let length = u64::from_le_bytes(length);
        let base = length.checked_add(8).filter(|base| length <= MAX_HEADER && *base <= self.len);
        let base = base.ok_or_else(|| damaged(format!("a header of {length} bytes does not fit the file")))?;
        let mut header = vec![0; usize::try_from(length).unwrap_or(0)];
        self.read(8, &mut header)?;
        let entries: BTreeMap<String, Value> =
            serde_json::from_slice(&header).map_err(|e| damaged(format!("invalid header: {e}")))?;
        let mut out = BTreeMap::new();
        for (name, value) in entries {
            if name == "__metadata__" {
                continue;
            }
            let read = |key: &str| value.get(key).cloned().unwrap_or_default();
            let odd = |e: serde_json::Error| damaged(format!("tensor {name}: {e}"));
            let dtype: Dtype = serde_json::from_value(read("dtype")).map_err(odd)?;
            let shape: Vec<usize> = serde_json::from_value(read("shape")).map_err(odd)?;
            let (start, end): (u64, u64) = serde_json::from_value(read("data_offsets")).map_err(odd)?;
            let bits = shape.iter().try_fold(dtype.bitsize(), |n, s| n.checked_mul(*s)).map(|b| b as u64);
            if bits.is_none() || bits != end.checked_sub(start).and_then(|n| n.checked_mul(8)) {
                return Err(damaged(format!("{dtype:?} {shape:?} of tensor {name} are not bytes {start} to {end}")));
            }
            let span = base.checked_add(start).zip(base.checked_add(end));
            let (start, end) = span.ok_or_else(|| damaged(format!("tensor {name} lies outside the file")))?;
            out.insert(name, Stored { dtype, shape, start, end });
        }
        let mut spans: Vec<(u64, u64)> = out.values().map(|t| (t.start, t.end)).collect();
        spans.sort_unstable();
        let covered = spans.iter().try_fold(base, |at, s| (s.0 == at).then_some(s.1));
        match covered {
            Some(end) if end == self.len => Ok(out),
            Some(end) if end > self.len => {
                Err(damaged(format!("the file ends {} bytes before its tensors do", end - self.len)))
            }
            Some(end) => Err(damaged(format!("{} bytes stand behind the last tensor", self.len - end))),
            None => Err(damaged("the tensors overlap or leave gaps".into())),
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, out: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut out: &mut [u8], mut at: u64) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => (out, at) = (&mut out[n..], at + n as u64),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(header: &str, data: usize) -> Shard {
        let f = tempfile::NamedTempFile::new().unwrap();
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat();
        std::fs::write(f.path(), bytes).unwrap();
        Shard::open(f.path()).unwrap()
    }

    #[test]
    fn tensors_lie_where_the_header_says_and_cover_the_file() {
        let two = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}"#;
        let s = shard(two, 11);
        let t = s.safetensors().unwrap();
        let base = 8 + two.len() as u64;
        assert_eq!((t["b"].start, t["b"].end, t["b"].shape.as_slice()), (base + 8, base + 11, [3].as_slice()));
        for (header, data, words) in [
            (two, 10, "ends 1 bytes before"),
            (two, 12, "1 bytes stand behind"),
            (&two.replace("[8,11]", "[7,10]"), 10, "overlap"),
            (&two.replace("[2]", "[3]"), 11, "of tensor a are not bytes"),
            (&two.replace("[2]", "[18446744073709551615,4]"), 11, "of tensor a"),
            ("[]", 0, "invalid header"),
        ] {
            let e = shard(header, data).safetensors().err().unwrap().to_string();
            assert!(e.contains(words), "{e}");
        }
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_with_its_name() {
        let f = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(f.path(), [7; 100]).unwrap();
        let s = Shard::open(f.path()).unwrap();
        std::fs::write(f.path(), [7; 10]).unwrap();
        let e = s.read(50, &mut [0; 20]).unwrap_err().to_string();
        assert!(e.contains("became shorter") && e.ends_with(&f.path().display().to_string()), "{e}");
        assert_eq!((s.byte(5), s.byte(50)), (7, 0));
    }
}
