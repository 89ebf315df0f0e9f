//! A matrix as colours: what a scale is fitted to, where a value lies on it, and which pixel gets which colour.
//!
//! [`Painter`] draws on the graphics device, straight from the buffer that the cells lie in; [`pixels`] is its twin
//! for figures and for machines where the window does not draw with wgpu. Both read the same parameters.

mod painter;
mod scale;

pub use painter::{KERNELS, Painter, Screen, Source, Tile};
pub use scale::{Curve, Scale};

use egui::Color32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokenscope_analysis::gpu_struct;
use tokenscope_analysis::passes::value_counts::{BINS, FIRST_BIN, ValueCounts, bin, end_of};

/// Decades that a logarithmic scale covers.
pub const DECADES: f32 = 4.0;
/// Colours of a colour map.
pub const COLORS: usize = 256;

/// A number that nothing else in this process has. What is drawn from a product is kept under it: an address can
/// come back for another product, this does not.
pub fn version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

gpu_struct! {
    /// What both painters are told besides cells, row tops, ranks and colours.
    struct Params {
        /// Left edge in pixels of the screen.
        left: f32,
        /// Upper edge in pixels of the screen.
        top: f32,
        /// Width of the screen in pixels.
        screen_width: f32,
        /// Height of the screen in pixels.
        screen_height: f32,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Cells down.
        rows: u32,
        /// Cells across.
        cols: u32,
        /// Number of the first column in the map that this is a part of; column 0 is the sink.
        first_col: u32,
        /// Places on the map are whole numbers of 2^-bits cells.
        bits: u32,
        /// Place of the left edge.
        x: u32,
        /// Width of a pixel.
        dx: u32,
        /// Place of the upper edge.
        y: u32,
        /// Height of a pixel.
        dy: u32,
        /// 0 linear, 1 logarithm, 2 rank, 3 share of the row's largest.
        curve: u32,
        /// 1 hatches column 0 of the map.
        mask_sink: u32,
        /// Upper end of the scale.
        high: f32,
        /// Values up to the upper end.
        rank_end: u32,
        /// Bins of the ranks.
        n_bins: u32,
        /// Upper half of the bits of the first bin's values.
        first_bin: u32,
        /// Colour of the hatch over the sink.
        hatch: u32,
        /// Colour between its lines.
        between: u32,
        /// Colour of cells without a number.
        empty: u32,
        /// 1 where the target wants light and not sRGB.
        linear_target: u32,
    }
}

/// How many values lie in each bin or in those below it, for the bins that hold any.
#[derive(Debug, Clone, Default, PartialEq)]
struct Cumulative {
    bins: Vec<(u16, u32)>,
}

impl Cumulative {
    fn of(counts: impl Iterator<Item = u32>) -> Self {
        let mut sum = 0;
        let bins = counts.enumerate().filter(|c| c.1 > 0).map(|(bin, n)| {
            sum += n;
            (bin as u16, sum)
        });
        Self { bins: bins.collect() }
    }

    fn total(&self) -> u32 {
        self.bins.last().map_or(0, |b| b.1)
    }

    /// Values in `bin` and below.
    fn up_to(&self, bin: usize) -> u32 {
        let after = self.bins.partition_point(|b| usize::from(b.0) <= bin);
        after.checked_sub(1).map_or(0, |i| self.bins[i].1)
    }

    /// The bin in which the value lies that has this share of them below it.
    fn bin_at(&self, share: f32) -> Option<usize> {
        let rank = (share * self.total().saturating_sub(1) as f32).round() as u32;
        let i = self.bins.partition_point(|b| b.1 <= rank);
        self.bins.get(i.min(self.bins.len().saturating_sub(1))).map(|b| usize::from(b.0))
    }

    fn dense(&self) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.bins.iter().peekable();
        let mut sum = 0;
        (0..BINS).map(move |bin| {
            while let Some(b) = next.next_if(|b| usize::from(b.0) <= bin) {
                sum = b.1;
            }
            sum
        })
    }
}

