//! Steps downward, places across: what stands where after each step, by state and confidence.

use super::marks;
use super::{On, stage, widgets};
use crate::cx::Cx;
use crate::state::Command;
use egui::{Align2, FontId, Rect, Sense, Stroke, StrokeKind, Ui, pos2, vec2};
use tokenscope_analysis::finding::{Look, TimeCell, Timeline, Unit, count};

/// Room at the left for the numbers of the steps, and above for those of the places, in points.
const MARGIN: egui::Vec2 = vec2(28.0, 14.0);

/// Draws `timeline`: the text at the chosen step, then all steps.
pub fn ui(cx: &Cx, ui: &mut Ui, on: &On, timeline: &Timeline) {
    if timeline.n_steps == 0 || timeline.n_places == 0 {
        ui.weak("No steps.");
        return;
    }
    let step = stage::ui(cx, ui, &timeline.steps, timeline.n_steps, "the last step").unwrap_or(timeline.n_steps - 1);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(1.0, 2.0);
        for c in timeline.step(step) {
            let link = match (c.id, &timeline.places) {
                (Some(id), Unit::Positions) => widgets::Link::Decoded(c.position, id),
                _ => widgets::Link::None,
            };
            let chip = widgets::chip(cx, ui, &c.text, fill(cx, timeline, c), false, link);
            chip.on_hover_ui(|ui| drop(ui.label(say(on, timeline, c))));
        }
    });
    grid_ui(cx, ui, on, timeline, step);
    legend_ui(cx, ui, timeline);
}

fn look(timeline: &Timeline, c: &TimeCell) -> Look {
    timeline.states.get(c.state).map_or(Look::Plain, |s| s.look)
}

/// How sure a cell is; what stands there already is neither.
fn fill(cx: &Cx, timeline: &Timeline, c: &TimeCell) -> egui::Color32 {
    match (look(timeline, c), c.confidence) {
        (Look::Plain, _) => cx.theme.line.gamma_multiply(0.6),
        (_, Some(v)) => cx.theme.magnitude(v.clamp(0.0, 1.0)),
        (Look::Quiet, None) => cx.theme.background,
        (look, None) => marks::of(cx.theme, look).0,
    }
}

/// The marks of the states, and the colours of confidence where there is one.
pub fn legend_ui(cx: &Cx, ui: &mut Ui, timeline: &Timeline) {
    let counts = count(timeline.states.len(), timeline.cells.iter().map(|c| c.state));
    marks::classes_ui(cx.theme, ui, &timeline.states, &counts);
    if timeline.cells.iter().any(|c| c.confidence.is_some()) {
        widgets::legend(cx, ui, 0.0, 1.0, &timeline.measure.words(), false);
    }
}

/// A cell in words, for the pointer and for screen readers.
pub fn say(on: &On, timeline: &Timeline, c: &TimeCell) -> String {
    let state = timeline.states.get(c.state).map_or("", |s| s.name.as_ref());
    let (step, place) = (timeline.steps.label(c.step), on.name(&timeline.places, c.position));
    let mut out = format!("{step}, {place}: {} · {state}", widgets::visible(&c.text));
    if let Some(v) = c.confidence {
        out += &format!(" · {} {}", timeline.measure.name, widgets::number(v));
    }
    if !c.why.is_empty() {
        out += &format!("\n{}", c.why);
    }
    out
}

