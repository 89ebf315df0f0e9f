//! Any window of one head's map at any down-sampling, from queries, keys and row statistics.
//!
//! A cell is the mean or the largest of the probabilities that it covers. Memory is O(queries + keys + cells), so a
//! window of a 131,072-token head needs no map of that size. On the device the result can stay there as a storage
//! buffer for a painter: see [`DeviceHead`].

use super::attention::device::{Uploaded, submissions};
use super::attention::{Blocks, Head, Norm, QUERIES, Running, edges, in_parallel, means, sweep, sweep_rows};
use super::attention_row_stats::{self, RowStats};
use super::{Pass, Sample, samples};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::gpu::{Buffer, Gpu, Kernel, Layout, Record, Side, Work, gpu_struct, grid, pieces};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Queries of the piece.
        n_queries: u32,
        /// Row of the piece's first query in the map.
        first_query: u32,
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
        /// Cells down.
        rows: u32,
        /// Cells across.
        cols: u32,
        /// Cells down that a workgroup owns.
        cells_down: u32,
        /// Cells across that a workgroup owns.
        cells_across: u32,
        /// Number of the first workgroup.
        first_group: u32,
        /// 1 for the largest value of a cell, 0 for the mean.
        takes_max: u32,
        /// Factor on means.
        weight: f32,
    }
}

const KERNEL: Kernel = Kernel {
    shader: "attention_tile",
    source: concat!(
        include_str!("../../../shaders/shared/dot_block.wgsl"),
        include_str!("../../../shaders/shared/attention.wgsl"),
        include_str!("../../../shaders/shared/probability.wgsl"),
        include_str!("../../../shaders/attention_tile.wgsl"),
    ),
    entry: "main",
};

/// What one cell says of the probabilities that it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// Their mean; pairs that the mask hides count as 0.
    Mean,
    /// The largest.
    Max,
}

impl Reduce {
    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Mean => a + b,
            Self::Max => a.max(b),
        }
    }
}

/// A part of a map and the cells that show it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    /// Query rows.
    pub queries: Range<usize>,
    /// Key rows.
    pub keys: Range<usize>,
    /// Cells down, at most one per query. Cell r covers queries from `r · len / rows` to `(r + 1) · len / rows`.
    pub rows: usize,
    /// Cells across, at most one per key.
    pub cols: usize,
    /// What a cell says.
    pub reduce: Reduce,
}

impl Window {
    /// The whole map in at most `side` cells down and across.
    pub fn whole(head: &Head, side: usize, reduce: Reduce) -> Self {
        let (n, m) = (head.n_queries(), head.n_keys());
        Self { queries: 0..n, keys: 0..m, rows: n.min(side), cols: m.min(side), reduce }
    }

    /// The row of cells that covers `query`, if one does.
    pub fn row_of(&self, query: usize) -> Option<usize> {
        cell_of(&self.queries, self.rows, query)
    }

    /// The column of cells that covers `key`, if one does.
    pub fn col_of(&self, key: usize) -> Option<usize> {
        cell_of(&self.keys, self.cols, key)
    }

    /// First query of every row of cells, and the end.
    pub fn query_edges(&self) -> Vec<usize> {
        edges(&self.queries, self.rows)
    }

    /// First key of every column of cells, and the end.
    pub fn key_edges(&self) -> Vec<usize> {
        edges(&self.keys, self.cols)
    }

    /// Whether every cell is one pair.
    pub fn is_exact(&self) -> bool {
        self.rows == self.queries.len() && self.cols == self.keys.len()
    }

    /// Errors unless the window lies in the map and no cell is empty.
    pub fn check(&self, n_queries: usize, n_keys: usize) -> Result<()> {
        let fits = |range: &Range<usize>, cells: usize, n: usize| {
            range.start <= range.end && range.end <= n && cells <= range.len() && (cells > 0 || range.is_empty())
        };
        if fits(&self.queries, self.rows, n_queries) && fits(&self.keys, self.cols, n_keys) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the window {:?} × {:?} in {} × {} cells does not fit the map of {n_queries} × {n_keys}",
            self.queries, self.keys, self.rows, self.cols
        )))
    }
}

