//! What hands do: typing with pauses, closing lists, opening what is not there, going back. Each was lost once.

use super::{press, settle, type_text, window};
use egui::{Event, Key, Modifiers, PointerButton, Pos2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use std::time::{Duration, Instant};
use tokenscope_app::app::App;
use tokenscope_app::keys::ModelSource;
use tokenscope_app::picture_source::PictureSource;
use tokenscope_app::state::Command;
use tokenscope_tests::golden;

/// Presses and releases a button of the pointer.
pub fn click(h: &mut Harness<'static, App>, at: Pos2, button: PointerButton) {
    h.hover_at(at);
    h.step();
    for pressed in [true, false] {
        h.event(Event::PointerButton { pos: at, button, pressed, modifiers: Modifiers::NONE });
        h.step();
    }
}

/// Starts an example, and waits for it.
pub fn show(h: &mut Harness<'static, App>, example: &str) {
    let mut doc = h.state().doc.clone();
    doc.apply(Command::Show(tokenscope_app::examples::find(example).expect("the example").pane(doc.pane()).into()));
    h.state_mut().doc = doc;
    settle(h);
}

/// Types a path into the box of the model and presses Enter.
fn open(h: &mut Harness<'static, App>, path: &str) {
    h.get_by_label("path of a model, trace or picture").focus();
    h.step();
    press(h, Modifiers::COMMAND, Key::A);
    type_text(h, path);
    press(h, Modifiers::NONE, Key::Enter);
}

#[test]
fn the_prompt_keeps_the_keyboard_over_pauses_in_typing() {
    let mut h = window();
    h.get_by_label("prompt").focus();
    h.step();
    let (start, mut typed) = (h.state().doc.pane().run.prompt.to_string(), String::new());
    for letter in ["a", "b", "c"] {
        // Each frame between: lines come and go above the box while the run is estimated and carried out.
        h.event(Event::Text(letter.into()));
        typed += letter;
        let until = Instant::now() + Duration::from_millis(700);
        while Instant::now() < until {
            h.step();
            assert!(h.get_by_label("prompt").is_focused(), "after {typed:?} the keyboard went elsewhere");
        }
        settle(&mut h);
    }
    let now = h.state().doc.pane().run.prompt.to_string();
    assert_eq!(now.len(), start.len() + 3);
    assert!(now.contains("abc"), "{now}");
}

#[test]
fn the_prompt_stays_where_it_is_while_a_run_is_estimated() {
    let mut h = window();
    let place = |h: &Harness<'static, App>| h.get_by_label("prompt").rect();
    let before = place(&h);
    let mut doc = h.state().doc.clone();
    doc.apply(Command::Prompt("The red fox met the hen".into()));
    h.state_mut().doc = doc;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(400) {
        h.step();
        assert_eq!(place(&h).top(), before.top(), "it moved");
    }
}

/// The size of what is drawn for a character, and the character.
type Glyph = ([f32; 2], char);

#[test]
fn characters_of_tokens_are_drawn_as_they_are() {
    let mut h = window();
    h.step();
    h.ctx.fonts_mut(|fonts| {
        for family in [egui::FontFamily::Monospace, egui::FontFamily::Proportional] {
            let font = egui::FontId::new(13.0, family);
            let mut boxes = |text: &str| -> Vec<Glyph> {
                let galley = fonts.layout_no_wrap(text.into(), font.clone(), egui::Color32::BLACK);
                galley.rows[0].glyphs.iter().map(|g| (g.uv_rect.size.into(), g.chr)).collect()
            };
            for text in ["!=", "->", "=>", ">=", "<=", "===", "!==", "<-", "|>", "::", "//", "www", "fi", "ffl", "<!--"]
            {
                let alone: Vec<_> = text.chars().flat_map(|c| boxes(&c.to_string())).collect();
                let together = boxes(text);
                // A pixel more or less is a matter of where the letter begins.
                let same =
                    |(a, b): (&Glyph, &Glyph)| a.1 == b.1 && a.0.iter().zip(b.0).all(|(x, y)| (x - y).abs() < 1.5);
                let all = alone.len() == together.len() && alone.iter().zip(&together).all(same);
                assert!(all, "{text} is drawn as something else in {:?}: {together:?}, {alone:?}", font.family);
            }
        }
    });
}

#[test]
fn escape_closes_an_open_list_and_leaves_the_selection() {
    let mut h = window();
    press(&mut h, Modifiers::ALT, Key::Comma);
    let selected = h.state().doc.pane().aim.clone();
    assert!(!selected.is_empty());
    h.get_by_label("score method").click();
    settle(&mut h);
    assert!(h.query_all_by_label("search methods").next().is_some(), "the list is not open");
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert_eq!(h.query_all_by_label("search methods").count(), 0, "it is still open");
    assert_eq!(h.state().doc.pane().aim, selected);
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert!(h.state().doc.pane().aim.is_empty());
}

#[test]
fn a_score_is_never_drawn_on_the_picture_of_another_run() {
    let mut h = window();
    show(&mut h, "scene-count");
    let pictured = |h: &Harness<'static, App>| h.query_all_by_label_contains("picture of ").count();
    assert!(pictured(&h) > 0, "no picture");
    // A model that is not there: what was on screen stays, the old scores on the old picture.
    open(&mut h, "/nowhere/model");
    let file = golden().join("models/llava/image.png");
    let mut doc = h.state().doc.clone();
    doc.apply(Command::Image(Some(PictureSource::File(file))));
    h.state_mut().doc = doc;
    // However long one waits, the picture under the heat is that of the run that was scored.
    for _ in 0..20 {
        h.step();
        let shown = h.state().jobs.run_of("trace").flatten().expect("a run on screen");
        assert!(matches!(shown.image, Some(PictureSource::Scene(_))), "{:?}", shown.image);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_reason_is_there_as_soon_as_the_open_has_failed_once_and_with_a_way_back() {
    let mut h = window();
    open(&mut h, "/nowhere/model");
    // The frame after the job ended says why: in the panel, once, with one Retry and a way back.
    let said = h.query_all_by_label_contains("/nowhere/model").filter(|n| n.rect().left() < 290.0).count();
    assert!(said >= 1, "no reason in the panel");
    assert_eq!(h.query_all_by_label("Retry").count(), 1);
    h.get_by_label("Back to sample-lm").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().run.model, ModelSource::Sample("sample-lm"));
    assert_eq!(h.query_all_by_label("Retry").count(), 0);
}

#[test]
fn a_bad_picture_says_once_what_is_wrong_and_leads_back() {
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.png");
    std::fs::write(&bad, b"\x89PNG\r\n\x1a\n and then nothing").unwrap();
    let mut h = window();
    show(&mut h, "scene-count");
    let before = h.state().doc.pane().run.clone();
    open(&mut h, &bad.display().to_string());
    assert_eq!(h.query_all_by_label("Retry").count(), 1);
    let said = h.query_all_by_label_contains("bad.png").map(|n| n.accesskit_node().value().unwrap_or_default());
    let full: Vec<String> = said.filter(|w| w.len() > 40).collect();
    assert_eq!(full.len(), 1, "{full:?}");
    assert!(h.query_all_by_label_contains("picture from before").count() >= 1, "nothing says that the picture is old");
    h.get_by_label_contains("Back to scene").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().run, before);
}

#[test]
fn undo_passes_over_opens_that_failed_and_leaves_the_colours() {
    let mut h = window();
    let start = h.state().doc.pane().run.clone();
    press(&mut h, Modifiers::ALT, Key::ArrowRight);
    let head = h.state().doc.pane().cursor.head;
    open(&mut h, "/nowhere/a");
    open(&mut h, "/nowhere/b");
    press(&mut h, Modifiers::COMMAND, Key::D);
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(h.state().doc.pane().run, start, "one step back is still an open that failed");
    assert!(h.state().doc.look.dark, "undo has changed the colours");
    assert_eq!(h.state().doc.pane().cursor.head, head);
}

#[test]
fn a_caret_does_not_draw_the_window_for_ever() {
    let mut h = window();
    h.get_by_label("prompt").focus();
    settle(&mut h);
    // More than the seconds in which it blinks, a quarter of a second a frame.
    h.run_steps(40);
    let delay = h.output().viewport_output[&egui::ViewportId::ROOT].repaint_delay;
    assert!(delay > Duration::from_secs(3600), "drawn anew after {delay:?}");
    assert!(h.get_by_label("prompt").is_focused());
}

#[test]
fn models_that_nobody_shows_are_let_go() {
    let mut h = window();
    let source = golden().join("models/gpt2");
    let dir = tempfile::tempdir().unwrap();
    let mut alive = Vec::new();
    for i in 0..6 {
        // The same files under another name are another model.
        let copy = dir.path().join(format!("m{i}"));
        std::fs::create_dir(&copy).unwrap();
        for file in std::fs::read_dir(&source).unwrap().flatten().filter(|f| f.path().is_file()) {
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
        let mut doc = h.state().doc.clone();
        doc.apply(Command::Model(ModelSource::Path(copy)));
        h.state_mut().doc = doc;
        settle(&mut h);
        let asked = tokenscope_app::work::ModelOf::of(&h.state().doc.pane().run);
        alive.push(std::sync::Arc::downgrade(&h.state().jobs.ready(&asked).expect("an open model")));
    }
    settle(&mut h);
    let kept = alive.iter().filter(|m| m.strong_count() > 0).count();
    assert!(kept <= 2, "{kept} of 6 models are kept: the shown one and the one before are enough");
}

#[test]
fn a_view_has_the_window_to_itself_by_key_and_button() {
    let mut h = window();
    let titles = |h: &Harness<'static, App>| {
        h.query_all_by_label("save Flow").count() + h.query_all_by_label("save Importance").count()
    };
    assert_eq!(titles(&h), 2);
    press(&mut h, Modifiers::ALT, Key::Num3);
    assert_eq!((titles(&h), h.query_all_by_label("save Flow").count()), (1, 1));
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert_eq!(titles(&h), 2);
    h.get_by_label("show Importance alone").click();
    settle(&mut h);
    assert_eq!((titles(&h), h.query_all_by_label("save Importance").count()), (1, 1));
    h.get_by_label("All views").click();
    settle(&mut h);
    assert_eq!(titles(&h), 2);
}

#[test]
fn the_right_button_opens_a_menu_on_tokens() {
    let mut h = window();
    let chip = h.query_all_by_label("token ·fox").map(|n| n.rect()).find(|r| r.left() > 780.0).expect("a scored chip");
    click(&mut h, chip.center(), PointerButton::Secondary);
    settle(&mut h);
    h.get_by_label("Copy text").click();
    settle(&mut h);
    let copied = h.output().platform_output.commands.clone();
    assert!(h.query_all_by_label("Copy text").next().is_none(), "the menu stays open: {copied:?}");
    click(&mut h, chip.center(), PointerButton::Secondary);
    settle(&mut h);
    h.get_by_label("Explain the prediction here").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().aim.tokens().len(), 1);
}

