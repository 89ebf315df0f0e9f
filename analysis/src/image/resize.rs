//! Resampling that gives Pillow's pixels: separable kernels, widened when shrinking, 8-bit values between the
//! two passes, fixed-point sums.

use super::Picture;
use crate::{Error, Result};

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

fn taps(from: usize, to: usize, range: std::ops::Range<usize>, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    range
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            if filter == Filter::Nearest {
                return Taps { first: (center as usize).min(from - 1), weights: vec![1 << BITS] };
            }
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

fn pixel(sum: i64) -> u8 {
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
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
    let columns = taps(p.width, width, w.x..w.x + w.width, filter);
    let rows = taps(p.height, height, w.y..w.y + w.height, filter);
    let first_row = rows.iter().map(|t| t.first).min().unwrap_or(0);
    let end_row = rows.iter().map(|t| t.first + t.weights.len()).max().unwrap_or(0);
    let size = w.width.checked_mul(w.height.max(end_row - first_row)).filter(|&n| n <= MAX_PIXELS);
    if size.is_none() {
        let what = format!("the model asks for the picture at {width} x {height} pixels, which is too large");
        return Err(Error::invalid(format!("{what}; crop it to a less extreme shape")));
    }
    let mut across = vec![0u8; 3 * w.width * (end_row - first_row)];
    for (y, out) in across.chunks_exact_mut(3 * w.width).enumerate() {
        let row = &p.rgb[3 * p.width * (first_row + y)..][..3 * p.width];
        for (t, o) in columns.iter().zip(out.chunks_exact_mut(3)) {
            for (c, o) in o.iter_mut().enumerate() {
                let s = t.weights.iter().zip(row[3 * t.first + c..].iter().step_by(3));
                *o = pixel(s.map(|(w, v)| i64::from(*w) * i64::from(*v)).sum());
            }
        }
    }
    let stride = 3 * w.width;
    let mut rgb = vec![0u8; stride * w.height];
    let mut sums = vec![0i64; stride];
    for (t, out) in rows.iter().zip(rgb.chunks_exact_mut(stride)) {
        sums.fill(0);
        for (k, weight) in t.weights.iter().enumerate() {
            let row = &across[stride * (t.first - first_row + k)..][..stride];
            sums.iter_mut().zip(row).for_each(|(s, v)| *s += i64::from(*weight) * i64::from(*v));
        }
        out.iter_mut().zip(&sums).for_each(|(o, s)| *o = pixel(*s));
    }
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
    fn the_same_size_changes_nothing() {
        let p = gray(3, 2, &[9, 200, 3, 255, 0, 77]);
        for filter in (0..6).filter_map(Filter::from_number) {
            assert_eq!(resize(&p, 3, 2, filter, None).unwrap(), p, "{filter:?}");
        }
        assert!(resize(&p, 0, 2, Filter::Box, None).is_err());
    }
}
