//! Short notices of what went well or wrong beside the views: in a row of their own, so that they cover no data.

use crate::pictures::widgets::named;
use crate::theme::Theme;
use egui::accesskit::{Live, Role};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Seconds that good news stays. Bad news stays until it is closed.
const STAY: f64 = 8.0;
/// Seconds in which it fades at the end.
const FADE: f64 = 0.6;
/// Notices at once; older ones go.
const KEEP: usize = 3;

/// One notice.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// What happened.
    pub words: String,
    /// Whether it went well.
    pub good: bool,
    /// The file it is about.
    pub path: Option<PathBuf>,
    /// When it has to go, in the window's seconds; set when it is first shown.
    until: Option<f64>,
}

/// The notices that are shown.
pub struct Notices {
    list: Vec<Notice>,
    /// What threads have to say.
    late: (Sender<Notice>, Receiver<Notice>),
}

impl Default for Notices {
    fn default() -> Self {
        Self { list: Vec::new(), late: channel() }
    }
}

impl Notices {
    /// Adds a notice.
    pub fn say(&mut self, words: impl Into<String>, good: bool, path: Option<PathBuf>) {
        let words = words.into();
        if !good {
            crate::log::line(&words);
        }
        self.list.push(Notice { words, good, path, until: None });
        let more = self.list.len().saturating_sub(KEEP);
        self.list.drain(..more);
    }

    /// The notices, the oldest first.
    pub fn list(&self) -> &[Notice] {
        &self.list
    }

    /// Draws them as a panel below the views; nothing if there are none.
    pub fn ui(&mut self, ui: &mut egui::Ui, theme: &Theme) {
        while let Ok(n) = self.late.1.try_recv() {
            self.say(n.words, n.good, n.path);
        }
        let now = ui.input(|i| i.time);
        let before = self.list.len();
        self.list.retain_mut(|n| !n.good || *n.until.get_or_insert(now + STAY) > now);
        if self.list.len() < before {
            // Panels are as high as in the last pass, so one more is needed before this is shown.
            ui.ctx().request_discard("a notice is gone");
        }
        if self.list.is_empty() {
            return;
        }
        let (mut closed, mut held) = (None, None);
        egui::Panel::bottom("notices").show(ui, |ui| {
            for (i, n) in self.list.iter().enumerate() {
                let left = n.until.map_or(f64::INFINITY, |t| t - now);
                let row = ui.scope(|ui| {
                    ui.multiply_opacity((left / FADE).clamp(0.0, 1.0) as f32);
                    row_ui(ui, theme, n, &self.late.0)
                });
                if row.inner {
                    closed = Some(i);
                }
                // What the pointer is on is being read.
                if row.response.contains_pointer() {
                    held = Some(i);
                }
                if n.good {
                    let pause = if left > FADE { left - FADE } else { 1.0 / 30.0 };
                    ui.ctx().request_repaint_after(std::time::Duration::from_secs_f64(pause));
                }
            }
        });
        if let Some(n) = held.and_then(|i| self.list.get_mut(i)).filter(|n| n.good) {
            n.until = Some(now + STAY);
        }
        if let Some(i) = closed {
            self.list.remove(i);
            ui.ctx().request_discard("a notice was closed");
        }
    }
}

/// One notice with its buttons. Gives whether it was closed.
fn row_ui(ui: &mut egui::Ui, theme: &Theme, n: &Notice, late: &Sender<Notice>) -> bool {
    ui.horizontal(|ui| {
        let (mark, color) = if n.good { ("✔", theme.good) } else { ("✖", theme.bad) };
        let text = egui::RichText::new(format!("{mark} {}", n.words)).color(color);
        let room = (ui.available_width() - 260.0).max(120.0);
        let label = ui.scope(|ui| {
            ui.set_max_width(room);
            ui.add(egui::Label::new(text).truncate())
        });
        // A screen reader says it without being asked, bad news at once.
        ui.ctx().accesskit_node_builder(label.inner.id, |node| {
            node.set_label(n.words.as_str());
            node.set_role(if n.good { Role::Status } else { Role::Alert });
            node.set_live(if n.good { Live::Polite } else { Live::Assertive });
        });
        if let Some(path) = &n.path {
            if ui.small_button("Show in folder").clicked() {
                show_in_folder(path, late.clone(), ui.ctx().clone());
            }
            if ui.small_button("Copy path").clicked() {
                ui.ctx().copy_text(path.display().to_string());
            }
        }
        let close = ui.small_button("✕");
        named(&close, "close the notice");
        close.clicked()
    })
    .inner
}

/// Opens the folder of `path` in the system's file manager, on a thread of its own; what goes wrong is said.
fn show_in_folder(path: &Path, late: Sender<Notice>, ctx: egui::Context) {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(target_os = "windows") {
        "explorer"
    } else {
        "xdg-open"
    };
    // Without a thread it simply does not open.
    let _ = std::thread::Builder::new().name("folder".into()).spawn(move || {
        let mut command = Command::new(opener);
        command.arg(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let done = command.status();
        // Explorer exits with 1 even when it opened the folder.
        let opened = done.as_ref().is_ok_and(|s| s.success() || cfg!(target_os = "windows"));
        if !opened {
            let words = format!("{opener} did not open {}; copy the path instead", folder.display());
            // The window may be gone by then.
            let _ = late.send(Notice { words, good: false, path: None, until: None });
            ctx.request_repaint();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_kept_and_the_oldest_goes() {
        let mut n = Notices::default();
        (0..5).for_each(|i| n.say(i.to_string(), true, None));
        let words: Vec<&str> = n.list().iter().map(|n| n.words.as_str()).collect();
        assert_eq!(words, ["2", "3", "4"]);
    }
}