/// All steps, with the row of step `chosen` framed; what is done in a step has a frame and a mark, so that colour is
/// never all. Clicking a row chooses its step.
pub fn grid_ui(cx: &Cx, ui: &mut Ui, on: &On, timeline: &Timeline, chosen: usize) {
    let (n, k) = (timeline.n_steps, timeline.n_places);
    let room = ui.available_width().min(ui.clip_rect().width() - 24.0) - MARGIN.x - 4.0;
    let cell = vec2((room / k as f32).clamp(6.0, 58.0), (360.0 / n as f32).clamp(6.0, 20.0));
    egui::ScrollArea::horizontal().id_salt("timeline").show(ui, |ui| {
        let size = MARGIN + vec2(k as f32, n as f32) * cell + vec2(2.0, 2.0);
        let (outer, response) = ui.allocate_exact_size(size, Sense::click() - Sense::FOCUSABLE);
        let rect = Rect::from_min_size(outer.min + MARGIN, vec2(k as f32, n as f32) * cell);
        let (painter, seen) = (ui.painter_at(outer), ui.clip_rect());
        let font = FontId::monospace((cell.y - 7.0).clamp(7.0, 11.0));
        let letters = ((cell.x - 4.0) / (font.size * 0.62)) as usize;
        for c in &timeline.cells {
            let r = Rect::from_min_size(rect.min + vec2(c.position as f32, c.step as f32) * cell, cell).shrink(0.5);
            if !cx.figure && !seen.intersects(r) {
                continue;
            }
            let (fill, look) = (fill(cx, timeline, c), look(timeline, c));
            painter.rect_filled(r, 1.0, fill);
            let done = !matches!(look, Look::Quiet | Look::Plain);
            if done {
                let (color, mark) = marks::of(cx.theme, look);
                painter.rect_stroke(r, 1.0, Stroke::new(2.0, color), StrokeKind::Inside);
                let corner = r.right_top() + vec2(-4.5, 4.5);
                marks::paint(&painter, corner, (cell.min_elem() * 0.2).min(2.5), mark, color);
            }
            if letters >= 2 && cell.y >= 13.0 && look != Look::Plain {
                // Where there is no room for all, the beginning tells most; the rest is under the pointer.
                let words = widgets::visible(c.text.trim_start_matches(' ')).chars().take(letters).collect::<String>();
                painter.text(r.center(), Align2::CENTER_CENTER, words, font.clone(), cx.theme.text_on(fill));
            }
            if let Some(stroke) = widgets::outline(cx, on.standing(cx, &timeline.places, c.position)) {
                painter.rect_stroke(r.shrink(1.0), 1.0, stroke, StrokeKind::Inside);
            }
        }
        let small = FontId::proportional(10.0);
        for s in (0..n).step_by((12.0 / cell.y).ceil().max(1.0) as usize) {
            let color = if s == chosen { cx.theme.text } else { cx.theme.weak };
            let at = pos2(rect.left() - 4.0, rect.top() + (s as f32 + 0.5) * cell.y);
            painter.text(at, Align2::RIGHT_CENTER, s, small.clone(), color);
        }
        for p in (0..k).step_by((30.0 / cell.x).ceil().max(1.0) as usize) {
            let at = pos2(rect.left() + p as f32 * cell.x + 1.0, rect.top() - 2.0);
            painter.text(at, Align2::LEFT_BOTTOM, p, small.clone(), cx.theme.weak);
        }
        let row = Rect::from_min_size(rect.min + vec2(0.0, chosen as f32 * cell.y), vec2(rect.width(), cell.y));
        painter.rect_stroke(row.expand(1.0), 1.0, Stroke::new(1.5, cx.theme.accent), StrokeKind::Outside);
        let under = response.hover_pos().filter(|p| rect.contains(*p)).map(|p| {
            let at = (p - rect.min) / cell;
            ((at.y as usize).min(n - 1), (at.x as usize).min(k - 1))
        });
        let cell_under = under.and_then(|(s, p)| timeline.at(s, p));
        let label = match cell_under {
            Some(c) => format!("timeline of {n} steps by {k} places, at {}", say(on, timeline, c)),
            None => format!("timeline of {n} steps by {k} places"),
        };
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
        if let Some((s, p)) = under {
            if response.clicked() && timeline.steps == Unit::Steps {
                cx.send(Command::round(s));
            }
            on.follow(cx, ui, &response, &timeline.places, p);
            if let Some(c) = cell_under {
                response.on_hover_text_at_pointer(say(on, timeline, c));
            }
        }
    });
}
