//! Image processors: what their settings say, done as the Pillow back end of `transformers` does.

use super::anyres::AnyRes;
use super::place::Place;
use super::prompt::Expansion;
use super::resize::{Filter, Window, resize, resize_unrounded};
use super::size::{Size, idefics_size, listed_size, nearest_tiles, qwen_size, whole_tiles};
use super::{ImageInput, Picture};
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// What becomes of the picture beyond its size.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Layout {
    /// One picture.
    Plain {
        size: Option<Size>,
        /// Width and height of the part in the middle.
        crop: Option<(usize, usize)>,
        /// Width and height that zeros fill up to, right and below, after everything else.
        pad: Option<(usize, usize)>,
        /// Bars of this colour, the mean, make it square first (LLaVA 1.5's own code).
        square: Option<[u8; 3]>,
    },
    /// Idefics3: tiles of one side length and the whole picture after them.
    Tiles {
        /// Size before tiling; `None` leaves the picture as it is.
        first: Option<First>,
        /// Side of a tile.
        tile: usize,
        /// Whether there are tiles, or only the whole picture.
        split: bool,
    },
    /// LLaVA-NeXT: the whole squeezed into one tile, then tiles of the best of several sizes, with bars around.
    AnyRes {
        /// Heights and widths.
        sizes: Vec<(usize, usize)>,
        /// Side of a tile as cut.
        tile: usize,
        /// Width and height that the whole is squeezed into.
        whole: (usize, usize),
        /// What every tile is brought to.
        size: Option<Size>,
        crop: Option<(usize, usize)>,
        /// Colour of the bars that make each of several pictures square, which is then seen as a whole alone
        /// (LLaVA-OneVision); `None` where they are cut, too.
        several: Option<[u8; 3]>,
    },
    /// Qwen2-VL: one picture in multiples of merged patches, as a list of flattened patches.
    Patches {
        /// Side of a patch.
        patch: usize,
        /// Patches of a side that become one token; those of a token come one after the other.
        merge: usize,
        /// Frames that a patch spans; a picture is repeated.
        frames: usize,
        /// Bounds of the area in pixels; `None` leaves the picture as it is.
        area: Option<(usize, usize)>,
    },
    /// SigLIP 2: a picture in its own shape, as a list of patches that is filled up with zeros.
    Listed {
        /// Side of a patch.
        patch: usize,
        /// Patches of the list.
        most: usize,
        /// Whether the picture is brought to as many patches as fit; else it must divide.
        resizes: bool,
    },
    /// InternVL: as many tiles as fit the picture's shape best, then the whole.
    Nearest {
        /// Width and height of a tile.
        tile: (usize, usize),
        /// Least and most tiles; `None` does not cut.
        tiles: Option<(usize, usize)>,
    },
}

/// Idefics3's size before tiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// The longer side.
    Longest(usize),
    /// Width and height.
    Exact(usize, usize),
}

/// A model's image processor.
#[derive(Debug, Clone, PartialEq)]
pub struct Processor {
    pub(super) layout: Layout,
    pub(super) filter: Filter,
    /// Factor from 0..=255, if any.
    pub(super) rescale: Option<f64>,
    /// Mean and standard deviation per channel, if any.
    pub(super) normalise: Option<([f64; 3], [f64; 3])>,
    pub(super) place: Place,
    /// Whether pictures are resized as numbers, not as bytes (DINOv3's).
    pub(super) unrounded: bool,
}

impl Processor {
    /// Whether image and text form one sequence, so that the prompt needs a place for the image.
    pub fn writes_into_the_prompt(&self) -> bool {
        self.place != Place::None
    }

    /// Whether a picture may become several tiles, so that its pixel values have a tile axis.
    pub fn has_tiles(&self) -> bool {
        matches!(self.layout, Layout::Tiles { .. } | Layout::AnyRes { .. } | Layout::Nearest { .. })
    }

