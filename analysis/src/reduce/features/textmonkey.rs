//! TextMonkey: keeps the tokens that are least like any later one.
//!
//! Source: Liu et al. 2024, "TextMonkey: An OCR-Free Large Multimodal Model for Understanding Document",
//! arXiv 2403.04473. Takes: image features `[n, d]`. Gives: how like each is to a later one, and the r least alike.
//! Departs: see [`Info::departs`]. Cost: O(n² · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::{cosine_matrix, top_k};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{LAYER, Place, image_cut};
use crate::reduce::seen::pick;
use crate::reduce::select::budget;
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const KEEP: Param = Param::share("keep", "Share of the image tokens kept", 0.5);

static INFO: Info = Info {
    id: "textmonkey",
    title: "TextMonkey's filter",
    summary: "Keeps the image tokens that are least like any token behind them.",
    family: "image features",
    basis: Basis::Authors { repo: "Yuliang-Liu/Monkey", commit: "498e1d92ba" },
    paper: Some(Paper {
        title: "TextMonkey: An OCR-Free Large Multimodal Model for Understanding Document",
        authors: "Liu et al.",
        year: 2024,
        arxiv: "2403.04473",
    }),
    departs: "the trained cross-attention by which the kept tokens then ask all others is left out, so this is the filter \
              alone; as in the authors' code and not in the paper, likeness counts to later tokens only",
    needs: &[Need::ImageTokens],
    params: &[KEEP, LAYER],
    role: Role::StandIn,
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct TextMonkey;

impl Method for TextMonkey {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let share = params.share(&KEEP);
        Ok(Box::new(Asked::at([image_cut(on, params, &INFO)?], move |seen, ctx| {
            Ok(decide(seen, budget(seen, share), ctx)?.0)
        })))
    }
}

/// Largest cosine with a later row of `x` `[n, d]`; whatever is not later counts two less.
fn to_later(x: &Array, ctx: &Ctx) -> Result<Vec<f32>> {
    let cosines = cosine_matrix::of_itself(x, ctx)?;
    let most = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let of = |i: usize| {
        let row = cosines.row(i);
        most(&row[i + 1..]).max(most(&row[..=i]) - 2.0)
    };
    Ok((0..x.shape()[0]).map(of).collect())
}

/// Keeps the `k` open rows that are least like a later one; with how like each is.
fn decide(seen: &dyn Seen, k: usize, ctx: &Ctx) -> Result<(Decision, Vec<f32>)> {
    let alike = to_later(&pick(&seen.values()?, seen.open())?, ctx)?;
    let scores: Vec<f32> = alike.iter().map(|a| -a).collect();
    Ok((Decision::keep(seen, &top_k::of_row(&scores, k, ctx)?).scored(seen, &scores), alike))
}

/// Raw entry: `tokens` `[n, d]` and `r`, how many stay.
const ADAPTER: Adapter = Adapter { name: "textmonkey", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let x = input.array("tokens")?;
    x.check_finite("tokens")?;
    let [n, _] = x.dims("tokens")?;
    let k: usize = input.read("r")?;
    if k > n {
        return Err(Error::invalid(format!("r is {k}; there are {n} tokens")));
    }
    let seen = Table::new(Place::Features, n, 0..n).with_values(x);
    let (decision, alike) = decide(&seen, k, ctx)?;
    Ok(json!({ "keep": decision.kept(&seen), "score_max_sim_to_later": alike }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_twins_the_first_goes_and_the_last_token_always_stays() {
        let x = Array::new([4, 2], vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, -1.0]).unwrap();
        let seen = Table::new(Place::Features, 4, 0..4).with_values(&x);
        let (decision, alike) = decide(&seen, 3, &Ctx::default()).unwrap();
        assert_eq!((decision.kept(&seen), alike), (vec![1, 2, 3], vec![1.0, 0.0, 0.0, -1.0]));
    }
}
