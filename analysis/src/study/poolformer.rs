//! MetaFormer: pooling in place of attention, and what becomes of the output.
//!
//! Source: Yu et al. 2021, "MetaFormer Is Actually What You Need for Vision", arXiv 2111.11418; sail-sg/poolformer at
//! a075575b8b, `models/poolformer.py`. Takes: an image encoder and its run. Gives: what pooling would write, how far the
//! encoder's output moves, and what the model says then. Departs: see [`Info::departs`]. Cost: two passes.

use super::Method;
use super::answer::{compared, next};
use super::patches::{self, Patches};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding, Measure};
use crate::math::length;
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::trace::{At, NoTap, Site, Tap, Tower};
use crate::{Error, Result, Subject};
use candle_core::Tensor;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SIDE: Param =
    Param::count("pool", "How far pooling reaches to every side, in patches: 1 is a square of 3", 1, 16, 1);
const WHERE: Param = Param::layer_of(
    "replaced",
    "Encoder layer whose attention is replaced; all of them, as in the paper, leaves nothing of a model trained with it",
    Tower::Vision,
    LayerPick::At(-2),
);

static INFO: Info = Info {
    id: "poolformer",
    title: "Pooling as attention",
    summary: "Replaces a layer's attention by pooling and shows how far the encoder's output moves.",
    family: "inside the encoder",
    basis: Basis::Authors { repo: "sail-sg/poolformer", commit: "a075575b8b" },
    paper: Some(Paper {
        title: "MetaFormer Is Actually What You Need for Vision",
        authors: "Yu et al.",
        year: 2021,
        arxiv: "2111.11418",
    }),
    departs: "the published models are trained with pooling, and this one is not, so a layer at a time is replaced; what is \
              no patch, such as a class token, gets nothing",
    needs: &[Need::ImageTokens, Need::Residual],
    params: &[SIDE, WHERE],
    raw: &[Adapter { name: "poolformer", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct PoolFormer;

impl Method for PoolFormer {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let vision = patches::encoder(on, &INFO)?;
        let tiles = Patches::of(on, &Params::new(), &INFO)?;
        let model = on.weights(&INFO)?;
        let layer = params.one_layer(&WHERE, vision.n_layers)?;
        let last = vision.n_layers - 1;
        let mut tap = Pool {
            ctx,
            layer,
            last,
            parts: tiles.iter().map(|t| (t.tile, t.row, t.grid)).collect(),
            reach: params.count(&SIDE) as usize,
            read: BTreeMap::new(),
            written: BTreeMap::new(),
            left: BTreeMap::new(),
        };
        if vision.grids.iter().any(|g| g.gap > 0) {
            return Err(INFO.needs("patches that stand row by row"));
        }
        let full = if model.info().vocab > 0 { next(on, &INFO, None, &mut NoTap, &ctx.part(0, 2))? } else { None };
        let then = next(on, &INFO, None, &mut tap, &ctx.part(1, 2))?;
        let of_tile = |all: &BTreeMap<usize, Array>, t: &Patches| -> Result<Array> {
            let whole = all.get(&t.tile).ok_or_else(|| INFO.needs("an encoder that reads this picture"))?;
            let (n, d) = (t.len(), whole.shape()[1]);
            let part = whole.data().get(t.row * d..(t.row + n) * d);
            let part = part.ok_or_else(|| Error::invalid("this needs every patch of the picture"))?;
            Array::new([n, d], part.to_vec())
        };
        let (mut written, mut moved) = (Vec::new(), Vec::new());
        for tile in &tiles {
            let w = of_tile(&tap.written, tile)?;
            written.push((0..tile.len()).map(|i| length(w.row(i)) as f32).collect::<Vec<f32>>());
            let left = of_tile(&tap.left, tile)?;
            moved.push(patches::moved(&tile.x, &left));
        }
        let n: usize = moved.iter().map(Vec::len).sum();
        let mean = moved.iter().flatten().map(|v| f64::from(*v)).sum::<f64>() / n.max(1) as f64;
        let by = Measure::new("change", "lengths of the patch");
        let mut out = Finding::of(patches::heat(on, "how far the output moves", by, vision, &tiles, &moved))
            .with(patches::heat(on, "what pooling writes", Measure::new("length", ""), vision, &tiles, &written))
            .figure(Figure::new(
                "mean change",
                Datum::Number(mean),
                "Of the encoder's last layer, in lengths of a patch",
            ));
        if let Some((full, then)) = full.zip(then) {
            out.figures.extend(compared(on, &full, &then));
        }
        Ok(out)
    }
}

/// Puts pooling in place of a layer's attention, and keeps what the encoder leaves.
struct Pool<'a> {
    ctx: &'a Ctx,
    layer: usize,
    last: usize,
    /// Tile, row of the first patch, rows and columns of each grid.
    parts: Vec<(usize, usize, (usize, usize))>,
    reach: usize,
    /// What attention reads, by tile.
    read: BTreeMap<usize, Array>,
    written: BTreeMap<usize, Array>,
    left: BTreeMap<usize, Array>,
}

impl Tap for Pool<'_> {
    fn wants(&self, at: &At) -> bool {
        at.tower == Tower::Vision
            && match at.site {
                Site::AttnIn | Site::AttnOut => at.layer == self.layer,
                Site::ResidPost => at.layer == self.last,
                _ => false,
            }
    }

    fn pass(&mut self, at: &At, x: Tensor) -> Result<Tensor> {
        if !self.wants(at) {
            return Ok(x);
        }
        match at.site {
            Site::AttnIn => {
                self.read.insert(at.tile, Array::from_tensor(&x)?);
                Ok(x)
            }
            Site::ResidPost => {
                self.left.insert(at.tile, Array::from_tensor(&x)?);
                Ok(x)
            }
            _ => {
                let Some(read) = self.read.remove(&at.tile) else { return Ok(x) };
                let [n, d] = read.dims("what attention reads")?;
                let mut out = Array::zeros([n, d]);
                for &(_, first, grid) in self.parts.iter().filter(|p| p.0 == at.tile) {
                    let cells = first * d..(first + grid.0 * grid.1) * d;
                    if let Some(rows) = read.data().get(cells.clone()) {
                        out.data_mut()[cells].copy_from_slice(&pooled(rows, grid, d, self.reach, self.ctx)?);
                    }
                }
                let made = out.to_tensor(x.device())?.to_dtype(x.dtype())?;
                self.written.insert(at.tile, out);
                Ok(made)
            }
        }
    }
}

