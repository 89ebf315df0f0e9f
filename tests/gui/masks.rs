//! A model that fills in masks: its steps in the drafts view, played and chosen.

use super::*;
use tokenscope_analysis::method::Kind;
use tokenscope_app::examples::find;
use tokenscope_app::work::{Serves as _, TimelineOf};

fn steps(h: &Harness<'static, App>) -> usize {
    let pane = h.state().doc.pane();
    let asked = TimelineOf::of(pane, pane.call(Kind::Reveal));
    h.state().jobs.ready(&asked).expect("nothing is written").timeline.steps.len()
}

#[test]
fn the_steps_are_played_to_their_end_and_the_space_bar_pauses_them() {
    let mut h = window_with(Doc::of(find("masks").unwrap().pane(&Default::default())));
    let n = steps(&h);
    assert!(n > 3, "only {n} steps");
    assert!(h.query_all_by_label_contains("timeline of").next().is_some(), "no timeline");
    assert!(h.query_all_by_label_contains("tokens per forward").next().is_some(), "no figures");
    let gaps = |h: &Harness<'static, App>| h.query_all_by_label("token __").count();
    let first = gaps(&h);
    assert!(first > 0 && h.state().doc.pane().cursor.round == 0);
    h.get_by_label("play the steps").click();
    for _ in 0..2000 {
        h.step();
        if h.state().doc.pane().cursor.round + 1 == n {
            break;
        }
    }
    settle(&mut h);
    assert_eq!((h.state().doc.pane().cursor.round, gaps(&h)), (n - 1, 0));
    assert!(h.query_by_label("play the steps").is_some(), "it does not stop at the end");
    // From the end the space bar begins anew.
    h.key_press(Key::Escape);
    h.step();
    h.key_press(Key::Space);
    h.step();
    h.step();
    assert!(h.state().doc.pane().cursor.round < n - 1 && h.query_by_label("pause the steps").is_some());
    h.key_press(Key::Space);
    h.step();
    let paused = h.state().doc.pane().cursor.round;
    for _ in 0..60 {
        h.step();
    }
    assert_eq!(h.state().doc.pane().cursor.round, paused);
}

#[test]
fn the_timeline_is_saved_as_a_table() {
    let h = window_with(Doc::of(find("masks").unwrap().pane(&Default::default())));
    let file = tempfile::tempdir().unwrap().keep().join("steps.csv");
    let view = tokenscope_app::views::find("drafts").unwrap();
    tokenscope_app::export::save(view, &h.state().doc, &h.state().jobs, vec2(600.0, 400.0), 1.0, &file).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    assert!(text.starts_with("step,position,id,text,"), "{}", text.lines().next().unwrap_or_default());
    assert_eq!(text.lines().last().unwrap().split(',').next(), Some((steps(&h) - 1).to_string().as_str()));
}
