//! What one pane shows minus what another shows, part by part.

use super::View;
use crate::cx::Cx;
use crate::differs::differs;
use crate::jobs::Spot;
use crate::pane::{Compared, Fold};
use crate::pictures::{self, On, widgets};
use crate::state::{Command, Doc};
use crate::work::{MinusOf, PairingsOf, Side};
use egui::{RichText, Ui};
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::method::{Info, Kind};
use tokenscope_analysis::model::Writes;
use tokenscope_analysis::{Result, catalog};

pub(super) const VIEW: View = View {
    id: "compare",
    title: "Compare",
    shows: &[],
    help: "With several panes, what this one shows minus what another shows: two prompts, models, heads, methods, or anything else that you change in one of them. The lines at the top say what differs.\n\
           Colours are signs: orange is more here than there, blue is less.\n\
           Tokens meet by the bytes of the text that both runs share, patches by their place in the picture. Where one tokenizer has several tokens for another's one, they are put together first, as sum, mean or the farthest from 0; what only one prompt has shows no difference.\n\
           A click on a heading opens and closes a part; only open parts are computed. What cannot be subtracted says why.",
    hint: "Open a second pane with Ctrl+T, change one thing in it, and read here what that does.",
    ui,
    own_height: true,
    table,
};

/// Number of the pane that is drawn.
fn own(cx: &Cx) -> usize {
    if cx.figure { cx.doc.active() } else { cx.at }
}

/// Number of the pane that it is compared with, if there is another.
fn other(cx: &Cx) -> Option<usize> {
    cx.doc.against(own(cx))
}

/// What is asked for a part of both panes. Errors: what the two show of it has nothing in common.
fn asked(cx: &Cx, there: &Cx, part: Compared) -> Result<MinusOf> {
    let fills = |cx: &Cx| cx.ready_model().is_some_and(|m| m.model.info().writes == Writes::Fills);
    let (call_a, call_b) = (|kind| cx.call(kind), |kind| there.call(kind));
    let sides = [
        Side { pane: cx.pane, call: &call_a, fills: fills(cx) },
        Side { pane: there.pane, call: &call_b, fills: fills(there) },
    ];
    MinusOf::new(part, sides, cx.pane.shows.fold)
}

/// The kind of methods that a part is about.
fn kind(cx: &Cx, part: Compared) -> Option<Kind> {
    let fills = || cx.ready_model().is_some_and(|m| m.model.info().writes == Writes::Fills);
    match part {
        Compared::Scores => Some(Kind::Score),
        Compared::Flow => Some(Kind::Flow),
        Compared::Reduction => Some(Kind::Reduce),
        Compared::Findings => Some(cx.pane.shows.found),
        Compared::Drafts => Some(if fills() { Kind::Reveal } else { Kind::Draft }),
        Compared::Next | Compared::Map | Compared::Cuts => None,
    }
}

fn ui(cx: &Cx, ui: &mut Ui) {
    cx.long(ui, |ui| {
        let Some(with) = other(cx) else {
            empty_ui(cx, ui);
            return;
        };
        let there = cx.on_pane(with);
        sides_ui(cx, ui, with);
        let Some(trace) = cx.trace(ui) else { return };
        let runs = there.trace(ui);
        cx.waits.set(cx.waits.get() || there.waits.get());
        if runs.is_none() {
            return;
        }
        fold_ui(cx, ui, &there);
        let has_image = cx.tower(&trace).is_some_and(|t| t.1.has_image());
        let picture = if has_image { cx.picture(ui, "picture of the comparison", &trace) } else { None };
        let on = On { tower: cx.tower(&trace), picture: picture.as_ref(), text: &trace.text };
        for part in Compared::ALL {
            if !heading_ui(cx, ui, part) {
                continue;
            }
            cx.steady(ui, part.name(), |ui| part_ui(cx, ui, &there, part, &on));
        }
    });
}

/// What there is to do while there is one pane.
fn empty_ui(cx: &Cx, ui: &mut Ui) {
    ui.weak("There is one pane, so nothing to compare it with.");
    if cx.figure {
        return;
    }
    ui.add_space(4.0);
    if ui.button("Open another pane").on_hover_text("Ctrl+T: a second run beside this one, the same at first").clicked()
    {
        cx.send(Command::whole("another pane", Doc::split));
    }
    ui.weak("Then change its prompt, model, head or method: this view says what the change does.");
}

/// Which panes are compared, and what differs between them.
fn sides_ui(cx: &Cx, ui: &mut Ui, with: usize) {
    let (at, n) = (own(cx), cx.doc.panes().len());
    ui.horizontal_wrapped(|ui| {
        ui.strong(format!("Pane {} minus pane", at + 1));
        if n == 2 || cx.figure {
            ui.strong((with + 1).to_string());
        } else {
            for i in (0..n).filter(|i| *i != at) {
                if ui.selectable_label(i == with, (i + 1).to_string()).clicked() {
                    cx.set("compared pane", move |p| p.shows.against = Some(i));
                }
            }
        }
    });
    let lines = differs(cx.pane, &cx.doc.panes()[with]);
    if lines.is_empty() {
        ui.weak("Nothing differs between them: change one thing in one of them.");
    }
    let words: Vec<[String; 3]> = lines.iter().map(|l| l.clone().map(|w| widgets::readable(&w))).collect();
    let room = (ui.available_width() - 150.0).max(120.0) / 2.0;
    egui::Grid::new("differs").num_columns(3).spacing([12.0, 2.0]).show(ui, |ui| {
        for [what, a, b] in &words {
            ui.weak(what);
            for side in [a, b] {
                ui.scope(|ui| {
                    ui.set_max_width(room);
                    ui.add(egui::Label::new(side).truncate());
                });
            }
            ui.end_row();
        }
    });
}

