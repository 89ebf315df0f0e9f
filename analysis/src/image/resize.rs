//! Resampling that gives Pillow's pixels: separable kernels, widened when shrinking, 8-bit values between the
//! two passes, fixed-point sums.

use super::Picture;
use crate::{Error, Result};
use std::ops::Range;

/// Kernels under Pillow's numbers, which `resample` in `preprocessor_config.json` uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the usual names of these kernels")]
pub enum Filter {
    Nearest,
    Lanczos,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
}

impl Filter {
    /// The kernel of Pillow's number 0..=5.
    pub fn from_number(n: i64) -> Option<Self> {
        use Filter::*;
        [Nearest, Lanczos, Bilinear, Bicubic, Box, Hamming].get(usize::try_from(n).ok()?).copied()
    }

    /// Half the width of the kernel in source pixels when the size stays.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest => 0.0,
            Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
        let a = x.abs();
        match self {
            Filter::Nearest => 1.0,
            Filter::Box => f64::from(x > -0.5 && x <= 0.5),
            Filter::Bilinear => (1.0 - a).max(0.0),
            Filter::Hamming if a >= 1.0 => 0.0,
            Filter::Hamming => sinc(x) * (0.54 + 0.46 * (x * std::f64::consts::PI).cos()),
            // Keys' kernel with a = -1/2.
            Filter::Bicubic if a < 1.0 => (1.5 * a - 2.5) * a * a + 1.0,
            Filter::Bicubic if a < 2.0 => ((-0.5 * a + 2.5) * a - 4.0) * a + 2.0,
            Filter::Lanczos if a < 3.0 => sinc(x) * sinc(x / 3.0),
            Filter::Bicubic | Filter::Lanczos => 0.0,
        }
    }
}

/// A part of the resized picture, in its pixels; must lie inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Left edge.
    pub x: usize,
    /// Top edge.
    pub y: usize,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
}

/// Bits after the point of a weight: products of 8-bit values with them stay in 32 bits.
const BITS: u32 = 22;
/// The largest picture that is made, in pixels.
const MAX_PIXELS: usize = 100_000_000;

/// Weights of the source pixels `first..` for one target pixel.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

fn taps(from: usize, to: usize, range: Range<usize>, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    if filter == Filter::Nearest {
        // Pillow adds step after step, and what rounding pushes over the edge stays black.
        let steps = std::iter::successors(Some(scale * 0.5), |at| Some(at + scale));
        return steps
            .take(range.end)
            .skip(range.start)
            .map(|at| Taps {
                first: (at as usize).min(from - 1),
                weights: vec![if (at as usize) < from { 1 << BITS } else { 0 }],
            })
            .collect();
    }
    range
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            let stretch = scale.max(1.0);
            let reach = filter.support() * stretch;
            let first = (center - reach + 0.5).max(0.0) as usize;
            let end = ((center + reach + 0.5) as usize).min(from).max(first + 1);
            let w: Vec<f64> = (first..end).map(|j| filter.at((j as f64 - center + 0.5) / stretch)).collect();
            let sum: f64 = w.iter().sum();
            let sum = if sum == 0.0 { 1.0 } else { sum };
            Taps { first, weights: w.iter().map(|w| (w / sum * f64::from(1 << BITS)).round() as i32).collect() }
        })
        .collect()
}

/// Which pass Pillow makes first, which shows because the values between are rounded. Pillow 13 mixes rows
/// first where the picture loses more than twice as many lines as columns; before, and elsewhere, columns are.
fn rows_first((from_w, from_h): (usize, usize), (to_w, to_h): (usize, usize)) -> bool {
    let lost = |from: usize, to: usize| from as i64 - to as i64;
    to_h < from_h && lost(from_h, to_h) > 2 * lost(from_w, to_w)
}

