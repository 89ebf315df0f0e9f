//! The attention map of one head, from the whole to single cells.

use super::super::heat;
use super::axes::{self, Place};
use super::thumbnails;
use crate::cx::Cx;
use crate::heatmap::{Curve, Fitted};
use crate::pane::WHOLE;
use crate::pictures::widgets;
use crate::state::Command;
use crate::work::{AttentionMap, MAP_SIDE, MapOf, Part};
use egui::{Key, Sense, Stroke, StrokeKind, Ui, Vec2, vec2};
use std::ops::Range;
use tokenscope_analysis::trace::TowerTrace;

pub(super) fn ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace) {
    let (mut layer, mut head) = shown(cx, tower);
    let heads = tower.attention.first().map_or(1, |a| a.n_heads);
    if cx.figure {
        ui.label(format!("Attention of layer {layer}, head {head}"));
    } else {
        ui.horizontal_wrapped(|ui| {
            ui.label("Attention of");
            let last = tower.n_layers.saturating_sub(1);
            let a = ui.add(egui::DragValue::new(&mut layer).range(0..=last).prefix("layer ").speed(0.05));
            let b =
                ui.add(egui::DragValue::new(&mut head).range(0..=heads.saturating_sub(1)).prefix("head ").speed(0.05));
            if a.changed() || b.changed() {
                cx.send(Command::head(layer, head));
            }
            scale_ui(cx, ui);
            if cx.pane.cursor.window != WHOLE
                && ui.button("whole").on_hover_text("Zooms out, as a double click on the map or Alt+0").clicked()
            {
                cx.send(Command::part(WHOLE));
            }
        });
    }
    let asked = asked(cx, tower);
    let Some(map) = cx.need(ui, "map", &asked) else { return };
    if map.n == 0 {
        ui.weak("No tokens, so no attention.");
        return;
    }
    let fitted = Fitted::new(&map.summary, cx.pane.shows.scale);
    // Of a long input the whole map is coarse: where it is zoomed into, that part is computed and shown instead.
    let close = match part(map.n, cx.pane.cursor.window) {
        Some(part) => {
            let asked = MapOf { part: Some(part.clone()), ..asked.clone() };
            match cx.need(ui, "map part", &asked) {
                Some(m) if m.window.queries == part.queries && m.window.keys == part.keys => Some((m, asked)),
                _ => None,
            }
        }
        None => None,
    };
    let shown = Shown {
        map: close.as_ref().map_or(&map, |c| &c.0),
        asked: close.as_ref().map_or(&asked, |c| &c.1),
        whole: &map,
        fitted: &fitted,
    };
    let map_ui = |ui: &mut Ui, side: f32| {
        ui.vertical(|ui| {
            ui.set_width(side);
            let place = microscope(cx, ui, side, &shown, tower);
            ui.small(axes::readout(&place));
            let unit = if fitted.by_row() { "share" } else { "share of attention" };
            heat::legend(cx, ui, &fitted, unit);
            cx.notes_ui(ui, if close.is_some() { "map part" } else { "map" });
        });
    };
    let width = ui.available_width();
    // A column of a page has no room for both beside each other.
    // All heads of a long input take many times as long as the one that is asked for, so they come after it.
    let heads_ui = |ui: &mut Ui| match map.n > MAP_SIDE && cx.jobs.is_running(&asked) {
        true => {
            ui.small("All heads follow when this map is there.");
        }
        false => thumbnails::ui(cx, ui, (layer, head)),
    };
    if width < 340.0 {
        map_ui(ui, width);
        heads_ui(ui);
        return;
    }
    ui.horizontal_top(|ui| {
        // A large window shows it large; a figure keeps the size of its text in mind.
        let most = if cx.figure { 440.0 } else { 720.0 };
        map_ui(ui, (width * 0.58).clamp(120.0, most));
        ui.vertical(heads_ui);
    });
}

