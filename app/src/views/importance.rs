//! Which tokens matter, what a reduction drops, what the reduced model then says, and the maps of every head.

use super::picture::{self, Mark};
use super::{Cx, View, heat, widgets};
use crate::export::Table;
use crate::request::{Product, Pruned, Request, Thumbnail};
use crate::state::{Command, Curve, Sort, WHOLE};
use egui::{Color32, Sense, Stroke, StrokeKind, Ui, vec2};
use serde_json::json;
use std::sync::Arc;
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::prune::Fate;
use tokenscope_analysis::token::TokenKind;
use tokenscope_analysis::trace::{Tower, TowerTrace};

pub(super) const VIEW: View = View {
    id: "importance",
    title: "Importance",
    help: "Colour says how much a token matters for the prediction at the explained token (click one; Esc goes back to the last). \
           Below: which tokens a reduction keeps, drops and merges, on the text and on the picture, and what the model predicts then. \
           Bottom: attention of one head, queries down, keys across. Scroll to zoom into the map, drag to pan, double-click for the whole; \
           click a thumbnail to choose a head.",
    ui,
    own_height: true,
    table,
};

fn ui(cx: &Cx, ui: &mut Ui) {
    cx.long(ui, |ui| {
        let Some(trace) = cx.trace(ui) else { return };
        if !cx.figure && trace.towers.len() > 1 {
            ui.horizontal(|ui| {
                for (tower, name) in [(Tower::Text, "text"), (Tower::Vision, "image encoder")] {
                    let on = cx.doc.tower.unwrap_or(trace.main_tower()) == tower;
                    if trace.towers.contains_key(&tower) && ui.selectable_label(on, name).clicked() {
                        cx.send(Command::Tower(Some(tower)));
                    }
                }
            });
        }
        let Some((_, tower)) = cx.tower(&trace) else { return };
        let has_image = tower.tokens.iter().any(|t| t.kind == TokenKind::Image);
        let picture = match cx.doc.image.clone().filter(|_| has_image) {
            Some(path) => match cx.need(ui, "picture", Request::Picture(path)) {
                Some(Product::Picture(p)) => Some(p),
                _ => None,
            },
            None => None,
        };
        for (i, name) in PARTS.into_iter().enumerate() {
            if !part_ui(cx, ui, i, name) {
                continue;
            }
            match i {
                0 => scores_ui(cx, ui, tower, picture.as_deref()),
                1 => prune_ui(cx, ui, tower, picture.as_deref()),
                _ => map_ui(cx, ui, tower),
            }
        }
    });
}

/// The parts of the view, top to bottom.
pub const PARTS: [&str; 3] = ["scores", "reduction", "attention"];

/// The heading of a part, which opens and closes it. Gives whether it is open.
fn part_ui(cx: &Cx, ui: &mut Ui, i: usize, name: &str) -> bool {
    let open = cx.doc.parts[i];
    if cx.figure {
        if open && cx.doc.parts[..i].contains(&true) {
            ui.separator();
        }
        return open;
    }
    if i > 0 {
        ui.separator();
    }
    let title = ["Scores", "Reduction", "Attention maps"][i];
    let text = format!("{} {title}", if open { "▼" } else { "▶" });
    let button = egui::Button::new(egui::RichText::new(text).strong()).frame(false);
    if ui.add(button).on_hover_text(format!("Opens and closes the {name}")).clicked() {
        let mut parts = cx.doc.parts;
        parts[i] = !open;
        cx.send(Command::Parts(parts));
    }
    open
}

/// Height of pictures in points.
fn picture_height(ui: &Ui) -> f32 {
    (ui.clip_rect().height() * 0.5).clamp(120.0, 420.0)
}

/// The tokens in reading order; with a picture beside it, a run of image tokens is one chip.
fn strip(cx: &Cx, ui: &mut Ui, tower: &TowerTrace, picture: bool, mut each: impl FnMut(&mut Ui, usize)) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(1.0, 2.0);
        let mut i = 0;
        while i < tower.tokens.len() {
            let run = tower.tokens[i..].iter().take_while(|t| t.kind == TokenKind::Image).count();
            if picture && run > 1 {
                widgets::chip(cx, ui, &format!("{run} image tokens"), cx.theme.line, false, None);
                i += run;
            } else {
                each(ui, i);
                i += 1;
            }
        }
    });
}

