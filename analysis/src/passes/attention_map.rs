//! Whole attention maps of a trace, by the tile pass at one cell per pair. They take O(n²) memory; what can do with
//! less asks [`super::attention_tile`] for windows.

use super::attention::Head;
use super::attention_tile::{self, Reduce, Window};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::trace::{Key, Site, Tower, Trace};
use crate::{Error, Result};
use rayon::prelude::*;

/// The map `[n, n]` of one head: rows are queries and sum to 1, columns are keys. A query that sees no key gives a
/// row of zeros. Errors if queries and keys of the layer were not captured.
pub fn of_trace(trace: &Trace, tower: Tower, tile: usize, layer: usize, head: usize, ctx: &Ctx) -> Result<Array> {
    let head = Head::of_trace(trace, tower, tile, layer, head)?;
    attention_tile::run(&head, None, &Window::whole(&head, usize::MAX, Reduce::Max), ctx)
}

/// The maps of all heads of a layer, `[heads, n, n]`, each as [`of_trace`] gives it.
pub fn of_layer(trace: &Trace, tower: Tower, tile: usize, layer: usize, ctx: &Ctx) -> Result<Array> {
    let heads = heads(trace, tower, tile, layer)?;
    let (n, m) = heads.first().map_or((0, 0), |h| (h.n_queries(), h.n_keys()));
    ctx.fits((size_of::<f32>() * heads.len() * n * m) as u64, "shorten the prompt")?;
    ctx.compute(
        || {
            // Every head is written where it stays; of several at once, none leaves a thread idle.
            let mut maps = Array::zeros([heads.len(), n, m]);
            let places = heads.par_iter().zip(maps.data_mut().par_chunks_mut((n * m).max(1)));
            places.try_for_each(|(head, place)| attention_tile::fast_whole(head, place, &ctx.quiet()))?;
            Ok(maps)
        },
        |device| {
            let mut data = Vec::with_capacity(heads.len() * n * m);
            for (i, head) in heads.iter().enumerate() {
                let window = Window::whole(head, usize::MAX, Reduce::Max);
                let ctx = ctx.part(i, heads.len());
                data.extend(attention_tile::gpu(head, None, &window, device, &ctx)?.into_data());
            }
            Array::new([heads.len(), n, m], data)
        },
    )
}

/// One row of [`of_trace`], without the others.
pub fn row_of_trace(
    trace: &Trace,
    tower: Tower,
    tile: usize,
    layer: usize,
    head: usize,
    row: usize,
) -> Result<Vec<f32>> {
    let head = Head::of_trace(trace, tower, tile, layer, head)?;
    if row >= head.n_queries() {
        return Err(Error::invalid(format!("there is no row {row}; the map has {}", head.n_queries())));
    }
    // One row is too little work to hand to another side.
    Ok(head.probabilities(row).into_iter().map(|p| p as f32).collect())
}

/// The mean over heads of one layer's maps, `[n, n]`.
pub fn head_mean(trace: &Trace, tower: Tower, layer: usize, ctx: &Ctx) -> Result<Array> {
    let heads = heads(trace, tower, 0, layer)?;
    let Some(first) = heads.first() else { return Err(Error::invalid(format!("layer {layer} has no heads"))) };
    attention_tile::mean_of_heads(&heads, &Window::whole(first, usize::MAX, Reduce::Mean), ctx)
}

/// Every head of a layer.
pub fn heads(trace: &Trace, tower: Tower, tile: usize, layer: usize) -> Result<Vec<Head<'_>>> {
    let rule = trace.tower(tower)?.attention.get(layer);
    let n = rule.ok_or_else(|| Error::invalid(format!("there is no layer {layer} in this run")))?.n_heads;
    if let [Some(q), Some(k)] = [Site::Q, Site::K].map(|site| trace.arrays.get(&Key { tower, tile, layer, site })) {
        // What is copied when it is first looked at, by two threads.
        rayon::join(|| q.array.data(), || k.array.data());
    }
    (0..n).map(|head| Head::of_trace(trace, tower, tile, layer, head)).collect()
}
