//! The layer × token lattice with its strongest edges, routes to one token, and the logit lens at its nodes.

use super::{Cx, View, widgets};
use crate::export::Table;
use crate::request::{Product, Request};
use crate::state::Command;
use egui::{Align2, Color32, FontId, Sense, Stroke, Ui, pos2, vec2};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use tokenscope_analysis::flow::{Edge, FlowGraph, Node, Part};
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::trace::{Tower, TowerTrace};

pub(super) const VIEW: View = View {
    id: "flow",
    title: "Flow",
    help: "Information travels upwards, from the tokens at the bottom through the layers. An edge is as wide as its share of what arrives; \
           those below the threshold are hidden. Routes to the hovered or explained token are drawn strong; click a token to explain it. \
           Each node names the token that the model would predict there (logit lens), the paler the less sure.",
    ui,
    own_height: false,
    table,
};

/// Edges drawn at most, the strongest first; a caption says when some are left out.
const MAX_EDGES: usize = 20_000;

fn request(cx: &Cx) -> Request {
    Request::Flow(cx.doc.scope(), cx.call(Kind::Flow))
}

fn ui(cx: &Cx, ui: &mut Ui) {
    widgets::method_ui(cx, ui, Kind::Flow);
    if cx.figure {
        ui.label(format!("edges from {} on", cx.doc.threshold));
    } else {
        let mut threshold = cx.doc.threshold;
        let slider = egui::Slider::new(&mut threshold, 0.001..=1.0).logarithmic(true).text("threshold");
        if ui.add(slider).on_hover_text("Edges below this share are hidden").changed() {
            cx.send(Command::Threshold(threshold));
        }
    }
    let Some(trace) = cx.trace(ui) else { return };
    let Some((name, tower)) = cx.tower(&trace) else { return };
    let Some(Product::Flow(graph)) = cx.need(ui, "flow", request(cx)) else { return };
    let lens = match name {
        Tower::Text if !matches!(cx.doc.model, crate::request::ModelSource::Recorded(_)) => {
            match cx.need(ui, "lens", Request::Lens(cx.doc.run())) {
                Some(Product::Lens(l)) => Some(l),
                _ => None,
            }
        }
        _ => None,
    };
    let (n, levels) = (graph.n_tokens, graph.n_layers + 1);
    if n == 0 {
        ui.weak("No tokens, so nothing flows.");
        return;
    }
    egui::ScrollArea::horizontal().auto_shrink(false).stick_to_right(true).show(ui, |ui| {
        let width = if cx.figure { ui.available_width() } else { ui.available_width().max(n as f32 * 26.0 + 34.0) };
        let (rect, response) = ui.allocate_exact_size(vec2(width, ui.available_height().max(120.0)), Sense::click());
        let painter = ui.painter_at(rect);
        let left = rect.left() + 34.0;
        let step = vec2((rect.right() - left) / n as f32, (rect.height() - 44.0) / (levels as f32));
        let base = rect.bottom() - 30.0;
        let seen = ui.clip_rect();
        let at = |node: Node| {
            let half = if node.part == Part::Resid { 0.0 } else { 0.45 };
            let x =
                left + (node.token as f32 + 0.5) * step.x + if node.part == Part::Mlp { step.x * 0.22 } else { 0.0 };
            pos2(x, base - (node.level as f32 - half) * step.y)
        };
        let target = cx.hovered.or(cx.doc.target).filter(|t| *t < n).unwrap_or(n - 1);
        let routes = routes(ui, &graph, target, cx.doc.threshold);
        let draw = |e: &Edge, color: Color32| {
            let (a, b) = (at(e.from), at(e.to));
            if a.x.max(b.x) >= seen.left() && a.x.min(b.x) <= seen.right() {
                painter.line_segment([a, b], Stroke::new((e.weight * 5.0).clamp(0.5, 5.0), color));
            }
        };
        let all = graph.above(cx.doc.threshold);
        let shown = &all[..all.len().min(MAX_EDGES)];
        let (mine, others): (Vec<&Edge>, Vec<&Edge>) = shown.iter().partition(|e| routes.contains(&(e.from, e.to)));
        others.iter().for_each(|e| draw(e, cx.theme.line));
        mine.iter().for_each(|e| draw(e, cx.theme.accent));
        // Words only where they have room.
        let letters = ((step.x - 2.0) / 6.2).floor().clamp(0.0, 7.0) as usize;
        let small = FontId::monospace(10.0);
        for level in 0..levels {
            let y = base - level as f32 * step.y;
            for token in 0..n {
                let p = pos2(left + (token as f32 + 0.5) * step.x, y);
                if p.x < seen.left() - 40.0 || p.x > seen.right() + 40.0 {
                    continue;
                }
                let radius = 3.0f32.min(step.x * 0.4);
                painter.circle_filled(p, radius, if token == target { cx.theme.accent } else { cx.theme.weak });
                let guess = level.checked_sub(1).and_then(|l| lens.as_ref()?.top.get(l)?.get(token));
                if let Some((text, prob)) = guess.filter(|_| letters > 0) {
                    let color = cx.theme.text.gamma_multiply(0.35 + 0.65 * prob);
                    let short: String = widgets::visible(text).chars().take(letters.min(6)).collect();
                    painter.text(p + vec2(0.0, -5.0), Align2::CENTER_BOTTOM, short, small.clone(), color);
                }
            }
        }
        for (i, t) in tower.tokens.iter().enumerate().take(if letters > 0 { n } else { 0 }) {
            let p = pos2(left + (i as f32 + 0.5) * step.x, base + 8.0);
            let color = if i == target { cx.theme.accent } else { cx.theme.text };
            let short: String = widgets::visible(&t.text).chars().take(letters).collect();
            painter.text(p, Align2::CENTER_TOP, short, small.clone(), color);
        }
        // The names of the layers stay in view while the tokens scroll below them.
        let gutter = seen.left().max(rect.left());
        let strip = egui::Rect::from_min_max(pos2(gutter, rect.top()), pos2(gutter + 26.0, rect.bottom()));
        painter.rect_filled(strip, 0.0, cx.theme.background);
        for level in 0..levels {
            let name = if level == 0 { "in".to_string() } else { format!("L{}", level - 1) };
            let place = pos2(gutter + 2.0, base - level as f32 * step.y);
            painter.text(place, Align2::LEFT_CENTER, name, FontId::proportional(11.0), cx.theme.weak);
        }
        if let Some(p) = response.hover_pos() {
            let token = ((p.x - left) / step.x).floor();
            if (0.0..n as f32).contains(&token) {
                let token = token as usize;
                cx.hover.set(Some(token));
                if response.clicked() {
                    cx.send(Command::Target(Some(token)));
                }
                let level = ((base - p.y) / step.y).round().clamp(0.0, graph.n_layers as f32) as usize;
                let lens = lens.as_ref().and_then(|l| l.top.get(level.checked_sub(1)?)?.get(token));
                response.on_hover_text_at_pointer(node_words(tower, &graph, level, token, lens, cx.doc.threshold));
            }
        }
        let left_out = if shown.len() < all.len() { format!(" (strongest {MAX_EDGES} drawn)") } else { String::new() };
        let caption = format!("{} of {} edges{left_out} · width: {}", all.len(), graph.edges.len(), graph.unit);
        let corner = pos2(seen.left().max(rect.left()) + 2.0, rect.top());
        painter.text(corner, Align2::LEFT_TOP, caption, FontId::proportional(11.0), cx.theme.weak);
    });
}

