//! A picture with a colour, a veil or an outline on each token's own rectangle of the original pixels.

use super::{Cx, widgets};
use egui::{Color32, ColorImage, Rect, Sense, Stroke, StrokeKind, TextureOptions, Ui, pos2, vec2};
use std::sync::Arc;
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::token::Source;
use tokenscope_analysis::trace::TowerTrace;

/// How one token is marked.
#[derive(Clone, Copy, Default)]
pub struct Mark {
    /// Laid over the rectangle.
    pub fill: Color32,
    /// Around it; tokens of one group share a colour.
    pub outline: Option<Color32>,
    /// Crossed out.
    pub crossed: bool,
}

/// The longest side of the texture in pixels; larger pictures are shown smaller.
const MAX_SIDE: usize = 2048;

/// Draws `picture` at most `height` points high with a mark on every image token, for a tiled run the tiles at the
/// left and the whole at the right. A click selects the token. Gives where the picture lies, once for each.
pub fn paint(
    cx: &Cx,
    ui: &mut Ui,
    picture: &Arc<Picture>,
    tower: &TowerTrace,
    height: f32,
    mark: &dyn Fn(usize) -> Mark,
    say: &dyn Fn(usize) -> String,
) -> Vec<Rect> {
    let texture = texture(ui, picture);
    let n = tower.grids.len();
    // Several grids are tiles, and the last one is the whole picture at a glance.
    let glance = if n > 1 { n - 1 } else { n };
    let parts: Vec<_> = [0..glance, glance..n].into_iter().filter(|p| n == 0 || !p.is_empty()).take(n.max(1)).collect();
    let mut drawn = Vec::new();
    ui.horizontal_top(|ui| {
        let share = (ui.available_width() - 8.0 * (parts.len() - 1) as f32) / parts.len() as f32;
        for part in parts {
            let tokens: Vec<usize> =
                tower.grids[part].iter().flat_map(|g| g.first..g.first + g.rows * g.cols).collect();
            let f = (share / picture.width as f32).min(height / picture.height as f32);
            let size = vec2(picture.width as f32, picture.height as f32) * f;
            let sense = Sense::click() - Sense::FOCUSABLE;
            let (rect, response) = ui.allocate_exact_size(size.max(vec2(4.0, 4.0)), sense);
            drawn.push(rect);
            let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            let painter = ui.painter_at(rect);
            painter.image(texture.id(), rect, whole, Color32::WHITE);
            let place = |i: usize| match tower.tokens.get(i)?.source {
                Source::Rect { x, y, w, h } => {
                    Some(Rect::from_min_size(rect.min + vec2(x, y) * f, vec2(w, h) * f).intersect(rect))
                }
                _ => None,
            };
            for &i in &tokens {
                let Some(r) = place(i) else { continue };
                let m = mark(i);
                painter.rect_filled(r, 0.0, m.fill);
                if m.crossed && r.width() > 5.0 {
                    painter.line_segment([r.left_bottom(), r.right_top()], Stroke::new(1.0, cx.theme.line));
                }
                if let Some(color) = m.outline {
                    painter.rect_stroke(r, 0.0, Stroke::new(1.5, color), StrokeKind::Inside);
                }
            }
            for &i in &tokens {
                let stroke = widgets::outline(cx, cx.standing(i, None));
                if let (Some(r), Some(stroke)) = (place(i), stroke) {
                    // Light below dark shows on every picture.
                    let halo = Stroke::new(stroke.width + 2.0, cx.theme.background);
                    painter.rect_stroke(r, 0.0, halo, StrokeKind::Middle);
                    painter.rect_stroke(r, 0.0, stroke, StrokeKind::Middle);
                }
            }
            let under = response
                .hover_pos()
                .and_then(|at| tokens.iter().copied().find(|&i| place(i).is_some_and(|r| r.contains(at))));
            let marked = under.or(cx.hovered.token()).filter(|i| tokens.contains(i));
            let label = match marked {
                Some(i) => format!("picture of {} tokens, at {}", tokens.len(), say(i)),
                None => format!("picture of {} tokens", tokens.len()),
            };
            response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
            if let Some(i) = under {
                cx.hover_token(i, tower.tokens.get(i));
                if response.clicked() {
                    cx.pick(ui, i, i);
                }
                response.on_hover_text_at_pointer(say(i));
            }
        }
    });
    drawn
}

fn texture(ui: &Ui, picture: &Arc<Picture>) -> egui::TextureHandle {
    let slot = egui::Id::unique("picture texture");
    let cached = ui.data(|d| d.get_temp::<(Arc<Picture>, egui::TextureHandle)>(slot));
    // The picture is kept as well, so that no other one can take its address.
    if let Some((_, texture)) = cached.filter(|(of, _)| Arc::ptr_eq(of, picture)) {
        return texture;
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
    ui.data_mut(|d| d.insert_temp(slot, (picture.clone(), texture.clone())));
    texture
}
