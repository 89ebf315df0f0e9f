//! The box that the prompt is typed into. A long text is edited part by part, so that a key costs the same whatever
//! the length: a text box lays out all of what it holds whenever that changes.

use crate::pictures::widgets::named;
use egui::text::{CCursor, CCursorRange};
use egui::text_edit::TextEditState;
use egui::{Context, Id, TextEdit, Ui};
use std::ops::Range;

/// Longer texts are edited in parts, in bytes.
const WHOLE: usize = 16 << 10;
/// About the length of a part, in bytes.
const PART: usize = 4 << 10;
/// How far before its place a part may begin, so that no word is cut, in bytes.
const SEEK: usize = 256;

/// The text that is typed, and the part of it that is in the box.
#[derive(Default)]
pub struct PromptBox {
    text: String,
    /// Of a long text.
    part: Option<Part>,
}

struct Part {
    /// Where it lies in the text.
    range: Range<usize>,
    text: String,
}

/// Where part `i` of `text` begins: at a place that is a multiple of [`PART`], or after white space shortly before.
fn start_of(text: &str, i: usize) -> usize {
    let Some(at) = i.checked_mul(PART).filter(|at| *at < text.len()) else { return text.len() };
    if i == 0 {
        return 0;
    }
    let at = text.floor_char_boundary(at);
    let from = text.ceil_char_boundary(at.saturating_sub(SEEK));
    let white = text[from..at].char_indices().rfind(|(_, c)| c.is_whitespace());
    white.map_or(at, |(i, c)| from + i + c.len_utf8())
}

fn n_parts(text: &str) -> usize {
    text.len().div_ceil(PART).max(1)
}

/// The part that begins at `start` or would hold it.
fn part_at(text: &str, start: usize) -> usize {
    let i = (start / PART).min(n_parts(text) - 1);
    if start_of(text, i + 1) <= start { (i + 1).min(n_parts(text) - 1) } else { i }
}

impl PromptBox {
    /// All of the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Puts another text into the box.
    pub fn set(&mut self, text: &str) {
        self.text = text.into();
        self.part = None;
        if self.text.len() > WHOLE {
            self.turn_to(0);
        }
    }

    fn turn_to(&mut self, i: usize) {
        let range = start_of(&self.text, i)..start_of(&self.text, i + 1);
        self.part = Some(Part { text: self.text[range.clone()].into(), range });
    }

    /// Takes over what was typed into the part. With the cursor at byte `cursor` of the part, gives the byte where it
    /// stands now, if the box holds another part for it.
    fn typed(&mut self, cursor: usize) -> Option<usize> {
        let Some(part) = &mut self.part else {
            if self.text.len() <= WHOLE {
                return None;
            }
            self.turn_to(part_at(&self.text, cursor));
            return self.part.as_ref().map(|p| cursor - p.range.start);
        };
        self.text.replace_range(part.range.clone(), &part.text);
        part.range.end = part.range.start + part.text.len();
        if self.text.len() <= WHOLE / 2 {
            let at = part.range.start + cursor;
            self.part = None;
            return Some(at);
        }
        if part.text.len() <= 2 * PART {
            return None;
        }
        let at = part.range.start + cursor;
        self.turn_to(part_at(&self.text, at));
        self.part.as_ref().map(|p| at - p.range.start)
    }

    /// Draws box and, for a long text, what leads to its parts. True if the text has changed.
    pub fn ui(&mut self, ui: &mut Ui) -> bool {
        let held = self.part.as_mut().map_or(&mut self.text, |p| &mut p.text);
        let edit =
            TextEdit::multiline(held).id(ui.scope_id().with("text")).desired_rows(4).desired_width(f32::INFINITY);
        // A text of many lines scrolls in its box and does not push the rest away.
        let area = egui::ScrollArea::vertical().id_salt("prompt").max_height(240.0);
        let edit = area.show(ui, |ui| ui.add(edit)).inner;
        named(&edit, "prompt");
        if edit.changed() {
            let held = self.part.as_ref().map_or(&self.text, |p| &p.text);
            let cursor = TextEditState::load(ui.ctx(), edit.id).and_then(|s| s.cursor.char_range());
            let chars = cursor.map_or(usize::MAX, |c| c.primary.index.0);
            let byte = held.char_indices().nth(chars).map_or(held.len(), |c| c.0);
            if let Some(byte) = self.typed(byte) {
                self.move_cursor(ui.ctx(), edit.id, byte);
            }
        }
        self.parts_ui(ui, edit.id) || edit.changed()
    }

