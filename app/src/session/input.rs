//! Files that a session carries: pictures, series, tokenizers, and recorded runs. Where they are not on the machine that
//! opens it, or are others there, they are unpacked into a folder that lives as long as the session is open.

use super::Lost;
use crate::hash::sha256;
use crate::keys::{ModelSource, RunKey};
use crate::pane::Pane;
use crate::picture_source::PictureSource;
use crate::series_source::SeriesSource;
use crate::state::Doc;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokenscope_analysis::save::save_bytes;
use tokenscope_analysis::{Error, Result};

/// Files of more bytes are remembered by path and hash only.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// What a file is to the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum InputKind {
    Picture,
    Series,
    Tokenizer,
}

impl InputKind {
    /// In words.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Picture => "picture",
            Self::Series => "series",
            Self::Tokenizer => "tokenizer",
        }
    }
}

/// A file that a session was saved with.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// What it is to the document.
    pub kind: InputKind,
    /// Where it was when the session was saved.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of all of it; empty where it could not be read.
    pub sha256: String,
    /// Its content, unless it was too large or gone.
    pub content: Option<Vec<u8>>,
}

/// An [`Input`] as a line says it.
#[derive(Serialize, Deserialize)]
pub(super) struct InputPart<'a> {
    pub kind: InputKind,
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: String,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<Cow<'a, str>>,
}

impl Input {
    /// Reads the data of a line; content that is not what its hash says is left out, which is said.
    pub(super) fn read(data: &str, lost: &mut Lost) -> Option<Self> {
        let part: InputPart =
            serde_json::from_str(data).map_err(|e| lost.say(format!("a file of the session is lost: {e}"))).ok()?;
        let InputPart { kind, path, bytes, sha256: hash, base64 } = part;
        let content = base64.and_then(|text| {
            let content = STANDARD.decode(text.as_bytes()).ok().filter(|c| sha256(c) == hash);
            if content.is_none() {
                let what = kind.noun();
                lost.say(format!("the {what} {} is damaged in the session; its path is tried", path.display()));
            }
            content
        });
        Some(Self { kind, path, bytes, sha256: hash, content })
    }

    /// The file at `path` now. `None` where there is none that can be read.
    pub(super) fn of_file(kind: InputKind, path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let gone = Self { kind, path: path.into(), bytes: meta.len(), sha256: String::new(), content: None };
        if meta.len() > MAX_BYTES {
            return Some(gone);
        }
        let content = std::fs::read(path).ok()?;
        Some(Self { bytes: content.len() as u64, sha256: sha256(&content), content: Some(content), ..gone })
    }

    /// Whether the file stands at its path, with the content that it had.
    pub(super) fn stands(&self) -> bool {
        let there = std::fs::metadata(&self.path).is_ok_and(|m| m.is_file() && m.len() == self.bytes);
        // Too large a file was not read; that it is as long as it was must do.
        let short = self.bytes <= MAX_BYTES && !self.sha256.is_empty();
        there && (!short || std::fs::read(&self.path).is_ok_and(|c| sha256(&c) == self.sha256))
    }
}

/// The text of bytes in a line.
pub(super) fn text_of(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A recorded run.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// The run, as panes name it.
    pub run: RunKey,
    /// A trace file.
    pub file: Vec<u8>,
}

/// A [`Recording`] as a line says it.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordingPart<'a> {
    pub run: RunKey,
    pub bytes: u64,
    #[serde(borrow)]
    pub base64: Cow<'a, str>,
}

impl Recording {
    /// Reads the data of a line; a damaged trace is left out, which is said.
    pub(super) fn read(data: &str, intact: bool, lost: &mut Lost) -> Option<Self> {
        let mut bad = |why: String| lost.say(format!("a recorded run is lost: {why}"));
        let part: RecordingPart = serde_json::from_str(data).map_err(|e| bad(e.to_string())).ok()?;
        let file = STANDARD.decode(part.base64.as_bytes()).ok().filter(|f| intact && f.len() as u64 == part.bytes);
        if file.is_none() {
            bad("it is damaged".into());
        }
        Some(Self { run: part.run, file: file? })
    }
}

/// Every file that a document reads, once.
pub(super) fn files_of(doc: &Doc) -> Vec<(InputKind, PathBuf)> {
    let mut out: Vec<(InputKind, PathBuf)> = Vec::new();
    for pane in doc.panes().iter().chain(doc.pins.iter().map(|p| &p.pane)) {
        let pictures = pane.run.image.iter().flat_map(PictureSource::files);
        out.extend(pictures.map(|p| (InputKind::Picture, p.to_path_buf())));
        if let Some(SeriesSource::File { path, .. }) = &pane.series {
            out.push((InputKind::Series, path.clone()));
        }
        out.extend(pane.shows.cuts.files.iter().map(|p| (InputKind::Tokenizer, p.clone())));
    }
    out.sort();
    out.dedup();
    out
}

/// Replaces paths of files by what `to` gives for them.
fn replace_files(pane: &mut Pane, to: &dyn Fn(&Path) -> Option<PathBuf>) {
    let swap = |p: &mut PathBuf| {
        if let Some(other) = to(p) {
            *p = other;
        }
    };
    pane.run.image.iter_mut().flat_map(PictureSource::files_mut).for_each(swap);
    if let Some(SeriesSource::File { path, .. }) = &mut pane.series {
        swap(path);
    }
    pane.shows.cuts.files.iter_mut().for_each(swap);
}

