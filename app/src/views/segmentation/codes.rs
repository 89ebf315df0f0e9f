//! What the ids of a cut are worth: figures, how often each occurs, and what the method shows of its codebook.

use crate::cx::Cx;
use crate::pictures;
use crate::pictures::plot::{self, Size};
use crate::work::Cut;
use egui::Ui;
use tokenscope_analysis::finding::{Figure, Picture, Plot};

/// Plots stand side by side where each has this width.
const WIDE: f32 = 300.0;
/// Height of a plot.
const HIGH: f32 = 150.0;

pub(super) fn figures_ui(ui: &mut Ui, figures: &[Figure]) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 12.0;
        // A figure stays on one line, or its number would be taken for another's.
        ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Extend);
        for f in figures {
            ui.small(format!("{} {}", f.name, f.words())).on_hover_text(f.meaning.as_ref());
        }
    });
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui, cut: &Cut) {
    let plots: Vec<&Plot> = cut
        .found
        .pictures
        .iter()
        .filter_map(|p| if let Picture::Plot(p) = p { Some(p) } else { None })
        // The samples stand above already.
        .filter(|p| p.title != "samples")
        .collect();
    pictures::columns(ui, plots.len(), WIDE, |ui, i, width| {
        ui.small(&plots[i].title);
        // The last number of the axis stands half beyond it.
        plot::sized(cx, ui, plots[i], Size { width: width - 14.0, height: HIGH, bare: false });
    });
}
