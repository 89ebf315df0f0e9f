//! The layer × token lattice with its strongest edges, routes to the explained tokens, and what lies behind an edge.

mod drill;

use super::{View, picker};
use crate::cx::{Cx, fixed};
use crate::pane::{self, Drill};
use crate::pictures::links::{self, Hit};
use crate::pictures::{Held, On};
use crate::state::Command;
use crate::work::{FlowOf, LensOf, Serves as _};
use egui::{EventFilter, Key, Modifiers, Ui};
use serde_json::json;
use std::sync::Arc;
use tokenscope_analysis::finding::{LinkEnd, Table, Unit};
use tokenscope_analysis::flow::{Edge, FlowGraph, Node, Part};
use tokenscope_analysis::lens::Lens;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::trace::Tower;

pub(super) const VIEW: View = View {
    id: "flow",
    title: "Flow",
    shows: &[Kind::Flow],
    help: "Information travels upwards, from the tokens at the bottom through the layers.\n\
           An edge is as wide as its share of what arrives; those below the threshold are hidden.\n\
           Routes to the hovered or selected tokens are drawn strong; click a token to select it.\n\
           Each node names the token that the model would predict there (logit lens), the paler the less sure.\n\
           Click a node or an edge to drill: the node's edges, the heads of an edge, that head's map and what it makes more and less probable.\n\
           Click a token that the lens reads at a node to go on from it, here or in a pane beside, or to explain the prediction rather than it.\n\
           Ctrl+wheel makes the columns wider or narrower; with the lattice in focus, arrow keys walk the nodes, Enter goes down and Backspace back up.",
    hint: "Click a node or an edge to see which heads carry it and what they change.",
    ui,
    own_height: false,
    table,
};

const THRESHOLD: &str = "Edges below this share are hidden";

fn asked(cx: &Cx) -> FlowOf {
    FlowOf::of(cx.pane, cx.call(Kind::Flow))
}

/// What lattice and drill look at.
struct Seen<'a> {
    on: On<'a>,
    name: Tower,
    graph: &'a Arc<FlowGraph>,
    lens: Option<Arc<Lens>>,
}

impl Seen<'_> {
    /// The text of a token, white space visible.
    fn text(&self, i: usize) -> String {
        self.on.short(&Unit::Tokens(self.name), i)
    }

    /// The lens's guess at a node, with its probability.
    fn guess(&self, end: LinkEnd) -> Option<(&str, f32)> {
        let node = Node::from(end);
        let (text, p) = self.lens.as_ref()?.top.get((node.level as usize).checked_sub(1)?)?.get(node.token as usize)?;
        (node.part == Part::Resid).then_some((text.as_str(), *p))
    }
}

