//! What the ids of a cut are worth: figures, how often each occurs, and what the method shows of its codebook.

use crate::cx::Cx;
use crate::work::Cut;
use egui::{Ui, vec2};
use egui_plot::{AxisHints, Bar, BarChart, Legend, Line, Plot, PlotPoints, Points};
use tokenscope_analysis::finding::{self, Figure, Picture, Style};

/// Plots stand side by side where each has this width.
const WIDE: f32 = 300.0;

pub(super) fn figures_ui(ui: &mut Ui, figures: &[Figure]) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 12.0;
        // A figure stays on one line, or its number would be taken for another's.
        ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Extend);
        for f in figures {
            ui.small(format!("{} {}", f.name, f.words())).on_hover_text(f.meaning.as_ref());
        }
    });
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui, cut: &Cut) {
    let plots: Vec<&finding::Plot> = cut
        .found
        .pictures
        .iter()
        .filter_map(|p| if let Picture::Plot(p) = p { Some(p) } else { None })
        // The samples stand above already.
        .filter(|p| p.title != "samples")
        .collect();
    columns(ui, plots.len(), WIDE, |ui, i, width| {
        ui.small(&plots[i].title);
        // The last number of the axis stands half beyond it.
        plot_ui(cx, ui, plots[i], i, width - 14.0);
    });
}

/// `n` things side by side, as many in a row as have `narrow` points each; `add` is told which, and its width.
pub(super) fn columns(ui: &mut Ui, n: usize, narrow: f32, mut add: impl FnMut(&mut Ui, usize, f32)) {
    let gap = ui.spacing().item_spacing.x;
    let across = (((ui.available_width() + gap) / (narrow + gap)) as usize).clamp(1, n.max(1));
    let width = ((ui.available_width() + gap) / across as f32 - gap).max(16.0);
    for row in (0..n).step_by(across) {
        ui.horizontal_top(|ui| {
            for i in row..(row + across).min(n) {
                ui.vertical(|ui| {
                    ui.set_width(width);
                    add(ui, i, width);
                });
            }
        });
    }
}

fn plot_ui(cx: &Cx, ui: &mut Ui, plot: &finding::Plot, number: usize, width: f32) {
    let drawn = Plot::new(("codes", number))
        .height(150.0)
        .width(width)
        .custom_x_axes(vec![AxisHints::new_x().label(plot.x.words()).label_spacing(22.0..=26.0)])
        .custom_y_axes(vec![AxisHints::new_y().label(plot.y.words()).label_spacing(12.0..=14.0)])
        .allow_drag(false)
        .allow_scroll(false)
        .allow_zoom(false)
        .allow_boxed_zoom(false)
        .set_margin_fraction(vec2(0.02, 0.08));
    // A logarithmic axis is one of logarithms, with the numbers themselves at its marks.
    let place = |p: &[f64; 2]| [0, 1].map(|k| if plot.log[k] { p[k].log10() } else { p[k] });
    let power = |v: f64| match v.fract().abs() < 1e-6 {
        true => format!("{}", 10f64.powf(v)),
        false => String::new(),
    };
    let drawn = if plot.log[0] { drawn.x_axis_formatter(move |m, _| power(m.value)) } else { drawn };
    let drawn = if plot.log[1] { drawn.y_axis_formatter(move |m, _| power(m.value)) } else { drawn };
    let drawn = if plot.series.len() > 1 { drawn.legend(Legend::default()) } else { drawn };
    let drawn = drawn.show(ui, |ui| {
        for (i, s) in plot.series.iter().enumerate() {
            match s.style {
                Style::Bars => {
                    let bars = s.points.iter().map(place).map(|[x, y]| Bar::new(x, y).width(0.9)).collect();
                    ui.bar_chart(BarChart::new(s.name.as_ref(), bars).color(cx.theme.accent));
                }
                Style::Points => {
                    let points = s.points.iter().map(place).collect::<Vec<_>>();
                    ui.points(Points::new(s.name.as_ref(), points).color(cx.theme.accent).radius(2.5));
                }
                Style::Line | Style::Step => {
                    let color = s.name.split([' ', ',']).nth(1).and_then(|id| id.parse().ok());
                    let color = color.map_or(cx.theme.curve(i), |id| cx.theme.code(id));
                    ui.line(
                        Line::new(s.name.as_ref(), PlotPoints::from(s.points.iter().map(place).collect::<Vec<_>>()))
                            .color(color)
                            .width(1.5),
                    );
                }
            }
        }
    });
    let names: Vec<&str> = plot.series.iter().map(|s| s.name.as_ref()).collect();
    let label = format!("plot of {}: {}", plot.title, names.join(", "));
    drawn.response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
}