/// Files of an open session that were unpacked, and what stands for what.
#[derive(Debug, Default)]
pub struct Placed {
    /// Where they are; the folder goes when this does.
    folder: Option<tempfile::TempDir>,
    /// The path that the session knows, by where the file is now.
    files: BTreeMap<PathBuf, PathBuf>,
    /// The model that was recorded, by where the recording is now.
    models: BTreeMap<PathBuf, RunKey>,
}

impl Placed {
    /// Unpacks those of `inputs` that do not stand at their paths as they were, and makes `doc` read them there.
    ///
    /// Errors: no room for them.
    pub fn files(&mut self, doc: &mut Doc, inputs: &[Input]) -> Result<()> {
        for input in inputs.iter().filter(|i| !i.stands()) {
            let Some(content) = &input.content else { continue };
            let name = input.path.file_name().map_or_else(|| "file".into(), |n| n.to_os_string());
            let at = self.put(&name.to_string_lossy(), content)?;
            self.files.insert(at, input.path.clone());
        }
        let to = |p: &Path| self.files.iter().find(|(_, old)| old.as_path() == p).map(|(now, _)| now.clone());
        doc.each_pane(|pane| replace_files(pane, &to));
        Ok(())
    }

    /// Unpacks the recordings of runs whose model `may_not` be used, and makes `doc` show them.
    ///
    /// Gives how many panes and pins show a recording. Errors: no room for them.
    pub fn recordings(
        &mut self,
        doc: &mut Doc,
        recordings: &[Recording],
        may_not: &dyn Fn(&ModelSource) -> bool,
    ) -> Result<usize> {
        for r in recordings.iter().filter(|r| may_not(&r.run.model)) {
            let at = self.put(&format!("{}.trace", r.run.model.title()), &r.file)?;
            self.models.insert(at, r.run.clone());
        }
        let (mut n, mut known) = (0, self.original(doc));
        let mut shown = Vec::new();
        known.each_pane(|pane| {
            shown.push(self.models.iter().find(|(_, run)| **run == pane.run).map(|(at, _)| at.clone()))
        });
        let mut shown = shown.into_iter();
        doc.each_pane(|pane| {
            if let Some(at) = shown.next().flatten() {
                pane.run.model = ModelSource::Recorded(at);
                n += 1;
            }
        });
        Ok(n)
    }

    /// Writes a file of that name into the folder, in a folder of its own since names may be the same.
    fn put(&mut self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let none = |e: std::io::Error| Error::invalid(format!("no temporary folder for files of the session: {e}"));
        let folder = match &self.folder {
            Some(folder) => folder,
            None => self.folder.insert(tempfile::Builder::new().prefix("tokenscope-session-").tempdir().map_err(none)?),
        };
        let own = folder.path().join((self.files.len() + self.models.len()).to_string());
        std::fs::create_dir_all(&own).map_err(none)?;
        // A name from a file leads nowhere else and is no longer than systems have it.
        let name: String = name.chars().map(|c| if "/\\:\0".contains(c) { '_' } else { c }).take(60).collect();
        let at = own.join(if name.trim_matches('.').is_empty() { "file".into() } else { name });
        save_bytes(&at, content)?;
        Ok(at)
    }

    /// The document as a file holds it: with the paths and models that were saved, wherever they are now.
    pub fn original(&self, doc: &Doc) -> Doc {
        let mut doc = doc.clone();
        doc.each_pane(|pane| {
            if let ModelSource::Recorded(p) = &pane.run.model
                && let Some(run) = self.models.get(p)
            {
                pane.run.model = run.model.clone();
            }
            replace_files(pane, &|p| self.files.get(p).cloned());
        });
        doc
    }

    /// The run that the session knows so, with the files and the recording that stand for its own now.
    pub(super) fn run_now(&self, mut run: RunKey) -> RunKey {
        if let Some((at, _)) = self.models.iter().find(|(_, own)| **own == run) {
            run.model = ModelSource::Recorded(at.clone());
        }
        for path in run.image.iter_mut().flat_map(PictureSource::files_mut) {
            *path = self.now(path);
        }
        run
    }

    /// Where the file that the session knows by this path is now.
    pub(super) fn now(&self, path: &Path) -> PathBuf {
        let found = self.files.iter().find(|(_, old)| old.as_path() == path);
        found.map_or_else(|| path.to_path_buf(), |(now, _)| now.clone())
    }

    /// Recordings that stand for runs of `doc`, which has them as they are now.
    pub(super) fn kept(&self, doc: &Doc) -> Vec<Recording> {
        let shown = |at: &Path| {
            let panes = doc.panes().iter().chain(doc.pins.iter().map(|p| &p.pane));
            panes.into_iter().any(|p| p.run.model == ModelSource::Recorded(at.into()))
        };
        let read = |at: &PathBuf, run: &RunKey| Some(Recording { run: run.clone(), file: std::fs::read(at).ok()? });
        self.models.iter().filter(|(at, _)| shown(at)).filter_map(|(at, run)| read(at, run)).collect()
    }
}
