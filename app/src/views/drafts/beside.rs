//! A second method beside the first: chosen, with the budget and the random numbers of the first, and said whether it has
//! them.

use super::super::picker;
use super::{One, info};
use crate::cx::Cx;
use crate::keys::Call;
use crate::work::{Drafted, SHARED, call_like};
use egui::Ui;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Kind, Params};

pub(super) fn compare_ui(cx: &Cx, ui: &mut Ui, own: &Call) {
    if cx.figure {
        return;
    }
    let mut on = cx.pane.beside.get(Kind::Draft).is_some();
    if ui.checkbox(&mut on, "compare").on_hover_text("A second method on the same prompt, beside the first").changed() {
        let others = catalog::of(Kind::Draft).filter(|i| i.id != own.method && cx.lacks(i).is_none());
        // What a window shows first is what others are compared with.
        let rival = others.min_by_key(|i| !i.first);
        show(cx, rival.filter(|_| on).map(|i| call_like(i, Params::new(), own)));
    }
}

pub(super) fn rival_ui(cx: &Cx, ui: &mut Ui, own: &Call, rival: &Call) {
    picker::picker_ui(cx, ui, Kind::Draft, rival, "second draft", &mut |change| {
        let Call { method, params } = rival.clone();
        let next = match change {
            picker::Change::Method(method) => match info(method) {
                Some(i) => call_like(i, Params::new(), own),
                None => Call { method, params: Params::new() },
            },
            picker::Change::Param(key, v) => Call { method, params: params.set(key, v) },
        };
        show(cx, Some(next));
    });
}

/// Decodes with a second method beside the first, or with none.
fn show(cx: &Cx, rival: Option<Call>) {
    cx.set("second draft method", move |p| match &rival {
        // A picker offers what the catalog has.
        Some(call) => drop(p.beside.choose(call.clone())),
        None => p.beside.forget(Kind::Draft),
    });
}

/// Says whether both have the same budget, length, temperature and random numbers, and makes it so where that can be.
pub(super) fn budget_ui(cx: &Cx, ui: &mut Ui, first: &One, second: &One) {
    let (a, b) = (first.call, second.call);
    let per_round = |d: &Drafted| {
        let drafted: usize = d.run.rounds.iter().map(|r| r.nodes.len()).sum();
        drafted as f64 / d.run.rounds.len().max(1) as f64
    };
    let (Some(i), Some(j)) = (info(a.method), info(b.method)) else { return };
    let budget = match (i.budget, j.budget) {
        (Some(p), Some(q)) if a.params.count(p) == b.params.count(q) => "the same budget".to_string(),
        (Some(p), Some(q)) => format!("budgets {} and {}", a.params.count(p), b.params.count(q)),
        (own, _) => {
            let (without, its) = if own.is_none() { (i, a) } else { (j, b) };
            let named = without.params.iter().take_while(|p| p.key != SHARED[0]);
            let set: Vec<String> = named.map(|p| format!("{} {}", p.key, its.params.value(p))).collect();
            format!("{} has no number of nodes to set, its tree follows from {}", without.title, set.join(", "))
        }
    };
    let other = |key: &str| {
        let values = (i.param(key).map(|p| a.params.value(p)), j.param(key).map(|p| b.params.value(p)));
        matches!(values, (Some(x), Some(y)) if x != y)
    };
    let others: Vec<String> = SHARED.iter().filter(|k| other(k)).map(|k| k.replace('_', " ")).collect();
    let rest = match others.is_empty() {
        true => "the same input, tokens, temperature and random numbers".to_string(),
        false => format!("other {}", others.join(", ")),
    };
    ui.horizontal_wrapped(|ui| {
        ui.small(format!(
            "{:.1} against {:.1} nodes a round · {budget} · {rest}",
            per_round(first.d),
            per_round(second.d)
        ));
        let like = call_like(j, b.params.clone(), a);
        if like != *b && !cx.figure {
            let same = ui.small_button("same for both");
            let tip = "Budget, tokens, temperature and seed of the first for the second, too, as far as it has them";
            if same.on_hover_text(tip).clicked() {
                show(cx, Some(like));
            }
        }
    });
}
