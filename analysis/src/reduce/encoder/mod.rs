//! Reductions inside the image encoder.

mod dymu;
mod expedite_vit;
mod pitome;
mod tome;

use super::Method;

/// Every method of the folder, alphabetical by id.
pub static ALL: &[&dyn Method] = &[&dymu::DyMu, &expedite_vit::ExpediteVit, &pitome::PiToMe, &tome::ToMe];
