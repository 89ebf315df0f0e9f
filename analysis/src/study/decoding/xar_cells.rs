//! xAR: a grid is decided cell by cell, all places of a cell at once.
//!
//! Source: Ren et al. 2025, "Beyond Next-Token: Next-X Prediction for Autoregressive Visual Generation", arXiv 2502.20388;
//! OliverRensu/xAR models/xar.py. Takes: the side of a grid and a number of cells. Gives: the places of each cell and their
//! order. Departs: none known; the order only, the denoising of a cell is trained.

use super::super::Method;
use super::show::{order_map, order_timeline, step_of_each};
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const SIDE: Param = Param::count("cell_side", "Places along a side of a cell", 1, 32, 8);
const CELLS: Param = Param::count("cells_along", "Cells along a side", 1, 8, 2);

static INFO: Info = Info {
    id: "xar_cells",
    title: "xAR cells",
    summary: "Shows in which step each place of a grid is decided when whole cells are decided together.",
    family: "decode orders",
    basis: Basis::Authors { repo: "OliverRensu/xAR", commit: "121e9c9" },
    paper: Some(Paper {
        title: "Beyond Next-Token: Next-X Prediction for Autoregressive Visual Generation",
        authors: "Ren et al.",
        year: 2025,
        arxiv: "2502.20388",
    }),
    departs: "cells only, the best of the paper's entities; the order only, what denoises a cell is trained",
    params: &[SIDE, CELLS],
    budget: Some(&CELLS),
    raw: &[Adapter { name: "xar_cells", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Xar;

/// Places of each cell, row by row inside of it; cells row by row.
fn cells(side: usize, along: usize) -> Vec<Vec<usize>> {
    let own = side / along;
    let places = |cell: usize| {
        let (r, c) = (cell / along * own, cell % along * own);
        (0..own * own).map(|i| (r + i / own) * side + c + i % own).collect()
    };
    (0..along * along).map(places).collect()
}

impl Method for Xar {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let along = params.count(&CELLS) as usize;
        let side = params.count(&SIDE) as usize * along;
        let cells = cells(side, along);
        let steps = step_of_each(&cells, side * side);
        Ok(Finding::of(order_map("step that decides each place", &steps, side)?)
            .with(order_timeline("places decided", &steps))
            .figure(Figure::new(
                "steps",
                Datum::Count(cells.len()),
                "one for each cell; a cell sees itself and those before",
            ))
            .figure(Figure::new(
                "places per step",
                Datum::Number((side * side) as f64 / cells.len() as f64),
                "places of the grid divided by steps",
            )))
    }
}

/// Raw entry: `side` and `clusters` → the places of each cell.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let (side, clusters) = (input.within("side", 1..=1024)?, input.within("clusters", 1..=1 << 20)?);
    let along = clusters.isqrt();
    if along * along != clusters || along > side || !side.is_multiple_of(along) {
        return Err(Error::invalid(format!("clusters must be a square whose root divides the side of {side}")));
    }
    Ok(json!({
        "cells": cells(side, along),
        "steps": clusters,
        "tokens_per_step": (side * side) as f64 / clusters as f64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_cells_of_a_grid_of_four() {
        assert_eq!(cells(4, 2), [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]);
    }
}
