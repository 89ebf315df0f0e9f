//! The window of help: every key, a page for each view, runs that were recorded elsewhere, and whose work is in the
//! program.

use crate::actions::{self, Action};
use crate::licences::{self, Licences};
use crate::views;
use egui::{Align, Layout, RichText, ScrollArea, TextEdit, Ui, vec2};

/// A page of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Page {
    /// Keys and gestures.
    #[default]
    Keys,
    /// A view, by its number.
    View(usize),
    /// Runs recorded elsewhere, and comparisons with them.
    Recordings,
    /// What is saved, kept and pinned.
    Sessions,
    /// The work of others.
    Licences,
}

/// State of the window.
#[derive(Default)]
pub struct Help {
    /// Whether it is open.
    pub open: bool,
    page: Page,
    /// The notices, once they were looked at, or why they cannot be.
    notices: Option<Result<Notices, String>>,
}

struct Notices {
    all: Licences,
    /// Name, terms and texts of each crate and font.
    lines: Vec<(String, String, Vec<usize>)>,
    /// Name and terms of each in small letters.
    small: Vec<String>,
    words: String,
    /// The line whose texts are shown.
    chosen: usize,
}

impl Help {
    /// Opens it on `page`, or closes it where that is what it shows.
    pub fn toggle(&mut self, page: Page) {
        self.open = !(self.open && self.page == page);
        self.page = page;
    }

    /// Opens it where it was last, or closes it.
    pub fn again(&mut self) {
        self.toggle(self.page);
    }

    /// Draws it, where it is open.
    pub fn ui(&mut self, ctx: &egui::Context) {
        let mut open = self.open;
        let size = vec2(640.0, 440.0).min(ctx.content_rect().size() - vec2(40.0, 90.0));
        let middle = ctx.content_rect().center() - size / 2.0;
        let window = egui::Window::new("Keys and views").open(&mut open).collapsible(false).default_pos(middle);
        window.fixed_size(size).show(ctx, |ui| {
            ui.horizontal_wrapped(|ui| {
                ui.selectable_value(&mut self.page, Page::Keys, "Keys");
                for (i, view) in views::ALL.iter().enumerate() {
                    ui.selectable_value(&mut self.page, Page::View(i), view.title);
                }
                ui.selectable_value(&mut self.page, Page::Recordings, "Recordings");
                ui.selectable_value(&mut self.page, Page::Sessions, "Sessions");
                ui.selectable_value(&mut self.page, Page::Licences, "Licences");
            });
            ui.separator();
            match self.page {
                Page::Licences => self.licences_ui(ui),
                page => {
                    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| match page {
                        Page::View(i) => page_ui(ui, &views::ALL[i.min(views::ALL.len() - 1)]),
                        Page::Recordings => recordings_ui(ui),
                        Page::Sessions => points_ui(ui, SESSIONS.iter().copied()),
                        _ => keys_ui(ui),
                    });
                }
            }
        });
        self.open &= open;
    }

    fn licences_ui(&mut self, ui: &mut Ui) {
        let notices =
            self.notices.get_or_insert_with(|| licences::licences().map(Notices::new).map_err(|e| e.to_string()));
        match notices {
            Ok(n) => n.ui(ui),
            Err(why) => {
                ui.label(format!("The notices in the program cannot be read: {why}"));
            }
        }
    }
}

impl Notices {
    fn new(all: Licences) -> Self {
        let crates =
            all.crates.iter().map(|c| (format!("{} {}", c.name, c.version), c.licence.clone(), c.texts.clone()));
        let fonts = all.fonts.iter().map(|f| (f.name.clone(), "font".to_string(), f.texts.clone()));
        let data = all.data.iter().map(|f| (f.name.clone(), "table".to_string(), f.texts.clone()));
        let lines: Vec<(String, String, Vec<usize>)> = fonts.chain(data).chain(crates).collect();
        let small = lines.iter().map(|l| format!("{} {}", l.0, l.1).to_lowercase()).collect();
        Self { all, lines, small, words: String::new(), chosen: 0 }
    }

