//! The window that saves a view, or the report of all: which one, as what, how large. The work runs beside the window.

use crate::export::{self, Page};
use crate::jobs::Jobs;
use crate::notices::Notices;
use crate::pictures::widgets::named;
use crate::report;
use crate::state::Doc;
use crate::views;
use egui::{Key, vec2};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A preset of the size: its name, width and height in points or, for paper, in millimetres.
struct Preset {
    name: &'static str,
    size: [f32; 2],
    paper: bool,
}

const SIZES: [Preset; 4] = [
    Preset { name: "screen 900 × 640", size: [900.0, 640.0], paper: false },
    Preset { name: "one column, 85 mm", size: [85.0, 80.0], paper: true },
    Preset { name: "two columns, 178 mm", size: [178.0, 127.0], paper: true },
    Preset { name: "slide 1280 × 720", size: [1280.0, 720.0], paper: false },
];

/// Stands for the report among the numbers of views.
const REPORT: usize = usize::MAX;

/// What a view, or the report, can be saved as.
fn formats(view: usize) -> &'static [&'static str] {
    if view == REPORT { report::FORMATS } else { export::FORMATS }
}

/// What a view, or the report, is called.
fn title(view: usize) -> &'static str {
    if view == REPORT { "Report of all views" } else { views::ALL[view].title }
}

/// What came of an attempt to save: the file, or what was wrong.
type Outcome = Result<PathBuf, String>;

/// The time that the window was open for, and what came of it.
type Timed = (u64, Outcome);