fn pixel(sum: i64) -> u8 {
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

/// The given rows of an RGB picture `width` wide, each mixed to one pixel per element of `columns`.
fn mix_columns(rgb: &[u8], width: usize, rows: Range<usize>, columns: &[Taps]) -> Vec<u8> {
    let mut out = vec![0; 3 * columns.len() * rows.len()];
    for (y, line) in rows.zip(out.chunks_exact_mut(3 * columns.len())) {
        let row = &rgb[3 * width * y..][..3 * width];
        for (t, pixels) in columns.iter().zip(line.chunks_exact_mut(3)) {
            for (c, o) in pixels.iter_mut().enumerate() {
                let s = t.weights.iter().zip(row[3 * t.first + c..].iter().step_by(3));
                *o = pixel(s.map(|(w, v)| i64::from(*w) * i64::from(*v)).sum());
            }
        }
    }
    out
}

/// The given columns of an RGB picture `width` wide, mixed to one row per element of `rows`.
fn mix_rows(rgb: &[u8], width: usize, columns: Range<usize>, rows: &[Taps]) -> Vec<u8> {
    let stride = 3 * columns.len();
    let mut out = vec![0; stride * rows.len()];
    let mut sums = vec![0i64; stride];
    for (t, line) in rows.iter().zip(out.chunks_exact_mut(stride)) {
        sums.fill(0);
        for (k, weight) in t.weights.iter().enumerate() {
            let row = &rgb[3 * (width * (t.first + k) + columns.start)..][..stride];
            sums.iter_mut().zip(row).for_each(|(s, v)| *s += i64::from(*weight) * i64::from(*v));
        }
        line.iter_mut().zip(&sums).for_each(|(o, s)| *o = pixel(*s));
    }
    out
}

/// [`resize`] without rounding to bytes, as it is done to pictures of numbers: `[3, height, width]` values of 0..=255, or
/// a little beyond where the kernel has negative parts.
///
/// Errors: a side of 0, more than 100 million pixels.
pub fn resize_unrounded(p: &Picture, width: usize, height: usize, filter: Filter) -> Result<Vec<f32>> {
    let fits = |a: usize, b: usize| a > 0 && b > 0 && a.checked_mul(b).is_some_and(|n| n <= MAX_PIXELS);
    if !fits(width, height) || !fits(width, p.height) {
        return Err(Error::invalid(format!("a picture cannot be resized to {width} x {height}")));
    }
    let (columns, rows) = (taps(p.width, width, 0..width, filter), taps(p.height, height, 0..height, filter));
    let mut out = Vec::with_capacity(3 * width * height);
    let one = f64::from(1 << BITS);
    for c in 0..3 {
        let mut between = Vec::with_capacity(width * p.height);
        for y in 0..p.height {
            between.extend(columns.iter().map(|t| {
                let pixels = p.rgb[3 * (y * p.width + t.first) + c..].iter().step_by(3);
                t.weights.iter().zip(pixels).map(|(w, v)| f64::from(*w) / one * f64::from(*v)).sum::<f64>()
            }));
        }
        for t in &rows {
            out.extend((0..width).map(|x| {
                let values = between[width * t.first + x..].iter().step_by(width);
                t.weights.iter().zip(values).map(|(w, v)| f64::from(*w) / one * v).sum::<f64>() as f32
            }));
        }
    }
    Ok(out)
}

/// The picture resampled to `width` x `height`; of that, only `window` is computed and returned.
///
/// Errors: a side of 0, a window that sticks out, more than 100 million pixels.
pub fn resize(p: &Picture, width: usize, height: usize, filter: Filter, window: Option<Window>) -> Result<Picture> {
    let all = Window { x: 0, y: 0, width, height };
    let w = window.unwrap_or(all);
    if width == 0 || height == 0 || w.width == 0 || w.height == 0 || w.x + w.width > width || w.y + w.height > height {
        return Err(Error::invalid(format!("a picture cannot be resized to {width} x {height} and cut to {w:?}")));
    }
    let mut columns = taps(p.width, width, w.x..w.x + w.width, filter);
    let mut rows = taps(p.height, height, w.y..w.y + w.height, filter);
    let span = |t: &[Taps]| {
        let first = t.iter().map(|t| t.first).min().unwrap_or(0);
        first..t.iter().map(|t| t.first + t.weights.len()).max().unwrap_or(0)
    };
    let (used_columns, used_rows) = (span(&columns), span(&rows));
    let rows_first = rows_first((p.width, p.height), (width, height));
    let between = if rows_first { (used_columns.len(), w.height) } else { (w.width, used_rows.len()) };
    let fits = |(a, b): (usize, usize)| a.checked_mul(b).is_some_and(|n| n <= MAX_PIXELS);
    if !fits(between) || !fits((w.width, w.height)) {
        let what = format!("the model asks for the picture at {width} x {height} pixels, which is too large");
        return Err(Error::invalid(format!("{what}; crop it to a less extreme shape")));
    }
    let rgb = if rows_first {
        let down = mix_rows(&p.rgb, p.width, used_columns.clone(), &rows);
        columns.iter_mut().for_each(|t| t.first -= used_columns.start);
        mix_columns(&down, used_columns.len(), 0..w.height, &columns)
    } else {
        let across = mix_columns(&p.rgb, p.width, used_rows.clone(), &columns);
        rows.iter_mut().for_each(|t| t.first -= used_rows.start);
        mix_rows(&across, w.width, 0..w.width, &rows)
    };
    Picture::new(w.width, w.height, rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: usize, height: usize, v: &[u8]) -> Picture {
        Picture::new(width, height, v.iter().flat_map(|&v| [v; 3]).collect()).unwrap()
    }

    #[test]
    fn halving_with_a_box_is_the_mean_rounded_twice() {
        // Rows first: (0 + 1) / 2 = 0.5 → 1 and (2 + 2) / 2 = 2; then (1 + 2) / 2 = 1.5 → 2.
        let p = resize(&gray(2, 2, &[0, 1, 2, 2]), 1, 1, Filter::Box, None).unwrap();
        assert_eq!(p.rgb, [2, 2, 2]);
    }

    #[test]
    fn a_tall_picture_is_mixed_by_rows_first() {
        assert!(rows_first((2, 4), (1, 1)) && !rows_first((4, 4), (2, 2)) && !rows_first((2, 4), (1, 6)));
        // By rows 0.25 → 0 and 0.25 → 0, then 0; by columns 1, 1, 0, 0, then 0.5 → 1.
        let p = gray(2, 4, &[1, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(resize(&p, 1, 1, Filter::Box, None).unwrap().rgb, [0, 0, 0]);
    }

    #[test]
    fn a_window_is_the_same_part_of_the_whole() {
        let v: Vec<u8> = (0..35).map(|i| (i * 37 % 256) as u8).collect();
        let p = gray(7, 5, &v);
        for filter in (0..6).filter_map(Filter::from_number) {
            let whole = resize(&p, 11, 9, filter, None).unwrap();
            let window = Window { x: 3, y: 2, width: 4, height: 6 };
            let part = resize(&p, 11, 9, filter, Some(window)).unwrap();
            for (y, x) in (0..6).flat_map(|y| (0..4).map(move |x| (y, x))) {
                assert_eq!(part.pixel(x, y), whole.pixel(x + 3, y + 2), "{filter:?}");
            }
        }
    }

    #[test]
    fn numbers_are_not_rounded_between_the_passes() {
        // Halves of both sides with a box: the mean of four.
        let p = gray(2, 2, &[0, 1, 1, 1]);
        let x = resize_unrounded(&p, 1, 1, Filter::Box).unwrap();
        assert!(x.iter().all(|v| (v - 0.75).abs() < 1e-6), "{x:?}");
        assert!(resize_unrounded(&p, 0, 1, Filter::Box).is_err());
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let p = gray(3, 2, &[9, 200, 3, 255, 0, 77]);
        for filter in (0..6).filter_map(Filter::from_number) {
            assert_eq!(resize(&p, 3, 2, filter, None).unwrap(), p, "{filter:?}");
        }
        assert!(resize(&p, 0, 2, Filter::Box, None).is_err());
    }
}
