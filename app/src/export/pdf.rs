//! egui shapes → PDF: the third back end of the display list that the window paints. Letters are glyphs of embedded
//! fonts with the text that they stand for, so that they are found and copied.

use super::runs::{self, Run};
use super::shape::Shaper;
use super::{About, Figure, SOFTWARE, Texture};
use anyhow::anyhow;
use egui::epaint::{ClippedShape, ColorMode, PathStroke, RectShape, TextShape};
use egui::{Color32, FontData, Pos2, Rect, Shape, Stroke, StrokeKind, TextureId, Vec2, pos2, vec2};
use krilla::action::{Action, LinkAction};
use krilla::annotation::{LinkAnnotation, Target};
use krilla::color::rgb;
use krilla::geom::{Path, PathBuilder, Point, Size, Transform};
use krilla::metadata::Metadata;
use krilla::num::NormalizedF32;
use krilla::page::PageSettings;
use krilla::paint::{Fill, FillRule};
use krilla::surface::Surface;
use krilla::text::{Font, GlyphId, KrillaGlyph};
use krilla::{Data, Document};
use std::collections::HashMap;
use std::sync::Arc;

/// Points of PDF, of which an inch has 72, to one of egui's.
const POINT: f32 = 0.75;
/// How far the handles of a quarter of a circle reach, as a share of its radius.
const ARC: f32 = 0.552_285;

/// A place of a page that leads to an address.
pub struct Link {
    /// Where, in points of 1/96 inch.
    pub place: Rect,
    /// The address.
    pub url: String,
}

/// Fonts that pages have used so far.
#[derive(Default)]
struct Fonts(HashMap<(*const u8, u32), Option<Font>>);

