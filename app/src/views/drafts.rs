//! Speculative decoding, round by round: what the small model guessed and what the large one made of it.

use super::{Cx, View, widgets};
use crate::request::{ModelSource, Product, Request};
use crate::state::Command;
use egui::{Align2, Color32, FontId, Sense, Stroke, Ui, pos2, vec2};
use tokenscope_analysis::draft::{self, NodeState};
use tokenscope_analysis::method::{Info, Kind};

pub(super) const VIEW: View = View {
    title: "Drafts",
    help: "Each round the draft model guesses a chain of tokens; the target verifies it in one pass. Filled circles were accepted, \
           crosses rejected, hollow ones never looked at. Step through the rounds with the slider or the arrows.",
    ui,
};

fn ui(cx: &Cx, ui: &mut Ui) {
    let infos: Vec<&'static Info> = draft::ALL.iter().map(|m| m.info()).collect();
    widgets::method_ui(cx, ui, Kind::Draft, &infos);
    let small = ModelSource::Sample("sample-draft");
    let request = Request::Draft(cx.doc.run(), small, cx.doc.call(Kind::Draft));
    let Some(Product::Draft(d)) = cx.need(ui, "draft", request) else { return };
    let n = d.run.rounds.len();
    if n == 0 {
        return;
    }
    let text = |id: &u32| d.text.get(id).map_or(String::new(), |t| widgets::visible(t));
    let shown = cx.doc.round.min(n - 1);
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
    let round = &d.run.rounds[shown];
    let (rect, _) =
        ui.allocate_exact_size(vec2(ui.available_width().min(ui.clip_rect().width() - 16.0), 120.0), Sense::hover());
    let painter = ui.painter_at(rect);
    let step = (rect.width() - 60.0) / (round.nodes.len() + 1).max(2) as f32;
    let y = rect.top() + 44.0;
    let at = |depth: usize| pos2(rect.left() + 36.0 + depth as f32 * step, y);
    painter.circle_filled(at(0), 7.0, cx.theme.weak);
    let label = |p: egui::Pos2, s: String, c: Color32| {
        painter.text(p + vec2(0.0, -12.0), Align2::CENTER_BOTTOM, s, FontId::monospace(12.0), c)
    };
    label(at(0), text(&round.root), cx.theme.text);
    for node in &round.nodes {
        let p = at(node.depth);
        let (color, width) = match node.state {
            NodeState::Accepted => (cx.theme.good, 3.0),
            NodeState::Rejected => (cx.theme.bad, 1.5),
            NodeState::Unverified => (cx.theme.line, 1.0),
        };
        painter.line_segment([at(node.depth - 1) + vec2(8.0, 0.0), p - vec2(8.0, 0.0)], Stroke::new(width, color));
        match node.state {
            NodeState::Accepted => {
                painter.circle_filled(p, 7.0, color);
            }
            NodeState::Rejected => {
                for d in [vec2(5.0, 5.0), vec2(5.0, -5.0)] {
                    painter.line_segment([p - d, p + d], Stroke::new(2.5, color));
                }
            }
            NodeState::Unverified => {
                painter.circle_stroke(p, 6.0, Stroke::new(1.5, color));
            }
        }
        let c = if node.state == NodeState::Unverified { cx.theme.weak } else { cx.theme.text };
        label(p, text(&node.token), c);
        let lines = [("draft", node.p_draft), ("target", node.p_target), ("accept", node.p_accept)];
        for (i, (name, v)) in lines.into_iter().enumerate() {
            if let Some(v) = v {
                let q = p + vec2(0.0, 14.0 + i as f32 * 13.0);
                painter.text(
                    q,
                    Align2::CENTER_TOP,
                    format!("{name} {v:.2}"),
                    FontId::proportional(11.0),
                    cx.theme.weak,
                );
            }
        }
    }
    ui.label(format!("This round gave: {}", round.emitted.iter().map(text).collect::<String>()));
    let accepted: usize = d.run.rounds.iter().flat_map(|r| &r.nodes).filter(|n| n.state == NodeState::Accepted).count();
    let drafted: usize = d.run.rounds.iter().map(|r| r.nodes.len()).sum();
    ui.label(format!(
        "{:.2} tokens per target pass · {accepted} of {drafted} drafted tokens accepted · {} rounds",
        d.run.tokens_per_round(),
        n
    ));
    if let Some((ok, words)) = &d.run.lossless {
        let mark = if *ok { "lossless:" } else { "not lossless:" };
        ui.colored_label(if *ok { cx.theme.good } else { cx.theme.bad }, format!("{mark} {words}"));
    } else {
        ui.small("sampled: lossless in distribution, which one run cannot show");
    }
    let so_far: String = d.run.rounds[..=shown].iter().flat_map(|r| r.emitted.iter().map(text)).collect();
    ui.horizontal_wrapped(|ui| {
        ui.monospace(so_far);
    });
}
