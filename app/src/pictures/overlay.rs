//! The input's picture with a colour, a veil, an outline or a mark on each element's own rectangle of its pixels.

use super::marks::{self, Mark};
use super::{On, widgets};
use crate::cx::Cx;
use egui::{Color32, ColorImage, Rect, Sense, Stroke, StrokeKind, TextureOptions, Ui, pos2, vec2};
use std::sync::Arc;
use tokenscope_analysis::finding::{CellGrid, Unit};
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::token::Source;
use tokenscope_analysis::trace::TowerTrace;

/// How one element is marked.
#[derive(Clone, Copy, Default)]
pub struct Over {
    /// Laid over the rectangle.
    pub fill: Color32,
    /// Around it; elements of one group share a colour.
    pub outline: Option<Color32>,
    /// Crossed out.
    pub crossed: bool,
    /// A shape in its middle.
    pub mark: Option<(Mark, Color32)>,
}

/// An element and its rectangle in pixels of the picture: left, top, width, height.
pub type Placed = (usize, [f32; 4]);

/// The longest side of the texture in pixels; larger pictures are shown smaller.
const MAX_SIDE: usize = 2048;

/// Where the tokens of a tower lie on the picture, once for each time that it is drawn: for a tiled run the tiles at the
/// left and the whole at the right. Empty where none has a place there.
pub fn of_tokens(tower: &TowerTrace) -> Vec<Vec<Placed>> {
    let rect = |i: usize| match tower.tokens.get(i)?.source {
        Source::Rect { x, y, w, h } => Some((i, [x, y, w, h])),
        _ => None,
    };
    let grids: Vec<Vec<Placed>> = tower.grids.iter().map(|g| g.tokens().filter_map(rect).collect()).collect();
    let reach: Vec<Rect> = grids.iter().map(|g| around(g)).collect();
    let (mut parts, mut glance) = (Vec::new(), Vec::new());
    for (i, grid) in grids.into_iter().enumerate() {
        if is_glance(&reach, i) { &mut glance } else { &mut parts }.extend(grid);
    }
    [parts, glance].into_iter().filter(|p| !p.is_empty()).collect()
}

/// Whether grid `i` is a whole picture at a glance, whose tiles are other grids: it reaches as far as those that lie in it
/// do together. Some models read it first and some last; of two that reach equally far it is the later one. Of several
/// pictures each has its own.
fn is_glance(reach: &[Rect], i: usize) -> bool {
    let own = reach[i].expand(1.0);
    let inside = |j: &usize| {
        let equal = reach[*j].expand(1.0).contains_rect(reach[i]);
        *j != i && own.contains_rect(reach[*j]) && (!equal || *j < i)
    };
    let tiles = (0..reach.len()).filter(inside).fold(Rect::NOTHING, |all, j| all.union(reach[j]));
    tiles.expand(1.0).contains_rect(reach[i])
}

/// The rectangle around all of these.
fn around(placed: &[Placed]) -> Rect {
    let one = |[x, y, w, h]: [f32; 4]| Rect::from_min_size(pos2(x, y), vec2(w, h));
    placed.iter().fold(Rect::NOTHING, |all, (_, r)| all.union(one(*r)))
}

/// Where the cells of a grid lie on a picture of this size.
pub fn of_cells(grid: &CellGrid, picture: &Picture) -> Vec<Vec<Placed>> {
    let [x, y, w, h] = grid.area.unwrap_or([0.0, 0.0, picture.width as f32, picture.height as f32]);
    let (w, h) = (w / grid.cols.max(1) as f32, h / grid.rows.max(1) as f32);
    let cell = |i: usize| (i, [x + (i % grid.cols) as f32 * w, y + (i / grid.cols) as f32 * h, w, h]);
    vec![(0..grid.rows * grid.cols).map(cell).collect()]
}

/// Draws `picture` at most `height` points high, once for each of `parts`, with a mark on every element. A click selects
/// the element. Gives where the picture lies, once for each.
#[expect(clippy::too_many_arguments, reason = "what is drawn, where, and what it says")]
pub fn ui(
    cx: &Cx,
    ui: &mut Ui,
    picture: &Arc<Picture>,
    on: &On,
    unit: &Unit,
    parts: &[Vec<Placed>],
    height: f32,
    over: &dyn Fn(usize) -> Over,
    say: &dyn Fn(usize) -> String,
) -> Vec<Rect> {
    let texture = texture(ui, picture);
    let mut drawn = Vec::new();
    ui.horizontal_top(|ui| {
        let share = (ui.available_width() - 8.0 * parts.len().saturating_sub(1) as f32) / parts.len().max(1) as f32;
        for part in parts {
            let f = (share / picture.width as f32).min(height / picture.height as f32);
            let size = vec2(picture.width as f32, picture.height as f32) * f;
            let sense = Sense::click() - Sense::FOCUSABLE;
            let (rect, response) = ui.allocate_exact_size(size.max(vec2(4.0, 4.0)), sense);
            drawn.push(rect);
            let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            let painter = ui.painter_at(rect);
            painter.image(texture.id(), rect, whole, Color32::WHITE);
            let place =
                |[x, y, w, h]: [f32; 4]| Rect::from_min_size(rect.min + vec2(x, y) * f, vec2(w, h) * f).intersect(rect);
            for &(i, at) in part {
                let (r, o) = (place(at), over(i));
                painter.rect_filled(r, 0.0, o.fill.gamma_multiply(cx.pane.shows.cover.clamp(0.0, 1.0)));
                if o.crossed && r.width() > 2.0 {
                    cross(cx, &painter, r);
                }
                if let Some(color) = o.outline {
                    painter.rect_stroke(r, 0.0, Stroke::new(1.5, color), StrokeKind::Inside);
                }
                let room = r.width().min(r.height());
                if let Some((mark, color)) = o.mark.filter(|_| room >= 7.0) {
                    // Light below dark shows on every picture.
                    let radius = (room * 0.22).clamp(2.0, 6.0);
                    marks::paint(&painter, r.center(), radius + 1.0, mark, cx.theme.background);
                    marks::paint(&painter, r.center(), radius, mark, color);
                }
            }
            for &(i, at) in part {
                if let Some(stroke) = widgets::outline(cx, on.standing(cx, unit, i)) {
                    let halo = Stroke::new(stroke.width + 2.0, cx.theme.background);
                    painter.rect_stroke(place(at), 0.0, halo, StrokeKind::Middle);
                    painter.rect_stroke(place(at), 0.0, stroke, StrokeKind::Middle);
                }
            }
            let under = response.hover_pos().and_then(|p| part.iter().find(|e| place(e.1).contains(p))).map(|e| e.0);
            let elsewhere = || part.iter().map(|e| e.0).find(|&i| cx.hovered.token() == Some(i));
            let label = match under.or_else(elsewhere) {
                Some(i) => format!("picture of {} {}, at {}", part.len(), unit.plural(), say(i)),
                None => format!("picture of {} {}", part.len(), unit.plural()),
            };
            response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
            on.menu_ui(cx, ui, &response, unit, under);
            if let Some(i) = under {
                on.follow(cx, ui, &response, unit, i);
                response.on_hover_text_at_pointer(say(i));
            }
        }
    });
    cover_ui(cx, ui);
    drawn
}

