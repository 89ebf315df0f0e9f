//! The merges that built the token of a clicked chip.

use crate::request::{Product, Request, Rows};
use crate::views::Cx;
use crate::views::widgets::{self, Link};

/// The chip that is open: name of its row, and its piece.
pub(super) type Open = (String, usize);

fn id() -> egui::Id {
    egui::Id::unique("open merges")
}

/// Opens the merges of a chip, or closes them if they are open.
pub(super) fn toggle(ui: &egui::Ui, chip: Open) {
    ui.data_mut(|d| match d.get_temp::<Open>(id()) == Some(chip.clone()) {
        true => drop(d.remove_temp::<Open>(id())),
        false => drop(d.insert_temp(id(), chip)),
    });
}

pub(super) fn merges_ui(cx: &Cx, ui: &mut egui::Ui, rows: &Rows) {
    let Some((name, piece)) = ui.data(|d| d.get_temp::<Open>(id())) else { return };
    let Some(row) = rows.rows.iter().position(|r| r.name == name) else { return };
    let Some(piece) = rows.rows[row].pieces.get(piece) else { return };
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = egui::vec2(2.0, 2.0);
        ui.small(format!("{name}: "));
        widgets::chip(cx, ui, &piece.token, cx.theme.chips[0], false, Link::None);
        ui.add_space(4.0);
        let Some(id) = piece.id else {
            ui.small("This row follows a rule and has no vocabulary.");
            return;
        };
        let request = Request::Merges(rows.sources[row].clone(), id);
        let Some(Product::Merges(merges)) = cx.need(ui, "merges", request) else { return };
        let Some(steps) = merges.as_ref() else {
            ui.small("This vocabulary is not of byte-pair kind, so nothing was merged.");
            return;
        };
        if steps.is_empty() {
            ui.small("A single piece of the alphabet; nothing was merged.");
        }
        for (i, s) in steps.iter().enumerate() {
            ui.small(format!("{}.", i + 1));
            widgets::chip(cx, ui, &s.left, cx.theme.chips[0], false, Link::None);
            widgets::chip(cx, ui, &s.right, cx.theme.chips[1], false, Link::None);
            ui.small(format!("rule {}", s.rank));
            ui.add_space(6.0);
        }
    });
}
