//! Which tokens matter, what a reduction drops, what the reduced model then says, and one head's map.

use super::{Cx, View, widgets};
use crate::request::{Product, Request};
use crate::state::Command;
use egui::{Color32, ColorImage, Sense, TextureOptions, Ui};
use tokenscope_analysis::method::{Info, Kind};
use tokenscope_analysis::prune::Fate;
use tokenscope_analysis::{prune, score};

pub(super) const VIEW: View = View {
    title: "Importance",
    help: "Colour says how much a token matters for the prediction at the explained token (click one; Esc goes back to the last). \
           Below: which tokens a reduction keeps, and what the model predicts then. Bottom: the attention of one head, queries down, keys across.",
    ui,
};

fn ui(cx: &Cx, ui: &mut Ui) {
    egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        let Some(Product::Trace(trace)) = cx.need(ui, "trace", Request::Trace(cx.doc.run())) else { return };
        let Some(tower) = trace.towers.get(&trace.main_tower()) else { return };
        scores_ui(cx, ui, tower);
        ui.separator();
        prune_ui(cx, ui, tower);
        ui.separator();
        map_ui(cx, ui, tower);
    });
}

fn scores_ui(cx: &Cx, ui: &mut Ui, tower: &tokenscope_analysis::trace::TowerTrace) {
    let infos: Vec<&'static Info> = score::ALL.iter().map(|m| m.info()).collect();
    widgets::method_ui(cx, ui, Kind::Score, &infos);
    let request = Request::Score(cx.doc.run(), cx.doc.target, cx.doc.call(Kind::Score));
    let Some(Product::Score(scores)) = cx.need(ui, "score", request) else { return };
    let values: Vec<f32> = scores.values.iter().flatten().copied().collect();
    let high = values.iter().map(|v| v.abs()).fold(0.0, f32::max);
    let low = if scores.signed { -high } else { 0.0 };
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = egui::vec2(1.0, 2.0);
        for (i, t) in tower.tokens.iter().enumerate() {
            let v = scores.values.get(i).copied().flatten();
            let fill = match v {
                None => cx.theme.line,
                Some(v) if scores.signed => cx.theme.signed(v / high.max(f32::MIN_POSITIVE)),
                Some(v) => cx.theme.magnitude(v / high.max(f32::MIN_POSITIVE)),
            };
            let r = widgets::chip(cx, ui, &t.text, fill, false, Some(i));
            if r.clicked() {
                cx.send(Command::Target(if cx.doc.target == Some(i) { None } else { Some(i) }));
            }
            r.on_hover_text(format!(
                "token {i}: {}",
                v.map_or("no value".into(), |v| format!("{} {}", widgets::number(v), scores.unit))
            ));
        }
    });
    widgets::legend(cx, ui, low, high, scores.unit, scores.signed);
}

fn prune_ui(cx: &Cx, ui: &mut Ui, tower: &tokenscope_analysis::trace::TowerTrace) {
    let infos: Vec<&'static Info> = prune::ALL.iter().map(|m| m.info()).collect();
    widgets::method_ui(cx, ui, Kind::Prune, &infos);
    let Some(Product::Prune(p)) = cx.need(ui, "prune", Request::Prune(cx.doc.run(), cx.doc.call(Kind::Prune))) else {
        return;
    };
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = egui::vec2(1.0, 2.0);
        for (i, (t, fate)) in tower.tokens.iter().zip(&p.fates).enumerate() {
            let dropped = matches!(fate, Fate::Dropped(_));
            let fill = if dropped { cx.theme.background } else { cx.theme.chips[0] };
            widgets::chip(cx, ui, &t.text, fill, dropped, Some(i));
        }
    });
    let j = &p.judgement;
    let kept = p.fates.iter().filter(|f| !matches!(f, Fate::Dropped(_))).count();
    ui.small(format!(
        "{kept} of {} tokens kept · {:.0}% of the operations · KL {} nats · most probable token {}",
        p.fates.len(),
        j.flops_share * 100.0,
        widgets::number(j.kl as f32),
        if j.top1_same { "unchanged" } else { "changed" }
    ));
    egui::Grid::new("outputs").striped(true).show(ui, |ui| {
        ui.small("full model");
        ui.small("");
        ui.small("reduced model");
        ui.end_row();
        for (a, b) in p.full.iter().zip(&p.reduced).take(5) {
            ui.monospace(format!("{} {:.1}%", widgets::visible(&a.0), a.1 * 100.0));
            ui.colored_label(if a.0 == b.0 { cx.theme.weak } else { cx.theme.bad }, if a.0 == b.0 { "=" } else { "≠" });
            ui.monospace(format!("{} {:.1}%", widgets::visible(&b.0), b.1 * 100.0));
            ui.end_row();
        }
    });
}

