//! Reduction: which tokens are kept, merged into which, or dropped, and where in the model.

mod apply;
mod divprune;
mod fastervlm;
mod judge;
mod place;
mod plan;
mod random;
pub mod select;
mod tome;
mod uniform;

pub use apply::Pruner;
pub use judge::{Full, Judgement, full, judge, judge_against};
pub use plan::{Cut, Fate, Outcome, Plan, Stage};

use crate::ctx::Ctx;
use crate::method::{Info, Params};
use crate::{Error, Result, Subject};

/// One way to reduce tokens. Pure: the same input, parameters and seed give the same plan.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// The plan. Errors: [`Error::Need`] where the run lacks something.
    fn plan(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Plan>;
}

/// Every reduction, alphabetical by id.
pub static ALL: &[&dyn Method] =
    &[&divprune::DivPrune, &fastervlm::FasterVlm, &random::Random, &tome::ToMe, &uniform::Uniform];

/// The reduction of that id.
pub fn find(id: &str) -> Result<&'static dyn Method> {
    ALL.iter().copied().find(|m| m.info().id == id).ok_or_else(|| Error::Unknown {
        kind: "pruning method",
        name: id.into(),
        known: ALL.iter().map(|m| m.info().id).collect::<Vec<_>>().join(", "),
    })
}
