//! Keeps what a window shows while it runs, so that the next start can offer it after an end that nobody wanted.
//!
//! Each window writes a file of its own in the folder `autosave` beside the settings, and holds a lock beside it as long
//! as it runs. A file whose lock nobody holds is what is left of a window that ended without a word. A clean exit takes
//! both away.

use super::lock::{Taken, try_lock};
use super::{Snapshot, Writer};
use crate::opening::SESSION as ENDING;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// What nobody holds and has no session beside it goes after this time: one that begins has its lock first.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// What the thread is told.
enum Message {
    Keep(Box<Snapshot>),
    Forget,
}

/// Writes what it is handed on a thread of its own, the newest first; what is older by then is never written.
pub struct Autosaver {
    path: PathBuf,
    lock: PathBuf,
    held: Option<File>,
    send: Option<Sender<Message>>,
    done: Receiver<Result<(), String>>,
    thread: Option<JoinHandle<()>>,
}

impl Autosaver {
    /// Begins to keep a window's sessions in the folder `dir`; nothing is written before the first one is handed over.
    /// `None` where no file can be locked there, so that others could not tell that the window runs.
    pub fn start(dir: &Path, wake: impl Fn() + Send + 'static) -> Option<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let name = format!("{}-{now}", std::process::id());
        let (path, lock) = (dir.join(format!("{name}.{ENDING}")), lock_of(dir, &name));
        let held = try_lock(&lock).ok().flatten()?;
        let (send, take) = channel::<Message>();
        let (say, done) = channel();
        let at = path.clone();
        let work = move || {
            let mut writer = Writer::default();
            while let Ok(mut message) = take.recv() {
                while let Ok(newer) = take.try_recv() {
                    message = newer;
                }
                let end = match message {
                    Message::Keep(snapshot) => writer.save(&snapshot, &at).map_err(|e| e.to_string()),
                    // What was never written is gone already.
                    Message::Forget => std::fs::remove_file(&at).or(Ok(())),
                };
                // The window may be gone by then.
                let _ = say.send(end);
                wake();
            }
        };
        let thread = std::thread::Builder::new().name("autosave".into()).spawn(work).ok()?;
        Some(Self { path, lock, held: Some(held), send: Some(send), done, thread: Some(thread) })
    }

    /// Hands over what the window shows now.
    pub fn keep(&self, snapshot: Snapshot) {
        self.tell(Message::Keep(snapshot.into()));
    }

    /// Takes away what was written: something else holds it now.
    pub fn forget(&self) {
        self.tell(Message::Forget);
    }

    fn tell(&self, message: Message) {
        if let Some(send) = &self.send {
            // A thread that is gone has said why.
            let _ = send.send(message);
        }
    }

    /// How the last write ended, if one did since this was asked.
    pub fn ended(&self) -> Option<Result<(), String>> {
        self.done.try_iter().last()
    }

    /// Where the session is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until what was handed over is written, and takes it away: the window is saved, or nobody wants it.
    pub fn end(mut self) {
        self.stop();
        // What cannot be removed is offered at the next start.
        let _ = std::fs::remove_file(&self.path);
        self.held = None;
        let _ = std::fs::remove_file(&self.lock);
    }

    fn stop(&mut self) {
        self.send = None;
        if let Some(thread) = self.thread.take() {
            // That it panicked changes nothing here.
            let _ = thread.join();
        }
    }
}

impl Drop for Autosaver {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.lock"))
}

/// What is left of a window that ended without a word. As long as this lives nobody else is offered it.
#[derive(Debug)]
pub struct Orphan {
    /// The session.
    pub path: PathBuf,
    /// When it was written.
    pub at: Option<SystemTime>,
    lock: PathBuf,
    _held: File,
}

impl Orphan {
    /// Takes it away for good.
    pub fn discard(self) {
        // What cannot be removed is offered again.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(&self.lock);
    }
}

/// What is left in `dir` of windows that ended without a word, the newest first. What nobody needs any more is removed:
/// locks without a session, and parts of files that were being written.
pub fn orphans(dir: &Path) -> Vec<Orphan> {
    let files: Vec<PathBuf> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    let ends = |p: &Path, end: &str| p.extension().is_some_and(|e| e == end);
    let written = |p: &Path| std::fs::metadata(p).and_then(|m| m.modified()).ok();
    let stale = |p: &Path| written(p).and_then(|t| t.elapsed().ok()).is_some_and(|age| age > STALE);
    for old in files.iter().filter(|p| ends(p, "part") && stale(p)) {
        let _ = std::fs::remove_file(old);
    }
    for old in files.iter().filter(|p| ends(p, "lock") && stale(p) && !p.with_extension(ENDING).exists()) {
        if let Ok(Some(_held)) = try_lock(old) {
            let _ = std::fs::remove_file(old);
        }
    }
    let mut out: Vec<Orphan> = Vec::new();
    for path in files.into_iter().filter(|p| ends(p, ENDING)) {
        let lock = path.with_extension("lock");
        match try_lock(&lock) {
            Ok(Some(held)) if path.exists() => out.push(Orphan { at: written(&path), path, lock, _held: held }),
            // Its window ended as it should while this looked.
            Ok(Some(_held)) => drop(std::fs::remove_file(lock)),
            Ok(None) | Err(Taken) => {}
        }
    }
    out.sort_by_key(|o| std::cmp::Reverse(o.at));
    out
}
