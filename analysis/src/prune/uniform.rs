//! Evenly spaced reduction: the floor without chance.
//!
//! Source: plain baseline. Takes: nothing but the tokens. Gives: one cut after a layer. Departs: none known.

use super::place::{KEEP, LAYER, Place};
use super::{Method, Plan};
use crate::Result;
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Info, Kind, Params, Role};

static INFO: Info = Info {
    id: "uniform",
    title: "Uniform",
    summary: "Keeps evenly spaced image tokens in raster order; of a text's tokens where there is no image, and always its first and last.",
    family: "floors",
    params: &[KEEP, LAYER],
    role: Role::Floor,
    budget: Some(&KEEP),
    first: true,
    ..Info::of(Kind::Reduce)
};

pub(super) struct Uniform;

impl Method for Uniform {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn plan(&self, input: &Subject, params: &Params, _ctx: &Ctx) -> Result<Plan> {
        INFO.check(params)?;
        let place = Place::of(input)?;
        let (n, k) = (place.rows.len(), place.budget(params.number(&KEEP)));
        // The middle of each of k equal parts; k ≤ n makes them distinct.
        let kept: Vec<usize> = (0..k).map(|i| (2 * i + 1) * n / (2 * k)).collect();
        place.keep(input, params, &kept, Vec::new())
    }
}
