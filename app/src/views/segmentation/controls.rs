//! Which rows are compared, and how they are coloured.

use crate::cx::Cx;
use crate::pictures::widgets;
use crate::state::Command;
use crate::work::row_name;
use tokenscope_analysis::segment;

/// What is set here and in the table, in words for the menu.
pub(super) const ROWS: &str = "rows of the segmentation";

/// What surprisal is, for tooltips.
pub(super) const SURPRISAL: &str =
    "−log2 of the probability that the model gave the token after those before it; the first token has none";

pub(super) fn controls_ui(cx: &Cx, ui: &mut egui::Ui) {
    ui.horizontal_wrapped(|ui| {
        rows_ui(cx, ui);
        let mut on = cx.pane.shows.cuts.surprisal;
        let why = cx.lacks_surprisal();
        let shown = ui.add_enabled(why.is_none(), egui::Checkbox::new(&mut on, "Surprisal"));
        let shown = shown.on_hover_text(format!("Colours the model's own row: {SURPRISAL}"));
        let shown = shown.on_disabled_hover_text(why.unwrap_or_default());
        if shown.changed() {
            cx.set(ROWS, move |p| p.shows.cuts.surprisal = on);
        }
        files_ui(cx, ui);
    });
}

fn rows_ui(cx: &Cx, ui: &mut egui::Ui) {
    ui.menu_button("Rows", |ui| {
        for method in segment::text::ALL {
            let info = method.info();
            let mut on = cx.pane.shows.cuts.named.contains(&info.id);
            if ui.checkbox(&mut on, info.id).on_hover_text(info.summary).changed() {
                cx.send(Command::Method(info.id));
            }
        }
    })
    .response
    .on_hover_text("Built-in rows to compare; words, sentences and lines show larger units");
}

fn files_ui(cx: &Cx, ui: &mut egui::Ui) {
    let id = ui.scope_id().with("tokenizer path");
    let mut path: String = ui.data(|d| d.get_temp(id)).unwrap_or_default();
    let hint = "tokenizer.json, GGUF or model folder";
    let edit = ui.add(egui::TextEdit::singleline(&mut path).id(id.with("box")).hint_text(hint).desired_width(150.0));
    widgets::named(&edit, "path of a tokenizer");
    let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
    if (ui.button("Add tokenizer").clicked() || entered) && !path.trim().is_empty() {
        cx.send(Command::AddTokenizer(path.trim().into()));
        path.clear();
    }
    ui.data_mut(|d| d.insert_temp(id, path));
    for file in &cx.pane.shows.cuts.files {
        let name = row_name(file);
        if ui.small_button(format!("{name} ✖")).on_hover_text(format!("Remove {}", file.display())).clicked() {
            let gone = file.clone();
            cx.set("list of tokenizers", move |p| p.shows.cuts.files.retain(|f| *f != gone));
        }
    }
}
