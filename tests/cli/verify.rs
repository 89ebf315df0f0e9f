//! The verbs `recorder` and `verify`.

use super::{fails_with, models, tokenscope};
use std::path::Path;
use std::process::Output;

#[test]
fn the_recorder_is_printed_as_it_is_kept() {
    let out = tokenscope(&["recorder"]);
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/tokenscope_record.py");
    assert!(
        String::from_utf8(out.stdout).unwrap() == std::fs::read_to_string(kept).unwrap(),
        "another file is printed"
    );
}

fn verify(words: &[&str]) -> Output {
    let settings = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tokenscope"));
    command.arg("verify").args(words).env("TOKENSCOPE_CONFIG_DIR", settings.path()).output().unwrap()
}

#[test]
fn a_reference_holds_or_does_not_and_the_exit_code_says_so() {
    let bert = models().join("bert");
    let bert = bert.to_str().unwrap();
    let out = verify(&["--model", bert, "--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&found["holds"], &found["dtype"]), (&true.into(), &"float32".into()));
    let kinds = found["kinds"].as_array().unwrap();
    let attentions = kinds.iter().find(|k| k["kind"] == "attentions").unwrap();
    assert!(attentions["share"].as_f64().unwrap() < 1e-5 && attentions["tensors"].as_u64().unwrap() >= 2);
    // Nothing is as right as that.
    let out = verify(&["--model", bert, "--tolerance", "1e-12"]);
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("DOES NOT HOLD"), "{said}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("differs by"));
    fails_with(&["verify", "--model", bert, "--tolerance", "-1"], &["--tolerance", "1e-4"]);
    fails_with(&["verify", "--model", "sample-lm"], &["--against", "tokenscope_record.py"]);
}

#[test]
fn a_run_of_another_model_does_not_hold() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.trace");
    let (own, other) = (models().join("llama"), models().join("llama_rope_scaled"));
    let traced = tokenscope(&[
        "trace",
        "--model",
        own.to_str().unwrap(),
        "--prompt",
        "12 boats and more",
        "--out",
        file.to_str().unwrap(),
    ]);
    assert!(traced.status.success(), "{}", String::from_utf8_lossy(&traced.stderr));
    let against = ["--against", file.to_str().unwrap()];
    let of = |model: &Path| verify(&[&["--model", model.to_str().unwrap()], &against[..]].concat());
    assert_eq!(of(&own).status.code(), Some(0));
    assert_eq!(of(&other).status.code(), Some(1));
    // A file that is no reference is bad input.
    fails_with(
        &["verify", "--model", own.to_str().unwrap(), "--against", own.join("model.safetensors").to_str().unwrap()],
        &["neither input_ids nor pixel_values"],
    );
}

/// Traces of models with a picture hold what was read of it, in each of the forms that processors give.
#[test]
fn a_run_with_a_picture_is_repeated_from_its_trace() {
    for name in ["llava", "llava_next", "qwen2_5_vl", "internvl", "smolvlm", "clip", "vit"] {
        let dir = tempfile::tempdir().unwrap();
        let (file, model) = (dir.path().join("run.trace"), models().join(name));
        let (image, meta) = (model.join("image.png"), std::fs::read_to_string(model.join("meta.json")).unwrap());
        let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
        let mut words = vec!["trace", "--model", model.to_str().unwrap(), "--image", image.to_str().unwrap()];
        words.extend(["--out", file.to_str().unwrap()]);
        if let Some(text) = meta["input_text"].as_str() {
            words.extend(["--prompt", text]);
        } else if name == "clip" {
            words.extend(["--prompt", "a train"]);
        }
        let traced = tokenscope(&words);
        assert!(traced.status.success(), "{name}: {}", String::from_utf8_lossy(&traced.stderr));
        let out = verify(&["--model", model.to_str().unwrap(), "--against", file.to_str().unwrap(), "--json"]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{name}: {}{said}", String::from_utf8_lossy(&out.stdout));
        let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let kinds: Vec<&str> = found["kinds"].as_array().unwrap().iter().filter_map(|k| k["kind"].as_str()).collect();
        assert!(kinds.iter().any(|k| k.contains("attentions")), "{name}: {kinds:?}");
    }
}
