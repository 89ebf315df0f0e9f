//! Random reduction: the floor that a method has to beat.
//!
//! Source: plain baseline. Takes: nothing but the tokens. Gives: one cut after a layer. Departs: none known.

use super::place::{KEEP, LAYER, Place};
use super::{Method, Plan};
use crate::Result;
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Info, Kind, Param, Params, Role};
use rand::SeedableRng;
use rand::seq::SliceRandom;

const SEED: Param = Param::seed();

static INFO: Info = Info {
    id: "random",
    title: "Random",
    summary: "Keeps a random share of the image tokens; of a text's tokens where there is no image, and always its first and last.",
    family: "floors",
    params: &[KEEP, LAYER, SEED],
    role: Role::Floor,
    budget: Some(&KEEP),
    ..Info::of(Kind::Reduce)
};

pub(super) struct Random;

impl Method for Random {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn plan(&self, input: &Subject, params: &Params, _ctx: &Ctx) -> Result<Plan> {
        INFO.check(params)?;
        let place = Place::of(input)?;
        let mut order: Vec<usize> = (0..place.rows.len()).collect();
        order.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(params.seed(&SEED)));
        order.truncate(place.budget(params.number(&KEEP)));
        order.sort_unstable();
        place.keep(input, params, &order, Vec::new())
    }
}
