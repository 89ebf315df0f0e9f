//! The session of the window: opening, saving, what is asked before something would be lost.

use super::App;
use super::keeping::Keeping;
use crate::examples;
use crate::keys::{ModelSource, RunKey};
use crate::opening::SESSION;
use crate::pane::Pane;
use crate::session::{self, Held, Mark, Opened, Orphan, Placed, Snapshot, Window, Writer};
use crate::settings::Layout;
use crate::state::{Command, Doc};
use crate::views;
use crate::work::TraceOf;
use egui::ViewportCommand;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokenscope_analysis::trace::Trace;

/// What the window knows of its session.
pub(super) struct Sessions {
    /// Its file; `None` before it was saved.
    pub path: Option<PathBuf>,
    /// Keeps other windows from it.
    held: Option<Held>,
    /// What the file was when it was read or written last.
    mark: Option<Mark>,
    /// The document that the file holds, or that the window began with. `None`: nothing holds what is shown.
    saved: Option<Doc>,
    /// Files that were unpacked.
    pub placed: Arc<Placed>,
    /// Whether runs are saved along.
    pub traces: bool,
    /// Whether results are saved along.
    pub results: bool,
    /// Where a copy should lie.
    pub suggested: Option<PathBuf>,
    /// What is done when a question was answered or a save is through.
    pub next: Option<Next>,
    /// What is asked now.
    pub question: Option<Question>,
    /// The form that asks where to save.
    pub form: super::asking::Form,
    /// Whether a file is being read or written.
    pub busy: bool,
    /// What is done when the session is there that the program was started with.
    behind: Vec<Command>,
    done: (Sender<Done>, Receiver<Done>),
    /// The title of the window as it was set last.
    title: String,
    /// Sessions that were shown so far: what a thread did for one before is not done to this one.
    turn: u64,
    /// Set when the window may close.
    leaving: bool,
    /// Where locks lie; `None` where nobody is kept out.
    pub folder: Option<PathBuf>,
    /// What keeps the session while the window runs.
    pub keeping: Keeping,
}

