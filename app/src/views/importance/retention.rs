//! How close a reduced model stays to the full one at every budget, for several methods at once.

use super::several;
use crate::cx::Cx;
use crate::jobs::{Spot, Status};
use crate::keys::Call;
use crate::pane;
use crate::pictures::{On, plot};
use crate::work::{ReducedOf, RetentionOf, Serves as _};
use egui::Ui;
use std::sync::Arc;
use tokenscope_analysis::catalog;
use tokenscope_analysis::finding::{Axis, Measure, Plot, Series, SeriesRole, Style};
use tokenscope_analysis::method::{Domain, Info, Kind, Role};
use tokenscope_analysis::reduce::budget::{Retained, SEEDS};

/// A curve and what it belongs to.
type Curve = (&'static Info, usize, Arc<Vec<Retained>>);

/// A method with the parameters that it has here.
pub(super) fn reduced(cx: &Cx, info: &Info) -> ReducedOf {
    // The chosen method keeps its other parameters; the rest have their defaults.
    let chosen = cx.pane.call(Kind::Reduce);
    let call = if chosen.method == info.id { chosen } else { Call::of(info) };
    ReducedOf::of(cx.pane, call)
}

fn asked(cx: &Cx, info: &Info) -> RetentionOf {
    RetentionOf(reduced(cx, info))
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui, on: &On) {
    if cx.recorded() {
        ui.weak("A recorded run has no weights, so no reduced model can be run. Open the model itself.");
        return;
    }
    let all: Vec<&'static Info> = catalog::of(Kind::Reduce).collect();
    if !cx.figure {
        ui.horizontal_wrapped(|ui| {
            for info in all.iter().filter(|i| i.budget.is_some()) {
                let mut on = cx.pane.shows.curves.contains(&info.id);
                let lacks = cx.lacks(info);
                let r = ui.add_enabled(lacks.is_none(), egui::Checkbox::new(&mut on, info.title));
                let r = r.on_hover_text(info.summary);
                if r.changed() {
                    let mut curves = cx.pane.shows.curves.clone();
                    curves.retain(|c| *c != info.id);
                    if on {
                        curves.push(info.id);
                    }
                    cx.set("retention curves", move |p| p.shows.curves.clone_from(&curves));
                }
                if let Some(why) = lacks {
                    r.on_disabled_hover_text(why);
                }
            }
        });
    }
    let mut curves: Vec<Curve> = Vec::new();
    for (i, info) in all.into_iter().enumerate() {
        if !cx.pane.shows.curves.contains(&info.id) || cx.lacks(info).is_some() {
            continue;
        }
        match cx.status(spot(info), &asked(cx, info)) {
            Status::Ready(c) => curves.push((info, i, c)),
            Status::Running(done, _) | Status::Partly(done, _) => {
                ui.horizontal(|ui| {
                    ui.add(egui::ProgressBar::new(done).desired_width(80.0).desired_height(3.0));
                    ui.small(format!("{} at every budget", info.title));
                });
            }
            Status::Failed(why) => {
                cx.failed.borrow_mut().get_or_insert_with(|| why.to_string());
                ui.colored_label(cx.theme.bad, format!("{}: {why}", info.title));
            }
        }
    }
    if curves.is_empty() {
        if cx.pane.shows.curves.is_empty() {
            ui.weak("Choose methods to compare.");
        }
        super::leaderboard::ui(cx, ui);
        return;
    }
    let logits = curves.iter().flat_map(|c| c.2.iter()).any(|p| p.kl.is_some());
    if logits && !cx.figure {
        ui.horizontal(|ui| {
            for (m, name, tip) in [
                (
                    pane::Measure::Kl,
                    "KL",
                    "Kullback–Leibler divergence of the next-token distribution from the full model's",
                ),
                (pane::Measure::Top1, "top-1", "Share of runs that prefer the same next token as the full model"),
            ] {
                if ui.selectable_label(cx.pane.shows.measure == m, name).on_hover_text(tip).clicked() {
                    cx.set("retention curves", move |p| p.shows.measure = m);
                }
            }
        });
    }
    plot_ui(cx, ui, &curves, logits);
    curves.iter().for_each(|c| cx.notes_ui(ui, spot(c.0)));
    super::leaderboard::ui(cx, ui);
    several::ui(cx, ui, on);
}

/// Where the curve of a method is shown.
fn spot(info: &Info) -> Spot {
    Spot::part("retention", info.id)
}

fn plot_ui(cx: &Cx, ui: &mut Ui, curves: &[Curve], logits: bool) {
    let (y, value): (Measure, fn(&Retained) -> Option<f64>) = match (logits, cx.pane.shows.measure) {
        (true, pane::Measure::Kl) => (Measure::new("KL to the full output", "nats"), |p| p.kl),
        (true, pane::Measure::Top1) => (Measure::new("same most probable token", "share of runs"), |p| p.top1),
        (false, _) => (Measure::new("cosine to the full embedding", ""), |p| p.cosine),
    };
    let now = cx.ready(&super::reduction::asked(cx)).map(|p| p.kept);
    let series = curves.iter().map(|(info, i, points)| {
        let role = if info.role == Role::Floor { SeriesRole::Floor } else { SeriesRole::Main };
        let points = points.iter().filter_map(|p| Some([p.kept, value(p)?])).collect();
        Series { role, look: Some(*i), ..Series::new(title(info), Style::Line, points) }
    });
    let x = Axis::Number(Measure::new("share of the tokens kept", ""));
    let mut plot = Plot::new("retention curves", x, y, series.collect());
    plot.marks.extend(now.map(|x| (x, "chosen budget".into())));
    plot::ui(cx, ui, &plot);
}

/// Whether chance decides, so that several draws are averaged.
fn drawn(info: &Info) -> bool {
    info.params.iter().any(|p| p.domain == Domain::Seed)
}

fn title(info: &Info) -> String {
    if drawn(info) { format!("{} (mean of {SEEDS})", info.title) } else { info.title.into() }
}

/// The points of every curve that is there: method, kept share, KL, top-1, cosine.
pub(super) fn points(cx: &Cx) -> Vec<(&'static str, Retained)> {
    let chosen = catalog::of(Kind::Reduce).filter(|i| cx.pane.shows.curves.contains(&i.id));
    let mut out = Vec::new();
    for info in chosen {
        if let Some(c) = cx.ready(&asked(cx, info)) {
            out.extend(c.iter().map(|p| (info.id, *p)));
        }
    }
    out
}
