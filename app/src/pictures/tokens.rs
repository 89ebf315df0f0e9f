//! Tokens as chips in reading order, and on the picture those that have a place there: heat, classes and fates are drawn
//! so.

use super::overlay::{self, Over};
use super::{On, strip};
use crate::cx::Cx;
use egui::{Color32, Rect, Ui};
use tokenscope_analysis::finding::Unit;

/// How one token looks.
#[derive(Clone, Copy, Default)]
pub struct Look {
    /// Background of its chip.
    pub chip: Color32,
    /// Whether the chip is struck out.
    pub struck: bool,
    /// How it is marked on the picture.
    pub over: Over,
}

/// What may be drawn over a token or a picture besides.
pub enum More {
    /// The chip of a token was drawn here.
    Chip(usize, Rect),
    /// The picture was drawn here.
    Picture(Rect),
}

/// Height of pictures in points.
pub fn picture_height(ui: &Ui) -> f32 {
    (ui.clip_rect().height() * 0.5).clamp(120.0, 420.0)
}

/// Draws every token of the shown stack of layers, if those are what `unit` counts. `say` is for the pointer and for
/// screen readers.
pub fn ui(
    cx: &Cx,
    ui: &mut Ui,
    on: &On,
    unit: &Unit,
    look: &dyn Fn(usize) -> Look,
    say: &dyn Fn(usize) -> String,
    more: &mut dyn FnMut(&Ui, More),
) {
    let Some(tower) = on.tokens(unit) else { return };
    let places = overlay::of_tokens(tower);
    let pictured = on.picture.is_some() && !places.is_empty();
    if let (Some(picture), true) = (on.picture, pictured) {
        let over = |i: usize| look(i).over;
        for rect in overlay::ui(cx, ui, picture, on, unit, &places, picture_height(ui), &over, say) {
            more(ui, More::Picture(rect));
        }
    }
    let chip = |i: usize| {
        let l = look(i);
        (l.chip, l.struck)
    };
    strip::ui(cx, ui, tower, pictured, chip, |ui, i, response| {
        more(ui, More::Chip(i, response.rect));
        response.on_hover_ui(|ui| drop(ui.label(say(i))));
    });
}
