//! A reduction really carried out: what it keeps, merges and drops by layer, and what the model says then.

use super::super::picture::{self, Mark};
use super::super::widgets::{self, Link};
use super::super::{Cx, picker};
use super::{picture_height, strip, truth};
use crate::state::Command;
use crate::work::{AnswerOf, Reduced, ReducedOf, Stage};
use egui::{Sense, Ui, pos2, vec2};
use std::borrow::Cow;
use std::sync::Arc;
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::model::Writes;
use tokenscope_analysis::reduce::Fate;
use tokenscope_analysis::trace::{Positions, TowerTrace};

pub(super) fn asked(cx: &Cx) -> ReducedOf {
    ReducedOf { scope: cx.doc.scope(), call: cx.call(Kind::Reduce) }
}

/// The key beside the heading of the part: it is seen however little of the part fits.
pub(super) fn heading_ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace) {
    if cx.recorded() {
        return;
    }
    // While another reduction is under way, the one before is on screen.
    if let Some(p) = cx.ready(&asked(cx)).or_else(|| cx.jobs.previous("reduction"))
        && p.fates.len() == tower.tokens.len()
    {
        keys_ui(cx, ui, &fates_at(&p, cx.doc.at_layer));
    }
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace, picture: Option<&Arc<Picture>>) {
    if cx.recorded() {
        ui.weak("A recorded run has no weights, so no reduced model can be run. Open the model itself.");
        return;
    }
    picker::method_ui(cx, ui, Kind::Reduce);
    let Some(p) = cx.need(ui, "reduction", &asked(cx)) else { return };
    if p.fates.len() != tower.tokens.len() {
        return;
    }
    let known = truth::known(cx, tower);
    let fates = fates_at(&p, cx.doc.at_layer);
    ui.horizontal_wrapped(|ui| {
        bars_ui(cx, ui, &p);
        layers_ui(cx, ui, &p);
    });
    if cx.figure {
        ui.horizontal_wrapped(|ui| keys_ui(cx, ui, &fates));
    }
    let stage = stage_at(&p, cx.doc.at_layer);
    let say = |i: usize| {
        let at = |step: usize| p.stages.get(step).map_or_else(String::new, |s| format!(" {}", s.place));
        let fate = match fates[i] {
            Fate::Kept => format!("token {i}: kept"),
            Fate::Merged(row) => format!("token {i}: merged into row {row}"),
            Fate::Aside(step) => format!("token {i}: set aside{}", at(step)),
            Fate::Dropped(step) => format!("token {i}: dropped{}", at(step)),
        };
        fate + &scores_words(&p, stage, i)
    };
    if let Some(picture) = picture {
        let mark = |i: usize| match fates[i] {
            Fate::Kept => Mark::default(),
            Fate::Merged(row) => {
                let group = cx.theme.group(row);
                Mark { fill: group.gamma_multiply(0.25), outline: Some(group), crossed: false }
            }
            Fate::Aside(_) => Mark { fill: cx.theme.veil, outline: None, crossed: false },
            Fate::Dropped(_) => Mark { fill: cx.theme.veil, outline: None, crossed: true },
        };
        let drawn = picture::paint(cx, ui, picture, tower, picture_height(ui), &mark, &say);
        for (k, rect) in known.iter().flat_map(|k| drawn.iter().map(move |r| (k, *r))) {
            k.mark_picture(cx, ui, rect);
        }
    }
    let look = |i: usize| match fates[i] {
        Fate::Kept => (cx.theme.chips[0], false),
        Fate::Merged(row) => (cx.theme.group(row), false),
        Fate::Aside(_) => (cx.theme.background, false),
        Fate::Dropped(_) => (cx.theme.background, true),
    };
    strip::ui(cx, ui, tower, picture.is_some(), look, |ui, i, chip| {
        if let Some(k) = &known {
            k.mark_chip(cx, ui, i, chip.rect);
        }
        chip.on_hover_ui(|ui| drop(ui.label(say(i))));
    });
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
    answers_ui(cx, ui);
}

/// The last step that has been done by the time that `layer` begins; `None` is after everything.
fn stage_at(p: &Reduced, layer: Option<usize>) -> Option<usize> {
    p.stages.iter().rposition(|s| layer.is_none_or(|l| s.place.is_before(l)))
}

/// What became of each token by the time that `layer` begins.
fn fates_at(p: &Reduced, layer: Option<usize>) -> Cow<'_, [Fate]> {
    match stage_at(p, layer) {
        Some(stage) => Cow::Borrowed(&p.stages[stage].fates),
        None => Cow::Owned(vec![Fate::Kept; p.fates.len()]),
    }
}

