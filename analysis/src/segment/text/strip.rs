//! One text wrapped into lines once for several cuts of it, so that a cut in one row can be compared with the rows
//! below: every row has the same bytes at the start of a line and at every column.
//!
//! Only where lines begin is kept for the whole text; columns and chips are made for the lines that somebody sees.

use super::Row;
use super::cells::{Cell, RowCursor, measure, order};
use crate::ctx::Ctx;
use crate::{Error, Result};
use std::ops::Range;
use unicode_bidi::{BidiClass, BidiInfo, bidi_class};

/// Where one row's pieces lie.
struct Index {
    /// Pieces by their first byte, where they do not come so already.
    order: Option<Vec<u32>>,
    /// Whether pieces share bytes or have none.
    overlaps: bool,
    /// Per line, the first piece in that order that may reach into it.
    first: Vec<u32>,
}

/// Lines that all rows share.
pub struct Strip {
    /// First byte of each line, and the end of the text.
    starts: Vec<u32>,
    rows: Vec<Index>,
    /// Level of each byte by the Unicode bidirectional algorithm; empty where everything runs left to right.
    levels: Vec<u8>,
    /// Bytes of the paragraphs whose base direction is right to left, in order.
    rtl: Vec<Range<usize>>,
}

/// What one row shows of a line: a chip for every piece, or for pieces that share their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chip {
    /// Indices of the pieces.
    pub pieces: Vec<usize>,
    /// The cells from left to right, as a range of [`Line::cells`].
    pub cells: Range<usize>,
    /// First column.
    pub column: usize,
    /// Columns.
    pub width: usize,
    /// Whether its first byte is here, and not on a line before.
    pub opens: bool,
    /// Whether its last byte is here.
    pub closes: bool,
}

/// A line, laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Cells from left to right.
    pub cells: Vec<Cell>,
    /// Chips per row, from left to right.
    pub rows: Vec<Vec<Chip>>,
    /// Whether its paragraph runs right to left, so that it begins at the right.
    pub rtl: bool,
}

impl Line {
    /// Columns that it takes.
    pub fn width(&self) -> usize {
        self.cells.iter().map(|c| c.column + c.width).max().unwrap_or(0)
    }
}

impl Strip {
    /// Lines of at most `columns` cells, ended early where all rows cut. Errors: a text over 1 GiB, a cancelled job.
    pub fn new(text: &str, rows: &[Row], columns: usize, ctx: &Ctx) -> Result<Self> {
        if text.len() > 1 << 30 {
            return Err(Error::invalid("the text is longer than 1 GiB; shorten it"));
        }
        let mut index: Vec<Index> = rows.iter().map(Index::new).collect();
        let mut starts = vec![0];
        {
            let mut measuring: Vec<RowCursor> = index.iter().zip(rows).map(|(i, r)| i.cursor(r, 0)).collect();
            let mut wrapping: Vec<RowCursor> = measuring.clone();
            let mut at = 0;
            for (i, paragraph) in text.split_inclusive('\n').enumerate() {
                if i % 256 == 0 {
                    ctx.step(at, text.len())?;
                }
                let cells = measure(text, at..at + paragraph.len(), &mut measuring);
                at += paragraph.len();
                wrap(&cells, columns, &mut wrapping, &mut starts, ctx)?;
                starts.push(at as u32);
            }
        }
        for (index, row) in index.iter_mut().zip(rows) {
            let mut cursor = index.cursor(row, 0);
            let firsts = starts.iter().map(|start| {
                cursor.skip_to(*start as usize);
                cursor.at as u32
            });
            let first = firsts.collect();
            index.first = first;
        }
        let (levels, rtl) = levels(text);
        Ok(Self { starts, rows: index, levels, rtl })
    }

    /// A cursor per row that stands at the first piece of `line`.
    fn cursors<'a>(&'a self, rows: &'a [Row], line: usize) -> Vec<RowCursor<'a>> {
        self.rows.iter().zip(rows).map(|(i, r)| i.cursor(r, i.first.get(line).map_or(0, |f| *f as usize))).collect()
    }

    /// About how much memory it holds, in bytes.
    pub fn bytes_held(&self) -> usize {
        let index = |r: &Index| 4 * (r.first.len() + r.order.as_ref().map_or(0, Vec::len));
        4 * self.starts.len() + self.levels.len() + self.rows.iter().map(index).sum::<usize>()
    }

    /// Number of lines.
    pub fn n_lines(&self) -> usize {
        self.starts.len() - 1
    }

