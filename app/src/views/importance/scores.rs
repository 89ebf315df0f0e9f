//! One number per token by a chosen score, as colour on text and picture.

use super::super::picker;
use super::{faithful, gather, truth};
use crate::cx::Cx;
use crate::pictures::{self, On, heat, widgets};
use crate::state::Command;
use crate::work::{ScoreOf, Serves as _};
use egui::Ui;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::trace::{Tower, TowerTrace};

pub(super) fn asked(cx: &Cx) -> ScoreOf {
    ScoreOf::of(cx.pane, cx.call(Kind::Score))
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace, on: &On) {
    picker::method_ui(cx, ui, Kind::Score);
    gather::controls_ui(cx, ui, tower);
    let Some(scores) = cx.need(ui, "score", &asked(cx)) else { return };
    let known = truth::known(cx, tower);
    let name = on.tower.map_or(Tower::Text, |t| t.0);
    let gathered = gather::shown(cx, ui);
    let heat = gathered.as_ref().map_or_else(|| scores.heat(name), |g| g.heat(&scores, name));
    let tokens = gathered.as_ref().is_none_or(gather::Shown::of_tokens);
    let note = |i: usize| {
        if !tokens {
            return String::new();
        }
        let of = gathered.as_ref().map_or(String::new(), |g| g.note(i));
        if known.as_ref().is_some_and(|k| k.is_true(i)) { of + ", decides the answer" } else { of }
    };
    let scale = heat::with(cx, ui, on, &heat, None, &note, &mut |ui, more| {
        gathered.iter().for_each(|g| g.mark(cx, ui, &more));
        truth::mark(cx, ui, known.as_ref(), &more);
    });
    ui.horizontal_wrapped(|ui| {
        if let Some(scale) = scale {
            scale.legend_ui(cx, ui);
        }
        explained_ui(cx, ui, tower);
        sink_ui(cx, ui);
    });
    if let Some(k) = &known {
        k.ui(cx, ui, &scores);
    }
    pictures::finding_ui(cx, ui, on, &scores.also, &(scores.clone() as _));
    faithful::ui(cx, ui);
}

/// Whether the first token is left out of the scale; a figure says so in words.
fn sink_ui(cx: &Cx, ui: &mut Ui) {
    let mut scale = cx.pane.shows.scale;
    if cx.figure {
        if scale.mask_sink {
            ui.small("without the first token");
        }
    } else if ui
        .checkbox(&mut scale.mask_sink, "mask sink")
        .on_hover_text("Leaves the first token out of the scale, where attention often piles up; of the maps, too")
        .changed()
    {
        cx.set_look("colour scale", move |p| p.shows.scale = scale);
    }
}

/// Which predictions are explained, in words.
fn explained_ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace) {
    let name = |i: usize| tower.tokens.get(i).map_or(String::new(), |t| widgets::visible(&t.text));
    let words = match cx.pane.aim.tokens() {
        [] if tower.class_token.is_some() => "for the class token".into(),
        [] => "for the last token".into(),
        [i] => format!("for token {i} {}", name(*i)),
        all => format!("mean over {} selected tokens, {} to {}", all.len(), all[0], all[all.len() - 1]),
    };
    ui.small(words);
    let Some(contrast) = &cx.pane.contrast else { return };
    ui.small(format!("rather than {}", widgets::visible(&contrast.text)))
        .on_hover_text("The difference of two logits is explained: of what is predicted, less of this token");
    if !cx.figure {
        let shut = ui.small_button("✖").on_hover_text("Explains the prediction by itself again");
        widgets::named(&shut, "rather than nothing");
        if shut.clicked() {
            cx.send(Command::contrast(None, None));
        }
    }
}
