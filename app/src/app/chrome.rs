//! Around the views: menus, status line, hints of the first start.

use super::{App, columns, lesson};
use crate::actions::{self, Act, Action};
use crate::examples;
use crate::keys::ModelSource;
use crate::palette::{self, Choice, Entry};
use crate::picture_source::PictureSource;
use crate::pins;
use crate::state::{Command, Doc};
use crate::views;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Letters of a session's name in the bar, so that the menus fit beside it.
const NAME: usize = 28;
/// Number of hints.
pub const HINTS: usize = 3;

/// The keys of an action, as this system writes them.
fn keys_of(ctx: &egui::Context, act: Act) -> String {
    let key = actions::ALL.iter().find(|a| a.act == act).and_then(|a| a.key);
    key.map(|k| ctx.format_shortcut(&k)).unwrap_or_default()
}

/// The hint after `read` ones.
fn hint(ctx: &egui::Context, read: usize) -> Option<String> {
    let keys = |act| keys_of(ctx, act);
    match read {
        0 => Some("Point at a token and every view marks it; click to keep it, Esc to let go.".into()),
        1 => Some(format!(
            "{} finds every action, method and lesson by a few letters; {} says what each view shows; Help > Lessons \
             walks you through.",
            keys(Act::Palette),
            keys(Act::Help)
        )),
        2 => Some(format!(
            "{} to {} save a view as picture or numbers, as does the button beside its tab.",
            keys(Act::SaveView(0)),
            keys(Act::SaveView(views::ALL.len() - 1))
        )),
        _ => None,
    }
}

/// The panes, where there are several and they have no room beside each other. Gives the one that is chosen.
pub(super) fn panes_ui(doc: &Doc, ui: &mut egui::Ui) -> Option<usize> {
    let n = doc.panes().len();
    if n < 2 {
        return None;
    }
    let mut to = None;
    ui.horizontal_wrapped(|ui| {
        for i in 0..n {
            if ui.selectable_label(i == doc.active(), columns::words(doc, i)).clicked() {
                to = Some(i);
            }
        }
    });
    to
}

impl App {
    /// Everything that the palette finds: actions and methods, what is pinned, examples.
    pub(super) fn findable(&self, ctx: &egui::Context) -> Vec<Entry> {
        let mut entries = palette::entries(ctx);
        entries.extend(self.next_tokens());
        entries.extend(self.doc.pins.iter().map(|p| Entry {
            text: format!("Pin: {}", p.name),
            note: p.pane.run.model.title(),
            choice: Choice::Command(pins::recall(p)),
        }));
        entries.extend(examples::shown().map(|e| Entry {
            text: format!("Example: {}", e.title),
            note: e.model().into(),
            choice: Choice::Example(e),
        }));
        entries.extend(self.lessons.iter().map(|l| Entry {
            text: format!("Lesson: {}", l.title),
            note: format!("{} steps", l.steps.len()),
            choice: Choice::Lesson(l.clone()),
        }));
        entries
    }

