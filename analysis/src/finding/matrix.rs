//! Rows by columns of any two units: maps, masks, step by key, layer by head, similarity.

use super::{Measure, Picture, Table, Unit, difference};
use crate::array::Array;
use crate::{Error, Result};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use std::ops::Range;
use std::sync::Arc;

/// Gives the cells of a window, row by row.
pub type Window = dyn Fn(Range<usize>, Range<usize>) -> Vec<f32> + Send + Sync;

/// Where the cells of a matrix come from. NaN is a cell without a value, e.g. one that a mask hides.
#[derive(Clone)]
pub enum MatrixCells {
    /// All of them, `[rows, columns]`.
    Dense(Arc<Array>),
    /// Those of a window when it is looked at; always the same for the same window.
    Lazy(Arc<Window>),
}

/// Cells that are not all there are not written down.
impl Serialize for MatrixCells {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Dense(a) => (a.shape(), a.data()).serialize(s),
            Self::Lazy(_) => Err(S::Error::custom("these cells are made when they are looked at")),
        }
    }
}

impl<'de> Deserialize<'de> for MatrixCells {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let (shape, data) = <(Vec<usize>, Vec<f32>)>::deserialize(d)?;
        Array::new(shape, data).map(|a| Self::Dense(Arc::new(a))).map_err(serde::de::Error::custom)
    }
}

/// A matrix.
#[derive(Clone, Serialize, Deserialize)]
pub struct Matrix {
    /// What is shown.
    pub title: String,
    /// What the rows count.
    pub rows: Unit,
    /// What the columns count.
    pub cols: Unit,
    /// Number of rows and columns.
    pub size: [usize; 2],
    /// What a cell is.
    pub measure: Measure,
    /// The cells.
    pub cells: MatrixCells,
}

/// Cells that a table lists one by one, and that a difference of lazy matrices holds.
const MAX_CELLS: usize = 1 << 22;
/// Blocks along a side where a table lists blocks.
const BLOCKS: usize = 1024;

impl Matrix {
    /// A matrix with all its cells. Errors unless `cells` has two axes.
    pub fn dense(title: impl Into<String>, rows: Unit, cols: Unit, measure: Measure, cells: Array) -> Result<Self> {
        let size = cells.dims::<2>("matrix")?;
        Ok(Self { title: title.into(), rows, cols, size, measure, cells: MatrixCells::Dense(Arc::new(cells)) })
    }

    /// The cells of a window, row by row; what reaches beyond the matrix is cut off.
    pub fn window(&self, rows: Range<usize>, cols: Range<usize>) -> Vec<f32> {
        let rows = rows.start.min(self.size[0])..rows.end.min(self.size[0]);
        let cols = cols.start.min(self.size[1])..cols.end.min(self.size[1]);
        match &self.cells {
            MatrixCells::Dense(a) => rows.flat_map(|r| a.row(r)[cols.clone()].iter().copied()).collect(),
            MatrixCells::Lazy(f) => f(rows, cols),
        }
    }

    /// The value of a cell; `None` where there is none.
    pub fn at(&self, row: usize, col: usize) -> Option<f32> {
        self.window(row..row + 1, col..col + 1).first().copied().filter(|v| !v.is_nan())
    }

    fn n_cells(&self) -> usize {
        self.size[0].saturating_mul(self.size[1])
    }

    /// A row per cell that has a value. Of a matrix of more than 4 million cells, a row per block, with the value in it
    /// that is farthest from 0.
    pub fn table(&self) -> Table {
        let names = |u: &Unit, side: &str| -> Vec<String> {
            let same = self.rows.columns() == self.cols.columns();
            u.columns().iter().map(|c| if same { format!("{side} {c}") } else { c.to_string() }).collect()
        };
        if self.n_cells() > MAX_CELLS {
            return self.blocks();
        }
        let mut columns = names(&self.rows, "row");
        columns.extend(names(&self.cols, "column"));
        columns.push(self.measure.words());
        let mut table = Table::new(&columns).titled(&self.title);
        for r in 0..self.size[0] {
            let values = self.window(r..r + 1, 0..self.size[1]);
            for (c, v) in values.into_iter().enumerate().filter(|(_, v)| !v.is_nan()) {
                let mut row = self.rows.cells(r);
                row.extend(self.cols.cells(c));
                row.push(json!(v));
                table.rows.push(row);
            }
        }
        table
    }

    fn blocks(&self) -> Table {
        let [n, m] = self.size;
        let step = [n.div_ceil(BLOCKS).max(1), m.div_ceil(BLOCKS).max(1)];
        let columns = ["row", "row end", "column", "column end", &self.measure.words()];
        let mut table = Table::new(&columns).titled(&self.title);
        for top in (0..n).step_by(step[0]) {
            for left in (0..m).step_by(step[1]) {
                let (bottom, right) = ((top + step[0]).min(n), (left + step[1]).min(m));
                let values = self.window(top..bottom, left..right);
                let far = values.into_iter().filter(|v| !v.is_nan()).max_by(|a, b| a.abs().total_cmp(&b.abs()));
                if let Some(v) = far {
                    table.rows.push(vec![json!(top), json!(bottom), json!(left), json!(right), json!(v)]);
                }
            }
        }
        table
    }

