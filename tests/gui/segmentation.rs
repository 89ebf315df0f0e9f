//! The segmentation view: rows that share columns, chips that say what they are, long texts.

use super::{settle, window, window_under, window_with};
use egui::vec2;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::time::{Duration, Instant};
use tokenscope_analysis::method::Kind;
use tokenscope_app::app::App;
use tokenscope_app::keys::ModelSource;
use tokenscope_app::pane::Cuts;
use tokenscope_app::picture_source::PictureSource;
use tokenscope_app::series_source::SeriesSource;
use tokenscope_app::state::{Command, Doc};
use tokenscope_app::work::{CutsOf, SurprisalOf};
use tokenscope_tests::golden;

/// Chips of the view with this label, which lies left of the importance view.
fn chips(h: &Harness<'static, App>, label: &str) -> Vec<egui::Rect> {
    let mut out: Vec<egui::Rect> = h.query_all_by_label(label).map(|n| n.rect()).collect();
    out.retain(|r| r.left() < 780.0 && r.top() < 420.0);
    out
}

/// A document of a model without words, so that nothing but the cuts is computed for the text.
fn cuts_only(text: String) -> Doc {
    let mut doc = Doc::default();
    doc.apply(Command::Model(ModelSource::Path(golden().join("models/vit"))));
    doc.apply(Command::Prompt(text.into()));
    doc
}

#[test]
fn the_same_bytes_stand_in_the_same_columns_of_every_row() {
    let h = window();
    let fox = chips(&h, "token ·fox");
    assert!(fox.len() >= 4, "{fox:?}");
    assert!(fox.iter().all(|r| r.left() == fox[0].left() && r.right() == fox[0].right()), "{fox:?}");
    let mut tops: Vec<i32> = fox.iter().map(|r| r.top() as i32).collect();
    tops.dedup();
    assert_eq!(tops.len(), fox.len(), "one below the other");
    // The row of words cuts the space off; its word stands where the rest of the chip does.
    let word = chips(&h, "token fox");
    assert_eq!(word.len(), 1);
    assert_eq!(word[0].right(), fox[0].right());
    assert!(word[0].left() > fox[0].left() + 5.0 && word[0].top() > fox[fox.len() - 1].top());
}

#[test]
fn hovering_a_chip_of_the_model_says_how_probable_it_was() {
    let mut h = window();
    let fox = chips(&h, "token ·fox");
    h.hover_at(fox[0].center());
    for _ in 0..20 {
        settle(&mut h);
    }
    let tip = h.query_all_by_label_contains("surprisal").find(|n| format!("{n:?}").contains("probability"));
    assert!(tip.is_some(), "no probability in the tooltip");
    assert!(h.query_all_by_label_contains("20 66 6F 78").next().is_some(), "no bytes in the tooltip");
    // A row of another tokenizer has no probability.
    h.hover_at(fox[1].center());
    for _ in 0..20 {
        settle(&mut h);
    }
    assert!(h.query_all_by_label_contains("20 66 6F 78").next().is_some());
    assert!(h.query_all_by_label_contains("probability").next().is_none());
}

#[test]
fn the_switch_colours_by_surprisal_with_a_legend_in_bits() {
    let mut h = window();
    assert!(h.query_all_by_label_contains("bits").next().is_none());
    h.get_by_label("Surprisal").click();
    settle(&mut h);
    assert!(h.state().doc.pane().shows.cuts.surprisal);
    let s = h.state().jobs.ready(&SurprisalOf(h.state().doc.pane().run.clone())).expect("nothing was computed");
    let legend = format!("{} bits", tokenscope_app::pictures::widgets::number(s.max_bits));
    assert!(h.query_all_by_label(&legend).next().is_some(), "no legend {legend}");
    // The trace keeps the logits of the last row: its own probabilities are those read off the hidden states.
    assert!(s.ln_p.iter().flatten().all(|p| *p <= 0.0) && s.ln_p.iter().flatten().count() > 10);
}

#[test]
fn premiums_are_relative_to_the_row_that_is_clicked() {
    let mut h = window();
    let ones = |h: &Harness<'static, App>| h.query_all_by_label("1.00×").count();
    assert!(ones(&h) >= 1);
    h.get_all_by_label("words").min_by(|a, b| a.rect().top().total_cmp(&b.rect().top())).unwrap().click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane().shows.cuts.reference, "words");
    let cut = h.state().doc.pane().cut(h.state().doc.pane().run.prompt.clone());
    let rows = h.state().jobs.ready(&CutsOf(cut)).expect("no rows");
    let of = |name: &str| rows.rows.iter().position(|r| r.name == name).map(|i| rows.metrics[i]).unwrap();
    let premium = of("r50k_base").tokens as f64 / of("words").tokens as f64;
    assert!(h.query_all_by_label(&format!("{premium:.2}×")).next().is_some(), "{premium}");
}

