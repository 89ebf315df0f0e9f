//! What a method may look at when it is asked: a pass that is under way, or the arrays of a raw entry. One method body
//! serves both.

use super::decide::Decision;
use super::place::Place;
use crate::array::Array;
use crate::passes::segment_reduce::{self, How};
use crate::trace::{Attending, AttentionRule, Held, MaskRule, Rows};
use crate::{Error, Result};
use candle_core::Device;
use std::collections::{BTreeMap, BTreeSet};

/// Half of a block, for what it reads and what it adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Attention.
    Attention,
    /// The MLP.
    Mlp,
}

/// What there is at a place. Rows are those of the place, in its order.
pub trait Seen {
    /// Where it is.
    fn place(&self) -> Place;
    /// Tile of a tiled image; 0 elsewhere.
    fn tile(&self) -> usize {
        0
    }
    /// The rows.
    fn rows(&self) -> &Rows;
    /// Rows that were set aside before and wait.
    fn waiting(&self) -> &Rows;
    /// Rows that a method may touch, ascending: those of the image where there is one, else all of a text but the
    /// first and the last.
    fn open(&self) -> &[usize];
    /// Rows and columns of the open rows as a grid of patches, while they are whole.
    fn grid(&self) -> Option<(usize, usize)>;
    /// Which of the image's tokens, counted from 0, the row stands for: a patch has the same number in the encoder and
    /// in the language model, where that has a place for each.
    fn patches(&self, row: usize) -> Vec<usize>;
    /// The residual stream, or the image features, `[n, d]`.
    fn values(&self) -> Result<Array>;
    /// Keys of this layer's attention, mean over heads, `[n, e]`; `None` where the place has none of these rows.
    fn keys(&self) -> Result<Option<Array>>;
    /// Keys of this layer's attention, `[key-value heads, n, e]`.
    fn head_keys(&self) -> Result<Array>;
    /// Values of this layer's attention, `[key-value heads, n, e]`.
    fn head_values(&self) -> Result<Array>;
    /// Queries of this layer's attention, `[heads, n, e]`.
    fn head_queries(&self) -> Result<Array>;
    /// Queries `[heads, n, e]` and keys `[key-value heads, n, e]` of the next layer, if it read the rows as they are
    /// now.
    fn next_queries_keys(&self) -> Result<(Array, Array)>;
    /// The rows behind the model's last norm, `[n, d]`.
    fn normed(&self) -> Result<Array>;
    /// What the model's projector makes of rows of the encoder, `[n, encoder's width]` to `[n, d]`.
    fn project(&self, x: &Array) -> Result<Array>;
    /// The wide middle of this layer's MLP `[n, width]`, for deciders that say so.
    fn hidden(&self) -> Result<Array>;
    /// The open rows as grids, one for each tile: the first by index among them, rows, columns. Empty once rows are no
    /// longer whole grids.
    fn tiles(&self) -> Vec<(usize, usize, usize)>;
    /// Rows of this layer's attention for these query rows, `[heads, queries, n]`.
    fn pattern(&self, queries: &[usize]) -> Result<Array>;
    /// The same of the next layer, if it read the rows as they are now.
    fn next_pattern(&self, queries: &[usize]) -> Result<Array>;
    /// What a half of this layer's block reads, behind its norm, and what it adds to the stream; `[n, d]` each.
    fn block(&self, part: Part) -> Result<(Array, Array)>;
    /// How much the encoder's class token attends to each patch in `layer`, `[heads, patches]`: of the rows that are
    /// here where that is this layer, else of the full run.
    fn class_row(&self, layer: usize) -> Result<Array>;

    /// Rows that read the open ones last: what stands behind them, as a question behind its picture.
    fn behind(&self) -> Vec<usize> {
        (self.open().last().map_or(0, |r| r + 1)..self.rows().len()).collect()
    }
}

/// Rows of `x` `[n, d]`, in this order.
pub fn pick(x: &Array, rows: &[usize]) -> Result<Array> {
    let [_, d] = x.dims("rows")?;
    Array::new([rows.len(), d], rows.iter().flat_map(|&r| x.row(r).iter().copied()).collect())
}

