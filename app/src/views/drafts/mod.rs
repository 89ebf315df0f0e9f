//! Speculative decoding, round by round: what was guessed and what the target made of it. A model that fills in masks
//! shows its steps instead.

mod beside;
mod branch;
mod learnt;
mod proof;
mod sums;
mod tree;
mod written;

use super::{View, picker};
use crate::cx::{Cx, fixed};
use crate::jobs::Status;
use crate::keys::{Call, ModelSource, RunKey};
use crate::pictures::widgets::{self, Link};
use crate::pictures::{self, Held, controls, stage};
use crate::samples;
use crate::state::Command;
use crate::work::{DraftOf, Drafted, ModelOf, Serves as _, Times, TimesOf};
use egui::{Ui, vec2};
use serde_json::json;
use std::sync::Arc;
use tokenscope_analysis::catalog;
use tokenscope_analysis::decode::Round;
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::method::{Info, Kind, Need};
use tokenscope_analysis::model::Writes;
use tokenscope_analysis::token::TokenKind;
use tokenscope_analysis::trace::Tower;

pub(super) const VIEW: View = View {
    id: "drafts",
    title: "Drafts",
    shows: &[Kind::Draft, Kind::Reveal],
    help: "Each round the drafter guesses a chain or a tree of tokens; the target verifies it in one pass.\n\
           Filled circles were accepted, crosses rejected, hollow ones never looked at; the square is the token the target adds itself.\n\
           Step through the rounds with the slider, its buttons or Alt+PageDown, or play them.\n\
           Hover a node for its probabilities; click it for what else could have stood there, and click one of those to go on from it.\n\
           The right button on a node, or Enter on it, goes on from there; with Shift in a pane beside.\n\
           Prove decodes the prompt many times and says whether what comes is distributed as the target's own text.\n\
           Compare puts a second method beside the first; hover the figures below for what they mean.\n\
           A model that fills in masks shows which position was revealed in which step, and why: play the steps, or click a row.",
    hint: "Step through the rounds; click a node to go on otherwise; Compare shows a second method, Prove tests it.",
    ui,
    own_height: true,
    table,
};

/// Whether the model fills in gaps instead of writing on.
fn fills(cx: &Cx) -> bool {
    cx.ready_model().is_some_and(|m| m.model.info().writes == Writes::Fills)
}

fn asked(cx: &Cx, call: Call) -> DraftOf {
    DraftOf::of(cx.pane, call)
}

fn ui(cx: &Cx, ui: &mut Ui) {
    // What a session keeps is shown without the model.
    let kept = cx.recorded() && cx.keeps(Kind::Draft);
    if cx.recorded() && cx.keeps(Kind::Reveal) {
        return written::ui(cx, ui);
    }
    if cx.recorded() && !kept {
        ui.weak("A recorded run has no weights, so nothing can be decoded. Open the model itself.");
        return;
    }
    // How a model writes is known when it is open, and what is asked of it hangs on that.
    if !kept && cx.need(ui, "model", &ModelOf::of(&cx.pane.run)).is_none() {
        return;
    }
    if fills(cx) {
        return written::ui(cx, ui);
    }
    if cx.ready_model().is_some_and(|m| m.model.info().writes != Writes::Causal) {
        ui.weak("This model writes no text, neither token by token nor into gaps, so there is nothing to decode.");
        return;
    }
    let rival = cx.pane.beside.get(Kind::Draft).cloned();
    let own = cx.call(Kind::Draft);
    picker::method_ui(cx, ui, Kind::Draft);
    // Where another method stands in for want of a draft model, one can be named all the same.
    let wished = cx.pane.call(Kind::Draft);
    let drafter = [Some(&own), Some(&wished), rival.as_ref()].into_iter().flatten().any(needs_drafter);
    ui.horizontal_wrapped(|ui| {
        if drafter {
            draft_model_ui(cx, ui);
        }
        beside::compare_ui(cx, ui, &own);
    });
    if let Some(rival) = &rival {
        // The second row of controls says whose it is.
        ui.separator();
        ui.small("compared with");
        beside::rival_ui(cx, ui, &own, rival);
        ui.separator();
    }
    let sees = cx.ready_model().is_some_and(|m| m.processor.is_some());
    if cx.pane.run.image.is_some() && sees && [Some(&own), rival.as_ref()].into_iter().flatten().any(needs_drafter) {
        ui.small("The draft model reads the text alone; the target sees the picture, too.");
    }
    let first = cx.need(ui, "draft", &asked(cx, own.clone()));
    let second = rival.as_ref().and_then(|r| cx.need(ui, "rival", &asked(cx, r.clone())));
    let n = [&first, &second].into_iter().flatten().map(|d| d.run.rounds.len()).max().unwrap_or(0);
    if n == 0 {
        if first.is_some() {
            ui.weak("Nothing was decoded.");
        }
        return;
    }
    let shown = cx.pane.cursor.round.min(n - 1);
    crate::branch::note_ui(cx, ui);
    fixed(ui, "rounds", |ui| rounds_ui(cx, ui, shown, n));
    cx.long(ui, |ui| {
        let runs: Vec<One> = [("draft", Some(&own), &first), ("rival", rival.as_ref(), &second)]
            .into_iter()
            .filter_map(|(spot, call, d)| Some(One { spot, call: call?, d: d.as_ref()? }))
            .collect();
        if let [first, second] = &runs[..] {
            beside::budget_ui(cx, ui, first, second);
        }
        // Side by side where there is room, else one below the other.
        if runs.len() > 1 && ui.available_width() > 640.0 {
            pictures::columns(ui, runs.len(), 300.0, |ui, i, _| run_ui(cx, ui, &runs[i], shown, true));
        } else {
            for (i, one) in runs.iter().enumerate() {
                if i > 0 {
                    ui.separator();
                }
                fixed(ui, ("decode", i), |ui| run_ui(cx, ui, one, shown, runs.len() > 1));
            }
        }
    });
}

