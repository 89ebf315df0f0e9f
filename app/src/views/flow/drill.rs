//! Behind a node: its edges, the heads of one edge, and what one head changes. Breadcrumbs lead back.

use super::super::heat;
use super::{Seen, attention_of, into};
use crate::cx::Cx;
use crate::heatmap::{Fitted, Scale};
use crate::pane::{Drill, WHOLE};
use crate::pictures::widgets;
use crate::state::Command;
use crate::work::{EdgeOf, EffectOf, MapOf, NodeLensOf};
use egui::{Sense, Stroke, Ui, vec2};
use tokenscope_analysis::flow::Part;
use tokenscope_analysis::lens::{HeadShare, Moved};
use tokenscope_analysis::trace::Tower;

/// Edges listed at most.
const EDGES: usize = 12;

pub(super) fn ui(cx: &Cx, ui: &mut Ui, seen: &Seen, drill: Drill) {
    ui.separator();
    crumbs_ui(cx, ui, seen, drill);
    egui::ScrollArea::vertical().id_salt("drill").auto_shrink(false).show(ui, |ui| {
        match (drill.level.checked_sub(1), drill.from, drill.head) {
            (Some(layer), Some(from), Some(head)) => head_ui(cx, ui, seen, layer, head, from, drill.token),
            (Some(layer), Some(from), None) => edge_ui(cx, ui, layer, from, drill),
            _ => node_ui(cx, ui, seen, drill),
        }
    });
}

fn crumbs_ui(cx: &Cx, ui: &mut Ui, seen: &Seen, drill: Drill) {
    let node = match drill.level {
        0 => format!("input · {} {}", drill.token, seen.text(drill.token)),
        l => format!("layer {} · {} {}", l - 1, drill.token, seen.text(drill.token)),
    };
    let whole = Drill { from: None, head: None, ..drill };
    let mut crumbs = vec![("flow".to_string(), None), (node, Some(whole))];
    if let Some(from) = drill.from {
        crumbs.push((format!("from {from} {}", seen.text(from)), Some(Drill { head: None, ..drill })));
        if let Some(head) = drill.head {
            crumbs.push((format!("head {head}"), Some(drill)));
        }
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        let last = crumbs.len() - 1;
        for (i, (words, to)) in crumbs.into_iter().enumerate() {
            if i > 0 {
                ui.weak("▸");
            }
            if i == last {
                ui.strong(words);
            } else if ui.link(words).clicked() {
                cx.send(Command::drill(to));
            }
        }
        let close = ui.small_button("✖").on_hover_text("Close (Esc goes back one step)");
        widgets::named(&close, "close the drill");
        if close.clicked() {
            cx.send(Command::drill(None));
        }
    });
}

/// A share as a bar with its number.
fn bar(cx: &Cx, ui: &mut Ui, share: f32, words: String) {
    let (rect, _) = ui.allocate_exact_size(vec2(64.0, 10.0), Sense::hover());
    ui.painter().rect_filled(rect, 1.0, cx.theme.line);
    let mut filled = rect;
    filled.set_width(rect.width() * share.clamp(0.0, 1.0));
    ui.painter().rect_filled(filled, 1.0, cx.theme.accent);
    ui.small(words);
}

fn node_ui(cx: &Cx, ui: &mut Ui, seen: &Seen, drill: Drill) {
    ui.horizontal_top(|ui| {
        ui.vertical(|ui| {
            ui.small("what arrives, strongest first");
            egui::Grid::new("edges in").num_columns(2).spacing([8.0, 2.0]).show(ui, |ui| {
                let mut any = false;
                for e in into(seen.graph, drill.level, drill.token).take(EDGES) {
                    any = true;
                    let from = e.from.token as usize;
                    let words = format!("{from} {}", seen.text(from));
                    match attention_of(&e) {
                        Some(_) => {
                            if ui.link(words).on_hover_text("Which heads carry this").clicked() {
                                cx.send(Command::drill(Some(Drill { from: Some(from), ..drill })));
                            }
                        }
                        None => drop(ui.label(words)),
                    }
                    bar(cx, ui, e.weight, format!("{:.1}%", e.weight * 100.0));
                    ui.end_row();
                }
                if !any {
                    ui.weak("Nothing flows into an input.");
                }
            });
            let mlp = seen.graph.above(0.0).find(|e| {
                e.to.part == Part::Resid
                    && e.from.part == Part::Mlp
                    && (e.to.level as usize, e.to.token as usize) == (drill.level, drill.token)
            });
            if let Some(e) = mlp {
                ui.small(format!("of the output, {:.1}% come from the MLP", e.weight * 100.0));
            }
        });
        if seen.name == Tower::Text && !cx.recorded() {
            ui.separator();
            ui.vertical(|ui| {
                ui.small("what the model would predict here (logit lens)");
                let asked = NodeLensOf { run: cx.pane.run.clone(), level: drill.level, token: drill.token };
                let Some(top) = cx.need(ui, "node lens", &asked) else { return };
                egui::Grid::new("lens").num_columns(2).spacing([8.0, 2.0]).show(ui, |ui| {
                    for (i, g) in top.iter().enumerate() {
                        widgets::guess(cx, ui, drill.token, i, g);
                        bar(cx, ui, g.p, format!("{:.1}%", g.p * 100.0));
                        ui.end_row();
                    }
                });
            });
        }
    });
}