/// The cell of `range` in `cells` parts that row `i` falls into: the last one that begins at or before it.
fn cell_of(range: &Range<usize>, cells: usize, i: usize) -> Option<usize> {
    let within = range.contains(&i) && cells > 0;
    within.then(|| ((i - range.start + 1) * cells - 1) / range.len())
}

/// The plain loops in f64: `[rows, cols]`.
pub fn cpu(head: &Head, window: &Window) -> Result<Array> {
    window.check(head.n_queries(), head.n_keys())?;
    let (query_edges, key_edges) = (edges(&window.queries, window.rows), edges(&window.keys, window.cols));
    let mut cells = vec![0f64; window.rows * window.cols];
    for r in 0..window.rows {
        for q in query_edges[r]..query_edges[r + 1] {
            let row = head.probabilities(q);
            for c in 0..window.cols {
                for p in &row[key_edges[c]..key_edges[c + 1]] {
                    let cell = &mut cells[r * window.cols + c];
                    *cell = window.reduce.join(*cell, *p);
                }
            }
        }
    }
    finish(window, cells)
}

/// Sums become means.
fn finish(window: &Window, cells: impl IntoIterator<Item = f64>) -> Result<Array> {
    let (query_edges, key_edges) = (edges(&window.queries, window.rows), edges(&window.keys, window.cols));
    let pairs = |i: usize| match window.reduce {
        Reduce::Max => 1.0,
        Reduce::Mean => {
            let (r, c) = (i / window.cols, i % window.cols);
            ((query_edges[r + 1] - query_edges[r]) * (key_edges[c + 1] - key_edges[c])) as f64
        }
    };
    let values = cells.into_iter().enumerate().map(|(i, v)| (v / pairs(i)) as f32).collect();
    Array::new([window.rows, window.cols], values)
}

/// Blocks in f32, in parallel: `[rows, cols]`. Without `stats` they are found on the way.
pub fn fast(head: &Head, stats: Option<&RowStats>, window: &Window, ctx: &Ctx) -> Result<Array> {
    Ok(swept(head, stats, window, ctx)?.0)
}

fn swept(head: &Head, stats: Option<&RowStats>, window: &Window, ctx: &Ctx) -> Result<(Array, Vec<Running>)> {
    window.check(head.n_queries(), head.n_keys())?;
    check_stats(head, stats)?;
    let norm = stats.map(|s| move |q: usize| s.norm(q));
    let mut cells = vec![0f32; window.rows * window.cols];
    let running = sweep(head, norm.as_ref().map(|n| n as Norm), window, &mut cells, ctx)?;
    Ok((finished(window, cells)?, running))
}

/// [`finish`] of cells in f32. The mean of one pair, and the largest, are as they came.
fn finished(window: &Window, cells: Vec<f32>) -> Result<Array> {
    match window.reduce {
        Reduce::Mean if !window.is_exact() => finish(window, cells.into_iter().map(f64::from)),
        _ => Array::new([window.rows, window.cols], cells),
    }
}

/// Cells of a whole map that are written at once: they stay within a core's cache until they are shares.
const BLOCK_CELLS: usize = 1 << 17;

/// The whole map of `head`, pair by pair, written to `place` `[queries, keys]`, which holds zeros.
pub(super) fn fast_whole(head: &Head, place: &mut [f32], ctx: &Ctx) -> Result<()> {
    let (n, m) = (head.n_queries(), head.n_keys());
    if n == 0 || m == 0 {
        return Ok(());
    }
    let blocks = Blocks::whole(head);
    let rows = (BLOCK_CELLS / m).clamp(16, QUERIES);
    let units: Vec<_> = place.chunks_mut(rows * m).enumerate().collect();
    in_parallel(units, ctx, |(i, place)| {
        blocks.map(i * rows..(i * rows + place.len() / m), place);
        Ok(())
    })
    .map(drop)
}

