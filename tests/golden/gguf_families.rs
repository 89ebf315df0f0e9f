//! GGUF files of more architectures: the numbers of the same model as safetensors. What tensors and metadata are called
//! is data of the Python package `gguf` (`models/gguf/converted.json`); what llama.cpp's converter does to the values is
//! done here.

use super::gguf::{interleave, last_states, llama3_factors, values};
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;
use tokenscope_analysis::model::load;
use tokenscope_analysis::weights::Weights;
use tokenscope_tests::{close, golden, json};

/// A value of the metadata: whole numbers as u32, as almost all are.
fn value(v: &serde_json::Value) -> Value {
    match v {
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::String(s) => Value::String(s.clone()),
        serde_json::Value::Array(a) => {
            let one =
                |v: &serde_json::Value| v.as_bool().map_or_else(|| Value::I32(v.as_i64().unwrap() as i32), Value::Bool);
            Value::Array(a.iter().map(one).collect())
        }
        v if v.is_u64() => Value::U32(v.as_u64().unwrap() as u32),
        v => Value::F32(v.as_f64().unwrap() as f32),
    }
}

/// Every other entry of the last axis, from `from` on.
fn every(t: &Tensor, from: usize) -> Tensor {
    let last = t.rank() - 1;
    let ids: Vec<u32> = (from..t.dim(last).unwrap()).step_by(2).map(|i| i as u32).collect();
    t.contiguous().unwrap().index_select(&Tensor::new(ids, &Device::Cpu).unwrap(), last).unwrap()
}

/// What the converter makes of a tensor: as many as it has names in the file.
fn converted(arch: &str, hf: &str, t: Tensor, config: &serde_json::Value) -> Vec<Tensor> {
    let n = |key: &str| config[key].as_u64().map(|n| n as usize);
    let heads = n("num_attention_heads").unwrap_or(0);
    vec![match arch {
        "granite" | "internlm2" | "smollm3" | "olmo" if hf.contains("q_proj") => interleave(&t, heads),
        "granite" | "internlm2" | "smollm3" | "olmo" if hf.contains("k_proj") => {
            interleave(&t, n("num_key_value_heads").unwrap())
        }
        "nemotron" if hf.ends_with("norm.weight") => (t + 1.0).unwrap(),
        "gptneox" if hf.contains("query_key_value") => {
            let rest = t.elem_count() / t.dim(0).unwrap();
            let by_head = t.reshape((heads, 3, t.dim(0).unwrap() / heads / 3, rest)).unwrap();
            by_head.transpose(0, 1).unwrap().contiguous().unwrap().reshape(t.dims()).unwrap()
        }
        "gpt-oss" if hf.contains("gate_up_proj") => {
            return vec![every(&t, 0), every(&t, 1)].into_iter().map(turn).collect();
        }
        "gpt-oss" if hf.ends_with("down_proj") => turn(t),
        "deepseek2" if hf.contains("kv_b_proj") && config["model_type"] == "deepseek_v3" => {
            let (plain, values) = (n("qk_nope_head_dim").unwrap(), n("v_head_dim").unwrap());
            let t = t.reshape((heads, plain + values, n("kv_lora_rank").unwrap())).unwrap();
            let part = |from: usize, len: usize| t.narrow(1, from, len).unwrap().contiguous().unwrap();
            return vec![turn(part(0, plain)), part(plain, values)];
        }
        "mamba" | "mamba2" if hf.ends_with("A_log") => {
            let a = t.exp().unwrap().neg().unwrap();
            if arch == "mamba2" { a.unsqueeze(1).unwrap() } else { a }
        }
        "mamba" | "mamba2" if hf.ends_with("conv1d.weight") => t.squeeze(1).unwrap(),
        "mamba2" if hf.ends_with(".D") => t.unsqueeze(1).unwrap(),
        "mamba2" if hf.ends_with("mixer.norm.weight") => {
            let groups = n("n_groups").unwrap();
            t.reshape((groups, t.elem_count() / groups)).unwrap()
        }
        _ => t,
    }]
}

/// Stacked matrices by input as stacked matrices by output.
fn turn(t: Tensor) -> Tensor {
    if t.rank() == 3 { t.transpose(1, 2).unwrap().contiguous().unwrap() } else { t }
}

