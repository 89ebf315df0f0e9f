//! GPSToken: a picture is halved where most happens, again and again, and each part becomes one Gaussian.
//!
//! Source: Zhang et al. 2025, "GPSToken: Gaussian Parameterized Spatially-adaptive Tokenization for Image Representation
//! and Generation", arXiv 2509.01109; xtudbxk/GPSToken at 372231d1de, `datasets/adaptivegps.py`. Takes: a picture. Gives:
//! the parts and a Gaussian for each, before the trained network refines it. Departs: see [`Info::departs`].

use super::{Rect, Tiles};
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Image, Measure, Outline, Raster, Region};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::passes::host::resample::bilinear_at;
use crate::raw::{Adapter, RawInput};
use crate::segment::{Input, Method, Reads, Segmentation};
use crate::{Error, Result};
use serde_json::{Value, json};

const TOKENS: Param = Param::count("num_tokens", "Parts, as far as they may be halved", 1, 1024, 64);
const WEIGHT: Param =
    Param::number("weight", "Power of the entropy that a part counts by, beside its area", 0.0, 16.0, 2.5);
const LEAST: Param =
    Param::count("min_hw", "Parts no side of which is longer than this by more than one stay whole", 1, 512, 8);

static INFO: Info = Info {
    id: "gpstoken",
    title: "GPSToken's parts",
    summary: "Halves a picture where the entropy of its edges is largest, and makes a Gaussian of each part.",
    family: "image cuts",
    basis: Basis::Authors { repo: "xtudbxk/GPSToken", commit: "372231d1de" },
    paper: Some(Paper {
        title: "GPSToken: Gaussian Parameterized Spatially-adaptive Tokenization for Image Representation and Generation",
        authors: "Zhang et al.",
        year: 2025,
        arxiv: "2509.01109",
    }),
    departs: "the network that refines the Gaussians and says what each holds is trained and left out",
    params: &[TOKENS, WEIGHT, LEAST],
    raw: &[Adapter { name: "gpstoken", run: raw }],
    ..Info::of(Kind::Segment)
};

pub(super) struct GpsToken;

/// A grey picture, values from -1 to 1.
struct Grey {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

/// A part by its first and last column and row.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    x: [usize; 2],
    y: [usize; 2],
    /// How much happens in it.
    complexity: f64,
}

/// Side of the square that a part is resized to before its edges are looked at.
const SIDE: usize = 64;
/// Bins of the lengths of gradients, between ± [`BOUND`].
const BINS: usize = 512;
const BOUND: f64 = 5.5;

impl Grey {
    /// How much happens in these columns and rows: the entropy of the lengths of gradients to a power, times the area.
    fn complexity(&self, x: [usize; 2], y: [usize; 2], weight: f64) -> f64 {
        let (w, h) = (x[1] - x[0] + 1, y[1] - y[0] + 1);
        let taps = |n: usize| (0..SIDE).map(|i| bilinear_at(i, SIDE, n)).collect::<Vec<_>>();
        let (across, down) = (taps(w), taps(h));
        let at = |r: usize, c: usize| (f64::from(self.values[(y[0] + r) * self.width + x[0] + c]) + 1.0) / 2.0;
        let cell = |i: usize| {
            let of = |&(r, v): &(usize, f64)| across[i % SIDE].iter().map(|&(c, u)| v * u * at(r, c)).sum::<f64>();
            down[i / SIDE].iter().map(of).sum::<f64>()
        };
        let small: Vec<f64> = (0..SIDE * SIDE).map(cell).collect();
        let near = |r: usize, dr: usize, c: usize, dc: usize| {
            let clamp = |v: usize| v.saturating_sub(1).min(SIDE - 1);
            small[clamp(r + dr) * SIDE + clamp(c + dc)]
        };
        let mut bins = [0usize; BINS];
        for i in 0..SIDE * SIDE {
            let (r, c) = (i / SIDE, i % SIDE);
            let smooth = [1.0, 2.0, 1.0];
            let gx: f64 = (0..3).map(|d| smooth[d] * (near(r, d, c, 2) - near(r, d, c, 0))).sum();
            let gy: f64 = (0..3).map(|d| smooth[d] * (near(r, 2, c, d) - near(r, 0, c, d))).sum();
            let bin = (gx.hypot(gy) + BOUND) / (2.0 * BOUND) * BINS as f64;
            // The last bin holds its upper edge, too; what is longer is in none.
            if gx.hypot(gy) <= BOUND {
                bins[(bin as usize).min(BINS - 1)] += 1;
            }
        }
        let all = bins.iter().sum::<usize>() as f64 + 1e-5;
        let share = |n: &usize| *n as f64 / all;
        let entropy: f64 = bins.iter().map(share).map(|p| -p * (p + 1e-10).log2()).sum();
        entropy.powf(weight) * h as f64 * w as f64
    }

