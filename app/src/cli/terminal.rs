//! What verbs say: results on standard output, remarks, progress and failures on standard error.
//!
//! A reader that has seen enough (`| head`) ends the program quietly; a full disk is an error like any other. What
//! comes from files is not let through to the terminal as it is: a name may hold escape sequences.

use crate::jobs::Jobs;
use std::fmt::Arguments;
use std::io::{self, IsTerminal as _, Write as _};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokenscope_analysis::foreign::fault;

/// A check that ran and did not hold: exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CheckFailed(pub String);

/// Standard output takes no more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}; check the free space, or give --out where the verb has it")]
struct OutFailed(io::Error);

/// A line for people on standard output, as `println!`, but the function that calls it returns what failed.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::terminal::line(format_args!($($words)*))? };
}
pub(super) use say;

/// What [`say!`] does.
pub fn line(words: Arguments) -> anyhow::Result<()> {
    data(&harmless(&words.to_string()))
}

/// A line of data on standard output, byte for byte.
pub fn data(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(OutFailed)?)
}

/// A value as one line of JSON on standard output, piece by piece: some have much of it.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    pieces(|out| {
        serde_json::to_writer(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// Data on standard output, byte for byte, as `write` gives it piece by piece.
pub fn pieces(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> anyhow::Result<()> {
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    Ok(write(&mut out).and_then(|()| out.flush()).map_err(OutFailed)?)
}

/// A line on standard error. That nobody can read it changes nothing.
pub fn remark(words: Arguments) {
    let _ = writeln!(io::stderr(), "{}", harmless(&words.to_string()));
}

/// The text with control characters spelled out; lines and tabs stay.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Marks that turn the direction of writing can make one name look like another.
        let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() || turns => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Where the last panic was.
static PLACE: Mutex<String> = Mutex::new(String::new());

/// Runs a verb and says how it went: 0 fine, 1 a check failed, 2 bad input or a fault of ours.
pub fn guarded(verb: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    // Whoever looks for the fault asks for the way there.
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|info: &PanicHookInfo| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            // A text that was cut wrongly stands behind this, and texts stand in no log.
            let words = info.payload_as_str().and_then(|w| w.split(" of `").next()).unwrap_or_default();
            crate::log::line(&format!("fault at {place}: {words}"));
            *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place;
        }));
    }
    let end = catch_unwind(AssertUnwindSafe(verb)).unwrap_or_else(|panic| {
        Err(fault(panic.as_ref(), &PLACE.lock().unwrap_or_else(PoisonError::into_inner)).into())
    });
    let Err(e) = end else { return ExitCode::SUCCESS };
    match e.downcast_ref::<OutFailed>() {
        Some(OutFailed(why)) if why.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        _ => {}
    }
    if e.is::<CheckFailed>() {
        remark(format_args!("{e}"));
        return ExitCode::from(1);
    }
    remark(format_args!("tokenscope: {e:#}"));
    ExitCode::from(2)
}

/// Work that takes longer says on a terminal how far it is.
const LONG: Duration = Duration::from_secs(1);

/// Says on standard error how far the jobs are, as long as it lives: one line that is written over, and only on a
/// terminal.
pub struct Progress {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Of what `jobs` are at.
    pub fn of(jobs: &Jobs) -> Self {
        let jobs = jobs.clone();
        Self::from(move || jobs.running().1)
    }

    /// Of a share from 0 to 1.
    pub fn from(share: impl Fn() -> f32 + Send + 'static) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (ended, began) = (done.clone(), Instant::now());
        let thread = io::stderr().is_terminal().then(|| {
            std::thread::spawn(move || {
                let mut said = None;
                while !ended.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(200));
                    let percent = (share().clamp(0.0, 1.0) * 100.0) as u32;
                    if began.elapsed() > LONG && said != Some(percent) {
                        said = Some(percent);
                        let _ = write!(io::stderr(), "\rworking: {percent:>3}%");
                    }
                }
                if said.is_some() {
                    let _ = write!(io::stderr(), "\r              \r");
                }
            })
        });
        Self { done, thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It only prints; that it panicked would not change the result.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_spelled_out() {
        assert_eq!(harmless("a\u{1b}[2Jb\u{9b}1m\r\n\tü"), "a\\u{1b}[2Jb\\u{9b}1m\\u{d}\n\tü");
        assert_eq!(harmless("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
    }

    #[test]
    fn a_panic_of_a_verb_is_exit_2_and_a_reader_that_left_is_none() {
        let code = |e: ExitCode| format!("{e:?}");
        assert_eq!(code(guarded(|| panic!("oh"))), code(ExitCode::from(2)));
        let left = || Err(OutFailed(io::ErrorKind::BrokenPipe.into()).into());
        assert_eq!(code(guarded(left)), code(ExitCode::SUCCESS));
        let full = || Err(OutFailed(io::ErrorKind::StorageFull.into()).into());
        assert_eq!(code(guarded(full)), code(ExitCode::from(2)));
        assert_eq!(code(guarded(|| Err(CheckFailed("no".into()).into()))), code(ExitCode::from(1)));
    }
}
