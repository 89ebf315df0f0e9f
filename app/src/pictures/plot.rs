//! Series over an axis: lines, steps, bars and points, with a legend above that has shapes besides colours.

use super::marks::{self, Mark};
use super::widgets;
use crate::cx::Cx;
use egui::{Color32, Shape, Stroke, Ui, vec2};
use egui_plot::{
    AxisHints, Bar, BarChart, GridMark, HoverPosition, Line, LineStyle, MarkerShape, PlotPoint, PlotPoints, Points,
    Text, VLine,
};
use tokenscope_analysis::finding::{Axis, Measure, Plot, Series, SeriesRole, Style};

/// How a plot is laid out.
#[derive(Clone, Copy)]
pub struct Size {
    /// Width in points at most.
    pub width: f32,
    /// Height in points.
    pub height: f32,
    /// Without axes and legend: a few bars beside a control.
    pub bare: bool,
}

impl Size {
    /// A plot among others.
    pub const NORMAL: Size = Size { width: 520.0, height: 200.0, bare: false };
}

/// Draws `plot`. Gives the place on the horizontal axis that was clicked.
pub fn ui(cx: &Cx, ui: &mut Ui, plot: &Plot) -> Option<f64> {
    sized(cx, ui, plot, Size::NORMAL)
}

/// How a series is drawn.
struct Pen {
    color: Color32,
    line: LineStyle,
    mark: Mark,
    width: f32,
}

/// Markers of series that are told apart by number.
const MARKERS: [Mark; 4] = [Mark::Disc, Mark::Square, Mark::Diamond, Mark::Up];

/// Floors and references have no colour of their own, every other series has one and a marker.
fn pen(cx: &Cx, plot: &Plot, i: usize) -> Pen {
    let s = &plot.series[i];
    let floors = || plot.series[..i].iter().filter(|s| s.role == SeriesRole::Floor).count();
    match s.role {
        SeriesRole::Floor if floors() == 0 => {
            Pen { color: cx.theme.weak, line: LineStyle::dashed_dense(), mark: Mark::Cross, width: 1.5 }
        }
        SeriesRole::Floor => Pen { color: cx.theme.text, line: LineStyle::Solid, mark: Mark::Plus, width: 1.0 },
        SeriesRole::Reference => {
            Pen { color: cx.theme.weak, line: LineStyle::dotted_dense(), mark: Mark::Ring, width: 1.5 }
        }
        SeriesRole::Chosen => Pen { color: cx.theme.accent, line: LineStyle::Solid, mark: Mark::Diamond, width: 2.5 },
        SeriesRole::Main => {
            let look = s.look.unwrap_or(i);
            Pen { color: cx.theme.curve(look), line: LineStyle::Solid, mark: MARKERS[look % 4], width: 2.0 }
        }
    }
}

/// Draws `plot` in this size.
pub fn sized(cx: &Cx, ui: &mut Ui, plot: &Plot, size: Size) -> Option<f64> {
    if plot.series.iter().all(|s| s.points.is_empty()) {
        ui.weak("No points.");
        return None;
    }
    if !size.bare && (plot.series.len() > 1 || !plot.marks.is_empty()) {
        // Above and not inside, where it would lie on the points of a narrow plot.
        legend_ui(cx, ui, plot);
    }
    // Logarithmic axes are drawn by the exponents.
    let log = plot.log;
    let at = move |[x, y]: [f64; 2]| [if log[0] { x.log10() } else { x }, if log[1] { y.log10() } else { y }];
    let bars = plot.series.iter().any(|s| s.style == Style::Bars);
    let width = ui.available_width().min(size.width);
    let mut drawn = egui_plot::Plot::new(plot.title.as_str())
        .height(size.height)
        .width(width)
        .allow_drag(false)
        .allow_scroll(false)
        .allow_zoom(false)
        .allow_boxed_zoom(false)
        .allow_double_click_reset(false)
        .show_background(false)
        .set_margin_fraction(vec2(0.02, if bars { 0.16 } else { 0.08 }));
    if size.bare {
        drawn = drawn.show_axes(false).show_grid(false).set_margin_fraction(vec2(0.0, 0.0));
    } else {
        drawn = drawn.custom_x_axes(vec![x_axis(plot)]).custom_y_axes(vec![y_axis(plot, size.height)]);
    }
    if !log[1] {
        drawn = drawn.include_y(0.0);
        // What is nothing everywhere lies at the bottom, and per cent are read from all of a hundred.
        let highest = plot.series.iter().flat_map(|s| &s.points).map(|p| p[1]).fold(0.0, f64::max);
        let nothing = plot.series.iter().flat_map(|s| &s.points).all(|p| p[1] == 0.0);
        if plot.y.unit.starts_with('%') {
            drawn = drawn.include_y(100.0);
        } else if nothing {
            drawn = drawn.include_y(1.0);
        }
        if bars && !size.bare {
            // The number above the highest bar needs room.
            drawn = drawn.include_y(1.25 * highest);
        }
    }
    // A share is read from the whole, however little of it there is.
    if matches!(plot.x, Axis::Number(Measure { name, unit, .. }) if name.starts_with("share") || unit == "share") {
        drawn = drawn.include_x(0.0).include_x(1.0);
    }
    let labels = plot.clone();
    let label = move |at: &HoverPosition| match at {
        HoverPosition::NearDataPoint { plot_name, position, .. } => {
            Some(hover(&labels, plot_name, [position.x, position.y]))
        }
        HoverPosition::Elsewhere { .. } => None,
    };
    let drawn = drawn.label_formatter(label).show(ui, |ui| {
        for (i, s) in plot.series.iter().enumerate() {
            series_ui(cx, ui, plot, s, &pen(cx, plot, i), &at, size.bare);
        }
        for (x, name) in &plot.marks {
            let x = at([*x, 1.0])[0];
            ui.vline(VLine::new(name.to_string(), x).color(cx.theme.accent).width(1.0));
        }
        ui.response().clicked().then(|| ui.pointer_coordinate()).flatten()
    });
    let spoken =
        format!("{}, {}", title(plot), plot.series.iter().map(|s| words(plot, s)).collect::<Vec<_>>().join("; "));
    drawn.response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &spoken));
    drawn.inner.map(|p| if log[0] { 10f64.powf(p.x) } else { p.x })
}

