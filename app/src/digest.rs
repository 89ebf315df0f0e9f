//! Hashes of what a run was made from, so that a reader can tell whether it is the same: SHA-256, as `sha256sum` prints
//! it for whole files.
//!
//! Of weights only the header and the size are looked at, which is soon done and tells checkpoints of different shapes
//! and types apart; what a hash covers stands beside it.

use crate::hash::{Sha256, sha256};
use crate::keys::{ModelSource, RunKey};
use crate::picture_source::PictureSource;
use crate::samples;
use crate::series_source::SeriesSource;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::weights::Weights;

/// Files up to so many bytes are hashed as a whole.
const WHOLE: u64 = 64 << 20;
/// Of larger ones, and of weights with a header of unknown length, so many.
const HEAD: u64 = 1 << 20;
/// Files of a model that are looked at.
const MAX_FILES: usize = 64;

/// The hash of a file or an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// Of what.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// What was hashed, in words.
    pub covers: String,
    /// Hexadecimal.
    pub sha256: String,
}

/// The first `n` bytes of a file, or all of it.
fn hashed(file: File, n: u64) -> io::Result<String> {
    let (mut hash, mut from, mut buffer) = (Sha256::default(), file.take(n), vec![0; 1 << 16]);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hash.finish()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Bytes of the header of a safetensors file with its length in front; `None` if it has no such header.
fn header(path: &Path, bytes: u64) -> Option<u64> {
    let mut length = [0; 8];
    File::open(path).and_then(|mut f| f.read_exact(&mut length)).ok()?;
    let length = u64::from_le_bytes(length).saturating_add(8);
    (length <= bytes.min(WHOLE)).then_some(length)
}

/// The hash of a file; of weights that of their header.
fn of_file(path: &Path) -> io::Result<Digest> {
    let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into());
    let (file, end) = (File::open(path)?, path.extension().map(|e| e.to_ascii_lowercase()).unwrap_or_default());
    let bytes = file.metadata()?.len();
    let header = if end == "safetensors" { header(path, bytes) } else { None };
    let (n, covers) = match header {
        Some(n) => (n, format!("header, first {n} bytes")),
        None if end != "safetensors" && end != "gguf" && bytes <= WHOLE => (bytes, "whole file".into()),
        _ => {
            let n = HEAD.min(bytes);
            (n, format!("first {n} bytes"))
        }
    };
    Ok(Digest { name, bytes, covers, sha256: hashed(file, n)? })
}

fn of_bytes(name: &str, bytes: &[u8], covers: &str) -> Digest {
    Digest { name: name.into(), bytes: bytes.len() as u64, covers: covers.into(), sha256: sha256(bytes) }
}

/// Whether a file of a model's folder decides what the model computes.
fn decides(path: &Path) -> bool {
    let end = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    match end.as_deref() {
        Some("json" | "model" | "tiktoken" | "safetensors") => true,
        Some("txt") => ["vocab.txt", "merges.txt"].contains(&name),
        _ => false,
    }
}

/// The files of a model: configuration and tokenizer, and weights by header and size. Errors: files that cannot be read.
pub fn model(source: &ModelSource) -> anyhow::Result<Vec<Digest>> {
    let path = match source {
        ModelSource::Sample(name) => {
            return Ok(samples::files(name).map(|(n, b)| of_bytes(n, b, "whole file")).collect());
        }
        ModelSource::Recorded(path) => return Ok(vec![of_file(path)?]),
        ModelSource::Path(path) => path,
    };
    let files = files_of(path)?;
    Ok(files.iter().take(MAX_FILES).map(|f| of_file(f)).collect::<io::Result<_>>()?)
}

/// The files that decide what the model at `path` computes, by name: of a folder configuration, tokenizer and weights,
/// else the GGUF file, which holds everything. Errors: it does not open.
pub fn files_of(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let weights = Weights::open(path)?;
    if let Some(file) = weights.gguf_file() {
        return Ok(vec![file.to_path_buf()]);
    }
    let entries = std::fs::read_dir(weights.dir())?.collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|e| e.path()).filter(|p| p.is_file() && decides(p)).collect();
    files.sort();
    Ok(files)
}

/// The inputs of a run and the series that is cut. Errors: files that cannot be read.
pub fn inputs(run: &RunKey, series: Option<&SeriesSource>) -> anyhow::Result<Vec<Digest>> {
    let mut out = vec![of_bytes("prompt", run.prompt.as_bytes(), "UTF-8")];
    for image in run.image.iter().flat_map(PictureSource::each) {
        out.push(match image {
            PictureSource::File(path) => of_file(path)?,
            PictureSource::Clip(path, _) if path.is_file() => of_file(path)?,
            other => of_bytes(&other.to_string(), &other.open(&Ctx::default())?.rgb, "pixels, RGB"),
        });
    }
    match series {
        Some(SeriesSource::File { path, .. }) => out.push(of_file(path)?),
        // Its name says all of it.
        Some(signal @ SeriesSource::Signal(_)) => {
            out.push(of_bytes(&signal.to_string(), signal.to_string().as_bytes(), "name"))
        }
        None => {}
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_that_others_print() {
        // printf abc | sha256sum
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.json");
        std::fs::write(&file, "abc").unwrap();
        let d = of_file(&file).unwrap();
        assert_eq!((d.name.as_str(), d.bytes, d.covers.as_str()), ("a.json", 3, "whole file"));
        assert_eq!(d.sha256, sha256(b"abc"));
    }

    #[test]
    fn of_weights_the_header_counts_and_the_data_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.safetensors");
        let write = |data: &[u8]| {
            std::fs::write(&file, [&3u64.to_le_bytes()[..], b"{ }", data].concat()).unwrap();
            of_file(&file).unwrap()
        };
        let (a, b) = (write(&[1, 2]), write(&[3, 4]));
        assert_eq!(a, b);
        assert_eq!((a.bytes, a.covers.as_str()), (13, "header, first 11 bytes"));
        assert_eq!(a.sha256, sha256(b"\x03\0\0\0\0\0\0\0{ }"));
        // A length that the file does not have is no header.
        std::fs::write(&file, u64::MAX.to_le_bytes()).unwrap();
        assert_eq!(of_file(&file).unwrap().covers, "first 8 bytes");
    }

    #[test]
    fn a_sample_and_a_prompt_are_hashed_as_a_whole() {
        let files = model(&ModelSource::Sample(samples::NAMES[0])).unwrap();
        assert!(files.iter().any(|f| f.name == "config.json") && files.iter().all(|f| f.covers == "whole file"));
        let run = RunKey {
            model: ModelSource::Sample(samples::NAMES[0]),
            prompt: "abc".into(),
            image: None,
            placement: Default::default(),
        };
        assert_eq!(inputs(&run, None).unwrap()[0].sha256, sha256(b"abc"));
        let scene = RunKey { image: Some(PictureSource::Scene(7)), ..run };
        assert_eq!(inputs(&scene, None).unwrap()[1].name, "scene:7");
    }
}
