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

/// Several pictures, as options or as frames of a folder, are read in their order and repeated from the trace.
#[test]
fn several_pictures_are_traced_repeated_and_shown_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let (file, model) = (dir.path().join("run.trace"), models().join("several/qwen3_vl"));
    let frames = dir.path().join("frames");
    std::fs::create_dir(&frames).unwrap();
    for (from, to) in [("image.png", "1.png"), ("image_1.png", "2.png")] {
        std::fs::copy(model.join(from), frames.join(to)).unwrap();
    }
    let path = |p: &Path| p.to_str().unwrap().to_string();
    let prompt = "both: <|image_pad|> and <|image_pad|>?";
    let trace = |images: &[&str]| {
        let words = ["trace", "--model", &path(&model), "--prompt", prompt, "--out", &path(&file)];
        let traced = tokenscope(&[&words[..], images].concat());
        assert!(traced.status.success(), "{}", String::from_utf8_lossy(&traced.stderr));
        tokenscope_analysis::trace::read_trace(&file, &tokenscope_analysis::Ctx::default()).unwrap()
    };
    let (first, second) = (path(&model.join("image.png")), path(&model.join("image_1.png")));
    let one = trace(&["--image", &first, "--image", &second]);
    let out = verify(&["--model", &path(&model), "--against", &path(&file)]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stdout));
    let other = trace(&["--image", &path(&frames), "--frames", "2"]);
    assert_eq!((one.arrays, one.image_size), (other.arrays, other.image_size));
    assert_eq!(one.picture.unwrap().width as u32, one.image_size.unwrap().0);
    let words = ["trace", "--model", &path(&model), "--out", &path(&file), "--prompt", prompt, "--image", &first];
    fails_with(&words, &["2 places <|image_pad|>, but there is one image"]);
    fails_with(&[&words[..], &["--frames", "3"]].concat(), &["no animation"]);
    let vit = path(&models().join("vit"));
    fails_with(
        &["trace", "--model", &vit, "--out", &path(&file), "--image", &first, "--image", &second],
        &["reads one picture"],
    );
}