fn ui(cx: &Cx, ui: &mut Ui) {
    picker::method_ui(cx, ui, Kind::Flow);
    if cx.figure {
        ui.label(format!("edges from {} on", cx.pane.shows.threshold));
    } else {
        fixed(ui, "threshold", |ui| {
            ui.horizontal(|ui| {
                let label = ui.label("threshold").on_hover_text(THRESHOLD);
                ui.spacing_mut().slider_width = 120.0;
                let mut threshold = cx.pane.shows.threshold;
                let slider = egui::Slider::new(&mut threshold, 0.001..=1.0).logarithmic(true);
                if ui.add(slider).labelled_by(label.id).on_hover_text(THRESHOLD).changed() {
                    cx.set_look("threshold", move |p| p.shows.threshold = threshold);
                }
                let mut fit = cx.pane.shows.column == 0.0;
                let tip = "All columns at once, names where they have room; Ctrl+wheel for other widths";
                if ui.checkbox(&mut fit, "fit").on_hover_text(tip).changed() {
                    show_columns(cx, if fit { 0.0 } else { pane::COLUMN });
                }
            });
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
    let lens = if name == Tower::Text && reads { cx.need(ui, "lens", &LensOf(cx.pane.run.clone())) } else { None };
    if graph.n_tokens == 0 {
        ui.weak("No tokens, so nothing flows.");
        return;
    }
    let on = On { tower: Some((name, tower)), picture: None, text: &trace.text };
    let seen = Seen { on, name, graph: &graph, lens };
    let drill = cx.pane.cursor.drill.filter(|d| d.token < graph.n_tokens && d.level <= graph.n_layers);
    cx.notes_ui(ui, "flow");
    let all = ui.available_height();
    let below = if drill.is_some() { (all * 0.5).clamp(110.0, 300.0) } else { 0.0 };
    lattice_ui(cx, ui, &seen, drill, (all - below).max(100.0));
    if let Some(drill) = drill {
        drill::ui(cx, ui, &seen, drill);
    }
}

/// The lattice; a click on a node or an edge drills into it, and so do the keys while it is in focus.
fn lattice_ui(cx: &Cx, ui: &mut Ui, seen: &Seen, drill: Option<Drill>, height: f32) {
    let held: Held = seen.graph.clone();
    let guess = |end: LinkEnd| seen.guess(end);
    let options = links::Options {
        threshold: cx.pane.shows.threshold,
        column: cx.pane.shows.column,
        height,
        targets: cx.explained(seen.graph.n_tokens),
        chosen: drill.map(|d| Node::resid(d.level, d.token).into()),
        guess: Some(&guess),
    };
    let done = links::with(cx, ui, &seen.on, &seen.graph.links, &held, &options);
    if let Some(width) = done.column {
        show_columns(cx, width);
    }
    if let Some(id) = done.focus {
        keys(cx, ui, seen.graph, id);
    }
    let to = |node: Node, from| Drill { level: node.level as usize, token: node.token as usize, from, head: None };
    match done.clicked {
        Some(Hit::Node(end)) => cx.send(Command::drill(Some(to(end.into(), None)))),
        Some(Hit::Edge(link)) => {
            let e = Edge::from(&link);
            cx.send(Command::drill(Some(to(e.to, attention_of(&e).map(|a| a.1)))));
        }
        None => {}
    }
}

/// Arrow keys walk the nodes, Enter goes down to the strongest edge and head, Backspace back.
fn keys(cx: &Cx, ui: &Ui, graph: &FlowGraph, id: egui::Id) {
    let filter = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
    ui.memory_mut(|m| m.set_focus_lock_filter(id, filter));
    let pressed = |key| ui.input_mut(|i| i.consume_key(Modifiers::NONE, key));
    let top = cx.explained(graph.n_tokens).last().copied().unwrap_or(0);
    let now = cx.pane.cursor.drill.unwrap_or(Drill { level: graph.n_layers, token: top, from: None, head: None });
    let to = |level: usize, token: usize| cx.send(Command::drill(Some(Drill { level, token, from: None, head: None })));
    if pressed(Key::ArrowLeft) {
        to(now.level, now.token.saturating_sub(1));
    } else if pressed(Key::ArrowRight) {
        to(now.level, (now.token + 1).min(graph.n_tokens - 1));
    } else if pressed(Key::ArrowUp) {
        to((now.level + 1).min(graph.n_layers), now.token);
    } else if pressed(Key::ArrowDown) {
        to(now.level.saturating_sub(1), now.token);
    } else if pressed(Key::Backspace) {
        cx.send(Command::drill(cx.pane.cursor.drill.and_then(Drill::back)));
    } else if pressed(Key::Enter) {
        let next = match (cx.pane.cursor.drill, now.from) {
            (None, _) => Some(now),
            (_, None) => into(graph, now.level, now.token)
                .find_map(|e| attention_of(&e))
                .map(|(_, from, _)| Drill { from: Some(from), ..now }),
            _ => Some(Drill { head: Some(now.head.unwrap_or(0)), ..now }),
        };
        if next.is_some() {
            cx.send(Command::drill(next));
        }
    }
}

/// Edges into a node, the strongest first, with those of its attention part.
fn into(graph: &FlowGraph, level: usize, token: usize) -> impl Iterator<Item = Edge> {
    let here = move |n: &Node| (n.level as usize, n.token as usize) == (level, token);
    graph.above(0.0).filter(move |e| here(&e.to) && !here(&e.from))
}

/// Layer, giving and receiving token of an edge that attention carries; `None` for edges around an MLP.
fn attention_of(e: &Edge) -> Option<(usize, usize, usize)> {
    let layer = (e.to.level as usize).checked_sub(1)?;
    (e.from.level < e.to.level && e.to.part != Part::Mlp).then_some((layer, e.from.token as usize, e.to.token as usize))
}

fn table(cx: &Cx) -> Option<Table> {
    let graph = cx.ready(&asked(cx))?;
    let weight = format!("weight ({})", graph.links.measure.unit);
    let columns = ["from_level", "from_part", "from_token", "to_level", "to_part", "to_token", &weight];
    let mut table = Table::new(&columns);
    for e in graph.above(cx.pane.shows.threshold) {
        let node = |n: Node| [json!(n.level), json!(n.part), json!(n.token)];
        let mut row = node(e.from).to_vec();
        row.extend(node(e.to));
        row.push(json!(e.weight));
        table.rows.push(row);
    }
    Some(table)
}

/// Makes the columns this wide; 0 fits all into the view.
fn show_columns(cx: &Cx, width: f32) {
    cx.set_look("width of columns", move |p| p.shows.column = width.clamp(0.0, 200.0));
}
