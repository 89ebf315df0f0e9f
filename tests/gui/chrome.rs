//! Around the views: saving from the keyboard and from a view's header, notices, hints, what is remembered.

use super::{press, settle, type_text, window};
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::time::{Duration, Instant};
use tokenscope_app::app::{App, HINTS};
use tokenscope_app::settings::Settings;

/// Steps until a notice holds `words`.
fn notice(h: &mut Harness<'static, App>, words: &str) -> tokenscope_app::notices::Notice {
    let start = Instant::now();
    loop {
        h.step();
        if let Some(n) = h.state().notices.list().iter().find(|n| n.words.contains(words)) {
            return n.clone();
        }
        assert!(start.elapsed() < Duration::from_secs(60), "no notice of {words}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn each_view_is_saved_by_its_key_and_the_notice_says_where_and_goes() {
    let mut h = window();
    let dir = tempfile::tempdir().unwrap();
    for (key, name) in [(Key::Num1, "a.csv"), (Key::Num3, "b.svg")] {
        let file = dir.path().join(name);
        press(&mut h, Modifiers::COMMAND, key);
        // The path has the keyboard at once.
        press(&mut h, Modifiers::COMMAND, Key::A);
        type_text(&mut h, &file.display().to_string());
        h.key_press(Key::Enter);
        let n = notice(&mut h, name);
        assert!(n.good && n.path.as_deref() == Some(&*file), "{n:?}");
        assert!(file.is_file());
    }
    let flow = std::fs::read_to_string(dir.path().join("b.svg")).unwrap();
    assert!(flow.contains("Flow") || flow.contains("routes"), "another view was saved");
    h.step();
    assert!(h.query_all_by_label_contains("saved ").next().is_some(), "a screen reader does not find it");
    assert_eq!(h.query_all_by_label("Copy path").count(), 2);
    // Frames of the harness are a quarter of a second apart.
    h.run_steps(50);
    assert!(h.state().notices.list().is_empty(), "good news does not go by itself");
}

#[test]
fn the_report_of_all_panes_is_saved_by_its_key() {
    let mut h = window();
    let dir = tempfile::tempdir().unwrap();
    press(&mut h, Modifiers::COMMAND, Key::T);
    for name in ["r.html", "r.pdf"] {
        let file = dir.path().join(name);
        press(&mut h, Modifiers::COMMAND, Key::R);
        assert!(h.query_by_label("Save report").is_some());
        press(&mut h, Modifiers::COMMAND, Key::A);
        type_text(&mut h, &file.display().to_string());
        h.key_press(Key::Enter);
        assert!(notice(&mut h, name).good);
    }
    let page = std::fs::read_to_string(dir.path().join("r.html")).unwrap();
    assert!(
        page.contains("Run 1 of 2")
            && page.contains("Run 2 of 2")
            && page.contains("Pane 1 is run 2, pane 2 is run 1")
            && page.contains("tokenscope render")
    );
    assert!(std::fs::read(dir.path().join("r.pdf")).unwrap().starts_with(b"%PDF"));
}

#[test]
fn a_save_that_ends_late_leaves_the_next_one_alone() {
    let mut h = window();
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first.png"), dir.path().join("second.csv"));
    press(&mut h, Modifiers::COMMAND, Key::Num2);
    press(&mut h, Modifiers::COMMAND, Key::A);
    type_text(&mut h, &first.display().to_string());
    h.key_press(Key::Enter);
    h.step();
    // The next one is asked for while the first is under way.
    h.key_press_modifiers(Modifiers::COMMAND, Key::Num3);
    h.step();
    notice(&mut h, "first.png");
    h.step();
    let field = h.query_by_label("file to write").expect("the window was closed by the save before");
    assert!(field.value().unwrap_or_default().contains("tokenscope-flow"), "{field:?}");
    press(&mut h, Modifiers::COMMAND, Key::A);
    type_text(&mut h, &second.display().to_string());
    h.key_press(Key::Enter);
    notice(&mut h, "second.csv");
    assert!(first.is_file() && second.is_file());
}

#[test]
fn bad_news_stays_until_it_is_closed() {
    let mut h = window();
    press(&mut h, Modifiers::COMMAND, Key::Num2);
    press(&mut h, Modifiers::COMMAND, Key::A);
    type_text(&mut h, "/nowhere/at/all.csv");
    h.key_press(Key::Enter);
    // The window that asked is closed before the answer is there, or shows it.
    let start = Instant::now();
    while h.query_all_by_label_contains("cannot be written").next().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "no word of the failure");
        h.step();
        std::thread::sleep(Duration::from_millis(5));
    }
    press(&mut h, Modifiers::NONE, Key::Escape);
    h.state_mut().notices.say("the disk is full", false, None);
    h.run_steps(80);
    assert_eq!(h.state().notices.list().len(), 1);
    h.get_by_label("close the notice").click();
    settle(&mut h);
    assert!(h.state().notices.list().is_empty());
}

