//! Random reduction of text tokens: the floor that a method has to beat.
//!
//! Source: plain baseline. Takes: nothing but the tokens. Gives: one cut after a layer. Departs: none known.

use super::{Cut, Method, Plan, PruneInput, Stage, select::round_half_even};
use crate::ctx::Ctx;
use crate::method::{Info, Kind, Param, Params};
use crate::trace::Regroup;
use crate::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;

pub(super) const KEEP: Param =
    Param::Number { key: "keep", doc: "Share of tokens kept", min: 0.0, max: 1.0, default: 0.5 };
pub(super) const LAYER: Param =
    Param::Count { key: "layer", doc: "Layer after which the others are dropped", min: 0, max: 1000, default: 0 };
const SEED: Param = Param::Count { key: "seed", doc: "Seed of the choice", min: 0, max: i64::MAX, default: 0 };

static INFO: Info = Info {
    id: "random",
    title: "Random",
    summary: "Keeps a random share of the tokens, and always the first and the last.",
    kind: Kind::Prune,
    paper: None,
    departs: "none known",
    needs: &[],
    params: &[KEEP, LAYER, SEED],
};

pub(super) struct Random;

/// Number of tokens kept of `n`: round(keep · n), never less than first and last.
pub(super) fn budget(n: usize, keep: f64) -> usize {
    (round_half_even(keep * n as f64) as usize).clamp(2.min(n), n)
}

/// A plan with one cut after `layer` that keeps these rows.
pub(super) fn one_cut(input: &PruneInput, layer: usize, mut rows: Vec<usize>) -> Result<Plan> {
    let tower = input.trace.tower(input.tower)?;
    if layer >= tower.n_layers {
        return Err(Error::invalid(format!("there is no layer {layer}; the model has {}", tower.n_layers)));
    }
    rows.sort_unstable();
    Ok(Plan {
        tower: input.tower,
        n_rows: tower.tokens.len(),
        cuts: vec![Cut { stage: Stage::After(layer), regroup: Regroup::keep(&rows) }],
        proportional_attention: false,
        scores: Vec::new(),
    })
}

impl Method for Random {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn plan(&self, input: &PruneInput, params: &Params, _ctx: &Ctx) -> Result<Plan> {
        INFO.check(params)?;
        let n = input.trace.tower(input.tower)?.tokens.len();
        let k = budget(n, params.number(&KEEP));
        let mut inner: Vec<usize> = (1..n.saturating_sub(1)).collect();
        inner.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(params.count(&SEED) as u64));
        inner.truncate(k.saturating_sub(2));
        inner.extend((0..n).filter(|&i| i == 0 || i + 1 == n));
        one_cut(input, params.count(&LAYER) as usize, inner)
    }
}
