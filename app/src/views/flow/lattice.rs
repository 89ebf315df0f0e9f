//! The drawn lattice: nodes at their places, edges by weight, routes to the explained tokens.

use super::super::{Cx, Standing};
use super::shown::{MAX_EDGES, Shown};
use super::{Seen, attention_of, into};
use crate::state::{Command, Drill};
use egui::{Align2, EventFilter, FontId, Key, Modifiers, Pos2, Rect, Sense, Stroke, Ui, Vec2, pos2, vec2};
use tokenscope_analysis::flow::{Edge, FlowGraph, Node, Part};

/// Room for the names of the layers.
const GUTTER: f32 = 34.0;

/// Where things lie.
pub(super) struct Frame {
    rect: Rect,
    /// Left edge of the first column and height of the lowest level.
    pub origin: Pos2,
    pub step: Vec2,
    n: usize,
    levels: usize,
}

impl Frame {
    pub fn at(&self, node: Node) -> Pos2 {
        let half = if node.part == Part::Resid { 0.0 } else { 0.45 };
        let aside = if node.part == Part::Mlp { self.step.x * 0.22 } else { 0.0 };
        let p = self.node(node.level as usize, node.token as usize);
        p + vec2(aside, half * self.step.y)
    }

    fn node(&self, level: usize, token: usize) -> Pos2 {
        self.origin + vec2((token as f32 + 0.5) * self.step.x, -(level as f32) * self.step.y)
    }

    /// Columns that a horizontal range touches.
    fn columns(&self, from: f32, to: f32) -> std::ops::Range<usize> {
        let at = |x: f32| ((x - self.origin.x) / self.step.x).floor().max(0.0) as usize;
        at(from).min(self.n)..(at(to) + 1).min(self.n)
    }
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui, seen: &Seen, height: f32) {
    let graph = seen.graph;
    let (n, levels) = (graph.n_tokens, graph.n_layers + 1);
    let area = egui::ScrollArea::horizontal().auto_shrink(false).stick_to_right(true).max_height(height);
    area.show(ui, |ui| {
        let room = ui.available_width();
        let width = if cx.figure || cx.doc.column == 0.0 { room } else { room.max(n as f32 * cx.doc.column + GUTTER) };
        let (rect, response) = ui.allocate_exact_size(vec2(width, height - 12.0), Sense::click());
        let left = rect.left() + GUTTER;
        let frame = Frame {
            rect,
            origin: pos2(left, rect.bottom() - 30.0),
            step: vec2(
                (rect.right() - left) / n as f32,
                // Below: the tokens. Above: the caption, and what the lens reads at the top.
                (rect.height() - 64.0) / levels.saturating_sub(1).max(1) as f32,
            ),
            n,
            levels,
        };
        let painter = ui.painter_at(rect);
        let clip = ui.clip_rect().intersect(rect);
        let targets = cx.explained(n);
        let shown = Shown::new(cx, ui, graph, &targets, frame.columns(clip.left(), clip.right()));
        shown.paint(cx, ui, &painter, &frame);
        let edges = &shown.edges;
        nodes_ui(cx, &painter, seen, &frame, clip, &targets);
        gutter_ui(cx, &painter, &frame, clip);
        caption_ui(cx, &painter, seen, edges, clip);
        if !cx.figure {
            pointer_ui(cx, ui, seen, &frame, &shown, response);
        }
    });
}