/// The title of a view, and what of it is ready to be pasted, or why nothing is.
type Pasted = (&'static str, Result<Copied, String>);

/// What goes to the clipboard.
enum Copied {
    Picture(egui::ColorImage),
    Table(String),
}

/// State of the window.
pub struct Saving {
    /// Whether it is open.
    pub open: bool,
    view: usize,
    path: String,
    format: usize,
    size: usize,
    scale: f32,
    white: bool,
    /// Whether the path has the keyboard when the window opens.
    fresh: bool,
    /// What was wrong with the last attempt.
    wrong: Option<String>,
    done: (Sender<Timed>, Receiver<Timed>),
    picked: (Sender<PathBuf>, Receiver<PathBuf>),
    /// What is ready to be pasted.
    copied: (Sender<Pasted>, Receiver<Pasted>),
    /// Times it was opened so far: what an earlier time started must not close or change what is asked for now.
    time: u64,
    /// Whether what was started this time is still under way.
    busy: bool,
}

impl Default for Saving {
    fn default() -> Self {
        Self {
            open: false,
            view: 1,
            path: String::new(),
            format: 0,
            size: 0,
            scale: 2.0,
            white: true,
            fresh: false,
            wrong: None,
            done: channel(),
            picked: channel(),
            copied: channel(),
            time: 0,
            busy: false,
        }
    }
}

impl Saving {
    /// Opens the window for the view it was last open for.
    pub fn show(&mut self) {
        self.show_for(self.view, None);
    }

    /// Opens the window for a view, with this one of the formats if one is given.
    pub fn show_for(&mut self, view: usize, format: Option<usize>) {
        (self.open, self.fresh, self.view, self.wrong) = (true, true, view, None);
        (self.time, self.busy) = (self.time + 1, false);
        self.format = format.unwrap_or(self.format);
        self.name();
    }

    /// Opens the window for the report.
    pub fn show_report(&mut self) {
        self.show_for(REPORT, Some(0));
    }

    /// A name in the home folder that fits view and format.
    fn name(&mut self) {
        let formats = formats(self.view);
        self.format = self.format.min(formats.len() - 1);
        let home = directories::BaseDirs::new().map(|d| d.home_dir().to_path_buf()).unwrap_or_default();
        let old = PathBuf::from(self.path.trim());
        let dir = old.parent().filter(|p| !p.as_os_str().is_empty()).map_or(home, PathBuf::from);
        let id = if self.view == REPORT { "report" } else { views::ALL[self.view].id };
        let file = format!("tokenscope-{id}.{}", formats[self.format]);
        self.path = dir.join(file).display().to_string();
    }

    /// Draws the window; what was saved is said in `notices`, and so is a failure if the window was closed meanwhile.
    pub fn ui(&mut self, ctx: &egui::Context, doc: &Doc, jobs: &Jobs, bad: egui::Color32, notices: &mut Notices) {
        while let Ok((time, outcome)) = self.done.1.try_recv() {
            let own = time == self.time;
            self.busy &= !own;
            match outcome {
                Ok(path) => {
                    notices.say(format!("saved {}", path.display()), true, Some(path));
                    self.open &= !own;
                }
                Err(why) if self.open && own => self.wrong = Some(why),
                Err(why) => notices.say(why, false, None),
            }
        }
        while let Ok(path) = self.picked.1.try_recv() {
            self.path = path.display().to_string();
        }
        while let Ok((title, copied)) = self.copied.1.try_recv() {
            let what = match copied {
                Ok(Copied::Picture(image)) => {
                    ctx.copy_image(image);
                    "picture"
                }
                Ok(Copied::Table(text)) => {
                    ctx.copy_text(text);
                    "table"
                }
                Err(why) => {
                    notices.say(why, false, None);
                    continue;
                }
            };
            notices.say(format!("{title} is copied as a {what}"), true, None);
        }
        let mut open = self.open;
        let middle = ctx.content_rect().center() - vec2(230.0, 90.0);
        egui::Window::new(if self.view == REPORT { "Save report" } else { "Save view" })
            .id(egui::Id::unique("save"))
            .default_pos(middle)
            .open(&mut open)
            .collapsible(false)
            .resizable(false)
            .show(ctx, |ui| {
                let before = (self.view, self.format);
                egui::Grid::new("save").num_columns(2).spacing(vec2(12.0, 6.0)).show(ui, |ui| {
                    ui.label("View");
                    let combo =
                        egui::ComboBox::from_id_salt("save view").selected_text(title(self.view)).show_ui(ui, |ui| {
                            for (i, v) in views::ALL.iter().enumerate() {
                                ui.selectable_value(&mut self.view, i, v.title);
                            }
                            ui.selectable_value(&mut self.view, REPORT, title(REPORT));
                        });
                    named(&combo.response, "view to save");
                    ui.end_row();
                    ui.label("As");
                    ui.horizontal(|ui| {
                        for (i, f) in formats(self.view).iter().enumerate() {
                            ui.selectable_value(&mut self.format, i, f.to_uppercase());
                        }
                    });
                    ui.end_row();
                    if self.view != REPORT && self.format < export::PICTURES {
                        ui.label("Size");
                        ui.horizontal(|ui| {
                            let combo = egui::ComboBox::from_id_salt("save size")
                                .selected_text(SIZES[self.size].name)
                                .show_ui(ui, |ui| {
                                    for (i, s) in SIZES.iter().enumerate() {
                                        if ui.selectable_value(&mut self.size, i, s.name).clicked() {
                                            self.scale = if s.paper { export::PRINT_SCALE } else { 2.0 };
                                        }
                                    }
                                });
                            named(&combo.response, "size of the figure");
                            if self.format == 0 {
                                ui.add(egui::DragValue::new(&mut self.scale).range(1.0..=6.0).speed(0.05).suffix(" ×"))
                                    .on_hover_text("Pixels per point; 3.125 is 300 dpi");
                            }
                            ui.checkbox(&mut self.white, "light").on_hover_text("Dark text on a light page, for paper");
                        });
                        ui.end_row();
                    }
                    if before != (self.view, self.format) {
                        self.name();
                    }
                    ui.label("File");
                    ui.horizontal(|ui| {
                        let edit = ui.add(egui::TextEdit::singleline(&mut self.path).desired_width(320.0));
                        named(&edit, "file to write");
                        if std::mem::take(&mut self.fresh) {
                            edit.request_focus();
                        }
                        let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
                        if ui.button("Browse…").clicked() {
                            self.browse(ctx);
                        }
                        if entered && !self.busy {
                            self.start(ctx, doc, jobs);
                        }
                    });
                    ui.end_row();
                });
                ui.horizontal(|ui| {
                    if ui.add_enabled(!self.busy, egui::Button::new("Save")).clicked() {
                        self.start(ctx, doc, jobs);
                    }
                    if self.busy {
                        ui.spinner();
                    }
                    match &self.wrong {
                        Some(words) => ui.colored_label(bad, words),
                        None => ui.small("An existing file is replaced."),
                    };
                });
            });
        self.open = open;
    }

    fn browse(&self, ctx: &egui::Context) {
        let (send, ctx, path) = (self.picked.0.clone(), ctx.clone(), PathBuf::from(&self.path));
        // The dialog blocks, so it gets a thread; without one it simply does not open.
        let _ = std::thread::Builder::new().name("dialog".into()).spawn(move || {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(path) = rfd::FileDialog::new().set_file_name(name).save_file() {
                let _ = send.send(path);
                ctx.request_repaint();
            }
        });
    }

    /// Copies a view as a picture, as large as the size that is chosen for saving and in the colours of the window, or its
    /// numbers as a table; ready a little later.
    pub fn copy(&self, ctx: &egui::Context, view: usize, picture: bool, doc: &Doc, jobs: &Jobs) {
        let (send, ctx, jobs, doc) = (self.copied.0.clone(), ctx.clone(), jobs.clone(), doc.clone());
        let view = &views::ALL[view];
        let Preset { size: [w, h], paper, .. } = SIZES[self.size];
        let page = if paper { Page::paper(w, h, export::PRINT_SCALE) } else { Page::screen(vec2(w, h), 2.0) };
        let late = send.clone();
        let started = std::thread::Builder::new().name("copy".into()).spawn(move || {
            let copied = match picture {
                true => export::image(view, &doc, &jobs, &page).map(Copied::Picture),
                false => export::table(view, &doc, &jobs, &page).map(|t| Copied::Table(t.tabbed())),
            };
            // The window may be gone by then.
            let _ = send.send((view.title, copied.map_err(|e| format!("{e:#}"))));
            ctx.request_repaint();
        });
        if let Err(e) = started {
            let _ = late.send((view.title, Err(format!("no thread for the work: {e}"))));
        }
    }

    fn start(&mut self, ctx: &egui::Context, doc: &Doc, jobs: &Jobs) {
        let (send, ctx, jobs, mut doc) = (self.done.0.clone(), ctx.clone(), jobs.clone(), doc.clone());
        if self.white {
            doc.look.dark = false;
        }
        let (view, path, scale, time) = (self.view, PathBuf::from(self.path.trim()), self.scale, self.time);
        let Preset { size: [w, h], paper, .. } = SIZES[self.size];
        let page = if paper { Page::paper(w, h, scale) } else { Page::screen(vec2(w, h), scale) };
        self.wrong = None;
        let started = std::thread::Builder::new().name("save".into()).spawn(move || {
            let saved = match view {
                REPORT => report::save(&doc, &views::ALL.iter().collect::<Vec<_>>(), &jobs, &path).map(drop),
                _ => export::save_page(&views::ALL[view], &doc, &jobs, &page, &path),
            };
            // The window may be gone by then.
            let _ = send.send((time, saved.map(|()| path).map_err(|e| format!("{e:#}"))));
            ctx.request_repaint();
        });
        match started {
            Ok(_) => self.busy = true,
            Err(e) => self.wrong = Some(format!("no thread for the work: {e}")),
        }
    }
}
