//! Random reduction: the floor that a method has to beat.
//!
//! Source: plain baseline. Takes: nothing but the tokens. Gives: one cut. Departs: none known.

use crate::method::{Info, Kind, Param, Params, Role};
use crate::reduce::place::{KEEP, LAYER, cut};
use crate::reduce::select::budget;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Result, Subject};
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

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let (share, seed) = (params.share(&KEEP), params.seed(&SEED));
        Ok(Box::new(Asked::at([cut(on, params)?], move |seen, _| {
            let mut order: Vec<usize> = (0..seen.open().len()).collect();
            order.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
            order.truncate(budget(seen, share));
            Ok(Decision::keep(seen, &order))
        })))
    }
}
