//! From pixels to patch rows: patch embedding, and position tables fitted to the grid of the input.

use super::TowerRun;
use super::blocks::Scope;
use super::vlm::Features;
use crate::token::{Grid, Source};
use crate::trace::Rows;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// Cuts an image into rectangles of one size and projects each; a convolution whose stride is its size.
pub(super) struct PatchEmbed {
    /// `[channels · height · width, d]`.
    weight: Tensor,
    bias: Option<Tensor>,
    channels: usize,
    /// Height and width of a patch in pixels.
    pub sides: (usize, usize),
}

impl PatchEmbed {
    /// Reads `weight` `[d, side · side · channels]` and `bias` of patches that come as lists of their values.
    pub fn load_listed(s: &Scope, channels: usize, side: usize, d: usize) -> Result<Self> {
        let weight = s.get("weight", &[d, side * side * channels])?.t()?.contiguous()?;
        Ok(Self { weight, bias: Some(s.get("bias", &[d])?), channels, sides: (side, side) })
    }

    /// Patches `[n, values]` that come as lists → `[n, d]`.
    pub fn apply_listed(&self, patches: &Tensor) -> Result<Tensor> {
        let values = self.weight.dim(0)?;
        if patches.rank() != 2 || patches.dim(1)? != values {
            return Err(Error::shape("pixel_values", format!("[patches, {values}]"), patches.dims()));
        }
        let x = patches.to_device(self.weight.device())?.matmul(&self.weight)?;
        Ok(self.bias.as_ref().map_or(Ok(x.clone()), |b| x.broadcast_add(b))?)
    }

    /// Reads `weight` `[d, channels, height, width]` and, where the checkpoint has one, `bias`.
    pub fn load(s: &Scope, channels: usize, sides: (usize, usize), d: usize) -> Result<Self> {
        let weight = s.get("weight", &[d, channels, sides.0, sides.1])?;
        let weight = weight.reshape((d, channels * sides.0 * sides.1))?.t()?.contiguous()?;
        let bias = s.has("bias").then(|| s.get("bias", &[d])).transpose()?;
        Ok(Self { weight, bias, channels, sides })
    }

    /// `[channels, height, width]` → patches `[rows · cols, d]`, rows and columns of the grid. Pixels beyond the
    /// last whole patch are left out, as a convolution does.
    pub fn apply(&self, pixels: &Tensor) -> Result<(Tensor, usize, usize)> {
        let ((ph, pw), dims) = (self.sides, pixels.dims().to_vec());
        let [c, h, w] = dims[..] else {
            return Err(Error::shape("image", format!("[{}, height, width]", self.channels), &dims));
        };
        if c != self.channels || h < ph || w < pw {
            return Err(Error::shape("image", format!("[{}, at least {ph}, at least {pw}]", self.channels), &dims));
        }
        let (rows, cols) = (h / ph, w / pw);
        let x = pixels.narrow(1, 0, rows * ph)?.narrow(2, 0, cols * pw)?.contiguous()?;
        let x = x.reshape((c, rows, ph, cols, pw))?.permute([1, 3, 0, 2, 4])?.contiguous()?;
        let x = x.reshape((rows * cols, c * ph * pw))?.to_device(self.weight.device())?.matmul(&self.weight)?;
        let x = match &self.bias {
            Some(b) => x.broadcast_add(b)?,
            None => x,
        };
        Ok((x, rows, cols))
    }
}

