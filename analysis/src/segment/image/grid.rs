//! A grid of patches over a picture, and what becomes of the pixels that no whole patch covers.

use super::{Rect, Tile};
use crate::Result;
use crate::image::Picture;

/// What becomes of the pixels at the right and lower edge that do not fill a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// No patch covers them, as in the strided convolution of ViT.
    LeftOut,
    /// They are smaller patches.
    Smaller,
}

/// A grid of patches from the upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Rows of patches.
    pub rows: usize,
    /// Patches in a row.
    pub cols: usize,
    /// Width of a patch in pixels.
    pub patch_width: usize,
    /// Height of a patch in pixels.
    pub patch_height: usize,
    width: usize,
    height: usize,
}

impl Grid {
    /// The grid of patches of this size, at least 1 pixel a side, over `picture`.
    pub fn new(picture: &Picture, patch_width: usize, patch_height: usize, rest: Rest) -> Self {
        let (patch_width, patch_height) = (patch_width.max(1), patch_height.max(1));
        let n = |length: usize, patch: usize| match rest {
            Rest::LeftOut => length / patch,
            Rest::Smaller => length.div_ceil(patch),
        };
        let (mut rows, mut cols) = (n(picture.height, patch_height), n(picture.width, patch_width));
        // Without a row there are no columns either.
        if rows == 0 || cols == 0 {
            (rows, cols) = (0, 0);
        }
        Self { rows, cols, patch_width, patch_height, width: picture.width, height: picture.height }
    }

    /// The picture in `rows` by `cols` parts as equal as whole pixels allow, row by row; fewer where it has fewer
    /// pixels.
    pub fn even(picture: &Picture, rows: usize, cols: usize) -> Vec<Rect> {
        let (rows, cols) = (rows.clamp(1, picture.height), cols.clamp(1, picture.width));
        let edge = |i: usize, parts: usize, length: usize| (i * length / parts) as u32;
        let span = |i: usize, parts: usize, length: usize| {
            let from = edge(i, parts, length);
            (from, edge(i + 1, parts, length) - from)
        };
        let part = |(r, c): (usize, usize)| {
            let ((x, w), (y, h)) = (span(c, cols, picture.width), span(r, rows, picture.height));
            Rect { x, y, w, h }
        };
        (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))).map(part).collect()
    }

    /// Number of patches.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether not one patch fits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Width and height of what the patches cover together.
    pub fn covered(&self) -> [usize; 2] {
        [(self.cols * self.patch_width).min(self.width), (self.rows * self.patch_height).min(self.height)]
    }

    /// The pixels of patch `i`.
    pub fn rect(&self, i: usize) -> Rect {
        let (x, y) = (i % self.cols * self.patch_width, i / self.cols * self.patch_height);
        let (w, h) = (self.patch_width.min(self.width - x), self.patch_height.min(self.height - y));
        Rect { x: x as u32, y: y as u32, w: w as u32, h: h as u32 }
    }

    /// The patches with their ids, which `id` gives.
    pub fn tiles(&self, id: impl Fn(usize) -> Option<u32>) -> Vec<Tile> {
        (0..self.len()).map(|i| Tile { id: id(i), rect: self.rect(i) }).collect()
    }

    /// The picture of these patches, whole ones, each given by its values row by row, red, green, blue.
    pub fn laid_out(&self, patches: &[Vec<u8>]) -> Result<Picture> {
        let [width, height] = self.covered();
        let mut rgb = vec![0; 3 * width * height];
        for (i, patch) in patches.iter().enumerate() {
            let r = self.rect(i);
            for (y, row) in patch.chunks_exact(3 * self.patch_width).enumerate() {
                let start = 3 * ((r.y as usize + y) * width + r.x as usize);
                rgb[start..start + row.len()].copy_from_slice(row);
            }
        }
        Picture::new(width, height, rgb)
    }

    /// What no patch covers: a strip at the right, one below, neither, or the whole picture.
    pub fn rest(&self) -> Vec<Rect> {
        let [w, h] = self.covered();
        let right = Rect { x: w as u32, y: 0, w: (self.width - w) as u32, h: h as u32 };
        let below = Rect { x: 0, y: h as u32, w: self.width as u32, h: (self.height - h) as u32 };
        [right, below].into_iter().filter(|r| r.w > 0 && r.h > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(width: usize, height: usize, w: usize, h: usize, rest: Rest) -> Grid {
        Grid::new(&Picture::new(width, height, vec![0; 3 * width * height]).unwrap(), w, h, rest)
    }

    #[test]
    fn a_grid_by_hand_with_and_without_its_rest() {
        let g = grid(5, 4, 2, 3, Rest::LeftOut);
        assert_eq!((g.rows, g.cols, g.covered()), (1, 2, [4, 3]));
        assert_eq!(g.rect(1), Rect { x: 2, y: 0, w: 2, h: 3 });
        assert_eq!(g.rest(), [Rect { x: 4, y: 0, w: 1, h: 3 }, Rect { x: 0, y: 3, w: 5, h: 1 }]);
        let g = grid(5, 4, 2, 3, Rest::Smaller);
        assert_eq!((g.len(), g.rest()), (6, Vec::new()));
        assert_eq!(g.rect(5), Rect { x: 4, y: 3, w: 1, h: 1 });
    }

    #[test]
    fn a_picture_smaller_than_a_patch_is_all_rest_or_one_patch() {
        let g = grid(1, 9, 2, 3, Rest::LeftOut);
        assert!(g.is_empty() && g.tiles(|_| None).is_empty());
        assert_eq!(g.rest(), [Rect { x: 0, y: 0, w: 1, h: 9 }]);
        assert_eq!(grid(1, 1, 16, 16, Rest::Smaller).tiles(|_| Some(3))[0].rect, Rect { x: 0, y: 0, w: 1, h: 1 });
    }
}
