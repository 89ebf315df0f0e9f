//! What a session remembers of a model, so that it can say whether another one stands in its place.

use crate::digest;
use crate::hash::Sha256;
use crate::keys::ModelSource;
use crate::samples;
use crate::state::Doc;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// Files up to this length are hashed as a whole: configurations, tokenizers, small weights.
const WHOLE: u64 = 64 << 20;
/// Of longer ones the beginning, where headers of weights are,
const HEAD: u64 = 1 << 20;
/// and so many pieces spread over the rest, of so many bytes: other weights of the same shapes differ in all of them.
const PIECES: u64 = 64;
const PIECE: u64 = 4096;
/// Files of a folder that are looked at.
const MAX_FILES: usize = 2000;

/// What the hash is of, as the file says it.
const COVERS: &str = "names and lengths of the configuration, tokenizer and weight files, the whole content of those \
                      up to 64 MB; of longer ones the first MB and 64 pieces of 4 kB spread evenly";

/// What a model was when the session was saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    /// Where it comes from.
    pub source: ModelSource,
    /// Its name.
    pub name: String,
    /// Number of files that the hash is of.
    pub files: usize,
    /// Length of all of them in bytes.
    pub bytes: u64,
    /// The hash; empty where the model was not there when the session was saved.
    pub sha256: String,
    /// What the hash is of, in words.
    pub covers: String,
}

/// What became of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is the one that it was.
    Same,
    /// Another one stands there.
    Other,
    /// It cannot be opened.
    Gone,
}

impl Stamp {
    /// The model as it is now.
    pub fn of(source: &ModelSource) -> Self {
        let files = match source {
            ModelSource::Sample(name) => samples::files(name).map(|f| Of::Bytes(f.0.into(), f.1)).collect(),
            ModelSource::Recorded(path) => vec![Of::File(path.clone())],
            // A model that does not open has none.
            ModelSource::Path(path) => {
                digest::files_of(path).unwrap_or_default().into_iter().take(MAX_FILES).map(Of::File).collect()
            }
        };
        let mut hash = Sha256::default();
        let (mut bytes, mut read) = (0, !files.is_empty());
        for file in &files {
            match file.add(&mut hash) {
                Some(n) => bytes += n,
                None => read = false,
            }
        }
        let sha256 = if read { hash.finish() } else { String::new() };
        let (name, covers) = (source.title(), COVERS.into());
        Self { source: source.clone(), name, files: files.len(), bytes, sha256, covers }
    }

    /// What became of the model since. A model that was not there when the session was saved may be any.
    pub fn state(&self) -> State {
        let now = Self::of(&self.source);
        match (self.sha256.is_empty(), now.sha256.is_empty()) {
            (_, true) => State::Gone,
            (true, _) => State::Same,
            _ if now.sha256 == self.sha256 => State::Same,
            _ => State::Other,
        }
    }
}

/// Every model that a document names, once.
pub(super) fn models_of(doc: &Doc) -> Vec<ModelSource> {
    let mut out = Vec::new();
    for pane in doc.panes().iter().chain(doc.pins.iter().map(|p| &p.pane)) {
        for source in [&pane.run.model, &pane.partner] {
            if !out.contains(source) {
                out.push(source.clone());
            }
        }
    }
    out
}

/// Something that is hashed.
enum Of {
    File(PathBuf),
    Bytes(String, &'static [u8]),
}

impl Of {
    /// Adds name, length and content to the hash, and gives the length. `None` where it cannot be read.
    fn add(&self, hash: &mut Sha256) -> Option<u64> {
        let mut start = |name: &str, len: u64| {
            hash.update(name.as_bytes());
            hash.update(&[0]);
            hash.update(&len.to_le_bytes());
        };
        match self {
            Of::Bytes(name, bytes) => {
                start(name, bytes.len() as u64);
                hash.update(bytes);
                Some(bytes.len() as u64)
            }
            Of::File(path) => {
                let len = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?.len();
                start(&path.file_name()?.to_string_lossy(), len);
                let mut file = File::open(path).ok()?;
                let mut part = |at: u64, n: u64| {
                    file.seek(SeekFrom::Start(at)).ok()?;
                    let mut left = n;
                    let mut buffer = vec![0; n.min(HEAD) as usize];
                    while left > 0 {
                        let now = left.min(HEAD) as usize;
                        file.read_exact(&mut buffer[..now]).ok()?;
                        hash.update(&buffer[..now]);
                        left -= now as u64;
                    }
                    Some(())
                };
                if len <= WHOLE {
                    part(0, len)?;
                } else {
                    part(0, HEAD)?;
                    let room = len - HEAD - PIECE;
                    (0..PIECES).try_for_each(|i| {
                        part(HEAD + (room as u128 * i as u128 / (PIECES - 1) as u128) as u64, PIECE)
                    })?;
                }
                Some(len)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_same_and_a_file_that_changed_or_went_is_told() {
        let sample = Stamp::of(&ModelSource::Sample("sample-lm"));
        assert!(sample.state() == State::Same && sample.sha256.len() == 64 && sample.files > 1, "{sample:?}");
        let dir = samples::unpack("sample-draft").unwrap();
        let source = ModelSource::Path(dir.path().into());
        let stamp = Stamp::of(&source);
        assert_eq!(stamp.state(), State::Same);
        // What says nothing about the model does not count.
        std::fs::write(dir.path().join("README.md"), "hello").unwrap();
        assert_eq!(stamp.state(), State::Same);
        let config = dir.path().join("config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.clone() + "\n").unwrap();
        assert_eq!(stamp.state(), State::Other);
        std::fs::write(&config, text).unwrap();
        assert_eq!(stamp.state(), State::Same);
        std::fs::remove_file(&config).unwrap();
        assert_eq!(stamp.state(), State::Gone);
        assert_eq!(Stamp::of(&source).sha256, "");
    }

    #[test]
    fn of_a_long_file_the_beginning_and_pieces_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.trace");
        let len = WHOLE + 12_345;
        // Takes no room on the disk.
        std::fs::File::create(&path).unwrap().set_len(len).unwrap();
        let stamp = Stamp::of(&ModelSource::Recorded(path.clone()));
        assert_eq!((stamp.bytes, stamp.state()), (len, State::Same));
        let change = |at: u64| {
            use std::io::Write as _;
            let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(b"x").unwrap();
        };
        for at in [len - 1, HEAD - 1, HEAD] {
            let before = Stamp::of(&ModelSource::Recorded(path.clone()));
            change(at);
            assert_eq!(before.state(), State::Other, "at {at} of {len}");
        }
    }
}
