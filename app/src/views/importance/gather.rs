//! A score per word, sentence, line, own segment or region of the picture.

use super::scores;
use crate::cx::Cx;
use crate::pane::{Aggregate, Gather, Per};
use crate::pictures::tokens::More;
use crate::pictures::widgets::{named, visible};
use crate::work::{Gathered, GatheredOf};
use egui::{Stroke, Ui, pos2};
use std::sync::Arc;
use tokenscope_analysis::aggregate::MAX_CELLS;
use tokenscope_analysis::finding::{CellGrid, Heat, Measure, Unit};
use tokenscope_analysis::score::Scores;
use tokenscope_analysis::trace::{Tower, TowerTrace};

/// What is gathered, and into what.
pub(super) struct Shown {
    all: Arc<Gathered>,
    aggregate: Aggregate,
}

/// What is asked for, where scores are gathered and there is something to gather them into.
fn asked(cx: &Cx) -> Option<GatheredOf> {
    let aggregate = cx.pane.shows.aggregate.clone();
    let some = match aggregate.per {
        Per::Token => false,
        Per::Segment => !aggregate.segments.is_empty(),
        _ => true,
    };
    some.then(|| GatheredOf { score: scores::asked(cx), aggregate })
}

/// The gathered score, where one is asked for and there.
pub(super) fn shown(cx: &Cx, ui: &mut Ui) -> Option<Shown> {
    let asked = asked(cx)?;
    cx.need(ui, "gathered", &asked).map(|all| Shown { all, aggregate: asked.aggregate })
}

/// The same for a table.
pub(super) fn ready(cx: &Cx) -> Option<Shown> {
    let asked = asked(cx)?;
    cx.ready(&asked).map(|all| Shown { all, aggregate: asked.aggregate })
}

impl Shown {
    /// The values as a picture.
    pub fn heat(&self, scores: &Scores, tower: Tower) -> Heat {
        let measure = Measure { name: "", unit: scores.unit, signed: scores.signed };
        if self.aggregate.per == Per::Region {
            let cells = self.aggregate.cells;
            let unit = Unit::Cells(CellGrid { rows: cells, cols: cells, area: None });
            return Heat::new("scores", unit, measure, self.all.values.clone());
        }
        let value = |of: &Option<usize>| of.and_then(|g| self.all.values[g]);
        Heat::new("scores", Unit::Tokens(tower), measure, self.all.of.iter().map(value).collect())
    }

    /// Whether tokens are shown, and not cells.
    pub fn of_tokens(&self) -> bool {
        self.aggregate.per != Per::Region
    }

    /// What is said of token `i` besides its value.
    pub fn note(&self, i: usize) -> String {
        match self.all.of.get(i).copied().flatten() {
            Some(g) => {
                let (by, per) = (self.aggregate.by.name(), self.aggregate.per.words());
                format!(", {by} of the {per} {}", visible(&self.all.names[g]))
            }
            None => format!(", in no {}", self.aggregate.per.words()),
        }
    }

    /// A line below the chips of each group, from its first token to its last.
    pub fn mark(&self, cx: &Cx, ui: &Ui, more: &More) {
        let More::Chip(i, chip) = *more else { return };
        let of = |i: usize| self.all.of.get(i).copied().flatten();
        let Some(g) = of(i) else { return };
        let begins = i == 0 || of(i - 1) != Some(g);
        let ends = of(i + 1) != Some(g);
        let y = chip.bottom() - 1.0;
        // The chip beside it is a point away.
        let (from, to) = (chip.left() + if begins { 2.0 } else { -1.0 }, chip.right() - if ends { 2.0 } else { 0.0 });
        for stroke in [Stroke::new(3.0, cx.theme.background), Stroke::new(1.5, cx.theme.text)] {
            ui.painter().line_segment([pos2(from, y), pos2(to, y)], stroke);
        }
    }

    /// The numbers.
    pub fn table(&self, value: &str) -> tokenscope_analysis::finding::Table {
        self.all.table(self.aggregate.per, &format!("{value}, {}", self.aggregate.by.name()))
    }
}

/// What a score is gathered into and how; a figure says it in words.
pub(super) fn controls_ui(cx: &Cx, ui: &mut Ui, tower: &TowerTrace) {
    let now = &cx.pane.shows.aggregate;
    if cx.figure {
        if asked(cx).is_some() {
            ui.small(format!("{} per {}{}", now.by.name(), now.per.words(), now.per.rule()));
        }
        return;
    }
    ui.horizontal_wrapped(|ui| {
        let (mut per, mut by, mut cells) = (now.per, now.by, now.cells);
        ui.small("per");
        let combo = egui::ComboBox::from_id_salt("per").selected_text(per.words()).width(96.0).show_ui(ui, |ui| {
            for one in Per::ALL {
                let lacks = lacks(one, tower);
                let r = ui.add_enabled(lacks.is_none(), egui::Button::selectable(per == one, one.words()));
                let r = r.on_hover_text(one.tip());
                if r.clicked() {
                    per = one;
                }
                r.on_disabled_hover_text(lacks.unwrap_or_default());
            }
        });
        named(&combo.response, "what the score is gathered into");
        if per != Per::Token {
            let combo = egui::ComboBox::from_id_salt("by").selected_text(by.name()).width(64.0).show_ui(ui, |ui| {
                for one in Gather::ALL {
                    ui.selectable_value(&mut by, one, one.name()).on_hover_text(one.tip());
                }
            });
            named(&combo.response, "how the score is gathered");
        }
        if per == Per::Region {
            ui.add(egui::DragValue::new(&mut cells).range(1..=MAX_CELLS).speed(0.05).suffix(" a side"));
        }
        if per != now.per || by != now.by || cells != now.cells {
            cx.set("what scores are gathered into", move |p| {
                let a = &mut p.shows.aggregate;
                let chose = per == Per::Segment && a.per != per;
                (a.per, a.by, a.cells) = (per, by, cells);
                if chose {
                    p.add_segments();
                }
            });
        }
        if per == Per::Segment {
            let some = !cx.pane.aim.is_empty();
            let tip = "Makes a segment of each range of selected tokens, and releases the selection";
            if ui.add_enabled(some, egui::Button::new("add selection").small()).on_hover_text(tip).clicked() {
                cx.set("segments", |p| p.add_segments());
            }
            let any = !now.segments.is_empty();
            if ui.add_enabled(any, egui::Button::new("clear").small()).on_hover_text("Forgets all segments").clicked() {
                cx.set("segments", |p| p.shows.aggregate.segments.clear());
            }
            if !any {
                ui.weak("Select tokens with Shift+click, then add them.");
            }
        }
    });
}

/// Why nothing of this kind is in the run; `None` where it may be.
fn lacks(per: Per, tower: &TowerTrace) -> Option<&'static str> {
    match per {
        Per::Word | Per::Sentence | Per::Line if !tower.tokens.iter().any(|t| t.bytes().is_some()) => {
            Some("There is no text among these tokens")
        }
        Per::Region if !tower.has_image() => Some("There is no picture among these tokens"),
        _ => None,
    }
}
