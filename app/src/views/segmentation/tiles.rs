//! A picture cut into tiles: the tiles in the colours of their codes, what the codes give back, how far off it is.

use super::{codes, hover, raster};
use crate::cx::Cx;
use crate::pictures;
use crate::pictures::widgets;
use crate::theme::Theme;
use crate::work::{Cut, Whole};
use egui::{Align2, Color32, ColorImage, FontId, Rect, Sense, Stroke, StrokeKind, TextStyle, Ui, Vec2, pos2, vec2};
use tokenscope_analysis::finding::{Cuts, Image, Picture as Shape, Piece, Raster, Span, Unit};
use tokenscope_analysis::image::Picture;

/// Pieces of the hovered id that are outlined at most.
const TWINS: usize = 4096;
/// Narrower pieces, in points, have no line between them.
const LINED: f32 = 5.0;
/// Narrower pieces show no id.
const NAMED: f32 = 26.0;
/// Narrowest picture, in points, before they stand one below the other.
const NARROW: f32 = 240.0;
/// Highest picture.
const HIGH: f32 = 420.0;

pub(super) fn ui(cx: &Cx, ui: &mut Ui, cut: &Cut) {
    let Whole::Image(picture) = &cut.whole else { return };
    let pieces = cut.found.pictures.iter().find_map(|p| if let Shape::Cuts(c) = p { Some(c) } else { None });
    let images: Vec<&Image> =
        cut.found.pictures.iter().filter_map(|p| if let Shape::Image(i) = p { Some(i) } else { None }).collect();
    pictures::columns(ui, 1 + images.len(), NARROW, |ui, i, width| {
        let most = vec2(width, HIGH);
        let Some(shown) = i.checked_sub(1).and_then(|i| images.get(i)) else {
            if let Some(pieces) = pieces {
                ui.small(title(pieces));
                on_picture(ui, cx.theme, pieces, ("tiles", cut.version), picture, most);
            }
            return;
        };
        ui.small(&shown.title);
        let slot = if matches!(shown.raster, Raster::Rgb(_)) { "given back" } else { "error of tiles" };
        raster::paint(ui, cx.theme, shown, ((slot, i), cut.version), most);
        if let Raster::Values(values, measure) = &shown.raster {
            widgets::legend(cx, ui, 0.0, raster::largest(values), measure.unit, measure.signed);
        }
    });
    codes::ui(cx, ui, cut);
}

fn title(cuts: &Cuts) -> &'static str {
    if cuts.pieces.iter().any(|p| p.id.is_some()) { "a colour for each code" } else { "pieces" }
}

