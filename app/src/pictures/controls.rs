//! Controls in one grid: every label as wide as the widest, before its control, and the number behind a slider always
//! at the same place. As many side by side as there is room for; in each view and for each method alike.

use super::widgets::named;
use crate::cx::fixed;
use egui::{Align, Layout, Response, Ui, vec2};
use std::ops::RangeInclusive;

/// Widest label, in points; longer ones are cut and said in full under the pointer.
const LABEL: f32 = 96.0;
/// Length of a slider.
const SLIDER: f32 = 72.0;
/// Width of the number behind it.
const NUMBER: f32 = 48.0;
/// Room for the button that takes a value back.
const RESET: f32 = 16.0;
/// Between two controls.
const GAP: f32 = 12.0;

/// The cells of a grid.
#[derive(Clone, Copy)]
pub struct Grid {
    label: f32,
    across: usize,
    height: f32,
}

impl Grid {
    /// A grid for controls of these names.
    pub fn new<'a>(ui: &Ui, names: impl IntoIterator<Item = &'a str>) -> Self {
        let font = egui::TextStyle::Body.resolve(ui.style());
        let color = ui.visuals().text_color();
        let width = |name: &str| ui.painter().layout_no_wrap(name.into(), font.clone(), color).size().x;
        let label = names.into_iter().map(width).fold(0.0, f32::max).min(LABEL).ceil();
        let across = ((ui.available_width() + GAP) / (Self::cell(label) + GAP)) as usize;
        Self { label, across: across.max(1), height: ui.spacing().interact_size.y }
    }

    fn cell(label: f32) -> f32 {
        label + 6.0 + SLIDER + NUMBER + RESET
    }

    /// Draws the controls in rows; `add` is told which, and draws it behind its label.
    pub fn show(&self, ui: &mut Ui, names: &[String], mut add: impl FnMut(&mut Ui, usize, &Response)) {
        for (row, line) in names.chunks(self.across).enumerate() {
            ui.horizontal(|ui| {
                ui.spacing_mut().item_spacing.x = 0.0;
                for (i, name) in line.iter().enumerate() {
                    if i > 0 {
                        ui.add_space(GAP);
                    }
                    self.cell_ui(ui, name, |ui, label| add(ui, row * self.across + i, label));
                }
            });
        }
    }

    fn cell_ui(&self, ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui, &Response)) {
        let size = vec2(Self::cell(self.label).min(ui.available_width().max(self.label + 60.0)), self.height);
        ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
            ui.set_min_width(size.x);
            let label = vec2(self.label, self.height);
            let label = ui.allocate_ui_with_layout(label, Layout::left_to_right(Align::Center), |ui| {
                ui.set_min_width(self.label);
                ui.add(egui::Label::new(name).truncate())
            });
            ui.add_space(6.0);
            ui.spacing_mut().slider_width = SLIDER;
            ui.spacing_mut().item_spacing.x = 4.0;
            ui.spacing_mut().interact_size.x = NUMBER - 4.0;
            fixed(ui, name, |ui| ui.horizontal(|ui| add(ui, &label.inner)));
        });
    }
}

/// One slider with its label before it, for a place of its own.
pub fn slider<N: egui::emath::Numeric>(ui: &mut Ui, name: &str, value: &mut N, range: RangeInclusive<N>) -> Response {
    let label = ui.label(name);
    let slider = ui.add(egui::Slider::new(value, range)).labelled_by(label.id);
    named(&slider, name);
    slider
}
