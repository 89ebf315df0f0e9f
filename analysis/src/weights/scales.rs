//! Factors that stand beside 8-bit floats.

use crate::{Error, Result};

/// One factor for each block of rows and columns.
#[derive(Debug)]
pub(super) struct Scales {
    values: Vec<f32>,
    /// Rows and columns of a block.
    high: usize,
    wide: usize,
    /// Blocks beside each other.
    across: usize,
}

impl Scales {
    /// Factors `values` of the shape `dims` for a matrix of `rows` and `columns`: one for all, one a row, or one a block;
    /// `said` is the size of a block, where the configuration says it. `name` is for messages.
    ///
    /// Errors: they do not fit.
    pub fn new(
        name: &str,
        (values, dims): (Vec<f32>, &[usize]),
        (rows, columns): (usize, usize),
        said: [Option<usize>; 2],
    ) -> Result<Self> {
        let misfit = || {
            let what = format!("{dims:?} scales do not fit {:?}", [rows, columns]);
            Error::Weight { name: name.to_string(), what }
        };
        let (high, wide) = match *dims {
            [] | [1] | [1, 1] => (rows, columns),
            [n] if n == rows => (1, columns),
            [n, 1] if n == rows => (1, columns),
            [a, b] if a > 0 && b > 0 => {
                let (high, wide) = (said[0].unwrap_or(rows.div_ceil(a)), said[1].unwrap_or(columns.div_ceil(b)));
                if rows.div_ceil(high) != a || columns.div_ceil(wide) != b {
                    return Err(misfit());
                }
                (high, wide)
            }
            _ => return Err(misfit()),
        };
        let (high, wide) = (high.max(1), wide.max(1));
        Ok(Self { values, high, wide, across: columns.div_ceil(wide) })
    }

    /// Multiplies values of a row, from the column `first` on.
    pub fn apply(&self, row: usize, first: usize, values: &mut [f32]) {
        let own = &self.values[row / self.high * self.across..];
        let mut at = first;
        let mut rest = values;
        while !rest.is_empty() {
            let len = (self.wide - at % self.wide).min(rest.len());
            let (part, after) = rest.split_at_mut(len);
            let scale = own[at / self.wide];
            part.iter_mut().for_each(|x| *x *= scale);
            (rest, at) = (after, at + len);
        }
    }
}
