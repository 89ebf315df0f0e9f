//! Attention maps as they are looked at: one head's map or a part of it, and all heads at a glance. Nothing here
//! grows with the square of the input.

use super::{Store, tower, trace_of};
use crate::request::{AttentionMap, MAP_SIDE, Part, Product, Request, Scope, Thumbnail, version};
use tokenscope_analysis::passes::attention::Head;
use tokenscope_analysis::passes::attention_tile::{self, Reduce, Window};
use tokenscope_analysis::{Ctx, Error, Result};

/// One head's map, whole or the part that is zoomed into, in [`MAP_SIDE`] cells a side at most.
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
    // Of a long input the statistics cost as much as the whole map, and every part needs them.
    let stats = match n > MAP_SIDE {
        true => match store.get(&Request::RowStats(scope.clone(), layer, head), ctx)? {
            Product::RowStats(stats) => Some(stats),
            _ => return Err(Error::invalid("the request for row statistics gave something else")),
        },
        false => None,
    };
    let cells = attention_tile::run(&map, stats.as_deref(), &window, ctx)?;
    Ok(AttentionMap { version: version(), n, window, cells })
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
    let mean = |sum: f64| (sum / n.max(1) as f64) as f32;
    let sum = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum();
    Ok(Thumbnail {
        version: version(),
        layer,
        head,
        side: cells.shape()[0],
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