fn check_stats(head: &Head, stats: Option<&RowStats>) -> Result<()> {
    match stats {
        Some(s) if s.max.len() != head.n_queries() || s.log_sum.len() != head.n_queries() => {
            Err(Error::shape("row statistics", format!("[{}]", head.n_queries()), &[s.max.len()]))
        }
        _ => Ok(()),
    }
}

/// The shader: `[rows, cols]`. Without `stats` they are computed on the device first.
pub fn gpu(head: &Head, stats: Option<&RowStats>, window: &Window, gpu: &Gpu, ctx: &Ctx) -> Result<Array> {
    window.check(head.n_queries(), head.n_keys())?;
    check_stats(head, stats)?;
    gpu.run(|work| {
        let limit = work.binding_bytes();
        let uploaded = Uploaded::new(work, head, limit)?;
        match stats {
            Some(s) => write_stats(work, &uploaded, s)?,
            None => attention_row_stats::record(work, &uploaded, ctx)?,
        }
        read_cells(work, &[&uploaded], window, ctx)
    })
}

/// On the side that the context's rule chooses.
pub fn run(head: &Head, stats: Option<&RowStats>, window: &Window, ctx: &Ctx) -> Result<Array> {
    ctx.compute(|| fast(head, stats, window, ctx), |device| gpu(head, stats, window, device, ctx))
}

/// The whole map in at most `side` cells a side and the statistics of its rows, in one sweep where that is quicker.
pub fn overview(head: &Head, side: usize, reduce: Reduce, ctx: &Ctx) -> Result<(Array, RowStats)> {
    let window = Window::whole(head, side, reduce);
    ctx.compute(
        || {
            let (cells, running) = swept(head, None, &window, ctx)?;
            Ok((cells, RowStats::of_running(running)))
        },
        |device| {
            device.run(|work| {
                let limit = work.binding_bytes();
                let uploaded = Uploaded::new(work, head, limit)?;
                attention_row_stats::record(work, &uploaded, ctx)?;
                let stats = attention_row_stats::read(work, &uploaded)?;
                Ok((read_cells(work, &[&uploaded], &window, ctx)?, stats))
            })
        },
    )
}

/// Strips that the overview of a long map is made in.
const STRIPS: usize = 16;

/// [`overview`] by the CPU, strip by strip from the top. `seen` gets the cells `[rows, cols]` so far, 0 where there are
/// none yet, after each strip but the last.
pub fn overview_in_strips(
    head: &Head,
    window: &Window,
    ctx: &Ctx,
    seen: &mut dyn FnMut(&Array),
) -> Result<(Array, RowStats)> {
    window.check(head.n_queries(), head.n_keys())?;
    let mut cells = Array::new([window.rows, window.cols], vec![0f32; window.rows * window.cols])?;
    let mut running = Vec::new();
    for strip in 0..STRIPS {
        ctx.step(strip, STRIPS)?;
        let rows = strip * window.rows / STRIPS..(strip + 1) * window.rows / STRIPS;
        let place = &mut cells.data_mut()[rows.start * window.cols..rows.end * window.cols];
        running.extend(sweep_rows(head, None, window, rows, place, &ctx.part(strip, STRIPS))?);
        if strip + 1 < STRIPS {
            seen(&cells);
        }
    }
    Ok((finished(window, cells.into_data())?, RowStats::of_running(running)))
}

/// The mean over `heads` of one window of each: `[rows, cols]`. The heads must have the same rows.
pub fn mean_of_heads(heads: &[Head], window: &Window, ctx: &Ctx) -> Result<Array> {
    let Some(first) = heads.first() else { return Err(Error::invalid("there are no heads to take the mean of")) };
    if heads.iter().any(|h| (h.n_queries(), h.n_keys()) != (first.n_queries(), first.n_keys())) {
        return Err(Error::invalid("heads of different rows have no mean"));
    }
    window.check(first.n_queries(), first.n_keys())?;
    ctx.compute(
        || finished(window, means(heads, window, ctx)?),
        |device| {
            device.run(|work| {
                let limit = work.binding_bytes();
                let mut all = Vec::new();
                for (i, head) in heads.iter().enumerate() {
                    let uploaded = Uploaded::new(work, head, limit)?;
                    attention_row_stats::record(work, &uploaded, &ctx.part(i, heads.len()))?;
                    all.push(uploaded);
                }
                read_cells(work, &all.iter().collect::<Vec<_>>(), window, ctx)
            })
        },
    )
}

