//! Speculative decoding, round by round: what was guessed and what the target made of it.

use super::{Cx, View, widgets};
use crate::export::Table;
use crate::request::{Drafted, ModelSource, Product, Request, SAMPLE_NAMES};
use crate::state::Command;
use egui::{Align2, FontId, Pos2, Sense, Stroke, Ui, pos2, vec2};
use serde_json::json;
use tokenscope_analysis::draft::{self, DraftNode, NodeState, Round};
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::trace::Tower;

pub(super) const VIEW: View = View {
    id: "drafts",
    title: "Drafts",
    help: "Each round the drafter guesses a chain or a tree of tokens; the target verifies it in one pass. Filled circles were accepted, \
           crosses rejected, hollow ones never looked at; the square is the token the target adds itself. Step through the rounds with the \
           slider or the arrows. Hover a node for its probabilities.",
    ui,
    own_height: true,
    table,
};

fn request(cx: &Cx) -> Request {
    Request::Draft(cx.doc.run(), cx.doc.draft_model.clone(), cx.call(Kind::Draft))
}

fn ui(cx: &Cx, ui: &mut Ui) {
    widgets::method_ui(cx, ui, Kind::Draft);
    draft_model_ui(cx, ui);
    if matches!(cx.doc.model, ModelSource::Recorded(_)) {
        ui.weak("A recorded run has no weights, so nothing can be decoded. Open the model itself.");
        return;
    }
    let Some(Product::Draft(d)) = cx.need(ui, "draft", request(cx)) else { return };
    let n = d.run.rounds.len();
    if n == 0 {
        ui.weak("Nothing was decoded.");
        return;
    }
    let shown = cx.doc.round.min(n - 1);
    if cx.figure {
        ui.label(format!("round {} of {n}", shown + 1));
    } else {
        ui.horizontal(|ui| {
            if ui.add_enabled(shown > 0, egui::Button::new("◀")).on_hover_text("Round before").clicked() {
                cx.send(Command::Round(shown - 1));
            }
            let mut round = shown + 1;
            if ui.add(egui::Slider::new(&mut round, 1..=n).text(format!("round of {n}"))).changed() {
                cx.send(Command::Round(round - 1));
            }
            if ui.add_enabled(shown + 1 < n, egui::Button::new("▶")).on_hover_text("Next round").clicked() {
                cx.send(Command::Round(shown + 1));
            }
        });
    }
    cx.long(ui, |ui| {
        text_ui(cx, ui, &d, shown);
        tree_ui(cx, ui, &d, &d.run.rounds[shown]);
        sums_ui(cx, ui, &d);
    });
}

fn draft_model_ui(cx: &Cx, ui: &mut Ui) {
    let chosen = draft::ALL.iter().find(|m| m.info().id == cx.doc.draft.0);
    let drafts = chosen.is_some_and(|m| m.info().needs.contains(&tokenscope_analysis::method::Need::DraftModel));
    if !drafts {
        return;
    }
    if cx.figure {
        ui.label(format!("draft model {}", cx.doc.draft_model.title()));
        return;
    }
    ui.horizontal(|ui| {
        ui.label("draft model");
        let slot = ui.scope_id().with("path");
        let mut path: String = ui.data(|d| d.get_temp(slot)).unwrap_or_default();
        let combo =
            egui::ComboBox::from_id_salt("draft model").selected_text(cx.doc.draft_model.title()).show_ui(ui, |ui| {
                for name in SAMPLE_NAMES {
                    let source = ModelSource::Sample(name);
                    if ui.selectable_label(cx.doc.draft_model == source, name).clicked() {
                        cx.send(Command::DraftModel(source));
                    }
                }
            });
        widgets::named(&combo.response, "draft model");
        let hint = "folder or GGUF with the same vocabulary";
        let edit = ui.add(egui::TextEdit::singleline(&mut path).hint_text(hint).desired_width(150.0));
        widgets::named(&edit, "path of a draft model");
        if edit.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter)) && !path.trim().is_empty() {
            cx.send(Command::DraftModel(ModelSource::Path(path.trim().into())));
            path.clear();
        }
        ui.data_mut(|d| d.insert_temp(slot, path));
    });
}

/// The prompt's end and what was decoded so far, this round's tokens marked.
fn text_ui(cx: &Cx, ui: &mut Ui, d: &Drafted, shown: usize) {
    let trace = cx.trace(ui);
    let tokens = trace.as_ref().and_then(|t| t.towers.get(&Tower::Text)).map_or(&[][..], |t| &t.tokens);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(1.0, 2.0);
        let first = tokens.len().saturating_sub(24);
        if first > 0 {
            ui.weak("…");
        }
        for (i, t) in tokens.iter().enumerate().skip(first) {
            widgets::chip(cx, ui, &t.text, cx.theme.background, false, Some(i));
        }
        for (r, round) in d.run.rounds[..=shown].iter().enumerate() {
            for id in &round.emitted {
                let fill = if r == shown { cx.theme.good } else { cx.theme.chips[r % 8] };
                let r = widgets::chip(cx, ui, d.text.get(id).map_or("", String::as_str), fill, false, None);
                r.on_hover_text(format!("id {id}"));
            }
        }
    });
}

