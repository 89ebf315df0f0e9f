//! Evenly spaced reduction: the floor without chance.
//!
//! Source: plain baseline. Takes: nothing but the tokens. Gives: one cut. Departs: none known.

use crate::method::{Info, Kind, Params, Role};
use crate::reduce::place::{KEEP, LAYER, cut};
use crate::reduce::select::budget;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Result, Subject};

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

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let share = params.share(&KEEP);
        Ok(Box::new(Asked::at([cut(on, params)?], move |seen, _| {
            let (n, k) = (seen.open().len(), budget(seen, share));
            // The middle of each of k equal parts; k ≤ n makes them distinct.
            let kept: Vec<usize> = (0..k).map(|i| (2 * i + 1) * n / (2 * k)).collect();
            Ok(Decision::keep(seen, &kept))
        })))
    }
}