fn title(plot: &Plot) -> String {
    if plot.title.is_empty() { plot.y.words() } else { plot.title.clone() }
}

fn series_ui(
    cx: &Cx,
    ui: &mut egui_plot::PlotUi,
    plot: &Plot,
    s: &Series,
    pen: &Pen,
    at: &dyn Fn([f64; 2]) -> [f64; 2],
    bare: bool,
) {
    let points: Vec<[f64; 2]> = s.points.iter().map(|p| at(*p)).collect();
    let line = |points: Vec<[f64; 2]>| {
        Line::new(s.name.to_string(), points).color(pen.color).style(pen.line).width(pen.width).allow_band(false)
    };
    match s.style {
        Style::Bars => {
            let gap = points.windows(2).map(|w| w[1][0] - w[0][0]).fold(f64::INFINITY, f64::min);
            let width = if gap.is_finite() { gap * 0.8 } else { 0.8 };
            let bars = points.iter().map(|[x, y]| Bar::new(*x, *y).width(width).fill(pen.color).stroke(Stroke::NONE));
            let (label, name) = (plot.clone(), s.name.to_string());
            let said = move |bar: &Bar, _: &BarChart| hover(&label, &name, [bar.argument, bar.value]);
            ui.bar_chart(
                BarChart::new(s.name.to_string(), bars.collect()).color(pen.color).element_formatter(Box::new(said)),
            );
            if points.len() <= 16 && !bare {
                for (i, own) in s.points.iter().enumerate() {
                    let [x, y] = at([own[0], own[1] + s.errors.get(i).copied().unwrap_or(0.0)]);
                    let words = egui::RichText::new(short(own[1])).small().color(cx.theme.text);
                    let text = Text::new("", PlotPoint::new(x, y), words).anchor(egui::Align2::CENTER_BOTTOM);
                    ui.text(text.id(("value", s.name.as_ref(), x.to_bits())).allow_hover(false));
                }
            }
        }
        Style::Step => {
            let next = |i: usize| points.get(i + 1).map(|n| [n[0], points[i][1]]);
            let corners: Vec<[f64; 2]> =
                (0..points.len()).flat_map(|i| std::iter::once(points[i]).chain(next(i))).collect();
            ui.line(line(corners));
        }
        Style::Line => {
            ui.line(line(points.clone()));
            // So many markers would be a band.
            if points.len() <= 64 {
                ui.points(dots(s, pen, points.clone()));
            }
        }
        Style::Points => ui.points(dots(s, pen, points.clone())),
    }
    for (i, (p, e)) in s.points.iter().zip(&s.errors).enumerate().filter(|(_, (_, e))| **e > 0.0) {
        let ends = vec![at([p[0], p[1] - e]), at([p[0], p[1] + e])];
        if ends.iter().flatten().all(|v| v.is_finite()) {
            let id = ("error", s.name.as_ref(), i);
            ui.line(Line::new("", ends).id(id).color(cx.theme.text).width(1.0).allow_hover(false));
        }
    }
}

fn dots<'a>(s: &Series, pen: &Pen, points: Vec<[f64; 2]>) -> Points<'a> {
    let shape = match pen.mark {
        Mark::Disc | Mark::Ring => MarkerShape::Circle,
        Mark::Square => MarkerShape::Square,
        Mark::Diamond => MarkerShape::Diamond,
        Mark::Up => MarkerShape::Up,
        Mark::Down => MarkerShape::Down,
        Mark::Cross => MarkerShape::Cross,
        Mark::Plus => MarkerShape::Plus,
    };
    Points::new(s.name.to_string(), PlotPoints::from(points)).color(pen.color).radius(3.5).shape(shape)
}

