//! What the workbench does, without a window: going on from another token, before and after a reduction, what a report of
//! a fault holds, and that no option of a lesson's picture is passed over.

use super::{fails_with, tokenscope};
use serde_json::Value;

fn said(args: &[&str]) -> Value {
    let out = tokenscope(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn a_prompt_goes_on_from_another_token_by_its_text_or_its_number() {
    let prompt = "the owl and the fox";
    let run = |branch: &[&str]| said(&[&["run", "random_score", "--prompt", prompt], branch].concat());
    let whole = run(&[]);
    assert!(whole["software"].as_str().unwrap().starts_with("Tokenscope "));
    let token = |i: usize| whole["tokens"][i].clone();
    let (id, text, end) =
        (&token(3)["id"], token(3)["text"].as_str().unwrap().to_string(), &token(3)["source"]["bytes"]["end"]);
    let want = &prompt[..end.as_u64().unwrap() as usize];
    assert_eq!(run(&["--branch", &format!("2={id}")])["prompt"], want);
    assert_eq!(run(&["--branch", &format!("2:{text}")])["prompt"], want);
    for (branch, words) in [
        ("owl", "N:TEXT"),
        ("2", "N:TEXT"),
        ("2;3", "N:TEXT"),
        ("2: owl and", "name one"),
        ("2=99999999", "no token has that number"),
        ("99=1", "no token 99"),
    ] {
        fails_with(&["run", "random_score", "--prompt", prompt, "--branch", branch], &[words]);
    }
}

#[test]
fn before_and_after_a_reduction_are_compared_by_what_comes_next() {
    let both = ["compare", "--reduce", "random", "--with", "--reduced", "--parts", "next"];
    let text = said(&both).to_string();
    assert!(text.contains("KL, first to second") && text.contains("next word"), "{text}");
    fails_with(&["run", "random_score", "--reduced"], &["--reduced is for what comes next"]);
    fails_with(&["draft", "--reduced"], &["--reduced is for what comes next"]);
}

#[test]
fn a_report_of_a_fault_names_program_system_and_log() {
    let out = tokenscope(&["doctor", "--report"]);
    let text = String::from_utf8_lossy(&out.stdout);
    for words in ["tokenscope 0.", "system: ", "memory: ", "log: "] {
        assert!(text.contains(words), "no {words} in {text}");
    }
}

#[test]
fn a_picture_of_a_lesson_takes_no_option_that_it_would_not_look_at() {
    for option in [
        &["--threshold", "0.2"][..],
        &["--prompt", "a"],
        &["--view", "flow"],
        &["--score", "random_score"],
        &["--width-mm", "85"],
    ] {
        let args = [&["render", "--lesson", "tokens", "--out", "/tmp/never.svg"], option].concat();
        fails_with(&args, &["cannot be used with"]);
    }
}