    fn part(&self, x: [usize; 2], y: [usize; 2], weight: f64) -> Part {
        Part { x, y, complexity: self.complexity(x, y, weight) }
    }

    /// The picture in `n` parts: always the one in which most happens, of those that are large enough, is halved along its
    /// longer side; a square so that one half is as quiet as can be.
    fn parts(&self, n: usize, weight: f64, least: usize, ctx: &Ctx) -> Result<Vec<Part>> {
        let mut parts = vec![self.part([0, self.width - 1], [0, self.height - 1], weight)];
        while parts.len() < n {
            ctx.step(parts.len(), n)?;
            parts.sort_by(|a, b| b.complexity.total_cmp(&a.complexity));
            let large = |p: &Part| p.y[1] - p.y[0] > least || p.x[1] - p.x[0] > least;
            let Some(at) = parts.iter().position(large) else { break };
            let p = parts.remove(at);
            let (w, h) = (p.x[1] - p.x[0] + 1, p.y[1] - p.y[0] + 1);
            let (middle, level) = (p.x[0] + w / 2, p.y[0] + h / 2);
            let beside = || [self.part([p.x[0], middle - 1], p.y, weight), self.part([middle, p.x[1]], p.y, weight)];
            let above = || [self.part(p.x, [p.y[0], level - 1], weight), self.part(p.x, [level, p.y[1]], weight)];
            let quiet = |halves: &[Part; 2]| halves[0].complexity.min(halves[1].complexity);
            let halves = match w.cmp(&h) {
                std::cmp::Ordering::Greater => beside(),
                std::cmp::Ordering::Less => above(),
                std::cmp::Ordering::Equal => {
                    let (beside, above) = (beside(), above());
                    if quiet(&beside) < quiet(&above) { beside } else { above }
                }
            };
            parts.extend(halves);
        }
        Ok(parts)
    }
}

/// A pixel of `n` on a scale from -1 to 1; of a single one, its middle.
fn scaled(at: f64, n: usize) -> f64 {
    if n > 1 { at / (n - 1) as f64 * 2.0 - 1.0 } else { 0.0 }
}

impl Method for GpsToken {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn reads(&self) -> Reads {
        Reads::Image
    }

    fn cut(&self, input: Input, params: &Params, ctx: &Ctx) -> Result<Segmentation> {
        INFO.check(params)?;
        let picture = input.image(&INFO)?;
        let n = params.count(&TOKENS) as usize;
        ctx.fits(4 * (picture.width * picture.height) as u64, "take a smaller picture")?;
        let luma = |p: &[u8]| {
            (0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2])) / 255.0 * 2.0 - 1.0
        };
        let values = picture.rgb.chunks_exact(3).map(luma).collect();
        let grey = Grey { width: picture.width, height: picture.height, values };
        let parts = grey.parts(n, params.number(&WEIGHT), params.count(&LEAST) as usize, ctx)?;
        let rect = |p: &Part| Rect {
            x: p.x[0] as u32,
            y: p.y[0] as u32,
            w: (p.x[1] - p.x[0] + 1) as u32,
            h: (p.y[1] - p.y[0] + 1) as u32,
        };
        // One standard deviation, in pixels: a third of the part's length.
        let region = |p: &Part| {
            let middle = |a: [usize; 2]| (a[0] + a[1] + 1) as f32 / 2.0;
            let radius = |a: [usize; 2]| ((a[1] - a[0]) as f32 / 3.0).max(0.25);
            let at = [middle(p.x), middle(p.y)];
            let outline = Outline::Ellipse { at, radii: [radius(p.x), radius(p.y)], turn: 0.0 };
            Region { outline, label: String::new(), class: None, value: Some(p.complexity as f32) }
        };
        let gaussians = Image {
            regions: parts.iter().map(region).collect(),
            measure: Some(Measure::new("complexity", "")),
            ..Image::new("Gaussians", [picture.width, picture.height], Raster::Input)
        };
        let quiet = parts.iter().map(|p| p.complexity).fold(f64::INFINITY, f64::min);
        let most = parts.iter().map(|p| p.complexity).fold(0.0, f64::max);
        let figures = vec![
            Figure::new("parts", Datum::Count(parts.len()), "Fewer than asked for where none may be halved any more"),
            Figure::new("numbers a part", Datum::Count(5), "Two widths, a correlation, and a place"),
            Figure::new("least complexity", Datum::Number(quiet), "Of the quietest part"),
            Figure::new("most complexity", Datum::Number(most), "Of the part that would be halved next, if it may"),
        ];
        Ok(Segmentation::Image(Tiles {
            figures,
            pictures: vec![gaussians.into()],
            ..Tiles::parts(INFO.id, [1, parts.len()], parts.iter().map(rect))
        }))
    }
}