#[test]
fn help_has_the_keys_on_one_page_and_a_page_for_each_view() {
    let mut h = window();
    press(&mut h, Modifiers::NONE, Key::F1);
    assert!(h.query_all_by_label_contains("Extend forwards").next().is_some(), "no list of keys");
    for view in tokenscope_app::views::ALL {
        let tabs: Vec<egui::Rect> = h.query_all_by_label(view.title).map(|n| n.rect()).collect();
        let inside = tabs.into_iter().rfind(|r| r.top() > 150.0 && r.top() < 330.0).expect("a page of the view");
        click(&mut h, inside.center(), PointerButton::Primary);
        settle(&mut h);
        assert!(h.query_all_by_label(view.hint).next().is_some(), "{}", view.title);
    }
}

#[test]
fn whose_work_is_in_the_program_can_be_read_in_the_window() {
    let mut h = window();
    h.get_by_label("Help").click();
    settle(&mut h);
    h.get_by_label_contains("Licences").click();
    settle(&mut h);
    h.get_by_label("search licences").focus();
    h.step();
    type_text(&mut h, "option-ext");
    settle(&mut h);
    h.get_by_label_contains("option-ext").click();
    settle(&mut h);
    assert!(h.query_all_by_label_contains("Mozilla Public License").next().is_some(), "no text");
    press(&mut h, Modifiers::NONE, Key::Escape);
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert!(h.query_by_label("search licences").is_none(), "Esc does not close it");
}
