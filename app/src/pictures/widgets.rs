//! Pieces that several views draw: token chips, legends, words for values.

use crate::branch;
use crate::cx::{Cx, Standing};
use crate::pane::Contrast;
use crate::selection::{Pick, Selection};
use crate::state::Command;
use egui::{Color32, Sense, Stroke, Ui};
use tokenscope_analysis::lens::Guess;
use tokenscope_analysis::segment::text::seen;
use tokenscope_analysis::token::Token;

/// Tells a screen reader what a control without words of its own is for.
pub fn named(response: &egui::Response, name: &str) {
    response.ctx.accesskit_node_builder(response.id, |node| node.set_label(name));
}

/// A next token that may come after token `at`, the `i`th of a list. A click asks what to do with it: to go on from it,
/// here or in a pane beside, or to explain what is predicted there rather than it. Shift+click goes on beside.
pub fn guess(cx: &Cx, ui: &mut Ui, at: usize, i: usize, guess: &Guess) {
    let words = egui::RichText::new(visible(&guess.text)).monospace();
    if cx.figure {
        ui.label(words);
        return;
    }
    let chosen = cx.pane.contrast.as_ref().is_some_and(|c| c.id == guess.id);
    let link = ui.add(egui::Button::selectable(chosen, words).frame_when_inactive(false));
    named(&link, &format!("next token {}", visible(&guess.text)));
    let link = link.on_hover_text(format!(
        "id {}, {:.2}%\nClick to go on from it, or to explain the prediction rather than it; Shift+click goes on in a \
         pane beside",
        guess.id,
        guess.p * 100.0
    ));
    if link.clicked() && ui.input(|i| i.modifiers.shift) {
        if let Ok(way) = branch::way_after(cx.jobs, &cx.pane.run, at, guess.id) {
            way.go(cx, ui, true);
        }
        return;
    }
    egui::Popup::menu(&link).show(|ui| {
        branch::kept_menu_ui(cx, ui, (at, guess.id), || branch::way_after(cx.jobs, &cx.pane.run, at, guess.id));
        // What is predicted cannot be held against itself.
        if i == 0 && !chosen {
            return;
        }
        ui.separator();
        let (words, tip) = match chosen {
            true => ("Explain the prediction by itself again", "Not rather than anything"),
            false => ("Explain the prediction rather than it", "Why what is predicted here comes, and not this"),
        };
        if ui.button(words).on_hover_text(tip).clicked() {
            let contrast = Contrast { id: guess.id, text: guess.text.clone() };
            cx.send(Command::contrast(Some(at), (!chosen).then_some(contrast)));
            ui.close();
        }
    });
}

/// White space, and whatever else cannot be seen, made visible.
pub fn visible(text: &str) -> String {
    seen(text)
}

/// A text as it reads, or with its white space made visible where that is more than single spaces between words.
pub fn readable(text: &str) -> String {
    let plain = text.split(' ').all(|w| !w.is_empty() && !w.chars().any(|c| c.is_whitespace() || c.is_control()));
    if plain { text.to_string() } else { visible(text) }
}

/// What a chip stands for, so that other views can follow.
#[derive(Clone, Copy)]
pub enum Link<'a> {
    /// Nothing they know.
    None,
    /// A token of the shown run.
    Token(usize, &'a Token),
    /// Bytes `start..end` of the prompt, and the first and last token of the shown run that they touch.
    Bytes(usize, usize, Option<(usize, usize)>),
    /// A decoded token: its place, from the first new one, and its id.
    Decoded(usize, u32),
}