fn write_stats(work: &mut Work, head: &Uploaded, stats: &RowStats) -> Result<()> {
    for piece in &head.queries {
        let words: Vec<f32> =
            piece.rows.clone().flat_map(|q| [stats.max[q].max(-3.0e38), stats.log_sum[q], 0.0, 0.0]).collect();
        work.write(&piece.stats, &words)?;
    }
    Ok(())
}

/// The mean over `heads` of a window (largest values are those of one head), in bands that a buffer can hold.
fn read_cells(work: &mut Work, heads: &[&Uploaded], window: &Window, ctx: &Ctx) -> Result<Array> {
    let query_edges = edges(&window.queries, window.rows);
    let mut out = Vec::with_capacity(window.rows * window.cols);
    for band in pieces(window.rows, window.cols, work.binding_bytes()) {
        let band = &query_edges[band.start..=band.end];
        let cells = record(work, heads, window, band, ctx)?;
        out.extend(work.read::<f32>(&cells)?);
    }
    Array::new([window.rows, window.cols], out)
}

/// Records the cells of the rows between `query_edges`.
fn record(work: &mut Work, heads: &[&Uploaded], window: &Window, query_edges: &[usize], ctx: &Ctx) -> Result<Buffer> {
    let (rows, cols) = (query_edges.len().saturating_sub(1), window.cols);
    let cells = work.buffer("cells", rows * cols)?;
    if rows * cols == 0 {
        return Ok(cells);
    }
    let n = query_edges[rows] - query_edges[0];
    let query_edges = work.upload_indices("query edges", query_edges)?;
    let key_edges = work.upload_indices("key edges", &edges(&window.keys, cols))?;
    // As many cells as cover about a block of scores.
    let owned = |cells: usize, scores: usize| (32 * cells / scores.max(1)).clamp(1, 32);
    let (down, across) = (owned(rows, n), owned(cols, window.keys.len()));
    let n_groups = rows.div_ceil(down) * cols.div_ceil(across);
    for (i, head) in heads.iter().enumerate() {
        let cost = (n * window.keys.len()) as u64 * head.width.max(16) as u64;
        for part in submissions(work, n_groups, cost) {
            ctx.step(i * n_groups + part.start, heads.len() * n_groups)?;
            for queries in &head.queries {
                for keys in &head.keys {
                    let params = Params {
                        n_queries: queries.rows.len() as u32,
                        first_query: queries.rows.start as u32,
                        n_keys: keys.rows.len() as u32,
                        first_key: keys.rows.start as u32,
                        width: head.width as u32,
                        scale: head.scale,
                        cap: head.cap,
                        rows: rows as u32,
                        cols: cols as u32,
                        cells_down: down as u32,
                        cells_across: across as u32,
                        first_group: part.start as u32,
                        takes_max: u32::from(window.reduce == Reduce::Max),
                        weight: 1.0 / heads.len() as f32,
                    };
                    let buffers = [
                        &queries.values,
                        &keys.values,
                        &queries.span_offsets,
                        &queries.spans,
                        &queries.stats,
                        &query_edges,
                        &key_edges,
                        &cells,
                    ];
                    work.dispatch(&KERNEL, &params, &buffers, grid(part.len())?)?;
                }
            }
            work.wait()?;
        }
    }
    Ok(cells)
}

/// A head that lives on the device with its statistics, so that windows of it cost only themselves.
pub struct DeviceHead {
    gpu: Arc<Gpu>,
    device: wgpu::Device,
    device_id: u64,
    uploaded: Uploaded,
    n_queries: usize,
    n_keys: usize,
}

