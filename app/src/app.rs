//! The window: draws panels and views, carries out their commands. Nothing else.

use crate::actions::{self, Act};
use crate::examples;
use crate::history::History;
use crate::inspector;
use crate::jobs::Jobs;
use crate::palette::{self, Choice, Palette};
use crate::panels;
use crate::picture_source::PictureSource;
use crate::recents::Recents;
use crate::request::{ModelSource, Product, Request};
use crate::saving::Saving;
use crate::selection::{Hover, Selection};
use crate::state::{Command, Doc, WHOLE};
use crate::theme::Theme;
use crate::views::{self, Cx};
use egui::{Key, Modifiers};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tokenscope_analysis::gpu::{Compute, Gpu};

/// Opens the window, with this model or trace loaded if one is named, and this picture.
pub fn open_window(model: Option<&Path>, image: Option<PictureSource>) -> anyhow::Result<()> {
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
    let compute = Compute::from_env()?;
    eframe::run_native(
        "tokenscope",
        options,
        Box::new(move |cc| {
            let mut app = App::new(&cc.egui_ctx);
            // Passes share the device that draws, so that a map can be drawn from where it was computed.
            let gpu = cc
                .wgpu_render_state
                .as_ref()
                .and_then(|s| Gpu::from_parts(&s.adapter, s.device.clone(), s.queue.clone()))
                .map(Arc::new);
            app.jobs = app.jobs.clone().on(gpu, compute);
            app.recents = Recents::load();
            app.stores = true;
            let given = match model {
                Some(m) => Some(Command::Model(ModelSource::of_path(m))),
                None => examples::find(examples::FIRST).ok().map(Command::Example),
            };
            app.apply(&cc.egui_ctx, given.into_iter().chain(image.map(|i| Command::Image(Some(i)))).collect());
            app.history.clear();
            Ok(Box::new(app))
        }),
    )
    .map_err(|e| anyhow::anyhow!("the window cannot open: {e}; is there a display, and a Vulkan or GL driver?"))
}

/// Typing is followed by a run after this pause.
const PAUSE: Duration = Duration::from_millis(300);

/// A path that a dialog gave, and what it was asked for.
enum Picked {
    Model(PathBuf),
    Image(PathBuf),
}

/// The window's state.
pub struct App {
    /// What is chosen.
    pub doc: Doc,
    history: History,
    /// Presses of the pointer so far: one press is one step of undo.
    presses: u64,
    /// Work under way.
    pub jobs: Jobs,
    tiles: egui_tiles::Tree<usize>,
    theme: Theme,
    /// What the panels keep between frames.
    panels: panels::State,
    palette: Palette,
    saving: Saving,
    recents: Recents,
    /// Whether recents are written to disk; tests leave the user's alone.
    stores: bool,
    hovered: Hover,
    /// Frames in a row that were drawn twice for the pointer's sake.
    redrawn: u32,
    help: bool,
    picked: (Sender<Picked>, Receiver<Picked>),
}

impl App {
    /// An app on the embedded sample.
    pub fn new(ctx: &egui::Context) -> Self {
        let doc = Doc::default();
        let theme = Theme::new(doc.dark);
        theme.install(ctx);
        let waker = ctx.clone();
        let mut panels = panels::State::default();
        panels.typed.clone_from(&doc.prompt);
        Self {
            doc,
            history: History::default(),
            presses: 0,
            jobs: Jobs::new(move || waker.request_repaint()),
            tiles: layout(),
            theme,
            panels,
            palette: Palette::default(),
            saving: Saving::default(),
            recents: Recents::default(),
            stores: false,
            hovered: Hover::default(),
            redrawn: 0,
            help: false,
            picked: channel(),
        }
    }

    fn apply(&mut self, ctx: &egui::Context, commands: Vec<Command>) {
        let held = ctx.input(|i| i.pointer.any_down());
        for command in commands {
            let before = self.doc.clone();
            self.remember(&command);
            self.doc.apply(command.clone());
            if before != self.doc {
                self.history.record(before, &command, self.presses, held, Instant::now());
            }
        }
        self.follow(ctx);
    }

    fn remember(&mut self, command: &Command) {
        match command {
            Command::Model(ModelSource::Path(p) | ModelSource::Recorded(p)) => self.recents.add_model(p),
            Command::Image(Some(PictureSource::File(p))) => self.recents.add_picture(p),
            _ => return,
        }
        if self.stores {
            self.recents.store();
        }
    }

    /// Brings what hangs on the document up to date.
    fn follow(&mut self, ctx: &egui::Context) {
        if self.panels.typed_at.is_none() {
            self.panels.typed.clone_from(&self.doc.prompt);
        }
        if self.theme.dark != self.doc.dark {
            self.theme = Theme::new(self.doc.dark);
            self.theme.apply(ctx);
        }
    }

