//! Each shape of a picture: drawn in figures, light and dark, and told to a screen reader.

use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::sync::Arc;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::finding::*;
use tokenscope_app::cx::{Cx, Sheet};
use tokenscope_app::export::{Page, draw_with};
use tokenscope_app::jobs::Jobs;
use tokenscope_app::pictures::{self, Held, On};
use tokenscope_app::state::Doc;
use tokenscope_app::theme::{ColorMap, Theme};

/// A picture of each shape, with words that must stand in its figure and words for a screen reader.
fn samples() -> Vec<(Picture, &'static str, &'static str)> {
    let grid = Unit::Cells(CellGrid { rows: 4, cols: 6, area: None });
    let share = Measure::new("attention", "share");
    let wave = |i: usize| (i as f32 * 0.7).sin().abs();
    let heat = Heat {
        errors: (0..8).map(|i| 0.02 * i as f32).collect(),
        ..Heat::new("entropy", Unit::Layers, Measure::new("entropy", "nats"), (0..8).map(|i| Some(wave(i))).collect())
    };
    let heads = Unit::Heads { per_layer: 6 };
    let heads = Heat::new("heads", heads, share, (0..24).map(|i| Some(wave(i))).collect());
    let classes = Class::categories(["sky", "sea", "sand"]);
    let classes = Classes::new("regions", grid, classes, (0..24).map(|i| Some(i / 8)).collect());
    let fate = |i: usize| match i % 5 {
        0 => Fate::Dropped,
        1 => Fate::Merged(i / 5),
        _ => Fate::Kept,
    };
    let stages = vec![FateStage::new("after layer 2", Some(3), (0..20).map(fate).collect())];
    let fates = Fates { title: "merging".into(), unit: Unit::Positions, measure: None, stages };
    let piece = |i: usize| Piece {
        span: Span::Range(i * 10, i * 10 + 10),
        id: Some((i % 5) as u32),
        text: format!("c{}", i % 5),
        class: None,
        value: None,
    };
    let pieces = (0..10).map(piece).collect();
    let cuts = Cuts { title: "codes".into(), unit: Unit::Samples, len: 100, pieces, classes: vec![], measure: None };
    let cells = (0..12 * 16).map(|i| if i % 16 > i / 16 + 4 { f32::NAN } else { wave(i) }).collect();
    let matrix = Matrix::dense("cache", Unit::Steps, Unit::Positions, share, Array::new([12, 16], cells).unwrap());
    let level = |name: &str, h| Level { name: name.into(), unit: Unit::Positions, n: 12, height: h, aside: 0.0 };
    let edge = |i: u32| Link {
        from: LinkEnd { level: i % 3, at: i * 5 % 12 },
        to: LinkEnd { level: i % 3 + 1, at: (i * 5 + 2) % 12 },
        weight: wave(i as usize),
    };
    let levels = vec![level("in", 0.0), level("L0", 1.0), level("L1", 2.0), level("L2", 3.0)];
    let links = Links::new("routes", levels, share, (0..30).map(edge).collect());
    let node = |(i, parent): (usize, Option<usize>)| TreeNode {
        parent,
        label: format!("word{i}"),
        id: None,
        position: None,
        values: vec![Some(wave(i))],
        state: if i == 0 { 0 } else { 1 + i % 3 },
    };
    let parents = [None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(3)];
    let tree = Tree {
        title: "search".into(),
        nodes: parents.into_iter().enumerate().map(node).collect(),
        measures: vec![Measure::new("score", "")],
        states: vec![
            Class::new("root", "", Look::Plain),
            Class::new("kept", "", Look::Good),
            Class::new("pruned", "", Look::Bad),
            Class::new("never seen", "", Look::Quiet),
        ],
    };
    let cell = |i: usize| TimeCell {
        step: i / 10,
        position: i % 10,
        id: None,
        text: if i % 10 <= i / 10 * 2 { "word".into() } else { "▒".into() },
        confidence: Some(wave(i)),
        why: "".into(),
        state: usize::from(i % 10 <= i / 10 * 2),
    };
    let timeline = Timeline {
        title: "denoising".into(),
        steps: Unit::Steps,
        n_steps: 5,
        places: Unit::Positions,
        n_places: 10,
        measure: Measure::new("confidence", "probability"),
        states: vec![Class::new("masked", "", Look::Quiet), Class::new("written", "", Look::Good)],
        cells: (0..50).map(cell).collect(),
    };
    let line = |name: &'static str, f: f64| {
        Series::new(name, Style::Line, (1..9).map(|i| [f64::from(i), f / f64::from(i)]).collect())
    };
    let floor = Series { role: SeriesRole::Floor, ..line("random", 3.0) };
    let steps = Series { style: Style::Step, ..line("schedule", 5.0) };
    let plot = Plot::new(
        "zipf",
        Axis::Number(Measure::new("rank", "")),
        Measure::new("count", ""),
        vec![line("words", 8.0), floor, steps],
    );
    let plot = Plot { marks: vec![(4.0, "budget".into())], ..plot };
    let values: Vec<f32> = (0..32 * 24).map(|i| wave(i % 32) * wave(i / 32)).collect();
    let region = |outline, label: &str, class| Region { outline, label: label.into(), class: Some(class), value: None };
    let image = Image {
        regions: vec![
            region(Outline::Rect([3.0, 3.0, 8.0, 6.0]), "box", 0),
            region(Outline::Ellipse { at: [20.0, 14.0], radii: [6.0, 3.0], turn: 0.5 }, "blob", 1),
            region(Outline::Point([28.0, 4.0]), "point", 0),
        ],
        classes: Class::categories(["object", "part"]),
        ..Image::new("error", [32, 24], Raster::Values(values.into(), Measure::new("error", "")))
    };
    let mut table = Table::new(&["method", "tokens"]).titled("costs");
    table.rows = (0..4).map(|i| vec![format!("cut {i}").into(), (i * 7).into()]).collect();
    vec![
        (heat.into(), "entropy (nats)", "entropy, entropy: layer 0"),
        (heads.into(), "L3", "4 layers by 6 items"),
        (classes.into(), "8 sea", "24 cells in 3 classes"),
        (fates.into(), "4 dropped, crossed out", "4 merged into 4, one colour a group"),
        (cuts.into(), "100 samples", "10 pieces of 100 samples"),
        (matrix.unwrap().into(), "attention (share)", "12 steps by 16 positions"),
        (links.into(), "width: share", "flow lattice, 12 columns by 4 levels"),
        (tree.into(), "word3", "search of 6 nodes, 2 kept"),
        (timeline.into(), "word", "timeline of 5 steps by 10 places"),
        (plot.into(), "random", "zipf, words: rank 1 8"),
        (image.into(), "2 object", "picture with 3 regions"),
        (table.into(), "cut 3", "cut 3"),
    ]
}