/// A window of a map that stayed on the device.
pub struct DeviceTile {
    /// Storage buffer of `rows · cols` f32, row-major.
    pub buffer: wgpu::Buffer,
    /// The device that owns the buffer; a painter on another one must read the tile on the host instead.
    pub device: wgpu::Device,
    /// Its number, see [`Gpu::device_id`].
    pub device_id: u64,
    /// Cells down.
    pub rows: usize,
    /// Cells across.
    pub cols: usize,
    pub(super) gpu: Arc<Gpu>,
    pub(super) cells: Buffer,
}

impl DeviceTile {
    /// Copies the cells to the host: `[rows, cols]`. Errors if the device was lost since.
    pub fn read(&self) -> Result<Array> {
        self.gpu.run(|work| {
            if work.device_id() != self.device_id {
                return Err(Error::Gpu("the map lies on a device that was lost; compute it again".into()));
            }
            Array::new([self.rows, self.cols], work.read::<f32>(&self.cells)?)
        })
    }
}

/// Copies `head` to the device and computes the statistics of its rows there.
pub fn on_device(head: &Head, gpu: &Arc<Gpu>, ctx: &Ctx) -> Result<DeviceHead> {
    let (device, device_id, uploaded) = gpu.run(|work| {
        let limit = work.binding_bytes();
        let uploaded = Uploaded::new(work, head, limit)?;
        attention_row_stats::record(work, &uploaded, ctx)?;
        Ok((work.device().clone(), work.device_id(), uploaded))
    })?;
    let (n_queries, n_keys) = (head.n_queries(), head.n_keys());
    Ok(DeviceHead { gpu: gpu.clone(), device, device_id, uploaded, n_queries, n_keys })
}

impl DeviceHead {
    /// Bytes of its queries and keys.
    pub fn bytes(&self) -> usize {
        4 * (self.n_queries + self.n_keys) * self.uploaded.width
    }

    /// Query and key rows of the map.
    pub fn size(&self) -> (usize, usize) {
        (self.n_queries, self.n_keys)
    }

    /// Computes a window and leaves it on the device. Errors if the window does not fit, if its cells are more than
    /// one buffer holds, or if the device was lost since: then the head must be copied again.
    pub fn tile(&self, window: &Window, ctx: &Ctx) -> Result<DeviceTile> {
        window.check(self.n_queries, self.n_keys)?;
        self.gpu.run(|work| {
            if work.device_id() != self.device_id {
                return Err(Error::Gpu("the head lies on a device that was lost; copy it again".into()));
            }
            let cells = record(work, &[&self.uploaded], window, &edges(&window.queries, window.rows), ctx)?;
            Ok(DeviceTile {
                buffer: cells.raw().clone(),
                device: self.device.clone(),
                device_id: self.device_id,
                rows: window.rows,
                cols: window.cols,
                gpu: self.gpu.clone(),
                cells,
            })
        })
    }

    /// Computes a window and copies it to the host: `[rows, cols]`.
    pub fn read(&self, window: &Window, ctx: &Ctx) -> Result<Array> {
        window.check(self.n_queries, self.n_keys)?;
        self.gpu.run(|work| {
            if work.device_id() != self.device_id {
                return Err(Error::Gpu("the head lies on a device that was lost; copy it again".into()));
            }
            read_cells(work, &[&self.uploaded], window, ctx)
        })
    }
}

/// The pass, for the list of all.
pub(super) struct AttentionTile;

/// Windows of a map of `n` × `m` to try: whole at full size and small, a part, a cell, a column, nothing.
fn windows(n: usize, m: usize) -> Vec<Window> {
    let mut out = Vec::new();
    for reduce in [Reduce::Mean, Reduce::Max] {
        let part = |queries: Range<usize>, keys: Range<usize>, rows: usize, cols: usize| {
            let (rows, cols) = (rows.min(queries.len()), cols.min(keys.len()));
            Window { queries, keys, rows, cols, reduce }
        };
        out.push(part(0..n, 0..m, n, m));
        out.push(part(0..n, 0..m, 5, 3));
        out.push(part(n / 3..n, 0..m / 2, 24, 24));
        out.push(part(n / 2..n, m / 2..m, 1, 1));
        out.push(part(0..n, 0..m.min(1), n, 1));
        out.push(part(n / 2..n / 2, m / 3..m, 4, 7));
    }
    out
}