/// Means over squares around each cell of `x` `[rows · cols, d]`, of the cells that there are, less the cell itself.
fn pooled(x: &[f32], (rows, cols): (usize, usize), d: usize, reach: usize, ctx: &Ctx) -> Result<Vec<f32>> {
    let span = |at: usize, n: usize| at.saturating_sub(reach)..(at + reach + 1).min(n);
    let mut out = Vec::with_capacity(x.len());
    for (y, c) in (0..rows).flat_map(|y| (0..cols).map(move |c| (y, c))) {
        ctx.check()?;
        let mut sum = vec![0f64; d];
        let cells = span(y, rows).flat_map(|r| span(c, cols).map(move |k| r * cols + k));
        let mut n = 0;
        for cell in cells {
            n += 1;
            sum.iter_mut().zip(&x[cell * d..(cell + 1) * d]).for_each(|(s, v)| *s += f64::from(*v));
        }
        let own = &x[(y * cols + c) * d..(y * cols + c + 1) * d];
        out.extend(sum.iter().zip(own).map(|(s, v)| (s / n as f64 - f64::from(*v)) as f32));
    }
    Ok(out)
}

/// Raw entry: `x` `[channels, rows, columns]`, `pool_size`, an odd side.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, [channels, rows, cols]) = input.finite("x")?;
    let side: usize = input.read_or("pool_size", 3)?;
    if side.is_multiple_of(2) || side > 1 << 12 {
        return Err(Error::invalid(format!("field pool_size is {side}; it is an odd number below {}", 1 << 12)));
    }
    let mut out = Vec::with_capacity(channels);
    for c in 0..channels {
        ctx.step(c, channels)?;
        let map = pooled(x.row(c), (rows, cols), 1, side / 2, ctx)?;
        out.push(map.chunks(cols.max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>());
    }
    Ok(json!({ "output": out }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cells_that_there_are_count() {
        // A row of three: means 0.5, 1, 1.5, less the cell.
        let of = |x: &[f32], grid, reach| pooled(x, grid, 1, reach, &Ctx::default()).unwrap();
        assert_eq!(of(&[0.0, 1.0, 2.0], (1, 3), 1), [0.5, 0.0, -0.5]);
        assert_eq!(of(&[0.0, 3.0, 3.0, 6.0], (2, 2), 5), [3.0, 0.0, 0.0, -3.0]);
    }
}