/// Draws `picture` in at most `most` points below its pieces. `version` tells the pieces from others in the same place.
fn on_picture(
    ui: &mut Ui,
    theme: &Theme,
    cuts: &Cuts,
    (slot, version): (&'static str, u64),
    picture: &Picture,
    most: Vec2,
) {
    let size = [picture.width, picture.height];
    let (rect, response) = ui.allocate_exact_size(raster::fitted(size, most), Sense::hover());
    let painter = ui.painter_at(rect);
    let scale = rect.size() / vec2(size[0] as f32, size[1] as f32);
    let step = size[0].max(size[1]).div_ceil(raster::MAX_SIDE).max(1);
    let (cols, rows) = (size[0].div_ceil(step), size[1].div_ceil(step));
    let pixel = |i: usize| {
        let [r, g, b] = picture.pixel(i % cols * step, i / cols * step);
        Color32::from_rgb(r, g, b)
    };
    let below = || ColorImage::new([cols, rows], (0..cols * rows).map(pixel).collect());
    let texture =
        raster::texture(ui, ui.scope_id().with((slot, "below")), (version, false), cols.max(rows) < 256, below);
    let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
    painter.image(texture.id(), rect, whole, Color32::WHITE);
    let place = |r: [f32; 4]| Rect::from_min_size(rect.min + vec2(r[0], r[1]) * scale, vec2(r[2], r[3]) * scale);
    let of = |p: &Piece| match p.span {
        Span::Rect(r) => Some(place(r)),
        Span::Range(..) => None,
    };
    if let Unit::Cells(grid) = &cuts.unit
        && let Some(area) = grid.area
        && grid.rows * grid.cols == cuts.pieces.len()
        && !cuts.pieces.is_empty()
    {
        let colors = || {
            let color = |(i, p): (usize, &Piece)| fill(theme, p, i / grid.cols + i % grid.cols);
            ColorImage::new([grid.cols, grid.rows], cuts.pieces.iter().enumerate().map(color).collect())
        };
        // A grid with smaller pieces at its edge is not evenly spaced.
        let even = cuts.pieces.first().map(|p| p.span) == cuts.pieces.last().map(|p| at_origin(p.span));
        if even && grid.rows.max(grid.cols) <= raster::MAX_SIDE {
            let id = ui.scope_id().with((slot, "pieces"));
            let texture = raster::texture(ui, id, (version, theme.dark), true, colors);
            painter.image(texture.id(), place(area), whole, Color32::WHITE);
        } else {
            cuts.pieces.iter().enumerate().for_each(|(i, p)| {
                if let Some(r) = of(p) {
                    painter.rect_filled(r, 0.0, fill(theme, p, i / grid.cols + i % grid.cols));
                }
            });
        }
        lines(&painter, theme, cuts, grid.cols, rect, of);
        // What no piece covers.
        let [w, h] = [area[2], area[3]];
        let (right, below) =
            (place([w, 0.0, size[0] as f32 - w, h]), place([0.0, h, size[0] as f32, size[1] as f32 - h]));
        for r in [right, below].into_iter().filter(|r| r.is_positive()) {
            painter.rect_filled(r, 0.0, theme.veil);
        }
    }
    names(ui, &painter, theme, cuts, of);
    let at = response.hover_pos().and_then(|at| cuts.pieces.iter().position(|p| of(p).is_some_and(|r| r.contains(at))));
    if let Some((i, id)) = hover::hovered(ui, slot) {
        let twins = cuts.pieces.iter().enumerate().filter(|(k, p)| *k == i || (id.is_some() && p.id == id)).take(TWINS);
        twins.filter_map(|(k, p)| of(p).map(|r| (k == i, r))).for_each(|(own, r)| mark(&painter, theme, r, own));
    }
    let words = |i: usize, p: &Piece| {
        let id = p.id.map_or(String::new(), |id| format!(" · id {id}"));
        match p.span {
            Span::Rect([x, y, w, h]) => format!("{}{id} · {w} × {h} pixels from {x}, {y}", cuts.unit.label(i)),
            Span::Range(..) => String::new(),
        }
    };
    hover::say(ui, response, cuts, slot, at, words);
}

/// The same span where a grid begins.
fn at_origin(span: Span) -> Span {
    match span {
        Span::Rect([_, _, w, h]) => Span::Rect([0.0, 0.0, w, h]),
        range => range,
    }
}

/// The colour of a piece by its id, so thin that the picture is seen below; without ids a chessboard.
fn fill(theme: &Theme, p: &Piece, place: usize) -> Color32 {
    match p.id {
        Some(id) => theme.code(id).gamma_multiply(0.6),
        None if place.is_multiple_of(2) => theme.accent.gamma_multiply(0.3),
        None => Color32::TRANSPARENT,
    }
}

fn mark(painter: &egui::Painter, theme: &Theme, r: Rect, own: bool) {
    let (halo, line) = if own { (4.0, 2.0) } else { (2.5, 1.0) };
    painter.rect_stroke(r, 0.0, Stroke::new(halo, theme.background), StrokeKind::Middle);
    painter.rect_stroke(r, 0.0, Stroke::new(line, if own { theme.text } else { theme.accent }), StrokeKind::Middle);
}

/// Lines between the pieces of a grid, where there is room for them.
fn lines(
    painter: &egui::Painter,
    theme: &Theme,
    cuts: &Cuts,
    cols: usize,
    rect: Rect,
    of: impl Fn(&Piece) -> Option<Rect>,
) {
    let Some(first) = cuts.pieces.first().and_then(&of) else { return };
    if first.width().min(first.height()) < LINED {
        return;
    }
    let stroke = Stroke::new(0.75, theme.background.gamma_multiply(0.7));
    let (mut right, mut below) = (rect.left(), rect.top());
    for r in cuts.pieces.iter().filter_map(&of) {
        (right, below) = (right.max(r.right()), below.max(r.bottom()));
    }
    for r in cuts.pieces.iter().take(cols).filter_map(&of) {
        painter.line_segment([pos2(r.right(), rect.top()), pos2(r.right(), below)], stroke);
    }
    for r in cuts.pieces.iter().step_by(cols.max(1)).filter_map(&of) {
        painter.line_segment([pos2(rect.left(), r.bottom()), pos2(right, r.bottom())], stroke);
    }
}

/// Ids on pieces that are wide enough for them.
fn names(ui: &Ui, painter: &egui::Painter, theme: &Theme, cuts: &Cuts, of: impl Fn(&Piece) -> Option<Rect>) {
    let font = FontId::proportional(TextStyle::Small.resolve(ui.style()).size * 0.9);
    if cuts.pieces.first().and_then(&of).is_none_or(|r| r.width() < NAMED || r.height() < font.size + 2.0) {
        return;
    }
    for p in &cuts.pieces {
        if let (Some(id), Some(r)) = (p.id, of(p)) {
            // Readable on the colour alone; the picture below is only a hint of itself.
            let galley = painter.layout_no_wrap(id.to_string(), font.clone(), Color32::PLACEHOLDER);
            let under = Align2::CENTER_CENTER.align_size_within_rect(galley.size() + vec2(4.0, 0.0), r);
            painter.rect_filled(under, 2.0, theme.code(id));
            painter.galley(under.min + vec2(2.0, 0.0), galley, theme.text_on(theme.code(id)));
        }
    }
}
