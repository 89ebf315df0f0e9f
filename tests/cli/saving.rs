//! What a command writes is whole under its name, or what was there stays; what it prints may be read in part.

use super::{models, tokenscope};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const BIN: &str = env!("CARGO_BIN_EXE_tokenscope");

/// A command that writes a JSON file of some 100 kB to `out`.
fn writing(out: &Path) -> Command {
    let mut c = Command::new(BIN);
    c.args(["run", "information_flow_routes", "--prompt", "one two three four five six seven", "--out"]).arg(out);
    c.stdout(Stdio::null()).stderr(Stdio::piped());
    c
}

fn whole(path: &Path) -> bool {
    serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).is_ok_and(|v| v.is_object())
}

#[test]
fn a_command_that_is_killed_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.json");
    std::fs::write(&out, "{}").unwrap();
    let began = std::time::Instant::now();
    assert!(writing(&out).status().unwrap().success());
    let took = began.elapsed();
    // Moments all over the run, most of them about its end, where it writes.
    for i in 0..24u32 {
        let mut child = writing(&out).spawn().unwrap();
        std::thread::sleep(took.mul_f64(0.5 + f64::from(i) / 40.0).min(Duration::from_secs(20)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(whole(&out), "killed after {i} of 24 parts of the run");
    }
}

#[test]
fn two_commands_that_write_one_file_leave_one_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.json");
    let mut both = [writing(&out).spawn().unwrap(), writing(&out).spawn().unwrap()];
    for child in &mut both {
        assert!(child.wait().unwrap().success());
        assert!(whole(&out));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn without_room_what_was_there_stays_and_words_say_why() {
    let dir = tempfile::tempdir().unwrap();
    for (args, name) in [
        ("run information_flow_routes --model MODEL --prompt hi", "a.json"),
        ("render --view flow --model MODEL --prompt hi", "a.svg"),
        ("render --view flow --model MODEL --prompt hi", "a.png"),
        ("render --view flow --model MODEL --prompt hi", "a.csv"),
        ("trace --model MODEL --prompt hi", "a.safetensors"),
    ] {
        let out = dir.path().join(name);
        std::fs::write(&out, "before").unwrap();
        let args = args.replace("MODEL", models().join("gpt2").to_str().unwrap());
        // Files may have one block; a signal would end the process before it can say so.
        let script = format!("trap '' XFSZ; ulimit -f 1; exec {BIN} {args} --out {}", out.display());
        let run = Command::new("sh").args(["-c", &script]).output().unwrap();
        let words = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{name}: {words}");
        assert!(words.contains("cannot be written") && words.contains(name), "{name}: {words}");
        assert_eq!(std::fs::read(&out).unwrap(), b"before", "{name}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{name}: something is left beside it");
        std::fs::remove_file(&out).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn devices_are_written_into_and_inputs_are_spared() {
    use std::os::unix::fs::FileTypeExt as _;
    let model = models().join("gpt2");
    let model = model.to_str().unwrap();
    let run = tokenscope(&["trace", "--model", model, "--prompt", "hi", "--out", "/dev/null"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let run = tokenscope(&["trace", "--model", model, "--prompt", "hi", "--out", "/dev/stdout"]);
    assert!(run.status.success() && safetensors::SafeTensors::deserialize(&run.stdout).is_ok());
    let weights = format!("{model}/model.safetensors");
    let before = std::fs::read(&weights).unwrap();
    for verb in [&["trace", "--model", model, "--prompt", "hi"][..], &["run", "head_table", "--model", model]] {
        super::fails_with(&[verb, &["--out", &weights]].concat(), &["is an input", "model.safetensors"]);
    }
    assert_eq!(std::fs::read(&weights).unwrap(), before);
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    for args in [&["methods"][..], &["methods", "--json"], &["atlas"], &["atlas", "--json"], &["examples"]] {
        let mut child = Command::new(BIN).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0; 1]).unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""), "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_said() {
    for args in [&["methods"][..], &["atlas", "--json"], &["examples", "--json"], &["doctor"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let out = Command::new(BIN).args(args).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let words = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {words}");
        assert!(words.contains("standard output"), "{args:?}: {words}");
    }
}

#[test]
fn a_name_with_escape_sequences_steers_no_terminal() {
    let run = tokenscope(&["info", "--model", "no\u{1b}[2Jwhere"]);
    let words = String::from_utf8_lossy(&run.stderr);
    assert!(!words.contains('\u{1b}') && words.contains("\\u{1b}"), "{words}");
}

#[cfg(unix)]
#[test]
fn what_never_ends_is_no_input() {
    for args in [&["method", "tome", "--input", "/dev/zero"][..], &["info", "--model", "/dev/zero"]] {
        let run = tokenscope(args);
        assert_eq!(run.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&run.stderr));
    }
}