fn choose(cx: &Cx, i: usize) {
    cx.send(Command::Target(if cx.doc.target == Some(i) { None } else { Some(i) }));
}

fn score_request(cx: &Cx) -> Request {
    Request::Score(cx.doc.scope(), cx.doc.target, cx.call(Kind::Score))
}

fn scores_ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace, picture: Option<&Picture>) {
    widgets::method_ui(cx, ui, Kind::Score);
    let Some(Product::Score(scores)) = cx.need(ui, "score", score_request(cx)) else { return };
    let high = scores.values.iter().flatten().map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0, f32::max);
    let low = if scores.signed { -high } else { 0.0 };
    let color = |v: f32| {
        let share = v / high.max(f32::MIN_POSITIVE);
        if scores.signed { cx.theme.signed(share) } else { cx.theme.magnitude(share) }
    };
    let value = |i: usize| scores.values.get(i).copied().flatten();
    let say = |i: usize| {
        let v = value(i).map_or("no value".into(), |v| format!("{} {}", widgets::number(v), scores.unit));
        format!("token {i}: {v}")
    };
    if let Some(p) = picture {
        let mark = |i: usize| Mark {
            fill: value(i).map_or(Color32::TRANSPARENT, |v| color(v).gamma_multiply(0.65)),
            ..Mark::default()
        };
        let height = picture_height(ui);
        if let Some(i) = picture::paint(cx, ui, p, tower, height, &mark, &say) {
            choose(cx, i);
        }
    }
    strip(cx, ui, tower, picture.is_some(), |ui, i| {
        let fill = value(i).map_or(cx.theme.line, color);
        let r = widgets::chip(cx, ui, &tower.tokens[i].text, fill, false, Some(i));
        if r.clicked() {
            choose(cx, i);
        }
        r.on_hover_text(say(i));
    });
    widgets::legend(cx, ui, low, high, scores.unit, scores.signed);
}

fn prune_ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace, picture: Option<&Picture>) {
    widgets::method_ui(cx, ui, Kind::Prune);
    let request = Request::Prune(cx.doc.scope(), cx.call(Kind::Prune));
    let Some(Product::Prune(p)) = cx.need(ui, "prune", request) else { return };
    if p.fates.len() != tower.tokens.len() {
        return;
    }
    let say = |i: usize| match p.fates[i] {
        Fate::Kept => format!("token {i}: kept"),
        Fate::Merged(row) => format!("token {i}: merged into row {row}"),
        Fate::Dropped(cut) => format!("token {i}: dropped at cut {cut}"),
    };
    if let Some(picture) = picture {
        let mark = |i: usize| match p.fates[i] {
            Fate::Kept => Mark::default(),
            Fate::Merged(row) => {
                let group = cx.theme.group(row);
                Mark { fill: group.gamma_multiply(0.25), outline: Some(group), crossed: false }
            }
            Fate::Dropped(_) => Mark { fill: cx.theme.veil, outline: None, crossed: true },
        };
        let height = picture_height(ui);
        picture::paint(cx, ui, picture, tower, height, &mark, &say);
    }
    strip(cx, ui, tower, picture.is_some(), |ui, i| {
        let (fill, struck) = match p.fates[i] {
            Fate::Kept => (cx.theme.chips[0], false),
            Fate::Merged(row) => (cx.theme.group(row), false),
            Fate::Dropped(_) => (cx.theme.background, true),
        };
        widgets::chip(cx, ui, &tower.tokens[i].text, fill, struck, Some(i)).on_hover_text(say(i));
    });
    outcome_ui(cx, ui, &p);
}

