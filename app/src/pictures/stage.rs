//! Which stage of a picture is looked at. Layers and steps are the document's, so that all pictures show the same one.

use crate::cx::Cx;
use crate::state::Command;
use egui::Ui;
use tokenscope_analysis::finding::Unit;

/// The stage that the document chooses among `n` of `unit`; `None` is the whole.
pub fn chosen(cx: &Cx, unit: &Unit, n: usize) -> Option<usize> {
    match unit {
        Unit::Layers => cx.pane.cursor.at_layer.filter(|l| *l < n),
        Unit::Steps => Some(cx.pane.cursor.round).filter(|_| n > 0).map(|r| r.min(n - 1)),
        _ => None,
    }
}

/// A slider over the stages; in a figure, the stage in words. `whole` is what stands for no stage at all.
pub fn ui(cx: &Cx, ui: &mut Ui, unit: &Unit, n: usize, whole: &str) -> Option<usize> {
    let now = chosen(cx, unit, n);
    if n == 0 || !matches!(unit, Unit::Layers | Unit::Steps) {
        return now;
    }
    let words = now.map_or(whole.to_string(), |i| unit.label(i));
    if cx.figure {
        ui.small(words);
        return now;
    }
    let layers = *unit == Unit::Layers;
    // One place more than there are layers stands for the whole.
    let last = if layers { n } else { n - 1 };
    let mut at = now.unwrap_or(last);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().slider_width = 120.0;
        let slider = egui::Slider::new(&mut at, 0..=last).show_value(false).text(words);
        if ui.add(slider).on_hover_text(format!("Which {} is shown", unit.name())).changed() {
            cx.send(if layers { Command::layer(Some(at).filter(|l| *l < n)) } else { Command::round(at) });
        }
    });
    now
}