    /// Cell by cell. Errors: other rows or columns, another unit, or more than 4 million cells that are lazy.
    pub fn minus(&self, other: &Self) -> Result<Picture> {
        self.rows.matches(self.size[0], &other.rows, other.size[0])?;
        self.cols.matches(self.size[1], &other.cols, other.size[1])?;
        let lazy = |m: &Self| matches!(m.cells, MatrixCells::Lazy(_));
        if self.n_cells() > MAX_CELLS && (lazy(self) || lazy(other)) {
            return Err(Error::invalid("these maps are too large to subtract as a whole; look at a part of them"));
        }
        let all = |m: &Self| m.window(0..m.size[0], 0..m.size[1]);
        let cells = all(self).into_iter().zip(all(other)).map(|(a, b)| a - b).collect();
        let title = difference(&self.title, &other.title);
        let measure = self.measure.minus(&other.measure)?;
        let cells = Array::new(self.size, cells)?;
        Ok(Picture::Matrix(Self::dense(title, self.rows.clone(), self.cols.clone(), measure, cells)?))
    }

    /// Errors unless the sizes agree and no cell is infinite. Of lazy cells the corners are looked at.
    pub fn check(&self) -> Result<()> {
        let [n, m] = self.size;
        self.rows.holds(n)?;
        self.cols.holds(m)?;
        let values = match &self.cells {
            MatrixCells::Dense(a) if a.shape() != self.size => {
                return Err(Error::shape("matrix", format!("{:?}", self.size), a.shape()));
            }
            MatrixCells::Dense(a) => a.data().to_vec(),
            MatrixCells::Lazy(_) => {
                let window = self.window(0..n.min(2), 0..m.min(2));
                if window.len() != n.min(2) * m.min(2) {
                    return Err(Error::invalid(format!("a window of lazy cells has {} values", window.len())));
                }
                window
            }
        };
        match values.iter().find(|v| v.is_infinite()) {
            Some(v) => Err(Error::invalid(format!("a cell is {v}"))),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Matrix \"{}\" of {:?} {} by {}", self.title, self.size, self.rows.plural(), self.cols.plural())
    }
}

impl PartialEq for Matrix {
    /// Lazy cells are equal where they come from the same place.
    fn eq(&self, other: &Self) -> bool {
        let rest = |m: &Self| (m.title.clone(), m.rows.clone(), m.cols.clone(), m.size, m.measure);
        let cells = match (&self.cells, &other.cells) {
            (MatrixCells::Dense(a), MatrixCells::Dense(b)) => a == b,
            (MatrixCells::Lazy(a), MatrixCells::Lazy(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        cells && rest(self) == rest(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Measure = Measure::new("attention", "share");

    fn matrix(values: [f32; 4]) -> Matrix {
        let cells = Array::new([2, 2], values.to_vec()).unwrap();
        Matrix::dense("m", Unit::Steps, Unit::Positions, SHARE, cells).unwrap()
    }

    #[test]
    fn cells_without_a_value_are_left_out() {
        let m = matrix([0.5, f32::NAN, 0.25, 0.75]);
        assert_eq!((m.at(0, 0), m.at(0, 1), m.at(5, 0)), (Some(0.5), None, None));
        assert_eq!(m.table().columns, ["step", "position", "attention (share)"]);
        assert_eq!(m.table().rows[1], [json!(1), json!(0), json!(0.25)]);
        assert!(m.check().is_ok() && matrix([f32::INFINITY; 4]).check().is_err());
        let Picture::Matrix(d) = m.minus(&matrix([0.25; 4])).unwrap() else { panic!() };
        assert_eq!((d.at(0, 0), d.at(0, 1), d.at(1, 1), d.measure.signed), (Some(0.25), None, Some(0.5), true));
    }

    #[test]
    fn lazy_cells_are_made_when_looked_at_and_a_large_table_has_blocks() {
        let size = [4096, 2048];
        let cell = |r: usize, c: usize| if (r, c) == (4095, 2047) { -9.0 } else { 1.0 };
        let window: Arc<Window> =
            Arc::new(move |rows, cols| rows.flat_map(|r| cols.clone().map(move |c| cell(r, c))).collect());
        let cells = MatrixCells::Lazy(window);
        let m = Matrix { title: "m".into(), rows: Unit::Steps, cols: Unit::Steps, size, measure: SHARE, cells };
        assert_eq!(m.window(4095..9999, 2046..9999), [1.0, -9.0]);
        let table = m.table();
        assert_eq!(table.rows.len(), 1024 * 1024);
        assert_eq!(table.rows.last().unwrap()[1..], [json!(4096), json!(2046), json!(2048), json!(-9.0)]);
        assert!(m.check().is_ok() && m.minus(&m).is_err() && m == m.clone());
    }
}
