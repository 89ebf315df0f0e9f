//! Settings of published configurations that the other fixtures leave at one value, against `transformers`.

use candle_core::{Device, Tensor};
use tokenscope_analysis::model::{Input, load};
use tokenscope_analysis::passes::attention_map::of_trace;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::{At, CaptureSpec, NoTap, Regroup, Site, Tap};
use tokenscope_analysis::{Ctx, Result};
use tokenscope_tests::{check_forward, golden, json, recorded_request};

/// Compares the fixtures whose name starts with one of `families`; there are `n` of them.
fn check(families: &[&str], n: usize) {
    let mut seen = 0;
    for entry in std::fs::read_dir(golden().join("models/settings")).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        if families.iter().any(|f| name.starts_with(f)) {
            check_forward(&dir, &dir.join("expected.safetensors"), &json(&dir.join("meta.json"))["tolerances"]);
            seen += 1;
        }
    }
    assert_eq!(seen, n, "fixtures of {families:?}");
}

#[test]
fn encoders_with_other_heads_and_positions() {
    check(&["bert_", "camembert_", "distilbert_", "electra_", "modernbert_", "roberta_", "t5_", "xlmr_"], 16);
}

#[test]
fn decoders_with_other_scaling_windows_and_biases() {
    check(&["gpt2_", "llama_", "mistral_", "olmo2_", "qwen2_", "qwen3_headdim", "qwen3_moe_"], 15);
}

#[test]
fn recurrences_of_other_sizes_biases_and_groups() {
    check(&["mamba"], 3);
}

#[test]
fn decoders_of_further_families() {
    check(&["gemma", "gpt_neox_", "opt_", "phi"], 14);
}

#[test]
fn decoders_with_norms_positions_and_maps_of_their_own() {
    check(&["arcee", "cohere", "exaone4", "glm", "helium", "ministral", "nemotron"], 9);
    check(&["olmo", "seed_oss", "smollm3", "stablelm", "starcoder2"], 8);
}

#[test]
fn older_decoders_with_joined_maps_and_scores_by_distance() {
    check(&["bloom", "codegen", "falcon", "gpt_bigcode", "gpt_neo", "gptj", "mpt"], 13);
}

#[test]
fn mixtures_of_experts_with_sinks_or_latents() {
    check(&["deepseek_", "gpt_oss_"], 5);
}

#[test]
fn image_towers_with_other_heads_and_shapes() {
    check(&["beit_", "clip_", "data2vec_", "deit_", "dinov2", "dinov3_", "ijepa", "siglip", "swin", "vit_"], 23);
}

#[test]
fn models_that_read_pictures_with_other_towers_and_layers() {
    check(&["internvl_", "llava_", "qwen3_vl_", "smol_"], 8);
}

/// Drops the last row between attention and MLP of the first layer.
struct DropLast;

impl Tap for DropLast {
    fn regroup(&mut self, at: &At, _x: &Tensor) -> Result<Option<Regroup>> {
        let kept = |n: usize| (0..n).map(|i| vec![(i, 1.0)]).collect();
        Ok((at.site == Site::ResidMid && at.layer == 0).then(|| Regroup::of(kept(at.rows.len() - 1))))
    }
}

/// Attention is causal, so what is kept cannot tell; where the parts stand side by side the MLP's rows must follow.
#[test]
fn a_row_dropped_inside_a_block_leaves_the_others_as_they_were() {
    for name in ["gpt_neox_pythia", "gpt_neox_serial", "gemma2_windows"] {
        let model = load(&golden().join("models/settings").join(name), &Device::Cpu).unwrap();
        let logits = |tap: &mut dyn Tap| {
            let mut input = Input { ids: vec![7, 3, 9, 20, 4], ..Input::default() };
            model.forward(&mut input, tap, &Ctx::default()).unwrap().logits.unwrap().to_vec2::<f32>().unwrap()
        };
        let (full, cut) = (logits(&mut NoTap), logits(&mut DropLast));
        assert_eq!(cut.len(), 4, "{name}");
        for (a, b) in full.iter().flatten().zip(cut.iter().flatten()) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} and {b}");
        }
    }
}

/// Both ways to a map, of every layer and head: what the model used, and what the passes make of queries and keys.
#[test]
fn patterns_that_taps_see_are_those_that_the_passes_compute() {
    let names = [
        "gemma2_windows",
        "qwen2_sw_some",
        "gpt_neox_pythia",
        "llava_list",
        "smol_idefics3",
        "bert_pretraining",
        "gpt_oss_odd",
        "gpt_oss_wide",
        "deepseek_v2_groups",
        "deepseek_v3_part",
    ];
    for name in names {
        let dir = golden().join("models/settings").join(name);
        let model = load(&dir, &Device::Cpu).unwrap();
        let request = recorded_request(&dir.join("expected.safetensors"));
        let request = RunRequest { greedy: 0, ..request };
        let trace = run(model.as_ref(), None, &request, &CaptureSpec::all(), &Ctx::default()).unwrap();
        let mut seen = 0;
        for (key, entry) in trace.arrays.iter().filter(|(k, _)| k.site == Site::Pattern) {
            let [heads, n, m] = entry.array.dims("pattern").unwrap();
            for head in 0..heads {
                let map = of_trace(&trace, key.tower, key.tile, key.layer, head, &Ctx::default()).unwrap();
                let own = &entry.array.data()[head * n * m..][..n * m];
                assert!(own.iter().zip(map.data()).all(|(a, b)| (a - b).abs() < 1e-5), "{name} {key:?} head {head}");
            }
            seen += 1;
        }
        let layers: usize = trace.towers.values().map(|t| t.n_layers * t.n_tiles).sum();
        assert_eq!(seen, layers, "{name}");
    }
}
