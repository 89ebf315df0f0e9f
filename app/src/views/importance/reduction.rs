//! A reduction really carried out: what it keeps, merges and drops by layer, and what the model says then.

use super::super::picker;
use super::schedule;
use super::truth;
use crate::cx::Cx;
use crate::pictures::widgets::{self, Link};
use crate::pictures::{self, On, fates, plot};
use crate::state::{Command, Doc};
use crate::work::{AnswerOf, Reduced, ReducedOf, Serves as _, Stage};
use egui::{Ui, vec2};
use std::sync::Arc;
use tokenscope_analysis::finding::{self, Axis, FateStage, Fates, Measure, Plot, Series, SeriesRole, Style, Unit};
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::model::Writes;
use tokenscope_analysis::reduce::Fate;
use tokenscope_analysis::trace::{Positions, Tower, TowerTrace};

pub(super) fn asked(cx: &Cx) -> ReducedOf {
    ReducedOf::of(cx.pane, cx.call(Kind::Reduce))
}

/// The key beside the heading of the part: it is seen however little of the part fits.
pub(super) fn heading_ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace) {
    if cx.recorded() && cx.ready(&asked(cx)).is_none() {
        return;
    }
    // While another reduction is under way, the one before is on screen.
    if let Some(p) = cx.ready(&asked(cx)).or_else(|| cx.previous("reduction").filter(|_| !cx.outrun_at("reduction")))
        && p.fates.len() == tower.tokens.len()
    {
        fates::keys_ui(cx, ui, &fates::at(&shown(cx, ui, &p), cx.pane.cursor.at_layer));
    }
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace, on: &On) {
    // What a session keeps is shown without them.
    if cx.recorded() && cx.ready(&asked(cx)).is_none() {
        ui.weak("A recorded run has no weights, so no reduced model can be run. Open the model itself.");
        return;
    }
    picker::method_ui(cx, ui, Kind::Reduce);
    schedule::ui(cx, ui, on.tower.map_or(Tower::Text, |t| t.0));
    speaks_ui(cx, ui);
    let Some(p) = cx.need(ui, "reduction", &asked(cx)) else { return };
    if p.fates.len() != tower.tokens.len() {
        return;
    }
    let known = truth::known(cx, tower);
    let picture = shown(cx, ui, &p);
    let fates = fates::at(&picture, cx.pane.cursor.at_layer);
    ui.horizontal_wrapped(|ui| {
        bars_ui(cx, ui, &p);
        layers_ui(cx, ui, &p);
    });
    if cx.figure {
        ui.horizontal_wrapped(|ui| fates::keys_ui(cx, ui, &fates));
    }
    // What comes of it first, then what it did.
    answers_ui(cx, ui);
    fates::with(cx, ui, on, &picture, &mut |ui, more| truth::mark(cx, ui, known.as_ref(), &more));
    if let Some(k) = &known {
        let (left, all) = k.left(&fates);
        ui.small(format!("true tokens left: {left} of {all}"))
            .on_hover_text("Of the tokens that decide the answer, those kept or merged into others");
    }
    if !cx.figure {
        stages_ui(ui, &p);
    }
    outcome_ui(cx, ui, &p);
    cx.notes_ui(ui, "reduction");
}

/// Which model the pane is of, where panes stand beside each other before and after the reduction, and how to get there.
fn speaks_ui(cx: &Cx, ui: &mut Ui) {
    if cx.pane.reduced || cx.doc.panes().iter().any(|p| p.reduced) {
        ui.horizontal_wrapped(|ui| {
            ui.small("what comes next in this pane:");
            ui.small(egui::RichText::new(cx.pane.speaks()).strong());
            let (words, to) = if cx.pane.reduced { ("full model", false) } else { ("reduced", true) };
            if !cx.figure && ui.small_button(format!("show the {words} instead")).clicked() {
                cx.set("before or after", move |p| p.reduced = to);
            }
        });
    } else if !cx.figure {
        let tip = "The same run in a pane beside, of which one is of the full model and one of the reduced; Compare \
                   subtracts what comes next";
        if ui.small_button("With and without it side by side").on_hover_text(tip).clicked() {
            cx.send(Command::whole("before and after", Doc::before_and_after));
        }
    }
}

/// The reduction as a picture, made once for each.
fn shown(cx: &Cx, ui: &Ui, p: &Arc<Reduced>) -> Arc<Fates> {
    let tower = cx.ready_trace().and_then(|t| cx.tower(&t).map(|t| t.0)).unwrap_or(Tower::Text);
    let held: pictures::Held = p.clone();
    pictures::kept(ui, "fates of the reduction", &held, tower, || {
        let mut picture = p.plan.picture(tower);
        // A plan that leaves this stack alone says nothing about its tokens.
        if picture.at(None).len() != p.fates.len() {
            let whole = vec![finding::Fate::Kept; p.fates.len()];
            picture.stages = vec![FateStage::new("after all layers", None, whole)];
        }
        picture
    })
}

/// What each step of a schedule left, and what became of the positions.
fn stages_ui(ui: &mut Ui, p: &Reduced) {
    if p.stages.len() < 2 && p.stages.iter().all(|s| s.place.layer().is_none()) {
        return;
    }
    let gone = |f: &&Fate| matches!(f, Fate::Dropped(_));
    let words = |s: &Stage| {
        let anew = if s.positions == Positions::Renumber { ", positions counted anew" } else { "" };
        format!(
            "{}: {} of {} tokens left{anew}",
            s.place,
            s.fates.len() - s.fates.iter().filter(gone).count(),
            s.fates.len()
        )
    };
    let steps = if p.stages.len() == 1 { "1 step".into() } else { format!("{} steps", p.stages.len()) };
    egui::CollapsingHeader::new(steps).id_salt("steps").show(ui, |ui| {
        for s in &p.stages {
            ui.small(words(s));
        }
    });
}

