//! The library behind Tokenscope: instrumented models, traces, passes and published token methods.
//!
//! A [`trace::Trace`] is what one run of one model on one input left behind. Every analysis is a pure
//! function from a trace and parameters to a value. Nothing here draws, prints or starts threads of its own
//! besides rayon's.
//!
//! # Modules, from the ground up
//!
//! None knows one that stands below it in this list; a contract test reads the list.
//!
//! - What everything is made of: [`error`], [`foreign`], [`utf`], [`save`], [`gpu`], [`ctx`], [`threads`], [`cpu`](self),
//!   [`math`], [`topk`], [`array`](mod@array), [`kmeans`], [`token`].
//! - What comes in: [`raw`], [`weights`], [`series`], [`image`], [`tokenize`].
//! - What a run leaves behind: [`trace`], [`passes`], [`names`].
//! - Who runs, and how right that is: [`model`], [`run`], [`parity`].
//! - What methods say about themselves, run on and find: [`param`], [`method`], [`subject`], [`finding`].
//! - Methods: [`segment`], [`score`], [`reduce`], [`flow`], [`decode`], [`cache`], [`heads`], [`study`].
//! - All of them, and what is asked of a run without a method: [`catalog`], [`atlas`], [`truth`], [`lens`],
//!   [`faithful`], [`aggregate`].

pub mod aggregate;
pub mod array;
pub mod atlas;
pub mod cache;
pub mod catalog;
mod cpu;
pub mod ctx;
pub mod decode;
pub mod error;
pub mod faithful;
pub mod finding;
pub mod flow;
pub mod foreign;
pub mod gpu;
pub mod heads;
pub mod image;
pub mod kmeans;
pub mod lens;
pub mod math;
pub mod method;
pub mod model;
pub mod names;
pub mod param;
pub mod parity;
pub mod passes;
pub mod raw;
pub mod reduce;
pub mod run;
pub mod save;
pub mod score;
pub mod segment;
pub mod series;
pub mod study;
pub mod subject;
pub mod threads;
pub mod token;
pub mod tokenize;
pub mod topk;
pub mod trace;
pub mod truth;
pub mod utf;
pub mod weights;

pub use ctx::Ctx;
pub use error::{Error, Result};
pub use subject::Subject;
