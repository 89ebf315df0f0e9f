//! Per query of one head: largest score, log-sum-exp, entropy, and mean distance to what it attends to.
//!
//! With these, any part of the map can be computed without its rows: p = exp(score − log_sum_exp). Keys are walked
//! over once (online softmax, Milakov & Gimelshein 2018, arXiv 1805.02867); memory is O(queries + keys).

use super::attention::device::{QueryPiece, Uploaded, submissions};
use super::attention::{Blocks, Head, Running, in_parallel, query_units};
use super::{Pass, Sample, samples};
use crate::Result;
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, Layout, Record, Side, Work, gpu_struct, grid};
use std::ops::Range;

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Queries of the piece.
        n_queries: u32,
        /// Keys of the piece.
        n_keys: u32,
        /// Row of the piece's first key in the map.
        first_key: u32,
        /// Block of 32 queries that the first workgroup takes.
        first_block: u32,
        /// Components of a key.
        width: u32,
        /// Factor on dot products.
        scale: f32,
        /// Soft cap, 0 for none.
        cap: f32,
        /// A score that belongs to no key.
        sink: f32,
        /// 1 where there is such a score.
        has_sink: u32,
        /// 1 for the first piece of keys.
        begins: u32,
        /// 1 for the last piece of keys.
        ends: u32,
    }
}

const KERNEL: Kernel = Kernel {
    shader: "attention_row_stats",
    source: concat!(
        include_str!("../../../shaders/shared/dot_block.wgsl"),
        include_str!("../../../shaders/shared/attention.wgsl"),
        include_str!("../../../shaders/attention_row_stats.wgsl"),
    ),
    entry: "main",
};

/// Statistics of every row of one head's map, one value per query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowStats {
    /// Largest score, that of a sink included; −∞ for a query that sees nothing.
    pub max: Vec<f32>,
    /// ln Σ exp(score − max), so that max + log_sum is the log-sum-exp; 0 for a query that sees nothing.
    pub log_sum: Vec<f32>,
    /// Entropy of the row in nats; the share of a sink counts as one of its parts.
    pub entropy: Vec<f32>,
    /// Σ p · |position of the query − position of the key|.
    pub distance: Vec<f32>,
}

impl RowStats {
    pub(super) fn of_running(rows: impl IntoIterator<Item = Running>) -> Self {
        let mut out = Self::default();
        for r in rows {
            let seen = r.sum > 0.0 || r.sum.is_nan();
            out.max.push(r.max);
            out.log_sum.push(if seen { r.log_sum() } else { 0.0 });
            out.entropy.push(if seen { (r.sum.ln() - r.shifted / r.sum) as f32 } else { 0.0 });
            out.distance.push(if seen { (r.distance / r.sum) as f32 } else { 0.0 });
        }
        out
    }

    /// Max and log-sum of a row.
    pub(super) fn norm(&self, query: usize) -> (f32, f32) {
        (self.max[query], self.log_sum[query])
    }
}

/// The plain loops in f64.
pub fn cpu(head: &Head) -> RowStats {
    let mut out = RowStats::default();
    for q in 0..head.n_queries() {
        let (max, sum) = head.norm(&head.scores(q));
        let (mut log_sum, mut entropy, mut distance) = (0.0, 0.0, 0.0);
        if max > f64::NEG_INFINITY {
            log_sum = sum.ln();
            let sink = head.sink.map_or(0.0, |s| (f64::from(s) - max).exp() / sum);
            entropy -= if sink > 0.0 { sink * sink.ln() } else { 0.0 };
            for (k, p) in head.probabilities(q).into_iter().enumerate().filter(|(_, p)| *p > 0.0) {
                entropy -= p * p.ln();
                distance += p * head.q_positions[q].abs_diff(head.k_positions[k]) as f64;
            }
        }
        out.max.push(max as f32);
        out.log_sum.push(log_sum as f32);
        out.entropy.push(entropy as f32);
        out.distance.push(distance as f32);
    }
    out
}

/// Blocks in f32, in parallel.
pub fn fast(head: &Head, ctx: &Ctx) -> Result<RowStats> {
    let blocks = Blocks::new(head);
    let units = query_units(head.n_queries());
    let rows = in_parallel(units, ctx, |unit| Ok(blocks.statistics(unit)))?;
    Ok(RowStats::of_running(rows.into_iter().flatten()))
}

/// The shader.
pub fn gpu(head: &Head, gpu: &Gpu, ctx: &Ctx) -> Result<RowStats> {
    gpu.run(|work| {
        let limit = work.binding_bytes();
        let uploaded = Uploaded::new(work, head, limit)?;
        record(work, &uploaded, ctx)?;
        read(work, &uploaded)
    })
}

/// On the side that the context's rule chooses.
pub fn run(head: &Head, ctx: &Ctx) -> Result<RowStats> {
    ctx.compute(|| fast(head, ctx), |device| gpu(head, device, ctx))
}

