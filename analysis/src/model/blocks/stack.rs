//! A stack of blocks and the state of one pass through it: tap, row map, cache, masks.

use super::basic::add as add_rows;
use super::heads::Seen;
use super::rope::Tables;
use super::{Attention, AttentionMask, FeedForward, Norm, Places, Rope};
use crate::ctx::Ctx;
use crate::model::{Added, KvCache, TowerInfo};
use crate::trace::{At, Attending, AttentionRule, Held, MaskRule, Positions, Regroup, Rows, Site, Tap, Tower};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// One transformer block.
pub struct Block {
    /// Norm before attention, or after its residual sum where the order is post-norm.
    pub norm1: Norm,
    /// Attention.
    pub attention: Attention,
    /// Norm before the MLP, or after its residual sum where the order is post-norm.
    pub norm2: Norm,
    /// MLP, or experts.
    pub mlp: FeedForward,
    /// Norm of what attention adds (Gemma 2 and 3).
    pub after1: Option<Norm>,
    /// Norm of what the MLP adds.
    pub after2: Option<Norm>,
}

/// Where a block's norms stand, and what its MLP reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Norms before the parts.
    PreNorm,
    /// Norms after the sums (BERT).
    PostNorm,
    /// Norms of what the parts add (OLMo 2).
    OfParts,
    /// Norms before the parts, which add to what these give, and not to the stream (BLOOM, where a file says so).
    OnNorms,
    /// Norms before the parts; the MLP reads the stream as it was before attention (GPT-NeoX, Phi).
    Parallel,
}

/// Blocks in order.
pub struct Stack {
    /// The blocks.
    pub blocks: Vec<Block>,
    /// Order of norms and parts.
    pub order: Order,
    /// Width of the residual stream.
    pub width: usize,
}

/// What was made of a mask for rows at these positions. Layers with the same rule and rows share it.
struct Made<T> {
    rule: MaskRule,
    queries: Vec<usize>,
    keys: Vec<usize>,
    it: T,
}

impl<T: Clone> Made<T> {
    /// What is there already, or what `make` makes.
    fn get<E>(
        slot: &mut Option<Self>,
        (rule, queries, keys): (&MaskRule, &[usize], &[usize]),
        make: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let same = |m: &&Self| m.rule == *rule && m.queries == queries && m.keys == keys;
        if let Some(made) = slot.as_ref().filter(same) {
            return Ok(made.it.clone());
        }
        let it = make()?;
        *slot = Some(Self { rule: rule.clone(), queries: queries.to_vec(), keys: keys.to_vec(), it: it.clone() });
        Ok(it)
    }
}

/// Features of an image that join the stream behind the first layers (Qwen3-VL). Meng et al. 2024, arXiv 2406.04334.
pub struct Deep {
    /// What is added behind each of the first layers, `[rows, d]`.
    pub layers: Vec<Tensor>,
    /// The row of each token that something is added to.
    pub row_of: BTreeMap<usize, usize>,
}

/// From what the first layer read and gave to what the second one reads.
pub trait Joins {
    /// `[n, d]` both.
    fn join(&self, first: &Tensor, out: &Tensor) -> Result<Tensor>;
}

/// What travels with the residual stream through one pass.
pub struct Pass<'a> {
    /// Which tower.
    pub tower: Tower,
    /// Which tile.
    pub tile: usize,
    /// Which pass of a text that is written on; 0 reads the prompt.
    pub step: usize,
    /// The tap.
    pub tap: &'a mut dyn Tap,
    /// Progress and cancel.
    pub ctx: &'a Ctx,
    /// Row → token, and positions.
    pub rows: Rows,
    /// Keys and values of earlier tokens.
    pub cache: Option<&'a mut KvCache>,
    /// Masks that hang on the input, by layer, before the model's own; empty where none does.
    pub masks: Vec<Option<MaskRule>>,
    /// What the first layer gives with what it read, where something joins them.
    pub joins: Option<&'a dyn Joins>,
    /// What is added to some rows behind the first layers.
    pub deep: Option<Deep>,
    /// Tokens that no row sees: what fills up a list.
    pub unseen: Range<usize>,
    /// Another mask than the model's: per query row, key rows (cached first).
    pub table: Option<Arc<Vec<Vec<usize>>>>,
    /// The rule that each layer really used.
    pub rules: Vec<AttentionRule>,
    /// Whether the last regrouping counted positions anew; `None` before the first.
    pub renumbered: Option<bool>,
    /// Rows that were set aside, and their values.
    aside: (Rows, Option<Tensor>),
    mask: Option<Made<AttentionMask>>,
    seen: Option<Made<Arc<Seen>>>,
    /// What turns the rows, by embedding: layers of two kinds may have one each.
    tables: Vec<(Rope, Tables)>,
}

