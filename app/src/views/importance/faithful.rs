//! How faithful the shown score is: what the model still says without the tokens that it puts first, and with them alone.

use super::scores;
use crate::cx::Cx;
use crate::pictures::plot;
use crate::work::FaithfulOf;
use egui::Ui;
use tokenscope_analysis::finding::Picture;

const TIP: &str = "Takes the tokens away that the score puts first, and gives the model those alone, step by step, and \
                   holds both against random order";
/// Width from which both curves stand beside each other, in points.
const BESIDE: f32 = 560.0;

pub(super) fn ui(cx: &Cx, ui: &mut Ui) {
    let open = cx.pane.shows.faithful;
    if !cx.figure {
        let text =
            format!("{} faithfulness: deletion and insertion against random order", if open { "▼" } else { "▶" });
        let button = egui::Button::new(egui::RichText::new(text).small()).frame(false);
        if ui.add(button).on_hover_text(TIP).clicked() {
            cx.set("faithfulness", move |p| p.shows.faithful = !open);
        }
    }
    if !open {
        return;
    }
    if cx.recorded() {
        ui.weak("A recorded run has no weights, so no token can be taken away. Open the model itself.");
        return;
    }
    let Some(found) = cx.need(ui, "faithful", &FaithfulOf(scores::asked(cx))) else { return };
    let plots: Vec<_> =
        found.finding.pictures.iter().filter_map(|p| if let Picture::Plot(p) = p { Some(p) } else { None }).collect();
    let width = ui.available_width();
    let beside = width >= BESIDE;
    let size =
        plot::Size { width: if beside { (width - 16.0) / 2.0 } else { width }.min(440.0), height: 180.0, bare: false };
    let all = |ui: &mut Ui| {
        for plot in plots {
            ui.vertical(|ui| {
                ui.set_max_width(size.width);
                ui.small(format!("{}: {}", plot.title, plot.y.words()));
                plot::sized(cx, ui, plot, size);
            });
        }
    };
    if beside {
        ui.horizontal_top(all)
    } else {
        ui.vertical(all)
    };
    ui.horizontal_wrapped(|ui| {
        for f in &found.finding.figures {
            ui.small(format!("{}: {}", f.name, f.words())).on_hover_text(f.meaning.as_ref());
        }
    });
    cx.notes_ui(ui, "faithful");
}
