//! Nodes below nodes: a tidy layout, each state with a shape of its own.

use super::Held;
use super::fold;
use super::marks;
use super::widgets::{self, Link};
use crate::cx::{Cx, Standing};
use egui::{Align2, EventFilter, FontId, Key, Modifiers, Pos2, Sense, Stroke, Ui, pos2, vec2};
use tokenscope_analysis::finding::{Look, Tree, TreeNode, count};

/// A laid-out subtree: how high and low it reaches at each depth below its root, the root being at 0.
#[derive(Default)]
struct Sub {
    top: Vec<f32>,
    bottom: Vec<f32>,
}

/// Where nodes lie, by the parent of each, as depth and line: children below each other in their order, parents at the
/// middle of their first and last child, subtrees as close as they fit (Reingold and Tilford's rules, one line apart).
/// Parents come before their children; a second root lies below the tree of the first.
pub fn places(parents: &[Option<usize>]) -> Vec<(f32, f32)> {
    // All roots hang below one that is not drawn.
    let n = parents.len() + 1;
    let up = |i: usize| parents[i - 1].map_or(0, |p| p + 1);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); n];
    (1..n).for_each(|i| children[up(i)].push(i));
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
    let mut at = vec![(-1.0, -top); n];
    for i in 1..n {
        at[i] = (at[up(i)].0 + 1.0, at[up(i)].1 + offset[i]);
    }
    at.split_off(1)
}

/// Room for the names of the numbers of a chain, in points.
const NAMES: f32 = 46.0;

/// What stands for a node in the other pictures.
fn link(node: &TreeNode) -> Link<'static> {
    match (node.position, node.id) {
        (Some(at), Some(id)) => Link::Decoded(at, id),
        _ => Link::None,
    }
}

/// What was done with a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// The node that was clicked.
    pub clicked: Option<usize>,
    /// The node on which Enter was pressed, and whether with Shift.
    pub entered: Option<(usize, bool)>,
}

/// What a menu says about a node.
pub type Menu<'a> = &'a dyn Fn(&mut Ui, usize);

/// Draws `tree`, which `held` keeps alive, with the legend of its states.
pub fn ui(cx: &Cx, ui: &mut Ui, tree: &Tree, held: &Held) {
    ui_with(cx, ui, tree, held, Link::None, None);
}

/// Height of a line of a large tree.
const CLOSE: f32 = 17.0;
/// Lines of a tree in a figure that are not folded.
const PAGE: usize = 40;

/// The same with a menu for nodes, and `first` for the first node, where that is a token of the input; gives what was
/// done with one. Where the tree is higher than what is seen, unlikely
/// branches are folded until somebody wants them all.
pub fn ui_with(cx: &Cx, ui: &mut Ui, tree: &Tree, held: &Held, first: Link, menu: Option<Menu>) -> Done {
    if tree.nodes.is_empty() {
        ui.weak("No nodes.");
        return Done::default();
    }
    let seen = ((ui.clip_rect().height() * 0.7 / CLOSE) as usize).max(12);
    let slot = ui.scope_id().with("whole tree");
    let mut whole: bool = ui.data(|d| d.get_temp(slot)).unwrap_or(false);
    // Several trees may be held by the same product.
    let of = std::ptr::from_ref(tree).addr();
    let lines = if cx.figure { PAGE } else { seen };
    let fold = super::kept(ui, "folded tree", held, (of, lines), || fold::folded(tree, lines));
    let laid = |ui: &Ui, all: bool| {
        let shown = fold.as_ref().as_ref().filter(|_| !all).map_or(tree, |f| &f.tree);
        super::kept(ui, "places of the tree", held, (of, lines, all), || Laid::of(shown))
    };
    let Some(fold) = &*fold else {
        let laid = laid(ui, true);
        return drawn(cx, ui, tree, &laid, first, menu);
    };
    if cx.figure {
        ui.small(format!("{} of {} nodes, those with least mass are folded", fold.hidden, tree.nodes.len()));
    } else {
        ui.horizontal(|ui| {
            let words = format!("all {} nodes", tree.nodes.len());
            let tip = "Where they are more than fit, branches with little mass are folded to one node each";
            if ui.checkbox(&mut whole, words).on_hover_text(tip).changed() {
                ui.data_mut(|d| d.insert_temp(slot, whole));
            }
            if !whole {
                ui.small(format!("{} are folded", fold.hidden));
            }
        });
    }
    if whole && !cx.figure {
        let laid = laid(ui, true);
        return drawn(cx, ui, tree, &laid, first, menu);
    }
    let own = |ui: &mut Ui, i: usize| {
        if let (Some(menu), Some(i)) = (menu, fold.of[i]) {
            menu(ui, i);
        }
    };
    let laid = laid(ui, false);
    let done = drawn(cx, ui, &fold.tree, &laid, first, menu.is_some().then_some(&own as Menu));
    let of = |i: usize| fold.of.get(i).copied().flatten();
    if done.clicked.is_some_and(|i| of(i).is_none()) {
        ui.data_mut(|d| d.insert_temp(slot, true));
    }
    Done { clicked: done.clicked.and_then(of), entered: done.entered.and_then(|(i, shift)| Some((of(i)?, shift))) }
}

