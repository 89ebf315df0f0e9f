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

/// What llama.cpp calls a tensor of a family.
fn own_name(kind: &str, hf: &str) -> String {
    let renamed = |list: &[(&str, &str)]| list.iter().fold(hf.to_string(), |name, (a, b)| name.replace(a, b));
    if kind == "gpt2" {
        return renamed(&[
            ("transformer.", ""),
            ("wte", "token_embd"),
            ("wpe", "position_embd"),
            ("ln_f", "output_norm"),
            ("h.", "blk."),
            ("attn.c_attn", "attn_qkv"),
            ("attn.c_proj", "attn_output"),
            ("mlp.c_fc", "ffn_up"),
            ("mlp.c_proj", "ffn_down"),
            ("ln_1", "attn_norm"),
            ("ln_2", "ffn_norm"),
        ]);
    }
    let later = matches!(kind, "gemma2" | "gemma3_text");
    renamed(&[
        ("block_sparse_moe.gate", "ffn_gate_inp"),
        ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
        ("mlp.shared_expert.gate", "ffn_gate_shexp"),
        ("mlp.shared_expert.up", "ffn_up_shexp"),
        ("mlp.shared_expert.down", "ffn_down_shexp"),
        ("mlp.gate.", "ffn_gate_inp."),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers.", "blk."),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("self_attn.qkv_proj", "attn_qkv"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_up", "ffn_up"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
        ("input_layernorm", "attn_norm"),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        ("post_attention_layernorm", if later { "post_attention_norm" } else { "ffn_norm" }),
    ])
}

/// Writes a folder of safetensors as GGUF, matrices in `matrices`, as llama.cpp's converter does.
pub(super) fn write_folder(dir: &Path, matrices: GgmlDType, to: &Path) {
    write_folder_with(dir, matrices, to, true);
}

/// The parts of expert `number` of its layer: what stands before it, and what it is stacked in.
fn expert_of(hf: &str) -> Option<(usize, String)> {
    let (before, after) = hf.split_once(".experts.")?;
    let (number, part) = after.split_once('.')?;
    let part = match part.trim_end_matches(".weight") {
        "w1" | "gate_proj" => "gate",
        "w3" | "up_proj" => "up",
        "w2" | "down_proj" => "down",
        other => panic!("{other}"),
    };
    let layer = before.split('.').nth(2)?;
    Some((number.parse().ok()?, format!("blk.{layer}.ffn_{part}")))
}

