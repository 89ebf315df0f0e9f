//! Damaged files of every kind that the program opens: whatever comes back, it is no panic. Mutations are seeded.

use candle_core::Device;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json as value};
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::image::{Picture, Processor};
use tokenscope_analysis::model::from_weights;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, read_trace, write_trace};
use tokenscope_analysis::weights::Weights;
use tokenscope_tests::{golden, json, recorded_request};

/// Runs `f` and says which input made it panic.
fn survives(what: &str, f: impl FnOnce(), problems: &mut Vec<String>) {
    if let Err(e) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        let words = e.downcast_ref::<String>().cloned().or_else(|| e.downcast_ref::<&str>().map(|s| s.to_string()));
        problems.push(format!("{what}: {}", words.unwrap_or_default()));
    }
}

/// `bytes` with some of them changed, cut off, doubled or left out.
fn damaged(bytes: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if out.is_empty() {
            break;
        }
        // Headers stand in front and matter more than the numbers behind them.
        let near = out.len().min(if rng.random_bool(0.7) { 400 } else { usize::MAX });
        let at = rng.random_range(0..near);
        let to = (at + rng.random_range(1..=16)).min(out.len());
        match rng.random_range(0..6) {
            0 => out[at] = rng.random(),
            1 => out[at] ^= 1 << rng.random_range(0..8),
            2 => out.truncate(at),
            3 => drop(out.drain(at..to)),
            4 => out[at..to].fill(0xff),
            _ => {
                let part = out[at..to].to_vec();
                out.splice(at..at, part);
            }
        }
    }
    out
}

/// Every form of a JSON object with one entry changed, at any depth.
fn changed(v: &Value) -> Vec<(String, Value)> {
    let hostile = [
        Value::Null,
        value!(-1),
        value!(0),
        value!(1),
        value!(7),
        value!(1e18 as u64),
        value!(0.37),
        value!(f64::MAX),
        value!("x"),
        value!(true),
        value!([]),
        value!([3, -2]),
        value!({}),
    ];
    let mut out = Vec::new();
    let Value::Object(map) = v else { return out };
    for (key, old) in map {
        let mut put = |new: Value, what: String| {
            let mut copy = map.clone();
            copy.insert(key.clone(), new);
            out.push((what, Value::Object(copy)));
        };
        for h in &hostile {
            put(h.clone(), format!("{key} = {h}"));
        }
        for (what, inner) in changed(old) {
            put(inner, format!("{key}.{what}"));
        }
        let mut copy = map.clone();
        copy.remove(key);
        out.push((format!("no {key}"), Value::Object(copy)));
    }
    out
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    copy
}

/// Opens the folder and runs what its fixture recorded; errors are fine.
fn open_and_run(dir: &Path, request: &RunRequest) {
    let Ok(weights) = Weights::open(dir) else { return };
    let Ok(model) = from_weights(&weights, &Device::Cpu) else { return };
    let _ = run(model.as_ref(), None, request, &CaptureSpec::views(), &Ctx::default());
}

#[test]
fn configurations_with_any_entry_changed() {
    let families = [
        "bert",
        "gpt2",
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "roberta",
        "vit",
        "clip",
        "siglip_vision",
        "dinov2",
        "llava",
        "smolvlm",
        "settings/distilbert_mlm",
        "settings/llama_yarn_opts",
        "settings/llama_longrope_long",
        "settings/qwen2_sw_some",
        "settings/dinov2_swiglu",
        "settings/gpt_neox_pythia",
        "settings/phi_grouped",
        "settings/phi3_longrope",
        "settings/opt_after",
        "settings/gemma2_windows",
        "settings/gemma3_ropes",
    ];
    let (mut problems, mut tried) = (Vec::new(), 0);
    for family in families {
        let dir = golden().join("models").join(family);
        let mut request = recorded_request(&dir.join("expected.safetensors"));
        request.greedy = request.greedy.min(2);
        let copy = copy_of(&dir);
        for (what, config) in changed(&json(&dir.join("config.json"))) {
            std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
            survives(&format!("{family}: {what}"), || open_and_run(copy.path(), &request), &mut problems);
            tried += 1;
        }
    }
    assert!(tried > 4000, "only {tried} were tried");
    assert!(problems.is_empty(), "{} of {tried}: {problems:#?}", problems.len());
}