#[test]
fn a_megabyte_of_text_is_laid_out_only_where_it_is_seen() {
    let line = "The naïve fox (aged 12) didn't jump; 漢字 and words go on.\n";
    let text = line.repeat((1 << 20) / line.len() + 1);
    let mut h = window_with(cuts_only(text.clone()));
    let count = |h: &Harness<'static, App>| h.query_all_by_label_contains("token ").count();
    let first = count(&h);
    assert!((50..3000).contains(&first), "{first} chips of {} tokens", text.len() / 4);
    let cut = h.state().doc.pane().cut(h.state().doc.pane().run.prompt.clone());
    let rows = h.state().jobs.ready(&CutsOf(cut)).expect("no rows");
    assert!(rows.rows.iter().all(|r| r.pieces.len() > 200_000), "all of it is cut");
    // Scrolled far down there are as few.
    let over = chips(&h, "token The")[0].center();
    h.hover_at(over);
    h.step();
    h.event(egui::Event::MouseWheel {
        unit: egui::MouseWheelUnit::Point,
        source: egui::MouseWheelSource::Unknown,
        delta: vec2(0.0, -400_000.0),
        phase: egui::TouchPhase::Move,
        modifiers: Default::default(),
    });
    settle(&mut h);
    assert!((50..3000).contains(&count(&h)), "{} chips", count(&h));
}

#[test]
fn rows_follow_the_keys_before_the_model_runs() {
    let mut h = window();
    h.state_mut().pause = Duration::from_secs(3600);
    h.get_by_label("prompt").focus();
    h.step();
    h.event(egui::Event::Text(" zebra ".into()));
    let start = Instant::now();
    let typed = |h: &Harness<'static, App>| h.query_all_by_label("token zebra").next().is_some();
    while !typed(&h) {
        h.step();
        assert!(start.elapsed() < Duration::from_secs(60), "the rows do not follow");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(!h.state().doc.pane().run.prompt.contains("zebra"), "the model runs at once");
}

#[test]
fn rows_are_chosen_and_parts_of_a_character_show_their_bytes() {
    let mut doc = cuts_only("a漢".into());
    doc.pane_mut().shows.cuts = Cuts { named: vec!["bytes", "characters"], ..Cuts::default() };
    let h = window_with(doc);
    assert!(h.query_all_by_label("r50k_base").next().is_none());
    let bytes: Vec<_> = ["token <0xE6>", "token <0xBC>", "token <0xA2>"].map(|l| chips(&h, l)[0]).to_vec();
    let whole = chips(&h, "token 漢")[0];
    assert_eq!((whole.left(), whole.right()), (bytes[0].left(), bytes[2].right()));
    assert!(bytes.windows(2).all(|w| w[0].right() == w[1].left()));
}

#[test]
fn many_scripts_have_a_glyph_for_every_character() {
    let text = "naïve 漢字テスト 한국어 简体 繁體 Ελληνικά кириллица العربية עברית हिन्दी ไทย 🚂🙂 ⏎→\n";
    let mut doc = cuts_only(text.into());
    doc.pane_mut().shows.cuts = Cuts { named: vec!["graphemes", "words"], ..Cuts::default() };
    let h = window_under(doc, egui::MissingGlyphPolicy::Panic);
    assert!(h.query_all_by_label("token 漢").next().is_some());
    // Hebrew is seen from right to left: its first letter is the rightmost.
    let (first, last) = (chips(&h, "token ע")[0], chips(&h, "token ת")[0]);
    assert!(first.left() > last.left() && first.top() == last.top(), "{first:?} {last:?}");
}

#[test]
fn a_clicked_chip_shows_its_merges_and_what_else_spells_its_word() {
    let mut h = window();
    let fox = chips(&h, "token ·fox");
    // The second row is a vocabulary of tiktoken's.
    h.hover_at(fox[1].center());
    h.drag_at(fox[1].center());
    h.drop_at(fox[1].center());
    for _ in 0..20 {
        settle(&mut h);
    }
    let labels = |h: &Harness<'static, App>, part: &str| h.query_all_by_label_contains(part).count();
    assert_eq!(labels(&h, "sequences of this vocabulary's tokens spell ·fox"), 1);
    assert!(labels(&h, "rule ") >= 2, "no merges");
    // " ", "f", "ox" are pieces of it, and the tokenizer's own way is marked.
    assert!(labels(&h, "token ox") >= 1);
    assert_eq!(h.query_all_by_label("own").count(), 1);
}

#[test]
fn a_line_that_runs_right_to_left_begins_at_the_right_in_every_row() {
    let mut doc = cuts_only("abc\nאבג\n".into());
    doc.pane_mut().shows.cuts = Cuts { named: vec!["characters", "graphemes"], ..Cuts::default() };
    let h = window_with(doc);
    let latin = chips(&h, "token c");
    let first: Vec<egui::Rect> = h.query_all_by_label("token א").map(|n| n.rect()).collect();
    let last: Vec<egui::Rect> = h.query_all_by_label("token ג").map(|n| n.rect()).collect();
    assert_eq!((first.len(), last.len()), (2, 2));
    assert!(first[0].right() > latin[0].right() + 200.0, "{first:?} {latin:?}");
    assert!(first[0].left() > last[0].left());
    assert_eq!((first[0].left(), last[0].left()), (first[1].left(), last[1].left()), "rows share their columns");
}

#[test]
fn a_broken_tokenizer_file_is_named_and_the_other_rows_stay() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokenizer.json");
    std::fs::write(&file, "{}").unwrap();
    let mut doc = cuts_only("The red fox".into());
    doc.pane_mut().shows.cuts.files = vec![file.clone(), golden().join("models/gpt2/tokenizer.json")];
    let h = window_with(doc);
    assert_eq!(h.query_all_by_label_contains("no tokenizer.json").count(), 1);
    let cut = h.state().doc.pane().cut(h.state().doc.pane().run.prompt.clone());
    let rows = h.state().jobs.ready(&CutsOf(cut)).expect("no rows");
    let names: Vec<&str> = rows.rows.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["gpt2/tokenizer.json", "r50k_base", "cl100k_base", "o200k_base", "words"]);
    assert!(chips(&h, "token ·red").len() >= 3, "the rows are gone");
}

