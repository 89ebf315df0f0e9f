//! All heads' maps at a glance.

use super::{tower, trace_of};
use crate::heatmap::{Summary, version};
use crate::jobs::{Ask, Store};
use crate::keys::{RunKey, Scope};
use std::sync::Arc;
use tokenscope_analysis::passes::attention::Head;
use tokenscope_analysis::passes::attention_tile::{self, Reduce, Window};
use tokenscope_analysis::passes::value_counts;
use tokenscope_analysis::{Ctx, Result};

/// Cells per side of a thumbnail at most.
const THUMBNAIL: usize = 24;

/// All heads' maps, small.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ThumbnailsOf(pub Scope);

/// One head's map at a glance.
pub struct Thumbnail {
    /// A number that no other thumbnail has.
    pub version: u64,
    /// Layer.
    pub layer: usize,
    /// Head.
    pub head: usize,
    /// Side of `cells`.
    pub side: usize,
    /// Largest share in each part of the map, `side · side`, queries down, keys across.
    pub cells: Vec<f32>,
    /// What a colour scale is fitted to.
    pub summary: Arc<Summary>,
    /// Mean entropy of the rows over its largest possible value, 0..=1.
    pub entropy: f32,
    /// Share of all attention that the first token gets.
    pub sink: f32,
    /// Mean distance from query to key in tokens.
    pub distance: f32,
}

impl Ask for ThumbnailsOf {
    type Out = Vec<Thumbnail>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<Thumbnail>> {
        let t = trace_of(&self.0.run, store, ctx)?;
        let tower = tower(&self.0, &t);
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

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0.run)
    }

    fn bytes(list: &Vec<Thumbnail>) -> u64 {
        list.iter().map(|t| size_of_val(t.cells.as_slice()) + t.summary.bytes()).sum::<usize>() as u64
    }
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
