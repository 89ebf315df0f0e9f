//! Farthest-first selection by cosine distance: each next point is the one whose nearest chosen point is farthest.
//!
//! From a given point it is the traversal of Gonzalez 1985; from the loneliest one (largest distance to its nearest
//! neighbour) it is the max–min order of DivPrune (Alvar et al. 2025, arXiv 2503.02175). Ties go to the lower index.

use super::single::{BLOCK, Blocks, Pairs, all_finite, dot, unit_rows};
use super::{Pass, Sample, samples};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::gpu::{Buffer, Gpu, Kernel, Layout, Record, Side, Work, gpu_struct, grid, pieces};
use crate::{Error, Result};
use rayon::prelude::*;
use std::cell::LazyCell;
use std::ops::Range;

gpu_struct! {
    /// What the shader is told besides its buffers.
    struct Params {
        /// Points of the piece, or of all.
        n: u32,
        /// Points of the right piece.
        n_right: u32,
        /// Number of the piece's first point.
        first: u32,
        /// Components of a point.
        width: u32,
        /// Number of the choice.
        step: u32,
        /// Block of 32 points that the first workgroup takes.
        first_block: u32,
        /// 1 for the first right piece.
        begins: u32,
        /// Point to begin with, or 2³² − 1 for the loneliest.
        given: u32,
        /// 1 if a point may be chosen again.
        repeats: u32,
    }
}

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        shader: "farthest_first",
        source: concat!(
            include_str!("../../../shaders/shared/dot_block.wgsl"),
            include_str!("../../../shaders/farthest_first.wgsl"),
        ),
        entry,
    }
}

/// Which point comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// This one.
    At(usize),
    /// The one with the farthest nearest neighbour.
    Loneliest,
}

/// What to select.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Number of points, at most all.
    pub k: usize,
    /// The first one.
    pub start: Start,
    /// Whether a chosen point stays among the candidates, as in DivPrune's released code: among exact duplicates it
    /// may then be named twice.
    pub repeats: bool,
}

/// Unit rows, in the arithmetic that decides between distances that are equal but for rounding. Errors as [`check`].
fn points(x: &Array, what: &Selection) -> Result<Vec<Vec<f32>>> {
    let unit = unit_rows(x);
    check(unit.len(), unit.par_iter().all(|row| all_finite(row)), what)?;
    Ok(unit)
}

/// Errors if a row has no direction, so that dividing it by its length gives no numbers, or the start does not exist.
fn check(n: usize, finite: bool, what: &Selection) -> Result<()> {
    if !finite {
        return Err(Error::invalid("a point is zero or not finite, so it has no direction"));
    }
    match what.start {
        Start::At(i) if i >= n => Err(Error::invalid(format!("there is no point {i} to start from"))),
        _ => Ok(()),
    }
}

/// 1 − a · b.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    1.0 - dot(a, b)
}

/// Distance of a point to its nearest neighbour, from its distances to all: the second smallest, its own included.
fn loneliness(distances: impl Iterator<Item = f32>) -> f32 {
    let (mut smallest, mut second) = (f32::INFINITY, f32::INFINITY);
    for d in distances {
        second = second.min(smallest.max(d));
        smallest = smallest.min(d);
    }
    second
}

/// Progress of what comes before the first choice, and of the choices: all pairs take about as long as the rest.
fn halves(what: &Selection, ctx: &Ctx) -> (Ctx, Ctx) {
    match what.start {
        Start::Loneliest => (ctx.part(0, 2), ctx.part(1, 2)),
        Start::At(_) => (ctx.clone(), ctx.clone()),
    }
}

fn select(
    n: usize,
    what: &Selection,
    ctx: &Ctx,
    lonely: impl FnOnce() -> Vec<f32>,
    approach: impl Fn(usize, &mut [f32]),
) -> Result<Vec<usize>> {
    let mut nearest = vec![f32::INFINITY; n];
    let mut order = Vec::with_capacity(what.k.min(n));
    if what.k.min(n) == 0 {
        return Ok(order);
    }
    order.push(match what.start {
        Start::At(i) => i,
        Start::Loneliest => crate::math::argmax(&lonely()).unwrap_or(0),
    });
    while order.len() < what.k.min(n) {
        ctx.step(order.len(), what.k)?;
        let last = order[order.len() - 1];
        approach(last, &mut nearest);
        if !what.repeats {
            nearest[last] = f32::NEG_INFINITY;
        }
        order.push(crate::math::argmax(&nearest).unwrap_or(0));
    }
    Ok(order)
}

