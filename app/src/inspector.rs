//! The panel of numbers about the hovered or selected tokens.

use crate::cx::Cx;
use crate::jobs::Status;
use crate::panels::bytes;
use crate::pictures::widgets::{self, number, visible};
use crate::pictures::{Held, kept};
use crate::work::{LensOf, NextReducedOf, NodeLensOf, ReducedOf, ScoreOf, Serves as _, TraceOf};
use egui::Ui;
use tokenscope_analysis::lens::Guess;
use tokenscope_analysis::math::largest;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::token::{Source, Token};
use tokenscope_analysis::trace::{Tower, TowerTrace};

/// The hovered token, else the selected ones, else the last.
pub fn inspector_ui(cx: &Cx, ui: &mut Ui) {
    let Status::Ready(trace) = cx.status("inspector", &TraceOf(cx.pane.run.clone())) else {
        ui.heading("Token");
        ui.weak("No run yet.");
        return;
    };
    let Some((name, tower)) = cx.tower(&trace) else { return };
    let n = tower.tokens.len();
    let shown = cx.explained(n);
    let lines = match shown[..] {
        [] => Vec::new(),
        [i] => {
            ui.heading("Token");
            one(cx, i, &tower.tokens[i], name)
        }
        _ => {
            ui.heading(format!("{} tokens", shown.len()));
            several(cx, &shown, tower)
        }
    };
    // A long value must not push the panel wider: the views beside it would jump.
    let font = egui::TextStyle::Body.resolve(ui.style());
    let width = |name: &str| ui.painter().layout_no_wrap(name.into(), font.clone(), cx.theme.weak).size().x;
    let names = lines.iter().map(|l| width(l.0)).fold(0.0, f32::max);
    let room = (ui.available_width() - names - 14.0).max(60.0);
    egui::Grid::new("token").num_columns(2).spacing([12.0, 2.0]).show(ui, |ui| {
        for (name, value) in &lines {
            ui.weak(*name);
            ui.scope(|ui| {
                ui.set_max_width(room);
                ui.add(egui::Label::new(egui::RichText::new(value).monospace()).truncate());
            });
            ui.end_row();
        }
    });
    if let ([i], Tower::Text, None) = (&shown[..], name, cx.hovered.token()) {
        alternatives_ui(cx, ui, *i, tower.n_layers);
    }
    if !lines.is_empty() && ui.small_button("Copy").on_hover_text("These numbers as text").clicked() {
        let text: Vec<String> = lines.iter().map(|(k, v)| format!("{k}\t{v}")).collect();
        ui.ctx().copy_text(text.join("\n"));
    }
    let s = if n == 1 { "" } else { "s" };
    ui.small(format!("{n} token{s} · trace of {}", bytes(trace.size_bytes() as u64)));
    for note in &trace.notes {
        ui.small(note);
    }
}

/// What may come after the token, to go on from or to explain the prediction rather than it. Not of what the pointer
/// passes over: that would be a list for each token on its way.
fn alternatives_ui(cx: &Cx, ui: &mut Ui, token: usize, level: usize) {
    if cx.recorded() || cx.ready_model().is_none_or(|m| m.model.info().vocab == 0) {
        return;
    }
    let tip = "The most probable tokens after this one; click one to go on from it";
    let (words, top) = if cx.pane.reduced {
        let last = cx.ready_trace().and_then(|t| t.towers.get(&Tower::Text).map(|t| t.tokens.len())).unwrap_or(0);
        if token + 1 != last {
            return drop(ui.small("what comes next here is known of the full model only"));
        }
        let asked = NextReducedOf(ReducedOf::of(cx.pane, cx.call(Kind::Reduce)));
        let Status::Ready(ln_p) = cx.status("alternatives of the reduced", &asked) else { return };
        // A vocabulary is large, and frames are many.
        let held: Held = ln_p.clone();
        let top = kept(ui, "next of the reduced", &held, (), || guesses(cx, &ln_p));
        (format!("may come next, {}", cx.pane.speaks()), top.to_vec())
    } else {
        let asked = NodeLensOf { run: cx.pane.run.clone(), level, token };
        let Status::Ready(top) = cx.status("alternatives", &asked) else { return };
        ("may come next".into(), top.to_vec())
    };
    ui.small(words).on_hover_text(tip);
    egui::Grid::new("next tokens").num_columns(2).spacing([8.0, 0.0]).show(ui, |ui| {
        for (i, g) in top.iter().enumerate().take(ALTERNATIVES) {
            widgets::guess(cx, ui, token, i, g);
            ui.small(format!("{:.1}%", g.p * 100.0));
            ui.end_row();
        }
    });
}