    /// Bytes of a line.
    pub fn bytes(&self, line: usize) -> Range<usize> {
        let at = |i: usize| self.starts.get(i).or(self.starts.last()).map_or(0, |s| *s as usize);
        at(line)..at(line + 1)
    }

    /// The line that holds `byte`.
    pub fn line_of(&self, byte: usize) -> usize {
        self.starts.partition_point(|s| (*s as usize) <= byte).saturating_sub(1).min(self.n_lines().saturating_sub(1))
    }

    /// Lays out a line. `text` and `rows` are those the strip was made of.
    pub fn line(&self, text: &str, rows: &[Row], line: usize) -> Line {
        let bytes = self.bytes(line);
        let mut cells = measure(text, bytes.clone(), &mut self.cursors(rows, line));
        order(&mut cells, self.levels.get(bytes.clone()).unwrap_or_default());
        let cursors = self.cursors(rows, line);
        let rows = cursors.into_iter().map(|c| chips(&cells, c, &bytes)).collect();
        let before = self.rtl.partition_point(|p| p.end <= bytes.start);
        let rtl = self.rtl.get(before).is_some_and(|p| p.contains(&bytes.start));
        Line { cells, rows, rtl }
    }
}

impl Index {
    fn new(row: &Row) -> Self {
        let p = &row.pieces;
        let order = (!p.is_sorted_by_key(|p| p.start)).then(|| {
            let mut order: Vec<u32> = (0..p.len() as u32).collect();
            order.sort_by_key(|i| p[*i as usize].start);
            order
        });
        let overlaps = order.is_some()
            || p.windows(2).any(|w| w[1].start < w[0].end || w[0].start == w[0].end)
            || p.last().is_some_and(|p| p.start == p.end);
        Self { order, overlaps, first: Vec::new() }
    }

    fn cursor<'a>(&'a self, row: &'a Row, at: usize) -> RowCursor<'a> {
        RowCursor { pieces: &row.pieces, order: self.order.as_deref(), overlaps: self.overlaps, at }
    }
}

/// Breaks the cells of a paragraph: adds the first bytes of all its lines but the first.
fn wrap(cells: &[Cell], columns: usize, rows: &mut [RowCursor], starts: &mut Vec<u32>, ctx: &Ctx) -> Result<()> {
    // First cell of the line, the last one at which all rows cut, and the columns up to each.
    let (mut first, mut common, mut column, mut at_common) = (0, 0, 0, 0);
    for (i, c) in cells.iter().enumerate() {
        if i % (1 << 16) == 0 {
            ctx.check()?;
        }
        // A row that is not asked here catches up when it is.
        if c.head && rows.iter_mut().all(|r| r.cuts_at(c.start)) {
            (common, at_common) = (i, column);
        }
        if column + c.width > columns && c.head && i > first {
            // A break where every row cuts, unless that leaves most of the line empty.
            let (to, used) = if common > first && 3 * at_common > columns { (common, at_common) } else { (i, column) };
            starts.push(cells[to].start as u32);
            (first, column, at_common) = (to, column - used, 0);
        }
        column += c.width;
    }
    Ok(())
}

/// Bidirectional levels of all bytes and the paragraphs that run right to left, or nothing where no character does.
fn levels(text: &str) -> (Vec<u8>, Vec<Range<usize>>) {
    use BidiClass::{AL, R, RLE, RLI, RLO};
    let turns = |c: char| c >= '\u{590}' && matches!(bidi_class(c), AL | R | RLE | RLI | RLO);
    if !text.chars().any(turns) {
        return (Vec::new(), Vec::new());
    }
    let info = BidiInfo::new(text, None);
    let rtl = info.paragraphs.iter().filter(|p| p.level.is_rtl()).map(|p| p.range.clone()).collect();
    (info.levels.iter().map(|l| l.number()).collect(), rtl)
}

