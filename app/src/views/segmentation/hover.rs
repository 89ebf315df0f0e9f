//! What the pointer is on among the pieces of a cut, in words and marked with its twins.

use egui::{Id, Response, Ui};
use tokenscope_analysis::finding::{Cuts, Piece};

/// What the pointer was on in the last frame, so that its twins are marked in this one.
pub(super) fn hovered(ui: &Ui, slot: &'static str) -> Option<(usize, Option<u32>)> {
    ui.data(|d| d.get_temp(place(ui, slot)))
}

/// Where that is kept: several panes may show a cut of one kind.
fn place(ui: &Ui, slot: &'static str) -> Id {
    ui.scope_id().with((slot, "hovered"))
}

fn hover(ui: &Ui, slot: &'static str, now: Option<(usize, Option<u32>)>) {
    let id = place(ui, slot);
    if hovered(ui, slot) == now {
        return;
    }
    ui.data_mut(|d| match now {
        Some(now) => drop(d.insert_temp(id, now)),
        None => drop(d.remove_temp::<(usize, Option<u32>)>(id)),
    });
    ui.ctx().request_repaint();
}

/// What a screen reader says, and what stands under the pointer.
pub(super) fn say(
    ui: &Ui,
    response: Response,
    cuts: &Cuts,
    slot: &'static str,
    at: Option<usize>,
    words: impl Fn(usize, &Piece) -> String,
) {
    let place = at.and_then(|i| cuts.pieces.get(i).map(|p| words(i, p)));
    let label =
        place.iter().fold(format!("{} in {} pieces", cuts.title, cuts.pieces.len()), |l, w| format!("{l}, at {w}"));
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
    hover(ui, slot, at.and_then(|i| cuts.pieces.get(i).map(|p| (i, p.id))));
    if let Some(words) = place {
        response.on_hover_text_at_pointer(words);
    }
}