impl<'a> Pass<'a> {
    /// A pass over `rows`.
    pub fn new(tower: Tower, tile: usize, rows: Rows, tap: &'a mut dyn Tap, ctx: &'a Ctx) -> Self {
        Self {
            tower,
            tile,
            step: 0,
            tap,
            ctx,
            rows,
            cache: None,
            masks: Vec::new(),
            joins: None,
            deep: None,
            unseen: 0..0,
            table: None,
            rules: Vec::new(),
            renumbered: None,
            aside: (Rows::default(), None),
            mask: None,
            seen: None,
            tables: Vec::new(),
        }
    }

    /// The tap, and where it is called.
    fn ask(&mut self, site: Site, layer: usize) -> (&mut dyn Tap, At<'_>) {
        let (tower, tile, step) = (self.tower, self.tile, self.step);
        (self.tap, At { tower, tile, step, layer, site, rows: &self.rows, aside: &self.aside.0 })
    }

    /// Lets the tap see `x`, if it wants to.
    pub fn tap(&mut self, site: Site, layer: usize, x: Tensor) -> Result<Tensor> {
        let (tap, at) = self.ask(site, layer);
        if tap.wants(&at) { tap.pass(&at, x) } else { Ok(x) }
    }

    /// Whether the tap wants what costs something to make.
    pub(in crate::model) fn wants(&mut self, site: Site, layer: usize) -> bool {
        let (tap, at) = self.ask(site, layer);
        tap.wants(&at)
    }

    /// Asks the tap for other rows and applies them to `x`, what else waits by row (`beside`) and the row map.
    pub fn regroup(&mut self, site: Site, layer: usize, x: Tensor, beside: &mut Option<Tensor>) -> Result<Tensor> {
        let (tap, at) = self.ask(site, layer);
        let Some(r) = tap.regroup(&at, &x)? else { return Ok(x) };
        if self.table.is_some() {
            return Err(Error::invalid(
                "rows cannot be pruned or merged under a mask that lists rows, as windows over a grid are one",
            ));
        }
        let (n, waiting) = (x.dim(0)?, self.aside.0.len());
        let (rows, aside) = r.follow(&self.rows, &self.aside.0)?;
        if rows.is_empty() && aside.is_empty() {
            return Err(Error::invalid("a cut must leave at least one row"));
        }
        if let Some(b) = beside {
            if r.groups.iter().chain(&r.lent).flatten().any(|m| m.0 >= n) {
                return Err(Error::invalid(
                    "where attention and MLP stand side by side, rows come back between layers only",
                ));
            }
            *b = apply_regroup(b, &r)?;
        }
        let all = match &self.aside.1 {
            Some(w) => Tensor::cat(&[&x, w], 0)?,
            None => x,
        };
        let waits: Vec<u32> = r.waits(n, waiting).into_iter().map(|i| i as u32).collect();
        let kept = match waits.is_empty() {
            true => None,
            false => Some(all.index_select(&Tensor::new(waits, all.device())?, 0)?),
        };
        self.renumbered = Some(r.positions != Positions::Keep);
        if r.positions != Positions::Keep && !self.masks.is_empty() {
            // Where old rows stand now; those that are gone count for nothing.
            let old = r.groups.iter().map(|g| g[0].0).filter(|&i| i < n).map(|i| self.rows.positions[i]);
            let old: Vec<usize> = old.collect();
            self.masks.iter_mut().flatten().for_each(|m| *m = m.moved(&old, &rows.positions));
        }
        self.aside = (aside, kept);
        self.rows = rows;
        (self.mask, self.seen) = (None, None);
        self.tables.clear();
        apply_regroup(&all, &r)
    }

