//! Text models against `transformers`: every recorded tensor within the fixture's tolerance.

use std::path::Path;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::{from_weights, load};
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Named, to_transformers};
use tokenscope_analysis::weights::Weights;
use tokenscope_tests::{Values, close, golden, json, tensors};

const INPUTS: &[&str] = &["input_ids", "token_type_ids", "attention_mask", "position_ids"];

/// The tolerance that meta.json states for a tensor of this name.
fn tolerance(meta: &serde_json::Value, name: &str) -> f64 {
    let group = if name.contains("attentions_") {
        "attentions"
    } else if name.contains("hidden_states_") || name.contains("last_layer_output") {
        "hidden_states"
    } else if ["q_", "k_", "v_"].iter().any(|p| name.starts_with(p)) {
        "qkv"
    } else {
        "outputs"
    };
    let group = &meta["tolerances"][group];
    // Old fixtures state no tolerance of their own for q, k and v.
    let own = if group.is_null() { &meta["tolerances"]["outputs"] } else { group };
    own["atol_f32_cpu"].as_f64().expect("meta.json states tolerances")
}

fn check_forward(model_dir: &Path, fixture: &Path) {
    let want = tensors(&fixture.join("expected.safetensors"));
    let meta = json(&fixture.join("meta.json"));
    let whole = |name: &str| want.get(name).map(|v: &Values| v.values.iter().map(|&x| x as u32).collect::<Vec<_>>());
    let request = RunRequest {
        ids: whole("input_ids"),
        token_types: whole("token_type_ids"),
        greedy: want.get("greedy_ids").map_or(0, |v| v.values.len()),
        ..RunRequest::default()
    };
    let model = load(model_dir, &candle_core::Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", model_dir.display()));
    let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
    let got: std::collections::BTreeMap<String, Named> = to_transformers(&trace).unwrap().into_iter().collect();
    let mut problems = Vec::new();
    for (name, w) in want.iter().filter(|(n, _)| !INPUTS.contains(&n.as_str())) {
        let (shape, values) = match got.get(name) {
            None => {
                problems.push(format!("{name}: missing"));
                continue;
            }
            Some(Named::Float(a)) => (a.shape().to_vec(), a.data().iter().map(|&x| f64::from(x)).collect::<Vec<_>>()),
            Some(Named::Int(v)) => (vec![v.len()], v.iter().map(|&x| x as f64).collect()),
        };
        assert_eq!(shape, w.shape, "{name}");
        let atol = if w.whole { 0.0 } else { tolerance(&meta, name) };
        problems.extend(close(name, &values, &w.values, atol).err());
    }
    assert!(problems.is_empty(), "{}: {problems:#?}", model_dir.display());
}

/// Forward pass, the same with the configuration as transformers 4 wrote it, and with the tensor names of
/// hub checkpoints; then the tokens of the recorded text.
fn check(name: &str) {
    let dir = golden().join("models").join(name);
    check_forward(&dir, &dir);
    let legacy = tempfile::tempdir().unwrap();
    std::fs::copy(dir.join("config.legacy.json"), legacy.path().join("config.json")).unwrap();
    std::fs::copy(dir.join("model.safetensors"), legacy.path().join("model.safetensors")).unwrap();
    check_forward(legacy.path(), &dir);
    if dir.join("hub_layout").is_dir() {
        check_forward(&dir.join("hub_layout"), &dir);
    }
    let meta = json(&dir.join("meta.json"));
    let text = meta["input_text"].as_str().unwrap();
    let e = Tokenizer::load(&dir).unwrap().encode(text, meta["input_pair"].as_str(), true).unwrap();
    let want = tensors(&dir.join("expected.safetensors"));
    let ids: Vec<f64> = e.ids.iter().map(|&i| f64::from(i)).collect();
    assert_eq!(ids, want["input_ids"].values, "{name}: token ids");
}

#[test]
fn bert_equals_transformers() {
    check("bert");
}

#[test]
fn bert_base_model_equals_transformers() {
    check("bert_base_model");
}

#[test]
fn gpt2_equals_transformers() {
    check("gpt2");
}

#[test]
fn llama_equals_transformers() {
    check("llama");
}

#[test]
fn llama_bf16_equals_transformers() {
    check("llama_bf16");
}

#[test]
fn llama_rope_scaled_equals_transformers() {
    check("llama_rope_scaled");
}

#[test]
fn mistral_equals_transformers() {
    check("mistral");
}

#[test]
fn qwen2_equals_transformers() {
    check("qwen2");
}

#[test]
fn qwen2_f16_equals_transformers() {
    check("qwen2_f16");
}

#[test]
fn qwen3_equals_transformers() {
    check("qwen3");
}

#[test]
fn roberta_equals_transformers() {
    check("roberta");
}

#[test]
fn a_cancelled_run_stops_with_that_error() {
    let model = load(&golden().join("models/gpt2"), &candle_core::Device::Cpu).unwrap();
    let cancel = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let ctx = Ctx::new(cancel, std::sync::Arc::new(|_| ()));
    let request = RunRequest { ids: Some(vec![1, 2]), ..RunRequest::default() };
    let error = run(model.as_ref(), None, &request, &CaptureSpec::views(), &ctx).unwrap_err();
    assert!(matches!(error, tokenscope_analysis::Error::Cancelled), "{error}");
}

#[test]
fn watching_changes_nothing() {
    let model = load(&golden().join("models/qwen3"), &candle_core::Device::Cpu).unwrap();
    let request = RunRequest { ids: Some((1..40).collect()), ..RunRequest::default() };
    let last = CaptureSpec::sites(&[tokenscope_analysis::trace::Site::Logits]);
    let a = run(model.as_ref(), None, &request, &last, &Ctx::default()).unwrap();
    let b = run(model.as_ref(), None, &request, &CaptureSpec::all(), &Ctx::default()).unwrap();
    let logits = |t: &tokenscope_analysis::trace::Trace| {
        t.arrays.iter().find(|(k, _)| k.site == tokenscope_analysis::trace::Site::Logits).unwrap().1.array.clone()
    };
    assert_eq!(logits(&a), logits(&b));
}

#[test]
fn a_trace_file_reads_back_as_it_was_without_the_weights() {
    let dir = golden().join("models/bert");
    let weights = Weights::open(&dir).unwrap();
    let model = from_weights(&weights, &candle_core::Device::Cpu).unwrap();
    let tokenizer = Tokenizer::load(&dir).unwrap();
    let request = RunRequest { prompt: Some("über 12 boats".into()), ..RunRequest::default() };
    let trace = run(model.as_ref(), Some(&tokenizer), &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    tokenscope_analysis::trace::write_trace(&trace, file.path()).unwrap();
    let back = tokenscope_analysis::trace::read_trace(file.path()).unwrap();
    assert_eq!(back.arrays, trace.arrays);
    assert_eq!(back.towers, trace.towers);
    assert_eq!((back.text, back.extras), (trace.text, trace.extras));
}
