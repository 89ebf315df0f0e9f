//! Which stage of a picture is looked at. Layers and steps are the document's, so that all pictures show the same one;
//! steps play by themselves where somebody asks.

use super::widgets;
use crate::cx::Cx;
use crate::state::Command;
use egui::{Id, Key, Modifiers, Ui};
use std::time::Duration;
use tokenscope_analysis::finding::Unit;

/// The stage that the document chooses among `n` of `unit`; `None` is the whole.
pub fn chosen(cx: &Cx, unit: &Unit, n: usize) -> Option<usize> {
    match unit {
        Unit::Layers => cx.pane.cursor.at_layer.filter(|l| *l < n),
        Unit::Steps => Some(cx.pane.cursor.round).filter(|_| n > 0).map(|r| r.min(n - 1)),
        _ => None,
    }
}

/// A slider over the stages; in a figure, the stage in words. `whole` is what stands for no stage at all.
pub fn ui(cx: &Cx, ui: &mut Ui, unit: &Unit, n: usize, whole: &str) -> Option<usize> {
    let now = chosen(cx, unit, n);
    if n == 0 || !matches!(unit, Unit::Layers | Unit::Steps) {
        return now;
    }
    if let (Unit::Steps, Some(step)) = (unit, now) {
        steps_ui(cx, ui, step, n);
        return now;
    }
    let words = now.map_or(whole.to_string(), |i| unit.label(i));
    if cx.figure {
        ui.small(words);
        return now;
    }
    // One place more than there are layers stands for the whole.
    let mut at = now.unwrap_or(n);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().slider_width = 120.0;
        let label = ui.label(words);
        let slider = egui::Slider::new(&mut at, 0..=n).show_value(false);
        if ui.add(slider).labelled_by(label.id).on_hover_text(format!("Which {} is shown", unit.name())).changed() {
            cx.send(Command::layer(Some(at).filter(|l| *l < n)));
        }
    });
    now
}

/// Steps a second that are played.
const PACES: std::ops::RangeInclusive<f64> = 1.0..=20.0;

/// What plays: whether it does, since when the present step stands, and steps a second.
#[derive(Clone, Copy)]
struct Player {
    on: bool,
    since: f64,
    pace: f64,
}

/// A slider over the steps and a button that plays them.
fn steps_ui(cx: &Cx, ui: &mut Ui, shown: usize, n: usize) {
    if cx.figure {
        ui.small(format!("after step {shown}, of 0 to {}", n - 1));
        return;
    }
    ui.horizontal_wrapped(|ui| {
        play_ui(cx, ui, "steps", true, shown, n);
        let mut step = shown;
        if super::controls::slider(ui, "step", &mut step, 0..=n - 1).changed() {
            pause(cx, ui);
            cx.send(Command::round(step));
        }
        pace_ui(cx, ui, "steps");
    });
}

fn slot(cx: &Cx) -> Id {
    Id::unique("player of the steps").with(cx.at)
}

fn player(cx: &Cx, ui: &Ui) -> Player {
    let now = ui.input(|i| i.time);
    ui.data(|d| d.get_temp(slot(cx))).unwrap_or(Player { on: false, since: now, pace: 4.0 })
}

/// A button that plays `what`, `n` of them of which `shown` is seen, or pauses; and goes on to the next one when it is
/// time. With `bar` the space bar does the same while nothing else has the keys.
pub fn play_ui(cx: &Cx, ui: &mut Ui, what: &str, bar: bool, shown: usize, n: usize) {
    let (now, mut player) = (ui.input(|i| i.time), player(cx, ui));
    let tip = format!("Play the {what} or pause{}", if bar { ", Space" } else { "" });
    let bar =
        bar && ui.memory(|m| m.focused().is_none()) && ui.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Space));
    let (sign, word) = if player.on { ("⏸", "pause") } else { ("▶", "play") };
    let play = ui.add_enabled(n > 1, egui::Button::new(sign)).on_hover_text(tip);
    widgets::named(&play, &format!("{word} the {what}"));
    if play.clicked() || bar {
        player = Player { on: !player.on && n > 1, since: now, ..player };
        if player.on && shown + 1 == n {
            cx.send(Command::round(0));
        }
    } else if player.on && shown + 1 == n && now > player.since {
        player.on = false;
    } else if player.on && now - player.since >= 1.0 / player.pace {
        player.since = now;
        cx.send(Command::round(shown + 1));
    }
    if player.on {
        let left = (player.since + 1.0 / player.pace - now).max(0.0);
        ui.ctx().request_repaint_after(Duration::from_secs_f64(left));
    }
    ui.data_mut(|d| d.insert_temp(slot(cx), player));
}

/// Room that [`pace_ui`] takes, in points.
const PACE: f32 = 230.0;

/// How fast it is played, on a line of its own where this one has no room: a slider does not break by itself.
pub fn pace_ui(cx: &Cx, ui: &mut Ui, what: &str) {
    let mut player = player(cx, ui);
    if ui.available_size_before_wrap().x < PACE {
        ui.end_row();
    }
    ui.spacing_mut().slider_width = 60.0;
    let label = ui.label(format!("{what} a second"));
    let pace = egui::Slider::new(&mut player.pace, PACES).fixed_decimals(0);
    if ui.add(pace).labelled_by(label.id).on_hover_text(format!("How fast the {what} are played")).changed() {
        ui.data_mut(|d| d.insert_temp(slot(cx), player));
    }
}

/// Stops playing.
pub fn pause(cx: &Cx, ui: &Ui) {
    let player = Player { on: false, ..player(cx, ui) };
    ui.data_mut(|d| d.insert_temp(slot(cx), player));
}
