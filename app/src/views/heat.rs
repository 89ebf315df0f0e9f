//! A matrix as colours: scale with legend, pan and zoom from the whole to single cells.

use super::{Cx, widgets};
use crate::state::{Curve, Scale};
use egui::{Color32, ColorImage, Rect, TextureOptions, Ui, pos2};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A square or oblong matrix to look at.
pub struct Matrix<'a> {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Number of the first column in the map that this is a part of; column 0 is the sink.
    pub first_col: usize,
    /// Row-major values.
    pub values: &'a [f32],
    /// Tells this matrix from another one.
    pub version: u64,
}

/// A scale fitted to the values of one matrix.
pub struct Fitted {
    /// The lower end.
    pub low: f32,
    /// The upper end, after clipping.
    pub high: f32,
    /// Sorted sample of the values, for ranks.
    sorted: Vec<f32>,
    curve: Curve,
    mask_sink: bool,
}

/// Decades that a logarithmic scale covers.
const DECADES: f32 = 4.0;
/// Values that ranks and percentiles are read from at most.
const SAMPLE: usize = 1 << 16;

impl Fitted {
    /// Fits `scale` to a matrix; zeros, which masks leave, do not count.
    pub fn new(m: &Matrix, scale: Scale) -> Self {
        let stride = (m.values.len() / SAMPLE).max(1);
        let seen = |i: &usize| !(scale.mask_sink && m.first_col == 0 && i.is_multiple_of(m.cols.max(1)));
        let mut sorted: Vec<f32> = (0..m.values.len())
            .filter(seen)
            .step_by(stride)
            .map(|i| m.values[i])
            .filter(|v| *v > 0.0 && v.is_finite())
            .collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = |share: f32| {
            let i = (share * sorted.len().saturating_sub(1) as f32).round() as usize;
            sorted.get(i).copied().unwrap_or(1.0)
        };
        // Unclipped, the end is the true largest value and not that of the sample.
        let top = (0..m.values.len()).filter(seen).map(|i| m.values[i]).filter(|v| v.is_finite()).fold(0.0, f32::max);
        let high = if scale.clip >= 100.0 { top } else { at(scale.clip / 100.0) };
        let high = if high > 0.0 { high } else { 1.0 };
        let low = match scale.curve {
            Curve::Linear => 0.0,
            Curve::Log => high * 10f32.powf(-DECADES),
            Curve::Rank => at(0.0).min(high),
        };
        Self { low, high, sorted, curve: scale.curve, mask_sink: scale.mask_sink }
    }

    /// Where on the colour map a value lies, 0..=1.
    pub fn place(&self, v: f32) -> f32 {
        if v.is_nan() || v <= 0.0 {
            return 0.0;
        }
        match self.curve {
            Curve::Linear => (v / self.high).min(1.0),
            Curve::Log => (1.0 + (v / self.high).log10() / DECADES).clamp(0.0, 1.0),
            Curve::Rank => {
                let end = self.sorted.partition_point(|s| *s <= self.high).max(1);
                (self.sorted.partition_point(|s| *s <= v) as f32 / end as f32).min(1.0)
            }
        }
    }

    /// What the scale is, in words.
    pub fn words(&self) -> &'static str {
        match self.curve {
            Curve::Linear => "linear",
            Curve::Log => "logarithmic",
            Curve::Rank => "by rank",
        }
    }

    /// The colour of a cell.
    fn color(&self, cx: &Cx, v: f32, col: usize, hatch: bool) -> Color32 {
        if self.mask_sink && col == 0 {
            return if hatch { cx.theme.weak } else { cx.theme.line };
        }
        cx.theme.magnitude(self.place(v))
    }
}

