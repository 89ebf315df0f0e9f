//! Steps downward, places across: what stands where after each step, by state and confidence.

use super::marks;
use super::{On, stage, widgets};
use crate::cx::Cx;
use crate::state::Command;
use egui::{Align2, FontId, Rect, Sense, Stroke, StrokeKind, Ui, pos2, vec2};
use tokenscope_analysis::finding::{Look, TimeCell, Timeline, Unit, count};

/// Room at the left for the numbers of the steps, in points.
const LEFT: f32 = 30.0;

/// Draws `timeline`: the text at the chosen step, then all steps.
pub fn ui(cx: &Cx, ui: &mut Ui, on: &On, timeline: &Timeline) {
    let counts = count(timeline.states.len(), timeline.cells.iter().map(|c| c.state));
    marks::classes_ui(cx.theme, ui, &timeline.states, &counts);
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
}

/// The colour of a cell's state, the paler the less sure.
fn fill(cx: &Cx, timeline: &Timeline, c: &TimeCell) -> egui::Color32 {
    let look = timeline.states.get(c.state).map_or(Look::Plain, |s| s.look);
    let sure = c.confidence.map_or(1.0, |v| v.clamp(0.0, 1.0));
    match look {
        Look::Quiet => cx.theme.background,
        Look::Plain => cx.theme.line,
        look => marks::of(cx.theme, look).0.gamma_multiply(0.25 + 0.75 * sure),
    }
}

fn say(on: &On, timeline: &Timeline, c: &TimeCell) -> String {
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

fn grid_ui(cx: &Cx, ui: &mut Ui, on: &On, timeline: &Timeline, chosen: usize) {
    let room = ui.available_width() - LEFT;
    let cell =
        vec2((room / timeline.n_places as f32).clamp(5.0, 64.0), (420.0 / timeline.n_steps as f32).clamp(5.0, 18.0));
    let (n, k) = (timeline.n_steps, timeline.n_places);
    egui::ScrollArea::horizontal().id_salt("timeline").show(ui, |ui| {
        let size = vec2(LEFT + cell.x * k as f32, 14.0 + cell.y * n as f32);
        let (outer, response) = ui.allocate_exact_size(size, Sense::click() - Sense::FOCUSABLE);
        let rect = Rect::from_min_max(outer.min + vec2(LEFT, 14.0), outer.max);
        let painter = ui.painter_at(outer);
        let seen = ui.clip_rect();
        let place = |c: &TimeCell| {
            Rect::from_min_size(rect.min + vec2(c.position as f32, c.step as f32) * cell, cell).shrink(0.5)
        };
        let font = FontId::monospace((cell.y - 6.0).clamp(7.0, 11.0));
        let letters = ((cell.x - 3.0) / (font.size * 0.62)) as usize;
        for c in &timeline.cells {
            let r = place(c);
            if !cx.figure && !seen.intersects(r) {
                continue;
            }
            let color = fill(cx, timeline, c);
            painter.rect_filled(r, 1.0, color);
            let look = timeline.states.get(c.state).map_or(Look::Plain, |s| s.look);
            let (edge, mark) = marks::of(cx.theme, look);
            if letters >= 2 && cell.y >= 12.0 && !c.text.is_empty() {
                let words: String = widgets::visible(&c.text).chars().take(letters).collect();
                painter.text(r.center(), Align2::CENTER_CENTER, words, font.clone(), cx.theme.text_on(color));
            } else if cell.min_elem() >= 8.0 {
                marks::paint(&painter, r.center(), cell.min_elem() * 0.2, mark, cx.theme.text_on(color));
            }
            if look == Look::Quiet {
                painter.rect_stroke(r, 1.0, Stroke::new(0.5, edge.gamma_multiply(0.5)), StrokeKind::Inside);
            }
            if let Some(stroke) = widgets::outline(cx, on.standing(cx, &timeline.places, c.position)) {
                painter.rect_stroke(r, 1.0, stroke, StrokeKind::Inside);
            }
        }
        let every = (12.0 / cell.y).ceil().max(1.0) as usize;
        let small = FontId::proportional(10.0);
        for s in (0..n).step_by(every) {
            let color = if s == chosen { cx.theme.accent } else { cx.theme.weak };
            let at = pos2(rect.left() - 4.0, rect.top() + (s as f32 + 0.5) * cell.y);
            painter.text(at, Align2::RIGHT_CENTER, s, small.clone(), color);
        }
        let across = (28.0 / cell.x).ceil().max(1.0) as usize;
        for p in (0..k).step_by(across) {
            let at = pos2(rect.left() + p as f32 * cell.x + 1.0, rect.top() - 1.0);
            painter.text(at, Align2::LEFT_BOTTOM, p, small.clone(), cx.theme.weak);
        }
        let row = Rect::from_min_size(rect.min + vec2(0.0, chosen as f32 * cell.y), vec2(rect.width(), cell.y));
        painter.rect_stroke(row, 0.0, Stroke::new(1.5, cx.theme.accent), StrokeKind::Inside);
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
