//! The window: draws panels and views, carries out their commands. Nothing else.

use crate::jobs::Jobs;
use crate::request::{ModelSource, Product, Request, Status};
use crate::state::{Command, Doc};
use crate::theme::Theme;
use crate::views::{self, Cx};
use egui::{Key, Modifiers};
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Opens the window, with this model folder loaded if one is named.
pub fn open_window(model: Option<&Path>) -> anyhow::Result<()> {
    let size = std::env::var("TOKENSCOPE_SIZE").ok().and_then(|s| {
        let (w, h) = s.split_once('x')?;
        Some([w.parse().ok()?, h.parse().ok()?])
    });
    let viewport = egui::ViewportBuilder::default()
        .with_title("Tokenscope")
        .with_inner_size(size.unwrap_or([1280.0, 800.0]))
        .with_min_inner_size([720.0, 480.0]);
    let options = eframe::NativeOptions { viewport, ..Default::default() };
    let model = model.map(Path::to_path_buf);
    eframe::run_native("tokenscope", options, Box::new(move |cc| Ok(Box::new(App::new(&cc.egui_ctx, model)))))
        .map_err(|e| anyhow::anyhow!("the window cannot open: {e}; is there a display, and a Vulkan or GL driver?"))
}

/// Typing is followed by a run after this pause.
const PAUSE: Duration = Duration::from_millis(300);
/// Prompts to try, with what to look at.
const EXAMPLES: &[(&str, &str, &str)] = &[
    (
        "A list twice",
        "In the harbour live the owl, the fox and the hen. Every evening the owl, the",
        "Which earlier tokens does the model copy from? Step through the drafts.",
    ),
    (
        "A fact to recall",
        "Ada left the key in the garden. Ben left the lamp in the attic. Later Ada looked for the key and found the key in the",
        "The small sample model often names the wrong place: where does it look?",
    ),
    (
        "A key to look up",
        "Ivo: 42; Lea: 17; Kai: 88. The number of Lea is",
        "Three keys are too many for the small model; do its maps show why?",
    ),
    (
        "Two colors",
        "The lamp is red and the boat is blue. What color is the boat? The boat is",
        "Drop tokens until the answer changes.",
    ),
    ("A small sum", "Gus has 3 apples and finds 4 more. 3 + 4 =", "Digits are tokens like any other."),
    ("Many scripts", "naïve 漢字 🚂 über die Brücke", "Where do the tokenizers cut?"),
];

/// The window's state.
pub struct App {
    doc: Doc,
    /// Documents before and after the present one.
    undo: Vec<Doc>,
    redo: Vec<Doc>,
    jobs: Jobs,
    tiles: egui_tiles::Tree<usize>,
    theme: Theme,
    /// The prompt as typed, and since when it differs from the document's.
    typed: String,
    typed_at: Option<Instant>,
    path: String,
    hovered: Option<usize>,
    help: Option<usize>,
    chosen: (Sender<PathBuf>, Receiver<PathBuf>),
}

impl App {
    /// An app on the embedded sample, or on a model folder.
    pub fn new(ctx: &egui::Context, model: Option<PathBuf>) -> Self {
        let mut doc = Doc::default();
        if let Some(path) = model {
            doc.model = ModelSource::Path(path);
        }
        let theme = Theme::new(doc.dark);
        theme.install(ctx);
        let waker = ctx.clone();
        let typed = doc.prompt.clone();
        Self {
            doc,
            undo: Vec::new(),
            redo: Vec::new(),
            jobs: Jobs::new(move || waker.request_repaint()),
            tiles: layout(),
            theme,
            typed,
            typed_at: None,
            path: String::new(),
            hovered: None,
            help: None,
            chosen: channel(),
        }
    }

    fn apply(&mut self, ctx: &egui::Context, commands: Vec<Command>) {
        for command in commands {
            let before = self.doc.clone();
            // Sliders send many small changes; only the first of a kind in a row is a step of undo.
            let drags = matches!(command, Command::Threshold(_) | Command::Round(_) | Command::Param(..));
            self.doc.apply(command);
            if before == self.doc {
                continue;
            }
            let merges = drags
                && self.redo.is_empty()
                && ctx.input(|i| i.pointer.any_down())
                && !ctx.input(|i| i.pointer.any_pressed());
            if !merges {
                self.undo.push(before);
            }
            self.redo.clear();
            if self.undo.len() > 100 {
                self.undo.remove(0);
            }
        }
        self.follow(ctx);
    }

    /// Brings what hangs on the document up to date.
    fn follow(&mut self, ctx: &egui::Context) {
        if self.typed_at.is_none() {
            self.typed.clone_from(&self.doc.prompt);
        }
        if self.theme.dark != self.doc.dark {
            self.theme = Theme::new(self.doc.dark);
            self.theme.apply(ctx);
        }
    }

