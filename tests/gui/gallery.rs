//! The gallery of examples: each one opens, its views are alive, and it is one step of undo.

use super::*;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::truth::{Agreement, true_tokens};
use tokenscope_app::examples::{FIRST, find, shown};
use tokenscope_app::work::{ScoreOf, Serves as _, TruthOf};

fn example(id: &str) -> Harness<'static, App> {
    window_with(Doc::of(find(id).unwrap().pane(&Default::default())))
}

#[test]
fn every_example_is_drawn_without_a_failure() {
    for e in shown() {
        let h = example(e.id);
        let pane = h.state().doc.pane();
        let trace = h.state().jobs.ready(&TraceOf(pane.run.clone())).unwrap_or_else(|| panic!("{}: no run", e.id));
        for kind in Kind::ALL {
            let known = tokenscope_analysis::catalog::info(kind, pane.call(kind).method).is_ok();
            assert!(known, "{}: no {} named {}", e.id, kind.name(), pane.call(kind).method);
        }
        let asked = ScoreOf::of(pane, pane.call(Kind::Score));
        assert!(h.state().jobs.ready(&asked).is_some(), "{}: no score", e.id);
        assert!(h.query_all_by_label("Retry").next().is_none(), "{}: something failed", e.id);
        // What is known about the input is about tokens of this run.
        if let Some(truth) = h.state().jobs.ready(&TruthOf(pane.run.clone())).and_then(|t| t.as_ref().clone()) {
            let tower = &trace.towers[&pane.tower.unwrap_or(trace.main_tower())];
            let shares = truth.shares(tower).unwrap_or_else(|| panic!("{}: no true token", e.id));
            let n = true_tokens(&shares).len();
            assert!(n > 0 && n < shares.iter().flatten().count(), "{}: {n} true tokens of {}", e.id, shares.len());
        }
    }
}

#[test]
fn an_example_is_one_step_of_undo_and_keeps_the_colours() {
    let mut h = window();
    press(&mut h, Modifiers::COMMAND, Key::D);
    let before = h.state().doc.clone();
    h.get_by_label("A long needle").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().run.prompt, find("needle").unwrap().prompt());
    assert!(h.state().doc.look.dark && h.state().doc != before);
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(h.state().doc, before);
}

#[test]
fn the_palette_finds_an_example() {
    let mut h = window();
    press(&mut h, Modifiers::COMMAND, Key::K);
    type_text(&mut h, "example: numbers");
    press(&mut h, Modifiers::NONE, Key::Enter);
    assert_eq!(h.state().doc.pane().run.prompt, find("numbers").unwrap().prompt());
}

#[test]
fn the_truth_is_said_and_saved_for_the_last_prediction_only() {
    let mut h = example(FIRST);
    assert!(h.query_all_by_label_contains("pointing game").next().is_some());
    let file = tempfile::tempdir().unwrap().keep().join("scores.csv");
    let view = tokenscope_app::views::find("importance").unwrap();
    tokenscope_app::export::save(view, &h.state().doc, &h.state().jobs, vec2(600.0, 400.0), 1.0, &file).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    let pane = h.state().doc.pane();
    let jobs = &h.state().jobs;
    let t = jobs.ready(&TraceOf(pane.run.clone())).expect("no run");
    let asked = ScoreOf::of(pane, pane.call(Kind::Score));
    let s = jobs.ready(&asked).expect("no score");
    let truth = jobs.ready(&TruthOf(pane.run.clone())).and_then(|t| t.as_ref().clone()).expect("no truth");
    let shares = truth.shares(&t.towers[&t.main_tower()]).unwrap();
    let a = Agreement::new(&s.values, s.signed, &shares).unwrap();
    let header: Vec<&str> = text.lines().next().unwrap().split(',').collect();
    let column = header.iter().position(|c| *c == "precision_at_true_size").expect("a column");
    let last: Vec<&str> = text.lines().last().unwrap().rsplit(',').collect();
    assert_eq!(last[header.len() - 1 - column].parse::<f64>().unwrap(), a.precision);
    // Another prediction has another truth, which is not known.
    press(&mut h, Modifiers::ALT, Key::Comma);
    press(&mut h, Modifiers::ALT, Key::Comma);
    assert!(h.query_all_by_label_contains("pointing game").next().is_none());
}

#[test]
fn the_marks_can_be_switched_off() {
    let mut h = example(FIRST);
    h.get_by_label("deciding words").click();
    settle(&mut h);
    assert!(!h.state().doc.pane().shows.truth);
    assert!(h.query_all_by_label_contains("pointing game").next().is_some(), "the figures went with the marks");
}
