//! What stands along the edges of the attention map, and the numbers in cells that have room for them.

use crate::cx::Cx;
use crate::pictures::widgets;
use egui::{Align2, Color32, FontId, Painter, Rect, Vec2, pos2, vec2};
use std::ops::Range;
use tokenscope_analysis::token::{Token, TokenKind};

/// Room at the left for the names of queries, in points.
pub(super) const LEFT: f32 = 56.0;
/// Room above for the names of keys that lie, and for those that stand upright, in points.
const TOP: [f32; 2] = [16.0, 58.0];
/// Narrowest cell with a key's name above it, in points.
const NAME: f32 = 24.0;
/// Smallest cell with a number in it, in points.
const NUMBER: Vec2 = vec2(34.0, 16.0);

/// Room above a map whose cells are so wide.
pub(super) fn top(cell: f32) -> f32 {
    TOP[usize::from(cell < NAME)]
}

/// Where the cells of a map are on the screen.
pub(super) struct Place {
    /// The map.
    pub rect: Rect,
    /// The part of it that is seen: left, top, width, height as shares.
    pub window: [f32; 4],
    /// Rows and columns of the whole.
    pub n: usize,
}

impl Place {
    /// Size of a cell in points.
    pub(super) fn cell(&self) -> Vec2 {
        let [_, _, w, h] = self.window;
        vec2(self.rect.width() / (w * self.n as f32), self.rect.height() / (h * self.n as f32))
    }

    /// Left edge of column `k`.
    pub(super) fn x_of(&self, k: usize) -> f32 {
        self.rect.left() + (k as f32 / self.n as f32 - self.window[0]) / self.window[2] * self.rect.width()
    }

    /// Upper edge of row `q`.
    pub(super) fn y_of(&self, q: usize) -> f32 {
        self.rect.top() + (q as f32 / self.n as f32 - self.window[1]) / self.window[3] * self.rect.height()
    }

    /// Columns that are seen, at least in part.
    pub(super) fn keys(&self) -> Range<usize> {
        seen(self.window[0], self.window[2], self.n)
    }

    /// Rows that are seen, at least in part.
    pub(super) fn queries(&self) -> Range<usize> {
        seen(self.window[1], self.window[3], self.n)
    }

    /// Whether the numbers of cells can be read in them.
    pub(super) fn has_numbers(&self) -> bool {
        self.cell().x >= NUMBER.x && self.cell().y >= NUMBER.y
    }
}

fn seen(from: f32, share: f32, n: usize) -> Range<usize> {
    // A rounding error at an edge is not a row.
    let (first, last) = (from * n as f32 + 1e-3, (from + share) * n as f32 - 1e-3);
    (first.max(0.0) as usize).min(n)..(last.max(0.0).ceil() as usize).min(n)
}

/// The window in words.
pub(super) fn readout(place: &Place) -> String {
    let span = |r: Range<usize>| format!("{}–{}", r.start, r.end.saturating_sub(1));
    let of = if place.window == crate::pane::WHOLE { String::new() } else { format!(" of {}", place.n) };
    format!("queries down {}, keys across {}{of}", span(place.queries()), span(place.keys()))
}

/// Rows between two numbers on an axis, so that they are at least `room` points apart: 1, 2 or 5 times a power of ten.
fn step(cell: f32, room: f32) -> usize {
    let least = (room / cell.max(f32::MIN_POSITIVE)).clamp(1.0, 1e9);
    let power = 10f32.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= least * 0.999).unwrap_or(least) as usize
}

/// Names of tokens at the left and above, where cells have room for them, else their numbers.
pub(super) fn names_ui(cx: &Cx, ui: &egui::Ui, place: &Place, tokens: &[Token]) {
    let font = egui::FontId::monospace(egui::TextStyle::Small.resolve(ui.style()).size);
    let (rect, cell) = (place.rect, place.cell());
    let left = Rect::from_min_max(pos2(rect.left() - LEFT, rect.top() - 1.0), rect.left_bottom());
    let painter = ui.painter_at(left);
    let line = font.size + 1.0;
    // Of cells lower than a line every second, fifth, tenth … is named, and those that are looked at.
    let every = step(cell.y, line);
    for q in place.queries().filter(|q| shown(cx, *q, every)) {
        let y = held(place.y_of(q), cell.y, line, left.top(), left.bottom());
        let y = if cell.y < line { place.y_of(q) + cell.y / 2.0 } else { y };
        name(&painter, cx, tokens, q, &font, pos2(rect.left() - 4.0, y), LEFT - 6.0, Some(Align2::RIGHT_CENTER));
    }
    let above = Rect::from_min_max(pos2(rect.left() - 4.0, rect.top() - top(cell.x)), rect.right_top());
    let painter = ui.painter_at(above);
    let y = rect.top() - 2.0;
    if cell.x >= NAME {
        for k in place.keys() {
            let x = held(place.x_of(k), cell.x, NAME, above.left(), above.right());
            name(&painter, cx, tokens, k, &font, pos2(x, y), cell.x - 4.0, Some(Align2::CENTER_BOTTOM));
        }
        return;
    }
    let every = step(cell.x, line);
    for k in place.keys().filter(|k| shown(cx, *k, every)) {
        name(&painter, cx, tokens, k, &font, pos2(place.x_of(k) + cell.x / 2.0, y), TOP[1] - 6.0, None);
    }
}

