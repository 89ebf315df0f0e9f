//! A picture of its own, or the input's, with regions and points drawn on it.

use super::marks;
use super::scale::Scale;
use super::tokens::picture_height;
use super::{On, overlay, widgets};
use crate::cx::Cx;
use egui::{Color32, ColorImage, Rect, Sense, Shape, Stroke, TextureOptions, Ui, Vec2, pos2, vec2};
use std::sync::Arc;
use tokenscope_analysis::finding::{Image, Look, Outline, Raster, Region, count};

/// Draws `image`.
pub fn ui(cx: &Cx, ui: &mut Ui, on: &On, image: &Image) {
    if !image.classes.is_empty() {
        let counts = count(image.classes.len(), image.regions.iter().filter_map(|r| r.class));
        marks::classes_ui(cx.theme, ui, &image.classes, &counts);
    }
    let scale = match &image.raster {
        Raster::Values(values, measure) => Some(Scale::new(measure, values.iter().copied())),
        _ => None,
    };
    let (texture, size) = match (&image.raster, on.picture) {
        (Raster::Input, Some(p)) => (overlay::texture(ui, p), vec2(p.width as f32, p.height as f32)),
        (Raster::Input, None) => {
            ui.weak("The picture that this is drawn on is not there.");
            return;
        }
        _ => match own(cx, ui, image, scale.as_ref()) {
            Some(texture) => (texture, vec2(image.size[0] as f32, image.size[1] as f32)),
            None => return,
        },
    };
    let f = (ui.available_width() / size.x).min(picture_height(ui) / size.y);
    let (rect, response) = ui.allocate_exact_size((size * f).max(Vec2::splat(4.0)), Sense::hover());
    let painter = ui.painter_at(rect);
    painter.image(texture.id(), rect, Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0)), Color32::WHITE);
    let mut under = None;
    for (i, region) in image.regions.iter().enumerate() {
        region_ui(cx, &painter, image, region, rect, f);
        let [x, y, w, h] = region.outline.bounds();
        let bounds = Rect::from_min_size(rect.min + vec2(x, y) * f, vec2(w, h) * f).expand(4.0);
        if response.hover_pos().is_some_and(|p| bounds.contains(p)) {
            under = Some(i);
        }
    }
    let say = |i: usize| {
        let r = &image.regions[i];
        let class = r.class.and_then(|c| image.classes.get(c)).map_or(String::new(), |c| format!(", {}", c.name));
        let value = match (r.value, image.measure) {
            (Some(v), Some(m)) => format!(", {} {}", m.words(), widgets::number(v)),
            _ => String::new(),
        };
        format!("region {i} {}{class}{value}", r.label)
    };
    let label = match under {
        Some(i) => format!("picture with {} regions, at {}", image.regions.len(), say(i)),
        None if image.regions.is_empty() => format!("picture, {}", image.title),
        None => format!("picture with {} regions", image.regions.len()),
    };
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
    if let Some(i) = under {
        response.on_hover_text_at_pointer(say(i));
    }
    if let Some(scale) = &scale {
        scale.legend_ui(cx, ui);
    }
}

fn region_ui(cx: &Cx, painter: &egui::Painter, image: &Image, region: &Region, rect: Rect, f: f32) {
    let look = region.class.and_then(|c| image.classes.get(c)).map_or(Look::Category(0), |c| c.look);
    let (color, mark) = marks::of(cx.theme, look);
    let at = |[x, y]: [f32; 2]| rect.min + vec2(x, y) * f;
    let closed: Vec<egui::Pos2> = match &region.outline {
        Outline::Point(p) => {
            marks::paint(painter, at(*p), 6.0, mark, cx.theme.background);
            marks::paint(painter, at(*p), 4.5, mark, color);
            Vec::new()
        }
        Outline::Rect([x, y, w, h]) => [[*x, *y], [x + w, *y], [x + w, y + h], [*x, y + h]].map(at).to_vec(),
        Outline::Ellipse { at: [x, y], radii: [a, b], turn } => {
            let (sin, cos) = turn.sin_cos();
            let point = |i: usize| {
                let (s, c) = (i as f32 / 48.0 * std::f32::consts::TAU).sin_cos();
                at([x + a * c * cos - b * s * sin, y + a * c * sin + b * s * cos])
            };
            (0..48).map(point).collect()
        }
        Outline::Polygon(points) => points.iter().copied().map(at).collect(),
    };
    if !closed.is_empty() {
        // Light below dark shows on every picture.
        painter.add(Shape::closed_line(closed.clone(), Stroke::new(4.0, cx.theme.background)));
        painter.add(Shape::closed_line(closed, Stroke::new(2.0, color)));
    }
}

/// The pixels of the image as a texture, kept while they are shown.
fn own(cx: &Cx, ui: &Ui, image: &Image, scale: Option<&Scale>) -> Option<egui::TextureHandle> {
    let [w, h] = image.size;
    if w == 0 || h == 0 {
        return None;
    }
    let address = match &image.raster {
        Raster::Rgb(b) => Arc::as_ptr(b) as *const u8 as usize,
        Raster::Values(v, _) => Arc::as_ptr(v) as *const f32 as usize,
        Raster::Input => return None,
    };
    type Kept = ((usize, bool, crate::theme::ColorMap), Raster, egui::TextureHandle);
    let key = (address, cx.theme.dark, cx.theme.map);
    let slot = ui.scope_id().with("own picture");
    if let Some((of, _, texture)) = ui.data(|d| d.get_temp::<Kept>(slot))
        && of == key
    {
        return Some(texture);
    }
    let pixels: Vec<Color32> = match (&image.raster, scale) {
        (Raster::Rgb(b), _) => b.as_chunks::<3>().0.iter().map(|&[r, g, b]| Color32::from_rgb(r, g, b)).collect(),
        (Raster::Values(v, _), Some(scale)) => v.iter().map(|v| scale.color(cx, *v)).collect(),
        _ => return None,
    };
    if pixels.len() != w * h {
        return None;
    }
    let options = if w.max(h) < 128 { TextureOptions::NEAREST } else { TextureOptions::LINEAR };
    let texture = ui.ctx().load_texture("own picture", ColorImage::new([w, h], pixels), options);
    // The pixels are kept as well, so that no others can take their address.
    ui.data_mut(|d| d.insert_temp(slot, (key, image.raster.clone(), texture.clone())));
    Some(texture)
}