impl Pass for AttentionTile {
    fn name(&self) -> &'static str {
        "attention_tile"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        vec![(KERNEL, Params::LAYOUT)]
    }

    fn samples(&self) -> Vec<Sample> {
        let each = |(name, owned): (String, samples::OwnedHead)| {
            // A probability is off by as much as its score, 10⁻⁶ to 10⁻⁵ of itself where scores reach tens.
            Sample::new(name, 2e-5, move |side, ctx| {
                let head = owned.head()?;
                let mut out = Vec::new();
                for window in windows(head.n_queries(), head.n_keys()) {
                    let stats = attention_row_stats::cpu(&head);
                    let tiles = match side {
                        Side::Cpu => vec![cpu(&head, &window)?; 2],
                        Side::Fast => [Some(&stats), None]
                            .map(|s| fast(&head, s, &window, ctx))
                            .into_iter()
                            .collect::<Result<_>>()?,
                        Side::Gpu(g) => [Some(&stats), None]
                            .map(|s| gpu(&head, s, &window, g, ctx))
                            .into_iter()
                            .collect::<Result<_>>()?,
                    };
                    out.extend(tiles.iter().flat_map(|t| t.data()).map(|&v| f64::from(v)));
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
    use crate::passes::samples::OwnedHead;
    use crate::trace::MaskRule;

    /// Two queries; the second splits 1/4 to 3/4.
    fn head<'a>(k: &'a [f32], q: &'a [f32]) -> Head<'a> {
        Head {
            q,
            k,
            width: 1,
            scale: 1.0,
            soft_cap: None,
            sink: None,
            mask: &MaskRule::Causal,
            q_positions: &[0, 1],
            k_positions: &[0, 1],
        }
    }

    #[test]
    fn strips_grow_into_the_overview() {
        for (n, side, reduce) in
            [(203, 50, Reduce::Max), (203, 50, Reduce::Mean), (70, 7, Reduce::Max), (5, 9, Reduce::Max)]
        {
            let owned = samples::OwnedHead::new(1, 1, 8, n, 3);
            let head = owned.head().unwrap();
            let (want, stats) = overview(&head, side, reduce, &Ctx::default()).unwrap();
            let mut filled = Vec::new();
            let mut seen = |a: &Array| filled.push(a.data().iter().filter(|v| **v > 0.0).count());
            let window = Window::whole(&head, side, reduce);
            let (got, of_rows) = overview_in_strips(&head, &window, &Ctx::default(), &mut seen).unwrap();
            // Where a strip begins, dot products are summed in another order.
            for (a, b) in [
                (got.data(), want.data()),
                (&of_rows.max, &stats.max),
                (&of_rows.log_sum, &stats.log_sum),
                (&of_rows.entropy, &stats.entropy),
                (&of_rows.distance, &stats.distance),
            ] {
                let far = a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
                assert!(far < 2e-6 && a.len() == b.len(), "{n} {side} {reduce:?}: {far}");
            }
            assert!(
                filled.len() == STRIPS - 1 && filled.is_sorted() && filled[0] < filled[STRIPS - 2].max(1),
                "{filled:?}"
            );
        }
    }

    #[test]
    fn a_map_of_two_tokens_whole_and_as_one_cell() {
        let (q, k) = ([5.0, 3f32.ln()], [0.0, 1.0]);
        let head = head(&k, &q);
        for (side, reduce, want) in
            [(2, Reduce::Mean, vec![1.0, 0.0, 0.25, 0.75]), (1, Reduce::Mean, vec![0.5]), (1, Reduce::Max, vec![1.0])]
        {
            let window = Window::whole(&head, side, reduce);
            for got in [cpu(&head, &window).unwrap(), fast(&head, None, &window, &Ctx::default()).unwrap()] {
                let close = got.data().iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6);
                assert!(close && got.data().len() == want.len(), "{reduce:?} {got:?} {want:?}");
            }
        }
    }

    #[test]
    fn whole_maps_are_those_of_the_plain_loops_under_every_rule() {
        let long = samples::OwnedHead::new(1, 1, 8, 3 * QUERIES + 5, 4);
        for (name, owned) in samples::heads().into_iter().chain([("several blocks".into(), long)]) {
            let head = owned.head().unwrap();
            let want = cpu(&head, &Window::whole(&head, usize::MAX, Reduce::Max)).unwrap();
            let mut got = vec![0f32; want.data().len()];
            fast_whole(&head, &mut got, &Ctx::default()).unwrap();
            for (i, (got, want)) in got.iter().zip(want.data()).enumerate() {
                assert!((got - want).abs() < 2e-6, "{name}, {i}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn a_window_normalises_over_all_keys_and_not_its_own() {
        let (q, k) = ([5.0, 3f32.ln()], [0.0, 1.0]);
        let head = head(&k, &q);
        let window = Window { queries: 1..2, keys: 1..2, rows: 1, cols: 1, reduce: Reduce::Max };
        for got in [cpu(&head, &window).unwrap(), fast(&head, None, &window, &Ctx::default()).unwrap()] {
            assert!((got.data()[0] - 0.75).abs() < 1e-6, "{got:?}");
        }
    }

    #[test]
    fn every_row_falls_into_the_cell_whose_edges_hold_it() {
        for (first, end, rows) in [(0, 7, 3), (5, 29, 24), (2, 9, 7), (10, 1000, 24)] {
            let window = Window { queries: first..end, keys: 0..1, rows, cols: 1, reduce: Reduce::Max };
            let edges = window.query_edges();
            for q in first..end {
                let r = window.row_of(q).unwrap();
                assert!(edges[r] <= q && q < edges[r + 1], "{q} in {r} of {edges:?}");
            }
            assert_eq!((window.row_of(end), window.col_of(0)), (None, Some(0)));
        }
    }

    #[test]
    fn a_window_outside_the_map_or_with_empty_cells_is_an_error() {
        let (q, k) = ([5.0, 1.0], [0.0, 1.0]);
        let head = head(&k, &q);
        let window = |queries, rows| Window { queries, keys: 0..2, rows, cols: 2, reduce: Reduce::Mean };
        for bad in [window(0..3, 1), window(0..2, 3), window(0..2, 0), window(1..1, 1)] {
            assert!(cpu(&head, &bad).is_err() && fast(&head, None, &bad, &Ctx::default()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_overview_knows_the_rows_of_the_whole_map() {
        let owned = samples::OwnedHead::new(1, 1, 8, 150, 5);
        let head = owned.head().unwrap();
        let (cells, stats) = overview(&head, 24, Reduce::Max, &Ctx::default()).unwrap();
        assert_eq!(cells.shape(), [24, 24]);
        let want = attention_row_stats::cpu(&head);
        for (a, b) in stats.entropy.iter().zip(&want.entropy) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn the_mean_of_heads_is_that_of_the_plain_loops() {
        let n = 300;
        let owned: Vec<OwnedHead> = (1..4).map(|seed| OwnedHead::new(1, 1, 4, n, seed)).collect();
        let heads: Vec<Head> = owned.iter().map(|h| h.head().unwrap()).collect();
        for reduce in [Reduce::Mean, Reduce::Max] {
            for (queries, rows, cols) in [(0..n, 3, 7), (0..n, n, n), (40..n, 1, 1), (7..200, 150, 20)] {
                let window = Window { queries, keys: 0..n, rows, cols, reduce };
                let got = mean_of_heads(&heads, &window, &Ctx::default()).unwrap();
                let all: Vec<Array> = heads.iter().map(|h| cpu(h, &window).unwrap()).collect();
                for (i, got) in got.data().iter().enumerate() {
                    let want = all.iter().map(|a| a.data()[i]).sum::<f32>() / 3.0;
                    assert!((got - want).abs() < 1e-5 * (want + 1e-3), "{window:?} {i}: {got}, not {want}");
                }
            }
        }
    }
}
