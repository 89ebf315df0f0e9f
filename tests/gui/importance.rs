//! The importance view: the attention map close up, what stands along its edges.

use super::{press, settle, window, window_with};
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use tokenscope_analysis::method::{Kind, Params};
use tokenscope_app::app::App;
use tokenscope_app::keys::Call;
use tokenscope_app::pane::{Per, WHOLE};
use tokenscope_app::selection::{Pick, Selection};
use tokenscope_app::state::{Command, Doc};
use tokenscope_app::work::{ScoreOf, Serves as _, TraceOf};

#[test]
fn close_up_the_map_names_its_tokens_and_says_where_it_is() {
    let mut doc = Doc::default();
    doc.pane_mut().shows.parts = [false, false, false, true];
    let mut h = window_with(doc);
    assert!(h.query_by_label_contains("queries down 0–").is_some_and(|n| !format!("{n:?}").contains(" of ")));
    let mut doc = h.state().doc.clone();
    let trace = h.state().jobs.ready(&TraceOf(doc.pane().run.clone())).expect("no run");
    let n = trace.towers[&trace.main_tower()].tokens.len() as f32;
    doc.pane_mut().cursor.look([2.0 / n, 4.0 / n, 3.0 / n, 3.0 / n]);
    h.state_mut().doc = doc;
    settle(&mut h);
    let words = format!("queries down 4–6, keys across 2–4 of {n}");
    assert!(h.query_by_label(&words).is_some(), "no readout {words}");
    h.get_by_label("whole").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().cursor.window, WHOLE);
    assert!(h.query_by_label("whole").is_none());
}

#[test]
fn an_alternative_of_the_inspector_is_what_the_prediction_is_held_against() {
    let mut h = window();
    let (score, of) = (h.state().doc.pane().call(Kind::Score), |h: &Harness<'static, App>| {
        let pane = h.state().doc.pane();
        h.state().jobs.ready(&ScoreOf::of(pane, pane.call(Kind::Score))).map(|s| s.values.clone())
    });
    assert_eq!(score.method, "gradient_input");
    let alone = of(&h).expect("scores");
    // They stand below the examples, and are scrolled to.
    h.query_all_by_label_contains("next token ").nth(1).expect("alternatives").click_accesskit();
    settle(&mut h);
    h.get_by_label("Explain the prediction rather than it").click();
    settle(&mut h);
    let contrast = h.state().doc.pane().contrast.clone().expect("a contrast");
    let held = of(&h).expect("scores");
    assert_ne!(held, alone, "{contrast:?}");
    // What explains no prediction gives way to what does, and comes back.
    h.state_mut().doc.pane_mut().choose(Call { method: "received_attention", params: Params::new() }).unwrap();
    settle(&mut h);
    h.get_by_label("rather than nothing").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().contrast, None);
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(h.state().doc.pane().contrast, Some(contrast));
}

#[test]
fn a_click_on_what_may_come_next_goes_on_from_it_at_any_token() {
    let mut h = window();
    let before = h.state().doc.pane().run.prompt.to_string();
    let mut doc = h.state().doc.clone();
    doc.apply(Command::Select(Selection::one(4)));
    h.state_mut().doc = doc;
    settle(&mut h);
    let trace = h.state().jobs.ready(&TraceOf(h.state().doc.pane().run.clone())).expect("no run");
    let end = trace.towers[&trace.main_tower()].tokens[4].bytes().expect("a token of the text").end;
    h.query_all_by_label_contains("next token ").nth(2).expect("next tokens").click_accesskit();
    settle(&mut h);
    h.get_by_label("Go on from here in a pane beside").click();
    settle(&mut h);
    let doc = &h.state().doc;
    let [first, beside] = doc.panes() else { panic!("{} panes", doc.panes().len()) };
    assert_eq!((&*first.run.prompt, doc.active()), (before.as_str(), 1));
    let text = beside.run.prompt.to_string();
    assert!(text.starts_with(&before[..end]) && text.len() > end && text.len() < end + 40, "{text}");
    // In place it is a step that can be taken back.
    h.query_all_by_label_contains("next token ").next().expect("next tokens").click_accesskit();
    settle(&mut h);
    h.get_by_label("Go on from here").click();
    settle(&mut h);
    assert!(h.state().doc.pane().run.prompt.starts_with(&text) && h.state().doc.panes().len() == 2);
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(&*h.state().doc.pane().run.prompt, text);
}

#[test]
fn the_run_is_searched_for_tokens_and_heads() {
    let mut h = window();
    press(&mut h, Modifiers::COMMAND, Key::F);
    h.get_by_label("search").type_text("token 3");
    settle(&mut h);
    press(&mut h, Modifiers::NONE, Key::Enter);
    assert_eq!(h.state().doc.pane().aim.tokens(), [3]);
    press(&mut h, Modifiers::COMMAND, Key::F);
    h.get_by_label("search").type_text("layer 2, head 1");
    settle(&mut h);
    press(&mut h, Modifiers::NONE, Key::Enter);
    assert_eq!(h.state().doc.pane().cursor.head, (2, 1));
}

#[test]
fn before_and_after_the_reduction_are_a_key_apart_and_say_which_they_are() {
    let mut h = window();
    press(&mut h, Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::T);
    let doc = h.state().doc.clone();
    assert_eq!(doc.panes().iter().map(|p| p.reduced).collect::<Vec<_>>(), [false, true]);
    for words in ["1: sample-lm", "full model", "reduced by "] {
        assert!(h.query_all_by_label_contains(words).next().is_some(), "no {words}");
    }
}

/// Only the scores.
fn scores() -> Doc {
    let mut doc = Doc::default();
    doc.pane_mut().shows.parts = [true, false, false, false];
    doc
}

#[test]
fn one_click_measures_how_faithful_the_score_is_and_another_stops() {
    let mut h = window_with(scores());
    assert!(h.query_by_label_contains("deletion area").is_none());
    h.get_by_label_contains("faithfulness: deletion").click();
    settle(&mut h);
    assert!(h.state().doc.pane().shows.faithful);
    for words in ["deletion area: ", "random deletion area: ", "insertion area: ", "random insertion area: "] {
        assert!(h.query_all_by_label_contains(words).next().is_some(), "no {words}");
    }
    h.get_by_label_contains("faithfulness: deletion").click();
    settle(&mut h);
    assert!(h.query_by_label_contains("deletion area").is_none());
}

#[test]
fn a_score_is_gathered_by_word_and_by_what_is_selected() {
    let mut h = window_with(scores());
    h.get_by_label("what the score is gathered into").click();
    settle(&mut h);
    h.get_by_label("word").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().shows.aggregate.per, Per::Word);
    assert!(h.query_by_label("how the score is gathered").is_some());
    // A selection becomes a segment, and no prediction is explained at it any more.
    let mut doc = h.state().doc.clone();
    doc.apply(Command::Select(Selection::one(2).picked(5, 5, Pick::Extend)));
    h.state_mut().doc = doc;
    settle(&mut h);
    h.get_by_label("what the score is gathered into").click();
    settle(&mut h);
    h.get_by_label("own segment").click();
    settle(&mut h);
    let pane = h.state().doc.pane();
    assert_eq!((&pane.shows.aggregate.segments[..], pane.aim.is_empty()), (&[(2, 5)][..], true));
    h.get_by_label("clear").click();
    settle(&mut h);
    assert!(h.state().doc.pane().shows.aggregate.segments.is_empty());
    assert!(h.query_by_label_contains("Select tokens with Shift+click").is_some());
}
