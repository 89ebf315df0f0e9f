//! TokenPacker: one token for each square of patches, which in the trained model asks the patches of its own square.
//!
//! Source: Li et al. 2024, "TokenPacker: Efficient Visual Projector for Multimodal LLM", arXiv 2407.02392.
//! Takes: patches `[n, d]` and their grid. Gives: the squares, and coarse queries by interpolation. Departs: see
//! [`Info::departs`]. Cost: O(n · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::host::resample::{self, Weights};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{LAYER, encoded};
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const SCALE: Param = Param::count("scale", "Patches a side of a square", 1, 16, 2);
const BECOMES: Param = Param::choice(
    "becomes",
    "What stands in for the trained attention inside a square: its mean, or the coarse query alone",
    &["mean", "query"],
);

static INFO: Info = Info {
    id: "tokenpacker",
    title: "TokenPacker",
    summary: "Makes one token of each square of patches.",
    family: "image features",
    basis: Basis::Authors { repo: "CircleRadon/TokenPacker", commit: "771a16e746" },
    paper: Some(Paper {
        title: "TokenPacker: Efficient Visual Projector for Multimodal LLM",
        authors: "Li et al.",
        year: 2024,
        arxiv: "2407.02392",
    }),
    departs: "the attention by which a query asks its square needs trained weights; the mean of the square, or the query \
              itself, stands in; sides that the square does not divide have larger squares at the end of each row",
    needs: &[Need::ImageTokens],
    params: &[SCALE, BECOMES, LAYER],
    role: Role::StandIn,
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct TokenPacker;

impl Method for TokenPacker {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let (scale, mean) = (params.count(&SCALE) as usize, params.choice(&BECOMES) == "mean");
        Ok(Box::new(Asked::at([encoded(on, params, &INFO)?], move |seen, ctx| {
            Decision::by_tile(seen, ctx, |_, (rows, cols)| {
                let coarse = ((rows / scale).max(1), (cols / scale).max(1));
                let queries = resample::bilinear((rows, cols), coarse);
                let one = |(square, query): (Vec<usize>, Weights)| weighted(&square, (!mean).then_some(query));
                Ok(squares((rows, cols), coarse).into_iter().zip(queries).map(one).collect())
            })
        })))
    }
}

/// Patches of each square, row by row.
fn squares((rows, cols): (usize, usize), (down, across): (usize, usize)) -> Vec<Vec<usize>> {
    // What does not divide goes to the last square of a row or column.
    let side = |i: usize, m: usize, n: usize| i * (n / m)..if i + 1 == m { n } else { (i + 1) * (n / m) };
    let square = |(y, x): (usize, usize)| {
        side(y, down, rows).flat_map(|r| side(x, across, cols).map(move |c| r * cols + c)).collect()
    };
    (0..down).flat_map(|y| (0..across).map(move |x| (y, x))).map(square).collect()
}

/// Weights of a square's own patches, and of others.
fn weighted(square: &[usize], query: Option<Weights>) -> (Weights, Weights) {
    let Some(query) = query else {
        return (square.iter().map(|&i| (i, 1.0 / square.len() as f64)).collect(), Vec::new());
    };
    let weight = |i: usize| query.iter().find(|q| q.0 == i).map_or(0.0, |q| q.1);
    let others = query.iter().filter(|q| !square.contains(&q.0)).copied().collect();
    (square.iter().map(|&i| (i, weight(i))).collect(), others)
}

/// Raw entry: `x` `[n, d]`, `grid` and `scale_factor`.
const ADAPTER: Adapter = Adapter { name: "tokenpacker", run: raw };

fn raw(input: &RawInput, _ctx: &Ctx) -> Result<Value> {
    let (x, [n, d]) = input.finite("x")?;
    let (grid, s): ((usize, usize), usize) = (input.read("grid")?, input.read("scale_factor")?);
    if grid.0.checked_mul(grid.1) != Some(n) || s == 0 || n == 0 || grid.0 % s != 0 || grid.1 % s != 0 {
        return Err(Error::invalid(format!("a grid of {} by {} in squares of {s} for {n} tokens", grid.0, grid.1)));
    }
    let coarse = (grid.0 / s, grid.1 / s);
    let queries = resample::apply(&resample::bilinear(grid, coarse), x.data(), d);
    let queries = Array::new([coarse.0 * coarse.1, d], queries)?;
    Ok(json!({
        "region_members_by_query": squares(grid, coarse),
        "queries_bilinear": (0..coarse.0 * coarse.1).map(|i| queries.row(i)).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_cover_the_grid_and_queries_of_three_are_their_middles() {
        assert_eq!(squares((2, 5), (1, 2)), [vec![0, 1, 5, 6], vec![2, 3, 4, 7, 8, 9]]);
        let (own, others) = weighted(&[0, 1, 2], Some(resample::bilinear((1, 3), (1, 1)).remove(0)));
        assert_eq!((own, others), (vec![(0, 0.0), (1, 1.0), (2, 0.0)], vec![]));
    }
}
