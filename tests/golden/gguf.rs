//! GGUF files: against `transformers` and llama.cpp, against the same model as safetensors, quantised, damaged.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use std::io::Write as _;
use std::path::Path;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::model::{from_weights, load};
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Site, Tower};
use tokenscope_analysis::weights::Weights;
use tokenscope_tests::{check_forward, close, golden, json};

fn fixture() -> std::path::PathBuf {
    golden().join("models/gguf/llama_spm")
}

#[test]
fn both_files_equal_transformers_on_the_dequantised_weights() {
    let meta = json(&fixture().join("meta.json"));
    for (file, about) in meta["files"].as_object().unwrap() {
        let expected = fixture().join(about["expected"].as_str().unwrap());
        check_forward(&fixture().join(file), &expected, &about["tolerances"]);
    }
}

#[test]
fn the_vocabulary_in_the_file_cuts_as_its_tokenizer_json() {
    let t = Tokenizer::load(&fixture().join("model-q8_0.gguf")).unwrap();
    let cases = json(&fixture().join("tokenizer_golden.json"));
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() > 60);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let e = t.encode(text, None, true).unwrap();
        assert_eq!(serde_json::json!(e.ids), case["ids"], "{}", case["name"]);
        let covered = e.offsets_byte.iter().all(|&(a, b)| a <= b && b <= text.len());
        assert!(covered, "{}: {:?}", case["name"], e.offsets_byte);
    }
}

/// Writes the safetensors fixture `name` as GGUF, matrices in `matrices`, as llama.cpp's converter does.
fn write_gguf(name: &str, matrices: GgmlDType, to: &Path) {
    let dir = golden().join("models").join(name);
    let config = json(&dir.join("config.json"));
    let weights = Weights::open(&dir).unwrap();
    let whole = |key: &str| config[key].as_u64().unwrap() as u32;
    let heads = whole("num_attention_heads");
    let groups = config["num_key_value_heads"].as_u64().unwrap_or(heads.into()) as u32;
    let width = config["head_dim"].as_u64().unwrap_or(u64::from(whole("hidden_size") / heads)) as u32;
    let kind = config["model_type"].as_str().unwrap();
    let arch = if kind == "mistral" { "llama" } else { kind };
    let rope = &config["rope_parameters"];
    let mut meta: Vec<(String, Value)> = vec![("general.architecture".into(), Value::String(arch.into()))];
    let mut put = |key: &str, v: Value| meta.push((format!("{arch}.{key}"), v));
    put("embedding_length", Value::U32(whole("hidden_size")));
    put("block_count", Value::U32(whole("num_hidden_layers")));
    put("attention.head_count", Value::U32(heads));
    put("attention.head_count_kv", Value::U32(groups));
    put("attention.key_length", Value::U32(width));
    put("feed_forward_length", Value::U32(whole("intermediate_size")));
    put("context_length", Value::U32(whole("max_position_embeddings")));
    put("attention.layer_norm_rms_epsilon", Value::F32(config["rms_norm_eps"].as_f64().unwrap() as f32));
    put("rope.freq_base", Value::F32(rope["rope_theta"].as_f64().unwrap() as f32));
    if let Some(w) = config["sliding_window"].as_u64().filter(|_| kind == "mistral") {
        put("attention.sliding_window", Value::U32(w as u32));
    }
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    for hf in weights.names() {
        let t = weights.get(&hf, weights.shape(&hf).unwrap(), &Device::Cpu).unwrap();
        let own = hf
            .replace("model.embed_tokens", "token_embd")
            .replace("model.norm", "output_norm")
            .replace("lm_head", "output")
            .replace("model.layers.", "blk.")
            .replace("self_attn.q_norm", "attn_q_norm")
            .replace("self_attn.k_norm", "attn_k_norm")
            .replace("self_attn.q_proj", "attn_q")
            .replace("self_attn.k_proj", "attn_k")
            .replace("self_attn.v_proj", "attn_v")
            .replace("self_attn.o_proj", "attn_output")
            .replace("mlp.", "ffn_")
            .replace("_proj", "")
            .replace("input_layernorm", "attn_norm")
            .replace("post_attention_layernorm", "ffn_norm");
        let n = if own.contains("attn_q.") { heads } else { groups } as usize;
        let t =
            if arch == "llama" && (own.contains("attn_q.") || own.contains("attn_k.")) { interleave(&t, n) } else { t };
        // Vectors stay in f32, and so does what does not fill whole blocks.
        let fits = t.rank() == 2 && t.dim(1).unwrap().is_multiple_of(matrices.block_size());
        tensors.push((own, QTensor::quantize(&t, if fits { matrices } else { GgmlDType::F32 }).unwrap()));
    }
    if rope["rope_type"] == "llama3" {
        tensors.push((
            "rope_freqs.weight".into(),
            QTensor::quantize(&llama3_factors(rope, width), GgmlDType::F32).unwrap(),
        ));
    }
    let meta: Vec<(&str, &Value)> = meta.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, t)| (k.as_str(), t)).collect();
    gguf_file::write(&mut std::fs::File::create(to).unwrap(), &meta, &tensors).unwrap();
}