/// The most probable of natural logarithms of probabilities.
fn guesses(cx: &Cx, ln_p: &[f64]) -> Vec<Guess> {
    let open = cx.ready_model();
    let tokenizer = open.as_ref().and_then(|m| m.tokenizer.as_ref());
    let text = |id: u32| tokenizer.map_or_else(|| format!("<{id}>"), |t| t.token_text(id));
    let guess = |i: usize| Guess { id: i as u32, text: text(i as u32), p: ln_p[i].exp() as f32 };
    largest(ln_p, ALTERNATIVES).into_iter().map(guess).collect()
}

/// Next tokens that are offered.
const ALTERNATIVES: usize = 6;

type Lines = Vec<(&'static str, String)>;

fn one(cx: &Cx, i: usize, token: &Token, name: Tower) -> Lines {
    let mut lines = vec![("index", i.to_string()), ("text", format!("{:?}", token.text))];
    lines.extend(token.id.map(|id| ("id", id.to_string())));
    lines.push(("kind", format!("{:?}", token.kind).to_lowercase()));
    lines.push(match token.source {
        Source::Bytes { start, end } => ("bytes", format!("{start}..{end}")),
        Source::Rect { x, y, w, h } => ("pixels", format!("{x:.0}, {y:.0} · {w:.0} × {h:.0}")),
        Source::None => ("source", "added, not in the input".into()),
    });
    if let Some((values, unit)) = scores(cx)
        && let Some(v) = values.get(i).copied().flatten()
    {
        lines.push(("score", format!("{} {unit}", number(v))));
    }
    if let (Tower::Text, Some(l)) = (name, cx.ready(&LensOf(cx.pane.run.clone())))
        && let Some((text, p)) = l.top.last().and_then(|row| row.get(i))
    {
        lines.push(("predicts", format!("{} {:.1}%", visible(text), p * 100.0)));
    }
    lines
}

fn several(cx: &Cx, shown: &[usize], tower: &TowerTrace) -> Lines {
    let text: String = shown.iter().map(|&i| tower.tokens[i].text.as_str()).collect();
    let ids: Vec<String> = shown.iter().filter_map(|&i| tower.tokens[i].id).map(|id| id.to_string()).collect();
    let mut lines = vec![("from", shown[0].to_string()), ("to", shown[shown.len() - 1].to_string())];
    lines.push(("text", visible(&text)));
    lines.push(("ids", ids.join(" ")));
    if let Some((values, unit)) = scores(cx) {
        let own: Vec<f32> = shown.iter().filter_map(|&i| values.get(i).copied().flatten()).collect();
        let sum: f32 = own.iter().sum();
        lines.push(("score, sum", format!("{} {unit}", number(sum))));
        lines.push(("score, mean", number(sum / own.len().max(1) as f32)));
    }
    lines
}

/// The scores on screen and their unit.
fn scores(cx: &Cx) -> Option<(Vec<Option<f32>>, &'static str)> {
    let asked = ScoreOf::of(cx.pane, cx.call(Kind::Score));
    cx.ready(&asked).map(|s| (s.values.clone(), s.unit))
}