    pub(super) fn top_ui(&mut self, ui: &mut egui::Ui, commands: &mut Vec<Command>) {
        let ctx = ui.ctx().clone();
        egui::MenuBar::new().ui(ui, |ui| {
            ui.strong("Tokenscope");
            self.name_ui(ui);
            ui.add_space(4.0);
            for menu in actions::MENUS {
                ui.menu_button(menu, |ui| {
                    if menu == "Help" {
                        let chosen = ui.menu_button("Lessons", |ui| lesson::menu_ui(ui, &self.lessons)).inner.flatten();
                        chosen.into_iter().for_each(|l| self.start_lesson(&ctx, l));
                    }
                    self.menu_ui(ui, menu, commands);
                    if menu == "Edit" {
                        self.history_ui(ui);
                    }
                    if menu == "File"
                        && let Some(path) = self.recent_ui(ui, commands)
                    {
                        self.open_session(&ctx, path);
                    }
                });
            }
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let label = if self.doc.look.dark { "Light" } else { "Dark" };
                if ui.button(label).on_hover_text("Ctrl+D").clicked() {
                    commands.push(self.turned());
                }
                if ui.button("Save view…").on_hover_text("Ctrl+S").clicked() {
                    self.act(&ctx, Act::Save, commands);
                }
                if ui.button("Find…").on_hover_text("Command palette, Ctrl+K").clicked() {
                    self.palette.show();
                }
            });
        });
    }

    /// The entries of a menu; those of a group stand in a menu of their own, where the first of them would.
    fn menu_ui(&mut self, ui: &mut egui::Ui, menu: &str, commands: &mut Vec<Command>) {
        let mut grouped: Vec<&str> = Vec::new();
        for a in actions::ALL.iter().filter(|a| a.menu() == menu) {
            if actions::PARTED.contains(&a.act) {
                ui.separator();
            }
            let Some(group) = a.group() else {
                self.entry_ui(ui, a, a.text, commands);
                continue;
            };
            if grouped.contains(&group) {
                continue;
            }
            grouped.push(group);
            ui.menu_button(group, |ui| {
                for own in actions::ALL.iter().filter(|o| o.menu() == menu && o.group() == Some(group)) {
                    self.entry_ui(ui, own, own.short(), commands);
                }
            });
        }
    }

    /// What was done, the last first, and what was undone; a click goes back, or forward again, to before or after it.
    fn history_ui(&mut self, ui: &mut egui::Ui) {
        ui.separator();
        let any = [false, true].iter().any(|back| self.history.names(*back).next().is_some());
        let mut to = None;
        let menu = ui.add_enabled_ui(any, |ui| {
            ui.menu_button("History", |ui| {
                let lists = [false, true].map(|back| self.history.steps(&self.doc, back));
                ui.set_min_width(280.0);
                egui::ScrollArea::vertical().max_height(420.0).show(ui, |ui| {
                    let [forward, back] = &lists;
                    for (i, words) in forward.iter().enumerate().rev() {
                        let words = egui::RichText::new(words).color(self.theme.weak).strikethrough();
                        if ui.button(words).on_hover_text("Makes everything up to this again").clicked() {
                            to = Some((false, i + 1));
                        }
                    }
                    ui.weak("now");
                    for (i, words) in back.iter().enumerate() {
                        if ui.button(words).on_hover_text("Takes back everything from this on").clicked() {
                            to = Some((true, i + 1));
                        }
                    }
                });
            });
        });
        menu.response.on_hover_text("Every step that can be taken back or made again");
        if let Some((back, n)) = to {
            let ctx = ui.ctx().clone();
            (0..n).for_each(|_| self.one_step(&ctx, back));
            ui.close();
        }
    }

    fn entry_ui(&mut self, ui: &mut egui::Ui, a: &Action, text: &str, commands: &mut Vec<Command>) {
        let ctx = ui.ctx().clone();
        let what = match a.act {
            Act::Undo => self.history.names(true).next(),
            Act::Redo => self.history.names(false).next(),
            _ => None,
        };
        let mut button = egui::Button::new(what.map_or(text.to_string(), |w| format!("{text} {w}")));
        if let Some(key) = &a.key {
            button = button.shortcut_text(ctx.format_shortcut(key));
        }
        let chosen = match a.act {
            Act::Colors(map) => map == self.doc.look.map,
            Act::Alone(view) => self.alone == Some(view),
            Act::Sources => self.sources,
            Act::Apart => self.doc.look.apart,
            _ => false,
        };
        let on = match a.act {
            Act::Undo => self.history.names(true).next().is_some() || self.panels.typed_at.is_some(),
            Act::Redo => self.history.names(false).next().is_some(),
            Act::CloseImage => self.doc.pane().run.image.is_some(),
            Act::CloseSeries => self.doc.pane().series.is_some(),
            Act::NextPane | Act::ClosePane | Act::Apart => self.doc.panes().len() > 1,
            Act::Stop => self.jobs.running().0 > 0,
            _ => true,
        };
        if ui.add_enabled(on, button.selected(chosen)).on_hover_text(a.tip).clicked() {
            self.act(&ctx, a.act, commands);
            ui.close();
        }
    }

    /// One hint at a time, until all were read.
    pub(super) fn hints_ui(&mut self, ui: &mut egui::Ui) {
        let Some(words) = hint(ui.ctx(), self.hints).filter(|_| self.lesson.is_none()) else { return };
        egui::Panel::top("hint").show(ui, |ui| {
            ui.horizontal_wrapped(|ui| {
                ui.colored_label(self.theme.accent, format!("{} of {HINTS}", self.hints + 1));
                ui.label(words);
                let last = self.hints + 1 == HINTS;
                if ui.small_button(if last { "Got it" } else { "Next hint" }).clicked() {
                    self.hints += 1;
                }
                if !last && ui.small_button("No more hints").clicked() {
                    self.hints = HINTS;
                }
            });
        });
    }

    /// The session's name and whether it is saved.
    fn name_ui(&self, ui: &mut egui::Ui) {
        let unsaved = self.unsaved();
        let short = |name: String| match name.char_indices().nth(NAME) {
            Some((cut, _)) => format!("{}…", &name[..cut]),
            None => name,
        };
        let words = match (self.session.name().map(short), unsaved) {
            (Some(name), true) => format!("• {name}"),
            (Some(name), false) => name,
            (None, true) => "• not saved".into(),
            (None, false) => return,
        };
        let place = self.session_file().map_or_else(String::new, |p| format!("{}\n", p.display()));
        let keys = keys_of(ui.ctx(), Act::SaveSession);
        let tip = if unsaved { format!("{place}Not saved; {keys} saves it") } else { format!("{place}Saved") };
        ui.label(egui::RichText::new(words).color(self.theme.weak)).on_hover_text(tip);
    }

    /// What was opened lately; gives a session that should be opened again.
    fn recent_ui(&self, ui: &mut egui::Ui, commands: &mut Vec<Command>) -> Option<PathBuf> {
        let r = &self.recents;
        if !r.models.is_empty() || !r.pictures.is_empty() || !r.sessions.is_empty() {
            ui.separator();
            ui.small("Opened lately");
        }
        let name = |p: &Path| p.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let mut session = None;
        for p in &r.sessions {
            if ui.button(name(p)).on_hover_text(p.display().to_string()).clicked() {
                session = Some(p.clone());
                ui.close();
            }
        }
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
        session
    }

    pub(super) fn jobs_ui(&self, ui: &mut egui::Ui) {
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
        });
    }
}
