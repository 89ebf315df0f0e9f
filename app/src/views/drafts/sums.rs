//! What a decode amounts to: its figures, acceptance by depth, and whether the text is the target's own.

use crate::cx::Cx;
use crate::pictures::{self, Held, plot};
use crate::work::{Drafted, Times};
use egui::Ui;
use std::sync::Arc;
use tokenscope_analysis::decode::pace::TIMED;
use tokenscope_analysis::finding::{Axis, Figure, Measure, Plot, Series, Style};

/// What all rounds amount to: figures, those of time first, and acceptance by depth.
type Sums = ((Vec<Figure>, Vec<Figure>), Vec<(usize, usize)>);

pub(super) fn ui(cx: &Cx, ui: &mut Ui, d: &Arc<Drafted>, times: &Option<Times>) {
    let known = times.or(d.times);
    let held: Held = d.clone();
    // Rounds may be thousands.
    let sums: Arc<Sums> = pictures::kept(ui, "sums of the rounds", &held, known, || {
        let all = d.run.figures(known.as_ref().map(|t| &t.pace));
        (all.into_iter().partition(|f| TIMED.contains(&f.name.as_ref())), d.run.accepted_by_depth())
    });
    let ((timed, counted), depths) = &*sums;
    pictures::figures_ui(ui, counted);
    if times.is_some() {
        speed_ui(ui, timed);
    }
    match times {
        Some(t) if !t.alone => drop(ui.small("Other views computed meanwhile, so the speed-up may read low.")),
        None if !cx.figure && d.times.is_some() => drop(ui.weak("speed-up: taken when nothing else computes")),
        _ => {}
    }
    depths_ui(cx, ui, depths);
    // While it goes on, nothing was compared.
    if d.times.is_some() {
        lossless_ui(cx, ui, d);
    }
}

/// What is measured in time, each with its definition under the pointer.
fn speed_ui(ui: &mut Ui, figures: &[Figure]) {
    let of = |name: &str| figures.iter().find(|f| f.name == name).map_or("–".to_string(), Figure::words);
    let meanings: Vec<String> = figures.iter().map(|f| format!("{}: {}", f.name, f.meaning)).collect();
    let tip = meanings.join("\n");
    ui.label(format!("speed-up expected {}×, measured {}×", of("expected speed-up"), of("measured speed-up")))
        .on_hover_text(&tip);
    ui.label(format!(
        "speed-up from c {} · draft {} · verify {} · bookkeeping {}",
        of("draft cost ratio"),
        of("time drafting"),
        of("time verifying"),
        of("time bookkeeping")
    ))
    .on_hover_text(&tip);
}

fn lossless_ui(cx: &Cx, ui: &mut Ui, d: &Drafted) {
    match &d.run.lossless {
        Some((ok, words)) => {
            let (mark, color) =
                if *ok { ("✔ lossless:", cx.theme.good) } else { ("✖ not lossless:", cx.theme.bad) };
            ui.colored_label(color, format!("{mark} {words}")).on_hover_text(
                "At temperature 0 the decode must give what the target alone would; both texts are compared id by id.",
            );
        }
        None if !d.run.strayed.is_empty() => {
            let mean = d.run.strayed.iter().sum::<f64>() / d.run.strayed.len() as f64;
            ui.colored_label(cx.theme.bad, format!("✖ not lossless: strays by {mean:.3}")).on_hover_text(
                "Total-variation distance between the first token of a round and the target's own, for the guesses of that \
                 round, mean over rounds. At temperature 0 it is 0: the text is the target's.",
            );
        }
        None => drop(ui.small("sampled: lossless in distribution, which many decodes show and one cannot")),
    }
}

/// Bars of the accepted share by depth.
fn depths_ui(cx: &Cx, ui: &mut Ui, all: &[(usize, usize)]) {
    // Bars as wide as their numbers.
    let fit = ((ui.available_width() - 90.0) / 34.0) as usize;
    let deepest = all.len().min(16).min(fit.max(4));
    if deepest == 0 {
        return;
    }
    ui.small("accepted by depth")
        .on_hover_text("Share of the rounds with a draft of this depth in which one was accepted");
    let points = (1..=deepest).map(|depth| {
        let (hit, deep) = all[depth - 1];
        [depth as f64, 100.0 * hit as f64 / deep.max(1) as f64]
    });
    let bars = Series::new("accepted", Style::Bars, points.collect());
    let x = Axis::Number(Measure::new("depth", ""));
    let plot = Plot::new("accepted by depth", x, Measure::new("accepted", "% of rounds"), vec![bars]);
    let size = plot::Size { width: 90.0 + 34.0 * deepest as f32, height: 110.0, bare: false };
    plot::sized(cx, ui, &plot, size);
}