fn scale_ui(cx: &Cx, ui: &mut Ui) {
    let mut scale = cx.pane.shows.scale;
    let combo = egui::ComboBox::from_id_salt("curve")
        .selected_text(match scale.curve {
            Curve::Linear => "linear",
            Curve::Log => "log",
            Curve::Rank => "rank",
            Curve::Row => "per row",
        })
        .width(56.0)
        .show_ui(ui, |ui| {
            ui.selectable_value(&mut scale.curve, Curve::Linear, "linear");
            ui.selectable_value(&mut scale.curve, Curve::Log, "log").on_hover_text("Four decades below the upper end");
            ui.selectable_value(&mut scale.curve, Curve::Rank, "rank").on_hover_text("Equal areas, equal steps");
            ui.selectable_value(&mut scale.curve, Curve::Row, "per row").on_hover_text(
                "Each query's largest share has the last colour; of a long input, that of its neighbours",
            );
        });
    widgets::named(&combo.response, "colour scale");
    let clip = egui::DragValue::new(&mut scale.clip).range(50.0..=100.0).speed(0.1).prefix("clip ").suffix("%");
    ui.add_enabled(scale.curve != Curve::Row, clip)
        .on_hover_text("Values above this percentile share the last colour")
        .on_disabled_hover_text("Every row has an upper end of its own");
    ui.checkbox(&mut scale.mask_sink, "mask sink")
        .on_hover_text("Hatches the first token and leaves it out of the scale");
    if scale != cx.pane.shows.scale {
        cx.set_look("colour scale", move |p| p.shows.scale = scale);
    }
}

/// Layer and head that are shown, held to what the model has.
fn shown(cx: &Cx, tower: &TowerTrace) -> (usize, usize) {
    let heads = tower.attention.first().map_or(1, |a| a.n_heads);
    let (layer, head) = cx.pane.cursor.head;
    (layer.min(tower.n_layers.saturating_sub(1)), head.min(heads.saturating_sub(1)))
}

pub(super) fn asked(cx: &Cx, tower: &TowerTrace) -> MapOf {
    let (layer, head) = shown(cx, tower);
    MapOf { scope: cx.pane.scope(), layer, head, part: None }
}

/// What the microscope shows.
struct Shown<'a> {
    /// The map, or the part of it that is zoomed into.
    map: &'a AttentionMap,
    /// What asks for it.
    asked: &'a MapOf,
    /// The whole map.
    whole: &'a AttentionMap,
    /// The scale, fitted to the whole.
    fitted: &'a Fitted,
}

/// The part to compute for a look at `window` (shares) of a map of `n` rows: twice to four times as wide, on a raster
/// of its own size, so that panning asks for another one only now and then. `None` where the whole map is fine enough.
fn part(n: usize, [x, y, w, h]: [f32; 4]) -> Option<Part> {
    if n <= MAP_SIDE || w.max(h) > 0.25 {
        return None;
    }
    let range = |first: f32, share: f32| {
        let long = ((2.0 * share * n as f32).ceil() as usize).next_power_of_two().clamp(16, n);
        let raster = (long / 4).max(1);
        let start = (first.max(0.0) * n as f32) as usize / raster * raster;
        start.min(n - long)..(start + long).min(n)
    };
    Some(Part { queries: range(y, h), keys: range(x, w) })
}