/// How tokens that do not meet one by one were put together.
fn fold_ui(cx: &Cx, ui: &mut Ui, there: &Cx) {
    let asked = PairingsOf { first: cx.pane.run.clone(), second: there.pane.run.clone() };
    let Some(pairings) = cx.need(ui, "pairings", &asked) else { return };
    let tower = cx.ready_trace().map(|t| cx.pane.tower_of(&t));
    let Some(pairing) = tower.and_then(|t| pairings.get(t)) else { return };
    let Some(words) = pairing.words() else { return };
    let pieces = pairing.pairs.iter().any(|p| p.first.len() + p.second.len() > 2);
    ui.horizontal_wrapped(|ui| {
        ui.small(words);
        if !pieces {
            return;
        }
        if cx.figure {
            ui.small(format!("pieces as {}", cx.pane.shows.fold.name()));
            return;
        }
        for fold in Fold::ALL {
            let on = cx.pane.shows.fold == fold;
            let tip = "What becomes of the values of several tokens that the other tokenizer has as one";
            if ui.selectable_label(on, fold.name()).on_hover_text(tip).clicked() && !on {
                cx.set("sum of pieces", move |p| p.shows.fold = fold);
            }
        }
    });
}

/// The heading of a part, which opens and closes it. Gives whether it is open.
fn heading_ui(cx: &Cx, ui: &mut Ui, part: Compared) -> bool {
    let open = cx.pane.shows.compared.contains(&part);
    if cx.figure {
        if open {
            ui.add_space(4.0);
            ui.strong(part.title());
        }
        return open;
    }
    ui.separator();
    let text = format!("{} {}", if open { "▼" } else { "▶" }, part.title());
    let button = egui::Button::new(RichText::new(text).strong()).frame(false);
    if ui.add(button).on_hover_text(format!("Opens and closes the comparison of {}", part.name())).clicked() {
        let mut parts = cx.pane.shows.compared.clone();
        parts.retain(|p| *p != part);
        parts.extend((!open).then_some(part));
        cx.set_look("open parts", move |p| p.shows.compared.clone_from(&parts));
    }
    open
}

fn part_ui(cx: &Cx, ui: &mut Ui, there: &Cx, part: Compared, on: &On) {
    if let Some(words) = methods(cx, there, part) {
        ui.small(words);
    }
    if let Some(why) = lacking(cx, there, part) {
        ui.weak(why);
        return;
    }
    let asked = match asked(cx, there, part) {
        Ok(asked) => asked,
        Err(why) => {
            ui.weak(why.to_string());
            return;
        }
    };
    let Some(found) = cx.need(ui, Spot::part("difference", part.name()), &asked) else { return };
    pictures::finding_ui(cx, ui, on, &found, &(found.clone() as _));
    if found.pictures.is_empty() && found.notes.is_empty() {
        ui.weak("Neither side has anything here.");
    }
}

/// The methods of both sides in words.
fn methods(cx: &Cx, there: &Cx, part: Compared) -> Option<String> {
    let title = |cx: &Cx| Some(info(cx, part)?.title);
    let (a, b) = (title(cx)?, title(there)?);
    Some(if a == b { a.to_string() } else { format!("{a} minus {b}") })
}

fn info(cx: &Cx, part: Compared) -> Option<&'static Info> {
    let kind = kind(cx, part)?;
    catalog::info(kind, cx.call(kind).method).ok()
}

/// Why one of the runs cannot serve its method, if it cannot.
fn lacking(cx: &Cx, there: &Cx, part: Compared) -> Option<String> {
    let lacks = |cx: &Cx| {
        let info = info(cx, part)?;
        Some(format!("{} {}.", info.title, cx.lacks(info)?))
    };
    let of = |pane: usize, cx: &Cx| Some(format!("In pane {}: {}", pane + 1, lacks(cx)?));
    of(own(cx), cx).or_else(|| of(other(cx)?, there))
}

/// The numbers of the first picture of the first open part.
fn table(cx: &Cx) -> Option<Table> {
    let there = cx.on_pane(other(cx)?);
    let trace = cx.ready_trace()?;
    let on = On { tower: cx.tower(&trace), picture: None, text: &trace.text };
    let open = Compared::ALL.into_iter().filter(|p| cx.pane.shows.compared.contains(p));
    let mut found = open.filter_map(|part| cx.ready(&asked(cx, &there, part).ok()?));
    found.find_map(|f| f.pictures.first().map(|p| pictures::table_of(&on, p)))
}
