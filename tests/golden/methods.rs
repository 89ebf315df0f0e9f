//! Methods against the authors' code, through their raw entries: every case below `methods` is a test, every field
//! of its result is compared. Where a case dispatched passes, it runs a second time through the shaders.

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use tokenscope_analysis::array::Array;
use tokenscope_analysis::gpu::{Compute, Gpu};
use tokenscope_analysis::raw::{Adapter, RawInput};
use tokenscope_analysis::{Ctx, catalog};
use tokenscope_tests::{golden, gpu, json, tensors};

/// Fields that a case records beside its results.
const INFORMATIVE: &[&str] = &[
    "order_same_in_float64",
    "thresholded_as_released",
    "monte_carlo_check",
    "log_line",
    "cache_states",
    "context_dependent_entries",
    "context_independent_entries",
];

/// Differences of one case that are printed.
const SHOWN: usize = 20;

fn main() {
    let args = Arguments::from_args();
    let mut cases = Vec::new();
    walk(&golden().join("methods"), &mut cases);
    assert!(cases.len() >= 24, "only {} cases were found", cases.len());
    let trials = cases.into_iter().map(|case| Trial::test(name_of(&case), move || check(&case))).collect();
    libtest_mimic::run(&args, trials).exit();
}

/// Every folder below `dir` that holds an expected result.
fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut folders: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    for folder in folders {
        if folder.join("expected.json").is_file() {
            out.push(folder);
        } else {
            walk(&folder, out);
        }
    }
}

/// `family::entry::case`, so that a part of it picks cases on the command line.
fn name_of(case: &Path) -> String {
    let below = case.strip_prefix(golden().join("methods")).unwrap_or(case);
    below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("::")
}

/// The adapter for all trials, opened by the first that dispatches a pass. Real adapters are chosen by themselves; a
/// software one has to be asked for.
static GPU: LazyLock<Option<Arc<Gpu>>> = LazyLock::new(|| gpu("cases on the graphics adapter").map(Arc::new));

fn check(case: &Path) -> Result<(), Failed> {
    let entry = case.parent().and_then(Path::file_name).ok_or("the case lies in no folder of a raw entry")?;
    let adapter = catalog::raw(&entry.to_string_lossy())?;
    let ctx = Ctx::default();
    compare_with_expected(case, adapter, &ctx, "")?;
    match &*GPU {
        Some(gpu) if ctx.passes() > 0 => {
            let ctx = Ctx::default().with_gpu(Some(gpu.clone()), Compute::Gpu);
            compare_with_expected(case, adapter, &ctx, " on the graphics adapter")
        }
        _ => Ok(()),
    }
}

fn compare_with_expected(case: &Path, adapter: &Adapter, ctx: &Ctx, place: &str) -> Result<(), Failed> {
    let floats = &json(&case.join("params.json"))["compare"]["floats"];
    let tol = (floats["atol"].as_f64().unwrap_or(1e-5), floats["rtol"].as_f64().unwrap_or(1e-4));
    let got = (adapter.run)(&input(case), ctx).map_err(|e| format!("failed{place}: {e}"))?;
    let mut problems = Vec::new();
    compare("", &got, &json(&case.join("expected.json")), tol, &mut problems);
    if problems.is_empty() {
        return Ok(());
    }
    let n = problems.len();
    problems.truncate(SHOWN);
    Err(format!("{n} differences{place}:\n{}", problems.join("\n")).into())
}

fn input(case: &Path) -> RawInput {
    let mut out = RawInput::default();
    if case.join("input.safetensors").exists() {
        for (name, v) in tensors(&case.join("input.safetensors")) {
            let values = v.values.iter().map(|&x| x as f32).collect();
            out.arrays.insert(name, Array::new(v.shape, values).unwrap());
        }
    }
    if case.join("input.json").exists() {
        out.json = json(&case.join("input.json")).as_object().unwrap().clone();
    }
    let params = json(&case.join("params.json"));
    for key in ["scalar_inputs", "params"] {
        out.params.extend(params[key].as_object().cloned().unwrap_or_default());
    }
    for (key, value) in params.as_object().unwrap() {
        out.params.entry(key.clone()).or_insert(value.clone());
    }
    out
}

/// Whether `got` keeps every index of `must` and exactly `choose` further ones of `frm`.
fn by_rule(got: &Value, rule: &Value) -> bool {
    if let Some(rules) = rule.as_array() {
        let got = got.as_array().map_or(&[][..], Vec::as_slice);
        return got.len() == rules.len() && got.iter().zip(rules).all(|(g, r)| by_rule(g, r));
    }
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let (got, must, from) = (list(got), list(&rule["must"]), list(&rule["frm"]));
    let rest: Vec<_> = got.iter().filter(|g| !must.contains(g)).collect();
    must.iter().all(|m| got.contains(m))
        && rest.len() as u64 == rule["choose"].as_u64().unwrap_or(0)
        && rest.iter().all(|r| from.contains(r))
}

fn compare(path: &str, got: &Value, want: &Value, tol: (f64, f64), out: &mut Vec<String>) {
    match want {
        Value::Object(map) => {
            for (key, w) in map {
                if INFORMATIVE.contains(&key.as_str()) || key.ends_with("_rule") || key.starts_with("note") {
                    continue;
                }
                let here = format!("{path}.{key}");
                match (got.get(key), map.get(&format!("{key}_rule"))) {
                    (None, _) => out.push(format!("{here}: missing")),
                    (Some(g), Some(rule)) if !by_rule(g, rule) => out.push(format!("{here}: {g} breaks its rule")),
                    (Some(_), Some(_)) => {}
                    (Some(g), None) => compare(&here, g, w, tol, out),
                }
            }
        }
        Value::Array(list) => match got.as_array() {
            Some(g) if g.len() == list.len() => {
                g.iter().zip(list).enumerate().for_each(|(i, (g, w))| compare(&format!("{path}[{i}]"), g, w, tol, out));
            }
            _ => out.push(format!("{path}: not a list of {}", list.len())),
        },
        Value::Number(n) if n.is_f64() => {
            let (w, g) = (n.as_f64().unwrap(), got.as_f64().unwrap_or(f64::NAN));
            // Written so that NaN fails.
            let fits = (g - w).abs() <= tol.0 + tol.1 * w.abs();
            if !fits {
                out.push(format!("{path}: {g} != {w}"));
            }
        }
        // A whole number may come as 3 or as 3.0.
        Value::Number(n) if got.as_f64() == n.as_f64() => {}
        _ if got != want => out.push(format!("{path}: {got} != {want}")),
        _ => {}
    }
}
