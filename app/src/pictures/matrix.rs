//! Rows by columns as colours. Where cells are smaller than pixels, the value farthest from 0 shows; so no strong cell
//! is lost in the overview.

use super::On;
use super::scale::Scale;
use super::widgets;
use crate::cx::Cx;
use egui::{Align2, Color32, ColorImage, FontId, Rect, Sense, Stroke, StrokeKind, TextureOptions, Ui, pos2, vec2};
use std::sync::Arc;
use tokenscope_analysis::finding::{Matrix, MatrixCells};

/// Cells along a side of what is drawn; more are drawn as blocks.
const MAX_SIDE: usize = 512;
/// Room at the left for the names of rows, in points.
const LEFT: f32 = 64.0;
/// Largest and smallest cell, in points.
const CELL: (f32, f32) = (26.0, 2.0);
/// The highest matrix, in points.
const MAX_HEIGHT: f32 = 420.0;

/// What is drawn of a matrix: blocks of cells with the value farthest from 0.
#[derive(Clone)]
struct Blocks {
    /// Kept, so that no other matrix can come to lie where these cells do.
    of: MatrixCells,
    size: [usize; 2],
    values: Arc<Vec<f32>>,
}

impl Blocks {
    fn new(m: &Matrix) -> Self {
        let [n, k] = m.size;
        let step = [n.div_ceil(MAX_SIDE).max(1), k.div_ceil(MAX_SIDE).max(1)];
        let size = [n.div_ceil(step[0]), k.div_ceil(step[1])];
        if step == [1, 1] {
            return Self { of: m.cells.clone(), size, values: Arc::new(m.window(0..n, 0..k)) };
        }
        let mut values = vec![f32::NAN; size[0] * size[1]];
        for r in 0..n {
            for (c, v) in m.window(r..r + 1, 0..k).into_iter().enumerate().filter(|(_, v)| !v.is_nan()) {
                let block = &mut values[r / step[0] * size[1] + c / step[1]];
                if block.is_nan() || v.abs() > block.abs() {
                    *block = v;
                }
            }
        }
        Self { of: m.cells.clone(), size, values: Arc::new(values) }
    }