/// A slider over the layers.
fn layers_ui(cx: &Cx, ui: &mut Ui, p: &Reduced) {
    let rows = &p.judgement.rows_by_layer;
    let n = rows.len();
    if n == 0 {
        return;
    }
    let now = cx.pane.cursor.at_layer.unwrap_or(n).min(n);
    let words = |l: usize| if l == n { "after all layers".to_string() } else { format!("entering layer {l}") };
    if cx.figure {
        ui.small(words(now));
    } else {
        ui.spacing_mut().slider_width = 96.0;
        let mut at = now;
        let label = ui.small(words(now));
        let slider = egui::Slider::new(&mut at, 0..=n).show_value(false);
        if ui.add(slider).labelled_by(label.id).on_hover_text("What is left at each layer").changed() {
            cx.send(Command::layer(Some(at).filter(|l| *l < n)));
        }
    }
}

/// A bar for the rows that each layer works on; a click shows what is left there.
fn bars_ui(cx: &Cx, ui: &mut Ui, p: &Reduced) {
    let rows = &p.judgement.rows_by_layer;
    let n = rows.len();
    if n == 0 {
        return;
    }
    let bars = |name: &'static str, of: &dyn Fn(usize) -> bool| {
        let points = rows.iter().enumerate().filter(|(l, _)| of(*l)).map(|(l, r)| [l as f64, *r as f64]);
        Series::new(name, Style::Bars, points.collect())
    };
    let now = cx.pane.cursor.at_layer.unwrap_or(n);
    let mut plot = Plot::new(
        "rows by layer",
        Axis::Unit(Unit::Layers),
        Measure::new("rows", "rows"),
        vec![Series { role: SeriesRole::Reference, ..bars("rows", &|_| true) }],
    );
    if now < n {
        plot.series.push(Series { role: SeriesRole::Chosen, ..bars("shown", &|l| l == now) });
    }
    let size = plot::Size { width: 24.0 * n as f32, height: 28.0, bare: true };
    if let Some(x) = plot::sized(cx, ui, &plot, size) {
        cx.send(Command::layer(Some((x.round().max(0.0) as usize).min(n - 1))));
    }
}

fn outcome_ui(cx: &Cx, ui: &mut Ui, p: &Reduced) {
    let j = &p.judgement;
    let effect = match (j.kl, j.top1_same, j.cosine) {
        (Some(kl), same, _) => format!(
            "KL {} nats · most probable token {}",
            widgets::number(kl as f32),
            if same == Some(true) { "unchanged" } else { "changed" }
        ),
        (_, _, Some(cosine)) => format!("cosine of the embedding to the full model's {cosine:.4}"),
        _ => String::new(),
    };
    ui.small(format!("{:.0}% of the operations · {effect}", j.flops_share * 100.0));
    let held = format!("keys and values {:.1} kB", j.kv_bytes_by_layer.iter().sum::<usize>() as f64 / 1e3);
    let [reduced, full] = [j.reduced_time, j.full_time].map(|t| t.as_secs_f64() * 1e3);
    // Times are another each time, and a figure is the same whenever it is made.
    ui.small(if cx.figure { held } else { format!("{held} · {reduced:.1} ms instead of {full:.1} ms") });
    if p.full.is_empty() {
        return;
    }
    egui::Grid::new("outputs").striped(true).spacing([12.0, 2.0]).show(ui, |ui| {
        ui.small("full model");
        ui.small("");
        ui.small("reduced model");
        ui.end_row();
        for (a, b) in p.full.iter().zip(&p.reduced).take(5) {
            ui.monospace(format!("{} {:.1}%", widgets::visible(&a.0), a.1 * 100.0));
            ui.colored_label(if a.0 == b.0 { cx.theme.weak } else { cx.theme.bad }, if a.0 == b.0 { "=" } else { "≠" });
            ui.monospace(format!("{} {:.1}%", widgets::visible(&b.0), b.1 * 100.0));
            ui.end_row();
        }
    });
}

/// How the full and the reduced model go on, token under token, with what differs marked.
fn answers_ui(cx: &Cx, ui: &mut Ui) {
    let writes = cx.ready_model().is_some_and(|m| m.model.info().writes == Writes::Causal);
    if !writes || cx.pane.tower == Some(tokenscope_analysis::trace::Tower::Vision) {
        return;
    }
    let full = cx.need(ui, "full answer", &AnswerOf { run: cx.pane.run.clone(), reduced: None });
    let reduced = cx.need(ui, "reduced answer", &AnswerOf { run: cx.pane.run.clone(), reduced: Some(asked(cx)) });
    let (Some(full), Some(reduced)) = (full, reduced) else { return };
    for (name, own, other) in [("full model goes on", &full, &reduced), ("reduced model goes on", &reduced, &full)] {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(1.0, 2.0);
            ui.small(name);
            ui.add_space(4.0);
            for (i, text) in own.iter().enumerate() {
                let same = other.get(i) == Some(text);
                let r = widgets::chip(cx, ui, text, cx.theme.chips[if same { 0 } else { 1 }], false, Link::None);
                if !same {
                    // Colour is not all: what differs is underlined, too.
                    let line = egui::Stroke::new(2.0, cx.theme.bad);
                    ui.painter().hline(r.rect.x_range(), r.rect.bottom(), line);
                }
            }
        });
    }
}
