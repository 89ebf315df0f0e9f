//! Reduction: which tokens are kept, merged into which, set aside or dropped, and where in the model.
//!
//! A method is a decider: it says where it wants to be asked and, asked there, looks at what is [`Seen`] and decides.
//! [`Runner`] carries deciders out in one pass and records a [`Plan`], which speaks of tokens, can be drawn by hand,
//! joined with others, and is a decider itself. Methods lie in folders by where they act.

pub mod budget;
mod crops;
mod decide;
pub mod encoder;
pub mod features;
mod finding;
pub mod floor;
mod judge;
mod live;
mod matching;
mod noted;
mod place;
mod plan;
mod runner;
pub mod schedule;
mod seen;
pub mod select;
mod step;
pub mod within;

pub use decide::{Asked, Decide, Decision};
pub use judge::{Cost, Full, Judgement, cost, full, judge};
pub use place::{Half, Place};
pub use plan::{Again, Fate, Plan, overlap};
pub use runner::Runner;
pub use schedule::Schedule;
pub use seen::{Part, Seen, Table};
pub use step::Step;

use crate::ctx::Ctx;
use crate::method::{Info, Params};
use crate::model::LogitRows;
use crate::{Error, Result, Subject};

/// One way to reduce tokens. Pure: the same run, parameters and seed give the same decisions.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// A decider for one pass over the run's input. Errors: [`Error::Need`] where the run lacks something.
    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>>;
}

/// Every reduction, floors last.
pub fn all() -> impl Iterator<Item = &'static dyn Method> {
    [features::ALL, encoder::ALL, within::ALL, floor::ALL].into_iter().flatten().copied()
}

/// The reduction of that id.
pub fn find(id: &str) -> Result<&'static dyn Method> {
    all().find(|m| m.info().id == id).ok_or_else(|| Error::Unknown {
        kind: "reduction",
        name: id.into(),
        known: all().map(|m| m.info().id).collect::<Vec<_>>().join(", "),
    })
}

/// What a method does to a run, by one pass without an answer.
pub fn plan(method: &dyn Method, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Plan> {
    let model = on.weights(method.info())?;
    let mut runner = Runner::new(on, vec![method.start(on, params)?], ctx)?;
    let mut input = crate::model::Input { logits: Some(LogitRows::None), ..on.again() };
    model.forward(&mut input, &mut runner, ctx)?;
    Ok(runner.plan())
}
