//! Matrices of the views as colours, with their legend.

use crate::cx::Cx;
use crate::heatmap::{Fitted, Frame, Matrix, Source, Tile, pixels};
use crate::pictures::widgets;
use crate::work::{AttentionMap, Cells, MapOf, Thumbnail};
use egui::{ColorImage, Rect, TextureOptions, Ui, emath::GuiRounding as _, pos2};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use tokenscope_analysis::array::Array;

/// The cells of `map` on the host; where they lie on a device they are copied once, beside the window, and `None`
/// comes back until they are there. `asked` asks for the map.
pub fn host(cx: &Cx, map: &AttentionMap, asked: &MapOf) -> Option<Arc<Array>> {
    match &map.cells {
        Cells::Host(a) => Some(a.clone()),
        Cells::Device(_) => cx.cells(asked),
    }
}

/// Paints the part `window` (shares: left, top, width, height) of `map` into `rect`. Where cells are smaller than
/// pixels, the largest value of a pixel shows; so no strong cell is lost in the overview. `whole` is the map that the
/// scale was fitted to, `map` itself or what it is a part of; `asked` asks for `map`.
pub fn map(
    cx: &Cx,
    ui: &mut Ui,
    rect: Rect,
    (map, asked): (&AttentionMap, &MapOf),
    whole: &AttentionMap,
    fitted: &Fitted,
    window: [f32; 4],
) {
    let (rows, cols, first_col) = (map.window.rows, map.window.cols, map.window.keys.start);
    let (rect, frame) = pixel_grid(ui, rect, window);
    let row_tops = || row_tops(map, whole);
    if let Some(painter) = cx.painter {
        let cells = match &map.cells {
            Cells::Host(a) => Source::Host(a.data()),
            Cells::Device(d) => Source::Device(d),
        };
        let (version, scale_version) = (map.version, whole.version);
        let tile = Tile { version, rows, cols, first_col, cells, row_tops: &row_tops, scale_version };
        if let Some(shape) = painter.shape(rect, &tile, &frame, fitted, &cx.theme.heat()) {
            ui.painter().add(shape);
            return;
        }
    }
    let Some(cells) = host(cx, map, asked) else { return };
    let key = (map.version, whole.version);
    texture(cx, ui, rect, "map", key, &frame, fitted, || {
        let m = Matrix { rows, cols, first_col, values: cells.data(), row_tops: &row_tops() };
        pixels(&m, &frame, fitted, &cx.theme.heat())
    });
}

/// The largest values of the rows of `map`: those of the rows of `whole` that they lie in, so that a row keeps its
/// colours when the map is zoomed into.
fn row_tops(map: &AttentionMap, whole: &AttentionMap) -> Vec<[f32; 2]> {
    let tops = whole.summary.row_tops();
    if map.version == whole.version {
        return tops.to_vec();
    }
    let edges = map.window.query_edges();
    let top = |q: &usize| whole.window.row_of(*q).and_then(|r| tops.get(r)).copied().unwrap_or_default();
    edges.iter().take(map.window.rows).map(top).collect()
}

/// Paints a thumbnail into `rect`.
pub fn thumbnail(cx: &Cx, ui: &mut Ui, rect: Rect, t: &Thumbnail) {
    let fitted = Fitted::new(&t.summary, cx.pane.shows.scale);
    let (rect, frame) = pixel_grid(ui, rect, crate::pane::WHOLE);
    texture(cx, ui, rect, &format!("thumbnail {} {}", t.layer, t.head), (t.version, 0), &frame, &fitted, || {
        let (row_tops, cells) = (t.summary.row_tops(), &t.glance.cells);
        let (rows, cols) = (cells.shape()[0], cells.shape()[1]);
        let m = Matrix { rows, cols, first_col: 0, values: cells.data(), row_tops };
        pixels(&m, &frame, &fitted, &cx.theme.heat())
    });
}

/// `rect` on whole pixels, and those pixels.
fn pixel_grid(ui: &Ui, rect: Rect, window: [f32; 4]) -> (Rect, Frame) {
    let scale = ui.ctx().pixels_per_point();
    let rect = rect.round_to_pixels(scale);
    let pixels = |points: f32| (points * scale).round();
    let size = [pixels(rect.width()).max(1.0) as usize, pixels(rect.height()).max(1.0) as usize];
    (rect, Frame { at: [pixels(rect.left()), pixels(rect.top())], size, window })
}

/// Paints the pixels that `make` gives, kept as a texture until something that they depend on changes.
#[expect(clippy::too_many_arguments, reason = "what a kept texture depends on")]
fn texture(
    cx: &Cx,
    ui: &Ui,
    rect: Rect,
    id: &str,
    versions: (u64, u64),
    frame: &Frame,
    fitted: &Fitted,
    make: impl FnOnce() -> Vec<egui::Color32>,
) {
    let mut hash = DefaultHasher::new();
    let scale = cx.pane.shows.scale;
    (versions, frame.size, cx.theme.dark, cx.theme.map, fitted.words(), scale.mask_sink).hash(&mut hash);
    frame.window.iter().chain([&fitted.low, &fitted.high]).for_each(|v| v.to_bits().hash(&mut hash));
    let key = hash.finish();
    let slot = ui.scope_id().with(("heat", id));
    let cached = ui.data(|d| d.get_temp::<(u64, egui::TextureHandle)>(slot)).filter(|(k, _)| *k == key);
    let texture = match cached {
        Some((_, t)) => t,
        None => {
            let pixels = make();
            if pixels.is_empty() {
                return;
            }
            let fresh = ui.ctx().load_texture(id, ColorImage::new(frame.size, pixels), TextureOptions::NEAREST);
            ui.data_mut(|d| d.insert_temp(slot, (key, fresh.clone())));
            fresh
        }
    };
    let all = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
    ui.painter().image(texture.id(), rect, all, egui::Color32::WHITE);
}

/// A legend of the fitted scale with unit and curve.
pub fn legend(cx: &Cx, ui: &mut Ui, fitted: &Fitted, unit: &str) {
    widgets::legend(cx, ui, fitted.low, fitted.high, &format!("{unit} ({})", fitted.words()), false);
}