fn nodes_ui(cx: &Cx, painter: &egui::Painter, seen: &Seen, f: &Frame, clip: Rect, targets: &[usize]) {
    // Words only where they have room.
    let letters = ((f.step.x - 2.0) / 6.2).floor().clamp(0.0, 7.0) as usize;
    let small = FontId::monospace(10.0);
    let columns = f.columns(clip.left() - 40.0, clip.right() + 40.0);
    if f.step.x < 3.0 {
        // Nodes closer than pixels are a line.
        for level in 0..f.levels {
            let y = f.node(level, 0).y;
            painter.hline(clip.x_range(), y, Stroke::new(1.0, cx.theme.line));
        }
    }
    let drilled = cx.doc.drill;
    for token in columns {
        let i = seen.tower.tokens.get(token);
        let standing = cx.standing(token, i.and_then(|t| t.id));
        let target = targets.binary_search(&token).is_ok();
        let color = match standing {
            Standing::Hovered => cx.theme.text,
            _ if target => cx.theme.accent,
            Standing::Twin => cx.theme.accent.gamma_multiply(0.6),
            _ => cx.theme.weak,
        };
        if f.step.x >= 3.0 {
            for level in 0..f.levels {
                let p = f.node(level, token);
                painter.circle_filled(p, 3.0f32.min(f.step.x * 0.4), color);
                if drilled.is_some_and(|d| (d.level, d.token) == (level, token)) {
                    painter.circle_stroke(p, 6.0, Stroke::new(2.0, cx.theme.accent));
                }
                if let Some((text, prob)) = seen.guess(level, token).filter(|_| letters > 0) {
                    let color = cx.theme.text.gamma_multiply(0.35 + 0.65 * prob);
                    let short: String = super::super::visible(text).chars().take(letters.min(6)).collect();
                    painter.text(p + vec2(0.0, -5.0), Align2::CENTER_BOTTOM, short, small.clone(), color);
                }
            }
        } else if target || standing == Standing::Hovered {
            painter.vline(f.node(0, token).x, f.rect.y_range(), Stroke::new(1.0, color));
        }
        if letters > 0 {
            let color = match standing {
                Standing::Plain if target => cx.theme.accent,
                Standing::Selected => cx.theme.accent,
                _ => cx.theme.text,
            };
            let short: String = seen.text(token).chars().take(letters).collect();
            let place = f.node(0, token) + vec2(0.0, 8.0);
            let drawn = painter.text(place, Align2::CENTER_TOP, short, small.clone(), color);
            if let Some(stroke) = super::super::widgets::outline(cx, standing) {
                painter.rect_stroke(drawn.expand(2.0), 2.0, stroke, egui::StrokeKind::Inside);
            }
        }
    }
}

/// The names of the layers stay in view while the tokens scroll below them.
fn gutter_ui(cx: &Cx, painter: &egui::Painter, f: &Frame, clip: Rect) {
    let gutter = clip.left();
    let strip = Rect::from_min_max(pos2(gutter, f.rect.top()), pos2(gutter + 26.0, f.rect.bottom()));
    painter.rect_filled(strip, 0.0, cx.theme.background);
    // Every name has 12 points of room.
    let every = (12.0 / f.step.y.max(0.1)).ceil().max(1.0) as usize;
    for level in (0..f.levels).filter(|l| l % every == 0 || *l + 1 == f.levels) {
        let name = if level == 0 { "in".to_string() } else { format!("L{}", level - 1) };
        let place = pos2(gutter + 2.0, f.node(level, 0).y);
        painter.text(place, Align2::LEFT_CENTER, name, FontId::proportional(11.0), cx.theme.weak);
    }
}

fn caption_ui(cx: &Cx, painter: &egui::Painter, seen: &Seen, edges: &[u32], clip: Rect) {
    let above = seen.graph.above(cx.doc.threshold).len();
    let all = seen.graph.edges.len();
    let cut = if edges.len() == MAX_EDGES { format!(" (strongest {MAX_EDGES} drawn)") } else { String::new() };
    let none = if above == 0 { " · lower the threshold to see some" } else { "" };
    let all = match seen.graph.floor {
        0.0 => all.to_string(),
        floor => format!("{all} of at least {floor}"),
    };
    let words = format!("{above} of {all} edges{cut} · width: {}{none}", seen.graph.unit);
    let place = clip.left_top() + vec2(2.0, 0.0);
    let galley = painter.layout_no_wrap(words, FontId::proportional(11.0), cx.theme.weak);
    painter.rect_filled(Rect::from_min_size(place, galley.size()), 0.0, cx.theme.background);
    painter.galley(place, galley, cx.theme.weak);
}

