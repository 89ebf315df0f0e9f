//! FlexDiT: a part of the depth works on a pooled grid, and the fine tokens come back behind it.
//!
//! Source: Chang et al. 2024, "FlexDiT: Dynamic Token Density Control for Diffusion Transformer", arXiv 2412.06028;
//! changsn/FlexDiT at ad9fb50922, `models.py`. Takes: patches on a grid. Gives: sparse tokens for a run of layers, and
//! fine ones in which these are blended. Departs: see [`Info::departs`]. Cost: O(n · d).

use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::host::resample::{self, Weights};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{Half, Place, one_tile};
use crate::reduce::{Asked, Decide, Decision, Method, Seen};
use crate::trace::{Regroup, Tower};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const DENSITY: Param = Param::share("density", "Side of the sparse grid over that of the fine one", 0.5);
const FROM: Param = Param::share("from", "Share of the layers before the sparse ones; there is one at least", 0.2);
const TO: Param = Param::share("to", "Share of the layers behind which the fine tokens are back", 0.8);
const BLEND: Param =
    Param::share("blend", "Share of a fine token that its sparse one gives it when it comes back", 0.5);

static INFO: Info = Info {
    id: "flexdit",
    title: "FlexDiT's densities",
    summary: "Lets the middle of the encoder work on a pooled grid, and blends it with the fine tokens behind that.",
    family: "inside the encoder",
    basis: Basis::Authors { repo: "changsn/FlexDiT", commit: "ad9fb50922" },
    paper: Some(Paper {
        title: "FlexDiT: Dynamic Token Density Control for Diffusion Transformer",
        authors: "Chang et al.",
        year: 2024,
        arxiv: "2412.06028",
    }),
    departs: "made for diffusion transformers, whose density also changes over the steps of the diffusion; the attention by \
              which sparse tokens ask fine ones and the blending are trained there: a mean and a share stand in; the first \
              token of a cell carries it while the others wait; layers that only average stay as they are",
    needs: &[Need::ImageTokens],
    params: &[DENSITY, FROM, TO, BLEND],
    role: Role::StandIn,
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct FlexDit;

impl Method for FlexDit {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let vision = on.trace.towers.get(&Tower::Vision).filter(|_| on.tower().is_ok_and(|t| t.has_image()));
        let n = vision.ok_or_else(|| INFO.needs(Need::ImageTokens.words()))?.n_layers;
        one_tile(on, Tower::Vision)?;
        if n < 3 {
            return Err(INFO.needs("an image encoder of at least three layers"));
        }
        let behind = |p: &Param, least: usize, most: usize| {
            ((params.share(p) * n as f64).round() as usize).clamp(least, most) - 1
        };
        let first = behind(&FROM, 1, n - 2);
        // What reads an encoder mostly reads the layer before its last.
        let last = behind(&TO, first + 2, n - 1);
        let (density, blend) = (params.share(&DENSITY), params.share(&BLEND));
        let mut carried: BTreeMap<usize, usize> = BTreeMap::new();
        let stops = [Place::Encoder(first, Half::After), Place::Encoder(last, Half::After)];
        Ok(Box::new(Asked::at(stops, move |seen, _| {
            if seen.place() == stops[1] {
                return Ok(back(seen, &carried, blend));
            }
            carried.clear();
            let mut groups: BTreeMap<usize, (Weights, Weights)> = BTreeMap::new();
            let tiles = seen.tiles();
            if tiles.is_empty() {
                return Err(Error::invalid("a pooled grid needs the whole grid of patches, one row each"));
            }
            for (at, rows, cols) in tiles {
                let side = |n: usize| ((n as f64 * density).round() as usize).clamp(1, n);
                let to = (side(rows), side(cols));
                let of = resample::owners((rows, cols), to);
                let cells = resample::average((rows, cols), to);
                let row = |i: usize| seen.open()[at + i];
                // The first of each cell's own.
                let mut carriers = vec![0; cells.len()];
                of.iter().enumerate().rev().for_each(|(i, &c)| carriers[c] = i);
                for (i, &c) in of.iter().enumerate() {
                    let token = |r: usize| seen.rows().tokens[r].first().copied().unwrap_or(0);
                    carried.insert(token(row(i)), token(row(carriers[c])));
                }
                for (cell, &i) in cells.into_iter().zip(&carriers) {
                    let moved = |m: (usize, f64)| (row(m.0), m.1);
                    let (own, others) = cell.into_iter().map(moved).partition(|m| m.0 == row(i));
                    groups.insert(row(i), (own, others));
                }
            }
            Ok(sparse(seen, groups))
        })))
    }
}