/// What a node is told about: the lens's guess and the strongest edges into it.
fn node_words(
    tower: &TowerTrace,
    graph: &FlowGraph,
    level: usize,
    token: usize,
    lens: Option<&(String, f32)>,
    threshold: f32,
) -> String {
    let name = |i: usize| tower.tokens.get(i).map_or(String::new(), |t| widgets::visible(&t.text));
    let mut out = match level {
        0 => format!("token {token} {}", name(token)),
        l => format!("layer {}, token {token} {}", l - 1, name(token)),
    };
    if let Some((text, p)) = lens {
        out += &format!("\nwould predict {} ({:.1}%)", widgets::visible(text), p * 100.0);
    }
    let here = |n: &Node| (n.level as usize, n.token as usize) == (level, token);
    let into = graph.above(threshold).iter().filter(|e| here(&e.to) && !here(&e.from));
    for e in into.take(5) {
        out += &format!("\n{:.1}% from token {} {}", e.weight * 100.0, e.from.token, name(e.from.token as usize));
    }
    out
}

type Pairs = Arc<HashSet<(Node, Node)>>;

/// Routes to the top node of `target`, walked once per graph, target and threshold.
fn routes(ui: &Ui, graph: &Arc<FlowGraph>, target: usize, threshold: f32) -> Pairs {
    let key = (Arc::as_ptr(graph) as usize, target, threshold.to_bits());
    let slot = ui.scope_id().with("routes");
    if let Some((k, pairs)) = ui.data(|d| d.get_temp::<((usize, usize, u32), Pairs)>(slot))
        && k == key
    {
        return pairs;
    }
    let goal = Node { level: graph.n_layers as u32, part: Part::Resid, token: target as u32 };
    let pairs: Pairs = Arc::new(graph.routes(goal, threshold).iter().map(|e| (e.from, e.to)).collect());
    ui.data_mut(|d| d.insert_temp(slot, (key, pairs.clone())));
    pairs
}

fn table(cx: &Cx) -> Option<Table> {
    let Some(Product::Flow(graph)) = cx.ready(&request(cx)) else { return None };
    let weight = format!("weight ({})", graph.unit);
    let columns = ["from_level", "from_part", "from_token", "to_level", "to_part", "to_token", &weight];
    let mut table = Table::new(&columns);
    for e in graph.above(cx.doc.threshold) {
        let node = |n: Node| [json!(n.level), json!(n.part), json!(n.token)];
        let mut row = node(e.from).to_vec();
        row.extend(node(e.to));
        row.push(json!(e.weight));
        table.rows.push(row);
    }
    Some(table)
}
