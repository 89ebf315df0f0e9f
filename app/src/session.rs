//! Sessions: everything that a window shows, in one file that opens on another machine and in later versions.
//!
//! # The format, version 1
//!
//! A file `*.tokenscope` is text in UTF-8, a JSON object a line, and each line can be read without the others: of a file
//! that is cut off or damaged everything opens but the lines that the damage is in. The first line says what it is:
//!
//! ```json
//! {"tokenscope":"session","version":1,"program":"0.1.0"}
//! ```
//!
//! Each further line is a section, its keys in this order. `sum` are the first 16 hexadecimal digits of the SHA-256 of
//! the text of `data` as it stands in the line:
//!
//! ```json
//! {"section":"pane","sum":"60ac29c1ab7d6d01","data":{"run":{…},…}}
//! ```
//!
//! | section | how many | `data` |
//! |---|---|---|
//! | `document` | 1 | `panes` and `pins`, how many of each follow; `active`, the pane that is worked in, from 0; `look`, a [`Look`] |
//! | `pane` | 1 to 256 | a [`Pane`], in their order |
//! | `pin` | up to 1000 | a [`Pin`]: `name` and `pane` |
//! | `window` | 0 or 1 | `layout`, where the views are, a [`Layout`]; `alone`, the id of the view that has the window to itself; `sources`, whether their panel is open; `file`, the session's own path, where it was written by a window that runs |
//! | `model` | one a model | [`Stamp`]: `source` as in a pane, `name`, `files`, `bytes`, `sha256`, and `covers`, what that hash is of |
//! | `input` | one a file | [`Input`]: `kind` (`picture`, `series`, `tokenizer`), `path` on the machine that saved it, `bytes`, `sha256`, and `base64`, its content, unless it was too large or gone |
//! | `trace` | where asked for | [`Recording`]: `run` as in a pane, `bytes`, and `base64`, a trace file ([`tokenscope_analysis::trace`]) |
//! | `result` | where asked for | [`Kept`]: `asked`, what it answers, `software`, `models` and `inputs`, the hashes of what it was computed from, `bytes`, and `base64`, the answer as CBOR |
//! | `end` | 1, the last | `lines`, how many stand before it |
//!
//! What a pane does not say has its default, so that fields can be added. What is added stands in new fields and new
//! sections, which older programs pass over and name; a change of what is there already makes a new version, and readers
//! of every version stay. Tests hold a file of each.
//!
//! Undo is not in it. Prompts stand in the panes as they are, so anybody with the file can read them.

mod autosave;
mod input;
mod kept;
mod lenient;
mod lines;
mod lock;
mod model;
mod opened;
mod sound;
#[cfg(test)]
mod tests;
mod write;

pub use autosave::{Autosaver, Orphan, orphans};
pub use input::{Input, InputKind, Placed, Recording};
pub use kept::{Asked, Kept, Live, results};
pub use lock::{Held, Mark};
pub use model::{Stamp, State};
pub use opened::Opened;
pub use write::{Snapshot, Writer};

use crate::memory;
use crate::pane::Pane;
use crate::settings::Layout;
use crate::state::{Doc, Look, Pin};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tokenscope_analysis::{Error, Result};

/// Version of the format that this program writes.
pub const VERSION: u32 = 1;
/// Panes and pins that are read; more are no session of ours.
const MAX_PANES: usize = 256;
const MAX_PINS: usize = 1000;
/// The same of files and models.
const MAX_FILES: usize = 1000;
/// Remarks that are kept; a file of noise would give one a line.
const MAX_REMARKS: usize = 50;
/// What helps with a damaged file.
const HELP: &str = "take an older copy of it";

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    tokenscope: String,
    version: u32,
    program: String,
}

/// The section `document`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct DocumentPart {
    panes: usize,
    pins: usize,
    active: usize,
    look: Look,
}

/// The section `end`.
#[derive(Default, Serialize, Deserialize)]
struct EndPart {
    lines: usize,
}