/// Causal attention `[heads, n, n]` of turned queries and keys `[heads, n, e]`, for raw entries that are given these.
pub fn causal(q: &Array, k: &Array) -> Result<Array> {
    let ([heads, n, e], [kv_heads, m, _]) = (q.dims("queries")?, k.dims("keys")?);
    if kv_heads == 0 || heads % kv_heads != 0 || n != m || k.shape()[2] != e {
        return Err(Error::shape("keys", format!("[divisor of {heads}, {n}, {e}]"), k.shape()));
    }
    let (q, k) = (q.to_tensor(&Device::Cpu)?, k.to_tensor(&Device::Cpu)?);
    let positions: Vec<usize> = (0..n).collect();
    let held = [Held { v: k.clone(), k, positions: positions.clone() }];
    let scale = (e as f32).powf(-0.5);
    let rule = AttentionRule {
        n_heads: heads,
        n_kv_heads: kv_heads,
        scale,
        mask: MaskRule::Causal,
        soft_cap: None,
        sinks: None,
    };
    Attending { q: &q, held: &held, rule: &rule, positions: &positions, sizes: None }.rows(&positions)
}

/// What a raw entry may give of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Given {
    /// Values `[n, d]`.
    Values,
    /// Values behind the model's last norm `[n, d]`.
    Normed,
    /// Keys, mean over heads `[n, e]`.
    Keys,
    /// Keys `[heads, n, e]`.
    HeadKeys,
    /// Values of the attention `[heads, n, e]`.
    HeadValues,
    /// Queries `[heads, n, e]`.
    HeadQueries,
    /// Attention `[heads, n, n]`.
    Pattern,
    /// The next layer's attention `[heads, n, n]`.
    NextPattern,
    /// The class token's attention `[heads, open rows]`.
    ClassRow,
    /// The wide middle of the MLP `[n, width]`.
    Hidden,
}

impl Given {
    fn words(self) -> &'static str {
        match self {
            Given::Values | Given::HeadValues => "values",
            Given::Normed => "values behind the last norm",
            Given::Keys | Given::HeadKeys => "keys",
            Given::HeadQueries => "queries",
            Given::Pattern => "attention",
            Given::NextPattern => "attention of the next layer",
            Given::ClassRow => "class row",
            Given::Hidden => "middle of the MLP",
        }
    }
}

/// The arrays of a raw entry as a place.
pub struct Table {
    place: Place,
    rows: Rows,
    none: Rows,
    open: Vec<usize>,
    grid: Option<(usize, usize)>,
    given: BTreeMap<Given, Array>,
    blocks: Vec<(Part, Array, Array)>,
}

impl Table {
    /// `n` rows at `place`, each a token, of which `open` may be touched.
    pub fn new(place: Place, n: usize, open: std::ops::Range<usize>) -> Self {
        Self::of(place, Rows::identity(n), open.collect())
    }

    /// These rows at `place`.
    pub fn of(place: Place, rows: Rows, open: Vec<usize>) -> Self {
        Self { place, rows, none: Rows::default(), open, grid: None, given: BTreeMap::new(), blocks: Vec::new() }
    }

    /// With a grid of patches.
    pub fn with_grid(self, grid: (usize, usize)) -> Self {
        Self { grid: Some(grid), ..self }
    }

    /// With this array.
    pub fn with(mut self, what: Given, x: &Array) -> Self {
        self.given.insert(what, x.clone());
        self
    }

    /// With values `[n, d]`.
    pub fn with_values(self, x: &Array) -> Self {
        self.with(Given::Values, x)
    }

    /// With keys `[n, e]`.
    pub fn with_keys(self, x: &Array) -> Self {
        self.with(Given::Keys, x)
    }

    /// With attention `[heads, n, n]`.
    pub fn with_pattern(self, x: &Array) -> Self {
        self.with(Given::Pattern, x)
    }

    /// With the next layer's attention `[heads, n, n]`.
    pub fn with_next_pattern(self, x: &Array) -> Self {
        self.with(Given::NextPattern, x)
    }

    /// With what a half of the block reads and adds, `[n, d]` each.
    pub fn with_block(mut self, part: Part, reads: &Array, adds: &Array) -> Self {
        self.blocks.push((part, reads.clone(), adds.clone()));
        self
    }

    /// With the class token's attention `[heads, open rows]`.
    pub fn with_class_row(self, x: &Array) -> Self {
        self.with(Given::ClassRow, x)
    }

    fn get(&self, what: Given) -> Result<Array> {
        self.given.get(&what).cloned().ok_or_else(|| missing(what.words()))
    }

