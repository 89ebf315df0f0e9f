//! A cut as a finding: its pieces, what its ids are worth, what they give back.

use super::image::Tiles;
use super::{Input, Segmentation, Usage, Windows};
use crate::finding::{
    Axis, CellGrid, Cuts, Datum, Figure, Finding, Image, Measure, Piece, Plot, Raster, Series as Curve, Span, Style,
    Unit,
};
use crate::image::Picture;
use crate::series::Series;

/// Columns into which the samples of a longer series are put, for a line that a screen can show.
const COLUMNS: usize = 2048;
/// Ids that are drawn as bars; more are points between logarithmic axes, as Zipf drew them.
const BARS: usize = 16;
/// Ids that are drawn at all.
const POINTS: usize = 4096;

impl Segmentation {
    /// The cut of `input` in pictures and figures.
    pub fn finding(&self, input: Input) -> Finding {
        let mut out = match (self, input) {
            (Segmentation::Image(tiles), Input::Image(picture)) => of_picture(tiles, picture),
            (Segmentation::Series(windows), Input::Series(series)) => of_series(windows, series),
            (Segmentation::Text(row), Input::Text(text)) => {
                let pieces = row.pieces.iter().map(|p| piece(Span::Range(p.start, p.end), p.id, &p.token)).collect();
                Finding::of(cuts(&row.name, Unit::Bytes, text.len(), pieces))
            }
            // The cut of something else has nothing to show of this.
            _ => Finding::default(),
        };
        let ids: Vec<u32> = self.ids().into_iter().flatten().collect();
        out.figures.insert(0, Figure::new("pieces", Datum::Count(self.len()), "Pieces of the input"));
        if let Some(size) = self.vocab().filter(|_| !ids.is_empty()) {
            let usage = Usage::of(ids.iter().copied());
            out.figures.splice(1..1, used(&usage, size));
            out.pictures.push(histogram(&usage).into());
        }
        out
    }
}

fn piece(span: Span, id: Option<u32>, text: &str) -> Piece {
    Piece { span, id, text: text.into(), class: None, value: None }
}

fn cuts(title: &str, unit: Unit, len: usize, pieces: Vec<Piece>) -> Cuts {
    Cuts { title: title.into(), unit, len, pieces, classes: Vec::new(), measure: None }
}

fn used(usage: &Usage, size: usize) -> [Figure; 4] {
    let n = usage.counts.len();
    [
        Figure::new("vocabulary", Datum::Count(size), "Ids there can be"),
        Figure::new("ids used", Datum::Share(n as f64 / size.max(1) as f64), format!("{n} of {size} ids occur")),
        Figure::new("entropy", Datum::Number(usage.entropy_bits), "Shannon entropy of the ids' shares, −Σ p log2 p")
            .unit("bits"),
        Figure::new(
            "perplexity",
            Datum::Number(usage.perplexity()),
            "2 to the power of the entropy: how many equally frequent ids would spread as much",
        ),
    ]
}

/// How often each id occurs, by rank.
fn histogram(usage: &Usage) -> Plot {
    let n = usage.counts.len();
    let title = match n > POINTS {
        true => format!("the {POINTS} most frequent of {n} ids"),
        false => "how often each id occurs".to_string(),
    };
    let points = usage.counts.iter().take(POINTS).enumerate().map(|(i, c)| [(i + 1) as f64, c.1 as f64]).collect();
    let rank = Axis::Number(Measure::new("rank", ""));
    let (style, log) = if n > BARS { (Style::Points, [true; 2]) } else { (Style::Bars, [false; 2]) };
    let curve = Curve::new("ids by frequency", style, points);
    Plot { log, ..Plot::new(title, rank, Measure::new("pieces", ""), vec![curve]) }
}