fn pointer_ui(cx: &Cx, ui: &Ui, seen: &Seen, f: &Frame, shown: &Shown, response: egui::Response) {
    let under = response.hover_pos().and_then(|p| {
        let token = ((p.x - f.origin.x) / f.step.x).floor();
        (0.0..f.n as f32).contains(&token).then(|| {
            let level = ((f.origin.y - p.y) / f.step.y).round().clamp(0.0, (f.levels - 1) as f32) as usize;
            (p, level, token as usize)
        })
    });
    let spoken = match (under.map(|u| (u.1, u.2)).or(cx.doc.drill.map(|d| (d.level, d.token))), f.n) {
        (Some((level, token)), _) => format!("flow lattice, {}", words(seen, shown, level, token).replace('\n', ", ")),
        (None, n) => format!("flow lattice, {n} tokens by {} layers", f.levels - 1),
    };
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &spoken));
    if response.has_focus() {
        ui.painter().rect_stroke(
            f.rect.intersect(ui.clip_rect()).shrink(1.0),
            0.0,
            Stroke::new(1.0, cx.theme.accent),
            egui::StrokeKind::Inside,
        );
        keys(cx, ui, seen, response.id);
    }
    let Some((p, level, token)) = under else { return };
    // Ctrl+scroll and pinching widen the columns.
    let zoom = ui.input(|i| i.zoom_delta());
    if (zoom - 1.0).abs() > 1e-3 {
        let wide = (f.step.x * zoom).clamp(0.5, 120.0);
        let all = f.step.x * f.n as f32 <= ui.clip_rect().width() && zoom < 1.0;
        cx.send(Command::Column(if all { 0.0 } else { wide }));
    }
    cx.hover_token(token, seen.tower.tokens.get(token));
    let on_node = f.node(level, token).distance(p) < 7.0;
    let on_edge = (!on_node).then(|| nearest(seen.graph, f, &shown.edges, p)).flatten();
    if response.clicked() {
        response.request_focus();
        match on_edge {
            _ if on_node && level > 0 => cx.send(Command::Drill(Some(Drill { level, token, from: None, head: None }))),
            Some(e) => {
                let from = attention_of(e).map(|a| a.1);
                let (level, token) = (e.to.level as usize, e.to.token as usize);
                cx.send(Command::Drill(Some(Drill { level, token, from, head: None })));
            }
            None => cx.pick(ui, token, token),
        }
    }
    response.on_hover_text_at_pointer(match on_edge {
        Some(e) => edge_words(seen, e),
        None => words(seen, shown, level, token),
    });
}

/// The edge within a few points of `p`.
fn nearest<'g>(graph: &'g FlowGraph, f: &Frame, edges: &[u32], p: Pos2) -> Option<&'g Edge> {
    const NEAR: f32 = 4.0;
    let distance = |e: &Edge| {
        let (a, b) = (f.at(e.from), f.at(e.to));
        // Most edges lie far away, and that is told sooner.
        let beside = p.x < a.x.min(b.x) - NEAR || p.x > a.x.max(b.x) + NEAR;
        if beside || p.y < a.y.min(b.y) - NEAR || p.y > a.y.max(b.y) + NEAR {
            return f32::INFINITY;
        }
        let along = b - a;
        let t = ((p - a).dot(along) / along.length_sq().max(1e-6)).clamp(0.0, 1.0);
        (a + along * t).distance(p)
    };
    let near = edges.iter().map(|&i| &graph.edges[i as usize]).map(|e| (distance(e), e)).filter(|d| d.0 < NEAR);
    near.min_by(|a, b| a.0.total_cmp(&b.0)).map(|d| d.1)
}