impl Link<'_> {
    /// How the chip stands out.
    pub fn standing(&self, cx: &Cx) -> Standing {
        match *self {
            Link::None => Standing::Plain,
            Link::Token(i, t) => cx.standing(i, t.id),
            Link::Bytes(start, end, _) if cx.hovered.touches(start, end) => Standing::Hovered,
            Link::Bytes(_, _, Some((a, b))) if (a..=b).any(|t| cx.pane.aim.contains(t)) => Standing::Selected,
            Link::Bytes(..) => Standing::Plain,
            Link::Decoded(at, id) if cx.hovered.decoded == Some(at) && cx.hovered.id == Some(id) => Standing::Hovered,
            Link::Decoded(_, id) if cx.hovered.id == Some(id) => Standing::Twin,
            Link::Decoded(..) => Standing::Plain,
        }
    }

    /// Tells the other views that what stands for this is hovered or clicked; the right button has a menu.
    pub fn follow(&self, cx: &Cx, ui: &Ui, response: &egui::Response) {
        // A closed menu costs a look, not a layout: there are thousands of chips.
        if !matches!(self, Link::None) && (response.secondary_clicked() || response.context_menu_opened()) {
            response.context_menu(|ui| self.menu_ui(cx, ui));
        }
        match *self {
            Link::Token(i, t) => {
                if response.hovered() {
                    cx.hover_token(i, Some(t));
                }
                if response.clicked() {
                    cx.pick(ui, i, i);
                }
            }
            Link::Bytes(start, end, tokens) => {
                if response.hovered() {
                    let mut hover = cx.hover.borrow_mut();
                    (hover.bytes, hover.tokens) = (Some((start, end)), tokens);
                }
                if let (true, Some((first, last))) = (response.clicked(), tokens) {
                    cx.pick(ui, first, last);
                }
            }
            Link::Decoded(at, id) if response.hovered() => {
                let mut hover = cx.hover.borrow_mut();
                (hover.decoded, hover.id) = (Some(at), Some(id));
            }
            _ => {}
        }
    }
}

impl Link<'_> {
    /// What can be done with a token.
    pub fn menu_ui(&self, cx: &Cx, ui: &mut Ui) {
        let copy = |ui: &mut Ui, words: &str, text: &str| {
            if ui.add_enabled(!text.is_empty(), egui::Button::new(words)).clicked() {
                ui.ctx().copy_text(text.into());
                ui.close();
            }
        };
        let mut tokens: Option<(usize, usize)> = None;
        match *self {
            Link::None => {}
            Link::Token(i, t) => {
                copy(ui, "Copy text", &t.text);
                if let Some(id) = t.id {
                    copy(ui, &format!("Copy id {id}"), &id.to_string());
                }
                tokens = Some((i, i));
            }
            Link::Bytes(start, end, covered) => {
                copy(ui, "Copy text", cx.text(ui).get(start..end).unwrap_or_default());
                copy(ui, &format!("Copy place {start}..{end}"), &format!("{start}..{end}"));
                tokens = covered;
            }
            Link::Decoded(_, id) => copy(ui, &format!("Copy id {id}"), &id.to_string()),
        }
        let Some((first, last)) = tokens else { return };
        ui.separator();
        let picked = |pick| cx.pane.aim.picked(first, last, pick);
        let select = |ui: &mut Ui, words: &str, selection: Selection| {
            if ui.button(words).clicked() {
                cx.send(Command::Select(selection));
                ui.close();
            }
        };
        let only = Selection::default().picked(first, last, Pick::Only);
        select(ui, "Explain the prediction here", only);
        select(ui, "Extend the selection to here", picked(Pick::Extend));
        select(ui, "Add to the selection, or take out", picked(Pick::Toggle));
        if !cx.pane.aim.is_empty() {
            select(ui, "Release the selection", Selection::default());
        }
    }
}

/// The outline that tells how something stands out; none for what does not.
pub fn outline(cx: &Cx, standing: Standing) -> Option<Stroke> {
    match standing {
        Standing::Hovered => Some(Stroke::new(2.0, cx.theme.text)),
        Standing::Selected => Some(Stroke::new(2.0, cx.theme.accent)),
        Standing::Twin => Some(Stroke::new(1.0, cx.theme.accent)),
        Standing::Plain => None,
    }
}