/// What a matrix' scale is fitted to: once without the first column of the map, once with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    counts: [Cumulative; 2],
    /// Per row, its largest value.
    row_tops: Vec<[f32; 2]>,
}

impl Summary {
    /// The summary of a matrix with these counts whose first column is column `first_col` of the map.
    pub fn new(counts: &ValueCounts, first_col: usize) -> Self {
        let mut sink = vec![0u32; BINS];
        if first_col == 0 {
            counts.first_column.iter().filter_map(|v| bin(*v)).for_each(|b| sink[b] += 1);
        }
        let without = counts.counts.iter().zip(&sink).map(|(all, own)| all - own);
        let tops = counts.row_tops.iter().zip(&counts.first_column).map(|(&rest, &first)| {
            let with = if bin(first).is_some() { rest.max(first) } else { rest };
            [if first_col == 0 { rest } else { with }, with]
        });
        Self {
            counts: [Cumulative::of(without), Cumulative::of(counts.counts.iter().copied())],
            row_tops: tops.collect(),
        }
    }

    /// Per row, its largest value without and with the first column of the map.
    pub fn row_tops(&self) -> &[[f32; 2]] {
        &self.row_tops
    }

    /// Per bin, how many values lie in it or below, without and then with the first column of the map.
    fn ranks(&self) -> Vec<u32> {
        self.counts.iter().flat_map(Cumulative::dense).collect()
    }

    /// Memory that it holds, in bytes.
    pub fn bytes(&self) -> usize {
        8 * (self.counts[0].bins.len() + self.counts[1].bins.len() + self.row_tops.len())
    }
}

/// A scale fitted to a matrix.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The lower end.
    pub low: f32,
    /// The upper end, after clipping; 1 where every row has its own.
    pub high: f32,
    scale: Scale,
    rank_end: u32,
    summary: Arc<Summary>,
}

impl Fitted {
    /// Fits `scale`; what is not positive, which masks leave, does not count.
    pub fn new(summary: &Arc<Summary>, scale: Scale) -> Self {
        let which = usize::from(!scale.mask_sink);
        let counts = &summary.counts[which];
        let top = summary.row_tops.iter().map(|t| t[which]).fold(0.0, f32::max);
        let clipped = || counts.bin_at(scale.clip / 100.0).map(end_of);
        // Unclipped, the end is the true largest value and not that of its bin.
        let high = if scale.clip >= 100.0 { top } else { clipped().map_or(top, |h| h.min(top)) };
        let high = if high > 0.0 { high } else { 1.0 };
        let (low, high) = match scale.curve {
            Curve::Linear => (0.0, high),
            Curve::Log => (high * 10f32.powf(-DECADES), high),
            Curve::Rank => (counts.bin_at(0.0).map_or(high, |b| end_of(b).min(high)), high),
            Curve::Row => (0.0, 1.0),
        };
        let rank_end = bin(high).map_or(0, |b| counts.up_to(b)).max(1);
        Self { low, high, scale, rank_end, summary: summary.clone() }
    }

    /// Where on the colour map a value lies, 0..=1, in a row whose largest value is `row_top`.
    pub fn place(&self, v: f32, row_top: f32) -> f32 {
        if v.is_nan() || v <= 0.0 {
            return 0.0;
        }
        if v.is_infinite() {
            return 1.0;
        }
        match self.scale.curve {
            Curve::Linear => (v / self.high).min(1.0),
            Curve::Log => (1.0 + (v / self.high).log2() * std::f32::consts::LOG10_2 / DECADES).clamp(0.0, 1.0),
            Curve::Rank => {
                let below = bin(v).map_or(0, |b| self.summary.counts[usize::from(!self.scale.mask_sink)].up_to(b));
                (below as f32 / self.rank_end as f32).min(1.0)
            }
            Curve::Row if row_top > 0.0 => (v / row_top).min(1.0),
            Curve::Row => 0.0,
        }
    }

    /// What the scale is, in words.
    pub fn words(&self) -> &'static str {
        match self.scale.curve {
            Curve::Linear => "linear",
            Curve::Log => "logarithmic",
            Curve::Rank => "by rank",
            Curve::Row => "of the row's largest",
        }
    }

    /// Whether each row has an upper end of its own.
    pub fn by_row(&self) -> bool {
        self.scale.curve == Curve::Row
    }
}

