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