    fn step(&mut self, ctx: &egui::Context, back: bool) {
        let (from, to) = if back { (&mut self.undo, &mut self.redo) } else { (&mut self.redo, &mut self.undo) };
        if let Some(doc) = from.pop() {
            to.push(std::mem::replace(&mut self.doc, doc));
        }
        self.typed_at = None;
        self.follow(ctx);
    }

    fn keys(&mut self, ctx: &egui::Context, commands: &mut Vec<Command>) {
        let pressed = |m: Modifiers, k: Key| ctx.input_mut(|i| i.consume_key(m, k));
        if pressed(Modifiers::COMMAND | Modifiers::SHIFT, Key::Z) {
            self.step(ctx, false);
        } else if pressed(Modifiers::COMMAND, Key::Z) {
            self.step(ctx, true);
        }
        if pressed(Modifiers::COMMAND, Key::D) {
            commands.push(Command::Dark(!self.doc.dark));
        }
        if pressed(Modifiers::NONE, Key::Escape) {
            if self.help.take().is_none() {
                commands.push(Command::Target(None));
            }
            self.jobs.cancel_all();
        }
    }

    fn top_ui(&mut self, ui: &mut egui::Ui, commands: &mut Vec<Command>) {
        ui.horizontal(|ui| {
            ui.strong("Tokenscope");
            ui.separator();
            if ui.add_enabled(!self.undo.is_empty(), egui::Button::new("Undo")).on_hover_text("Ctrl+Z").clicked() {
                self.step(&ui.ctx().clone(), true);
            }
            if ui.add_enabled(!self.redo.is_empty(), egui::Button::new("Redo")).on_hover_text("Ctrl+Shift+Z").clicked()
            {
                self.step(&ui.ctx().clone(), false);
            }
            if ui.button("Reset layout").clicked() {
                self.tiles = layout();
            }
            let label = if self.doc.dark { "Light" } else { "Dark" };
            if ui.button(label).on_hover_text("Ctrl+D").clicked() {
                commands.push(Command::Dark(!self.doc.dark));
            }
            ui.menu_button("Help", |ui| {
                for (i, view) in views::ALL.iter().enumerate() {
                    if ui.button(view.title).clicked() {
                        self.help = Some(i);
                    }
                }
            });
        });
    }

    fn sources_ui(&mut self, ui: &mut egui::Ui, commands: &mut Vec<Command>) {
        ui.heading("Model");
        let name = match &self.doc.model {
            ModelSource::Sample(name) => format!("{name} (part of the program)"),
            ModelSource::Path(path) => path.display().to_string(),
        };
        ui.label(name);
        if let Status::Ready(Product::Model(m)) = self.jobs.need("model", &Request::Model(self.doc.model.clone())) {
            let info = m.model.info();
            ui.small(format!("{} · {} parameters · {}", info.architecture, info.n_params, info.dtype));
        }
        ui.horizontal(|ui| {
            let edit = egui::TextEdit::singleline(&mut self.path).hint_text("model folder").desired_width(150.0);
            let entered = ui.add(edit).lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
            if (ui.button("Open").clicked() || entered) && !self.path.trim().is_empty() {
                commands.push(Command::Model(ModelSource::Path(self.path.trim().into())));
            }
            if ui.button("Browse…").clicked() {
                let (send, ctx) = (self.chosen.0.clone(), ui.ctx().clone());
                // The dialog blocks, so it gets a thread; without one it simply does not open.
                let dialog = std::thread::Builder::new().name("dialog".into()).spawn(move || {
                    if let Some(path) = rfd::FileDialog::new().pick_folder() {
                        // The window may be gone by then.
                        let _ = send.send(path);
                        ctx.request_repaint();
                    }
                });
                drop(dialog);
            }
        });
        if self.doc.model != ModelSource::Sample("sample-lm") && ui.button("Back to the sample").clicked() {
            commands.push(Command::Model(ModelSource::Sample("sample-lm")));
        }
        ui.separator();
        ui.heading("Prompt");
        let edit = egui::TextEdit::multiline(&mut self.typed).desired_rows(5).desired_width(f32::INFINITY);
        if ui.add(edit).changed() {
            self.typed_at = Some(Instant::now());
        }
        match self.typed_at {
            Some(t) if t.elapsed() >= PAUSE => {
                self.typed_at = None;
                commands.push(Command::Prompt(self.typed.clone()));
            }
            Some(t) => ui.ctx().request_repaint_after(PAUSE.saturating_sub(t.elapsed())),
            None => {}
        }
        ui.separator();
        ui.heading("Examples");
        for (name, prompt, look) in EXAMPLES {
            if ui.link(*name).on_hover_text(*look).clicked() {
                self.typed_at = None;
                commands.push(Command::Prompt((*prompt).to_string()));
            }
        }
        ui.separator();
        ui.heading("Token");
        if let Status::Ready(Product::Trace(t)) = self.jobs.need("inspector", &Request::Trace(self.doc.run()))
            && let Some(tower) = t.towers.get(&t.main_tower())
        {
            let last = tower.tokens.len().saturating_sub(1);
            let i = self.hovered.or(self.doc.target).unwrap_or(last);
            if let Some(token) = tower.tokens.get(i) {
                ui.monospace(format!("{i}: {:?}", token.text));
                let id = token.id.map_or("none".to_string(), |id| id.to_string());
                let bytes = token
                    .bytes()
                    .map_or("added by the tokenizer".to_string(), |b| format!("bytes {}..{}", b.start, b.end));
                ui.small(format!("id {id} · {bytes}"));
            }
            ui.small(format!("{} tokens · trace of {:.2} MB", tower.tokens.len(), t.size_bytes() as f64 / 1e6));
        }
    }

