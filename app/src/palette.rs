//! The command palette: find an action, a method, an example or a recent model by a few letters of its name.

use crate::actions::{self, Act};
use crate::examples::Example;
use crate::lesson::Lesson;
use crate::state::Command;
use egui::{Key, Modifiers, vec2};
use std::sync::Arc;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::Info;

/// What an entry does.
#[derive(Debug, Clone)]
pub enum Choice {
    /// An action of the list.
    Act(Act),
    /// A command of the views.
    Command(Command),
    /// An example of the gallery.
    Example(&'static Example),
    /// A lesson.
    Lesson(Arc<Lesson>),
    /// Going on from another token behind token `at` of the shown run, perhaps in a pane beside.
    GoOn {
        /// The token behind which it stands.
        at: usize,
        /// Its number.
        id: u32,
        /// Whether in a pane of its own.
        beside: bool,
    },
}

/// One line.
pub struct Entry {
    /// Its name.
    pub text: String,
    /// What kind of thing it is, or its key.
    pub note: String,
    /// What it does.
    pub choice: Choice,
}

/// State of the palette.
#[derive(Default)]
pub struct Palette {
    /// Whether it is open.
    pub open: bool,
    query: String,
    at: usize,
    /// Whether it looks in the run instead of among everything that can be done.
    in_run: bool,
    /// What there is to be found, gathered when it opens.
    entries: Option<Vec<Entry>>,
    /// The places of the entries that the query finds; `None` where it changed since.
    found: Option<Vec<usize>>,
}

/// Lines shown.
const LINES: usize = 12;

/// Entries that every letter of `query` occurs in, in order; better ones first.
pub fn search<'e>(entries: &'e [Entry], query: &str) -> Vec<&'e Entry> {
    places(entries, query).into_iter().map(|i| &entries[i]).collect()
}

/// The same by their places.
fn places(entries: &[Entry], query: &str) -> Vec<usize> {
    let query = query.to_lowercase();
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (i, e) in entries.iter().enumerate() {
        let text = e.text.to_lowercase();
        let mut letters = text.char_indices();
        let scattered = query.chars().all(|q| letters.any(|(_, c)| c == q));
        let rank = match text.find(&query) {
            Some(0) => 0,
            Some(p) if text[..p].ends_with([' ', ':', '-']) => 1,
            Some(_) => 2,
            None if scattered => 3,
            None => continue,
        };
        found.push((rank, i));
    }
    found.sort_unstable();
    found.into_iter().map(|f| f.1).collect()
}

impl Palette {
    /// Opens it with an empty query.
    pub fn show(&mut self) {
        *self = Self { open: true, ..Self::default() };
    }

    /// The same for what there is in the run.
    pub fn show_run(&mut self) {
        *self = Self { open: true, in_run: true, ..Self::default() };
    }

    /// Whether it looks in the run.
    pub fn looks_in_run(&self) -> bool {
        self.in_run
    }

    /// Draws it and gives what was chosen among what `gather` gives when it opens.
    pub fn ui(&mut self, ctx: &egui::Context, gather: impl FnOnce() -> Vec<Entry>) -> Option<Choice> {
        if !self.open {
            return None;
        }
        let entries = &*self.entries.get_or_insert_with(gather);
        let key = |k| ctx.input_mut(|i| i.consume_key(Modifiers::NONE, k));
        let (down, up, enter, escape) = (key(Key::ArrowDown), key(Key::ArrowUp), key(Key::Enter), key(Key::Escape));
        if escape {
            self.open = false;
            return None;
        }
        let mut chosen = None;
        let area = egui::Window::new("palette")
            .title_bar(false)
            .resizable(false)
            .anchor(egui::Align2::CENTER_TOP, vec2(0.0, 64.0))
            .fixed_size(vec2(460.0, 340.0));
        area.show(ctx, |ui| {
            let edit = egui::TextEdit::singleline(&mut self.query)
                .hint_text(match self.in_run {
                    true => "Find a token, layer, head or method by a few letters or its number",
                    false => "Type a few letters of an action, method, view or example",
                })
                .desired_width(f32::INFINITY);
            let edit = ui.add(edit);
            crate::pictures::widgets::named(&edit, "search");
            edit.request_focus();
            if edit.changed() {
                (self.at, self.found) = (0, None);
            }
            // Thousands of tokens are searched when the query changes, and not in every frame.
            let found = self.found.get_or_insert_with(|| places(entries, self.query.trim()));
            let n = found.len().min(LINES);
            if n == 0 {
                ui.weak(if self.in_run { "Nothing of the run has such a name." } else { "Nothing has such a name." });
                return;
            }
            self.at = (self.at + usize::from(down)).saturating_sub(usize::from(up)).min(n - 1);
            for (i, e) in found.iter().take(LINES).filter_map(|f| entries.get(*f)).enumerate() {
                ui.horizontal(|ui| {
                    if ui.selectable_label(i == self.at, &e.text).clicked() || (enter && i == self.at) {
                        chosen = Some(e.choice.clone());
                    }
                    ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| ui.small(&e.note));
                });
            }
            if found.len() > LINES {
                ui.small(format!("… {} more", found.len() - LINES));
            }
        });
        if chosen.is_some() {
            self.open = false;
        }
        chosen
    }
}

/// Everything that can be found beside examples and models: actions and methods.
pub fn entries(ctx: &egui::Context) -> Vec<Entry> {
    let mut out: Vec<Entry> = actions::ALL
        .iter()
        .filter(|a| a.act != Act::Palette)
        .map(|a| Entry {
            text: a.text.into(),
            note: a.key.map(|k| ctx.format_shortcut(&k)).unwrap_or_default(),
            choice: Choice::Act(a.act),
        })
        .collect();
    out.extend(catalog::all().map(|e| method(e.info())));
    out
}

/// The entry that chooses a method.
pub fn method(i: &'static Info) -> Entry {
    Entry {
        text: format!("{}: {}", i.kind.name(), i.title),
        note: i.paper.map(|p| format!("{} {}", p.authors, p.year)).unwrap_or_default(),
        choice: Choice::Command(Command::Method(i.id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_name_beats_its_middle_and_scattered_letters() {
        let entry = |t: &str| Entry { text: t.into(), note: String::new(), choice: Choice::Act(Act::Undo) };
        let all = [entry("Attention rollout"), entry("score: rollout"), entry("Reset layout"), entry("Undo")];
        let names: Vec<&str> = search(&all, "ro").into_iter().map(|e| e.text.as_str()).collect();
        // Letters that are only scattered through a name come last.
        assert_eq!(names, ["Attention rollout", "score: rollout", "Reset layout"]);
        assert_eq!(search(&all, "rst")[0].text, "Reset layout");
        assert_eq!(search(&all, "").len(), 4);
    }
}
