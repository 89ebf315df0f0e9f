//! Super tokens: cells of the grid of patches become tokens, and patches are shared out among the nine cells around them
//! by likeness.
//!
//! Source: Huang et al. 2023, "Vision Transformer with Super Token Sampling", arXiv 2211.11167. Takes: patches `[n, d]` and
//! their grid. Gives: super tokens and each patch's shares in them. Departs: see [`Info::departs`]. Cost: O(n · d) per
//! iteration.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::softmax;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{LAYER, encoded};
use crate::reduce::seen::pick;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const CELL: Param = Param::count("cell", "Patches a side of a cell that a super token begins as", 1, 32, 2);
const ITERATIONS: Param = Param::count("iterations", "Times that patches are shared out anew", 1, 64, 1);

static INFO: Info = Info {
    id: "super_token_sampling",
    title: "Super tokens",
    summary: "Makes one token of each cell of patches, to which the patches around it belong by likeness.",
    family: "image features",
    basis: Basis::Authors { repo: "hhb072/STViT", commit: "c9ed9a4a3d" },
    paper: Some(Paper {
        title: "Vision Transformer with Super Token Sampling",
        authors: "Huang et al.",
        year: 2023,
        arxiv: "2211.11167",
    }),
    departs: "the attention among super tokens is trained and left out, and what they become is not handed back to the \
              patches, which the raw entry does; a token stands for the patches of which it has the largest share; a super \
              token that no patch belongs to most is left out",
    needs: &[Need::ImageTokens],
    params: &[CELL, ITERATIONS, LAYER],
    role: Role::StandIn,
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct SuperTokenSampling;

impl Method for SuperTokenSampling {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let (cell, iterations) = (params.count(&CELL) as usize, params.count(&ITERATIONS) as usize);
        Ok(Box::new(Asked::at([encoded(on, params, &INFO)?], move |seen, ctx| {
            let x = pick(&seen.values()?, seen.open())?;
            let tiles = seen.tiles();
            if tiles.is_empty() {
                return Err(Error::invalid("super tokens need the whole grid of patches, one row each"));
            }
            let scale = (x.shape()[1] as f64).powf(-0.5);
            let (mut made, mut lent) = (Vec::new(), Vec::new());
            for (first, rows, cols) in tiles {
                let rows_of: Vec<usize> = (first..first + rows * cols).collect();
                let found = Sampled::of(&pick(&x, &rows_of)?, (rows, cols), (cell, cell), scale, iterations, ctx)?;
                for s in 0..found.cells.0 * found.cells.1 {
                    let (own, others): (Vec<_>, Vec<_>) =
                        found.parts(s).into_iter().partition(|&(p, _)| found.most(p) == s);
                    if own.is_empty() {
                        continue;
                    }
                    let at = |w: Vec<(usize, f64)>| w.into_iter().map(|(p, w)| (first + p, w)).collect::<Vec<_>>();
                    made.push(at(own));
                    lent.push(at(others));
                }
            }
            Ok(Decision::remade(seen, made, lent))
        })))
    }
}

/// Super tokens of one grid, and how its cells share in them.
struct Sampled {
    /// Rows and columns of super tokens.
    cells: (usize, usize),
    /// Rows and columns of patches that are there.
    grid: (usize, usize),
    /// Columns with those that fill the last cell of a row up.
    padded: usize,
    cell: (usize, usize),
    /// For each patch, those that fill up among them, its shares in the nine super tokens around it.
    shares: Vec<[f64; 9]>,
    /// `[super tokens, d]`.
    tokens: Vec<Vec<f64>>,
}

impl Sampled {
    fn of(
        x: &Array,
        (rows, cols): (usize, usize),
        cell: (usize, usize),
        scale: f64,
        iterations: usize,
        ctx: &Ctx,
    ) -> Result<Self> {
        let d = x.shape()[1];
        let cells = (rows.div_ceil(cell.0), cols.div_ceil(cell.1));
        let (high, wide) = (cells.0 * cell.0, cells.1 * cell.1);
        let patch = |p: usize| {
            let (r, c) = (p / wide, p % wide);
            (r < rows && c < cols).then(|| x.row(r * cols + c))
        };
        let mut out = Self {
            cells,
            grid: (rows, cols),
            padded: wide,
            cell,
            shares: vec![[0.0; 9]; high * wide],
            tokens: vec![vec![0.0; d]; cells.0 * cells.1],
        };
        for p in 0..high * wide {
            let s = out.cell_of(p);
            let area = (cell.0 * cell.1) as f64;
            patch(p).into_iter().flatten().zip(&mut out.tokens[s]).for_each(|(v, t)| *t += f64::from(*v) / area);
        }
        for i in 0..iterations {
            ctx.step(i, iterations)?;
            for p in 0..high * wide {
                let around = out.around(p);
                let logit = |s: &Option<usize>| {
                    let token = s.map(|s| &out.tokens[s]);
                    let dot =
                        patch(p).zip(token).map(|(x, t)| x.iter().zip(t).map(|(a, b)| f64::from(*a) * b).sum::<f64>());
                    // What lies outside of the grid is zero and takes its share.
                    dot.unwrap_or(0.0) * scale
                };
                let logits: Vec<f64> = around.iter().map(logit).collect();
                out.shares[p].copy_from_slice(&softmax(&logits, 1.0));
            }
            let (mut sums, mut totals) = (vec![vec![0f64; d]; out.tokens.len()], vec![0f64; out.tokens.len()]);
            for p in 0..high * wide {
                for (s, q) in out.around(p).into_iter().zip(out.shares[p]) {
                    let Some(s) = s else { continue };
                    totals[s] += q;
                    patch(p).into_iter().flatten().zip(&mut sums[s]).for_each(|(v, t)| *t += q * f64::from(*v));
                }
            }
            for (sum, total) in sums.iter_mut().zip(&totals) {
                sum.iter_mut().for_each(|v| *v /= total + 1e-12);
            }
            out.tokens = sums;
        }
        Ok(out)
    }

