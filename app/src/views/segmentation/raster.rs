//! Pixels of a cut: what its ids give back, and how far off they are.

use crate::theme::Theme;
use egui::{Color32, ColorImage, Id, Rect, Sense, TextureHandle, TextureOptions, Ui, Vec2, pos2, vec2};
use tokenscope_analysis::finding::{Image, Raster};

/// The longest side of a texture in pixels; larger pictures are shown smaller.
pub(super) const MAX_SIDE: usize = 2048;

/// The texture of `image`, made once for each `version` and kept under `slot`.
pub(super) fn texture(
    ui: &Ui,
    slot: Id,
    version: (u64, bool),
    nearest: bool,
    image: impl FnOnce() -> ColorImage,
) -> TextureHandle {
    let cached = ui.data(|d| d.get_temp::<((u64, bool), TextureHandle)>(slot));
    if let Some((_, texture)) = cached.filter(|(of, _)| *of == version) {
        return texture;
    }
    let options = if nearest { TextureOptions::NEAREST } else { TextureOptions::LINEAR };
    let texture = ui.ctx().load_texture("picture", image(), options);
    ui.data_mut(|d| d.insert_temp(slot, (version, texture.clone())));
    texture
}

/// The largest size of that shape that fits into `most`.
pub(super) fn fitted([w, h]: [usize; 2], most: Vec2) -> Vec2 {
    let (w, h) = (w.max(1) as f32, h.max(1) as f32);
    (vec2(w, h) * (most.x / w).min(most.y / h)).max(vec2(4.0, 4.0))
}

/// Draws `image` into at most `most` points. `version` tells it from others in the same place `slot`. Pictures on the
/// input itself, which have no pixels of their own, are left out.
pub(super) fn paint(
    ui: &mut Ui,
    theme: &Theme,
    image: &Image,
    (slot, version): ((&'static str, usize), u64),
    most: Vec2,
) -> Option<Rect> {
    let make: Box<dyn Fn(usize) -> Color32 + '_> = match &image.raster {
        Raster::Input => return None,
        Raster::Rgb(bytes) => Box::new(|i| {
            let [r, g, b] = [0, 1, 2].map(|k| bytes.get(3 * i + k).copied().unwrap_or(0));
            Color32::from_rgb(r, g, b)
        }),
        Raster::Values(values, measure) => {
            let most = largest(values);
            let signed = measure.signed;
            Box::new(move |i| {
                let v = values.get(i).copied().unwrap_or(0.0) / most.max(f32::EPSILON);
                if signed { theme.signed(v) } else { theme.magnitude(v) }
            })
        }
    };
    let [w, h] = image.size;
    let step = w.max(h).div_ceil(MAX_SIDE).max(1);
    let (cols, rows) = (w.div_ceil(step), h.div_ceil(step));
    let draw = || {
        ColorImage::new([cols, rows], (0..cols * rows).map(|i| make(i / cols * step * w + i % cols * step)).collect())
    };
    // Small pictures keep their pixels when enlarged.
    let key = (version, theme.dark);
    let id = ui.scope_id().with((slot, theme.map, "raster"));
    let texture = texture(ui, id, key, cols.max(rows) < 256, draw);
    let (rect, response) = ui.allocate_exact_size(fitted(image.size, most), Sense::hover());
    let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
    ui.painter_at(rect).image(texture.id(), rect, whole, Color32::WHITE);
    let label = format!("picture of {w} by {h} pixels, {}", image.title);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
    if let (Raster::Values(values, measure), Some(at)) = (&image.raster, response.hover_pos()) {
        let place = (at - rect.min) / rect.size();
        let (x, y) = ((place.x * w as f32) as usize, (place.y * h as f32) as usize);
        if let Some(v) = values.get(y.min(h.saturating_sub(1)) * w + x.min(w.saturating_sub(1))) {
            response.on_hover_text_at_pointer(format!("{} at {x}, {y}: {v:.1} {}", measure.name, measure.unit));
        }
    }
    Some(rect)
}

/// The largest magnitude.
pub(super) fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |a, v| a.max(v.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_keeps_its_shape_within_its_room() {
        assert_eq!(fitted([200, 100], vec2(100.0, 100.0)), vec2(100.0, 50.0));
        assert_eq!(fitted([10, 100], vec2(100.0, 50.0)), vec2(5.0, 50.0));
        assert_eq!(fitted([0, 0], vec2(0.0, 0.0)), vec2(4.0, 4.0));
    }
}