/// Arrow keys walk the nodes, Enter goes down to the strongest edge and head, Backspace back.
fn keys(cx: &Cx, ui: &Ui, seen: &Seen, id: egui::Id) {
    let filter = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
    ui.memory_mut(|m| m.set_focus_lock_filter(id, filter));
    let pressed = |key| ui.input_mut(|i| i.consume_key(Modifiers::NONE, key));
    let graph = seen.graph;
    let top = cx.explained(graph.n_tokens).last().copied().unwrap_or(0);
    let now = cx.doc.drill.unwrap_or(Drill { level: graph.n_layers, token: top, from: None, head: None });
    let to = |level: usize, token: usize| cx.send(Command::Drill(Some(Drill { level, token, from: None, head: None })));
    if pressed(Key::ArrowLeft) {
        to(now.level, now.token.saturating_sub(1));
    } else if pressed(Key::ArrowRight) {
        to(now.level, (now.token + 1).min(graph.n_tokens - 1));
    } else if pressed(Key::ArrowUp) {
        to((now.level + 1).min(graph.n_layers), now.token);
    } else if pressed(Key::ArrowDown) {
        to(now.level.saturating_sub(1), now.token);
    } else if pressed(Key::Backspace) {
        cx.send(Command::Drill(cx.doc.drill.and_then(Drill::back)));
    } else if pressed(Key::Enter) {
        let next = match (cx.doc.drill, now.from) {
            (None, _) => Some(now),
            (_, None) => into(graph, now.level, now.token)
                .find_map(attention_of)
                .map(|(_, from, _)| Drill { from: Some(from), ..now }),
            _ => Some(Drill { head: Some(now.head.unwrap_or(0)), ..now }),
        };
        if next.is_some() {
            cx.send(Command::Drill(next));
        }
    }
}

/// What a node is told about: the lens's guess and the strongest edges into it.
fn words(seen: &Seen, shown: &Shown, level: usize, token: usize) -> String {
    let mut out = match level {
        0 => format!("token {token} {}", seen.text(token)),
        l => format!("layer {}, token {token} {}", l - 1, seen.text(token)),
    };
    if let Some((text, p)) = seen.guess(level, token) {
        out += &format!("\nwould predict {} ({:.1}%)", super::super::visible(text), p * 100.0);
    }
    for e in shown.into(level, token).take(5) {
        out += &format!("\n{:.1}% from token {} {}", e.weight * 100.0, e.from.token, seen.text(e.from.token as usize));
    }
    out
}

fn edge_words(seen: &Seen, e: &Edge) -> String {
    let part = |n: Node| match (n.level, n.part) {
        (0, _) => "the input of".to_string(),
        (l, Part::Resid) => format!("the output of layer {} at", l - 1),
        (l, Part::Attn) => format!("the attention of layer {} at", l - 1),
        (l, Part::Mlp) => format!("the MLP of layer {} at", l - 1),
    };
    let (a, b) = (e.from.token as usize, e.to.token as usize);
    format!(
        "{:.1}% {}\nfrom {} token {a} {}\nto {} token {b} {}",
        e.weight * 100.0,
        seen.graph.unit,
        part(e.from),
        seen.text(a),
        part(e.to),
        seen.text(b)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: u32, to: u32, weight: f32) -> Edge {
        let node = |level, token| Node { level, part: Part::Resid, token };
        Edge { from: node(0, from), to: node(1, to), weight }
    }

    #[test]
    fn the_nearest_edge_is_found_and_nothing_far_away() {
        let graph = FlowGraph {
            n_layers: 1,
            n_tokens: 3,
            edges: vec![edge(0, 0, 0.9), edge(0, 2, 0.5)],
            unit: "share",
            floor: 0.0,
        };
        let f = Frame { rect: Rect::EVERYTHING, origin: pos2(0.0, 100.0), step: vec2(20.0, 100.0), n: 3, levels: 2 };
        // The first edge is the vertical at x = 10; the second goes from (10, 100) to (50, 0).
        assert_eq!(nearest(&graph, &f, &[0, 1], pos2(11.0, 50.0)).unwrap().to.token, 0);
        assert_eq!(nearest(&graph, &f, &[0, 1], pos2(30.0, 51.0)).unwrap().to.token, 2);
        assert!(nearest(&graph, &f, &[0, 1], pos2(60.0, 90.0)).is_none());
        assert_eq!(f.columns(15.0, 25.0), 0..2);
    }
}