/// What drawing a tree takes and does not change from frame to frame.
struct Laid {
    parents: Vec<Option<usize>>,
    /// Depth and line of each node.
    at: Vec<(f32, f32)>,
    /// What is written at each node.
    labels: Vec<String>,
    /// Steps to the right of each node without another node.
    free: Vec<f32>,
    /// Nodes of each state.
    counts: Vec<usize>,
    /// Nodes that were guessed, and whether they hang one below the other.
    drafted: usize,
    chain: bool,
}

impl Laid {
    fn of(tree: &Tree) -> Self {
        let parents: Vec<Option<usize>> = tree.nodes.iter().map(|n| n.parent).collect();
        let guessed = |i: &usize| !matches!(look(tree, *i), Look::Given | Look::Plain);
        let drafted: Vec<usize> = (0..tree.nodes.len()).filter(guessed).collect();
        let at = places(&parents);
        // What stands for no token is no text in which spaces are seen.
        let label = |n: &TreeNode| if n.id.is_some() { widgets::visible(&n.label) } else { n.label.clone() };
        Self {
            free: free(&parents, &at),
            at,
            labels: tree.nodes.iter().map(label).collect(),
            counts: count(tree.states.len(), tree.nodes.iter().map(|n| n.state)),
            chain: !drafted.is_empty() && drafted.windows(2).all(|w| parents[w[1]] == Some(w[0])),
            drafted: drafted.len(),
            parents,
        }
    }
}

/// Steps to the right of each node without another node in its line. A node with children has one: there its edges begin.
fn free(parents: &[Option<usize>], at: &[(f32, f32)]) -> Vec<f32> {
    let deepest = at.iter().map(|p| p.0).fold(0.0, f32::max) + 1.0;
    let mut out: Vec<f32> = at
        .iter()
        .map(|&(x, y)| {
            let behind = at.iter().filter(|b| b.0 > x && (b.1 - y).abs() < 0.9);
            behind.map(|b| b.0).fold(deepest, f32::min) - x
        })
        .collect();
    parents.iter().flatten().for_each(|&p| out[p] = 1.0);
    out
}

fn look(tree: &Tree, i: usize) -> Look {
    tree.states.get(tree.nodes[i].state).map_or(Look::Plain, |s| s.look)
}

