//! Head means of attention maps, alone and with the residual stream, which several scores start from.

use crate::Subject;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::Paper;
use crate::passes::attention_map;
use crate::trace::{Site, Tower, Trace};
use crate::{Error, Result};

/// The paper of attention rollout and attention flow.
pub(super) const PAPER: Paper = Paper {
    title: "Quantifying Attention Flow in Transformers",
    authors: "Abnar, Zuidema",
    year: 2020,
    arxiv: "2005.00928",
};

/// Head means of every layer, `[layers][n, n]`. Errors if rows were pruned or merged between layers, because
/// maps of different tokens do not multiply; or if they do not fit the memory.
pub fn all_head_means(trace: &Trace, tower: Tower, ctx: &Ctx) -> Result<Vec<Array>> {
    let n_layers = trace.tower(tower)?.attention.len();
    // Each map, and what callers make of it in f64: with the residual stream, and products.
    let (cells, n) = (4 + 8 + 8, trace.tower(tower)?.tokens.len());
    ctx.fits((cells * n_layers * n * n) as u64, "shorten the prompt, or choose a method that reads single layers")?;
    let mut out: Vec<Array> = Vec::new();
    for layer in 0..n_layers {
        ctx.step(layer, n_layers)?;
        let map = attention_map::head_mean(trace, tower, layer, &ctx.part(layer, n_layers))?;
        if out.first().is_some_and(|f| f.shape() != map.shape()) {
            return Err(Error::invalid("the run was reduced between layers; choose the full run"));
        }
        out.push(map);
    }
    Ok(out)
}

/// The row of the explained token in those maps, the last row where none is chosen. Errors: a token of another tile,
/// whose attention stands in maps of its own.
pub fn explained_row(input: &Subject) -> Result<usize> {
    let rows = &input.trace.get(input.tower, 0, Site::Q)?.rows;
    match input.target {
        Some(_) => {
            let target = input.explained(input.tower()?.tokens.len())?;
            rows.row_of(target).ok_or_else(|| {
                Error::invalid(format!("token {target} is not in the first tile; choose one of its {}", rows.len()))
            })
        }
        None => input.explained(rows.len()),
    }
}

/// Values of the rows of those maps by token; what stands in another tile has none.
pub fn by_token(input: &Subject, per_row: &[f32]) -> Result<Vec<Option<f32>>> {
    let rows = &input.trace.get(input.tower, 0, Site::Q)?.rows;
    Ok(rows.to_tokens(per_row, input.tower()?.tokens.len()))
}

/// `(A + I)` with rows that sum to 1; with `residual` false, `A` itself.
pub fn augment(map: &Array, residual: bool) -> Vec<f64> {
    let n = map.shape()[0];
    let mut out: Vec<f64> = map.data().iter().map(|&x| f64::from(x)).collect();
    if residual {
        for (i, row) in out.chunks_mut(n.max(1)).enumerate() {
            row[i] += 1.0;
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        }
    }
    out
}
