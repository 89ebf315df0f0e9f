//! Text models against `transformers`: every recorded tensor within the fixture's tolerance.

use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::{Input, KvCache, from_weights, load};
use tokenscope_analysis::passes::attention_map;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, NoTap, Site, Tower};
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
fn mamba_equals_transformers() {
    check("mamba");
}

#[test]
fn mamba2_equals_transformers() {
    check("mamba2");
}

/// In the place of attention maps: causal shares that sum to 1, those of the signed matrices, of each head or of all.
#[test]
fn what_mamba_mixes_stands_where_maps_are_shown() {
    for name in ["mamba", "mamba2"] {
        let model = load(&golden().join("models").join(name), &candle_core::Device::Cpu).unwrap();
        let request = RunRequest { ids: Some((1..20).collect()), ..RunRequest::default() };
        let trace = run(model.as_ref(), None, &request, &CaptureSpec::all(), &Ctx::default()).unwrap();
        let n = 19;
        for layer in 0..3 {
            let map = attention_map::of_layer(&trace, Tower::Text, 0, layer, &Ctx::default()).unwrap();
            let mixing = &trace.get(Tower::Text, layer, Site::Mixing).unwrap().array;
            let heads = if name == "mamba" { 1 } else { 6 };
            assert_eq!((map.shape()[0], mixing.shape()), (heads, &[if heads == 1 { 48 } else { 6 }, n, n][..]));
            for (head, i) in (0..heads).flat_map(|h| (0..n).map(move |i| (h, i))) {
                let of = |h: usize, j: usize| f64::from(mixing.data()[(h * n + i) * n + j].abs());
                let size = |j: usize| if heads == 1 { (0..48).map(|h| of(h, j)).sum() } else { of(head, j) };
                let all: f64 = (0..n).map(size).sum();
                for j in 0..n {
                    let got = f64::from(map.data()[(head * n + i) * n + j]);
                    assert!((got - size(j) / all).abs() < 1e-5, "{name} {layer} {head} {i} {j}: {got}");
                    assert!(j <= i || got == 0.0);
                }
            }
        }
    }
}

/// What was written and taken back again leaves nothing behind: the recurrence goes through what is left.
#[test]
fn mamba_forgets_drafts_that_are_taken_back() {
    for name in ["mamba", "mamba2"] {
        let model = load(&golden().join("models").join(name), &candle_core::Device::Cpu).unwrap();
        let mut cache = KvCache::default();
        let step = |cache: &mut KvCache, ids: &[u32]| {
            let mut input = Input { ids: ids.to_vec(), cache: Some(cache), ..Input::default() };
            let out = model.forward(&mut input, &mut NoTap, &Ctx::default()).unwrap();
            out.logits.unwrap().to_vec2::<f32>().unwrap().pop().unwrap()
        };
        step(&mut cache, &[3, 1, 4, 1, 5]);
        step(&mut cache, &[9, 9]);
        step(&mut cache, &[8]);
        cache.truncate(6).unwrap();
        step(&mut cache, &[2, 6]);
        let got = step(&mut cache, &[5]);
        let want = step(&mut KvCache::default(), &[3, 1, 4, 1, 5, 9, 2, 6, 5]);
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {got:?} and {want:?}");
    }
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
