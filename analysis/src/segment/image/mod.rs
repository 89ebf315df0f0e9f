//! Cutting pictures: grids of patches, and codes of patches with what they give back.

mod adaptvision;
mod fsq;
mod gpstoken;
mod grid;
mod lowres_first;
mod patch_grid;
mod rvq_codes;
mod transform;

pub use grid::{Grid, Rest};

use super::Method;
use crate::Result;
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Picture as Shown};
use crate::image::Picture;
use serde::Serialize;

/// A rectangle in pixels of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
}

/// One piece of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tile {
    /// Entry of the codebook, where there is one.
    pub id: Option<u32>,
    /// The pixels that it covers.
    #[serde(flatten)]
    pub rect: Rect,
}

/// A picture cut into rectangles. Tiles and rest together cover every pixel once.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiles {
    /// Name of the cut.
    pub name: String,
    /// Rows and columns of the grid that the tiles stand in, row by row.
    pub grid: [usize; 2],
    /// The tiles in the order of reading.
    pub tiles: Vec<Tile>,
    /// What no tile covers.
    pub rest: Vec<Rect>,
    /// Entries of the codebook; `None` where the cut follows a rule.
    pub vocab: Option<usize>,
    /// What the ids alone give back of the upper left part that the grid covers.
    pub rebuilt: Option<Picture>,
    /// Numbers of this cut beside those that all cuts have.
    pub figures: Vec<Figure>,
    /// What the method has to show of its codebook.
    pub pictures: Vec<Shown>,
}

impl Tiles {
    /// The patches of a grid, with ids of a codebook of `vocab` entries where there is one.
    fn of(name: &str, grid: &Grid, vocab: Option<usize>, id: impl Fn(usize) -> Option<u32>) -> Self {
        Self {
            name: name.into(),
            grid: [grid.rows, grid.cols],
            tiles: grid.tiles(id),
            rest: grid.rest(),
            vocab,
            rebuilt: None,
            figures: Vec::new(),
            pictures: Vec::new(),
        }
    }

    /// Parts that follow a rule and leave nothing over, in `grid` rows and columns.
    fn parts(name: &str, grid: [usize; 2], rects: impl IntoIterator<Item = Rect>) -> Self {
        Self {
            name: name.into(),
            grid,
            tiles: rects.into_iter().map(|rect| Tile { id: None, rect }).collect(),
            rest: Vec::new(),
            vocab: None,
            rebuilt: None,
            figures: Vec::new(),
            pictures: Vec::new(),
        }
    }

    /// The same with what its ids give back of `picture`, the values of each patch, and how far off that is.
    fn giving_back(mut self, picture: &Picture, grid: &Grid, patches: &[Vec<u8>]) -> Result<Self> {
        if grid.is_empty() {
            return Ok(self);
        }
        let rebuilt = grid.laid_out(patches)?;
        let error = mean_squared_error(picture, &rebuilt);
        self.figures.push(Figure::new(
            "mean squared error",
            Datum::Number(error),
            "Between the picture and what the ids give back, over all colours, in squared steps of 255",
        ));
        self.figures.extend(psnr(error).map(|p| {
            Figure::new("PSNR", Datum::Number(p), "Peak signal-to-noise ratio, 10 log10(255² / mean squared error)")
                .unit("dB")
        }));
        Ok(Self { rebuilt: Some(rebuilt), ..self })
    }
}

/// Mean squared difference of two pictures of the same width over the rows and columns of the smaller one, over all
/// three colours, in squared steps of 255.
pub fn mean_squared_error(a: &Picture, b: &Picture) -> f64 {
    let (w, h) = (a.width.min(b.width), a.height.min(b.height));
    let squared = |x: u8, y: u8| (f64::from(x) - f64::from(y)).powi(2);
    let row = |p: &Picture, y: usize| p.rgb[3 * y * p.width..3 * (y * p.width + w)].to_vec();
    let of = |y: usize| row(a, y).into_iter().zip(row(b, y)).map(|(x, y)| squared(x, y)).sum::<f64>();
    (0..h).map(of).sum::<f64>() / (3 * w * h).max(1) as f64
}

/// Peak signal-to-noise ratio of 8-bit pictures in decibels; `None` without any error.
pub fn psnr(mean_squared_error: f64) -> Option<f64> {
    (mean_squared_error > 0.0).then(|| 10.0 * (255.0 * 255.0 / mean_squared_error).log10())
}

/// Memory that a grid's tiles and `numbers` numbers for each of them take must be there.
fn fits(grid: &Grid, numbers: usize, ctx: &Ctx) -> Result<()> {
    let bytes = grid.len() as u64 * (size_of::<Tile>() + 8 * numbers) as u64;
    ctx.fits(bytes, "take larger patches or a smaller picture")
}

/// Every way to cut a picture; the first is what a picture is cut by until another one is chosen.
pub static ALL: &[&dyn Method] = &[
    &fsq::Fsq,
    &adaptvision::AdaptVision,
    &gpstoken::GpsToken,
    &lowres_first::LowResFirst,
    &patch_grid::PatchGrid,
    &rvq_codes::RvqCodes,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_hand() {
        let a = Picture::new(2, 1, vec![0, 0, 0, 10, 20, 30]).unwrap();
        let b = Picture::new(1, 1, vec![3, 0, 0]).unwrap();
        // Only the first pixel is in both: 9 over three colours.
        assert_eq!(mean_squared_error(&a, &b), 3.0);
        assert_eq!(psnr(0.0), None);
        assert!((psnr(255.0 * 255.0 / 100.0).unwrap() - 20.0).abs() < 1e-12);
    }
}