/// Where nodes (parent, depth) lie: depth to the right, branches below each other, parents at the middle of
/// their children. Node 0 of the result is the root.
fn places(nodes: &[(Option<usize>, usize)]) -> Vec<(f32, f32)> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len() + 1];
    for (i, n) in nodes.iter().enumerate() {
        children[n.0.map_or(0, |p| p + 1)].push(i + 1);
    }
    let mut at = vec![(0.0, 0.0); nodes.len() + 1];
    let mut next = 0.0;
    // Without recursion: a node is placed when all its children are.
    let mut stack = vec![(0usize, false)];
    while let Some((i, done)) = stack.pop() {
        let x = i.checked_sub(1).map_or(0.0, |i| nodes[i].1 as f32);
        match (children[i].first(), children[i].last()) {
            (Some(&a), Some(&b)) if done => at[i] = (x, (at[a].1 + at[b].1) / 2.0),
            (Some(_), _) => {
                stack.push((i, true));
                stack.extend(children[i].iter().rev().map(|&c| (c, false)));
            }
            _ => {
                at[i] = (x, next);
                next += 1.0;
            }
        }
    }
    at
}

fn tree_ui(cx: &Cx, ui: &mut Ui, d: &Drafted, round: &Round) {
    let text = |id: &u32| d.text.get(id).map_or(String::new(), |t| widgets::visible(t));
    let end = (0..round.nodes.len())
        .filter(|&i| round.nodes[i].state == NodeState::Accepted)
        .max_by_key(|&i| round.nodes[i].depth);
    let accepted = end.map_or(0, |i| round.nodes[i].depth);
    // The target's own token is drawn as one more child of the last accepted node.
    let mut all: Vec<(Option<usize>, usize)> = round.nodes.iter().map(|n| (n.parent, n.depth)).collect();
    all.push((end, accepted + 1));
    let at = places(&all);
    let depth = at.iter().map(|p| p.0).fold(0.0, f32::max) + 1.0;
    let lines = at.iter().map(|p| p.1).fold(0.0, f32::max) + 1.0;
    let room = ui.available_width().min(ui.clip_rect().width() - 16.0);
    let chain = round.nodes.windows(2).all(|w| w[1].depth == w[0].depth + 1);
    // A chain and the target's own token need two lines; under the chain stand its numbers.
    let step = vec2(
        ((room - 70.0) / depth).clamp(if cx.figure { 24.0 } else { 52.0 }, 130.0),
        if chain { 92.0 } else { 34.0 },
    );
    let size = vec2((depth * step.x + 70.0).max(room), lines * step.y + 30.0);
    egui::ScrollArea::horizontal().id_salt("tree").show(ui, |ui| {
        let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
        let painter = ui.painter_at(rect);
        let place = |i: usize| pos2(rect.left() + 36.0 + at[i].0 * step.x, rect.top() + 26.0 + at[i].1 * step.y);
        let label = |p: Pos2, s: &str, color| {
            let short: String = s.chars().take(9).collect();
            painter.text(p + vec2(0.0, -9.0), Align2::CENTER_BOTTOM, short, FontId::monospace(12.0), color)
        };
        painter.circle_filled(place(0), 6.0, cx.theme.weak);
        label(place(0), &text(&round.root), cx.theme.text);
        for (i, node) in round.nodes.iter().enumerate() {
            let (from, to) = (place(node.parent.map_or(0, |p| p + 1)), place(i + 1));
            let (color, width) = match node.state {
                NodeState::Accepted => (cx.theme.good, 3.0),
                NodeState::Rejected => (cx.theme.bad, 1.5),
                NodeState::Unverified => (cx.theme.line, 1.0),
            };
            painter.line_segment([from + vec2(7.0, 0.0), to - vec2(7.0, 0.0)], Stroke::new(width, color));
        }
        for (i, node) in round.nodes.iter().enumerate() {
            let p = place(i + 1);
            match node.state {
                NodeState::Accepted => {
                    painter.circle_filled(p, 6.0, cx.theme.good);
                }
                NodeState::Rejected => {
                    for d in [vec2(4.5, 4.5), vec2(4.5, -4.5)] {
                        painter.line_segment([p - d, p + d], Stroke::new(2.5, cx.theme.bad));
                    }
                }
                NodeState::Unverified => {
                    painter.circle_stroke(p, 5.0, Stroke::new(1.5, cx.theme.weak));
                }
            }
            let quiet = node.state == NodeState::Unverified;
            label(p, &text(&node.token), if quiet { cx.theme.weak } else { cx.theme.text });
            if chain {
                for (line, (name, v)) in numbers(node).into_iter().enumerate() {
                    let q = p + vec2(0.0, 10.0 + line as f32 * 13.0);
                    let words = format!("{name} {v:.2}");
                    painter.text(q, Align2::CENTER_TOP, words, FontId::proportional(11.0), cx.theme.weak);
                }
            }
        }
        if let Some(own) = round.emitted.get(accepted) {
            let (from, to) = (place(end.map_or(0, |i| i + 1)), place(all.len()));
            painter.line_segment([from + vec2(7.0, 0.0), to - vec2(6.0, 0.0)], Stroke::new(3.0, cx.theme.good));
            let square = egui::Rect::from_center_size(to, vec2(11.0, 11.0));
            painter.rect_filled(square, 1.0, cx.theme.good);
            label(to, &text(own), cx.theme.text);
        }
        if let Some(p) = response.hover_pos()
            && let Some(i) = (0..round.nodes.len()).find(|&i| place(i + 1).distance(p) < 10.0)
        {
            let node = &round.nodes[i];
            let state = match node.state {
                NodeState::Accepted => "accepted",
                NodeState::Rejected => "rejected",
                NodeState::Unverified => "never looked at",
            };
            let mut words = format!("{} · depth {} · {state}", text(&node.token), node.depth);
            for (name, v) in numbers(node) {
                words += &format!("\n{name} {v:.4}");
            }
            response.on_hover_text_at_pointer(words);
        }
    });
}

