//! What an image encoder says of its patches while it passes by, kept for methods that decide behind it.

use super::decide::{Asked, Decide, Decision};
use super::place::{Half, Place};
use super::seen::Seen;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::softmax;
use crate::method::{Info, Need};
use crate::token::{Source, TokenKind};
use crate::trace::{Tower, TowerTrace};
use crate::{Error, Result, Subject};
use rayon::prelude::*;

/// What `note` found in some encoder layers, tile by tile, for `decide`.
pub(super) struct Notes<T> {
    /// By layer asked for, then by tile.
    by_layer: Vec<Vec<T>>,
}

impl<T> Notes<T> {
    /// The notes of the layer with this number among those asked for, one a tile.
    pub fn of(&self, layer: usize) -> &[T] {
        &self.by_layer[layer]
    }
}

/// Asks `note` in these layers of the encoder for each tile, and `decide` at `cut` with all the notes. A cut inside the
/// encoder decides by what is known there: layers behind it are its own.
pub(super) fn noted<'a, T: 'a>(
    layers: Vec<usize>,
    cut: Place,
    mut note: impl FnMut(&dyn Seen, usize, &Ctx) -> Result<T> + 'a,
    mut decide: impl FnMut(&dyn Seen, &Notes<T>, &Ctx) -> Result<Decision> + 'a,
) -> Box<dyn Decide + 'a> {
    let inside = match cut {
        Place::Encoder(l, _) => Some(l),
        _ => None,
    };
    let layers: Vec<usize> = layers.into_iter().map(|l| inside.map_or(l, |cut| l.min(cut))).collect();
    let mut stops: Vec<Place> = layers.iter().map(|&l| Place::Encoder(l, Half::After)).chain([cut]).collect();
    stops.sort();
    stops.dedup();
    let mut notes = Notes { by_layer: layers.iter().map(|_| Vec::new()).collect() };
    let mut tile = 0;
    Box::new(Asked::at(stops, move |seen, ctx| {
        if inside.is_some() && seen.tile() != tile {
            // Each tile is cut by its own notes.
            tile = seen.tile();
            notes.by_layer.iter_mut().for_each(Vec::clear);
        }
        if let Place::Encoder(here, _) = seen.place() {
            for (number, layer) in layers.iter().enumerate() {
                if *layer == here {
                    let found = note(seen, number, ctx)?;
                    notes.by_layer[number].push(found);
                }
            }
        }
        if seen.place() == cut { decide(seen, &notes, ctx) } else { Ok(Decision::stay()) }
    }))
}

/// How much each patch is looked at in this layer, `[heads, patches]`: by the class token, or where there is none by
/// all patches on average.
pub(super) fn looked_at(seen: &dyn Seen, ctx: &Ctx) -> Result<Array> {
    match seen.open().first() {
        Some(&first) if first > 0 => {
            let row = seen.pattern(&[0])?;
            let [heads, _, n] = row.dims("attention")?;
            let cells = (0..heads).flat_map(|h| seen.open().iter().map(move |&r| h * n + r));
            Array::new([heads, seen.open().len()], cells.map(|c| row.data()[c]).collect())
        }
        _ => {
            ctx.note("the image encoder has no class token; what all patches look at stands in for what it does");
            received(seen)
        }
    }
}

/// Mean over heads and these query rows of what each open row gets of their attention. A few rows at a time are held.
pub(super) fn attended(seen: &dyn Seen, queries: &[usize]) -> Result<Vec<f64>> {
    let mut sum = vec![0f64; seen.open().len()];
    for some in queries.chunks(ROWS) {
        add_rows(&mut sum, &seen.pattern(some)?, seen);
    }
    Ok(sum.into_iter().map(|s| s / queries.len().max(1) as f64).collect())
}

/// Adds the head means of attention rows `[heads, queries, n]`, at the open rows.
pub(super) fn add_rows(sum: &mut [f64], rows: &Array, seen: &dyn Seen) {
    for row in rows.mean_over_first().chunks_exact(seen.rows().len().max(1)) {
        sum.iter_mut().zip(seen.open()).for_each(|(s, &r)| *s += row[r]);
    }
}

/// How much each patch receives in this layer from all rows on average, `[heads, patches]`.
pub(super) fn received(seen: &dyn Seen) -> Result<Array> {
    let n = seen.rows().len();
    let mut sums: Vec<f64> = Vec::new();
    let mut heads = 0;
    // Some rows at a time: the whole map of a layer may be large.
    for from in (0..n).step_by(ROWS) {
        let queries: Vec<usize> = (from..n.min(from + ROWS)).collect();
        let part = seen.pattern(&queries)?;
        heads = part.shape()[0];
        sums.resize(heads * n, 0.0);
        for (i, row) in part.data().chunks_exact(n).enumerate() {
            let head = i / queries.len();
            sums[head * n..][..n].iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
        }
    }
    let cells = (0..heads).flat_map(|h| seen.open().iter().map(move |&r| h * n + r));
    Array::new([heads, seen.open().len()], cells.map(|c| (sums[c] / n as f64) as f32).collect())
}

