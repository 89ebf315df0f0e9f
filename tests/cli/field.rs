//! The cases of `tests/field`: files as people have them, each with what is right. `tests/field/README.md` has the form.

use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A run may take this long.
const PATIENCE: Duration = Duration::from_secs(120);
/// The tests' build is slower than what people run, and shares the machine.
const SLOWER: f64 = 8.0;
/// Pictures of the memory of a run are taken so often.
const LOOK: Duration = Duration::from_millis(4);

/// What is wrong with a run, if something is.
type Checked = Result<(), String>;

/// What a command left behind.
struct Left {
    status: ExitStatus,
    out: String,
    err: String,
    took: Duration,
    /// The most memory at once, in bytes, where the system tells it.
    memory: Option<u64>,
}

/// A command of a case, with the folders that its placeholders stand for.
struct Run<'a> {
    dir: &'a Path,
    tmp: &'a Path,
    spec: &'a Value,
    args: Vec<String>,
    result: Left,
}

fn strings(v: &Value) -> Vec<String> {
    v.as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
}

/// Where bytes of paths that are no UTF-8 stand in a case: byte 0x80 is this character, and so on.
const BYTES: u32 = 0xf880;

/// A case. JSON of Python holds such a byte as half of a pair of surrogates, which is no text here.
fn case(dir: &Path) -> Value {
    let text = std::fs::read_to_string(dir.join("case.json")).unwrap();
    let mut parts = text.split("\\udc");
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let byte = part.get(..2).and_then(|h| u32::from_str_radix(h, 16).ok()).filter(|b| *b >= 0x80);
        match byte.and_then(|b| char::from_u32(BYTES + b - 0x80)) {
            Some(c) => out.extend([c.to_string().as_str(), &part[2..]]),
            None => out.extend(["\\udc", part]),
        }
    }
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

/// A text of a case with its folders put in.
fn put(text: &str, dir: &Path, tmp: &Path) -> std::ffi::OsString {
    let text = text.replace("{dir}", &dir.display().to_string()).replace("{tmp}", &tmp.display().to_string());
    #[cfg(unix)]
    {
        let byte =
            |c: char| (BYTES..BYTES + 0x80).contains(&u32::from(c)).then(|| vec![(u32::from(c) - BYTES + 0x80) as u8]);
        let bytes = text.chars().flat_map(|c| byte(c).unwrap_or_else(|| c.to_string().into_bytes())).collect();
        std::os::unix::ffi::OsStringExt::from_vec(bytes)
    }
    #[cfg(not(unix))]
    text.into()
}

fn start(args: &[String], spec: &Value, dir: &Path, tmp: &Path) -> Result<Left, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenscope"));
    command.args(args.iter().map(|a| put(a, dir, tmp))).current_dir(tmp);
    command.env("TOKENSCOPE_COMPUTE", "cpu").stdout(Stdio::piped()).stderr(Stdio::piped());
    for (key, value) in spec["env"].as_object().into_iter().flatten() {
        match value.as_str() {
            Some(v) => command.env(key, v),
            None => command.env_remove(key),
        };
    }
    command.stdin(if spec["stdin"].is_string() { Stdio::piped() } else { Stdio::null() });
    let began = Instant::now();
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    if let (Some(text), Some(mut pipe)) = (spec["stdin"].as_str(), child.stdin.take()) {
        let _ = pipe.write_all(text.as_bytes());
    }
    let read = |mut pipe: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(Box::new(child.stdout.take().ok_or("no standard output")?));
    let err = read(Box::new(child.stderr.take().ok_or("no standard error")?));
    let mut memory = None;
    let status = loop {
        memory = memory.max(peak(child.id()));
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => break status,
            None if began.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("took longer than {PATIENCE:?}"));
            }
            None => std::thread::sleep(LOOK),
        }
    };
    let took = began.elapsed();
    let join = |t: std::thread::JoinHandle<String>| t.join().map_err(|_| "the output could not be read".to_string());
    Ok(Left { status, out: join(out)?, err: join(err)?, took, memory })
}

