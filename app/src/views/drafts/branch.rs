//! Going on from another token of a tree.

use super::One;
use crate::branch::{self, Way};
use crate::cx::Cx;
use crate::jobs::Spot;
use crate::pictures::widgets::{self, Link, visible};
use crate::work::{DraftOf, Drafted, NextOf};
use egui::Ui;
use tokenscope_analysis::decode::Round;
use tokenscope_analysis::{Error, Result};

/// The new tokens up to node `node` of a round's picture: the root, the guesses, the target's own token. `before` tokens
/// were decoded in earlier rounds.
pub(super) fn ids(d: &Drafted, round: &Round, before: usize, node: usize) -> Vec<u32> {
    known(d, before).chain(path(round, node)).collect()
}

/// What was decoded before a round.
fn known(d: &Drafted, before: usize) -> impl Iterator<Item = u32> {
    d.run.rounds.iter().flat_map(|r| r.emitted.iter().copied()).take(before)
}

/// The node of a round's picture to which these tokens lead.
pub(super) fn node(d: &Drafted, round: &Round, before: usize, ids: &[u32]) -> Option<usize> {
    let own = ids.get(before..)?;
    let mut nodes = 0..=round.nodes.len() + usize::from(round.emitted.len() > round.accepted().len());
    let same = known(d, before).eq(ids[..before].iter().copied());
    nodes.find(|&i| same && path(round, i) == own)
}

/// The tokens of a round up to a node of its picture.
fn path(round: &Round, node: usize) -> Vec<u32> {
    let mut path = Vec::new();
    let mut at = node.checked_sub(1);
    if at == Some(round.nodes.len()) {
        path.extend(round.emitted.get(round.accepted().len()).copied());
        at = round.deciding();
    }
    while let Some(n) = at.and_then(|i| round.nodes.get(i)) {
        path.push(n.token);
        at = n.parent;
    }
    path.reverse();
    path
}

/// The way behind the prompt of a decode and `ids`, its new tokens up to there.
///
/// Errors: a model without a tokenizer, ids that it does not have.
pub(super) fn way(cx: &Cx, d: &Drafted, ids: &[u32]) -> Result<Way> {
    let open = cx.ready_model().ok_or_else(|| Error::invalid("the model is not open"))?;
    Way::behind(open.text()?, &cx.pane.run.prompt, &d.run.prompt, ids)
}

/// The entries of a menu that go on there.
pub(super) fn menu_ui(cx: &Cx, ui: &mut Ui, d: &Drafted, ids: &[u32]) {
    branch::kept_menu_ui(cx, ui, ("drafts", ids), || way(cx, d, ids));
}

/// Goes on from a chip that was clicked, with Shift in a pane beside; its menu says both.
fn chip_ui(cx: &Cx, ui: &mut Ui, chip: &egui::Response, d: &Drafted, ids: &[u32]) {
    if chip.clicked()
        && let Ok(way) = way(cx, d, ids)
    {
        way.go(cx, ui, ui.input(|i| i.modifiers.shift));
    }
    if chip.secondary_clicked() || chip.context_menu_opened() {
        chip.context_menu(|ui| menu_ui(cx, ui, d, ids));
    }
}

/// What could stand behind the parent of a node that was chosen, and in its place: a chip each, to go on from.
pub(super) fn others_ui(cx: &Cx, ui: &mut Ui, one: &One, ids: &[u32], own: bool) {
    let draft = DraftOf { rounds: None, ..super::asked(cx, one.call.clone()) };
    let (place, stood) = match ids.split_last() {
        Some((last, before)) if !own => (before.to_vec(), Some(*last)),
        _ => (ids.to_vec(), None),
    };
    ui.small(match stood {
        Some(id) => format!("in the place of {}:", visible(one.d.text.get(&id).map_or("", String::as_str))),
        None => "behind the text so far:".to_string(),
    })
    .on_hover_text(
        "The target's most probable tokens there, with its probability and the draft model's, at temperature 1",
    );
    let asked = NextOf { draft, ids: place.clone() };
    let Some(all) = cx.need(ui, Spot::part("others", one.spot), &asked) else { return };
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = egui::vec2(4.0, 2.0);
        for (n, text) in all.iter() {
            let fill = if Some(n.id) == stood { cx.theme.line } else { cx.theme.background };
            let chip = widgets::chip(cx, ui, text, fill, false, Link::None);
            let draft = n.draft.map_or(String::new(), |q| format!(", the draft model {:.1}%", q * 100.0));
            let chip = chip.on_hover_text(format!(
                "target {:.1}%{draft}\nClick to go on from it, Shift+click in a pane beside",
                n.target * 100.0
            ));
            ui.small(format!("{:.0}%", n.target * 100.0));
            let ids = [&place[..], &[n.id]].concat();
            chip_ui(cx, ui, &chip, one.d, &ids);
        }
    });
}

