//! TokenFLEX: an image's patches are pooled to one of a few grids, whatever budget an answer may cost.
//!
//! Source: Hu et al. 2025, "TokenFLEX: Unified VLM Training for Flexible Visual Tokens Inference", arXiv 2504.03154.
//! Takes: patches `[n, d]` and their grid. Gives: the means of a grid's cells, and what each patch loses by them.
//! Departs: see [`Info::departs`]. Cost: O(n · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::host::resample::{self, Weights};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{LAYER, encoded};
use crate::reduce::seen::pick;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const SIDE: Param = Param::count("side", "Tokens along a side; 8, 12 and 16 were published, for 24 patches", 1, 64, 8);

static INFO: Info = Info {
    id: "tokenflex_pool",
    title: "TokenFLEX pooling",
    summary: "Pools the image's patches to a grid of any side.",
    family: "image features",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "TokenFLEX: Unified VLM Training for Flexible Visual Tokens Inference",
        authors: "Hu et al.",
        year: 2025,
        arxiv: "2504.03154",
    }),
    departs: "the projector behind the pooling is trained there for all sides at once; this model's own reads the means; \
              a side that is longer than the grid's leaves that side as it is",
    needs: &[Need::ImageTokens],
    params: &[SIDE, LAYER],
    role: Role::StandIn,
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct TokenFlexPool;

impl Method for TokenFlexPool {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let side = params.count(&SIDE) as usize;
        Ok(Box::new(Asked::at([encoded(on, params, &INFO)?], move |seen, ctx| {
            let x = pick(&seen.values()?, seen.open())?;
            let mut lost = vec![0f32; seen.open().len()];
            let made = Decision::by_tile(seen, ctx, |first, grid| {
                let to = (side.min(grid.0), side.min(grid.1));
                let pooled = Pooled::of(grid, to);
                let part = pick(&x, &(first..first + grid.0 * grid.1).collect::<Vec<_>>())?;
                lost[first..first + grid.0 * grid.1].copy_from_slice(&pooled.residual(&part)?.1);
                Ok(resample::parted(pooled.cells, &pooled.of))
            })?;
            Ok(made.scored(seen, &lost))
        })))
    }
}

/// A grid pooled to another.
struct Pooled {
    /// Patches of each cell.
    cells: Vec<Weights>,
    /// The cell that stands for each patch.
    of: Vec<usize>,
}

impl Pooled {
    fn of(grid: (usize, usize), to: (usize, usize)) -> Self {
        Self { cells: resample::average(grid, to), of: resample::owners(grid, to) }
    }

    /// Values of the cells, and how far each patch of `x` `[n, d]` is from that of its cell.
    fn residual(&self, x: &Array) -> Result<(Array, Vec<f32>)> {
        let [_, d] = x.dims("patches")?;
        let cells = Array::new([self.cells.len(), d], resample::apply(&self.cells, x.data(), d))?;
        let away = |(i, &c): (usize, &usize)| squared(x.row(i), cells.row(c)).sqrt() as f32;
        let lost = self.of.iter().enumerate().map(away).collect();
        Ok((cells, lost))
    }
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Share of what `x` `[n, d]` varies that is left when patches are this far from what stands for them; 1 where it does
/// not vary.
fn energy(x: &Array, lost: &[f32]) -> f64 {
    let mean: Vec<f64> = x.mean_over_first();
    let from_mean = |i: usize| x.row(i).iter().zip(&mean).map(|(v, m)| (f64::from(*v) - m).powi(2)).sum::<f64>();
    let whole: f64 = (0..lost.len()).map(from_mean).sum();
    let gone: f64 = lost.iter().map(|l| f64::from(*l).powi(2)).sum();
    if whole > 0.0 { 1.0 - gone / whole } else { 1.0 }
}

/// Raw entry: `x` `[n, d]`, `grid`, `sizes` of square grids.
const ADAPTER: Adapter = Adapter { name: "tokenflex_pool", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, [n, d]) = input.finite("x")?;
    let grid: (usize, usize) = input.read("grid")?;
    let sizes: Vec<usize> = input.read_or("sizes", vec![8, 12, 16])?;
    if grid.0.checked_mul(grid.1) != Some(n) || n == 0 {
        return Err(Error::invalid(format!("a grid of {} by {} for {n} tokens", grid.0, grid.1)));
    }
    let mut levels = Vec::new();
    for (i, &m) in sizes.iter().enumerate() {
        ctx.step(i, sizes.len())?;
        let cells = m.checked_mul(m).filter(|c| *c > 0 && *c <= 1 << 24);
        let cells = cells.ok_or_else(|| Error::invalid(format!("field sizes: a side of {m} is not from 1 to 4096")))?;
        let parts = (cells as u64).saturating_mul((grid.0 / m + 2) as u64 * (grid.1 / m + 2) as u64);
        ctx.fits(16 * parts + 4 * (cells as u64).saturating_mul(d as u64), "take a smaller size")?;
        let pooled = Pooled::of(grid, (m, m));
        let (tokens, residual) = pooled.residual(x)?;
        levels.push(json!({
            "size": m,
            "tokens": (0..cells).map(|c| tokens.row(c)).collect::<Vec<_>>(),
            "energy": energy(x, &residual),
            "residual": residual,
        }));
    }
    Ok(json!({ "levels": levels }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_overlap_share_a_patch_and_one_of_them_owns_it() {
        // Three patches in two cells: the middle one is in both, and stands by the first.
        let pooled = Pooled::of((1, 3), (1, 2));
        assert_eq!(pooled.of, [0, 0, 1]);
        let (cells, lost) = pooled.residual(&Array::new([3, 1], vec![0.0, 2.0, 4.0]).unwrap()).unwrap();
        assert_eq!((cells.data(), lost.as_slice()), (&[1.0, 3.0][..], &[1.0, 1.0, 1.0][..]));
        let parted = resample::parted(pooled.cells, &pooled.of);
        assert_eq!(parted[0], (vec![(0, 0.5), (1, 0.5)], vec![]));
        assert_eq!(parted[1], (vec![(2, 0.5)], vec![(1, 0.5)]));
    }

    #[test]
    fn energy_is_what_the_cells_keep_of_the_variance() {
        let x = Array::new([3, 1], vec![0.0, 2.0, 4.0]).unwrap();
        // 3 of 8 are lost.
        assert!((energy(&x, &[1.0, 1.0, 1.0]) - 0.625).abs() < 1e-12);
        assert_eq!(energy(&Array::zeros([3, 1]), &[0.0; 3]), 1.0);
    }
}
