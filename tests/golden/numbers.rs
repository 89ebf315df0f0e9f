//! Weights in bf16: what they compute is what f32 computes of weights that were rounded before, and of a file that has
//! them in bf16 what `transformers` computes.

use std::collections::BTreeMap;
use std::path::Path;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::from_weights;
use tokenscope_analysis::names::{Named, to_transformers};
use tokenscope_analysis::parity::INPUTS;
use tokenscope_analysis::run::run;
use tokenscope_analysis::trace::CaptureSpec;
use tokenscope_analysis::weights::{Hold, Numbers, Weights};
use tokenscope_tests::{close, golden, json, recorded_request, tensors, tolerance};

/// Every tensor of a run on what the fixture `name` recorded, by the weights in `model`.
fn computed(model: &Path, name: &str, numbers: Numbers, hold: Hold) -> BTreeMap<String, Vec<f64>> {
    let weights = Weights::open(model).unwrap().in_numbers(numbers).holding(hold);
    let model = from_weights(&weights, &candle_core::Device::Cpu).unwrap();
    let request = recorded_request(&golden().join("models").join(name).join("expected.safetensors"));
    let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
    let values = |named: Named| match named {
        Named::Float(a) => a.data().iter().map(|&x| f64::from(x)).collect(),
        Named::Int(v) | Named::Table(v, _) => v.iter().map(|&x| x as f64).collect(),
    };
    to_transformers(&trace, &Ctx::default()).unwrap().into_iter().map(|(name, t)| (name, values(t))).collect()
}

/// The fixture with every matrix of several rows rounded to the nearest bf16, and still in f32.
fn rounded(name: &str) -> tempfile::TempDir {
    let (from, to) = (golden().join("models").join(name), tempfile::tempdir().unwrap());
    std::fs::copy(from.join("config.json"), to.path().join("config.json")).unwrap();
    let all = candle_core::safetensors::load(from.join("model.safetensors"), &candle_core::Device::Cpu).unwrap();
    let near = |(name, t): (String, candle_core::Tensor)| {
        let t = t.to_dtype(candle_core::DType::F32).unwrap();
        let near = t.to_dtype(candle_core::DType::BF16).unwrap().to_dtype(candle_core::DType::F32).unwrap();
        (name, if t.rank() > 1 && t.dim(0).unwrap() > 1 { near } else { t })
    };
    let all: std::collections::HashMap<_, _> = all.into_iter().map(near).collect();
    candle_core::safetensors::save(&all, to.path().join("model.safetensors")).unwrap();
    to
}

/// Decoders, whose matrices all are maps of layers, tables of ids and heads.
#[test]
fn weights_in_bf16_compute_what_f32_computes_of_rounded_ones() {
    for name in ["llama", "mixtral", "qwen3", "olmo2", "qwen2_moe", "deepseek_v2"] {
        let tolerances = &json(&golden().join("models").join(name).join("meta.json"))["tolerances"];
        let before = rounded(name);
        let dir = golden().join("models").join(name);
        let exact = computed(&dir, name, Numbers::F32, Hold::Memory);
        let want = computed(before.path(), name, Numbers::F32, Hold::Memory);
        for hold in [Hold::Memory, Hold::File] {
            let got = computed(&dir, name, Numbers::Bf16, hold);
            for (tensor, want) in want.iter().filter(|t| !INPUTS.contains(&t.0.as_str())) {
                close(tensor, &got[tensor], want, tolerance(tolerances, tensor)).unwrap_or_else(|e| {
                    panic!("{name}, weights {}: {e}", hold.name());
                });
            }
        }
        // Rounding is not nothing.
        let off = exact["logits"].iter().zip(&want["logits"]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off > 10.0 * tolerance(tolerances, "logits"), "{name}: {off}");
    }
}

/// A file of bf16 has nothing to lose.
#[test]
fn a_file_of_bf16_in_bf16_equals_transformers() {
    let dir = golden().join("models/llama_bf16");
    let tolerances = &json(&dir.join("meta.json"))["tolerances"];
    let want = tensors(&dir.join("expected.safetensors"));
    for hold in [Hold::Memory, Hold::File] {
        let got = computed(&dir, "llama_bf16", Numbers::Bf16, hold);
        let mut seen = 0;
        for (name, w) in want.iter().filter(|t| !INPUTS.contains(&t.0.as_str())) {
            close(name, &got[name], &w.values, tolerance(tolerances, name)).unwrap();
            seen += 1;
        }
        assert!(seen > 5, "{seen}");
    }
}