/// One of the decodes that are shown.
struct One<'a> {
    spot: &'static str,
    call: &'a Call,
    d: &'a Arc<Drafted>,
}

/// Width from which on the figures of a decode stand beside its tree, and the least of their own.
const WIDE: f32 = 900.0;
const FIGURES: f32 = 340.0;

/// One decode: text, tree of the round, figures.
fn run_ui(cx: &Cx, ui: &mut Ui, one: &One, shown: usize, titled: bool) {
    let One { spot, call, d } = *one;
    if titled {
        ui.strong(info(call.method).map_or("", |i| i.title));
    }
    let shown = shown.min(d.run.rounds.len().saturating_sub(1));
    text_ui(cx, ui, d, shown);
    let tree = |ui: &mut Ui| {
        if let Some(round) = d.run.rounds.get(shown) {
            let before = d.run.rounds[..shown].iter().map(|r| r.emitted.len()).sum();
            round_ui(cx, ui, one, shown, round, before);
        }
    };
    let sums = |ui: &mut Ui| {
        sums::ui(cx, ui, d, &timed(cx, call, d));
        if d.times.is_some() && !cx.recorded() {
            proof::ui(cx, ui, spot, &asked(cx, call.clone()));
        }
        cx.notes_ui(ui, spot);
    };
    let room = ui.available_width();
    if room < WIDE {
        tree(ui);
        sums(ui);
        return;
    }
    ui.horizontal_top(|ui| {
        let (gap, beside) = (ui.spacing().item_spacing.x, (room * 0.25).clamp(FIGURES, 520.0));
        for (width, content) in [(room - beside - gap, &tree as &dyn Fn(&mut Ui)), (beside, &sums)] {
            ui.vertical(|ui| {
                ui.set_width(width);
                content(ui);
            });
        }
    });
}

