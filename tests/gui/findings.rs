//! The place for findings: a study is chosen, run, seen, and saved, without a view of its own.

use super::{settle, window, window_with};
use egui_kittest::kittest::Queryable as _;
use tokenscope_analysis::finding::Picture;
use tokenscope_analysis::method::Kind;
use tokenscope_app::keys::ModelSource;
use tokenscope_app::picture_source::PictureSource;
use tokenscope_app::state::{Command, Doc};
use tokenscope_app::work::{FindingOf, Serves as _};

fn scene() -> Doc {
    let mut doc = Doc::default();
    doc.apply(Command::Model(ModelSource::Sample("sample-vlm")));
    doc.apply(Command::Image(Some(PictureSource::test_scene(7))));
    doc.apply(Command::Prompt("what color is the circle?".into()));
    doc
}

#[test]
fn a_chosen_study_comes_to_the_front_with_pictures_figures_and_words() {
    let mut h = window_with(scene());
    assert!(h.query_by_label("study method").is_none(), "findings are in front before anybody asked");
    super::press(&mut h, egui::Modifiers::COMMAND, egui::Key::K);
    super::type_text(&mut h, "study: embedlens");
    super::press(&mut h, egui::Modifiers::NONE, egui::Key::Enter);
    settle(&mut h);
    assert!(h.query_by_label("study method").is_some(), "the view did not come to the front");
    let pane = h.state().doc.pane();
    let asked = FindingOf::of(pane, pane.call(Kind::Study));
    let found = h.state().jobs.ready(&asked).expect("a finding");
    let Picture::Classes(c) = &found.pictures[0] else { panic!("{:?}", found.pictures[0]) };
    let counts = c.counts(None);
    // Every token of the picture is of one class, and nothing else of any.
    let classed = c.of.iter().flatten().count();
    assert_eq!(counts.iter().sum::<usize>(), classed);
    for (class, n) in c.classes.iter().zip(&counts).filter(|(_, n)| **n > 0) {
        let key = format!("{n} {}", class.name);
        assert!(h.query_all_by_label(&key).next().is_some(), "no legend {key}");
    }
    assert!(h.query_all_by_label_contains("alive ").next().is_some(), "no figure");
    assert!(h.query_all_by_label_contains("picture of").next().is_some(), "no picture");
}

#[test]
fn what_a_run_lacks_for_a_study_is_said() {
    let mut h = window();
    let mut doc = h.state().doc.clone();
    doc.apply(Command::Method("embedlens"));
    h.state_mut().doc = doc;
    super::press(&mut h, egui::Modifiers::COMMAND, egui::Key::K);
    super::type_text(&mut h, "study: embedlens");
    super::press(&mut h, egui::Modifiers::NONE, egui::Key::Enter);
    assert!(h.query_all_by_label_contains("EmbedLens needs image tokens").next().is_some());
    assert_eq!(h.query_all_by_label("Retry").count(), 0);
}

#[test]
fn a_finding_is_saved_with_the_text_of_its_tokens() {
    let mut doc = scene();
    doc.apply(Command::Method("embedlens"));
    let h = window_with(doc);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("finding.csv");
    let view = tokenscope_app::views::find("findings").unwrap();
    let (doc, jobs) = (&h.state().doc, &h.state().jobs);
    let svg = dir.path().join("finding.svg");
    tokenscope_app::export::save(view, doc, jobs, egui::vec2(600.0, 400.0), 1.0, &svg).unwrap();
    tokenscope_app::export::save(view, doc, jobs, egui::vec2(600.0, 400.0), 1.0, &file).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.starts_with("token,text,class,words\r\n"), "{}", text.lines().next().unwrap());
    assert!(text.contains(",alive,") || text.contains(",dead,") || text.contains(",sink,"));
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.contains("Sink, dead and alive") && svg.contains("<image"), "the figure lacks its picture");
}
