//! How tokenizers cut the prompt, one row each, with what each cut costs.

use super::widgets::{self, Link};
use super::{Cx, View};
use crate::export::Table;
use crate::request::{Product, Request, RowSource};
use crate::state::Command;
use serde_json::json;
use std::sync::Arc;
use tokenscope_analysis::segment::{self, Piece, Segmentation};

pub(super) const VIEW: View = View {
    id: "segmentation",
    title: "Segmentation",
    help: "One row per tokenizer. Neighbouring chips differ in colour; a dot is a space, an arrow a tab. Hover a chip for its id and bytes; \
           click a chip of a byte-pair tokenizer for the merges that built it. Compare more tokenizers with Add tokenizer.",
    hint: "Hover a chip for its id and bytes; click one for the merges that built it.",
    ui,
    own_height: true,
    table,
};

/// Chips drawn per row; a longer text says how many are left out.
const MAX_CHIPS: usize = 4000;

fn request(cx: &Cx) -> Request {
    Request::Segment(cx.doc.run(), cx.doc.tokenizers.clone())
}

fn ui(cx: &Cx, ui: &mut egui::Ui) {
    if !cx.figure {
        tokenizers_ui(cx, ui);
    }
    let Some(Product::Segment(rows)) = cx.need(ui, "segmentation", request(cx)) else { return };
    let text = &cx.doc.prompt;
    if text.is_empty() {
        ui.weak("The prompt is empty: type one at the left and see how tokenizers cut it.");
        return;
    }
    let trace = cx.ready_trace();
    let tokens = trace
        .as_ref()
        .filter(|_| cx.shows_text())
        .and_then(|t| t.towers.get(&t.main_tower()))
        .map_or(&[][..], |t| &t.tokens);
    // Token of the run at each byte, so that every row links to the other views.
    let mut at_byte: Vec<Option<usize>> = vec![None; text.len() + 1];
    for (i, t) in tokens.iter().enumerate() {
        if let Some(range) = t.bytes()
            && let Some(slots) = at_byte.get_mut(range)
        {
            slots.fill(Some(i));
        }
    }
    cx.long(ui, |ui| {
        let own = rows.first().is_some_and(|r| r.name == "this model");
        for (i, row) in rows.iter().enumerate() {
            row_ui(cx, ui, row, source(cx, row, i, own), text, &at_byte);
        }
    });
}

fn row_ui(cx: &Cx, ui: &mut egui::Ui, row: &Segmentation, source: RowSource, text: &str, at_byte: &[Option<usize>]) {
    let (n, words) = (row.pieces.len(), text.split_whitespace().count().max(1));
    ui.horizontal(|ui| {
        ui.strong(&row.name);
        ui.small(format!(
            "{n} tokens · {:.2} bytes per token · {:.2} tokens per word",
            text.len() as f32 / n.max(1) as f32,
            n as f32 / words as f32
        ));
    });
    let id = ui.scope_id().with(("merges", &row.name));
    let open: Option<usize> = ui.data(|d| d.get_temp(id));
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = egui::vec2(1.0, 2.0);
        for (i, p) in row.pieces.iter().enumerate().take(MAX_CHIPS) {
            let shown = spelling(&row.pieces, i, text);
            let at = |byte: usize| at_byte.get(byte).copied().flatten();
            let covered = at(p.start).zip(at(p.end.saturating_sub(1).max(p.start)));
            let link = Link::Bytes(p.start, p.end, covered);
            let r = widgets::chip(cx, ui, shown, cx.theme.chips[i % 8], false, link);
            if r.clicked() {
                ui.data_mut(|d| match open == Some(i) {
                    true => drop(d.remove_temp::<usize>(id)),
                    false => drop(d.insert_temp(id, i)),
                });
            }
            r.on_hover_ui(|ui| {
                let token_id = p.id.map_or(String::new(), |id| format!("id {id} · "));
                ui.label(format!("{token_id}bytes {}..{} · {}", p.start, p.end, p.token));
            });
        }
        if n > MAX_CHIPS {
            ui.weak(format!("… {} more", n - MAX_CHIPS));
        }
    });
    if let Some(p) = open.and_then(|i| row.pieces.get(i)) {
        merges_ui(cx, ui, source, p);
    }
    ui.add_space(4.0);
}

/// What the chip of piece `i` says: its text where that is its own; where it is part of a character, or shares its
/// bytes with a neighbour, the vocabulary's spelling.
fn spelling<'t>(pieces: &'t [Piece], i: usize, text: &'t str) -> &'t str {
    let p = &pieces[i];
    let shared = |o: &Piece| p.start < o.end && o.start < p.end;
    let before = i.checked_sub(1).and_then(|b| pieces.get(b));
    match text.get(p.start..p.end) {
        Some(own) if !before.into_iter().chain(pieces.get(i + 1)).any(shared) => own,
        _ => &p.token,
    }
}