/// The chips of one row over the cells of a line.
fn chips(cells: &[Cell], mut cursor: RowCursor, bytes: &Range<usize>) -> Vec<Chip> {
    let mut out: Vec<Chip> = Vec::new();
    // Where nothing runs right to left, a group's cells stand together.
    let straight = cells.is_sorted_by_key(|c| c.start);
    while let Some(group) = cursor.group(bytes.end) {
        let mut run: Option<Chip> = None;
        let from = if straight { cells.partition_point(|c| c.end <= group.start) } else { 0 };
        for (i, c) in cells.iter().enumerate().skip(from) {
            if straight && c.start >= group.end {
                break;
            }
            let inside = c.start < group.end && group.start < c.end;
            match &mut run {
                Some(chip) if inside && chip.cells.end == i => {
                    chip.cells.end += 1;
                    chip.width += c.width;
                }
                _ if inside => {
                    out.extend(run.take());
                    let (opens, closes) = (group.start >= bytes.start, group.end <= bytes.end);
                    let cells = i..i + 1;
                    let pieces = group.pieces.clone();
                    run = Some(Chip { pieces, cells, column: c.column, width: c.width, opens, closes });
                }
                _ => {}
            }
        }
        out.extend(run);
    }
    out.sort_by_key(|c| c.column);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::text::Piece;
    use crate::segment::text::cells::CellKind;

    /// A row with these pieces.
    fn row(pieces: &[(&str, usize, usize)]) -> Row {
        let piece = |&(token, start, end): &(&str, usize, usize)| Piece {
            id: Some(start as u32),
            token: token.into(),
            start,
            end,
            special: false,
        };
        Row {
            name: "row".into(),
            pieces: pieces.iter().map(piece).collect(),
            vocab: Some(9),
            continuing: String::new(),
        }
    }

    fn strip(text: &str, rows: &[Row], columns: usize) -> Strip {
        Strip::new(text, rows, columns, &Ctx::default()).unwrap()
    }

    fn named(text: &str, names: &[&str]) -> Vec<Row> {
        crate::segment::text::rows(&[], names, text, &Ctx::default()).unwrap()
    }

    /// Column, width and pieces of the chips of a row.
    fn seen(line: &Line, row: usize) -> Vec<(usize, usize, Vec<usize>)> {
        line.rows[row].iter().map(|c| (c.column, c.width, c.pieces.clone())).collect()
    }

    #[test]
    fn a_paragraph_that_runs_right_to_left_says_so_and_how_wide_it_is() {
        let text = "abc אב\nאב abc\n12\n";
        let rows = named(text, &["characters"]);
        let strip = strip(text, &rows, 40);
        let lines: Vec<Line> = (0..strip.n_lines()).map(|l| strip.line(text, &rows, l)).collect();
        assert_eq!(lines.iter().map(|l| l.rtl).collect::<Vec<_>>(), [false, true, false]);
        // Six letters and the end of the line.
        assert_eq!(lines[1].width(), 7);
    }

    #[test]
    fn rows_share_columns_so_that_cuts_can_be_compared() {
        let text = "the cat";
        let rows = [row(&[("the", 0, 3), (" cat", 3, 7)]), row(&[("th", 0, 2), ("e c", 2, 5), ("at", 5, 7)])];
        let line = strip(text, &rows, 40).line(text, &rows, 0);
        assert_eq!(seen(&line, 0), [(0, 3, vec![0]), (3, 4, vec![1])]);
        assert_eq!(seen(&line, 1), [(0, 2, vec![0]), (2, 3, vec![1]), (5, 2, vec![2])]);
    }

    #[test]
    fn a_line_ends_where_all_rows_cut_and_none_is_torn() {
        // Columns for eight letters: both rows cut at 6, only one at 8.
        let text = "abcdefghij";
        let rows = [
            row(&[("abc", 0, 3), ("def", 3, 6), ("ghij", 6, 10)]),
            row(&[("abcdef", 0, 6), ("gh", 6, 8), ("ij", 8, 10)]),
        ];
        let s = strip(text, &rows, 8);
        assert_eq!((s.n_lines(), s.bytes(0), s.bytes(1)), (2, 0..6, 6..10));
        assert_eq!((s.line_of(5), s.line_of(6), s.line_of(99)), (0, 1, 1));
        let second = s.line(text, &rows, 1);
        assert_eq!(seen(&second, 0), [(0, 4, vec![2])]);
        // Without a common cut the line is full and the chip goes on on the next one.
        let one = [row(&[("abcdefghij", 0, 10)])];
        let s = strip(text, &one, 8);
        assert_eq!((s.bytes(0), s.bytes(1)), (0..8, 8..10));
        let ends = |l: usize| s.line(text, &one, l).rows[0].iter().map(|c| (c.opens, c.closes)).collect::<Vec<_>>();
        assert_eq!((ends(0), ends(1)), (vec![(true, false)], vec![(false, true)]));
    }

    #[test]
    fn a_character_that_a_row_cuts_shows_bytes_in_every_row() {
        // One row cuts 漢 after its second byte, the other keeps it.
        let text = "a漢b";
        let rows = [row(&[("a", 0, 1), ("漢", 1, 4), ("b", 4, 5)]), row(&[("?", 0, 3), ("?", 3, 5)])];
        let line = strip(text, &rows, 40).line(text, &rows, 0);
        let cells: Vec<_> = line.cells.iter().map(|c| (c.start, c.end, c.column, c.width, c.kind)).collect();
        use CellKind::{Bytes, Plain};
        assert_eq!(cells, [(0, 1, 0, 1, Plain), (1, 3, 1, 4, Bytes), (3, 4, 5, 2, Bytes), (4, 5, 7, 1, Plain)]);
        assert_eq!(seen(&line, 0), [(0, 1, vec![0]), (1, 6, vec![1]), (7, 1, vec![2])]);
        assert_eq!(seen(&line, 1), [(0, 5, vec![0]), (5, 3, vec![1])]);
        // Uncut it is one wide cell.
        let line = strip(text, &rows[..1], 40).line(text, &rows[..1], 0);
        assert_eq!(line.cells[1].kind, CellKind::Wide);
        assert_eq!(line.cells[1].width, 2);
    }

    #[test]
    fn pieces_that_share_bytes_are_one_chip_with_room_for_each() {
        // Byte pieces that all carry the whole character, as byte fallback gives them.
        let text = "漢";
        let rows = [row(&[("<0xE6>", 0, 3), ("<0xBC>", 0, 3), ("<0xA2>", 0, 3)])];
        let line = strip(text, &rows, 40).line(text, &rows, 0);
        assert_eq!(seen(&line, 0), [(0, 18, vec![0, 1, 2])]);
        // A mark before the text that claims its first byte, and one without bytes at the end.
        let text = "In x";
        let rows = [row(&[("▁", 0, 1), ("In", 0, 2), (" x", 2, 4), ("</s>", 4, 4)])];
        let line = strip(text, &rows, 40).line(text, &rows, 0);
        assert_eq!(seen(&line, 0), [(0, 3, vec![0, 1]), (3, 6, vec![2, 3])]);
    }

    #[test]
    fn every_byte_of_every_line_is_on_one_chip_of_each_row() {
        let text = "naïve 👩‍👩‍👧 = 12,\r\nשלום world, नमस्ते\n\n한국어 text\twith\u{200b}marks e\u{301}\n";
        let rows = named(text, &["r50k_base", "cl100k_base", "bytes", "graphemes", "words", "sentences", "lines"]);
        for columns in [1, 20, 33, 400] {
            let s = strip(text, &rows, columns);
            let mut at = 0;
            for l in 0..s.n_lines() {
                assert_eq!(s.bytes(l).start, at);
                at = s.bytes(l).end;
                let line = s.line(text, &rows, l);
                for (r, chips) in line.rows.iter().enumerate() {
                    let mut cells = 0;
                    for chip in chips {
                        assert_eq!(chip.cells.start, cells, "{columns} columns, line {l}, row {r}");
                        cells = chip.cells.end;
                        // Every chip covers whole cells of its piece.
                        let p = &rows[r].pieces[chip.pieces[0]];
                        assert!(line.cells[chip.cells.clone()].iter().all(|c| p.start <= c.start && c.end <= p.end));
                    }
                    assert_eq!(cells, line.cells.len(), "{columns} columns, line {l}, row {r}");
                }
            }
            assert_eq!(at, text.len());
        }
    }

    #[test]
    fn letters_that_run_right_to_left_are_put_in_visual_order() {
        // a, space, alef, bet: bet is seen before alef.
        let text = "a אב c";
        let rows = named(text, &["characters", "words"]);
        let line = strip(text, &rows, 40).line(text, &rows, 0);
        let starts: Vec<usize> = line.cells.iter().map(|c| c.start).collect();
        assert_eq!(starts, [0, 1, 4, 2, 6, 7]);
        assert_eq!(line.cells.iter().map(|c| c.rtl).collect::<Vec<_>>(), [false, false, true, true, false, false]);
        // Piece 2 (alef) is right of piece 3 (bet); the word is one chip over both.
        assert_eq!(line.rows[0].iter().map(|c| c.pieces[0]).collect::<Vec<_>>(), [0, 1, 3, 2, 4, 5]);
        assert_eq!(
            seen(&line, 1),
            [(0, 1, vec![0]), (1, 1, vec![1]), (2, 2, vec![2]), (4, 1, vec![3]), (5, 1, vec![4])]
        );
    }

    #[test]
    fn an_empty_text_has_no_lines_and_a_long_line_is_broken() {
        assert_eq!(strip("", &named("", &["bytes"]), 20).n_lines(), 0);
        let text = "word ".repeat(2000);
        let rows = named(&text, &["words", "r50k_base"]);
        let s = strip(&text, &rows, 50);
        assert!((200..=300).contains(&s.n_lines()), "{}", s.n_lines());
        let stop = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        assert!(Strip::new(&text, &rows, 50, &stop).is_err());
    }
}
