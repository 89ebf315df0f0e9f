//! How often values of each size occur in a matrix, and the largest of each row: what colour scales are fitted to.
//!
//! Sizes are bins of 1/128 octave from 2⁻²⁴ to 2⁸, so the counts of a map of any length take 16 KiB and a map that
//! stays on the device need not be read for them.

use super::attention_tile::DeviceTile;
use super::{Pass, Sample, samples};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::gpu::{Buffer, Gpu, Kernel, Layout, Record, Side, Work, gpu_struct, grid, pieces};
use crate::{Error, Result};
use rayon::prelude::*;

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Rows of the piece.
        n_rows: u32,
        /// Values of a row.
        n_cols: u32,
        /// Upper half of the bits of the smallest value that has a bin of its own.
        first_bin: u32,
        /// Number of bins.
        n_bins: u32,
    }
}

const KERNEL: Kernel =
    Kernel { shader: "value_counts", source: include_str!("../../../shaders/value_counts.wgsl"), entry: "main" };

/// Number of bins.
pub const BINS: usize = 4096;
/// Upper half of the bits of 2⁻²⁴: the first bin. What is smaller counts there, what is larger than 2⁸ in the last.
pub const FIRST_BIN: u32 = (127 - 24) << 7;

/// The bin of a value; `None` unless it is positive and finite.
pub fn bin(value: f32) -> Option<usize> {
    let bits = value.to_bits();
    let counts = (1..=0x7f7f_ffff).contains(&bits);
    counts.then(|| ((bits >> 16).max(FIRST_BIN) - FIRST_BIN).min(BINS as u32 - 1) as usize)
}

/// Where a bin ends: the smallest value above those in it.
pub fn end_of(bin: usize) -> f32 {
    f32::from_bits((FIRST_BIN + bin as u32 + 1) << 16)
}

/// What is known of the sizes of a matrix' values.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueCounts {
    /// Per bin, how many of the positive finite values are in it.
    pub counts: Vec<u32>,
    /// Per row, its largest positive finite value beyond the first column, 0 if there is none.
    pub row_tops: Vec<f32>,
    /// Per row, the value in the first column.
    pub first_column: Vec<f32>,
}

impl ValueCounts {
    fn empty() -> Self {
        Self { counts: vec![0; BINS], row_tops: Vec::new(), first_column: Vec::new() }
    }

    fn add_row(&mut self, row: &[f32]) {
        let mut top = 0f32;
        for (c, &v) in row.iter().enumerate() {
            if let Some(bin) = bin(v) {
                self.counts[bin] += 1;
                if c > 0 {
                    top = top.max(v);
                }
            }
        }
        self.row_tops.push(top);
        self.first_column.extend(row.first());
    }

    /// The counts of this and of further rows.
    fn then(mut self, other: Self) -> Self {
        self.counts.iter_mut().zip(other.counts).for_each(|(a, b)| *a += b);
        self.row_tops.extend(other.row_tops);
        self.first_column.extend(other.first_column);
        self
    }
}

/// The plain loop over `values` `[n, m]`.
pub fn cpu(values: &Array) -> Result<ValueCounts> {
    let [n, _] = values.dims("values")?;
    let mut out = ValueCounts::empty();
    (0..n).for_each(|r| out.add_row(values.row(r)));
    Ok(out)
}

/// The same, runs of rows in parallel.
pub fn fast(values: &Array) -> Result<ValueCounts> {
    let [n, _] = values.dims("values")?;
    // Each run has counts of its own, so there are few of them.
    let run = n.div_ceil(2 * rayon::current_num_threads()).max(1);
    let parts: Vec<ValueCounts> = (0..n.div_ceil(run))
        .into_par_iter()
        .map(|i| {
            let mut out = ValueCounts::empty();
            (i * run..((i + 1) * run).min(n)).for_each(|r| out.add_row(values.row(r)));
            out
        })
        .collect();
    Ok(parts.into_iter().fold(ValueCounts::empty(), ValueCounts::then))
}

/// The shader.
pub fn gpu(values: &Array, gpu: &Gpu, ctx: &Ctx) -> Result<ValueCounts> {
    let [n, m] = values.dims("values")?;
    gpu.run(|work| {
        let mut out = ValueCounts::empty();
        for piece in pieces(n, m.max(2), work.binding_bytes()) {
            ctx.step(piece.start, n)?;
            let buffer = work.upload("values", &values.data()[piece.start * m..piece.end * m])?;
            out = out.then(of_buffer(work, &buffer, piece.len(), m)?);
        }
        Ok(out)
    })
}