/// Query rows whose attention is held at a time.
pub(super) const ROWS: usize = 256;

/// Query rows that are computed side by side before somebody looks whether all is to stop.
const TASK: usize = 64;

/// All heads of `[heads, n, e]` side by side, `[n, heads · e]`.
pub(super) fn wide(x: &Array) -> Result<Array> {
    let [heads, n, e] = x.dims("queries or keys")?;
    let cell = |i: usize, h: usize| x.row(h)[i * e..(i + 1) * e].iter().copied();
    Array::new([n, heads * e], (0..n).flat_map(|i| (0..heads).flat_map(move |h| cell(i, h))).collect())
}

/// Attention of row 0 to the rows from `first` on, of all rows together where there is none before these; one head over
/// the whole width `[rows, c]`, the softmax over all rows.
pub(super) fn asked(q: &Array, k: &Array, first: usize, ctx: &Ctx) -> Result<Vec<f32>> {
    let ([n, c], [m, e]) = (q.dims("queries")?, k.dims("keys")?);
    if (n, c) != (m, e) {
        return Err(Error::shape("keys", format!("[{n}, {c}]"), k.shape()));
    }
    let queries = if first > 0 { 0..1 } else { 0..n };
    let (mut sum, share, all) = (vec![0f64; n], 1.0 / queries.len().max(1) as f64, queries.len());
    for from in queries.step_by(TASK) {
        ctx.step(from, all)?;
        let row = |i: usize| {
            let dot = |j: usize| q.row(i).iter().zip(k.row(j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let logits: Vec<f64> = (0..n).map(|j| dot(j) / (c as f64).sqrt()).collect();
            softmax(&logits, 1.0)
        };
        let rows: Vec<Vec<f64>> = (from..all.min(from + TASK)).into_par_iter().map(row).collect();
        rows.iter().for_each(|row| sum.iter_mut().zip(row).for_each(|(s, p)| *s += p * share));
    }
    Ok(sum[first.min(n)..].iter().map(|s| *s as f32).collect())
}

/// One number for each open row at the cut, from numbers for each patch of all tiles: the same where the model has a
/// feature for each patch, else the mean of those that became one.
pub(super) fn per_feature(on: &Subject, seen: &dyn Seen, patches: &[f32]) -> Result<Vec<f32>> {
    rows_per_feature(on, seen, patches, 1)
}

/// [`per_feature`] of a number and a row of each patch, noted tile by tile.
pub(super) fn both_per_feature(
    on: &Subject,
    seen: &dyn Seen,
    tiles: &[(Vec<f32>, Array)],
) -> Result<(Vec<f32>, Array)> {
    let numbers: Vec<f32> = tiles.iter().flat_map(|t| t.0.iter().copied()).collect();
    let width = tiles.first().map_or(0, |t| t.1.shape()[1]);
    let rows: Vec<f32> = tiles.iter().flat_map(|t| t.1.data().iter().copied()).collect();
    let numbers = per_feature(on, seen, &numbers)?;
    let rows = Array::new([numbers.len(), width], rows_per_feature(on, seen, &rows, width)?)?;
    Ok((numbers, rows))
}

/// [`per_feature`] of rows of `width` numbers.
fn rows_per_feature(on: &Subject, seen: &dyn Seen, patches: &[f32], width: usize) -> Result<Vec<f32>> {
    let (n, width) = (seen.open().len(), width.max(1));
    if patches.len() == n * width {
        return Ok(patches.to_vec());
    }
    let unfit = || {
        Error::invalid("this model puts patches together in a way that what the encoder says of them does not fit them")
    };
    let (vision, text) = (on.trace.tower(Tower::Vision)?, on.trace.tower(Tower::Text)?);
    if vision.grids.len() != text.grids.len() {
        // Tiles that the model puts together in one grid: each of its cells shows some patches of theirs.
        let shown = shown(vision, text);
        if shown.len() != n || shown.iter().flatten().any(|p| (p + 1) * width > patches.len()) {
            return Err(unfit());
        }
        let mean = |some: &Vec<usize>| {
            let of = |c: usize| some.iter().map(|p| f64::from(patches[p * width + c])).sum::<f64>();
            (0..width).map(|c| (of(c) / some.len().max(1) as f64) as f32).collect::<Vec<_>>()
        };
        return Ok(shown.iter().flat_map(mean).collect());
    }
    let mut out: Vec<f32> = Vec::with_capacity(n * width);
    let mut first = 0;
    for (fine, coarse) in vision.grids.iter().zip(&text.grids) {
        let (down, across) = (fine.rows / coarse.rows.max(1), fine.cols / coarse.cols.max(1));
        if down * coarse.rows != fine.rows || across * coarse.cols != fine.cols {
            return Err(unfit());
        }
        for (y, x) in (0..coarse.rows).flat_map(|y| (0..coarse.cols).map(move |x| (y, x))) {
            let mut sum = vec![0f64; width];
            for (a, b) in (0..down).flat_map(|a| (0..across).map(move |b| (a, b))) {
                let at = first + (y * down + a) * fine.cols + x * across + b;
                let row = patches.get(at * width..(at + 1) * width).ok_or_else(unfit)?;
                sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
            }
            out.extend(sum.into_iter().map(|s| (s / (down * across) as f64) as f32));
        }
        first += fine.rows * fine.cols;
    }
    if out.len() == n * width { Ok(out) } else { Err(unfit()) }
}

/// For each cell of the text's grids, patches of the encoder's tiles that lie in it, counted over all tiles; the nearest
/// one where none does. The first of several grids is that of the first tile.
fn shown(vision: &TowerTrace, text: &TowerTrace) -> Vec<Vec<usize>> {
    let rect = |t: &TowerTrace, i: usize| match t.tokens.get(i).map(|t| t.source) {
        Some(Source::Rect { x, y, w, h }) => Some((x, y, w, h)),
        _ => None,
    };
    let mut middles: Vec<(usize, usize, f32, f32)> = Vec::new();
    let mut n = 0;
    for (tile, g) in vision.grids.iter().enumerate() {
        for k in 0..g.rows * g.cols {
            middles.extend(rect(vision, g.first + k).map(|(x, y, w, h)| (tile, n + k, x + w / 2.0, y + h / 2.0)));
        }
        n += g.rows * g.cols;
    }
    let mut out = Vec::new();
    for (number, g) in text.grids.iter().enumerate() {
        let own = |tile: usize| text.grids.len() == 1 || (tile == 0) == (number == 0);
        let some: Vec<_> = middles.iter().filter(|m| own(m.0)).collect();
        for (r, c) in (0..g.rows).flat_map(|r| (0..g.cols).map(move |c| (r, c))) {
            let Some((x, y, w, h)) = rect(text, g.first + r * (g.cols + g.gap) + c) else {
                out.push(Vec::new());
                continue;
            };
            let inside = |m: &&&(usize, usize, f32, f32)| (x..x + w).contains(&m.2) && (y..y + h).contains(&m.3);
            let mut found: Vec<usize> = some.iter().filter(inside).map(|m| m.1).collect();
            if found.is_empty() {
                let away = |m: &&&(usize, usize, f32, f32)| (m.2 - x - w / 2.0).hypot(m.3 - y - h / 2.0);
                found.extend(some.iter().min_by(|a, b| away(a).total_cmp(&away(b))).map(|m| m.1));
            }
            out.push(found);
        }
    }
    out
}

/// The mean embedding of the text behind the image. Errors: there is no image, nothing behind it, or no weights.
pub(super) fn question(on: &Subject, info: &Info) -> Result<Vec<f32>> {
    let text = on.trace.towers.get(&Tower::Text).ok_or_else(|| info.needs(Need::ReadsImage.words()))?;
    let last = text.tokens.iter().rposition(|t| t.kind == TokenKind::Image);
    let last = last.ok_or_else(|| info.needs(Need::ReadsImage.words()))?;
    let ids: Vec<u32> = text.tokens[last + 1..].iter().filter_map(|t| t.id).collect();
    if ids.is_empty() {
        return Err(info.needs("a text behind the image"));
    }
    let x = Array::from_tensor(&on.weights(info)?.embed(&ids)?)?;
    Ok(x.mean_over_first().into_iter().map(|v| v as f32).collect())
}

/// Mean over heads of `[heads, n]`, as scores.
pub(super) fn head_mean(x: &Array) -> Vec<f32> {
    x.mean_over_first().into_iter().map(|v| v as f32).collect()
}

/// Sum over heads of `[heads, n]`, as scores.
pub(super) fn head_sum(x: &Array) -> Vec<f32> {
    let heads = x.shape().first().copied().unwrap_or(0) as f64;
    x.mean_over_first().into_iter().map(|v| (v * heads) as f32).collect()
}
