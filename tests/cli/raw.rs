//! The verb `method` refuses what it cannot use: with exit code 2, the file, and the field.

use super::{fails_with, models, with_compute};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use tokenscope_analysis::catalog;

/// A golden case of every raw entry: its name and folder.
fn cases() -> Vec<(&'static str, PathBuf)> {
    let methods = models().join("../methods");
    let folders = |dir: &Path| {
        let mut all: Vec<PathBuf> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        all.retain(|p| p.is_dir());
        all.sort();
        all
    };
    let of = |name: &'static str| {
        let entry = folders(&methods).into_iter().map(|kind| kind.join(name)).find(|d| d.is_dir())?;
        Some((name, folders(&entry).into_iter().next()?))
    };
    catalog::adapters().iter().filter_map(|a| of(a.name)).collect()
}

fn object(path: &Path) -> Map<String, Value> {
    let text = std::fs::read(path).unwrap_or_else(|_| b"{}".to_vec());
    serde_json::from_slice(&text).unwrap()
}

type Tensor = (String, safetensors::Dtype, Vec<usize>, Vec<u8>);

/// What an entry reads: the files of a case, taken apart so that one field can be changed.
#[derive(Clone)]
struct Parts {
    arrays: Vec<Tensor>,
    json: Map<String, Value>,
    params: Map<String, Value>,
}

impl Parts {
    fn of(case: &Path) -> Self {
        let mut arrays = Vec::new();
        if let Ok(bytes) = std::fs::read(case.join("input.safetensors")) {
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let own = |(n, v): (String, safetensors::tensor::TensorView)| {
                (n, v.dtype(), v.shape().to_vec(), v.data().to_vec())
            };
            arrays = file.tensors().into_iter().map(own).collect();
        }
        let params = object(&case.join("params.json"));
        let inner = |key: &str| params.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        let mut merged: Map<String, Value> = inner("scalar_inputs").into_iter().chain(inner("params")).collect();
        for (key, value) in params.iter().filter(|(k, _)| !["scalar_inputs", "params", "compare"].contains(&k.as_str()))
        {
            merged.entry(key.clone()).or_insert(value.clone());
        }
        let params = merged;
        Self { arrays, json: object(&case.join("input.json")), params }
    }

    /// Every part with one field changed: the field, how, and whether nothing can be made of it.
    fn changed(&self) -> Vec<(String, &'static str, bool, Self)> {
        let mut out = Vec::new();
        for (i, (name, dtype, shape, bytes)) in self.arrays.iter().enumerate() {
            let mut put = |how, sure, new: Option<Tensor>| {
                let mut parts = self.clone();
                parts.arrays.splice(i..=i, new);
                out.push((name.clone(), how, sure, parts));
            };
            let name = name.clone();
            put("missing", false, None);
            put("empty", false, Some((name.clone(), *dtype, vec![0], Vec::new())));
            let six = [vec![1; 6 - shape.len().min(6)], shape.clone()].concat();
            put("of another shape", false, Some((name.clone(), *dtype, six, bytes.clone())));
            if *dtype == safetensors::Dtype::F32 {
                let nan = [&f32::NAN.to_le_bytes()[..], &bytes[4..]].concat();
                put("NaN", true, Some((name, *dtype, shape.clone(), nan)));
            }
        }
        for (which, fields) in [(0, &self.json), (1, &self.params)] {
            for (name, old) in fields {
                let mut put = |how, sure, new: Option<Value>| {
                    let mut parts = self.clone();
                    let map = if which == 0 { &mut parts.json } else { &mut parts.params };
                    match new {
                        Some(v) => map.insert(name.clone(), v),
                        None => map.shift_remove(name),
                    };
                    out.push((name.clone(), how, sure, parts));
                };
                put("missing", false, None);
                put("of another kind", false, Some(if old.is_object() { json!("x") } else { json!({ "x": 1 }) }));
                put("empty", false, Some(if old.is_array() { json!([]) } else { json!("") }));
                put("a huge number", false, Some(json!(1e12 as u64)));
            }
        }
        out
    }

    fn write(&self, dir: &Path) -> Vec<String> {
        let path = |name: &str| dir.join(name).to_str().unwrap().to_string();
        std::fs::write(dir.join("in.json"), serde_json::to_vec(&self.json).unwrap()).unwrap();
        std::fs::write(dir.join("p.json"), serde_json::to_vec(&self.params).unwrap()).unwrap();
        let view = |t: &'static Tensor| safetensors::tensor::TensorView::new(t.1, t.2.clone(), &t.3).unwrap();
        let mut args = vec!["--input".into(), path("in.json"), "--params".into(), path("p.json")];
        if !self.arrays.is_empty() {
            let kept: &'static Vec<Tensor> = Box::leak(Box::new(self.arrays.clone()));
            let bytes = safetensors::serialize(kept.iter().map(|t| (t.0.clone(), view(t))), None).unwrap();
            std::fs::write(dir.join("in.safetensors"), bytes).unwrap();
            args.extend(["--input".into(), path("in.safetensors")]);
        }
        args
    }
}

#[test]
fn every_entry_refuses_with_the_file_and_the_field() {
    let mut problems = Vec::new();
    let (mut refused, cases) = (0, cases());
    assert!(cases.len() >= 24, "only {} entries have a case", cases.len());
    let dir = tempfile::tempdir().unwrap();
    for (entry, case) in cases {
        for (field, how, sure, parts) in Parts::of(&case).changed() {
            let args = parts.write(dir.path());
            let args: Vec<&str> = ["method", entry].into_iter().chain(args.iter().map(String::as_str)).collect();
            let out = with_compute(Some("cpu"), &args);
            let err = String::from_utf8_lossy(&out.stderr);
            let said = err.contains(dir.path().to_str().unwrap()) && !err.contains("fault of Tokenscope");
            // What is left out may have a default, and some fields are for readers only.
            let fine = match out.status.code() {
                Some(0) => !sure,
                Some(2) => said && (err.contains(&field) || err.contains("correct ")),
                _ => false,
            };
            refused += usize::from(out.status.code() == Some(2));
            if !fine {
                problems.push(format!("{entry}: {field} {how}: {:?} {err}", out.status.code()));
            }
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    assert!(refused > 200, "only {refused} were refused");
}

#[test]
fn work_without_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (models().join("gpt2"), dir.path().join("t.safetensors"));
    let trace = ["trace", "--model", model.to_str().unwrap(), "--prompt", "12 boats", "--greedy", "100000000000"];
    fails_with(&[&trace[..], &["--out", out.to_str().unwrap()]].concat(), &["fewer tokens"]);
    assert!(!out.exists());
}
