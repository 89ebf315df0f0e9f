//! The panels beside the views: where model and input come from, and what the selected token is.

use crate::cx::{Cx, fixed};
use crate::examples;
use crate::jobs::Status;
use crate::keys::ModelSource;
use crate::opening::{command_of, is_session};
use crate::pictures::widgets::named;
use crate::pins;
use crate::prompt::PromptBox;
use crate::recents::hub;
use crate::samples;
use crate::series_source::SeriesSource;
use crate::state::Command;
use crate::text::Text;
use crate::work::{BadgeOf, EstimateOf, ModelOf, PictureOf, TraceOf, VerifyOf, hold_weights};
use egui::{Key, RichText, Ui};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokenscope_analysis::weights::{Chip, Hold, Numbers, Placement};

/// What the panels keep between frames.
#[derive(Default)]
pub struct State {
    /// The prompt as typed.
    pub typed: PromptBox,
    /// Since when it differs from the document's.
    pub typed_at: Option<Instant>,
    /// What is typed, as requests hold it; of an older text where nothing is typed.
    shared: Text,
    path: String,
    /// Models of the Hugging Face cache, read when its menu opens.
    cache: Option<Vec<(String, PathBuf)>>,
    /// The comparison that is under way: of one model, which need not be the one that is shown by now.
    verifies: Option<VerifyOf>,
    /// How often models were compared.
    turns: usize,
    /// Set when a folder should be asked for.
    pub wants_folder: Option<()>,
    /// Set when a picture should be asked for, and whether it joins those that are there.
    pub wants_image: Option<bool>,
    /// The same of the picture that was asked for last.
    pub adds_image: bool,
    /// Set when a series should be asked for.
    pub wants_series: Option<()>,
    /// The device and the numbers of weights that were chosen last, to be remembered.
    pub chosen: Option<Placement>,
    /// Set when this session should be opened.
    pub wants_session: Option<PathBuf>,
    pins: pins::State,
}

impl State {
    /// The text in the box, where it is ahead of the document's prompt.
    pub fn ahead(&self) -> Option<Text> {
        self.typed_at.map(|_| self.shared.clone())
    }

    /// Puts the document's prompt into the box.
    pub fn follow(&mut self, prompt: &Text) {
        if self.shared != *prompt {
            self.typed.set(prompt);
            self.shared = prompt.clone();
        }
    }

