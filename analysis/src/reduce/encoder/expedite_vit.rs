//! Expediting ViT: inside the encoder patches are clustered around the cells of a coarser grid, softly, and later layers
//! work on the clusters; patches can be put together of them again.
//!
//! Source: Liang et al. 2022, "Expediting Large-Scale Vision Transformer for Dense Prediction without Fine-tuning",
//! arXiv 2210.01035. Takes: patches `[n, d]` and their grid. Gives: clusters, hard labels, reconstructed patches. Departs:
//! see [`Info::departs`]. Cost: O(n · window² · d) per iteration.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::host::resample;
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{Half, Place};
use crate::reduce::seen::pick;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use rayon::prelude::*;
use serde_json::{Value, json};

const KEEP: Param = Param::share("keep", "Clusters as a share of the patches, the same of either side", 0.25);
const DEPTH: Param = Param::share("depth", "Share of the encoder's layers behind which patches are clustered", 0.5);
const ITERATIONS: Param = Param::count("iterations", "Times that clusters move", 1, 64, 5);
const TEMPERATURE: Param =
    Param::number("temperature", "How sharply patches part by squared distance", 0.0, 100.0, 0.01);
const WINDOW: Param = Param::count("window", "Cells a side around its own that a patch may belong to", 1, 99, 5);

static INFO: Info = Info {
    id: "expedite_vit",
    title: "Expediting ViT",
    summary: "Clusters patches inside the encoder around a coarser grid, so that later layers work on the clusters.",
    family: "inside the encoder",
    basis: Basis::Authors { repo: "Expedit-LargeScale-Vision-Transformer/Expedit-SAM", commit: "75a1c30d66" },
    paper: Some(Paper {
        title: "Expediting Large-Scale Vision Transformer for Dense Prediction without Fine-tuning",
        authors: "Liang et al.",
        year: 2022,
        arxiv: "2210.01035",
    }),
    departs: "later layers and the language model go on with the clusters; patches are put together again in the raw entry \
              only, with weights divided by their length as in the authors' code; a cluster stands for the patches that are \
              nearest to it, and is left out where there is none",
    needs: &[Need::ImageTokens],
    params: &[KEEP, DEPTH, ITERATIONS, TEMPERATURE, WINDOW],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct ExpediteVit;

impl Method for ExpediteVit {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        if !on.tower()?.has_image() {
            return Err(INFO.needs(Need::ImageTokens.words()));
        }
        let n = on.trace.tower(Tower::Vision)?.n_layers;
        let layer = ((params.share(&DEPTH) * n as f64).round() as usize).clamp(1, n) - 1;
        let (side, rule) = (params.share(&KEEP).sqrt(), rule(params));
        Ok(Box::new(Asked::at([Place::Encoder(layer, Half::After)], move |seen, ctx| {
            let [(0, rows, cols)] = seen.tiles()[..] else {
                return Err(Error::invalid("clusters need the whole grid of patches, one row each"));
            };
            let cells = |n: usize| ((side * n as f64).round() as usize).clamp(1, n);
            let x = pick(&seen.values()?, seen.open())?;
            let found = Clusters::of(&x, (rows, cols), (cells(rows), cells(cols)), rule, ctx)?;
            let (mut made, mut lent) = (Vec::new(), Vec::new());
            for c in 0..found.centres.len() {
                let (own, others): (Vec<_>, Vec<_>) = found.parts(c).into_iter().partition(|p| found.labels[p.0] == c);
                if !own.is_empty() {
                    made.push(own);
                    lent.push(others);
                }
            }
            Ok(Decision::remade(seen, made, lent))
        })))
    }
}

/// Numbers of the clustering.
#[derive(Clone, Copy)]
struct Rule {
    iterations: usize,
    temperature: f64,
    window: usize,
}