/// Draws every node.
fn drawn(cx: &Cx, ui: &mut Ui, tree: &Tree, laid: &Laid, first: Link, menu: Option<Menu>) -> Done {
    let Laid { parents, at, labels, free, counts, drafted, chain } = laid;
    let chain = *chain;
    marks::classes_ui(cx.theme, ui, &tree.states, counts);
    let link = |i: usize| match first {
        Link::None => link(&tree.nodes[i]),
        _ if i == 0 => first,
        _ => link(&tree.nodes[i]),
    };
    let depth = at.iter().map(|p| p.0).fold(0.0, f32::max) + 1.0;
    let lines = at.iter().map(|p| p.1).fold(0.0, f32::max) + 1.0;
    let room = ui.available_width().min(ui.clip_rect().width() - 16.0);
    let look = |i: usize| look(tree, i);
    // Under a chain stand its numbers; a large tree has its words beside the nodes, so that lines can be closer.
    let close = !chain && lines > 8.0;
    let under = 14.0 + 13.0 * tree.measures.len() as f32;
    // The numbers of a chain stand in rows whose names stand once, at the left.
    let named = if chain { NAMES } else { 0.0 };
    let left = 36.0f32.max(named + 14.0);
    // In a figure a long chain goes on in the next line; in the window it scrolls.
    let least = if chain {
        46.0
    } else if cx.figure {
        8.0
    } else {
        64.0
    };
    let across = match chain && cx.figure {
        true => (((room - left - 24.0) / least).floor().max(2.0)).min(depth),
        false => depth,
    };
    let folds = (depth / across).ceil();
    let step = vec2(
        ((room - left - 34.0) / across).clamp(least, 240.0),
        match (chain, close) {
            (true, _) => 40.0 + under,
            (false, true) => CLOSE,
            (false, false) => 34.0,
        },
    );
    let top = if close { 12.0 } else { 26.0 };
    // As high as the lowest node with what stands below it.
    let below = |i: usize| if chain { 12.0 + 13.0 * numbers(tree, &tree.nodes[i]).len() as f32 } else { 0.0 };
    let low = (0..tree.nodes.len()).map(|i| at[i].1 * step.y + below(i)).fold(0.0, f32::max);
    let fold = top + low + 12.0;
    let wide = if cx.figure { room } else { (across * step.x + left + 34.0).max(room) };
    let size = vec2(wide, fold * folds);
    let mut done = Done::default();
    egui::ScrollArea::horizontal().id_salt("tree").show(ui, |ui| {
        let (rect, response) = ui.allocate_exact_size(size, Sense::click());
        let painter = ui.painter_at(rect);
        let line = |i: usize| (at[i].0 / across).floor();
        let place = |i: usize| {
            let column = at[i].0 - line(i) * across;
            pos2(rect.left() + left + column * step.x, rect.top() + top + line(i) * fold + at[i].1 * step.y)
        };
        // Above or beside the node, as long as the room to the next one.
        let label = |i: usize, color, standing: Standing| {
            let (p, s) = (place(i), &labels[i]);
            let steps = if close { free[i] } else { 1.0 };
            let letters = ((steps * step.x - 16.0) / 7.4).max(0.0) as usize;
            if letters == 0 {
                return;
            }
            let mut short: String = s.chars().take(letters).collect();
            if short.len() < s.len() && letters > 2 {
                short.pop();
                short.push('…');
            }
            let (place, align) = match close {
                true => (p + vec2(9.0, 0.0), Align2::LEFT_CENTER),
                false => (p + vec2(0.0, -9.0), Align2::CENTER_BOTTOM),
            };
            let galley = painter.layout_no_wrap(short, FontId::monospace(12.0), color);
            let drawn = align.anchor_size(place, galley.size());
            // No line goes through a name.
            painter.rect_filled(drawn.shrink2(vec2(0.0, 2.0)), 2.0, cx.theme.background);
            painter.galley(drawn.min, galley, color);
            if let Some(stroke) = widgets::outline(cx, standing) {
                painter.rect_stroke(drawn.expand(2.0), 2.0, stroke, egui::StrokeKind::Outside);
            }
        };
        for (i, parent) in parents.iter().enumerate() {
            let Some(parent) = *parent else { continue };
            let (color, width) = match look(i) {
                Look::Good | Look::Given => (cx.theme.good, 3.0),
                Look::Bad => (cx.theme.bad, 1.5),
                Look::Category(k) => (cx.theme.group(k), 1.5),
                Look::Quiet | Look::Plain => (cx.theme.line, 1.0),
            };
            let ends = [place(parent) + vec2(7.0, 0.0), place(i) - vec2(7.0, 0.0)];
            let stroke = Stroke::new(width, color);
            if line(parent) == line(i) {
                painter.line_segment(ends, stroke);
            } else {
                // Out at the right and in at the left.
                painter.line_segment([ends[0], ends[0] + vec2(12.0, 0.0)], stroke);
                painter.line_segment([ends[1] - vec2(12.0, 0.0), ends[1]], stroke);
            }
        }
        for (i, node) in tree.nodes.iter().enumerate() {
            let (p, look) = (place(i), look(i));
            let (color, mark) = marks::of(cx.theme, look);
            marks::paint(&painter, p, 6.0, mark, color);
            let color = if look == Look::Quiet { cx.theme.weak } else { cx.theme.text };
            label(i, color, link(i).standing(cx));
            if chain {
                for (row, (_, v)) in numbers(tree, node).into_iter().enumerate() {
                    let q = p + vec2(0.0, 10.0 + row as f32 * 13.0);
                    painter.text(q, Align2::CENTER_TOP, format!("{v:.2}"), FontId::proportional(11.0), cx.theme.weak);
                }
            }
        }
        // What the rows of numbers are, beside the first that has them on each line.
        for l in 0..folds as usize {
            let here =
                (0..tree.nodes.len()).filter(|&i| line(i) == l as f32 && !numbers(tree, &tree.nodes[i]).is_empty());
            let Some(first) = here.min_by(|a, b| place(*a).y.total_cmp(&place(*b).y)).filter(|_| chain) else {
                continue;
            };
            for (row, (name, _)) in numbers(tree, &tree.nodes[first]).into_iter().enumerate() {
                let q = pos2(rect.left(), place(first).y + 10.0 + row as f32 * 13.0);
                painter.text(q, Align2::LEFT_TOP, name, FontId::proportional(11.0), cx.theme.weak);
            }
        }
        let cursor = response.has_focus().then(|| walk(ui, response.id, parents, at));
        if let Some(i) = cursor {
            painter.circle_stroke(place(i), 10.0, Stroke::new(1.5, cx.theme.accent));
        }
        if response.clicked() {
            response.request_focus();
        }
        let near = |p: Pos2| (0..tree.nodes.len()).find(|&i| place(i).distance(p) < 10.0);
        let under = response.hover_pos().and_then(near).or(cursor);
        if response.clicked() {
            done.clicked = response.interact_pointer_pos().and_then(near);
            // Keys go on from what was clicked.
            if let Some(i) = done.clicked {
                ui.data_mut(|d| d.insert_temp(cursor_slot(response.id), i));
            }
        }
        if let Some(i) = cursor {
            let pressed = |m| ui.input_mut(|i| i.consume_key(m, Key::Enter));
            done.entered = if pressed(Modifiers::SHIFT) {
                Some((i, true))
            } else {
                pressed(Modifiers::NONE).then_some((i, false))
            };
            if ui.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Space)) {
                done.clicked = Some(i);
            }
        }
        if let Some(menu) = menu {
            // The menu is about the node that it was opened on.
            let slot = response.id.with("menu");
            if response.secondary_clicked()
                && let Some(i) = response.interact_pointer_pos().and_then(near)
            {
                ui.data_mut(|d| d.insert_temp(slot, i));
            }
            if let Some(i) = ui.data(|d| d.get_temp::<usize>(slot)).filter(|i| *i < tree.nodes.len()) {
                response.context_menu(|ui| menu(ui, i));
            }
        }
        let words = under.map(|i| node_words(tree, at, i));
        let whole = whole_words(tree, *drafted, words.as_deref());
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &whole));
        let (Some(i), Some(words)) = (under, words) else { return };
        match link(i) {
            Link::Token(t, token) => {
                cx.hover_token(t, Some(token));
                if response.clicked() {
                    cx.pick(ui, t, t);
                }
            }
            _ => {
                let mut hover = cx.hover.borrow_mut();
                (hover.decoded, hover.id) = (tree.nodes[i].position, tree.nodes[i].id);
            }
        }
        if response.context_menu_opened() {
            return;
        }
        match cursor.is_some() && !response.hovered() {
            true => response.show_tooltip_text(words),
            false => drop(response.on_hover_text_at_pointer(words)),
        }
    });
    done
}

