//! Letters on chips: on the grid of columns where a monospaced font puts them there, else fitted into their columns.

use egui::{Color32, FontId, Rect, Ui, pos2, vec2};
use tokenscope_analysis::segment::text::{Cell, CellKind, hex, sign};
use unicode_segmentation::UnicodeSegmentation as _;

/// Cells of a chip, from left to right.
pub(super) struct Cells<'a> {
    pub cells: &'a [Cell],
    pub text: &'a str,
    /// Where the first one begins.
    pub left: f32,
}

/// Cells that are written at once.
struct Run {
    words: String,
    kind: CellKind,
    rtl: bool,
    /// Columns from the chip's left edge.
    column: usize,
    width: usize,
    /// Bytes of the text, for letters that join.
    bytes: (usize, usize),
}

impl Cells<'_> {
    /// Writes them into the row `rect`, whose columns are `cell` wide.
    pub fn paint(&self, ui: &Ui, font: &FontId, cell: f32, rect: Rect, color: Color32) {
        for run in self.runs() {
            let left = self.left + run.column as f32 * cell;
            let place = Rect::from_min_size(pos2(left, rect.top()), vec2(run.width as f32 * cell, rect.height()));
            if run.kind == CellKind::Plain {
                let galley = ui.painter().layout_no_wrap(run.words, font.clone(), color);
                let y = rect.center().y - galley.size().y / 2.0;
                ui.painter().galley(pos2(left, y), galley, color);
            } else {
                fitted(ui, &run.words, font, place, color);
            }
        }
    }

    fn runs(&self) -> Vec<Run> {
        let mut out: Vec<Run> = Vec::new();
        let first = self.cells.first().map_or(0, |c| c.column);
        let whole = self.whole();
        for c in self.cells {
            let column = c.column - first;
            let inside = whole.iter().copied().find(|w| w.0 <= c.start && c.end <= w.1);
            let (kind, bytes) = inside.map_or((c.kind, (c.start, c.end)), |bytes| (CellKind::Wide, bytes));
            let last = out.last_mut().filter(|r| r.kind == kind && r.rtl == c.rtl);
            match last {
                Some(run) if inside.is_some() && run.bytes == bytes => run.width += c.width,
                Some(run) if kind == CellKind::Plain => {
                    run.words.push_str(&self.shown(c));
                    run.width += c.width;
                }
                Some(run) if kind == CellKind::Joined && (run.bytes.1 == c.start || c.end == run.bytes.0) => {
                    // Letters that join are written from the text itself, whatever order they are seen in.
                    run.bytes = (run.bytes.0.min(c.start), run.bytes.1.max(c.end));
                    run.words = self.text.get(run.bytes.0..run.bytes.1).unwrap_or_default().into();
                    run.width += c.width;
                }
                _ => {
                    let own = inside.and_then(|w| self.text.get(w.0..w.1));
                    let own = own.map(|own| sign(own).map_or_else(|| own.to_string(), Into::into));
                    let words = own.unwrap_or_else(|| self.shown(c));
                    out.push(Run { words, kind, rtl: c.rtl, column, width: c.width, bytes });
                }
            }
        }
        out
    }

    /// Characters that another row cuts and this chip holds whole: these are written as themselves.
    fn whole(&self) -> Vec<(usize, usize)> {
        let cut = |c: &Cell| {
            let character = self.text.get(c.start..)?.graphemes(true).next()?;
            let to = c.start + character.len();
            let there: usize =
                self.cells.iter().filter(|o| c.start <= o.start && o.end <= to).map(|o| o.end - o.start).sum();
            (to > c.end && there == character.len()).then_some((c.start, to))
        };
        self.cells.iter().filter(|c| c.kind == CellKind::Bytes && c.head).filter_map(cut).collect()
    }

    /// A cell in letters that can be seen.
    fn shown(&self, c: &Cell) -> String {
        let bytes = || hex(self.text.as_bytes().get(c.start..c.end).unwrap_or_default());
        match (c.kind, self.text.get(c.start..c.end)) {
            (CellKind::Bytes, _) | (_, None) => bytes(),
            (_, Some(own)) => sign(own).map_or_else(|| own.to_string(), Into::into),
        }
    }
}

/// Writes `words` in the middle of `rect`, smaller where they would not fit.
pub(super) fn fitted(ui: &Ui, words: &str, font: &FontId, rect: Rect, color: Color32) {
    let lay = |font: FontId| ui.painter().layout_no_wrap(words.to_string(), font, color);
    let mut galley = lay(font.clone());
    if galley.size().x > rect.width() {
        let size = (font.size * rect.width() / galley.size().x).max(4.0);
        galley = lay(FontId::new(size, font.family.clone()));
    }
    ui.painter().galley(rect.center() - galley.size() / 2.0, galley, color);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(start: usize, end: usize, column: usize, width: usize, kind: CellKind, rtl: bool) -> Cell {
        Cell { start, end, column, width, kind, head: true, rtl }
    }

    #[test]
    fn neighbours_are_written_together_and_white_space_is_seen() {
        use CellKind::{Bytes, Joined, Plain, Wide};
        // " a", 漢, half a character, then alef and bet with bet seen first.
        let text = " a漢éאב";
        let cells = [
            cell(0, 1, 3, 1, Plain, false),
            cell(1, 2, 4, 1, Plain, false),
            cell(2, 5, 5, 2, Wide, false),
            cell(5, 6, 7, 2, Bytes, false),
            cell(9, 11, 9, 1, Joined, true),
            cell(7, 9, 10, 1, Joined, true),
        ];
        let runs = Cells { cells: &cells, text, left: 0.0 }.runs();
        let seen: Vec<_> = runs.iter().map(|r| (r.words.as_str(), r.column, r.width)).collect();
        assert_eq!(seen, [("·a", 0, 2), ("漢", 2, 2), ("C3", 4, 2), ("אב", 6, 2)]);
    }

    #[test]
    fn a_character_that_only_another_row_cuts_is_written_as_itself() {
        let text = "漢é";
        let cells = [
            cell(0, 2, 0, 4, CellKind::Bytes, false),
            Cell { head: false, ..cell(2, 3, 4, 2, CellKind::Bytes, false) },
            cell(3, 4, 6, 2, CellKind::Bytes, false),
        ];
        let runs = |cells| Cells { cells, text, left: 0.0 }.runs();
        let seen = |cells| runs(cells).iter().map(|r| (r.words.clone(), r.column, r.width)).collect::<Vec<_>>();
        // The first character whole; of the second only a byte.
        assert_eq!(seen(&cells), [("漢".to_string(), 0, 6), ("C3".to_string(), 6, 2)]);
        assert_eq!(seen(&cells[..1]), [("E6BC".to_string(), 0, 4)]);
        assert_eq!(seen(&cells[1..2]), [("A2".to_string(), 0, 2)]);
    }
}
