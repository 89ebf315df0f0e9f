//! Random reduction: the floor that a method has to beat.
//!
//! Source: plain baseline. Takes: nothing but the tokens. Gives: one cut after a layer. Departs: none known.

use super::place::{KEEP, LAYER, Place};
use super::{Method, Plan, PruneInput};
use crate::Result;
use crate::ctx::Ctx;
use crate::method::{Info, Kind, Param, Params};
use rand::SeedableRng;
use rand::seq::SliceRandom;

const SEED: Param = Param::Count { key: "seed", doc: "Seed of the choice", min: 0, max: i64::MAX, default: 0 };

static INFO: Info = Info {
    id: "random",
    title: "Random",
    summary: "Keeps a random share of the image tokens; of a text's tokens where there is no image, and always its first and last.",
    kind: Kind::Prune,
    paper: None,
    departs: "none known",
    needs: &[],
    params: &[KEEP, LAYER, SEED],
};

pub(super) struct Random;

impl Method for Random {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn plan(&self, input: &PruneInput, params: &Params, _ctx: &Ctx) -> Result<Plan> {
        INFO.check(params)?;
        let place = Place::of(input)?;
        let mut order: Vec<usize> = (0..place.rows.len()).collect();
        order.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(params.count(&SEED) as u64));
        order.truncate(place.budget(params.number(&KEEP)));
        order.sort_unstable();
        place.keep(input, params.count(&LAYER) as usize, &order, Vec::new())
    }
}
