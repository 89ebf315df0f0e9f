//! Writes sessions, beside the window: what it hands over is a snapshot that nothing changes any more.

use super::input::{InputPart, RecordingPart, files_of, text_of};
use super::kept::{Kept, Live};
use super::model::models_of;
use super::{DocumentPart, EndPart, Header, Input, InputKind, Placed, Recording, Stamp, VERSION, Window, lines};
use crate::keys::{ModelSource, RunKey};
use crate::picture_source::PictureSource;
use crate::state::Doc;
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokenscope_analysis::Result;
use tokenscope_analysis::save::save;
use tokenscope_analysis::trace::{Trace, write_trace};

/// The window at one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// The document as the window has it.
    pub doc: Doc,
    /// What of the window belongs to the session.
    pub window: Window,
    /// Which files of it were unpacked.
    pub placed: Arc<Placed>,
    /// Runs to be kept, as the window names them.
    pub traces: Vec<(RunKey, Arc<Trace>)>,
    /// Results to be kept, as the window has them.
    pub results: Vec<Live>,
}

/// A file that was read for a session, as it was then.
type Known = (Option<SystemTime>, u64, Arc<Input>);

/// How long what was found out about a model holds.
const FRESH: Duration = Duration::from_secs(60);

/// Writes sessions, and remembers what need not be read again for the next one.
#[derive(Default)]
pub struct Writer {
    files: HashMap<(InputKind, PathBuf), Known>,
    models: HashMap<ModelSource, (Instant, Stamp)>,
}

impl Writer {
    /// Writes a session to `path`: it is whole under that name, or the file that was there stays.
    ///
    /// Errors: the file cannot be written, a path in it is no Unicode.
    pub fn save(&mut self, snapshot: &Snapshot, path: &Path) -> Result<()> {
        save(path, |fresh| {
            let file = std::fs::OpenOptions::new().write(true).truncate(true).open(fresh)?;
            let mut out = BufWriter::with_capacity(1 << 16, file);
            self.write(snapshot, &mut out)?;
            out.flush()
        })
    }

    /// Writes a session. Errors: those of `out`; a path in it is no Unicode.
    pub fn write(&mut self, snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
        let doc = snapshot.placed.original(&snapshot.doc);
        let program = crate::VERSION.to_string();
        serde_json::to_writer(&mut *out, &Header { tokenscope: "session".into(), version: VERSION, program })?;
        writeln!(out)?;
        let mut out = Sections { out, n: 0 };
        let part =
            DocumentPart { panes: doc.panes().len(), pins: doc.pins.len(), active: doc.active(), look: doc.look };
        out.put("document", &part)?;
        doc.panes().iter().try_for_each(|p| out.put("pane", p))?;
        doc.pins.iter().try_for_each(|p| out.put("pin", p))?;
        out.put("window", &snapshot.window)?;
        for source in models_of(&doc) {
            out.put("model", &self.stamp(source))?;
        }
        for (kind, path) in files_of(&doc) {
            let Some(input) = self.input(kind, &path, &snapshot.placed.now(&path)) else { continue };
            let base64 = input.content.as_deref().map(|c| text_of(c).into());
            let sha256 = input.sha256.clone();
            out.put("input", &InputPart { kind, path, bytes: input.bytes, sha256, base64 })?;
        }
        let mut kept = snapshot.placed.kept(&snapshot.doc);
        for (run, trace) in &snapshot.traces {
            let as_saved = originals(run, &snapshot.placed);
            if kept.iter().all(|k| k.run != as_saved) {
                kept.push(Recording { run: as_saved, file: file_of(trace)? });
            }
            // One at a time: several may be larger than the memory that is left.
            kept.drain(..).try_for_each(|k| out.recording(&k))?;
        }
        kept.iter().try_for_each(|k| out.recording(k))?;
        let pictures = |image: &PictureSource| -> Vec<String> {
            let known = |path: &Path| self.files.get(&(InputKind::Picture, path.to_path_buf()));
            image.files().into_iter().map(|p| known(p).map_or_else(String::new, |f| f.2.sha256.clone())).collect()
        };
        let mut stamp = |source: ModelSource| stamp_of(&mut self.models, source);
        for live in &snapshot.results {
            if let Some(kept) = Kept::of(live, &snapshot.placed, &mut stamp, &pictures) {
                out.put("result", &kept.part())?;
            }
        }
        // The first line is no section.
        let end = EndPart { lines: out.n + 1 };
        out.put("end", &end)
    }

    /// What the model is, found out again after a while.
    fn stamp(&mut self, source: ModelSource) -> Stamp {
        stamp_of(&mut self.models, source)
    }

    /// The file that the document knows by `path` and that is `now` elsewhere, read again where it changed. One that is
    /// gone is what it was when it was read last.
    fn input(&mut self, kind: InputKind, path: &Path, now: &Path) -> Option<Arc<Input>> {
        let meta = std::fs::metadata(now).ok();
        let (time, len) = meta.map_or((None, 0), |m| (m.modified().ok(), m.len()));
        let key = (kind, path.to_path_buf());
        if let Some((t, n, input)) = self.files.get(&key)
            && (time.is_none() || (*t, *n) == (time, len))
        {
            return Some(input.clone());
        }
        let input = Arc::new(Input { path: path.into(), ..Input::of_file(kind, now)? });
        self.files.insert(key, (time, len, input.clone()));
        Some(input)
    }
}

/// What a model is, found out again after a while.
fn stamp_of(models: &mut HashMap<ModelSource, (Instant, Stamp)>, source: ModelSource) -> Stamp {
    if let Some((at, stamp)) = models.get(&source)
        && at.elapsed() < FRESH
    {
        return stamp.clone();
    }
    let stamp = Stamp::of(&source);
    models.insert(source, (Instant::now(), stamp.clone()));
    stamp
}

/// The run with the paths that the session knows.
fn originals(run: &RunKey, placed: &Placed) -> RunKey {
    let pane = crate::pane::Pane { run: run.clone(), ..crate::pane::Pane::default() };
    placed.original(&Doc::of(pane)).pane().run.clone()
}

/// The trace as a file.
fn file_of(trace: &Trace) -> io::Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new()?;
    write_trace(trace, file.path()).map_err(io::Error::other)?;
    std::fs::read(file.path())
}

/// Sections under way, and how many there are so far.
struct Sections<'a> {
    out: &'a mut dyn Write,
    n: usize,
}

impl Sections<'_> {
    fn put(&mut self, section: &str, data: &impl Serialize) -> io::Result<()> {
        self.n += 1;
        lines::write(self.out, section, &serde_json::to_string(data)?)
    }

    fn recording(&mut self, k: &Recording) -> io::Result<()> {
        let (bytes, base64) = (k.file.len() as u64, text_of(&k.file).into());
        self.put("trace", &RecordingPart { run: k.run.clone(), bytes, base64 })
    }
}
