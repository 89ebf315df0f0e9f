//! Models of published shapes with random weights, written as the files that are read.

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::Path;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::{LogitRows, Model, load};
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::threads::alone;
use tokenscope_analysis::trace::{CaptureSpec, Trace};

/// Tokens that a model in GPT-2's shape reads at most.
const POSITIONS: usize = 4096;
/// Width of a head.
const HEAD: usize = 64;

/// A loaded model and the folder that it lies in.
pub type Loaded = (tempfile::TempDir, Box<dyn Model>);

/// Calls `f` with what the program settles before its jobs, and as one of the threads that compute, as they are.
#[allow(dead_code, reason = "some of the benches that share this file time the whole program's way")]
pub fn as_the_program(f: impl FnOnce() + Send) {
    #[expect(unsafe_code, reason = "no other thread runs yet that could read the environment")]
    unsafe {
        std::env::set_var("CANDLE_BARRIER_POOL_SPIN_LIMIT", "1");
    }
    alone(f);
}

/// A pass over `n` tokens, with logits of the last one.
#[allow(dead_code, reason = "some of the benches that share this file trace otherwise")]
pub fn traced(model: &dyn Model, n: usize, spec: &CaptureSpec) -> Trace {
    let ids = Some((0..n as u32).map(|i| i * 37 % 1000).collect());
    let request = RunRequest { ids, logits: Some(LogitRows::Last), ..RunRequest::default() };
    run(model, None, &request, spec, &Ctx::default()).expect("the run works")
}

/// A model in GPT-2's shape.
pub fn gpt2(layers: usize, heads: usize, vocab: usize) -> Loaded {
    let width = HEAD * heads;
    let config = format!(
        r#"{{"model_type":"gpt2","n_embd":{width},"n_head":{heads},"n_layer":{layers},"n_positions":{POSITIONS},"vocab_size":{vocab}}}"#
    );
    let mut shapes =
        vec![("wte.weight".to_string(), vec![vocab, width]), ("wpe.weight".into(), vec![POSITIONS, width])];
    let mut norms = vec!["ln_f".to_string()];
    for i in 0..layers {
        for (name, input, output) in [
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ] {
            shapes.push((format!("h.{i}.{name}.weight"), vec![input, output]));
            shapes.push((format!("h.{i}.{name}.bias"), vec![output]));
        }
        norms.extend([format!("h.{i}.ln_1"), format!("h.{i}.ln_2")]);
    }
    with_norms(&mut shapes, norms, width);
    written(&config, shapes)
}

/// A model in the shape of ViT-B/16 for pictures of `side` pixels.
#[allow(dead_code, reason = "one of the benches that share this file reads pictures")]
pub fn vit(layers: usize, heads: usize, side: usize) -> Loaded {
    let (width, patch) = (HEAD * heads, 16);
    let tokens = (side / patch).pow(2) + 1;
    let config = format!(
        r#"{{"model_type":"vit","architectures":["ViTModel"],"hidden_size":{width},"intermediate_size":{},"num_attention_heads":{heads},"num_hidden_layers":{layers},"image_size":{side},"patch_size":{patch},"num_channels":3,"hidden_act":"gelu","layer_norm_eps":1e-12,"qkv_bias":true}}"#,
        4 * width
    );
    let mut shapes = vec![
        ("embeddings.cls_token".to_string(), vec![1, 1, width]),
        ("embeddings.position_embeddings".into(), vec![1, tokens, width]),
        ("embeddings.patch_embeddings.projection.weight".into(), vec![width, 3, patch, patch]),
        ("embeddings.patch_embeddings.projection.bias".into(), vec![width]),
    ];
    let mut norms = vec!["layernorm".to_string()];
    for i in 0..layers {
        for (name, input, output) in [
            ("attention.attention.query", width, width),
            ("attention.attention.key", width, width),
            ("attention.attention.value", width, width),
            ("attention.output.dense", width, width),
            ("intermediate.dense", width, 4 * width),
            ("output.dense", 4 * width, width),
        ] {
            shapes.push((format!("encoder.layer.{i}.{name}.weight"), vec![output, input]));
            shapes.push((format!("encoder.layer.{i}.{name}.bias"), vec![output]));
        }
        norms.extend(["before", "after"].map(|at| format!("encoder.layer.{i}.layernorm_{at}")));
    }
    with_norms(&mut shapes, norms, width);
    written(&config, shapes)
}

fn with_norms(shapes: &mut Vec<(String, Vec<usize>)>, norms: Vec<String>, width: usize) {
    let both = |name: String| ["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![width]));
    shapes.extend(norms.into_iter().flat_map(both));
}

/// The model of this configuration, its weights drawn at random.
fn written(config: &str, shapes: Vec<(String, Vec<usize>)>) -> Loaded {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write(dir.path(), config, shapes);
    let model = load(dir.path(), &Device::Cpu).expect("the model loads");
    (dir, model)
}

fn write(dir: &Path, config: &str, shapes: Vec<(String, Vec<usize>)>) {
    let drawn = |shape: Vec<usize>| Tensor::randn(0f32, 0.02, shape, &Device::Cpu).expect("a random tensor");
    let weights: HashMap<String, Tensor> = shapes.into_iter().map(|(name, shape)| (name, drawn(shape))).collect();
    std::fs::write(dir.join("config.json"), config).expect("the temporary folder is writable");
    candle_core::safetensors::save(&weights, dir.join("model.safetensors")).expect("the temporary folder is writable");
}
