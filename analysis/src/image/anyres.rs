//! AnyRes of LLaVA-NeXT and LLaVA-OneVision: a picture as a whole and as tiles of the best of several sizes, and which
//! of the tiles' patches are left once bars are taken off. Computed as the Python code does, rounding included.

use super::size::pixels;
use crate::{Error, Result};
use serde_json::Value;

/// How one picture is cut.
#[derive(Debug, Clone, PartialEq)]
pub struct AnyRes {
    /// Width and height of the tiles together, in pixels.
    pub target: (usize, usize),
    /// Width and height of the picture in there, in pixels; bars fill the rest.
    pub inner: (usize, usize),
    /// Rows and columns of tiles.
    pub layout: (usize, usize),
    /// The part of the original, in its pixels, that each tile shows: the whole first, then row by row.
    pub rects: Vec<[f32; 4]>,
    /// Patches of a tile's side.
    pub side: usize,
    /// Patches of all tiles that are left: first row and column, rows and columns.
    pub kept: [usize; 4],
    /// Rows and columns that these are sampled to, where there are too many (LLaVA-OneVision).
    pub sampled: Option<(usize, usize)>,
}

/// Reads `image_grid_pinpoints`: heights and widths in pixels.
pub fn pinpoints(v: &Value) -> Result<Vec<(usize, usize)>> {
    let one = |p: &Value| match p.as_array().map(Vec::as_slice) {
        Some([h, w]) => pixels(h).zip(pixels(w)),
        _ => None,
    };
    let all: Option<Vec<_>> = v.as_array().and_then(|l| l.iter().map(one).collect());
    all.filter(|l| !l.is_empty())
        .ok_or_else(|| Error::invalid("image_grid_pinpoints is not a list of heights and widths in pixels"))
}

impl AnyRes {
    /// Cuts a picture of `original` width and height into tiles of `tile` pixels and patches of `patch`; `most` tiles
    /// may give features without being sampled.
    ///
    /// Errors: no size that tiles fill, a picture without size, a shape so extreme that nothing of it is left.
    pub fn new(
        original: (usize, usize),
        sizes: &[(usize, usize)],
        tile: usize,
        patch: usize,
        most: Option<usize>,
    ) -> Result<Self> {
        let (w, h) = original;
        if w == 0 || h == 0 {
            return Err(Error::invalid(
                "this model must know the size of the original picture; give the picture, or image_sizes beside pixel_values",
            ));
        }
        let (height, width) = best(original, sizes);
        let (rows, cols) = (height / tile.max(1), width / tile.max(1));
        let side = tile / patch.max(1);
        if rows * cols == 0 || side == 0 {
            return Err(Error::invalid(format!("image_grid_pinpoints {height} x {width} holds no tile of {tile}")));
        }
        let inner = within((w, h), (width, height));
        let (left, top) = ((width - inner.0) / 2, (height - inner.1) / 2);
        let (sx, sy) = (w as f32 / inner.0 as f32, h as f32 / inner.1 as f32);
        let mut rects = vec![[0.0, 0.0, w as f32, h as f32]];
        for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
            let (x, y) = ((c * tile) as f32 - left as f32, (r * tile) as f32 - top as f32);
            rects.push([x * sx, y * sy, tile as f32 * sx, tile as f32 * sy]);
        }
        let kept = unpadded(original, (cols * side, rows * side));
        if kept[2] * kept[3] == 0 {
            return Err(Error::invalid(format!("a picture of {w} x {h} is too narrow for this model")));
        }
        let over = most.map(|m| ((kept[2] * kept[3]) as f64 / (m * side * side) as f64).sqrt()).filter(|r| *r > 1.1);
        let shrunk = |n: usize, by: f64| ((n as f64 / by).floor() as usize).max(1);
        let sampled = over.map(|r| (shrunk(kept[2], r), shrunk(kept[3], r)));
        Ok(Self { target: (width, height), inner, layout: (rows, cols), rects, side, kept, sampled })
    }

    /// Rows and columns of the features of all tiles, without the mark at each row's end.
    pub fn grid(&self) -> (usize, usize) {
        self.sampled.unwrap_or((self.kept[2], self.kept[3]))
    }

    /// The part of the original that a cell of [`AnyRes::grid`] shows.
    pub fn cell(&self, row: usize, col: usize) -> [f32; 4] {
        let [top, left, rows, cols] = self.kept;
        let [x0, y0, w, h] = self.rects[1].map(|v| v as f64);
        let (pw, ph) = (w / self.side as f64, h / self.side as f64);
        let (n_rows, n_cols) = self.grid();
        let (cw, ch) = (pw * cols as f64 / n_cols as f64, ph * rows as f64 / n_rows as f64);
        let (x, y) = (x0 + left as f64 * pw + col as f64 * cw, y0 + top as f64 * ph + row as f64 * ch);
        [x, y, cw, ch].map(|v| v as f32)
    }
}

