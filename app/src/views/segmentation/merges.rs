//! A clicked chip: the merges that built its token, and the other encodings of its word.

use crate::cx::Cx;
use crate::keys::RowSource;
use crate::pictures::widgets::{self, Link};
use crate::work::{EncodingsOf, MergesOf, Rows};
use egui::Ui;
use tokenscope_analysis::segment::text::{Piece, Row, word_of};
use tokenscope_analysis::tokenize::MAX_SPELLING;

/// The chip that is open: name of its row, and its piece.
pub(super) type Open = (String, usize);

fn id(pane: usize) -> egui::Id {
    egui::Id::unique("open merges").with(pane)
}

/// Opens the merges of a chip of a pane, or closes them if they are open.
pub(super) fn toggle(ui: &Ui, pane: usize, chip: Open) {
    let id = id(pane);
    ui.data_mut(|d| match d.get_temp::<Open>(id) == Some(chip.clone()) {
        true => drop(d.remove_temp::<Open>(id)),
        false => drop(d.insert_temp(id, chip)),
    });
}

/// Closes what is open in a pane; false if nothing is.
pub fn close(ctx: &egui::Context, pane: usize) -> bool {
    ctx.data_mut(|d| d.remove_temp::<Open>(id(pane)).is_some())
}

/// The open chip below the rows, which stay where they are.
pub(super) fn merges_ui(cx: &Cx, ui: &mut Ui, rows: &Rows) {
    let Some((name, at)) = ui.data(|d| d.get_temp::<Open>(id(cx.at))) else { return };
    let Some(i) = rows.rows.iter().position(|r| r.name == name) else { return };
    let (row, source) = (&rows.rows[i], &rows.sources[i]);
    let Some(piece) = row.pieces.get(at) else { return };
    let room = ui.available_height() * 0.5;
    egui::Panel::bottom(egui::Id::unique("merges").with(cx.at)).max_size(room).show_separator_line(true).show(
        ui,
        |ui| {
            ui.horizontal(|ui| {
                ui.strong("Merges");
                ui.weak(format!("of a token of {name}"));
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    let shut = ui.small_button("✖").on_hover_text("Close, Esc");
                    widgets::named(&shut, "close the merges");
                    if shut.clicked() {
                        close(ui.ctx(), cx.at);
                    }
                });
            });
            egui::ScrollArea::vertical().max_height(room - 24.0).show(ui, |ui| {
                line(ui, |ui| {
                    widgets::chip(cx, ui, &piece.token, cx.theme.chips[0], false, Link::None);
                    ui.add_space(4.0);
                    match piece.id {
                        Some(id) => steps_ui(cx, ui, source, id),
                        None => drop(ui.small("This row follows a rule and has no vocabulary.")),
                    }
                });
                if piece.id.is_some() {
                    encodings_ui(cx, ui, (row, source), at, &rows.text);
                }
            });
        },
    );
}

/// A line that wraps, with chips close together.
fn line(ui: &mut Ui, add: impl FnOnce(&mut Ui)) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = egui::vec2(2.0, 2.0);
        add(ui);
    });
}

fn steps_ui(cx: &Cx, ui: &mut Ui, source: &RowSource, id: u32) {
    let Some(merges) = cx.need(ui, "merges", &MergesOf(source.clone(), id)) else { return };
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
}

/// Which tokens of the row's word to look at: all of them, or the one at `at` where the word is too long.
fn word<'r>(row: &'r Row, text: &str, at: usize) -> &'r [Piece] {
    let word = &row.pieces[word_of(row, text, at)];
    let bytes: usize = word.iter().map(|p| p.end - p.start).sum();
    if bytes <= MAX_SPELLING / 2 { word } else { &row.pieces[at..at + 1] }
}

fn encodings_ui(cx: &Cx, ui: &mut Ui, (row, source): (&Row, &RowSource), at: usize, text: &str) {
    let pieces = word(row, text, at);
    let Some(own) = pieces.iter().map(|p| p.id).collect::<Option<Vec<u32>>>() else { return };
    let asked = EncodingsOf(source.clone(), own.clone());
    let Some(all) = cx.need(ui, "other encodings", &asked) else { return };
    let Some(all) = all.as_ref() else { return };
    let count = all.count.map_or("more than 2^64".to_string(), |n| n.to_string());
    line(ui, |ui| {
        let spelled: String = pieces.iter().map(|p| widgets::visible(&p.token)).collect();
        let words = match all.count {
            Some(1) => format!("No other sequence of this vocabulary's tokens spells {spelled}"),
            _ => format!("{count} sequences of this vocabulary's tokens spell {spelled}; the shortest:"),
        };
        ui.small(words).on_hover_text(
            "A model can be given, and can itself produce, any of them. They decode to the same text, \
             but the tokenizer only ever makes the one marked as its own",
        );
    });
    if all.count == Some(1) {
        return;
    }
    line(ui, |ui| {
        for (i, way) in all.shortest.iter().enumerate() {
            if i > 0 {
                ui.add_space(10.0);
            }
            let ids = || way.iter().map(|t| t.0);
            let mine = ids().eq(own.iter().copied());
            for (k, (id, token)) in way.iter().enumerate() {
                let fill = cx.theme.chips[2 * (*id as usize % 4) + k % 2];
                widgets::chip(cx, ui, token, fill, false, Link::None).on_hover_text(format!("id {id}"));
            }
            if mine {
                ui.colored_label(cx.theme.accent, egui::RichText::new("own").small());
            }
        }
    });
}
