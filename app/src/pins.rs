//! Runs that are kept under a name, in the panel of sources: one click brings one back.

use crate::cx::Cx;
use crate::pane::Pane;
use crate::pictures::widgets::named;
use crate::state::{Command, Doc, Pin};
use egui::{Key, Ui};
use tokenscope_analysis::catalog;

/// Characters of a prompt that stand under the pointer.
const TIP: usize = 400;

/// What the list keeps between frames.
#[derive(Default)]
pub struct State {
    /// The pin that is being renamed, its new name, and whether the box gets the keyboard.
    renames: Option<(usize, String, bool)>,
}

/// Keeps what the pane shows under a name of its own.
pub fn pin() -> Command {
    Command::whole("pin", |doc| {
        let pin = Pin { name: name_for(doc), pane: doc.pane().clone() };
        doc.pins.push(pin);
    })
}

/// Shows a kept run in the pane that is worked in.
pub fn recall(pin: &Pin) -> Command {
    let pane = pin.pane.clone();
    Command::whole("pinned run", move |doc| *doc.pane_mut() = pane.clone())
}

/// Shows a kept run in a pane of its own.
fn beside(pin: &Pin) -> Command {
    let pane = pin.pane.clone();
    Command::whole("pinned run beside", move |doc| {
        doc.split();
        *doc.pane_mut() = pane.clone();
    })
}

/// Letters of the prompt in a name.
const WORDS: usize = 20;

/// A name that says what the pane shows: the beginning of the prompt, the model, and the methods that are chosen in it
/// and not in a pin of the same run before. No other pin has it.
pub fn name_for(doc: &Doc) -> String {
    let pane = doc.pane();
    let mut prompt: String = pane.run.prompt.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = prompt.char_indices().nth(WORDS) {
        prompt.truncate(cut);
        prompt.push('…');
    }
    let mut parts: Vec<String> = [prompt, pane.run.model.title()].into_iter().filter(|p| !p.is_empty()).collect();
    if let Some(before) = doc.pins.iter().rev().find(|p| p.pane.run == pane.run) {
        parts.extend(differs(pane, &before.pane));
    }
    let base = parts.join(" · ");
    let free = |name: &String| doc.pins.iter().all(|p| p.name != *name);
    let numbered = (2..).map(|n| format!("{base} ({n})"));
    std::iter::once(base.clone()).chain(numbered).find(free).unwrap_or(base)
}

/// What of `pane` is another than in `before`, in few words: methods, then where one is.
fn differs(pane: &Pane, before: &Pane) -> Option<String> {
    use tokenscope_analysis::method::Kind;
    let other = Kind::ALL.into_iter().find(|k| *k != Kind::Segment && pane.call(*k) != before.call(*k));
    if let Some(kind) = other {
        return catalog::info(kind, pane.call(kind).method).ok().map(|i| i.title.to_string());
    }
    if pane.cursor.head != before.cursor.head {
        let (layer, head) = pane.cursor.head;
        return Some(format!("layer {layer} head {head}"));
    }
    match pane.aim.tokens() {
        [token] if pane.aim != before.aim => Some(format!("token {token}")),
        _ => None,
    }
}

