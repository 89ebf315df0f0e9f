//! Attention rollout: products of residual-augmented head means give each input's share in a node.
//!
//! Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", arXiv 2005.00928.
//! Takes: maps of every layer. Gives: a share per token. Departs: none known; of each product only the explained row is
//! computed, from the last layer down, so that no map is held but one. Cost: O(layers² · n²).

use super::maps::{self, PAPER};
use super::{Method, Scores};
use crate::array::Array;
use crate::cpu::vectorised;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Param, Params};
use crate::passes::attention_map;
use crate::trace::Site;
use crate::{Error, Result, Subject};
use rayon::prelude::*;

const RESIDUAL: Param =
    Param::toggle("add_residual", "Add the residual connection (identity) and renormalise rows", true);

static INFO: Info = Info {
    id: "attention_rollout",
    title: "Attention rollout",
    summary: "Multiplies the layers' attention maps, residual included, into shares of the inputs.",
    family: "attention",
    paper: Some(PAPER),
    needs: &[Need::Attention],
    params: &[RESIDUAL],
    basis: Basis::Authors { repo: "samiraabnar/attention_flow", commit: "" },
    ..Info::of(Kind::Score)
};

pub(super) struct AttentionRollout;

impl Method for AttentionRollout {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let layers = input.trace.tower(input.tower)?.attention.len();
        let target = maps::explained_row(input)?;
        let n = input.trace.get(input.tower, 0, Site::Q)?.rows.len();
        ctx.fits((size_of::<f32>() * n * n) as u64, "shorten the prompt")?;
        let mut rows: Vec<Vec<f64>> = Vec::new();
        for layer in (0..layers).rev() {
            let done = layers - 1 - layer;
            ctx.step(done, layers)?;
            let map = attention_map::head_mean(input.trace, input.tower, layer, &ctx.part(done, layers))?;
            if map.shape()[0] != n {
                return Err(Error::invalid("the run was reduced between layers; choose the full run"));
            }
            let map = Map::new(map, params.toggle(&RESIDUAL));
            rows = map.times(&rows);
            rows.push(map.row(target));
        }
        // The first row has gone through all layers, the last one through the first layer only.
        let shares = rows.iter().rev().map(|r| r.iter().map(|x| *x as f32).collect::<Vec<f32>>());
        let by_token = shares.map(|r| maps::by_token(input, &r)).collect::<Result<Vec<_>>>()?;
        let layers = by_token.iter().map(|l| l.iter().map(|v| v.unwrap_or(0.0)).collect()).collect();
        let values = by_token.into_iter().next_back().unwrap_or_default();
        Ok(Scores::new(values, "share of the input").with_layers(layers))
    }
}

/// Rows of a map that are multiplied by one thread at a time; sums of these are added in order, whoever made them.
const CHUNK: usize = 128;

/// The map of a layer, with the residual stream folded in: `(A + I)` with rows that sum to 1, or `A` itself.
struct Map {
    map: Array,
    /// One over what each row of `A + I` sums to; nothing without the residual stream.
    scale: Option<Vec<f64>>,
}

impl Map {
    fn new(map: Array, residual: bool) -> Self {
        let n = map.shape()[0];
        let sum = |i: usize| 1.0 / (map.row(i).iter().map(|x| f64::from(*x)).sum::<f64>() + 1.0);
        let scale = residual.then(|| (0..n).into_par_iter().map(sum).collect());
        Self { map, scale }
    }

    /// Row `i`.
    fn row(&self, i: usize) -> Vec<f64> {
        let mut row: Vec<f64> = self.map.row(i).iter().map(|x| f64::from(*x)).collect();
        if let Some(scale) = &self.scale {
            row[i] += 1.0;
            row.iter_mut().for_each(|x| *x *= scale[i]);
        }
        row
    }

    /// Each of `rows` times the map.
    fn times(&self, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let n = self.map.shape()[0];
        let part = |first: usize| {
            let mut sums = vec![vec![0f64; n]; rows.len()];
            for i in first..n.min(first + CHUNK) {
                // Tokens that no row has a share of, as those behind the explained one.
                if rows.iter().all(|r| r[i] == 0.0) {
                    continue;
                }
                let row = self.row(i);
                for (sum, share) in sums.iter_mut().zip(rows.iter().map(|r| r[i])) {
                    vectorised(|| sum.iter_mut().zip(&row).for_each(|(s, x)| *s += share * x));
                }
            }
            sums
        };
        let parts: Vec<Vec<Vec<f64>>> = if rows.is_empty() {
            Vec::new()
        } else {
            (0..n.div_ceil(CHUNK)).into_par_iter().map(|c| part(c * CHUNK)).collect()
        };
        let mut out = vec![vec![0f64; n]; rows.len()];
        for part in parts {
            for (out, part) in out.iter_mut().zip(part) {
                out.iter_mut().zip(part).for_each(|(o, p)| *o += p);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::{rollout_product, samples};
    use crate::score::augment;

    #[test]
    fn two_layers_of_two_tokens_by_hand() {
        // A = [[1,0],[1,0]]: B = [[1,0],[.5,.5]], B·B = [[1,0],[.75,.25]].
        let map = Map::new(Array::new([2, 2], vec![1.0, 0.0, 1.0, 0.0]).unwrap(), true);
        assert_eq!(map.row(1), [0.5, 0.5]);
        assert_eq!(map.times(&[map.row(0), map.row(1)]), [[1.0, 0.0], [0.75, 0.25]]);
    }

    #[test]
    fn the_explained_row_is_that_of_the_whole_products() {
        let n = 300;
        let map = |seed: u64| {
            let mut x: Vec<f32> = samples::values(n * n, seed).iter().map(|v| v + 1.0).collect();
            for (i, row) in x.chunks_mut(n).enumerate() {
                row[i + 1..].fill(0.0);
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|v| *v /= sum);
            }
            Array::new([n, n], x).unwrap()
        };
        let maps: Vec<Array> = (0..4).map(map).collect();
        for (residual, target) in [(true, n - 1), (false, 200), (true, 0)] {
            let whole: Vec<Vec<f64>> = maps.iter().map(|m| augment(m, residual)).collect();
            let whole = rollout_product::cpu(&whole, n).unwrap();
            let mut rows = Vec::new();
            for m in maps.iter().rev() {
                let m = Map::new(m.clone(), residual);
                rows = m.times(&rows);
                rows.push(m.row(target));
            }
            for (row, whole) in rows.iter().rev().zip(&whole) {
                let far = row.iter().zip(&whole[target * n..]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(far < 1e-14, "{residual} {target}: {far}");
            }
        }
    }
}
