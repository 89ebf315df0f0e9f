//! The tree of one round: a tidy layout, each state with a shape of its own.

use super::super::widgets::{self, Link};
use super::super::{Cx, Standing};
use crate::work::Drafted;
use egui::{Align2, EventFilter, FontId, Key, Modifiers, Pos2, Sense, Stroke, Ui, pos2, vec2};
use tokenscope_analysis::decode::{DraftNode, NodeState, Round};
use tokenscope_analysis::trace::Tower;

/// A laid-out subtree: how high and low it reaches at each depth below its root, the root being at 0.
#[derive(Default)]
struct Sub {
    top: Vec<f32>,
    bottom: Vec<f32>,
}

/// Where nodes (parent, depth) lie, as depth and line: children below each other in their order, parents at the
/// middle of their first and last child, subtrees as close as they fit (Reingold and Tilford's rules, one line
/// apart). Node 0 of the result is the root; parents come before their children.
pub(super) fn places(nodes: &[(Option<usize>, usize)]) -> Vec<(f32, f32)> {
    let n = nodes.len() + 1;
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); n];
    for (i, node) in nodes.iter().enumerate() {
        children[node.0.map_or(0, |p| p + 1)].push(i + 1);
    }
    let mut subs: Vec<Sub> = (0..n).map(|_| Sub::default()).collect();
    // Line of each node relative to its parent.
    let mut offset = vec![0f32; n];
    for i in (0..n).rev() {
        let mut whole = Sub::default();
        for &c in &children[i] {
            let sub = std::mem::take(&mut subs[c]);
            let gap = |(b, t): (&f32, &f32)| b + 1.0 - t;
            let shift = whole.bottom.iter().zip(&sub.top).map(gap).fold(0.0, f32::max);
            offset[c] = shift;
            for (depth, (t, b)) in sub.top.iter().zip(&sub.bottom).enumerate() {
                if depth == whole.top.len() {
                    whole.top.push(t + shift);
                    whole.bottom.push(b + shift);
                } else {
                    whole.top[depth] = whole.top[depth].min(t + shift);
                    whole.bottom[depth] = whole.bottom[depth].max(b + shift);
                }
            }
        }
        let middle = match (children[i].first(), children[i].last()) {
            (Some(&a), Some(&b)) => (offset[a] + offset[b]) / 2.0,
            _ => 0.0,
        };
        children[i].iter().for_each(|&c| offset[c] -= middle);
        let mut sub = Sub { top: vec![0.0], bottom: vec![0.0] };
        sub.top.extend(whole.top.iter().map(|y| y - middle));
        sub.bottom.extend(whole.bottom.iter().map(|y| y - middle));
        subs[i] = sub;
    }
    let top = subs[0].top.iter().copied().fold(0.0, f32::min);
    let mut at = vec![(0.0, -top); n];
    for (i, node) in nodes.iter().enumerate() {
        at[i + 1] = (node.1 as f32, at[node.0.map_or(0, |p| p + 1)].1 + offset[i + 1]);
    }
    at
}

