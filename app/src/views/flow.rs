//! The layer × token lattice with its strongest edges, routes to one token, and the logit lens at its nodes.

use super::{Cx, View, widgets};
use crate::request::{Product, Request};
use crate::state::Command;
use egui::{Align2, Color32, FontId, Sense, Stroke, Ui, pos2, vec2};
use std::collections::HashSet;
use tokenscope_analysis::flow::{self, Edge, Node, Part};
use tokenscope_analysis::method::{Info, Kind};

pub(super) const VIEW: View = View {
    title: "Flow",
    help: "Information travels upwards, from the tokens at the bottom through the layers. An edge is as wide as its share of what arrives. \
           Routes to the explained token are drawn strong. Each node names the token that the model would predict there (logit lens).",
    ui,
};

fn ui(cx: &Cx, ui: &mut Ui) {
    let infos: Vec<&'static Info> = flow::ALL.iter().map(|m| m.info()).collect();
    widgets::method_ui(cx, ui, Kind::Flow, &infos);
    let mut threshold = cx.doc.threshold;
    let slider = egui::Slider::new(&mut threshold, 0.005..=1.0).logarithmic(true).text("threshold");
    if ui.add(slider).on_hover_text("Edges below this share are hidden").changed() {
        cx.send(Command::Threshold(threshold));
    }
    let Some(Product::Trace(trace)) = cx.need(ui, "trace", Request::Trace(cx.doc.run())) else { return };
    let Some(Product::Flow(graph)) = cx.need(ui, "flow", Request::Flow(cx.doc.run(), cx.doc.call(Kind::Flow))) else {
        return;
    };
    let lens = match cx.need(ui, "lens", Request::Lens(cx.doc.run())) {
        Some(Product::Lens(l)) => Some(l),
        _ => None,
    };
    let Some(tower) = trace.towers.get(&trace.main_tower()) else { return };
    let (n, levels) = (graph.n_tokens, graph.n_layers + 1);
    if n == 0 {
        return;
    }
    egui::ScrollArea::horizontal().auto_shrink(false).stick_to_right(true).show(ui, |ui| {
        let width = ui.available_width().max(n as f32 * 38.0);
        let (rect, response) = ui.allocate_exact_size(vec2(width, ui.available_height().max(120.0)), Sense::click());
        let painter = ui.painter_at(rect);
        let left = rect.left() + 34.0;
        let step = vec2((rect.right() - left) / n as f32, (rect.height() - 44.0) / (levels as f32));
        let base = rect.bottom() - 30.0;
        let at = |node: Node| {
            let half = if node.part == Part::Resid { 0.0 } else { 0.45 };
            let x =
                left + (node.token as f32 + 0.5) * step.x + if node.part == Part::Mlp { step.x * 0.22 } else { 0.0 };
            pos2(x, base - (node.level as f32 - half) * step.y)
        };
        let target = cx.hovered.or(cx.doc.target).filter(|t| *t < n).unwrap_or(n - 1);
        let goal = Node { level: graph.n_layers as u32, part: Part::Resid, token: target as u32 };
        let routes: HashSet<(Node, Node)> =
            graph.routes(goal, cx.doc.threshold).iter().map(|e| (e.from, e.to)).collect();
        let draw = |e: &Edge, color: Color32| {
            painter.line_segment([at(e.from), at(e.to)], Stroke::new((e.weight * 5.0).clamp(0.5, 5.0), color));
        };
        let shown = graph.above(cx.doc.threshold);
        let (mine, others): (Vec<&Edge>, Vec<&Edge>) = shown.iter().partition(|e| routes.contains(&(e.from, e.to)));
        others.iter().for_each(|e| draw(e, cx.theme.line));
        mine.iter().for_each(|e| draw(e, cx.theme.accent));
        let small = FontId::monospace(10.0);
        for level in 0..levels {
            let y = base - level as f32 * step.y;
            let name = if level == 0 { "in".to_string() } else { format!("L{}", level - 1) };
            painter.text(
                pos2(rect.left() + 2.0, y),
                Align2::LEFT_CENTER,
                name,
                FontId::proportional(11.0),
                cx.theme.weak,
            );
            for token in 0..n {
                let p = pos2(left + (token as f32 + 0.5) * step.x, y);
                painter.circle_filled(p, 3.0, if token == target { cx.theme.accent } else { cx.theme.weak });
                if let Some((text, prob)) = level.checked_sub(1).and_then(|l| lens.as_ref()?.top.get(l)?.get(token)) {
                    let color = cx.theme.text.gamma_multiply(0.35 + 0.65 * prob);
                    let short: String = widgets::visible(text).chars().take(6).collect();
                    painter.text(p + vec2(0.0, -5.0), Align2::CENTER_BOTTOM, short, small.clone(), color);
                }
            }
        }
        for (i, t) in tower.tokens.iter().enumerate() {
            let p = pos2(left + (i as f32 + 0.5) * step.x, base + 8.0);
            let color = if i == target { cx.theme.accent } else { cx.theme.text };
            let short: String = widgets::visible(&t.text).chars().take(7).collect();
            painter.text(p, Align2::CENTER_TOP, short, small.clone(), color);
        }
        if let Some(p) = response.hover_pos() {
            let token = ((p.x - left) / step.x).floor();
            if (0.0..n as f32).contains(&token) {
                let token = token as usize;
                cx.hover.set(Some(token));
                if response.clicked() {
                    cx.send(Command::Target(Some(token)));
                }
                let level = ((base - p.y) / step.y).round();
                let layer = level as usize;
                if level >= 1.0
                    && let Some((text, prob)) = lens.as_ref().and_then(|l| l.top.get(layer - 1)?.get(token))
                {
                    let tip = format!(
                        "layer {}, token {token}: would predict {} ({:.1}%)",
                        layer - 1,
                        widgets::visible(text),
                        prob * 100.0
                    );
                    response.on_hover_text_at_pointer(tip);
                }
            }
        }
        let caption = format!("{} of {} edges · width: {}", shown.len(), graph.edges.len(), graph.unit);
        painter.text(
            rect.left_top() + vec2(2.0, 0.0),
            Align2::LEFT_TOP,
            caption,
            FontId::proportional(11.0),
            cx.theme.weak,
        );
    });
}