/// The most memory that a process has held so far, in bytes.
fn peak(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return std::fs::copy(from, to).map(drop);
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

impl<'a> Run<'a> {
    fn new(args: &Value, spec: &'a Value, dir: &'a Path, tmp: &'a Path) -> Result<Self, String> {
        let args = strings(args);
        let result = start(&args, spec, dir, tmp)?;
        Ok(Self { dir, tmp, spec, args, result })
    }

    fn again(&self, args: &Value) -> Result<Run<'a>, String> {
        Run::new(args, self.spec, self.dir, self.tmp)
    }

    fn path(&self, text: &Value) -> PathBuf {
        put(text.as_str().unwrap_or_default(), self.dir, self.tmp).into()
    }

    fn written(&self, text: &Value) -> Result<Vec<u8>, String> {
        let path = self.path(text);
        std::fs::read(&path).map_err(|_| format!("wrote no {} ({})", path.display(), self.result.err.trim()))
    }

    /// A text without the paths that the command itself named: a folder's name must not answer for a message.
    fn said(&self, text: &str) -> String {
        let mut paths = vec![self.dir.display().to_string(), self.tmp.display().to_string()];
        for a in self.args.iter().filter(|a| a.contains("{dir}") || a.contains("{tmp}")) {
            let whole = put(a, self.dir, self.tmp).to_string_lossy().into_owned();
            let value = whole.split_once('=').filter(|_| a.starts_with("--"));
            paths.push(value.map_or(whole.clone(), |v| v.1.to_string()));
        }
        paths.sort_by_key(|p| std::cmp::Reverse(p.len()));
        paths.iter().fold(text.to_string(), |t, p| t.replace(p.as_str(), ""))
    }

    fn check(&self, expect: &Value) -> Checked {
        if expect["args"].is_array() {
            let mut rest = expect.clone();
            rest.as_object_mut().map(|o| o.remove("args"));
            return self.again(&expect["args"])?.check(&rest);
        }
        let r = &self.result;
        for (part, want) in expect.as_object().into_iter().flatten() {
            match part.as_str() {
                "exit" if r.status.code().map(i64::from) != want.as_i64() => {
                    return Err(format!("{}, not {want} ({})", r.status, r.err.trim()));
                }
                "exit" | "note" => {}
                "json" => {
                    let found = serde_json::from_str(&r.out).map_err(|e| format!("standard output is no JSON: {e}"))?;
                    values(&found, want)?;
                }
                "stdout" => self.words(&r.out, want)?,
                "stderr" => self.words(&r.err, want)?,
                "message" => self.words(&format!("{}\n{}", r.out, r.err), want)?,
                "logits" => self.logits(want)?,
                "metadata" => {
                    let bytes = self.written(&want["file"])?;
                    let (_, meta) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| e.to_string())?;
                    let text = meta.metadata().as_ref().and_then(|m| m.get(want["key"].as_str()?));
                    let text = text.ok_or("the file has no such metadata")?;
                    values(&serde_json::from_str(text).map_err(|e| e.to_string())?, &want["json"])?;
                }
                "valid" => {
                    for (path, form) in want.as_object().into_iter().flatten() {
                        let bytes = self.written(&Value::String(path.clone()))?;
                        valid(form.as_str().unwrap_or_default(), &bytes).map_err(|why| format!("{path}: {why}"))?;
                    }
                }
                "no_formulas" => {
                    let bytes = self.written(want)?;
                    let live =
                        |c: &String| c.len() > 1 && c.starts_with(['=', '+', '-', '@']) && c.parse::<f64>().is_err();
                    let cells = csv(&String::from_utf8_lossy(&bytes));
                    if let Some(cell) = cells.iter().skip(1).flatten().find(|c| live(c)) {
                        return Err(format!("a spreadsheet would run {cell}"));
                    }
                }
                "as_many" => {
                    self.again(&want["args"])?;
                    let pattern =
                        regex::Regex::new(want["pattern"].as_str().unwrap_or_default()).map_err(|e| e.to_string())?;
                    let count = |key: &str| -> Result<usize, String> {
                        Ok(pattern.find_iter(&String::from_utf8_lossy(&self.written(&want[key])?)).count())
                    };
                    let (own, other) = (count("file")?, count("other")?);
                    if own < other {
                        return Err(format!("{own} {}, where {} has {other}", want["what"], want["than"]));
                    }
                }
                "same" => self.same(want)?,
                "same_as" => {
                    let other = self.again(want)?.result;
                    if (other.status, &other.out, &other.err) != (r.status, &r.out, &r.err) {
                        return Err(format!("not as {want}: {}", other.err.trim()));
                    }
                }
                "seconds" if r.took.as_secs_f64() > SLOWER * want.as_f64().unwrap_or(0.0) => {
                    return Err(format!("took {:?}", r.took));
                }
                "megabytes" if r.memory.is_some_and(|m| m as f64 / 1e6 > want.as_f64().unwrap_or(0.0)) => {
                    return Err(format!("took {} MB", r.memory.unwrap_or(0) / 1_000_000));
                }
                "seconds" | "megabytes" => {}
                "all_of" => want.as_array().into_iter().flatten().try_for_each(|e| self.check(e))?,
                "any_of" => {
                    let whys: Vec<Checked> = want.as_array().into_iter().flatten().map(|e| self.check(e)).collect();
                    if whys.iter().all(Result::is_err) {
                        let whys: Vec<String> = whys.into_iter().filter_map(Result::err).collect();
                        return Err(whys.join(" | or: "));
                    }
                }
                other => return Err(format!("the case expects {other}, which is not known here")),
            }
        }
        Ok(())
    }

    fn words(&self, text: &str, want: &Value) -> Checked {
        let text = self.said(text).to_lowercase();
        let has = |w: &String| text.contains(&w.to_lowercase());
        if let Some(w) = strings(&want["contains"]).iter().find(|w| !has(w)) {
            return Err(format!("does not say {w:?} ({})", text.trim()));
        }
        let any = strings(&want["contains_any"]);
        if !any.is_empty() && !any.iter().any(has) {
            return Err(format!("says none of {any:?} ({})", text.trim()));
        }
        match strings(&want["lacks"]).iter().find(|w| has(w)) {
            Some(w) => Err(format!("says {w:?} ({})", text.trim())),
            None => Ok(()),
        }
    }

    fn logits(&self, want: &Value) -> Checked {
        let right =
            std::fs::read(self.dir.join(want["right"].as_str().unwrap_or_default())).map_err(|e| e.to_string())?;
        let right: Value = serde_json::from_slice(&right).map_err(|e| e.to_string())?;
        let right: Vec<f64> = right["last_logits"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        let bytes = self.written(&want["file"])?;
        let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| e.to_string())?;
        let t = file.tensor("logits").map_err(|e| e.to_string())?;
        let all: Vec<f64> = t.data().as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
        let width = t.shape().last().copied().unwrap_or(0);
        let last = &all[all.len() - width..];
        if right.is_empty() || last.len() < right.len() {
            return Err(format!("{} logits, not {}", last.len(), right.len()));
        }
        let off = last
            .iter()
            .zip(&right)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, |m: f64, x| if x > m || x.is_nan() { x } else { m });
        if off <= want["within"].as_f64().unwrap_or(0.0) {
            Ok(())
        } else {
            Err(format!("logits differ by up to {off:.3}"))
        }
    }

    fn same(&self, want: &Value) -> Checked {
        let mut first: Option<Vec<u8>> = None;
        for i in 0..want["times"].as_u64().unwrap_or(0) {
            let seen = start(&self.args, self.spec, self.dir, self.tmp)?.out.into_bytes();
            let seen = if want["file"].is_string() { self.written(&want["file"])? } else { seen };
            match &first {
                Some(first) if *first != seen => return Err(format!("run {} differs from the first", i + 1)),
                _ => first = Some(seen),
            }
        }
        Ok(())
    }
}

