//! Patches as coefficients: a cosine transform in three opponent colours, orthonormal, so that distances stay.

use super::Grid;
use crate::Result;
use crate::ctx::Ctx;
use crate::image::Picture;
use rayon::prelude::*;
use std::f64::consts::PI;

/// Patches that a thread takes at a time.
const TASK: usize = 64;

/// Luminance, red against blue, green against both: orthonormal in red, green, blue.
fn opponents() -> [[f64; 3]; 3] {
    let (a, b, c) = (1.0 / 3f64.sqrt(), 1.0 / 2f64.sqrt(), 1.0 / 6f64.sqrt());
    [[a, a, a], [b, 0.0, -b], [c, -2.0 * c, c]]
}

/// The first functions of the transform of a patch: by frequency (the sum of both), then luminance before the two
/// colours, then horizontal before vertical.
pub(super) struct Transform {
    /// Per function its weight for every value of a patch, in the order of the pixels, red, green, blue.
    functions: Vec<Vec<f64>>,
    width: usize,
    height: usize,
}

impl Transform {
    /// The first `n` functions for patches of this size; fewer where a patch has fewer values.
    pub fn new(width: usize, height: usize, n: usize) -> Self {
        let mut order: Vec<(usize, usize, usize, usize)> = Vec::new();
        // No function of the first n has a frequency of n or more.
        for v in 0..height.min(n) {
            for u in 0..width.min(n) {
                order.extend((0..3).map(|colour| (u + v, colour, v, u)));
            }
        }
        order.sort_unstable();
        order.truncate(n);
        let wave = |frequency: usize, at: usize, length: usize| {
            let scale = if frequency == 0 { 1.0 } else { 2.0 } / length as f64;
            scale.sqrt() * (PI * (2 * at + 1) as f64 * frequency as f64 / (2 * length) as f64).cos()
        };
        let function = |(_, colour, v, u): (usize, usize, usize, usize)| {
            let mixed = opponents()[colour];
            let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
            pixels.flat_map(|(x, y)| mixed.map(|m| m * wave(u, x, width) * wave(v, y, height))).collect()
        };
        Self { functions: order.into_iter().map(function).collect(), width, height }
    }

    /// Number of functions.
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Coefficients of patch `i` of a grid of such patches.
    pub fn forward(&self, picture: &Picture, grid: &Grid, i: usize) -> Vec<f64> {
        let r = grid.rect(i);
        let row = |y: usize| {
            let start = 3 * ((r.y as usize + y) * picture.width + r.x as usize);
            &picture.rgb[start..start + 3 * self.width]
        };
        let mut out = vec![0.0; self.len()];
        for y in 0..self.height {
            let values = row(y);
            for (sum, f) in out.iter_mut().zip(&self.functions) {
                let weights = &f[3 * y * self.width..3 * (y + 1) * self.width];
                *sum += weights.iter().zip(values).map(|(w, v)| w * f64::from(*v)).sum::<f64>();
            }
        }
        out
    }

    /// [`Transform::forward`] of every patch. Errors: cancelled.
    pub fn forward_all(&self, picture: &Picture, grid: &Grid, ctx: &Ctx) -> Result<Vec<Vec<f64>>> {
        let one = |i: usize| ctx.check().map(|()| self.forward(picture, grid, i));
        (0..grid.len()).into_par_iter().with_min_len(TASK).map(one).collect()
    }

    /// [`Transform::backward`] of patches whose coefficients stand one after the other. Errors: cancelled.
    pub fn backward_all(&self, coefficients: &[f64], ctx: &Ctx) -> Result<Vec<Vec<u8>>> {
        let one = |c: &[f64]| ctx.check().map(|()| self.backward(c));
        coefficients.par_chunks(self.len().max(1)).with_min_len(TASK).map(one).collect()
    }

    /// Values of a patch from its coefficients, row by row, red, green, blue, rounded into 0..=255.
    pub fn backward(&self, coefficients: &[f64]) -> Vec<u8> {
        let mut out = vec![0.0; 3 * self.width * self.height];
        for (c, f) in coefficients.iter().zip(&self.functions) {
            out.iter_mut().zip(f).for_each(|(sum, w)| *sum += c * w);
        }
        // A cast holds to 0..=255.
        out.into_iter().map(|v: f64| v.round() as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::image::Rest;

    #[test]
    fn the_functions_are_orthonormal_and_all_of_them_give_the_patch_back() {
        let t = Transform::new(3, 2, 100);
        assert_eq!(t.len(), 18);
        for (i, a) in t.functions.iter().enumerate() {
            for (j, b) in t.functions.iter().enumerate() {
                let dot: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
                assert!((dot - if i == j { 1.0 } else { 0.0 }).abs() < 1e-12, "{i} {j}: {dot}");
            }
        }
        let picture = Picture::new(3, 2, (0..18).map(|i| (i * 37 % 251) as u8).collect()).unwrap();
        let grid = Grid::new(&picture, 3, 2, Rest::LeftOut);
        assert_eq!(t.backward(&t.forward(&picture, &grid, 0)), picture.rgb);
    }

    #[test]
    fn the_first_function_is_the_mean_in_luminance() {
        let t = Transform::new(2, 2, 5);
        let picture = Picture::new(2, 2, [[10, 20, 30]; 4].concat()).unwrap();
        let grid = Grid::new(&picture, 2, 2, Rest::LeftOut);
        let c = t.forward(&picture, &grid, 0);
        // 60 / √3 of each pixel, times 2 for the patch; no change within the patch.
        assert!((c[0] - 2.0 * 60.0 / 3f64.sqrt()).abs() < 1e-9 && c[3].abs() < 1e-9 && c[4].abs() < 1e-9);
        assert!((c[1] - 2.0 * -20.0 / 2f64.sqrt()).abs() < 1e-9 && c[2].abs() < 1e-9);
    }
}
