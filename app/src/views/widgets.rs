//! Pieces that several views draw: method picker, token chips, legend.

use super::Cx;
use crate::state::Command;
use egui::{Color32, Sense, Ui};
use tokenscope_analysis::method::{Kind, Param};

/// Tells a screen reader what a control without words of its own is for.
pub fn named(response: &egui::Response, name: &str) {
    response.ctx.accesskit_node_builder(response.id, |node| node.set_label(name));
}

/// A combo box of the methods of a kind and the sliders of the chosen one.
pub fn method_ui(cx: &Cx, ui: &mut Ui, kind: Kind) {
    let methods = super::methods(kind);
    let call = cx.call(kind);
    let Some(chosen) = methods.iter().find(|i| i.id == call.method) else { return };
    let params = call.params();
    if cx.doc.method(kind).0 != chosen.id
        && let Some(wished) = methods.iter().find(|i| i.id == cx.doc.method(kind).0)
        && let Some(why) = cx.lacks(wished)
    {
        ui.small(format!("{} {why}; {} is shown.", wished.title, chosen.title));
    }
    if cx.figure {
        let set: Vec<String> =
            chosen.params.iter().map(|p| format!("{} {}", p.key(), plain(&params.value(p)))).collect();
        let set = if set.is_empty() { String::new() } else { format!(" ({})", set.join(", ")) };
        ui.label(format!("{}{set}", chosen.title));
        return;
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().slider_width = 64.0;
        let combo =
            egui::ComboBox::from_id_salt(("method", kind.name())).selected_text(chosen.title).show_ui(ui, |ui| {
                for info in &methods {
                    let lacks = cx.lacks(info);
                    let label = egui::Button::selectable(info.id == chosen.id, info.title);
                    let r = ui.add_enabled(lacks.is_none(), label).on_hover_text(info.summary);
                    if r.clicked() {
                        cx.send(Command::Method(kind, info.id.into()));
                    }
                    if let Some(why) = lacks {
                        r.on_disabled_hover_text(format!("{}\n{why}", info.summary));
                    }
                }
            });
        named(&combo.response, &format!("{} method", kind.name()));
        for p in chosen.params {
            // A slider with its number and name does not wrap by itself.
            if matches!(p, Param::Number { .. }) && ui.available_size_before_wrap().x < 230.0 {
                ui.end_row();
            }
            let value = params.value(p);
            let new = match *p {
                Param::Number { min, max, .. } => {
                    let mut v = value.as_f64().unwrap_or(min);
                    let slider = egui::Slider::new(&mut v, min..=max).text(p.key());
                    ui.add(slider).on_hover_text(p.doc()).changed().then(|| v.into())
                }
                Param::Count { min, max, .. } => {
                    let mut v = value.as_i64().unwrap_or(min);
                    let drag =
                        egui::DragValue::new(&mut v).range(min..=max).speed(0.1).prefix(format!("{}: ", p.key()));
                    ui.add(drag).on_hover_text(p.doc()).changed().then(|| v.into())
                }
                Param::Toggle { .. } => {
                    let mut v = value.as_bool().unwrap_or(false);
                    ui.checkbox(&mut v, p.key()).on_hover_text(p.doc()).changed().then(|| v.into())
                }
                Param::Choice { options, .. } => {
                    let mut v = value.as_str().unwrap_or_default().to_string();
                    let combo = egui::ComboBox::from_id_salt(p.key()).selected_text(&v).show_ui(ui, |ui| {
                        for o in options {
                            ui.selectable_value(&mut v, (*o).to_string(), *o);
                        }
                    });
                    named(&combo.response, p.key());
                    (value.as_str() != Some(&v)).then(|| v.into())
                }
            };
            if let Some(v) = new {
                // A parameter of the stand-in makes it the choice.
                if cx.doc.method(kind).0 != chosen.id {
                    cx.send(Command::Method(kind, chosen.id.into()));
                }
                cx.send(Command::Param(kind, p.key(), v));
            }
        }
    });
}

/// A value without the quotes of JSON.
fn plain(v: &serde_json::Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_string)
}

/// White space made visible.
pub fn visible(text: &str) -> String {
    text.replace(' ', "·").replace('\n', "⏎").replace('\t', "→")
}

/// A token chip. Hovering it is told to the other views when `token` says which token of the run it is.
pub fn chip(cx: &Cx, ui: &mut Ui, text: &str, fill: Color32, struck: bool, token: Option<usize>) -> egui::Response {
    let shown = visible(text);
    let color = cx.theme.text_on(fill);
    let font = egui::TextStyle::Monospace.resolve(ui.style());
    let format = egui::TextFormat {
        strikethrough: if struck { egui::Stroke::new(1.5, color) } else { egui::Stroke::NONE },
        ..egui::TextFormat::simple(font, color)
    };
    let shown = if shown.is_empty() { "∅".to_string() } else { shown };
    let mut job = egui::text::LayoutJob::single_section(shown.clone(), format);
    // A chip never breaks: the row does.
    job.wrap.max_width = f32::INFINITY;
    let galley = ui.painter().layout_job(job);
    let (rect, response) = ui.allocate_exact_size(galley.size() + egui::vec2(6.0, 4.0), Sense::click());
    if ui.is_rect_visible(rect) {
        ui.painter().rect_filled(rect, 3.0, fill);
        if token.is_some() && (cx.hovered == token || cx.doc.target == token) {
            let stroke = egui::Stroke::new(2.0, cx.theme.accent);
            ui.painter().rect_stroke(rect, 3.0, stroke, egui::StrokeKind::Inside);
        }
        ui.painter().galley(rect.min + egui::vec2(3.0, 2.0), galley, color);
    }
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, format!("token {shown}")));
    if response.hovered() && token.is_some() {
        cx.hover.set(token);
    }
    response
}

/// A bar of the colour map with its ends and unit.
pub fn legend(cx: &Cx, ui: &mut Ui, low: f32, high: f32, unit: &str, signed: bool) {
    ui.horizontal(|ui| {
        ui.small(number(low));
        let (rect, _) = ui.allocate_exact_size(egui::vec2(96.0, 10.0), Sense::hover());
        for i in 0..32 {
            let t = i as f32 / 31.0;
            let c = if signed { cx.theme.signed(t * 2.0 - 1.0) } else { cx.theme.magnitude(t) };
            let x = rect.left() + rect.width() * i as f32 / 32.0;
            let cell = egui::Rect::from_min_size(
                egui::pos2(x, rect.top()),
                egui::vec2(rect.width() / 32.0 + 0.5, rect.height()),
            );
            ui.painter().rect_filled(cell, 0.0, c);
        }
        ui.small(format!("{} {unit}", number(high)));
    });
}

/// Three significant digits.
pub fn number(v: f32) -> String {
    if v == 0.0 || (0.01..1000.0).contains(&v.abs()) { format!("{v:.3}") } else { format!("{v:.2e}") }
}