    /// Adds what joins the stream behind `layer`.
    fn deepen(&self, layer: usize, x: Tensor) -> Result<Tensor> {
        let Some((deep, add)) = self.deep.as_ref().and_then(|d| Some((d, d.layers.get(layer)?))) else { return Ok(x) };
        let none = add.dim(0)?;
        let row = |tokens: &Vec<usize>| tokens.iter().find_map(|t| deep.row_of.get(t)).map_or(none, |r| *r) as u32;
        let rows: Vec<u32> = self.rows.tokens.iter().map(row).collect();
        let zero = Tensor::zeros((1, add.dim(1)?), add.dtype(), add.device())?;
        add_rows(&x, &Tensor::cat(&[add, &zero], 0)?.index_select(&Tensor::new(rows, x.device())?, 0)?)
    }

    /// Whether rows were set aside.
    pub fn any_aside(&self) -> bool {
        !self.aside.0.is_empty()
    }

    /// The rows that went through every layer, and those that left early, in the order of their tokens.
    pub(in crate::model) fn with_those_aside(&mut self, x: Tensor) -> Result<Tensor> {
        let (aside, Some(values)) = std::mem::take(&mut self.aside) else { return Ok(x) };
        let mut all = std::mem::take(&mut self.rows);
        all.tokens.extend(aside.tokens);
        all.positions.extend(aside.positions);
        all.turns.extend(aside.turns);
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|&i| all.tokens[i].first().copied());
        self.rows.tokens = order.iter().map(|&i| all.tokens[i].clone()).collect();
        self.rows.positions = order.iter().map(|&i| all.positions[i]).collect();
        self.rows.turns = order.iter().filter_map(|&i| all.turns.get(i).copied()).collect();
        let order: Vec<u32> = order.into_iter().map(|i| i as u32).collect();
        let all = Tensor::cat(&[x, values], 0)?;
        Ok(all.index_select(&Tensor::new(order, all.device())?, 0)?)
    }

    /// What the layer's heads hold with the new rows, whose positions are the pass's.
    pub(super) fn extend_cache(&mut self, layer: usize, k: Tensor, v: Tensor) -> Result<Vec<Held>> {
        match &mut self.cache {
            None => Ok(vec![Held { k, v, positions: self.rows.positions.clone() }]),
            Some(cache) => cache.extend(layer, &k, &v, &self.rows.positions),
        }
    }

    /// The rule of this layer in this pass: the model's own, or the listed one, less what the tap takes away.
    pub(super) fn rule(
        &mut self,
        own: &AttentionRule,
        layer: usize,
        q: &Tensor,
        held: &[Held],
    ) -> Result<AttentionRule> {
        let mut rule = match &self.table {
            Some(_) if held.len() > 1 => {
                return Err(Error::invalid("a mask that lists rows needs heads that hold the same ones"));
            }
            Some(t) => AttentionRule { mask: MaskRule::Table(t.clone()), ..own.clone() },
            None => match self.masks.get(layer) {
                Some(Some(mask)) => AttentionRule { mask: mask.clone(), ..own.clone() },
                _ => own.clone(),
            },
        };
        if !self.unseen.is_empty() {
            let seen = |row: &usize| !self.rows.tokens[*row].iter().all(|t| self.unseen.contains(t));
            let keys = (0..self.rows.len()).filter(seen).collect();
            rule.mask = MaskRule::Only { keys, of: Box::new(rule.mask) };
        }
        let sizes = self.sizes(held.first().map_or(0, |h| h.positions.len()));
        let (tap, at) = self.ask(Site::Pattern, layer);
        let seen = Attending { q, held, rule: &rule, positions: &at.rows.positions, sizes: sizes.as_deref() };
        if let Some(keys) = tap.keys(&at, &seen)? {
            rule.mask = keys.under(&rule.mask, (rule.n_heads, rule.n_kv_heads))?;
        }
        Ok(rule)
    }

    pub(in crate::model) fn note_rule(&mut self, layer: usize, rule: AttentionRule) {
        self.rules.truncate(layer);
        self.rules.push(rule);
    }

    /// Tokens behind each of `n_keys` key rows, where the tap wants proportional attention.
    pub(super) fn sizes(&self, n_keys: usize) -> Option<Vec<usize>> {
        // With a cache, sizes of the cached rows are not known here; merging and continuing do not mix.
        let proportional = self.tap.proportional_attention() && self.rows.len() == n_keys;
        proportional.then(|| (0..self.rows.len()).map(|i| self.rows.size(i)).collect())
    }

    /// The additive mask of one rule for all heads, or of one for each.
    pub(super) fn mask(&mut self, rule: &MaskRule, keys: &[usize], device: &Device) -> Result<AttentionMask> {
        let (mut slot, sizes, queries) = (self.mask.take(), self.sizes(keys.len()), &self.rows.positions);
        let make = || AttentionMask::new(rule, queries, keys, sizes.as_deref(), device);
        let mask = Made::get(&mut slot, (rule, queries, keys), make);
        self.mask = slot;
        mask
    }

    /// What the rows see of keys at these positions.
    pub(super) fn seen(&mut self, rule: &MaskRule, keys: &[usize]) -> Arc<Seen> {
        let (mut slot, sizes, queries) = (self.seen.take(), self.sizes(keys.len()), &self.rows.positions);
        let make = || Ok::<_, std::convert::Infallible>(Arc::new(Seen::new(rule, queries, keys, sizes.as_deref())));
        let Ok(seen) = Made::get(&mut slot, (rule, queries, keys), make);
        self.seen = slot;
        seen
    }

    /// What turns the rows.
    pub(super) fn tables(&mut self, rope: &Rope, device: &Device) -> Result<Tables> {
        if let Some((_, tables)) = self.tables.iter().find(|t| t.0 == *rope) {
            return Ok(tables.clone());
        }
        let tables = rope.tables((&self.rows).into(), device)?;
        self.tables.push((rope.clone(), tables.clone()));
        Ok(tables)
    }
}

