//! The cut of a picture or a series: what is shown, by which method, and its pieces as a table.

use super::{codes, tiles, windows};
use crate::cx::Cx;
use crate::state::Command;
use crate::views::picker::{Change, picker_of};
use crate::work::{Cut, CutOf, CutSource, Serves, Whole};
use egui::Ui;
use std::sync::Arc;
use tokenscope_analysis::finding::{Picture, Table};
use tokenscope_analysis::method::{Info, Kind};
use tokenscope_analysis::segment::{self, Reads};

fn title(reads: Reads) -> &'static str {
    match reads {
        Reads::Text => "Text",
        Reads::Image => "Picture",
        Reads::Series => "Series",
    }
}

/// Which of text, picture and series is shown, where there is more than the text.
pub(super) fn choice_ui(cx: &Cx, ui: &mut Ui) {
    let there = |r: &Reads| match r {
        Reads::Text => true,
        Reads::Image => cx.pane.run.image.is_some(),
        Reads::Series => cx.pane.series.is_some(),
    };
    let all: Vec<Reads> = Reads::ALL.into_iter().filter(there).collect();
    if cx.figure || (all.len() < 2 && cx.pane.shows.cuts.shows == Reads::Text) {
        return;
    }
    ui.horizontal(|ui| {
        for reads in all {
            let tip = format!("Shows how {} is cut", reads.words().replace("a ", "the "));
            if ui.selectable_label(cx.pane.shows.cuts.shows == reads, title(reads)).on_hover_text(tip).clicked() {
                cx.set("what is cut", move |p| p.shows.cuts.shows = reads);
            }
        }
    });
}

/// What is asked for; `None` without a picture or series.
fn asked(cx: &Cx) -> Option<CutOf> {
    let asked = CutOf::of(cx.pane, cx.pane.call(Kind::Segment));
    matches!(asked.source, CutSource::Image(_) | CutSource::Series(_)).then_some(asked)
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui) {
    let reads = cx.pane.shows.cuts.shows;
    let all: Vec<&'static Info> = segment::of(reads).map(|m| m.info()).collect();
    let name = format!("{} cut", title(reads).to_lowercase());
    picker_of(cx, ui, &all, &cx.pane.shows.cuts.call(reads), &name, &mut |change| match change {
        Change::Method(id) => cx.send(Command::Method(id)),
        Change::Param(key, value) => cx.send(Command::Param(Kind::Segment, key, value)),
    });
    let Some(asked) = asked(cx) else {
        let words = match reads {
            Reads::Image => "No picture: drop one on the window, or choose Picture… in the panel of sources.",
            _ => "No series: drop a WAV or CSV file on the window, or choose Series… in the panel of sources.",
        };
        cx.failed.borrow_mut().get_or_insert_with(|| words.into());
        ui.weak(words);
        return;
    };
    let spot = if reads == Reads::Image { "cut of the picture" } else { "cut of the series" };
    let Some(cut) = cx.need(ui, spot, &asked) else { return };
    cx.long(ui, |ui| shown_ui(cx, ui, &cut));
}

fn shown_ui(cx: &Cx, ui: &mut Ui, cut: &Arc<Cut>) {
    codes::figures_ui(ui, &cut.found.figures);
    for note in &cut.found.notes {
        ui.small(note);
    }
    match cut.whole {
        // Cuts of a text stand side by side, in rows.
        Whole::Text(_) => {}
        Whole::Image(_) => tiles::ui(cx, ui, cut),
        Whole::Series(_) => windows::ui(cx, ui, cut),
    }
}

/// The pieces with their places and ids.
pub(super) fn table(cx: &Cx) -> Option<Table> {
    let cut = cx.ready(&asked(cx)?)?;
    cut.found.pictures.iter().find(|p| matches!(p, Picture::Cuts(_))).map(Picture::table)
}