fn rule(params: &Params) -> Rule {
    Rule {
        iterations: params.count(&ITERATIONS) as usize,
        temperature: params.number(&TEMPERATURE),
        window: params.count(&WINDOW) as usize,
    }
}

fn squared(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - y).powi(2)).sum()
}

/// Clusters of the patches of one grid.
struct Clusters {
    centres: Vec<Vec<f64>>,
    /// Nearest centre of each patch, wherever it lies.
    labels: Vec<usize>,
    /// For each patch, centres that it may belong to, with its shares in them before they moved last.
    shares: Vec<Vec<(usize, f64)>>,
}

impl Clusters {
    fn of(x: &Array, grid: (usize, usize), cells: (usize, usize), rule: Rule, ctx: &Ctx) -> Result<Self> {
        let ([n, d], k) = (x.dims("patches")?, cells.0 * cells.1);
        let start = resample::apply(&resample::average(grid, cells), x.data(), d);
        let mut centres: Vec<Vec<f64>> =
            start.chunks(d.max(1)).map(|c| c.iter().map(|v| f64::from(*v)).collect()).collect();
        centres.resize(k, Vec::new());
        let near = rule.window / 2;
        let allowed = |p: usize| -> Vec<usize> {
            let (y, c) = (p / grid.1 * cells.0 / grid.0, p % grid.1 * cells.1 / grid.1);
            let rows = y.saturating_sub(near)..(y + near + 1).min(cells.0);
            rows.flat_map(|r| (c.saturating_sub(near)..(c + near + 1).min(cells.1)).map(move |q| r * cells.1 + q))
                .collect()
        };
        let allowed: Vec<Vec<usize>> = (0..n).map(allowed).collect();
        let mut shares: Vec<Vec<(usize, f64)>> = Vec::new();
        for i in 0..rule.iterations {
            ctx.step(i, rule.iterations)?;
            let share = |p: usize| -> Vec<(usize, f64)> {
                let away: Vec<f64> = allowed[p].iter().map(|&c| squared(x.row(p), &centres[c])).collect();
                let least = away.iter().copied().fold(f64::INFINITY, f64::min);
                let e: Vec<f64> = away.iter().map(|d| (-rule.temperature * (d - least)).exp()).collect();
                let sum: f64 = e.iter().sum();
                allowed[p].iter().zip(e).map(|(&c, e)| (c, e / sum)).collect()
            };
            shares = (0..n).into_par_iter().map(share).collect();
            let (mut sums, mut totals) = (vec![vec![0f64; d]; k], vec![0f64; k]);
            for (p, shares) in shares.iter().enumerate() {
                for &(c, w) in shares {
                    totals[c] += w;
                    sums[c].iter_mut().zip(x.row(p)).for_each(|(s, v)| *s += w * f64::from(*v));
                }
            }
            for ((centre, sum), total) in centres.iter_mut().zip(sums).zip(totals).filter(|m| m.1 > 0.0) {
                *centre = sum.into_iter().map(|s| s / total).collect();
            }
        }
        let nearest = |p: usize| {
            let away = |c: usize| squared(x.row(p), &centres[c]);
            (1..k).fold((0, away(0)), |best, c| {
                let here = away(c);
                if here < best.1 { (c, here) } else { best }
            })
        };
        let labels = (0..n).into_par_iter().map(|p| nearest(p).0).collect();
        Ok(Self { centres, labels, shares })
    }

    /// Patches in cluster `c`, with their weights in its mean.
    fn parts(&self, c: usize) -> Vec<(usize, f64)> {
        let of = |(p, shares): (usize, &Vec<(usize, f64)>)| shares.iter().find(|s| s.0 == c).map(|s| (p, s.1));
        let mut parts: Vec<(usize, f64)> = self.shares.iter().enumerate().filter_map(of).collect();
        let total: f64 = parts.iter().map(|p| p.1).sum();
        parts.iter_mut().for_each(|p| p.1 /= total.max(f64::MIN_POSITIVE));
        parts
    }

