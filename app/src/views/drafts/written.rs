//! What a model that fills in writes, step by step: which position was revealed when, how sure the model was, and why.

use super::super::picker;
use crate::cx::Cx;
use crate::pictures::widgets::{self, Link};
use crate::pictures::{self, On, stage, timeline};
use crate::work::{Serves as _, TimelineOf};
use egui::{Ui, vec2};
use tokenscope_analysis::finding::{Picture, Table, Timeline};
use tokenscope_analysis::method::Kind;

fn asked(cx: &Cx) -> TimelineOf {
    TimelineOf::of(cx.pane, cx.call(Kind::Reveal))
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui) {
    picker::method_ui(cx, ui, Kind::Reveal);
    let Some(written) = cx.need(ui, "reveal", &asked(cx)) else { return };
    let Some(Picture::Timeline(picture)) =
        written.finding.pictures.first().filter(|_| !written.timeline.steps.is_empty())
    else {
        ui.weak("Nothing is written yet.");
        return;
    };
    let n = picture.n_steps;
    let shown = stage::ui(cx, ui, &picture.steps, n, "").unwrap_or(n - 1);
    cx.long(ui, |ui| {
        text_ui(cx, ui, picture, shown);
        ui.add_space(4.0);
        timeline::grid_ui(cx, ui, &On::default(), picture, shown);
        timeline::legend_ui(cx, ui, picture);
        pictures::figures_ui(ui, &written.finding.figures);
        cx.notes_ui(ui, "reveal");
    });
}

/// The prompt's end and the text after the step: what was revealed in it is marked, what is masked is a gap.
fn text_ui(cx: &Cx, ui: &mut Ui, picture: &Timeline, shown: usize) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(1.0, 2.0);
        super::prompt_ui(cx, ui);
        let cells = picture.step(shown);
        for position in 0..picture.n_places {
            let cell = cells.binary_search_by_key(&position, |c| c.position).ok().map(|i| &cells[i]);
            let Some(c) = cell.filter(|c| c.state > 0) else {
                // Masked, whatever is guessed there.
                let link = cell.and_then(|c| c.id).map_or(Link::None, |id| Link::Decoded(position, id));
                let gap = widgets::chip(cx, ui, "__", cx.theme.background, false, link);
                match cell {
                    Some(c) => drop(gap.on_hover_text(timeline::say(&On::default(), picture, c))),
                    None => drop(gap.on_hover_text(format!("new token {position}: masked, of a block to come"))),
                }
                continue;
            };
            let fill = if c.why.is_empty() { cx.theme.line } else { cx.theme.good };
            let link = c.id.map_or(Link::None, |id| Link::Decoded(position, id));
            widgets::chip(cx, ui, &c.text, fill, false, link).on_hover_text(timeline::say(&On::default(), picture, c));
        }
    });
}

pub(super) fn table(cx: &Cx) -> Option<Table> {
    Some(cx.ready(&asked(cx))?.finding.pictures.first()?.table())
}
