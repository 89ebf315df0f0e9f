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
use crate::model::Model;
use crate::trace::{Tower, Trace};
use crate::{Error, Result};

/// What a reduction is planned from: one full run.
#[derive(Clone, Copy)]
pub struct PruneInput<'a> {
    /// The full run.
    pub trace: &'a Trace,
    /// The tower whose tokens are reduced: vision inside an encoder, text for image tokens in a language model.
    pub tower: Tower,
    /// The model, where the weights are there.
    pub model: Option<&'a dyn Model>,
}

/// One way to reduce tokens. Pure: the same input, parameters and seed give the same plan.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// The plan. Errors: [`Error::Need`] where the run lacks something.
    fn plan(&self, input: &PruneInput, params: &Params, ctx: &Ctx) -> Result<Plan>;
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

/// Raw entries of this folder.
pub static ADAPTERS: &[&crate::raw::Adapter] = &[&divprune::ADAPTER, &fastervlm::ADAPTER, &tome::ADAPTER];
