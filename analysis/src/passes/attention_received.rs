//! What each key of one head receives: column sums of the map by groups of queries.

use super::attention::device::{Uploaded, submissions};
use super::attention::{Blocks, Head, QUERIES, in_parallel};
use super::attention_row_stats;
use super::{Pass, Sample, samples};
use crate::array::Array;
use crate::cpu::vectorised;
use crate::ctx::Ctx;
use crate::gpu::{Gpu, Kernel, Layout, Record, Side, Work, gpu_struct, grid, pieces};
use crate::{Error, Result};
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
        /// Components of a key.
        width: u32,
        /// Factor on dot products.
        scale: f32,
        /// Soft cap, 0 for none.
        cap: f32,
        /// Segments of queries.
        n_segments: u32,
        /// Number of the first workgroup.
        first_group: u32,
    }
}

const KERNEL: Kernel = Kernel {
    shader: "attention_received",
    source: concat!(
        include_str!("../../../shaders/shared/dot_block.wgsl"),
        include_str!("../../../shaders/shared/attention.wgsl"),
        include_str!("../../../shaders/shared/probability.wgsl"),
        include_str!("../../../shaders/attention_received.wgsl"),
    ),
    entry: "main",
};

/// Groups of queries: `None` leaves a query out, `Some(g)` adds its row to sum `g`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    of_query: Vec<Option<usize>>,
    n: usize,
}

impl Groups {
    /// All `n` queries in one group.
    pub fn all(n: usize) -> Self {
        Self { of_query: vec![Some(0); n], n: 1 }
    }

    /// The group of each query.
    pub fn new(of_query: Vec<Option<usize>>) -> Self {
        let n = of_query.iter().flatten().max().map_or(0, |g| g + 1);
        Self { of_query, n }
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.n
    }

    /// True if no query is in a group.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Runs of queries `within` a range that are in the same group, each at most `longest`.
    fn segments(&self, within: &Range<usize>, longest: usize) -> Vec<(Range<usize>, usize)> {
        let mut out: Vec<(Range<usize>, usize)> = Vec::new();
        for q in within.clone() {
            let Some(g) = self.of_query[q] else { continue };
            match out.last_mut() {
                Some((r, h)) if r.end == q && *h == g && r.len() < longest => r.end = q + 1,
                _ => out.push((q..q + 1, g)),
            }
        }
        out
    }
}

fn check(head: &Head, groups: &Groups) -> Result<()> {
    if groups.of_query.len() == head.n_queries() {
        return Ok(());
    }
    Err(Error::invalid(format!("{} groups of {} queries", groups.of_query.len(), head.n_queries())))
}

/// The plain loops in f64: `[groups, keys]`.
pub fn cpu(head: &Head, groups: &Groups) -> Result<Array> {
    check(head, groups)?;
    let m = head.n_keys();
    let mut sums = vec![0f64; groups.n * m];
    for q in 0..head.n_queries() {
        let Some(g) = groups.of_query[q] else { continue };
        for (k, p) in head.probabilities(q).into_iter().enumerate() {
            sums[g * m + k] += p;
        }
    }
    Array::new([groups.n, m], sums.into_iter().map(|s| s as f32).collect())
}

/// Values of rows that a thread holds at most, 4 MB, as long as they are of several queries.
const HELD: usize = 1 << 20;

/// Blocks in f32, in parallel, sums in f64: `[groups, keys]`.
pub fn fast(head: &Head, groups: &Groups, ctx: &Ctx) -> Result<Array> {
    check(head, groups)?;
    let (n, m) = (head.n_queries(), head.n_keys());
    let blocks = Blocks::new(head);
    // Few long units, because each has sums of its own; their number does not depend on the machine, so neither do
    // the rounding errors.
    let long = n.div_ceil(8).max(1);
    let units: Vec<Range<usize>> = (0..n).step_by(long).map(|a| a..(a + long).min(n)).collect();
    let parts = in_parallel(units, ctx, |unit| {
        let mut sums = vec![0f64; groups.n * m];
        // Rows are held until their sums are known.
        let mut rows = Vec::new();
        for (queries, g) in groups.segments(&unit, (HELD / m.max(1)).clamp(16, QUERIES)) {
            ctx.step(queries.start - unit.start, unit.len())?;
            rows.resize(queries.len() * m, 0.0);
            let running = blocks.weights(queries.clone(), &(0..m), |part| {
                let row = &mut rows[part.query * m..][..m];
                if part.factor != 1.0 {
                    row[..part.keys.start].iter_mut().for_each(|w| *w *= part.factor);
                }
                row[part.keys].copy_from_slice(part.values);
            });
            let own = &mut sums[g * m..(g + 1) * m];
            for ((q, row), run) in queries.zip(rows.chunks_exact(m.max(1))).zip(running) {
                let share = if run.sum > 0.0 { 1.0 / run.sum } else { 0.0 };
                for &(first, end) in blocks.spans.of(q) {
                    let sums = own[first..end].iter_mut().zip(&row[first..end]);
                    vectorised(|| sums.for_each(|(s, w)| *s += f64::from(*w) * share));
                }
            }
        }
        Ok(sums)
    })?;
    let mut sums = vec![0f64; groups.n * m];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(s, p)| *s += p);
    }
    Array::new([groups.n, m], sums.into_iter().map(|s| s as f32).collect())
}

