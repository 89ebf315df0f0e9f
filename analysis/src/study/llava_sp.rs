//! LLaVA-SP: what the six spatial tokens are made of, squares around the middle of a picture or all of it at six sizes.
//!
//! Source: Lou et al. 2025, "LLaVA-SP: Enhancing Visual Representation with Visual Spatial Tokens for MLLMs",
//! arXiv 2507.00505; CnFaker/LLaVA-SP at 24d8a8fff4, `clip_encoder.py` and `llava_arch.py`. Takes: patches on a grid. Gives:
//! the squares, or the pooled grids, and how like each patch is to their mean. Departs: see [`Info::departs`].
//! Cost: O(n · d) a token.

use super::Method;
use super::patches::{self, LAYER, Patches};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Class, Datum, Figure, Finding, Heat, Image, Measure, Outline, Raster, Region, Stages, Unit};
use crate::math::cosine;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::host::resample::{apply, average};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Map, Value, json};

const PART: Param = Param::choice(
    "part",
    "Squares around the middle, each larger than the one before, or the whole grid pooled to six sizes",
    &["crops", "pooling"],
);

static INFO: Info = Info {
    id: "llava_sp",
    title: "LLaVA-SP's six tokens",
    summary: "Shows what each of the six spatial tokens would be made of, and which patches are like it.",
    family: "image tokens",
    basis: Basis::Authors { repo: "CnFaker/LLaVA-SP", commit: "24d8a8fff4" },
    paper: Some(Paper {
        title: "LLaVA-SP: Enhancing Visual Representation with Visual Spatial Tokens for MLLMs",
        authors: "Lou et al.",
        year: 2025,
        arxiv: "2507.00505",
    }),
    departs: "the convolution that makes one token of a square and the attention behind it are trained; the mean of the \
              square, or of a part of the pooled grid, stands in; other grids than 24 by 24 have as many squares as fit, and \
              sizes at the same shares of the side; of tiles the first is looked at",
    needs: &[Need::ImageTokens, Need::Residual],
    params: &[PART, LAYER],
    role: Role::StandIn,
    raw: &[Adapter { name: "llava_sp", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct LlavaSp;

/// A square of a grid: first row and column, and side.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Square {
    row: usize,
    col: usize,
    side: usize,
}

/// Squares of 4, 8, 12, … around the middle of a grid, as far as they fit.
fn squares((rows, cols): (usize, usize)) -> Vec<Square> {
    let corner = |half: usize| Some(((rows / 2).checked_sub(half)?, (cols / 2).checked_sub(half)?));
    let square = |half: usize| {
        let (row, col) = corner(half)?;
        let side = 2 * half;
        (row + side <= rows && col + side <= cols).then_some(Square { row, col, side })
    };
    (1..).map_while(|i| square(2 * i)).collect()
}

/// Sizes that the whole grid is pooled to; 4 to 24 of 24.
const SIZES: [usize; 6] = [4, 8, 12, 16, 20, 24];

impl Method for LlavaSp {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let vision = patches::encoder(on, &INFO)?;
        let tiles = Patches::of(on, params, &INFO)?;
        let tile = &tiles[0];
        let crops = params.choice(&PART) == "crops";
        let (rows, cols) = tile.grid;
        // The cells that each token is compared with, by name.
        let parts: Vec<(String, Vec<Vec<usize>>)> = if crops {
            let cells = |s: &Square| {
                (0..s.side).flat_map(|y| (0..s.side).map(move |x| (s.row + y) * cols + s.col + x)).collect()
            };
            squares(tile.grid).iter().map(|s| (format!("{0} by {0}", s.side), vec![cells(s)])).collect()
        } else {
            let pooled = |size: &usize| {
                let to = [rows, cols].map(|n| (n * size / 24).clamp(1, n));
                let grid = average(tile.grid, (to[0], to[1]));
                let cells = grid.iter().map(|w| w.iter().map(|m| m.0).collect()).collect();
                (format!("{} by {} of {size}", to[0], to[1]), cells)
            };
            SIZES.iter().map(pooled).collect()
        };
        if parts.is_empty() {
            return Err(Error::invalid(format!("a grid of {rows} by {cols} is too small for a square of 4 by 4")));
        }
        let mut stages = Vec::new();
        for (i, (_, cells)) in parts.iter().enumerate() {
            ctx.step(i, parts.len())?;
            stages.push(likeness(&tile.x, cells));
        }
        let only = std::slice::from_ref(tile);
        let one = |values: &Vec<f32>| patches::laid(on, vision, only, std::slice::from_ref(values)).1;
        let title = if crops { "like the mean of the square" } else { "like the pooled cell it is in" };
        let names = Unit::named(parts.iter().map(|p| p.0.clone()));
        let values: Vec<_> = stages.iter().map(one).collect();
        let heat = Heat {
            stages: Some(Stages { unit: names, values }),
            ..patches::heat(on, title, Measure::signed("cosine", ""), vision, only, &stages[..1])
        };
        let mut out = Finding::of(heat).figure(Figure::new(
            "spatial tokens",
            Datum::Count(parts.len()),
            "Beside the patches, in front of the language model",
        ));
        if let (true, Some((width, height))) = (crops, on.trace.image_size) {
            let outline = |s: &Square| {
                let first = s.row * cols + s.col;
                tile.span(vision, first, first + (s.side - 1) * (cols + 1)).map(Outline::Rect)
            };
            let region = |(i, s): (usize, &Square)| {
                Some(Region { outline: outline(s)?, label: s.side.to_string(), class: Some(i), value: None })
            };
            let all = squares(tile.grid);
            let image = Image {
                regions: all.iter().enumerate().filter_map(region).collect(),
                classes: Class::categories(parts.iter().map(|p| p.0.clone())),
                ..Image::new("squares", [width as usize, height as usize], Raster::Input)
            };
            out.pictures.insert(0, image.into());
        }
        Ok(out)
    }
}

/// Cosine of each patch of `x` `[n, d]` with the mean of the cells; of several lists with that of the first that it is in,
/// and where it is in none of a single list, with that one's.
fn likeness(x: &Array, cells: &[Vec<usize>]) -> Vec<f32> {
    let [n, d] = [x.shape()[0], x.shape()[1]];
    let means: Vec<Vec<f64>> = cells
        .iter()
        .map(|cells| {
            let mut mean = vec![0f64; d];
            cells.iter().for_each(|&c| mean.iter_mut().zip(x.row(c)).for_each(|(m, v)| *m += f64::from(*v)));
            mean
        })
        .collect();
    let mut of = vec![0usize; n];
    cells.iter().enumerate().rev().for_each(|(i, cells)| cells.iter().for_each(|&c| of[c] = i));
    (0..n).map(|i| cosine(x.row(i), &means[of[i]]) as f32).collect()
}

/// Raw entry, by `part`: "progressive centre crops" of a square grid of side `grid`, or of the array `grid_ids`; "adaptive
/// pooling pyramid" of `x` `[channels, rows, columns]` to `sizes`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let part: String = input.read("part")?;
    if part.contains("crop") {
        let side: usize = match input.field("grid") {
            Ok(_) => input.read("grid")?,
            Err(_) => input.array("grid_ids")?.dims::<2>("grid_ids")?[0],
        };
        if side > MAX_SIDE {
            return Err(Error::invalid(format!("field grid: a side of {side}; at most {MAX_SIDE}")));
        }
        let crop = |s: &Square| {
            let last = (s.row + s.side - 1) * side + s.col + s.side - 1;
            json!({ "size": [s.side, s.side], "first": s.row * side + s.col, "last": last })
        };
        return Ok(json!({ "crops": squares((side, side)).iter().map(crop).collect::<Vec<_>>() }));
    }
    if !part.contains("pool") {
        return Err(Error::invalid(format!("field part is {part:?}; it names crops or pooling")));
    }
    let (x, [channels, rows, cols]) = input.finite("x")?;
    let sizes: Vec<usize> = input.read_or("sizes", SIZES.to_vec())?;
    let mut out = Map::new();
    for (i, &m) in sizes.iter().enumerate() {
        ctx.step(i, sizes.len())?;
        if !(1..=MAX_SIDE).contains(&m) || rows * cols == 0 {
            return Err(Error::invalid(format!("field sizes: {rows} by {cols} cells pooled to {m}; 1 to {MAX_SIDE}")));
        }
        let parts = (m * m) as u64 * ((rows / m + 2) * (cols / m + 2)) as u64;
        ctx.fits(16 * parts + 4 * (channels * m * m) as u64, "take smaller sizes")?;
        let weights = average((rows, cols), (m, m));
        let map = |c: usize| {
            let pooled = apply(&weights, x.row(c), 1);
            pooled.chunks(m).map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        out.insert(format!("pool{m}"), json!((0..channels).map(map).collect::<Vec<_>>()));
    }
    Ok(Value::Object(out))
}

/// Longest side of a grid in the raw entry.
const MAX_SIDE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_grow_by_four_around_the_middle_while_they_fit() {
        let of = |g| squares(g).iter().map(|s| (s.row, s.col, s.side)).collect::<Vec<_>>();
        assert_eq!(of((8, 8)), [(2, 2, 4), (0, 0, 8)]);
        assert_eq!(of((6, 10)), [(1, 3, 4)]);
        assert!(of((3, 9)).is_empty());
    }

    #[test]
    fn patches_are_compared_with_the_mean_of_their_part() {
        let x = Array::new([3, 2], vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0]).unwrap();
        let got = likeness(&x, &[vec![0, 1]]);
        let half = 0.5f32.sqrt();
        assert!(got.iter().zip([half, half, -half]).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
        assert_eq!(likeness(&x, &[vec![0], vec![1, 2]])[0], 1.0);
    }
}
