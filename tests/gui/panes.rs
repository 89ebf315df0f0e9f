//! Several runs in one window: another pane, to and fro, and back to one.

use super::{press, settle, window, window_with};
use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use tokenscope_app::state::{Command, Doc};
use tokenscope_app::work::TraceOf;

#[test]
fn panes_are_added_walked_and_closed_by_keys_and_each_keeps_its_own() {
    let mut doc = Doc::default();
    doc.apply(Command::Prompt("The red fox met a fox".into()));
    let mut h = window_with(doc);
    let first = h.state().doc.pane().clone();
    assert!(h.query_all_by_label_contains("1: ").next().is_none(), "a row of panes for one");
    press(&mut h, Modifiers::COMMAND, Key::T);
    assert_eq!((h.state().doc.panes().len(), h.state().doc.active()), (2, 1));
    assert_eq!(*h.state().doc.pane(), first, "the new pane is another one");
    // What is changed here leaves the first as it is.
    let mut doc = h.state().doc.clone();
    doc.apply(Command::Prompt("Two zebras".into()));
    h.state_mut().doc = doc;
    settle(&mut h);
    let second = h.state().doc.pane().clone();
    assert_eq!(h.state().doc.panes()[0], first);
    assert!(h.state().jobs.ready(&TraceOf(second.run.clone())).is_some(), "the second pane was not run");
    assert!(h.query_by_label_contains("2: ").is_some_and(|n| format!("{n:?}").contains("Two zebras")));
    for (active, prompt) in [(0, &first.run.prompt), (1, &second.run.prompt), (0, &first.run.prompt)] {
        press(&mut h, Modifiers::ALT, Key::P);
        assert_eq!(h.state().doc.active(), active);
        assert_eq!(h.get_by_label("prompt").value().as_deref(), Some(&**prompt), "the box holds another prompt");
    }
    assert!(h.query_all_by_label("token ·fox").count() >= 4, "the views stayed with the other pane");
    press(&mut h, Modifiers::COMMAND, Key::W);
    assert_eq!((h.state().doc.panes(), h.state().doc.active()), (std::slice::from_ref(&second), 0));
    assert_eq!(h.query_all_by_label("token ·fox").count(), 0, "the closed pane is still drawn");
    assert!(h.query_all_by_label_contains("1: ").next().is_none(), "a row of panes for one");
    // The last one stays; a closed one comes back.
    press(&mut h, Modifiers::COMMAND, Key::W);
    assert_eq!(h.state().doc.panes(), std::slice::from_ref(&second));
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(h.state().doc.panes(), [first, second]);
}

#[test]
fn a_click_on_its_name_goes_to_a_pane() {
    let mut h = window();
    press(&mut h, Modifiers::COMMAND, Key::T);
    press(&mut h, Modifiers::COMMAND, Key::T);
    assert_eq!((h.state().doc.panes().len(), h.state().doc.active()), (3, 2));
    h.get_by_label_contains("1: ").click();
    settle(&mut h);
    assert_eq!(h.state().doc.active(), 0);
}

/// Two panes on two prompts, side by side.
fn two(first: &str, second: &str) -> Doc {
    let mut doc = Doc::default();
    doc.apply(Command::Prompt(first.into()));
    doc.split();
    doc.apply(Command::Prompt(second.into()));
    doc
}

#[test]
fn panes_stand_beside_each_other_and_a_press_in_one_makes_it_the_one_that_is_worked_in() {
    let mut h = window_with(two("The red fox met a fox", "The red hen met a fox"));
    let [left, right] = [1, 2].map(|i| h.get_by_label_contains(&format!("{i}: ")).rect());
    assert!(left.right() < right.left() && (left.top() - right.top()).abs() < 1.0, "{left:?} {right:?}");
    assert_eq!(h.state().doc.active(), 1);
    // Chips of both runs are there, each in its half.
    let fox: Vec<f32> = h.query_all_by_label("token ·fox").map(|n| n.rect().left()).collect();
    assert!(fox.iter().any(|x| *x < right.left() - 8.0) && fox.iter().any(|x| *x > right.left()), "{fox:?}");
    let chip = h.query_all_by_label("token ·fox").find(|n| n.rect().right() < right.left()).unwrap().rect();
    h.drag_at(chip.center());
    h.step();
    h.drop_at(chip.center());
    settle(&mut h);
    assert_eq!(h.state().doc.active(), 0);
    assert_eq!(h.state().doc.panes()[0].aim.tokens().len(), 1, "the click did not reach the pane that it was in");
    assert!(h.state().doc.panes()[1].aim.is_empty());
    assert_eq!(h.get_by_label("prompt").value().as_deref(), Some("The red fox met a fox"));
    h.get_by_label("close pane 2").click();
    settle(&mut h);
    assert_eq!(h.state().doc.panes().len(), 1);
    assert_eq!(&*h.state().doc.pane().run.prompt, "The red fox met a fox");
}

