//! Columns of a text: one cell for what a reader takes for one character, more where a row cuts it into bytes.

use super::Piece;
use std::ops::Range;
use unicode_bidi::{BidiInfo, Level};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// How a cell is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    /// A letter that a monospaced font puts on the grid of columns.
    Plain,
    /// A character of its own width, centred in its columns.
    Wide,
    /// A letter of a script that joins or stacks letters: neighbours are written together.
    Joined,
    /// Bytes, as hexadecimal digits: a part of a character, or one that cannot be seen.
    Bytes,
}

/// A character or, where a row cuts it, a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// First column on its line.
    pub column: usize,
    /// Columns.
    pub width: usize,
    /// How it is written.
    pub kind: CellKind,
    /// Whether a character begins here.
    pub head: bool,
    /// Whether it runs right to left.
    pub rtl: bool,
}

/// Bytes of a part that are written out; a longer part ends with an ellipsis.
pub const MAX_HEX: usize = 4;
/// Columns that a label of a piece without a place of its own takes at most.
const MAX_LABEL: usize = 10;

/// A place in a row's pieces, by their first byte.
#[derive(Clone, Copy)]
pub(super) struct RowCursor<'a> {
    pub pieces: &'a [Piece],
    pub order: Option<&'a [u32]>,
    pub overlaps: bool,
    pub at: usize,
}

/// Pieces that are shown as one chip, and the bytes they cover together.
pub(super) struct Group {
    pub pieces: Vec<usize>,
    pub start: usize,
    pub end: usize,
}

impl<'a> RowCursor<'a> {
    fn index(&self, at: usize) -> Option<usize> {
        match self.order {
            Some(order) => order.get(at).map(|i| *i as usize),
            None => (at < self.pieces.len()).then_some(at),
        }
    }

    fn piece(&self, at: usize) -> Option<&'a Piece> {
        self.pieces.get(self.index(at)?)
    }

    /// Leaves the pieces behind that end at `byte` or before, up to the first that does not.
    pub fn skip_to(&mut self, byte: usize) {
        while self.piece(self.at).is_some_and(|p| p.end <= byte && p.start < byte) {
            self.at += 1;
        }
    }

    fn ahead(&self, end: usize) -> impl Iterator<Item = &'a Piece> {
        let own = *self;
        (own.at..).map_while(move |i| own.piece(i)).take_while(move |p| p.start < end)
    }

    /// Whether no piece goes across `byte`. Called with growing bytes.
    pub fn cuts_at(&mut self, byte: usize) -> bool {
        self.skip_to(byte);
        self.ahead(byte).all(|p| p.end <= byte)
    }

    /// Adds the bytes inside `start..end` at which this row cuts. Called with growing ranges.
    fn cuts_inside(&mut self, start: usize, end: usize, out: &mut Vec<usize>) {
        self.skip_to(start);
        for p in self.ahead(end) {
            out.extend([p.start, p.end].into_iter().filter(|b| start < *b && *b < end));
        }
    }

    /// The next pieces that are one chip: one, or several that share bytes. `None` from byte `end` on.
    pub fn group(&mut self, end: usize) -> Option<Group> {
        let first = self.piece(self.at).filter(|p| p.start < end)?;
        let mut group = Group { pieces: vec![self.index(self.at)?], start: first.start, end: first.end };
        self.at += 1;
        while self.overlaps
            && let Some(p) = self.piece(self.at)
        {
            // A piece without bytes joins the next one, or the last one of the text.
            let last = p.start == p.end && p.start == group.end && self.piece(self.at + 1).is_none();
            if p.start >= group.end && group.start != group.end && !last {
                break;
            }
            group.pieces.extend(self.index(self.at));
            group.end = group.end.max(p.end);
            self.at += 1;
        }
        Some(group)
    }
}

/// Columns and kind of an uncut character.
fn natural(g: &str) -> (usize, CellKind) {
    let Some(c) = g.chars().next() else { return (0, CellKind::Plain) };
    let alone = g.len() == c.len_utf8();
    match c {
        ' ' | '\n' | '\t' | '\r' if alone => return (1, CellKind::Plain),
        '\r' if g == "\r\n" => return (2, CellKind::Wide),
        _ => {}
    }
    let width = g.width();
    if c.is_control() || width == 0 {
        (2 * g.len().min(MAX_HEX), CellKind::Bytes)
    } else if joins(c) {
        (width, CellKind::Joined)
    } else if width == 1 && alone && c < '\u{590}' {
        (1, CellKind::Plain)
    } else {
        (width, CellKind::Wide)
    }
}