#[test]
fn every_shape_is_drawn_with_its_legend_in_light_and_dark_and_on_paper() {
    let (jobs, dir) = (Jobs::new(|| {}), std::env::var_os("PICTURES_TO_LOOK_AT"));
    for (i, (picture, words, _)) in samples().into_iter().enumerate() {
        picture.check().unwrap();
        picture.table().check().unwrap();
        let held: Held = Arc::new(());
        for (dark, print) in [(false, false), (true, false), (false, true)] {
            let mut doc = Doc::default();
            doc.look.dark = dark;
            let page = if print { Page::paper(85.0, 60.0, 2.0) } else { Page::screen(egui::vec2(560.0, 400.0), 1.5) };
            let draw = |cx: &Cx, ui: &mut egui::Ui| pictures::ui(cx, ui, &On::default(), &picture, &held);
            let figure = draw_with(&draw, true, &doc, &jobs, &page).unwrap();
            let svg = figure.svg_text();
            assert!(svg.contains(&format!("{words}<")), "{} lacks {words}:\n{svg}", picture.name());
            let png = figure.png(1.5).unwrap();
            if let Some(dir) = &dir {
                let name = format!("{i:02}-{}-{dark}-{print}.png", picture.name());
                std::fs::write(std::path::Path::new(dir).join(name), png).unwrap();
            }
        }
    }
}

#[test]
fn every_shape_is_told_to_a_screen_reader() {
    for (picture, _, words) in samples() {
        let (jobs, doc, held) = (Jobs::new(|| {}), Doc::default(), Arc::new(()) as Held);
        let theme = Theme::new(false, ColorMap::default());
        let name = picture.name();
        let draw = move |ui: &mut egui::Ui| {
            let sheet = Sheet::default();
            let cx = Cx { at: 0, figure: false, ..sheet.cx(&doc, &jobs, &theme) };
            pictures::ui(&cx, ui, &On::default(), &picture, &held);
        };
        let setup = |ctx: &egui::Context| Theme::new(false, ColorMap::default()).install(ctx);
        let mut h = Harness::builder().with_size(egui::vec2(600.0, 500.0)).with_context_setup(setup).build_ui(draw);
        h.run_steps(3);
        assert!(h.query_all_by_label_contains(words).next().is_some(), "{name} does not say {words}");
    }
}

#[test]
fn a_difference_of_two_pictures_is_drawn_like_any_other() {
    let jobs = Jobs::new(|| {});
    let held: Held = Arc::new(());
    for (picture, ..) in samples() {
        let difference = picture.minus(&picture).unwrap();
        difference.check().unwrap();
        let draw = |cx: &Cx, ui: &mut egui::Ui| pictures::ui(cx, ui, &On::default(), &difference, &held);
        let page = Page::screen(egui::vec2(560.0, 400.0), 1.0);
        draw_with(&draw, true, &Doc::default(), &jobs, &page).unwrap();
    }
}
