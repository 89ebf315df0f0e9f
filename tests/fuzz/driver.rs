//! Drives one parser: every kept input first, then changed ones until the time or the number of them is up. An input
//! whose outcome, in words, was not seen before is kept and changed further, so that the search gets deeper by itself.

use crate::mutate::{Form, mutated};
use libtest_mimic::Failed;
use rand::seq::IndexedRandom as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokenscope_analysis::foreign::words_of;
use tokenscope_tests::root;

/// Reads one input and says in words what came of it.
pub type Read = Box<dyn FnMut(&[u8]) -> Result<String, String>>;

/// A parser of the program. `Err` of a read is an outcome as any other; a panic, an input that takes long and one that
/// asks for too much memory are not.
pub struct Parser {
    /// Name of the trial and of the folder of kept inputs.
    pub name: &'static str,
    /// How inputs are built.
    pub form: Form,
    /// Words that the parser looks for.
    pub words: &'static [&'static str],
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Prepares a folder of its own and gives what reads one input.
    pub open: fn(&Path) -> Read,
}

/// How long to search.
#[derive(Debug, Clone, Copy)]
pub enum Budget {
    /// Always the same inputs: this many.
    Inputs(usize),
    /// Others in every run, for this long.
    Time(Duration),
}

/// An input that takes longer is a fault.
const SLOW: Duration = Duration::from_secs(10);
/// An input that takes longer ends the program, since it may never come back.
const STUCK: Duration = Duration::from_secs(120);
/// Inputs that are changed further, at most.
const POOL: usize = 300;
/// Faults after which the search ends.
const ENOUGH: usize = 5;
/// Bytes of an input that is worth keeping in the repository.
const SMALL: usize = 4096;

/// Where inputs are kept from run to run: those that matter in the repository, those of this machine in `target`.
fn kept(name: &str) -> [PathBuf; 2] {
    [root().join("tests/fuzz/corpus").join(name), root().join("target/fuzz").join(name)]
}

/// Searches; fails with every input that is a fault and where it was put.
pub fn drive(p: &Parser, budget: Budget) -> Result<(), Failed> {
    let folders = kept(p.name);
    std::fs::create_dir_all(&folders[1])?;
    let mut pool = (p.seeds)();
    assert!(!pool.is_empty(), "{} has nothing to begin with", p.name);
    // Inputs of this machine are no part of a run that is always the same.
    let read = if matches!(budget, Budget::Time(_)) { &folders[..] } else { &folders[..1] };
    for folder in read {
        pool.extend(files(folder).into_values().take(POOL));
    }
    let faults = search(p, &mut pool, budget, &folders[1]);
    let saved: Vec<String> = faults.into_iter().map(|(what, input)| save(p, &what, &input)).collect();
    if saved.is_empty() { Ok(()) } else { Err(saved.join("\n").into()) }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    entries.filter(|p| p.is_file()).filter_map(|p| std::fs::read(&p).ok().map(|bytes| (p, bytes))).collect()
}

/// A fault is put among the kept inputs, so that every later run begins with it.
fn save(p: &Parser, what: &str, input: &[u8]) -> String {
    let path = kept(p.name)[0].join(format!("fault-{:016x}", hash(input)));
    let written = std::fs::create_dir_all(&kept(p.name)[0]).and_then(|()| std::fs::write(&path, input));
    match written {
        Ok(()) => format!("{what}; the input is in {}", path.display()),
        Err(e) => format!("{what}; the input cannot be written ({e}): {input:?}"),
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Where files are written that nobody keeps: thousands a second, so in memory where the system has such a folder.
fn memory() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}

/// A folder of its own there.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(memory()).expect("a folder for the parser's files")
}

/// The faults found in `pool` and in what is made of it.
pub fn search(p: &Parser, pool: &mut Vec<Vec<u8>>, budget: Budget, keep: &Path) -> Vec<(String, Vec<u8>)> {
    let folder = scratch();
    let mut read = (p.open)(folder.path());
    let (start, first) = (Instant::now(), pool.len());
    let mut rng = match budget {
        Budget::Inputs(_) => ChaCha8Rng::seed_from_u64(p.name.len() as u64),
        Budget::Time(_) => ChaCha8Rng::from_os_rng(),
    };
    let watch = Watch::new(memory().join(format!("tokenscope-fuzz-{}", p.name)));
    let (mut seen, mut faults, mut written) = (HashSet::new(), Vec::new(), files(keep).len());
    for n in 0.. {
        let more = match budget {
            Budget::Inputs(most) => n < first + most,
            Budget::Time(most) => n < first || start.elapsed() < most,
        };
        if !more || faults.len() >= ENOUGH {
            break;
        }
        let input = match pool.get(n).filter(|_| n < first) {
            Some(kept) => kept.clone(),
            None => {
                let (a, b) = (pool.choose(&mut rng), pool.choose(&mut rng));
                mutated(a.map_or(&[], |v| v), b.map_or(&[], |v| v), p.form, p.words, &mut rng)
            }
        };
        watch.begin(&input);
        let began = Instant::now();
        let end = catch_unwind(AssertUnwindSafe(|| read(&input)));
        let took = began.elapsed();
        watch.end();
        match end {
            Err(e) => faults.push((format!("panicked: {}", words_of(e.as_ref())), input)),
            Ok(_) if took > SLOW => faults.push((format!("took {took:?}"), input)),
            Ok(outcome) => {
                if seen.insert(kind_of(&outcome)) && n >= first {
                    if matches!(budget, Budget::Time(_)) && input.len() <= SMALL && written < POOL {
                        written += 1;
                        // That it cannot be kept makes the next run a little poorer and nothing else.
                        let _ = std::fs::write(keep.join(format!("{:016x}", hash(&input))), &input);
                    }
                    if pool.len() < POOL.max(first + 1) {
                        pool.push(input);
                    } else {
                        let at = rng.random_range(0..pool.len());
                        pool[at] = input;
                    }
                }
            }
        }
    }
    faults
}

/// An outcome without what only this input has: numbers, quoted words, paths.
fn kind_of(outcome: &Result<String, String>) -> String {
    let (sign, words) = match outcome {
        Ok(words) => ('+', words),
        Err(words) => ('-', words),
    };
    let mut out = String::from(sign);
    let mut quoted = false;
    for c in words.chars().take(160) {
        match c {
            '"' => quoted = !quoted,
            _ if quoted || c == '/' => {}
            c if c.is_ascii_digit() => {
                if !out.ends_with('#') {
                    out.push('#');
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// Keeps the present input on disk, where it is found if the process is ended, and ends the process if it is stuck.
struct Watch {
    file: PathBuf,
    /// Milliseconds since `start` when the present input began, plus 1; 0 between two inputs.
    since: Arc<AtomicU64>,
    start: Instant,
}

impl Watch {
    fn new(file: PathBuf) -> Self {
        let (since, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let (weak, name) = (Arc::downgrade(&since), file.clone());
        std::thread::spawn(move || {
            while let Some(since) = weak.upgrade() {
                let began = since.load(Ordering::Relaxed);
                let now = start.elapsed().as_millis() as u64;
                if began > 0 && now.saturating_sub(began) > STUCK.as_millis() as u64 {
                    eprintln!("an input takes longer than {STUCK:?}: {}", name.display());
                    std::process::exit(101);
                }
                drop(since);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Self { file, since, start }
    }

    fn begin(&self, input: &[u8]) {
        let _ = std::fs::write(&self.file, input);
        self.since.store(self.start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}