/// What the target's own token of a round was drawn from, to go on from; `before` tokens were decoded in earlier rounds.
pub(super) fn own_ui(cx: &Cx, ui: &mut Ui, d: &Drafted, round: &Round, before: usize) {
    if round.own_from.len() < 2 || round.emitted.len() <= round.accepted().len() {
        return;
    }
    let refused = round.nodes.iter().any(|n| n.state == tokenscope_analysis::decode::NodeState::Rejected);
    let (words, tip) = match refused {
        true => (
            "the residual that the own token is drawn from:",
            "What is left of the target's distribution where the guesses were refused: that of the draft is taken away from \
             it and the rest brought back to 1. A verifier that chooses by itself has no residual, but its own choice.",
        ),
        false => ("the own token is drawn from:", "The target's distribution behind the last accepted token"),
    };
    ui.small(words).on_hover_text(tip);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = egui::vec2(4.0, 2.0);
        for &(id, p) in &round.own_from {
            let fill = if round.emitted.last() == Some(&id) { cx.theme.good } else { cx.theme.background };
            let text = d.text.get(&id).map_or("", String::as_str);
            let chip = widgets::chip(cx, ui, text, fill, false, Link::None);
            let tip = format!("id {id}, {:.2}%\nClick to go on from it, Shift+click in a pane beside", p * 100.0);
            let chip = chip.on_hover_text(tip);
            ui.small(format!("{:.0}%", p * 100.0));
            if !cx.figure {
                // It stands behind what was accepted.
                let own = ids(d, round, before, round.nodes.len() + 1);
                let path = own.split_last().map_or(&[][..], |(_, path)| path);
                chip_ui(cx, ui, &chip, d, &[path, &[id]].concat());
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::decode::{DraftNode, DraftRun, NodeState};

    #[test]
    fn a_node_is_found_again_by_the_tokens_that_lead_to_it() {
        let guess = |parent, token, depth, state| DraftNode {
            parent,
            token,
            depth,
            p_draft: None,
            p_target: None,
            p_accept: None,
            value: None,
            next: 0,
            state,
        };
        let round = |nodes, emitted| Round {
            root: 0,
            next: 0,
            nodes,
            emitted,
            own_from: Vec::new(),
            draft_passes: 0,
            learnt: Vec::new(),
        };
        let tree = vec![
            guess(None, 4, 1, NodeState::Rejected),
            guess(None, 5, 1, NodeState::Accepted),
            guess(Some(1), 6, 2, NodeState::Rejected),
        ];
        let run = DraftRun { rounds: vec![round(Vec::new(), vec![8]), round(tree, vec![5, 9])], ..DraftRun::new(&[0]) };
        let (text, rounds, whole) = (Default::default(), Vec::new(), String::new());
        let d = Drafted { run, text, rounds, whole, n_prompt: 1, times: None };
        let round = &d.run.rounds[1];
        // The root, the guesses, and the target's own token behind the accepted one.
        let all: Vec<Vec<u32>> = (0..5).map(|i| ids(&d, round, 1, i)).collect();
        assert_eq!(all, [vec![8], vec![8, 4], vec![8, 5], vec![8, 5, 6], vec![8, 5, 9]]);
        for (i, ids) in all.iter().enumerate() {
            assert_eq!(node_of(&d, ids), Some(i));
        }
        // Another text before it, another guess, another round.
        assert_eq!((node_of(&d, &[7, 5]), node_of(&d, &[8, 7]), node_of(&d, &[])), (None, None, None));
    }

    fn node_of(d: &Drafted, ids: &[u32]) -> Option<usize> {
        node(d, &d.run.rounds[1], 1, ids)
    }
}
