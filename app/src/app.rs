//! The window: draws panels and views, carries out their commands. Nothing else.

mod asking;
mod caret;
mod chrome;
mod columns;
mod drop;
mod find;
mod help;
mod keeping;
mod lesson;
mod places;
mod sessions;
mod still;
mod tiles;
mod window;

pub use caret::Caret;
pub use chrome::HINTS;
pub use still::{draw_lesson, draw_window};
pub use window::open_window;

use crate::actions::{self, Act};
use crate::atlas::Atlas;
use crate::cx::Cx;
use crate::examples::{self, Example};
use crate::heatmap::Painter;
use crate::history::History;
use crate::inspector;
use crate::jobs::Jobs;
use crate::keys::ModelSource;
use crate::lesson::Lesson;
use crate::log;
use crate::notices::Notices;
use crate::opening::SESSION;
use crate::palette::{Choice, Palette};
use crate::pane::WHOLE;
use crate::panels;
use crate::picture_source::PictureSource;
use crate::pins;
use crate::recents::Recents;
use crate::saving::Saving;
use crate::selection::{Hover, Selection};
use crate::series_source::SeriesSource;
use crate::settings::{Layout, Settings};
use crate::state::{Command, Doc};
use crate::theme::{ColorMap, Theme};
use crate::views;
use crate::work::{ModelOf, TraceOf};
use columns::Columns;
use egui::{Key, Modifiers};
use help::Help;
use sessions::Sessions;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tiles::{Asked, Tiles, layout};
use tokenscope_analysis::catalog;
use tokenscope_analysis::weights::Hold;

/// Typing is followed by a run after this pause.
const PAUSE: Duration = Duration::from_millis(300);
/// A file dialog that is gone sooner never opened.
const NO_DIALOG: Duration = Duration::from_millis(250);

/// A path that a dialog gave, and what it was asked for.
enum Picked {
    Model(PathBuf),
    Image(PathBuf),
    Series(PathBuf),
    Session(PathBuf),
    /// The system opened no dialog.
    NoDialog,
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
    /// Typing is followed by a run after this pause.
    pub pause: Duration,
    tiles: egui_tiles::Tree<usize>,
    /// The views one at a time, for windows too small for four.
    tabs: egui_tiles::Tree<usize>,
    /// The view that has the window to itself.
    alone: Option<usize>,
    /// What is kept of panes that stand side by side.
    columns: Columns,
    /// Draws heatmaps on the window's device; `None` where the CPU draws them.
    pub painter: Option<Painter>,
    theme: Theme,
    /// What the panels keep between frames.
    panels: panels::State,
    palette: Palette,
    saving: Saving,
    /// What went well or wrong beside the views.
    pub notices: Notices,
    recents: Recents,
    /// Whether recents and settings are written to disk; tests leave the user's alone.
    stores: bool,
    /// The settings as last stored, and when.
    stored: (Settings, Option<Instant>),
    /// Where the weights of models are because the start said so, which is not remembered.
    given: Option<Hold>,
    /// Settings that were too young to store.
    unsaved: Option<Settings>,
    /// Hints of the first start that were read.
    hints: usize,
    /// Whether the panel of sources is open.
    sources: bool,
    hovered: Hover,
    /// Frames in a row that were drawn twice for the pointer's sake.
    redrawn: u32,
    help: Help,
    atlas: Atlas,
    session: Sessions,
    /// The lessons that are offered.
    lessons: Vec<Arc<Lesson>>,
    /// The one under way.
    lesson: Option<lesson::Player>,
    /// The caret in text boxes.
    pub caret: Caret,
    picked: (Sender<Picked>, Receiver<Picked>),
}

impl App {
    /// An app on the embedded sample.
    pub fn new(ctx: &egui::Context) -> Self {
        let doc = Doc::default();
        let theme = Theme::new(doc.look.dark, doc.look.map);
        theme.install(ctx);
        let waker = ctx.clone();
        let mut panels = panels::State::default();
        panels.follow(&doc.pane().run.prompt);
        Self {
            session: Sessions::of(&doc),
            doc,
            history: History::default(),
            presses: 0,
            jobs: Jobs::new(move || waker.request_repaint()),
            pause: PAUSE,
            tiles: layout(),
            tabs: tiles::tabs(),
            alone: None,
            columns: Columns::default(),
            painter: None,
            theme,
            panels,
            palette: Palette::default(),
            saving: Saving::default(),
            notices: Notices::default(),
            recents: Recents::default(),
            stores: false,
            stored: (Settings::default(), None),
            given: None,
            unsaved: None,
            hints: HINTS,
            sources: true,
            hovered: Hover::default(),
            redrawn: 0,
            help: Help::default(),
            atlas: Atlas::default(),
            lessons: crate::lesson::own(),
            lesson: None,
            caret: Caret::default(),
            picked: channel(),
        }
    }

