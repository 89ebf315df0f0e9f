//! The discrete cosine transform of grids (DCT-II), and what is left of a grid when high frequencies are cut off: a map
//! over rows and one over columns, one axis after the other.

use super::{Pass, Sample, samples};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, Layout, Record, Side, gpu_struct, grid, pieces};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::f64::consts::PI;

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Length of the axis before.
        n: u32,
        /// Length of the axis behind.
        k: u32,
        /// Values that lie together behind the axis.
        inner: u32,
        /// Pieces in front of the axis.
        outer: u32,
        /// Number of the first workgroup.
        first_group: u32,
    }
}

const KERNEL: Kernel = Kernel {
    shader: "cosine_transform",
    source: include_str!("../../../shaders/cosine_transform.wgsl"),
    entry: "main",
};

/// How a transform is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// So that it keeps lengths.
    Orthonormal,
    /// As SciPy does without a norm: twice the sum of products with cosines, and its inverse undoes that.
    Plain,
}

/// The first `k` rows of the transform of `n` values, `[k, n]`.
fn forward(k: usize, n: usize, norm: Norm) -> Vec<f64> {
    let row = |u: usize| {
        let scale = match (norm, u) {
            (Norm::Plain, _) => 2.0,
            (_, 0) => (1.0 / n as f64).sqrt(),
            _ => (2.0 / n as f64).sqrt(),
        };
        (0..n).map(move |i| scale * (PI * (2 * i + 1) as f64 * u as f64 / (2 * n) as f64).cos())
    };
    (0..k).flat_map(row).collect()
}

/// The inverse transform of the first `k` coefficients into `n` values, `[n, k]`; the rest counts as zero.
fn inverse(n: usize, k: usize, norm: Norm) -> Vec<f64> {
    let forward = forward(k, n, norm);
    let scale = |u: usize| match (norm, u) {
        (Norm::Orthonormal, _) => 1.0,
        (Norm::Plain, 0) => 1.0 / (4 * n) as f64,
        (Norm::Plain, _) => 1.0 / (2 * n) as f64,
    };
    (0..n).flat_map(|i| (0..k).map(move |u| (i, u))).map(|(i, u)| forward[u * n + i] * scale(u)).collect()
}

/// `[m, k]` times `[k, n]`.
fn product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let cell = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f64>();
    (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| cell(i, j)).collect()
}

/// How `k` values are made of `n` by keeping the `k` lowest frequencies and transforming these back, `[k, n]`.
pub fn squeeze(k: usize, n: usize, norm: Norm) -> Vec<f64> {
    product(&inverse(k, k, norm), &forward(k, n, norm), [k, k, n])
}

/// A map over rows and one over columns as one map over the cells of a grid: `[rows of both, cells of both]`, by
/// (row · columns + column).
pub fn of_grid(
    (down, out_rows, rows): (&[f64], usize, usize),
    (across, out_cols, cols): (&[f64], usize, usize),
) -> Vec<f64> {
    let mut out = Vec::with_capacity(out_rows * out_cols * rows * cols);
    for (a, b) in (0..out_rows).flat_map(|a| (0..out_cols).map(move |b| (a, b))) {
        for y in 0..rows {
            out.extend((0..cols).map(|x| down[a * rows + y] * across[b * cols + x]));
        }
    }
    out
}

/// A map over one axis: `[k, n]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Along {
    map: Vec<f64>,
    k: usize,
    n: usize,
}

impl Along {
    /// The whole transform of `n` values.
    pub fn forward(n: usize, norm: Norm) -> Self {
        Self { map: forward(n, n, norm), k: n, n }
    }

    /// [`squeeze`] of `n` values to `k`.
    pub fn squeeze(k: usize, n: usize, norm: Norm) -> Self {
        Self { map: squeeze(k, n, norm), k, n }
    }

