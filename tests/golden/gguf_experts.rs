//! GGUF files of models with experts: stacked or one by one, the numbers of the same model as safetensors.

use super::gguf::{last_states, values, write_folder, write_folder_with};
use candle_core::Device;
use candle_core::quantized::GgmlDType;
use serde_json::{Value, json};
use std::path::Path;
use tokenscope_analysis::model::load;
use tokenscope_analysis::trace::write_tensors;
use tokenscope_tests::{close, golden};

/// Writes a folder of random weights of these shapes.
fn folder(dir: &Path, config: &Value, shapes: &[(String, Vec<usize>)]) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut seed = 5u64;
    let data: Vec<Vec<u8>> = shapes
        .iter()
        .map(|(name, shape)| {
            let size = if shape.len() == 2 { 1.5 / (shape[1] as f32).sqrt() } else { 0.2 };
            let around = if name.contains("norm") { 1.0 } else { 0.0 };
            (0..shape.iter().product::<usize>())
                .flat_map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (around + ((seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * size).to_le_bytes()
                })
                .collect()
        })
        .collect();
    let tensors: Vec<_> = shapes
        .iter()
        .zip(&data)
        .map(|((name, shape), d)| (name.clone(), safetensors::Dtype::F32, shape.clone(), d.as_slice()))
        .collect();
    write_tensors(&dir.join("model.safetensors"), &tensors, None).unwrap();
}

/// A Qwen with experts in all layers but those of `dense`, of width 32.
fn qwen(dir: &Path, kind: &str, dense: &[usize]) {
    let (d, heads, groups, wide, inner, shared, mlp, vocab) = (32, 4, 2, 8, 32, 64, 48, 64);
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_string(), vec![vocab, d]),
        ("model.norm.weight".into(), vec![d]),
        ("lm_head.weight".into(), vec![vocab, d]),
    ];
    for layer in 0..3 {
        let mut put =
            |name: &str, shape: &[usize]| shapes.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        let maps = [("q", heads * wide), ("k", groups * wide), ("v", groups * wide)];
        for (part, n) in maps {
            put(&format!("self_attn.{part}_proj.weight"), &[n, d]);
            if kind == "qwen2_moe" {
                put(&format!("self_attn.{part}_proj.bias"), &[n]);
            }
        }
        put("self_attn.o_proj.weight", &[d, heads * wide]);
        if kind == "qwen3_moe" {
            put("self_attn.q_norm.weight", &[wide]);
            put("self_attn.k_norm.weight", &[wide]);
        }
        put("input_layernorm.weight", &[d]);
        put("post_attention_layernorm.weight", &[d]);
        if dense.contains(&layer) {
            put("mlp.gate_proj.weight", &[mlp, d]);
            put("mlp.up_proj.weight", &[mlp, d]);
            put("mlp.down_proj.weight", &[d, mlp]);
            continue;
        }
        put("mlp.gate.weight", &[5, d]);
        for e in 0..5 {
            put(&format!("mlp.experts.{e}.gate_proj.weight"), &[inner, d]);
            put(&format!("mlp.experts.{e}.up_proj.weight"), &[inner, d]);
            put(&format!("mlp.experts.{e}.down_proj.weight"), &[d, inner]);
        }
        if kind == "qwen2_moe" {
            put("mlp.shared_expert.gate_proj.weight", &[shared, d]);
            put("mlp.shared_expert.up_proj.weight", &[shared, d]);
            put("mlp.shared_expert.down_proj.weight", &[d, shared]);
            put("mlp.shared_expert_gate.weight", &[1, d]);
        }
    }
    let class = if kind == "qwen2_moe" { "Qwen2MoeForCausalLM" } else { "Qwen3MoeForCausalLM" };
    let config = json!({
        "architectures": [class], "model_type": kind, "hidden_size": d, "num_hidden_layers": 3,
        "num_attention_heads": heads, "num_key_value_heads": groups, "head_dim": wide, "intermediate_size": mlp,
        "moe_intermediate_size": inner, "shared_expert_intermediate_size": shared, "num_experts": 5,
        "num_experts_per_tok": 2, "norm_topk_prob": kind == "qwen3_moe", "mlp_only_layers": dense,
        "decoder_sparse_step": 1, "vocab_size": vocab, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "tie_word_embeddings": false, "attention_bias": false,
        "rope_parameters": { "rope_type": "default", "rope_theta": 10_000.0 },
    });
    folder(dir, &config, &shapes);
}

fn same(name: &str, folder: &Path, file: &Path, atol: f64) {
    let ((want, want_logits), (got, logits)) = (last_states(folder), last_states(file));
    close(&format!("{name} states"), &values(&got), &values(&want), atol).unwrap();
    close(&format!("{name} logits"), &values(&logits), &values(&want_logits), 2.0 * atol).unwrap();
}

#[test]
fn models_with_experts_give_the_same_numbers_as_their_safetensors() {
    let dir = tempfile::tempdir().unwrap();
    let own = |name: &str| dir.path().join(name);
    qwen(&own("qwen2_moe"), "qwen2_moe", &[]);
    qwen(&own("qwen3_moe"), "qwen3_moe", &[]);
    qwen(&own("qwen3_moe_dense"), "qwen3_moe", &[1]);
    let folders = [golden().join("models/mixtral"), own("qwen2_moe"), own("qwen3_moe"), own("qwen3_moe_dense")];
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap().to_string();
        for (dtype, atol) in [(GgmlDType::F32, 2e-4), (GgmlDType::F16, 5e-2)] {
            let file = own(&format!("{name}-{dtype:?}.gguf"));
            write_folder(&folder, dtype, &file);
            same(&format!("{name} {dtype:?}"), &folder, &file, atol);
        }
        // Old files hold experts one by one.
        let file = own(&format!("{name}-apart.gguf"));
        write_folder_with(&folder, GgmlDType::F32, &file, false);
        same(&format!("{name} one by one"), &folder, &file, 2e-4);
    }
}

#[test]
fn quantised_stacks_are_cut_between_experts() {
    // Of width 32 each row is one block of Q8_0.
    let dir = tempfile::tempdir().unwrap();
    let (folder, file) = (dir.path().join("m"), dir.path().join("m.gguf"));
    qwen(&folder, "qwen3_moe", &[]);
    write_folder(&folder, GgmlDType::Q8_0, &file);
    let weights = tokenscope_analysis::weights::Weights::open(&file).unwrap();
    let plain = tokenscope_analysis::weights::Weights::open(&folder).unwrap();
    for e in [0, 4] {
        let name = format!("model.layers.2.mlp.experts.{e}.down_proj.weight");
        let get = |w: &tokenscope_analysis::weights::Weights| {
            let t = w.get(&name, &[32, 32], &Device::Cpu).unwrap();
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect::<Vec<_>>()
        };
        close(&name, &get(&weights), &get(&plain), 0.01).unwrap();
    }
    assert!(load(&file, &Device::Cpu).is_ok());
}
