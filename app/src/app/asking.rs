//! What the window asks about its session: where to save it, and what to do before something would be lost.

use super::App;
use super::sessions::{Next, Question};
use crate::opening::{SESSION, is_session};
use crate::panels::bytes;
use crate::pictures::widgets::named;
use egui::{Key, vec2};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

/// The form that asks where to save.
pub(super) struct Form {
    /// Whether it is open.
    pub open: bool,
    path: String,
    /// Whether the path has the keyboard when the form opens.
    pub fresh: bool,
    /// What was wrong with the last attempt.
    pub wrong: Option<String>,
    picked: (Sender<PathBuf>, Receiver<PathBuf>),
}

impl Default for Form {
    fn default() -> Self {
        Self { open: false, path: String::new(), fresh: false, wrong: None, picked: channel() }
    }
}

/// What somebody answered.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Yes,
    No,
    Cancel,
}

impl App {
    /// Opens the form that asks where to save.
    pub(super) fn ask_where(&mut self) {
        let s = &mut self.session;
        let home = || directories::BaseDirs::new().map(|d| d.home_dir().to_path_buf()).unwrap_or_default();
        let place = s.path.clone().or_else(|| s.suggested.clone());
        let place = place.unwrap_or_else(|| home().join(format!("session.{SESSION}")));
        (s.form.open, s.form.fresh, s.form.wrong) = (true, true, None);
        s.form.path = place.display().to_string();
    }

    /// Whether a question waits for its answer; keys are for it then.
    pub(super) fn asks(&self) -> bool {
        self.session.question.is_some()
    }

    pub(super) fn form_ui(&mut self, ctx: &egui::Context) {
        while let Ok(path) = self.session.form.picked.1.try_recv() {
            self.session.form.path = path.display().to_string();
        }
        if !self.session.form.open {
            return;
        }
        let (mut open, mut go) = (true, false);
        let size = self.bytes_of_traces();
        let middle = ctx.content_rect().center() - vec2(230.0, 90.0);
        let window = egui::Window::new("Save session").default_pos(middle).open(&mut open);
        window.collapsible(false).resizable(false).show(ctx, |ui| {
            let s = &mut self.session;
            egui::Grid::new("save session").num_columns(2).spacing(vec2(12.0, 6.0)).show(ui, |ui| {
                ui.label("File");
                ui.horizontal(|ui| {
                    let edit = ui.add(egui::TextEdit::singleline(&mut s.form.path).desired_width(320.0));
                    named(&edit, "session file");
                    if std::mem::take(&mut s.form.fresh) {
                        edit.request_focus();
                    }
                    go = edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
                    if ui.button("Browse…").clicked() {
                        browse(ctx, &s.form);
                    }
                });
                ui.end_row();
                ui.label("With");
                let words = format!("the runs as they were computed ({})", bytes(size));
                ui.checkbox(&mut s.traces, words)
                    .on_hover_text("Then it opens to the same picture where the model is not there");
                ui.end_row();
                ui.label("");
                ui.checkbox(&mut s.results, "the results that were computed on them").on_hover_text(
                    "Scores, reductions, answers, drafts and findings: they are shown again without being computed",
                );
                ui.end_row();
            });
            ui.horizontal(|ui| {
                go |= ui.add_enabled(!s.busy, egui::Button::new("Save")).clicked();
                if s.busy {
                    ui.spinner();
                }
                match &s.form.wrong {
                    Some(words) => ui.colored_label(self.theme.bad, words),
                    None => {
                        ui.small("Panes, pins, layout, pictures and series; everybody with the file can read them.")
                    }
                };
            });
        });
        if go && !self.session.form.path.trim().is_empty() {
            let mut path = PathBuf::from(self.session.form.path.trim());
            if !is_session(&path) {
                path.as_mut_os_string().push(format!(".{SESSION}"));
            }
            self.session.form.wrong = None;
            self.save_to(ctx, path);
        }
        if !open {
            self.close_form();
        }
    }

    /// Closes the form; what should have followed the save does not.
    pub(super) fn close_form(&mut self) {
        self.session.form.open = false;
        self.forget_next();
    }

    /// Nothing is done next; what would have been restored is offered again.
    pub(super) fn forget_next(&mut self) {
        if let Some(Next::Restore(orphan)) = self.session.next.take() {
            self.session.keeping.offer_again(Some(orphan));
        }
    }

    pub(super) fn question_ui(&mut self, ctx: &egui::Context) {
        let Some(question) = self.session.question.clone() else { return };
        let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (title, words, yes, no) = match &question {
            Question::Save => {
                let what = self.session.name().map_or_else(|| "this session".into(), |n| format!("the changes of {n}"));
                let next = match &self.session.next {
                    Some(Next::Close) => "before the window closes",
                    _ => "before another session is opened",
                };
                (format!("Save {what}?"), format!("What is not saved {next} is lost."), "Save", Some("Don’t save"))
            }
            Question::Overwrite(path, why) => {
                let words = format!("{} {why}.", path.display());
                (format!("Replace {}?", name(path)), words, "Replace", Some("Save as…"))
            }
        };
        let mut answer = None;
        let modal = egui::Modal::new(egui::Id::unique("session question")).show(ctx, |ui| {
            ui.set_width(380.0);
            ui.heading(title);
            ui.add_space(4.0);
            ui.label(words);
            ui.add_space(10.0);
            ui.horizontal(|ui| {
                for (text, own) in
                    [(yes, Answer::Yes), (no.unwrap_or_default(), Answer::No), ("Cancel", Answer::Cancel)]
                {
                    let button = ui.button(text);
                    // The keyboard begins at what loses nothing.
                    let safe = if question == Question::Save { Answer::Yes } else { Answer::No };
                    if own == safe && ui.memory(|m| m.focused().is_none()) {
                        button.request_focus();
                    }
                    if button.clicked() {
                        answer = Some(own);
                    }
                }
            });
        });
        if modal.should_close() {
            answer = answer.or(Some(Answer::Cancel));
        }
        let Some(answer) = answer else { return };
        self.session.question = None;
        self.session.form.fresh = self.session.form.open;
        match (question, answer) {
            // Below the question is the form, which goes on.
            (_, Answer::Cancel) if self.session.form.open => {}
            (_, Answer::Cancel) => self.forget_next(),
            (Question::Save, Answer::Yes) => self.save_session(ctx),
            (Question::Save, Answer::No) => {
                if let Some(next) = self.session.next.take() {
                    self.go(ctx, next);
                }
            }
            (Question::Overwrite(path, _), Answer::Yes) => self.write(ctx, path),
            (Question::Overwrite(..), Answer::No) => self.ask_where(),
        }
    }
}

fn browse(ctx: &egui::Context, form: &Form) {
    let (send, ctx, path) = (form.picked.0.clone(), ctx.clone(), PathBuf::from(&form.path));
    // The dialog blocks, so it gets a thread; without one it simply does not open.
    let _ = std::thread::Builder::new().name("dialog".into()).spawn(move || {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let dialog = rfd::FileDialog::new().add_filter("sessions", &[SESSION]).set_file_name(name);
        if let Some(path) = dialog.save_file() {
            let _ = send.send(path);
            ctx.request_repaint();
        }
    });
}