#[test]
fn the_token_under_the_pointer_is_marked_in_the_other_pane_where_it_stands_for_the_same() {
    // The same words, one token later in the second pane.
    let mut h = window_with(two("The red fox met a hen", "The old red fox met a hen"));
    // Room for the views that run the model.
    h.set_size(egui::vec2(1900.0, 1000.0));
    settle(&mut h);
    let middle = h.get_by_label_contains("2: ").rect().left();
    let index = |h: &egui_kittest::Harness<'static, tokenscope_app::app::App>, i: usize| {
        let trace = h.state().jobs.ready(&TraceOf(h.state().doc.panes()[i].run.clone())).unwrap();
        let tower = &trace.towers[&trace.main_tower()];
        tower.tokens.iter().position(|t| t.text == " hen").unwrap()
    };
    let (here, there) = (index(&h, 0), index(&h, 1));
    assert_ne!(here, there);
    let chip = h.query_all_by_label("token ·hen").find(|n| n.rect().right() < middle).unwrap().rect();
    h.hover_at(chip.center());
    settle(&mut h);
    // The inspector is about the pane that is worked in, which is the second.
    assert_eq!(h.state().doc.active(), 1);
    assert!(h.query_all_by_label("\" hen\"").next().is_some(), "the other pane marks another token, or none");
    assert!(h.query_all_by_label(&there.to_string()).next().is_some());
}

#[test]
fn zoom_and_scales_go_together_until_each_pane_is_for_itself() {
    let mut h = window_with(two("The red fox met a hen", "The red fox met a fox"));
    let part = [0.25, 0.25, 0.5, 0.5];
    let windows = |h: &egui_kittest::Harness<'static, tokenscope_app::app::App>| -> Vec<[f32; 4]> {
        h.state().doc.panes().iter().map(|p| p.cursor.window).collect()
    };
    h.state_mut().doc.apply(Command::part(part));
    assert_eq!(windows(&h), [part; 2]);
    press(&mut h, Modifiers::COMMAND, Key::K);
    super::type_text(&mut h, "each pane for itself");
    press(&mut h, Modifiers::NONE, Key::Enter);
    assert!(h.state().doc.look.apart);
    h.state_mut().doc.apply(Command::part(tokenscope_app::pane::WHOLE));
    assert_eq!(windows(&h), [part, tokenscope_app::pane::WHOLE]);
}

#[test]
fn the_comparison_says_what_differs_and_what_that_does() {
    let mut h = window();
    press(&mut h, Modifiers::ALT, Key::Num6);
    assert!(h.query_all_by_label_contains("one pane").next().is_some(), "no word on what to do");
    h.get_by_label("Open another pane").click();
    settle(&mut h);
    assert_eq!(h.state().doc.panes().len(), 2);
    assert!(h.query_all_by_label_contains("Nothing differs").next().is_some());
    let mut doc = h.state().doc.clone();
    doc.apply(Command::head(2, 1));
    h.state_mut().doc = doc;
    settle(&mut h);
    assert!(h.query_all_by_label("layer 2, head 1").next().is_some(), "what differs is not said");
    assert!(h.query_all_by_label_contains("Most probable next words").next().is_some());
    assert!(h.query_all_by_label_contains("KL, first to second 0").next().is_some(), "a run differs from itself");
    // A part that is opened is computed.
    let map = |h: &egui_kittest::Harness<'static, tokenscope_app::app::App>| {
        h.query_all_by_label_contains("minus attention of layer 2, head 1").next().is_some()
    };
    assert!(!map(&h));
    h.query_all_by_label_contains("▶ Attention map").next().expect("a heading").click();
    settle(&mut h);
    assert!(map(&h), "no map");
}

#[test]
fn a_window_that_is_too_narrow_shows_one_pane_at_a_time() {
    let mut h = window_with(two("The red fox met a hen", "Two zebras"));
    h.set_size(egui::vec2(800.0, 700.0));
    settle(&mut h);
    assert_eq!(h.query_all_by_label("token ·fox").count(), 0, "the first pane is squeezed beside the second");
    h.get_by_label_contains("1: ").click();
    settle(&mut h);
    assert_eq!(h.state().doc.active(), 0);
    assert!(h.query_all_by_label("token ·fox").next().is_some());
}