fn of_picture(tiles: &Tiles, picture: &Picture) -> Finding {
    let [rows, cols] = tiles.grid;
    let rest: usize = tiles.rest.iter().map(|r| r.w as usize * r.h as usize).sum();
    let bounds = tiles.tiles.iter().map(|t| [t.rect.x + t.rect.w, t.rect.y + t.rect.h]);
    let covered = bounds.fold([0, 0], |a, b| [a[0].max(b[0]), a[1].max(b[1])]);
    let area = Some([0.0, 0.0, covered[0] as f32, covered[1] as f32]);
    let of = |t: &super::Tile| {
        let r = t.rect;
        piece(Span::Rect([r.x, r.y, r.w, r.h].map(|v| v as f32)), t.id, "")
    };
    let unit = Unit::Cells(CellGrid { rows, cols, area });
    let mut out = Finding::of(cuts(&tiles.name, unit, 0, tiles.tiles.iter().map(of).collect()));
    if let Some(back) = &tiles.rebuilt {
        let size = [back.width, back.height];
        out = out.with(Image::new("what the ids give back", size, Raster::Rgb(back.rgb.as_slice().into())));
        out = out.with(Image::new("error", size, Raster::Values(errors(picture, back).into(), ERROR)));
    }
    let share = rest as f64 / (picture.width * picture.height) as f64;
    out = out.figure(Figure::new("grid", Datum::Text(format!("{rows} × {cols}")), "Rows and columns of tiles"));
    out = out.figure(Figure::new("left out", Datum::Share(share), format!("{rest} pixels are in no tile")));
    if tiles.tiles.is_empty() {
        out.notes.push("The picture is smaller than one patch, so no tile fits.".into());
    } else if rest > 0 {
        let [w, h] = [picture.width - covered[0] as usize, picture.height - covered[1] as usize];
        let counted = |n: usize, one: &str, place: &str| {
            let plural = if n == 1 { "" } else { "s" };
            (n > 0).then(|| format!("{n} {one}{plural} at the {place}"))
        };
        let parts: Vec<String> =
            [counted(w, "column", "right"), counted(h, "row", "bottom")].into_iter().flatten().collect();
        out.notes.push(format!(
            "No patch covers {}: they are left out, as a strided convolution does.",
            parts.join(" and ")
        ));
    }
    out.figures.extend(tiles.figures.iter().cloned());
    out.pictures.extend(tiles.pictures.iter().cloned());
    out
}

const ERROR: Measure = Measure::new("error", "steps of 255");

/// Root of the mean squared error over the three colours, by pixel of `back`.
fn errors(picture: &Picture, back: &Picture) -> Vec<f32> {
    let of = |i: usize| {
        let (x, y) = (i % back.width, i / back.width);
        let squared = |(a, b): (u8, u8)| (f32::from(a) - f32::from(b)).powi(2);
        let sum: f32 = picture.pixel(x, y).into_iter().zip(back.pixel(x, y)).map(squared).sum();
        (sum / 3.0).sqrt()
    };
    (0..back.width * back.height).map(of).collect()
}

fn of_series(windows: &Windows, series: &Series) -> Finding {
    let of = |w: &super::Window| piece(Span::Range(w.start, w.end), w.id, "");
    let n = series.samples.len();
    let mut out = Finding::of(cuts(&windows.name, Unit::Samples, n, windows.windows.iter().map(of).collect()));
    if n > 0 {
        out = out.with(waveform(series));
    }
    let whole = series.rate.fract() == 0.0 && series.rate < 1e9;
    let rate = if whole { Datum::Count(series.rate as usize) } else { Datum::Number(series.rate) };
    let rest = windows.rest.len();
    out = out.figure(Figure::new("samples", Datum::Count(n), format!("{:.3} seconds", series.seconds())));
    out = out.figure(Figure::new("rate", rate, "Samples a second, as the file says or as was given").unit("Hz"));
    if windows.windows.is_empty() {
        out.notes.push("The series is shorter than one window, so nothing is cut.".into());
    } else if rest > 0 {
        out.notes.push(format!("{rest} samples at the end fill no window and are left out."));
    }
    out.figures.extend(windows.figures.iter().cloned());
    out.pictures.extend(windows.pictures.iter().cloned());
    out
}

/// The samples over time; of a long series the lowest and the highest of each of many short stretches.
pub fn waveform(series: &Series) -> Plot {
    let n = series.samples.len();
    let at = |i: f64| i / series.rate;
    let points = if n <= 2 * COLUMNS {
        series.samples.iter().enumerate().map(|(i, x)| [at(i as f64), f64::from(*x)]).collect()
    } else {
        let stretch = n.div_ceil(COLUMNS);
        let ends = |(i, part): (usize, &[f32])| {
            let low = part.iter().copied().fold(f32::INFINITY, f32::min);
            let high = part.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let start = (i * stretch) as f64;
            [[at(start), f64::from(low)], [at(start + part.len() as f64 / 2.0), f64::from(high)]]
        };
        series.samples.chunks(stretch).enumerate().flat_map(ends).collect()
    };
    let time = Axis::Number(Measure::new("time", "s"));
    let name = series.name.clone();
    Plot::new("samples", time, Measure::signed("sample", ""), vec![Curve::new(name, Style::Line, points)])
}
