//! Rows reduced by segment: weighted sum, weighted mean, or largest, of the members of each segment.

use super::{Pass, Sample, samples};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, Layout, Record, Side, gpu_struct, grid};
use crate::{Error, Result};
use rayon::prelude::*;

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Segments.
        n_segments: u32,
        /// Columns of the piece.
        width: u32,
        /// Cell of the first thread.
        first_cell: u32,
        /// 0 sum, 1 mean, 2 largest.
        how: u32,
    }
}

const KERNEL: Kernel =
    Kernel { shader: "segment_reduce", source: include_str!("../../../shaders/segment_reduce.wgsl"), entry: "main" };

/// What a segment becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Σ w · x.
    Sum,
    /// Σ w · x / Σ w.
    Mean,
    /// The largest x; weights do not count.
    Max,
}

/// Segments as lists of (row, weight). A row may be in several or in none.
pub type Segments = [Vec<(usize, f64)>];

fn check(x: &Array, segments: &Segments) -> Result<(usize, usize)> {
    let [n, d] = x.dims("rows to reduce")?;
    for (s, members) in segments.iter().enumerate() {
        if members.is_empty() {
            return Err(Error::invalid(format!("segment {s} has no rows")));
        }
        if let Some((row, _)) = members.iter().find(|m| m.0 >= n) {
            return Err(Error::invalid(format!("segment {s} names row {row} of {n}")));
        }
    }
    Ok((n, d))
}

fn reduce(x: &Array, members: &[(usize, f64)], c: usize, how: How) -> f32 {
    let value = |i: usize| f64::from(x.row(i)[c]);
    let out = match how {
        How::Max => members.iter().map(|m| value(m.0)).fold(f64::NEG_INFINITY, f64::max),
        How::Sum => members.iter().map(|m| m.1 * value(m.0)).sum(),
        How::Mean => {
            let total: f64 = members.iter().map(|m| m.1).sum();
            members.iter().map(|m| m.1 * value(m.0)).sum::<f64>() / total
        }
    };
    out as f32
}

/// The plain loops in f64: `x` `[n, d]` gives `[segments, d]`. Errors if a segment is empty or names no row.
pub fn cpu(x: &Array, segments: &Segments, how: How) -> Result<Array> {
    let (_, d) = check(x, segments)?;
    let mut out = Vec::with_capacity(segments.len() * d);
    for members in segments {
        for c in 0..d {
            out.push(reduce(x, members, c, how));
        }
    }
    Array::new([segments.len(), d], out)
}

/// The same, segments in parallel; results are the same to the bit.
pub fn fast(x: &Array, segments: &Segments, how: How) -> Result<Array> {
    let (_, d) = check(x, segments)?;
    let mut out = vec![0f32; segments.len() * d];
    out.par_chunks_mut(d.max(1))
        .zip(segments)
        .for_each(|(row, members)| row.iter_mut().enumerate().for_each(|(c, v)| *v = reduce(x, members, c, how)));
    Array::new([segments.len(), d], out)
}

/// The shader, in f32. What does not fit a binding is cut by columns.
pub fn gpu(x: &Array, segments: &Segments, how: How, gpu: &Gpu, ctx: &Ctx) -> Result<Array> {
    let (n, d) = check(x, segments)?;
    let mut out = Array::zeros([segments.len(), d]);
    if out.data().is_empty() {
        return Ok(out);
    }
    let mut offsets = vec![0];
    for s in segments {
        offsets.push(offsets[offsets.len() - 1] + s.len());
    }
    let members: Vec<usize> = segments.iter().flatten().map(|m| m.0).collect();
    let weights: Vec<f32> = segments.iter().flatten().map(|m| m.1 as f32).collect();
    gpu.run(|work| {
        let offsets = work.upload_indices("segment offsets", &offsets)?;
        let members = work.upload_indices("segment members", &members)?;
        let weights = work.upload("segment weights", &weights)?;
        let tall = n.max(segments.len()) as u64;
        let width = ((work.binding_bytes() / (4 * tall)) as usize).clamp(1, d);
        for first in (0..d).step_by(width) {
            ctx.step(first, d)?;
            let end = (first + width).min(d);
            let w = end - first;
            let part: Vec<f32> = (0..n).flat_map(|i| x.row(i)[first..end].iter().copied()).collect();
            let values = work.upload("rows to reduce", &part)?;
            let reduced = work.buffer("segments", segments.len() * w)?;
            let params = Params {
                n_segments: segments.len() as u32,
                width: w as u32,
                first_cell: 0,
                how: match how {
                    How::Sum => 0,
                    How::Mean => 1,
                    How::Max => 2,
                },
            };
            let groups = grid((segments.len() * w).div_ceil(64))?;
            work.dispatch(&KERNEL, &params, &[&values, &offsets, &members, &weights, &reduced], groups)?;
            for (s, row) in work.read::<f32>(&reduced)?.chunks_exact(w).enumerate() {
                out.data_mut()[s * d + first..s * d + end].copy_from_slice(row);
            }
        }
        Ok(())
    })?;
    Ok(out)
}

/// On the side that the context's rule chooses.
pub fn run(x: &Array, segments: &Segments, how: How, ctx: &Ctx) -> Result<Array> {
    ctx.compute(|| fast(x, segments, how), |device| gpu(x, segments, how, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct SegmentReduce;

impl Pass for SegmentReduce {
    fn name(&self) -> &'static str {
        "segment_reduce"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let mut all = Vec::new();
        for (name, x) in samples::matrices() {
            let n = x.shape()[0];
            // Ragged: segment s holds s % 5 + 1 rows here and there, with weights.
            let member = |s: usize, i: usize| ((s * 7 + i * 3) % n, 0.5 + (s + i) as f64 / 4.0);
            let segments: Vec<Vec<(usize, f64)>> = (0..if n == 0 { 0 } else { n / 2 + 1 })
                .map(|s| (0..s % 5 + 1).map(|i| member(s, i)).collect())
                .collect();
            for how in [How::Sum, How::Mean, How::Max] {
                let (x, segments) = (x.clone(), segments.clone());
                // Up to five products; weights reach forty.
                all.push(Sample::new(format!("{name}, {how:?}"), 2e-6, move |side, ctx| {
                    let out = match side {
                        Side::Cpu => cpu(&x, &segments, how)?,
                        Side::Fast => fast(&x, &segments, how)?,
                        Side::Gpu(g) => gpu(&x, &segments, how, g, ctx)?,
                    };
                    Ok(out.data().iter().map(|&v| f64::from(v)).collect())
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
    fn weights_count_in_sums_and_means_and_not_for_the_largest() {
        let x = Array::new([3, 2], vec![1.0, 10.0, 3.0, -2.0, 5.0, 0.0]).unwrap();
        let segments = [vec![(0, 1.0), (1, 3.0)], vec![(2, 2.0)]];
        for side in [cpu, fast] {
            assert_eq!(side(&x, &segments, How::Sum).unwrap().data(), [10.0, 4.0, 10.0, 0.0]);
            assert_eq!(side(&x, &segments, How::Mean).unwrap().data(), [2.5, 1.0, 5.0, 0.0]);
            assert_eq!(side(&x, &segments, How::Max).unwrap().data(), [3.0, 10.0, 5.0, 0.0]);
            assert!(side(&x, &[vec![]], How::Sum).is_err() && side(&x, &[vec![(3, 1.0)]], How::Sum).is_err());
        }
    }
}
