//! Reductions inside the image encoder.

mod tome;

use super::Method;

/// Every method of the folder, alphabetical by id.
pub static ALL: &[&dyn Method] = &[&tome::ToMe];