/// Bytes of a font that egui holds.
struct Bytes(Arc<FontData>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Fonts {
    fn of(&mut self, data: &Arc<FontData>) -> Option<Font> {
        let of = (data.bytes().as_ptr(), data.index);
        // What is known keeps its bytes, so that no other font comes to stand where they are.
        let read =
            || Font::new(Data::from(Arc::new(Bytes(data.clone())) as Arc<dyn AsRef<[u8]> + Send + Sync>), data.index);
        self.0.entry(of).or_insert_with(read).clone()
    }
}

/// Pages of a PDF.
pub struct Sheets {
    document: Document,
    fonts: Fonts,
}

impl Default for Sheets {
    fn default() -> Self {
        Self::new()
    }
}

impl Sheets {
    /// None so far.
    pub fn new() -> Self {
        Self { document: Document::new(), fonts: Fonts::default() }
    }

    /// A page of `size` points of 1/96 inch with what `draw` draws.
    pub fn add(&mut self, size: Vec2, draw: impl FnOnce(&mut Sheet)) {
        let side = |v: f32| if v.is_finite() { (v * POINT).max(1.0) } else { 1.0 };
        let Some(settings) = PageSettings::from_wh(side(size.x), side(size.y)) else { return };
        let mut page = self.document.start_page_with(settings);
        let mut links = Vec::new();
        {
            let mut surface = page.surface();
            surface.push_transform(&Transform::from_scale(POINT, POINT));
            draw(&mut Sheet { surface: &mut surface, fonts: &mut self.fonts, links: &mut links });
            surface.pop();
        }
        for Link { place, url } in links {
            let r = krilla::geom::Rect::from_ltrb(
                place.left() * POINT,
                place.top() * POINT,
                place.right() * POINT,
                place.bottom() * POINT,
            );
            if let Some(r) = r {
                let target = Target::Action(Action::Link(LinkAction::new(url)));
                page.add_annotation(krilla::annotation::Annotation::new_link(LinkAnnotation::new(r, target), None));
            }
        }
        page.finish();
    }

    /// The file, with what it says about itself. Errors: a font that cannot be embedded.
    pub fn finish(mut self, about: &About) -> anyhow::Result<Vec<u8>> {
        let said = |name: &str| about.iter().find(|a| a.0 == name).map_or("", |a| a.1.as_str());
        // Zeros end texts in some readers.
        let clean = |words: String| words.replace('\0', "\u{fffd}");
        let title = match said("title") {
            "" => format!("{} of {}", said("view"), said("model")),
            title => title.into(),
        };
        let mut data = Metadata::new().creator(SOFTWARE.into()).title(clean(title));
        if !said("command").is_empty() {
            let all = about.iter().map(|(name, words)| clean(format!("{name}: {words}")));
            data = data.description(clean(said("command").into())).keywords(all.collect());
        }
        self.document.set_metadata(data);
        self.document.finish().map_err(|e| anyhow!("the PDF could not be written: {e}"))
    }
}

/// A page that is being drawn.
pub struct Sheet<'a, 's> {
    surface: &'a mut Surface<'s>,
    fonts: &'a mut Fonts,
    links: &'a mut Vec<Link>,
}

impl Sheet<'_, '_> {
    /// Draws a figure with its upper left corner at `at`, `scale` times as large.
    pub fn figure(&mut self, figure: &Figure, at: Pos2, scale: f32) {
        self.surface.push_transform(&Transform::from_row(scale, 0.0, 0.0, scale, at.x, at.y));
        let page = Rect::from_min_size(Pos2::ZERO, figure.size);
        let shaper = Shaper::new(&figure.ctx);
        let mut painter =
            Painter { surface: self.surface, fonts: self.fonts, shaper: &shaper, textures: &figure.textures };
        painter.fill(rectangle(page, 0.0), figure.background);
        painter.clipped(&figure.shapes, page);
        self.surface.pop();
    }

    /// Draws shapes without textures, with the fonts of `ctx`.
    pub fn shapes(&mut self, shapes: &[Shape], ctx: &egui::Context) {
        let (shaper, textures) = (Shaper::new(ctx), HashMap::new());
        let mut painter = Painter { surface: self.surface, fonts: self.fonts, shaper: &shaper, textures: &textures };
        shapes.iter().for_each(|s| painter.shape(s));
    }

    /// Draws a picture, a PNG, into a place.
    pub fn picture(&mut self, png: &[u8], place: Rect) {
        draw_png(self.surface, png.to_vec(), place, true);
    }

    /// Makes a place lead to an address.
    pub fn link(&mut self, link: Link) {
        self.links.push(link);
    }
}

struct Painter<'a, 's> {
    surface: &'a mut Surface<'s>,
    fonts: &'a mut Fonts,
    shaper: &'a Shaper,
    textures: &'a HashMap<TextureId, Texture>,
}

fn normal(v: f32) -> NormalizedF32 {
    NormalizedF32::new(v.clamp(0.0, 1.0)).unwrap_or(NormalizedF32::ONE)
}

fn ink(c: Color32) -> Option<(rgb::Color, NormalizedF32)> {
    let [r, g, b, a] = c.to_srgba_unmultiplied();
    (a > 0).then(|| (rgb::Color::new(r, g, b), normal(f32::from(a) / 255.0)))
}

fn filled(c: Color32) -> Option<Fill> {
    ink(c).map(|(color, opacity)| Fill { paint: color.into(), opacity, rule: FillRule::NonZero })
}

fn stroked(s: Stroke) -> Option<krilla::paint::Stroke> {
    let (color, opacity) = ink(s.color).filter(|_| s.width > 0.0)?;
    Some(krilla::paint::Stroke { paint: color.into(), width: s.width, miter_limit: 4.0, opacity, ..Default::default() })
}

fn stroke_of(s: &PathStroke) -> Stroke {
    let color = match &s.color {
        ColorMode::Solid(c) => *c,
        // A colour that varies along the path: the start's stands for it, as in SVG.
        ColorMode::UV(f) => f(Rect::ZERO, Pos2::ZERO),
    };
    Stroke::new(s.width, color)
}

fn lines(points: &[Pos2], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    let (first, rest) = points.split_first()?;
    path.move_to(first.x, first.y);
    rest.iter().for_each(|p| path.line_to(p.x, p.y));
    if closed {
        path.close();
    }
    path.finish()
}

fn ellipse(center: Pos2, r: Vec2) -> Option<Path> {
    let mut path = PathBuilder::new();
    let at = |x: f32, y: f32| center + vec2(x * r.x, y * r.y);
    let start = at(1.0, 0.0);
    path.move_to(start.x, start.y);
    for [x, y] in [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]] {
        // A quarter from (x, y) to (-y, x).
        let (a, b, end) = (at(x - ARC * y, y + ARC * x), at(-y + ARC * x, x + ARC * y), at(-y, x));
        path.cubic_to(a.x, a.y, b.x, b.y, end.x, end.y);
    }
    path.close();
    path.finish()
}

