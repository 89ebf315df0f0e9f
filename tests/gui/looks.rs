//! How views look under the hand: nothing jumps, nothing hides, the wheel scrolls, and figures can go into a paper.

use super::hands::{click, show};
use super::{press, settle, window, window_with};
use egui::{Event, Key, Modifiers, MouseWheelUnit, PointerButton, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{By, NodeT as _, Queryable as _};
use tokenscope_analysis::method::Kind;
use tokenscope_app::app::App;
use tokenscope_app::export::{Page, save_page};
use tokenscope_app::jobs::Jobs;
use tokenscope_app::state::{Command, Doc};
use tokenscope_app::views;

fn wheel(h: &mut Harness<'static, App>, modifiers: Modifiers) {
    let event = Event::MouseWheel {
        unit: MouseWheelUnit::Point,
        delta: vec2(0.0, -60.0),
        phase: egui::TouchPhase::Move,
        source: egui::MouseWheelSource::Unknown,
        modifiers,
    };
    h.event_modifiers(event, modifiers);
    h.run_steps(6);
}

#[test]
fn the_wheel_over_a_map_scrolls_the_page_and_with_control_it_zooms() {
    let mut doc = Doc::default();
    doc.pane_mut().shows.parts = [true, false, false, true];
    let mut h = window_with(doc);
    // Low enough that the page is longer than the window.
    h.set_size(vec2(1280.0, 480.0));
    press(&mut h, Modifiers::ALT, Key::Num2);
    let map = |h: &Harness<'static, App>| h.query_all_by_label_contains("attention map").next().expect("a map").rect();
    let before = map(&h);
    h.hover_at(before.left_top() + vec2(40.0, 40.0));
    h.step();
    wheel(&mut h, Modifiers::NONE);
    settle(&mut h);
    assert_eq!(h.state().doc.pane().cursor.window, tokenscope_app::pane::WHOLE, "the wheel alone zooms");
    assert!(map(&h).top() < before.top(), "the page did not scroll");
    h.hover_at(map(&h).left_top() + vec2(40.0, 60.0));
    h.step();
    h.event(Event::Zoom(1.5));
    settle(&mut h);
    assert_ne!(h.state().doc.pane().cursor.window, tokenscope_app::pane::WHOLE, "zooming does nothing");
}

#[test]
fn merges_of_a_token_move_no_row_and_close_by_button_and_escape() {
    let mut h = window();
    let chip = |h: &Harness<'static, App>, word: &str| {
        let all = h.query_all_by_label(word).map(|n| n.rect()).filter(|r| r.left() < 780.0);
        all.min_by(|a, b| a.top().total_cmp(&b.top())).expect("a chip")
    };
    for (word, close) in [("token ·harbour", "button"), ("token ·hen", "key")] {
        let before = chip(&h, word);
        click(&mut h, before.center(), PointerButton::Primary);
        settle(&mut h);
        assert!(h.query_by_label("close the merges").is_some(), "nothing opened");
        assert_eq!(chip(&h, word).top(), before.top(), "the rows have moved");
        let chosen = h.state().doc.pane().aim.clone();
        assert!(!chosen.is_empty(), "{word} is not selected");
        match close {
            "button" => h.get_by_label("close the merges").click(),
            _ => h.key_press(Key::Escape),
        }
        settle(&mut h);
        assert!(h.query_by_label("close the merges").is_none(), "the {close} does not close it");
        assert_eq!(h.state().doc.pane().aim, chosen, "the {close} took the selection with it");
    }
}

#[test]
fn a_token_that_the_flow_has_scrolled_out_is_scrolled_to_when_it_is_selected() {
    let mut doc = Doc::default();
    doc.pane_mut().shows.column = 90.0;
    let mut h = window_with(doc);
    let reads = |h: &Harness<'static, App>| {
        let lattice = h.query_all_by_label_contains("flow lattice").next().expect("a lattice");
        lattice.rect().left()
    };
    let before = reads(&h);
    let mut doc = h.state().doc.clone();
    doc.apply(Command::Select(tokenscope_app::selection::Selection::one(1)));
    h.state_mut().doc = doc;
    settle(&mut h);
    h.run_steps(8);
    assert!(reads(&h) > before + 200.0, "the lattice stays at {} where it was at {before}", reads(&h));
}

#[test]
fn every_parameter_has_its_label_before_its_control_and_numbers_stand_in_line() {
    let mut h = window();
    press(&mut h, Modifiers::ALT, Key::Num4);
    let info = tokenscope_analysis::catalog::info(Kind::Draft, h.state().doc.pane().call(Kind::Draft).method).unwrap();
    // Where label, control and, behind a slider, number of each begin.
    let mut rows = Vec::new();
    for p in info.params {
        let name = p.key.replace('_', " ");
        let all = h.query_all(By::new().label(&name).include_labels());
        let mut lefts: Vec<f32> = all.map(|n| n.rect().left()).collect();
        lefts.sort_by(f32::total_cmp);
        lefts.dedup_by(|a, b| (*a - *b).abs() < 1.5);
        assert!(lefts.len() > 1, "{name} has no label before its control: {lefts:?}");
        rows.push(lefts);
    }
    let first = rows.iter().map(|r| r[0]).fold(f32::INFINITY, f32::min);
    let beside = rows.iter().map(|r| r[0]).filter(|x| *x > first + 1.5).fold(f32::INFINITY, f32::min);
    assert!(beside.is_finite(), "one column only where there is room for more");
    for row in &rows {
        let columns = (row[0] - first) / (beside - first);
        assert!((columns - columns.round()).abs() < 0.02, "{row:?} stands in no column of {first}, {beside}");
        assert!((row[1] - row[0] - (rows[0][1] - rows[0][0])).abs() < 1.5, "labels of two widths: {rows:?}");
    }
    let numbers: Vec<f32> = rows.iter().filter(|r| r.len() > 2).map(|r| r[2] - r[1]).collect();
    assert!(numbers.windows(2).all(|w| (w[0] - w[1]).abs() < 1.5), "numbers stand out of line: {rows:?}");
}

