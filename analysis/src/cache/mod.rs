//! Cache policies: which keys and values go on after each pass of a text that is written.
//!
//! A policy is one file here, its `mod` line and its line in [`ALL`]. It says which rows of a layer's cache stay;
//! [`decode`] reads the prompt, writes on, takes the others away and notes what that cost.

mod arrays;
mod decode;
mod finding;
mod h2o;
mod snapkv;
mod streaming_llm;

pub use decode::{CacheRun, CacheStep, LayerHeld, decode};

use crate::ctx::Ctx;
use crate::method::{Info, Need, Param, Params};
use crate::model::Writes;
use crate::trace::{Attending, KeySet};
use crate::{Result, Subject};

/// Length of a decode.
// The first token is written before anything can be missed.
const NEW: Param = Param::count("new_tokens", "Tokens to write", 2, 512, 16);

/// A moment at which a policy is asked about a layer.
pub enum Moment<'a> {
    /// Before as many tokens are read. Only what is held is known.
    Before {
        /// Tokens that are about to be added.
        coming: usize,
    },
    /// After queries and keys of a pass were made; what is answered counts from after the pass on.
    After {
        /// Queries of the pass and all keys, those of its own tokens last.
        seen: &'a Attending<'a>,
    },
}

/// What a policy may look at.
pub struct CacheSeen<'a> {
    /// Which pass; 0 reads the prompt.
    pub step: usize,
    /// Layer.
    pub layer: usize,
    /// Rows that each key-value head holds, those of the pass included.
    pub held: &'a [usize],
    /// Before or after.
    pub moment: Moment<'a>,
}

/// Which rows stay, pass after pass. One value lives through one decode.
pub trait Evict {
    /// Rows that stay, of those held, in the order in which they shall be held. `None`: all of them.
    fn keep(&mut self, at: &CacheSeen) -> Result<Option<KeySet>>;

    /// Whether what stays is numbered anew from 0, so that positions count places in the cache.
    fn renumbers(&self) -> bool {
        false
    }
}

/// One cache policy.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// The policy at the beginning of a decode. Errors: parameters that do not go together.
    fn start(&self, params: &Params) -> Result<Box<dyn Evict>>;
}

/// Every cache policy, alphabetical by id.
pub static ALL: &[&dyn Method] = &[&h2o::H2o, &snapkv::SnapKv, &streaming_llm::StreamingLlm];

/// A policy, carried out in a greedy decode of the run's prompt.
///
/// Errors: [`crate::Error::Need`] where the run lacks something, [`crate::Error::Memory`], cancelled.
pub fn run(method: &dyn Method, on: &Subject, params: &Params, ctx: &Ctx) -> Result<CacheRun> {
    let info = method.info();
    info.check(params)?;
    let model = on.weights(info)?;
    if model.info().writes != Writes::Causal {
        return Err(info.needs(Need::Writes.words()));
    }
    let new = params.count(&NEW).unsigned_abs() as usize;
    decode(method.start(params)?.as_mut(), model, on.again(), new, ctx)
}
