//! How the input is cut. The text: in lines that the rows of all tokenizers share, so that cuts can be compared by eye,
//! and what each cut costs. The picture and the series: pieces in the colours of their codes, and what those are worth.

mod chips;
mod codes;
mod controls;
mod costs;
mod hover;
mod links;
pub(super) mod merges;
mod paint;
mod raster;
mod tiles;
mod wholes;
mod windows;

use super::View;
use crate::cx::Cx;
use crate::pictures::widgets;
use crate::work::{OWN, StripOf, SurprisalOf};
use chips::Shown;
use links::Links;
use std::sync::Arc;
use tokenscope_analysis::lens::Surprisal;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::segment::Reads;

pub(super) const VIEW: View = View {
    id: "segmentation",
    title: "Segmentation",
    shows: &[Kind::Segment],
    help: "One row per tokenizer, in lines that all rows share: what stands below a chip are the same bytes, cut by another tokenizer.\n\
           A dot is a space, an arrow a tab, ⏎ a line break.\n\
           A character that some row cuts shows its bytes in hexadecimal.\n\
           Neighbouring chips differ in colour.\n\
           Hover a chip for its id, its bytes and, in the model's own row, how probable the model found it; click a chip for the merges that built it, and for the other sequences of tokens that spell its word.\n\
           Rows chooses what is compared, words, sentences and lines among it; Surprisal colours the model's row by how unexpected each token was.\n\
           The table says what each cut costs: point at a heading for its definition, click a row's name to measure the others against it.\n\
           While you type, the rows follow every key; the model runs after a short pause.\n\
           With a picture or a series there is a choice above the rows: the picture in tiles with what their codes give back and how far off it is, the series in windows, each piece in the colour of its code.\n\
           Hover one and all with the same code are outlined; the figures say how well the codebook is used.",
    hint: "Same column, same bytes: compare where rows cut. Hover a chip for its id and bytes; click one for its merges and other encodings.",
    ui,
    own_height: true,
    table: |cx| if cx.pane.shows.cuts.shows == Reads::Text { costs::table(cx) } else { wholes::table(cx) },
};

/// The longest part of a figure, in points.
const FIGURE_HEIGHT: f32 = 3600.0;
/// Fewest columns of a line, however narrow the view is.
const MIN_COLUMNS: usize = 16;
/// Widest label of a row, in points.
const MAX_LABEL: f32 = 120.0;

fn ui(cx: &Cx, ui: &mut egui::Ui) {
    wholes::choice_ui(cx, ui);
    if cx.pane.shows.cuts.shows != Reads::Text {
        wholes::ui(cx, ui);
        return;
    }
    if !cx.figure {
        controls::controls_ui(cx, ui);
    }
    let text = cx.text(ui);
    if text.is_empty() {
        ui.weak(match cx.recorded() {
            true => "The recording says no text: give the recorder the tokenizer, so that it can name the tokens.",
            false => "The prompt is empty: type one at the left and see how tokenizers cut it.",
        });
        return;
    }
    let font = egui::TextStyle::Monospace.resolve(ui.style());
    let cell = ui.fonts_mut(|f| f.glyph_width(&font, '0'));
    // Labels of the rows, from what is known before the rows are there, so that lines need not break twice.
    let label = label_width(cx, ui);
    let room = ui.available_width() - label - ui.spacing().scroll.allocated_width() - 4.0;
    let columns = ((room / cell) as usize).max(MIN_COLUMNS);
    let asked = StripOf(cx.pane.cut(text), columns);
    let Some(strip) = cx.need(ui, "segmentation", &asked) else { return };
    for why in &strip.rows.broken {
        ui.colored_label(cx.theme.bad, why);
        // A figure without a row that was asked for would not be the one asked for.
        cx.failed.borrow_mut().get_or_insert_with(|| why.clone());
    }
    costs::costs_ui(cx, ui, &strip.rows);
    let surprisal = surprisal_ui(cx, ui);
    merges::merges_ui(cx, ui, &strip.rows);
    let links = Links::of(cx, ui, &strip.rows.text);
    let shown = Shown { cx, strip: &strip, links, surprisal, font, cell, label, columns };
    lines_ui(&shown, ui);
}

fn lines_ui(shown: &Shown, ui: &mut egui::Ui) {
    let (n, height) = (shown.strip.strip.n_lines(), shown.line_height());
    ui.spacing_mut().item_spacing.y = chips::LINE_GAP;
    if shown.cx.figure {
        let fit = ((FIGURE_HEIGHT / (height + chips::LINE_GAP)) as usize).max(1);
        (0..n.min(fit)).for_each(|line| shown.line_ui(ui, line));
        if n > fit {
            ui.weak(format!("… {} more lines", n - fit));
        }
        return;
    }
    egui::ScrollArea::vertical().auto_shrink(false).show_rows(ui, height, n, |ui, lines| {
        lines.for_each(|line| shown.line_ui(ui, line));
    });
}

fn label_width(cx: &Cx, ui: &egui::Ui) -> f32 {
    let font = egui::TextStyle::Small.resolve(ui.style());
    let file = |f: &std::path::PathBuf| crate::work::row_name(f);
    let files = cx.pane.shows.cuts.files.iter().map(file);
    let names = files.chain(cx.pane.shows.cuts.named.iter().map(|n| n.to_string())).chain([OWN.to_string()]);
    let width = |name: String| ui.painter().layout_no_wrap(name, font.clone(), cx.theme.weak).size().x;
    names.map(width).fold(0.0, f32::max).min(MAX_LABEL) + 8.0
}

/// The surprisal of the run's tokens, where it is asked for, and its legend.
fn surprisal_ui(cx: &Cx, ui: &mut egui::Ui) -> Option<Arc<Surprisal>> {
    if !cx.pane.shows.cuts.surprisal || cx.lacks_surprisal().is_some() {
        return None;
    }
    let s = cx.need(ui, "surprisal", &SurprisalOf(cx.pane.run.clone()))?;
    ui.horizontal(|ui| {
        ui.small("surprisal of the model's own tokens").on_hover_text(controls::SURPRISAL);
        widgets::legend(cx, ui, 0.0, s.max_bits, "bits", false);
    });
    Some(s)
}
