//! An image as a model reads it.

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
    /// Frames, rows and columns of flattened patches (Qwen2-VL).
    pub grid: Option<[usize; 3]>,
}

/// The largest file of pixel values that is read, in bytes.
const MAX_PIXEL_BYTES: u64 = 1 << 30;

impl ImageInput {
    /// An image that was processed elsewhere: the f32 tensor `pixel_values` of a safetensors file,
    /// `[channels, height, width]` or `[tiles, channels, height, width]`, or `[patches, values]` with `image_grid_thw`
    /// beside it. Rectangles are in its own pixels, or in those of the original where `image_sizes` (height and width)
    /// stands there.
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
            if t.dtype() != safetensors::Dtype::I64 {
                return Err(bad(format!("{name} is {:?}, not I64", t.dtype())));
            }
            Ok(Some(t.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect()))
        };
        let (grid, sizes) = (whole("image_grid_thw")?, whole("image_sizes")?);
        Self::of(x, grid.as_deref(), sizes.as_deref()).map_err(|e| bad(e.to_string()))
    }

    /// As [`ImageInput::from_pixel_values`], of arrays that are in memory: `pixels`, and the values of `image_grid_thw`
    /// and `image_sizes` where they are known.
    pub fn of_arrays(pixels: &Array, grid: Option<&[f32]>, sizes: Option<&[f32]>) -> Result<Self> {
        let shape = pixels.shape();
        if !matches!(shape.len(), 2..=4) || shape.contains(&0) {
            return Err(Error::invalid(format!("pixel_values is {shape:?}")));
        }
        Self::of(Tensor::from_slice(pixels.data(), shape.to_vec(), &Device::Cpu)?, grid, sizes)
    }

    /// What [`ImageInput::of_arrays`] reads: pixels `[tiles, channels, height, width]`, or `[patches, values]` with a
    /// `grid`, and under the names of `transformers` what stands beside them: `image_grid_thw`, and `image_sizes` where
    /// the size of the original is known.
    ///
    /// Errors: tiles of several sizes.
    pub fn to_arrays(&self) -> Result<(Array, Vec<(&'static str, Vec<i64>)>)> {
        let pixels = match (&self.grid, self.tiles.as_slice()) {
            (Some(_), [patches]) => patches.clone(),
            _ => Tensor::stack(&self.tiles, 0)?,
        };
        let mut beside = Vec::new();
        if let Some(grid) = self.grid {
            beside.push(("image_grid_thw", grid.map(|n| n as i64).to_vec()));
        }
        let (width, height) = self.original;
        if self.original != (0, 0) {
            beside.push(("image_sizes", vec![i64::from(height), i64::from(width)]));
        }
        Ok((Array::from_tensor(&pixels)?, beside))
    }

    fn of(x: Tensor, grid: Option<&[f32]>, sizes: Option<&[f32]>) -> Result<Self> {
        let shape = x.dims().to_vec();
        let whole = |name: &str, all: Option<&[f32]>, n: usize| -> Result<Option<Vec<usize>>> {
            let Some(all) = all else { return Ok(None) };
            let fits = all.len() == n && all.iter().all(|v| v.fract() == 0.0 && (0.0..16_777_216.0).contains(v));
            let what = || Error::invalid(format!("{name} is not {n} whole numbers of one picture"));
            fits.then(|| Some(all.iter().map(|&v| v as usize).collect())).ok_or_else(what)
        };
        let original = whole("image_sizes", sizes, 2)?.map_or((0, 0), |s| (s[1] as u32, s[0] as u32));
        if shape.len() == 2 {
            let Some(grid) = whole("image_grid_thw", grid, 3)? else {
                let what = "pixel_values are flattened patches and no image_grid_thw stands beside them";
                return Err(Error::invalid(what));
            };
            if grid.iter().product::<usize>() != shape[0] {
                return Err(Error::invalid(format!("image_grid_thw {grid:?} does not count {} patches", shape[0])));
            }
            let grid = Some([grid[0], grid[1], grid[2]]);
            return Ok(Self { tiles: vec![x], rects: Vec::new(), layout: (1, 1), original, grid });
        }
        let tiles =
            if shape.len() == 3 { vec![x] } else { (0..shape[0]).map(|i| x.get(i)).collect::<Result<_, _>>()? };
        let (h, w) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let rects = vec![[0.0, 0.0, w as f32, h as f32]; tiles.len()];
        Ok(Self { tiles, rects, layout: (1, 1), original, grid: None })
    }
}
