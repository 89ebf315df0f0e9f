//! egui shapes → SVG with real text: the second back end of the display list that the window paints.
//!
//! Pixels are embedded only for textures (images, painted heatmaps). Everything a user typed is escaped.

use super::outline::Outliner;
use super::runs::{self, Run};
use super::{About, Figure, Texture};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use egui::epaint::{ColorMode, PathShape, PathStroke, RectShape, TextShape};
use egui::{Color32, Pos2, Rect, Shape, Stroke, StrokeKind, TextureId};
use std::collections::HashMap;
use std::fmt::Write;

/// Writes `figure` as a standalone SVG, its outer size in millimetres if it is for paper, its letters as outlines of
/// `fonts` where they are given. Its ids begin with `prefix`, so that several can stand in one page.
pub(super) fn to_svg(figure: &Figure, fonts: Option<Outliner>, prefix: &str) -> String {
    let Figure { size, background, print, .. } = *figure;
    let outer = |points: f32| if print { format!("{}mm", num(points / 96.0 * 25.4)) } else { num(points) };
    let mut w =
        Writer { out: String::new(), defs: String::new(), textures: &figure.textures, n_defs: 0, fonts, prefix };
    let page = Rect::from_min_size(Pos2::ZERO, size);
    for clipped in &figure.shapes {
        let bounds = clipped.shape.visual_bounding_rect();
        let clip = clipped.clip_rect.intersect(page);
        if !clip.is_positive() || !clip.intersects(bounds) {
            continue;
        }
        if clip.contains_rect(bounds) {
            w.shape(&clipped.shape);
        } else {
            let id = w.clip(clip);
            let _ = writeln!(w.out, r##"<g clip-path="url(#{prefix}c{id})">"##);
            w.shape(&clipped.shape);
            w.out.push_str("</g>\n");
        }
    }
    for (i, path) in w.fonts.iter().flat_map(|f| &f.paths).enumerate() {
        let _ = writeln!(w.defs, r#"<path id="{prefix}g{i}" d="{path}"/>"#);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {x} {y}\">\n\
         {about}<defs>\n{defs}</defs>\n<rect width=\"{x}\" height=\"{y}\" {bg}/>\n{body}</svg>\n",
        w = outer(size.x),
        h = outer(size.y),
        x = num(size.x),
        y = num(size.y),
        about = about(&figure.about),
        defs = w.defs,
        bg = fill(background),
        body = w.out
    )
}

/// What the figure says about itself; nothing where it says nothing.
fn about(all: &About) -> String {
    if all.is_empty() {
        return String::new();
    }
    let said = |name: &str| all.iter().find(|a| a.0 == name).map_or("", |a| a.1.as_str());
    let mut out = format!("<title>{}</title>\n", escape(&format!("{} of {}", said("view"), said("model"))));
    let _ = writeln!(out, "<desc>{}</desc>", escape(said("command")));
    out.push_str("<metadata>\n<figure xmlns=\"urn:tokenscope:figure\">\n");
    for (name, words) in all {
        let tag = name.replace(' ', "-");
        let _ = writeln!(out, "<{tag}>{}</{tag}>", escape(words));
    }
    out + "</figure>\n</metadata>\n"
}

struct Writer<'a> {
    out: String,
    defs: String,
    textures: &'a HashMap<TextureId, Texture>,
    n_defs: usize,
    /// How ids begin.
    prefix: &'a str,
    /// Draws letters as outlines.
    fonts: Option<Outliner>,
}

/// A coordinate rounded to 0.01, without trailing zeros, so that files are small and the same everywhere.
fn num(v: f32) -> String {
    let s = format!("{v:.2}");
    let s = s.trim_end_matches('0').trim_end_matches('.');
    if s == "-0" { "0".into() } else { s.into() }
}

fn paint(attr: &str, c: Color32) -> String {
    if c.a() == 0 {
        return format!("{attr}=\"none\"");
    }
    let [r, g, b, a] = c.to_srgba_unmultiplied();
    let opacity = if a == 255 { String::new() } else { format!(" {attr}-opacity=\"{}\"", num(f32::from(a) / 255.0)) };
    format!("{attr}=\"#{r:02x}{g:02x}{b:02x}\"{opacity}")
}

fn fill(c: Color32) -> String {
    paint("fill", c)
}

fn stroke(s: Stroke) -> String {
    if s.width <= 0.0 || s.color.a() == 0 {
        return String::new();
    }
    format!(" {} stroke-width=\"{}\"", paint("stroke", s.color), num(s.width))
}

fn path_stroke(s: &PathStroke) -> String {
    let color = match &s.color {
        ColorMode::Solid(c) => *c,
        // A colour that varies along the path has no counterpart in SVG 1.1; the start's colour stands for it.
        ColorMode::UV(f) => f(Rect::ZERO, Pos2::ZERO),
    };
    stroke(Stroke::new(s.width, color))
}

/// Escapes text for content and attributes; control characters that XML forbids become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if (c as u32) < 0x20 || matches!(c, '\u{7f}' | '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

impl Writer<'_> {
    fn clip(&mut self, r: Rect) -> usize {
        let id = self.n_defs;
        self.n_defs += 1;
        let _ = writeln!(
            self.defs,
            r#"<clipPath id="{}c{id}"><rect x="{}" y="{}" width="{}" height="{}"/></clipPath>"#,
            self.prefix,
            num(r.min.x),
            num(r.min.y),
            num(r.width()),
            num(r.height())
        );
        id
    }

    fn shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Noop | Shape::Callback(_) => {}
            Shape::Vec(v) => v.iter().for_each(|s| self.shape(s)),
            Shape::Circle(c) => {
                let _ = writeln!(
                    self.out,
                    r#"<circle cx="{}" cy="{}" r="{}" {}{}/>"#,
                    num(c.center.x),
                    num(c.center.y),
                    num(c.radius),
                    fill(c.fill),
                    stroke(c.stroke)
                );
            }
            Shape::Ellipse(e) => {
                let _ = writeln!(
                    self.out,
                    r#"<ellipse cx="{}" cy="{}" rx="{}" ry="{}" {}{}/>"#,
                    num(e.center.x),
                    num(e.center.y),
                    num(e.radius.x),
                    num(e.radius.y),
                    fill(e.fill),
                    stroke(e.stroke)
                );
            }
            Shape::LineSegment { points: [a, b], stroke: s } => {
                let _ = writeln!(
                    self.out,
                    r#"<line x1="{}" y1="{}" x2="{}" y2="{}"{}/>"#,
                    num(a.x),
                    num(a.y),
                    num(b.x),
                    num(b.y),
                    stroke(*s)
                );
            }
            Shape::Path(p) => self.path(p),
            Shape::QuadraticBezier(q) => self.path(&q.to_path_shape(None)),
            Shape::CubicBezier(c) => {
                let [a, b, d, e] = c.points;
                let close = if c.closed { " Z" } else { "" };
                let _ = writeln!(
                    self.out,
                    r#"<path d="M{} {} C{} {} {} {} {} {}{close}" {}{}/>"#,
                    num(a.x),
                    num(a.y),
                    num(b.x),
                    num(b.y),
                    num(d.x),
                    num(d.y),
                    num(e.x),
                    num(e.y),
                    fill(c.fill),
                    path_stroke(&c.stroke)
                );
            }
            Shape::Rect(r) => self.rect(r),
            Shape::Text(t) => self.text(t),
            Shape::Mesh(m) => self.mesh(m),
            Shape::Band(_) => {}
        }
    }

    fn path(&mut self, p: &PathShape) {
        let points: Vec<String> = p.points.iter().map(|q| format!("{},{}", num(q.x), num(q.y))).collect();
        let tag = if p.closed { "polygon" } else { "polyline" };
        let _ =
            writeln!(self.out, r#"<{tag} points="{}" {}{}/>"#, points.join(" "), fill(p.fill), path_stroke(&p.stroke));
    }

    fn rect(&mut self, r: &RectShape) {
        if r.fill.a() == 0 && (r.stroke.width <= 0.0 || r.stroke.color.a() == 0) {
            return;
        }
        if let Some(brush) = &r.brush
            && let Some(image) = self.textures.get(&brush.fill_texture_id)
        {
            self.image(image, r.rect, brush.uv);
            return;
        }
        let half = r.stroke.width / 2.0;
        let rect = match r.stroke_kind {
            StrokeKind::Inside => r.rect.shrink(half),
            StrokeKind::Outside => r.rect.expand(half),
            StrokeKind::Middle => r.rect,
        };
        // A shadow's blur would need a filter per shape; shadows carry no data, so they stay out.
        if r.blur_width > 0.0 {
            return;
        }
        let radius = f32::from(r.corner_radius.nw);
        let rounding = if radius > 0.0 { format!(" rx=\"{}\"", num(radius)) } else { String::new() };
        let _ = writeln!(
            self.out,
            r#"<rect x="{}" y="{}" width="{}" height="{}"{rounding} {}{}/>"#,
            num(rect.min.x),
            num(rect.min.y),
            num(rect.width().max(0.0)),
            num(rect.height().max(0.0)),
            fill(r.fill),
            stroke(r.stroke)
        );
    }

    fn image(&mut self, texture: &Texture, rect: Rect, uv: Rect) {
        let Some(png) = texture.png(uv) else { return };
        let _ = writeln!(
            self.out,
            r#"<image x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none" {}xlink:href="data:image/png;base64,{}"/>"#,
            num(rect.min.x),
            num(rect.min.y),
            num(rect.width()),
            num(rect.height()),
            if texture.nearest { "style=\"image-rendering:pixelated\" " } else { "" },
            BASE64_STANDARD.encode(&png)
        );
    }

    /// A textured quad becomes an image; any other mesh becomes triangles in the mean colour of their corners.
    fn mesh(&mut self, m: &egui::Mesh) {
        if let Some(image) = self.textures.get(&m.texture_id)
            && m.vertices.len() == 4
        {
            let rect = Rect::from_points(&m.vertices.iter().map(|v| v.pos).collect::<Vec<_>>());
            let uv = Rect::from_points(&m.vertices.iter().map(|v| v.uv).collect::<Vec<_>>());
            self.image(image, rect, uv);
            return;
        }
        for t in m.indices.chunks_exact(3) {
            let v = [0, 1, 2].map(|i| m.vertices[t[i] as usize]);
            let mean = |f: fn(Color32) -> u8| (v.iter().map(|x| u32::from(f(x.color))).sum::<u32>() / 3) as u8;
            let c =
                Color32::from_rgba_premultiplied(mean(|c| c.r()), mean(|c| c.g()), mean(|c| c.b()), mean(|c| c.a()));
            if c.a() == 0 {
                continue;
            }
            let p: Vec<String> = v.iter().map(|x| format!("{},{}", num(x.pos.x), num(x.pos.y))).collect();
            let _ = writeln!(self.out, r#"<polygon points="{}" {}/>"#, p.join(" "), fill(c));
        }
    }

    fn text(&mut self, t: &TextShape) {
        let turn = if t.angle == 0.0 {
            String::new()
        } else {
            format!(" transform=\"rotate({} {} {})\"", num(t.angle.to_degrees()), num(t.pos.x), num(t.pos.y))
        };
        runs::of(t).into_iter().for_each(|run| self.run(t, &turn, &run));
    }

    /// The letters of a run as outlines, `width` points wide; false where they have none.
    fn letters(&mut self, font: &egui::FontId, text: &str, at: Pos2, width: f32, turn: &str, color: Color32) -> bool {
        let Some((glyphs, own)) = self.fonts.as_mut().and_then(|f| f.run(&font.family, text)) else { return false };
        let stretch = if own > 0.0 { width / (own * font.size) } else { 1.0 };
        let _ = writeln!(self.out, "<g {}{turn}>", fill(color));
        for g in glyphs {
            let (x, y) = (at.x + g.at[0] * font.size * stretch, at.y - g.at[1] * font.size);
            let scale = format!("{:.5}", g.scale * font.size);
            let place = format!("translate({} {}) scale({scale} -{scale})", num(x), num(y));
            let _ = writeln!(self.out, r##"<use xlink:href="#{}g{}" transform="{place}"/>"##, self.prefix, g.outline);
        }
        self.out.push_str("</g>\n");
        true
    }

    fn run(&mut self, t: &TextShape, turn: &str, run: &Run) {
        let Run { text, format, at, width, .. } = run;
        if format.background.a() > 0 {
            let size = format.font_id.size;
            let _ = writeln!(
                self.out,
                r#"<rect x="{}" y="{}" width="{}" height="{}" {}{turn}/>"#,
                num(at.x),
                num(at.y - size),
                num(*width),
                num(size * 1.25),
                fill(format.background)
            );
        }
        if text.trim().is_empty() {
            return;
        }
        let family = match &format.font_id.family {
            egui::FontFamily::Monospace => "JetBrains Mono, monospace",
            _ => "Inter, sans-serif",
        };
        let outlined = self.letters(&format.font_id, text, *at, *width, turn, run.color);
        let color = if outlined { Color32::TRANSPARENT } else { run.color };
        let style = if format.italics { " font-style=\"italic\"" } else { "" };
        let _ = writeln!(
            self.out,
            r#"<text x="{}" y="{}" font-family="{family}" font-size="{}"{style} textLength="{}" lengthAdjust="spacingAndGlyphs" font-variant-ligatures="none" xml:space="preserve" {}{turn}>{}</text>"#,
            num(at.x),
            num(at.y),
            num(format.font_id.size),
            num(*width),
            fill(color),
            escape(text)
        );
        // Lines of their own: what is crossed out must be so in every program that reads the file.
        for (line, y) in [(format.strikethrough, run.middle), (format.underline, run.bottom)] {
            if !line.is_empty() {
                let (from, to, y) = (num(at.x), num(at.x + width), num(y));
                let line = stroke(Stroke::new(line.width, line.color.gamma_multiply(t.opacity_factor)));
                let _ = writeln!(self.out, r#"<line x1="{from}" y1="{y}" x2="{to}" y2="{y}"{line}{turn}/>"#);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(shapes: Vec<egui::epaint::ClippedShape>, size: egui::Vec2, ctx: egui::Context) -> Figure {
        let (textures, background) = (HashMap::new(), Color32::WHITE);
        Figure { shapes, textures, size, background, print: false, about: About::new(), ctx }
    }

    #[test]
    fn letters_are_outlines_as_wide_as_the_window_sets_them() {
        let ctx = egui::Context::default();
        crate::theme::Theme::new(false, crate::theme::ColorMap::default()).install(&ctx);
        let mut output = ctx.run_ui(Default::default(), |_| {});
        output.textures_delta.clear();
        let mut fonts = Outliner::new(&ctx);
        // Two letters that are the same, a sign that a ligature would change, Arabic letters that join.
        let (glyphs, width) = fonts.run(&egui::FontFamily::Monospace, "aa!=").unwrap();
        assert_eq!((glyphs.len(), fonts.paths.len()), (4, 3));
        assert_eq!(glyphs[0].outline, glyphs[1].outline);
        let set =
            ctx.fonts_mut(|f| f.layout_no_wrap("aa!=".into(), egui::FontId::monospace(20.0), Color32::BLACK)).size().x;
        assert!((width * 20.0 - set).abs() < 1.0, "{} against {set}", width * 20.0);
        assert!(fonts.run(&egui::FontFamily::Proportional, "العربية 漢字 🚂").is_some());
        assert!(fonts.run(&egui::FontFamily::Proportional, "\u{10ffff}").is_none());
    }

    #[test]
    fn markup_in_user_text_is_escaped() {
        assert_eq!(escape("<a href='x'>&\u{1}"), "&lt;a href=&#39;x&#39;&gt;&amp;\u{fffd}");
    }

    #[test]
    fn what_is_crossed_out_is_so_in_the_file() {
        let ctx = egui::Context::default();
        let mut shapes = Vec::new();
        let mut output = ctx.run_ui(Default::default(), |ui| {
            let font = egui::FontId::monospace(10.0);
            let format = egui::TextFormat {
                strikethrough: egui::Stroke::new(1.5, Color32::RED),
                ..egui::TextFormat::simple(font, Color32::BLACK)
            };
            let job = egui::text::LayoutJob::single_section("gone".into(), format);
            let galley = ui.painter().layout_job(job);
            let middle = 20.0 + galley.size().y / 2.0;
            shapes.push((galley.size().x, middle));
            ui.painter().galley(Pos2::new(10.0, 20.0), galley, Color32::BLACK);
        });
        output.textures_delta.clear();
        let svg = to_svg(&figure(output.shapes, egui::vec2(100.0, 40.0), ctx), None, "");
        let line = svg.lines().find(|l| l.starts_with("<line")).expect("no line through the text");
        assert!(line.contains(r#"x1="10""#) && line.contains("#ff0000"), "{line}");
        let y: f32 = line.split("y1=\"").nth(1).and_then(|r| r.split('"').next()).unwrap().parse().unwrap();
        let (_, middle) = shapes[shapes.len() - 1];
        assert!((y - middle).abs() < 1.5, "{y} is not in the middle, {middle}");
    }

    #[test]
    fn a_rectangle_and_its_color_survive() {
        let r = Shape::rect_filled(Rect::from_min_size(Pos2::new(1.0, 2.0), egui::vec2(3.0, 4.5)), 0.0, Color32::RED);
        let clipped = egui::epaint::ClippedShape::new(Rect::EVERYTHING, r);
        let svg = to_svg(&figure(vec![clipped], egui::vec2(10.0, 10.0), egui::Context::default()), None, "");
        assert!(svg.contains(r##"<rect x="1" y="2" width="3" height="4.5" fill="#ff0000"/>"##), "{svg}");
    }
}