fn rectangle(r: Rect, radius: f32) -> Option<Path> {
    let radius = radius.min(r.width() / 2.0).min(r.height() / 2.0);
    if radius <= 0.0 {
        return lines(&[r.left_top(), r.right_top(), r.right_bottom(), r.left_bottom()], true);
    }
    let mut path = PathBuilder::new();
    let far = radius * (1.0 - ARC);
    let (l, t, rt, b) = (r.left(), r.top(), r.right(), r.bottom());
    path.move_to(l + radius, t);
    path.line_to(rt - radius, t);
    path.cubic_to(rt - far, t, rt, t + far, rt, t + radius);
    path.line_to(rt, b - radius);
    path.cubic_to(rt, b - far, rt - far, b, rt - radius, b);
    path.line_to(l + radius, b);
    path.cubic_to(l + far, b, l, b - far, l, b - radius);
    path.line_to(l, t + radius);
    path.cubic_to(l, t + far, l + far, t, l + radius, t);
    path.close();
    path.finish()
}

/// Draws a PNG into a place; one that cannot be read is left out.
fn draw_png(surface: &mut Surface, png: Vec<u8>, place: Rect, smooth: bool) {
    let size = Size::from_wh(place.width(), place.height());
    if let (Ok(image), Some(size)) = (krilla::image::Image::from_png(Data::from(png), smooth), size) {
        surface.push_transform(&Transform::from_translate(place.left(), place.top()));
        surface.draw_image(image, size);
        surface.pop();
    }
}

impl Painter<'_, '_> {
    fn clipped(&mut self, shapes: &[ClippedShape], page: Rect) {
        for ClippedShape { clip_rect, shape, .. } in shapes {
            let bounds = shape.visual_bounding_rect();
            let clip = clip_rect.intersect(page);
            if !clip.is_positive() || !clip.intersects(bounds) {
                continue;
            }
            match rectangle(clip, 0.0).filter(|_| !clip.contains_rect(bounds)) {
                Some(path) => {
                    self.surface.push_clip_path(&path, &FillRule::NonZero);
                    self.shape(shape);
                    self.surface.pop();
                }
                None => self.shape(shape),
            }
        }
    }

    fn draw(&mut self, path: Option<Path>, fill: Option<Fill>, stroke: Option<krilla::paint::Stroke>) {
        let Some(path) = path.filter(|_| fill.is_some() || stroke.is_some()) else { return };
        self.surface.set_fill(fill);
        self.surface.set_stroke(stroke);
        self.surface.draw_path(&path);
    }

    fn fill(&mut self, path: Option<Path>, color: Color32) {
        self.draw(path, filled(color), None);
    }

