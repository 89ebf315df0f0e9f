//! The atlas in the window: every paper that the program is to show, what it does of each, and a button that runs it.

use crate::cx::Cx;
use crate::pictures::widgets::named;
use crate::state::Command;
use egui::{Align, Layout, RichText, Ui, vec2};
use tokenscope_analysis::atlas::{Extent, Paper, families, others, papers};
use tokenscope_analysis::method::Info;

/// A line of the page.
#[derive(Clone, Copy)]
enum Entry {
    /// A paper of the list.
    Listed(&'static Paper),
    /// A published method that stands for none of them.
    Beyond(&'static Info),
}

impl Entry {
    fn fits(self, words: &str, family: Option<&str>, extent: Option<Extent>) -> bool {
        match self {
            Entry::Listed(p) => {
                p.fits(words) && family.is_none_or(|f| f == p.family) && extent.is_none_or(|e| e == p.extent())
            }
            Entry::Beyond(i) => {
                family.is_none_or(|f| f == BEYOND) && extent.is_none_or(|e| e == Extent::All) && i.fits(words)
            }
        }
    }

    fn extent(self) -> Extent {
        match self {
            Entry::Listed(p) => p.extent(),
            Entry::Beyond(_) => Extent::All,
        }
    }
}

/// Heading of the methods that stand for no paper of the list.
const BEYOND: &str = "beyond the list";

/// State of the page.
#[derive(Default)]
pub struct Atlas {
    /// Whether it is open.
    pub open: bool,
    /// Whether the field to search in has the keyboard next.
    fresh: bool,
    words: String,
    family: Option<&'static str>,
    extent: Option<Extent>,
    /// What words, family and extent leave, and what they were when this was found.
    found: Option<(String, Vec<Entry>)>,
}

impl Atlas {
    /// Opens or closes the page.
    pub fn toggle(&mut self) {
        self.open = !self.open;
        self.fresh = self.open;
    }

    /// Draws it, where it is open.
    pub fn ui(&mut self, cx: &Cx, ctx: &egui::Context) {
        let mut open = self.open;
        let room = ctx.content_rect().size();
        let size = vec2((room.x - 48.0).clamp(320.0, 860.0), (room.y - 96.0).clamp(240.0, 720.0));
        let window = egui::Window::new("Atlas").open(&mut open).collapsible(false).default_size(size);
        window.default_pos(ctx.content_rect().center() - size / 2.0).show(ctx, |ui| {
            self.filters_ui(ui);
            ui.separator();
            self.papers_ui(cx, ui);
        });
        self.open &= open;
    }

    fn filters_ui(&mut self, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            let edit = egui::TextEdit::singleline(&mut self.words).hint_text("words of title or method");
            let edit = ui.add(edit.desired_width(200.0));
            named(&edit, "search the atlas");
            if std::mem::take(&mut self.fresh) {
                edit.request_focus();
            }
            let combo = egui::ComboBox::from_id_salt("atlas family")
                .selected_text(self.family.unwrap_or("every family"))
                .show_ui(ui, |ui| {
                    ui.selectable_value(&mut self.family, None, "every family");
                    for family in families().into_iter().chain([BEYOND]) {
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

    /// What is there first, then what is there in part, then the rest, each in the order of the list.
    fn found(&mut self) -> &[Entry] {
        let asked = format!("{} {:?} {:?}", self.words, self.family, self.extent);
        if self.found.as_ref().is_none_or(|f| f.0 != asked) {
            let all = papers().iter().map(Entry::Listed).chain(others().into_iter().map(Entry::Beyond));
            let mut found: Vec<Entry> = all.filter(|e| e.fits(&self.words, self.family, self.extent)).collect();
            found.sort_by_key(|e| e.extent());
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
            for (i, e) in range.clone().zip(&found[range]) {
                ui.push_id(i, |ui| ran |= entry_ui(cx, ui, *e, line));
            }
        });
        self.open &= !ran;
    }
}

/// A paper, or a method beyond the list, on three lines. True if a method was started.
fn entry_ui(cx: &Cx, ui: &mut Ui, entry: Entry, height: f32) -> bool {
    let (name, methods, shows, more) = match entry {
        Entry::Listed(p) => {
            let more = format!("{}\n{}, number {} of the list", p.title, p.family, p.row);
            (p.name, p.methods(), p.shows, more)
        }
        Entry::Beyond(i) => (i.title, vec![i], i.summary, i.paper.map_or(String::new(), |p| p.title.into())),
    };
    let last = match (methods.first(), entry) {
        (Some(info), _) => format!("{} · {}", entry.extent().words(), info.basis.words()),
        (None, Entry::Listed(p)) => p.title.to_string(),
        (None, Entry::Beyond(_)) => String::new(),
    };
    let mut ran = false;
    ui.allocate_ui_with_layout(vec2(ui.available_width(), height), Layout::right_to_left(Align::Center), |ui| {
        if methods.is_empty() {
            ui.weak(Extent::NotYet.words());
        }
        for info in methods.iter().rev() {
            ran |= run_ui(cx, ui, info);
        }
        ui.with_layout(Layout::top_down(Align::Min), |ui| {
            ui.spacing_mut().item_spacing.y = 1.0;
            let name = RichText::new(name);
            let name = if methods.is_empty() { name.weak() } else { name.strong() };
            ui.add(egui::Label::new(name).truncate()).on_hover_text(more);
            ui.add(egui::Label::new(RichText::new(shows).small()).truncate()).on_hover_text(shows);
            ui.add(egui::Label::new(RichText::new(last).small().weak()).truncate());
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
