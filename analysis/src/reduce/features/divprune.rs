//! DivPrune: keeps the tokens that are farthest from each other, by greedy max–min of cosine distance.
//!
//! Source: Alvar et al. 2025, "DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models", arXiv 2503.02175.
//! Takes: projected visual tokens `[n, d]`. Gives: k = round(ratio · n) of them. Departs: none known.
//! Cost: O(n² · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::farthest_first::{self, Selection, Start};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{LAYER, Place, image_cut};
use crate::reduce::seen::pick;
use crate::reduce::select::{budget, round_half_even};
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Indices in the order they are taken. The first has the farthest nearest neighbour. Taken tokens are not
/// masked, as in the authors' code: a picture of duplicates may name one twice.
pub fn selection_order(x: &Array, k: usize, ctx: &Ctx) -> Result<Vec<usize>> {
    farthest_first::run(x, &Selection { k, start: Start::Loneliest, repeats: true }, ctx)
}

const RATIO: Param = Param::share("ratio", "Share of the image tokens kept", 0.5);

static INFO: Info = Info {
    id: "divprune",
    title: "DivPrune",
    summary: "Keeps the image tokens that are farthest from each other, so that none stands for another.",
    family: "image features",
    basis: Basis::Authors { repo: "vbdi/divprune", commit: "" },
    paper: Some(Paper {
        title: "DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models",
        authors: "Alvar et al.",
        year: 2025,
        arxiv: "2503.02175",
    }),
    departs: "the default share is 0.5 and not 0.098; inside a plain encoder the cut is after the layer chosen, \
              which the paper does not do",
    needs: &[Need::ImageTokens, Need::Residual],
    params: &[RATIO, LAYER],
    budget: Some(&RATIO),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct DivPrune;

impl Method for DivPrune {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let share = params.share(&RATIO);
        Ok(Box::new(Asked::at([image_cut(on, params, &INFO)?], move |seen, ctx| {
            Ok(decide(seen, budget(seen, share), ctx)?.0)
        })))
    }
}

/// The decision, and the order in which tokens were taken.
fn decide(seen: &dyn Seen, k: usize, ctx: &Ctx) -> Result<(Decision, Vec<usize>)> {
    let order = selection_order(&pick(&seen.values()?, seen.open())?, k, ctx)?;
    Ok((Decision::keep(seen, &order), order))
}

/// Raw entry: `visual_tokens` `[n, d]` and `ratio`.
const ADAPTER: Adapter = Adapter { name: "divprune", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let x = input.array("visual_tokens")?;
    x.check_finite("visual_tokens")?;
    let [n, _] = x.dims("visual_tokens")?;
    let ratio: f64 = input.read_or("ratio", 0.098)?;
    if !(0.0..=1.0).contains(&ratio) {
        return Err(Error::invalid(format!("ratio is {ratio}, not a share from 0 to 1")));
    }
    let seen = Table::new(Place::Features, n, 0..n).with_values(x);
    let (decision, order) = decide(&seen, round_half_even(ratio * n as f64) as usize, ctx)?;
    let keep: BTreeSet<usize> = decision.kept(&seen).into_iter().collect();
    Ok(json!({ "unique_kept": keep.len(), "keep": keep, "selection_order": order }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_outlier_first_and_then_its_opposite() {
        let x = Array::new([3, 2], vec![1.0, 0.0, 1.0, 0.01, 0.0, 1.0]).unwrap();
        let order = selection_order(&x, 2, &Ctx::default()).unwrap();
        assert_eq!(order, [2, 0]);
    }
}
