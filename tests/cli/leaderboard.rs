//! Leaderboards of one's own questions, and schedules, as a script asks for them.

use super::{fails_with, tokenscope};
use serde_json::Value;

fn json(args: &[&str]) -> (Value, String) {
    let run = tokenscope(args);
    let err = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{args:?}: {err}");
    (serde_json::from_slice(&run.stdout).unwrap(), err)
}

#[test]
fn own_questions_are_asked_the_full_model_first_and_the_floor_last_and_bad_rows_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let table = "\u{feff}Image;Question;Answer;id\r\n\
        scene:test+1;\"How many shapes; in all, are there?\";2;1\r\n\
        gone.png;What is it?;x;2\r\n\
        scene:test+2;How many shapes are there?;;3\r\n";
    std::fs::write(dir.path().join("questions.csv"), table).unwrap();
    let data = dir.path().to_str().unwrap();
    let args =
        ["leaderboard", "--data", data, "--methods", "divprune,tome", "--keep", "25%,1", "--repeats", "0", "--json"];
    let (rows, err) = json(&args);
    let rows = rows.as_array().unwrap();
    let ids: Vec<(&str, Option<f64>)> =
        rows.iter().map(|r| (r["method"].as_str().unwrap(), r["asked_share"].as_f64())).collect();
    let both = |m| [(m, Some(0.25)), (m, Some(1.0))];
    let methods = [both("divprune"), both("tome"), both("random"), both("uniform")].concat();
    assert_eq!(ids, [vec![("full", None)], methods].concat());
    assert!(rows.iter().all(|r| r["n"] == 1 && r["time_ms"].is_null() && r["peak_bytes"].is_null()));
    let full = &rows[0];
    for r in rows.iter().filter(|r| r["asked_share"] == 1.0) {
        assert!(r["kl_nats"].as_f64().unwrap() < 1e-5 && r["right"] == full["right"] && r["flops"] == full["flops"]);
    }
    assert!(err.contains("questions.csv, line 3: there is no picture") && err.contains("gone.png"), "{err}");
    assert!(err.contains("line 4: the answer is empty") && err.contains("columns that are not read: id"), "{err}");
    // Without times it is the same each time; with them there are such, and memory.
    assert_eq!(tokenscope(&args).stdout, tokenscope(&args).stdout);
    let timed = ["leaderboard", "--data", data, "--methods", "divprune", "--keep", "0.5", "--repeats", "1", "--json"];
    let timed = json(&timed).0;
    assert!(timed[0]["time_ms"].as_f64().unwrap() > 0.0 && timed[0]["peak_bytes"].as_f64().unwrap() > 1e4);
    let figure = dir.path().join("board.svg");
    let figure = figure.to_str().unwrap();
    let drawn = [&args[..args.len() - 1], &["--out", figure]].concat();
    assert!(tokenscope(&drawn).status.success());
    assert!(std::fs::read_to_string(figure).unwrap().contains("DivPrune"));
}

#[test]
fn leaderboards_that_cannot_be_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.csv");
    std::fs::write(&path, "question,answer\nA?,\n").unwrap();
    let path = path.to_str().unwrap();
    fails_with(&["leaderboard", "--data", path], &["no row can be used", "line 2", "q.csv"]);
    fails_with(&["leaderboard", "--data", dir.path().join("none").to_str().unwrap()], &["none"]);
    fails_with(&["leaderboard", "--keep", "2"], &["--keep 2", "share"]);
    fails_with(&["leaderboard", "--methods", "nonsense"], &["nonsense", "divprune"]);
    fails_with(&["leaderboard", "--data", path, "--prompt", "x"], &["{question}"]);
    fails_with(&["leaderboard", "--out", "board.txt"], &[".txt", "csv"]);
    fails_with(&["leaderboard", "--json", "--out", "board.csv"], &["--json", "board.csv", ".json"]);
    for data in [path, dir.path().to_str().unwrap()] {
        fails_with(&["leaderboard", "--data", data, "--out", path], &["file of questions"]);
    }
}

#[test]
fn a_schedule_is_a_reduction_and_one_that_cannot_be_says_why() {
    let run = |text: &str| {
        let args = ["run", "--schedule", text, "--model", "sample-vlm", "--image", "scene:7", "--prompt", "How many?"];
        json(&args).0
    };
    let done = run("f:72 2~30 exit@3");
    let rows: Vec<i64> = done["rows_by_layer"].as_array().unwrap().iter().map(|r| r.as_i64().unwrap()).collect();
    assert_eq!([rows[0] - rows[2], rows[2] - rows[3]], [42, 30], "{rows:?}");
    let with = |text| ["run", "--schedule", text, "--model", "sample-vlm", "--image", "scene:7", "--prompt", "a"];
    fails_with(&with("2-30"), &["2-30", "2:288"]);
    fails_with(&with("9:30"), &["9:30", "4 layers"]);
    fails_with(&["run", "tome", "--schedule", "2:3", "--model", "sample-vlm"], &["--schedule"]);
}