/// Checks values at dotted paths.
fn values(found: &Value, want: &Value) -> Checked {
    for (path, want) in want.as_object().into_iter().flatten() {
        let (mut here, mut many) = (vec![found], false);
        for part in path.split('.') {
            let mut next = Vec::new();
            for v in here {
                match part {
                    "*" => next.extend(v.as_array().into_iter().flatten()),
                    key => next.extend(key.parse::<usize>().ok().and_then(|i| v.get(i)).or_else(|| v.get(key))),
                }
            }
            many |= part == "*";
            here = next;
        }
        let got = if many {
            Value::Array(here.into_iter().cloned().collect())
        } else {
            here.first().map(|v| (*v).clone()).ok_or(format!("the JSON has no {path}"))?
        };
        if !equal(&got, want) {
            let short = |v: &Value| v.to_string().chars().take(100).collect::<String>();
            return Err(format!("{path} is {}, not {}", short(&got), short(want)));
        }
    }
    Ok(())
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Number(x), Value::Number(y)) if x.is_f64() || y.is_f64() => {
            let (x, y) = (x.as_f64().unwrap_or(f64::NAN), y.as_f64().unwrap_or(f64::NAN));
            x == y || (x - y).abs() <= 1e-6 * x.abs().max(y.abs())
        }
        _ => a == b,
    }
}