    /// What a decision leaves: its rows and their values. What was known about the old rows besides is known no more.
    pub fn after(self, decision: &Decision) -> Result<Self> {
        let values = self.given.get(&Given::Values).cloned();
        let of = |rows: Rows, open: Vec<usize>, values: Option<Array>| {
            let given = values.map(|x| (Given::Values, x)).into_iter().collect();
            Self { given, ..Self::of(self.place, rows, open) }
        };
        let Some(regroup) = &decision.regroup else { return Ok(of(self.rows.clone(), self.open.clone(), values)) };
        let rows = self.rows.regroup(regroup)?;
        let free: BTreeSet<usize> = self.open.iter().flat_map(|&r| self.rows.tokens[r].iter().copied()).collect();
        let open = (0..rows.len()).filter(|&r| rows.tokens[r].iter().all(|t| free.contains(t))).collect();
        let all = |(i, g): (usize, &Vec<(usize, f32)>)| {
            g.iter().chain(regroup.lent_to(i)).map(|&(r, w)| (r, f64::from(w))).collect()
        };
        let groups: Vec<Vec<(usize, f64)>> = regroup.groups.iter().enumerate().map(all).collect();
        let values = values.map(|x| segment_reduce::fast(&x, &groups, How::Sum)).transpose()?;
        Ok(of(rows, open, values))
    }

    /// Rows of an array `[heads, n, n]` for `queries`.
    fn queries(&self, what: Given, queries: &[usize]) -> Result<Array> {
        let x = self.given.get(&what).ok_or_else(|| missing(what.words()))?;
        let [heads, n, m] = x.dims("attention")?;
        if m != self.rows.len() || queries.iter().any(|q| *q >= n) {
            return Err(Error::shape("attention", format!("[any, {0}, {0}]", self.rows.len()), x.shape()));
        }
        let row = |h: usize, q: usize| &x.data()[(h * n + q) * m..][..m];
        let values = (0..heads).flat_map(|h| queries.iter().flat_map(move |&q| row(h, q).iter().copied())).collect();
        Array::new([heads, queries.len(), m], values)
    }
}

fn missing(what: &str) -> Error {
    Error::invalid(format!("the input holds no {what} for this place"))
}

impl Seen for Table {
    fn place(&self) -> Place {
        self.place
    }
    fn rows(&self) -> &Rows {
        &self.rows
    }
    fn waiting(&self) -> &Rows {
        &self.none
    }
    fn open(&self) -> &[usize] {
        &self.open
    }
    fn grid(&self) -> Option<(usize, usize)> {
        self.grid
    }
    fn patches(&self, row: usize) -> Vec<usize> {
        let first = self.open.first().copied().unwrap_or(0);
        self.rows.tokens[row].iter().filter_map(|t| t.checked_sub(first)).collect()
    }
    fn values(&self) -> Result<Array> {
        self.get(Given::Values)
    }
    fn keys(&self) -> Result<Option<Array>> {
        Ok(self.given.get(&Given::Keys).cloned())
    }
    fn head_keys(&self) -> Result<Array> {
        self.get(Given::HeadKeys)
    }
    fn head_values(&self) -> Result<Array> {
        self.get(Given::HeadValues)
    }
    fn head_queries(&self) -> Result<Array> {
        self.get(Given::HeadQueries)
    }
    fn next_queries_keys(&self) -> Result<(Array, Array)> {
        Err(missing("queries and keys of the next layer"))
    }
    fn normed(&self) -> Result<Array> {
        self.get(Given::Normed)
    }
    fn project(&self, _x: &Array) -> Result<Array> {
        Err(missing("projector"))
    }
    fn hidden(&self) -> Result<Array> {
        self.get(Given::Hidden)
    }
    fn tiles(&self) -> Vec<(usize, usize, usize)> {
        self.grid.map(|(rows, cols)| (0, rows, cols)).into_iter().collect()
    }
    fn pattern(&self, queries: &[usize]) -> Result<Array> {
        self.queries(Given::Pattern, queries)
    }
    fn next_pattern(&self, queries: &[usize]) -> Result<Array> {
        self.queries(Given::NextPattern, queries)
    }
    fn block(&self, part: Part) -> Result<(Array, Array)> {
        let found = self.blocks.iter().find(|b| b.0 == part).ok_or_else(|| missing("block"))?;
        Ok((found.1.clone(), found.2.clone()))
    }
    fn class_row(&self, _layer: usize) -> Result<Array> {
        self.get(Given::ClassRow)
    }
}