/// What of the window belongs to a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// Where the views are; `None` is the default layout.
    pub layout: Option<Layout>,
    /// Id of the view that has the window to itself.
    pub alone: Option<String>,
    /// Whether the panel of sources is open.
    pub sources: bool,
    /// The file that the session was opened from: of sessions that are kept while a window runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl Default for Window {
    fn default() -> Self {
        Self { layout: None, alone: None, sources: true, file: None }
    }
}

/// What could not be read, in words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lost {
    words: Vec<String>,
    more: usize,
}

impl Lost {
    fn say(&mut self, words: impl Into<String>) {
        if self.words.len() < MAX_REMARKS {
            self.words.push(words.into().chars().take(300).collect());
        } else {
            self.more += 1;
        }
    }

    /// Each remark.
    pub fn words(&self) -> impl Iterator<Item = String> + '_ {
        let more = (self.more > 0).then(|| format!("and {} remarks more", self.more));
        self.words.iter().cloned().chain(more)
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// What a session file holds.
#[derive(Debug, Default)]
pub struct Session {
    /// Version of its format.
    pub version: u32,
    /// Version of the program that wrote it.
    pub program: String,
    /// Panes, pins, look.
    pub doc: Doc,
    /// What of the window belongs to it.
    pub window: Window,
    /// The models, as they were.
    pub models: Vec<Stamp>,
    /// Pictures, series and tokenizers that it was saved with.
    pub inputs: Vec<Input>,
    /// Recorded runs.
    pub recordings: Vec<Recording>,
    /// Results that were computed on its runs.
    pub results: Vec<Kept>,
    /// What could not be read.
    pub lost: Lost,
}

impl Session {
    /// Reads the file at `path` as far as it can be read.
    ///
    /// Errors: it cannot be read at all, is no session, or has no room in memory.
    pub fn open(path: &Path) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        // A pipe would keep the window waiting for ever.
        if !meta.is_file() {
            return Err(Error::file(path, "this is not a file", "choose a session file"));
        }
        // The text, and beside it the files that it holds.
        let (need, room) = (meta.len().saturating_mul(2), memory::available());
        if need > room {
            let remedy = "close other programs, or save it without traces".into();
            return Err(Error::Memory { need_mb: need >> 20, limit_mb: room >> 20, remedy });
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::read(&bytes).ok_or_else(|| Error::file(path, "this is no session of Tokenscope", HELP))
    }

    /// Reads a session as far as it can be read; `None` where nothing in it is one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut read = Reading::default();
        for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
            read.line(i, line);
        }
        (read.header || read.sections > 0).then(|| read.end())
    }
}

/// A session that is being read.
#[derive(Default)]
struct Reading {
    out: Session,
    /// Whether the first line says what it is.
    header: bool,
    /// Lines of the file with something in them, and sections among them.
    lines: usize,
    sections: usize,
    document: Option<DocumentPart>,
    panes: Vec<Pane>,
    end: Option<EndPart>,
}

