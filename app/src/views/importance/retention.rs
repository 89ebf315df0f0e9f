//! How close a reduced model stays to the full one at every budget, for several methods at once.

use super::super::{Cx, widgets};
use crate::jobs::{Spot, Status};
use crate::keys::Call;
use crate::state::{Command, Measure};
use crate::work::{ReducedOf, RetentionOf};
use egui::{Color32, Sense, Shape, Stroke, Ui, pos2, vec2};
use egui_plot::{AxisHints, Line, LineStyle, MarkerShape, Plot, PlotPoints, Points, VLine};
use std::sync::Arc;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Domain, Info, Kind, Params, Role};
use tokenscope_analysis::reduce::budget::{Retained, SEEDS};

/// A curve and what it belongs to.
type Curve = (&'static Info, usize, Arc<Vec<Retained>>);

fn asked(cx: &Cx, info: &Info) -> RetentionOf {
    // The chosen method keeps its other parameters; the rest have their defaults.
    let chosen = cx.doc.call(Kind::Reduce);
    let call = if chosen.method == info.id { chosen } else { Call::new(info.id, &Params::new()) };
    RetentionOf(ReducedOf { scope: cx.doc.scope(), call })
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui) {
    if cx.recorded() {
        ui.weak("A recorded run has no weights, so no reduced model can be run. Open the model itself.");
        return;
    }
    let all: Vec<&'static Info> = catalog::of(Kind::Reduce).collect();
    if !cx.figure {
        ui.horizontal_wrapped(|ui| {
            for info in all.iter().filter(|i| i.budget.is_some()) {
                let mut on = cx.doc.curves.iter().any(|c| c == info.id);
                let lacks = cx.lacks(info);
                let r = ui.add_enabled(lacks.is_none(), egui::Checkbox::new(&mut on, info.title));
                let r = r.on_hover_text(info.summary);
                if r.changed() {
                    let mut curves = cx.doc.curves.clone();
                    curves.retain(|c| c != info.id);
                    if on {
                        curves.push(info.id.into());
                    }
                    cx.send(Command::Curves(curves));
                }
                if let Some(why) = lacks {
                    r.on_disabled_hover_text(why);
                }
            }
        });
    }
    let mut curves: Vec<Curve> = Vec::new();
    for (i, info) in all.into_iter().enumerate() {
        if !cx.doc.curves.iter().any(|c| c == info.id) || cx.lacks(info).is_some() {
            continue;
        }
        match cx.jobs.need(spot(info), &asked(cx, info)) {
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
        if cx.doc.curves.is_empty() {
            ui.weak("Choose methods to compare.");
        }
        return;
    }
    let logits = curves.iter().flat_map(|c| c.2.iter()).any(|p| p.kl.is_some());
    if logits && !cx.figure {
        ui.horizontal(|ui| {
            for (m, name, tip) in [
                (Measure::Kl, "KL", "Kullback–Leibler divergence of the next-token distribution from the full model's"),
                (Measure::Top1, "top-1", "Share of runs that prefer the same next token as the full model"),
            ] {
                if ui.selectable_label(cx.doc.measure == m, name).on_hover_text(tip).clicked() {
                    cx.send(Command::Measure(m));
                }
            }
        });
    }
    plot_ui(cx, ui, &curves, logits);
    curves.iter().for_each(|c| cx.notes_ui(ui, spot(c.0)));
}

/// Where the curve of a method is shown.
fn spot(info: &Info) -> Spot {
    Spot::part("retention", info.id)
}

fn plot_ui(cx: &Cx, ui: &mut Ui, curves: &[Curve], logits: bool) {
    let (axis, value): (&str, fn(&Retained) -> Option<f64>) = match (logits, cx.doc.measure) {
        (true, Measure::Kl) => ("KL to the full output (nats)", |p| p.kl),
        (true, Measure::Top1) => ("same most probable token", |p| p.top1),
        (false, _) => ("cosine to the full embedding", |p| p.cosine),
    };
    let now = cx.ready(&super::reduction::asked(cx)).map(|p| p.kept);
    // Above and not inside, where it would lie on the points of a narrow plot.
    legend_ui(cx, ui, curves, now.is_some());
    let plot = Plot::new("retention")
        .height(200.0)
        .width(ui.available_width().min(520.0))
        .custom_x_axes(vec![AxisHints::new_x().label("share of the tokens kept").label_spacing(22.0..=26.0)])
        .custom_y_axes(vec![AxisHints::new_y().label(axis).label_spacing(12.0..=14.0)])
        .include_x(0.0)
        .include_x(1.0)
        .include_y(0.0)
        .allow_drag(false)
        .allow_scroll(false)
        .allow_zoom(false)
        .allow_boxed_zoom(false)
        .set_margin_fraction(vec2(0.02, 0.08));
    let drawn = plot.show(ui, |plot| {
        for (info, i, points) in curves {
            let at: Vec<[f64; 2]> = points.iter().filter_map(|p| Some([p.kept, value(p)?])).collect();
            let Look { color, style, marker, width } = look(cx, info, *i);
            let name = title(info);
            plot.line(Line::new(name.clone(), PlotPoints::from(at.clone())).color(color).style(style).width(width));
            plot.points(Points::new(name, PlotPoints::from(at)).color(color).radius(3.5).shape(marker));
        }
        if let Some(x) = now {
            plot.vline(VLine::new("chosen budget", x).color(cx.theme.accent).width(1.0));
        }
    });
    let list: Vec<String> =
        curves.iter().map(|(info, _, points)| format!("{}: {}", info.title, words(points))).collect();
    let label = format!("retention curves, {}", list.join("; "));
    drawn.response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
}

/// How a curve is drawn.
struct Look {
    color: Color32,
    style: LineStyle,
    marker: MarkerShape,
    width: f32,
}

/// The floor is drawn without colour, every published method with one and a marker of its own.
fn look(cx: &Cx, info: &Info, i: usize) -> Look {
    const MARKERS: [MarkerShape; 4] = [MarkerShape::Circle, MarkerShape::Square, MarkerShape::Diamond, MarkerShape::Up];
    match info.role {
        Role::Floor if drawn(info) => {
            Look { color: cx.theme.weak, style: LineStyle::dashed_dense(), marker: MarkerShape::Cross, width: 1.5 }
        }
        Role::Floor => Look { color: cx.theme.text, style: LineStyle::Solid, marker: MarkerShape::Plus, width: 1.0 },
        _ => Look { color: cx.theme.curve(i), style: LineStyle::Solid, marker: MARKERS[i % 4], width: 2.0 },
    }
}

/// Whether chance decides, so that several draws are averaged.
fn drawn(info: &Info) -> bool {
    info.params.iter().any(|p| p.domain == Domain::Seed)
}

fn title(info: &Info) -> String {
    if drawn(info) { format!("{} (mean of {SEEDS})", info.title) } else { info.title.into() }
}

/// What each line of the plot is.
fn legend_ui(cx: &Cx, ui: &mut Ui, curves: &[Curve], budget: bool) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(4.0, 2.0);
        // A sample and its words stay together: the row breaks before them.
        let entry = |ui: &mut Ui, words: &str, sample: &dyn Fn(&Ui, egui::Rect)| {
            let font = egui::TextStyle::Small.resolve(ui.style());
            let galley = ui.painter().layout_no_wrap(words.to_string(), font, cx.theme.text);
            let (rect, response) = ui.allocate_exact_size(vec2(34.0 + galley.size().x, 14.0), Sense::hover());
            sample(ui, egui::Rect::from_min_size(rect.min, vec2(26.0, 14.0)));
            let at = pos2(rect.left() + 30.0, rect.center().y - galley.size().y / 2.0);
            ui.painter().galley(at, galley, cx.theme.text);
            response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, words));
        };
        for (info, i, _) in curves {
            let look = look(cx, info, *i);
            entry(ui, &title(info), &|ui, rect| sample_ui(ui, rect, &look));
        }
        if budget {
            entry(ui, "chosen budget", &|ui, rect| {
                ui.painter().vline(rect.center().x, rect.y_range(), Stroke::new(1.0, cx.theme.accent));
            });
        }
    });
}