/// Draws the tree of `round`; `before` tokens were decoded in earlier rounds.
pub(super) fn ui(cx: &Cx, ui: &mut Ui, d: &Drafted, round: &Round, before: usize) {
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
    // Under a chain stand its numbers; a large tree has its words beside the nodes, so that lines can be closer.
    let close = !chain && lines > 8.0;
    let step = vec2(
        ((room - 70.0) / depth).clamp(if cx.figure { 24.0 } else { 58.0 }, 130.0),
        if chain {
            92.0
        } else if close {
            17.0
        } else {
            34.0
        },
    );
    let size = vec2((depth * step.x + 70.0).max(room), lines * step.y + if close { 16.0 } else { 30.0 });
    egui::ScrollArea::horizontal().id_salt("tree").show(ui, |ui| {
        let (rect, response) = ui.allocate_exact_size(size, Sense::click());
        let painter = ui.painter_at(rect);
        let top = rect.top() + if close { 12.0 } else { 26.0 };
        let place = |i: usize| pos2(rect.left() + 36.0 + at[i].0 * step.x, top + at[i].1 * step.y);
        // Above or beside the node, as long as the room to the next one.
        let letters = ((step.x - 16.0) / 7.4).max(3.0) as usize;
        let label = |p: Pos2, s: &str, color, standing: Standing| {
            let mut short: String = s.chars().take(letters).collect();
            if short.len() < s.len() {
                short.pop();
                short.push('…');
            }
            let (place, align) = match close {
                true => (p + vec2(9.0, 0.0), Align2::LEFT_CENTER),
                false => (p + vec2(0.0, -9.0), Align2::CENTER_BOTTOM),
            };
            let drawn = painter.text(place, align, short, FontId::monospace(12.0), color);
            if let Some(stroke) = widgets::outline(cx, standing) {
                painter.rect_stroke(drawn.expand(2.0), 2.0, stroke, egui::StrokeKind::Outside);
            }
        };
        // The root of the first round is the prompt's last token, where the views show that text.
        let trace = cx.ready_trace().filter(|_| before == 0 && cx.shows_text());
        let tokens = trace.as_ref().and_then(|t| t.towers.get(&Tower::Text)).map_or(&[][..], |t| &t.tokens);
        let root = match (before.checked_sub(1), tokens.last()) {
            (Some(at), _) => Link::Decoded(at, round.root),
            (None, Some(last)) => Link::Token(tokens.len() - 1, last),
            (None, None) => Link::None,
        };
        for (i, node) in round.nodes.iter().enumerate() {
            let (from, to) = (place(node.parent.map_or(0, |p| p + 1)), place(i + 1));
            let (color, width) = match node.state {
                NodeState::Accepted => (cx.theme.good, 3.0),
                NodeState::Rejected => (cx.theme.bad, 1.5),
                NodeState::Unverified => (cx.theme.line, 1.0),
            };
            painter.line_segment([from + vec2(7.0, 0.0), to - vec2(7.0, 0.0)], Stroke::new(width, color));
        }
        if let Some(own) = round.emitted.get(accepted) {
            let (from, to) = (place(end.map_or(0, |i| i + 1)), place(all.len()));
            painter.line_segment([from + vec2(7.0, 0.0), to - vec2(6.0, 0.0)], Stroke::new(3.0, cx.theme.good));
            let square = egui::Rect::from_center_size(to, vec2(11.0, 11.0));
            painter.rect_filled(square, 1.0, cx.theme.good);
            label(to, &text(own), cx.theme.text, Link::Decoded(before + accepted, *own).standing(cx));
        }
        painter.circle_filled(place(0), 6.0, cx.theme.weak);
        label(place(0), &text(&round.root), cx.theme.text, root.standing(cx));
        for (i, node) in round.nodes.iter().enumerate() {
            let p = place(i + 1);
            match node.state {
                NodeState::Accepted => drop(painter.circle_filled(p, 6.0, cx.theme.good)),
                NodeState::Rejected => {
                    for d in [vec2(4.5, 4.5), vec2(4.5, -4.5)] {
                        painter.line_segment([p - d, p + d], Stroke::new(2.5, cx.theme.bad));
                    }
                }
                NodeState::Unverified => drop(painter.circle_stroke(p, 5.0, Stroke::new(1.5, cx.theme.weak))),
            }
            let quiet = node.state == NodeState::Unverified;
            let standing = Link::Decoded(before + node.depth - 1, node.token).standing(cx);
            label(p, &text(&node.token), if quiet { cx.theme.weak } else { cx.theme.text }, standing);
            if chain {
                for (line, (name, v)) in numbers(node).into_iter().enumerate() {
                    let q = p + vec2(0.0, 10.0 + line as f32 * 13.0);
                    let words = format!("{name} {v:.2}");
                    painter.text(q, Align2::CENTER_TOP, words, FontId::proportional(11.0), cx.theme.weak);
                }
            }
        }
        let near = |p: Pos2, i: usize| place(i).distance(p) < 10.0;
        let cursor = response.has_focus().then(|| walk(ui, response.id, &all, &at));
        if let Some(i) = cursor {
            painter.circle_stroke(place(i), 10.0, Stroke::new(1.5, cx.theme.accent));
        }
        if response.clicked() {
            response.request_focus();
        }
        let under = response.hover_pos().and_then(|p| (0..=all.len()).find(|&i| near(p, i))).or(cursor);
        let words = match under {
            None => None,
            Some(0) => Some(format!("{} · where the round starts", text(&round.root))),
            Some(i) => match (round.nodes.get(i - 1), round.emitted.get(accepted)) {
                (Some(node), _) => Some(node_words(&text(&node.token), node)),
                (None, own) => own.map(|id| format!("{} · the target's own token", text(id))),
            },
        };
        let whole = format!(
            "draft tree of {} nodes, {accepted} accepted{}",
            round.nodes.len(),
            words.as_ref().map_or(String::new(), |w| format!(", at {}", w.replace('\n', ", ")))
        );
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &whole));
        let Some(i) = under else { return };
        let (decoded, id) = match (i, round.nodes.get(i.wrapping_sub(1)), round.emitted.get(accepted)) {
            (0, ..) => (before.checked_sub(1), Some(round.root)),
            (_, Some(node), _) => (Some(before + node.depth - 1), Some(node.token)),
            (_, None, own) => (Some(before + accepted), own.copied()),
        };
        match (i, root) {
            (0, Link::Token(t, token)) => {
                cx.hover_token(t, Some(token));
                if response.clicked() {
                    cx.pick(ui, t, t);
                }
            }
            _ => {
                let mut hover = cx.hover.borrow_mut();
                (hover.decoded, hover.id) = (decoded, id);
            }
        }
        if let Some(words) = words {
            match cursor.is_some() && !response.hovered() {
                true => response.show_tooltip_text(words),
                false => drop(response.on_hover_text_at_pointer(words)),
            }
        }
    });
}