/// Colours to draw with.
#[derive(Debug, Clone, PartialEq)]
pub struct Palette {
    /// From the lower to the upper end of the scale, [`COLORS`] of them.
    pub map: Vec<Color32>,
    /// Lines of the hatch over the sink.
    pub hatch: Color32,
    /// What is between them.
    pub between: Color32,
    /// Cells without a number.
    pub empty: Color32,
}

/// The pixels to fill, and the part of the matrix that they show.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Left and upper edge in pixels of the screen.
    pub at: [f32; 2],
    /// Pixels across and down.
    pub size: [usize; 2],
    /// Left, top, width and height of the part, in shares of the matrix.
    pub window: [f32; 4],
}

/// Start and width of a pixel in 2^-bits cells.
fn axis(n: usize, from: f32, share: f32, pixels: usize, bits: u32) -> (u32, u32) {
    let unit = f64::from(1u32 << bits) * n as f64;
    let start = (f64::from(from.clamp(0.0, 1.0)) * unit).round();
    // Rounded up, so that the last cell is not lost.
    let step = (f64::from(share.clamp(0.0, 1.0)) * unit / pixels.max(1) as f64).ceil();
    (start as u32, step as u32)
}

impl Params {
    /// The parameters for `rows` × `cols` cells in `frame`; the screen's size is filled in when it is known.
    fn new(rows: usize, cols: usize, first_col: usize, frame: &Frame, fitted: &Fitted, palette: &Palette) -> Self {
        // Places up to the end, and a pixel past it, stay within 32 bits.
        let bits = 30 - rows.max(cols).max(1).next_power_of_two().ilog2().min(29);
        let [from_x, from_y, across, down] = frame.window;
        let (x, dx) = axis(cols, from_x, across, frame.size[0], bits);
        let (y, dy) = axis(rows, from_y, down, frame.size[1], bits);
        let packed = |c: Color32| u32::from_le_bytes(c.to_array());
        Self {
            left: frame.at[0],
            top: frame.at[1],
            screen_width: 1.0,
            screen_height: 1.0,
            width: frame.size[0] as u32,
            height: frame.size[1] as u32,
            rows: rows as u32,
            cols: cols as u32,
            first_col: first_col as u32,
            bits,
            x,
            dx,
            y,
            dy,
            curve: fitted.scale.curve as u32,
            mask_sink: u32::from(fitted.scale.mask_sink),
            high: fitted.high,
            rank_end: fitted.rank_end,
            n_bins: BINS as u32,
            first_bin: FIRST_BIN,
            hatch: packed(palette.hatch),
            between: packed(palette.between),
            empty: packed(palette.empty),
            linear_target: 0,
        }
    }

    /// First and one past the last of the `n` cells that pixel `i` of an axis covers; the one under its middle where
    /// cells are larger than pixels.
    fn span(&self, i: u32, start: u32, step: u32, n: u32) -> std::ops::Range<usize> {
        let at = start + i * step;
        if step < 1 << self.bits {
            let a = ((at + step / 2) >> self.bits).min(n - 1);
            return a as usize..a as usize + 1;
        }
        let a = (at >> self.bits).min(n - 1);
        a as usize..((at + step) >> self.bits).clamp(a + 1, n) as usize
    }
}

/// A matrix on the host.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// Cells down.
    pub rows: usize,
    /// Cells across.
    pub cols: usize,
    /// Number of the first column in the map that this is a part of; column 0 is the sink.
    pub first_col: usize,
    /// Row-major cells.
    pub values: &'a [f32],
    /// Per row, its largest value without and with the first column of the map.
    pub row_tops: &'a [[f32; 2]],
}