    fn apply(&mut self, ctx: &egui::Context, commands: Vec<Command>) {
        let held = ctx.input(|i| i.pointer.any_down());
        for command in commands {
            let before = self.doc.clone();
            self.remember(&command);
            self.doc.apply(command.clone());
            if let Command::Method(id) = &command
                && let Ok(kind) = catalog::find(id).map(|e| e.info().kind)
            {
                self.bring_forward(|view| view.shows.contains(&kind));
            }
            // How everything looks is no step: undo is for work.
            let same = before.panes() == self.doc.panes() && before.pins == self.doc.pins;
            if !same || before.active() != self.doc.active() {
                self.history.record(before, &command, self.presses, held, Instant::now());
            }
        }
        self.follow(ctx);
    }

    /// Brings such views before those that lie in the same place.
    fn bring_forward(&mut self, which: impl Fn(&views::View) -> bool) {
        for tree in [&mut self.tiles, &mut self.tabs] {
            tree.make_active(|_, tile| matches!(tile, egui_tiles::Tile::Pane(v) if which(&views::ALL[*v])));
        }
    }

    fn remember(&mut self, command: &Command) {
        match command {
            Command::Model(ModelSource::Path(p) | ModelSource::Recorded(p)) => self.recents.add_model(p),
            Command::Image(Some(source)) => source.files().into_iter().for_each(|p| self.recents.add_picture(p)),
            _ => return,
        }
        if self.stores {
            self.recents.store();
        }
    }

    /// Brings what hangs on the document up to date.
    fn follow(&mut self, ctx: &egui::Context) {
        if self.panels.typed_at.is_none() {
            self.panels.follow(&self.doc.pane().run.prompt);
        }
        let turned = self.theme.dark != self.doc.look.dark;
        if turned || self.theme.map != self.doc.look.map {
            self.theme = Theme::new(self.doc.look.dark, self.doc.look.map);
        }
        if turned {
            self.theme.apply(ctx);
        }
    }

    /// Makes the window as `settings` remember it.
    pub fn set_up(&mut self, ctx: &egui::Context, settings: Settings) {
        self.doc.look.dark = settings.dark;
        self.doc.look.map = ColorMap::find(&settings.colors).unwrap_or_default();
        (self.hints, self.sources) = (settings.hints, settings.sources);
        ctx.set_zoom_factor(settings.zoom);
        self.tiles = settings.layout.clone().and_then(Layout::tree).unwrap_or_else(layout);
        self.jobs.hold(settings.weights());
        self.doc.pane_mut().run.placement = settings.placement();
        self.stored = (settings, None);
        self.follow(ctx);
    }

    /// Holds the weights of models so, without remembering it.
    fn holds_for_now(&mut self, hold: Hold) {
        self.jobs.hold(hold);
        self.given = Some(hold);
    }

    /// What to remember of the window as it is.
    pub fn settings(&self, ctx: &egui::Context) -> Settings {
        // What a lesson changes is not the user's taste.
        let (zoom, sources) = match &self.lesson {
            Some(player) => player.own_settings(),
            None => (ctx.zoom_factor(), self.sources),
        };
        // Where the system does not tell the window's place, the size before stays.
        let size = ctx.input(|i| i.viewport().inner_rect).map(|r| [r.width() * zoom, r.height() * zoom]);
        Settings {
            dark: self.doc.look.dark,
            colors: self.doc.look.map.name().into(),
            zoom,
            size: size.or(self.stored.0.size),
            hints: self.hints,
            sources,
            layout: Some(Layout::of(&self.tiles)),
            weights: match self.given.filter(|given| *given == self.jobs.held()) {
                Some(_) => self.stored.0.weights.clone(),
                None => self.jobs.held().name().into(),
            },
            // What a session says is not the user's taste.
            dtype: self.panels.chosen.map_or_else(|| self.stored.0.dtype.clone(), |p| p.numbers.name().into()),
            device: self.panels.chosen.map_or_else(|| self.stored.0.device.clone(), |p| p.chip.to_string()),
        }
    }

