//! The same importance for every token: the floor without chance.
//!
//! Source: plain baseline. Takes: nothing but the tokens. Gives: 1 per token. Departs: none known.

use super::{Method, Scores};
use crate::ctx::Ctx;
use crate::method::{Info, Kind, Params, Role};
use crate::{Result, Subject};

static INFO: Info = Info {
    id: "uniform_score",
    title: "Uniform score",
    summary: "Gives every token the same.",
    family: "floors",
    role: Role::Floor,
    ..Info::of(Kind::Score)
};

pub(super) struct UniformScore;

impl Method for UniformScore {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, _ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let values = vec![Some(1.0); input.tower()?.tokens.len()];
        Ok(Scores::new(values, "the same for all"))
    }
}