fn map_ui(cx: &Cx, ui: &mut Ui, tower: &tokenscope_analysis::trace::TowerTrace) {
    let (mut layer, mut head) = cx.doc.head;
    let heads = tower.attention.first().map_or(1, |a| a.n_heads);
    ui.horizontal(|ui| {
        ui.label("Attention of");
        let a = ui.add(
            egui::DragValue::new(&mut layer).range(0..=tower.n_layers.saturating_sub(1)).prefix("layer ").speed(0.05),
        );
        let b = ui.add(egui::DragValue::new(&mut head).range(0..=heads.saturating_sub(1)).prefix("head ").speed(0.05));
        if a.changed() || b.changed() {
            cx.send(Command::Head(layer, head));
        }
    });
    let Some(Product::Map(map)) = cx.need(ui, "map", Request::Map(cx.doc.run(), layer, head)) else { return };
    let n = map.shape()[0];
    if n == 0 {
        return;
    }
    let pixels: Vec<Color32> = map.data().iter().map(|&v| cx.theme.magnitude(v)).collect();
    let image = ColorImage::new([n, n], pixels);
    // Uploaded again only when the map itself is another one.
    let id = ui.scope_id().with("map");
    let key = std::sync::Arc::as_ptr(&map) as usize;
    let cached = ui.data(|d| d.get_temp::<(usize, egui::TextureHandle)>(id)).filter(|(k, _)| *k == key);
    let (_, texture) = cached.unwrap_or_else(|| {
        let fresh = (key, ui.ctx().load_texture("attention", image, TextureOptions::NEAREST));
        ui.data_mut(|d| d.insert_temp(id, fresh.clone()));
        fresh
    });
    let side = ui.available_width().clamp(60.0, 320.0);
    let (rect, response) = ui.allocate_exact_size(egui::vec2(side, side), Sense::hover());
    ui.painter().image(
        texture.id(),
        rect,
        egui::Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0)),
        Color32::WHITE,
    );
    let cell = side / n as f32;
    if let Some(t) = cx.hovered.filter(|t| *t < n) {
        let row = egui::Rect::from_min_size(rect.min + egui::vec2(0.0, t as f32 * cell), egui::vec2(side, cell));
        let column = egui::Rect::from_min_size(rect.min + egui::vec2(t as f32 * cell, 0.0), egui::vec2(cell, side));
        for r in [row, column] {
            ui.painter().rect_stroke(r, 0.0, egui::Stroke::new(1.0, cx.theme.accent), egui::StrokeKind::Outside);
        }
    }
    if let Some(p) = response.hover_pos() {
        let at = |v: f32| ((v / cell) as usize).min(n - 1);
        let (q, k) = (at(p.y - rect.top()), at(p.x - rect.left()));
        cx.hover.set(Some(q));
        let name = |i: usize| tower.tokens.get(i).map_or(String::new(), |t| widgets::visible(&t.text));
        response.on_hover_text_at_pointer(format!(
            "token {q} {} → token {k} {}: {:.4}",
            name(q),
            name(k),
            map.row(q)[k]
        ));
    }
    widgets::legend(cx, ui, 0.0, 1.0, "share of attention · queries down, keys across", false);
}