/// Squares of `factor` x `factor` patches side by side: rows of a tile whose first patch is token `first` →
/// `[tokens, factor² · d]`; names and rectangles are added to `out`. Merged patches share their row, dropped ones are
/// zero.
///
/// Errors: a grid that does not divide.
pub(super) fn shuffle(
    (x, rows): (&Tensor, &Rows),
    first: usize,
    (n_rows, n_cols): (usize, usize),
    factor: usize,
    run: &TowerRun,
    (tile, out): (usize, &mut Features),
) -> Result<Tensor> {
    let f = factor;
    if n_rows % f != 0 || n_cols % f != 0 {
        return Err(Error::invalid(format!("a tile of {n_rows} x {n_cols} patches does not divide by {f}")));
    }
    let d = x.dim(1)?;
    let zero = Tensor::zeros((1, d), x.dtype(), x.device())?;
    let ids: Vec<u32> = (first..first + n_rows * n_cols).map(|k| rows.row_of(k).unwrap_or(rows.len()) as u32).collect();
    let x = Tensor::cat(&[x, &zero], 0)?.index_select(&Tensor::new(ids, x.device())?, 0)?;
    let (r, c) = (n_rows / f, n_cols / f);
    let x = x.reshape((r, f, c, f, d))?.permute([0, 2, 1, 3, 4])?.contiguous()?;
    out.grids.push(Grid { rows: r, cols: c, first: out.tokens.len(), tile, gap: 0 });
    for (i, j) in (0..r).flat_map(|i| (0..c).map(move |j| (i, j))) {
        out.of.push(vec![out.tokens.len()]);
        let source = match run.tokens[first + i * f * n_cols + j * f].source {
            Source::Rect { x, y, w, h } => Source::Rect { x, y, w: w * f as f32, h: h * f as f32 },
            other => other,
        };
        out.tokens.push((format!("tile {tile} {i},{j}"), source));
    }
    Ok(x.reshape((r * c, f * f * d))?)
}

/// How a position table meets a grid of another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Bicubic interpolation, as PyTorch with `align_corners=False`, with or without antialiasing.
    Bicubic {
        /// Widens the kernel when the grid shrinks.
        antialias: bool,
    },
    /// Bilinear interpolation as PyTorch with antialiasing: a tent that widens when the grid shrinks (SigLIP 2).
    Tent,
    /// Nearest entry below the patch's share of the image (Idefics3, SmolVLM).
    Buckets,
    /// There is no table: attention knows where patches are (DINOv3).
    Unused,
}

/// Positions `[rows · cols, d]` for a grid from a table of `from` rows and columns, `[from.0 · from.1, d]`.
pub(super) fn fit_positions(
    table: &Tensor,
    from: (usize, usize),
    (rows, cols): (usize, usize),
    fit: Fit,
) -> Result<Tensor> {
    let d = table.dim(1)?;
    if (rows, cols) == from {
        return Ok(table.clone());
    }
    match fit {
        Fit::Unused => Ok(Tensor::zeros((rows * cols, d), table.dtype(), table.device())?),
        Fit::Buckets => {
            let (r, c) = (buckets(from.0, rows), buckets(from.1, cols));
            let ids: Vec<u32> = r.iter().flat_map(|r| c.iter().map(move |c| (r * from.1 + c) as u32)).collect();
            Ok(table.index_select(&Tensor::new(ids, table.device())?, 0)?)
        }
        Fit::Bicubic { .. } | Fit::Tent => {
            let axis = |from: usize, to: usize| match fit {
                Fit::Bicubic { antialias } => cubic(from, to, antialias, table.device()),
                _ => tent(from, to, table.device()),
            };
            let (down, across) = (axis(from.0, rows)?, axis(from.1, cols)?);
            let x = down.matmul(&table.reshape((from.0, from.1 * d))?)?.reshape((rows, from.1, d))?;
            Ok(across.broadcast_matmul(&x)?.reshape((rows * cols, d))?)
        }
    }
}

/// Entry of each of `n` patches in an axis of `side` positions; f32 steps, since rounding decides at the edges.
fn buckets(side: usize, n: usize) -> Vec<usize> {
    let edges: Vec<f32> = (1..side).map(|k| (k as f64 / side as f64) as f32).collect();
    let step = 1.0 / n as f32;
    (0..n)
        .map(|i| {
            let at = (i as f32 * step).min(1.0 - 1e-6);
            edges.iter().filter(|&&e| e <= at).count()
        })
        .collect()
}

