//! Reductions of the image's features, between encoder and language model; in a plain encoder, of its patches.

mod divprune;
mod fastervlm;

use super::Method;

/// Every method of the folder, alphabetical by id.
pub static ALL: &[&dyn Method] = &[&divprune::DivPrune, &fastervlm::FasterVlm];
