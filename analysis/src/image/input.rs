//! An image as a model reads it.

use super::montage::places;
use crate::array::Array;
use crate::weights::read_bounded;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::path::Path;

/// An image as the processor hands it to the encoder.
#[derive(Debug, Clone)]
pub struct ImageInput {
    /// Pixels per tile, `[3, height, width]`, normalised; or, where there is a `grid`, one list of flattened patches
    /// `[patches, 3 · frames · height · width]`.
    pub tiles: Vec<Tensor>,
    /// Per tile: the rectangle (x, y, w, h) of the original image, in pixels, that the tile shows.
    pub rects: Vec<[f32; 4]>,
    /// Rows and columns of the tile layout without the global tile; (1, 1) for one plain image.
    pub layout: (usize, usize),
    /// Size of the original image, width and height; (0, 0) if only pixel values are known.
    pub original: (u32, u32),
    /// Frames, rows and columns of flattened patches (Qwen2-VL); without frames a list that may go on with padding
    /// (SigLIP 2).
    pub grid: Option<[usize; 3]>,
    /// Where its left upper corner lies on the picture that shows it beside others.
    pub at: [f32; 2],
    /// The pictures behind it in the prompt, which have none behind them.
    pub rest: Vec<ImageInput>,
}

/// Names of what may stand beside pixel values: frames, rows and columns of each picture's list of patches; heights and
/// widths of the originals; tiles of each picture; rows and columns of a list that is filled up, and which of its patches
/// are the picture's.
pub const BESIDE: [&str; 5] =
    ["image_grid_thw", "image_sizes", "image_tiles", "spatial_shapes", "pixel_attention_mask"];