/// The tree of a round, with its legend; what else could have stood at the chosen node, and what the target's own token
/// was drawn from.
fn round_ui(cx: &Cx, ui: &mut Ui, one: &One, shown: usize, round: &Round, before: usize) {
    let d = one.d;
    let held: Held = d.clone();
    let tree = pictures::kept(ui, "tree of the round", &held, shown, || tree::of(d, round, before));
    let held: Held = tree.clone();
    // The root of the first round is the prompt's last token, where the views show that text.
    let trace = cx.ready_trace().filter(|_| before == 0 && cx.shows_text());
    let tokens = trace.as_ref().and_then(|t| t.towers.get(&Tower::Text)).map_or(&[][..], |t| &t.tokens);
    let first = match tokens.last() {
        Some(last) => Link::Token(tokens.len() - 1, last),
        None => Link::None,
    };
    let menu = |ui: &mut Ui, node: usize| branch::menu_ui(cx, ui, d, &branch::ids(d, round, before, node));
    let done = pictures::tree::ui_with(cx, ui, &tree, &held, first, Some(&menu));
    let slot = egui::Id::unique("chosen node").with((cx.at, one.spot));
    let run = &cx.pane.run;
    if let Some(node) = done.clicked {
        let ids = branch::ids(d, round, before, node);
        ui.data_mut(|d| d.insert_temp(slot, (run.clone(), before, ids)));
    }
    if let Some((node, beside)) = done.entered
        && let Ok(way) = branch::way(cx, d, &branch::ids(d, round, before, node))
    {
        way.go(cx, ui, beside);
    }
    // What was chosen is a way through the text, and not a number in a tree that another run may have in its place.
    let chosen = ui.data(|d| d.get_temp::<(RunKey, usize, Vec<u32>)>(slot)).filter(|_| !cx.figure);
    if let Some((of, b, ids)) = chosen {
        if of != *run {
            ui.data_mut(|d| d.remove::<(RunKey, usize, Vec<u32>)>(slot));
        } else if b == before
            && let Some(node) = branch::node(d, round, before, &ids)
        {
            fixed(ui, "others", |ui| branch::others_ui(cx, ui, one, &ids, node == 0));
        }
    }
    branch::own_ui(cx, ui, d, round, before);
    learnt::ui(cx, ui, d, round);
}

/// The times of a decode: those taken with it if nothing else computed meanwhile, else those of a second decode that
/// runs when everything else is done. `None` until it is there.
fn timed(cx: &Cx, call: &Call, d: &Drafted) -> Option<Times> {
    // A figure is the same whenever it is made, and times are not.
    let times = d.times.filter(|_| !cx.figure)?;
    // A decode from before the one that was stopped or failed is not worth another run.
    let asked = asked(cx, call.clone());
    if times.alone || !cx.ready(&asked).is_some_and(|now| std::ptr::eq(&*now, d)) {
        return Some(times);
    }
    let again = TimesOf(asked);
    if !cx.jobs.knows(&again) && cx.jobs.running().0 > 0 {
        return None;
    }
    match cx.status("times", &again) {
        Status::Ready(t) => Some(*t),
        // Better one that reads low, and says so, than none.
        Status::Failed(_) => Some(times),
        _ => None,
    }
}

fn info(id: &str) -> Option<&'static Info> {
    catalog::info(Kind::Draft, id).ok()
}

fn needs_drafter(call: &Call) -> bool {
    info(call.method).is_some_and(|i| i.needs.contains(&Need::DraftModel))
}

fn rounds_ui(cx: &Cx, ui: &mut Ui, shown: usize, n: usize) {
    if cx.figure {
        ui.label(format!("round {} of {n}", shown + 1));
        return;
    }
    ui.horizontal_wrapped(|ui| {
        stage::play_ui(cx, ui, "rounds", false, shown, n);
        let back = ui.add_enabled(shown > 0, egui::Button::new("‹")).on_hover_text("Round before, Alt+PageUp");
        widgets::named(&back, "round before");
        if back.clicked() {
            cx.send(Command::round(shown - 1));
        }
        let mut round = shown + 1;
        if controls::slider(ui, "round", &mut round, 1..=n).changed() {
            stage::pause(cx, ui);
            cx.send(Command::round(round - 1));
        }
        ui.label(format!("of {n}"));
        let next = ui.add_enabled(shown + 1 < n, egui::Button::new("›")).on_hover_text("Next round, Alt+PageDown");
        widgets::named(&next, "next round");
        if next.clicked() {
            cx.send(Command::round(shown + 1));
        }
        if n > 2 {
            stage::pace_ui(cx, ui, "rounds");
        }
    });
}