    /// The model's input from a picture, or from each of those that lie side by side on it, with the rectangle of the
    /// original that each tile shows.
    pub fn process(&self, picture: &Picture) -> Result<ImageInput> {
        if picture.parts.is_empty() {
            return self.process_one(picture, true);
        }
        let several = picture.parts.len() > 1;
        let one = |(p, at): (Picture, [f32; 2])| {
            let cuts = !several || !matches!(self.layout, Layout::AnyRes { several: Some(_), .. });
            Ok(ImageInput { at, ..self.process_one(&p, cuts)? })
        };
        ImageInput::joined(picture.apart()?.into_iter().map(one).collect::<Result<_>>()?)
    }

    /// The same of one picture; `cuts` says whether it may be cut into tiles at all.
    fn process_one(&self, picture: &Picture, cuts: bool) -> Result<ImageInput> {
        let (w, h) = (picture.width as f32, picture.height as f32);
        let original = (w as u32, h as u32);
        let (tiles, rects, rest) = (vec![], vec![], vec![]);
        let mut input = ImageInput { tiles, rects, layout: (1, 1), original, grid: None, at: [0.0; 2], rest };
        match self.layout {
            Layout::AnyRes { size, crop, several, .. } if !cuts => {
                let (tile, rect) = self.plain(picture, size, crop, several)?;
                input.tiles.push(self.tensor(&tile)?);
                input.rects.push(rect);
            }
            Layout::AnyRes { ref sizes, tile, whole, size, crop, .. } => {
                // Patches count for the model only; here a tile may be one.
                let cut = AnyRes::new((picture.width, picture.height), sizes, tile, tile, None)?;
                let mut tiles = vec![resize(picture, whole.0, whole.1, self.filter, None)?];
                let inner = resize(picture, cut.inner.0, cut.inner.1, self.filter, None)?;
                let (left, top) = ((cut.target.0 - cut.inner.0) / 2, (cut.target.1 - cut.inner.1) / 2);
                let framed = paste(&inner, cut.target.0, cut.target.1, (left as i64, top as i64), [0; 3])?;
                let (rows, cols) = cut.layout;
                for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                    tiles.push(self::cut(&framed, Window { x: c * tile, y: r * tile, width: tile, height: tile })?);
                }
                for tile in &tiles {
                    let (tile, _) = self.plain(tile, size, crop, None)?;
                    input.tiles.push(self.tensor(&tile)?);
                }
                (input.layout, input.rects) = (cut.layout, cut.rects);
            }
            Layout::Patches { patch, merge, frames, area } => {
                let unit = patch * merge;
                let (width, height) = match area {
                    Some(area) => qwen_size((picture.width, picture.height), unit, area)?,
                    None => (picture.width, picture.height),
                };
                if width % unit != 0 || height % unit != 0 {
                    return Err(Error::invalid(format!("a picture of {width} x {height} does not divide by {unit}")));
                }
                let x = self.tensor(&resize(picture, width, height, self.filter, None)?)?;
                let (rows, cols) = (height / patch, width / patch);
                let x = x.reshape(&[3, rows / merge, merge, patch, cols / merge, merge, patch][..])?;
                let x = x.permute([1, 4, 2, 5, 0, 3, 6])?.contiguous()?.reshape((rows * cols, 3, patch * patch))?;
                let x =
                    x.unsqueeze(2)?.repeat((1, 1, frames, 1))?.reshape((rows * cols, 3 * frames * patch * patch))?;
                input.tiles.push(x);
                input.rects.push([0.0, 0.0, w, h]);
                input.grid = Some([1, rows, cols]);
            }
            Layout::Listed { patch, most, resizes } => {
                let (width, height) = match resizes {
                    true => listed_size((picture.width, picture.height), patch, most),
                    false => (picture.width, picture.height),
                };
                if width % patch != 0 || height % patch != 0 {
                    return Err(Error::invalid(format!("a picture of {width} x {height} does not divide by {patch}")));
                }
                let x = self.tensor(&resize(picture, width, height, self.filter, None)?)?;
                let (rows, cols) = (height / patch, width / patch);
                let x = x.reshape((3, rows, patch, cols, patch))?.permute([1, 3, 2, 4, 0])?.contiguous()?;
                let x = x.reshape((rows * cols, 3 * patch * patch))?;
                input.tiles.push(x.pad_with_zeros(0, 0, most.saturating_sub(rows * cols))?);
                input.rects.push([0.0, 0.0, w, h]);
                input.grid = Some([0, rows, cols]);
            }
            Layout::Nearest { tile: (tw, th), tiles } => {
                let (cols, rows) =
                    tiles.map_or((1, 1), |n| nearest_tiles((picture.width, picture.height), (tw, th), n));
                if rows * cols > 1 {
                    let large = resize(picture, tw * cols, th * rows, self.filter, None)?;
                    let (sx, sy) = (w / cols as f32, h / rows as f32);
                    for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                        let part = Window { x: c * tw, y: r * th, width: tw, height: th };
                        input.tiles.push(self.tensor(&cut(&large, part)?)?);
                        input.rects.push([c as f32 * sx, r as f32 * sy, sx, sy]);
                    }
                    input.layout = (rows, cols);
                }
                input.tiles.push(self.tensor(&resize(picture, tw, th, self.filter, None)?)?);
                input.rects.push([0.0, 0.0, w, h]);
            }
            Layout::Plain { size, .. } if self.unrounded => {
                let (width, height) =
                    size.map_or((picture.width, picture.height), |s| s.of(picture.width, picture.height));
                let x = resize_unrounded(picture, width, height, self.filter)?;
                input.tiles.push(self.floats(x, width, height)?);
                input.rects.push([0.0, 0.0, w, h]);
            }
            Layout::Plain { size, crop, pad, square } => {
                let (tile, rect) = self.plain(picture, size, crop, square)?;
                let (x, rect) = padded(self.tensor(&tile)?, rect, pad)?;
                input.tiles.push(x);
                input.rects.push(rect);
            }
            Layout::Tiles { first, tile, split } => {
                let (width, height) = match first {
                    None => (picture.width, picture.height),
                    Some(First::Longest(n)) => idefics_size(picture.width, picture.height, n),
                    Some(First::Exact(width, height)) => (width, height),
                };
                let first = resize(picture, width, height, self.filter, None)?;
                if !split {
                    input.tiles.push(self.tensor(&resize(&first, tile, tile, self.filter, None)?)?);
                    input.rects.push([0.0, 0.0, w, h]);
                    return Ok(input);
                }
                let (width, height) = whole_tiles(width, height, tile);
                let large = resize(&first, width, height, self.filter, None)?;
                let (rows, cols) = (height / tile, width / tile);
                if rows * cols > 1 {
                    input.layout = (rows, cols);
                    let (sx, sy) = (w / width as f32, h / height as f32);
                    for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                        let part = Window { x: c * tile, y: r * tile, width: tile, height: tile };
                        input.tiles.push(self.tensor(&cut(&large, part)?)?);
                        let (x, y) = (part.x as f32 * sx, part.y as f32 * sy);
                        input.rects.push([x, y, tile as f32 * sx, tile as f32 * sy]);
                    }
                }
                input.tiles.push(self.tensor(&resize(&large, tile, tile, self.filter, None)?)?);
                input.rects.push([0.0, 0.0, w, h]);
            }
        }
        Ok(input)
    }

    /// Resize and crop of one picture, with the rectangle of the original that remains.
    fn plain(
        &self,
        picture: &Picture,
        size: Option<Size>,
        crop: Option<(usize, usize)>,
        square: Option<[u8; 3]>,
    ) -> Result<(Picture, [f32; 4])> {
        let mut left = (0.0, 0.0);
        let squared;
        let mut p = picture;
        if let Some(colour) = square.filter(|_| p.width != p.height) {
            let side = p.width.max(p.height);
            let (x, y) = ((side - p.width) / 2, (side - p.height) / 2);
            left = (-(x as f32), -(y as f32));
            squared = paste(p, side, side, (x as i64, y as i64), colour)?;
            p = &squared;
        }
        let (width, height) = size.map_or((p.width, p.height), |s| s.of(p.width, p.height));
        let (sx, sy) = (p.width as f32 / width as f32, p.height as f32 / height as f32);
        let rect =
            |x: f32, y: f32, w: usize, h: usize| [left.0 + x * sx, left.1 + y * sy, w as f32 * sx, h as f32 * sy];
        let Some((cw, ch)) = crop else {
            return Ok((resize(p, width, height, self.filter, None)?, rect(0.0, 0.0, width, height)));
        };
        // The middle; where the picture is too small, black surrounds it, with the odd line before it.
        let start = |have: usize, want: usize| (have as i64 - want as i64).div_euclid(2);
        let (x, y) = (start(width, cw), start(height, ch));
        let window =
            Window { x: x.max(0) as usize, y: y.max(0) as usize, width: cw.min(width), height: ch.min(height) };
        let part = resize(p, width, height, self.filter, Some(window))?;
        let part = paste(&part, cw, ch, ((-x).max(0), (-y).max(0)), [0; 3])?;
        Ok((part, rect(x as f32, y as f32, cw, ch)))
    }

    /// `[3, height, width]` of such values of 0..=255, rescaled and normalised.
    fn floats(&self, mut x: Vec<f32>, width: usize, height: usize) -> Result<Tensor> {
        for (c, plane) in x.chunks_mut((width * height).max(1)).enumerate() {
            let by = self.rescale.unwrap_or(1.0);
            let (mean, std) = self.normalise.map_or((0.0, 1.0), |(mean, std)| (mean[c], std[c]));
            plane.iter_mut().for_each(|v| *v = ((f64::from(*v) * by - mean) / std) as f32);
        }
        Ok(Tensor::from_vec(x, (3, height, width), &Device::Cpu)?)
    }

    /// `[3, height, width]`, rescaled and normalised.
    fn tensor(&self, p: &Picture) -> Result<Tensor> {
        let n = p.width * p.height;
        let mut out = vec![0f32; 3 * n];
        for c in 0..3 {
            let table: Vec<f32> = (0..256)
                .map(|v| {
                    let v = f64::from(v) * self.rescale.unwrap_or(1.0);
                    self.normalise.map_or(v, |(mean, std)| (v - mean[c]) / std[c]) as f32
                })
                .collect();
            let pixels = p.rgb[c..].iter().step_by(3);
            out[c * n..(c + 1) * n].iter_mut().zip(pixels).for_each(|(o, v)| *o = table[usize::from(*v)]);
        }
        Ok(Tensor::from_vec(out, (3, p.height, p.width), &Device::Cpu)?)
    }

    /// The prompt with its placeholders written out for these images, one each; added in front if it has none. `None`
    /// for models whose text knows nothing of images.
    ///
    /// Errors: another number of placeholders than of images.
    pub fn expand(&self, prompt: &str, image: &ImageInput) -> Result<Option<Expansion>> {
        self.place.expand(prompt, image, &self.layout)
    }
}

