//! The pruning lab by hand: a schedule that is dragged, written and taken back, and a leaderboard that is run and sorted.

use super::{press, settle, type_text, window_with};
use egui::{Key, Modifiers, Pos2, pos2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::reduce::Schedule;
use tokenscope_app::app::App;
use tokenscope_app::keys::{Call, ModelSource};
use tokenscope_app::picture_source::PictureSource;
use tokenscope_app::state::Doc;

/// A question about a scene, and these parts of the importance view.
fn doc(parts: [bool; 4]) -> Doc {
    let mut doc = Doc::default();
    let pane = doc.pane_mut();
    pane.run.model = ModelSource::Sample("sample-vlm");
    pane.run.prompt = "How many shapes are there?".into();
    pane.run.image = Some(PictureSource::Scene(7));
    pane.shows.parts = parts;
    doc
}

/// The schedule that the pane has.
fn schedule(h: &Harness<'static, App>) -> String {
    let call = h.state().doc.pane().call(Kind::Reduce);
    let info = catalog::find(call.method).unwrap().info();
    info.param(Schedule::KEY).map_or(String::new(), |p| call.params.text(p).to_string())
}

/// Where the plot has its `i`-th place of `n`, at a share.
fn at(h: &Harness<'static, App>, text: &str, i: usize, n: usize, share: f32) -> Pos2 {
    let plot = h.get_by_label(&format!("schedule {text}")).rect();
    let inside = egui::Rect::from_min_max(plot.min + vec2(40.0, 16.0), plot.max - vec2(8.0, 20.0));
    pos2(inside.left() + inside.width() * i as f32 / n as f32, inside.bottom() - share * inside.height())
}

#[test]
fn a_methods_schedule_is_dragged_written_and_taken_back() {
    let mut doc = doc([false, true, false, false]);
    doc.pane_mut().choose(Call::of(catalog::find("fastv").unwrap().info())).unwrap();
    let mut h = window_with(doc);
    h.get_by_label("Edit its schedule").click();
    settle(&mut h);
    assert_eq!(schedule(&h), "2:72");
    // Five places of the encoder, one between, five of the language model; layer 2 is the ninth.
    let (from, to) = (at(&h, "2:72", 8, 11, 0.5), at(&h, "2:72", 9, 11, 0.25));
    h.drag_at(from);
    h.step();
    for t in [0.3f32, 0.7, 1.0] {
        h.hover_at(from + (to - from) * t);
        h.step();
    }
    h.drop_at(to);
    settle(&mut h);
    assert_eq!(schedule(&h), "3:36");
    assert!(h.query_all_by_label_contains("rows by layer").next().is_some());
    // One drag is one step.
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(schedule(&h), "2:72");
    // The text is the same thing; one that cannot be is kept and says why.
    let write = |h: &mut Harness<'static, App>, text: &str| {
        h.get_by_label("text of the schedule").focus();
        h.step();
        press(h, Modifiers::COMMAND, Key::A);
        type_text(h, text);
        press(h, Modifiers::NONE, Key::Enter);
        settle(h);
    };
    write(&mut h, "exit@0 inject@1 2~30");
    assert_eq!(schedule(&h), "exit@0 inject@1 2~30");
    write(&mut h, "9:30");
    assert_eq!(schedule(&h), "exit@0 inject@1 2~30");
    assert!(h.query_all_by_label_contains("there are 4 layers").next().is_some());
}

#[test]
fn a_leaderboard_is_run_sorted_and_saved() {
    let mut doc = doc([false, false, true, false]);
    doc.pane_mut().shows.curves = vec!["divprune"];
    (doc.pane_mut().shows.board.questions, doc.pane_mut().shows.board.shares) = (2, vec![250]);
    let mut h = window_with(doc);
    // It stands below the curves, and is scrolled to.
    h.get_by_label_contains("leaderboard: these methods").click_accesskit();
    settle(&mut h);
    assert!(h.query_by_label("Full model").is_none());
    h.get_by_label("Run").click_accesskit();
    settle(&mut h);
    for name in ["Full model", "Random (floor)", "Uniform (floor)"] {
        assert!(h.query_all_by_label(name).next().is_some(), "no {name}");
    }
    h.get_by_label("KL (nats)").click_accesskit();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().shows.board.sort, Some(("kl_nats".into(), false)));
    let file = tempfile::tempdir().unwrap().keep().join("board.csv");
    let view = tokenscope_app::views::find("importance").unwrap();
    tokenscope_app::export::save(view, &h.state().doc, &h.state().jobs, vec2(600.0, 400.0), 1.0, &file).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    let rows: Vec<&str> = text.lines().map(|l| l.split(',').next().unwrap_or_default()).collect();
    assert_eq!(rows, ["method", "full", "divprune", "random", "uniform"]);
}
