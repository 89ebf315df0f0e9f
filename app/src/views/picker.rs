//! The picker of a method and its parameters, the same for every kind.

use super::widgets::{named, plain, words_of};
use super::{Cx, methods};
use crate::request::Call;
use crate::state::Command;
use egui::{RichText, Ui};
use serde_json::Value;
use tokenscope_analysis::method::{Info, Kind, Param, Params};
use tokenscope_analysis::trace::TowerTrace;

/// The methods of a kind and the sliders of the chosen one.
pub fn method_ui(cx: &Cx, ui: &mut Ui, kind: Kind) {
    let all = methods(kind);
    let call = cx.call(kind);
    let wished = &cx.doc.method(kind).0;
    if call.method != *wished
        && let Some(info) = all.iter().find(|i| i.id == wished)
        && let Some(why) = cx.lacks(info)
        && let Some(shown) = all.iter().find(|i| i.id == call.method)
    {
        ui.small(format!("{} {why}; {} is shown.", info.title, shown.title));
    }
    let stand_in = call.method != *wished;
    let id = call.method.clone();
    picker_ui(cx, ui, kind, &call, kind.name(), &mut |change| match change {
        Change::Method(id) => cx.send(Command::Method(kind, id.into())),
        Change::Param(key, v) => {
            // A parameter of the stand-in makes it the choice.
            if stand_in {
                cx.send(Command::Method(kind, id.clone()));
            }
            cx.send(Command::Param(kind, key, v));
        }
    });
}

