//! Spans with ids over bytes, samples or rectangles: what a segmenter gives.

use super::measure::{check_classes, check_finite};
use super::{Class, Classes, Look, Measure, Picture, Table, Unit, difference};
use crate::{Error, Result};
use serde_json::json;

/// A part of the input.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Span {
    /// Bytes of the text, or samples of the series: first, and one past the last.
    Range(usize, usize),
    /// Left, top, width, height in pixels of the original picture.
    Rect([f32; 4]),
}

/// One piece of a cut input.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Piece {
    /// The part that it covers.
    pub span: Span,
    /// Id in a vocabulary or codebook, where it has one.
    pub id: Option<u32>,
    /// What to print; empty where the input itself is to be read there.
    pub text: String,
    /// Index into [`Cuts::classes`], where pieces are of kinds.
    pub class: Option<usize>,
    /// A number of the piece, where it has one.
    pub value: Option<f32>,
}

/// An input in pieces.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Cuts {
    /// What is shown, e.g. the tokenizer's name.
    pub title: String,
    /// What is cut: bytes, samples or cells.
    pub unit: Unit,
    /// Length of the input in bytes or samples; for pictures, 0.
    pub len: usize,
    /// The pieces, in order.
    pub pieces: Vec<Piece>,
    /// Kinds of pieces; empty where they are all alike.
    pub classes: Vec<Class>,
    /// What [`Piece::value`] is.
    pub measure: Option<Measure>,
}

impl Cuts {
    /// A row per piece: where, id, text, kind and value.
    pub fn table(&self) -> Table {
        let flat = !matches!(self.unit, Unit::Cells(_));
        let place: &[&str] = if flat { &["start", "end"] } else { &["x", "y", "width", "height"] };
        let mut columns: Vec<String> = ["piece"].iter().chain(place).map(|c| c.to_string()).collect();
        columns.extend(["id".into(), "text".into(), "kind".into()]);
        columns.push(self.measure.map_or("value".to_string(), |m| m.words()));
        let mut table = Table::new(&columns).titled(&self.title);
        for (i, p) in self.pieces.iter().enumerate() {
            let mut row = vec![json!(i)];
            match p.span {
                Span::Range(start, end) => row.extend([json!(start), json!(end)]),
                Span::Rect(r) => row.extend(r.map(|v| json!(v))),
            }
            let kind = p.class.and_then(|c| self.classes.get(c)).map(|c| c.name.as_ref());
            row.extend([json!(p.id), json!(p.text), json!(kind), json!(p.value)]);
            table.rows.push(row);
        }
        table
    }

    /// Where only one of them begins a piece. Errors: other inputs, and pictures, whose rectangles have no order.
    pub fn minus(&self, other: &Self) -> Result<Picture> {
        self.unit.matches(self.len, &other.unit, other.len)?;
        if matches!(self.unit, Unit::Cells(_)) {
            return Err(Error::invalid("cuts of pictures have no order to compare by; look at them side by side"));
        }
        let starts = |c: &Self| {
            let mut out = vec![false; c.len];
            for p in &c.pieces {
                if let Span::Range(start, _) = p.span
                    && let Some(s) = out.get_mut(start)
                {
                    *s = true;
                }
            }
            out
        };
        let classes = vec![
            Class::new("both", "a piece begins here in both", Look::Quiet),
            Class::new("only the first", "a piece begins here in the first only", Look::Category(0)),
            Class::new("only the second", "a piece begins here in the second only", Look::Category(1)),
        ];
        let class = |(a, b): (bool, bool)| match (a, b) {
            (true, true) => Some(0),
            (true, false) => Some(1),
            (false, true) => Some(2),
            (false, false) => None,
        };
        let of = starts(self).into_iter().zip(starts(other)).map(class).collect();
        let title = difference(&self.title, &other.title);
        Ok(Picture::Classes(Classes::new(title, self.unit.clone(), classes, of)))
    }

    /// Errors unless pieces lie inside the input and begin in order, in known kinds; rectangles only of pictures, with a
    /// size. Pieces may overlap: windows of a series do, and tokens that share the bytes of a character.
    pub fn check(&self) -> Result<()> {
        check_classes(&self.classes)?;
        let picture = match self.unit {
            Unit::Bytes | Unit::Samples => false,
            Unit::Cells(_) => true,
            _ => return Err(Error::invalid(format!("{} cannot be cut", self.unit.plural()))),
        };
        let mut last = 0;
        for (i, p) in self.pieces.iter().enumerate() {
            let bad = |why: String| Err(Error::invalid(format!("piece {i} {why}")));
            match p.span {
                Span::Range(start, end) if !picture => {
                    if start < last || end < start || end > self.len {
                        return bad(format!("covers {start}..{end} after {last} of {}", self.len));
                    }
                    last = start;
                }
                Span::Rect([x, y, w, h]) if picture => {
                    if ![x, y, w, h].iter().all(|v| v.is_finite()) || w <= 0.0 || h <= 0.0 {
                        return bad(format!("has no rectangle: {x}, {y}, {w}, {h}"));
                    }
                }
                _ => return bad("is of another kind of input".into()),
            }
            if p.class.is_some_and(|c| c >= self.classes.len()) {
                return bad("is of no known kind".into());
            }
        }
        check_finite("value", self.pieces.iter().filter_map(|p| p.value).map(f64::from))
    }
}

#[cfg(test)]
mod tests {
    use super::super::CellGrid;
    use super::*;

    fn cuts(spans: &[(usize, usize)]) -> Cuts {
        let piece = |&(a, b): &(usize, usize)| Piece {
            span: Span::Range(a, b),
            id: None,
            text: String::new(),
            class: None,
            value: None,
        };
        let pieces = spans.iter().map(piece).collect();
        Cuts { title: "c".into(), unit: Unit::Bytes, len: 6, pieces, classes: vec![], measure: None }
    }

    #[test]
    fn two_cuts_differ_where_only_one_begins_a_piece() {
        let Picture::Classes(d) = cuts(&[(0, 2), (2, 6)]).minus(&cuts(&[(0, 4), (4, 6)])).unwrap() else { panic!() };
        assert_eq!(d.of, [Some(0), None, Some(1), None, Some(2), None]);
        assert!(d.check().is_ok());
        let picture = Cuts { unit: Unit::Cells(CellGrid { rows: 1, cols: 1, area: None }), ..cuts(&[]) };
        assert!(picture.minus(&picture).is_err() && cuts(&[]).minus(&picture).is_err());
    }

    #[test]
    fn pieces_lie_inside_and_in_order() {
        assert!(cuts(&[(0, 2), (3, 6)]).check().is_ok() && cuts(&[(0, 3), (2, 6)]).check().is_ok());
        assert!(cuts(&[(3, 6), (2, 6)]).check().is_err() && cuts(&[(0, 7)]).check().is_err());
        let mut c = cuts(&[(0, 2)]);
        c.pieces[0].span = Span::Rect([0.0, 0.0, 1.0, 1.0]);
        assert!(c.check().is_err());
        c.unit = Unit::Cells(CellGrid { rows: 1, cols: 1, area: None });
        assert!(c.check().is_ok());
        assert_eq!(c.table().columns[..5], ["piece", "x", "y", "width", "height"]);
        assert_eq!(cuts(&[(0, 2)]).table().rows[0][..3], [json!(0), json!(0), json!(2)]);
    }
}
