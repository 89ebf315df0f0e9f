//! Lessons in the window: every step of every lesson is where its caption points, keys walk, and what was before comes
//! back.

use super::{press, settle, type_text, window, window_with};
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::Path;
use std::sync::Arc;
use tokenscope_app::app::App;
use tokenscope_app::keys::ModelSource;
use tokenscope_app::lesson::{self, Lesson};
use tokenscope_app::state::{Command, Doc};
use tokenscope_tests::golden;

fn start(h: &mut Harness<'static, App>, lesson: Arc<Lesson>) {
    let ctx = h.ctx.clone();
    h.state_mut().start_lesson(&ctx, lesson);
    settle(h);
}

fn lesson(steps: &str) -> Arc<Lesson> {
    let text = format!(r#"{{ "title": "T", "about": "A.", "steps": [{steps}] }}"#);
    Arc::new(Lesson::parse(Path::new("t.json"), None, &text).unwrap())
}

#[test]
fn every_step_of_every_lesson_points_at_something_that_is_there_and_covers_it_not() {
    let mut h = window();
    for own in lesson::own() {
        start(&mut h, own.clone());
        for (i, step) in own.steps.iter().enumerate() {
            let what = format!("{}, step {}", own.id, i + 1);
            assert_eq!(h.state().lesson().map(|l| l.1), Some(i), "{what}");
            assert!(h.query_by_label(&format!("step {} of {}", i + 1, own.steps.len())).is_some(), "{what}");
            assert!(h.query_by_label(&step.says).is_some(), "{what}: the caption is not there");
            let caption = h.state().caption().unwrap();
            match h.state().spotlight() {
                Some(spot) => {
                    assert!(spot.is_positive() && spot.bottom() <= caption.top() + 1.0, "{what}: {spot:?} {caption:?}");
                }
                None => assert!(step.at.is_empty(), "{what}: what it points at is not there"),
            }
            press(&mut h, Modifiers::NONE, Key::PageDown);
        }
        // A clicker that is pressed once too often does not end it.
        assert_eq!(h.state().lesson().map(|l| l.1), Some(own.steps.len() - 1));
    }
    let ctx = h.ctx.clone();
    h.state_mut().leave_lesson(&ctx);
}

#[test]
fn keys_walk_a_lesson_and_the_document_before_comes_back_in_one_step_of_undo() {
    let mut h = window();
    h.state_mut().doc.apply(Command::Prompt("The cat".into()));
    settle(&mut h);
    let (before, zoom) = (h.state().doc.clone(), h.ctx.zoom_factor());
    let steps = r#"{ "says": "One.", "prompt": "a dog", "view": "flow" }, { "says": "Two.", "prompt": "a hen" },
        { "says": "Three.", "view": "all", "sources": true, "at": { "control": "prompt" } }"#;
    start(&mut h, lesson(steps));
    let at = |h: &Harness<'static, App>| h.state().lesson().map(|l| l.1);
    assert_eq!((at(&h), &*h.state().doc.pane().run.prompt), (Some(0), "a dog"));
    assert!(h.ctx.zoom_factor() > zoom, "the print is not larger");
    for (key, want) in [
        (Key::ArrowRight, 1),
        (Key::Space, 2),
        (Key::PageDown, 2),
        (Key::ArrowLeft, 1),
        (Key::PageUp, 0),
        (Key::ArrowLeft, 0),
        (Key::PageDown, 1),
    ] {
        press(&mut h, Modifiers::NONE, key);
        assert_eq!(at(&h), Some(want), "{key:?}");
    }
    // What is changed by hand in a lesson is gone with the next step, and can be undone before.
    h.state_mut().doc.apply(Command::Prompt("mine".into()));
    settle(&mut h);
    press(&mut h, Modifiers::NONE, Key::ArrowRight);
    assert_eq!(&*h.state().doc.pane().run.prompt, "a hen");
    // What is typed stays in its box.
    h.get_by_label("prompt").focus();
    settle(&mut h);
    press(&mut h, Modifiers::NONE, Key::ArrowLeft);
    assert_eq!(at(&h), Some(2), "an arrow in the text box turned the page");
    h.ctx.memory_mut(|m| m.stop_text_input());
    settle(&mut h);
    let shown = h.state().doc.clone();
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert_eq!((at(&h), &h.state().doc), (None, &before));
    assert_eq!(h.ctx.zoom_factor(), zoom);
    assert!(h.query_by_label("Three.").is_none());
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(h.state().doc, shown);
    press(&mut h, Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);
    assert_eq!(h.state().doc, before);
    // Keys are again what they were.
    press(&mut h, Modifiers::NONE, Key::Space);
    assert_eq!(h.state().doc, before);
}

#[test]
fn a_lesson_is_found_in_the_palette_and_its_buttons_walk_it() {
    let mut h = window();
    press(&mut h, Modifiers::COMMAND, Key::K);
    type_text(&mut h, "lesson: bytes");
    press(&mut h, Modifiers::NONE, Key::Enter);
    let n = h.state().lesson().map(|l| (l.0.id.clone(), l.0.steps.len())).unwrap();
    assert_eq!(n.0, "tokens");
    h.get_by_label("Next").click();
    settle(&mut h);
    h.get_by_label("Next").click();
    settle(&mut h);
    h.get_by_label("Back").click();
    settle(&mut h);
    assert_eq!(h.state().lesson().map(|l| l.1), Some(1));
    h.get_by_label("Large print").click();
    settle(&mut h);
    assert_eq!(h.ctx.zoom_factor(), 1.0);
    h.get_by_label("Leave").click();
    settle(&mut h);
    assert!(h.state().lesson().is_none() && h.state().doc == Doc::default());
}

#[test]
fn on_a_model_of_the_user_s_a_lesson_says_what_it_cannot_show_and_what_is_otherwise() {
    let mut doc = Doc::default();
    doc.apply(Command::Model(ModelSource::Path(golden().join("models/gpt2"))));
    let own = doc.pane().run.model.clone();
    let mut h = window_with(doc);
    let steps = r#"{ "says": "One.", "prompt": "a dog", "view": "segmentation",
            "claims": [{ "bytes": {}, "is": 5 }, { "characters": {}, "is": 6 }] },
        { "says": "Two.", "model": "sample-vlm", "image": "scene:test+23", "needs": ["reads_image"] }"#;
    start(&mut h, lesson(steps));
    assert_eq!(h.state().doc.pane().run.model, own, "the lesson runs on another model");
    assert!(h.query_by_label_contains("does not hold here: it is 5, claimed is 6").is_some());
    press(&mut h, Modifiers::NONE, Key::ArrowRight);
    assert!(h.query_by_label_contains("a language model that reads an image").is_some());
    h.get_by_label("Go on with sample-vlm").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().run.model, ModelSource::Sample("sample-vlm"));
    assert!(h.query_by_label_contains("a language model that reads an image").is_none());
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert_eq!(h.state().doc.pane().run.model, own);
}