fn outcome_ui(cx: &Cx, ui: &mut Ui, p: &Pruned) {
    let count = |f: fn(&Fate) -> bool| p.fates.iter().filter(|x| f(x)).count();
    let (kept, merged) = (count(|f| *f == Fate::Kept), count(|f| matches!(f, Fate::Merged(_))));
    let dropped = p.fates.len() - kept - merged;
    let j = &p.judgement;
    let merges = if merged > 0 { format!(" · {merged} merged") } else { String::new() };
    let effect = match (j.kl, j.top1_same, j.cosine) {
        (Some(kl), same, _) => format!(
            "KL {} nats · most probable token {}",
            widgets::number(kl as f32),
            if same == Some(true) { "unchanged" } else { "changed" }
        ),
        (_, _, Some(cosine)) => format!("cosine of the embedding to the full model's {cosine:.4}"),
        _ => String::new(),
    };
    ui.small(format!(
        "{kept} of {} tokens kept · {dropped} dropped{merges} · {:.0}% of the operations · {effect}",
        p.fates.len(),
        j.flops_share * 100.0,
    ));
    let rows: Vec<String> = j.rows_by_layer.iter().map(usize::to_string).collect();
    ui.small(format!(
        "rows by layer {} · keys and values {:.1} kB · {:.1} ms instead of {:.1} ms",
        rows.join(" "),
        j.kv_bytes_by_layer.iter().sum::<usize>() as f64 / 1e3,
        j.reduced_time.as_secs_f64() * 1e3,
        j.full_time.as_secs_f64() * 1e3
    ));
    if p.full.is_empty() {
        return;
    }
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

fn map_ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace) {
    let (mut layer, mut head) = cx.doc.head;
    let heads = tower.attention.first().map_or(1, |a| a.n_heads);
    layer = layer.min(tower.n_layers.saturating_sub(1));
    head = head.min(heads.saturating_sub(1));
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
                cx.send(Command::Head(layer, head));
            }
            scale_ui(cx, ui);
        });
    }
    let Some(Product::Map(map)) = cx.need(ui, "map", Request::Map(cx.doc.scope(), layer, head)) else { return };
    let n = map.shape()[0];
    if n == 0 {
        ui.weak("No tokens, so no attention.");
        return;
    }
    let version = Arc::as_ptr(&map) as u64;
    let matrix = heat::Matrix { rows: n, cols: n, values: map.data(), version };
    let slot = ui.scope_id().with("fitted");
    let scale = cx.doc.scale;
    let cached = ui.data(|d| d.get_temp::<(u64, crate::state::Scale, Arc<heat::Fitted>)>(slot));
    let fitted = match cached.filter(|(v, s, _)| *v == version && *s == scale) {
        Some((_, _, fitted)) => fitted,
        None => {
            let fitted = Arc::new(heat::Fitted::new(&matrix, scale));
            ui.data_mut(|d| d.insert_temp(slot, (version, scale, fitted.clone())));
            fitted
        }
    };
    ui.horizontal_top(|ui| {
        let side = (ui.available_width() * 0.58).clamp(120.0, 440.0);
        ui.vertical(|ui| {
            ui.set_width(side);
            microscope(cx, ui, side, &matrix, &fitted, tower);
            heat::legend(cx, ui, &fitted, "share of attention");
        });
        ui.vertical(|ui| thumbnails_ui(cx, ui, (layer, head)));
    });
}

fn scale_ui(cx: &Cx, ui: &mut Ui) {
    let mut scale = cx.doc.scale;
    let combo = egui::ComboBox::from_id_salt("curve")
        .selected_text(match scale.curve {
            Curve::Linear => "linear",
            Curve::Log => "log",
            Curve::Rank => "rank",
        })
        .width(56.0)
        .show_ui(ui, |ui| {
            ui.selectable_value(&mut scale.curve, Curve::Linear, "linear");
            ui.selectable_value(&mut scale.curve, Curve::Log, "log").on_hover_text("Four decades below the upper end");
            ui.selectable_value(&mut scale.curve, Curve::Rank, "rank").on_hover_text("Equal areas, equal steps");
        });
    widgets::named(&combo.response, "colour scale");
    ui.add(egui::DragValue::new(&mut scale.clip).range(50.0..=100.0).speed(0.1).prefix("clip ").suffix("%"))
        .on_hover_text("Values above this percentile share the last colour");
    ui.checkbox(&mut scale.mask_sink, "mask sink")
        .on_hover_text("Hatches the first token and leaves it out of the scale");
    if scale != cx.doc.scale {
        cx.send(Command::Scale(scale));
    }
}

