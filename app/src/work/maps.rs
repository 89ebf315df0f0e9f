//! Attention maps as they are looked at: one head's map or a part of it, and all heads at a glance. Nothing here
//! grows with the square of the input.

use super::{Store, tower, trace_of};
use crate::heatmap::Summary;
use crate::request::{AttentionMap, Cells, MAP_SIDE, Part, Product, Request, Scope, Thumbnail, version};
use std::sync::Arc;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::gpu::Gpu;
use tokenscope_analysis::passes::attention::Head;
use tokenscope_analysis::passes::attention_tile::{self, Reduce, Window};
use tokenscope_analysis::passes::value_counts;
use tokenscope_analysis::{Ctx, Error, Result};

/// One head's map, whole or the part that is zoomed into, in [`MAP_SIDE`] cells a side at most. What computes on a
/// device leaves it there, to be drawn from.
pub(super) fn map(
    scope: &Scope,
    layer: usize,
    head: usize,
    part: Option<&Part>,
    store: &dyn Store,
    ctx: &Ctx,
) -> Result<AttentionMap> {
    let t = trace_of(&scope.run, store, ctx)?;
    let map = Head::of_trace(&t, tower(scope, &t), 0, layer, head)?;
    let mut window = Window::whole(&map, MAP_SIDE, Reduce::Max);
    if let Some(Part { queries, keys }) = part {
        let (rows, cols) = (queries.len().min(MAP_SIDE), keys.len().min(MAP_SIDE));
        window = Window { queries: queries.clone(), keys: keys.clone(), rows, cols, reduce: Reduce::Max };
    }
    let n = map.n_queries();
    let whole = part.is_none();
    let on_host = || {
        // Of a long input the statistics cost as much as the whole map, and every part needs them.
        let stats = match n > MAP_SIDE {
            true => match store.get(&Request::RowStats(scope.clone(), layer, head), ctx)? {
                Product::RowStats(stats) => Some(stats),
                _ => return Err(Error::invalid("the request for row statistics gave something else")),
            },
            false => None,
        };
        let cells = attention_tile::fast(&map, stats.as_deref(), &window, ctx)?;
        let counts = if whole { Some(value_counts::fast(&cells)?) } else { None };
        Ok((Cells::Host(Arc::new(cells)), counts))
    };
    let on_device = |_: &Gpu| {
        let tile = match store.get(&Request::DeviceHead(scope.clone(), layer, head), ctx) {
            Ok(Product::DeviceHead(kept)) => kept.tile(&window, ctx),
            Ok(_) => return Err(Error::invalid("the request for a head on the device gave something else")),
            // Between jobs an error is only its words; what kind it was decides whether the CPU takes over.
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(e) => return Err(Error::Gpu(e.to_string())),
        };
        let tile = match (tile, &ctx.gpu) {
            // The head was kept on a device that was lost since.
            (Err(Error::Gpu(_)), Some(gpu)) => attention_tile::on_device(&map, gpu, ctx)?.tile(&window, ctx)?,
            (tile, _) => tile?,
        };
        let counts = if whole { Some(value_counts::of_tile(&tile)?) } else { None };
        Ok((Cells::Device(Arc::new(tile)), counts))
    };
    let (cells, counts) = ctx.compute(on_host, on_device)?;
    let summary = Arc::new(counts.map(|c| Summary::new(&c, 0)).unwrap_or_default());
    Ok(AttentionMap { version: version(), n, window, cells, summary })
}

/// The cells of a map on the host.
pub(super) fn cells(map: &AttentionMap) -> Result<Arc<Array>> {
    match &map.cells {
        Cells::Host(a) => Ok(a.clone()),
        Cells::Device(d) => d.read().map(Arc::new),
    }
}

/// Cells per side of a thumbnail at most.
const THUMBNAIL: usize = 24;

pub(super) fn thumbnails(scope: &Scope, store: &dyn Store, ctx: &Ctx) -> Result<Vec<Thumbnail>> {
    let t = trace_of(&scope.run, store, ctx)?;
    let tower = tower(scope, &t);
    let rules = &t.tower(tower)?.attention;
    let all: usize = rules.iter().map(|r| r.n_heads).sum();
    let mut out = Vec::with_capacity(all);
    for (layer, rule) in rules.iter().enumerate() {
        for head in 0..rule.n_heads {
            ctx.step(out.len(), all)?;
            let map = Head::of_trace(&t, tower, 0, layer, head)?;
            out.push(thumbnail(layer, head, &map, &ctx.part(out.len(), all))?);
        }
    }
    Ok(out)
}

fn thumbnail(layer: usize, head: usize, map: &Head, ctx: &Ctx) -> Result<Thumbnail> {
    let (cells, stats) = attention_tile::overview(map, THUMBNAIL, Reduce::Max, ctx)?;
    let (n, spans) = (map.n_queries(), map.spans());
    let mut entropy = 0f64;
    for (q, h) in stats.entropy.iter().enumerate() {
        let seen: usize = spans.of(q).iter().map(|r| r.1 - r.0).sum();
        entropy += if seen > 1 { f64::from(*h) / (seen as f64).ln() } else { 0.0 };
    }
    let first = Window { queries: 0..n, keys: 0..n.min(1), rows: n, cols: n.min(1), reduce: Reduce::Max };
    let sink = attention_tile::run(map, Some(&stats), &first, ctx)?;
    let counts = value_counts::cpu(&cells)?;
    let mean = |sum: f64| (sum / n.max(1) as f64) as f32;
    let sum = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum();
    Ok(Thumbnail {
        version: version(),
        layer,
        head,
        side: cells.shape()[0],
        summary: Arc::new(Summary::new(&counts, 0)),
        cells: cells.into_data(),
        entropy: mean(entropy),
        sink: mean(sum(sink.data())),
        distance: mean(sum(&stats.distance)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::passes::samples::OwnedHead;

    #[test]
    fn a_thumbnail_by_hand_of_two_tokens() {
        let mut owned = OwnedHead::new(1, 1, 1, 2, 1);
        // Rows (1, 0) and (1/4, 3/4).
        owned.q.data_mut().copy_from_slice(&[5.0, 3f32.ln()]);
        owned.k.data_mut().copy_from_slice(&[0.0, 1.0]);
        let t = thumbnail(3, 4, &owned.head().unwrap(), &Ctx::default()).unwrap();
        assert_eq!((t.layer, t.head, t.side), (3, 4, 2));
        let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} {b}");
        t.cells.iter().zip([1.0, 0.0, 0.25, 0.75]).for_each(|(a, b)| close(*a, b));
        let entropy = 0.25 * 4f32.ln() + 0.75 * (4f32 / 3.0).ln();
        close(t.entropy, entropy / 2f32.ln() / 2.0);
        close(t.sink, 0.625);
        close(t.distance, 0.125);
    }
}