    /// Puts the cursor at this byte of what the box holds now. What it held before cannot be undone into it.
    fn move_cursor(&self, ctx: &Context, id: Id, byte: usize) {
        let held = self.part.as_ref().map_or(&self.text, |p| &p.text);
        let chars = held.get(..byte).map_or(0, |s| s.chars().count());
        let mut state = TextEditState::load(ctx, id).unwrap_or_default();
        state.clear_undoer();
        state.cursor.set_char_range(Some(CCursorRange::one(CCursor::new(chars))));
        state.store(ctx, id);
    }

    /// Leads from part to part; true if the text was emptied.
    fn parts_ui(&mut self, ui: &mut Ui, id: Id) -> bool {
        let Some(part) = &self.part else { return false };
        let (n, now) = (n_parts(&self.text), part_at(&self.text, part.range.start));
        let (mut to, mut empty) = (now + 1, false);
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 4.0;
            let mut turn = |ui: &mut Ui, sign: &str, name: &str, there: bool, other: usize| {
                let button = ui.add_enabled(there, egui::Button::new(sign).small());
                named(&button, name);
                if button.on_hover_text(name).clicked() {
                    to = other;
                }
            };
            turn(ui, "◀", "part before", now > 0, now);
            turn(ui, "▶", "part after", now + 1 < n, now + 2);
            let drag = egui::DragValue::new(&mut to).range(1..=n).prefix("part ").suffix(format!(" of {n}")).speed(0.1);
            let drag = ui.add(drag).on_hover_text("A long text is edited part by part; all of it is cut and run");
            named(&drag, "part of the prompt");
            empty = ui.small_button("Clear").on_hover_text("Takes out the whole text").clicked();
        });
        if empty {
            self.set("");
            self.move_cursor(ui.ctx(), id, 0);
        } else if to != now + 1 {
            self.turn_to(to - 1);
            self.move_cursor(ui.ctx(), id, 0);
        }
        empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long() -> String {
        "The naïve fox, 漢字 and more words. ".repeat(2000)
    }

    #[test]
    fn parts_cover_a_text_and_cut_no_word_where_there_is_white_space() {
        for text in [long(), "漢".repeat(9000), "x".repeat(PART), String::new()] {
            let n = n_parts(&text);
            assert_eq!((start_of(&text, 0), start_of(&text, n)), (0, text.len()));
            for i in 0..n {
                let (a, b) = (start_of(&text, i), start_of(&text, i + 1));
                assert!(a < b || text.is_empty(), "part {i} of {n}");
                assert!(a == 0 || !text.contains(' ') || text[..a].ends_with(' '));
                assert_eq!((part_at(&text, a), part_at(&text, (a + b) / 2)), (i, i));
            }
        }
    }

    #[test]
    fn what_is_typed_into_a_part_is_typed_into_the_text() {
        let mut b = PromptBox::default();
        b.set(&long());
        b.turn_to(5);
        let at = start_of(&long(), 5);
        b.part.as_mut().unwrap().text.insert_str(0, "zebra");
        assert_eq!(b.typed(5), None);
        let mut want = long();
        want.insert_str(at, "zebra");
        assert!(b.text() == want);
        // A long paste: the box goes on to hold a part of usual length around the cursor.
        let paste = "word ".repeat(4000);
        b.part.as_mut().unwrap().text.insert_str(5, &paste);
        want.insert_str(at + 5, &paste);
        let end = 5 + paste.len();
        let cursor = b.typed(end).expect("another part");
        let part = b.part.as_ref().unwrap();
        assert!(b.text() == want && part.text.len() < 2 * PART && part.text == want[part.range.clone()]);
        assert_eq!(part.range.start + cursor, at + end);
        // All but a little taken out: it is in one box again.
        let mut b = PromptBox::default();
        b.set(&"a ".repeat(WHOLE / 2 + 1));
        assert!(b.part.is_some());
        b.text = "a ".repeat(PART);
        b.turn_to(0);
        b.part.as_mut().unwrap().text = "b ".into();
        assert_eq!(b.typed(2), Some(2));
        assert!(b.part.is_none() && b.text().starts_with("b a"));
    }

    #[test]
    fn a_short_text_that_grows_long_is_cut_into_parts_around_the_cursor() {
        let mut b = PromptBox::default();
        b.set("short");
        assert_eq!(b.typed(5), None);
        b.text = long();
        let cursor = b.typed(20_000).expect("parts");
        let part = b.part.as_ref().unwrap();
        assert_eq!(part.range.start + cursor, 20_000);
        assert!(part.range.contains(&20_000));
    }
}
