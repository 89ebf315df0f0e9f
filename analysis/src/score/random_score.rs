//! Random importance: the floor that a score has to beat.
//!
//! Source: plain baseline. Takes: nothing but the tokens. Gives: a number from 0 to 1 per token. Departs: none known.

use super::{Method, Scores};
use crate::ctx::Ctx;
use crate::method::{Info, Kind, Param, Params, Role};
use crate::{Result, Subject};
use rand::{Rng, SeedableRng};

const SEED: Param = Param::seed();

static INFO: Info = Info {
    id: "random_score",
    title: "Random score",
    summary: "Gives every token a number by chance.",
    family: "floors",
    role: Role::Floor,
    params: &[SEED],
    ..Info::of(Kind::Score)
};

pub(super) struct RandomScore;

impl Method for RandomScore {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, _ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(params.seed(&SEED));
        let values = input.tower()?.tokens.iter().map(|_| Some(rng.random::<f32>())).collect();
        Ok(Scores::new(values, "chance"))
    }
}