/// Scripts whose letters change with their neighbours or run right to left.
fn joins(c: char) -> bool {
    matches!(u32::from(c),
        0x590..=0x10FF | 0x1780..=0x18AF | 0x1900..=0x1CFF | 0xA800..=0xABFF | 0xFB1D..=0xFDFF | 0xFE70..=0xFEFC | 0x1_0800..=0x1_1FFF)
}

/// The cells of `range` in the order of the text, without columns. Each cursor stands at or before its start.
pub(super) fn measure(text: &str, range: Range<usize>, rows: &mut [RowCursor]) -> Vec<Cell> {
    let part = text.get(range.clone()).unwrap_or_default();
    let groups: Vec<RowCursor> = rows.iter().filter(|r| r.overlaps).copied().collect();
    let mut cells = Vec::with_capacity(part.len());
    let mut cuts = Vec::new();
    for (i, g) in part.grapheme_indices(true) {
        let (start, end) = (range.start + i, range.start + i + g.len());
        let (width, kind) = natural(g);
        if end - start > 1 {
            cuts.clear();
            rows.iter_mut().for_each(|r| r.cuts_inside(start, end, &mut cuts));
            cuts.sort_unstable();
            cuts.dedup();
        }
        if end - start == 1 || cuts.is_empty() {
            cells.push(Cell { start, end, column: 0, width, kind, head: true, rtl: false });
            continue;
        }
        let mut from = start;
        for &to in cuts.iter().chain([&end]) {
            let width = 2 * (to - from).min(MAX_HEX);
            let head = from == start;
            cells.push(Cell { start: from, end: to, column: 0, width, kind: CellKind::Bytes, head, rtl: false });
            from = to;
        }
    }
    for mut row in groups {
        row.skip_to(range.start);
        widen(&mut cells, &mut row, &range);
    }
    cells
}

/// Makes room for the labels of pieces that share their bytes.
fn widen(cells: &mut [Cell], row: &mut RowCursor, range: &Range<usize>) {
    while let Some(group) = row.group(range.end) {
        if group.pieces.len() < 2 || group.start < range.start || group.end > range.end {
            continue;
        }
        let need: usize = group.pieces.iter().filter_map(|i| row.pieces.get(*i)).map(|p| label_columns(&p.token)).sum();
        let a = cells.partition_point(|c| c.end <= group.start);
        let b = cells.partition_point(|c| c.start < group.end);
        let there: usize = cells.get(a..b).unwrap_or_default().iter().map(|c| c.width).sum();
        if let Some(last) = cells.get_mut(a..b).and_then(<[Cell]>::last_mut) {
            last.width += need.saturating_sub(there);
        }
    }
}

/// Columns of the label of a piece that shares its bytes.
pub fn label_columns(token: &str) -> usize {
    token.width().clamp(1, MAX_LABEL)
}

/// Puts cells into the order in which they are seen and gives them their columns. `levels` are those of the line's
/// bytes, or nothing where everything runs left to right.
pub(super) fn order(cells: &mut Vec<Cell>, levels: &[u8]) {
    if let Some(first) = cells.first().map(|c| c.start)
        && levels.iter().any(|l| *l > 0)
    {
        let level = |c: &Cell| levels.get(c.start - first).copied().unwrap_or(0);
        let own: Vec<Level> = cells.iter().map(|c| Level::new(level(c)).unwrap_or_else(|_| Level::ltr())).collect();
        cells.iter_mut().zip(&own).for_each(|(c, l)| c.rtl = l.is_rtl());
        *cells = BidiInfo::reorder_visual(&own).into_iter().map(|i| cells[i]).collect();
    }
    let mut column = 0;
    for c in cells {
        c.column = column;
        column += c.width;
    }
}

/// The bytes of a cell as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digits = |part: &[u8]| part.iter().map(|b| format!("{b:02X}")).collect::<String>();
    if bytes.len() > MAX_HEX { digits(&bytes[..MAX_HEX - 1]) + "…" } else { digits(bytes) }
}