    fn ui(&mut self, ui: &mut Ui) {
        let words = self.words.to_lowercase();
        let found: Vec<usize> = (0..self.lines.len()).filter(|i| self.small[*i].contains(&words)).collect();
        ui.horizontal(|ui| {
            let edit = TextEdit::singleline(&mut self.words).id_salt("notices").hint_text("name or terms");
            crate::pictures::widgets::named(&ui.add(edit.desired_width(180.0)), "search licences");
            ui.weak(format!("{} of {} works of others; tokenscope licences prints all", found.len(), self.lines.len()));
        });
        let (height, row) = (ui.available_height(), ui.spacing().interact_size.y);
        let down = Layout::top_down_justified(Align::Min);
        ui.horizontal_top(|ui| {
            ui.allocate_ui_with_layout(vec2(230.0, height), down, |ui| {
                ui.set_width(230.0);
                let list = ScrollArea::vertical().id_salt("works").auto_shrink(false);
                list.show_rows(ui, row, found.len(), |ui, rows| {
                    for &i in &found[rows] {
                        let (name, terms, _) = &self.lines[i];
                        let label = egui::Button::selectable(i == self.chosen, name.as_str()).truncate();
                        if ui.add(label.min_size(vec2(0.0, row))).on_hover_text(format!("{name}: {terms}")).clicked() {
                            self.chosen = i;
                        }
                    }
                });
            });
            let (name, terms, texts) = &self.lines[self.chosen];
            ui.allocate_ui_with_layout(vec2(ui.available_width(), height), Layout::top_down(Align::Min), |ui| {
                ScrollArea::vertical().id_salt(("text", self.chosen)).auto_shrink(false).show(ui, |ui| {
                    ui.strong(name);
                    ui.weak(terms);
                    for text in texts.iter().filter_map(|&i| self.all.texts.get(i)) {
                        ui.separator();
                        ui.add(egui::Label::new(RichText::new(text).monospace().size(10.0)).wrap());
                    }
                });
            });
        });
    }
}

/// What a view shows and how it is used, point by point.
fn page_ui(ui: &mut Ui, view: &views::View) {
    ui.strong(view.hint);
    ui.add_space(6.0);
    points_ui(ui, view.help.lines());
}

fn points_ui<'a>(ui: &mut Ui, points: impl IntoIterator<Item = &'a str>) {
    for point in points {
        ui.horizontal_top(|ui| {
            ui.weak("•");
            ui.add(egui::Label::new(point).wrap());
        });
    }
}

/// How to look at a model that does not open here, and how to tell whether one that does is right.
fn recordings_ui(ui: &mut Ui) {
    ui.strong("A model that does not open here can be recorded where it runs, and looked at without its weights.");
    ui.add_space(6.0);
    points_ui(ui, ["tokenscope recorder > tokenscope_record.py writes one Python file; then, where transformers is:"]);
    ui.add(egui::Label::new(RichText::new(RECORD).monospace()).selectable(true));
    points_ui(ui, RECORDINGS.iter().copied());
    ui.add_space(6.0);
    ui.strong("A model that opens here can be compared with what was computed elsewhere.");
    ui.add_space(6.0);
    points_ui(ui, ["The same file makes a reference:"]);
    ui.add(egui::Label::new(RichText::new(REFER).monospace()).selectable(true));
    points_ui(ui, VERIFIED.iter().copied());
}

const SESSIONS: [&str; 6] = [
    "Save session writes panes, pins, layout, colours, pictures and series into one file *.tokenscope. Everybody with the \
     file can read the prompts in it.",
    "Saved with the runs as they were computed, it shows the same picture where the model is not there or another one; \
     which of the two it is, a notice says.",
    "Open one from the menu File, by dropping it, by its path below Model, or as tokenscope FILE. tokenscope session FILE \
     says what is in it, --session FILE draws a view of it or runs a method on it.",
    "A dot before the name says that something is not saved. Before that would be lost the window asks; of a window that \
     was only looked at it does not.",
    "What is not saved is kept every few seconds. If the program ends without a word, the next start offers it above the \
     views, and it stays until you restore or discard it.",
    "Pin this keeps what the pane shows under a name. A click on the name brings it back, and its menu opens it beside, \
     renames or removes it; all of it can be undone.",
];

