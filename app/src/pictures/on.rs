//! What the elements of a picture are in the shown input: their names, how they stand out, and what follows the pointer.

use super::widgets;
use crate::cx::{Cx, Standing};
use egui::{Response, Ui};
use std::sync::Arc;
use tokenscope_analysis::finding::Unit;
use tokenscope_analysis::image;
use tokenscope_analysis::token::{Token, TokenKind};
use tokenscope_analysis::trace::{Tower, TowerTrace};

/// The input that pictures are drawn on.
#[derive(Clone, Copy, Default)]
pub struct On<'a> {
    /// The stack of layers that is shown.
    pub tower: Option<(Tower, &'a TowerTrace)>,
    /// The input's picture.
    pub picture: Option<&'a Arc<image::Picture>>,
    /// The input's text.
    pub text: &'a str,
}

impl<'a> On<'a> {
    /// The tokens that `unit` counts, where they are those of the shown stack of layers.
    pub fn tokens(&self, unit: &Unit) -> Option<&'a TowerTrace> {
        match (unit, self.tower) {
            (Unit::Tokens(t), Some((name, tower))) if *t == name => Some(tower),
            _ => None,
        }
    }

    fn token(&self, unit: &Unit, i: usize) -> Option<&'a Token> {
        self.tokens(unit)?.tokens.get(i)
    }

    /// Whether element `i` is a token of a picture.
    pub fn is_piece(&self, unit: &Unit, i: usize) -> bool {
        self.token(unit, i).is_some_and(|t| t.kind == TokenKind::Image)
    }

    /// Element `i` in words: `token 5 ·fox`.
    pub fn name(&self, unit: &Unit, i: usize) -> String {
        match self.token(unit, i) {
            Some(t) => format!("token {i} {}", widgets::visible(&t.text)),
            None => unit.label(i),
        }
    }

    /// Element `i` as short as it can be said where the unit is known.
    pub fn short(&self, unit: &Unit, i: usize) -> String {
        match (unit, self.token(unit, i)) {
            // Of a piece of a picture its place says more than that it is one.
            (_, Some(t)) if t.kind == TokenKind::Image => t.text.rsplit(' ').next().unwrap_or(&t.text).to_string(),
            (_, Some(t)) => widgets::visible(&t.text),
            (Unit::Named(names), _) => names.get(i).cloned().unwrap_or_default(),
            (Unit::Layers, _) => format!("L{i}"),
            (Unit::Heads { per_layer }, _) => format!("{}.{}", i / per_layer.max(&1), i % per_layer.max(&1)),
            _ => i.to_string(),
        }
    }

    /// How element `i` stands out.
    pub fn standing(&self, cx: &Cx, unit: &Unit, i: usize) -> Standing {
        let here = |on: bool| if on { Standing::Hovered } else { Standing::Plain };
        match unit {
            Unit::Tokens(_) => match self.token(unit, i) {
                Some(t) => cx.standing(i, t.id),
                None => Standing::Plain,
            },
            Unit::Bytes => here(cx.hovered.touches(i, i + 1)),
            Unit::Ids => here(cx.hovered.id == u32::try_from(i).ok()),
            Unit::Positions => here(cx.hovered.decoded == Some(i)),
            _ => Standing::Plain,
        }
    }

    /// Tells the other pictures that element `i` is under the pointer, and selects it with a click.
    pub fn follow(&self, cx: &Cx, ui: &Ui, response: &Response, unit: &Unit, i: usize) {
        self.hover(cx, unit, i);
        if response.clicked() && self.token(unit, i).is_some() {
            cx.pick(ui, i, i);
        }
    }

    /// The menu of the token that was under the pointer when the right button went down.
    pub fn menu_ui(&self, cx: &Cx, ui: &Ui, response: &Response, unit: &Unit, under: Option<usize>) {
        let slot = response.id.with("token of the menu");
        if response.secondary_clicked() {
            match under {
                Some(i) => drop(ui.data_mut(|d| d.insert_temp(slot, i))),
                None => ui.data_mut(|d| d.remove::<usize>(slot)),
            }
        }
        let Some(i) = ui.data(|d| d.get_temp::<usize>(slot)) else { return };
        if let Some(token) = self.token(unit, i) {
            response.context_menu(|ui| widgets::Link::Token(i, token).menu_ui(cx, ui));
        }
    }

    /// Tells the other pictures that element `i` is under the pointer.
    pub fn hover(&self, cx: &Cx, unit: &Unit, i: usize) {
        match unit {
            Unit::Tokens(_) => {
                let Some(t) = self.token(unit, i) else { return };
                cx.hover_token(i, Some(t));
            }
            Unit::Bytes => cx.hover.borrow_mut().bytes = Some((i, i + 1)),
            Unit::Ids => cx.hover.borrow_mut().id = u32::try_from(i).ok(),
            Unit::Positions => cx.hover.borrow_mut().decoded = Some(i),
            _ => {}
        }
    }
}