/// What the pointer is told; `at` is a place as it is drawn.
fn hover(plot: &Plot, name: &str, [x, y]: [f64; 2]) -> String {
    let (x, y) = (if plot.log[0] { 10f64.powf(x) } else { x }, if plot.log[1] { 10f64.powf(y) } else { y });
    let place = match &plot.x {
        Axis::Unit(u) if x >= 0.0 => u.label(x.round() as usize),
        axis => axis.label((x * 1e4).round() / 1e4),
    };
    let name = if name.is_empty() { String::new() } else { format!("{name}\n") };
    format!("{name}{place}: {} {}", widgets::number(y as f32), plot.y.unit)
}

/// A number on an axis or a bar.
fn short(v: f64) -> String {
    match v.abs() {
        a if v == v.round() && a < 1e6 => format!("{v:.0}"),
        a if (10.0..1000.0).contains(&a) => format!("{v:.1}"),
        a if (1.0..10.0).contains(&a) => format!("{v:.2}"),
        _ => widgets::number(v as f32),
    }
}

/// The number at a whole exponent; between two of them nothing.
fn power(exponent: f64) -> String {
    if exponent.fract().abs() < 1e-6 { format!("{}", 10f64.powf(exponent)) } else { String::new() }
}

fn x_axis(plot: &Plot) -> AxisHints<'static> {
    let hints = AxisHints::new_x().label(plot.x.words()).label_spacing(22.0..=26.0);
    match (&plot.x, plot.log[0]) {
        (_, true) => hints.formatter(|m: GridMark, _| power(m.value)),
        (Axis::Unit(u), _) => {
            let u = u.clone();
            hints.formatter(move |m: GridMark, _| match m.value {
                v if v < 0.0 || v.fract() != 0.0 => String::new(),
                v => match u.count() {
                    // Few enough to be named; of others the number says it.
                    Some(n) if n <= 12 && (v as usize) < n => u.label(v as usize),
                    Some(n) if v as usize >= n => String::new(),
                    _ => format!("{v:.0}"),
                },
            })
        }
        _ => hints,
    }
}

/// The name of the axis is as long as it is high, at most.
fn y_axis(plot: &Plot, height: f32) -> AxisHints<'static> {
    let fits = |words: &String| words.chars().count() as f32 * 7.0 < height - 20.0;
    let name = [plot.y.words(), plot.y.name.to_string()].into_iter().find(fits);
    let hints = AxisHints::new_y().label(name.unwrap_or_else(|| plot.y.unit.to_string())).label_spacing(12.0..=14.0);
    match plot.log[1] {
        true => hints.formatter(|m: GridMark, _| power(m.value)),
        false => hints,
    }
}

/// What each line of the plot is.
fn legend_ui(cx: &Cx, ui: &mut Ui, plot: &Plot) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(4.0, 2.0);
        for (i, s) in plot.series.iter().enumerate() {
            let pen = pen(cx, plot, i);
            marks::entry(cx.theme, ui, &s.name, "", 26.0, &|painter, rect| {
                let (stroke, line) = (Stroke::new(pen.width, pen.color), [rect.left_center(), rect.right_center()]);
                match (s.style, pen.line) {
                    (Style::Bars, _) => {
                        let square = egui::Rect::from_center_size(rect.center(), vec2(10.0, 10.0));
                        painter.rect_filled(square, 1.0, pen.color);
                        return;
                    }
                    (Style::Points, _) => {}
                    (_, LineStyle::Dashed { .. }) => painter.extend(Shape::dashed_line(&line, stroke, 5.0, 3.0)),
                    (_, LineStyle::Dotted { .. }) => painter.extend(Shape::dotted_line(&line, pen.color, 4.0, 1.0)),
                    (_, LineStyle::Solid) => drop(painter.line_segment(line, stroke)),
                }
                if s.style != Style::Step {
                    marks::paint(painter, rect.center(), 3.5, pen.mark, pen.color);
                }
            });
        }
        for (_, name) in &plot.marks {
            marks::entry(cx.theme, ui, name, "", 26.0, &|painter, rect| {
                painter.vline(rect.center().x, rect.y_range(), Stroke::new(1.0, cx.theme.accent));
            });
        }
    });
}

/// Points said one by one to a screen reader; of more, where they begin and end.
const SAID: usize = 24;

/// A series in words.
fn words(plot: &Plot, s: &Series) -> String {
    let point = |[x, y]: &[f64; 2]| format!("{} {}", plot.x.label((x * 1e4).round() / 1e4), short(*y));
    let list: Vec<String> = match (s.points.len() > SAID, s.points.first(), s.points.last()) {
        (true, Some(a), Some(b)) => vec![point(a), format!("{} points", s.points.len()), point(b)],
        _ => s.points.iter().map(point).collect(),
    };
    if s.name.is_empty() { list.join(", ") } else { format!("{}: {}", s.name, list.join(", ")) }
}
