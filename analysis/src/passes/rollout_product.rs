//! Products of the layers' attention: `R_1 = B_1`, `R_l = B_l R_{l−1}` (Abnar & Zuidema 2020, arXiv 2005.00928).
//! Row i of `R_l` holds the shares of the inputs in node (l, i). Values are f64, which the CPU sides keep to.

use super::{Pass, Sample, samples};
use crate::ctx::Ctx;
use crate::gpu::{Buffer, Gpu, Kernel, Layout, Record, Side, Work, gpu_struct, grid, pieces};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::ops::Range;

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Rows of the left piece.
        n_left: u32,
        /// Rows of the right piece.
        n_right: u32,
        /// Nodes of a layer.
        width: u32,
        /// First column that the piece writes.
        first_column: u32,
        /// Number of the first workgroup.
        first_group: u32,
    }
}

const KERNEL: Kernel = Kernel {
    shader: "rollout_product",
    source: concat!(
        include_str!("../../../shaders/shared/dot_block.wgsl"),
        include_str!("../../../shaders/shared/dot_matrix.wgsl"),
        include_str!("../../../shaders/rollout_product.wgsl"),
    ),
    entry: "main",
};

fn check(maps: &[Vec<f64>], n: usize) -> Result<()> {
    match maps.iter().position(|m| m.len() != n * n) {
        None => Ok(()),
        Some(l) => Err(Error::shape(format!("map of layer {l}"), format!("[{n}, {n}]"), &[maps[l].len()])),
    }
}

/// The plain loops: per layer `[n, n]`.
pub fn cpu(maps: &[Vec<f64>], n: usize) -> Result<Vec<Vec<f64>>> {
    check(maps, n)?;
    let mut out: Vec<Vec<f64>> = Vec::new();
    for b in maps {
        let Some(r) = out.last() else {
            out.push(b.clone());
            continue;
        };
        let mut next = vec![0.0; n * n];
        for i in 0..n {
            for k in 0..n {
                let w = b[i * n + k];
                for j in 0..n {
                    next[i * n + j] += w * r[k * n + j];
                }
            }
        }
        out.push(next);
    }
    Ok(out)
}

/// One f64 matrix product per layer.
pub fn fast(maps: &[Vec<f64>], n: usize, ctx: &Ctx) -> Result<Vec<Vec<f64>>> {
    check(maps, n)?;
    let mut out: Vec<Vec<f64>> = Vec::new();
    let mut last: Option<Tensor> = None;
    for (layer, b) in maps.iter().enumerate() {
        ctx.step(layer, maps.len())?;
        let b = Tensor::from_slice(b, (n, n), &Device::Cpu)?;
        let next = match &last {
            Some(r) if n > 0 => b.matmul(r)?,
            _ => b,
        };
        out.push(next.flatten_all()?.to_vec1()?);
        last = Some(next);
    }
    Ok(out)
}

/// The shader, in f32: each layer's product stays on the device for the next one.
pub fn gpu(maps: &[Vec<f64>], n: usize, gpu: &Gpu, ctx: &Ctx) -> Result<Vec<Vec<f64>>> {
    check(maps, n)?;
    let mut out: Vec<Vec<f64>> = Vec::new();
    gpu.run(|work| {
        let rows = pieces(n, n, work.binding_bytes());
        let mut last: Vec<Buffer> = Vec::new();
        for (layer, b) in maps.iter().enumerate() {
            ctx.step(layer, maps.len())?;
            if layer == 0 {
                let short = |i: usize| (0..n).map(move |k| b[k * n + i] as f32);
                for piece in &rows {
                    let transposed: Vec<f32> = piece.clone().flat_map(short).collect();
                    last.push(work.upload("rollout", &transposed)?);
                }
                out.push(b.clone());
                continue;
            }
            last = step(work, &last, b, n, &rows)?;
            let mut next = vec![0f64; n * n];
            for (piece, buffer) in rows.iter().zip(&last) {
                for (j, row) in piece.clone().zip(work.read::<f32>(buffer)?.chunks_exact(n)) {
                    row.iter().enumerate().for_each(|(i, v)| next[i * n + j] = f64::from(*v));
                }
            }
            out.push(next);
        }
        Ok(())
    })?;
    Ok(out)
}

/// The transposed product after layer `b`, in the same pieces of rows.
fn step(work: &mut Work, last: &[Buffer], b: &[f64], n: usize, rows: &[Range<usize>]) -> Result<Vec<Buffer>> {
    let mut right = Vec::new();
    for piece in rows {
        let values: Vec<f32> = b[piece.start * n..piece.end * n].iter().map(|&v| v as f32).collect();
        right.push(work.upload("map", &values)?);
    }
    let mut out = Vec::new();
    for (piece, left) in rows.iter().zip(last) {
        let next = work.buffer("rollout", piece.len() * n)?;
        for (columns, right) in rows.iter().zip(&right) {
            let params = Params {
                n_left: piece.len() as u32,
                n_right: columns.len() as u32,
                width: n as u32,
                first_column: columns.start as u32,
                first_group: 0,
            };
            let groups = grid(piece.len().div_ceil(32) * columns.len().div_ceil(32))?;
            work.dispatch(&KERNEL, &params, &[left, right, &next], groups)?;
        }
        out.push(next);
    }
    Ok(out)
}

/// On the side that the context's rule chooses.
pub fn run(maps: &[Vec<f64>], n: usize, ctx: &Ctx) -> Result<Vec<Vec<f64>>> {
    ctx.compute(|| fast(maps, n, ctx), |device| gpu(maps, n, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct RolloutProduct;

impl Pass for RolloutProduct {
    fn name(&self) -> &'static str {
        "rollout_product"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let sizes = [(0, 3), (1, 2), (2, 0), (5, 1), (31, 2), (33, 3), (65, 4), (100, 3)];
        let each = |(n, layers): (usize, usize)| {
            let map = |l: usize| -> Vec<f64> {
                let mut map: Vec<f64> =
                    samples::values(n * n, l as u64).into_iter().map(|v| f64::from(v + 1.0)).collect();
                for row in map.chunks_mut(n.max(1)) {
                    let sum: f64 = row.iter().sum();
                    row.iter_mut().for_each(|v| *v /= sum);
                }
                map
            };
            let maps: Vec<Vec<f64>> = (0..layers).map(map).collect();
            // Shares, each a sum of 100 products, through four layers of f32.
            Sample::new(format!("{n} nodes, {layers} layers"), 1e-6, move |side, ctx| {
                let all = match side {
                    Side::Cpu => cpu(&maps, n)?,
                    Side::Fast => fast(&maps, n, ctx)?,
                    Side::Gpu(g) => gpu(&maps, n, g, ctx)?,
                };
                Ok(all.into_iter().flatten().collect())
            })
        };
        sizes.into_iter().map(each).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_stand_left() {
        let (first, second) = (vec![1.0, 0.0, 0.5, 0.5], vec![0.0, 1.0, 0.25, 0.75]);
        for r in [cpu(&[first.clone(), second.clone()], 2), fast(&[first, second], 2, &Ctx::default())] {
            // Row 0 of the product is row 1 of the first map.
            assert_eq!(r.unwrap()[1], [0.5, 0.5, 0.625, 0.375]);
        }
        assert!(cpu(&[vec![1.0]], 2).is_err());
    }
}
