//! What each row costs: the table of numbers in the view and in what is saved.

use super::controls::ROWS;
use super::links::Links;
use crate::cx::Cx;
use crate::work::{CutsOf, OWN, Rows, SurprisalOf};
use serde_json::json;
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::segment::Metrics;

/// Heading of a column, and its definition.
pub(super) const COLUMNS: [(&str, &str); 6] = [
    ("tokens", "Number of pieces"),
    ("bytes/token", "Bytes of the text in UTF-8 over its tokens"),
    ("tokens/word", "Fertility: tokens over words, words being what white space separates (Rust et al. 2021)"),
    ("entropy", "Shannon entropy of the tokens' shares of this text, −Σ p log2 p, in bits"),
    (
        "Rényi eff.",
        "Rényi entropy of order 2.5 of the same shares over log2 of the vocabulary's size (Zouhar et al. 2023); rules have no vocabulary",
    ),
    ("premium", "Tokens of this row for each token of the reference row; click a row's name to make it the reference"),
];

/// The row that premiums are relative to.
fn reference(cx: &Cx, rows: &Rows) -> usize {
    rows.rows.iter().position(|r| r.name == cx.pane.shows.cuts.reference).unwrap_or(0)
}

fn cells(m: &Metrics, reference: &Metrics) -> [Option<String>; 6] {
    let number = |v: Option<f64>, digits: usize| v.map(|v| format!("{v:.digits$}"));
    [
        Some(m.tokens.to_string()),
        number(m.bytes_per_token, 2),
        number(m.fertility, 2),
        number(m.entropy_bits, 2),
        number(m.renyi_efficiency, 3),
        number(m.premium(reference), 2).map(|p| format!("{p}×")),
    ]
}

pub(super) fn costs_ui(cx: &Cx, ui: &mut egui::Ui, rows: &Rows) {
    let against = reference(cx, rows);
    if !cx.figure {
        egui::ScrollArea::horizontal()
            .id_salt("costs")
            .auto_shrink(true)
            .show(ui, |ui| block_ui(cx, ui, rows, against, 0..6));
        return;
    }
    // A narrow page has the columns below each other: all of them, and none cut.
    let across = ((ui.available_width() - super::label_width(cx, ui)) / WIDTH).floor().clamp(2.0, 6.0) as usize;
    for first in (0..6).step_by(across) {
        ui.push_id(first, |ui| block_ui(cx, ui, rows, against, first..(first + across).min(6)));
        ui.add_space(4.0);
    }
}

/// Width of a column in a figure, in points.
const WIDTH: f32 = 66.0;

/// Some of the columns, a line for each row.
fn block_ui(cx: &Cx, ui: &mut egui::Ui, rows: &Rows, against: usize, columns: std::ops::Range<usize>) {
    let n = columns.len() + 1;
    egui::Grid::new("costs").num_columns(n).spacing([8.0, 1.0]).min_row_height(14.0).show(ui, |ui| {
        ui.small("");
        for (heading, definition) in &COLUMNS[columns.clone()] {
            ui.add(egui::Label::new(egui::RichText::new(*heading).small().weak())).on_hover_text(*definition);
        }
        ui.end_row();
        for (i, (row, m)) in rows.rows.iter().zip(&rows.metrics).enumerate() {
            name_ui(cx, ui, &row.name, i == against);
            for cell in &cells(m, &rows.metrics[against])[columns.clone()] {
                ui.small(cell.as_deref().unwrap_or("–"));
            }
            ui.end_row();
        }
    });
}

fn name_ui(cx: &Cx, ui: &mut egui::Ui, name: &str, chosen: bool) {
    let text = egui::RichText::new(name).small();
    let label = ui.add(egui::Button::selectable(chosen && !cx.figure, text).small());
    let hint = if chosen { "Premiums are relative to this row" } else { "Make premiums relative to this row" };
    if label.on_hover_text(hint).clicked() {
        let name = name.to_string();
        cx.set(ROWS, move |p| p.shows.cuts.reference.clone_from(&name));
    }
}

/// A line for each piece of each row, with the numbers of its row.
pub(super) fn table(cx: &Cx) -> Option<Table> {
    let text = if cx.recorded() { cx.ready_trace()?.text.as_str().into() } else { cx.pane.run.prompt.clone() };
    let rows = cx.ready(&CutsOf(cx.pane.cut(text)))?;
    let surprisal = cx.ready(&SurprisalOf(cx.pane.run.clone())).filter(|_| cx.pane.shows.cuts.surprisal);
    let links = Links::new(cx.ready_trace());
    let mut table = Table::new(&[
        "tokenizer",
        "index",
        "id",
        "token",
        "text",
        "start_byte",
        "end_byte",
        "surprisal_bits",
        "row_tokens",
        "row_bytes_per_token",
        "row_tokens_per_word",
        "row_entropy_bits",
        "row_renyi_efficiency",
        "row_premium",
        "premium_relative_to",
    ]);
    let against = reference(cx, &rows);
    for (row, m) in rows.rows.iter().zip(&rows.metrics) {
        for (i, p) in row.pieces.iter().enumerate() {
            let token = surprisal.as_ref().filter(|_| row.name == OWN).and_then(|s| Some((s, links.token(i, p)?)));
            let bits = token.and_then(|(s, t)| s.of(t)).map(|s| s.1);
            table.rows.push(vec![
                json!(row.name),
                json!(i),
                json!(p.id),
                json!(p.token),
                json!(rows.text.get(p.start..p.end)),
                json!(p.start),
                json!(p.end),
                json!(bits),
                json!(m.tokens),
                json!(m.bytes_per_token),
                json!(m.fertility),
                json!(m.entropy_bits),
                json!(m.renyi_efficiency),
                json!(m.premium(&rows.metrics[against])),
                json!(rows.rows[against].name),
            ]);
        }
    }
    Some(table)
}
