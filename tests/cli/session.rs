//! Sessions without a window: what is in one, a view of it, methods on it.

use super::{fails_with, tokenscope};
use serde_json::Value;
use std::path::PathBuf;

/// The file of the first version, which the library's own tests compare with what it was made of.
fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/sessions/version1.tokenscope")
}

fn told(file: &str) -> Value {
    let run = tokenscope(&["session", file, "--json"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

#[test]
fn what_a_session_holds_is_told_in_words_and_as_json() {
    let file = fixture();
    let file = file.to_str().unwrap();
    let v = told(file);
    assert_eq!((&v["version"], &v["lost"], &v["alone"]), (&1.into(), &serde_json::json!([]), &"flow".into()));
    let panes = v["document"]["panes"].as_array().unwrap();
    assert_eq!((panes.len(), &panes[1]["run"]["prompt"]), (2, &"The train is late".into()));
    assert_eq!(v["document"]["pins"][0]["name"], "before \"it\"");
    assert_eq!((&v["inputs"][0]["held"], &v["inputs"][0]["bytes"]), (&true.into(), &53.into()));
    assert_eq!((&v["models"][1]["now"], &v["recordings"][0]["bytes"]), (&"not there".into(), &3120.into()));
    let words = String::from_utf8(tokenscope(&["session", file]).stdout).unwrap();
    for part in
        ["format 1 of Tokenscope", "pane 2 (worked in): a on \"The train", "pin", "flow has the window", "dot.png"]
    {
        assert!(words.contains(part), "{part} in {words}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (cut, other) = (dir.path().join("cut.tokenscope"), dir.path().join("other.tokenscope"));
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let run = tokenscope(&["session", cut.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("lost: its end is missing"), "{said}");
    std::fs::write(&other, "hello").unwrap();
    fails_with(&["session", other.to_str().unwrap()], &["no session of Tokenscope", "other.tokenscope"]);
    fails_with(&["session", "/nowhere.tokenscope"], &["nowhere.tokenscope"]);
}

#[test]
fn a_view_of_a_session_is_drawn_as_the_window_would_and_options_replace_its_choices() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(fixture()).unwrap();
    // The pane that is worked in has a model of another machine; the other one does not.
    let file = dir.path().join("a.tokenscope");
    std::fs::write(&file, text.replace(r#""active":1"#, r#""active":0"#)).unwrap();
    let file = file.to_str().unwrap();
    let drawn = |args: &[&str]| {
        let out = dir.path().join("a.svg");
        let all = [&["render", "--view", "segmentation", "--out", out.to_str().unwrap()], args].concat();
        let run = tokenscope(&all);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let text = std::fs::read_to_string(out).unwrap();
        let about = text.split_once("document").expect("the document").1;
        (text.clone(), about.replace("&quot;", "\""))
    };
    let (text, about) = drawn(&["--session", file]);
    assert!(text.contains("Welt") && about.contains("sample-draft") && about.contains("\"dark\":true"), "{about}");
    assert!(about.contains("magma"), "{about}");
    let (text, about) = drawn(&["--session", file, "--prompt", "hello", "--colors", "grey"]);
    assert!(text.contains(">hello</text>") && about.contains("\"map\":\"grey\""), "{about}");
    let run = tokenscope(&["run", "received_attention", "--session", file, "--pin", "before \"it\""]);
    let json: Value = serde_json::from_slice(&run.stdout).expect("a score");
    assert!(json["prompt"].as_str().is_some_and(|p| p.starts_with("Grüße")), "{json}");
    fails_with(&["run", "received_attention", "--session", file, "--pin", "x"], &["no pin named x", "before"]);
    fails_with(&["render", "--view", "flow", "--session", file, "--out", file], &["is an input", "a.tokenscope"]);
    fails_with(&["run", "received_attention", "--pin", "x"], &["--session"]);
    // What was mistyped is no file.
    fails_with(&["rendre"], &["no verb and no file named rendre"]);
}