/// The map with pan and zoom, in a square of `outer` points with what stands along its edges.
fn microscope(cx: &Cx, ui: &mut Ui, outer: f32, shown: &Shown, tower: &TowerTrace) -> Place {
    let map = shown.map;
    let n = map.n;
    let mut side = outer - axes::LEFT;
    if !cx.figure {
        // All of it should be seen without scrolling, if that leaves anything to see.
        side = side.min((ui.clip_rect().height() - 90.0).max(160.0));
    }
    let top = axes::top(side / (cx.pane.cursor.window[2] * n as f32));
    let (_, space) = ui.allocate_space(vec2(axes::LEFT + side, top + side));
    let rect = egui::Rect::from_min_size(space.min + vec2(axes::LEFT, top), vec2(side, side));
    let response = ui.interact(rect, ui.scope_id().with("map"), Sense::click_and_drag());
    let [x, y, w, h] = cx.pane.cursor.window;
    let (down, across) = (&map.window.queries, &map.window.keys);
    // The same window in shares of what was computed.
    let within = |first: f32, range: &Range<usize>| (first * n as f32 - range.start as f32) / range.len() as f32;
    let scaled = |share: f32, range: &Range<usize>| share * n as f32 / range.len() as f32;
    let shares = [within(x, across), within(y, down), scaled(w, across), scaled(h, down)];
    heat::map(cx, ui, rect, (map, shown.asked), shown.whole, shown.fitted, shares);
    let frame = if response.has_focus() { Stroke::new(2.0, cx.theme.accent) } else { Stroke::new(1.0, cx.theme.line) };
    ui.painter().rect_stroke(rect, 0.0, frame, StrokeKind::Outside);
    let place = Place { rect, window: cx.pane.cursor.window, n };
    let cell = place.cell();
    let painter = ui.painter_at(rect);
    if cell.x >= 8.0 && cell.y >= 8.0 {
        let line = Stroke::new(0.5, cx.theme.line.gamma_multiply(0.6));
        for k in place.keys() {
            painter.vline(place.x_of(k), rect.y_range(), line);
        }
        for q in place.queries() {
            painter.hline(rect.x_range(), place.y_of(q), line);
        }
    }
    axes::names_ui(cx, ui, &place, &tower.tokens);
    marks(cx, &painter, rect, n);
    if response.clicked() || response.dragged() {
        response.request_focus();
    }
    let smallest = (4.0 / n as f32).min(1.0);
    let zoomed = |factor: f32, at: Vec2| {
        let (nw, nh) = ((w / factor).clamp(smallest, 1.0), (h / factor).clamp(smallest, 1.0));
        [x + at.x * (w - nw), y + at.y * (h - nh), nw, nh]
    };
    if response.double_clicked() {
        cx.send(Command::part(WHOLE));
    } else if response.dragged() {
        let d = response.drag_delta();
        cx.send(Command::part([x - d.x / side * w, y - d.y / side * h, w, h]));
    } else if response.has_focus() {
        keys(cx, ui, response.id, &|factor| zoomed(factor, vec2(0.5, 0.5)));
    }
    let name = |i: usize| tower.tokens.get(i).map_or(String::new(), |t| widgets::visible(&t.text));
    let under = response.hover_pos().map(|p| {
        let share = (p - rect.min) / side;
        let at = |v: f32| ((v * n as f32) as usize).min(n - 1);
        (share, at(y + share.y * h), at(x + share.x * w))
    });
    let told = cx.hovered.token().or(cx.pane.aim.anchor()).filter(|t| *t < n);
    let numbers = place.has_numbers() && map.window.is_exact();
    // Numbers are for who points, selects or looks closely; only then are cells on a device copied.
    let asked = under.is_some() || told.is_some() || numbers;
    let cells = if asked { heat::host(cx, map, shown.asked) } else { None };
    if let (true, Some(cells)) = (numbers, &cells) {
        axes::numbers_ui(ui, &place, |q, k| {
            let hatched = k == 0 && cx.pane.shows.scale.mask_sink;
            let value = map.at(cells, q, k).filter(|_| !hatched)?;
            let tops = shown.whole.window.row_of(q).and_then(|r| shown.whole.summary.row_tops().get(r).copied());
            let top = tops.unwrap_or_default()[usize::from(!cx.pane.shows.scale.mask_sink)];
            Some((value, cx.theme.text_on(cx.theme.magnitude(shown.fitted.place(value, top)))))
        });
    }
    let say = |q: usize, k: usize| {
        let value = cells.as_ref().map(|cells| map.at(cells, q, k).unwrap_or(0.0));
        let value = value.map_or("…".to_string(), |v| format!("{v:.4}"));
        let up_to = if map.window.is_exact() { "" } else { "up to " };
        format!("token {q} {} → token {k} {}: {up_to}{value}", name(q), name(k))
    };
    let spoken = match (under, told) {
        (Some((_, q, k)), _) => format!("attention map, {}", say(q, k)),
        (None, Some(q)) => {
            let row = map.window.row_of(q).zip(cells.as_ref()).map_or(&[][..], |(r, cells)| cells.row(r));
            let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]).then(b.cmp(a))).unwrap_or(0);
            let best = map.window.key_edges()[best];
            format!("attention map, strongest: {}", say(q, best))
        }
        _ => format!("attention map, {n} queries by {n} keys"),
    };
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &spoken));
    let Some((share, q, k)) = under else { return place };
    // The wheel alone scrolls the page: who passes the map on the way down must not be caught by it.
    let factor = ui.input(|i| i.zoom_delta()).clamp(0.2, 5.0);
    if (factor - 1.0).abs() > 1e-4 {
        cx.send(Command::part(zoomed(factor, share)));
    }
    cx.hover_token(q, tower.tokens.get(q));
    response.on_hover_text_at_pointer(say(q, k));
    place
}