/// The name without the numbers of its layer and its expert, and these.
fn numbers(hf: &str) -> (String, Option<usize>, Option<usize>) {
    let mut words: Vec<String> = hf.split('.').map(String::from).collect();
    let mut take = |before: &str| {
        let at = words.iter().position(|w| w == before)? + 1;
        let number = words.get(at)?.parse().ok()?;
        words[at] = "0".into();
        Some(number)
    };
    let (layer, expert) = (take("layers"), take("experts"));
    (words.join("."), layer, expert)
}

/// Writes the folder as a file of the architecture.
fn write(folder: &Path, about: &serde_json::Value, matrices: GgmlDType, to: &Path) {
    let (config, arch) = (json(&folder.join("config.json")), about["arch"].as_str().unwrap());
    let weights = Weights::open(folder).unwrap();
    let mut parts: BTreeMap<String, Vec<(usize, Tensor)>> = BTreeMap::new();
    for hf in weights.names() {
        let (first, layer, expert) = numbers(&hf);
        let own = &about["names"][&first];
        let own: Vec<&str> = own
            .as_array()
            .map_or_else(|| own.as_str().into_iter().collect(), |a| a.iter().filter_map(|v| v.as_str()).collect());
        if own.is_empty() {
            // Norms that only another version of the model has.
            assert!(hf.contains("layernorm.") && matches!(arch, "phi2" | "stablelm"), "{hf} has no name");
            continue;
        }
        let t = weights.get(&hf, weights.shape(&hf).unwrap(), &Device::Cpu).unwrap();
        for (own, t) in own.iter().zip(converted(arch, &hf, t, &config)) {
            let own = layer.map_or(own.to_string(), |i| own.replacen("blk.0.", &format!("blk.{i}."), 1));
            parts.entry(own).or_default().push((expert.unwrap_or(0), t));
        }
    }
    if config["rope_parameters"]["rope_type"] == "llama3" {
        let factors = llama3_factors(&config["rope_parameters"], config["head_dim"].as_u64().unwrap_or(8) as u32);
        parts.entry("rope_freqs.weight".into()).or_default().push((0, factors));
    }
    let tensors: Vec<(String, QTensor)> = parts
        .into_iter()
        .map(|(own, mut one)| {
            one.sort_by_key(|e| e.0);
            let all: Vec<&Tensor> = one.iter().map(|e| &e.1).collect();
            let t = if own.contains("_exps.") && all[0].rank() == 2 && all.len() > 1 {
                Tensor::stack(&all, 0).unwrap()
            } else {
                all[0].clone()
            };
            // Vectors stay in f32, and so does what a recurrence is made of.
            let plain = t.rank() < 2 || own.contains("ssm_a") || own.contains("ssm_d") || own.contains("ssm_conv1d");
            let dtype = if plain || own.contains("ssm_norm") { GgmlDType::F32 } else { matrices };
            (own, QTensor::quantize(&t.to_dtype(DType::F32).unwrap(), dtype).unwrap())
        })
        .collect();
    let arch = Value::String(arch.into());
    let said: Vec<(String, Value)> =
        about["meta"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), value(v))).collect();
    let mut meta: Vec<(&str, &Value)> = vec![("general.architecture", &arch)];
    meta.extend(said.iter().map(|(k, v)| (k.as_str(), v)));
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, t)| (k.as_str(), t)).collect();
    gguf_file::write(&mut std::fs::File::create(to).unwrap(), &meta, &tensors).unwrap();
}