fn of_buffer(work: &mut Work, values: &Buffer, n: usize, m: usize) -> Result<ValueCounts> {
    let (counts, rows) = (work.buffer("counts", BINS)?, work.buffer("rows", 2 * n)?);
    let params = Params { n_rows: n as u32, n_cols: m as u32, first_bin: FIRST_BIN, n_bins: BINS as u32 };
    work.dispatch(&KERNEL, &params, &[values, &counts, &rows], grid(n)?)?;
    let (counts, rows) = (work.read::<u32>(&counts)?, work.read::<f32>(&rows)?);
    let mut out = ValueCounts { counts, row_tops: Vec::new(), first_column: Vec::new() };
    for row in rows.as_chunks::<2>().0 {
        out.row_tops.push(row[0]);
        // A row of nothing has no first value.
        out.first_column.extend((m > 0).then_some(row[1]));
    }
    Ok(out)
}

/// The shader on a tile that lies on the device. Errors if the device was lost since.
pub fn of_tile(tile: &DeviceTile) -> Result<ValueCounts> {
    if tile.rows * tile.cols == 0 {
        return Ok(ValueCounts::empty());
    }
    tile.gpu.run(|work| {
        if work.device_id() != tile.device_id {
            return Err(Error::Gpu("the map lies on a device that was lost; compute it again".into()));
        }
        of_buffer(work, &tile.cells, tile.rows, tile.cols)
    })
}

/// On the side that the context's rule chooses.
pub fn run(values: &Array, ctx: &Ctx) -> Result<ValueCounts> {
    ctx.compute(|| fast(values), |device| gpu(values, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct CountsOfValues;

impl Pass for CountsOfValues {
    fn name(&self) -> &'static str {
        "value_counts"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let each = |(name, mut x): (String, Array)| {
            // What has no bin of its own, and what counts nowhere.
            let odd = [f32::NAN, f32::INFINITY, 0.0, -1.0, 1e-30, 1e9];
            let n = x.data().len();
            x.data_mut().iter_mut().zip(odd).take(n / 2).for_each(|(v, o)| *v = o);
            // Whole numbers and copies of values: nothing rounds.
            Sample::new(name, 0.0, move |side, ctx| {
                let found = match side {
                    Side::Cpu => cpu(&x)?,
                    Side::Fast => fast(&x)?,
                    Side::Gpu(g) => gpu(&x, g, ctx)?,
                };
                let clean = found.first_column.iter().map(|v| if v.is_finite() { f64::from(*v) } else { -7.0 });
                let counts = found.counts.iter().map(|&c| f64::from(c));
                Ok(counts.chain(found.row_tops.iter().map(|&v| f64::from(v))).chain(clean).collect())
            })
        };
        samples::matrices().into_iter().map(each).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_by_hand() {
        let values = Array::new([2, 3], vec![1.0, 0.5, 0.0, f32::NAN, -2.0, 0.5]).unwrap();
        for got in [cpu(&values).unwrap(), fast(&values).unwrap()] {
            assert_eq!(got.row_tops, [0.5, 0.5]);
            assert!(got.first_column[0] == 1.0 && got.first_column[1].is_nan());
            assert_eq!(got.counts.iter().sum::<u32>(), 3);
            // 2⁻¹ lies 23 octaves above the first bin, 1 lies 24.
            assert_eq!((got.counts[23 * 128], got.counts[24 * 128]), (2, 1));
        }
    }

    #[test]
    fn bins_hold_what_lies_below_their_end() {
        assert_eq!((bin(0.0), bin(-1.0), bin(f32::NAN), bin(f32::INFINITY)), (None, None, None, None));
        assert_eq!((bin(1e-30), bin(1e30)), (Some(0), Some(BINS - 1)));
        for v in [6e-8, 1e-5, 0.01, 0.3, 0.999, 1.0, 255.0] {
            let b = bin(v).unwrap();
            assert!(v < end_of(b) && (b == 0 || v >= end_of(b - 1)) && end_of(b) / v < 1.01, "{v} in {b}");
        }
    }
}