    /// Stores the settings where they changed, at most once a second and not while something is dragged.
    fn store_settings(&mut self, ctx: &egui::Context) {
        if !self.stores {
            return;
        }
        let now = self.settings(ctx);
        if now == self.stored.0 {
            self.unsaved = None;
            return;
        }
        let soon = self.stored.1.map(|t| Duration::from_secs(1).saturating_sub(t.elapsed())).unwrap_or_default();
        if soon.is_zero() && !ctx.input(|i| i.pointer.any_down()) {
            now.store();
            (self.stored, self.unsaved) = ((now, Some(Instant::now())), None);
        } else {
            self.unsaved = Some(now);
            ctx.request_repaint_after(soon.max(Duration::from_millis(100)));
        }
    }

    /// What is typed and not run yet is a change, too, and must not be lost, nor reach another pane.
    fn take_typed(&mut self, ctx: &egui::Context) {
        if self.panels.typed_at.take().is_some() {
            self.apply(ctx, vec![Command::Prompt(self.panels.typed.text().into())]);
        }
    }

    /// Gives a view the window, or shows all of them again.
    fn show_alone(&mut self, view: usize) {
        self.alone = if self.alone == Some(view) { None } else { Some(view) };
    }

    /// Undoes or redoes a step. Runs that are known to fail are passed over: nobody wants back to an error.
    fn step(&mut self, ctx: &egui::Context, back: bool) {
        self.take_typed(ctx);
        let look = self.doc.look;
        let fails = |doc: &Doc| {
            let run = &doc.pane().run;
            self.jobs.has_failed(&ModelOf::of(run)) || self.jobs.has_failed(&TraceOf(run.clone()))
        };
        while self.history.step(&mut self.doc, back).is_some()
            && fails(&self.doc)
            && self.history.names(back).next().is_some()
        {}
        // Colours are a matter of taste and no step.
        self.doc.look = look;
        self.follow(ctx);
    }

    /// Undoes or redoes a step, whatever its run is.
    fn one_step(&mut self, ctx: &egui::Context, back: bool) {
        self.take_typed(ctx);
        let look = self.doc.look;
        self.history.step(&mut self.doc, back);
        self.doc.look = look;
        self.follow(ctx);
    }

    /// Dark colours where they are light, and the other way round.
    fn turned(&self) -> Command {
        let dark = !self.doc.look.dark;
        Command::whole("colours", move |d| d.look.dark = dark)
    }

    /// Shows an example; what is about the user's taste and files stays.
    fn shown(&self, example: &Example) -> Command {
        Command::Show(example.pane(self.doc.pane()).into())
    }

    /// Moves the selection by a token, or grows it.
    fn walk(&self, forward: bool, extend: bool) -> Option<Command> {
        let t = self.jobs.ready(&TraceOf(self.doc.pane().run.clone()))?;
        let name = self.doc.pane().tower_of(&t);
        let n = t.towers.get(&name)?.tokens.len();
        Some(Command::Select(self.doc.pane().aim.stepped(n, forward, extend)))
    }