/// A cross through a rectangle, dark on light so that it shows on every picture.
pub fn cross(cx: &Cx, painter: &egui::Painter, r: Rect) {
    let r = r.shrink((r.width() * 0.12).min(3.0));
    let ends = [[r.left_bottom(), r.right_top()], [r.left_top(), r.right_bottom()]];
    // Where two strokes would fill it one is enough.
    let ends = if r.width() < 8.0 { &ends[..1] } else { &ends[..] };
    for stroke in [Stroke::new(2.5, cx.theme.background), Stroke::new(1.0, cx.theme.text)] {
        for line in ends {
            painter.line_segment(*line, stroke);
        }
    }
}

/// How much the colours hide of the picture.
pub fn cover_ui(cx: &Cx, ui: &mut Ui) {
    if cx.figure {
        return;
    }
    ui.horizontal(|ui| {
        let label = ui.small("overlay");
        let mut cover = cx.pane.shows.cover;
        ui.spacing_mut().slider_width = 84.0;
        let slider = egui::Slider::new(&mut cover, 0.0..=1.0).show_value(false);
        let slider = ui.add(slider).labelled_by(label.id);
        if slider.on_hover_text("How much the colours hide of the picture").changed() {
            cx.set_look("overlay", move |p| p.shows.cover = cover);
        }
    });
}

/// Pictures whose textures are kept.
const TEXTURES: usize = 6;

/// The picture as a texture, kept while it is shown.
pub fn texture(ui: &Ui, picture: &Arc<Picture>) -> egui::TextureHandle {
    let slot = egui::Id::unique("picture textures");
    let mut kept: Vec<(Arc<Picture>, egui::TextureHandle)> = ui.data(|d| d.get_temp(slot)).unwrap_or_default();
    // The picture is kept as well, so that no other one can take its address.
    if let Some((_, texture)) = kept.iter().find(|(of, _)| Arc::ptr_eq(of, picture)) {
        return texture.clone();
    }
    let step = picture.width.max(picture.height).div_ceil(MAX_SIDE);
    let (w, h) = (picture.width.div_ceil(step), picture.height.div_ceil(step));
    let pixel = |i: usize| {
        let [r, g, b] = picture.pixel(i % w * step, i / w * step);
        Color32::from_rgb(r, g, b)
    };
    let image = ColorImage::new([w, h], (0..w * h).map(pixel).collect());
    // Small pictures keep their pixels when enlarged: tokens of toy models are a few pixels wide.
    let options = if w.max(h) < 128 { TextureOptions::NEAREST } else { TextureOptions::LINEAR };
    let texture = ui.ctx().load_texture("picture", image, options);
    // Those of the panes that stand side by side; the oldest goes first.
    kept.truncate(TEXTURES - 1);
    kept.insert(0, (picture.clone(), texture.clone()));
    ui.data_mut(|d| d.insert_temp(slot, kept));
    texture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_pictures_has_its_own_glance_and_frames_have_none() {
        let r = |x: f32, w: f32| Rect::from_min_size(pos2(x, 0.0), vec2(w, 10.0));
        let glances = |all: &[Rect]| (0..all.len()).filter(|&i| is_glance(all, i)).collect::<Vec<_>>();
        // Two tiles and the whole, in either order.
        assert_eq!(glances(&[r(0.0, 10.0), r(10.0, 10.0), r(0.0, 20.0)]), [2]);
        assert_eq!(glances(&[r(0.0, 20.0), r(0.0, 10.0), r(10.0, 10.0)]), [0]);
        // The same of a second picture beside it; one tile that is the whole.
        let two = [r(0.0, 20.0), r(0.0, 10.0), r(10.0, 10.0), r(20.0, 8.0), r(20.0, 8.0)];
        assert_eq!(glances(&two), [0, 4]);
        // Frames side by side, and one picture alone.
        assert!(glances(&[r(0.0, 10.0), r(10.0, 10.0)]).is_empty() && glances(&[r(0.0, 10.0)]).is_empty());
    }
}
