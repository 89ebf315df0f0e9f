//! Hostile files: whatever comes back from a parser of the program, it is no panic, no long wait and no heap without
//! bounds. One trial a parser.
//!
//! As a test of the workspace each parser gets the kept inputs and a few hundred changed ones, always the same.
//! `TOKENSCOPE_FUZZ_SECONDS=60` (`.ci/fuzz 60`) searches for that long in each instead, from another start in every
//! run. A fault is put into `tests/fuzz/corpus` and is the first input of every later run; what ended the process
//! (memory, stack) is in `/dev/shm/tokenscope-fuzz-PARSER`, or in the folder of temporary files.

mod driver;
mod entries;
mod mutate;
mod parsers;

use driver::{Budget, Parser, drive, search};
use libtest_mimic::{Arguments, Failed, Trial};
use mutate::Form;
use std::time::Duration;

/// More memory than this at once ends the process: a parser that takes lengths from a file at their word.
#[global_allocator]
static HEAP: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, 2 << 30);

fn main() {
    let args = Arguments::from_args();
    // One line, without the way there: a fault is tried again from its file.
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    let seconds = std::env::var("TOKENSCOPE_FUZZ_SECONDS").ok().map(|s| s.parse::<u64>().expect("whole seconds"));
    let budget = seconds.map_or(Budget::Inputs(400), |s| Budget::Time(Duration::from_secs(s)));
    let mut trials: Vec<Trial> =
        parsers::ALL.iter().map(|p| Trial::test(p.name, move || drive(p, budget)).with_kind("parser")).collect();
    // The search has parsers of its own; what does not depend on time is tried without it.
    if seconds.is_none() {
        trials.push(Trial::test("a_planted_fault_is_found", a_planted_fault_is_found));
        trials.push(Trial::test("configurations_with_any_entry_changed", entries::configurations));
        trials.push(Trial::test("processors_with_any_entry_changed", entries::processors));
    }
    libtest_mimic::run(&args, trials).exit();
}

/// A parser that fails behind three checks, the last of them on a number inside JSON inside JSON.
const PLANTED: Parser = Parser {
    name: "planted",
    form: Form::Json,
    words: &["blocks"],
    seeds: || vec![br#"{"kind": "table", "inner": "{\"rows\": 3}"}"#.to_vec()],
    open: |_| {
        Box::new(|bytes| {
            let v: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
            if v["kind"] != "blocks" {
                return Err("another kind".into());
            }
            let inner = v["inner"].as_str().ok_or("no text")?;
            let inner: serde_json::Value = serde_json::from_str(inner).map_err(|_| "no JSON inside")?;
            let rows = inner["rows"].as_u64().ok_or("no rows")?;
            assert!(rows < 1 << 40, "planted");
            Ok("a table".into())
        })
    },
};

fn a_planted_fault_is_found() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let faults = search(&PLANTED, &mut (PLANTED.seeds)(), Budget::Inputs(100_000), folder.path());
    let found = faults.iter().any(|(what, _)| what == "panicked: planted");
    if found { Ok(()) } else { Err(format!("{faults:?}").into()) }
}