const RECORD: &str = "    from tokenscope_record import record
    with record(model, tokenizer, \"run.trace\"):
        model(**inputs)";

const RECORDINGS: [&str; 4] = [
    "Open or drop run.trace like a model. Tokens, picture, attention, streams and probabilities are the recording's own.",
    "What takes weights says so: reductions, drafts, the logit lens, gradients, values through the output projection.",
    "What the recorder did not find stands in its remarks, below the token and beside the name of the recording.",
    "image= and processor= keep the picture and where its tokens lie; grid= and box= say so where that is not found.",
];

const REFER: &str = "    python tokenscope_record.py --model DIR --prompt TEXT --out DIR/reference.trace";

const VERIFIED: [&str; 3] = [
    "It is found in the model's folder, or beside it under the folder's name with .trace behind; then verify stands \
     beside the model's name. A click runs the model on the same input and compares every tensor.",
    "The badge afterwards is the largest error as a share of the largest value of its kind, = where all are within the \
     tolerance and ≠ where not; hover it for what was compared, with what, and when. Other weights have no badge.",
    "tokenscope verify --model DIR says the same for each kind of tensor, with exit code 1 where one is off.",
];

/// Every shortcut, menu by menu.
fn keys_ui(ui: &mut Ui) {
    for menu in actions::MENUS {
        let keyed: Vec<&Action> = actions::ALL.iter().filter(|a| a.menu() == menu && a.key.is_some()).collect();
        if keyed.is_empty() {
            continue;
        }
        ui.strong(menu);
        grid_ui(
            ui,
            keyed
                .iter()
                .map(|a| {
                    let keys = a.key.map(|k| ui.ctx().format_shortcut(&k)).unwrap_or_default();
                    (keys, a.text.trim_end_matches('…'), a.tip)
                })
                .collect(),
        );
        ui.add_space(6.0);
    }
    ui.strong("Pointer, and keys where the pointer or the keyboard is");
    let list = PLACES.iter().map(|(keys, what, tip)| (keys.to_string(), *what, *tip)).collect();
    grid_ui(ui, list);
}

/// Keys and gestures that are no entries of a menu.
const PLACES: [(&str, &str, &str); 12] = [
    ("Esc", "Close", "a list, a window, a detail; then release the token; then show all views; stops work"),
    ("Click, Shift+click, Ctrl+click", "Select", "a token, a range, one more"),
    ("Right click", "Menu", "what can be done with a token, a picture, a view"),
    ("Double click on a tab", "One view", "gives the view the window, or shows all again"),
    ("Wheel", "Scroll", "the page, over pictures and maps as well"),
    ("Ctrl+wheel", "Zoom", "the attention map, the columns of the flow"),
    ("Arrow keys", "Walk", "in the lattice, the map, the heads and the tree that has the keyboard"),
    ("+, - and Home", "Zoom", "in the map that has the keyboard; Home shows the whole"),
    ("Enter, Backspace", "Drill", "down and back up in the lattice that has the keyboard"),
    ("Ctrl++, Ctrl+-, Ctrl+0", "Print", "larger, smaller, as it was"),
    ("Space", "Play", "the steps of a text out of masks"),
    ("Right, Page down, Space", "Go on", "in a lesson; Left and Page up go back, Esc leaves it"),
];

fn grid_ui(ui: &mut Ui, rows: Vec<(String, &str, &str)>) {
    for (keys, what, tip) in rows {
        ui.horizontal_top(|ui| {
            for (words, width) in [(RichText::new(keys).monospace(), 128.0), (what.into(), 142.0)] {
                ui.allocate_ui(vec2(width, 0.0), |ui| {
                    ui.set_width(width);
                    ui.add(egui::Label::new(words).wrap());
                });
            }
            ui.add(egui::Label::new(RichText::new(tip).weak()).wrap());
        });
    }
}