/// The shader: `[groups, keys]`.
pub fn gpu(head: &Head, groups: &Groups, gpu: &Gpu, ctx: &Ctx) -> Result<Array> {
    check(head, groups)?;
    gpu.run(|work| {
        let limit = work.binding_bytes();
        let uploaded = Uploaded::new(work, head, limit)?;
        attention_row_stats::record(work, &uploaded, ctx)?;
        let m = head.n_keys();
        let mut sums = vec![0f64; groups.n * m];
        add(work, &uploaded, groups, m, &mut sums, ctx)?;
        Array::new([groups.n, m], sums.into_iter().map(|s| s as f32).collect())
    })
}

/// Adds what the device finds for runs of queries to `sums` `[groups, m]`.
fn add(work: &mut Work, head: &Uploaded, groups: &Groups, m: usize, sums: &mut [f64], ctx: &Ctx) -> Result<()> {
    for queries in &head.queries {
        // Short runs give the device more to do at once and round less.
        let segments = groups.segments(&queries.rows, 512);
        for keys in &head.keys {
            for some in pieces(segments.len(), keys.rows.len(), work.binding_bytes()) {
                let some = &segments[some];
                let first = queries.rows.start;
                let words: Vec<usize> = some.iter().flat_map(|(r, _)| [r.start - first, r.end - first]).collect();
                let words = work.upload_indices("segments", &words)?;
                let out = work.buffer("sums", some.len() * keys.rows.len())?;
                let n_groups = some.len() * keys.rows.len().div_ceil(32);
                let n_rows: usize = some.iter().map(|(r, _)| r.len()).sum();
                let cost = (n_rows * keys.rows.len()) as u64 * head.width.max(16) as u64;
                for part in submissions(work, n_groups, cost) {
                    ctx.step(first + part.start, first + n_groups)?;
                    let params = Params {
                        n_queries: queries.rows.len() as u32,
                        n_keys: keys.rows.len() as u32,
                        first_key: keys.rows.start as u32,
                        width: head.width as u32,
                        scale: head.scale,
                        cap: head.cap,
                        n_segments: some.len() as u32,
                        first_group: part.start as u32,
                    };
                    let buffers = [
                        &queries.values,
                        &keys.values,
                        &queries.span_offsets,
                        &queries.spans,
                        &queries.stats,
                        &words,
                        &out,
                    ];
                    work.dispatch(&KERNEL, &params, &buffers, grid(part.len())?)?;
                    work.wait()?;
                }
                let found = work.read::<f32>(&out)?;
                for ((_, g), row) in some.iter().zip(found.chunks_exact(keys.rows.len())) {
                    let own = &mut sums[g * m + keys.rows.start..g * m + keys.rows.end];
                    own.iter_mut().zip(row).for_each(|(s, p)| *s += f64::from(*p));
                }
            }
        }
    }
    Ok(())
}

/// On the side that the context's rule chooses.
pub fn run(head: &Head, groups: &Groups, ctx: &Ctx) -> Result<Array> {
    ctx.compute(|| fast(head, groups, ctx), |device| gpu(head, groups, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct AttentionReceived;

impl Pass for AttentionReceived {
    fn name(&self) -> &'static str {
        "attention_received"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let each = |(name, owned): (String, samples::OwnedHead)| {
            // Up to 300 probabilities are added, each off by 10⁻⁵ of itself at most.
            Sample::new(name, 2e-5, move |side, ctx| {
                let head = owned.head()?;
                let n = head.n_queries();
                let mixed = (0..n).map(|q| (q % 11 != 2).then_some(q / 20 % 3)).collect();
                let mut out = Vec::new();
                for groups in [Groups::all(n), Groups::new(mixed), Groups::new(vec![None; n])] {
                    let sums = match side {
                        Side::Cpu => cpu(&head, &groups)?,
                        Side::Fast => fast(&head, &groups, ctx)?,
                        Side::Gpu(g) => gpu(&head, &groups, g, ctx)?,
                    };
                    out.extend(sums.data().iter().map(|&v| f64::from(v)));
                }
                Ok(out)
            })
        };
        samples::heads().into_iter().map(each).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::MaskRule;

    #[test]
    fn columns_of_two_tokens_by_hand() {
        // Rows (1, 0) and (1/4, 3/4): together the keys receive 5/4 and 3/4; the second query alone gives 1/4, 3/4.
        let head = Head {
            q: &[5.0, 3f32.ln()],
            k: &[0.0, 1.0],
            width: 1,
            scale: 1.0,
            soft_cap: None,
            sink: None,
            mask: &MaskRule::Causal,
            q_positions: &[0, 1],
            k_positions: &[0, 1],
        };
        let second = Groups::new(vec![None, Some(0)]);
        for (groups, want) in [(Groups::all(2), [1.25, 0.75]), (second, [0.25, 0.75])] {
            for got in [cpu(&head, &groups).unwrap(), fast(&head, &groups, &Ctx::default()).unwrap()] {
                assert_eq!(got.shape(), [1, 2]);
                assert!(got.data().iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
            }
        }
        assert!(cpu(&head, &Groups::all(3)).is_err());
    }
}