/// Around the letters of a chip, in points, both sides together.
pub const CHIP_MARGIN: egui::Vec2 = egui::vec2(6.0, 4.0);
/// Hundreds of chips must not be hundreds of stops of the Tab key; keys walk tokens by commands.
pub const CHIP_SENSE: Sense = Sense::CLICK.difference(Sense::FOCUSABLE);

/// The font of chips.
pub fn chip_font(ui: &Ui) -> egui::FontId {
    egui::TextStyle::Monospace.resolve(ui.style())
}

/// What a chip of `text` says.
pub fn chip_words(text: &str) -> String {
    if text.is_empty() { "∅".to_string() } else { visible(text) }
}

/// A token chip. Hovering and clicking it is told to the other views as `link` says.
pub fn chip(cx: &Cx, ui: &mut Ui, text: &str, fill: Color32, struck: bool, link: Link) -> egui::Response {
    let words = chip_words(text);
    let galley = ui.painter().layout_no_wrap(words.clone(), chip_font(ui), Color32::PLACEHOLDER);
    let (_, response) = ui.allocate_exact_size(galley.size() + CHIP_MARGIN, CHIP_SENSE);
    chip_in(cx, ui, &response, words, fill, struck, link);
    response
}

/// A token chip in the place of `response`.
pub fn chip_in(cx: &Cx, ui: &Ui, response: &egui::Response, words: String, fill: Color32, struck: bool, link: Link) {
    let rect = response.rect;
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, format!("token {words}")));
    if ui.is_rect_visible(rect) {
        let color = cx.theme.text_on(fill);
        ui.painter().rect_filled(rect, 3.0, fill);
        if let Some(stroke) = outline(cx, link.standing(cx)) {
            ui.painter().rect_stroke(rect, 3.0, stroke, egui::StrokeKind::Inside);
        }
        let format = egui::TextFormat {
            strikethrough: if struck { Stroke::new(1.5, color) } else { Stroke::NONE },
            ..egui::TextFormat::simple(chip_font(ui), color)
        };
        let mut job = egui::text::LayoutJob::single_section(words, format);
        // A chip never breaks: the row does.
        job.wrap.max_width = f32::INFINITY;
        let galley = ui.painter().layout_job(job);
        let left = rect.left() + CHIP_MARGIN.x / 2.0;
        ui.painter().galley(egui::pos2(left, rect.center().y - galley.size().y / 2.0), galley, color);
    }
    link.follow(cx, ui, response);
}

/// A bar of the colour map with its ends and unit.
pub fn legend(cx: &Cx, ui: &mut Ui, low: f32, high: f32, unit: &str, signed: bool) {
    ui.horizontal_wrapped(|ui| {
        ui.small(number(low));
        let (rect, bar) = ui.allocate_exact_size(egui::vec2(96.0, 10.0), Sense::hover());
        if !signed {
            bar.on_hover_text(format!("{}; the menu View has other colours", cx.theme.map.name()));
        }
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
        ui.painter().rect_stroke(rect, 0.0, Stroke::new(1.0, cx.theme.line), egui::StrokeKind::Outside);
        ui.small(format!("{} {unit}", number(high)));
    });
}

/// A square of colour and what it means; they stay together where a line ends.
pub fn key(cx: &Cx, ui: &mut Ui, fill: Color32, stroke: Color32, words: &str) {
    super::marks::entry(cx.theme, ui, words, "", 10.0, &|painter, rect| {
        let square = egui::Rect::from_center_size(rect.center(), egui::vec2(10.0, 10.0));
        painter.rect(square, 2.0, fill, Stroke::new(1.0, stroke), egui::StrokeKind::Inside);
    });
}

/// Three significant digits.
pub fn number(v: f32) -> String {
    if v == 0.0 || (0.01..1000.0).contains(&v.abs()) { format!("{v:.3}") } else { format!("{v:.2e}") }
}

/// `new_tokens` as `new tokens`.
pub fn words_of(key: &str) -> String {
    key.replace('_', " ")
}