#[test]
fn the_button_in_a_views_header_asks_for_that_view_and_format() {
    let mut h = window();
    for view in ["Segmentation", "Importance", "Flow", "Drafts"] {
        assert!(h.query_by_label(&format!("save {view}")).is_some(), "{view} has no button");
    }
    h.get_by_label("save Flow").click();
    settle(&mut h);
    h.get_by_label_contains("JSON (numbers)").click();
    settle(&mut h);
    let path = h.get_by_label("file to write").value().unwrap_or_default();
    assert!(path.ends_with("tokenscope-flow.json"), "{path}");
}

#[test]
fn hints_come_one_by_one_and_once() {
    let mut h = window();
    assert!(h.query_by_label("1 of 3").is_none());
    let ctx = h.ctx.clone();
    h.state_mut().set_up(&ctx, Settings::default());
    settle(&mut h);
    assert!(h.query_by_label("1 of 3").is_some());
    h.get_by_label("Next hint").click();
    settle(&mut h);
    assert!(h.query_by_label_contains("Ctrl+K").is_some());
    h.get_by_label("No more hints").click();
    settle(&mut h);
    assert!(["1 of 3", "2 of 3", "3 of 3"].iter().all(|words| h.query_by_label(words).is_none()));
    assert_eq!(h.state().settings(&ctx).hints, HINTS);
}

#[test]
fn the_window_is_remembered_and_undo_does_not_reach_behind_the_start() {
    let mut h = window();
    let ctx = h.ctx.clone();
    let settings =
        Settings { dark: true, colors: "magma".into(), zoom: 2.0, hints: HINTS, sources: false, ..Settings::default() };
    h.state_mut().set_up(&ctx, settings.clone());
    settle(&mut h);
    assert_eq!(ctx.zoom_factor(), 2.0);
    assert!(h.query_by_label("prompt").is_none(), "the panel of sources is open");
    let now = h.state().settings(&ctx);
    assert!(now.layout.is_some());
    assert_eq!(Settings { size: None, layout: None, ..now }, settings);
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert!(h.state().doc.look.dark, "undo took the remembered colours back");
    press(&mut h, Modifiers::COMMAND, Key::D);
    assert!(!h.state().settings(&ctx).dark);
    // Colours are a matter of taste: undo leaves them.
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert!(!h.state().doc.look.dark);
    press(&mut h, Modifiers::COMMAND, Key::B);
    assert!(h.query_by_label("prompt").is_some());
}

#[test]
fn another_colour_map_is_chosen_in_the_menu_and_undo_leaves_it() {
    let mut h = window();
    let ctx = h.ctx.clone();
    h.get_by_label("View").click();
    settle(&mut h);
    h.get_by_label_contains("Colours").click();
    settle(&mut h);
    h.get_by_label("viridis").click();
    settle(&mut h);
    assert_eq!(h.state().settings(&ctx).colors, "viridis");
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(h.state().settings(&ctx).colors, "viridis");
}

#[test]
fn at_double_scale_every_view_can_be_reached() {
    let mut h = window();
    let ctx = h.ctx.clone();
    h.state_mut().set_up(&ctx, Settings { zoom: 2.0, hints: HINTS, ..Settings::default() });
    settle(&mut h);
    let screen = ctx.content_rect();
    for view in ["Segmentation", "Importance", "Flow", "Drafts"] {
        let tab = h.query_all_by_label(view).map(|n| n.rect()).find(|r| screen.contains_rect(*r));
        assert!(tab.is_some(), "{view} is outside of {screen:?}");
    }
    h.get_by_label("Importance").click();
    settle(&mut h);
    let mut doc = h.state().doc.clone();
    doc.pane_mut().shows.parts = [false, false, false, true];
    h.state_mut().doc = doc;
    settle(&mut h);
    assert!(h.query_all_by_label_contains("attention map, ").next().is_some());
}