/// By what a token was chosen, at the last step so far that scored it.
fn scores_words(p: &Reduced, stage: Option<usize>, token: usize) -> String {
    let so_far = &p.stages[..stage.map_or(0, |s| s + 1)];
    let scored = |s: &Stage| Some((s.scores.get(token).copied().flatten()?, s.threshold));
    match so_far.iter().rev().find_map(scored) {
        Some((score, Some(threshold))) => {
            format!("\nscore {}, goes below {}", widgets::number(score), widgets::number(threshold))
        }
        Some((score, None)) => format!("\nscore {}", widgets::number(score)),
        None => String::new(),
    }
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
    ui.collapsing(format!("{} steps", p.stages.len()), |ui| {
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
    let now = cx.doc.at_layer.unwrap_or(n).min(n);
    let words = |l: usize| if l == n { "after all layers".to_string() } else { format!("entering layer {l}") };
    if cx.figure {
        ui.small(words(now));
    } else {
        ui.spacing_mut().slider_width = 96.0;
        let mut at = now;
        let slider = egui::Slider::new(&mut at, 0..=n).show_value(false).text(words(now));
        if ui.add(slider).on_hover_text("What is left at each layer").changed() {
            cx.send(Command::AtLayer(Some(at).filter(|l| *l < n)));
        }
    }
}

/// A bar for the rows that each layer works on.
fn bars_ui(cx: &Cx, ui: &mut Ui, p: &Reduced) {
    let rows = &p.judgement.rows_by_layer;
    let n = rows.len();
    if n == 0 {
        return;
    }
    let now = cx.doc.at_layer.unwrap_or(n).min(n);
    let width = ui.available_width().min(24.0 * n as f32);
    let (rect, response) = ui.allocate_exact_size(vec2(width, 28.0), Sense::click() - Sense::FOCUSABLE);
    let most = rows.iter().copied().max().unwrap_or(1).max(1) as f32;
    let step = rect.width() / n as f32;
    for (l, &k) in rows.iter().enumerate() {
        let x = rect.left() + l as f32 * step;
        let top = rect.bottom() - (k as f32 / most * rect.height()).max(1.0);
        let bar = egui::Rect::from_min_max(pos2(x, top), pos2(x + (step - 1.0).max(1.0), rect.bottom()));
        ui.painter().rect_filled(bar, 0.0, if l == now { cx.theme.accent } else { cx.theme.line });
    }
    let list: Vec<String> = rows.iter().map(usize::to_string).collect();
    let label = format!("rows by layer: {}", list.join(", "));
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
    if let Some(at) = response.hover_pos() {
        let l = (((at.x - rect.left()) / step) as usize).min(n - 1);
        if response.clicked() {
            cx.send(Command::AtLayer(Some(l)));
        }
        response.on_hover_text_at_pointer(format!("layer {l} works on {} rows", rows[l]));
    }
}

fn keys_ui(cx: &Cx, ui: &mut Ui, fates: &[Fate]) {
    let count = |f: fn(&Fate) -> bool| fates.iter().filter(|x| f(x)).count();
    let (kept, merged) = (count(|f| *f == Fate::Kept), count(|f| matches!(f, Fate::Merged(_))));
    ui.spacing_mut().item_spacing.x = 4.0;
    widgets::key(ui, cx.theme.chips[0], cx.theme.line, &format!("{kept} kept"));
    if merged > 0 {
        let mut rows: Vec<usize> =
            fates.iter().filter_map(|f| if let Fate::Merged(r) = f { Some(*r) } else { None }).collect();
        rows.sort_unstable();
        rows.dedup();
        let words = format!("{merged} merged into {}, one colour a group", rows.len());
        widgets::key(ui, cx.theme.group(1), cx.theme.line, &words);
    }
    let aside = count(|f| matches!(f, Fate::Aside(_)));
    if aside > 0 {
        widgets::key(ui, cx.theme.background, cx.theme.line, &format!("{aside} set aside"));
    }
    let dropped = fates.len() - kept - merged - aside;
    widgets::key(ui, cx.theme.background, cx.theme.weak, &format!("{dropped} dropped, crossed out"));
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
    ui.small(format!(
        "keys and values {:.1} kB · {:.1} ms instead of {:.1} ms",
        j.kv_bytes_by_layer.iter().sum::<usize>() as f64 / 1e3,
        j.reduced_time.as_secs_f64() * 1e3,
        j.full_time.as_secs_f64() * 1e3
    ));
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
    if !writes || cx.doc.tower == Some(tokenscope_analysis::trace::Tower::Vision) {
        return;
    }
    let full = cx.need(ui, "full answer", &AnswerOf { run: cx.doc.run(), reduced: None });
    let reduced = cx.need(ui, "reduced answer", &AnswerOf { run: cx.doc.run(), reduced: Some(asked(cx)) });
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokenscope_analysis::reduce::{Half, Judgement, Place, Plan};

    #[test]
    fn a_step_shows_from_the_layer_after_it_and_says_by_what_it_chose() {
        let judgement = Judgement {
            kl: None,
            top1_same: None,
            cosine: None,
            full_top: vec![],
            reduced_top: vec![],
            rows_by_layer: vec![2, 2],
            kv_bytes_by_layer: vec![],
            flops_share: 1.0,
            full_time: Duration::ZERO,
            reduced_time: Duration::ZERO,
        };
        let cut = vec![Fate::Kept, Fate::Dropped(0)];
        let stage = Stage {
            place: Place::Decoder(0, Half::After),
            fates: cut.clone(),
            scores: vec![None, Some(0.25)],
            threshold: Some(0.5),
            positions: Positions::Keep,
        };
        let p = Reduced {
            plan: Plan::default(),
            fates: cut.clone(),
            stages: vec![stage],
            kept: 0.5,
            judgement,
            full: vec![],
            reduced: vec![],
        };
        assert_eq!(*fates_at(&p, Some(0)), [Fate::Kept, Fate::Kept]);
        assert_eq!(*fates_at(&p, Some(1)), *cut);
        assert_eq!(*fates_at(&p, None), *cut);
        assert_eq!(scores_words(&p, stage_at(&p, Some(0)), 1), "");
        assert_eq!(scores_words(&p, stage_at(&p, None), 1), "\nscore 0.250, goes below 0.500");
    }
}