/// Where row `index` comes from: the model's own row first if it has one, then the files, then the built-in ones.
fn source(cx: &Cx, row: &Segmentation, index: usize, own: bool) -> RowSource {
    match segment::BUILT_IN.iter().find(|n| **n == row.name) {
        Some(name) => RowSource::Named(name),
        None if own && index == 0 => RowSource::Model(cx.doc.model.clone()),
        None => {
            let file = cx.doc.tokenizers.get(index - usize::from(own));
            file.map_or_else(|| RowSource::Model(cx.doc.model.clone()), |f| RowSource::File(f.clone()))
        }
    }
}

fn merges_ui(cx: &Cx, ui: &mut egui::Ui, source: RowSource, piece: &Piece) {
    let Some(id) = piece.id else {
        ui.small("This row follows a rule and has no vocabulary.");
        return;
    };
    let Some(Product::Merges(merges)) = cx.need(ui, "merges", Request::Merges(source, id)) else { return };
    let Some(steps) = merges.as_ref() else {
        ui.small("This vocabulary is not of byte-pair kind, so nothing was merged.");
        return;
    };
    if steps.is_empty() {
        ui.small(format!("{} is a single piece of the alphabet; nothing was merged.", piece.token));
        return;
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = egui::vec2(2.0, 2.0);
        for (i, s) in steps.iter().enumerate() {
            ui.small(format!("{}.", i + 1));
            widgets::chip(cx, ui, &s.left, cx.theme.chips[0], false, Link::None);
            widgets::chip(cx, ui, &s.right, cx.theme.chips[1], false, Link::None);
            ui.small(format!("rule {}", s.rank));
            ui.add_space(6.0);
        }
    });
}

fn tokenizers_ui(cx: &Cx, ui: &mut egui::Ui) {
    ui.horizontal_wrapped(|ui| {
        let id = ui.scope_id().with("tokenizer path");
        let mut path: String = ui.data(|d| d.get_temp(id)).unwrap_or_default();
        let hint = "tokenizer.json, GGUF or model folder";
        let edit = ui.add(egui::TextEdit::singleline(&mut path).hint_text(hint).desired_width(190.0));
        widgets::named(&edit, "path of a tokenizer");
        let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
        if (ui.button("Add tokenizer").clicked() || entered) && !path.trim().is_empty() {
            let mut list = cx.doc.tokenizers.clone();
            list.push(path.trim().into());
            list.dedup();
            cx.send(Command::Tokenizers(list));
            path.clear();
        }
        ui.data_mut(|d| d.insert_temp(id, path));
        for (i, file) in cx.doc.tokenizers.iter().enumerate() {
            let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if ui.small_button(format!("{name} ✖")).on_hover_text(format!("Remove {}", file.display())).clicked() {
                let mut list = cx.doc.tokenizers.clone();
                list.remove(i);
                cx.send(Command::Tokenizers(list));
            }
        }
    });
}

fn table(cx: &Cx) -> Option<Table> {
    let Some(Product::Segment(rows)) = cx.ready(&request(cx)) else { return None };
    let mut table = Table::new(&["tokenizer", "index", "id", "token", "text", "start_byte", "end_byte"]);
    for row in Arc::as_ref(&rows) {
        for (i, p) in row.pieces.iter().enumerate() {
            let text = cx.doc.prompt.get(p.start..p.end);
            table.rows.push(vec![
                json!(row.name),
                json!(i),
                json!(p.id),
                json!(p.token),
                json!(text),
                json!(p.start),
                json!(p.end),
            ]);
        }
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_shows_text_only_where_the_bytes_are_its_own() {
        let piece = |token: &str, start, end| Piece { id: None, token: token.into(), start, end, special: false };
        // A mark before the text that claims its first byte, a whole word, a character in two pieces.
        let text = "In 漢";
        let pieces = [piece("▁", 0, 1), piece("In", 0, 2), piece(" ", 2, 3), piece("<E6>", 3, 5), piece("<A2>", 5, 6)];
        let shown: Vec<&str> = (0..pieces.len()).map(|i| spelling(&pieces, i, text)).collect();
        assert_eq!(shown, ["▁", "In", " ", "<E6>", "<A2>"]);
        // Byte pieces that all carry the whole character are not three characters.
        let bytes = [piece("<0xE6>", 3, 6), piece("<0xBC>", 3, 6), piece("<0xA2>", 3, 6)];
        assert_eq!(spelling(&bytes, 1, text), "<0xBC>");
        assert_eq!(spelling(&[piece("x", 3, 6)], 0, text), "漢");
    }
}
