//! Methods against the authors' code, through their raw entries: every field of every case.

use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::catalog::adapters;
use tokenscope_analysis::gpu::Compute;
use tokenscope_analysis::raw::RawInput;
use tokenscope_tests::{golden, gpu, json, tensors};

/// Fields that a case records beside its results.
const INFORMATIVE: &[&str] = &["order_same_in_float64", "thresholded_as_released", "monte_carlo_check"];

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

#[test]
fn every_case_equals_the_reference() {
    check(&Ctx::default());
}

/// The same through the shaders. Real adapters are chosen by themselves; a software one has to be asked for.
#[test]
fn every_case_equals_the_reference_on_the_gpu() {
    let Some(gpu) = gpu("every_case_equals_the_reference_on_the_gpu") else { return };
    check(&Ctx::default().with_gpu(Some(Arc::new(gpu)), Compute::Gpu));
}

fn check(ctx: &Ctx) {
    let mut problems = Vec::new();
    let mut cases = 0;
    let all = adapters();
    let folders = |dir: &Path| -> Vec<std::path::PathBuf> {
        let mut out: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
        out.sort();
        out
    };
    for family in folders(&golden().join("methods")) {
        for method in folders(&family) {
            let name = method.file_name().unwrap().to_str().unwrap();
            let adapter = all.iter().find(|a| a.name == name).unwrap_or_else(|| panic!("no raw entry {name}"));
            for case in folders(&method) {
                cases += 1;
                let floats = &json(&case.join("params.json"))["compare"]["floats"];
                let tol = (floats["atol"].as_f64().unwrap_or(1e-5), floats["rtol"].as_f64().unwrap_or(1e-4));
                let label = format!("{name}/{}", case.file_name().unwrap().to_str().unwrap());
                match (adapter.run)(&input(&case), ctx) {
                    Ok(got) => compare(&label, &got, &json(&case.join("expected.json")), tol, &mut problems),
                    Err(e) => problems.push(format!("{label}: {e}")),
                }
            }
        }
    }
    assert!(cases >= 24, "only {cases} cases were found");
    problems.truncate(20);
    assert!(problems.is_empty(), "{problems:#?}");
}
