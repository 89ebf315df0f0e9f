//! The atlas in the window: every paper that the program is to show, what it does of each, and a button that runs it.

use crate::cx::Cx;
use crate::pictures::widgets::named;
use crate::state::Command;
use egui::{Align, Layout, RichText, Ui, vec2};
use tokenscope_analysis::atlas::{Extent, Paper, families, papers};
use tokenscope_analysis::method::Info;

/// State of the page.
#[derive(Default)]
pub struct Atlas {
    /// Whether it is open.
    pub open: bool,
    words: String,
    family: Option<&'static str>,
    extent: Option<Extent>,
    /// The papers that words, family and extent leave, and what they were when these were found.
    found: Option<(String, Vec<&'static Paper>)>,
}

impl Atlas {
    /// Opens or closes the page.
    pub fn toggle(&mut self) {
        self.open = !self.open;
    }

    /// Draws it, where it is open.
    pub fn ui(&mut self, cx: &Cx, ctx: &egui::Context) {
        let mut open = self.open;
        let room = ctx.content_rect().size();
        let size = vec2((room.x - 48.0).clamp(320.0, 860.0), (room.y - 96.0).clamp(240.0, 720.0));
        egui::Window::new("Atlas").open(&mut open).collapsible(false).default_size(size).show(ctx, |ui| {
            self.filters_ui(ui);
            ui.separator();
            self.papers_ui(cx, ui);
        });
        self.open &= open;
    }

    fn filters_ui(&mut self, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            let edit = egui::TextEdit::singleline(&mut self.words).hint_text("words of title or method");
            named(&ui.add(edit.desired_width(200.0)), "search the atlas");
            let combo = egui::ComboBox::from_id_salt("atlas family")
                .selected_text(self.family.unwrap_or("every family"))
                .show_ui(ui, |ui| {
                    ui.selectable_value(&mut self.family, None, "every family");
                    for family in families() {
                        ui.selectable_value(&mut self.family, Some(family), family);
                    }
                });
            named(&combo.response, "family of papers");
            for extent in Extent::ALL {
                let n = papers().iter().filter(|p| p.extent() == extent).count();
                let on = self.extent == Some(extent);
                if ui.selectable_label(on, format!("{n} {}", extent.words())).clicked() {
                    self.extent = (!on).then_some(extent);
                }
            }
        });
    }

    fn found(&mut self) -> &[&'static Paper] {
        let asked = format!("{} {:?} {:?}", self.words, self.family, self.extent);
        if self.found.as_ref().is_none_or(|f| f.0 != asked) {
            let fits = |p: &&Paper| {
                p.fits(&self.words)
                    && self.family.is_none_or(|f| f == p.family)
                    && self.extent.is_none_or(|e| e == p.extent())
            };
            let found = papers().iter().filter(fits).collect();
            self.found = Some((asked, found));
        }
        self.found.as_ref().map_or(&[], |f| &f.1)
    }

    fn papers_ui(&mut self, cx: &Cx, ui: &mut Ui) {
        let found = self.found().to_vec();
        if found.is_empty() {
            ui.weak("No paper fits. Take a word away, or choose every family.");
            return;
        }
        let mut ran = false;
        let line = 46.0;
        let area = egui::ScrollArea::vertical().auto_shrink(false);
        area.show_rows(ui, line, found.len(), |ui, range| {
            for p in &found[range] {
                ui.push_id(p.row, |ui| ran |= paper_ui(cx, ui, p, line));
            }
        });
        self.open &= !ran;
    }
}

/// One paper on two lines. True if one of its methods was started.
fn paper_ui(cx: &Cx, ui: &mut Ui, p: &Paper, height: f32) -> bool {
    let mut ran = false;
    let methods = p.methods();
    ui.allocate_ui_with_layout(vec2(ui.available_width(), height), Layout::right_to_left(Align::Center), |ui| {
        if methods.is_empty() {
            ui.weak(Extent::NotYet.words());
        }
        for info in methods.iter().rev() {
            ran |= run_ui(cx, ui, info);
        }
        ui.with_layout(Layout::top_down(Align::Min), |ui| {
            ui.spacing_mut().item_spacing.y = 1.0;
            let name = RichText::new(p.name);
            let name = if methods.is_empty() { name.weak() } else { name.strong() };
            let name = ui.add(egui::Label::new(name).truncate());
            name.on_hover_text(format!("{}\n{}, number {} of the list", p.title, p.family, p.row));
            let shows = RichText::new(p.shows).small();
            ui.add(egui::Label::new(shows).truncate()).on_hover_text(p.shows);
            let basis = match methods.first() {
                Some(info) => format!("{} · {}", p.extent().words(), info.basis.words()),
                None => p.title.to_string(),
            };
            ui.add(egui::Label::new(RichText::new(basis).small().weak()).truncate());
        });
    });
    ran
}

/// The button that runs a method on the shown input, or says what that lacks. True if it was pressed.
fn run_ui(cx: &Cx, ui: &mut Ui, info: &'static Info) -> bool {
    let lacks = cx.lacks(info);
    let button = ui.add_enabled(lacks.is_none(), egui::Button::new(info.title).small());
    named(&button, &format!("run {}", info.title));
    let button = match lacks {
        Some(why) => button.on_disabled_hover_text(format!("{}\n{why}", info.summary)),
        None => button.on_hover_text(format!("{}\nDeparts: {}", info.summary, info.departs)),
    };
    if button.clicked() {
        cx.send(Command::Method(info.id));
        return true;
    }
    false
}
