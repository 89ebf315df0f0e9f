//! What a policy that remembers what follows which token has learnt in a round: the rows of its matrix that changed.

use crate::cx::Cx;
use crate::pictures::widgets::{self, Link};
use crate::work::Drafted;
use egui::{Ui, vec2};
use tokenscope_analysis::decode::{Learnt, Round};

/// Rows that are shown.
const ROWS: usize = 10;

pub(super) fn ui(cx: &Cx, ui: &mut Ui, d: &Drafted, round: &Round) {
    if round.learnt.is_empty() {
        return;
    }
    let n = round.learnt.len();
    ui.small(if n == 1 { "1 row of its matrix changed:".into() } else { format!("{n} rows of its matrix changed:") })
        .on_hover_text(
            "Behind each token it keeps what the target found most probable there when it last saw it, and drafts from \
             that. Green is new in its row",
        );
    // Those that changed most are worth a look.
    let mut order: Vec<&Learnt> = round.learnt.iter().collect();
    order.sort_by_key(|l| std::cmp::Reverse(new(l).count()));
    let text = |id: u32| d.text.get(&id).map_or("", String::as_str);
    for row in order.into_iter().take(ROWS) {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(4.0, 2.0);
            widgets::chip(cx, ui, text(row.token), cx.theme.background, false, Link::None);
            ui.small("→");
            for &id in &row.after {
                let fill = if row.before.contains(&id) { cx.theme.line } else { cx.theme.good };
                let chip = widgets::chip(cx, ui, text(id), fill, false, Link::None);
                let before: Vec<String> = row.before.iter().map(|&id| widgets::visible(text(id))).collect();
                let before = if before.is_empty() { "nothing".into() } else { before.join("  ") };
                chip.on_hover_text(format!("before: {before}"));
            }
        });
    }
    if n > ROWS {
        ui.small(format!("and {} more", n - ROWS));
    }
}

/// What was not in the row before.
fn new(row: &Learnt) -> impl Iterator<Item = &u32> {
    row.after.iter().filter(|id| !row.before.contains(id))
}