/// As [`write_folder`], with experts in stacks or, as old files have them, one by one.
pub(super) fn write_folder_with(dir: &Path, matrices: GgmlDType, to: &Path, stacked: bool) {
    let config = json(&dir.join("config.json"));
    let weights = Weights::open(dir).unwrap();
    let number = |keys: &[&str]| keys.iter().find_map(|k| config[*k].as_u64()).map(|n| n as u32);
    let whole = |keys: &[&str]| number(keys).unwrap_or_else(|| panic!("{keys:?}"));
    let (d, heads) = (whole(&["hidden_size", "n_embd"]), whole(&["num_attention_heads", "n_head"]));
    let groups = number(&["num_key_value_heads"]).unwrap_or(heads);
    let width = number(&["head_dim"]).unwrap_or(d / heads);
    let kind = config["model_type"].as_str().unwrap();
    let arch = match kind {
        "mistral" => "llama",
        "gemma3_text" => "gemma3",
        "mixtral" => "llama",
        "qwen2_moe" => "qwen2moe",
        "qwen3_moe" => "qwen3moe",
        other => other,
    };
    let rope = &config["rope_parameters"];
    let (far, near) = match arch {
        "gemma3" => (&rope["full_attention"], Some(&rope["sliding_attention"])),
        _ => (rope, None),
    };
    let mut meta: Vec<(String, Value)> = vec![("general.architecture".into(), Value::String(arch.into()))];
    let mut put = |key: &str, v: Value| meta.push((format!("{arch}.{key}"), v));
    put("embedding_length", Value::U32(d));
    put("block_count", Value::U32(whole(&["num_hidden_layers", "n_layer"])));
    put("attention.head_count", Value::U32(heads));
    put("feed_forward_length", Value::U32(number(&["intermediate_size", "n_inner"]).unwrap_or(4 * d)));
    put("context_length", Value::U32(whole(&["max_position_embeddings", "n_positions"])));
    let eps = |key: &str| Value::F32(config[key].as_f64().unwrap() as f32);
    if arch == "gpt2" {
        put("attention.layer_norm_epsilon", eps("layer_norm_epsilon"));
    } else {
        put("attention.head_count_kv", Value::U32(groups));
        put("attention.key_length", Value::U32(width));
        put("attention.layer_norm_rms_epsilon", eps("rms_norm_eps"));
        put("rope.freq_base", Value::F32(far["rope_theta"].as_f64().unwrap() as f32));
        if let Some(share) = far["partial_rotary_factor"].as_f64() {
            put("rope.dimension_count", Value::U32((f64::from(width) * share) as u32));
        }
        if far["rope_type"] == "linear" {
            put("rope.scaling.type", Value::String("linear".into()));
            put("rope.scaling.factor", Value::F32(far["factor"].as_f64().unwrap() as f32));
        }
    }
    if let Some(near) = near {
        put("rope.freq_base_swa", Value::F32(near["rope_theta"].as_f64().unwrap() as f32));
        put("attention.sliding_window_pattern", Value::U32(whole(&["sliding_window_pattern"])));
    }
    if let Some(all) = number(&["num_local_experts", "num_experts"]) {
        put("expert_count", Value::U32(all));
        put("expert_used_count", Value::U32(whole(&["num_experts_per_tok"])));
        for (own, theirs) in [
            ("expert_feed_forward_length", "moe_intermediate_size"),
            ("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
        ] {
            if let Some(n) = number(&[theirs]) {
                put(own, Value::U32(n));
            }
        }
    }
    if let Some(w) = number(&["sliding_window"]).filter(|_| !kind.starts_with("qwen")) {
        put("attention.sliding_window", Value::U32(w));
    }
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(cap) = config[key].as_f64() {
            put(key, Value::F32(cap as f32));
        }
    }
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    let plain = |values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        QTensor::quantize(&Tensor::new(values, &Device::Cpu).unwrap(), GgmlDType::F32).unwrap()
    };
    if let Some(old) = number(&["original_max_position_embeddings"]) {
        put("rope.scaling.original_context_length", Value::U32(old));
        for side in ["long", "short"] {
            let list = rope[format!("{side}_factor")].as_array().unwrap();
            let values: Vec<f64> = list.iter().map(|v| v.as_f64().unwrap()).collect();
            tensors.push((format!("rope_factors_{side}.weight"), plain(&values)));
        }
    }
    let get = |hf: &str| weights.get(hf, weights.shape(hf).unwrap(), &Device::Cpu).unwrap();
    let mut stacks: std::collections::BTreeMap<String, Vec<(usize, Tensor)>> = Default::default();
    for hf in weights.names() {
        let t = get(&hf);
        if let Some((number, name)) = expert_of(&hf) {
            match stacked {
                true => stacks.entry(format!("{name}_exps.weight")).or_default().push((number, t)),
                false => {
                    let quantised = QTensor::quantize(&t, GgmlDType::F32).unwrap();
                    tensors.push((format!("{name}.{number}.weight"), quantised));
                }
            }
            continue;
        }
        // llama.cpp's converter leaves out axes of length 1.
        let t = if hf.contains("shared_expert_gate") { t.flatten_all().unwrap() } else { t };
        let own = own_name(kind, &hf);
        let n = if own.contains("attn_q.") { heads } else { groups } as usize;
        let turned = ["attn_qkv", "attn_output", "ffn_up", "ffn_down"].iter().any(|p| own.contains(p));
        let t = match arch {
            "llama" if own.contains("attn_q.") || own.contains("attn_k.") => interleave(&t, n),
            "gpt2" if turned && t.rank() == 2 => t.t().unwrap().contiguous().unwrap(),
            "gemma" | "gemma2" | "gemma3" if own.ends_with("norm.weight") => (t + 1.0).unwrap(),
            _ => t,
        };
        // Vectors stay in f32, and so does what does not fill whole blocks.
        let fits = t.rank() == 2 && t.dim(1).unwrap().is_multiple_of(matrices.block_size());
        tensors.push((own, QTensor::quantize(&t, if fits { matrices } else { GgmlDType::F32 }).unwrap()));
    }
    for (name, mut one) in stacks {
        one.sort_by_key(|e| e.0);
        let all: Vec<&Tensor> = one.iter().map(|e| &e.1).collect();
        let t = Tensor::stack(&all, 0).unwrap();
        let fits = t.dim(2).unwrap().is_multiple_of(matrices.block_size());
        tensors.push((name, QTensor::quantize(&t, if fits { matrices } else { GgmlDType::F32 }).unwrap()));
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

pub(super) fn interleave(t: &Tensor, heads: usize) -> Tensor {
    let dims = t.dims().to_vec();
    let rest: usize = dims[1..].iter().product();
    let half = dims[0] / heads / 2;
    t.reshape((heads, 2, half, rest)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap().reshape(dims).unwrap()
}

/// The divisors that the scaling of Llama 3.1 amounts to, from its published rule.
pub(super) fn llama3_factors(rope: &serde_json::Value, width: u32) -> Tensor {
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

pub(super) fn last_states(model: &Path) -> (Array, Array) {
    let model = load(model, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", model.display()));
    let request = RunRequest { ids: Some((3..43).collect()), ..RunRequest::default() };
    let spec = CaptureSpec::sites(&[Site::ResidPost, Site::Logits]);
    let t = run(model.as_ref(), None, &request, &spec, &Ctx::default()).unwrap();
    let last = t.tower(Tower::Text).unwrap().n_layers - 1;
    let logits = t.arrays.iter().find(|(k, _)| k.site == Site::Logits).unwrap().1.array.clone();
    (t.get(Tower::Text, last, Site::ResidPost).unwrap().array.as_ref().clone(), logits.as_ref().clone())
}

pub(super) fn values(a: &Array) -> Vec<f64> {
    a.data().iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn every_family_gives_the_same_numbers_as_its_safetensors() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["gemma_first", "gemma2_windows", "gemma3_ropes", "phi3_longrope"].map(|n| format!("settings/{n}"));
    let plain = ["llama", "llama_rope_scaled", "mistral", "qwen2", "qwen3", "gpt2"].map(String::from);
    for name in plain.into_iter().chain(settings) {
        let folder = dir.path().join(name.replace('/', "-"));
        std::fs::create_dir(&folder).unwrap();
        let from = golden().join("models").join(&name);
        std::fs::copy(from.join("model.safetensors"), folder.join("model.safetensors")).unwrap();
        let mut config = json(&from.join("config.json"));
        if config["query_pre_attn_scalar"].is_number() {
            // What scores are divided by is not in a file of llama.cpp; it takes the width of a head.
            config["query_pre_attn_scalar"] = config["head_dim"].clone();
        }
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        for dtype in [GgmlDType::F32, GgmlDType::F16] {
            let file = dir.path().join(format!("{}-{dtype:?}.gguf", name.replace('/', "-")));
            write_folder(&folder, dtype, &file);
            let (want, want_logits) = last_states(&folder);
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
fn an_unknown_pre_tokenizer_gives_way_to_the_tokenizer_json_beside_the_file_if_it_has_the_same_tokens() {
    let source = golden().join("models/qwen2/tokenizer.json");
    let want = Tokenizer::load(&source).unwrap();
    let text = |v: &str| Value::String(v.into());
    let word = |i: usize| want.token(i as u32).unwrap_or(format!("[gap {i}]"));
    let merges: Vec<Value> = json(&source)["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| {
            text(
                &m.as_str()
                    .map_or_else(|| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap()), String::from),
            )
        })
        .collect();
    for (other, taken) in [(false, true), (true, false)] {
        // One word is spelled otherwise where it is the vocabulary of another model.
        let tokens = (0..want.vocab_size() + 3).map(|i| text(&if other && i == 0 { "other".into() } else { word(i) }));
        let meta = [
            ("general.architecture", text("llama")),
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text("of-tomorrow")),
            ("tokenizer.ggml.tokens", Value::Array(tokens.collect())),
            ("tokenizer.ggml.merges", Value::Array(merges.clone())),
        ];
        let meta: Vec<(&str, &Value)> = meta.iter().map(|(k, v)| (*k, v)).collect();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.gguf");
        gguf_file::write(&mut std::fs::File::create(&file).unwrap(), &meta, &[]).unwrap();
        let alone = Tokenizer::load(&file).unwrap();
        assert!(alone.notes().iter().any(|n| n.contains("of-tomorrow")), "{:?}", alone.notes());
        std::fs::copy(&source, dir.path().join("tokenizer.json")).unwrap();
        let both = Tokenizer::load(&file).unwrap();
        assert_eq!(both.notes().iter().any(|n| n.contains("tokenizer.json beside")), taken, "{:?}", both.notes());
        let line = "don't 12345 WE'LL";
        if taken {
            let (a, b) = (both.encode(line, None, false).unwrap(), want.encode(line, None, false).unwrap());
            assert_eq!(a.ids, b.ids);
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