    fn step(&mut self, ctx: &egui::Context, back: bool) {
        // What is typed and not run yet is a change, too, and must not be lost.
        if self.panels.typed_at.take().is_some() {
            self.apply(ctx, vec![Command::Prompt(self.panels.typed.clone())]);
        }
        self.history.step(&mut self.doc, back);
        self.follow(ctx);
    }

    /// Moves the selection by a token, or grows it.
    fn walk(&self, forward: bool, extend: bool) -> Option<Command> {
        let n = match self.jobs.ready(&Request::Trace(self.doc.run())) {
            Some(Product::Trace(t)) => {
                let name = self.doc.tower.filter(|n| t.towers.contains_key(n)).unwrap_or(t.main_tower());
                t.towers.get(&name)?.tokens.len()
            }
            _ => return None,
        };
        Some(Command::Select(self.doc.selection.stepped(n, forward, extend)))
    }

    /// Does what the keys ask for.
    fn keys(&mut self, ctx: &egui::Context, commands: &mut Vec<Command>) {
        // Keys with more modifiers first, or Ctrl+Shift+Z would count as Ctrl+Z.
        let mut keyed: Vec<&actions::Action> = actions::ALL.iter().filter(|a| a.key.is_some()).collect();
        keyed.sort_by_key(|a| a.key.map(|k| !k.modifiers.shift));
        for action in keyed {
            if action.key.is_some_and(|k| ctx.input_mut(|i| i.consume_shortcut(&k))) {
                self.act(ctx, action.act, commands);
            }
        }
        if !self.palette.open && ctx.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Escape)) {
            if self.saving.open {
                self.saving.open = false;
            } else if self.help {
                self.help = false;
            } else if let Some(drill) = self.doc.drill {
                commands.push(Command::Drill(drill.back()));
            } else {
                commands.push(Command::Select(Selection::default()));
            }
            self.jobs.cancel_all();
        }
    }

    fn act(&mut self, ctx: &egui::Context, act: Act, commands: &mut Vec<Command>) {
        let (layer, head) = self.doc.head;
        match act {
            Act::Palette => self.palette.show(),
            Act::OpenFolder => self.dialog(ctx, |d| d.pick_folder().map(Picked::Model)),
            Act::OpenFile => self.dialog(ctx, |d| {
                d.add_filter("models and traces", &["gguf", "safetensors"]).pick_file().map(Picked::Model)
            }),
            Act::OpenImage => self.dialog(ctx, |d| {
                let ends = ["png", "jpg", "jpeg", "webp", "bmp", "gif"];
                d.add_filter("pictures", &ends).pick_file().map(Picked::Image)
            }),
            Act::CloseImage => commands.push(Command::Image(None)),
            Act::Sample => commands.extend(examples::find(examples::FIRST).ok().map(Command::Example)),
            Act::Save => self.saving.show_for(1),
            Act::Undo => self.step(ctx, true),
            Act::Redo => self.step(ctx, false),
            Act::Stop => self.jobs.cancel_all(),
            Act::Dark => commands.push(Command::Dark(!self.doc.dark)),
            Act::ResetLayout => self.tiles = layout(),
            // Views hold these to what the model has.
            Act::NextHead => commands.push(Command::Head(layer, head + 1)),
            Act::PreviousHead => commands.push(Command::Head(layer, head.saturating_sub(1))),
            Act::NextLayer => commands.push(Command::Head(layer + 1, head)),
            Act::PreviousLayer => commands.push(Command::Head(layer.saturating_sub(1), head)),
            Act::WholeMap => commands.push(Command::Window(WHOLE)),
            Act::NextRound => commands.push(Command::Round(self.doc.round + 1)),
            Act::PreviousRound => commands.push(Command::Round(self.doc.round.saturating_sub(1))),
            Act::NextToken => commands.extend(self.walk(true, false)),
            Act::PreviousToken => commands.extend(self.walk(false, false)),
            Act::GrowRight => commands.extend(self.walk(true, true)),
            Act::GrowLeft => commands.extend(self.walk(false, true)),
            Act::Help => self.help = !self.help,
        }
    }

    fn dialog(&self, ctx: &egui::Context, pick: impl FnOnce(rfd::FileDialog) -> Option<Picked> + Send + 'static) {
        let (send, ctx) = (self.picked.0.clone(), ctx.clone());
        // The dialog blocks, so it gets a thread; without one it simply does not open.
        let _ = std::thread::Builder::new().name("dialog".into()).spawn(move || {
            if let Some(picked) = pick(rfd::FileDialog::new()) {
                // The window may be gone by then.
                let _ = send.send(picked);
                ctx.request_repaint();
            }
        });
    }

    fn top_ui(&mut self, ui: &mut egui::Ui, commands: &mut Vec<Command>) {
        let ctx = ui.ctx().clone();
        egui::MenuBar::new().ui(ui, |ui| {
            ui.strong("Tokenscope");
            ui.add_space(4.0);
            for menu in actions::MENUS {
                ui.menu_button(menu, |ui| {
                    for a in actions::ALL.iter().filter(|a| a.menu == menu) {
                        let what = match a.act {
                            Act::Undo => self.history.names(true).next(),
                            Act::Redo => self.history.names(false).next(),
                            _ => None,
                        };
                        let text = what.map_or(a.text.to_string(), |w| format!("{} {w}", a.text));
                        let mut button = egui::Button::new(text);
                        if let Some(key) = &a.key {
                            button = button.shortcut_text(ctx.format_shortcut(key));
                        }
                        let on = match a.act {
                            Act::Undo => self.history.names(true).next().is_some() || self.panels.typed_at.is_some(),
                            Act::Redo => self.history.names(false).next().is_some(),
                            Act::CloseImage => self.doc.image.is_some(),
                            Act::Stop => self.jobs.running().0 > 0,
                            _ => true,
                        };
                        if ui.add_enabled(on, button).on_hover_text(a.tip).clicked() {
                            self.act(&ctx, a.act, commands);
                            ui.close();
                        }
                    }
                    if menu == "File" {
                        self.recent_ui(ui, commands);
                    }
                });
            }
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let label = if self.doc.dark { "Light" } else { "Dark" };
                if ui.button(label).on_hover_text("Ctrl+D").clicked() {
                    commands.push(Command::Dark(!self.doc.dark));
                }
                if ui.button("Save view…").on_hover_text("Ctrl+S").clicked() {
                    self.saving.show_for(1);
                }
                if ui.button("Find…").on_hover_text("Command palette, Ctrl+K").clicked() {
                    self.palette.show();
                }
            });
        });
    }

    fn recent_ui(&self, ui: &mut egui::Ui, commands: &mut Vec<Command>) {
        if !self.recents.models.is_empty() || !self.recents.pictures.is_empty() {
            ui.separator();
            ui.small("Opened lately");
        }
        let name = |p: &Path| p.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        for p in &self.recents.models {
            if ui.button(name(p)).on_hover_text(p.display().to_string()).clicked() {
                commands.push(Command::Model(ModelSource::of_path(p.clone())));
                ui.close();
            }
        }
        for p in &self.recents.pictures {
            if ui.button(name(p)).on_hover_text(p.display().to_string()).clicked() {
                commands.push(Command::Image(Some(PictureSource::File(p.clone()))));
                ui.close();
            }
        }
    }

    fn jobs_ui(&self, ui: &mut egui::Ui) {
        ui.horizontal(|ui| {
            let (n, done) = self.jobs.running();
            if n == 0 {
                ui.small("ready");
            } else {
                ui.small(if n == 1 { "1 job".to_string() } else { format!("{n} jobs") });
                ui.add(egui::ProgressBar::new(done).desired_width(160.0).desired_height(8.0));
                if ui.small_button("Stop").on_hover_text("Esc").clicked() {
                    self.jobs.cancel_all();
                }
                // Progress moves without any event of its own.
                ui.ctx().request_repaint_after(Duration::from_millis(50));
            }
            ui.separator();
            ui.small(self.jobs.device()).on_hover_text("Set TOKENSCOPE_COMPUTE=cpu or gpu before the start to choose");
            if let Some(message) = self.saving.message.as_ref().filter(|_| !self.saving.open) {
                ui.separator();
                match message {
                    Ok(words) => ui.small(words),
                    Err(words) => ui.colored_label(self.theme.bad, words),
                };
            }
        });
    }

    fn help_ui(&mut self, ctx: &egui::Context) {
        let mut open = self.help;
        egui::Window::new("What the views show").open(&mut open).collapsible(false).default_width(520.0).show(
            ctx,
            |ui| {
                egui::ScrollArea::vertical().max_height(460.0).show(ui, |ui| {
                    for view in views::ALL {
                        ui.strong(view.title);
                        ui.weak(view.hint);
                        ui.label(view.help);
                        ui.add_space(6.0);
                    }
                    ui.strong("Keys");
                    egui::Grid::new("keys").num_columns(2).spacing([16.0, 2.0]).show(ui, |ui| {
                        for a in actions::ALL {
                            if let Some(key) = &a.key {
                                ui.monospace(ctx.format_shortcut(key));
                                ui.label(format!("{}: {}", a.text.trim_end_matches('…'), a.tip));
                                ui.end_row();
                            }
                        }
                        ui.monospace("Esc");
                        ui.label("Close a window, release the token, stop work");
                        ui.end_row();
                    });
                });
            },
        );
        self.help = open;
    }

    /// Files dropped on the window, by what they are.
    fn dropped(&self, ctx: &egui::Context, commands: &mut Vec<Command>) {
        for file in ctx.input(|i| i.raw.dropped_files.clone()) {
            commands.push(command_of(file.path().to_path_buf()));
        }
    }
}