    /// On the middle axis of `[outer, n, inner]`, in f64.
    fn plain(&self, x: &[f64], outer: usize, inner: usize) -> Vec<f64> {
        let mut out = vec![0f64; outer * self.k * inner];
        for o in 0..outer {
            for a in 0..self.k {
                let to = &mut out[(o * self.k + a) * inner..][..inner];
                for i in 0..self.n {
                    let (w, from) = (self.map[a * self.n + i], &x[(o * self.n + i) * inner..][..inner]);
                    to.iter_mut().zip(from).for_each(|(t, v)| *t += w * v);
                }
            }
        }
        out
    }

    fn narrow(&self) -> Vec<f32> {
        self.map.iter().map(|v| *v as f32).collect()
    }
}

/// Sizes of what goes in and comes out: rows, columns, channels. Errors: `x` `[rows · columns, d]` has other rows.
fn sizes(x: &Array, down: &Along, across: &Along) -> Result<[usize; 3]> {
    let [cells, d] = x.dims("cells")?;
    if cells != down.n * across.n {
        return Err(Error::shape("cells", format!("[{} x {}, any]", down.n, across.n), x.shape()));
    }
    Ok([down.n, across.n, d])
}

/// The plain loops in f64: `x` `[rows · columns, d]` mapped over its rows and over its columns.
pub fn cpu(x: &Array, down: &Along, across: &Along) -> Result<Array> {
    let [_, cols, d] = sizes(x, down, across)?;
    let wide: Vec<f64> = x.data().iter().map(|v| f64::from(*v)).collect();
    let out = across.plain(&down.plain(&wide, 1, cols * d), down.k, d);
    Array::new([down.k * across.k, d], out.into_iter().map(|v| v as f32).collect())
}

/// The same as matrix products in f32, one over all columns and one for each row of the result.
pub fn fast(x: &Array, down: &Along, across: &Along, ctx: &Ctx) -> Result<Array> {
    let [rows, cols, d] = sizes(x, down, across)?;
    if x.data().is_empty() || down.k * across.k == 0 {
        return Ok(Array::zeros([down.k * across.k, d]));
    }
    let map = |m: &Along| Tensor::from_vec(m.narrow(), (m.k, m.n), &Device::Cpu);
    ctx.check()?;
    let x = Tensor::from_slice(x.data(), (rows, cols * d), &Device::Cpu)?;
    let half = map(down)?.matmul(&x)?.reshape((down.k, cols, d))?;
    let across_map = map(across)?;
    let mut out = Vec::with_capacity(down.k * across.k * d);
    for r in 0..down.k {
        ctx.step(r, down.k)?;
        out.extend(across_map.matmul(&half.get(r)?)?.flatten_all()?.to_vec1::<f32>()?);
    }
    Array::new([down.k * across.k, d], out)
}

/// The shader, some channels at a time where all are too many for a buffer.
pub fn gpu(x: &Array, down: &Along, across: &Along, gpu: &Gpu, ctx: &Ctx) -> Result<Array> {
    let [rows, cols, d] = sizes(x, down, across)?;
    let mut out = Array::zeros([down.k * across.k, d]);
    if x.data().is_empty() || out.data().is_empty() {
        return Ok(out);
    }
    gpu.run(|work| {
        let (by_rows, by_cols) = (work.upload("rows", &down.narrow())?, work.upload("columns", &across.narrow())?);
        // Cells for each channel, in the larger of what goes in, comes out and stands between.
        let cells = (rows * cols).max(down.k * cols).max(down.k * across.k);
        for channels in pieces(d, cells, work.binding_bytes()) {
            ctx.step(channels.start, d)?;
            let wide = channels.len();
            let some: Vec<f32> = x.data().chunks_exact(d).flat_map(|r| r[channels.clone()].iter().copied()).collect();
            let values = work.upload("cells", &some)?;
            let half = work.buffer("rows mapped", down.k * cols * wide)?;
            let whole = work.buffer("grid", down.k * across.k * wide)?;
            for (map, weights, from, to, outer, inner) in
                [(down, &by_rows, &values, &half, 1, cols * wide), (across, &by_cols, &half, &whole, down.k, wide)]
            {
                let [n, k, inner_n, outer_n] = [map.n, map.k, inner, outer].map(|v| v as u32);
                let params = Params { n, k, inner: inner_n, outer: outer_n, first_group: 0 };
                let groups = outer * map.k.div_ceil(16) * inner.div_ceil(16);
                work.dispatch(&KERNEL, &params, &[weights, from, to], grid(groups)?)?;
            }
            let found = work.read::<f32>(&whole)?;
            for (row, found) in out.data_mut().chunks_exact_mut(d).zip(found.chunks_exact(wide)) {
                row[channels.clone()].copy_from_slice(found);
            }
        }
        Ok(out)
    })
}

