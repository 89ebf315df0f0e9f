//! Text models against `transformers`: every recorded tensor within the fixture's tolerance.

use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::{from_weights, load};
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::CaptureSpec;
use tokenscope_analysis::weights::Weights;
use tokenscope_tests::{check_fixture, golden, json, tensors};

/// Forward pass in every form, then the tokens of the recorded text.
fn check(name: &str) {
    let dir = golden().join("models").join(name);
    check_fixture(&dir);
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
fn deberta_v2_equals_transformers() {
    check("deberta_v2");
}

#[test]
fn mixtral_equals_transformers() {
    check("mixtral");
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
fn albert_equals_transformers() {
    check("albert");
}

#[test]
fn electra_equals_transformers() {
    check("electra");
}

#[test]
fn gpt_oss_equals_transformers_as_numbers_and_as_blocks_of_four_bits() {
    check("gpt_oss");
}

#[test]
fn deepseek_v2_equals_transformers() {
    check("deepseek_v2");
}

#[test]
fn deepseek_v3_equals_transformers() {
    check("deepseek_v3");
}

#[test]
fn granite_equals_transformers() {
    check("granite");
}

#[test]
fn modernbert_equals_transformers() {
    check("modernbert");
}

#[test]
fn mpnet_equals_transformers() {
    check("mpnet");
}

#[test]
fn olmo2_equals_transformers() {
    check("olmo2");
}

#[test]
fn qwen2_moe_equals_transformers() {
    check("qwen2_moe");
}

#[test]
fn qwen3_moe_equals_transformers() {
    check("qwen3_moe");
}

#[test]
fn t5_equals_transformers() {
    check("t5");
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
    let back = tokenscope_analysis::trace::read_trace(file.path(), &Ctx::default()).unwrap();
    assert_eq!(back.arrays, trace.arrays);
    assert_eq!(back.towers, trace.towers);
    assert_eq!((back.text, back.extras), (trace.text, trace.extras));
}
