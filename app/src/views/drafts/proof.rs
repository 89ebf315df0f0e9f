//! The proof that what a method emits is the target's own text: a button, what is counted so far, the result.

use crate::cx::Cx;
use crate::jobs::{Spot, Status};
use crate::pictures::widgets::named;
use crate::work::{DraftOf, ProofOf};
use egui::Ui;
use tokenscope_analysis::decode::proof::{Proof, ROUNDS, Verdict};

/// Decodes that can be asked for.
const MOST: usize = 1_000_000;

/// Proves the method of `draft` where that is asked for; `spot` tells two decodes side by side apart.
pub(super) fn ui(cx: &Cx, ui: &mut Ui, spot: &'static str, draft: &DraftOf) {
    let (slot, number) =
        (egui::Id::unique("proof").with((cx.at, spot)), egui::Id::unique("decodes of a proof").with((cx.at, spot)));
    let decodes = ui.data(|d| d.get_temp(number)).unwrap_or(ROUNDS);
    let asked = ProofOf { draft: draft.clone(), decodes };
    if cx.figure {
        if let Some(proof) = cx.ready(&asked) {
            result_ui(cx, ui, &proof);
        }
        return;
    }
    // What was asked for another prompt or other parameters is not asked for these.
    let wanted = ui.data(|d| d.get_temp::<ProofOf>(slot)).is_some_and(|w| w == asked);
    if !wanted {
        ui.horizontal(|ui| {
            let tip = "Decodes this prompt many times and compares what comes first with what the target says by itself: \
                       greedily, exactly over few ids, and by a chi-square test";
            if ui.button("Prove").on_hover_text(tip).clicked() {
                ui.data_mut(|d| d.insert_temp(slot, asked.clone()));
            }
            let mut n = decodes;
            let drag = ui.add(egui::DragValue::new(&mut n).range(ROUNDS..=MOST).speed(1000.0).suffix(" decodes"));
            named(&drag, "decodes of the proof");
            if drag.on_hover_text("More decodes see smaller differences").changed() {
                ui.data_mut(|d| d.insert_temp(number, n));
            }
        });
        return;
    }
    let going = |ui: &mut Ui, done: f32| {
        ui.horizontal(|ui| {
            ui.add(egui::ProgressBar::new(done).desired_width(120.0).desired_height(3.0));
            ui.small("proving");
            if ui.small_button("Stop").on_hover_text("Leaves the proof undone").clicked() {
                ui.data_mut(|d| d.remove::<ProofOf>(slot));
            }
        });
    };
    match cx.status(Spot::part("proof", spot), &asked) {
        Status::Ready(proof) => result_ui(cx, ui, &proof),
        Status::Partly(done, proof) => {
            going(ui, done);
            result_ui(cx, ui, &proof);
        }
        Status::Running(done, _) => going(ui, done),
        Status::Failed(why) => {
            ui.colored_label(cx.theme.bad, why.to_string());
            if ui.small_button("Close").clicked() {
                ui.data_mut(|d| d.remove::<ProofOf>(slot));
            }
        }
    }
}

fn result_ui(cx: &Cx, ui: &mut Ui, proof: &Proof) {
    let lines = proof.lines();
    let Some((first, rest)) = lines.split_first() else { return };
    match proof.verdict() {
        Verdict::Holds => drop(ui.colored_label(cx.theme.good, format!("✔ {first}"))),
        Verdict::Broken => drop(ui.colored_label(cx.theme.bad, format!("✖ {first}"))),
        _ => drop(ui.label(first)),
    }
    for line in rest {
        ui.small(line);
    }
}
