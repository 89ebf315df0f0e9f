//! A series cut into windows: the samples over time, each window in the colour of its token.

use super::{codes, hover};
use crate::cx::Cx;
use crate::pictures::widgets;
use crate::theme::Theme;
use crate::work::{Cut, Whole};
use egui::{Align2, FontId, Rect, Sense, Shape, Stroke, StrokeKind, TextStyle, Ui, pos2, vec2};
use std::ops::Range;
use tokenscope_analysis::finding::{Cuts, Picture, Piece, Span};
use tokenscope_analysis::series::Series;

/// Narrower windows, in points, have no line between them.
const LINED: f32 = 5.0;
/// Height of the strip of tokens below the samples.
const STRIP: f32 = 16.0;
/// Height of the samples.
const WAVE: f32 = 150.0;
/// Samples that are looked at one by one in a frame.
const FINE: usize = 2_000_000;
/// How far one can zoom in.
const MAX_ZOOM: f32 = 256.0;

pub(super) fn ui(cx: &Cx, ui: &mut Ui, cut: &Cut) {
    let Whole::Series(series) = &cut.whole else { return };
    let pieces = cut.found.pictures.iter().find_map(|p| if let Picture::Cuts(c) = p { Some(c) } else { None });
    let Some(pieces) = pieces else { return };
    let width = ui.available_width() - 2.0;
    if cx.figure {
        over_time(ui, cx.theme, pieces, (series, cut.range), width);
    } else {
        // Panes are zoomed together, unless each is looked at for itself.
        let id = egui::Id::unique("zoom of the series").with(cx.doc.look.apart.then_some(cx.at));
        let mut zoom: f32 = ui.data(|d| d.get_temp(id)).unwrap_or(1.0);
        let slider = egui::Slider::new(&mut zoom, 1.0..=MAX_ZOOM).logarithmic(true).max_decimals(0).text("zoom");
        let slider = ui.add(slider).on_hover_text("Stretches the time; scroll sideways to move");
        widgets::named(&slider, "zoom of the series");
        ui.data_mut(|d| d.insert_temp(id, zoom));
        egui::ScrollArea::horizontal().id_salt("series").auto_shrink([false, true]).show(ui, |ui| {
            over_time(ui, cx.theme, pieces, (series, cut.range), width * zoom);
        });
    }
    codes::ui(cx, ui, cut);
}

/// Draws a series `width` points wide with its windows in the colours of their tokens: samples above, tokens below.
/// Each window is drawn from its beginning to that of the next.
fn over_time(ui: &mut Ui, theme: &Theme, cuts: &Cuts, (series, ends): (&Series, [f32; 2]), width: f32) {
    let slot = "windows";
    let n = series.samples.len().max(1);
    let (rect, response) = ui.allocate_exact_size(vec2(width, WAVE + STRIP + 18.0), Sense::hover());
    let seen = rect.intersect(ui.clip_rect());
    if !seen.is_positive() {
        return;
    }
    let painter = ui.painter_at(rect);
    let wave = Rect::from_min_size(rect.min, vec2(width, WAVE));
    let strip = Rect::from_min_size(wave.left_bottom(), vec2(width, STRIP));
    let x_of = |sample: usize| rect.left() + width * sample as f32 / n as f32;
    let sample_of = |x: f32| ((x - rect.left()) / width * n as f32).max(0.0) as usize;
    let range = |i: usize| -> Option<Range<usize>> {
        let Span::Range(start, end) = cuts.pieces.get(i)?.span else { return None };
        let next = cuts.pieces.get(i + 1).and_then(|p| if let Span::Range(s, _) = p.span { Some(s) } else { None });
        Some(start..next.unwrap_or(end).min(end))
    };
    // Windows are in order, so those on screen stand together.
    let first_at = |sample: usize| {
        cuts.pieces.partition_point(|p| matches!(p.span, Span::Range(s, _) if s <= sample)).saturating_sub(1)
    };
    let (from, to) = (first_at(sample_of(seen.left())), first_at(sample_of(seen.right())));
    let twin = hover::hovered(ui, slot);
    let font = FontId::proportional(TextStyle::Small.resolve(ui.style()).size);
    painter.rect_filled(wave, 0.0, theme.background);
    let mut last = f32::NEG_INFINITY;
    for i in from..=to {
        let (Some(r), Some(p)) = (range(i), cuts.pieces.get(i)) else { continue };
        let (left, right) = (x_of(r.start), x_of(r.end));
        // Of windows that share a point of the screen one is enough.
        if right < last + 0.5 {
            continue;
        }
        last = right;
        let color = p.id.map_or(theme.chips[i % 2], |id| theme.code(id));
        let column = |area: Rect| Rect::from_min_max(pos2(left, area.top()), pos2(right, area.bottom()));
        painter.rect_filled(column(wave), 0.0, color.gamma_multiply(0.35));
        painter.rect_filled(column(strip), 0.0, color);
        if right - left > LINED {
            painter.line_segment(
                [column(wave).right_top(), column(strip).right_bottom()],
                Stroke::new(0.75, theme.background),
            );
        }
        let id = p.id.map(|id| id.to_string());
        if let Some(id) = id.filter(|id| right - left > font.size * 0.65 * id.len() as f32 + 2.0) {
            painter.text(column(strip).center(), Align2::CENTER_CENTER, id, font.clone(), theme.text_on(color));
        }
        if let Some((own, _)) = twin.filter(|(own, token)| *own == i || (token.is_some() && *token == p.id)) {
            let (width, color) = if own == i { (2.0, theme.text) } else { (1.0, theme.accent) };
            let line = Stroke::new(width, color);
            painter.rect_stroke(column(wave.union(strip)), 0.0, line, StrokeKind::Inside);
        }
    }
    samples(&painter, theme, (series, ends), wave, seen.x_range());
    painter.rect_stroke(wave, 0.0, Stroke::new(1.0, theme.line), StrokeKind::Inside);
    times(&painter, theme, series, strip, &font);
    let at = response.hover_pos().filter(|p| p.y < strip.bottom()).map(|p| sample_of(p.x));
    let at = at.map(|s| (s, first_at(s))).filter(|(s, i)| range(*i).is_some_and(|r| r.contains(s))).map(|x| x.1);
    let words = |i: usize, p: &Piece| {
        let token = p.id.map_or(String::new(), |id| format!(" · token {id}"));
        let Span::Range(start, end) = p.span else { return String::new() };
        let [a, b] = [start, end].map(|s| s as f64 / series.rate);
        format!("window {i}{token} · {a:.3} to {b:.3} s · samples {start}..{end}")
    };
    hover::say(ui, response, cuts, slot, at, words);
}