/// Most parts of the raw entry.
const MAX_PARTS: usize = 1 << 16;

/// Raw entry: `gray_image` `[height, width]` from -1 to 1, `num_tokens`, `weight`, `min_hw`. Places are on a scale from -1
/// to 1; a Gaussian is its widths, its correlation, and its middle.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, [height, width]) = input.finite("gray_image")?;
    let n: usize = input.read("num_tokens")?;
    let (weight, least): (f64, usize) = (input.read_or("weight", 2.5)?, input.read_or("min_hw", 8)?);
    if height * width == 0 || !(1..=MAX_PARTS).contains(&n) || least == 0 || !weight.is_finite() {
        return Err(Error::invalid(format!(
            "{n} parts of {width} by {height} pixels, none halved below {least}; 1 to {MAX_PARTS} parts of some pixels"
        )));
    }
    let grey = Grey { width, height, values: x.data().to_vec() };
    let whole = grey.complexity([0, width - 1], [0, height - 1], weight);
    let parts = grey.parts(n, weight, least, ctx)?;
    let region = |p: &Part| {
        [(p.x[0], width), (p.y[0], height), (p.x[1], width), (p.y[1], height)].map(|(v, n)| scaled(v as f64, n))
    };
    let gaussian = |p: &Part| {
        let spread = |a: [usize; 2], n: usize| (a[1] - a[0]) as f64 / n as f64 * 2.0 / 3.0;
        let middle = |a: [usize; 2], n: usize| scaled((a[0] + a[1]) as f64 / 2.0, n);
        [spread(p.x, width), spread(p.y, height), 0.0, middle(p.x, width), middle(p.y, height)]
    };
    Ok(json!({
        "gaussians_sx_sy_rho_x_y": parts.iter().map(gaussian).collect::<Vec<_>>(),
        "regions_x0_y0_x1_y1": parts.iter().map(region).collect::<Vec<_>>(),
        "whole_image_complexity": whole,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise in the left half of a picture and nothing in the right one.
    fn half(width: usize, height: usize) -> Grey {
        let value = |i: usize| if i % width < width / 2 { ((i * 7919) % 101) as f32 / 50.0 - 1.0 } else { 0.0 };
        Grey { width, height, values: (0..width * height).map(value).collect() }
    }

    #[test]
    fn parts_are_cut_where_most_happens_and_a_square_so_that_one_half_is_quiet() {
        let parts = half(32, 32).parts(3, 2.5, 4, &Ctx::default()).unwrap();
        let rects: Vec<_> = parts.iter().map(|p| (p.x, p.y)).collect();
        assert_eq!(rects, [([16, 31], [0, 31]), ([0, 15], [0, 15]), ([0, 15], [16, 31])]);
        assert!(parts[0].complexity < 1e-3 && parts[1].complexity > 1.0);
    }

    #[test]
    fn small_parts_stay_whole_and_the_longer_side_is_halved() {
        let parts = half(9, 3).parts(10, 2.5, 4, &Ctx::default()).unwrap();
        let mut widths: Vec<_> = parts.iter().map(|p| (p.x[0], p.x[1], p.y)).collect();
        widths.sort_unstable();
        // Nine are four and five; of five the ends are four apart, which is not more than four.
        assert_eq!(widths, [(0, 3, [0, 2]), (4, 8, [0, 2])]);
    }
}