#[test]
fn processors_with_any_entry_changed() {
    let (mut problems, mut tried) = (Vec::new(), 0);
    for family in ["vit", "clip", "siglip_vision", "dinov2", "llava", "smolvlm"] {
        let dir = golden().join("models").join(family);
        let copy = copy_of(&dir);
        let picture = Picture::new(9, 5, (0..135).collect()).unwrap();
        for name in ["preprocessor_config.json", "processor_config.json"] {
            if !dir.join(name).exists() {
                continue;
            }
            for (what, settings) in changed(&json(&dir.join(name))) {
                std::fs::write(copy.path().join(name), settings.to_string()).unwrap();
                let go = || {
                    let Ok(weights) = Weights::open(copy.path()) else { return };
                    let Ok(Some(p)) = Processor::load(&weights) else { return };
                    if let Ok(image) = p.process(&picture) {
                        let _ = p.expand("What <image>?", &image);
                    }
                };
                survives(&format!("{family}: {name}: {what}"), go, &mut problems);
                tried += 1;
            }
            std::fs::copy(dir.join(name), copy.path().join(name)).unwrap();
        }
    }
    assert!(tried > 500, "only {tried} were tried");
    assert!(problems.is_empty(), "{} of {tried}: {problems:#?}", problems.len());
}

/// Damages `file` in a copy of its folder `n` times and calls `open` with the folder.
fn bytes_changed(dir: &Path, file: &str, n: usize, open: impl Fn(&Path)) {
    let copy = copy_of(dir);
    let bytes = std::fs::read(dir.join(file)).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(bytes.len() as u64);
    let mut problems = Vec::new();
    for k in 0..n {
        std::fs::write(copy.path().join(file), damaged(&bytes, &mut rng)).unwrap();
        let go = || open(copy.path());
        survives(&format!("{} {file}, mutation {k}", dir.display()), go, &mut problems);
    }
    assert!(problems.is_empty(), "{} of {n}: {problems:#?}", problems.len());
}

#[test]
fn weights_with_bytes_changed() {
    for family in ["llama", "settings/llava_list"] {
        let dir = golden().join("models").join(family);
        let request = recorded_request(&dir.join("expected.safetensors"));
        bytes_changed(&dir, "model.safetensors", 300, |d| open_and_run(d, &request));
    }
}

#[test]
fn tokenizers_with_bytes_changed() {
    for family in ["bert", "gpt2", "llama", "smolvlm"] {
        let dir = golden().join("models").join(family);
        bytes_changed(&dir, "tokenizer.json", 60, |d| {
            if let Ok(t) = Tokenizer::load(&d.join("tokenizer.json")) {
                let _ = t.encode("A train, über 12 Brücken. 🚂 e\u{301}", None, true);
                let _ = (t.token_text(3), t.merges(300), t.decode(&[1, 2, 900], true));
            }
        });
    }
}

#[test]
fn traces_with_bytes_changed() {
    let dir = tempfile::tempdir().unwrap();
    let model = tokenscope_analysis::model::load(&golden().join("models/qwen3"), &Device::Cpu).unwrap();
    let request = RunRequest { ids: Some((1..12).collect()), ..RunRequest::default() };
    let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
    write_trace(&trace, &dir.path().join("t.safetensors")).unwrap();
    bytes_changed(dir.path(), "t.safetensors", 1500, |d| drop(read_trace(&d.join("t.safetensors"), &Ctx::default())));
}

#[test]
fn pictures_with_bytes_changed() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(golden().join("models/bad_inputs/images"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.metadata().unwrap().len() < 60_000 && p.is_file())
        .collect();
    files.sort();
    assert!(files.len() > 5, "only {} pictures", files.len());
    let (mut problems, mut rng) = (Vec::new(), ChaCha8Rng::seed_from_u64(5));
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        for k in 0..40 {
            let bad = damaged(&bytes, &mut rng);
            survives(&format!("{}, mutation {k}", file.display()), || drop(Picture::decode(&bad)), &mut problems);
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}