/// `[3, h, w]` with zeros right and below up to `size` (width, height), and the rectangle that it shows then.
fn padded(x: Tensor, rect: [f32; 4], size: Option<(usize, usize)>) -> Result<(Tensor, [f32; 4])> {
    let Some((width, height)) = size else { return Ok((x, rect)) };
    let (h, w) = (x.dim(1)?, x.dim(2)?);
    if w > width || h > height {
        return Err(Error::invalid(format!("pad_size {width} x {height} is smaller than the picture, {w} x {h}")));
    }
    let x = x.pad_with_zeros(1, 0, height - h)?.pad_with_zeros(2, 0, width - w)?;
    let [left, top, wide, high] = rect;
    Ok((x, [left, top, wide * width as f32 / w as f32, high * height as f32 / h as f32]))
}

/// A part of a picture.
fn cut(p: &Picture, w: Window) -> Result<Picture> {
    let rows = (w.y..w.y + w.height).flat_map(|y| &p.rgb[3 * (y * p.width + w.x)..][..3 * w.width]);
    Picture::new(w.width, w.height, rows.copied().collect())
}

/// A picture of `width` x `height` in `fill` with `p` at `(x, y)`.
fn paste(p: &Picture, width: usize, height: usize, (x, y): (i64, i64), fill: [u8; 3]) -> Result<Picture> {
    if (width, height) == (p.width, p.height) {
        return Ok(p.clone());
    }
    let (x, y) = (x as usize, y as usize);
    let mut rgb = fill.repeat(width * height);
    for (r, row) in p.rgb.chunks_exact(3 * p.width).enumerate() {
        rgb[3 * ((y + r) * width + x)..][..3 * p.width].copy_from_slice(row);
    }
    Picture::new(width, height, rgb)
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::parse;
    use super::*;
    use serde_json::json;

    fn ramp(width: usize, height: usize) -> Picture {
        Picture::new(width, height, (0..3 * width * height).map(|i| (i % 251) as u8).collect()).unwrap()
    }

    #[test]
    fn a_crop_names_the_part_of_the_original_that_it_shows() {
        let own = json!({"size": {"shortest_edge": 10}, "crop_size": 10, "image_processor_type": "CLIPImageProcessor"});
        let p = parse("CLIP", own, json!({"model_type": "clip"})).unwrap();
        let x = p.process(&ramp(40, 20)).unwrap();
        assert_eq!(x.tiles[0].dims(), [3, 10, 10]);
        // 40 x 20 becomes 20 x 10, of which columns 5..15 stay: columns 10..30 of the original.
        assert_eq!(x.rects, [[10.0, 0.0, 20.0, 20.0]]);
    }

    #[test]
    fn a_picture_smaller_than_the_crop_is_surrounded() {
        let own = json!({"do_resize": false, "crop_size": 5, "do_normalize": false, "do_rescale": false});
        let p = parse("CLIP", own, json!({"model_type": "clip"})).unwrap();
        let x = p.process(&Picture::new(2, 2, vec![9; 12]).unwrap()).unwrap();
        let rows = x.tiles[0].get(0).unwrap().to_vec2::<f32>().unwrap();
        let sums: Vec<f32> = rows.iter().map(|r| r.iter().sum()).collect();
        assert_eq!(sums, [0.0, 0.0, 18.0, 18.0, 0.0]);
        assert_eq!(x.rects[0], [-2.0, -2.0, 5.0, 5.0]);
    }

    #[test]
    fn a_long_picture_becomes_two_tiles_and_the_whole() {
        let own = json!({"size": {"longest_edge": 8}, "max_image_size": {"longest_edge": 4}});
        let config = json!({"model_type": "smolvlm", "scale_factor": 1, "vision_config": {"patch_size": 2}});
        let p = parse("Idefics3", own, config).unwrap();
        let x = p.process(&ramp(16, 7)).unwrap();
        assert_eq!((x.layout, x.tiles.len()), ((1, 2), 3));
        assert_eq!(x.rects, [[0.0, 0.0, 8.0, 7.0], [8.0, 0.0, 8.0, 7.0], [0.0, 0.0, 16.0, 7.0]]);
        let text = p.expand("a<image>b", &x).unwrap().unwrap().text;
        assert_eq!(text.matches("<image>").count(), 12);
        assert!(text.starts_with("a<fake_token_around_image><row_1_col_1><image>") && text.ends_with("image>b"));
    }

    #[test]
    fn extreme_shapes_are_met() {
        let smol = parse(
            "Idefics3",
            json!({"size": {"longest_edge": 8}, "max_image_size": {"longest_edge": 4}}),
            json!({"model_type": "smolvlm", "vision_config": {"patch_size": 2}}),
        )
        .unwrap();
        let clip = parse("CLIP", json!({}), json!({"model_type": "clip", "image_size": 32})).unwrap();
        for p in [ramp(1, 1), ramp(1, 20_000), ramp(20_000, 1)] {
            assert_eq!(clip.process(&p).unwrap().tiles[0].dims(), [3, 32, 32]);
            assert!(smol.process(&p).unwrap().tiles.iter().all(|t| t.dims() == [3, 4, 4]));
        }
    }
}
