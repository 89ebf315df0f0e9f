//! Hi-MAR: a few low-resolution pivots are decided first, then the dense tokens, more of them from step to step.
//!
//! Source: Zheng et al. 2025, "Hierarchical Masked Autoregressive Models with Low-Resolution Token Pivots";
//! HiDream-ai/himar models/himar.py. Takes: sides of both grids, steps, a random order. Gives: the tokens of each step.
//! Departs: none known; the order only, the tokens come from trained diffusion heads.

use super::super::Method;
use super::show::{bars, order_map, step_of_each};
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::chance::{Chance, Seeded};
use crate::finding::{Datum, Figure, Finding, Measure};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const PIVOTS: Param = Param::count("cond_scale", "Pivots along a side; four steps for each", 1, 16, 4);
const SIDE: Param = Param::count("side", "Dense tokens along a side", 1, 64, 16);
const STEPS: Param = Param::count("num_iter", "Steps for the dense tokens", 1, 256, 64);

static INFO: Info = Info {
    id: "himar_order",
    title: "Hi-MAR order",
    summary: "Shows in which step each token is decided when low-resolution pivots come first.",
    family: "decode orders",
    basis: Basis::Authors { repo: "HiDream-ai/himar", commit: "1d378c1" },
    paper: Some(Paper {
        title: "Hierarchical Masked Autoregressive Models with Low-Resolution Token Pivots",
        authors: "Zheng et al.",
        year: 2025,
        arxiv: "",
    }),
    departs: "the order only, no image is made",
    params: &[PIVOTS, SIDE, STEPS, SEED],
    budget: Some(&STEPS),
    raw: &[Adapter { name: "himar_order", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Himar;

/// What each of `steps` decides of `order`, ascending: `⌊n cos(π (s + 1) / 2 steps)⌋` stay masked after step `s`, at least
/// one and at least one less than before, none after the last. The beginning of the order stays masked, so that its end
/// comes first.
fn phase(order: &[usize], steps: usize) -> Vec<Vec<usize>> {
    let (mut left, mut out) = (order.len(), Vec::with_capacity(steps));
    for s in 0..steps {
        let cos = (std::f64::consts::FRAC_PI_2 * (s + 1) as f64 / steps as f64).cos();
        let stay = (order.len() as f64 * cos).floor() as usize;
        let stay = if s + 1 == steps { 0 } else { stay.min(left.saturating_sub(1)).max(1).min(order.len()) };
        let mut now = order.get(stay..left).unwrap_or_default().to_vec();
        now.sort_unstable();
        out.push(now);
        left = stay;
    }
    out
}

impl Method for Himar {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let of = |p| params.count(p) as usize;
        let (pivots, side) = (of(&PIVOTS), of(&SIDE));
        let mut chance = Seeded::new(params.seed(&SEED));
        let mut shuffled = |n: usize| {
            let keys: Vec<f64> = (0..n).map(|_| chance.uniform()).collect();
            crate::math::largest(&keys, n)
        };
        let (first, second) =
            (phase(&shuffled(pivots * pivots), 4 * pivots), phase(&shuffled(side * side), of(&STEPS)));
        let map = |title: &str, phase: &[Vec<usize>], side: usize, after: usize| {
            let mut steps = step_of_each(phase, side * side);
            steps.iter_mut().for_each(|s| *s += after);
            order_map(title, &steps, side)
        };
        let counts = first.iter().chain(&second).map(|now| now.len() as f64);
        Ok(Finding::of(map("step that decides each pivot", &first, pivots, 0)?)
            .with(map("step that decides each token", &second, side, first.len())?)
            .with(bars("tokens decided together", "step", Measure::new("tokens", ""), counts))
            .figure(Figure::new(
                "steps",
                Datum::Count(first.len() + second.len()),
                "steps for pivots and dense tokens",
            )))
    }
}

/// Raw entry: `cond_scale`, `side`, `num_iter`, and an `order` of the pivots followed by the dense tokens → what each step
/// decides.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let (pivots, side) = (input.within("cond_scale", 1..=512)?, input.within("side", 1..=1024)?);
    let steps = input.rounds("num_iter", 64)?;
    let order: Vec<usize> = input.read("order")?;
    let n = pivots * pivots;
    if order.len() != n + side * side || steps == 0 {
        return Err(Error::invalid(
            "order must hold each of cond_scale² pivots, then each of side² tokens; num_iter from 1",
        ));
    }
    let (first, second) = (phase(&order[..n], 4 * pivots), phase(&order[n..], steps));
    let of = |name: &'static str, phase: &[Vec<usize>]| -> Vec<Value> {
        phase.iter().enumerate().map(|(s, now)| json!([name, s, now])).collect()
    };
    let counts = |phase: &[Vec<usize>]| phase.iter().map(Vec::len).collect::<Vec<_>>();
    let timeline = [of("pivot", &first), of("dense", &second)].concat();
    Ok(json!({
        "timeline": timeline,
        "tokens_per_step_pivot": counts(&first),
        "tokens_per_step_dense": counts(&second),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_order_comes_first() {
        // Of 4 in 3 steps ⌊4 cos 30°⌋ = 3 stay, then ⌊4 cos 60°⌋ = 2 (cos rounds to a little more than a half), then none.
        assert_eq!(phase(&[2, 0, 3, 1], 3), [vec![1], vec![3], vec![0, 2]]);
        // More steps than tokens: one stays until the last.
        assert_eq!(phase(&[1, 0], 4), [vec![0], vec![], vec![], vec![1]]);
    }
}
