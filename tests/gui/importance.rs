//! The importance view: the attention map close up, what stands along its edges.

use super::{settle, window_with};
use egui_kittest::kittest::Queryable as _;

use tokenscope_app::pane::WHOLE;
use tokenscope_app::state::Doc;
use tokenscope_app::work::TraceOf;

#[test]
fn close_up_the_map_names_its_tokens_and_says_where_it_is() {
    let mut doc = Doc::default();
    doc.pane_mut().shows.parts = [false, false, false, true];
    let mut h = window_with(doc);
    assert!(h.query_by_label_contains("queries down 0–").is_some_and(|n| !format!("{n:?}").contains(" of ")));
    let mut doc = h.state().doc.clone();
    let trace = h.state().jobs.ready(&TraceOf(doc.pane().run.clone())).expect("no run");
    let n = trace.towers[&trace.main_tower()].tokens.len() as f32;
    doc.pane_mut().cursor.look([2.0 / n, 4.0 / n, 3.0 / n, 3.0 / n]);
    h.state_mut().doc = doc;
    settle(&mut h);
    let words = format!("queries down 4–6, keys across 2–4 of {n}");
    assert!(h.query_by_label(&words).is_some(), "no readout {words}");
    h.get_by_label("whole").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().cursor.window, WHOLE);
    assert!(h.query_by_label("whole").is_none());
}