/// The samples as a line; where several share a point of the screen, from the lowest to the highest.
fn samples(
    painter: &egui::Painter,
    theme: &Theme,
    (series, [low, high]): (&Series, [f32; 2]),
    area: Rect,
    seen: egui::Rangef,
) {
    let n = series.samples.len();
    if n == 0 {
        return;
    }
    let middle = (low + high) / 2.0;
    // A constant lies in the middle.
    let half = ((high - low) / 2.0).max(f32::MIN_POSITIVE);
    let y_of = |v: f32| area.center().y - (v - middle) / half * area.height() * 0.46;
    let per = n as f32 / area.width();
    let stroke = Stroke::new(1.0, theme.text);
    if per <= 2.0 {
        let x_of = |i: usize| area.left() + (i as f32 + 0.5) / per;
        let from = ((seen.min - area.left()) * per).max(1.0) as usize - 1;
        let to = (((seen.max - area.left()) * per) as usize + 2).min(n);
        let points = (from..to.max(from)).map(|i| pos2(x_of(i), y_of(series.samples[i]))).collect();
        painter.add(Shape::line(points, stroke));
        return;
    }
    // Of very many samples some stand for all.
    let skip = ((per * seen.span()) as usize / FINE).max(1);
    let mut x = seen.min.max(area.left()).floor();
    while x < seen.max.min(area.right()) {
        let start = ((x - area.left()) * per).max(0.0) as usize;
        let end = ((((x + 1.0) - area.left()) * per) as usize).max(start + 1).min(n);
        if let Some(part) = series.samples.get(start..end).filter(|p| !p.is_empty()) {
            let ends = |[l, h]: [f32; 2], v: &f32| [l.min(*v), h.max(*v)];
            let [l, h] = part.iter().step_by(skip).fold([f32::INFINITY, f32::NEG_INFINITY], ends);
            painter.line_segment([pos2(x + 0.5, y_of(h) - 0.5), pos2(x + 0.5, y_of(l) + 0.5)], stroke);
        }
        x += 1.0;
    }
}

/// Times below the strip.
fn times(painter: &egui::Painter, theme: &Theme, series: &Series, strip: Rect, font: &FontId) {
    let all = series.seconds();
    let wanted = (strip.width() / 90.0).clamp(1.0, 200.0) as f64;
    let raw = all / wanted;
    let power = 10f64.powf(raw.max(1e-9).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= raw).unwrap_or(raw);
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    let mut t = 0.0;
    while t <= all && step > 0.0 {
        let x = strip.left() + (t / all.max(f64::MIN_POSITIVE)) as f32 * strip.width();
        let align = if x < strip.left() + 20.0 {
            Align2::LEFT_TOP
        } else if x > strip.right() - 20.0 {
            Align2::RIGHT_TOP
        } else {
            Align2::CENTER_TOP
        };
        painter.line_segment([pos2(x, strip.bottom()), pos2(x, strip.bottom() + 3.0)], Stroke::new(1.0, theme.line));
        painter.text(pos2(x, strip.bottom() + 3.0), align, format!("{t:.digits$} s"), font.clone(), theme.weak);
        t += step;
    }
}