/// The plain loops: indices of rows of `x` `[n, d]` in the order they are chosen.
pub fn cpu(x: &Array, what: &Selection, ctx: &Ctx) -> Result<Vec<usize>> {
    let [n, _] = x.dims("points")?;
    let unit = points(x, what)?;
    let lonely = || unit.iter().map(|p| loneliness(unit.iter().map(|other| distance(other, p)))).collect();
    select(n, what, ctx, lonely, |last, nearest| {
        for (j, d) in nearest.iter_mut().enumerate() {
            *d = d.min(distance(&unit[last], &unit[j]));
        }
    })
}

/// Blocks that a thread takes at once.
const TOGETHER: usize = 8;

/// The same, points in blocks and in parallel, pairs once where all are asked for; results are the same to the bit.
pub fn fast(x: &Array, what: &Selection, ctx: &Ctx) -> Result<Vec<usize>> {
    let [n, _] = x.dims("points")?;
    let blocks = Blocks::unit(x, &(0..n).collect::<Vec<_>>());
    check(n, blocks.are_finite(), what)?;
    // Only where distances are not kept.
    let unit = LazyCell::new(|| unit_rows(x));
    let (before, ctx) = halves(what, ctx);
    let pairs = match what.start {
        Start::Loneliest if what.k > 0 => Some(Pairs::new(&blocks, &before)?),
        _ => None,
    };
    let lonely = || pairs.as_ref().map(|p| p.lonely.clone()).unwrap_or_default();
    select(n, what, &ctx, lonely, |last, nearest| {
        if pairs.as_ref().is_some_and(|p| p.approach(last, nearest)) {
            return;
        }
        let point = &unit[last];
        nearest.par_chunks_mut(BLOCK * TOGETHER).enumerate().for_each(|(i, near)| {
            let mut dots = [[0f32; BLOCK]; TOGETHER];
            blocks.dots(i * TOGETHER, point, &mut dots[..near.len().div_ceil(BLOCK)]);
            near.iter_mut().zip(dots.as_flattened()).for_each(|(d, dot)| *d = d.min(1.0 - dot));
        });
    })
}

/// The shader, in f32: the order may differ where distances are equal to seven digits.
pub fn gpu(x: &Array, what: &Selection, gpu: &Gpu, ctx: &Ctx) -> Result<Vec<usize>> {
    let [n, d] = x.dims("points")?;
    let unit = points(x, what)?;
    let k = what.k.min(n);
    if k == 0 {
        return Ok(Vec::new());
    }
    let given = match what.start {
        Start::At(i) => i as u32,
        Start::Loneliest => u32::MAX,
    };
    let base = Params {
        n: n as u32,
        n_right: 0,
        first: 0,
        width: d as u32,
        step: 0,
        first_block: 0,
        begins: 0,
        given,
        repeats: u32::from(what.repeats),
    };
    let (before, ctx) = halves(what, ctx);
    let order = gpu.run(|work| {
        let mut parts = Vec::new();
        for rows in pieces(n, d, work.binding_bytes()) {
            let values = unit[rows.clone()].concat();
            parts.push((rows, work.upload("points", &values)?));
        }
        let near = work.buffer("distances", 2 * n)?;
        let order = work.buffer("order", k)?;
        let current = work.buffer("chosen point", d)?;
        if what.start == Start::Loneliest {
            lonely(work, &parts, &near, base, &before)?;
        }
        for step in 0..k as u32 {
            let params = Params { step, ..base };
            work.dispatch(&kernel("pick"), &params, &[&near, &order], [1, 1, 1])?;
            for (rows, part) in &parts {
                let params = Params { n: rows.len() as u32, first: rows.start as u32, ..params };
                work.dispatch(&kernel("fetch"), &params, &[part, &order, &current], [1, 1, 1])?;
            }
            for (rows, part) in &parts {
                let params = Params { n: rows.len() as u32, first: rows.start as u32, ..params };
                let groups = grid(rows.len().div_ceil(64))?;
                work.dispatch(&kernel("approach"), &params, &[part, &current, &near, &order], groups)?;
            }
            if step % 32 == 31 {
                ctx.step(step as usize, k)?;
                work.wait()?;
            }
        }
        work.read::<u32>(&order)
    })?;
    Ok(order.into_iter().map(|i| i as usize).collect())
}

/// Records the distance of every point to its nearest neighbour.
fn lonely(work: &mut Work, parts: &[(Range<usize>, Buffer)], near: &Buffer, base: Params, ctx: &Ctx) -> Result<()> {
    for (i, (rows, left)) in parts.iter().enumerate() {
        ctx.step(i, parts.len())?;
        for (columns, right) in parts {
            let params = Params {
                n: rows.len() as u32,
                n_right: columns.len() as u32,
                first: rows.start as u32,
                begins: u32::from(columns.start == 0),
                ..base
            };
            work.dispatch(&kernel("lonely"), &params, &[left, right, near], grid(rows.len().div_ceil(32))?)?;
        }
        work.wait()?;
    }
    Ok(())
}