/// The map with pan and zoom.
fn microscope(cx: &Cx, ui: &mut Ui, side: f32, m: &heat::Matrix, fitted: &heat::Fitted, tower: &TowerTrace) {
    let n = m.rows;
    let (rect, response) = ui.allocate_exact_size(vec2(side, side), Sense::click_and_drag());
    let [x, y, w, h] = cx.doc.window;
    heat::paint(cx, ui, rect, "attention", m, fitted, cx.doc.window);
    ui.painter().rect_stroke(rect, 0.0, Stroke::new(1.0, cx.theme.line), StrokeKind::Outside);
    let cell = vec2(side / (w * n as f32), side / (h * n as f32));
    let painter = ui.painter_at(rect);
    if cell.x >= 8.0 && cell.y >= 8.0 {
        let line = Stroke::new(0.5, cx.theme.background.gamma_multiply(0.5));
        let first = |from: f32| (from * n as f32).floor() as usize;
        for i in first(x)..=(first(x + w) + 1).min(n) {
            let at = rect.left() + (i as f32 / n as f32 - x) / w * side;
            painter.vline(at, rect.y_range(), line);
        }
        for i in first(y)..=(first(y + h) + 1).min(n) {
            let at = rect.top() + (i as f32 / n as f32 - y) / h * side;
            painter.hline(rect.x_range(), at, line);
        }
    }
    if let Some(t) = cx.hovered.or(cx.doc.target).filter(|t| *t < n) {
        let at = |from: f32, share: f32| (t as f32 / n as f32 - from) / share * side;
        let row = egui::Rect::from_min_size(rect.min + vec2(0.0, at(y, h)), vec2(side, cell.y));
        let column = egui::Rect::from_min_size(rect.min + vec2(at(x, w), 0.0), vec2(cell.x, side));
        for r in [row, column] {
            painter.rect_stroke(r, 0.0, Stroke::new(1.0, cx.theme.accent), StrokeKind::Outside);
        }
    }
    if response.double_clicked() {
        cx.send(Command::Window(WHOLE));
    } else if response.dragged() {
        let d = response.drag_delta();
        cx.send(Command::Window([x - d.x / side * w, y - d.y / side * h, w, h]));
    }
    let Some(p) = response.hover_pos() else { return };
    let share = (p - rect.min) / side;
    let (zoom, scroll) = ui.input_mut(|i| {
        let scroll = i.smooth_scroll_delta.y;
        // The map takes the wheel; the page around it must not move.
        i.smooth_scroll_delta.y = 0.0;
        (i.zoom_delta(), scroll)
    });
    let factor = (zoom * (scroll * 0.01).exp()).clamp(0.2, 5.0);
    if (factor - 1.0).abs() > 1e-4 {
        let smallest = (4.0 / n as f32).min(1.0);
        let (nw, nh) = ((w / factor).clamp(smallest, 1.0), (h / factor).clamp(smallest, 1.0));
        cx.send(Command::Window([x + share.x * (w - nw), y + share.y * (h - nh), nw, nh]));
    }
    let at = |v: f32| ((v * n as f32) as usize).min(n - 1);
    let (q, k) = (at(y + share.y * h), at(x + share.x * w));
    cx.hover.set(Some(q));
    let name = |i: usize| tower.tokens.get(i).map_or(String::new(), |t| widgets::visible(&t.text));
    let value = m.values[q * n + k];
    response.on_hover_text_at_pointer(format!("token {q} {} → token {k} {}: {value:.4}", name(q), name(k)));
}