#[test]
fn a_picture_is_cut_into_tiles_with_what_their_codes_give_back() {
    let mut doc = Doc::default();
    doc.apply(Command::Image(Some(PictureSource::test_scene(23))));
    let mut h = window_with(doc);
    // The text stays until the picture is asked for.
    assert!(chips(&h, "token ·fox").len() >= 3);
    h.get_by_label("Picture").click();
    settle(&mut h);
    // 96 pixels a side in tiles of 8.
    let tiles = h.get_by_label_contains("fsq in 144 pieces").rect();
    assert!(h.query_by_label_contains("picture of 96 by 96 pixels, what the ids give back").is_some());
    assert!(h.query_by_label_contains("picture of 96 by 96 pixels, error").is_some());
    assert!(h.query_by_label_contains("how often each id occurs, ").is_some());
    assert!(h.query_by_label_contains("PSNR").is_some());
    // The second tile of the second row.
    h.hover_at(tiles.min + tiles.size() * vec2(1.5, 1.5) / 12.0);
    (0..4).for_each(|_| settle(&mut h));
    assert!(h.query_by_label_contains("at row 1, column 1 · id ").is_some());
    // A slider's value is part of the document, and a mistake is said in words.
    h.state_mut().doc.apply(Command::Param(Kind::Segment, "patch", 16i64.into()));
    settle(&mut h);
    assert!(h.query_by_label_contains("fsq in 36 pieces").is_some());
    h.state_mut().doc.apply(Command::Param(Kind::Segment, "patch", 1i64.into()));
    settle(&mut h);
    assert!(h.query_all_by_label_contains("5 levels for 3 values of a patch").next().is_some());
    h.state_mut().doc.apply(Command::Method("patch_grid"));
    settle(&mut h);
    assert!(h.query_by_label_contains("patch_grid in 36 pieces").is_some());
}

#[test]
fn a_series_is_cut_into_windows_and_a_broken_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wave.csv");
    let text: String = (0..1024).map(|i| format!("{}\n", (f64::from(i) * 0.3).sin())).collect();
    std::fs::write(&file, &text).unwrap();
    let mut h = window();
    h.state_mut().doc.apply(Command::Series(Some(SeriesSource::file(file.clone()))));
    settle(&mut h);
    let windows = h.get_by_label_contains("lipcot in 4 pieces").rect();
    h.hover_at(windows.min + windows.size() * vec2(0.3, 0.3));
    (0..4).for_each(|_| settle(&mut h));
    assert!(h.query_by_label_contains("at window 1 · token ").is_some());
    assert!(h.query_by_label_contains("spectra of the tokens, ").is_some());
    // Back to the text, and without the series there is nothing to choose.
    h.get_by_label("Text").click();
    settle(&mut h);
    assert!(chips(&h, "token ·fox").len() >= 3);
    h.state_mut().doc.apply(Command::Series(None));
    settle(&mut h);
    assert!(h.query_by_label("Text").is_none());
    std::fs::write(&file, "volt\n1\nNaN\n").unwrap();
    h.state_mut().doc.apply(Command::Series(Some(SeriesSource::File {
        path: file,
        column: Some("volt".into()),
        rate: None,
    })));
    settle(&mut h);
    let said = h.query_all_by_label_contains("line 3, column volt: NaN is not a finite number").next();
    assert!(said.is_some_and(|n| format!("{n:?}").contains("wave.csv")));
}
