//! `tokenscope draft`: budgets, verifiers and rounds by name, several methods in one table, and the proof.

use super::{fails_with, tokenscope};
use serde_json::Value;

const PROMPT: &str = "Ada and Ben are in the garden. Ada";

fn json(args: &[&str]) -> Value {
    let out = tokenscope(&[&["draft", "--prompt", PROMPT, "--set", "new_tokens=12"], args].concat());
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn budget_verifier_rounds_and_seed_are_those_of_the_method() {
    let all =
        json(&["--policy", "dyspec", "--budget", "3", "--verifier", "exact_match", "--seed", "4", "--rounds", "2"]);
    assert_eq!(all["method"], "dyspec");
    let want = serde_json::json!({ "new_tokens": 12, "seed": 4, "tree_size": 3, "verify": "exact_match" });
    assert_eq!(all["params"], want);
    let rounds = all["run"]["rounds"].as_array().unwrap();
    assert_eq!((rounds.len(), rounds[0]["nodes"].as_array().unwrap().len()), (2, 3));
    assert_eq!(all["run"]["ended"], "rounds");
    // Every figure is there with its definition.
    let figures = all["finding"]["figures"].as_array().unwrap();
    for name in [
        "tokens per round",
        "accepted per round",
        "block efficiency",
        "tokens per forward",
        "MBSU",
        "draft cost ratio",
        "expected speed-up",
        "measured speed-up",
        "time drafting",
        "time verifying",
        "time bookkeeping",
    ] {
        let own = figures.iter().find(|f| f["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert!(own["value"].as_f64().is_some_and(f64::is_finite), "{own}");
        assert!(own["meaning"].as_str().is_some_and(|m| m.len() > 10), "{own}");
    }
    fails_with(&["draft", "--method", "spectr", "--verifier", "exact_match"], &["spectr", "verifier of its own"]);
    fails_with(&["draft", "--method", "spectr", "--budget", "4"], &["spectr", "--set"]);
    fails_with(&["draft", "--rounds", "0"], &["--rounds"]);
}

#[test]
fn several_methods_are_one_table_on_the_same_input() {
    let args = [
        "--method",
        "speculative_sampling",
        "--compare",
        "dyspec,token_recycling",
        "--budget",
        "5",
        "--seed",
        "2",
        "--set",
        "temperature=0.5",
    ];
    let all = json(&[&args[..], &["--json"]].concat());
    let methods = all["methods"].as_array().unwrap();
    let ids: Vec<&str> = methods.iter().map(|m| m["method"].as_str().unwrap()).collect();
    assert_eq!(ids, ["speculative_sampling", "dyspec", "token_recycling"]);
    for m in methods {
        assert_eq!(
            (&m["params"]["seed"], &m["params"]["new_tokens"], &m["params"]["temperature"]),
            (&2.into(), &12.into(), &0.5.into())
        );
        assert!(m["figures"]["tokens per round"].as_f64().is_some_and(|t| t >= 1.0));
    }
    assert_eq!((&methods[0]["params"]["gamma"], &methods[1]["params"]["tree_size"]), (&5.into(), &5.into()));
    assert!(all["meanings"]["MBSU"].as_str().is_some_and(|m| m.contains("weights")));
    let out = tokenscope(&[&["draft", "--prompt", PROMPT], &args[..]].concat());
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let head: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["figure", "speculative_sampling", "dyspec", "token_recycling"]);
    assert!(text.lines().any(|l| l.starts_with("tokens per round")));
    // Without a method of its own it compares what it names.
    let two = json(&["--compare", "dyspec,token_recycling", "--json"]);
    assert_eq!(two["methods"].as_array().map(Vec::len), Some(2));
    fails_with(&["draft", "--compare", "nonsense"], &["nonsense", "dyspec"]);
}

#[test]
fn a_proof_is_repeated_by_its_seed_and_says_how_sure_it_is() {
    let args = ["--prove", "--rounds-of-proof", "2000", "--set", "temperature=0.9", "--json"];
    let proof = |seed: &str| json(&[&args[..], &["--seed", seed]].concat())["proof"].clone();
    let first = proof("3");
    assert_eq!(first, proof("3"));
    assert_ne!(first["fits"], proof("4")["fits"]);
    assert_eq!(
        (&first["verdict"], &first["rounds"], &first["claim"]),
        (&"holds".into(), &2000.into(), &"lossless".into())
    );
    for fit in first["fits"].as_array().unwrap() {
        assert!(fit["p"].as_f64().is_some_and(|p| p > 1e-4 && p <= 1.0), "{fit}");
        assert!(fit["degrees_of_freedom"].as_u64().is_some_and(|n| n > 0) && fit["statistic"].is_f64(), "{fit}");
    }
    assert!(first["error_level"].as_str().is_some_and(|w| w.contains("1e-4")));
    assert!(first["exact"]["done"]["off"].as_f64().is_some_and(|off| off < 1e-9));
    // What is not lossless is measured.
    let far =
        json(&["--method", "lantern", "--prove", "--rounds-of-proof", "2000", "--set", "temperature=1", "--json"]);
    assert_eq!(far["proof"]["verdict"], "claimless");
    assert!(far["proof"]["fits"][0]["total_variation"].as_f64().is_some_and(|t| t > 0.0));
    fails_with(&["draft", "--rounds-of-proof", "10"], &["--prove"]);
}