fn interleave(t: &Tensor, heads: usize) -> Tensor {
    let dims = t.dims().to_vec();
    let rest: usize = dims[1..].iter().product();
    let half = dims[0] / heads / 2;
    t.reshape((heads, 2, half, rest)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap().reshape(dims).unwrap()
}

/// The divisors that the scaling of Llama 3.1 amounts to, from its published rule.
fn llama3_factors(rope: &serde_json::Value, width: u32) -> Tensor {
    let n = |key: &str| rope[key].as_f64().unwrap();
    let (factor, low, high) = (n("factor"), n("low_freq_factor"), n("high_freq_factor"));
    let old = n("original_max_position_embeddings");
    let values: Vec<f32> = (0..width / 2)
        .map(|i| {
            let freq = n("rope_theta").powf(-2.0 * f64::from(i) / f64::from(width));
            let wave = std::f64::consts::TAU / freq;
            let smooth = ((old / wave - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
        })
        .collect();
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn last_states(model: &Path) -> (Array, Array) {
    let model = load(model, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", model.display()));
    let request = RunRequest { ids: Some((3..43).collect()), ..RunRequest::default() };
    let spec = CaptureSpec::sites(&[Site::ResidPost, Site::Logits]);
    let t = run(model.as_ref(), None, &request, &spec, &Ctx::default()).unwrap();
    let last = t.tower(Tower::Text).unwrap().n_layers - 1;
    let logits = t.arrays.iter().find(|(k, _)| k.site == Site::Logits).unwrap().1.array.clone();
    (t.get(Tower::Text, last, Site::ResidPost).unwrap().array.as_ref().clone(), logits.as_ref().clone())
}

fn values(a: &Array) -> Vec<f64> {
    a.data().iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn every_family_gives_the_same_numbers_as_its_safetensors() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["llama", "llama_rope_scaled", "mistral", "qwen2", "qwen3"] {
        for dtype in [GgmlDType::F32, GgmlDType::F16] {
            let file = dir.path().join(format!("{name}-{dtype:?}.gguf"));
            write_gguf(name, dtype, &file);
            let (want, want_logits) = last_states(&golden().join("models").join(name));
            let (got, logits) = last_states(&file);
            let atol = if dtype == GgmlDType::F32 { 2e-4 } else { 3e-2 };
            close(&format!("{name} {dtype:?} states"), &values(&got), &values(&want), atol).unwrap();
            close(&format!("{name} {dtype:?} logits"), &values(&logits), &values(&want_logits), atol * 2.0).unwrap();
        }
    }
}

#[test]
fn a_q4_k_model_is_the_model_of_its_dequantised_weights() {
    // Wide enough that matrices fill blocks of 256.
    let mut seed = 1u64;
    let mut random = |rows: usize, cols: usize, size: f32| {
        let v: Vec<f32> = (0..rows * cols)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * size
            })
            .collect();
        Tensor::from_vec(v, (rows, cols), &Device::Cpu).unwrap()
    };
    let (d, inner, vocab) = (256, 512, 64);
    let mut shapes = vec![("token_embd.weight".to_string(), vocab, d), ("output.weight".into(), vocab, d)];
    for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
        shapes.push((format!("blk.0.{part}.weight"), d, d));
    }
    shapes.push(("blk.0.ffn_gate.weight".into(), inner, d));
    shapes.push(("blk.0.ffn_up.weight".into(), inner, d));
    shapes.push(("blk.0.ffn_down.weight".into(), d, inner));
    let mut full = Vec::new();
    for (name, rows, cols) in shapes {
        full.push((name, random(rows, cols, 0.2)));
    }
    for name in ["output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"] {
        full.push((name.to_string(), Tensor::ones(d, candle_core::DType::F32, &Device::Cpu).unwrap()));
    }
    let u = |v: usize| Value::U32(v as u32);
    let meta = [
        ("general.architecture", Value::String("llama".into())),
        ("llama.embedding_length", u(d)),
        ("llama.block_count", u(1)),
        ("llama.attention.head_count", u(4)),
        ("llama.feed_forward_length", u(inner)),
        ("llama.context_length", u(128)),
    ];
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, tensors: &[(String, QTensor)]| {
        let path = dir.path().join(file);
        let meta: Vec<(&str, &Value)> = meta.iter().map(|(k, v)| (*k, v)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, t)| (k.as_str(), t)).collect();
        gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &meta, &tensors).unwrap();
        path
    };
    let quantise =
        |t: &Tensor, to: GgmlDType| QTensor::quantize(t, if t.rank() == 2 { to } else { GgmlDType::F32 }).unwrap();
    for dtype in [GgmlDType::Q4K, GgmlDType::Q6K, GgmlDType::Q4_0, GgmlDType::Q5_1, GgmlDType::Q8_0] {
        let small: Vec<(String, QTensor)> = full.iter().map(|(k, t)| (k.clone(), quantise(t, dtype))).collect();
        let plain: Vec<(String, QTensor)> = small
            .iter()
            .map(|(k, t)| (k.clone(), quantise(&t.dequantize(&Device::Cpu).unwrap(), GgmlDType::F32)))
            .collect();
        let exact: Vec<(String, QTensor)> =
            full.iter().map(|(k, t)| (k.clone(), quantise(t, GgmlDType::F32))).collect();
        let (a, _) = last_states(&write("small.gguf", &small));
        let (b, _) = last_states(&write("plain.gguf", &plain));
        let (c, _) = last_states(&write("exact.gguf", &exact));
        close(&format!("{dtype:?}"), &values(&a), &values(&b), 1e-5).unwrap();
        let error = |x: &Array| {
            let d: f64 = values(x).iter().zip(values(&c)).map(|(p, q)| (p - q).powi(2)).sum();
            (d / values(&c).iter().map(|v| v * v).sum::<f64>()).sqrt()
        };
        assert!(error(&a) > 1e-5 && error(&a) < 0.25, "{dtype:?}: relative error {}", error(&a));
        let name = Weights::open(&dir.path().join("small.gguf")).unwrap().dtype();
        assert!(name.starts_with('q') && name.len() == 4, "{name}");
    }
}