/// New rows as weighted sums of old ones: `[n, d]` → `[groups, d]`.
pub fn apply_regroup(x: &Tensor, r: &Regroup) -> Result<Tensor> {
    let n = x.dim(0)?;
    if r.groups.is_empty() {
        return Ok(x.narrow(0, 0, 0)?);
    }
    if r.lent.is_empty() && r.groups.iter().all(|g| g.len() == 1 && g[0].1 == 1.0) {
        let idx: Vec<u32> = r.groups.iter().map(|g| g[0].0 as u32).collect();
        return Ok(x.index_select(&Tensor::new(idx.as_slice(), x.device())?, 0)?);
    }
    let mut m = vec![0f32; r.groups.len() * n];
    for (i, g) in r.groups.iter().enumerate() {
        for &(row, w) in g.iter().chain(r.lent_to(i)) {
            m[i * n + row] += w;
        }
    }
    Ok(Tensor::from_vec(m, (r.groups.len(), n), x.device())?.matmul(&x.contiguous()?)?)
}

impl Stack {
    /// Runs the blocks on `[n, d]`. The result has `pass.rows.len()` rows, which may be fewer than before.
    pub fn apply(&self, mut x: Tensor, pass: &mut Pass) -> Result<Tensor> {
        let n_layers = self.blocks.len();
        for (i, b) in self.blocks.iter().enumerate() {
            pass.ctx.step(i, n_layers)?;
            x = pass.tap(Site::ResidPre, i, x)?;
            if i == 0 {
                x = pass.regroup(Site::ResidPre, i, x, &mut None)?;
            }
            if !pass.rows.is_empty() {
                let first = (i == 0 && pass.joins.is_some()).then(|| x.clone());
                x = self.block(i, b, x, pass)?;
                if let (Some(first), Some(join)) = (first, pass.joins) {
                    x = join.join(&first, &x)?;
                }
                x = pass.deepen(i, x)?;
            }
            if pass.rows.is_empty() {
                break;
            }
        }
        pass.ctx.step(n_layers, n_layers)?;
        pass.with_those_aside(x)
    }

    /// One block. Stops between attention and MLP where no row is left.
    fn block(&self, i: usize, b: &Block, x: Tensor, pass: &mut Pass) -> Result<Tensor> {
        self.block_by(i, b, x, pass, |input, pass| b.attention.apply(input, i, pass))
    }