/// Whether a token is named where only every so manieth has room. One that is looked at takes the place of those
/// beside it.
fn shown(cx: &Cx, i: usize, every: usize) -> bool {
    let looked = |i: usize| cx.hovered.has(i) || cx.pane.aim.tokens().len() == 1 && cx.pane.aim.contains(i);
    let near = || (i.saturating_sub(every - 1)..i + every).any(looked);
    every == 1 || looked(i) || i.is_multiple_of(every) && !near()
}

/// The middle of the part of a cell from `start` on that lies between `low` and `high`; where that part has no room
/// for the name, where the name would stand if it had.
fn held(start: f32, size: f32, room: f32, low: f32, high: f32) -> f32 {
    let (a, b) = (start.max(low), (start + size).min(high));
    if b - a >= room {
        (a + b) / 2.0
    } else if start < low {
        start + size - room / 2.0
    } else {
        start + room / 2.0
    }
}

/// A name at `at`, or standing upright on it.
#[expect(clippy::too_many_arguments, reason = "what a name is and where it stands")]
fn name(
    painter: &Painter,
    cx: &Cx,
    tokens: &[Token],
    i: usize,
    font: &FontId,
    at: egui::Pos2,
    width: f32,
    align: Option<Align2>,
) {
    let Some(token) = tokens.get(i) else { return };
    let marked = cx.hovered.has(i) || cx.pane.aim.contains(i);
    let color = if marked { cx.theme.text } else { cx.theme.weak };
    // A patch by its row and column alone: "patch 3,11" has no room, and all that is left of it would be alike.
    let text = match token.kind {
        TokenKind::Image => token.text.rsplit(' ').next().unwrap_or_default(),
        _ => &token.text,
    };
    let mut job = egui::text::LayoutJob::simple_singleline(widgets::visible(text), font.clone(), color);
    job.wrap = egui::text::TextWrapping::truncate_at_width(width);
    let galley = painter.layout_job(job);
    let Some(align) = align else {
        let corner = pos2(at.x - galley.size().y / 2.0, at.y);
        let mut shape = egui::epaint::TextShape::new(corner, galley, color);
        shape.angle = -std::f32::consts::FRAC_PI_2;
        painter.add(shape);
        return;
    };
    let rect = align.anchor_size(at, galley.size());
    painter.galley(rect.min, galley, color);
}

/// The number of each cell; `cell` gives it with the colour that it stands on, `None` where it is better left out.
pub(super) fn numbers_ui(ui: &egui::Ui, place: &Place, cell: impl Fn(usize, usize) -> Option<(f32, Color32)>) {
    let painter = ui.painter_at(place.rect);
    let font = FontId::monospace(egui::TextStyle::Small.resolve(ui.style()).size);
    for q in place.queries() {
        for k in place.keys() {
            let at = pos2(place.x_of(k), place.y_of(q)) + place.cell() / 2.0;
            if !place.rect.contains_rect(Rect::from_center_size(at, NUMBER - vec2(4.0, 2.0))) {
                continue;
            }
            // Nothing is also said by the colour; a field of zeros would only be in the way.
            let Some((v, color)) = cell(q, k).filter(|c| c.0 >= 0.005) else { continue };
            painter.text(at, Align2::CENTER_CENTER, format!("{v:.2}"), font.clone(), color);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_an_axis_are_round_and_have_room() {
        assert_eq!(step(40.0, 28.0), 1);
        assert_eq!(step(14.0, 28.0), 2);
        assert_eq!(step(10.0, 28.0), 5);
        assert_eq!(step(2.8, 28.0), 10);
        assert_eq!(step(0.002, 28.0), 20_000);
    }

    #[test]
    fn the_cells_of_a_window_by_hand() {
        let rect = Rect::from_min_size(pos2(100.0, 50.0), vec2(200.0, 200.0));
        // Columns 2 to 3 and rows 1 to 4 of ten, all whole.
        let place = Place { rect, window: [0.2, 0.1, 0.2, 0.4], n: 10 };
        assert_eq!((place.keys(), place.queries()), (2..4, 1..5));
        assert!((place.cell() - vec2(100.0, 50.0)).length() < 1e-3);
        assert!((place.x_of(3) - 200.0).abs() < 1e-3 && (place.y_of(1) - 50.0).abs() < 1e-3);
        assert_eq!(readout(&place), "queries down 1–4, keys across 2–3 of 10");
        let whole = Place { rect, window: crate::pane::WHOLE, n: 10 };
        assert_eq!(readout(&whole), "queries down 0–9, keys across 0–9");
    }

    #[test]
    fn a_name_stands_in_the_part_of_its_cell_that_is_seen() {
        assert_eq!(held(10.0, 20.0, 12.0, 0.0, 100.0), 20.0);
        assert_eq!(held(-20.0, 60.0, 12.0, 0.0, 100.0), 20.0);
        // It leaves with its cell and is not squeezed.
        assert_eq!(held(-55.0, 60.0, 12.0, 0.0, 100.0), -1.0);
        assert_eq!(held(95.0, 60.0, 12.0, 0.0, 100.0), 101.0);
    }
}