    /// Does what the keys ask for.
    fn keys(&mut self, ctx: &egui::Context, commands: &mut Vec<Command>) {
        self.lesson_keys(ctx);
        // Keys with more modifiers first, or Ctrl+Shift+Z would count as Ctrl+Z.
        let mut keyed: Vec<&actions::Action> = actions::ALL.iter().filter(|a| a.key.is_some()).collect();
        keyed.sort_by_key(|a| a.key.map(|k| !k.modifiers.shift));
        for action in keyed {
            if action.key.is_some_and(|k| ctx.input_mut(|i| i.consume_shortcut(&k))) {
                self.act(ctx, action.act, commands);
            }
        }
        // A list that hangs open closes first, by itself.
        let free = !self.palette.open && !egui::Popup::is_any_open(ctx);
        if free && ctx.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Escape)) {
            if self.session.form.open {
                self.close_form();
            } else if self.saving.open {
                self.saving.open = false;
            } else if self.atlas.open {
                self.atlas.open = false;
            } else if self.help.open {
                self.help.open = false;
            } else if views::close_detail(ctx, self.doc.active()) {
            } else if let Some(drill) = self.doc.pane().cursor.drill {
                commands.push(Command::drill(drill.back()));
            } else if self.alone.is_some() && self.doc.pane().aim.is_empty() {
                self.alone = None;
            } else {
                commands.push(Command::Select(Selection::default()));
            }
            self.jobs.cancel_all();
        }
    }

    fn act(&mut self, ctx: &egui::Context, act: Act, commands: &mut Vec<Command>) {
        let (layer, head) = self.doc.pane().cursor.head;
        match act {
            Act::Palette => self.palette.show(),
            Act::Find => self.palette.show_run(),
            Act::CopyPicture(view) => self.saving.copy(ctx, view, true, &self.doc, &self.jobs),
            Act::CopyTable(view) => self.saving.copy(ctx, view, false, &self.doc, &self.jobs),
            Act::OpenFolder => self.dialog(ctx, |d| d.pick_folder().map(Picked::Model)),
            Act::OpenFile => self.dialog(ctx, |d| {
                d.add_filter("models and traces", &["gguf", "safetensors"]).pick_file().map(Picked::Model)
            }),
            Act::OpenImage => {
                self.panels.adds_image = false;
                self.dialog(ctx, |d| {
                    let ends = ["png", "jpg", "jpeg", "webp", "bmp", "gif"];
                    d.add_filter("pictures", &ends).pick_file().map(Picked::Image)
                });
            }
            Act::OpenSeries => {
                self.dialog(ctx, |d| d.add_filter("series", &["wav", "csv", "tsv"]).pick_file().map(Picked::Series))
            }
            Act::CloseSeries => commands.push(Command::Series(None)),
            Act::CloseImage => commands.push(Command::Image(None)),
            Act::OpenSession => {
                self.dialog(ctx, |d| d.add_filter("sessions", &[SESSION]).pick_file().map(Picked::Session))
            }
            Act::SaveSession => self.save_session(ctx),
            Act::SaveSessionAs => {
                self.take_typed(ctx);
                self.ask_where();
            }
            Act::Pin => {
                self.take_typed(ctx);
                commands.push(pins::pin());
            }
            Act::Sample => commands.extend(examples::find(examples::FIRST).ok().map(|e| self.shown(e))),
            Act::Save => self.saving.show(),
            Act::Report => self.saving.show_report(),
            Act::SaveView(view) => self.saving.show_for(view, None),
            Act::Alone(view) => self.show_alone(view),
            Act::Sources => self.sources = !self.sources,
            Act::Undo => self.step(ctx, true),
            Act::Redo => self.step(ctx, false),
            Act::Stop => self.jobs.cancel_all(),
            Act::Dark => commands.push(self.turned()),
            Act::Colors(map) => commands.push(Command::whole("colour map", move |d| d.look.map = map)),
            Act::ResetLayout => (self.tiles, self.alone) = (layout(), None),
            // Views hold these to what the model has.
            Act::NextHead => commands.push(Command::head(layer, head + 1)),
            Act::PreviousHead => commands.push(Command::head(layer, head.saturating_sub(1))),
            Act::NextLayer => commands.push(Command::head(layer + 1, head)),
            Act::PreviousLayer => commands.push(Command::head(layer.saturating_sub(1), head)),
            Act::SplitPane => self.change_panes(ctx, "another pane", Doc::split),
            Act::BeforeAfter => {
                self.change_panes(ctx, "before and after", Doc::before_and_after);
                self.bring_forward(|view| view.compares());
            }
            Act::NextPane => self.change_panes(ctx, "pane", |d| d.go_to(d.active() + 1)),
            Act::ClosePane => self.change_panes(ctx, "pane", Doc::close),
            Act::Apart => {
                let apart = !self.doc.look.apart;
                commands.push(Command::whole("panes", move |d| d.look.apart = apart));
            }
            Act::WholeMap => commands.push(Command::part(WHOLE)),
            Act::NextRound => commands.push(Command::round(self.doc.pane().cursor.round + 1)),
            Act::PreviousRound => commands.push(Command::round(self.doc.pane().cursor.round.saturating_sub(1))),
            Act::NextToken => commands.extend(self.walk(true, false)),
            Act::PreviousToken => commands.extend(self.walk(false, false)),
            Act::GrowRight => commands.extend(self.walk(true, true)),
            Act::GrowLeft => commands.extend(self.walk(false, true)),
            Act::Help => self.help.again(),
            Act::Licences => self.help.toggle(help::Page::Licences),
            Act::Atlas => self.atlas.toggle(),
        }
    }

    fn dialog(&self, ctx: &egui::Context, pick: impl FnOnce(rfd::FileDialog) -> Option<Picked> + Send + 'static) {
        let (send, ctx) = (self.picked.0.clone(), ctx.clone());
        // The dialog blocks, so it gets a thread; without one it simply does not open.
        let _ = std::thread::Builder::new().name("dialog".into()).spawn(move || {
            let start = Instant::now();
            let picked = pick(rfd::FileDialog::new());
            // Nobody closes a dialog as fast as a desktop without one answers.
            let picked = picked.or((start.elapsed() < NO_DIALOG).then_some(Picked::NoDialog));
            if let Some(picked) = picked {
                // The window may be gone by then.
                let _ = send.send(picked);
                ctx.request_repaint();
            }
        });
    }
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        self.frame(ui);
        self.store_settings(ui.ctx());
    }

    fn on_exit(&mut self) {
        self.end();
        log::line("end");
    }
}