fn edge_ui(cx: &Cx, ui: &mut Ui, layer: usize, from: usize, drill: Drill) {
    let asked = EdgeOf { scope: cx.pane.scope(), layer, from, to: drill.token };
    let Some(heads) = cx.need(ui, "edge", &asked) else { return };
    let longest = heads.iter().map(|h| h.norm).filter(|n| n.is_finite()).fold(0.0, f32::max);
    let mut order: Vec<&HeadShare> = heads.iter().collect();
    let key = |h: &HeadShare| if h.norm.is_finite() { h.norm } else { h.attention };
    order.sort_by(|a, b| key(b).total_cmp(&key(a)));
    egui::Grid::new("heads").num_columns(3).striped(true).spacing([12.0, 2.0]).show(ui, |ui| {
        ui.small("head");
        ui.small("attention").on_hover_text("Share of this head's attention that the receiving token gives the other");
        ui.small("contribution").on_hover_text("Length (L2) of what the head adds to the residual stream for it");
        ui.end_row();
        for h in order {
            if ui.link(format!("head {}", h.head)).on_hover_text("Its map and what it changes").clicked() {
                cx.send(Command::drill(Some(Drill { head: Some(h.head), ..drill })));
            }
            ui.horizontal(|ui| bar(cx, ui, h.attention, format!("{:.3}", h.attention)));
            match h.norm.is_finite() {
                true => drop(ui.horizontal(|ui| bar(cx, ui, h.norm / longest.max(1e-9), widgets::number(h.norm)))),
                false => drop(ui.small("needs the weights")),
            }
            ui.end_row();
        }
    });
}

fn head_ui(cx: &Cx, ui: &mut Ui, seen: &Seen, layer: usize, head: usize, from: usize, to: usize) {
    ui.horizontal_top(|ui| {
        ui.vertical(|ui| map_ui(cx, ui, layer, head, from, to));
        ui.vertical(|ui| {
            if seen.name != Tower::Text || cx.recorded() {
                ui.weak("What it changes in the prediction needs a language model with its weights.");
                return;
            }
            let edge = EdgeOf { scope: cx.pane.scope(), layer, from, to };
            let against = cx.pane.contrast.as_ref().map(|c| c.id);
            let Some(e) = cx.need(ui, "effect", &EffectOf { edge, head, against }) else { return };
            if let Some(l) = &e.lead {
                let (a, b) = (widgets::visible(&l.token), widgets::visible(&l.against));
                let color = if l.delta > 0.0 { cx.theme.good } else { cx.theme.bad };
                ui.colored_label(color, format!("{a} rather than {b}: {:+.3} nats", l.delta))
                    .on_hover_text("What this contribution adds to the difference of the two logits");
            }
            ui.small(format!("what the lens after layer {layer} reads with this contribution, against without"));
            ui.horizontal_top(|ui| {
                moved_ui(cx, ui, "promoted", &e.promoted);
                moved_ui(cx, ui, "suppressed", &e.suppressed);
            });
        });
    });
}

fn moved_ui(cx: &Cx, ui: &mut Ui, name: &str, list: &[Moved]) {
    ui.vertical(|ui| {
        ui.small(name);
        egui::Grid::new(name).num_columns(3).striped(true).spacing([8.0, 2.0]).show(ui, |ui| {
            for m in list {
                ui.monospace(widgets::visible(&m.text));
                let color = if m.delta > 0.0 { cx.theme.good } else { cx.theme.bad };
                ui.colored_label(color, format!("{:+.3}", m.delta)).on_hover_text("Change of log-probability in nats");
                let rank =
                    if m.before == m.after { format!("{}", m.after) } else { format!("{} → {}", m.before, m.after) };
                ui.small(rank).on_hover_text("Rank without and with it");
                ui.end_row();
            }
        });
    });
}

fn map_ui(cx: &Cx, ui: &mut Ui, layer: usize, head: usize, from: usize, to: usize) {
    let side = (ui.available_height() - 34.0).clamp(90.0, 200.0);
    ui.set_width(side);
    let asked = MapOf { scope: cx.pane.scope(), layer, head, part: None };
    let Some(map) = cx.need(ui, "drilled map", &asked) else { return };
    let n = map.n;
    if n == 0 {
        return;
    }
    let fitted = Fitted::new(&map.summary, Scale::default());
    let (rect, response) = ui.allocate_exact_size(vec2(side, side), Sense::hover());
    heat::map(cx, ui, rect, (&map, &asked), &map, &fitted, WHOLE);
    ui.painter().rect_stroke(rect, 0.0, Stroke::new(1.0, cx.theme.line), egui::StrokeKind::Outside);
    let at = |i: usize| (i as f32 + 0.5) / n as f32 * side;
    let cross = Stroke::new(1.0, cx.theme.accent);
    ui.painter().hline(rect.x_range(), rect.top() + at(to), cross);
    ui.painter().vline(rect.left() + at(from), rect.y_range(), cross);
    let value = heat::host(cx, &map, &asked).and_then(|cells| map.at(&cells, to, from));
    let value = value.map_or("…".to_string(), |v| format!("{v:.3}"));
    let edge = if map.window.is_exact() { "the edge has" } else { "around the edge up to" };
    let label = format!("map of layer {layer}, head {head}; {edge} {value}");
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
    response.on_hover_text(label.clone());
    heat::legend(cx, ui, &fitted, "attention");
    if ui.small_button("Open in attention maps").clicked() {
        cx.send(Command::head(layer, head));
    }
}