    fn cell_of(&self, padded: usize) -> usize {
        padded / self.padded / self.cell.0 * self.cells.1 + padded % self.padded / self.cell.1
    }

    /// The nine super tokens around a patch, row by row; none outside of the grid.
    fn around(&self, padded: usize) -> [Option<usize>; 9] {
        let (r, c) = (padded / self.padded / self.cell.0, padded % self.padded / self.cell.1);
        std::array::from_fn(|i| {
            let (y, x) = ((r + i / 3).checked_sub(1)?, (c + i % 3).checked_sub(1)?);
            (y < self.cells.0 && x < self.cells.1).then(|| y * self.cells.1 + x)
        })
    }

    /// Number of a patch of the grid among those that fill up, too.
    fn padded(&self, p: usize) -> usize {
        p / self.grid.1 * self.padded + p % self.grid.1
    }

    /// The super token that a patch belongs to most.
    fn most(&self, p: usize) -> usize {
        let p = self.padded(p);
        let there = self.around(p).into_iter().zip(self.shares[p]).filter_map(|(s, q)| Some((s?, q)));
        there.fold((0, -1.0), |best, (s, q)| if q > best.1 { (s, q) } else { best }).0
    }

    /// Patches in super token `s`, with their weights in its mean.
    fn parts(&self, s: usize) -> Vec<(usize, f64)> {
        let (mut total, mut parts) = (0.0, Vec::new());
        for padded in 0..self.shares.len() {
            let Some(i) = self.around(padded).iter().position(|t| *t == Some(s)) else { continue };
            let q = self.shares[padded][i];
            total += q;
            let (r, c) = (padded / self.padded, padded % self.padded);
            if r < self.grid.0 && c < self.grid.1 {
                parts.push((r * self.grid.1 + c, q));
            }
        }
        parts.iter_mut().for_each(|p| p.1 /= total + 1e-12);
        parts
    }
}

/// Raw entry: `x` `[channels, rows, columns]`, `stoken_size` (rows and columns of a cell), `n_iter`, `scale`.
const ADAPTER: Adapter = Adapter { name: "super_token_sampling", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let x = input.array("x")?;
    x.check_finite("x")?;
    let [d, rows, cols] = x.dims("x")?;
    let (cell, iterations): ((usize, usize), usize) = (input.read("stoken_size")?, input.rounds("n_iter", 1)?);
    let most = cell.0.max(cell.1).max(iterations);
    if rows * cols * d == 0 || cell.0 * cell.1.min(most) == 0 || iterations == 0 || most > 4096 {
        return Err(Error::invalid(format!(
            "{iterations} iterations over cells of {cell:?} in {rows} by {cols} patches"
        )));
    }
    let scale: f64 = input.read_or("scale", (d as f64).powf(-0.5))?;
    let values = (0..rows * cols).flat_map(|p| (0..d).map(move |c| x.row(c)[p])).collect();
    let found = Sampled::of(&Array::new([rows * cols, d], values)?, (rows, cols), cell, scale, iterations, ctx)?;
    let token =
        |c: usize, y: usize| (0..found.cells.1).map(|x| found.tokens[y * found.cells.1 + x][c]).collect::<Vec<_>>();
    let tokens: Vec<Vec<Vec<f64>>> = (0..d).map(|c| (0..found.cells.0).map(|y| token(c, y)).collect()).collect();
    let back = |c: usize, p: usize| -> f64 {
        let p = found.padded(p);
        found.around(p).into_iter().zip(found.shares[p]).filter_map(|(s, q)| Some(q * found.tokens[s?][c])).sum()
    };
    let line = |c: usize, y: usize| (0..cols).map(|x| back(c, y * cols + x)).collect::<Vec<_>>();
    let output: Vec<Vec<Vec<f64>>> = (0..d).map(|c| (0..rows).map(|y| line(c, y)).collect()).collect();
    Ok(json!({ "super_tokens": tokens, "output": output }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_cells_each_takes_its_own_patches_and_a_little_of_the_other() {
        let x = Array::new([4, 1], vec![9.0, 9.0, -9.0, -9.0]).unwrap();
        let found = Sampled::of(&x, (1, 4), (1, 2), 1.0, 1, &Ctx::default()).unwrap();
        assert_eq!(found.cells, (1, 2));
        assert!((found.tokens[0][0] - 9.0).abs() < 1e-9 && (found.tokens[1][0] + 9.0).abs() < 1e-9);
        assert_eq!([0, 1, 2, 3].map(|p| found.most(p)), [0, 0, 1, 1]);
        let own: f64 = found.parts(0).iter().filter(|p| p.0 < 2).map(|p| p.1).sum();
        assert!((own - 1.0).abs() < 1e-9, "{own}");
    }
}