    /// Model, prompt, picture, examples.
    pub fn sources_ui(&mut self, cx: &Cx, ui: &mut Ui, pause: Duration) {
        fixed(ui, "model", |ui| self.model_ui(cx, ui));
        ui.separator();
        fixed(ui, "prompt", |ui| self.prompt_ui(cx, ui, pause));
        let recording = cx.ready_trace().filter(|_| cx.recorded());
        if recording.is_none_or(|t| t.image_size.is_some()) {
            fixed(ui, "picture", |ui| self.picture_ui(cx, ui));
        }
        fixed(ui, "series", |ui| self.series_ui(cx, ui));
        let lacks = cx.sees_only() && cx.pane.run.image.is_none();
        if let (false, Status::Failed(why)) = (lacks, cx.status("run of the sources", &TraceOf(cx.pane.run.clone()))) {
            cx.failure_ui(ui, &why.to_string());
        }
        ui.separator();
        if self.pins.ui(cx, ui) {
            self.typed_at = None;
        }
        ui.separator();
        ui.heading("Examples");
        let here = |e: &&examples::Example| cx.pane.run.image == e.picture() && *cx.pane.run.prompt == *e.prompt();
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = egui::vec2(10.0, 2.0);
            // A title stays on one line, so that none is taken for two.
            ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Extend);
            for e in examples::shown() {
                if ui.link(e.title).on_hover_text(e.look).clicked() {
                    self.typed_at = None;
                    cx.send(Command::Show(e.pane(cx.pane).into()));
                }
            }
        });
        if let Some(e) = examples::shown().find(here) {
            ui.small(e.look);
        }
    }

    fn prompt_ui(&mut self, cx: &Cx, ui: &mut Ui, pause: Duration) {
        ui.heading("Prompt");
        if cx.recorded() {
            // What was recorded can be read and copied, not changed.
            let text = cx.text(ui);
            let area = egui::ScrollArea::vertical().id_salt("recording").max_height(240.0);
            let edit = |ui: &mut Ui| {
                let mut text = &*text;
                ui.add(egui::TextEdit::multiline(&mut text).desired_rows(4).desired_width(f32::INFINITY))
            };
            named(&area.show(ui, edit).inner, "prompt of the recording");
            return;
        }
        if cx.sees_only() {
            ui.small("This model reads pictures only; tokenizers cut the prompt all the same.");
        }
        if self.typed.ui(ui) {
            (self.typed_at, self.shared) = (Some(Instant::now()), self.typed.text().into());
        }
        match self.typed_at {
            Some(t) if t.elapsed() >= pause => {
                self.typed_at = None;
                cx.send(Command::Prompt(self.shared.clone()));
            }
            Some(t) => ui.ctx().request_repaint_after(pause.saturating_sub(t.elapsed())),
            None => {}
        }
    }

    fn model_ui(&mut self, cx: &Cx, ui: &mut Ui) {
        ui.heading("Model");
        ui.horizontal_wrapped(|ui| {
            ui.label(cx.pane.run.model.title());
            match &cx.pane.run.model {
                ModelSource::Sample(_) => ui.weak("part of the program"),
                ModelSource::Path(p) => {
                    let on_disk = ui.weak("on disk").on_hover_text(p.display().to_string());
                    self.badge_ui(cx, ui, p);
                    on_disk
                }
                ModelSource::Recorded(p) => ui.weak("recorded run").on_hover_text(p.display().to_string()),
            };
        });
        if let Some(why) = cx.model_failure() {
            cx.failure_ui(ui, &why.to_string());
        } else if let ModelSource::Recorded(_) = cx.pane.run.model {
            ui.small("Prompt and picture are those of the recording.");
            recording_ui(cx, ui);
        } else if let Status::Ready(m) = cx.status("model", &ModelOf::of(&cx.pane.run)) {
            let info = m.model.info();
            let line = format!("{} · {} parameters · {}", info.architecture, grouped(info.n_params), info.dtype);
            let line = match info.numbers {
                Numbers::F32 => line,
                Numbers::Bf16 => format!("{line} → bf16"),
            };
            let held = bytes(m.weights.bytes);
            let place = match (m.weights.in_file, info.numbers) {
                (true, Numbers::F32) => {
                    format!("The weights stay in their file as stored; {held} of them are in memory")
                }
                (true, Numbers::Bf16) => format!(
                    "The weights stay in their file, rounded to bf16 where they are read; {held} of them are in memory"
                ),
                (false, Numbers::F32) => format!("The weights are in memory as f32: {held}"),
                (false, Numbers::Bf16) => format!("The weights are in memory, matrices as bf16: {held}"),
            };
            ui.small(line).on_hover_text(place);
            estimate_ui(cx, ui);
        } else {
            // As high as what will stand here.
            ui.small("opening…");
            ui.small("");
        }
        fixed(ui, "path", |ui| self.path_ui(cx, ui));
        ui.horizontal(|ui| self.menus_ui(cx, ui));
    }

    /// How right the numbers of the model at `path` are, where that was compared or can be.
    fn badge_ui(&mut self, cx: &Cx, ui: &mut Ui, path: &Path) {
        if cx.ready_model().is_none() {
            return;
        }
        let turn = self.turns;
        if let Some(asked) = self.verifies.as_ref().filter(|v| v.model == path) {
            match cx.status("comparison with a reference", asked) {
                Status::Ready(_) => (self.verifies, self.turns) = (None, turn + 1),
                Status::Failed(why) => {
                    let shown = ui.small(RichText::new("not compared").color(cx.theme.bad));
                    shown.on_hover_text(why.to_string());
                    if ui.small_button("✖").on_hover_text("Leaves it").clicked() {
                        (self.verifies, self.turns) = (None, turn + 1);
                    }
                }
                Status::Running(done, _) | Status::Partly(done, _) => {
                    ui.add(egui::ProgressBar::new(done).desired_width(48.0).desired_height(3.0))
                        .on_hover_text(format!("Comparing with {}", asked.reference.display()));
                }
            }
            return;
        }
        let placement = cx.pane.run.placement;
        let badge = match cx.status("badge", &BadgeOf { model: path.into(), placement, turn }) {
            Status::Ready(badge) | Status::Running(_, Some(badge)) if badge.model == path => badge,
            _ => return,
        };
        let again = |of: &Path| format!("Click to compare with {}", of.display());
        let shown = match (&badge.last, &badge.reference) {
            (Some(e), _) => {
                let colour = if e.holds { cx.theme.good } else { cx.theme.bad };
                let words = badge.reference.as_deref().map(again).unwrap_or_default();
                let button = egui::Button::new(RichText::new(e.short()).small().color(colour)).small();
                ui.add(button).on_hover_text(format!("{}\n{words}", e.words()))
            }
            (None, Some(reference)) => ui.small_button("verify").on_hover_text(format!(
                "A run that was computed elsewhere lies with this model. {}, every tensor of it",
                again(reference)
            )),
            (None, None) => return,
        };
        named(&shown, "comparison with a reference");
        if shown.clicked() {
            let of =
                |reference: &PathBuf| VerifyOf { model: path.into(), placement, reference: reference.clone(), turn };
            self.verifies = badge.reference.as_ref().map(of);
        }
    }

    fn path_ui(&mut self, cx: &Cx, ui: &mut Ui) {
        ui.horizontal(|ui| {
            // Both buttons stand beside it in a narrow panel, too.
            let room = (ui.available_width() - 138.0).clamp(48.0, 240.0);
            let edit = egui::TextEdit::singleline(&mut self.path).hint_text("folder or file…").desired_width(room);
            let edit = ui
                .add(edit)
                .on_hover_text("Path of a model folder, a GGUF file, a recorded trace, a picture or a session");
            named(&edit, "path of a model, trace or picture");
            let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
            if (ui.button("Open").clicked() || entered) && !self.path.trim().is_empty() {
                let path = PathBuf::from(self.path.trim());
                match is_session(&path) {
                    true => self.wants_session = Some(path),
                    false => cx.send(command_of(path)),
                }
            }
            if ui.button("Browse…").clicked() {
                self.wants_folder = Some(());
            }
        });
    }

    fn menus_ui(&mut self, cx: &Cx, ui: &mut Ui) {
        ui.menu_button("Hugging Face cache", |ui| {
            let models = self.cache.get_or_insert_with(hub);
            if models.is_empty() {
                ui.weak("No models in the cache of this machine.");
            }
            egui::ScrollArea::vertical().max_height(320.0).show(ui, |ui| {
                for (name, path) in models.iter() {
                    if ui.button(name).clicked() {
                        cx.send(Command::Model(ModelSource::Path(path.clone())));
                        ui.close();
                    }
                }
            });
        });
        if !ui.ctx().any_popup_open() {
            self.cache = None;
        }
        let menu = ui.menu_button("Samples", |ui| {
            for name in samples::NAMES {
                let source = ModelSource::Sample(name);
                let entry = egui::Button::selectable(cx.pane.run.model == source, *name);
                if ui.add(entry.shortcut_text(samples::about(name))).clicked() {
                    cx.send(Command::Model(source));
                    ui.close();
                }
            }
        });
        menu.response.on_hover_text("Models that are part of the program");
        if !cx.recorded() {
            self.weights_ui(cx, ui);
        }
    }

    fn picture_ui(&mut self, cx: &Cx, ui: &mut Ui) {
        // Of a model that is not open nothing is known.
        let blind = cx.ready_model().is_some_and(|m| m.processor.is_none());
        ui.horizontal_wrapped(|ui| {
            match &cx.pane.run.image {
                Some(source) => {
                    ui.label(format!("Picture: {}", source.title())).on_hover_text(source.to_string());
                    if ui.small_button("✖").on_hover_text("Run without it").clicked() {
                        cx.send(Command::Image(None));
                    }
                }
                None => {
                    let own = cx.recorded() && cx.ready_trace().is_some_and(|t| t.picture.is_some());
                    ui.label(if own { "Picture of the recording" } else { "No picture" });
                }
            }
            if ui.small_button("Picture…").on_hover_text("Or drop one on the window").clicked() {
                self.wants_image = Some(false);
            }
            // A model that reads the picture as a part of its text reads several.
            let several = cx.ready_model().and_then(|m| m.processor.as_ref().map(|p| p.writes_into_the_prompt()));
            if cx.pane.run.image.is_some() && several == Some(true) {
                let more =
                    ui.small_button("Add…").on_hover_text("One more picture of the same prompt, beside the first");
                if more.clicked() {
                    self.wants_image = Some(true);
                }
            }
        });
        // Whether it can be read is said at once, whether or not the model looks at it.
        if let Some(source) = &cx.pane.run.image
            && let Status::Failed(why) = cx.status("picture to read", &PictureOf(source.clone()))
        {
            cx.failure_ui(ui, &why.to_string());
        } else if cx.pane.run.image.is_some() && blind {
            ui.small("This model reads text only; the picture waits for one that sees.");
        }
    }
}

