//! One number per token by a chosen score, as colour on text and picture.

use super::super::picture::{self, Mark};
use super::super::widgets;
use super::super::{Cx, picker};
use super::{picture_height, strip, truth};
use crate::state::Command;
use crate::work::ScoreOf;
use egui::{Color32, Ui};
use std::sync::Arc;
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::trace::TowerTrace;

pub(super) fn asked(cx: &Cx) -> ScoreOf {
    ScoreOf { scope: cx.doc.scope(), targets: cx.doc.targets(), call: cx.call(Kind::Score) }
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace, picture: Option<&Arc<Picture>>) {
    picker::method_ui(cx, ui, Kind::Score);
    explained_ui(cx, ui, tower);
    let Some(scores) = cx.need(ui, "score", &asked(cx)) else { return };
    // The first token often takes more than all others together; it can be left out of the scale, here as in maps.
    let scaled = scores.values.iter().skip(usize::from(cx.doc.scale.mask_sink)).flatten();
    let high = scaled.map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0, f32::max);
    let low = if scores.signed { -high } else { 0.0 };
    let color = |v: f32| {
        let share = v / high.max(f32::MIN_POSITIVE);
        if scores.signed { cx.theme.signed(share) } else { cx.theme.magnitude(share) }
    };
    let known = truth::known(cx, tower);
    let masked = |i: usize| i == 0 && cx.doc.scale.mask_sink;
    let value = |i: usize| scores.values.get(i).copied().flatten();
    let say = |i: usize| {
        let v = value(i).map_or("no value".into(), |v| format!("{} {}", widgets::number(v), scores.unit));
        let v = if masked(i) { format!("{v}, left out of the scale") } else { v };
        let decides = known.as_ref().is_some_and(|k| k.is_true(i));
        format!("token {i}: {v}{}", if decides { ", decides the answer" } else { "" })
    };
    if let Some(p) = picture {
        let mark = |i: usize| Mark {
            fill: value(i).filter(|_| !masked(i)).map_or(Color32::TRANSPARENT, |v| color(v).gamma_multiply(0.65)),
            ..Mark::default()
        };
        let drawn = picture::paint(cx, ui, p, tower, picture_height(ui), &mark, &say);
        for (k, rect) in known.iter().flat_map(|k| drawn.iter().map(move |r| (k, *r))) {
            k.mark_picture(cx, ui, rect);
        }
    }
    let look = |i: usize| (value(i).filter(|_| !masked(i)).map_or(cx.theme.line, color), false);
    strip::ui(cx, ui, tower, picture.is_some(), look, |ui, i, chip| {
        if let Some(k) = &known {
            k.mark_chip(cx, ui, i, chip.rect);
        }
        chip.on_hover_ui(|ui| drop(ui.label(say(i))));
    });
    ui.horizontal_wrapped(|ui| {
        widgets::legend(cx, ui, low, high, scores.unit, scores.signed);
        sink_ui(cx, ui);
    });
    cx.notes_ui(ui, "score");
    if let Some(k) = &known {
        k.ui(cx, ui, &scores);
    }
}

/// Whether the first token is left out of the scale; a figure says so in words.
fn sink_ui(cx: &Cx, ui: &mut Ui) {
    let mut scale = cx.doc.scale;
    if cx.figure {
        if scale.mask_sink {
            ui.small("without the first token");
        }
    } else if ui
        .checkbox(&mut scale.mask_sink, "mask sink")
        .on_hover_text("Leaves the first token out of the scale, where attention often piles up; of the maps, too")
        .changed()
    {
        cx.send(Command::Scale(scale));
    }
}

/// Which predictions are explained, in words.
fn explained_ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace) {
    let name = |i: usize| tower.tokens.get(i).map_or(String::new(), |t| widgets::visible(&t.text));
    let words = match cx.doc.selection.tokens() {
        [] => "for the last token".into(),
        [i] => format!("for token {i} {}", name(*i)),
        all => format!("mean over {} selected tokens, {} to {}", all.len(), all[0], all[all.len() - 1]),
    };
    ui.small(words);
}
