//! All heads at a glance, layer by head or sorted by what they do.

use super::super::heat;
use crate::cx::Cx;
use crate::pane::Sort;
use crate::pictures::widgets;
use crate::state::Command;
use crate::work::{Thumbnail, ThumbnailsOf};
use egui::{Key, Sense, Stroke, StrokeKind, Ui, vec2};

/// Smallest thumbnail with its name below, and the room for that, in points.
const NAMED: f32 = 26.0;
const NAME: f32 = 11.0;

pub(super) fn ui(cx: &Cx, ui: &mut Ui, chosen: (usize, usize)) {
    let Some(all) = cx.need(ui, "thumbnails", &ThumbnailsOf(cx.pane.scope())) else { return };
    if !cx.figure {
        ui.horizontal(|ui| {
            ui.small("heads by");
            let mut sort = cx.pane.shows.sort;
            let names = [
                (Sort::Layer, "layer"),
                (Sort::Entropy, "entropy"),
                (Sort::Sink, "sink share"),
                (Sort::Distance, "distance"),
            ];
            let shown = names.iter().find(|n| n.0 == sort).map_or("", |n| n.1);
            let combo = egui::ComboBox::from_id_salt("sort").selected_text(shown).width(76.0).show_ui(ui, |ui| {
                for (s, name) in names {
                    ui.selectable_value(&mut sort, s, name);
                }
            });
            widgets::named(&combo.response, "order of the heads");
            if sort != cx.pane.shows.sort {
                cx.set_look("order of heads", move |p| p.shows.sort = sort);
            }
        });
    }
    let key = |t: &Thumbnail| match cx.pane.shows.sort {
        Sort::Layer => 0.0,
        Sort::Entropy => t.glance.entropy,
        Sort::Sink => -t.glance.sink,
        Sort::Distance => t.glance.distance,
    };
    let mut order: Vec<&Thumbnail> = all.iter().map(|t| &**t).collect();
    order.sort_by(|a, b| key(a).total_cmp(&key(b)).then((a.layer, a.head).cmp(&(b.layer, b.head))));
    let by_layer = cx.pane.shows.sort == Sort::Layer;
    let heads = all.iter().map(|t| t.head + 1).max().unwrap_or(1);
    let size = ((ui.available_width() - 4.0) / heads.clamp(4, 12) as f32 - 3.0).clamp(14.0, 44.0);
    // The grid is one stop of the Tab key; the arrow keys walk it in the order that is shown.
    let grid = ui.scope_id().with("grid");
    let per_line = if by_layer { heads } else { ((ui.available_width() / (size + 3.0)) as usize).max(1) };
    let area = egui::ScrollArea::both().id_salt("thumbnails").max_height(360.0).show(ui, |ui| {
        ui.spacing_mut().item_spacing = vec2(3.0, 3.0);
        for line in order.chunks(per_line) {
            ui.horizontal(|ui| line.iter().for_each(|t| thumbnail_ui(cx, ui, t, size, chosen, grid)));
        }
    });
    if cx.figure {
        return;
    }
    let response = ui.interact(area.inner_rect, grid, Sense::FOCUSABLE);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Group, true, "heads, walked by the arrow keys"));
    if response.has_focus() {
        ui.painter().rect_stroke(
            area.inner_rect.expand(2.0),
            0.0,
            Stroke::new(1.0, cx.theme.accent),
            StrokeKind::Outside,
        );
        keys(cx, ui, grid, &order, per_line, chosen);
    }
}

fn keys(cx: &Cx, ui: &Ui, id: egui::Id, order: &[&Thumbnail], per_line: usize, chosen: (usize, usize)) {
    let filter = egui::EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
    ui.memory_mut(|m| m.set_focus_lock_filter(id, filter));
    let Some(now) = order.iter().position(|t| (t.layer, t.head) == chosen) else { return };
    let pressed = |key| ui.input_mut(|i| i.consume_key(egui::Modifiers::NONE, key));
    let mut to = now;
    if pressed(Key::ArrowRight) {
        to = (now + 1).min(order.len() - 1);
    } else if pressed(Key::ArrowLeft) {
        to = now.saturating_sub(1);
    } else if pressed(Key::ArrowDown) && now + per_line < order.len() {
        to = now + per_line;
    } else if pressed(Key::ArrowUp) && now >= per_line {
        to = now - per_line;
    }
    if to != now {
        cx.send(Command::head(order[to].layer, order[to].head));
    }
}

fn thumbnail_ui(cx: &Cx, ui: &mut Ui, t: &Thumbnail, size: f32, chosen: (usize, usize), grid: egui::Id) {
    let under = if size >= NAMED { NAME } else { 0.0 };
    let (whole, response) = ui.allocate_exact_size(vec2(size, size + under), Sense::click() - Sense::FOCUSABLE);
    let rect = egui::Rect::from_min_size(whole.min, vec2(size, size));
    if ui.is_rect_visible(whole) {
        if under > 0.0 {
            let (font, chosen) = (egui::FontId::proportional(9.0), (t.layer, t.head) == chosen);
            let color = if chosen { cx.theme.text } else { cx.theme.weak };
            let words = format!("L{} H{}", t.layer, t.head);
            ui.painter().text(whole.center_bottom(), egui::Align2::CENTER_BOTTOM, words, font, color);
        }
        heat::thumbnail(cx, ui, rect, t);
        let (width, color) = if (t.layer, t.head) == chosen { (2.0, cx.theme.accent) } else { (1.0, cx.theme.line) };
        ui.painter().rect_stroke(rect, 0.0, Stroke::new(width, color), StrokeKind::Outside);
    }
    let name = format!("layer {}, head {}", t.layer, t.head);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, &name));
    if response.clicked() {
        cx.send(Command::head(t.layer, t.head));
        ui.memory_mut(|m| m.request_focus(grid));
    }
    response.on_hover_text(format!(
        "{name}\nentropy {:.2} of its largest · first token gets {:.0}% · mean distance {:.1} tokens",
        t.glance.entropy,
        t.glance.sink * 100.0,
        t.glance.distance
    ));
}