/// Arrow keys walk the nodes: right to the first child, left to the parent, up and down within a depth. The place is
/// kept while the tree is in focus.
fn walk(ui: &Ui, id: egui::Id, all: &[(Option<usize>, usize)], at: &[(f32, f32)]) -> usize {
    let filter = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
    ui.memory_mut(|m| m.set_focus_lock_filter(id, filter));
    let slot = id.with("cursor");
    let now = ui.data(|d| d.get_temp::<usize>(slot)).unwrap_or(0).min(all.len());
    let pressed = |key| ui.input_mut(|i| i.consume_key(Modifiers::NONE, key));
    let beside = |down: bool| {
        let others = (0..at.len()).filter(|&i| at[i].0 == at[now].0 && (at[i].1 > at[now].1) == down && i != now);
        others.min_by(|a, b| (at[*a].1 - at[now].1).abs().total_cmp(&(at[*b].1 - at[now].1).abs()))
    };
    let to = if pressed(Key::ArrowRight) {
        all.iter().position(|n| n.0.map_or(0, |p| p + 1) == now).map(|i| i + 1)
    } else if pressed(Key::ArrowLeft) {
        now.checked_sub(1).map(|i| all[i].0.map_or(0, |p| p + 1))
    } else if pressed(Key::ArrowDown) {
        beside(true)
    } else if pressed(Key::ArrowUp) {
        beside(false)
    } else {
        None
    };
    let to = to.unwrap_or(now);
    ui.data_mut(|d| d.insert_temp(slot, to));
    to
}

fn node_words(text: &str, node: &DraftNode) -> String {
    let state = match node.state {
        NodeState::Accepted => "accepted",
        NodeState::Rejected => "rejected",
        NodeState::Unverified => "never looked at",
    };
    let mut words = format!("{text} · depth {} · {state}", node.depth);
    for (name, v) in numbers(node) {
        words += &format!("\n{name} {v:.4}");
    }
    words
}

fn numbers(node: &DraftNode) -> Vec<(&'static str, f32)> {
    [("draft", node.p_draft), ("target", node.p_target), ("accept", node.p_accept)]
        .into_iter()
        .filter_map(|(name, v)| Some((name, v?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_lies_at_the_middle_of_its_children_and_subtrees_move_close() {
        // Root with two children; the first has two of its own.
        let at = places(&[(None, 1), (None, 1), (Some(0), 2), (Some(0), 2)]);
        assert_eq!(at, [(0.0, 1.0), (1.0, 0.5), (1.0, 1.5), (2.0, 0.0), (2.0, 1.0)]);
        assert_eq!(places(&[]), [(0.0, 0.0)]);
    }

    #[test]
    fn no_two_nodes_of_a_depth_are_closer_than_a_line() {
        // 256 nodes: node i hangs below (i - 1) / 3, so depths grow to five.
        let mut nodes: Vec<(Option<usize>, usize)> = Vec::new();
        for i in 0..256usize {
            let parent = i.checked_sub(3).map(|j| j / 3);
            nodes.push((parent, parent.map_or(1, |p| nodes[p].1 + 1)));
        }
        let at = places(&nodes);
        for depth in 1..=6 {
            let mut ys: Vec<f32> = at.iter().filter(|p| p.0 == depth as f32).map(|p| p.1).collect();
            ys.sort_by(f32::total_cmp);
            assert!(ys.windows(2).all(|w| w[1] - w[0] > 0.999), "depth {depth}: {ys:?}");
        }
        assert!(at.iter().all(|p| p.1 >= 0.0));
    }
}