/// Fills the statistics of an uploaded head.
pub(super) fn record(work: &mut Work, head: &Uploaded, ctx: &Ctx) -> Result<()> {
    let n_keys: usize = head.keys.iter().map(|k| k.rows.len()).sum();
    for piece in &head.queries {
        let n_blocks = piece.rows.len().div_ceil(32);
        let cost = (piece.rows.len() * n_keys) as u64 * head.width.max(16) as u64;
        for part in submissions(work, n_blocks, cost) {
            ctx.step(piece.rows.start + 32 * part.start, piece.rows.end)?;
            record_blocks(work, head, piece, &part)?;
            work.wait()?;
        }
    }
    Ok(())
}

fn record_blocks(work: &mut Work, head: &Uploaded, piece: &QueryPiece, blocks: &Range<usize>) -> Result<()> {
    for (i, keys) in head.keys.iter().enumerate() {
        let params = Params {
            n_queries: piece.rows.len() as u32,
            n_keys: keys.rows.len() as u32,
            first_key: keys.rows.start as u32,
            first_block: blocks.start as u32,
            width: head.width as u32,
            scale: head.scale,
            cap: head.cap,
            sink: head.sink.unwrap_or(0.0),
            has_sink: u32::from(head.sink.is_some()),
            begins: u32::from(i == 0),
            ends: u32::from(i + 1 == head.keys.len()),
        };
        let buffers = [
            &piece.values,
            &keys.values,
            &piece.span_offsets,
            &piece.spans,
            &piece.positions,
            &keys.positions,
            &piece.stats,
        ];
        work.dispatch(&KERNEL, &params, &buffers, grid(blocks.len())?)?;
    }
    Ok(())
}

/// The statistics of an uploaded head, on the host.
pub(super) fn read(work: &mut Work, head: &Uploaded) -> Result<RowStats> {
    let mut out = RowStats::default();
    for piece in &head.queries {
        for row in work.read::<f32>(&piece.stats)?.as_chunks::<4>().0 {
            // The shader has no infinity and writes a very low score for it; without keys it writes nothing.
            let nothing = row[0] <= -2.9e38 || head.keys.is_empty();
            out.max.push(if nothing { f32::NEG_INFINITY } else { row[0] });
            out.log_sum.push(row[1]);
            out.entropy.push(row[2]);
            out.distance.push(row[3]);
        }
    }
    Ok(out)
}

/// The pass, for the list of all.
pub(super) struct AttentionRowStats;

impl Pass for AttentionRowStats {
    fn name(&self) -> &'static str {
        "attention_row_stats"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        // Scores reach a few units and their f32 rounding 10⁻⁶ of that; distances are sums of up to 100 positions.
        samples::heads()
            .into_iter()
            .map(|(name, owned)| {
                Sample::new(name, 5e-5, move |side, ctx| {
                    let head = owned.head()?;
                    let s = match side {
                        Side::Cpu => cpu(&head),
                        Side::Fast => fast(&head, ctx)?,
                        Side::Gpu(g) => gpu(&head, g, ctx)?,
                    };
                    let finite = s.max.iter().map(|m| if m.is_finite() { *m } else { -1e3 });
                    Ok(finite.chain(s.log_sum).chain(s.entropy).chain(s.distance).map(f64::from).collect())
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::MaskRule;

    #[test]
    fn two_queries_by_hand() {
        // Scores of query 1: 0 and ln 3, so shares 1/4 and 3/4 at distances 2 and 0. Query 0 sees only itself.
        let ln3 = 3f32.ln();
        let head = Head {
            q: &[5.0, ln3],
            k: &[0.0, 1.0],
            width: 1,
            scale: 1.0,
            soft_cap: None,
            sink: None,
            mask: &MaskRule::Causal,
            q_positions: &[0, 2],
            k_positions: &[0, 2],
        };
        for s in [cpu(&head), fast(&head, &Ctx::default()).unwrap()] {
            let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} {b}");
            assert_eq!((s.max[0], s.log_sum[0], s.entropy[0], s.distance[0]), (0.0, 0.0, 0.0, 0.0));
            close(s.max[1], ln3);
            close(s.log_sum[1], (4f32 / 3.0).ln());
            close(s.entropy[1], 0.25 * 4f32.ln() + 0.75 * (4f32 / 3.0).ln());
            close(s.distance[1], 0.5);
        }
    }

    #[test]
    fn a_query_that_sees_nothing_has_no_largest_score() {
        let head = Head {
            q: &[1.0],
            k: &[1.0],
            width: 1,
            scale: 1.0,
            soft_cap: None,
            sink: None,
            mask: &MaskRule::Table(vec![vec![]].into()),
            q_positions: &[0],
            k_positions: &[0],
        };
        for s in [cpu(&head), fast(&head, &Ctx::default()).unwrap()] {
            assert_eq!((s.max[0], s.log_sum[0], s.entropy[0]), (f32::NEG_INFINITY, 0.0, 0.0));
        }
    }
}
