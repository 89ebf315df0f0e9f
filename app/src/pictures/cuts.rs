//! An input in pieces: chips over a text, blocks along a series, rectangles on a picture.

use super::marks;
use super::overlay::{self, Over};
use super::tokens::picture_height;
use super::{On, widgets};
use crate::cx::Cx;
use egui::{Color32, Sense, Stroke, Ui, pos2, vec2};
use tokenscope_analysis::finding::{Cuts, Piece, Span, Unit, count};

/// Pieces of a text drawn at most; the file has all.
const MAX_CHIPS: usize = 2000;

/// Draws `cuts`.
pub fn ui(cx: &Cx, ui: &mut Ui, on: &On, cuts: &Cuts) {
    if !cuts.classes.is_empty() {
        let counts = count(cuts.classes.len(), cuts.pieces.iter().filter_map(|p| p.class));
        marks::classes_ui(cx.theme, ui, &cuts.classes, &counts);
    }
    match (&cuts.unit, on.picture) {
        (Unit::Cells(_), Some(picture)) => {
            let rect = |(i, p): (usize, &Piece)| if let Span::Rect(r) = p.span { Some((i, r)) } else { None };
            let places = vec![cuts.pieces.iter().enumerate().filter_map(rect).collect()];
            let over = |i: usize| {
                let color = color(cx, cuts, i);
                Over { fill: color.gamma_multiply(0.3), outline: Some(cx.theme.line), ..Over::default() }
            };
            let say = |i: usize| say(on, cuts, i);
            overlay::ui(cx, ui, picture, on, &cuts.unit, &places, picture_height(ui), &over, &say);
        }
        (Unit::Cells(_), None) => drop(ui.weak("The picture that was cut is not there.")),
        (Unit::Bytes, _) => chips_ui(cx, ui, on, cuts),
        _ => blocks_ui(cx, ui, on, cuts),
    }
}

/// The colour of a piece: its kind's, else its id's, so that the same id keeps its hue, else its place's.
fn color(cx: &Cx, cuts: &Cuts, i: usize) -> Color32 {
    let Some(p) = cuts.pieces.get(i) else { return cx.theme.line };
    match p.class.and_then(|c| cuts.classes.get(c)) {
        Some(class) => marks::of(cx.theme, class.look).0,
        None => cx.theme.chips[p.id.map_or(i, |id| id as usize) % cx.theme.chips.len()],
    }
}

/// The text of a piece: its own, or what the input has there.
fn text<'a>(on: &On<'a>, p: &'a Piece) -> &'a str {
    match p.span {
        Span::Range(start, end) if p.text.is_empty() => on.text.get(start..end).unwrap_or_default(),
        _ => &p.text,
    }
}

fn say(on: &On, cuts: &Cuts, i: usize) -> String {
    let Some(p) = cuts.pieces.get(i) else { return String::new() };
    let place = match p.span {
        Span::Range(start, end) => format!("{} {start} to {end}", cuts.unit.plural()),
        Span::Rect([x, y, w, h]) => format!("{w:.0} x {h:.0} pixels at {x:.0}, {y:.0}"),
    };
    let mut out = format!("piece {i} {}: {place}", widgets::visible(text(on, p)));
    if let Some(id) = p.id {
        out += &format!(", id {id}");
    }
    if let Some(class) = p.class.and_then(|c| cuts.classes.get(c)) {
        out += &format!(", {}", class.name);
    }
    if let (Some(v), Some(m)) = (p.value, cuts.measure) {
        out += &format!(", {} {}", m.words(), widgets::number(v));
    }
    out
}

fn chips_ui(cx: &Cx, ui: &mut Ui, on: &On, cuts: &Cuts) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(1.0, 2.0);
        for (i, p) in cuts.pieces.iter().enumerate().take(MAX_CHIPS) {
            let Span::Range(start, end) = p.span else { continue };
            let link = widgets::Link::Bytes(start, end, None);
            let chip = widgets::chip(cx, ui, text(on, p), color(cx, cuts, i), false, link);
            chip.on_hover_ui(|ui| drop(ui.label(say(on, cuts, i))));
        }
    });
    if cuts.pieces.len() > MAX_CHIPS {
        ui.small(format!("the first {MAX_CHIPS} of {} pieces", cuts.pieces.len()));
    }
}

/// Blocks side by side, as wide as they are long.
fn blocks_ui(cx: &Cx, ui: &mut Ui, on: &On, cuts: &Cuts) {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 40.0), Sense::hover());
    let painter = ui.painter_at(rect);
    let x = |at: usize| rect.left() + at as f32 / cuts.len.max(1) as f32 * rect.width();
    let bottom = rect.bottom() - 14.0;
    let mut under = None;
    for (i, p) in cuts.pieces.iter().enumerate() {
        let Span::Range(start, end) = p.span else { continue };
        let block = egui::Rect::from_min_max(pos2(x(start), rect.top()), pos2(x(end), bottom));
        let fill = color(cx, cuts, i);
        painter.rect_filled(block, 0.0, fill);
        if block.width() > 4.0 {
            painter.vline(block.left(), block.y_range(), Stroke::new(1.0, cx.theme.background));
        }
        if block.width() > 24.0 {
            let words =
                if p.text.is_empty() { p.id.map_or(String::new(), |id| id.to_string()) } else { p.text.clone() };
            let font = egui::FontId::monospace(10.0);
            let mut job = egui::text::LayoutJob::simple_singleline(words, font, cx.theme.text_on(fill));
            job.wrap = egui::text::TextWrapping::truncate_at_width(block.width() - 4.0);
            let galley = painter.layout_job(job);
            painter.galley(block.center() - galley.size() / 2.0, galley, cx.theme.text);
        }
        if response.hover_pos().is_some_and(|at| block.contains(at)) {
            under = Some(i);
        }
    }
    let font = egui::TextStyle::Small.resolve(ui.style());
    painter.text(rect.left_bottom(), egui::Align2::LEFT_BOTTOM, "0", font.clone(), cx.theme.weak);
    let end = format!("{} {}", cuts.len, cuts.unit.plural());
    painter.text(rect.right_bottom(), egui::Align2::RIGHT_BOTTOM, end, font, cx.theme.weak);
    let label = match under {
        Some(i) => format!("{} pieces, at {}", cuts.pieces.len(), say(on, cuts, i)),
        None => format!("{} pieces of {} {}", cuts.pieces.len(), cuts.len, cuts.unit.plural()),
    };
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
    if let Some(i) = under {
        response.on_hover_text_at_pointer(say(on, cuts, i));
    }
}
