//! Several reductions side by side at one budget: what each keeps of the same input, and how far they agree.

use super::retention::reduced;
use crate::cx::Cx;
use crate::jobs::{Spot, Status};
use crate::pictures::widgets::named;
use crate::pictures::{self, On, fates, table};
use crate::work::{AtShareOf, Reduced};
use egui::Ui;
use serde_json::json;
use std::sync::Arc;
use tokenscope_analysis::catalog;
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::method::{Info, Kind};
use tokenscope_analysis::reduce::overlap;
use tokenscope_analysis::token::TokenKind;
use tokenscope_analysis::trace::{Tower, TowerTrace};

/// Methods that are drawn; of more there is no room for a look at once.
const MOST: usize = 6;
/// Width of a small picture, in points.
const NARROW: f32 = 200.0;

/// A method and what it did.
type Done = (&'static Info, Arc<Reduced>);

pub(super) fn ui(cx: &Cx, ui: &mut Ui, on: &On) {
    let Some((name, tower)) = on.tower else { return };
    let chosen: Vec<&'static Info> = catalog::of(Kind::Reduce)
        .filter(|i| cx.pane.shows.curves.contains(&i.id) && i.budget.is_some() && cx.lacks(i).is_none())
        .collect();
    if chosen.len() < 2 {
        return;
    }
    share_ui(cx, ui);
    let mut done: Vec<Done> = Vec::new();
    for info in chosen.iter().take(MOST) {
        let share = (cx.pane.shows.share.clamp(0.0, 1.0) * 1000.0).round() as u32;
        match cx.status(Spot::part("side by side", info.id), &AtShareOf { reduced: reduced(cx, info), share }) {
            Status::Ready(p) if p.fates.len() == tower.tokens.len() => done.push((*info, Arc::clone(&p))),
            Status::Ready(_) => {}
            Status::Running(share, _) | Status::Partly(share, _) => {
                ui.horizontal(|ui| {
                    ui.add(egui::ProgressBar::new(share).desired_width(80.0).desired_height(3.0));
                    ui.small(info.title);
                });
            }
            Status::Failed(why) => drop(ui.colored_label(cx.theme.bad, format!("{}: {why}", info.title))),
        }
    }
    if chosen.len() > MOST {
        ui.small(format!("the first {MOST} of {} methods", chosen.len()));
    }
    pictures::columns(ui, done.len(), NARROW, |ui, i, _| one_ui(cx, ui, on, name, &done[i]));
    if done.len() > 1 {
        overlap_ui(cx, ui, tower, &done);
    }
}

/// The budget of all of them.
fn share_ui(cx: &Cx, ui: &mut Ui) {
    let mut share = cx.pane.shows.share;
    if cx.figure {
        ui.label(format!("Side by side, {:.0}% kept", share * 100.0));
        return;
    }
    ui.add_space(6.0);
    ui.horizontal(|ui| {
        let label = ui.strong("Side by side at");
        ui.spacing_mut().slider_width = 110.0;
        let slider = egui::Slider::new(&mut share, 0.02..=1.0).fixed_decimals(2).text("kept");
        let slider = ui.add(slider).labelled_by(label.id);
        named(&slider, "share kept side by side");
        let tip = "The methods of the curves, each with the budget that comes closest to keeping this share";
        if slider.on_hover_text(tip).changed() {
            cx.set("budget side by side", move |p| p.shows.share = share);
        }
    });
}

fn one_ui(cx: &Cx, ui: &mut Ui, on: &On, name: Tower, (info, p): &Done) {
    ui.strong(info.title);
    let j = &p.judgement;
    let mut words = vec![format!("{:.0}% kept", p.kept * 100.0)];
    words.extend(j.kl.map(|kl| format!("KL {kl:.3}")));
    words.extend(j.top1_same.map(|same| if same { "same next word" } else { "another next word" }.into()));
    words.extend(j.cosine.filter(|_| j.kl.is_none()).map(|c| format!("cosine {c:.3}")));
    ui.small(words.join(" · "));
    let held: pictures::Held = p.clone();
    let picture = pictures::kept(ui, "fates side by side", &held, name, || p.plan.picture(name));
    if picture.at(None).len() == p.fates.len() {
        fates::with(cx, ui, on, &picture, &mut |_, _| {});
    } else {
        ui.weak("leaves these tokens alone");
    }
}

/// How far methods agree.
struct Agreement {
    /// Each pair of them.
    table: Table,
    /// Tokens that all keep and that none keeps, of how many.
    counts: [usize; 3],
}

/// How far the methods agree, counted when another one of them is there and not in every frame.
fn overlap_ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace, done: &[Done]) {
    let Some((_, first)) = done.first() else { return };
    let held: pictures::Held = first.clone();
    let agreement = pictures::kept(ui, "overlap", &held, Same(done.to_vec()), || agreement(tower, done));
    let Agreement { table, counts: [every, none, n] } = &*agreement;
    ui.add_space(6.0);
    let meaning = "What both keep, as a share of what at least one of them keeps (intersection over union)";
    ui.strong("Overlap of what is kept").on_hover_text(meaning);
    table::ui(cx, ui, table);
    ui.small(format!("of {n} tokens all methods keep {every}, none keeps {none}"));
}

/// The same methods in the same order, with the very same reductions.
#[derive(Clone)]
struct Same(Vec<Done>);

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Done, &Done)| a.0.id == b.0.id && Arc::ptr_eq(&a.1, &b.1);
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

fn agreement(tower: &TowerTrace, done: &[Done]) -> Agreement {
    // What is no piece of the picture is kept by all and would only hide how they differ.
    let counts: Vec<bool> = match tower.has_image() {
        true => tower.tokens.iter().map(|t| t.kind == TokenKind::Image).collect(),
        false => vec![true; tower.tokens.len()],
    };
    let names = done.iter().map(|d| d.0.title);
    let columns: Vec<&str> = std::iter::once("overlap").chain(names).collect();
    let mut table = Table::new(&columns).titled("overlap of what is kept");
    for (info, a) in done {
        let share = |(_, b): &Done| json!(overlap(&a.fates, &b.fates, &counts));
        table.rows.push(std::iter::once(json!(info.title)).chain(done.iter().map(share)).collect());
    }
    let kept = |i: usize| done.iter().filter(|d| d.1.fates.get(i).is_some_and(|f| f.is_there())).count();
    let all = (0..tower.tokens.len()).filter(|i| counts[*i]);
    let (mut every, mut none) = (0, 0);
    all.for_each(|i| match kept(i) {
        0 => none += 1,
        n if n == done.len() => every += 1,
        _ => {}
    });
    let n = counts.iter().filter(|c| **c).count();
    Agreement { table, counts: [every, none, n] }
}
