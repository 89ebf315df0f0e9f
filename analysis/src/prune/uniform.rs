//! Evenly spaced reduction of text tokens: the floor without chance.
//!
//! Source: plain baseline. Takes: nothing but the tokens. Gives: one cut after a layer. Departs: none known.

use super::random::{KEEP, LAYER, budget, one_cut};
use super::{Method, Plan, PruneInput};
use crate::Result;
use crate::ctx::Ctx;
use crate::method::{Info, Kind, Params};

static INFO: Info = Info {
    id: "uniform",
    title: "Uniform",
    summary: "Keeps evenly spaced tokens, the first and the last among them.",
    kind: Kind::Prune,
    paper: None,
    departs: "none known",
    needs: &[],
    params: &[KEEP, LAYER],
};

pub(super) struct Uniform;

impl Method for Uniform {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn plan(&self, input: &PruneInput, params: &Params, _ctx: &Ctx) -> Result<Plan> {
        INFO.check(params)?;
        let n = input.trace.tower(input.tower)?.tokens.len();
        let k = budget(n, params.number(&KEEP));
        // The i-th of k marks on 0..=n-1; k ≤ n makes them distinct.
        let rows = (0..k).map(|i| if k < 2 { 0 } else { i * (n - 1) / (k - 1) }).collect();
        one_cut(input, params.count(&LAYER) as usize, rows)
    }
}