impl App {
    /// An app that shows `doc`, for pictures of the window.
    pub fn with_doc(ctx: &egui::Context, doc: Doc) -> Self {
        let mut app = Self::new(ctx);
        app.session.begin(&doc);
        app.doc = doc;
        app.theme = Theme::new(!app.doc.look.dark, app.doc.look.map);
        app.follow(ctx);
        app
    }

    /// One frame of the whole window.
    pub fn frame(&mut self, ui: &mut egui::Ui) {
        let ctx = ui.ctx().clone();
        self.jobs.begin_frame();
        if let Some(painter) = &self.painter {
            painter.begin_frame();
        }
        self.presses += u64::from(ctx.input(|i| i.pointer.any_pressed()));
        self.caret.begin_frame(&ctx);
        self.begin_lesson(&ctx);
        let mut commands = Vec::new();
        while let Ok(picked) = self.picked.1.try_recv() {
            match picked {
                Picked::Model(path) => commands.push(Command::Model(ModelSource::of_path(path))),
                Picked::Image(path) => {
                    let there = self.doc.pane().run.image.clone().filter(|_| self.panels.adds_image);
                    let all = there.into_iter().chain([PictureSource::File(path)]);
                    commands.push(Command::Image(PictureSource::joined(all)));
                }
                Picked::Series(path) => commands.push(Command::Series(Some(SeriesSource::file(path)))),
                Picked::Session(path) => self.open_session(&ctx, path),
                Picked::NoDialog => {
                    let words =
                        "No file dialog opened on this desktop. Type the path under Model, or drop the file here.";
                    self.notices.say(words, false, None);
                }
            }
        }
        let session = drop::dropped(&ctx, &mut commands);
        if let Some(path) = session.or(self.panels.wants_session.take()) {
            self.open_session(&ctx, path);
        }
        self.dropped_lesson(&ctx);
        if self.palette.open && !self.asks() {
            let mut palette = std::mem::take(&mut self.palette);
            let in_run = palette.looks_in_run();
            let chosen = palette.ui(&ctx, || if in_run { self.in_run() } else { self.findable(&ctx) });
            self.palette = palette;
            match chosen {
                Some(Choice::Act(act)) => self.act(&ctx, act, &mut commands),
                Some(Choice::Command(c)) => commands.push(c),
                Some(Choice::Example(e)) => commands.push(self.shown(e)),
                Some(Choice::Lesson(l)) => self.start_lesson(&ctx, l),
                Some(Choice::GoOn { at, id, beside }) => self.go_on(at, id, beside, &mut commands),
                None => {}
            }
        }
        // While something is asked, keys are for the answer.
        if !self.asks() {
            self.keys(&ctx, &mut commands);
        }
        self.sessions_ui(&ctx, &mut commands);
        egui::Panel::top("top").show(ui, |ui| self.top_ui(ui, &mut commands));
        self.left_ui(ui);
        self.hints_ui(ui);
        egui::Panel::bottom("jobs").show(ui, |ui| self.jobs_ui(ui));
        self.notices.ui(ui, &self.theme);
        self.lesson_ui(ui);
        let seen = self.columns.seen(&self.doc, &self.jobs, &self.hovered, self.doc.active());
        let (sent, hover, failed) = (RefCell::new(commands), RefCell::new(Hover::default()), RefCell::new(None));
        let mut cx = Cx {
            doc: &self.doc,
            pane: self.doc.pane(),
            at: self.doc.active(),
            typed: None,
            theme: &self.theme,
            jobs: &self.jobs,
            commands: &sent,
            hovered: &seen,
            hover: &hover,
            failed: &failed,
            excused: Cell::new(false),
            waits: Cell::new(false),
            figure: false,
            view: Cell::new(""),
            scrolls: None,
            painter: self.painter.as_ref(),
        };
        let wide = ui.available_width() >= 1500.0;
        let (mut asked, mut done) = (Asked::default(), columns::Done::default());
        if self.sources {
            let most = (ui.available_width() * 0.4).max(120.0);
            egui::Panel::left("sources").default_size(284.0f32.min(most)).max_size(most).show(ui, |ui| {
                egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                    self.panels.sources_ui(&cx, ui, self.pause);
                    if !wide {
                        ui.separator();
                        inspector::inspector_ui(&cx, ui);
                    }
                });
            });
        }
        if self.atlas.open {
            self.atlas.ui(&cx, &ctx);
        }
        // Cutting needs no model run, so that view follows the keys.
        cx.typed = self.panels.ahead();
        if wide {
            egui::Panel::right("inspector").default_size(280.0).show(ui, |ui| {
                egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| inspector::inspector_ui(&cx, ui));
            });
        }
        egui::CentralPanel::default().frame(egui::Frame::new()).show(ui, |ui| {
            let beside = columns::fit(self.doc.panes().len(), ui.available_width());
            if !beside {
                asked.pane = chrome::panes_ui(&self.doc, ui);
            }
            let mut tiles = Tiles { cx, asked: &mut asked, alone: self.alone };
            if let Some(view) = self.alone {
                tiles.alone_ui(ui, view);
            }
            let small = columns::is_small(ui.available_size());
            let tree = if small { &mut self.tabs } else { &mut self.tiles };
            match self.alone {
                _ if beside => {
                    let Tiles { cx, asked, alone } = tiles;
                    let rest = egui::UiBuilder::new().max_rect(ui.available_rect_before_wrap());
                    ui.scope_builder(rest, |ui| {
                        done = self.columns.ui(ui, &cx, [&mut self.tiles, &mut self.tabs], alone, asked);
                    });
                }
                Some(view) => {
                    egui::CentralPanel::default().frame(egui::Frame::new()).show(ui, |ui| tiles.view_ui(ui, view));
                }
                None => tree.ui(&mut tiles, ui),
            }
        });
        if let Some((view, picture)) = asked.copy {
            self.saving.copy(&ctx, view, picture, &self.doc, &self.jobs);
        }
        if let Some((view, format)) = asked.save {
            self.saving.show_for(view, Some(format));
        }
        if let Some(view) = asked.alone {
            self.show_alone(view);
        }
        if self.panels.wants_folder.take().is_some() {
            self.act(&ctx, Act::OpenFolder, &mut sent.borrow_mut());
        }
        if let Some(adds) = self.panels.wants_image.take() {
            self.act(&ctx, Act::OpenImage, &mut sent.borrow_mut());
            self.panels.adds_image = adds;
        }
        if self.panels.wants_series.take().is_some() {
            self.act(&ctx, Act::OpenSeries, &mut sent.borrow_mut());
        }
        self.saving.ui(&ctx, &self.doc, &self.jobs, self.theme.bad, &mut self.notices);
        self.help.ui(&ctx);
        self.spotlight_ui(&ctx, &asked.places);
        drop::hovering_ui(&ctx, &self.theme);
        self.caret.ring_ui(&ctx, &self.theme);
        let (own, sent) = (hover.into_inner(), sent.into_inner());
        // What is marked outside of the panes is marked in the one that is worked in.
        let (place, hover) = done.hover.unwrap_or((self.doc.active(), own));
        self.columns.hovered_in = place;
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
        self.columns_done(&ctx, asked.pane.or(done.pressed), done.sent, done.closed);
    }
}
