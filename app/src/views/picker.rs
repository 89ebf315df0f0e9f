//! The picker of a method and its parameters, the same for every kind.

use crate::cx::{Cx, fixed};
use crate::keys::Call;
use crate::pictures::controls::Grid;
use crate::pictures::widgets::{named, words_of};
use crate::state::Command;
use egui::{Response, RichText, Ui};
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Domain, FAMILIES, Info, Kind, LayerPick, Param, Params, Setting};
use tokenscope_analysis::trace::{Tower, Trace};

/// The methods of a kind and the sliders of the chosen one.
pub fn method_ui(cx: &Cx, ui: &mut Ui, kind: Kind) {
    let all: Vec<&'static Info> = catalog::of(kind).collect();
    let call = cx.call(kind);
    let wished = cx.pane.call(kind).method;
    if call.method != wished
        && let Some(info) = all.iter().find(|i| i.id == wished)
        && let Some(why) = cx.lacks(info)
        && let Some(shown) = all.iter().find(|i| i.id == call.method)
    {
        ui.small(format!("{} {why}; {} is shown.", info.title, shown.title));
    }
    let stand_in = call.method != wished;
    let id = call.method;
    picker_of(cx, ui, &all, &call, kind.name(), &mut |change| match change {
        Change::Method(id) => cx.send(Command::Method(id)),
        Change::Param(key, v) => {
            // A parameter of the stand-in makes it the choice.
            if stand_in {
                cx.send(Command::Method(id));
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
    Param(&'static str, Setting),
}

/// The picker for `call`; `name` tells it from others for a screen reader.
pub fn picker_ui(cx: &Cx, ui: &mut Ui, kind: Kind, call: &Call, name: &str, send: &mut dyn FnMut(Change)) {
    let all: Vec<&'static Info> = catalog::of(kind).collect();
    picker_of(cx, ui, &all, call, name, send);
}

/// The picker for `call`, one of these methods.
pub fn picker_of(cx: &Cx, ui: &mut Ui, all: &[&'static Info], call: &Call, name: &str, send: &mut dyn FnMut(Change)) {
    let Some(chosen) = all.iter().find(|i| i.id == call.method) else { return };
    let params = &call.params;
    if cx.figure {
        let set: Vec<String> = chosen
            .params
            .iter()
            .map(|p| match p.domain {
                // A text may be long; the document that goes with the figure has it.
                Domain::Text { presets } => {
                    let named = presets.iter().find(|q| q.1 == &*params.text(p));
                    format!("{} {}", words_of(p.key), named.map_or("of your own", |q| q.0))
                }
                _ => format!("{} {}", words_of(p.key), words_of(&params.value(p).to_string())),
            })
            .collect();
        let set = if set.is_empty() { String::new() } else { format!(" ({})", set.join(", ")) };
        ui.label(format!("{}{set}", chosen.title));
        return;
    }
    let trace = cx.ready_trace();
    let shown = trace.as_ref().and_then(|t| cx.tower(t)).map_or(Tower::Text, |t| t.0);
    let names: Vec<String> = chosen.params.iter().map(|p| words_of(p.key)).collect();
    let methods = |ui: &mut Ui, send: &mut dyn FnMut(Change)| {
        let combo = egui::ComboBox::from_id_salt("method")
            .selected_text(chosen.title)
            .height(420.0)
            .show_ui(ui, |ui| list_ui(cx, ui, all, chosen, send));
        let combo = combo.response.on_hover_ui(|ui| about_ui(ui, chosen));
        named(&combo, &format!("{name} method"));
    };
    let params_ui = |ui: &mut Ui, send: &mut dyn FnMut(Change)| {
        Grid::new(ui, names.iter().map(String::as_str)).show(ui, &names, |ui, i, label| {
            param_ui(ui, &chosen.params[i], params, trace.as_deref(), shown, label, send);
        });
    };
    fixed(ui, ("picker", name), |ui| {
        // One parameter has room beside the method.
        if names.len() == 1 && ui.available_width() > 460.0 {
            ui.horizontal(|ui| {
                methods(ui, send);
                params_ui(ui, send);
            });
        } else {
            methods(ui, send);
            params_ui(ui, send);
        }
    });
}

/// Methods from which on a field to search in stands above the list.
const SEARCHED: usize = 8;

/// The methods under the headings of their families; what the run cannot serve is grey and says why.
fn list_ui(cx: &Cx, ui: &mut Ui, all: &[&'static Info], chosen: &Info, send: &mut dyn FnMut(Change)) {
    let slot = ui.scope_id().with("search");
    let mut words: String = ui.data(|d| d.get_temp(slot)).unwrap_or_default();
    if all.len() >= SEARCHED {
        let edit = ui.add(
            egui::TextEdit::singleline(&mut words)
                .id(slot.with("box"))
                .hint_text("search")
                .desired_width(f32::INFINITY),
        );
        named(&edit, "search methods");
        ui.data_mut(|d| d.insert_temp(slot, words.clone()));
    }
    let mut found = false;
    for family in FAMILIES {
        let fits = all.iter().filter(|i| i.family == *family && i.fits(&words));
        let mut shown: Vec<(&Info, Option<String>)> = fits.map(|i| (*i, cx.lacks(i))).collect();
        if shown.is_empty() {
            continue;
        }
        found = true;
        shown.sort_by_key(|s| s.1.is_some());
        ui.label(RichText::new(*family).small().weak());
        for (info, lacks) in shown {
            let note = info.paper.map_or(String::new(), |p| format!("{}", p.year));
            let button = egui::Button::selectable(info.id == chosen.id, info.title).shortcut_text(note);
            let r = ui.add_enabled(lacks.is_none(), button).on_hover_ui(|ui| about_ui(ui, info));
            if r.clicked() {
                ui.data_mut(|d| d.remove::<String>(slot));
                send(Change::Method(info.id));
            }
            if let Some(why) = lacks {
                r.on_disabled_hover_text(format!("{}\n{why}", info.summary));
            }
        }
    }
    if !found {
        ui.weak("Nothing has such a name.");
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
    ui.small(format!("Basis: {}", info.basis.words()));
    ui.small(format!("Departs from it: {}", info.departs));
}

fn param_ui(
    ui: &mut Ui,
    p: &Param,
    params: &Params,
    trace: Option<&Trace>,
    shown: Tower,
    label: &Response,
    send: &mut dyn FnMut(Change),
) {
    let (value, name) = (params.value(p), words_of(p.key));
    let layers = |tower: Option<Tower>| {
        let tower = trace.and_then(|t| t.towers.get(&tower.unwrap_or(shown)));
        tower.map_or(1, |t| t.n_layers.max(1)) as i64
    };
    label.clone().on_hover_text(p.doc);
    // What a control says about itself, the same for each kind.
    let told = |r: Response| {
        named(&r, &name);
        r.labelled_by(label.id).on_hover_text(p.doc)
    };
    let new: Option<Setting> = match p.domain {
        Domain::Share { .. } => number_ui(ui, &value, (0.0, 1.0), told),
        Domain::Number { min, max, .. } => number_ui(ui, &value, (min, max), told),
        Domain::Count { min, max, .. } => {
            let mut v = params.count(p);
            if max.saturating_sub(min) > 10_000 {
                drag_ui(ui, &mut v, (min, max), told)
            } else {
                let slider = egui::Slider::new(&mut v, min..=max).logarithmic(max - min > 1000);
                told(ui.add(slider)).changed().then(|| v.into())
            }
        }
        Domain::Seed => drag_ui(ui, &mut params.count(p), (0, i64::MAX), told),
        Domain::Layer { tower, all, .. } => layer_ui(ui, p, params, (layers(tower), all), told),
        Domain::Toggle { .. } => {
            let mut v = params.toggle(p);
            told(ui.checkbox(&mut v, "")).changed().then(|| v.into())
        }
        Domain::Choice { options } => {
            let mut v = params.choice(p);
            let combo = egui::ComboBox::from_id_salt(p.key).width(112.0).truncate().selected_text(words_of(v));
            let combo = combo.show_ui(ui, |ui| {
                for o in options {
                    ui.selectable_value(&mut v, *o, words_of(o));
                }
            });
            told(combo.response);
            (params.choice(p) != v).then(|| v.into())
        }
        Domain::Text { presets } => text_ui(ui, p, params, presets, &name),
        Domain::Schedule { .. } => schedule_ui(ui, p, params, &name),
    };
    if let Some(v) = new {
        send(Change::Param(p.key, v));
    }
    if value != p.default() {
        let before = match p.domain {
            Domain::Text { presets } => presets[0].0.to_string(),
            _ => p.default().to_string(),
        };
        let reset = ui.small_button("↺").on_hover_text(format!("Back to {before}"));
        named(&reset, &format!("reset {name}"));
        if reset.clicked() {
            send(Change::Param(p.key, p.default()));
        }
    }
}

fn number_ui(
    ui: &mut Ui,
    value: &Setting,
    (min, max): (f64, f64),
    told: impl Fn(Response) -> Response,
) -> Option<Setting> {
    let mut v = value.number().unwrap_or(min);
    told(ui.add(egui::Slider::new(&mut v, min..=max).max_decimals(3))).changed().then(|| v.into())
}

fn drag_ui(ui: &mut Ui, v: &mut i64, (min, max): (i64, i64), told: impl Fn(Response) -> Response) -> Option<Setting> {
    told(ui.add(egui::DragValue::new(v).range(min..=max).speed(0.1))).changed().then(|| (*v).into())
}

/// A slider over the `n` layers, and a box for all of them where that is an answer.
fn layer_ui(
    ui: &mut Ui,
    p: &Param,
    params: &Params,
    (n, all): (i64, bool),
    told: impl Fn(Response) -> Response,
) -> Option<Setting> {
    let chosen = params.layer(p, n as usize).unwrap_or(Some(n as usize - 1));
    let mut new = None;
    if let Some(layer) = chosen {
        let mut v = layer as i64;
        // The box beside it needs room, too.
        ui.spacing_mut().slider_width -= if all { 30.0 } else { 0.0 };
        if told(ui.add(egui::Slider::new(&mut v, 0..=n - 1))).changed() {
            new = Some(LayerPick::At(v).into());
        }
    }
    if all {
        let mut on = chosen.is_none();
        if ui.checkbox(&mut on, "all").on_hover_text(format!("All layers. {}", p.doc)).changed() {
            new = Some(if on { LayerPick::All.into() } else { LayerPick::At(n - 1).into() });
        }
    }
    new
}

/// A button with the name or the beginning of a text; it opens a box to write it in, and the texts to begin with.
fn text_ui(
    ui: &mut Ui,
    p: &Param,
    params: &Params,
    presets: &'static [(&'static str, &'static str)],
    name: &str,
) -> Option<Setting> {
    let now = params.text(p);
    let known = presets.iter().find(|q| q.1 == &*now);
    let first = now.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = known.map_or_else(|| first.chars().take(16).collect(), |q| q.0.to_string());
    let button = ui.add(egui::Button::new(words).truncate()).on_hover_text(p.doc);
    named(&button, name);
    let slot = ui.scope_id().with(("text", p.key));
    let mut out = None;
    let popup =
        egui::Popup::from_toggle_button_response(&button).close_behavior(egui::PopupCloseBehavior::CloseOnClickOutside);
    popup.show(|ui| {
        ui.set_max_width(460.0);
        let mut text: String = ui.data(|d| d.get_temp(slot)).unwrap_or_else(|| now.to_string());
        ui.small(p.doc);
        ui.horizontal_wrapped(|ui| {
            for (title, preset) in presets {
                if ui.selectable_label(text == *preset, *title).clicked() {
                    text = (*preset).to_string();
                    out = Some(Setting::Text((*preset).into()));
                }
            }
        });
        egui::ScrollArea::vertical().max_height(280.0).show(ui, |ui| {
            let edit = egui::TextEdit::multiline(&mut text).id(slot.with("box")).code_editor();
            named(&ui.add(edit.desired_rows(6).desired_width(440.0)), &format!("text of {name}"));
        });
        ui.horizontal(|ui| {
            let keys = ui.input_mut(|i| i.consume_key(egui::Modifiers::COMMAND, egui::Key::Enter));
            let changed = text != *now;
            let take = ui.add_enabled(changed, egui::Button::new("Apply")).on_hover_text("Ctrl+Enter");
            if changed && (take.clicked() || keys) {
                out = p.parse(&text).ok();
            }
            if changed {
                ui.weak("not applied yet");
            }
        });
        ui.data_mut(|d| match out {
            Some(_) => d.remove::<String>(slot),
            None => drop(d.insert_temp(slot, text)),
        });
    });
    if !egui::Popup::is_id_open(ui.ctx(), egui::Popup::default_response_id(&button)) {
        ui.data_mut(|d| d.remove::<String>(slot));
    }
    out
}

/// A field with the numbers of a schedule, taken over when it is left.
fn schedule_ui(ui: &mut Ui, p: &Param, params: &Params, name: &str) -> Option<Setting> {
    let written = |list: Vec<f64>| list.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
    let slot = ui.scope_id().with(("schedule", p.key));
    let now = written(params.schedule(p));
    let mut text: String = ui.data(|d| d.get_temp(slot)).unwrap_or_else(|| now.clone());
    let edit = egui::TextEdit::singleline(&mut text).id(slot.with("box")).desired_width(104.0);
    let edit = ui.add(edit).on_hover_text(p.doc);
    named(&edit, name);
    if edit.has_focus() {
        ui.data_mut(|d| d.insert_temp(slot, text));
        return None;
    }
    ui.data_mut(|d| d.remove::<String>(slot));
    // What cannot be read is put back to what it was.
    if edit.lost_focus() && text != now { p.parse(&text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_stands_under_a_heading() {
        assert!(catalog::all().all(|e| FAMILIES.contains(&e.info().family)));
    }
}