    fn jobs_ui(&self, ui: &mut egui::Ui) {
        ui.horizontal(|ui| {
            let (n, done) = self.jobs.running();
            if n == 0 {
                ui.small("ready · computing on the CPU");
            } else {
                ui.small(format!("{n} jobs"));
                ui.add(egui::ProgressBar::new(done).desired_width(160.0).desired_height(8.0));
                if ui.small_button("Stop").on_hover_text("Esc").clicked() {
                    self.jobs.cancel_all();
                }
                // Progress moves without any event of its own.
                ui.ctx().request_repaint_after(Duration::from_millis(50));
            }
        });
    }
}

fn layout() -> egui_tiles::Tree<usize> {
    egui_tiles::Tree::new_grid(egui::Id::unique("views"), (0..views::ALL.len()).collect())
}

struct Tiles<'a> {
    cx: Cx<'a>,
}

impl egui_tiles::Behavior<usize> for Tiles<'_> {
    fn pane_ui(&mut self, ui: &mut egui::Ui, _tile: egui_tiles::TileId, pane: &mut usize) -> egui_tiles::UiResponse {
        let frame = egui::Frame::new().fill(self.cx.theme.background).inner_margin(8.0);
        frame.show(ui, |ui| {
            ui.set_min_size(ui.available_size());
            (views::ALL[*pane].ui)(&self.cx, ui);
        });
        egui_tiles::UiResponse::None
    }

    fn tab_title_for_pane(&mut self, pane: &usize) -> egui::WidgetText {
        views::ALL[*pane].title.into()
    }

    fn simplification_options(&self) -> egui_tiles::SimplificationOptions {
        // Every pane keeps its tab, so that every view has its title.
        egui_tiles::SimplificationOptions { all_panes_must_have_tabs: true, ..Default::default() }
    }
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        self.jobs.begin_frame();
        let mut commands = Vec::new();
        while let Ok(path) = self.chosen.1.try_recv() {
            commands.push(Command::Model(ModelSource::Path(path)));
        }
        for file in ctx.input(|i| i.raw.dropped_files.clone()) {
            commands.push(Command::Model(ModelSource::Path(file.path().to_path_buf())));
        }
        self.keys(&ctx, &mut commands);
        egui::Panel::top("top").show(ui, |ui| self.top_ui(ui, &mut commands));
        egui::Panel::bottom("jobs").show(ui, |ui| self.jobs_ui(ui));
        egui::Panel::left("sources").default_size(280.0).show(ui, |ui| {
            egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| self.sources_ui(ui, &mut commands));
        });
        let (sent, hover) = (RefCell::new(commands), Cell::new(None));
        egui::CentralPanel::default().frame(egui::Frame::new()).show(ui, |ui| {
            let cx = Cx {
                doc: &self.doc,
                theme: &self.theme,
                jobs: &self.jobs,
                commands: &sent,
                hovered: self.hovered,
                hover: &hover,
            };
            self.tiles.ui(&mut Tiles { cx }, ui);
        });
        if let Some(i) = self.help {
            let mut open = true;
            egui::Window::new(views::ALL[i].title).open(&mut open).collapsible(false).default_width(360.0).show(
                &ctx,
                |ui| {
                    ui.label(views::ALL[i].help);
                },
            );
            if !open {
                self.help = None;
            }
        }
        // Written in this frame, read in the next: no view flickers against another.
        if self.hovered != hover.get() {
            self.hovered = hover.get();
            ctx.request_repaint();
        }
        self.apply(&ctx, sent.into_inner());
    }
}
