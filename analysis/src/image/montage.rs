//! Several pictures on one canvas, so that whatever draws on a picture draws on each of them.

use super::{MAX_PIXELS, Picture};
use crate::{Error, Result};

/// Grey between the pictures, seen on light and on dark.
const BETWEEN: u8 = 128;

impl Picture {
    /// These pictures side by side, in rows from three on where that is closer to a square; a single one as it is.
    ///
    /// Errors: none, or too many pixels together.
    pub fn beside(pictures: &[Self]) -> Result<Self> {
        match pictures {
            [] => return Err(Error::invalid("there are no pictures to lay side by side")),
            [one] => return Ok(one.clone()),
            _ => {}
        }
        let sizes: Vec<_> = pictures.iter().map(|p| (p.width, p.height)).collect();
        let canvas = Canvas::best(&sizes);
        let (width, height) = canvas.size();
        if width as u64 * height as u64 > MAX_PIXELS {
            let e = format!(
                "{} pictures side by side are more than {} million pixels",
                pictures.len(),
                MAX_PIXELS / 1_000_000
            );
            return Err(Error::invalid(format!("{e}; take fewer, or smaller ones")));
        }
        let mut out = Self::new(width, height, vec![BETWEEN; 3 * width * height])?;
        for (i, p) in pictures.iter().enumerate() {
            let (x, y) = canvas.place(i);
            for (r, row) in p.rgb.chunks_exact(3 * p.width).enumerate() {
                out.rgb[3 * ((y + r) * width + x)..][..row.len()].copy_from_slice(row);
            }
            out.parts.push([x, y, p.width, p.height]);
        }
        Ok(out)
    }

    /// The pictures that this one is put together of, with their left upper corners; itself where it is one.
    ///
    /// Errors: a part that lies outside.
    pub fn apart(&self) -> Result<Vec<(Self, [f32; 2])>> {
        if self.parts.is_empty() {
            return Ok(vec![(self.clone(), [0.0; 2])]);
        }
        let one = |&[x, y, w, h]: &[usize; 4]| {
            if x + w > self.width || y + h > self.height {
                return Err(Error::invalid("a picture lies outside of those that it stands beside"));
            }
            let rows = (y..y + h).flat_map(|y| &self.rgb[3 * (y * self.width + x)..][..3 * w]);
            Ok((Self::new(w, h, rows.copied().collect())?, [x as f32, y as f32]))
        };
        self.parts.iter().map(one).collect()
    }
}

/// Left upper corners of pictures of these widths and heights on the canvas that shows all of them.
pub(super) fn places(sizes: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let canvas = Canvas::best(sizes);
    (0..sizes.len()).map(|i| canvas.place(i)).collect()
}

/// Widths of columns and heights of rows.
struct Canvas {
    widths: Vec<usize>,
    heights: Vec<usize>,
    gap: usize,
}

impl Canvas {
    /// As many columns as make it closest to a square.
    fn best(sizes: &[(usize, usize)]) -> Self {
        let side = |cols: &usize| {
            let (w, h) = Self::new(sizes, *cols).size();
            w.max(h)
        };
        Self::new(sizes, (1..=sizes.len()).min_by_key(side).unwrap_or(1))
    }

    fn new(sizes: &[(usize, usize)], cols: usize) -> Self {
        let rows = sizes.len().div_ceil(cols);
        let (mut widths, mut heights) = (vec![0; cols], vec![0; rows]);
        for (i, &(w, h)) in sizes.iter().enumerate() {
            widths[i % cols] = w.max(widths[i % cols]);
            heights[i / cols] = h.max(heights[i / cols]);
        }
        let most = sizes.iter().map(|&(w, h)| w.max(h)).max().unwrap_or(0);
        Self { widths, heights, gap: (most / 40).max(1) }
    }

    fn size(&self) -> (usize, usize) {
        let all = |sides: &[usize]| sides.iter().sum::<usize>() + self.gap * (sides.len() - 1);
        (all(&self.widths), all(&self.heights))
    }

    /// Left and top of picture `i`.
    fn place(&self, i: usize) -> (usize, usize) {
        let (r, c) = (i / self.widths.len(), i % self.widths.len());
        let before = |sides: &[usize]| sides.iter().map(|s| s + self.gap).sum();
        (before(&self.widths[..c]), before(&self.heights[..r]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: usize, height: usize, value: u8) -> Picture {
        Picture::new(width, height, vec![value; 3 * width * height]).unwrap()
    }

    #[test]
    fn pictures_lie_beside_each_other_and_come_apart_as_they_were() {
        let all = [plain(3, 2, 1), plain(2, 4, 2), plain(4, 1, 3)];
        let one = Picture::beside(&all).unwrap();
        // Two columns of 4 and 2, rows of 4 and 1, a line of grey between: 7 × 6.
        assert_eq!((one.width, one.height), (7, 6));
        assert_eq!(one.parts, [[0, 0, 3, 2], [5, 0, 2, 4], [0, 5, 4, 1]]);
        assert_eq!([one.pixel(2, 1), one.pixel(4, 0), one.pixel(6, 3)], [[1; 3], [BETWEEN; 3], [2; 3]]);
        let (apart, places): (Vec<_>, Vec<_>) = one.apart().unwrap().into_iter().unzip();
        assert_eq!((apart.as_slice(), places[1]), (&all[..], [5.0, 0.0]));
        assert_eq!(super::places(&[(3, 2), (2, 4), (4, 1)]), [(0, 0), (5, 0), (0, 5)]);
        assert_eq!(super::places(&[(3, 2)]), [(0, 0)]);
        assert_eq!(Picture::beside(&all[..1]).unwrap(), all[0]);
        assert!(Picture::beside(&[]).is_err());
        let lies = Picture { parts: vec![[5, 0, 9, 9]], ..one };
        assert!(lies.apart().is_err());
    }
}
