//! What the passes share that find for each row of one matrix the row of another with the largest product.

use crate::Result;
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, gpu_struct, grid, pieces};

gpu_struct! {
    /// What the shaders are told besides their buffers.
    pub(in crate::passes) struct Params {
        /// Rows of the left piece.
        n_left: u32,
        /// Rows of the right piece.
        n_right: u32,
        /// Number of the piece's first right row.
        first_right: u32,
        /// Components of a row.
        width: u32,
        /// Block of 32 left rows that the first workgroup takes.
        first_block: u32,
        /// 1 for the first piece of right rows.
        begins: u32,
    }
}

/// For each row of `left` `[n, d]` the row of `right` `[k, d]` with the largest product, and that product, by `kernel`;
/// `k` is at least 1. There is none where no product is a number.
///
/// Errors: whatever the device fails with, cancelled.
pub(in crate::passes) fn best_right(
    kernel: &Kernel,
    [left, right]: [&[f32]; 2],
    [n, k, d]: [usize; 3],
    gpu: &Gpu,
    ctx: &Ctx,
) -> Result<Vec<Option<(usize, f32)>>> {
    gpu.run(|work| {
        let limit = work.binding_bytes();
        let mut out = Vec::with_capacity(n);
        for a in pieces(n, d, limit) {
            ctx.step(a.start, n)?;
            let rows = work.upload("left rows", &left[a.start * d..a.end * d])?;
            let best = work.buffer("largest product", a.len())?;
            let label = work.buffer("right row", a.len())?;
            for b in pieces(k, d, limit) {
                let others = work.upload("right rows", &right[b.start * d..b.end * d])?;
                let params = Params {
                    n_left: a.len() as u32,
                    n_right: b.len() as u32,
                    first_right: b.start as u32,
                    width: d as u32,
                    first_block: 0,
                    begins: u32::from(b.start == 0),
                };
                work.dispatch(kernel, &params, &[&rows, &others, &best, &label], grid(a.len().div_ceil(32))?)?;
            }
            let found = work.read::<u32>(&label)?.into_iter().zip(work.read::<f32>(&best)?);
            out.extend(found.map(|(i, product)| Some((i as usize, product)).filter(|f| f.0 < k)));
        }
        Ok(out)
    })
}