/// What would take the present document away.
pub(super) enum Next {
    /// The window closes.
    Close,
    /// This session is opened.
    Open(PathBuf),
    /// What an earlier window left is shown.
    Restore(Orphan),
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Question {
    /// Whether to save before `next`.
    Save,
    /// Whether to write over this file, and why that is asked.
    Overwrite(PathBuf, &'static str),
}

/// What a thread did.
enum Done {
    Saved { turn: u64, path: PathBuf, doc: Box<Doc>, held: Option<Held>, result: Result<(), String> },
    Opened { path: PathBuf, orphan: Option<Orphan>, result: Result<Box<Opened>, String> },
}

impl Sessions {
    /// The session of a window that begins with `doc`.
    pub fn of(doc: &Doc) -> Self {
        Self {
            path: None,
            held: None,
            mark: None,
            saved: Some(doc.clone()),
            placed: Arc::default(),
            traces: false,
            results: false,
            suggested: None,
            next: None,
            question: None,
            form: super::asking::Form::default(),
            busy: false,
            behind: Vec::new(),
            done: channel(),
            title: "Tokenscope".into(),
            turn: 0,
            leaving: false,
            folder: None,
            keeping: Keeping::default(),
        }
    }

    /// Takes `doc` for what the window began with.
    pub fn begin(&mut self, doc: &Doc) {
        self.saved = Some(doc.clone());
    }

    /// Whether the file, or the start, holds `doc`.
    pub fn holds(&self, doc: &Doc) -> bool {
        self.saved.as_ref() == Some(doc)
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<String> {
        let path = self.path.as_ref().or(self.suggested.as_ref())?;
        path.file_name().map(|n| n.to_string_lossy().into_owned())
    }
}

/// Whether a document that was never saved has something in it that its user would miss: a pin, several panes side by
/// side, or a text of their own. Models, examples, methods, colours and selections are had again in a few clicks, and
/// whoever only looks around must not be asked about it each time the window closes.
fn worth(doc: &Doc) -> bool {
    let given = Pane::default().run.prompt;
    let own = |p: &Pane| {
        let prompt = &p.run.prompt;
        let recorded = matches!(p.run.model, ModelSource::Recorded(_));
        !recorded
            && !prompt.trim().is_empty()
            && *prompt != given
            && examples::ALL.iter().all(|e| *e.prompt() != **prompt)
    };
    !doc.pins.is_empty() || doc.panes().len() > 1 || doc.panes().iter().any(own)
}

impl App {
    /// Whether something would be lost that is worth a question. Where the views lie does not count: it is remembered
    /// with the settings, and a session that was only looked at should not seem changed.
    pub fn unsaved(&self) -> bool {
        let s = &self.session;
        let doc = self.own_doc();
        !s.holds(doc) && (s.path.is_some() || s.saved.is_none() || worth(doc))
    }

    /// The file of the session, once it has one.
    pub fn session_file(&self) -> Option<&Path> {
        self.session.path.as_deref()
    }

    /// Does what takes the present document away, after a question where something would be lost.
    pub(super) fn want(&mut self, ctx: &egui::Context, next: Next) {
        self.take_typed(ctx);
        self.forget_next();
        if self.unsaved() {
            self.session.question = Some(Question::Save);
            self.session.next = Some(next);
        } else {
            self.go(ctx, next);
        }
    }

    /// Opens a session, after a question where something would be lost.
    pub fn open_session(&mut self, ctx: &egui::Context, path: PathBuf) {
        self.want(ctx, Next::Open(path));
    }

    /// Does it without a question.
    pub(super) fn go(&mut self, ctx: &egui::Context, next: Next) {
        match next {
            Next::Close => {
                self.session.leaving = true;
                ctx.send_viewport_cmd(ViewportCommand::Close);
            }
            Next::Open(path) => self.read(ctx, path, None),
            Next::Restore(orphan) => self.read(ctx, orphan.path.clone(), Some(orphan)),
        }
    }

    /// Reads a session on a thread of its own: it may hold pictures, runs and results.
    fn read(&mut self, ctx: &egui::Context, path: PathBuf, orphan: Option<Orphan>) {
        let (send, ctx, jobs) = (self.session.done.0.clone(), ctx.clone(), self.jobs.clone());
        self.session.busy = true;
        let started = std::thread::Builder::new().name("session".into()).spawn(move || {
            let opened = Opened::open(&path).map(|mut opened| {
                opened.restore(&jobs);
                Box::new(opened)
            });
            let result = opened.map_err(|e| e.to_string());
            // The window may be gone by then.
            let _ = send.send(Done::Opened { path, orphan, result });
            ctx.request_repaint();
        });
        if let Err(e) = started {
            self.session.busy = false;
            self.notices.say(format!("no thread for the work: {e}"), false, None);
        }
    }

    /// Opens the session that the program was started with, and what belongs behind it, as a picture of the command line;
    /// the window is there meanwhile.
    pub(super) fn open_first(&mut self, ctx: &egui::Context, path: &Path, behind: Vec<Command>) {
        self.session.behind = behind;
        self.read(ctx, path.to_path_buf(), None);
    }

    /// Shows what was read.
    fn show_session(&mut self, ctx: &egui::Context, path: &Path, opened: Opened, orphan: Option<Orphan>) {
        self.leave_lesson(ctx);
        let Opened { session, placed, mut remarks, keeps_results, .. } = opened;
        let lost = !remarks.is_empty();
        // Wherever the program is started the next time, it is the same file.
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let file = if orphan.is_some() { session.window.file.clone() } else { Some(whole) };
        let before = self.session.held.take().filter(|h| file.as_deref().is_some_and(|f| h.is(f)));
        let held = before.or_else(|| file.as_deref().and_then(|f| Held::take(self.session.folder.as_deref(), f)));
        let s = &mut self.session;
        s.turn += 1;
        (s.path, s.suggested, s.mark) = (file.clone(), None, None);
        match &file {
            Some(f) if held.is_none() => {
                remarks.insert(0, "another window has it open; this is a copy, to be saved under another name".into());
                (s.path, s.suggested) = (None, Some(copy_of(f)));
            }
            // Of a file that an earlier window had open it is not known what others did since: saving asks.
            Some(f) if orphan.is_none() => s.mark = Some(Mark::of(f)),
            _ => {}
        }
        s.held = held;
        (s.traces, s.results) = (!session.recordings.is_empty(), keeps_results);
        s.placed = placed.into();
        s.saved = orphan.is_none().then(|| session.doc.clone());
        self.doc = session.doc;
        self.alone = session.window.alone.and_then(|id| views::ALL.iter().position(|v| v.id == id));
        self.sources = session.window.sources;
        let told = session.window.layout.is_some();
        match session.window.layout.and_then(Layout::tree) {
            Some(tree) => self.tiles = tree,
            None if told => remarks.push("where the views were is lost".into()),
            None => {}
        }
        self.panels.typed_at = None;
        self.history.clear();
        self.follow(ctx);
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let name = if orphan.is_some() { "the session was restored".into() } else { name };
        if !remarks.is_empty() {
            self.notices.say(format!("{name}: {}", remarks.join("; ")), false, None);
        } else if orphan.is_some() {
            self.notices.say(name, true, None);
        }
        match orphan {
            Some(orphan) => self.session.keeping.adopt(orphan),
            // A damaged file should not be written over by what is left of it without a word.
            None if lost => self.session.mark = None,
            None => {}
        }
        if let Some(file) = &file {
            self.recents.add_session(file);
            self.store_recents();
        }
    }

    /// Saves the session where it is, or asks where.
    pub(super) fn save_session(&mut self, ctx: &egui::Context) {
        self.take_typed(ctx);
        match self.session.path.clone() {
            Some(path) => self.save_to(ctx, path),
            None => self.ask_where(),
        }
    }

    /// Saves the session to `path`, after a question where that would take something away.
    pub(super) fn save_to(&mut self, ctx: &egui::Context, path: PathBuf) {
        let own = self.session.path.as_ref() == Some(&path);
        let ask = match &self.session.mark {
            Some(mark) if own => mark.changed(&path).then_some("was changed by others since it was opened"),
            None if own && path.exists() => Some("may have changed, or cannot be read as a whole"),
            _ if path.exists() => Some("is there already"),
            _ => None,
        };
        match ask {
            Some(why) => self.session.question = Some(Question::Overwrite(path, why)),
            None => self.write(ctx, path),
        }
    }

    /// Writes the session on a thread of its own.
    pub(super) fn write(&mut self, ctx: &egui::Context, path: PathBuf) {
        if self.session.busy {
            return self.failed("a file is still being read or written; save again in a moment".into());
        }
        let own = self.session.held.as_ref().is_some_and(|h| h.is(&path));
        let held = if own { None } else { Held::take(self.session.folder.as_deref(), &path) };
        if !own && held.is_none() {
            return self.failed(format!("another window has {} open; choose another name", path.display()));
        }
        let (send, repaint) = (self.session.done.0.clone(), ctx.clone());
        let (snapshot, turn) = (self.snapshot(self.session.traces, self.session.results), self.session.turn);
        self.session.busy = true;
        let started = std::thread::Builder::new().name("session".into()).spawn(move || {
            let result = Writer::default().save(&snapshot, &path).map_err(|e| e.to_string());
            // The window may be gone by then.
            let _ = send.send(Done::Saved { turn, path, doc: snapshot.doc.into(), held, result });
            repaint.request_repaint();
        });
        if let Err(e) = started {
            self.session.busy = false;
            self.notices.say(format!("no thread for the work: {e}"), false, None);
        }
    }

    /// The window as it is now. Runs that are not there yet are left out.
    pub(super) fn snapshot(&self, traces: bool, results: bool) -> Snapshot {
        // What a lesson shows is not the user's.
        let (doc, alone, sources) = self.own_look();
        let window = Window {
            layout: Some(Layout::of(&self.tiles)),
            alone: alone.map(|v| views::ALL[v].id.into()),
            sources,
            file: None,
        };
        let kept = if traces { self.runs(doc) } else { Vec::new() };
        let results = if results { session::results(doc, &self.jobs) } else { Vec::new() };
        Snapshot { doc: doc.clone(), window, placed: self.session.placed.clone(), traces: kept, results }
    }

    /// The runs of `doc` that are there, each once.
    fn runs(&self, doc: &Doc) -> Vec<(RunKey, Arc<Trace>)> {
        let mut out: Vec<(RunKey, Arc<Trace>)> = Vec::new();
        for pane in doc.panes().iter().chain(doc.pins.iter().map(|p| &p.pane)) {
            let known = out.iter().any(|(run, _)| *run == pane.run);
            let ready = self.jobs.ready(&TraceOf(pane.run.clone())).filter(|_| !known);
            out.extend(ready.map(|t| (pane.run.clone(), t)));
        }
        out
    }

    /// What the runs that would be saved along take, in bytes.
    pub(super) fn bytes_of_traces(&self) -> u64 {
        self.runs(self.own_doc()).iter().map(|t| t.1.size_bytes() as u64).sum()
    }

    /// What threads did, the question, the title, and whether the window may close.
    pub(super) fn sessions_ui(&mut self, ctx: &egui::Context, commands: &mut Vec<Command>) {
        while let Ok(done) = self.session.done.1.try_recv() {
            self.session.busy = false;
            match done {
                Done::Saved { turn, path, result, .. } if turn != self.session.turn => match result {
                    Ok(()) => self.notices.say(format!("saved {}", path.display()), true, Some(path)),
                    Err(why) => self.notices.say(why, false, None),
                },
                Done::Saved { path, doc, held, result, .. } => self.saved(ctx, path, *doc, held, result),
                Done::Opened { path, orphan, result } => match result {
                    Ok(opened) => {
                        // What was sent to the document before is not for this one.
                        commands.clear();
                        self.show_session(ctx, &path, *opened, orphan);
                        commands.append(&mut self.session.behind);
                    }
                    Err(why) => {
                        self.session.behind.clear();
                        self.notices.say(why, false, None);
                        self.session.keeping.offer_again(orphan);
                    }
                },
            }
        }
        if ctx.input(|i| i.viewport().close_requested()) && !self.session.leaving {
            self.take_typed(ctx);
            if self.unsaved() {
                ctx.send_viewport_cmd(ViewportCommand::CancelClose);
                self.want(ctx, Next::Close);
            }
        }
        // In this order: a form gets the keyboard in a frame in which no question has it.
        self.form_ui(ctx);
        self.question_ui(ctx);
        self.keep(ctx);
        let mark = if self.unsaved() { "• " } else { "" };
        let title = match self.session.name() {
            Some(name) => format!("{mark}{name} – Tokenscope"),
            None => format!("{mark}Tokenscope"),
        };
        if title != self.session.title {
            ctx.send_viewport_cmd(ViewportCommand::Title(title.clone()));
            self.session.title = title;
        }
    }

    fn saved(&mut self, ctx: &egui::Context, path: PathBuf, doc: Doc, held: Option<Held>, result: Result<(), String>) {
        if let Err(why) = result {
            return self.failed(why);
        }
        let s = &mut self.session;
        (s.saved, s.mark, s.suggested, s.form.open) = (Some(doc), Some(Mark::of(&path)), None, false);
        s.held = held.or_else(|| s.held.take());
        s.path = Some(path.clone());
        self.recents.add_session(&path);
        self.store_recents();
        self.notices.say(format!("saved {}", path.display()), true, Some(path));
        // What was changed while it was written is asked about once more.
        if let Some(next) = self.session.next.take() {
            self.want(ctx, next);
        }
    }

    /// Says where it was asked why nothing was saved.
    fn failed(&mut self, why: String) {
        let form = &mut self.session.form;
        if form.open {
            (form.wrong, form.fresh) = (Some(why), true);
        } else {
            self.notices.say(why, false, None);
            self.forget_next();
        }
    }

    fn store_recents(&self) {
        if self.stores {
            self.recents.store();
        }
    }
}

/// Another name beside `path`.
fn copy_of(path: &Path) -> PathBuf {
    let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{name} (copy).{SESSION}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Pin;

    #[test]
    fn what_can_be_had_again_in_a_few_clicks_is_worth_no_question() {
        let of = |change: fn(&mut Doc)| {
            let mut doc = Doc::default();
            change(&mut doc);
            worth(&doc)
        };
        assert!(!of(|_| ()));
        assert!(!of(|d| d.apply(Command::Model(ModelSource::Path("/m".into())))));
        assert!(!of(|d| d.apply(Command::head(1, 2))));
        assert!(!of(|d| d.apply(Command::Prompt(" ".into()))));
        for e in &examples::ALL {
            let pane = e.pane(&Pane::default());
            assert!(!worth(&Doc::of(pane)), "{}", e.id);
        }
        assert!(of(|d| d.apply(Command::Prompt("My own words".into()))));
        assert!(of(Doc::split));
        assert!(of(|d| d.pins.push(Pin::default())));
        assert_eq!(copy_of(Path::new("/a/b.tokenscope")), Path::new("/a/b (copy).tokenscope"));
    }
}
