//! Factors that stand beside 4- and 8-bit floats.

use super::shard::Shard;
use crate::{Error, Result};
use std::sync::Arc;

/// One factor for each block of rows and columns.
#[derive(Debug)]
pub(super) struct Scales {
    values: Values,
    /// Rows and columns of a block.
    high: usize,
    wide: usize,
    /// Blocks beside each other.
    across: usize,
}

/// Where the factors are.
#[derive(Debug)]
enum Values {
    Floats(Vec<f32>),
    /// Exponents of 2, a byte each and 127 too large, from there on in the file: all of a large model would need as much
    /// memory as some layers.
    Exponents(Arc<Shard>, u64),
}

/// Values that have one exponent (OCP Microscaling Formats 1.0, 2023).
pub(super) const SHARED: usize = 32;

impl Scales {
    /// Exponents from `start` on in `shard`, one for each [`SHARED`] values of a row of so many columns.
    pub fn exponents(shard: Arc<Shard>, start: u64, columns: usize) -> Self {
        Self { values: Values::Exponents(shard, start), high: 1, wide: SHARED, across: columns.div_ceil(SHARED) }
    }

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
        Ok(Self { values: Values::Floats(values), high, wide, across: columns.div_ceil(wide) })
    }

    /// Multiplies values of rows from `row` on, each `wide` of them from the column `first` on. `held` is a place for
    /// bytes. Errors: the file ends before or cannot be read.
    pub fn apply(&self, row: usize, first: usize, wide: usize, values: &mut [f32], held: &mut Vec<u8>) -> Result<()> {
        let n = values.len() / wide.max(1);
        if let (Values::Exponents(shard, start), true) = (&self.values, n > 0) {
            // Those of rows behind each other stand behind each other, too: one look into the file.
            held.resize(n * self.across, 0);
            shard.read(start + (row * self.across) as u64, held)?;
        }
        for (k, out) in values.chunks_exact_mut(wide.max(1)).enumerate() {
            match &self.values {
                Values::Floats(all) => self.multiply(|i| all[(row + k) / self.high * self.across + i], first, out),
                Values::Exponents(..) => self.multiply(|i| power(held[k * self.across + i]), first, out),
            }
        }
        Ok(())
    }

    fn multiply(&self, scale: impl Fn(usize) -> f32, first: usize, values: &mut [f32]) {
        let mut at = first;
        let mut rest = values;
        while !rest.is_empty() {
            let len = (self.wide - at % self.wide).min(rest.len());
            let (part, after) = rest.split_at_mut(len);
            let scale = scale(at / self.wide);
            part.iter_mut().for_each(|x| *x *= scale);
            (rest, at) = (after, at + len);
        }
    }
}

/// 2 to the power of a stored exponent; the smallest has no place among the normal numbers.
fn power(stored: u8) -> f32 {
    if stored == 0 { f32::from_bits(0x0040_0000) } else { f32::from_bits(u32::from(stored) << 23) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_powers_of_two() {
        assert_eq!([127, 128, 124, 1].map(power), [1.0, 2.0, 0.125, f32::MIN_POSITIVE]);
        assert_eq!(power(0), 2f32.powi(-127));
    }
}