fn draft_model_ui(cx: &Cx, ui: &mut Ui) {
    if cx.figure {
        ui.label(format!("draft model {}", cx.pane.partner.title()));
        return;
    }
    ui.label("draft model");
    let slot = ui.scope_id().with("path");
    let mut path: String = ui.data(|d| d.get_temp(slot)).unwrap_or_default();
    let combo = egui::ComboBox::from_id_salt("draft model").selected_text(cx.pane.partner.title()).show_ui(ui, |ui| {
        for name in samples::DRAFTERS {
            let source = ModelSource::Sample(name);
            let why = cx.cannot_draft(&source);
            let entry = egui::Button::selectable(cx.pane.partner == source, name);
            let entry = ui.add_enabled(why.is_none(), entry).on_disabled_hover_text(why.unwrap_or_default());
            if entry.clicked() {
                show_partner(cx, source);
            }
        }
    });
    widgets::named(&combo.response, "draft model");
    let hint = "folder or GGUF with the same vocabulary";
    let edit = ui.add(egui::TextEdit::singleline(&mut path).id(slot.with("box")).hint_text(hint).desired_width(150.0));
    widgets::named(&edit, "path of a draft model");
    if edit.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter)) && !path.trim().is_empty() {
        show_partner(cx, ModelSource::Path(path.trim().into()));
        path.clear();
    }
    ui.data_mut(|d| d.insert_temp(slot, path));
}

/// Drafts with this model.
fn show_partner(cx: &Cx, model: ModelSource) {
    cx.set("draft model", move |p| (p.partner, p.cursor.round) = (model.clone(), 0));
}

/// The end of the prompt, as chips.
fn prompt_ui(cx: &Cx, ui: &mut Ui) {
    let trace = cx.trace(ui);
    let tokens = trace.as_ref().and_then(|t| t.towers.get(&Tower::Text)).map_or(&[][..], |t| &t.tokens);
    // The picture's tokens say nothing as chips.
    let pictured = tokens.iter().rposition(|t| t.kind == TokenKind::Image).map_or(0, |i| i + 1);
    let first = tokens.len().saturating_sub(24).max(pictured);
    if first > 0 {
        ui.weak("…").on_hover_text(format!("{first} tokens before"));
    }
    for (i, t) in tokens.iter().enumerate().skip(first) {
        let link = if cx.shows_text() { Link::Token(i, t) } else { Link::None };
        widgets::chip(cx, ui, &t.text, cx.theme.background, false, link);
    }
}

/// New tokens that are shown at most.
const TOKENS: usize = 96;

/// The prompt's end and what was decoded so far, this round's tokens marked.
fn text_ui(cx: &Cx, ui: &mut Ui, d: &Drafted, shown: usize) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(1.0, 2.0);
        // Of a long text its end is shown, from the start of a round on.
        let (mut first, mut n) = (shown, d.run.rounds[shown].emitted.len());
        while first > 0 && n + d.run.rounds[first - 1].emitted.len() <= TOKENS {
            first -= 1;
            n += d.run.rounds[first].emitted.len();
        }
        let mut at: usize = d.run.rounds[..first].iter().map(|r| r.emitted.len()).sum();
        match at {
            0 => prompt_ui(cx, ui),
            before => drop(ui.weak("…").on_hover_text(format!("the prompt and {before} new tokens before"))),
        }
        for (r, round) in d.run.rounds.iter().enumerate().take(shown + 1).skip(first) {
            for &id in &round.emitted {
                let fill = if r == shown { cx.theme.good } else { cx.theme.chips[r % 8] };
                let text = d.text.get(&id).map_or("", String::as_str);
                let r = widgets::chip(cx, ui, text, fill, false, Link::Decoded(at, id));
                r.on_hover_text(format!("new token {at}, id {id}"));
                at += 1;
            }
        }
    });
}

fn table(cx: &Cx) -> Option<Table> {
    if fills(cx) {
        return written::table(cx);
    }
    let d = cx.ready(&asked(cx, cx.call(Kind::Draft)))?;
    let columns = [
        "round", "node", "parent", "depth", "id", "text", "p_draft", "p_target", "p_accept", "state", "emitted",
        "figure", "value", "meaning",
    ];
    let mut table = Table::new(&columns);
    for (r, round) in d.run.rounds.iter().enumerate() {
        let emitted = d.rounds.get(r).cloned().unwrap_or_default();
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
                json!(null),
                json!(null),
                json!(null),
            ]);
        }
    }
    // What all rounds amount to, below them.
    for f in d.figures(None) {
        let mut row = vec![json!(null); columns.len() - 3];
        row.extend([json!(f.name), f.json(), json!(f.meaning)]);
        table.rows.push(row);
    }
    Some(table)
}
