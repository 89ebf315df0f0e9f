//! Going on from another token of a tree: the prompt becomes the text up to it.

use super::One;
use crate::cx::Cx;
use crate::jobs::Spot;
use crate::pictures::widgets::{self, Link, visible};
use crate::state::Command;
use crate::text::Text;
use crate::work::{DraftOf, Drafted, NextOf};
use egui::Ui;
use tokenscope_analysis::decode::Round;

/// Where one could go on: the new tokens up to there, and the prompt that gives them.
pub(super) struct Way {
    text: Text,
    /// Why that prompt is not cut into the same tokens, if it is not.
    otherwise: Option<String>,
}

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
        let accepted = round.accepted();
        path.extend(round.emitted.get(accepted.len()).copied());
        path.extend(accepted.into_iter().rev());
        at = None;
    }
    while let Some(n) = at.and_then(|i| round.nodes.get(i)) {
        path.push(n.token);
        at = n.parent;
    }
    path.reverse();
    path
}

impl Way {
    /// The prompt of the pane and `ids`, decoded as one text; `None` without a tokenizer.
    pub(super) fn of(cx: &Cx, d: &Drafted, ids: &[u32]) -> Option<Self> {
        let open = cx.ready_model()?;
        let tokenizer = open.tokenizer.as_ref()?;
        let before = &*cx.pane.run.prompt;
        let text = format!("{before}{}", tokenizer.decode_after(&d.run.prompt, ids).ok()?);
        let cut = |text: &str| tokenizer.encode(text, None, true).ok().map(|e| e.ids);
        let (mut want, got) = (cut(before)?, cut(&text)?);
        want.extend(ids);
        let otherwise = (want != got).then(|| {
            let same = want.iter().zip(&got).take_while(|(a, b)| a == b).count();
            let (a, b) = (want.len() - same, got.len() - same);
            format!("As a prompt this text is cut otherwise: from token {same} on {a} tokens of the tree become {b}.")
        });
        Some(Self { text: text.into(), otherwise })
    }

    /// Goes on there, in this pane or in one beside it.
    pub(super) fn go(self, cx: &Cx, ui: &Ui, beside: bool) {
        let Self { text, otherwise } = self;
        let slot = slot();
        ui.data_mut(|d| match otherwise {
            Some(words) => drop(d.insert_temp(slot, (text.clone(), words))),
            None => d.remove::<(Text, String)>(slot),
        });
        cx.send(match beside {
            false => Command::Prompt(text),
            true => Command::whole("pane beside", move |doc| {
                doc.split();
                doc.apply(Command::Prompt(text.clone()));
            }),
        });
    }
}

fn slot() -> egui::Id {
    egui::Id::unique("gone on from another token")
}

/// Says where the prompt came from another token and is cut otherwise than that was.
pub(super) fn note_ui(cx: &Cx, ui: &mut Ui) {
    if let Some((text, words)) = ui.data(|d| d.get_temp::<(Text, String)>(slot()))
        && text == cx.pane.run.prompt
    {
        ui.colored_label(cx.theme.bad, words);
    }
}

/// The entries of a menu that go on from there.
pub(super) fn menu_ui(cx: &Cx, ui: &mut Ui, d: &Drafted, ids: &[u32]) {
    let Some(way) = Way::of(cx, d, ids) else {
        ui.weak("This model has no tokenizer, so no text can go on from here.");
        return;
    };
    if let Some(words) = &way.otherwise {
        ui.set_max_width(300.0);
        ui.small(words);
    }
    let here = ui.button("Go on from here").on_hover_text("The prompt becomes the text up to here; Undo takes it back");
    let beside = ui.button("Go on from here in a pane beside").on_hover_text("This run stays as it is");
    if here.clicked() || beside.clicked() {
        way.go(cx, ui, beside.clicked());
        ui.close();
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
            if chip.clicked()
                && let Some(way) = Way::of(cx, one.d, &ids)
            {
                way.go(cx, ui, ui.input(|i| i.modifiers.shift));
            }
            if chip.secondary_clicked() || chip.context_menu_opened() {
                chip.context_menu(|ui| menu_ui(cx, ui, one.d, &ids));
            }
        }
    });
}

/// What the target's own token of a round was drawn from.
pub(super) fn own_ui(cx: &Cx, ui: &mut Ui, d: &Drafted, round: &Round) {
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
            widgets::chip(cx, ui, text, fill, false, Link::None).on_hover_text(format!("id {id}, {:.2}%", p * 100.0));
            ui.small(format!("{:.0}%", p * 100.0));
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