    /// Each patch of what became of the `k` clusters that are nearest to it.
    fn reconstruct(&self, x: &Array, refined: &Array, temperature: f64, k: usize) -> Vec<Vec<f64>> {
        let patch = |p: usize| {
            let w: Vec<f64> = self.centres.iter().map(|c| (-temperature * squared(x.row(p), c)).exp()).collect();
            let mut falling = w.clone();
            falling.sort_by(|a, b| b.total_cmp(a));
            let least = falling[k.clamp(1, falling.len()) - 1];
            let kept = || w.iter().enumerate().filter(|(_, w)| **w >= least);
            // Over their length and not their sum, as the authors have it.
            let length = kept().map(|(_, w)| w * w).sum::<f64>().sqrt().max(1e-12);
            let mut out = vec![0f64; refined.shape()[1]];
            for (c, w) in kept() {
                out.iter_mut().zip(refined.row(c)).for_each(|(o, v)| *o += w / length * f64::from(*v));
            }
            out
        };
        (0..x.shape()[0]).into_par_iter().map(patch).collect()
    }
}

/// Raw entry: `x` `[rows, columns, d]`, `refined_clusters` `[clusters, d]`; `clusters` (rows and columns), `n_iters`,
/// `temperature`, `window`, `k`.
const ADAPTER: Adapter = Adapter { name: "expedite_vit", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, refined) = (input.array("x")?, input.array("refined_clusters")?);
    x.check_finite("x")?;
    refined.check_finite("refined_clusters")?;
    let [rows, cols, d] = x.dims("x")?;
    let cells: (usize, usize) = input.read("clusters")?;
    let fits = cells.0 > 0 && cells.1 > 0 && cells.0 <= rows && cells.1 <= cols && d > 0;
    if !fits || refined.rank() != 2 || refined.shape()[0] != cells.0 * cells.1 {
        let e = format!("[{} · {}, any], for {rows} by {cols} patches", cells.0, cells.1);
        return Err(Error::shape("refined_clusters", e, refined.shape()));
    }
    let rule = Rule {
        iterations: input.rounds("n_iters", 5)?,
        temperature: input.read_or("temperature", 0.01)?,
        window: input.read_or("window", 5)?,
    };
    if rule.temperature.is_nan() || rule.temperature < 0.0 || rule.window > 1 << 20 {
        return Err(Error::invalid(format!("temperature is {}, and window {}", rule.temperature, rule.window)));
    }
    let x = Array::new([rows * cols, d], x.data().to_vec())?;
    let found = Clusters::of(&x, (rows, cols), cells, rule, ctx)?;
    let again = found.reconstruct(&x, refined, rule.temperature, input.read_or("k", 20)?);
    Ok(json!({ "cluster_features": found.centres, "hard_labels": found.labels, "reconstructed": again }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_belongs_to_cells_around_its_own_only_and_its_label_to_any() {
        // Four patches in a row, four cells; the last patch is like the first.
        let x = Array::new([4, 1], vec![0.0, 5.0, 9.0, 0.1]).unwrap();
        let rule = Rule { iterations: 1, temperature: 100.0, window: 1 };
        let found = Clusters::of(&x, (1, 4), (1, 4), rule, &Ctx::default()).unwrap();
        assert_eq!(found.labels, [0, 1, 2, 3]);
        assert_eq!(found.parts(3), [(3, 1.0)]);
        let wide = Clusters::of(&x, (1, 4), (1, 2), Rule { window: 3, ..rule }, &Ctx::default()).unwrap();
        // Cells begin at 2.5 and 4.55: the first and the last patch are nearer to the first.
        assert_eq!(wide.labels, [0, 1, 1, 0]);
        let refined = Array::new([2, 1], vec![1.0, 2.0]).unwrap();
        assert_eq!(wide.reconstruct(&x, &refined, 100.0, 1)[0], [1.0]);
    }
}
