//! Settings of published configurations that the other fixtures leave at one value, against `transformers`.

use tokenscope_tests::{check_forward, golden, json};

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
    check(&["bert_", "distilbert_", "roberta_", "xlmr_"], 7);
}

#[test]
fn decoders_with_other_scaling_windows_and_biases() {
    check(&["gpt2_", "llama_", "mistral_", "qwen2_", "qwen3_"], 9);
}

#[test]
fn image_towers_with_other_heads_and_shapes() {
    check(&["clip_", "deit_", "dinov2", "siglip_", "vit_"], 7);
}

#[test]
fn models_that_read_pictures_with_other_towers_and_layers() {
    check(&["llava_", "smol_"], 3);
}