fn thumbnails_ui(cx: &Cx, ui: &mut Ui, chosen: (usize, usize)) {
    let Some(Product::Thumbnails(all)) = cx.need(ui, "thumbnails", Request::Thumbnails(cx.doc.scope())) else {
        return;
    };
    if !cx.figure {
        ui.horizontal(|ui| {
            ui.small("heads by");
            let mut sort = cx.doc.sort;
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
            if sort != cx.doc.sort {
                cx.send(Command::Sort(sort));
            }
        });
    }
    let key = |t: &Thumbnail| match cx.doc.sort {
        Sort::Layer => 0.0,
        Sort::Entropy => t.entropy,
        Sort::Sink => -t.sink,
        Sort::Distance => t.distance,
    };
    let mut order: Vec<&Thumbnail> = all.iter().collect();
    order.sort_by(|a, b| key(a).total_cmp(&key(b)).then((a.layer, a.head).cmp(&(b.layer, b.head))));
    let by_layer = cx.doc.sort == Sort::Layer;
    let heads = all.iter().map(|t| t.head + 1).max().unwrap_or(1);
    let size = ((ui.available_width() - 4.0) / heads.clamp(4, 12) as f32 - 3.0).clamp(14.0, 44.0);
    egui::ScrollArea::both().id_salt("thumbnails").max_height(360.0).show(ui, |ui| {
        ui.spacing_mut().item_spacing = vec2(3.0, 3.0);
        let per_line = if by_layer { heads } else { ((ui.available_width() / (size + 3.0)) as usize).max(1) };
        for line in order.chunks(per_line) {
            ui.horizontal(|ui| line.iter().for_each(|t| thumbnail_ui(cx, ui, t, size, chosen)));
        }
    });
}

fn thumbnail_ui(cx: &Cx, ui: &mut Ui, t: &Thumbnail, size: f32, chosen: (usize, usize)) {
    let (rect, response) = ui.allocate_exact_size(vec2(size, size), Sense::click());
    if ui.is_rect_visible(rect) {
        let m = heat::Matrix { rows: t.side, cols: t.side, values: &t.cells, version: t.cells.as_ptr() as u64 };
        let fitted = heat::Fitted::new(&m, cx.doc.scale);
        heat::paint(cx, ui, rect, &format!("thumbnail {} {}", t.layer, t.head), &m, &fitted, WHOLE);
        let (width, color) = if (t.layer, t.head) == chosen { (2.0, cx.theme.accent) } else { (1.0, cx.theme.line) };
        ui.painter().rect_stroke(rect, 0.0, Stroke::new(width, color), StrokeKind::Outside);
    }
    let name = format!("layer {}, head {}", t.layer, t.head);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, &name));
    if response.clicked() {
        cx.send(Command::Head(t.layer, t.head));
    }
    response.on_hover_text(format!(
        "{name}\nentropy {:.2} of its largest · first token gets {:.0}% · mean distance {:.1} tokens",
        t.entropy,
        t.sink * 100.0,
        t.distance
    ));
}

fn table(cx: &Cx) -> Option<Table> {
    let trace = cx.ready_trace()?;
    let (_, tower) = cx.tower(&trace)?;
    let Some(Product::Score(scores)) = cx.ready(&score_request(cx)) else { return None };
    let pruned = match cx.ready(&Request::Prune(cx.doc.scope(), cx.call(Kind::Prune))) {
        Some(Product::Prune(p)) => Some(p),
        _ => None,
    };
    let score = format!("{} ({})", cx.doc.score.0, scores.unit);
    let mut table = Table::new(&["index", "id", "text", "kind", &score, "x", "y", "width", "height", &cx.doc.prune.0]);
    for (i, t) in tower.tokens.iter().enumerate() {
        let fate = pruned.as_ref().and_then(|p| p.fates.get(i)).map(|f| match f {
            Fate::Kept => "kept".to_string(),
            Fate::Merged(row) => format!("merged {row}"),
            Fate::Dropped(_) => "dropped".to_string(),
        });
        let rect = match t.source {
            tokenscope_analysis::token::Source::Rect { x, y, w, h } => [Some(x), Some(y), Some(w), Some(h)],
            _ => [None; 4],
        };
        let value = scores.values.get(i).copied().flatten();
        let mut row = vec![json!(i), json!(t.id), json!(t.text), json!(t.kind), json!(value)];
        row.extend(rect.map(|v| json!(v)));
        row.push(json!(fate));
        table.rows.push(row);
    }
    Some(table)
}
