//! Neighbouring autoregression: a grid is decided by distance from its corner, a diagonal per pass.
//!
//! Source: He et al. 2025, "Neighboring Autoregressive Modeling for Efficient Visual Generation", arXiv 2503.10696;
//! ThisisBillhe/NAR. Takes: the side of a grid. Gives: when each cell is decided, what each pass reads, and the mask.
//! Departs: none known; the order only, no image is made.

use super::super::Method;
use super::show::{bars, order_map, order_timeline};
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding, Measure};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Result, Subject};
use serde_json::{Value, json};

const SIDE: Param = Param::count("grid", "Cells along a side", 1, 48, 16);

static INFO: Info = Info {
    id: "nar_order",
    title: "Neighbouring autoregression",
    summary: "Shows in which pass each cell of a grid is decided when diagonals are decided together.",
    family: "decode orders",
    basis: Basis::Authors { repo: "ThisisBillhe/NAR", commit: "225c1fb" },
    paper: Some(Paper {
        title: "Neighboring Autoregressive Modeling for Efficient Visual Generation",
        authors: "He et al.",
        year: 2025,
        arxiv: "2503.10696",
    }),
    departs: "the order only: the two heads that predict to the right and below are trained",
    params: &[SIDE],
    budget: Some(&SIDE),
    raw: &[Adapter { name: "nar_order", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Nar;

/// The pass of each cell, row by row: its distance from the corner.
fn steps(n: usize) -> Vec<usize> {
    (0..n * n).map(|i| i / n + i % n).collect()
}

/// Cells of each pass, from above to below.
fn passes(n: usize) -> Vec<Vec<usize>> {
    let steps = steps(n);
    (0..2 * n - 1).map(|d| (0..n * n).filter(|&i| steps[i] == d).collect()).collect()
}

impl Method for Nar {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let n = params.count(&SIDE) as usize;
        let (steps, passes) = (steps(n), passes(n));
        let counts = passes.iter().map(|p| p.len() as f64);
        Ok(Finding::of(order_map("pass that decides each cell", &steps, n)?)
            .with(order_timeline("cells decided", &steps))
            .with(bars("cells decided together", "pass", Measure::new("cells", ""), counts))
            .figure(Figure::new("passes", Datum::Count(passes.len()), "2 · side − 1, a diagonal each"))
            .figure(Figure::new(
                "cells per pass",
                Datum::Number((n * n) as f64 / passes.len() as f64),
                "cells of the grid divided by passes; one after another it would be 1",
            )))
    }
}

/// Side of a grid that the raw entry lists at most: its mask grows with the fourth power.
const MOST: usize = 32;

/// Raw entry: `grid` → creation order, pass of each cell, what each pass reads, and the mask.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let n = input.within("grid", 1..=MOST)?;
    let (steps, passes) = (steps(n), passes(n));
    let mut counter = vec![0; n * n];
    passes.iter().flatten().enumerate().for_each(|(k, &cell)| counter[cell] = k);
    let call = |(d, now): (usize, &Vec<usize>)| json!({ "input_pos": now, "cfg_flag": true, "n_new": passes[d + 1].len(), "accept_first_last": d + 1 < n });
    let calls: Vec<Value> = passes.iter().enumerate().take(2 * n - 2).map(call).collect();
    let mask = |i: usize| (0..n * n).map(|j| u8::from(i == j || steps[j] <= steps[i] && steps[i] > 0)).collect();
    Ok(json!({
        "creation_counter_by_raster_position": counter,
        "step_by_raster_position": steps,
        "calls": calls,
        "proximity_mask": (0..n * n).map(mask).collect::<Vec<Vec<u8>>>(),
        "num_forward_passes": passes.len(),
        "tokens_per_step": (n * n) as f64 / passes.len() as f64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagonals_of_a_grid_of_three() {
        assert_eq!(steps(3), [0, 1, 2, 1, 2, 3, 2, 3, 4]);
        assert_eq!(passes(3), [vec![0], vec![1, 3], vec![2, 4, 6], vec![5, 7], vec![8]]);
        assert_eq!(passes(1), [[0]]);
    }
}
