//! Floors: choices that look at nothing, which a method has to beat.

mod random;
mod uniform;

use super::Method;

/// Every floor.
pub static ALL: &[&dyn Method] = &[&random::Random, &uniform::Uniform];