/// On the side that the context's rule chooses.
pub fn run(x: &Array, down: &Along, across: &Along, ctx: &Ctx) -> Result<Array> {
    ctx.compute(|| fast(x, down, across, ctx), |device| gpu(x, down, across, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct CosineTransform;

impl Pass for CosineTransform {
    fn name(&self) -> &'static str {
        "cosine_transform"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let sizes = [
            (1, 1, 1, 1, 1),
            (3, 5, 2, 4, 7),
            (17, 16, 9, 16, 33),
            (12, 12, 12, 12, 20),
            (33, 2, 1, 2, 65),
            (2, 3, 1, 1, 0),
        ];
        let mut all = Vec::new();
        for (rows, cols, down, across, d) in sizes {
            for norm in [Norm::Orthonormal, Norm::Plain] {
                let x = Array::new([rows * cols, d], samples::values(rows * cols * d, (rows * 100 + d) as u64))
                    .expect("as many values as cells");
                let maps = if down == rows && across == cols {
                    [Along::forward(rows, norm), Along::forward(cols, norm)]
                } else {
                    [Along::squeeze(down, rows, norm), Along::squeeze(across, cols, norm)]
                };
                let name = format!("{rows} × {cols} to {down} × {across}, {d} channels, {norm:?}");
                // Sums of up to 400 terms.
                all.push(Sample::new(name, 2e-5, move |side, ctx| {
                    let [down, across] = &maps;
                    let found = match side {
                        Side::Cpu => cpu(&x, down, across)?,
                        Side::Fast => fast(&x, down, across, ctx)?,
                        Side::Gpu(g) => gpu(&x, down, across, g, ctx)?,
                    };
                    Ok(found.data().iter().map(|v| f64::from(*v)).collect())
                }));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transform_and_back_is_the_identity_and_an_even_grid_grows_by_the_root() {
        for norm in [Norm::Orthonormal, Norm::Plain] {
            let both = product(&inverse(5, 5, norm), &forward(5, 5, norm), [5, 5, 5]);
            for (i, v) in both.iter().enumerate() {
                assert!((v - f64::from(u8::from(i % 6 == 0))).abs() < 1e-12, "{norm:?} {i} {v}");
            }
        }
        // Half of eight equal values: √2 times as large, or twice without a norm.
        for (norm, factor) in [(Norm::Orthonormal, 2f64.sqrt()), (Norm::Plain, 2.0)] {
            let map = squeeze(4, 8, norm);
            let got: Vec<f64> = map.chunks(8).map(|r| r.iter().sum()).collect();
            assert!(got.iter().all(|v| (v - factor).abs() < 1e-12), "{got:?}");
        }
    }

    #[test]
    fn a_map_of_a_grid_is_one_over_rows_and_one_over_columns() {
        let map = of_grid((&[1.0, 2.0], 1, 2), (&[1.0, 0.0, 0.0, 1.0], 2, 2));
        assert_eq!(map, [1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 2.0]);
        // The same one axis after the other.
        let (down, across) =
            (Along { map: vec![1.0, 2.0], k: 1, n: 2 }, Along { map: vec![1.0, 0.0, 0.0, 1.0], k: 2, n: 2 });
        let x = Array::new([4, 1], vec![1.0, 10.0, 100.0, 1000.0]).unwrap();
        for got in [cpu(&x, &down, &across).unwrap(), fast(&x, &down, &across, &Ctx::default()).unwrap()] {
            assert_eq!(got.data(), [201.0, 2010.0]);
        }
        assert!(cpu(&Array::zeros([5, 1]), &down, &across).is_err());
    }
}