    fn shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Noop | Shape::Callback(_) | Shape::Band(_) => {}
            Shape::Vec(all) => all.iter().for_each(|s| self.shape(s)),
            Shape::Circle(c) => {
                self.draw(ellipse(c.center, Vec2::splat(c.radius)), filled(c.fill), stroked(c.stroke));
            }
            Shape::Ellipse(e) => self.draw(ellipse(e.center, e.radius), filled(e.fill), stroked(e.stroke)),
            Shape::LineSegment { points, stroke } => self.draw(lines(points, false), None, stroked(*stroke)),
            Shape::Path(p) => {
                self.draw(lines(&p.points, p.closed), filled(p.fill), stroked(stroke_of(&p.stroke)));
            }
            Shape::QuadraticBezier(q) => self.shape(&Shape::Path(q.to_path_shape(None))),
            Shape::CubicBezier(c) => {
                let [a, b, d, e] = c.points;
                let mut path = PathBuilder::new();
                path.move_to(a.x, a.y);
                path.cubic_to(b.x, b.y, d.x, d.y, e.x, e.y);
                if c.closed {
                    path.close();
                }
                self.draw(path.finish(), filled(c.fill), stroked(stroke_of(&c.stroke)));
            }
            Shape::Rect(r) => self.rect(r),
            Shape::Text(t) => self.text(t),
            Shape::Mesh(m) => self.mesh(m),
        }
    }

    fn rect(&mut self, r: &RectShape) {
        if let Some(brush) = &r.brush
            && let Some(texture) = self.textures.get(&brush.fill_texture_id)
        {
            self.image(texture, r.rect, brush.uv);
            return;
        }
        // As in SVG: shadows carry no data.
        if r.blur_width > 0.0 {
            return;
        }
        let half = r.stroke.width / 2.0;
        let rect = match r.stroke_kind {
            StrokeKind::Inside => r.rect.shrink(half),
            StrokeKind::Outside => r.rect.expand(half),
            StrokeKind::Middle => r.rect,
        };
        let path = rectangle(rect, f32::from(r.corner_radius.nw));
        self.draw(path.filter(|_| !rect.is_negative()), filled(r.fill), stroked(r.stroke));
    }

    fn image(&mut self, texture: &Texture, place: Rect, uv: Rect) {
        if let Some(png) = texture.png(uv) {
            draw_png(self.surface, png, place, !texture.nearest);
        }
    }

    /// A textured quad becomes an image; any other mesh becomes triangles in the mean colour of their corners.
    fn mesh(&mut self, m: &egui::Mesh) {
        if let Some(texture) = self.textures.get(&m.texture_id)
            && m.vertices.len() == 4
        {
            let place = Rect::from_points(&m.vertices.iter().map(|v| v.pos).collect::<Vec<_>>());
            let uv = Rect::from_points(&m.vertices.iter().map(|v| v.uv).collect::<Vec<_>>());
            self.image(texture, place, uv);
            return;
        }
        for t in m.indices.chunks_exact(3) {
            let v = [0, 1, 2].map(|i| m.vertices[t[i] as usize]);
            let mean = |f: fn(Color32) -> u8| (v.iter().map(|x| u32::from(f(x.color))).sum::<u32>() / 3) as u8;
            let c =
                Color32::from_rgba_premultiplied(mean(|c| c.r()), mean(|c| c.g()), mean(|c| c.b()), mean(|c| c.a()));
            self.fill(lines(&v.map(|x| x.pos), true), c);
        }
    }

    fn text(&mut self, t: &TextShape) {
        let turned = t.angle != 0.0;
        if turned {
            self.surface.push_transform(&Transform::from_rotate_at(t.angle.to_degrees(), t.pos.x, t.pos.y));
        }
        for run in runs::of(t) {
            self.run(t, &run);
        }
        if turned {
            self.surface.pop();
        }
    }

    fn run(&mut self, t: &TextShape, run: &Run) {
        let Run { text, format, at, width, .. } = run;
        let size = format.font_id.size;
        if format.background.a() > 0 {
            let back = Rect::from_min_size(pos2(at.x, at.y - size), vec2(*width, size * 1.25));
            self.fill(rectangle(back, 0.0), format.background);
        }
        let shaped = self.shaper.run(&format.font_id.family, text);
        if let (Some(shaped), Some(fill)) = (shaped, filled(run.color)) {
            self.surface.set_fill(Some(fill));
            self.surface.set_stroke(None);
            // As wide as the window sets it.
            let stretch = if shaped.width > 0.0 { width / (shaped.width * size) } else { 1.0 };
            let starts: Vec<f32> = shaped.parts.iter().filter_map(|p| Some(p.glyphs.first()?.at[0])).collect();
            let mut nexts = starts.iter().skip(1).copied().chain([shaped.width]);
            for part in shaped.parts.iter().filter(|p| !p.glyphs.is_empty()) {
                let end = nexts.next().unwrap_or(shaped.width);
                let data = self.shaper.font(part.font).clone();
                let Some(font) = self.fonts.of(&data) else { continue };
                // The font counts in its own size.
                let em = stretch / data.tweak.scale.max(f32::MIN_POSITIVE);
                let after = part.glyphs.iter().skip(1).map(|g| g.at[0]).chain([end]);
                let glyphs: Vec<KrillaGlyph> = part
                    .glyphs
                    .iter()
                    .zip(after)
                    .map(|(g, next)| KrillaGlyph {
                        glyph_id: GlyphId::new(g.id),
                        text_range: g.bytes.clone(),
                        x_advance: (next - g.at[0]) * em,
                        x_offset: 0.0,
                        y_offset: g.at[1] * em / stretch,
                        y_advance: 0.0,
                        location: None,
                    })
                    .collect();
                let start = Point::from_xy(at.x + part.glyphs[0].at[0] * size * stretch, at.y);
                self.surface.draw_glyphs(start, &glyphs, font, text, size * data.tweak.scale, false);
            }
        }
        for (line, y) in [(format.strikethrough, run.middle), (format.underline, run.bottom)] {
            let line = Stroke::new(line.width, line.color.gamma_multiply(t.opacity_factor));
            self.draw(lines(&[pos2(at.x, y), pos2(at.x + width, y)], false), None, stroked(line));
        }
    }
}
