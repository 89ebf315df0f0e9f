//! Whatever methods without a view of their own find out: its pictures, figures and notes, in the shapes that every method shares.

use super::{View, picker};
use crate::cx::Cx;
use crate::pictures::{self, On};
use crate::work::{FindingOf, Serves as _};
use egui::Ui;
use tokenscope_analysis::catalog;
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::method::Kind;

pub(super) const VIEW: View = View {
    id: "findings",
    title: "Findings",
    shows: &Kind::FOUND,
    help: "What is found out about the run by methods that fit no other view, studies first of all: choose one, and its pictures, figures and notes stand below each other.\n\
           Every picture has its legend; point at a token, a cell or a bar for its numbers, and what it stands for is marked in the other views.\n\
           A click on a token selects it.\n\
           Where a picture has a value for each layer, the slider chooses the layer, here and in the reduction.",
    hint: "Choose a study; point at what it draws for the numbers behind.",
    ui,
    own_height: true,
    table,
};

fn asked(cx: &Cx) -> FindingOf {
    FindingOf::of(cx.pane, cx.call(cx.pane.shows.found))
}

/// The kinds of which there is a method, to choose from where they are several.
fn kinds_ui(cx: &Cx, ui: &mut Ui) {
    let there: Vec<Kind> = Kind::FOUND.into_iter().filter(|k| catalog::first(*k).is_some()).collect();
    if cx.figure || there.len() < 2 {
        return;
    }
    ui.horizontal(|ui| {
        for kind in there {
            let on = cx.pane.shows.found == kind;
            if ui.selectable_label(on, kind.name()).clicked() && !on {
                cx.set("show other findings", move |p| p.shows.found = kind);
            }
        }
    });
}

fn ui(cx: &Cx, ui: &mut Ui) {
    cx.long(ui, |ui| {
        let Some(trace) = cx.trace(ui) else { return };
        kinds_ui(cx, ui);
        picker::method_ui(cx, ui, cx.pane.shows.found);
        let asked = asked(cx);
        let Ok(info) = catalog::info(cx.pane.shows.found, asked.call.method) else { return };
        if let Some(why) = cx.lacks(info) {
            ui.weak(format!("{} {why}.", info.title));
            return;
        }
        let Some(finding) = cx.need(ui, "finding", &asked) else { return };
        let picture = cx.picture(ui, "picture of the finding", &trace);
        let on = On { tower: cx.tower(&trace), picture: picture.as_ref(), text: &trace.text };
        pictures::finding_ui(cx, ui, &on, &finding, &(finding.clone() as _));
        cx.notes_ui(ui, "finding");
    });
}

/// The numbers of the first picture, tokens with their text.
fn table(cx: &Cx) -> Option<Table> {
    let (finding, trace) = (cx.ready(&asked(cx))?, cx.ready_trace()?);
    let on = On { tower: cx.tower(&trace), picture: None, text: &trace.text };
    finding.pictures.first().map(|p| pictures::table_of(&on, p))
}