#[test]
fn a_byte_level_vocabulary_cuts_as_the_tokenizer_it_was_taken_from() {
    // GPT-2's and Qwen's kinds, from fixtures with a tokenizer.json of that kind.
    for (name, pre) in [("gpt2", "gpt-2"), ("qwen2", "qwen2")] {
        let dir = golden().join("models").join(name);
        let source = json(&dir.join("tokenizer.json"));
        let want = Tokenizer::load(&dir).unwrap();
        let n = want.vocab_size() as u32;
        let text = |v: String| Value::String(v);
        let added = source["added_tokens"].as_array().unwrap();
        let special = |id: u32| added.iter().any(|t| t["id"] == id && t["special"] == true);
        let merges: Vec<Value> = source["model"]["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| match m {
                serde_json::Value::String(s) => text(s.clone()),
                pair => text(format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap())),
            })
            .collect();
        let meta = [
            ("general.architecture", text("llama".into())),
            ("tokenizer.ggml.model", text("gpt2".into())),
            ("tokenizer.ggml.pre", text(pre.into())),
            (
                "tokenizer.ggml.tokens",
                Value::Array((0..n).map(|i| text(want.token(i).unwrap_or(format!("[gap {i}]")))).collect()),
            ),
            (
                "tokenizer.ggml.token_type",
                Value::Array((0..n).map(|i| Value::I32(if special(i) { 3 } else { 1 })).collect()),
            ),
            ("tokenizer.ggml.merges", Value::Array(merges)),
        ];
        let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
        let meta: Vec<(&str, &Value)> = meta.iter().map(|(k, v)| (*k, v)).collect();
        gguf_file::write(&mut file.reopen().unwrap(), &meta, &[]).unwrap();
        let got = Tokenizer::load(file.path()).unwrap();
        for t in ["The train über die Brücke: 12345 boats 🚂 x += 1;", "  don't\n\n\tWE'LL  ", "漢字 ñandú", ""]
        {
            let (a, b) = (got.encode(t, None, false).unwrap(), want.encode(t, None, false).unwrap());
            assert_eq!(a.ids, b.ids, "{name}: {t:?}");
            assert_eq!(got.decode(&a.ids, true).unwrap(), want.decode(&b.ids, true).unwrap(), "{name}: {t:?}");
        }
    }
}

#[test]
fn bad_files_are_refused_with_their_name_and_a_remedy() {
    let root = golden().join("models/bad_inputs");
    let mut seen = 0;
    for entry in json(&root.join("manifest.json"))["entries"].as_array().unwrap() {
        let path = entry["path"].as_str().unwrap();
        if entry["kind"] != "gguf" || !root.join(path).exists() {
            continue;
        }
        seen += 1;
        let error =
            load(&root.join(path), &Device::Cpu).err().unwrap_or_else(|| panic!("{path} was accepted")).to_string();
        assert!(error.contains(path) || error.contains("architecture"), "{path}: {error}");
    }
    assert!(seen >= 11, "only {seen} files were found");
}

#[test]
fn an_architecture_that_is_not_here_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zebra.gguf");
    let arch = Value::String("zebra".into());
    gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &[("general.architecture", &arch)], &[]).unwrap();
    let error = load(&path, &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("zebra"), "{error}");
}

#[test]
fn cut_and_flipped_files_end_in_an_error_or_a_model_and_never_in_a_panic() {
    let whole = std::fs::read(fixture().join("model-q8_0.gguf")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    let open = |bytes: &[u8]| {
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        let model = Weights::open(&path).and_then(|w| from_weights(&w, &Device::Cpu)).is_ok();
        let _ = Tokenizer::load(&path);
        model
    };
    assert!(open(&whole));
    for i in 0..60 {
        let n = whole.len() * i / 60;
        assert!(!open(&whole[..n]), "cut at {n} bytes was accepted");
    }
    let mut seed = 7u64;
    for _ in 0..300 {
        let mut bytes = whole.clone();
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        // Mostly in the header, where it hurts.
        let at = (seed >> 33) as usize % 20_000;
        bytes[at] ^= 1 << (seed % 8);
        open(&bytes);
    }
}