/// Rows and columns of the hovered and the selected tokens.
fn marks(cx: &Cx, painter: &egui::Painter, rect: egui::Rect, n: usize) {
    let [x, y, w, h] = cx.pane.cursor.window;
    let band = |first: usize, last: usize, stroke: Stroke| {
        let at = |t: usize, from: f32, share: f32, side: f32| (t as f32 / n as f32 - from) / share * side;
        let (top, bottom) = (at(first, y, h, rect.height()), at(last + 1, y, h, rect.height()));
        let (left, right) = (at(first, x, w, rect.width()), at(last + 1, x, w, rect.width()));
        let row = egui::Rect::from_min_max(rect.min + vec2(0.0, top), rect.min + vec2(rect.width(), bottom));
        let column = egui::Rect::from_min_max(rect.min + vec2(left, 0.0), rect.min + vec2(right, rect.height()));
        for r in [row, column] {
            painter.rect_stroke(r, 0.0, Stroke::new(stroke.width + 1.5, cx.theme.background), StrokeKind::Outside);
            painter.rect_stroke(r, 0.0, stroke, StrokeKind::Outside);
        }
    };
    if let (Some(&first), Some(&last)) = (cx.pane.aim.tokens().first(), cx.pane.aim.tokens().last()) {
        band(first, last, Stroke::new(1.0, cx.theme.accent));
    }
    if let Some((first, last)) = cx.hovered.tokens {
        band(first, last, Stroke::new(1.0, cx.theme.text));
    }
}

/// Arrow keys pan, plus and minus zoom, Home shows the whole.
fn keys(cx: &Cx, ui: &Ui, id: egui::Id, zoomed: &dyn Fn(f32) -> [f32; 4]) {
    let filter = egui::EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
    ui.memory_mut(|m| m.set_focus_lock_filter(id, filter));
    let pressed = |key| ui.input_mut(|i| i.consume_key(egui::Modifiers::NONE, key));
    let [x, y, w, h] = cx.pane.cursor.window;
    let moves = [
        (Key::ArrowLeft, vec2(-1.0, 0.0)),
        (Key::ArrowRight, vec2(1.0, 0.0)),
        (Key::ArrowUp, vec2(0.0, -1.0)),
        (Key::ArrowDown, vec2(0.0, 1.0)),
    ];
    for (key, d) in moves {
        if pressed(key) {
            cx.send(Command::part([x + d.x * w * 0.125, y + d.y * h * 0.125, w, h]));
        }
    }
    if pressed(Key::Plus) || pressed(Key::Equals) {
        cx.send(Command::part(zoomed(1.5)));
    }
    if pressed(Key::Minus) {
        cx.send(Command::part(zoomed(1.0 / 1.5)));
    }
    if pressed(Key::Home) {
        cx.send(Command::part(WHOLE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_covers_the_window_and_stays_in_the_map() {
        assert_eq!(part(MAP_SIDE, [0.4, 0.4, 0.01, 0.01]), None);
        assert_eq!(part(100_000, WHOLE), None);
        for n in [2049, 100_000, 131_072] {
            for i in 0..200 {
                let (w, h) = (0.25 / (1 + i % 17) as f32, 0.25 / (1 + i % 5) as f32);
                let (x, y) = ((1.0 - w) * i as f32 / 199.0, (1.0 - h) * (199 - i) as f32 / 199.0);
                let p = part(n, [x, y, w, h]).expect("it is zoomed in");
                for (range, first, share) in [(&p.keys, x, w), (&p.queries, y, h)] {
                    let (a, b) = ((first * n as f32) as usize, ((first + share) * n as f32) as usize);
                    assert!(range.start <= a && b.min(n) <= range.end && range.end <= n, "{n} {range:?} {a} {b}");
                    assert!(range.len() <= (4.0 * share * n as f32).ceil() as usize + 16, "{n} {range:?}");
                }
            }
        }
    }
}