impl State {
    fn series_ui(&mut self, cx: &Cx, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            match &cx.pane.series {
                Some(source) => {
                    ui.label(format!("Series: {}", source.title())).on_hover_text(source.to_string());
                    if ui.small_button("✖").on_hover_text("Remove the series").clicked() {
                        cx.send(Command::Series(None));
                    }
                }
                None => {
                    ui.label("No series");
                }
            }
            if ui.small_button("Series…").on_hover_text("A WAV or CSV file; or drop one on the window").clicked() {
                self.wants_series = Some(());
            }
            if cx.pane.series.is_none() {
                let made = ui.small_button("Made signal").on_hover_text("Two seconds in which four voices take turns");
                if made.clicked() {
                    cx.send(Command::Series(Some(SeriesSource::Signal(FIRST_SIGNAL))));
                }
            }
        });
    }

    /// Where the weights of models are held, in which numbers they are and what computes with them, now and at the next
    /// start.
    fn weights_ui(&mut self, cx: &Cx, ui: &mut Ui) {
        let (held, now) = (cx.jobs.held(), cx.pane.run.placement);
        let mut chosen = None;
        let menu = ui.menu_button("Weights", |ui| {
            ui.weak("Where they are; results stay the same");
            for hold in Hold::ALL {
                if ui.add(egui::Button::selectable(hold == held, hold.words())).clicked() {
                    hold_weights(cx.jobs, hold);
                    ui.close();
                }
            }
            ui.separator();
            ui.weak("In which numbers; all is computed again");
            for numbers in Numbers::ALL {
                if ui.add(egui::Button::selectable(numbers == now.numbers, numbers.words())).clicked() {
                    chosen = Some(("numbers of the weights", Placement { numbers, ..now }));
                    ui.close();
                }
            }
            // A build that computes on the processor alone has nothing to choose.
            let mut chips = Chip::built();
            if !chips.contains(&now.chip) {
                chips.push(now.chip);
            }
            if chips.len() > 1 {
                ui.separator();
                ui.weak("What computes; all is computed again");
                for chip in chips {
                    if ui.add(egui::Button::selectable(chip == now.chip, chip.words())).clicked() {
                        chosen = Some(("device", Placement { chip, ..now }));
                        ui.close();
                    }
                }
            }
        });
        if let Some((what, placement)) = chosen {
            self.chosen = Some(placement);
            cx.send(Command::set(what, move |p| p.run.placement = placement));
        }
        let words = "Where the weights of the model are, in which numbers, and what computes with them";
        let (numbers, chip) = (now.numbers.words(), now.chip.words());
        menu.response.on_hover_text(format!("{words}. Now: {}; {numbers}; {chip}", held.words()));
    }
}