/// The size that keeps most of the picture's pixels, and of such the one that wastes least.
fn best((w, h): (usize, usize), sizes: &[(usize, usize)]) -> (usize, usize) {
    let mut found: Option<((usize, usize), usize, usize)> = None;
    for &(height, width) in sizes {
        let scale = (width as f64 / w as f64).min(height as f64 / h as f64);
        let part = |n: usize| (n as f64 * scale) as usize;
        let kept = (part(w) * part(h)).min(w * h);
        let waste = width * height - kept.min(width * height);
        if found.is_none_or(|(_, k, l)| kept > k || (kept == k && waste < l)) {
            found = Some(((height, width), kept, waste));
        }
    }
    found.map_or((1, 1), |f| f.0)
}

/// Width and height of a picture of `from` made as large as fits into `to`.
fn within((w, h): (usize, usize), (width, height): (usize, usize)) -> (usize, usize) {
    let (sx, sy) = (width as f64 / w as f64, height as f64 / h as f64);
    if sx < sy {
        (width, ((h as f64 * sx).ceil() as usize).clamp(1, height))
    } else {
        (((w as f64 * sy).ceil() as usize).clamp(1, width), height)
    }
}

/// What is left of a grid `(columns, rows)` without the bars around a picture of this shape.
fn unpadded((w, h): (usize, usize), (cols, rows): (usize, usize)) -> [usize; 4] {
    let whole = |x: f64| ((x * 1e7).round_ties_even() / 1e7) as usize;
    if w as f64 / h as f64 > cols as f64 / rows as f64 {
        let bar = (rows - whole(h as f64 * (cols as f64 / w as f64)).min(rows)) / 2;
        [bar, 0, rows - 2 * bar, cols]
    } else {
        let bar = (cols - whole(w as f64 * (rows as f64 / h as f64)).min(cols)) / 2;
        [0, bar, rows, cols - 2 * bar]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tall_picture_gets_two_tiles_below_each_other_without_its_bars() {
        // 40 x 53 into 21 x 42: 21 wide and 28 high, bars of 7; 3 x 6 patches of 7, and one row is cut at either end.
        let a = AnyRes::new((40, 53), &[(21, 42), (42, 21), (63, 21)], 21, 7, None).unwrap();
        assert_eq!((a.target, a.inner, a.layout, a.side), ((21, 42), (21, 28), (2, 1), 3));
        assert_eq!((a.kept, a.grid()), ([1, 0, 4, 3], (4, 3)));
        // The first row of patches is the bar; behind it the picture begins.
        let [x, y, w, h] = a.cell(0, 0);
        assert!(x.abs() < 1e-4 && y.abs() < 1e-4 && (w - 40.0 / 3.0).abs() < 1e-4 && (h - 53.0 / 4.0).abs() < 1e-4);
        assert!(AnyRes::new((0, 0), &[(21, 42)], 21, 7, None).is_err());
        assert!(AnyRes::new((4, 4), &[(20, 20)], 21, 7, None).is_err());
    }

    #[test]
    fn too_many_patches_are_sampled() {
        // 4 x 4 tiles of 2 x 2 patches: 64; of one tile's 4, the root of 16 is 4, so 8 / 4.
        let a = AnyRes::new((80, 80), &[(80, 80)], 20, 10, Some(1)).unwrap();
        assert_eq!((a.kept, a.sampled, a.grid()), ([0, 0, 8, 8], Some((2, 2)), (2, 2)));
        assert_eq!(a.cell(1, 0), [0.0, 40.0, 40.0, 40.0]);
        assert_eq!(AnyRes::new((80, 80), &[(80, 80)], 20, 10, Some(16)).unwrap().sampled, None);
    }
}
