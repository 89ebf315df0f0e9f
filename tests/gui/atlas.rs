//! The atlas: every paper of the list, what is there of it, and the button that runs it.

use super::{press, settle, type_text, window, window_with};
use egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use tokenscope_analysis::atlas::{Extent, papers};
use tokenscope_analysis::method::Kind;
use tokenscope_app::keys::ModelSource;
use tokenscope_app::picture_source::PictureSource;
use tokenscope_app::state::{Command, Doc};

#[test]
fn a_paper_is_found_by_words_and_its_button_chooses_the_method_and_closes() {
    let mut doc = Doc::default();
    doc.apply(Command::Model(ModelSource::Sample("sample-vlm")));
    doc.apply(Command::Image(Some(PictureSource::test_scene(7))));
    doc.apply(Command::Prompt("what color is the circle?".into()));
    let mut h = window_with(doc);
    assert!(h.query_by_label("search the atlas").is_none());
    press(&mut h, Modifiers::COMMAND, Key::L);
    let first = papers().iter().find(|p| p.extent() == Extent::All).expect("a paper with code").name;
    assert!(h.query_all_by_label(first).next().is_some(), "{first} is not listed");
    // The field to search in has the keyboard at once.
    type_text(&mut h, "DivPrune");
    assert_eq!(h.get_by_label("search the atlas").value().as_deref(), Some("DivPrune"));
    assert_eq!(h.query_all_by_label(first).count(), 0, "papers that do not fit are listed");
    h.get_by_label("run DivPrune").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().call(Kind::Reduce).method, "divprune");
    assert!(h.query_by_label("search the atlas").is_none(), "the page is still open");
}

#[test]
fn what_the_input_lacks_holds_the_button() {
    let mut h = window();
    press(&mut h, Modifiers::COMMAND, Key::L);
    type_text(&mut h, "DivPrune");
    let button = h.get_by_label("run DivPrune");
    assert!(button.accesskit_node().is_disabled(), "it can be pressed without a picture");
}

#[test]
fn what_is_not_there_says_so_and_escape_closes() {
    let mut h = window();
    press(&mut h, Modifiers::COMMAND, Key::L);
    let open = papers().iter().find(|p| p.extent() == Extent::NotYet).expect("a paper without code");
    type_text(&mut h, open.title);
    assert!(h.query_all_by_label(open.name).next().is_some(), "{} is not listed", open.name);
    assert_eq!(h.query_all_by_label(Extent::NotYet.words()).count(), 1);
    assert_eq!(h.query_all_by_label_contains("run ").count(), 0, "a button for what is not there");
    press(&mut h, Modifiers::COMMAND, Key::A);
    type_text(&mut h, "no such paper at all");
    assert!(h.query_by_label_contains("No paper fits").is_some());
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert!(h.query_by_label("search the atlas").is_none(), "Escape leaves it open");
}