/// Rows as f32.
fn narrow(w: Weights) -> Vec<(usize, f32)> {
    w.into_iter().map(|(r, w)| (r, w as f32)).collect()
}

/// Only the rows named by `groups` go on of those that may be touched, each made as it says; the others wait.
fn sparse(seen: &dyn Seen, mut groups: BTreeMap<usize, (Weights, Weights)>) -> Decision {
    let (mut made, mut lent, mut aside) = (Vec::new(), Vec::new(), Vec::new());
    for r in 0..seen.rows().len() {
        if let Some((own, others)) = groups.remove(&r) {
            made.push(narrow(own));
            lent.push(narrow(others));
        } else if seen.open().binary_search(&r).is_ok() {
            aside.push(r);
        } else {
            made.push(vec![(r, 1.0)]);
            lent.push(Vec::new());
        }
    }
    let regroup = Regroup { aside, ..Regroup::of(made).lending(lent) };
    Decision { regroup: Some(regroup), ..Decision::stay() }
}

/// What waits comes back in its place, `blend` of it made of the row that carried it.
fn back(seen: &dyn Seen, carried: &BTreeMap<usize, usize>, blend: f64) -> Decision {
    let (here, waiting) = (seen.rows(), seen.waiting());
    if waiting.is_empty() {
        return Decision::stay();
    }
    let row_of: BTreeMap<usize, usize> =
        (0..here.len()).flat_map(|r| here.tokens[r].iter().map(move |t| (*t, r))).collect();
    let first = |tokens: &Vec<usize>| tokens.first().copied().unwrap_or(0);
    // In the order of tokens: of rows that are here, and of those that wait, which count on from them.
    let mut all: Vec<(usize, usize)> = (0..here.len()).map(|r| (first(&here.tokens[r]), r)).collect();
    all.extend((0..waiting.len()).map(|w| (first(&waiting.tokens[w]), here.len() + w)));
    all.sort_unstable();
    let (mut groups, mut lent) = (Vec::new(), Vec::new());
    for (token, row) in all {
        let by = carried.get(&token).and_then(|c| row_of.get(c)).filter(|_| row >= here.len());
        match by {
            Some(&by) => {
                groups.push(vec![(row, (1.0 - blend) as f32)]);
                lent.push(vec![(by, blend as f32)]);
            }
            None => {
                groups.push(vec![(row, 1.0)]);
                lent.push(Vec::new());
            }
        }
    }
    Decision { regroup: Some(Regroup::of(groups).lending(lent)), ..Decision::stay() }
}

/// Raw entry: `x` `[grid · grid, d]`, `grid` and `sparse_size`, sides of square grids.
const ADAPTER: Adapter = Adapter { name: "flexdit", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let x = input.array("x")?;
    x.check_finite("x")?;
    let ([n, d], grid, to): (_, usize, usize) = (x.dims("x")?, input.read("grid")?, input.read("sparse_size")?);
    if grid.checked_mul(grid) != Some(n) || n == 0 || !(1..=4096).contains(&to) {
        return Err(Error::invalid(format!(
            "{n} tokens on a grid of side {grid}, pooled to side {to} of at most 4096"
        )));
    }
    let parts = (to * to) as u64 * ((grid / to + 2) * (grid / to + 2)) as u64;
    ctx.fits(16 * parts + 4 * (to * to) as u64 * d as u64, "take a smaller grid")?;
    let sparse = resample::apply(&resample::average((grid, grid), (to, to)), x.data(), d);
    let back = resample::apply(&resample::nearest((to, to), (grid, grid)), &sparse, d);
    let rows = |x: &[f32]| x.chunks(d.max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>();
    Ok(json!({ "sparse_tokens": rows(&sparse), "nearest_upsampled": rows(&back) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::Table;
    use crate::trace::Rows;

    #[test]
    fn a_cell_is_carried_by_its_first_token_while_the_others_wait() {
        let seen = Table::new(Place::Encoder(0, Half::After), 3, 1..3).with_grid((1, 2));
        let cell = (vec![(1, 0.5)], vec![(2, 0.5)]);
        let regroup = sparse(&seen, [(1, cell)].into()).regroup.unwrap();
        assert_eq!(regroup.groups, [vec![(0, 1.0)], vec![(1, 0.5)]]);
        assert_eq!((regroup.lent_to(1), regroup.aside.as_slice()), (&[(2, 0.5)][..], &[2][..]));
        let (here, wait) = regroup.follow(&Rows::identity(3), &Rows::default()).unwrap();
        assert_eq!((here.tokens, wait.tokens), (vec![vec![0], vec![1]], vec![vec![2]]));
    }
}