impl State {
    /// The list and what can be done with each pin. Gives whether one was shown.
    pub fn ui(&mut self, cx: &Cx, ui: &mut Ui) -> bool {
        let mut shown = false;
        ui.horizontal(|ui| {
            ui.heading("Pins");
            let add = ui.small_button("Pin this").on_hover_text("Keeps what the pane shows, to come back with a click");
            if add.clicked() {
                cx.send(pin());
            }
        });
        for (i, p) in cx.doc.pins.iter().enumerate() {
            if self.renames.as_ref().is_some_and(|r| r.0 == i) {
                self.rename_ui(cx, ui);
                continue;
            }
            ui.horizontal(|ui| {
                let menu = ui.menu_button("…", |ui| {
                    let mut entry = |words: &str| {
                        let clicked = ui.button(words).clicked();
                        if clicked {
                            ui.close();
                        }
                        clicked
                    };
                    if entry("Open beside") {
                        shown = true;
                        cx.send(beside(p));
                    }
                    if entry("Rename") {
                        self.renames = Some((i, p.name.clone(), true));
                    }
                    if entry("Remove") {
                        cx.send(Command::whole("removal of a pin", move |d| {
                            if i < d.pins.len() {
                                d.pins.remove(i);
                            }
                        }));
                    }
                });
                named(&menu.response, &format!("menu of pin {}", p.name));
                let here = cx.pane == &p.pane;
                let label = ui.add(egui::Button::selectable(here, p.name.as_str()).truncate());
                let about = |ui: &mut Ui| {
                    let run = &p.pane.run;
                    let words: String = run.prompt.chars().take(TIP).collect();
                    let more = if run.prompt.len() > words.len() { "…" } else { "" };
                    ui.label(format!("{}\n{words}{more}", run.model.title()));
                };
                if label.on_hover_ui(about).clicked() {
                    shown = true;
                    cx.send(recall(p));
                }
            });
        }
        shown
    }

    fn rename_ui(&mut self, cx: &Cx, ui: &mut Ui) {
        let Some((i, name, fresh)) = &mut self.renames else { return };
        let edit = ui.add(egui::TextEdit::singleline(name).desired_width(f32::INFINITY));
        named(&edit, "name of the pin");
        if std::mem::take(fresh) {
            edit.request_focus();
            return;
        }
        if !edit.lost_focus() {
            return;
        }
        // Whoever goes elsewhere has typed a name, too; Escape leaves the old one.
        let leave = ui.input(|i| i.key_pressed(Key::Escape)) || name.trim().is_empty();
        if !leave {
            let (i, name) = (*i, name.trim().to_string());
            cx.send(Command::whole("name of a pin", move |d| {
                if let Some(pin) = d.pins.get_mut(i) {
                    pin.name = name.clone();
                }
            }));
        }
        self.renames = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Call;
    use tokenscope_analysis::method::Kind;

    fn pinned(doc: &mut Doc) -> String {
        doc.apply(pin());
        doc.pins.last().map(|p| p.name.clone()).unwrap_or_default()
    }

    #[test]
    fn a_name_says_what_is_shown_and_no_two_are_the_same() {
        let mut doc = Doc::default();
        doc.apply(Command::Prompt("A  red\nfox".into()));
        assert_eq!(pinned(&mut doc), "A red fox · sample-lm");
        assert_eq!(pinned(&mut doc), "A red fox · sample-lm (2)");
        let other = catalog::of(Kind::Score).find(|i| i.id != doc.pane().call(Kind::Score).method).expect("a second");
        doc.pane_mut().choose(Call::of(other)).unwrap();
        assert_eq!(pinned(&mut doc), format!("A red fox · sample-lm · {}", other.title));
        doc.apply(Command::head(3, 1));
        assert_eq!(pinned(&mut doc), "A red fox · sample-lm · layer 3 head 1");
        doc.apply(Command::Prompt("Überlänge ist kein Problem, auch hier".into()));
        assert_eq!(pinned(&mut doc), "Überlänge ist kein P… · sample-lm");
        doc.apply(Command::Prompt("".into()));
        assert_eq!(pinned(&mut doc), "sample-lm");
    }

    #[test]
    fn a_pin_comes_back_here_or_beside_and_stays_as_it_was() {
        let mut doc = Doc::default();
        doc.apply(Command::Prompt("A red fox".into()));
        doc.apply(pin());
        let (kept, fox) = (doc.pins[0].clone(), doc.pane().clone());
        doc.apply(Command::Prompt("A hen".into()));
        let hen = doc.pane().clone();
        doc.apply(beside(&kept));
        assert_eq!((doc.panes(), doc.active()), ([hen, fox.clone()].as_slice(), 1));
        doc.apply(Command::Prompt("x".into()));
        doc.apply(recall(&kept));
        assert_eq!((doc.pane(), &doc.pins), (&fox, &vec![kept]));
    }
}