/// Weights `[to, from]` of a tent along one axis, each row of which sums to 1.
fn tent(from: usize, to: usize, device: &Device) -> Result<Tensor> {
    let scale = from as f64 / to as f64;
    let mut w = vec![0f32; to * from];
    for (i, row) in w.chunks_mut(from).enumerate() {
        let center = (i as f64 + 0.5) * scale - 0.5;
        let weight = |j: usize| (1.0 - (j as f64 - center).abs() / scale.max(1.0)).max(0.0);
        let sum: f64 = (0..from).map(weight).sum();
        row.iter_mut().enumerate().for_each(|(j, w)| *w = (weight(j) / sum) as f32);
    }
    Ok(Tensor::from_vec(w, (to, from), device)?)
}

/// Keys' cubic convolution kernel (1981) with free parameter `a`.
fn kernel(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// Interpolation weights `[to, from]` along one axis.
fn cubic(from: usize, to: usize, antialias: bool, device: &Device) -> Result<Tensor> {
    let scale = from as f64 / to as f64;
    let mut w = vec![0f32; to * from];
    for (i, row) in w.chunks_mut(from).enumerate() {
        let center = scale * (i as f64 + 0.5);
        if antialias {
            // PyTorch's antialiased kernel is Pillow's: a = -0.5, stretched when shrinking, cut and rescaled at edges.
            let stretch = scale.max(1.0);
            let first = ((center - 2.0 * stretch + 0.5).max(0.0)) as usize;
            let end = ((center + 2.0 * stretch + 0.5) as usize).min(from);
            let taps: Vec<f64> = (first..end).map(|j| kernel((j as f64 - center + 0.5) / stretch, -0.5)).collect();
            let sum: f64 = taps.iter().sum();
            for (o, t) in row[first..end].iter_mut().zip(&taps) {
                *o = (t / sum) as f32;
            }
        } else {
            let at = center - 0.5;
            let base = at.floor();
            for k in -1..=2 {
                let j = (base as i64 + k).clamp(0, from as i64 - 1) as usize;
                row[j] += kernel(at - base - k as f64, -0.75) as f32;
            }
        }
    }
    Ok(Tensor::from_vec(w, (to, from), device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_the_same_size_is_left_alone_by_every_fit() {
        for antialias in [false, true] {
            let w = cubic(3, 3, antialias, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(w, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
        }
        assert_eq!(buckets(4, 4), [0, 1, 2, 3]);
    }

    #[test]
    fn halving_by_hand() {
        // Without antialias, 2 → 1 samples at 0.5: taps at distances 1.5, 0.5, 0.5, 1.5 clamp to a half each.
        let w = cubic(2, 1, false, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(w, [[0.5, 0.5]]);
        // A tent of half width 4 / 3 around 1/6 of three: 1 - 1/8, 1 - 5/8 and nothing, over 10/8.
        let w = tent(4, 3, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
        assert!((w[0][0] - 0.7).abs() < 1e-6 && (w[0][1] - 0.3).abs() < 1e-6 && w[0][2] == 0.0, "{w:?}");
        // Of two made of one, each has it all; of four made of two, the edge stays and the next has three quarters.
        assert_eq!(tent(1, 2, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap(), [[1.0], [1.0]]);
        assert_eq!(tent(2, 4, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap()[..2], [[1.0, 0.0], [0.75, 0.25]]);
        assert_eq!(buckets(4, 2), [0, 2]);
    }

    #[test]
    fn patches_are_read_row_by_row() {
        // One channel, 2 x 4 pixels, patches of 2 x 2, and a weight that takes the top right pixel.
        let patch = PatchEmbed {
            weight: Tensor::new(&[[0f32], [1.0], [0.0], [0.0]], &Device::Cpu).unwrap(),
            bias: None,
            channels: 1,
            sides: (2, 2),
        };
        let x = Tensor::new(&[[[1f32, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]], &Device::Cpu).unwrap();
        let (y, rows, cols) = patch.apply(&x).unwrap();
        assert_eq!((rows, cols), (1, 2));
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[2.0], [4.0]]);
    }
}
