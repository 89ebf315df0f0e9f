//! Swin and its second version: attention inside windows that shift from layer to layer, scores that know how far apart
//! two patches are, and patches that merge by fours. Liu et al. 2021, arXiv 2103.14030; Liu et al. 2022, 2111.09883.
//!
//! A row of a later stage stands for all patches that merged into it. What is added to scores is held by components of
//! queries and keys, one for each place of a window. Where no window divides the grid, the network fills windows up with
//! places whose keys are the map's bias: these are no tokens, so they are what a sink takes of every query.

use super::blocks::{Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Pass, Scope, Stack};
use super::patches::{Fit, PatchEmbed, fit_positions};
use super::vision::{Pixels, attention, need_image, put_labels, put_patches};
use super::{Added, Input, Model, ModelInfo, Output, Patches, Tile, TowerInfo, TowerRun, only};
use crate::ctx::Ctx;
use crate::trace::{AttentionRule, MaskRule, Rows, Site, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{D, DType, Device, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

const DEFAULTS: Defaults =
    &[("image_size", 224.0), ("patch_size", 4.0), ("embed_dim", 96.0), ("window_size", 7.0), ("encoder_stride", 32.0)];

/// Norms of embeddings and of merged patches have the default of their class, whatever the configuration says.
const OWN_EPS: f64 = 1e-5;
/// The largest factor on the cosines of the second version.
const MOST: f32 = 100.0;
/// Rows and columns of a window at most: its distances, whose number is four times the square, go through a map.
const MOST_PLACES: usize = 256;
/// How far a query that sees nothing beside tokens lies above the sink of its layer: what the sink takes of it is less
/// than rounding.
const ABOVE: f64 = 15.0;

/// What a layer has beside its block.
struct Shift {
    /// Additions to scores by distance, `[(2 · side − 1)², h]`: rows before columns.
    table: Tensor,
    /// Rows and columns of a window.
    side: usize,
    /// How far its windows lie from those of the layer before.
    by: usize,
    /// Whether they are moved over grids that are no larger than a window, too, which is filled up then: the second
    /// version sizes its windows beforehand, and backbones of the first one never fit theirs to a grid.
    always: bool,
    /// Factor on the cosines of queries and keys, `[h, 1, 1]`, where scores are cosines.
    cosine: Option<Tensor>,
}

/// Four patches become one.
struct Merge {
    norm: Norm,
    reduce: Linear,
    /// Whether the norm comes after the map.
    after: bool,
}

/// What is read from the last rows.
enum End {
    /// The rows and their mean.
    Pool,
    Labels(Linear),
    Pixels(Pixels),
}

struct Swin {
    info: ModelInfo,
    patch: PatchEmbed,
    norm: Norm,
    /// Positions `[rows · columns, d]` and their grid, where they are learned.
    positions: Option<(Tensor, (usize, usize))>,
    stack: Stack,
    /// By layer.
    shifts: Vec<Shift>,
    /// What follows each layer, where a stage ends.
    merges: Vec<Option<Merge>>,
    /// Backbones of the second version have none.
    last: Option<Norm>,
    end: End,
    device: Device,
}

/// A list of sizes, each at least 1, or what `default` says where the file is silent.
fn sizes(c: &Config, key: &str, default: &[usize]) -> Result<Vec<usize>> {
    let Some(list) = c.numbers(key)? else { return Ok(default.to_vec()) };
    let size = |v: &f64| (v.fract() == 0.0 && (1.0..65536.0).contains(v)).then_some(*v as usize);
    list.iter()
        .map(size)
        .collect::<Option<Vec<usize>>>()
        .filter(|l| !l.is_empty() && l.len() <= 16)
        .ok_or_else(|| Error::invalid(format!("config.json: {key} is not a list of sizes")))
}

/// Loads a checkpoint of either version.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = &Config::new(w.config()).with(DEFAULTS);
    let second = c.word(&["model_type"], "swin")? == "swinv2";
    let root = Scope::root(w, device);
    let s = root.first(&["swin", "swinv2", ""], "embeddings.norm.weight");
    let ((height, width), sides) = (c.sides("image_size")?, c.sides("patch_size")?);
    let grid = (height / sides.0, width / sides.1);
    let (d, channels) = (c.size(&["embed_dim"])?, c.size_opt(&["num_channels"])?.unwrap_or(3));
    let (depths, heads) = (sizes(c, "depths", &[2, 2, 6, 2])?, sizes(c, "num_heads", &[3, 6, 12, 24])?);
    if heads.len() < depths.len() {
        return Err(Error::invalid("config.json: num_heads has fewer entries than depths"));
    }
    let eps = c.eps(&["layer_norm_eps"], 1e-5)?;
    let (mut blocks, mut shifts, mut merges) = (Vec::new(), Vec::new(), Vec::new());
    for (stage, (&depth, &h)) in depths.iter().zip(&heads).enumerate() {
        let (d, at) = (d << stage, s.sub(format!("encoder.layers.{stage}")));
        for i in 0..depth {
            let b = at.sub(format!("blocks.{i}"));
            blocks.push(block(c, &b, (d, h), eps, second)?);
            let shift = shift(c, &b, (stage, i, h), grid, second)?;
            shifts.push(Shift { always: shift.always || super::is_backbone(w) && !second, ..shift });
            merges.push(None);
        }
        if stage + 1 < depths.len() {
            let m = at.sub("downsample");
            let norm = Norm::layer(&m.sub("norm"), if second { 2 * d } else { 4 * d }, OWN_EPS)?;
            let reduce = Linear::load(&m.sub("reduction"), 4 * d, 2 * d, false)?;
            if let Some(last) = merges.last_mut() {
                *last = Some(Merge { norm, reduce, after: second });
            }
        }
    }
    let em = s.sub("embeddings");
    let wide = d << (depths.len() - 1);
    let positions = match c.flag(&["use_absolute_embeddings"], false)? {
        true => Some((em.get("position_embeddings", &[1, grid.0 * grid.1, d])?.squeeze(0)?, grid)),
        false => None,
    };
    let end = match (root.shape("classifier.weight"), root.has("decoder.0.weight")) {
        (Some(&[labels, _]), _) => End::Labels(Linear::load(&root.sub("classifier"), wide, labels, true)?),
        (_, true) => End::Pixels(Pixels::load(&root, c, (wide, channels))?),
        _ => End::Pool,
    };
    // What a backbone gives of its last stage has a norm of its own, in the place of the model's.
    let own = root.sub(format!("hidden_states_norms.stage{}", depths.len()));
    let last = match (own.has("weight"), super::is_backbone(w) && !s.has("layernorm.weight")) {
        (true, _) => Some(Norm::layer(&own, wide, OWN_EPS)?),
        (false, true) => None,
        (false, false) => Some(Norm::layer(&s.sub("layernorm"), wide, eps)?),
    };
    let order = if second { Order::OfParts } else { Order::PreNorm };
    let stack = Stack { blocks, order, width: wide };
    let mut info = super::describe(w);
    let tile = Some(Tile { patch: sides, own: Patches { grid, beside: 0 }, pads: true });
    let stages = depths.iter().copied().zip(heads.iter().copied()).collect();
    let added = Added::Places(shifts.first().map_or(0, |s| s.side * s.side));
    info.towers.insert(Tower::Vision, TowerInfo { tile, stages, added, ..stack.info(false) });
    if let End::Labels(head) = &end {
        info.vocab = head.outputs()?;
    }
    Ok(Box::new(Swin {
        info,
        patch: PatchEmbed::load(&em.sub("patch_embeddings.projection"), channels, sides, d)?,
        norm: Norm::layer(&em.sub("norm"), d, OWN_EPS)?,
        positions,
        stack,
        shifts,
        merges,
        last,
        end,
        device: device.clone(),
    }))
}

fn block(c: &Config, b: &Scope, (d, h): (usize, usize), eps: f64, second: bool) -> Result<Block> {
    let bias = c.flag(&["qkv_bias"], true)?;
    let a = b.sub("attention");
    let old = a.has("self.query.weight");
    let names = match old {
        true => ["self.query", "self.key", "self.value", "output.dense"],
        false => ["q_proj", "k_proj", "v_proj", "o_proj"],
    };
    let mut own = attention(&a, names, (d, h), (bias && !second, true), MaskRule::Bidirectional)?;
    if second {
        // Keys never have a bias.
        let with_bias = |name: &str| Linear::load(&a.sub(name), d, d, bias);
        (own.q, own.v) = (with_bias(names[0])?, with_bias(names[2])?);
        // The factor of each head is in its queries.
        own.rule.scale = 1.0;
    }
    let ratio = c.number(&["mlp_ratio"], 4.0)? * d as f64;
    if !(1.0..1e7).contains(&ratio) {
        return Err(Error::invalid("config.json: mlp_ratio is not usable here"));
    }
    let inner = ratio as usize;
    let maps = if b.has("intermediate.dense.weight") {
        ["intermediate.dense", "output.dense"]
    } else {
        ["mlp.fc1", "mlp.fc2"]
    };
    Ok(Block {
        norm1: Norm::layer(&b.sub("layernorm_before"), d, eps)?,
        attention: own,
        norm2: Norm::layer(&b.sub("layernorm_after"), d, eps)?,
        mlp: Mlp {
            gate: None,
            up: Linear::load(&b.sub(maps[0]), d, inner, true)?,
            down: Linear::load(&b.sub(maps[1]), inner, d, true)?,
            act: Activation::parse(c.word(&["hidden_act"], "gelu")?)?,
        }
        .into(),
        after1: None,
        after2: None,
    })
}

/// What layer `i` of a stage adds to scores, and how its windows lie. Those of the second version are no larger than the
/// grid that the configuration's own pictures have in the stage.
fn shift(
    c: &Config,
    b: &Scope,
    (stage, i, h): (usize, usize, usize),
    grid: (usize, usize),
    second: bool,
) -> Result<Shift> {
    let window = c.size(&["window_size"])?;
    let (a, by) = (b.sub("attention"), if i.is_multiple_of(2) { 0 } else { window / 2 });
    if !second {
        let n = (2 * window - 1) * (2 * window - 1);
        let own = if a.has("self.query.weight") { "self" } else { "relative_position_bias" };
        let table = a.sub(own).get("relative_position_bias_table", &[n, h])?;
        return Ok(Shift { table, side: window, by, always: false, cosine: None });
    }
    let a = a.sub("self");
    let rows = grid.0 >> stage;
    let side = rows.min(window);
    if side == 0 {
        return Err(Error::invalid("config.json: image_size leaves no patches for the last stage"));
    }
    if side > MOST_PLACES {
        return Err(Error::invalid(format!("config.json: windows of {side} x {side} places are too large")));
    }
    let trained = match c.numbers("pretrained_window_sizes")? {
        Some(list) => list.get(stage).copied().unwrap_or(0.0),
        None => 0.0,
    };
    let by = if rows <= side { 0 } else { by };
    let m = a.sub("continuous_position_bias_mlp");
    let inner = m.shape("0.weight").and_then(|s| s.first().copied()).unwrap_or(512);
    let mlp = Mlp {
        gate: None,
        up: Linear::load(&m.sub("0"), 2, inner, true)?,
        down: Linear::load(&m.sub("2"), inner, h, false)?,
        act: Activation::parse("relu")?,
    };
    let n = 2 * side - 1;
    let steps = steps(side, trained)?;
    let pairs: Vec<f32> = (0..n * n).flat_map(|k| [steps[k / n], steps[k % n]]).collect();
    let table = mlp.apply(&Tensor::from_vec(pairs, (n * n, 2), a.device())?)?;
    let table = (((table.neg()?.exp()? + 1.0)?.recip()?) * 16.0)?;
    let cosine = a.get("logit_scale", &[h, 1, 1])?.minimum(MOST.ln())?.exp()?;
    Ok(Shift { table, side, by, always: true, cosine: Some(cosine) })
}

/// Distances of `-(side − 1)` to `side − 1` places, logarithmically, over those of the windows it was trained with.
fn steps(side: usize, trained: f64) -> Result<Vec<f32>> {
    let most = if trained > 0.0 { trained - 1.0 } else { side.max(2) as f64 - 1.0 };
    if most <= 0.0 {
        return Err(Error::invalid("config.json: pretrained_window_sizes of 1 place tell no distances apart"));
    }
    let one = |k: usize| {
        let x = 8.0 * (k as f64 - (side as f64 - 1.0)) / most;
        (x.signum() * (x.abs() + 1.0).log2() / 3.0) as f32
    };
    // The middle is no distance, whose sign is none.
    Ok((0..2 * side - 1).map(|k| if k + 1 == side { 0.0 } else { one(k) }).collect())
}

/// How the rows of one layer lie in windows.
struct Windows {
    /// Per row, the place in its window, row by row.
    place: Vec<usize>,
    /// Per row, those that it sees.
    seen: Arc<Vec<Vec<usize>>>,
    /// Per row, which of `filled` its window has.
    group: Vec<usize>,
    /// Per group of rows that see each other, the places that are filled up.
    filled: Vec<Vec<usize>>,
}

impl Windows {
    /// Windows of `side` x `side` places over a grid, moved by `by` rows and columns around the edges; what meets there
    /// only because of that sees nothing of each other.
    fn new((rows, cols): (usize, usize), side: usize, by: usize) -> Self {
        let (high, wide) = (rows.next_multiple_of(side), cols.next_multiple_of(side));
        // Window, place in it, and which part of the picture's edge it came around.
        let axis = |i: usize, n: usize| {
            let at = (i + n - by) % n;
            let part = if by == 0 { 0 } else { usize::from(at + side >= n) + usize::from(at + by >= n) };
            (at / side, at % side, part)
        };
        let across = wide / side;
        let of = |r: usize, c: usize| {
            let ((wr, pr, er), (wc, pc, ec)) = (axis(r, high), axis(c, wide));
            ((wr * across + wc) * 9 + 3 * er + ec, pr * side + pc)
        };
        let n_groups = 9 * (high / side) * across;
        let (mut members, mut filled) = (vec![Vec::new(); n_groups], vec![Vec::new(); n_groups]);
        let (mut place, mut group) = (Vec::new(), Vec::new());
        for (r, c) in (0..high).flat_map(|r| (0..wide).map(move |c| (r, c))) {
            let (g, p) = of(r, c);
            if r < rows && c < cols {
                members[g].push(place.len());
                place.push(p);
                group.push(g);
            } else {
                filled[g].push(p);
            }
        }
        let seen = group.iter().map(|&g| members[g].clone()).collect();
        Self { place, seen: Arc::new(seen), group, filled }
    }

    /// Whether any place is filled up.
    fn is_filled(&self) -> bool {
        self.filled.iter().any(|f| !f.is_empty())
    }
}

impl Shift {
    /// Side and shift of the windows over a grid. Errors where the grid is smaller than what the weights are for.
    fn over(&self, grid: (usize, usize)) -> Result<(usize, usize)> {
        let least = grid.0.min(grid.1);
        if self.always || least > self.side {
            return Ok((self.side, self.by));
        }
        if least < self.side {
            return Err(Error::invalid(format!(
                "the picture leaves {} x {} patches for windows of {} x {}; give this model a larger one",
                grid.0, grid.1, self.side, self.side
            )));
        }
        Ok((self.side, 0))
    }

    /// Additions to the scores of queries at places `from` for keys at every place of a window, `[h, n, side²]`.
    fn additions(&self, from: &[usize]) -> Result<Tensor> {
        let (side, n) = (self.side, 2 * self.side - 1);
        let at = |from: usize, to: usize| (from / side + side - 1 - to / side) * n + from % side + side - 1 - to % side;
        let ids: Vec<u32> = from.iter().flat_map(|&p| (0..side * side).map(move |q| at(p, q) as u32)).collect();
        let (h, device) = (self.table.dim(1)?, self.table.device());
        let rows = self.table.index_select(&Tensor::new(ids, device)?, 0)?;
        Ok(rows.reshape((from.len(), side * side, h))?.permute([2, 0, 1])?.contiguous()?)
    }

    /// Attention of `[n, d]` rows inside windows.
    fn attend(&self, a: &Attention, x: &Tensor, layer: usize, windows: &Windows, pass: &mut Pass) -> Result<Tensor> {
        let (q, k, v) = a.project(x, None, &pass.rows.positions, pass.ctx)?;
        let (h, n, _) = q.dims3()?;
        let (scale, places) = (f64::from(a.rule.scale), self.side * self.side);
        let need = 2 * size_of::<f32>() * h * n * (places + 1);
        pass.ctx.fits(need as u64, "give a smaller picture")?;
        let unit = |x: Tensor| -> Result<Tensor> {
            let long = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
            Ok(x.broadcast_div(&long)?)
        };
        let (q, k) = match &self.cosine {
            Some(by) => (unit(q)?.broadcast_mul(by)?, unit(k)?),
            None => (q, k),
        };
        let added = self.additions(&windows.place)?;
        let own = one_hot(&windows.place, places, x.device())?.unsqueeze(0)?.broadcast_as((h, n, places))?;
        let mut widened = [vec![q.contiguous()?, (&added / scale)?], vec![k.contiguous()?, own.contiguous()?]];
        let mut rule = AttentionRule { mask: MaskRule::Table(windows.seen.clone()), ..a.rule.clone() };
        let mut rest = None;
        if windows.is_filled() {
            let zero = Tensor::zeros((1, x.dim(1)?), DType::F32, x.device())?;
            let (_, key, value) = a.project(&zero, None, &[0], pass.ctx)?;
            let key = if self.cosine.is_some() { unit(key)? } else { key };
            let above = self.above((&q, &k), &key, (&added, windows), scale)?;
            widened[0].push((above / scale)?);
            widened[1].push(Tensor::ones((h, n, 1), DType::F32, x.device())?);
            rule.sinks = Some(vec![0.0; h]);
            rest = Some(value.contiguous()?);
        }
        let [q, k] = widened.map(|parts| Tensor::cat(&parts, 2));
        pass.table = Some(windows.seen.clone());
        a.mix([q?, k?, v.contiguous()?], &rule, rest.as_ref(), layer, pass)
    }

    /// How far the scores of each query are moved, `[h, n, 1]`, so that a sink at 0 takes what all filled-up places in
    /// its window together take, which have the key `[h, 1, e]`.
    fn above(
        &self,
        (q, k): (&Tensor, &Tensor),
        key: &Tensor,
        (added, windows): (&Tensor, &Windows),
        scale: f64,
    ) -> Result<Tensor> {
        let (h, n, places) = added.dims3()?;
        let scores = |k: &Tensor| -> Result<Vec<f32>> {
            Ok((q.broadcast_mul(k)?.sum(2)? * scale)?.flatten_all()?.to_vec1::<f32>()?)
        };
        let (of_key, of_own) = (scores(key)?, scores(k)?);
        let added = added.flatten_all()?.to_vec1::<f32>()?;
        let one = |i: usize| {
            let (row, filled) = (i % n, &windows.filled[windows.group[i % n]]);
            let added = &added[i * places..][..places];
            if filled.is_empty() {
                return (ABOVE - f64::from(of_own[i]) - f64::from(added[windows.place[row]])) as f32;
            }
            let most = filled.iter().map(|&p| added[p]).fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = filled.iter().map(|&p| f64::from(added[p] - most).exp()).sum();
            -(f64::from(of_key[i]) + f64::from(most) + sum.ln()) as f32
        };
        Ok(Tensor::from_vec((0..h * n).map(one).collect::<Vec<f32>>(), (h, n, 1), q.device())?)
    }
}

/// A row of zeros with a one at each of `at`, `[n, wide]`.
fn one_hot(at: &[usize], wide: usize, device: &Device) -> Result<Tensor> {
    let mut out = vec![0f32; at.len() * wide];
    out.chunks_mut(wide).zip(at).for_each(|(row, &i)| row[i] = 1.0);
    Ok(Tensor::from_vec(out, (at.len(), wide), device)?)
}

impl Merge {
    /// Squares of two by two rows of a grid become one row each, what lies beyond the edge being zeros: `[n, d]` →
    /// `[⌈rows / 2⌉ · ⌈columns / 2⌉, 2 d]`. The row map follows.
    fn apply(&self, x: &Tensor, (rows, cols): (usize, usize), pass: &mut Pass) -> Result<Tensor> {
        let (n, d) = x.dims2()?;
        let zero = Tensor::zeros((1, d), x.dtype(), x.device())?;
        let (high, wide) = (rows.div_ceil(2), cols.div_ceil(2));
        let (mut ids, mut merged) = (Vec::new(), Rows::identity(high * wide));
        for (i, tokens) in merged.tokens.iter_mut().enumerate() {
            tokens.clear();
            // Rows first, then columns.
            for (r, c) in [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(r, c)| (i / wide * 2 + r, i % wide * 2 + c)) {
                let own = (r < rows && c < cols).then_some(r * cols + c);
                ids.push(own.unwrap_or(n) as u32);
                tokens.extend(own.iter().flat_map(|&row| &pass.rows.tokens[row]));
            }
            tokens.sort_unstable();
        }
        let x = Tensor::cat(&[x, &zero], 0)?.index_select(&Tensor::new(ids, x.device())?, 0)?;
        let x = x.reshape((high * wide, 4 * d))?;
        pass.rows = merged;
        match self.after {
            true => self.norm.apply(&self.reduce.apply_in(&x, pass.ctx)?),
            false => self.reduce.apply_in(&self.norm.apply(&x)?, pass.ctx),
        }
    }
}

impl Swin {
    /// Rows behind the last norm, the grid that they lie in, and which patches they stand for.
    fn run(
        &self,
        input: &Input,
        out: &mut Output,
        tap: &mut dyn Tap,
        ctx: &Ctx,
    ) -> Result<(Tensor, (usize, usize), Rows)> {
        if input.mask.is_some() {
            return Err(Error::invalid("the windows of this model say what its rows see; leave the mask out"));
        }
        let (image, mut run) = (need_image(input)?, TowerRun::default());
        let [pixels] = &image.tiles[..] else {
            return Err(Error::invalid("this model reads a picture without tiles"));
        };
        let dims = pixels.dims().to_vec();
        let &[_, height, width] = &dims[..] else {
            return Err(Error::shape("image", "[channels, height, width]", &dims));
        };
        let (ph, pw) = self.patch.sides;
        let pixels = pixels.pad_with_zeros(1, 0, height.next_multiple_of(ph) - height)?;
        let pixels = pixels.pad_with_zeros(2, 0, width.next_multiple_of(pw) - width)?;
        let (x, rows, cols) = self.patch.apply(&pixels)?;
        let mut x = self.norm.apply(&x)?;
        if let Some((table, grid)) = &self.positions {
            x = (x + fit_positions(table, *grid, (rows, cols), Fit::Bicubic { antialias: false })?)?;
        }
        put_patches(image, (0, 0), (rows, cols), (self.patch.sides, (height, width)), &mut run);
        let (mut grid, n_layers) = ((rows, cols), self.stack.blocks.len());
        let mut pass = Pass::new(Tower::Vision, 0, Rows::identity(rows * cols), tap, ctx);
        // Layers of a stage take turns between two ways.
        let mut windows = BTreeMap::new();
        for (i, b) in self.stack.blocks.iter().enumerate() {
            ctx.step(i, n_layers)?;
            let shift = &self.shifts[i];
            let (side, by) = shift.over(grid)?;
            let own = &*windows.entry((grid, side, by)).or_insert_with(|| Windows::new(grid, side, by));
            pass.table = Some(own.seen.clone());
            x = pass.tap(Site::ResidPre, i, x)?;
            if i == 0 {
                x = pass.regroup(Site::ResidPre, i, x, &mut None)?;
            }
            x = self.stack.block_by(i, b, x, &mut pass, |x, pass| shift.attend(&b.attention, x, i, own, pass))?;
            if let Some(merge) = &self.merges[i] {
                x = merge.apply(&x, grid, &mut pass)?;
                grid = (grid.0.div_ceil(2), grid.1.div_ceil(2));
            }
        }
        ctx.step(n_layers, n_layers)?;
        let x = match &self.last {
            Some(norm) => pass.tap(Site::Final, n_layers, norm.apply(&x)?)?,
            None => x,
        };
        (run.attention, run.n_tiles) = (std::mem::take(&mut pass.rules), 1);
        let rows = std::mem::take(&mut pass.rows);
        out.towers.insert(Tower::Vision, run);
        Ok((x, grid, rows))
    }
}

impl Model for Swin {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let mut out = Output::default();
        let (x, (rows, cols), map) = self.run(input, &mut out, tap, ctx)?;
        match &self.end {
            End::Pool => {
                out.extras.insert("pooler_output".into(), x.mean(0)?);
                out.extras.insert("last_hidden_state".into(), x);
            }
            End::Labels(head) => {
                let logits = head.apply(&x.mean_keepdim(0)?)?;
                put_labels(&mut out, logits, (self.stack.blocks.len(), &map, 0), tap)?;
            }
            End::Pixels(pixels) => {
                out.extras.insert("reconstruction".into(), pixels.apply(&x, (rows, cols))?);
            }
        }
        Ok(out)
    }

    fn stack(&self, tower: Tower) -> Result<&Stack> {
        only(&self.stack, Tower::Vision, tower)
    }

    fn lens(&self, _resid: &Tensor) -> Result<Tensor> {
        Err(Error::invalid("this model's classifier reads the mean of the patches, so it has no head to look with"))
    }

    fn device(&self) -> &Device {
        &self.device
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_shift_see_nothing_around_the_edge() {
        // 4 x 4 in windows of 2, moved by 1: the middle is one window, edges and corners are apart.
        let w = Windows::new((4, 4), 2, 1);
        assert_eq!(w.seen[5], [5, 6, 9, 10]);
        assert_eq!((&w.seen[0][..], &w.seen[1][..], &w.seen[4][..]), (&[0][..], &[1, 2][..], &[4, 8][..]));
        // In the window, row 5 stands first, and row 0 last: it came around both edges.
        assert_eq!((w.place[5], w.place[0], w.is_filled()), (0, 3, false));
    }

    #[test]
    fn windows_beyond_the_grid_are_filled_up() {
        // 1 x 3 in windows of 2: 2 x 4 places.
        let w = Windows::new((1, 3), 2, 0);
        assert_eq!(*w.seen, [vec![0, 1], vec![0, 1], vec![2]]);
        assert_eq!((&w.filled[w.group[0]][..], &w.filled[w.group[2]][..]), (&[2, 3][..], &[1, 2, 3][..]));
    }

    #[test]
    fn distances_are_counted_by_rows_before_columns() {
        let table = Tensor::from_vec((0..9).map(|i| i as f32).collect(), (9, 1), &Device::Cpu).unwrap();
        let shift = Shift { table, side: 2, by: 0, always: false, cosine: None };
        // From the last place to each: one row and column ahead, a row, a column, none.
        let got = shift.additions(&[3]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(got, [8.0, 7.0, 5.0, 4.0]);
        // 8 / 1 places: log2(9) / 3 either way.
        let near = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-6, "{a} and {b}");
        let got = steps(2, 0.0).unwrap();
        near(got[2], 9f64.log2() / 3.0);
        near(got[0], -9f64.log2() / 3.0);
        assert_eq!(got[1], 0.0);
        // Over windows of 5 that it was trained with: 8 / 4.
        near(steps(2, 5.0).unwrap()[2], 3f64.log2() / 3.0);
    }
}
