//! The attention map of one head as it is looked at: the whole, or a part that is zoomed into. Nothing here grows with
//! the square of the input.

use super::{tower, trace_of};
use crate::heatmap::{Summary, version};
use crate::jobs::{Ask, Store};
use crate::keys::{RunKey, Scope};
use std::ops::Range;
use std::sync::Arc;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::gpu::Gpu;
use tokenscope_analysis::passes::attention::Head;
use tokenscope_analysis::passes::attention_row_stats::{self, RowStats};
use tokenscope_analysis::passes::attention_tile::{self, DeviceHead, DeviceTile, Reduce, Window};
use tokenscope_analysis::passes::value_counts;
use tokenscope_analysis::{Ctx, Error, Result};

/// Cells of a map a side at most; up to so many tokens every cell is one pair.
pub const MAP_SIDE: usize = 2048;

/// A part of a map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    /// Query rows.
    pub queries: Range<usize>,
    /// Key rows.
    pub keys: Range<usize>,
}

/// One head's map: the whole in [`MAP_SIDE`] cells a side at most, or a part of it that is zoomed into.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MapOf {
    /// The stack.
    pub scope: Scope,
    /// Layer.
    pub layer: usize,
    /// Head.
    pub head: usize,
    /// `None` is the whole.
    pub part: Option<Part>,
}

/// One head's map, or a part of it. A cell that covers several pairs shows the largest share among them.
pub struct AttentionMap {
    /// A number that no other map has.
    pub version: u64,
    /// Rows of the whole map, queries and keys alike.
    pub n: usize,
    /// What is covered.
    pub window: Window,
    /// Shares `[rows, cols]`.
    pub cells: Cells,
    /// What a colour scale is fitted to; empty for a part, which keeps the scale of the whole.
    pub summary: Arc<Summary>,
    /// Statistics of the rows of a long map that was computed on the host, which parts of it build on.
    stats: Option<Arc<RowStats>>,
}

/// Where the cells of a map are.
pub enum Cells {
    /// On the host.
    Host(Arc<Array>),
    /// On the device that computed them.
    Device(Arc<DeviceTile>),
}

impl AttentionMap {
    /// The share of the cell that covers this pair, if it is in the window; `cells` are those of this map.
    pub fn at(&self, cells: &Array, query: usize, key: usize) -> Option<f32> {
        cells.row(self.window.row_of(query)?).get(self.window.col_of(key)?).copied()
    }
}

impl Ask for MapOf {
    type Out = AttentionMap;

    /// What computes on a device leaves the map there, to be drawn from.
    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<AttentionMap> {
        let Self { scope, layer, head, part } = self;
        let t = trace_of(&scope.run, store, ctx)?;
        let map = Head::of_trace(&t, tower(scope, &t), 0, *layer, *head)?;
        let mut window = Window::whole(&map, MAP_SIDE, Reduce::Max);
        if let Some(Part { queries, keys }) = part {
            let (rows, cols) = (queries.len().min(MAP_SIDE), keys.len().min(MAP_SIDE));
            window = Window { queries: queries.clone(), keys: keys.clone(), rows, cols, reduce: Reduce::Max };
        }
        let n = map.n_queries();
        let whole = part.is_none();
        let own = HeadOf { scope: scope.clone(), layer: *layer, head: *head };
        let long = n > MAP_SIDE;
        let on_host = || {
            if whole && long {
                // Seconds of work: what is there of it is shown as it grows.
                let seen = &mut |so_far: &Array| {
                    if let Ok(counts) = value_counts::fast(so_far) {
                        let cells = Cells::Host(Arc::new(so_far.clone()));
                        let summary = Arc::new(Summary::new(&counts, 0));
                        let window = window.clone();
                        store.show::<Self>(AttentionMap { version: version(), n, window, cells, summary, stats: None });
                    }
                };
                let (cells, stats) = attention_tile::overview_in_strips(&map, &window, ctx, seen)?;
                let counts = value_counts::fast(&cells)?;
                return Ok((Cells::Host(Arc::new(cells)), Some(counts), Some(Arc::new(stats))));
            }
            // Every part of a long map needs the statistics of its rows, which came with the whole.
            let stats = match long {
                true => match &store.get(&Self { part: None, ..self.clone() }, ctx)?.stats {
                    Some(stats) => Some(stats.clone()),
                    None => Some(Arc::new(attention_row_stats::run(&map, ctx)?)),
                },
                false => None,
            };
            let cells = attention_tile::fast(&map, stats.as_deref(), &window, ctx)?;
            let counts = if whole { Some(value_counts::fast(&cells)?) } else { None };
            Ok((Cells::Host(Arc::new(cells)), counts, stats))
        };
        let on_device = |_: &Gpu| {
            let kept = store.get(&DeviceHeadOf(own.clone()), ctx)?;
            let tile = match (kept.tile(&window, ctx), &ctx.gpu) {
                // The head was kept on a device that was lost since.
                (Err(Error::Gpu(_)), Some(gpu)) => attention_tile::on_device(&map, gpu, ctx)?.tile(&window, ctx)?,
                (tile, _) => tile?,
            };
            let counts = if whole { Some(value_counts::of_tile(&tile)?) } else { None };
            Ok((Cells::Device(Arc::new(tile)), counts, None))
        };
        let (cells, counts, stats) = ctx.compute(on_host, on_device)?;
        let summary = Arc::new(counts.map(|c| Summary::new(&c, 0)).unwrap_or_default());
        Ok(AttentionMap { version: version(), n, window, cells, summary, stats })
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.scope.run)
    }

    fn bytes(a: &AttentionMap) -> u64 {
        let stats = a.stats.as_ref().map_or(0, |s| 4 * size_of::<f32>() * s.max.len());
        (4 * a.window.rows * a.window.cols + a.summary.bytes() + stats) as u64
    }
}

/// The cells of such a map on the host, where it was computed on a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CellsOf(pub MapOf);

impl Ask for CellsOf {
    type Out = Arc<Array>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Arc<Array>> {
        match &store.get(&self.0, ctx)?.cells {
            Cells::Host(a) => Ok(a.clone()),
            Cells::Device(d) => d.read().map(Arc::new),
        }
    }

    fn run(&self) -> Option<&RunKey> {
        self.0.run()
    }

    fn bytes(a: &Arc<Array>) -> u64 {
        size_of_val(a.data()) as u64
    }
}

/// A head of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct HeadOf {
    scope: Scope,
    layer: usize,
    head: usize,
}

/// One head's queries and keys on the device that computes, with the statistics of its rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DeviceHeadOf(HeadOf);

impl Ask for DeviceHeadOf {
    type Out = DeviceHead;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<DeviceHead> {
        let HeadOf { scope, layer, head } = &self.0;
        let t = trace_of(&scope.run, store, ctx)?;
        let head = Head::of_trace(&t, tower(scope, &t), 0, *layer, *head)?;
        let gpu = ctx.gpu.as_ref().ok_or_else(|| Error::Gpu("there is no graphics adapter".into()))?;
        attention_tile::on_device(&head, gpu, ctx)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0.scope.run)
    }

    fn bytes(h: &DeviceHead) -> u64 {
        h.bytes() as u64
    }
}