/// The folder as the architecture knows it: without norms of queries and keys, with the usual activation and layers.
fn plain(from: &Path, arch: &str, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(from.join("model.safetensors"), to.join("model.safetensors")).unwrap();
    let mut config = json(&from.join("config.json"));
    match arch {
        "phi2" | "stablelm" => config["qk_layernorm"] = false.into(),
        // The fourth layer is the first that is not turned.
        "smollm3" => {
            config["no_rope_layers"] = vec![1, 1].into();
            config["use_sliding_window"] = false.into();
            config["layer_types"] = vec!["full_attention"; 2].into();
        }
        // A file does not say which activation it is; all published ones have this.
        "gptneox" => config["hidden_act"] = "gelu".into(),
        _ => {}
    }
    std::fs::write(to.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn every_architecture_gives_the_same_numbers_as_its_safetensors() {
    let all = json(&golden().join("models/gguf/converted.json"));
    let all = all["files"].as_array().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (i, about) in all.iter().enumerate() {
        let (name, arch) = (about["folder"].as_str().unwrap(), about["arch"].as_str().unwrap());
        let folder = dir.path().join(format!("{i}"));
        plain(&golden().join("models").join(name), arch, &folder);
        let (want, want_logits) = last_states(&folder);
        // In f16 where what random weights make of its rounding has a useful bound: squares, recurrences and choices of
        // experts have none.
        let types = if matches!(arch, "granite" | "olmo2" | "gpt-oss" | "gptneox" | "phi2" | "exaone") { 2 } else { 1 };
        for (dtype, atol) in [(GgmlDType::F32, 2e-4), (GgmlDType::F16, 5e-2)].into_iter().take(types) {
            let file = dir.path().join(format!("{i}-{dtype:?}.gguf"));
            write(&folder, about, dtype, &file);
            let (got, logits) = last_states(&file);
            let what = format!("{name} as {arch}, {dtype:?}");
            close(&format!("{what}: states"), &values(&got), &values(&want), atol).unwrap();
            close(&format!("{what}: logits"), &values(&logits), &values(&want_logits), 2.0 * atol).unwrap();
        }
    }
    let mut kinds: Vec<&str> = all.iter().map(|a| a["arch"].as_str().unwrap()).collect();
    kinds.dedup();
    assert_eq!(kinds.len(), 20, "{kinds:?}");
}

#[test]
fn a_phi_with_one_map_for_queries_keys_and_values_is_cut_into_three() {
    let all = json(&golden().join("models/gguf/converted.json"));
    let about = all["files"].as_array().unwrap().iter().find(|a| a["arch"] == "phi2").unwrap().clone();
    let dir = tempfile::tempdir().unwrap();
    let (folder, file, joined) = (dir.path().join("m"), dir.path().join("m.gguf"), dir.path().join("j.gguf"));
    plain(&golden().join("models/settings/phi_grouped"), "phi2", &folder);
    write(&folder, &about, GgmlDType::F32, &file);
    let mut f = std::fs::File::open(&file).unwrap();
    let content = gguf_file::Content::read(&mut f).unwrap();
    let rows = |name: &str| {
        let t = content.tensor(&mut f.try_clone().unwrap(), name, &Device::Cpu).unwrap();
        t.dequantize(&Device::Cpu).unwrap()
    };
    // As many keys as queries: each group's twice.
    let twice = |t: Tensor| {
        let (n, rest) = (t.dim(0).unwrap(), t.elem_count() / t.dim(0).unwrap());
        let t = t.reshape((2, 1, n / 2, rest)).unwrap().broadcast_as((2, 2, n / 2, rest)).unwrap();
        t.contiguous().unwrap().reshape((2 * n, rest)).unwrap()
    };
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    for name in content.tensor_infos.keys().filter(|n| !n.contains("attn_k.") && !n.contains("attn_v.")) {
        let mut t = rows(name);
        let own = name.replace("attn_q.", "attn_qkv.");
        if own != *name {
            let flat = t.rank() == 1;
            let q = if flat { t.unsqueeze(1).unwrap() } else { t.clone() };
            let part = |of: &str| twice(rows(&name.replace("attn_q.", of)));
            t = Tensor::cat(&[q, part("attn_k."), part("attn_v.")], 0).unwrap();
            t = if flat { t.squeeze(1).unwrap() } else { t };
        }
        tensors.push((own, QTensor::quantize(&t, GgmlDType::F32).unwrap()));
    }
    let mut said = content.metadata.clone();
    said.insert("phi2.attention.head_count_kv".into(), Value::U32(4));
    let meta: Vec<(&str, &Value)> = said.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, t)| (k.as_str(), t)).collect();
    gguf_file::write(&mut std::fs::File::create(&joined).unwrap(), &meta, &tensors).unwrap();
    let ((want, _), (got, _)) = (last_states(&file), last_states(&joined));
    close("joined", &values(&got), &values(&want), 2e-5).unwrap();
    // Sizes that differ do not divide into three.
    said.insert("phi2.attention.head_count_kv".into(), Value::U32(2));
    let meta: Vec<(&str, &Value)> = said.iter().map(|(k, v)| (k.as_str(), v)).collect();
    gguf_file::write(&mut std::fs::File::create(&joined).unwrap(), &meta, &tensors).unwrap();
    let said = load(&joined, &Device::Cpu).err().unwrap().to_string();
    assert!(said.contains("different sizes in one tensor") && said.contains("j.gguf"), "{said}");
}
