//! The mean over heads of the cells of a window, a few queries at a time.

use super::super::attention_tile::Window;
use super::{Head, QUERIES, in_parallel, sweep_rows};
use crate::Result;
use crate::ctx::Ctx;
use std::ops::Range;

/// The mean over `heads` of cells `[rows, cols]`, each as [`sweep_rows`] gives them.
pub(in crate::passes) fn means(heads: &[Head], window: &Window, ctx: &Ctx) -> Result<Vec<f32>> {
    let mut out = vec![0f32; window.rows * window.cols];
    let (mut rest, mut units) = (out.as_mut_slice(), Vec::new());
    for band in bands(&window.query_edges()) {
        let (own, after) = std::mem::take(&mut rest).split_at_mut(band.len() * window.cols);
        rest = after;
        units.push((band, own));
    }
    in_parallel(units, ctx, |(band, own)| mean_of_band(heads, window, band, own, &ctx.quiet()))?;
    Ok(out)
}

/// Rows of cells, by the queries that begin them, in bands of few queries, whose cells stay in a core's cache.
fn bands(edges: &[usize]) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for (r, ends) in edges.windows(2).enumerate() {
        match out.last_mut().filter(|b| ends[1] - edges[b.start] <= QUERIES) {
            Some(band) => band.end = r + 1,
            None => out.push(r..r + 1),
        }
    }
    out
}

/// The mean over heads of some rows of a window's cells, as [`sweep_rows`] gives them.
fn mean_of_band(heads: &[Head], window: &Window, band: Range<usize>, out: &mut [f32], ctx: &Ctx) -> Result<()> {
    let (mut sum, mut tile) = (vec![0f64; out.len()], vec![0f32; out.len()]);
    for head in heads {
        ctx.check()?;
        tile.fill(0.0);
        sweep_rows(head, None, window, band.clone(), &mut tile, ctx)?;
        sum.iter_mut().zip(&tile).for_each(|(s, v)| *s += f64::from(*v));
    }
    out.iter_mut().zip(sum).for_each(|(cell, sum)| *cell = (sum / heads.len() as f64) as f32);
    Ok(())
}