    /// [`Stack::block`] with something else in the place of its attention.
    pub(in crate::model) fn block_by(
        &self,
        i: usize,
        b: &Block,
        mut x: Tensor,
        pass: &mut Pass,
        attend: impl FnOnce(&Tensor, &mut Pass) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let post_norm = self.order == Order::PostNorm;
        let input = pass.tap(Site::AttnIn, i, self.attention_input(b, &x)?)?;
        let mut beside = (self.order == Order::Parallel).then(|| b.norm2.apply(&x)).transpose()?;
        if self.order == Order::OnNorms {
            x = input.clone();
        }
        let mut a = attend(&input, pass)?;
        if self.order == Order::OfParts {
            a = b.norm1.apply(&a)?;
        }
        if let Some(norm) = &b.after1 {
            a = norm.apply(&a)?;
        }
        let a = pass.tap(Site::AttnOut, i, a)?;
        x = add_rows(&x, &a)?;
        if post_norm {
            x = b.norm1.apply(&x)?;
        }
        x = pass.tap(Site::ResidMid, i, x)?;
        x = pass.regroup(Site::ResidMid, i, x, &mut beside)?;
        if pass.rows.is_empty() {
            return Ok(x);
        }
        let input = match beside {
            Some(y) => y,
            None if post_norm || self.order == Order::OfParts => x.clone(),
            None => b.norm2.apply(&x)?,
        };
        let input = pass.tap(Site::MlpIn, i, input)?;
        if self.order == Order::OnNorms {
            x = input.clone();
        }
        let mut m = b.mlp.apply(&input, i, pass)?;
        if self.order == Order::OfParts {
            m = b.norm2.apply(&m)?;
        }
        if let Some(norm) = &b.after2 {
            m = norm.apply(&m)?;
        }
        let m = pass.tap(Site::MlpOut, i, m)?;
        x = add_rows(&x, &m)?;
        if post_norm {
            x = b.norm2.apply(&x)?;
        }
        x = pass.tap(Site::ResidPost, i, x)?;
        pass.regroup(Site::ResidPost, i, x, &mut None)
    }

    /// What a block's attention reads of the stream.
    fn attention_input(&self, b: &Block, x: &Tensor) -> Result<Tensor> {
        if matches!(self.order, Order::PostNorm | Order::OfParts) { Ok(x.clone()) } else { b.norm1.apply(x) }
    }

    /// Block `layer`. Errors if there is none.
    pub fn layer(&self, layer: usize) -> Result<&Block> {
        self.blocks.get(layer).ok_or_else(|| Error::invalid(format!("there is no layer {layer}")))
    }

    /// Queries `[h, n, e]` and keys `[g, n, e]` that a layer would make of a residual stream `[n, d]` at these
    /// places.
    ///
    /// Errors: no such layer, as many positions as rows are not given.
    pub fn queries_keys(&self, layer: usize, resid: &Tensor, places: Places) -> Result<(Tensor, Tensor)> {
        let positions = places.positions;
        if resid.dim(0)? != positions.len() {
            return Err(Error::shape("residual stream", format!("[{}, width]", positions.len()), resid.dims()));
        }
        let b = self.layer(layer)?;
        let tables = b.attention.rope.as_ref().map(|r| r.tables(places, resid.device())).transpose()?;
        let input = self.attention_input(b, resid)?;
        let (q, k, _) = b.attention.project(&input, tables.as_ref(), places.positions, &Ctx::default())?;
        Ok((q, k))
    }

    /// What the stack says about itself.
    pub fn info(&self, class_token: bool) -> TowerInfo {
        let a = self.blocks.first().map(|b| &b.attention);
        let wide = self.blocks.iter().map(|b| b.mlp.wide()).max().unwrap_or(0);
        let experts = self.blocks.iter().map(|b| b.mlp.counts()).max().unwrap_or((0, 0));
        TowerInfo {
            n_layers: self.blocks.len(),
            width: self.width,
            n_heads: a.map_or(0, |a| a.rule.n_heads),
            n_kv_heads: a.map_or(0, |a| a.rule.n_kv_heads),
            head_width: a.map_or(0, |a| a.head_width),
            value_width: a.map_or(0, Attention::value_width),
            mlp_width: wide,
            experts,
            mixers: 0,
            class_token,
            norms_attention: self.order == Order::OfParts || self.blocks.iter().any(|b| b.after1.is_some()),
            reads_stream: matches!(self.order, Order::PostNorm | Order::OfParts),
            added: if a.is_some_and(|a| a.bias.is_some()) { Added::Keys } else { Added::None },
            tile: None,
            stages: Vec::new(),
        }
    }

    /// A layer's output projection as `[heads, head_width, d]`.
    pub fn output_projection(&self, layer: usize) -> Result<Tensor> {
        let b = self.layer(layer)?;
        let (h, e) = (b.attention.rule.n_heads, b.attention.value_width());
        Ok(b.attention.o.matrix()?.contiguous()?.reshape((h, e, b.attention.o.outputs()?))?)
    }
}