/// On the side that the context's rule chooses.
pub fn run(x: &Array, what: &Selection, ctx: &Ctx) -> Result<Vec<usize>> {
    ctx.compute(|| fast(x, what, ctx), |device| gpu(x, what, device, ctx))
}

/// The pass, for the list of all.
pub(super) struct FarthestFirst;

impl Pass for FarthestFirst {
    fn name(&self) -> &'static str {
        "farthest_first"
    }

    fn kernels(&self) -> Vec<(Kernel, Layout)> {
        ["lonely", "pick", "fetch", "approach"].map(|entry| (kernel(entry), Params::LAYOUT)).into()
    }

    fn samples(&self) -> Vec<Sample> {
        let mut all = Vec::new();
        // With one component all points lie in two directions and every choice is a tie.
        for (name, x) in samples::matrices().into_iter().filter(|(_, x)| x.shape()[1] > 1) {
            let n = x.shape()[0];
            for (start, repeats) in [(Start::Loneliest, true), (Start::Loneliest, false), (Start::At(n / 2), false)] {
                if n == 0 && start != Start::Loneliest {
                    continue;
                }
                // In few dimensions points crowd, and late choices are between distances that rounding decides.
                let what = Selection { k: if x.shape()[1] < 8 { n.min(4) } else { n.min(40) }, start, repeats };
                let x = x.clone();
                // Indices: the order must be the same.
                all.push(Sample::new(format!("{name}, {start:?}, repeats {repeats}"), 0.0, move |side, ctx| {
                    let order = match side {
                        Side::Cpu => cpu(&x, &what, ctx)?,
                        Side::Fast => fast(&x, &what, ctx)?,
                        Side::Gpu(g) => gpu(&x, &what, g, ctx)?,
                    };
                    Ok(order.into_iter().map(|i| i as f64).collect())
                }));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn progress_does_not_begin_again_behind_the_first_choice() {
        let x = Array::new([200, 2], (0..400).map(|i| ((i * 7919) % 997) as f32 - 498.5).collect::<Vec<_>>()).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = seen.clone();
        let ctx = Ctx::new(Arc::default(), Arc::new(move |share| note.lock().unwrap().push(share)));
        fast(&x, &Selection { k: 50, start: Start::Loneliest, repeats: true }, &ctx).unwrap();
        let seen = seen.lock().unwrap();
        let half = seen.iter().position(|&s| s >= 0.5).unwrap();
        assert!(half > 0 && seen[half..].is_sorted() && seen[half..].len() == 49, "{seen:?}");
    }

    #[test]
    fn takes_the_outlier_first_and_then_its_opposite() {
        let x = Array::new([3, 2], vec![1.0, 0.0, 1.0, 0.01, 0.0, 1.0]).unwrap();
        let what = Selection { k: 2, start: Start::Loneliest, repeats: true };
        for side in [cpu, fast] {
            assert_eq!(side(&x, &what, &Ctx::default()).unwrap(), [2, 0]);
            let given = Selection { k: 9, start: Start::At(1), repeats: false };
            assert_eq!(side(&x, &given, &Ctx::default()).unwrap(), [1, 2, 0]);
        }
    }

    #[test]
    fn among_distances_that_only_rounding_tells_apart_f32_decides_as_in_torch() {
        // Whole numbers from 1 to 3 share few directions. torch 2.15 on a CPU chooses in this order:
        // D = 1 - u @ u.T with u = x / x.norm(dim=1, keepdim=True), first the second smallest per column, then minima.
        let x: Vec<f32> = "233133122113112331232111321322".bytes().map(|b| f32::from(b - b'0')).collect();
        let x = Array::new([x.len() / 3, 3], x).unwrap();
        let what = Selection { k: 10, start: Start::Loneliest, repeats: true };
        for side in [cpu, fast] {
            assert_eq!(side(&x, &what, &Ctx::default()).unwrap(), [9, 3, 1, 6, 5, 7, 8, 0, 4, 2]);
        }
    }

    #[test]
    fn a_point_without_direction_and_a_start_outside_are_errors() {
        let what = Selection { k: 1, start: Start::At(5), repeats: false };
        assert!(cpu(&Array::zeros([2, 2]), &Selection { start: Start::Loneliest, ..what }, &Ctx::default()).is_err());
        let x = Array::new([1, 1], vec![1.0]).unwrap();
        assert!(cpu(&x, &what, &Ctx::default()).is_err());
    }
}
