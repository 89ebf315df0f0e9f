//! What a frame with a large draft tree takes, on one thread: laying out, painting, tessellating. 256 nodes are to take
//! at most 2 ms.

use egui::{RawInput, Rect, vec2};
use std::sync::Arc;
use std::time::Instant;
use tokenscope_analysis::finding::{Class, Look, Measure, Tree, TreeNode};
use tokenscope_app::cx::{Cx, Sheet};
use tokenscope_app::jobs::Jobs;
use tokenscope_app::pictures::{Held, tree};
use tokenscope_app::state::Doc;
use tokenscope_app::theme::{ColorMap, Theme};

const FRAMES: usize = 200;

/// A tree whose nodes have `width` children each, one path of it accepted.
fn grown(n: usize, width: usize) -> Tree {
    let node = |i: usize| TreeNode {
        parent: i.checked_sub(1).map(|j| j / width),
        label: format!(" word{}", i % 37),
        id: Some(i as u32 % 37),
        position: Some(i),
        values: vec![Some(0.5), Some(1.0 / (1 + i % width) as f32 / 2.0), Some(0.5)],
        state: if i > 0 && (i - 1).is_multiple_of(width) { 1 } else { usize::from(i > 0) * 2 },
    };
    Tree {
        title: "draft tree".into(),
        nodes: (0..n).map(node).collect(),
        measures: ["draft", "target", "accept"].map(|name| Measure::new(name, "probability")).to_vec(),
        states: vec![
            Class::new("start", "", Look::Plain),
            Class::new("accepted", "", Look::Good),
            Class::new("never looked at", "", Look::Quiet),
        ],
    }
}

fn main() {
    let (doc, jobs) = (Doc::default(), Jobs::new(|| ()));
    for (dark, folded) in [(false, true), (true, true), (false, false)] {
        let theme = Theme::new(dark, ColorMap::default());
        for (n, width) in [(16, 2), (256, 2), (256, 3), (256, 8)] {
            let tree = Arc::new(grown(n, width));
            let held: Held = tree.clone();
            let ctx = egui::Context::default();
            theme.install(&ctx);
            // All of it is seen where nothing is folded.
            let size = vec2(900.0, if folded { 800.0 } else { 8000.0 });
            let mut times = Vec::new();
            for frame in 0..FRAMES {
                let start = Instant::now();
                let screen_rect = Some(Rect::from_min_size(egui::Pos2::ZERO, size));
                let input = RawInput { screen_rect, time: Some(frame as f64 / 60.0), ..Default::default() };
                let sheet = Sheet::default();
                let out = ctx.run_ui(input, |ui| {
                    let cx = Cx { figure: false, ..sheet.cx(&doc, &jobs, &theme) };
                    tree::ui(&cx, ui, &tree, &held);
                });
                let shapes = ctx.tessellate(out.shapes, out.pixels_per_point);
                assert!(!shapes.is_empty(), "nothing is drawn");
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            // The first frames make fonts and layouts.
            let times = &mut times[FRAMES / 4..];
            times.sort_by(f64::total_cmp);
            let (median, slow) = (times[times.len() / 2], times[times.len() * 95 / 100]);
            let how = if folded { "folded" } else { "whole" };
            println!("{n:>4} nodes, {width} below each, {how:<6}: {median:.2} ms a frame, 95 of 100 below {slow:.2}");
        }
    }
}