/// What stands beside pixel values, by name.
pub type Beside = Vec<(&'static str, Vec<i64>)>;

/// The largest file of pixel values that is read, in bytes.
const MAX_PIXEL_BYTES: u64 = 1 << 30;

impl ImageInput {
    /// This one and those behind it, in the order of the prompt.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.rest)
    }

    /// Width and height of what shows all of them; `None` if only pixel values are known.
    pub fn extent(&self) -> Option<(u32, u32)> {
        let known = self.all().all(|i| i.original != (0, 0));
        let (w, h) = self
            .all()
            .fold((0, 0), |(w, h), i| (w.max(i.at[0] as u32 + i.original.0), h.max(i.at[1] as u32 + i.original.1)));
        known.then_some((w, h))
    }

    /// An image that was processed elsewhere: the f32 tensor `pixel_values` of a safetensors file,
    /// `[channels, height, width]` or `[tiles, channels, height, width]`, or `[patches, values]` with `image_grid_thw`
    /// or `spatial_shapes` beside it. Rectangles are in its own pixels, or in those of the original where `image_sizes`
    /// (height and width) stands there. Of several pictures `image_grid_thw` has a row each, or `image_tiles` says how many
    /// tiles each has.
    pub fn from_pixel_values(path: &Path) -> Result<Self> {
        let bad = |what: String| Error::file(path, what, "give a safetensors file with f32 pixel_values");
        let bytes = read_bounded(path, MAX_PIXEL_BYTES)?;
        let file =
            safetensors::SafeTensors::deserialize(&bytes).map_err(|e| bad(format!("damaged safetensors: {e}")))?;
        let t = file.tensor("pixel_values").map_err(|_| bad("the file has no pixel_values".into()))?;
        let shape = t.shape().to_vec();
        if t.dtype() != safetensors::Dtype::F32 || !matches!(shape.len(), 2..=4) || shape.contains(&0) {
            return Err(bad(format!("pixel_values is {:?} {shape:?}", t.dtype())));
        }
        let x = Tensor::from_raw_buffer(t.data(), candle_core::DType::F32, &shape, &Device::Cpu)?;
        let whole = |name: &str| -> Result<Option<Vec<f32>>> {
            let Ok(t) = file.tensor(name) else { return Ok(None) };
            let values = match t.dtype() {
                safetensors::Dtype::I64 => {
                    t.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect()
                }
                safetensors::Dtype::I32 => {
                    t.data().as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect()
                }
                safetensors::Dtype::U8 | safetensors::Dtype::BOOL => t.data().iter().map(|&b| f32::from(b)).collect(),
                other => return Err(bad(format!("{name} is {other:?}, not I64"))),
            };
            Ok(Some(values))
        };
        let mut beside = std::collections::BTreeMap::new();
        // Other models have masks of pixels, which say what their tiles say.
        let listed = file.tensor("spatial_shapes").is_ok();
        for name in BESIDE.into_iter().filter(|name| listed || *name != "pixel_attention_mask") {
            beside.extend(whole(name)?.map(|values| (name, values)));
        }
        Self::of(x, &|name| beside.get(name).map(Vec::as_slice)).map_err(|e| bad(e.to_string()))
    }

    /// As [`ImageInput::from_pixel_values`], of arrays that are in memory: `pixels`, and what stands beside them by its
    /// name, one of [`BESIDE`], where it is known.
    pub fn of_arrays<'a>(pixels: &Array, beside: impl Fn(&str) -> Option<&'a [f32]>) -> Result<Self> {
        let shape = pixels.shape();
        if !matches!(shape.len(), 2..=4) || shape.contains(&0) {
            return Err(Error::invalid(format!("pixel_values is {shape:?}")));
        }
        Self::of(Tensor::from_slice(pixels.data(), shape.to_vec(), &Device::Cpu)?, &beside)
    }

    /// What [`ImageInput::of_arrays`] reads: pixels `[tiles, channels, height, width]`, or `[patches, values]` with a
    /// `grid`, and what stands beside them by name: `image_grid_thw`, or `spatial_shapes` of a list without frames,
    /// `image_sizes` where the sizes of the originals are known, and `image_tiles` of several pictures. `None` where tiles
    /// are of several sizes, which no array holds.
    pub fn to_arrays(&self) -> Result<Option<(Array, Beside)>> {
        let tiles: Vec<&Tensor> = self.all().flat_map(|i| &i.tiles).collect();
        let Some(first) = tiles.first() else { return Ok(None) };
        let mut beside = Vec::new();
        let grids: Vec<i64> = self.all().filter_map(|i| i.grid).flatten().map(|n| n as i64).collect();
        let pixels = if grids.is_empty() {
            if tiles.iter().any(|t| t.dims() != first.dims()) {
                return Ok(None);
            }
            if !self.rest.is_empty() {
                beside.push(("image_tiles", self.all().map(|i| i.tiles.len() as i64).collect()));
            }
            Tensor::stack(&tiles, 0)?
        } else {
            if self.all().any(|i| i.grid.is_some_and(|g| g[0] == 0)) {
                let shapes = self.all().filter_map(|i| i.grid).flat_map(|[_, rows, cols]| [rows as i64, cols as i64]);
                beside.push(("spatial_shapes", shapes.collect()));
            } else {
                beside.push(("image_grid_thw", grids));
            }
            Tensor::cat(&tiles, 0)?
        };
        if self.all().all(|i| i.original != (0, 0)) {
            let sizes = self.all().flat_map(|i| [i64::from(i.original.1), i64::from(i.original.0)]);
            beside.push(("image_sizes", sizes.collect()));
        }
        Ok(Some((Array::from_tensor(&pixels)?, beside)))
    }

    /// Pixels, and what stands beside them.
    fn of<'a>(x: Tensor, beside: &dyn Fn(&str) -> Option<&'a [f32]>) -> Result<Self> {
        let whole = |name: &str, n: usize| -> Result<Option<Vec<usize>>> {
            let Some(all) = beside(name) else { return Ok(None) };
            let fits = !all.is_empty() && all.len().is_multiple_of(n);
            let fits = fits && all.iter().all(|v| v.fract() == 0.0 && (0.0..16_777_216.0).contains(v));
            let what = || Error::invalid(format!("{name} is not {n} whole numbers for each picture"));
            fits.then(|| Some(all.iter().map(|&v| v as usize).collect())).ok_or_else(what)
        };
        let (sizes, tiles) = (whole("image_sizes", 2)?, whole("image_tiles", 1)?);
        let shapes = whole("spatial_shapes", 2)?;
        let mask = if shapes.is_some() { whole("pixel_attention_mask", 1)? } else { None };
        // A batch of lists is as long as all of them.
        let x = if shapes.is_some() && x.rank() == 3 { x.flatten(0, 1)? } else { x };
        let shape = x.dims().to_vec();
        let one = |tiles: Vec<Tensor>, rects, grid| Self {
            tiles,
            rects,
            layout: (1, 1),
            original: (0, 0),
            grid,
            at: [0.0; 2],
            rest: Vec::new(),
        };
        let mut all = Vec::new();
        if let (2, Some(shapes)) = (shape.len(), &shapes) {
            let (shapes, _) = shapes.as_chunks::<2>();
            let each = shape[0] / shapes.len();
            let fits = each * shapes.len() == shape[0] && mask.as_ref().is_none_or(|m| m.len() == shape[0]);
            for (i, &[rows, cols]) in shapes.iter().enumerate() {
                let own = rows.checked_mul(cols).filter(|n| fits && (1..=each).contains(n));
                let own = own.ok_or_else(|| {
                    Error::invalid(format!("spatial_shapes {rows} x {cols} do not fit a list of {each} patches"))
                })?;
                if mask
                    .as_ref()
                    .is_some_and(|m| !m[i * each..][..each].iter().enumerate().all(|(j, &v)| (v != 0) == (j < own)))
                {
                    return Err(Error::invalid(
                        "pixel_attention_mask marks other patches than those of spatial_shapes",
                    ));
                }
                all.push(one(vec![x.narrow(0, i * each, each)?], Vec::new(), Some([0, rows, cols])));
            }
        } else if shape.len() == 2 {
            let Some(grid) = whole("image_grid_thw", 3)? else {
                let what = "pixel_values are flattened patches, and neither image_grid_thw nor spatial_shapes stands beside \
                            them";
                return Err(Error::invalid(what));
            };
            let (grids, _) = grid.as_chunks::<3>();
            // Numbers of a file: their product may be more than can be counted.
            let count = |g: &[usize; 3]| g.iter().try_fold(1_usize, |n, &v| n.checked_mul(v));
            let counts = grids.iter().map(count).collect::<Option<Vec<usize>>>().unwrap_or_default();
            if counts.iter().try_fold(0_usize, |n, &v| n.checked_add(v)) != Some(shape[0]) {
                return Err(Error::invalid(format!("image_grid_thw {grid:?} does not count {} patches", shape[0])));
            }
            let mut first = 0;
            for (g, n) in grids.iter().zip(counts) {
                all.push(one(vec![x.narrow(0, first, n)?], Vec::new(), Some(*g)));
                first += n;
            }
        } else {
            let every =
                if shape.len() == 3 { vec![x] } else { (0..shape[0]).map(|i| x.get(i)).collect::<Result<_, _>>()? };
            let (h, w) = (shape[shape.len() - 2], shape[shape.len() - 1]);
            let counts = tiles.unwrap_or_else(|| vec![every.len()]);
            if counts.iter().sum::<usize>() != every.len() || counts.contains(&0) {
                return Err(Error::invalid(format!("image_tiles {counts:?} do not count {} tiles", every.len())));
            }
            let mut every = every.into_iter();
            for n in counts {
                let rects = vec![[0.0, 0.0, w as f32, h as f32]; n];
                all.push(one(every.by_ref().take(n).collect(), rects, None));
            }
        }
        if let Some(sizes) = sizes {
            if sizes.len() != 2 * all.len() {
                let e = format!("image_sizes of {} pictures, and pixel values of {}", sizes.len() / 2, all.len());
                return Err(Error::invalid(e));
            }
            // They lie where they do on the canvas that shows all of them.
            let sizes: Vec<_> = sizes.chunks(2).map(|size| (size[1], size[0])).collect();
            for ((image, size), at) in all.iter_mut().zip(&sizes).zip(places(&sizes)) {
                (image.original, image.at) = ((size.0 as u32, size.1 as u32), [at.0 as f32, at.1 as f32]);
            }
        }
        Self::joined(all)
    }

    /// The first of several, with the others behind it. Errors: there are none.
    pub fn joined(all: Vec<Self>) -> Result<Self> {
        let mut all = all.into_iter();
        let first = all.next().ok_or_else(|| Error::invalid("there is no picture"))?;
        Ok(Self { rest: all.collect(), ..first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(tiles: usize, size: (u32, u32), grid: Option<[usize; 3]>) -> ImageInput {
        let x = |n: usize| match grid {
            Some(g) => Tensor::full(n as f32, (g.iter().product::<usize>(), 2), &Device::Cpu).unwrap(),
            None => Tensor::full(n as f32, (3, 2, 2), &Device::Cpu).unwrap(),
        };
        let tiles = (0..tiles).map(x).collect();
        ImageInput { tiles, rects: vec![], layout: (1, 1), original: size, grid, at: [0.0; 2], rest: vec![] }
    }

    /// The input of what [`ImageInput::to_arrays`] gives.
    fn again(pixels: &Array, beside: &Beside) -> Result<ImageInput> {
        let float = |b: &(&'static str, Vec<i64>)| (b.0, b.1.iter().map(|&v| v as f32).collect::<Vec<_>>());
        let beside: Vec<_> = beside.iter().map(float).collect();
        ImageInput::of_arrays(pixels, |name| beside.iter().find(|b| b.0 == name).map(|b| &b.1[..]))
    }

    #[test]
    fn a_list_that_is_filled_up_comes_back_with_its_grid() {
        // 2 x 2 patches of a list of 6.
        let list = ImageInput {
            tiles: vec![Tensor::zeros((6, 2), candle_core::DType::F32, &Device::Cpu).unwrap()],
            ..input(0, (8, 9), Some([0, 2, 2]))
        };
        let (pixels, mut beside) = list.to_arrays().unwrap().unwrap();
        assert_eq!(beside[0], ("spatial_shapes", vec![2, 2]));
        let back = again(&pixels, &beside).unwrap();
        assert_eq!((back.grid, back.tiles[0].dims(), back.original), (Some([0, 2, 2]), &[6, 2][..], (8, 9)));
        beside.push(("pixel_attention_mask", vec![1, 1, 1, 1, 0, 0]));
        assert!(again(&pixels, &beside).is_ok());
        for (at, other) in [(0, vec![2, 4]), (0, vec![0, 2]), (0, vec![2]), (2, vec![1; 6]), (2, vec![1; 5])] {
            let mut wrong = beside.clone();
            wrong[at].1 = other;
            assert!(again(&pixels, &wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn several_pictures_come_back_from_their_arrays() {
        for (grid, counts) in [(None, [3, 1]), (Some([1, 2, 4]), [1, 1])] {
            let second = input(counts[1], (5, 6), grid.map(|_| [1, 2, 2]));
            let all = ImageInput { rest: vec![second], ..input(counts[0], (7, 8), grid) };
            let (pixels, beside) = all.to_arrays().unwrap().unwrap();
            let back = again(&pixels, &beside).unwrap();
            let shape = |i: &ImageInput| (i.tiles.len(), i.tiles[0].dims().to_vec(), i.original, i.grid);
            assert!(back.all().map(shape).eq(all.all().map(shape)));
            // 7 x 8 and 5 x 6 below each other would be 15 high, beside each other 13 wide.
            assert_eq!((back.rest[0].at, back.extent()), ([8.0, 0.0], Some((13, 8))));
        }
        // Tiles that fit no array, and counts that do not add up.
        let odd = ImageInput {
            tiles: vec![Tensor::zeros((3, 1, 1), candle_core::DType::F32, &Device::Cpu).unwrap()],
            ..input(0, (1, 1), None)
        };
        assert!(ImageInput { rest: vec![odd], ..input(1, (1, 1), None) }.to_arrays().unwrap().is_none());
        let pixels = Array::zeros([4, 3, 2, 2]);
        for tiles in [[3.0, 2.0], [4.0, 0.0]] {
            assert!(ImageInput::of_arrays(&pixels, |n| (n == "image_tiles").then_some(&tiles[..])).is_err());
        }
        // A product that wraps to nothing, with a second picture that counts all patches.
        let huge = [4_194_304.0, 4_194_304.0, 1_048_576.0, 1.0, 2.0, 2.0];
        let four = Array::zeros([4, 2]);
        let why =
            ImageInput::of_arrays(&four, |n| (n == "image_grid_thw").then_some(&huge[..])).unwrap_err().to_string();
        assert!(why.contains("does not count 4 patches"), "{why}");
    }
}
