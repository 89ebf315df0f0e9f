//! One head's attention map at a glance: a few cells of it, and what kind of head it is.

use crate::array::Array;
use crate::passes::attention::Head;
use crate::passes::attention_tile::{self, Reduce, Window};
use crate::passes::value_counts::{self, ValueCounts};
use crate::{Ctx, Result};

/// One head's map at a glance.
pub struct Glance {
    /// Largest share in each part of the map, `[side, side]`, queries down, keys across.
    pub cells: Array,
    /// How often each size of share occurs among the cells.
    pub counts: ValueCounts,
    /// Mean entropy of the rows over its largest possible value, 0..=1.
    pub entropy: f32,
    /// Share of all attention that the first token gets.
    pub sink: f32,
    /// Mean distance from query to key in tokens.
    pub distance: f32,
}

/// Looks at `map` in at most `side` cells a side. Nothing grows with the square of the input.
///
/// Errors: cancelled, or what the passes say.
pub fn glance(map: &Head, side: usize, ctx: &Ctx) -> Result<Glance> {
    let (cells, stats) = attention_tile::overview(map, side, Reduce::Max, ctx)?;
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
    Ok(Glance {
        counts,
        cells,
        entropy: mean(entropy),
        sink: mean(sum(sink.data())),
        distance: mean(sum(&stats.distance)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::samples::OwnedHead;

    #[test]
    fn two_tokens_by_hand() {
        let mut owned = OwnedHead::new(1, 1, 1, 2, 1);
        // Rows (1, 0) and (1/4, 3/4).
        owned.q.data_mut().copy_from_slice(&[5.0, 3f32.ln()]);
        owned.k.data_mut().copy_from_slice(&[0.0, 1.0]);
        let t = glance(&owned.head().unwrap(), 24, &Ctx::default()).unwrap();
        assert_eq!(t.cells.shape(), [2, 2]);
        let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} {b}");
        t.cells.data().iter().zip([1.0, 0.0, 0.25, 0.75]).for_each(|(a, b)| close(*a, b));
        let entropy = 0.25 * 4f32.ln() + 0.75 * (4f32 / 3.0).ln();
        close(t.entropy, entropy / 2f32.ln() / 2.0);
        close(t.sink, 0.625);
        close(t.distance, 0.125);
    }
}