/// What opening `path` means: a picture, a tokenizer to compare with, else a model or a trace.
pub fn command_of(path: PathBuf) -> Command {
    let end = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    match end.as_str() {
        "png" | "jpg" | "jpeg" | "webp" | "bmp" | "gif" => Command::Image(Some(PictureSource::File(path))),
        "json" => Command::Tokenizers(vec![path]),
        _ => Command::Model(ModelSource::of_path(path)),
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
        self.frame(ui);
    }
}

impl App {
    /// An app that shows `doc`, for pictures of the window.
    pub fn with_doc(ctx: &egui::Context, doc: Doc) -> Self {
        let mut app = Self::new(ctx);
        app.doc = doc;
        app.theme = Theme::new(!app.doc.dark);
        app.follow(ctx);
        app
    }

    /// One frame of the whole window.
    pub fn frame(&mut self, ui: &mut egui::Ui) {
        let ctx = ui.ctx().clone();
        self.jobs.begin_frame();
        self.presses += u64::from(ctx.input(|i| i.pointer.any_pressed()));
        let mut commands = Vec::new();
        while let Ok(picked) = self.picked.1.try_recv() {
            commands.push(match picked {
                Picked::Model(path) => Command::Model(ModelSource::of_path(path)),
                Picked::Image(path) => Command::Image(Some(PictureSource::File(path))),
            });
        }
        self.dropped(&ctx, &mut commands);
        if self.palette.open {
            let mut entries = palette::entries(&ctx);
            entries.extend(examples::shown().map(|e| palette::Entry {
                text: format!("Example: {}", e.title),
                note: e.model().into(),
                choice: Choice::Command(Command::Example(e)),
            }));
            match self.palette.ui(&ctx, &entries) {
                Some(Choice::Act(act)) => self.act(&ctx, act, &mut commands),
                Some(Choice::Command(c)) => commands.push(c),
                Some(Choice::Save(view)) => self.saving.show_for(view),
                None => {}
            }
        }
        self.keys(&ctx, &mut commands);
        egui::Panel::top("top").show(ui, |ui| self.top_ui(ui, &mut commands));
        egui::Panel::bottom("jobs").show(ui, |ui| self.jobs_ui(ui));
        let (sent, hover, failed) = (RefCell::new(commands), RefCell::new(Hover::default()), RefCell::new(None));
        let cx = Cx {
            doc: &self.doc,
            theme: &self.theme,
            jobs: &self.jobs,
            commands: &sent,
            hovered: &self.hovered,
            hover: &hover,
            failed: &failed,
            figure: false,
        };
        let wide = ui.available_width() >= 1500.0;
        egui::Panel::left("sources").default_size(260.0).show(ui, |ui| {
            egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                self.panels.sources_ui(&cx, ui, PAUSE);
                if !wide {
                    ui.separator();
                    inspector::inspector_ui(&cx, ui);
                }
            });
        });
        if wide {
            egui::Panel::right("inspector").default_size(240.0).show(ui, |ui| {
                egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| inspector::inspector_ui(&cx, ui));
            });
        }
        egui::CentralPanel::default().frame(egui::Frame::new()).show(ui, |ui| {
            self.tiles.ui(&mut Tiles { cx }, ui);
        });
        if self.panels.wants_folder.take().is_some() {
            self.act(&ctx, Act::OpenFolder, &mut sent.borrow_mut());
        }
        if self.panels.wants_image.take().is_some() {
            self.act(&ctx, Act::OpenImage, &mut sent.borrow_mut());
        }
        self.saving.ui(&ctx, &self.doc, &self.jobs, self.theme.good, self.theme.bad);
        self.help_ui(&ctx);
        let (hover, sent) = (hover.into_inner(), sent.into_inner());
        if self.hovered != hover {
            self.hovered = hover;
            // Drawn once more before it is shown, so that all views mark the token in the same frame. While the
            // pointer sweeps, every third frame does without, which egui asks for, and the next one follows.
            if self.redrawn < 2 && ctx.options(|o| o.max_passes.get()) > 1 {
                ctx.request_discard("hover");
                self.redrawn += 1;
            } else {
                ctx.request_repaint();
                self.redrawn = 0;
            }
        } else if !ctx.will_discard() {
            self.redrawn = 0;
        }
        self.apply(&ctx, sent);
    }
}

/// Since when the prompt as typed differs from the document's.
pub type TypedAt = Option<Instant>;