/// What a recording is of, and what its recorder had to say.
fn recording_ui(cx: &Cx, ui: &mut Ui) {
    let Some(t) = cx.ready_trace() else { return };
    let dtype = t.dtype.as_ref().map(|d| format!(" · computed in {d}")).unwrap_or_default();
    ui.small(format!("{}{dtype}", t.architecture));
    if !t.notes.is_empty() {
        let s = if t.notes.len() == 1 { "" } else { "s" };
        ui.small(format!("{} remark{s} on what was recorded", t.notes.len())).on_hover_text(t.notes.join("\n"));
    }
}

/// What the run costs, in one line that stays while it is estimated anew.
fn estimate_ui(cx: &Cx, ui: &mut Ui) {
    let asked = EstimateOf(cx.pane.run.clone());
    let now = match cx.status("estimate", &asked) {
        Status::Ready(e) => Some(e),
        Status::Running(_, before) => before,
        _ => None,
    };
    let Some(e) = now else { return drop(ui.small("")) };
    // Two cores reach about 30 GFLOP/s in f32 matrix products.
    let seconds = e.flops as f64 / 3e10;
    let time = if seconds < 0.1 { "well under a second".into() } else { format!("about {seconds:.1} s") };
    let words = format!("this run: {}, {time}", bytes(e.bytes()));
    let line = ui.add(egui::Label::new(egui::RichText::new(words).small()).truncate());
    line.on_hover_text(format!("At its worst; {} of it are kept while it is shown", bytes(e.capture_bytes)));
}

/// The signal that a first try shows.
const FIRST_SIGNAL: u64 = 7;

/// 1234567 as 1 234 567.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// A size for people.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.0} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}
