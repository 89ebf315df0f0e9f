//! The built binary as a script uses it: exit codes, files, messages.

mod again;
mod beside;
mod draft;
mod field;
mod leaderboard;
mod raw;
mod report;
mod saving;
mod session;
mod verify;
mod workbench;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::Kind;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models")
}

fn tokenscope(args: &[&str]) -> Output {
    with_compute(None, args)
}

/// As [`tokenscope`], with `TOKENSCOPE_COMPUTE` set.
fn with_compute(compute: Option<&str>, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenscope"));
    command.args(args).env_remove("TOKENSCOPE_COMPUTE").envs(compute.map(|c| ("TOKENSCOPE_COMPUTE", c)));
    command.output().expect("the binary starts")
}

fn fails_with(args: &[&str], words: &[&str]) {
    let out = tokenscope(args);
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{args:?}: {err}");
    for w in words {
        assert!(err.contains(w), "{args:?}: {w:?} is not in {err:?}");
    }
}

#[test]
fn a_trace_is_written_and_only_where_told() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("t.safetensors");
    let model = models().join("gpt2");
    let run = tokenscope(&[
        "trace",
        "--model",
        model.to_str().unwrap(),
        "--prompt",
        "12 boats",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(tokenscope_analysis::trace::read_trace(&out, &tokenscope_analysis::Ctx::default()).is_ok());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Where memory has no room for what a run keeps, it waits in a file beside the target: the trace is the same.
#[test]
fn a_trace_that_memory_has_no_room_for_is_written_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids.json");
    let list: Vec<u32> = (0..500).map(|i| i * 31 % 700).collect();
    std::fs::write(&ids, serde_json::to_string(&list).unwrap()).unwrap();
    // 6.7 MB are kept, 3.9 MB needed on top.
    let run = |verb: &[&str], memory: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenscope"));
        command.args(verb).envs([("TOKENSCOPE_MEMORY", memory), ("RAYON_NUM_THREADS", "2")]);
        command.env_remove("TOKENSCOPE_COMPUTE").env("TOKENSCOPE_SPILL", dir.path()).output().unwrap()
    };
    let traced = |memory: &str| {
        let out = dir.path().join(format!("{memory}.trace"));
        let (ids, to) = (ids.to_str().unwrap(), out.to_str().unwrap());
        let run = run(&["trace", "--model", "sample-lm", "--weights", "f32", "--ids", ids, "--out", to], memory);
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{said}");
        (tokenscope_analysis::trace::read_trace(&out, &tokenscope_analysis::Ctx::default()).unwrap(), said)
    };
    let ((whole, quiet), (tight, said)) = (traced("100000"), traced("7"));
    assert!(tight.arrays == whole.arrays, "{said}");
    assert!(
        !quiet.contains("no room") && said.contains("no room") && said.contains(dir.path().to_str().unwrap()),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    // So are other verbs, and a trace that is read.
    let shown = dir.path().join("100000.trace");
    let score = |memory: &str| {
        let run = run(&["run", "received_attention", "--model", shown.to_str().unwrap()], memory);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        json["values"].clone()
    };
    assert_eq!(score("5"), score("100000"));
    let none = run(&["trace", "--model", "sample-lm", "--ids", ids.to_str().unwrap(), "--out", "x.trace"], "1");
    assert_eq!(none.status.code(), Some(2), "{}", String::from_utf8_lossy(&none.stderr));
}

#[test]
fn tokenize_prints_the_json_of_the_contract() {
    let run = tokenscope(&["tokenize", "--tokenizer", "cl100k_base", "--text", "hello world", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(json["ids"], serde_json::json!([15339, 1917]));
    assert_eq!(json["offsets_byte"], serde_json::json!([[0, 5], [5, 11]]));
    assert_eq!(json["special_mask"], serde_json::json!([false, false]));
}

#[test]
fn several_tokenizers_are_compared_by_what_their_cuts_cost() {
    let names = ["--tokenizer", "cl100k_base", "--tokenizer", "r50k_base", "--text", "hello hello world", "--json"];
    let run = tokenscope(&[&["tokenize"], names.as_slice()].concat());
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    // "hello", " hello", " world": three different tokens for three words and 17 bytes.
    let row = &json["rows"][0];
    assert_eq!((&row["tokens"], &row["tokens_per_word"]), (&3.into(), &1.0.into()));
    assert!((row["entropy_bits"].as_f64().unwrap() - 3_f64.log2()).abs() < 1e-12);
    assert_eq!(row["bytes_per_token"].as_f64(), Some(17.0 / 3.0));
    assert_eq!(json["rows"][1]["premium"].as_f64(), Some(1.0));
    fails_with(&["tokenize", "--tokenizer", "nonsense", "--metrics", "--text", "a"], &["nonsense", "cl100k_base"]);
}

#[test]
fn the_notices_name_every_crate_that_is_linked() {
    let run = tokenscope(&["licences", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let named: BTreeSet<String> = json["crates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{} v{}", c["name"].as_str().unwrap(), c["version"].as_str().unwrap()))
        .collect();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = ["tree", "--offline", "-p", "tokenscope", "-e", "normal", "--prefix", "none", "-f", "{p}"];
    let out = Command::new(cargo).args(tree).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let linked = String::from_utf8(out.stdout).unwrap();
    let linked: BTreeSet<String> = linked
        .lines()
        .filter(|l| !l.starts_with("tokenscope") && !l.trim().is_empty())
        .map(|l| l.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert!(linked.len() > 300, "cargo lists {} crates", linked.len());
    let missing: Vec<_> = linked.difference(&named).collect();
    assert!(missing.is_empty(), "run .ci/licences; it lacks {missing:?}");
    let text = String::from_utf8(tokenscope(&["licences"]).stdout).unwrap();
    assert!(text.contains("Mozilla Public License") && text.contains("The JetBrains Mono Project Authors"));
}

/// Nothing that is given is left out in silence.
#[test]
fn inputs_that_a_model_does_not_read_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (out, ids) = (dir.path().join("x"), dir.path().join("ids.json"));
    std::fs::write(&ids, r#"{"input_ids": [3, 4], "token_type_ids": [0, 1]}"#).unwrap();
    let (out, ids) = (out.to_str().unwrap(), ids.to_str().unwrap());
    let path = |name: &str| models().join(name).to_str().unwrap().to_string();
    let (gpt2, vit, llava) = (path("gpt2"), path("vit"), path("llava"));
    let (pixels, image) = (path("vit/expected.safetensors"), path("vit/image.png"));
    let trace = |words: &[&str], said: &[&str]| fails_with(&[&["trace", "--out", out], words].concat(), said);
    trace(&["--model", &gpt2, "--prompt", "a", "--pixel-values", &pixels], &["--pixel-values", "reads no images"]);
    trace(&["--model", &gpt2, "--prompt", "a", "--image", &image], &["reads no images", "--image"]);
    trace(&["--model", &llava, "--ids", ids, "--image", &image], &["--ids beside --image"]);
    trace(&["--model", &gpt2, "--ids", ids], &["token_type_ids"]);
    trace(&["--model", &vit, "--prompt", "a", "--image", &image], &["--prompt", "no text"]);
    trace(&["--model", &path("dinov2"), "--logits", "all", "--image", &image], &["--logits", "no logits"]);
    fails_with(&["run", "received_attention", "--model", &gpt2, "--prompt", "a", "--image", &image], &["--image"]);
    let of = |word: &str| tokenscope(&["info", "--model", &gpt2, "--json", "--weights", word]);
    for (word, in_file) in [("stored", true), ("f32", false), ("memory", false)] {
        let json: serde_json::Value = serde_json::from_slice(&of(word).stdout).unwrap();
        assert_eq!(json["weights"]["in_file"], in_file, "{word}");
    }
    fails_with(&["info", "--model", &gpt2, "--weights", "bf16"], &["stored"]);
    fails_with(&["info", "--model", &gpt2, "--dtype", "stored"], &["bf16"]);
}

/// `--dtype bf16` halves what matrices take, changes numbers as much as that rounding does, and is said by what it makes.
#[test]
fn weights_in_bf16_are_asked_for_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| models().join(name).to_str().unwrap().to_string();
    let json = |words: &[&str]| -> serde_json::Value {
        let out = tokenscope(words);
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let llama = path("llama");
    let info = |dtype: &str| json(&["info", "--model", &llama, "--json", "--weights", "f32", "--dtype", dtype]);
    let (f32, bf16) = (info("f32"), info("bf16"));
    assert_eq!((&f32["weights"]["numbers"], &bf16["weights"]["numbers"]), (&"f32".into(), &"bf16".into()));
    let bytes = |info: &serde_json::Value| info["weights"]["memory_bytes"].as_f64().unwrap();
    assert!((0.5..0.52).contains(&(bytes(&bf16) / bytes(&f32))), "{bf16}");
    assert_ne!(f32["fingerprint"], bf16["fingerprint"]);
    // The environment says it, too, and counts after the option.
    let said = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenscope"));
        command.args([&["info", "--json", "--model", &llama], words].concat()).env("TOKENSCOPE_DTYPE", "bf16");
        serde_json::from_slice::<serde_json::Value>(&command.output().unwrap().stdout).unwrap()["weights"]["numbers"]
            .clone()
    };
    assert_eq!((said(&[]), said(&["--dtype", "f32"])), ("bf16".into(), "f32".into()));
    // As far as rounding goes, and no farther.
    let verify = |dtype: &str, more: &[&str]| {
        tokenscope(&[&["verify", "--model", &llama, "--json", "--dtype", dtype], more].concat())
    };
    assert!(verify("f32", &[]).status.success() && verify("bf16", &[]).status.success());
    assert_eq!(verify("bf16", &["--tolerance", "1e-4"]).status.code(), Some(1));
    // A trace says so.
    let to = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let ids = to("ids.json");
    std::fs::write(&ids, "[3, 4, 5]").unwrap();
    assert!(
        tokenscope(&["trace", "--model", &llama, "--ids", &ids, "--dtype", "bf16", "--out", &to("t")]).status.success()
    );
    let trace = tokenscope_analysis::trace::read_trace(&dir.path().join("t"), &Default::default()).unwrap();
    assert_eq!(trace.dtype.as_deref(), Some("float32 with weights in bfloat16"));
}

/// A device that the build does not know says how to build one that does, whoever asks for it.
#[test]
fn devices_are_asked_for_on_the_command_line() {
    let llama = models().join("llama").to_str().unwrap().to_string();
    let info = ["info", "--json", "--model", &llama];
    let said = |device: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenscope"));
        command.args(info).env("TOKENSCOPE_DEVICE", device).output().unwrap()
    };
    assert!(tokenscope(&[&info[..], &["--device", "cpu"]].concat()).status.success() && said("cpu").status.success());
    for (device, feature, built) in
        [("cuda:200", "cuda", cfg!(feature = "cuda")), ("metal", "metal", cfg!(feature = "metal"))]
    {
        let words: &[&str] = if built { &[device] } else { &["--features", feature] };
        fails_with(&[&info[..], &["--device", device]].concat(), words);
        let out = said(device);
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && words.iter().all(|w| err.contains(w)), "{err}");
    }
    fails_with(&[&info[..], &["--device", "gpu"]].concat(), &["cuda:N"]);
    assert!(String::from_utf8_lossy(&said("gpu").stderr).contains("TOKENSCOPE_DEVICE is gpu"));
    // The processor beside itself, however weights are rounded.
    let out = tokenscope(&["verify", "--model", &llama, "--json", "--dtype", "bf16", "--beside-processor"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let all = json["kinds"].as_array().unwrap();
    assert!(all.len() > 3 && all.iter().all(|k| k["error"] == 0.0 && k["tolerance"].as_f64() <= Some(1e-4)), "{json}");
}

#[test]
fn mistakes_exit_with_2_and_say_what_to_do() {
    let bert = models().join("bert");
    let t = tempfile::tempdir().unwrap();
    let out = t.path().join("x");
    let out = out.to_str().unwrap();
    fails_with(&["trace", "--model", "/nowhere", "--prompt", "a", "--out", out], &["/nowhere"]);
    fails_with(&["trace", "--model", bert.to_str().unwrap(), "--out", out], &["give a prompt"]);
    fails_with(
        &["trace", "--model", bert.to_str().unwrap(), "--prompt", "a", "--greedy", "2", "--out", out],
        &["cannot continue"],
    );
    fails_with(
        &["trace", "--model", bert.to_str().unwrap(), "--prompt", "a", "--sites", "w", "--out", out],
        &["no site named w"],
    );
    fails_with(&["tokenize", "--tokenizer", "nope", "--text", "a"], &["nope", "cl100k_base"]);
    assert!(!Path::new(out).exists());
}

#[test]
fn doctor_says_what_computes_and_tries_every_pass() {
    let doctor = |compute| {
        let run = with_compute(compute, &["doctor", "--json"]);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        serde_json::from_slice::<serde_json::Value>(&run.stdout).unwrap()
    };
    let (free, cpu) = (doctor(None), doctor(Some("cpu")));
    let words = |v: &serde_json::Value| v["computing"].as_str().unwrap().to_string();
    let adapters = free["adapters"].as_array().unwrap();
    if adapters.iter().all(|a| a["software"] == true) {
        assert!(words(&free).starts_with("computing on the CPU"), "{}", words(&free));
    }
    assert_eq!(words(&cpu), "computing on the CPU, because TOKENSCOPE_COMPUTE says so");
    assert_eq!(cpu["passes"].as_array().unwrap().len(), 1);
    for side in free["passes"].as_array().unwrap() {
        assert_eq!(side["tried"], tokenscope_analysis::passes::ALL.len());
        assert_eq!(side["wrong"], serde_json::json!([]));
    }
    let wrong = with_compute(Some("cuda"), &["doctor"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("auto, cpu or gpu"));
}

#[test]
fn judge_gives_a_line_per_method_with_the_floor_and_says_why_one_cannot_serve() {
    let judge = |args: &[&str]| -> Vec<serde_json::Value> {
        let run = tokenscope(&[&["judge", "--samples", "2", "--all", "--json"], args].concat());
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        serde_json::from_slice(&run.stdout).unwrap()
    };
    let scores = judge(&["--kind", "score", "--methods", "received_attention,cls_score", "--set", "fair=false"]);
    let ids: Vec<&str> = scores.iter().map(|r| r["method"].as_str().unwrap()).collect();
    assert_eq!(ids, ["received_attention", "cls_score", "random_score", "uniform_score"]);
    assert!(scores[0]["pointing_game_hit"].is_number() && scores[0]["note"].is_null());
    assert!(scores[1]["precision_at_true_size"].is_null() && scores[1]["note"].is_string());
    let cuts = judge(&["--kind", "reduce", "--methods", "random", "--keep", "0.5"]);
    assert_eq!(cuts.iter().filter(|r| r["floor"] == true).count(), 2);
    for r in &cuts {
        assert_eq!(r["n"], 2);
        assert!(r["kl_nats"].as_f64().unwrap() >= 0.0 && (0.4..0.7).contains(&r["rows_kept"].as_f64().unwrap()), "{r}");
    }
}

#[test]
fn what_a_method_notes_while_it_is_judged_stands_in_its_row() {
    // A tokenizer that knows no word, so that nothing follows the picture, which one reduction says.
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(models().join("llava")).unwrap().map(|f| f.unwrap()) {
        if file.path().is_file() {
            std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
    }
    let path = dir.path().join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    tokenizer["normalizer"] =
        serde_json::json!({ "type": "Replace", "pattern": { "Regex": "[\\s\\S]" }, "content": "" });
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let judge = |how: &[&str]| {
        let args = ["judge", "--kind", "reduce", "--methods", "transprune", "--samples", "2", "--all", "--model"];
        let run = tokenscope(&[&args[..], &[dir.path().to_str().unwrap()], how].concat());
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    };
    let note = "no text follows the image, so only the transition of its tokens counts";
    let rows: Vec<serde_json::Value> = serde_json::from_str(&judge(&["--json"])).unwrap();
    let notes: Vec<(&str, &serde_json::Value)> =
        rows.iter().map(|r| (r["method"].as_str().unwrap(), &r["note"])).collect();
    let none = serde_json::Value::Null;
    assert_eq!(notes, [("transprune", &note.into()), ("random", &none), ("uniform", &none)]);
    let csv = judge(&["--csv"]);
    let of = |method: &str| csv.lines().find(|l| l.starts_with(method)).unwrap();
    assert!(of("transprune").contains(note) && !of("random").contains(note), "{csv}");
    assert_eq!(judge(&[]).matches(&format!("transprune (text): {note}")).count(), 1);
}

#[test]
fn judge_refuses_what_it_cannot_do() {
    fails_with(&["judge", "--kind", "score", "--methods", "magic"], &["no score named magic", "known:"]);
    fails_with(&["judge", "--kind", "reduce", "--keep", "2"], &["a share from 0 to 1"]);
    fails_with(&["judge", "--kind", "reduce", "--set", "keep=0.5"], &["use --keep"]);
    fails_with(&["judge", "--kind", "score", "--set", "magic=1"], &["none of the methods"]);
    let vit = models().join("vit");
    fails_with(&["judge", "--kind", "score", "--model", vit.to_str().unwrap()], &["gives no answers in words"]);
}

#[test]
fn examples_are_listed_and_start_a_run_that_knows_its_truth() {
    let all: Vec<serde_json::Value> =
        serde_json::from_slice(&tokenscope(&["examples", "--json"]).stdout).expect("a list");
    assert!(all.len() >= 12);
    let needle = all.iter().find(|e| e["id"] == "needle").expect("a needle");
    let run = tokenscope(&["run", "received_attention", "--example", "needle"]);
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).expect("a score");
    assert_eq!((&json["prompt"], &json["truth"]["answer"]), (&needle["prompt"], &needle["answer"]));
    assert!(json["truth"]["true_size"].as_u64().unwrap() >= 3);
    // Another token's prediction has no known truth.
    let other = tokenscope(&["run", "received_attention", "--example", "needle", "--target", "3"]);
    assert!(serde_json::from_slice::<serde_json::Value>(&other.stdout).expect("a score")["truth"].is_null());
    fails_with(&["run", "received_attention", "--example", "magic"], &["no example named magic", "needle"]);
}

#[test]
fn a_prediction_is_explained_rather_than_another_token() {
    let scored = |more: &[&str]| {
        let run = tokenscope(&[&["run", "gradient_input", "--example", "recall"], more].concat());
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        serde_json::from_slice::<serde_json::Value>(&run.stdout).unwrap()
    };
    let (alone, held) = (scored(&[]), scored(&["--rather-than", " forest"]));
    assert_eq!((&alone["rather_than"], &held["rather_than"]["text"]), (&serde_json::Value::Null, &" forest".into()));
    assert_ne!(alone["values"], held["values"]);
    let start = ["--example", "recall", "--rather-than"];
    let with = |method: &'static str, text: &'static str| [&["run", method], &start[..], &[text]].concat();
    fails_with(&with("gradient_input", "forest"), &["--rather-than \"forest\"", "tokens", "name one"]);
    fails_with(&with("gradient_input", " harbour"), &["what the model predicts here"]);
    fails_with(&with("received_attention", " forest"), &["received_attention", "why one rather than another"]);
    fails_with(&with("tome", " forest"), &["--rather-than is for scores"]);
}

#[test]
fn lessons_are_listed_checked_and_wrong_ones_are_named() {
    let list = tokenscope(&["lessons", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    assert!(list.as_array().is_some_and(|l| l.len() >= 8 && l[0]["id"] == "tokens"));
    let check = tokenscope(&["lesson", "tokens", "--check", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert!(check.status.success() && told["holds"] == true && told["steps"][0]["claims"][0]["holds"] == true);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.json");
    let write = |steps: &str| {
        std::fs::write(&file, format!(r#"{{ "title": "T", "about": "A.", "steps": [{steps}] }}"#)).unwrap();
    };
    write(r#"{ "says": "s", "claims": [{ "bytes": { "text": "é" }, "is": 1 }] }"#);
    let wrong = tokenscope(&["lesson", file.to_str().unwrap(), "--check"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("FAILS step 1, claims[1]: it is 2, claimed is 1"));
    write(r#"{ "says": "s", "views": "flow" }"#);
    fails_with(&["lesson", file.to_str().unwrap(), "--check"], &["step 1, views", "mine.json"]);
    fails_with(&["lesson", "nonsense", "--check"], &["nonsense", "tokens"]);
}

#[test]
fn a_drawn_scene_is_a_picture_by_its_seed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("scene.png");
    let run = tokenscope(&["image", "scene:test+23", "--out", out.to_str().unwrap()]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let picture = tokenscope_analysis::image::Picture::open(&out).unwrap();
    assert_eq!((picture.width, picture.height), (96, 96));
    let seen: BTreeSet<[u8; 3]> = (0..96 * 96).map(|i| picture.pixel(i % 96, i / 96)).collect();
    assert!(seen.len() > 100, "{} colours", seen.len());
    fails_with(&["image", "scene:x", "--out", out.to_str().unwrap()], &["scene:test+7"]);
}

#[test]
fn ways_to_cut_a_text_are_methods_like_all_others() {
    let json = |args: &[&str]| -> serde_json::Value { serde_json::from_slice(&tokenscope(args).stdout).expect("JSON") };
    let all = json(&["methods", "--kind", "segment", "--json"]);
    let ids: Vec<&str> = all["methods"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"o200k_base") && ids.contains(&"graphemes"), "{ids:?}");
    let words = json(&["run", "words", "--prompt", "an owl, asleep"]);
    let texts: Vec<&str> = words["pieces"].as_array().unwrap().iter().map(|p| p["token"].as_str().unwrap()).collect();
    assert_eq!(texts, ["an", " ", "owl", ",", " ", "asleep"]);
    assert_eq!(words["metrics"]["tokens"], 6);
    let pieces = json(&["run", "cl100k_base", "--prompt", "hello world"]);
    assert_eq!((&pieces["pieces"][1]["id"], &pieces["vocabulary"]), (&1917.into(), &100_277.into()));
    fails_with(&["run", "words", "--set", "n=2"], &["no parameters"]);
}

#[test]
fn other_encodings_of_each_word_are_counted_and_the_shortest_listed() {
    let args = ["tokenize", "--tokenizer", "gpt2", "--text", "see harbours", "--encodings", "3", "--json"];
    let json: serde_json::Value = serde_json::from_slice(&tokenscope(&args).stdout).unwrap();
    let word = &json["words"][1];
    assert_eq!((&word["start"], &word["end"]), (&3.into(), &12.into()));
    assert!(word["count"].as_u64().unwrap() > 20);
    let shortest = word["shortest"].as_array().unwrap();
    assert_eq!(shortest.len(), 3);
    assert!(shortest.windows(2).all(|w| w[0].as_array().unwrap().len() <= w[1].as_array().unwrap().len()));
    let two = ["tokenize", "--tokenizer", "gpt2", "--tokenizer", "cl100k_base", "--text", "a", "--encodings", "3"];
    fails_with(&two, &["one --tokenizer"]);
}

#[test]
fn pictures_and_series_are_cut_like_texts() {
    let json = |args: &[&str]| -> serde_json::Value { serde_json::from_slice(&tokenscope(args).stdout).expect("JSON") };
    let tiles = json(&["run", "fsq", "--image", "scene:test+23", "--set", "levels=8,5,5,5", "--set", "patch=16"]);
    assert_eq!((&tiles["grid"], &tiles["vocabulary"]), (&serde_json::json!([6, 6]), &1000.into()));
    assert_eq!(tiles["params"]["levels"], serde_json::json!([8.0, 5.0, 5.0, 5.0]));
    let last = &tiles["pieces"][35];
    assert_eq!((&last["x"], &last["y"], &last["w"], &last["h"]), (&80.into(), &80.into(), &16.into(), &16.into()));
    assert!(last["id"].as_u64().unwrap() < 1000);
    let names: Vec<&str> =
        tiles["finding"]["figures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"PSNR") && names.contains(&"perplexity"), "{names:?}");
    let windows = json(&["run", "lipcot", "--series", "signal:7", "--set", "tokens=4"]);
    assert_eq!((&windows["samples"], &windows["pieces"][1]["start"]), (&16_000.into(), &256.into()));
    assert_eq!(windows["rest"], serde_json::json!({ "start": 15872, "end": 16000 }));
    let shapes = windows["finding"]["pictures"].as_array().unwrap().iter().map(|p| p["shape"].as_str().unwrap());
    assert!(shapes.clone().any(|s| s == "cuts") && shapes.clone().any(|s| s == "plot"), "{windows}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("two.csv");
    let text: String = (0..600).map(|i| format!("{},{}\n", i % 7, (i * i) % 11)).collect();
    std::fs::write(&file, format!("a,b\n{text}")).unwrap();
    let path = file.to_str().unwrap();
    let of_b = json(&["run", "lipcot", "--series", path, "--column", "b", "--rate", "50", "--set", "window=100"]);
    assert_eq!((&of_b["channel"], &of_b["rate"], &of_b["pieces"][5]["end"]), (&"b".into(), &50.0.into(), &600.into()));
    fails_with(&["run", "lipcot", "--series", path, "--column", "c"], &["there is no column c", "two.csv"]);
    std::fs::write(&file, "a\n1\nNaN\n").unwrap();
    fails_with(&["run", "lipcot", "--series", path], &["line 3, column a: NaN", "two.csv"]);
    fails_with(&["run", "lipcot"], &["--series FILE"]);
    fails_with(&["run", "fsq"], &["--image FILE"]);
    fails_with(&["run", "fsq", "--image", "scene:7", "--set", "levels=1"], &["levels"]);
}

#[test]
fn what_a_method_of_any_kind_finds_is_written_with_every_picture() {
    let ways: [(&[&str], &str); 9] = [
        (&["words", "--prompt", "an owl"], "cuts"),
        (&["fsq", "--image", "scene:7"], "cuts"),
        (&["received_attention"], "heat"),
        (&["random"], "fates"),
        (&["rollout_graph"], "links"),
        (&["token_recycling", "--set", "new_tokens=4"], "tree"),
        (&["localleap", "--model", "sample-diffusion", "--set", "gen_length=8"], "timeline"),
        (&["streaming_llm"], "matrix"),
        (&["head_table"], "heat"),
    ];
    let mut kinds = BTreeSet::new();
    for (args, shape) in ways {
        let run = tokenscope(&[&["run"], args].concat());
        let run: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}"));
        assert_eq!(run["method"], args[0]);
        kinds.insert(catalog::find(args[0]).unwrap().info().kind);
        assert!(run["notes"].is_array() && run["params"].is_object(), "{args:?}");
        let pictures = run["finding"]["pictures"].as_array().unwrap_or_else(|| panic!("{args:?} found nothing"));
        let shapes: Vec<&str> = pictures.iter().map(|p| p["shape"].as_str().unwrap()).collect();
        assert!(shapes.contains(&shape), "{args:?}: {shapes:?}");
        // Rows stand once: with the picture, or in the field that it names.
        for p in pictures {
            let rows = p["rows_in"].as_str().map_or(&p["rows"], |field| &run[field]);
            assert!(rows.is_array() && p["rows"].is_null() == p["rows_in"].is_string(), "{args:?}: {}", p["title"]);
        }
    }
    assert_eq!(kinds, Kind::ALL.into_iter().collect(), "a kind is told by no command");
}

#[test]
fn edges_of_a_flow_stand_once_and_from_the_threshold_on() {
    let edges = |threshold: &str| {
        let run = tokenscope(&["flow", "--prompt", "the owl and the fox", "--threshold", threshold]);
        let flow: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!(flow["finding"]["pictures"][0]["rows_in"], "edges");
        assert_eq!(flow["edges_from"].as_f64().map(|f| f as f32), threshold.parse().ok());
        let weights = flow["edges"].as_array().unwrap().iter().map(|e| e["weight"].as_f64().unwrap());
        (weights.collect::<Vec<f64>>(), String::from_utf8(run.stdout).unwrap().matches("\"weight\"").count())
    };
    let ((all, _), (strong, written)) = (edges("0"), edges("0.25"));
    assert!(strong.iter().all(|w| *w >= 0.25) && strong.len() == written, "{written}");
    assert_eq!(strong.len(), all.iter().filter(|w| **w >= 0.25).count());
    assert!(!strong.is_empty() && strong.len() < all.len());
}

#[test]
fn an_example_keeps_its_parameters_and_set_changes_one() {
    let params = |args: &[&str]| -> serde_json::Value {
        let run = tokenscope(&[&["run"], args].concat());
        let run: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        run["params"].clone()
    };
    let voices = params(&["lipcot", "--example", "voices"]);
    assert!(voices.as_object().is_some_and(|p| p.len() > 1), "{voices}");
    let mut fewer = voices.clone();
    fewer["tokens"] = 3.into();
    assert_ne!(fewer, voices);
    assert_eq!(params(&["lipcot", "--example", "voices", "--set", "tokens=3"]), fewer);
    // Another method than the example's begins with its defaults.
    assert_eq!(params(&["received_attention", "--example", "voices"]), serde_json::json!({}));
}

#[test]
fn a_view_is_drawn_with_a_method_of_any_kind_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("f.csv");
    let head = |args: &[&str]| {
        let all = ["render", "--prompt", "the owl and the fox", "--out", out.to_str().unwrap()];
        let run = tokenscope(&[&all, args].concat());
        assert!(run.status.success(), "{args:?}: {}", String::from_utf8_lossy(&run.stderr));
        std::fs::read_to_string(&out).unwrap().lines().next().unwrap().to_string()
    };
    let (study, cache) =
        (["--view", "findings", "--study", "head_table"], ["--view", "findings", "--cache", "streaming_llm"]);
    assert_ne!(head(&study), head(&cache));
    let reduced = ["--view", "importance", "--parts", "scores", "--reduce", "uniform"];
    let once = ["--view", "importance", "--parts", "scores", "--prune", "uniform"];
    assert!(head(&reduced).contains("uniform") && head(&reduced) == head(&once));
    fails_with(&["render", "--view", "flow", "--flow", "magic", "--out", "f.csv"], &["no flow method named magic"]);
}

/// Python hands over what its processor made: ids with the image's places in them, and pixels.
#[test]
fn ids_and_pixel_values_are_one_input() {
    let model = models().join("llava");
    let expected = model.join("expected.safetensors");
    let bytes = std::fs::read(&expected).unwrap();
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let ids = all.tensor("input_ids").unwrap();
    let ids: Vec<i64> = ids.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("ids.json"), dir.path().join("t.safetensors"));
    std::fs::write(&file, serde_json::json!({ "input_ids": ids }).to_string()).unwrap();
    let text = |p: &Path| p.to_str().unwrap().to_string();
    let common =
        ["trace".into(), "--model".into(), text(&model), "--ids".into(), text(&file), "--out".into(), text(&out)];
    let with = |more: [String; 2]| tokenscope(&common.iter().chain(&more).map(String::as_str).collect::<Vec<_>>());
    let run = with(["--pixel-values".into(), text(&expected)]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let trace = tokenscope_analysis::trace::read_trace(&out, &tokenscope_analysis::Ctx::default()).unwrap();
    assert_eq!(trace.towers[&trace.main_tower()].tokens.len(), ids.len());
    // Where the image's places are is the processor's to say, so a picture wants a text.
    let run = with(["--image".into(), "scene:1".into()]);
    assert!(!run.status.success() && String::from_utf8_lossy(&run.stderr).contains("--pixel-values"));
}

#[test]
fn two_runs_are_compared_by_what_one_has_and_the_other_has_not() {
    let ask = ["compare", "--prompt", "The red fox met a hen", "--parts", "next,scores,cuts,map"];
    let with = |words: &str| {
        let out = tokenscope(&[&ask[..], &["--with", words]].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()["comparisons"][0].clone()
    };
    let same = with("");
    assert_eq!(same["differs"], serde_json::json!([]));
    let rows = same["parts"]["scores"]["pictures"][0]["rows"].as_array().unwrap().clone();
    assert!(rows.iter().all(|r| r.as_object().unwrap().values().nth(1).unwrap().as_f64() == Some(0.0)), "{rows:?}");
    // The difference of scores is that of the two runs alone.
    let other = with("--prompt 'The red fox met a fox'");
    assert_eq!(other["differs"][0]["what"], "prompt");
    let score = |prompt: &str| {
        let out = tokenscope(&["run", "gradient_input", "--prompt", prompt]);
        let all: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        all["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect::<Vec<_>>()
    };
    let (a, b) = (score("The red fox met a hen"), score("The red fox met a fox"));
    let rows = other["parts"]["scores"]["pictures"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), a.len());
    for (i, row) in rows.iter().enumerate().take(a.len() - 1) {
        let d = row.as_object().unwrap().values().nth(1).unwrap().as_f64();
        assert!(d.is_some_and(|d| (d - (a[i] - b[i])).abs() < 1e-6), "token {i}: {d:?}, {} {}", a[i], b[i]);
    }
    let last = rows.last().unwrap().as_object().unwrap().values().nth(1).unwrap();
    assert!(last.is_null(), "words that differ have a difference: {last}");
    // What cannot be subtracted says why, beside what can.
    let other = with("--model sample-diffusion");
    assert!(other["parts"]["next"]["why_not"].as_str().unwrap().contains("does not predict the next token"));
    assert!(other["parts"]["cuts"]["pictures"].is_array());
    fails_with(&["compare"], &["--with"]);
    fails_with(&["compare", "--with", "--prompt 'x"], &["quote is not closed"]);
    fails_with(&["compare", "--with", "--rather-than zzzz"], &["--rather-than", "name one"]);
    fails_with(&["draft", "--rather-than", " fox"], &["--rather-than", "for scores"]);
    fails_with(&["compare", "--with", "--nonsense"], &["--with --nonsense", "unexpected argument"]);
    let dir = tempfile::tempdir().unwrap();
    let svg = dir.path().join("c.svg");
    let out = tokenscope(&["compare", "--with", "--head 2 1", "--parts", "map", "--out", svg.to_str().unwrap()]);
    assert!(out.status.success() && std::fs::read_to_string(&svg).unwrap().contains("head"));
    // What a further pane reads is not written over.
    let picture = dir.path().join("p.png");
    std::fs::copy(models().join("llava/image.png"), &picture).unwrap();
    let before = std::fs::read(&picture).unwrap();
    let with = format!("--model {} --image {}", models().join("llava").display(), picture.display());
    fails_with(&["compare", "--with", &with, "--out", picture.to_str().unwrap()], &["input of the command"]);
    assert_eq!(std::fs::read(&picture).unwrap(), before);
}