/// Paints the part `window` (shares: left, top, width, height) of `m` into `rect`. Where cells are smaller than
/// pixels, the largest value of a pixel shows; so no strong cell is lost in the overview.
pub fn paint(cx: &Cx, ui: &Ui, rect: Rect, id: &str, m: &Matrix, fitted: &Fitted, window: [f32; 4]) {
    let scale = ui.ctx().pixels_per_point();
    let (w, h) = ((rect.width() * scale).round().max(1.0) as usize, (rect.height() * scale).round().max(1.0) as usize);
    if m.rows == 0 || m.cols == 0 || m.values.len() != m.rows * m.cols {
        return;
    }
    let mut hash = DefaultHasher::new();
    let numbers = [fitted.low, fitted.high, window[0], window[1], window[2], window[3]];
    (m.version, w, h, cx.theme.dark, fitted.words(), fitted.mask_sink).hash(&mut hash);
    numbers.iter().for_each(|v| v.to_bits().hash(&mut hash));
    let key = hash.finish();
    let slot = ui.scope_id().with(("heat", id));
    let cached = ui.data(|d| d.get_temp::<(u64, egui::TextureHandle)>(slot)).filter(|(k, _)| *k == key);
    let texture = cached.map(|(_, t)| t).unwrap_or_else(|| {
        let spans = |n: usize, from: f32, share: f32, pixels: usize| -> Vec<(usize, usize)> {
            let at = |i: usize| f64::from(from) * n as f64 + i as f64 * f64::from(share) * n as f64 / pixels as f64;
            (0..pixels)
                .map(|i| {
                    let a = (at(i).floor() as usize).min(n - 1);
                    (a, (at(i + 1).ceil() as usize).clamp(a + 1, n))
                })
                .collect()
        };
        let (xs, ys) = (spans(m.cols, window[0], window[2], w), spans(m.rows, window[1], window[3], h));
        let mut pixels = Vec::with_capacity(w * h);
        // Columns first, so that a tall span is walked once per column of cells and not per pixel.
        let mut best = vec![0f32; m.cols];
        let mut last = (usize::MAX, 0);
        for (py, &(y0, y1)) in ys.iter().enumerate() {
            if last != (y0, y1) {
                best.fill(f32::NEG_INFINITY);
                for y in y0..y1 {
                    let row = &m.values[y * m.cols..(y + 1) * m.cols];
                    best.iter_mut().zip(row).for_each(|(b, v)| *b = b.max(*v));
                }
                last = (y0, y1);
            }
            for (px, &(x0, x1)) in xs.iter().enumerate() {
                let v = best[x0..x1].iter().copied().fold(f32::NEG_INFINITY, f32::max);
                pixels.push(fitted.color(cx, v, m.first_col + x0, (px + py) % 6 < 2));
            }
        }
        let options = if cx.figure { TextureOptions::NEAREST } else { TextureOptions::LINEAR };
        let fresh = ui.ctx().load_texture(id, ColorImage::new([w, h], pixels), options);
        ui.data_mut(|d| d.insert_temp(slot, (key, fresh.clone())));
        fresh
    });
    ui.painter().image(texture.id(), rect, Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0)), Color32::WHITE);
}

/// A legend of the fitted scale with unit and curve.
pub fn legend(cx: &Cx, ui: &mut Ui, fitted: &Fitted, unit: &str) {
    widgets::legend(cx, ui, fitted.low, fitted.high, &format!("{unit} ({})", fitted.words()), false);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(values: &[f32], scale: Scale) -> Fitted {
        Fitted::new(&Matrix { rows: 1, cols: values.len(), first_col: 0, values, version: 0 }, scale)
    }

    #[test]
    fn each_curve_puts_its_ends_and_middle_where_it_says() {
        let values = [0.0, 0.001, 0.01, 0.1, 1.0];
        let linear = fit(&values, Scale::default());
        assert_eq!((linear.place(0.5), linear.place(1.0), linear.place(0.0)), (0.5, 1.0, 0.0));
        let log = fit(&values, Scale { curve: Curve::Log, ..Scale::default() });
        assert!((log.place(0.01) - 0.5).abs() < 1e-6 && log.place(1e-9) == 0.0);
        let rank = fit(&values, Scale { curve: Curve::Rank, ..Scale::default() });
        assert_eq!((rank.place(0.01), rank.place(0.05), rank.place(1.0)), (0.5, 0.5, 1.0));
    }

    #[test]
    fn the_sink_and_the_clip_change_the_upper_end() {
        let values: Vec<f32> = std::iter::once(100.0).chain((1..=100).map(|i| i as f32 / 100.0)).collect();
        assert_eq!(fit(&values, Scale::default()).high, 100.0);
        assert_eq!(fit(&values, Scale { mask_sink: true, ..Scale::default() }).high, 1.0);
        let clipped = fit(&values, Scale { mask_sink: true, clip: 50.0, ..Scale::default() });
        assert!((clipped.high - 0.5).abs() < 0.02 && clipped.place(0.9) == 1.0);
    }

    #[test]
    fn a_map_of_nothing_has_a_scale_all_the_same() {
        let empty = fit(&[], Scale::default());
        assert_eq!((empty.low, empty.high, empty.place(f32::NAN)), (0.0, 1.0, 0.0));
    }
}