impl Reading {
    fn line(&mut self, i: usize, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        self.lines += 1;
        let Ok(line) = std::str::from_utf8(line) else {
            // The name of the section stands at the start, which may be whole.
            let start = String::from_utf8_lossy(&line[..line.len().min(64)]).into_owned();
            let section = lines::read(&format!(r#"{start}"data":"#)).map_or("", |l| l.section).to_string();
            self.sections += usize::from(!section.is_empty());
            return self.out.lost.say(format!("line {} is damaged{}", i + 1, of(&section)));
        };
        if self.lines == 1
            && let Ok(header) = serde_json::from_str::<Header>(line.get(..line.len().min(1000)).unwrap_or(line))
            && header.tokenscope == "session"
        {
            (self.header, self.out.version) = (true, header.version);
            self.out.program = header.program.chars().take(40).collect();
            if header.version > VERSION {
                let words = "it was written by a newer Tokenscope";
                let what = "what this one does not know is passed over";
                self.out.lost.say(format!("{words} (format {}, this is {VERSION}); {what}", header.version));
            }
            return;
        }
        match lines::read(line) {
            Some(line) => self.section(i, &line),
            None => self.out.lost.say(format!("line {} is damaged", i + 1)),
        }
    }

    fn section(&mut self, i: usize, line: &lines::Line) {
        let (known, lost) = (self.sections, &mut self.out.lost);
        self.sections += 1;
        // Files say themselves whether they are what they were.
        if !line.intact && !["input", "trace", "result"].contains(&line.section) {
            lost.say(format!("line {}{} is not as it was written", i + 1, of(line.section)));
        }
        match line.section {
            "document" => self.document = lenient::read(line.data, "the document", lost).or(self.document.take()),
            "pane" if self.panes.len() < MAX_PANES => {
                let what = format!("pane {}", self.panes.len() + 1);
                self.panes.extend(lenient::read::<Pane>(line.data, &what, lost).map(Pane::held));
            }
            "pin" if self.out.doc.pins.len() < MAX_PINS => {
                let what = format!("pin {}", self.out.doc.pins.len() + 1);
                let pin = lenient::read::<Pin>(line.data, &what, lost);
                self.out.doc.pins.extend(pin.map(|p| Pin { pane: p.pane.held(), ..p }));
            }
            "window" => {
                let window = lenient::read(line.data, "the layout of the window", lost);
                self.out.window = window.unwrap_or_else(|| std::mem::take(&mut self.out.window));
            }
            "model" if self.out.models.len() < MAX_FILES => {
                let what = format!("what is known of model {}", self.out.models.len() + 1);
                let read = serde_json::from_str(line.data).map_err(|e| lost.say(format!("{what} is lost: {e}")));
                self.out.models.extend(read);
            }
            "input" if self.out.inputs.len() < MAX_FILES => self.out.inputs.extend(Input::read(line.data, lost)),
            "trace" if self.out.recordings.len() < MAX_FILES => {
                self.out.recordings.extend(Recording::read(line.data, line.intact, lost));
            }
            "result" if self.out.results.len() < kept::MOST => {
                self.out.results.extend(Kept::read(line.data, line.intact, lost));
            }
            "end" => self.end = lenient::read(line.data, "the last line", lost),
            "pane" | "pin" | "model" | "input" | "trace" | "result" => {
                lost.say(format!("line {}: too many of its kind", i + 1))
            }
            // Nothing that says it is a session, and no section that is known: another file.
            other if known == 0 && !self.header => {
                self.sections -= 1;
                lost.say(format!("line {} is of a kind {other:.40} that this version does not know", i + 1));
            }
            other => lost.say(format!("line {} is of a kind {other:.40} that this version does not know", i + 1)),
        }
    }

    fn end(mut self) -> Session {
        let lost = &mut self.out.lost;
        if !self.header {
            lost.say("the first line is damaged");
            self.out.version = VERSION;
        }
        match &self.end {
            None => lost.say("its end is missing: the file was cut off"),
            Some(end) if end.lines + 1 != self.lines => {
                lost.say(format!("{} lines were written before its end, and {} are there", end.lines, self.lines - 1));
            }
            Some(_) => {}
        }
        let document = self.document.unwrap_or_else(|| {
            lost.say("which pane was worked in and the colours are lost");
            DocumentPart { panes: self.panes.len(), pins: self.out.doc.pins.len(), ..DocumentPart::default() }
        });
        for (what, written, read) in
            [("panes", document.panes, self.panes.len()), ("pins", document.pins, self.out.doc.pins.len())]
        {
            if read < written {
                lost.say(format!("{} of {written} {what} are lost", written - read));
            }
        }
        if self.panes.is_empty() {
            self.panes.push(Pane::default());
        }
        let pins = std::mem::take(&mut self.out.doc.pins);
        self.out.doc = Doc::of_parts(self.panes, document.active, document.look, pins);
        self.out
    }
}

/// A section in words, after what is wrong with it.
fn of(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" (a {section:.40})") }
}
