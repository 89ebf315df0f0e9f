//! The drafts view where no sample can draft, and its times.

use super::{settle, window, window_with};
use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use tokenscope_analysis::method::Kind;
use tokenscope_app::jobs::Status;
use tokenscope_app::keys::ModelSource;
use tokenscope_app::state::{Command, Doc};
use tokenscope_app::work::{DraftOf, Serves as _, TimesOf};
use tokenscope_tests::golden;

#[test]
fn a_model_whose_vocabulary_no_sample_shares_drafts_by_itself_and_says_why() {
    let mut doc = Doc::default();
    doc.apply(Command::Model(ModelSource::Path(golden().join("models/gpt2"))));
    doc.apply(Command::Prompt("12 boats".into()));
    let mut h = window_with(doc.clone());
    assert!(
        h.query_all_by_label_contains("the tokenizers spell ids differently").next().is_some(),
        "no reason is given"
    );
    assert_eq!(h.query_all_by_label_contains("language models with the same vocabulary").count(), 0);
    assert!(h.query_all_by_label_contains("tokens per round").next().is_some(), "nothing stands in");
    // The samples are there to see, and grey.
    let combos: Vec<_> = h.query_all_by_label("draft model").map(|n| n.rect()).collect();
    let combo =
        combos.iter().copied().max_by(|a, b| a.width().total_cmp(&b.width())).expect("a choice of draft models");
    h.drag_at(combo.center());
    h.step();
    h.drop_at(combo.center());
    settle(&mut h);
    h.get_by_label("sample-lm").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().partner, doc.pane().partner, "a model that cannot draft was chosen");
}

#[test]
fn a_speed_up_is_measured_while_nothing_else_computes() {
    let h = window();
    let pane = h.state().doc.pane();
    let asked = DraftOf::of(pane, pane.call(Kind::Draft));
    let d = h.state().jobs.ready(&asked).expect("no decode");
    let first = d.times.expect("a whole decode has its times");
    let times = match h.state().jobs.need("times", &TimesOf(asked)) {
        Status::Ready(t) => *t,
        _ if first.alone => first,
        _ => panic!("the decode was disturbed and not measured again"),
    };
    let pace = times.pace;
    assert!(times.alone && pace.target > 0.0 && pace.verify > 0.0 && pace.draft > 0.0);
    assert!(pace.spent.draft > 0.0 && pace.spent.verify > 0.0 && pace.spent.rest > 0.0);
    assert!(h.query_all_by_label_contains("measured").next().is_some());
}

#[test]
fn a_proof_begins_at_a_click_and_can_be_stopped() {
    let mut h = window();
    // It lies below what the window has room for.
    h.get_by_label("Prove").click_accesskit();
    let goes_on = (0..50).any(|_| {
        h.step();
        h.query_by_label("proving").is_some()
    });
    assert!(goes_on && h.query_by_label("Prove").is_none(), "no proof goes on");
    // The bar at the bottom has one, too.
    let stops = h.query_all_by_label("Stop").min_by(|a, b| a.rect().top().total_cmp(&b.rect().top()));
    stops.expect("a way to stop it").click_accesskit();
    settle(&mut h);
    assert!(h.query_by_label("Prove").is_some(), "the proof goes on");
}

#[test]
fn enter_on_a_node_goes_on_from_there_in_place_or_beside() {
    for (modifiers, panes) in [(Modifiers::NONE, 1), (Modifiers::SHIFT, 2)] {
        let mut h = window();
        let before = h.state().doc.pane().run.prompt.clone();
        h.get_by_label_contains("draft tree of").focus();
        h.step();
        h.key_press(Key::ArrowRight);
        h.step();
        h.key_press_modifiers(modifiers, Key::Enter);
        settle(&mut h);
        let doc = &h.state().doc;
        let now = &doc.pane().run.prompt;
        assert!(now.len() > before.len() && now.starts_with(&*before), "{:?} after {:?}", &**now, &*before);
        assert_eq!((doc.panes().len(), &doc.panes()[0].run.prompt == now), (panes, panes == 1));
    }
}
