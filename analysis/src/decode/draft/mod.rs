//! Drafting policies, each with the verifier that its paper has.
//!
//! | method | guesses | verifier |
//! |---|---|---|
//! | `dyspec` | a tree grown where the draft model is most sure | recursive rejection |
//! | `speculative_sampling` | a chain of the draft model | recursive rejection |
//! | `token_recycling` | a fixed tree of what the target itself listed before | exact match |

mod dyspec;
mod speculative_sampling;
mod token_recycling;

use super::Method;
use crate::method::Kind;
use crate::{Error, Result};

/// Every draft method, alphabetical by id.
pub static ALL: &[&dyn Method] =
    &[&dyspec::DySpec, &speculative_sampling::SpeculativeSampling, &token_recycling::TokenRecycling];

/// The draft method of that id. The error lists the known ones.
pub fn find(id: &str) -> Result<&'static dyn Method> {
    ALL.iter().copied().find(|m| m.info().id == id).ok_or_else(|| Error::Unknown {
        kind: Kind::Draft.noun(),
        name: id.into(),
        known: ALL.iter().map(|m| m.info().id).collect::<Vec<_>>().join(", "),
    })
}