/// Rows and cells of a CSV file.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut cell, mut quoted) = (vec![vec![]], String::new(), false);
    let mut chars = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => rows.last_mut().expect("a row").push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                rows.last_mut().expect("a row").push(std::mem::take(&mut cell));
                rows.push(vec![]);
            }
            c => cell.push(c),
        }
    }
    rows.retain(|r| !r.is_empty());
    rows
}

fn valid(form: &str, bytes: &[u8]) -> Checked {
    match form {
        "png" => {
            image::load_from_memory_with_format(bytes, image::ImageFormat::Png).map(drop).map_err(|e| e.to_string())
        }
        "json" => serde_json::from_slice::<Value>(bytes).map(drop).map_err(|e| e.to_string()),
        "safetensors" => safetensors::SafeTensors::deserialize(bytes).map(drop).map_err(|e| e.to_string()),
        "svg" => {
            let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
            let whole = text.contains("<svg") && text.trim_end().ends_with("</svg>");
            if whole { Ok(()) } else { Err("is no whole SVG".into()) }
        }
        "csv" => {
            let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
            let rows = csv(text);
            if rows.iter().all(|r| r.len() == rows[0].len()) {
                Ok(())
            } else {
                Err("has rows of different widths".into())
            }
        }
        other => Err(format!("unknown form {other}")),
    }
}

fn prepare(setup: &Value, dir: &Path, tmp: &Path) -> Checked {
    for step in setup.as_array().into_iter().flatten() {
        let at = |key: &str| put(step[key].as_str().unwrap_or_default(), dir, tmp);
        let done = if step["copy"].is_string() {
            copy(Path::new(&at("copy")), Path::new(&at("to")))
        } else {
            let times = step["repeat"].as_u64().unwrap_or(1) as usize;
            std::fs::write(at("to"), step["text"].as_str().unwrap_or_default().repeat(times))
        };
        done.map_err(|e| format!("cannot be prepared: {e}"))?;
    }
    Ok(())
}

#[test]
fn field_cases_do_what_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/field").canonicalize().unwrap();
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.retain(|d| d.join("case.json").exists());
    dirs.sort();
    assert!(dirs.len() >= 35, "only {} cases", dirs.len());
    let (todo, failed) = (Mutex::new(dirs.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get().min(4)) {
            scope.spawn(|| {
                loop {
                    let Some(dir) = todo.lock().unwrap().next() else { return };
                    let case = case(dir);
                    for (i, spec) in case["runs"].as_array().unwrap().iter().enumerate() {
                        let tmp = tempfile::tempdir().unwrap();
                        let ran = prepare(&spec["setup"], dir, tmp.path())
                            .and_then(|()| Run::new(&spec["args"], spec, dir, tmp.path()))
                            .and_then(|run| run.check(&spec["expect"]));
                        if let Err(why) = ran {
                            let name = dir.file_name().unwrap().to_string_lossy();
                            failed.lock().unwrap().push(format!("{name}/{} ({}): {why}", i + 1, spec["name"]));
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} runs are not right:\n{}", failed.len(), failed.join("\n"));
}