#[test]
fn a_pictures_overlay_can_be_seen_through() {
    let mut h = window();
    show(&mut h, "scene-count");
    press(&mut h, Modifiers::ALT, Key::Num2);
    let before = h.state().doc.pane().shows.cover;
    let slider = h.query_all_by_label("overlay").filter(|n| n.accesskit_node().role() == egui::accesskit::Role::Slider);
    let place = slider.map(|n| n.rect()).next().expect("a slider");
    click(&mut h, place.left_center() + vec2(8.0, 0.0), PointerButton::Primary);
    settle(&mut h);
    assert!(h.state().doc.pane().shows.cover < before.min(0.3), "{}", h.state().doc.pane().shows.cover);
}

#[test]
fn an_encoder_of_pictures_explains_its_class_token() {
    let mut doc = super::image_doc("clip");
    doc.apply(Command::Tower(Some(tokenscope_analysis::trace::Tower::Vision)));
    let h = window_with(doc);
    assert!(h.query_all_by_label_contains("for the class token").next().is_some());
}

#[test]
fn figures_say_what_made_them_and_need_no_fonts() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = Jobs::new(|| {});
    let mut doc = Doc::default();
    doc.apply(Command::Prompt("if (a != b) { c -> d } naïve".into()));
    doc.apply(Command::Method("random"));
    doc.apply(Command::Param(Kind::Reduce, "seed", 7.into()));
    let page = Page::paper(85.0, 80.0, 2.0);
    for view in views::ALL {
        let file = dir.path().join(format!("{}.svg", view.id));
        save_page(view, &doc, &jobs, &page, &file).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        assert!(
            svg.contains(r#"width="85mm""#) && svg.contains("<use ") && svg.contains("<path id=\"g0\""),
            "{}",
            view.id
        );
        // Every word that is seen is an outline; the text above it is there to be found and copied, and unseen.
        for line in svg.lines().filter(|l| l.starts_with("<text")) {
            assert!(line.contains(r#"fill="none""#), "{}: {line}", view.id);
        }
        for words in [
            "<metadata>",
            "<model>sample-lm</model>",
            "Tokenscope 0.",
            "if (a != b) { c -&gt; d } naïve",
            "--width-mm 85",
        ] {
            assert!(svg.contains(words), "{}: no {words}", view.id);
        }
        let png = file.with_extension("png");
        save_page(view, &doc, &jobs, &page, &png).unwrap();
        let bytes = std::fs::read(&png).unwrap();
        for words in ["tEXtModel\0sample-lm", "iTXtPrompt", "tEXtView", "tEXtSoftware\0Tokenscope"] {
            assert!(bytes.windows(words.len()).any(|w| w == words.as_bytes()), "{}: no {words}", view.id);
        }
    }
    let svg = std::fs::read_to_string(dir.path().join("importance.svg")).unwrap();
    assert!(svg.contains("--reduce random --set reduce.seed=7"), "the command does not make the same figure");
}

#[test]
fn nothing_of_a_figure_of_one_column_lies_outside_of_the_page() {
    let jobs = Jobs::new(|| {});
    for (method, id) in
        [("speculative_sampling", "drafts"), ("dyspec", "drafts"), ("", "segmentation"), ("", "findings")]
    {
        let mut doc = Doc::default();
        if !method.is_empty() {
            doc.apply(Command::Method(method));
        }
        if method == "speculative_sampling" {
            doc.apply(Command::Param(Kind::Draft, "gamma", 16.into()));
        }
        let page = Page::paper(85.0, 80.0, 2.0);
        let figure = tokenscope_app::export::draw(views::find(id).unwrap(), &doc, &jobs, &page).unwrap();
        for shape in &figure.shapes {
            if let egui::Shape::Text(t) = &shape.shape
                && !t.galley.is_empty()
            {
                let place = t.visual_bounding_rect();
                // A line without a letter has no place.
                if !place.is_finite() {
                    continue;
                }
                let words = t.galley.text();
                assert!(place.right() <= figure.size.x + 1.0, "{id} {method}: {words:?} reaches to {}", place.right());
                let clip = shape.clip_rect;
                assert!(
                    place.right() <= clip.right() + 1.0 && place.left() >= clip.left() - 1.0,
                    "{id} {method}: {words:?} is cut"
                );
            }
        }
    }
}