/// The whole for a screen reader: how many nodes there are in each state, and the one that is looked at.
fn whole_words(tree: &Tree, n: usize, at: Option<&str>) -> String {
    let count = |s: usize| tree.nodes.iter().filter(|n| n.state == s).count();
    let states = tree.states.iter().enumerate().filter(|(_, s)| !matches!(s.look, Look::Given | Look::Plain));
    let states: String = states.map(|(i, s)| format!(", {} {}", count(i), s.name)).collect();
    let at = at.map_or(String::new(), |w| format!(", at {}", w.replace('\n', ", ")));
    let title = if tree.title.is_empty() { "tree" } else { &tree.title };
    format!("{title} of {} nodes{states}{at}", if n == 0 { tree.nodes.len() } else { n })
}

/// Where the place of the keys is kept.
fn cursor_slot(id: egui::Id) -> egui::Id {
    id.with("cursor")
}

/// Arrow keys walk the nodes: right to the first child, left to the parent, up and down within a depth. The place is
/// kept while the tree is in focus.
fn walk(ui: &Ui, id: egui::Id, parents: &[Option<usize>], at: &[(f32, f32)]) -> usize {
    let filter = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
    ui.memory_mut(|m| m.set_focus_lock_filter(id, filter));
    let slot = cursor_slot(id);
    let now = ui.data(|d| d.get_temp::<usize>(slot)).unwrap_or(0).min(at.len() - 1);
    let pressed = |key| ui.input_mut(|i| i.consume_key(Modifiers::NONE, key));
    let beside = |down: bool| {
        let others = (0..at.len()).filter(|&i| at[i].0 == at[now].0 && (at[i].1 > at[now].1) == down && i != now);
        others.min_by(|a, b| (at[*a].1 - at[now].1).abs().total_cmp(&(at[*b].1 - at[now].1).abs()))
    };
    let to = if pressed(Key::ArrowRight) {
        parents.iter().position(|p| *p == Some(now))
    } else if pressed(Key::ArrowLeft) {
        parents[now]
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

fn node_words(tree: &Tree, at: &[(f32, f32)], i: usize) -> String {
    let node = &tree.nodes[i];
    let state = tree.states.get(node.state).map_or("", |s| s.name.as_ref());
    let mut words = format!("{} · depth {:.0} · {state}", widgets::visible(&node.label), at[i].0);
    for (name, v) in numbers(tree, node) {
        words += &format!("\n{name} {v:.4}");
    }
    words
}

fn numbers(tree: &Tree, node: &TreeNode) -> Vec<(&'static str, f32)> {
    tree.measures.iter().zip(&node.values).filter_map(|(m, v)| Some((m.name, (*v)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_lies_at_the_middle_of_its_children_and_subtrees_move_close() {
        // Root with two children; the first has two of its own.
        let at = places(&[None, Some(0), Some(0), Some(1), Some(1)]);
        assert_eq!(at, [(0.0, 1.0), (1.0, 0.5), (1.0, 1.5), (2.0, 0.0), (2.0, 1.0)]);
        assert_eq!(places(&[None]), [(0.0, 0.0)]);
        // A second root lies a line below.
        assert_eq!(places(&[None, None]), [(0.0, 0.0), (0.0, 1.0)]);
        assert!(places(&[]).is_empty());
    }

    #[test]
    fn a_leaf_has_the_room_to_the_next_node_in_its_line() {
        // Below the root lie a leaf and one with a child, two lines in all; the leaf's line is empty to the end.
        let parents = [None, Some(0), Some(0), Some(2)];
        assert_eq!(free(&parents, &places(&parents)), [1.0, 2.0, 1.0, 1.0]);
        // A leaf behind whose line a longer branch passes.
        let at = [(0.0, 0.0), (1.0, 0.0), (2.0, 1.0), (3.0, 0.5)];
        assert_eq!(free(&[None, Some(0), None, Some(2)], &at), [1.0, 2.0, 1.0, 1.0]);
    }

    #[test]
    fn no_two_nodes_of_a_depth_are_closer_than_a_line() {
        // 256 nodes: node i hangs below (i - 1) / 3, so depths grow to five.
        let parents: Vec<Option<usize>> = (0..256usize).map(|i| i.checked_sub(1).map(|j| j / 3)).collect();
        let at = places(&parents);
        for depth in 0..=6 {
            let mut ys: Vec<f32> = at.iter().filter(|p| p.0 == depth as f32).map(|p| p.1).collect();
            ys.sort_by(f32::total_cmp);
            assert!(ys.windows(2).all(|w| w[1] - w[0] > 0.999), "depth {depth}: {ys:?}");
        }
        assert!(at.iter().all(|p| p.1 >= 0.0));
    }
}