/// The pixels of `frame`, row by row: the plain loops that the shader is compared with. None if the matrix has no
/// cells or not as many as it says.
pub fn pixels(m: &Matrix, frame: &Frame, fitted: &Fitted, palette: &Palette) -> Vec<Color32> {
    let [w, h] = frame.size;
    let fits = m.values.len() == m.rows * m.cols && m.row_tops.len() == m.rows && palette.map.len() == COLORS;
    if m.values.is_empty() || !fits {
        return Vec::new();
    }
    let params = Params::new(m.rows, m.cols, m.first_col, frame, fitted, palette);
    let mut out = Vec::with_capacity(w * h);
    for py in 0..h as u32 {
        for px in 0..w as u32 {
            out.push(pixel(m, &params, fitted, palette, px, py));
        }
    }
    out
}

fn pixel(m: &Matrix, params: &Params, fitted: &Fitted, palette: &Palette, px: u32, py: u32) -> Color32 {
    let xs = params.span(px, params.x, params.dx, params.cols);
    let ys = params.span(py, params.y, params.dy, params.rows);
    if params.mask_sink != 0 && m.first_col + xs.start == 0 {
        return if (px + py) % 6 < 2 { palette.hatch } else { palette.between };
    }
    let (mut t, mut best, mut seen) = (0f32, 0f32, false);
    for y in ys {
        for &v in &m.values[y * m.cols..][xs.clone()] {
            if !v.is_nan() {
                seen = true;
                best = best.max(v);
            }
        }
        if fitted.by_row() {
            t = t.max(fitted.place(best, m.row_tops[y][usize::from(params.mask_sink == 0)]));
            best = 0.0;
        }
    }
    if !fitted.by_row() {
        t = fitted.place(best, 0.0);
    }
    if seen { palette.map[(t * 255.0 + 0.5) as usize] } else { palette.empty }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::array::Array;
    use tokenscope_analysis::passes::value_counts;

    fn summary(rows: usize, cols: usize, values: &[f32]) -> Arc<Summary> {
        let values = Array::new([rows, cols], values.to_vec()).unwrap();
        Arc::new(Summary::new(&value_counts::cpu(&values).unwrap(), 0))
    }

    fn fit(values: &[f32], scale: Scale) -> Fitted {
        Fitted::new(&summary(1, values.len(), values), scale)
    }

    #[test]
    fn each_curve_puts_its_ends_and_middle_where_it_says() {
        let values = [0.0, 0.001, 0.01, 0.1, 1.0];
        let linear = fit(&values, Scale::default());
        assert_eq!((linear.place(0.5, 0.0), linear.place(1.0, 0.0), linear.place(0.0, 0.0)), (0.5, 1.0, 0.0));
        let log = fit(&values, Scale { curve: Curve::Log, ..Scale::default() });
        assert!((log.place(0.01, 0.0) - 0.5).abs() < 1e-6 && log.place(1e-9, 0.0) == 0.0);
        let rank = fit(&values, Scale { curve: Curve::Rank, ..Scale::default() });
        assert_eq!((rank.place(0.01, 0.0), rank.place(0.05, 0.0), rank.place(1.0, 0.0)), (0.5, 0.5, 1.0));
        let row = fit(&values, Scale { curve: Curve::Row, ..Scale::default() });
        assert_eq!((row.place(0.1, 0.2), row.place(0.3, 0.2), row.place(0.1, 0.0)), (0.5, 1.0, 0.0));
        assert_eq!((row.low, row.high), (0.0, 1.0));
    }

    #[test]
    fn the_sink_and_the_clip_change_the_upper_end() {
        let values: Vec<f32> = std::iter::once(100.0).chain((1..=100).map(|i| i as f32 / 100.0)).collect();
        assert_eq!(fit(&values, Scale::default()).high, 100.0);
        assert_eq!(fit(&values, Scale { mask_sink: true, ..Scale::default() }).high, 1.0);
        let clipped = fit(&values, Scale { mask_sink: true, clip: 50.0, ..Scale::default() });
        assert!((clipped.high - 0.5).abs() < 0.02 && clipped.place(0.9, 0.0) == 1.0, "{}", clipped.high);
    }

    #[test]
    fn a_map_of_nothing_has_a_scale_all_the_same() {
        let empty = fit(&[], Scale::default());
        assert_eq!((empty.low, empty.high, empty.place(f32::NAN, 0.0)), (0.0, 1.0, 0.0));
    }

    #[test]
    fn ranks_without_the_first_column_leave_its_values_out() {
        let s = summary(2, 2, &[0.9, 0.1, 0.8, 0.2]);
        assert_eq!((s.counts[0].total(), s.counts[1].total()), (2, 4));
        assert_eq!(s.row_tops, [[0.1, 0.9], [0.2, 0.8]]);
        let ranks = s.ranks();
        assert_eq!((ranks[BINS - 1], ranks[2 * BINS - 1]), (2, 4));
        let below = bin(0.15).unwrap();
        assert_eq!((ranks[below], ranks[BINS + below]), (1, 1));
    }

    fn palette() -> Palette {
        let map = (0..COLORS).map(|i| Color32::from_gray(i as u8)).collect();
        Palette { map, hatch: Color32::RED, between: Color32::BLUE, empty: Color32::GREEN }
    }

    fn draw(values: &[f32], rows: usize, size: [usize; 2], window: [f32; 4], scale: Scale) -> Vec<Color32> {
        let cols = values.len() / rows;
        let s = summary(rows, cols, values);
        let m = Matrix { rows, cols, first_col: 0, values, row_tops: s.row_tops() };
        pixels(&m, &Frame { at: [0.0; 2], size, window }, &Fitted::new(&s, scale), &palette())
    }

    const WHOLE: [f32; 4] = [0.0, 0.0, 1.0, 1.0];

    #[test]
    fn large_cells_are_hard_squares_and_small_ones_show_the_largest() {
        let gray = Color32::from_gray;
        let two = draw(&[1.0, 0.0], 1, [4, 1], WHOLE, Scale::default());
        assert_eq!(two, [gray(255), gray(255), gray(0), gray(0)]);
        // Nine cells in two pixels: five and four.
        let values: Vec<f32> = (1..=9).map(|i| i as f32 / 9.0).collect();
        let few = draw(&values, 1, [2, 1], WHOLE, Scale::default());
        assert_eq!(few, [gray((4.0f32 / 9.0 * 255.0).round() as u8), gray(255)]);
        let right = draw(&[1.0, 0.0], 1, [2, 1], [0.5, 0.0, 0.5, 1.0], Scale::default());
        assert_eq!(right, [gray(0), gray(0)]);
    }

    #[test]
    fn the_sink_is_hatched_and_what_is_no_number_has_its_own_colour() {
        let scale = Scale { mask_sink: true, ..Scale::default() };
        let got = draw(&[0.9, f32::NAN, 0.5], 1, [3, 1], WHOLE, scale);
        assert_eq!(got, [Color32::RED, Color32::GREEN, Color32::from_gray(255)]);
        let row = draw(&[0.5, 1.0, 0.1, 0.2], 2, [2, 2], WHOLE, Scale { curve: Curve::Row, ..Scale::default() });
        assert_eq!(row, [128, 255, 128, 255].map(Color32::from_gray));
    }

    #[test]
    fn no_cell_is_lost_however_sizes_fit() {
        for n in [1usize, 2, 3, 7, 100, 1000, 2047, 2048] {
            for pixels in [1usize, 2, 3, 64, 333, 880, 4001] {
                let (x, dx) = axis(n, 0.0, 1.0, pixels, 30 - n.next_power_of_two().ilog2());
                let mut params = Params::new(
                    n,
                    n,
                    0,
                    &Frame { at: [0.0; 2], size: [pixels; 2], window: WHOLE },
                    &fit(&[1.0], Scale::default()),
                    &palette(),
                );
                (params.x, params.dx) = (x, dx);
                let mut next = 0;
                for i in 0..pixels as u32 {
                    let s = params.span(i, x, dx, n as u32);
                    assert!(s.start <= next && s.end <= n && s.start < s.end, "{n} cells, {pixels} pixels, {i}: {s:?}");
                    next = next.max(s.end);
                }
                assert_eq!(next, n, "{pixels} pixels");
            }
        }
    }
}