    fn is_of(&self, m: &Matrix) -> bool {
        match (&self.of, &m.cells) {
            (MatrixCells::Dense(a), MatrixCells::Dense(b)) => Arc::ptr_eq(a, b),
            (MatrixCells::Lazy(a), MatrixCells::Lazy(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Draws `m` with the names of its rows and columns where they have room.
pub fn ui(cx: &Cx, ui: &mut Ui, on: &On, m: &Matrix) {
    let [n, k] = m.size;
    if n == 0 || k == 0 {
        ui.weak("No cells.");
        return;
    }
    let slot = ui.scope_id().with("blocks");
    let blocks = match ui.data(|d| d.get_temp::<Blocks>(slot)).filter(|b| b.is_of(m)) {
        Some(b) => b,
        None => {
            let fresh = Blocks::new(m);
            ui.data_mut(|d| d.insert_temp(slot, fresh.clone()));
            fresh
        }
    };
    let scale = Scale::new(&m.measure, blocks.values.iter().copied());
    // Columns on the right of the names, as wide as there is room.
    let room = (ui.available_width() - LEFT).max(40.0);
    let cell = vec2((room / k as f32).min(CELL.0), (MAX_HEIGHT / n as f32).min(CELL.0));
    // Cells of a map of the same things both ways are square.
    let cell = if m.rows == m.cols { egui::Vec2::splat(cell.min_elem()) } else { cell };
    let size = vec2((cell.x * k as f32).max(CELL.1), (cell.y * n as f32).max(CELL.1));
    let top = 16.0;
    let (outer, response) = ui.allocate_exact_size(size + vec2(LEFT, top), Sense::click() - Sense::FOCUSABLE);
    let rect = Rect::from_min_size(outer.min + vec2(LEFT, top), size);
    paint(cx, ui, rect, &blocks, &scale);
    ui.painter().rect_stroke(rect, 0.0, Stroke::new(1.0, cx.theme.line), StrokeKind::Outside);
    names_ui(cx, ui, on, m, rect, cell);
    let under = response.hover_pos().filter(|p| rect.contains(*p)).map(|p| {
        let at = (p - rect.min) / cell;
        ((at.y as usize).min(n - 1), (at.x as usize).min(k - 1))
    });
    let say = |(r, c): (usize, usize)| {
        let value = m.at(r, c).map_or("nothing there".into(), widgets::number);
        format!("{} · {}: {value}", on.name(&m.rows, r), on.name(&m.cols, c))
    };
    let label = match under {
        Some(at) => format!("{n} {} by {k} {}, at {}", m.rows.plural(), m.cols.plural(), say(at)),
        None => format!("{n} {} by {k} {}", m.rows.plural(), m.cols.plural()),
    };
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
    if let Some((r, c)) = under {
        let cross = Stroke::new(1.0, cx.theme.accent);
        ui.painter().hline(rect.x_range(), rect.top() + (r as f32 + 0.5) * cell.y, cross);
        ui.painter().vline(rect.left() + (c as f32 + 0.5) * cell.x, rect.y_range(), cross);
        on.follow(cx, ui, &response, &m.rows, r);
        on.follow(cx, ui, &response, &m.cols, c);
        response.on_hover_text_at_pointer(say((r, c)));
    }
    scale.legend_ui(cx, ui);
}

fn paint(cx: &Cx, ui: &Ui, rect: Rect, blocks: &Blocks, scale: &Scale) {
    let key = (Arc::as_ptr(&blocks.values) as usize, cx.theme.dark, cx.theme.map);
    let slot = ui.scope_id().with("matrix");
    let cached = ui.data(|d| d.get_temp::<((usize, bool, crate::theme::ColorMap), egui::TextureHandle)>(slot));
    let texture = match cached.filter(|(of, _)| *of == key) {
        Some((_, texture)) => texture,
        None => {
            let color = |v: &f32| if v.is_nan() { Color32::TRANSPARENT } else { scale.color(cx, *v) };
            let image = ColorImage::new([blocks.size[1], blocks.size[0]], blocks.values.iter().map(color).collect());
            let fresh = ui.ctx().load_texture("matrix", image, TextureOptions::NEAREST);
            ui.data_mut(|d| d.insert_temp(slot, (key, fresh.clone())));
            fresh
        }
    };
    let all = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
    ui.painter().image(texture.id(), rect, all, Color32::WHITE);
}

/// Names beside the rows and above the columns; where they have no room, every so manieth.
fn names_ui(cx: &Cx, ui: &Ui, on: &On, m: &Matrix, rect: Rect, cell: egui::Vec2) {
    let font = FontId::monospace(10.0);
    let shown = |size: f32, room: f32| (room / size.max(0.01)).ceil().max(1.0) as usize;
    let cut = |words: String, width: f32, color: Color32| {
        let mut job = egui::text::LayoutJob::simple_singleline(words, font.clone(), color);
        job.wrap = egui::text::TextWrapping::truncate_at_width(width);
        ui.painter().layout_job(job)
    };
    let color = |unit, i| match widgets::outline(cx, on.standing(cx, unit, i)) {
        Some(stroke) => stroke.color,
        None => cx.theme.weak,
    };
    for r in (0..m.size[0]).step_by(shown(cell.y, 11.0)) {
        let galley = cut(on.short(&m.rows, r), LEFT - 6.0, color(&m.rows, r));
        let at = pos2(rect.left() - 4.0, rect.top() + (r as f32 + 0.5) * cell.y);
        let place = Align2::RIGHT_CENTER.anchor_size(at, galley.size());
        ui.painter().galley(place.min, galley, cx.theme.weak);
    }
    let every = shown(cell.x, 28.0);
    for c in (0..m.size[1]).step_by(every) {
        let galley = cut(on.short(&m.cols, c), cell.x * every as f32 - 3.0, color(&m.cols, c));
        let at = pos2(rect.left() + c as f32 * cell.x + 1.0, rect.top() - 2.0);
        let place = Align2::LEFT_BOTTOM.anchor_size(at, galley.size());
        ui.painter().galley(place.min, galley, cx.theme.weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::array::Array;
    use tokenscope_analysis::finding::{Measure, Unit};

    #[test]
    fn a_block_shows_the_value_farthest_from_zero() {
        let mut values = vec![0.25f32; 2 * 1024];
        (values[5], values[1024], values[1025]) = (-3.0, f32::NAN, f32::NAN);
        let cells = Array::new([2, 1024], values).unwrap();
        let m = Matrix::dense("m", Unit::Steps, Unit::Positions, Measure::new("x", ""), cells).unwrap();
        let b = Blocks::new(&m);
        assert_eq!((b.size, b.values[2], b.values[0]), ([2, 512], -3.0, 0.25));
        assert!(b.values[512].is_nan() && b.is_of(&m));
    }
}