/// A piece of a curve with a marker in its middle.
fn sample_ui(ui: &Ui, rect: egui::Rect, look: &Look) {
    let (painter, c, r) = (ui.painter(), rect.center(), 3.5);
    let (stroke, line) = (Stroke::new(look.width, look.color), [rect.left_center(), rect.right_center()]);
    match look.style {
        LineStyle::Dashed { .. } => painter.extend(Shape::dashed_line(&line, stroke, 5.0, 3.0)),
        LineStyle::Dotted { .. } => painter.extend(Shape::dotted_line(&line, look.color, 4.0, 1.0)),
        LineStyle::Solid => {
            painter.line_segment(line, stroke);
        }
    }
    let polygon = |at: &[[f32; 2]]| {
        let points = at.iter().map(|[x, y]| c + r * vec2(*x, *y)).collect();
        painter.add(Shape::convex_polygon(points, look.color, Stroke::NONE));
    };
    let cross = |at: [[f32; 2]; 2]| {
        for [x, y] in at {
            painter.line_segment([c + r * vec2(x, y), c - r * vec2(x, y)], Stroke::new(1.5, look.color));
        }
    };
    match look.marker {
        MarkerShape::Square => polygon(&[[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]]),
        MarkerShape::Diamond => polygon(&[[0.0, -1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]),
        MarkerShape::Up => polygon(&[[0.0, -1.0], [0.87, 0.5], [-0.87, 0.5]]),
        MarkerShape::Cross => cross([[0.7, 0.7], [0.7, -0.7]]),
        MarkerShape::Plus => cross([[1.0, 0.0], [0.0, 1.0]]),
        _ => drop(painter.circle_filled(c, r, look.color)),
    }
}

/// The points of every curve that is there: method, kept share, KL, top-1, cosine.
pub(super) fn points(cx: &Cx) -> Vec<(&'static str, Retained)> {
    let chosen = catalog::of(Kind::Reduce).filter(|i| cx.doc.curves.iter().any(|c| c == i.id));
    let mut out = Vec::new();
    for info in chosen {
        if let Some(c) = cx.ready(&asked(cx, info)) {
            out.extend(c.iter().map(|p| (info.id, *p)));
        }
    }
    out
}

/// A curve in words, for a screen reader.
fn words(points: &[Retained]) -> String {
    let list: Vec<String> = points
        .iter()
        .map(|p| {
            let v = p.kl.or(p.cosine).map_or("no value".into(), |v| widgets::number(v as f32));
            format!("{:.0}%: {v}", p.kept * 100.0)
        })
        .collect();
    list.join(", ")
}
