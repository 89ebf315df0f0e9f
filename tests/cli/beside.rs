//! What stands beside a score: groups that it is gathered into, and how faithful it is.

use super::{fails_with, tokenscope};
use serde_json::Value;

fn run(args: &[&str]) -> Value {
    let out = tokenscope(&[&["run"], args].concat());
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().filter_map(Value::as_f64).collect()
}

#[test]
fn a_score_is_gathered_per_word_and_nothing_is_lost() {
    let prompt = ["--prompt", "The owl, the fox and the hen.\nThe end."];
    let said = run(&[&["random_score", "--per", "word"][..], &prompt].concat());
    let groups = said["aggregate"]["groups"].as_array().unwrap();
    let names: Vec<&str> = groups.iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["The", "owl", ",", "the", "fox", "and", "the", "hen", ".", "The", "end", "."]);
    assert_eq!((&said["aggregate"]["per"], &said["aggregate"]["by"]), (&"word".into(), &"sum".into()));
    // What belongs to no word: special tokens and those of white space alone.
    let tokens = said["tokens"].as_array().unwrap().iter().zip(said["values"].as_array().unwrap());
    let inked = tokens.filter(|(t, _)| t["kind"] == "text" && !t["text"].as_str().unwrap().trim().is_empty());
    let whole: f64 = inked.filter_map(|(_, v)| v.as_f64()).sum();
    let sum: f64 = groups.iter().filter_map(|g| g["value"].as_f64()).sum();
    assert!(whole > 0.0 && (whole - sum).abs() < 1e-5, "{whole} {sum}");
    let lines = run(&[&["random_score", "--per", "line", "--by", "max"][..], &prompt].concat());
    assert_eq!(lines["aggregate"]["groups"].as_array().unwrap().len(), 2);
    let own = run(&[&["random_score", "--segments", "4-5,1-2", "--by", "mean"][..], &prompt].concat());
    let (values, first) = (numbers(&own["values"]), own["aggregate"]["groups"][0]["value"].as_f64().unwrap());
    assert!((first - (values[1] + values[2]) / 2.0).abs() < 1e-6);
}

#[test]
fn a_score_on_a_picture_is_gathered_per_region() {
    let said = run(&[
        "received_attention",
        "--model",
        "sample-vlm",
        "--image",
        "scene:test+2",
        "--prompt",
        "What?",
        "--regions",
        "2",
    ]);
    let groups = said["aggregate"]["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 4);
    let rect = |i: usize| numbers(&groups[i]["extent"]["rect"]);
    assert_eq!(rect(3), [rect(0)[2], rect(0)[3], rect(0)[2], rect(0)[3]]);
    assert!(groups.iter().all(|g| g["value"].as_f64().is_some_and(|v| v > 0.0)));
}

#[test]
fn faithfulness_is_told_with_its_areas_and_those_of_chance() {
    let said = run(&["gradient_input", "--faithful", "--example", "recall"]);
    let f = &said["faithful"];
    assert_eq!(f["random_areas"].as_array().unwrap().len(), 5);
    for which in ["deletion", "insertion"] {
        let points = f["score"][which].as_array().unwrap();
        assert_eq!((points.len(), points[0][0].as_f64(), points[10][0].as_f64()), (11, Some(0.0), Some(1.0)));
        let area: f64 = points
            .windows(2)
            .map(|w| {
                (w[1][0].as_f64().unwrap() - w[0][0].as_f64().unwrap())
                    * (w[0][1].as_f64().unwrap() + w[1][1].as_f64().unwrap())
                    / 2.0
            })
            .sum();
        assert!((f["areas"][which].as_f64().unwrap() - area).abs() < 1e-12);
    }
    // With nothing taken away it is what the full model says; with everything there, too.
    assert_eq!(f["score"]["deletion"][0][1], f["score"]["insertion"][10][1]);
}

#[test]
fn options_that_do_not_fit_say_why() {
    let bad = |more: &[&str], words: &[&str]| fails_with(&[&["run"], more].concat(), words);
    bad(&["tome", "--per", "word"], &["--per", "scores", "reduction"]);
    bad(&["random_score", "--segments", "7-3"], &["--segments 7-3"]);
    bad(&["random_score", "--segments", "1-4,3-5"], &["token 3 is in two segments"]);
    bad(&["random_score", "--segments", "1-9999"], &["9999"]);
    bad(&["random_score", "--regions", "0"], &["--regions 0", "64"]);
    bad(&["random_score", "--regions", "2"], &["picture"]);
    bad(&["random_score", "--per", "segment"], &["--segments"]);
    bad(&["random_score", "--per", "word", "--segments", "1-2"], &["--per segment"]);
}
