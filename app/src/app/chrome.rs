//! Around the views: menus, status line, hints of the first start, the window of help.

use super::App;
use crate::actions::{self, Act, Action};
use crate::keys::ModelSource;
use crate::picture_source::PictureSource;
use crate::state::Command;
use crate::views;
use egui::vec2;
use std::path::Path;
use std::time::Duration;

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
            "{} finds every action, method and example by a few letters; {} says what each view shows.",
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

impl App {
    pub(super) fn top_ui(&mut self, ui: &mut egui::Ui, commands: &mut Vec<Command>) {
        let ctx = ui.ctx().clone();
        egui::MenuBar::new().ui(ui, |ui| {
            ui.strong("Tokenscope");
            ui.add_space(4.0);
            for menu in actions::MENUS {
                ui.menu_button(menu, |ui| {
                    self.menu_ui(ui, menu, commands);
                    if menu == "File" {
                        self.recent_ui(ui, commands);
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
            _ => false,
        };
        let on = match a.act {
            Act::Undo => self.history.names(true).next().is_some() || self.panels.typed_at.is_some(),
            Act::Redo => self.history.names(false).next().is_some(),
            Act::CloseImage => self.doc.pane().run.image.is_some(),
            Act::CloseSeries => self.doc.pane().series.is_some(),
            Act::NextPane | Act::ClosePane => self.doc.panes().len() > 1,
            Act::Stop => self.jobs.running().0 > 0,
            _ => true,
        };
        if ui.add_enabled(on, button.selected(chosen)).on_hover_text(a.tip).clicked() {
            self.act(&ctx, a.act, commands);
            ui.close();
        }
    }

    /// The panes, where there are several, and which one is worked in.
    pub(super) fn panes_ui(&mut self, ui: &mut egui::Ui) {
        if self.doc.panes().len() < 2 {
            return;
        }
        let mut to = None;
        egui::Panel::top("panes").show(ui, |ui| {
            ui.horizontal_wrapped(|ui| {
                for (i, pane) in self.doc.panes().iter().enumerate() {
                    let text: String = pane.run.prompt.chars().take(24).collect();
                    let name = format!("{}: {} · {text}", i + 1, pane.run.model.title());
                    if ui.selectable_label(i == self.doc.active(), name).clicked() {
                        to = Some(i);
                    }
                }
            });
        });
        if let Some(i) = to {
            self.take_typed(ui.ctx());
            self.apply(ui.ctx(), vec![Command::whole("pane", move |d| d.go_to(i))]);
        }
    }

    /// One hint at a time, until all were read.
    pub(super) fn hints_ui(&mut self, ui: &mut egui::Ui) {
        let Some(words) = hint(ui.ctx(), self.hints) else { return };
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

    /// The pages of help: the keys, then one for each view.
    pub(super) fn help_ui(&mut self, ctx: &egui::Context) {
        let mut open = self.help;
        let size = vec2(560.0, 420.0).min(ctx.content_rect().size() - vec2(40.0, 90.0));
        let middle = ctx.content_rect().center() - size / 2.0;
        let window = egui::Window::new("Keys and views").open(&mut open).collapsible(false).default_pos(middle);
        window.fixed_size(size).show(ctx, |ui| {
            ui.horizontal(|ui| {
                ui.selectable_value(&mut self.page, None, "Keys");
                for (i, view) in views::ALL.iter().enumerate() {
                    ui.selectable_value(&mut self.page, Some(i), view.title);
                }
            });
            ui.separator();
            egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                match self.page.and_then(|i| views::ALL.get(i)) {
                    Some(view) => page_ui(ui, view),
                    None => keys_ui(ui),
                }
            });
        });
        self.help = open;
    }
}

/// What a view shows and how it is used, point by point.
fn page_ui(ui: &mut egui::Ui, view: &views::View) {
    ui.strong(view.hint);
    ui.add_space(6.0);
    for point in view.help.lines() {
        ui.horizontal_top(|ui| {
            ui.weak("•");
            ui.add(egui::Label::new(point).wrap());
        });
    }
}

/// Every shortcut, menu by menu.
fn keys_ui(ui: &mut egui::Ui) {
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
const PLACES: [(&str, &str, &str); 9] = [
    ("Esc", "Close", "a list, a window, a detail; then release the token; then show all views; stops work"),
    ("Click, Shift+click, Ctrl+click", "Select", "a token, a range, one more"),
    ("Right click", "Menu", "what can be done with a token, a picture, a view"),
    ("Double click on a tab", "One view", "gives the view the window, or shows all again"),
    ("Wheel", "Scroll", "the page, over pictures and maps as well"),
    ("Ctrl+wheel", "Zoom", "the attention map, the columns of the flow"),
    ("Arrow keys", "Walk", "in the lattice, the map, the heads and the tree that has the keyboard"),
    ("+ and -", "Zoom", "in the map that has the keyboard"),
    ("Space", "Play", "the steps of a text out of masks"),
];

fn grid_ui(ui: &mut egui::Ui, rows: Vec<(String, &str, &str)>) {
    for (keys, what, tip) in rows {
        ui.horizontal_top(|ui| {
            for (words, width) in [(egui::RichText::new(keys).monospace(), 128.0), (what.into(), 142.0)] {
                ui.allocate_ui(vec2(width, 0.0), |ui| {
                    ui.set_width(width);
                    ui.add(egui::Label::new(words).wrap());
                });
            }
            ui.add(egui::Label::new(egui::RichText::new(tip).weak()).wrap());
        });
    }
}