/// What a user changed in a picker.
pub enum Change {
    /// Another method.
    Method(&'static str),
    /// A parameter of the chosen one.
    Param(&'static str, Value),
}

/// The picker for `call`; `name` tells it from others for a screen reader.
pub fn picker_ui(cx: &Cx, ui: &mut Ui, kind: Kind, call: &Call, name: &str, send: &mut dyn FnMut(Change)) {
    let all = methods(kind);
    let Some(chosen) = all.iter().find(|i| i.id == call.method) else { return };
    let params = call.params();
    if cx.figure {
        let set: Vec<String> =
            chosen.params.iter().map(|p| format!("{} {}", words_of(p.key()), plain(&params.value(p)))).collect();
        let set = if set.is_empty() { String::new() } else { format!(" ({})", set.join(", ")) };
        ui.label(format!("{}{set}", chosen.title));
        return;
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().slider_width = 72.0;
        ui.spacing_mut().item_spacing.x = 4.0;
        let combo = egui::ComboBox::from_id_salt(("method", name))
            .selected_text(chosen.title)
            .height(420.0)
            .show_ui(ui, |ui| list_ui(cx, ui, &all, chosen, send));
        let combo = combo.response.on_hover_ui(|ui| about_ui(ui, chosen));
        named(&combo, &format!("{name} method"));
        let trace = cx.ready_trace();
        let tower = trace.as_ref().and_then(|t| cx.tower(t)).map(|t| t.1);
        for p in chosen.params {
            param_ui(ui, p, &params, tower, send);
            // Its name stands nearer to a slider than the next slider to the name.
            ui.add_space(6.0);
        }
    });
}

/// The methods under headings; what the run cannot serve is grey and says why.
fn list_ui(cx: &Cx, ui: &mut Ui, all: &[&'static Info], chosen: &Info, send: &mut dyn FnMut(Change)) {
    let groups: [(&str, bool); 2] = [("Published", true), ("Baselines", false)];
    for (heading, published) in groups {
        let mut shown: Vec<&&Info> = all.iter().filter(|i| i.paper.is_some() == published).collect();
        if shown.is_empty() {
            continue;
        }
        shown.sort_by_key(|i| cx.lacks(i).is_some());
        ui.label(RichText::new(heading).small().weak());
        for info in shown {
            let lacks = cx.lacks(info);
            let note = info.paper.map_or(String::new(), |p| format!("{}", p.year));
            let button = egui::Button::selectable(info.id == chosen.id, info.title).shortcut_text(note);
            let r = ui.add_enabled(lacks.is_none(), button).on_hover_ui(|ui| about_ui(ui, info));
            if r.clicked() {
                send(Change::Method(info.id));
            }
            if let Some(why) = lacks {
                r.on_disabled_hover_text(format!("{}\n{why}", info.summary));
            }
        }
    }
}

/// What a method says about itself.
fn about_ui(ui: &mut Ui, info: &Info) {
    ui.set_max_width(360.0);
    ui.label(info.summary);
    if let Some(p) = info.paper {
        let arxiv = if p.arxiv.is_empty() { String::new() } else { format!(", arXiv {}", p.arxiv) };
        ui.small(format!("{}: {} ({}{arxiv})", p.authors, p.title, p.year));
    }
    ui.small(format!("Departs from the source: {}", info.departs));
}

fn param_ui(ui: &mut Ui, p: &Param, params: &Params, tower: Option<&TowerTrace>, send: &mut dyn FnMut(Change)) {
    let (value, name, doc) = (params.value(p), words_of(p.key()), p.doc());
    // A slider with its number and name does not wrap by itself.
    let wide = matches!(p, Param::Number { .. } | Param::Count { .. });
    if ui.available_size_before_wrap().x < if wide { 220.0 } else { 110.0 } {
        ui.end_row();
    }
    let new = match *p {
        Param::Number { min, max, .. } => {
            let mut v = value.as_f64().unwrap_or(min);
            let slider = egui::Slider::new(&mut v, min..=max).max_decimals(3).text(&name);
            ui.add(slider).on_hover_text(doc).changed().then(|| v.into())
        }
        Param::Count { min, max, .. } => {
            let mut v = value.as_i64().unwrap_or(min);
            let (min, max) = reach(p.key(), min, max, tower);
            if max.saturating_sub(min) > 10_000 {
                let drag = egui::DragValue::new(&mut v).range(min..=max).speed(0.1).prefix(format!("{name} "));
                ui.add(drag).on_hover_text(doc).changed().then(|| v.into())
            } else {
                ui.add(egui::Slider::new(&mut v, min..=max).text(&name)).on_hover_text(doc).changed().then(|| v.into())
            }
        }
        Param::Toggle { .. } => {
            let mut v = value.as_bool().unwrap_or(false);
            ui.checkbox(&mut v, &name).on_hover_text(doc).changed().then(|| v.into())
        }
        Param::Choice { options, .. } => {
            let mut v = value.as_str().unwrap_or_default().to_string();
            let combo = egui::ComboBox::from_id_salt(p.key()).selected_text(words_of(&v)).show_ui(ui, |ui| {
                for o in options {
                    ui.selectable_value(&mut v, (*o).to_string(), words_of(o));
                }
            });
            named(&combo.response, &name);
            combo.response.on_hover_text(format!("{name}: {doc}"));
            (value.as_str() != Some(&v)).then(|| v.into())
        }
    };
    if let Some(v) = new {
        send(Change::Param(p.key(), v));
    }
    if value != p.default() {
        let reset = ui.small_button("↺").on_hover_text(format!("Back to {}", plain(&p.default())));
        named(&reset, &format!("reset {name}"));
        if reset.clicked() {
            send(Change::Param(p.key(), p.default()));
        }
    }
}

/// The range of a count, held to the layers that the model has.
fn reach(key: &str, min: i64, max: i64, tower: Option<&TowerTrace>) -> (i64, i64) {
    match tower {
        Some(t) if key.ends_with("layer") => {
            let n = t.n_layers.max(1) as i64;
            (min.max(-n), max.min(n - 1))
        }
        Some(t) if key == "r" => (min, max.min((t.tokens.len() / 2).max(1) as i64)),
        _ => (min, max),
    }
}
