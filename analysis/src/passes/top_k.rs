//! Indices of the k largest values of each row, ascending by index; among equals the lower indices.

use super::{Pass, Sample, samples};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, Layout, Record, Side, gpu_struct, grid, pieces};
use crate::{Error, Result};
use rayon::prelude::*;
use std::cmp::Ordering;

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Rows of the piece.
        n_rows: u32,
        /// Values of a row.
        n: u32,
        /// How many are taken.
        k: u32,
        /// Row of the first workgroup.
        first_row: u32,
    }
}

const KERNEL: Kernel = Kernel { shader: "top_k", source: include_str!("../../../shaders/top_k.wgsl"), entry: "main" };

/// Falling values, and rising indices among equal ones. NaN is larger than all, as in IEEE's total order.
fn order(row: &[f32], a: usize, b: usize) -> Ordering {
    row[b].total_cmp(&row[a]).then(a.cmp(&b))
}

/// By sorting all: per row of `values` `[rows, n]`, `min(k, n)` indices.
pub fn cpu(values: &Array, k: usize) -> Result<Vec<Vec<usize>>> {
    let [rows, n] = values.dims("values")?;
    let of_row = |r: usize| {
        let row = values.row(r);
        let mut all: Vec<usize> = (0..n).collect();
        all.sort_by(|&a, &b| order(row, a, b));
        all.truncate(k);
        all.sort_unstable();
        all
    };
    Ok((0..rows).map(of_row).collect())
}

/// By partial selection, rows in parallel.
pub fn fast(values: &Array, k: usize) -> Result<Vec<Vec<usize>>> {
    let [rows, n] = values.dims("values")?;
    let of_row = |r: usize| {
        let row = values.row(r);
        let mut all: Vec<usize> = (0..n).collect();
        if k < n {
            if k > 0 {
                all.select_nth_unstable_by(k - 1, |&a, &b| order(row, a, b));
            }
            all.truncate(k);
            all.sort_unstable();
        }
        all
    };
    Ok((0..rows).into_par_iter().map(of_row).collect())
}

/// A whole number of the same order as the float.
fn key(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The shader.
pub fn gpu(values: &Array, k: usize, gpu: &Gpu, ctx: &Ctx) -> Result<Vec<Vec<usize>>> {
    let [rows, n] = values.dims("values")?;
    let k = k.min(n);
    if k == 0 {
        return Ok(vec![Vec::new(); rows]);
    }
    gpu.run(|work| {
        let mut out = Vec::with_capacity(rows);
        for piece in pieces(rows, n, work.binding_bytes()) {
            ctx.step(piece.start, rows)?;
            let keys: Vec<u32> = values.data()[piece.start * n..piece.end * n].iter().map(|&v| key(v)).collect();
            let keys = work.upload("values", &keys)?;
            let indices = work.buffer("indices", piece.len() * k)?;
            let params = Params { n_rows: piece.len() as u32, n: n as u32, k: k as u32, first_row: 0 };
            work.dispatch(&KERNEL, &params, &[&keys, &indices], grid(piece.len())?)?;
            let found = work.read::<u32>(&indices)?;
            out.extend(found.chunks_exact(k).map(|row| row.iter().map(|&i| i as usize).collect::<Vec<_>>()));
        }
        Ok(out)
    })
}

/// On the side that the context's rule chooses.
pub fn run(values: &Array, k: usize, ctx: &Ctx) -> Result<Vec<Vec<usize>>> {
    ctx.compute(|| fast(values, k), |device| gpu(values, k, device, ctx))
}

/// [`run`] of a single row.
pub fn of_row(row: &[f32], k: usize, ctx: &Ctx) -> Result<Vec<usize>> {
    let found = run(&Array::new([1, row.len()], row.to_vec())?, k, ctx)?;
    found.into_iter().next().ok_or_else(|| Error::invalid("there is no row to choose from"))
}

/// The pass, for the list of all.
pub(super) struct TopK;

impl Pass for TopK {
    fn name(&self) -> &'static str {
        "top_k"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let mut all = Vec::new();
        let mut matrices = samples::matrices();
        matrices.push(("long rows".into(), Array::new([3, 1000], samples::values(3000, 4)).expect("3000 values")));
        for (name, mut x) in matrices {
            // Many ties, both zeros, infinities, and a NaN.
            x.data_mut().iter_mut().for_each(|v| *v = (*v * 9.0).round() / 4.0);
            let odd = [f32::NEG_INFINITY, 0.0, -0.0, f32::INFINITY, f32::NAN];
            x.data_mut().iter_mut().skip(1).step_by(13).zip(odd).for_each(|(v, o)| *v = o);
            let n = x.shape()[1];
            for k in [0, 1, n / 3, n.saturating_sub(1), n, n + 2] {
                let x = x.clone();
                // Indices: they must be the same.
                all.push(Sample::new(format!("{name}, k = {k}"), 0.0, move |side, ctx| {
                    let found = match side {
                        Side::Cpu => cpu(&x, k)?,
                        Side::Fast => fast(&x, k)?,
                        Side::Gpu(g) => gpu(&x, k, g, ctx)?,
                    };
                    Ok(found.into_iter().flatten().map(|i| i as f64).collect())
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
    fn ties_go_to_the_lower_index_and_the_result_ascends() {
        let x = Array::new([2, 4], vec![1.0, 3.0, 3.0, 3.0, -1.0, 5.0, -2.0, 7.0]).unwrap();
        for side in [cpu, fast] {
            assert_eq!(side(&x, 2).unwrap(), [[1, 2], [1, 3]]);
        }
        assert_eq!(of_row(&[2.0, 9.0], 5, &Ctx::default()).unwrap(), [0, 1]);
    }

    #[test]
    fn keys_order_like_floats() {
        let rising = [f32::NEG_INFINITY, -2.0, -1e-40, -0.0, 0.0, 1e-40, 3.0, f32::INFINITY, f32::NAN];
        assert!(rising.map(key).is_sorted_by(|a, b| a < b));
    }
}
