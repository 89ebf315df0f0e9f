//! One head's queries, keys and mask on the device, cut into pieces that a binding can show.

use super::Head;
use crate::gpu::{Buffer, Work, pieces};
use crate::{Error, Result};
use std::ops::Range;

/// Rows of queries on the device.
pub(in crate::passes) struct QueryPiece {
    /// Which rows of the head.
    pub rows: Range<usize>,
    pub values: Buffer,
    pub span_offsets: Buffer,
    pub spans: Buffer,
    pub positions: Buffer,
    /// Per row: max, log-sum, entropy, distance; four words.
    pub stats: Buffer,
}

/// Rows of keys on the device.
pub(in crate::passes) struct KeyPiece {
    pub rows: Range<usize>,
    pub values: Buffer,
    pub positions: Buffer,
}

/// A head on the device.
pub(in crate::passes) struct Uploaded {
    pub queries: Vec<QueryPiece>,
    pub keys: Vec<KeyPiece>,
    pub width: usize,
    pub scale: f32,
    /// 0 where scores are not capped.
    pub cap: f32,
    /// A score that belongs to no key, where there is one.
    pub sink: Option<f32>,
}

impl Uploaded {
    /// Copies the head to the device. `limit_bytes` is the most that one buffer may hold.
    pub fn new(work: &mut Work, head: &Head, limit_bytes: u64) -> Result<Self> {
        let (width, spans) = (head.width, head.spans());
        let mut queries = Vec::new();
        for rows in pieces(head.n_queries(), width.max(4), limit_bytes) {
            let (offsets, runs) = spans.words(rows.clone());
            queries.push(QueryPiece {
                values: work.upload("queries", &head.q[rows.start * width..rows.end * width])?,
                span_offsets: work.upload_indices("what queries see", &offsets)?,
                spans: work.upload_indices("what queries see", &runs)?,
                positions: work.upload_indices("query positions", &head.q_positions[rows.clone()])?,
                stats: work.buffer("row statistics", 4 * rows.len())?,
                rows,
            });
        }
        let mut keys = Vec::new();
        for rows in pieces(head.n_keys(), width, limit_bytes) {
            keys.push(KeyPiece {
                values: work.upload("keys", &head.k[rows.start * width..rows.end * width])?,
                positions: work.upload_indices("key positions", &head.k_positions[rows.clone()])?,
                rows,
            });
        }
        let cap = head.soft_cap.unwrap_or(0.0);
        if head.soft_cap.is_some_and(|c| c.is_nan() || c <= 0.0) {
            return Err(Error::invalid(format!("a soft cap of {cap} leaves no score")));
        }
        Ok(Self { queries, keys, width, scale: head.scale, cap, sink: head.sink })
    }
}

/// Parts of `n` equal units of work that each fit one submission, when all take `total` multiply–adds.
pub(in crate::passes) fn submissions(work: &Work, n: usize, total: u64) -> Vec<Range<usize>> {
    let n_parts = total.div_ceil(work.gpu.work_per_submission()).clamp(1, n.max(1) as u64) as usize;
    let units = n.div_ceil(n_parts).max(1);
    (0..n).step_by(units).map(|first| first..(first + units).min(n)).collect()
}
