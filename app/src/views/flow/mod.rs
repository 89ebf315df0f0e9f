//! The layer × token lattice with its strongest edges, routes to the explained tokens, and what lies behind an edge.

mod drill;
mod lattice;
mod shown;

use super::{Cx, View, picker};
use crate::state::Command;
use crate::work::{FlowOf, LensOf};
use egui::Ui;
use serde_json::json;
use std::sync::Arc;
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::flow::{Edge, FlowGraph, Node, Part};
use tokenscope_analysis::lens::Lens;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::token::TokenKind;
use tokenscope_analysis::trace::{Tower, TowerTrace};

pub(super) const VIEW: View = View {
    id: "flow",
    title: "Flow",
    help: "Information travels upwards, from the tokens at the bottom through the layers. An edge is as wide as its share of what arrives; \
           those below the threshold are hidden. Routes to the hovered or selected tokens are drawn strong; click a token to select it. \
           Each node names the token that the model would predict there (logit lens), the paler the less sure. Click a node or an edge to \
           drill: the node's edges, the heads of an edge, that head's map and what it makes more and less probable. Ctrl+scroll makes the \
           columns wider or narrower; with the lattice in focus, arrow keys walk the nodes, Enter goes down and Backspace back up.",
    hint: "Click a node or an edge to see which heads carry it and what they change.",
    ui,
    own_height: false,
    table,
};

fn asked(cx: &Cx) -> FlowOf {
    FlowOf { scope: cx.doc.scope(), call: cx.call(Kind::Flow) }
}

/// What lattice and drill look at.
struct Seen<'a> {
    tower: &'a TowerTrace,
    name: Tower,
    graph: &'a Arc<FlowGraph>,
    lens: Option<Arc<Lens>>,
}

impl Seen<'_> {
    /// The text of a token, white space visible.
    fn text(&self, i: usize) -> String {
        let Some(t) = self.tower.tokens.get(i) else { return String::new() };
        // Of a piece of a picture its place says more than that it is one.
        let own = if t.kind == TokenKind::Image { t.text.rsplit(' ').next() } else { None };
        super::widgets::visible(own.unwrap_or(&t.text))
    }

    /// The lens's guess at a node.
    fn guess(&self, level: usize, token: usize) -> Option<&(String, f32)> {
        self.lens.as_ref()?.top.get(level.checked_sub(1)?)?.get(token)
    }
}

fn ui(cx: &Cx, ui: &mut Ui) {
    picker::method_ui(cx, ui, Kind::Flow);
    if cx.figure {
        ui.label(format!("edges from {} on", cx.doc.threshold));
    } else {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().slider_width = 120.0;
            let mut threshold = cx.doc.threshold;
            let slider = egui::Slider::new(&mut threshold, 0.001..=1.0).logarithmic(true).text("threshold");
            if ui.add(slider).on_hover_text("Edges below this share are hidden").changed() {
                cx.send(Command::Threshold(threshold));
            }
            let fit = cx.doc.column == 0.0;
            if ui
                .selectable_label(fit, "fit")
                .on_hover_text("All tokens at once; Ctrl+scroll for other widths")
                .clicked()
            {
                cx.send(Command::Column(if fit { 26.0 } else { 0.0 }));
            }
        });
    }
    let Some(trace) = cx.trace(ui) else { return };
    let Some((name, tower)) = cx.tower(&trace) else { return };
    let Some(graph) = cx.need(ui, "flow", &asked(cx)) else { return };
    // Only a language model's head can read what a node predicts.
    let reads = match cx.ready_model() {
        Some(m) => m.model.info().vocab > 0,
        // Of a model that did not open the picture from before stays, names and all.
        None => !cx.recorded(),
    };
    let lens = if name == Tower::Text && reads { cx.need(ui, "lens", &LensOf(cx.doc.run())) } else { None };
    if graph.n_tokens == 0 {
        ui.weak("No tokens, so nothing flows.");
        return;
    }
    let seen = Seen { tower, name, graph: &graph, lens };
    let drill = cx.doc.drill.filter(|d| d.token < graph.n_tokens && d.level <= graph.n_layers);
    cx.notes_ui(ui, "flow");
    let all = ui.available_height();
    let below = if drill.is_some() { (all * 0.5).clamp(110.0, 300.0) } else { 0.0 };
    lattice::ui(cx, ui, &seen, (all - below).max(100.0));
    if let Some(drill) = drill {
        drill::ui(cx, ui, &seen, drill);
    }
}

/// Edges into a node, the strongest first, with those of its attention part.
fn into(graph: &FlowGraph, level: usize, token: usize) -> impl Iterator<Item = &Edge> {
    let here = move |n: &Node| (n.level as usize, n.token as usize) == (level, token);
    graph.edges.iter().filter(move |e| here(&e.to) && !here(&e.from))
}

/// Layer, giving and receiving token of an edge that attention carries; `None` for edges around an MLP.
fn attention_of(e: &Edge) -> Option<(usize, usize, usize)> {
    let layer = (e.to.level as usize).checked_sub(1)?;
    (e.from.level < e.to.level && e.to.part != Part::Mlp).then_some((layer, e.from.token as usize, e.to.token as usize))
}

fn table(cx: &Cx) -> Option<Table> {
    let graph = cx.ready(&asked(cx))?;
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