fn numbers(node: &DraftNode) -> Vec<(&'static str, f32)> {
    [("draft", node.p_draft), ("target", node.p_target), ("accept", node.p_accept)]
        .into_iter()
        .filter_map(|(name, v)| Some((name, v?)))
        .collect()
}

fn sums_ui(cx: &Cx, ui: &mut Ui, d: &Drafted) {
    let nodes = || d.run.rounds.iter().flat_map(|r| &r.nodes);
    let accepted = nodes().filter(|n| n.state == NodeState::Accepted).count();
    ui.label(format!(
        "{:.2} tokens per target pass · {accepted} of {} drafted tokens accepted · {} rounds",
        d.run.tokens_per_round(),
        nodes().count(),
        d.run.rounds.len()
    ));
    // A depth counts in the rounds that had a node of that depth.
    let deepest = nodes().map(|n| n.depth).max().unwrap_or(0);
    let share = |depth: usize| {
        let reached = d.run.rounds.iter().filter(|r| r.nodes.iter().any(|n| n.depth == depth)).count();
        let hit = |r: &&Round| r.nodes.iter().any(|n| n.depth == depth && n.state == NodeState::Accepted);
        d.run.rounds.iter().filter(hit).count() as f64 / reached.max(1) as f64
    };
    let by_depth: Vec<String> = (1..=deepest.min(12)).map(|k| format!("{:.0}%", share(k) * 100.0)).collect();
    ui.small(format!("accepted by depth: {}", by_depth.join(" ")));
    match &d.run.lossless {
        Some((ok, words)) => {
            let (mark, color) = if *ok { ("lossless:", cx.theme.good) } else { ("not lossless:", cx.theme.bad) };
            ui.colored_label(color, format!("{mark} {words}"));
        }
        None => {
            ui.small("sampled: lossless in distribution, which one run cannot show");
        }
    }
}

fn table(cx: &Cx) -> Option<Table> {
    let Some(Product::Draft(d)) = cx.ready(&request(cx)) else { return None };
    let columns =
        ["round", "node", "parent", "depth", "id", "text", "p_draft", "p_target", "p_accept", "state", "emitted"];
    let mut table = Table::new(&columns);
    for (r, round) in d.run.rounds.iter().enumerate() {
        let emitted: String = round.emitted.iter().map(|id| d.text.get(id).map_or("", String::as_str)).collect();
        for (i, n) in round.nodes.iter().enumerate() {
            table.rows.push(vec![
                json!(r),
                json!(i),
                json!(n.parent),
                json!(n.depth),
                json!(n.token),
                json!(d.text.get(&n.token)),
                json!(n.p_draft),
                json!(n.p_target),
                json!(n.p_accept),
                json!(n.state),
                json!(emitted),
            ]);
        }
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_lies_at_the_middle_of_its_children() {
        // Root with two children; the first has two of its own.
        let at = places(&[(None, 1), (None, 1), (Some(0), 2), (Some(0), 2)]);
        assert_eq!(at, [(0.0, 1.25), (1.0, 0.5), (1.0, 2.0), (2.0, 0.0), (2.0, 1.0)]);
        assert_eq!(places(&[]), [(0.0, 0.0)]);
    }
}
