//! Reductions inside the image encoder.

mod dtop;
mod dymu;
mod expedite_vit;
mod flexdit;
mod pitome;
mod tome;

use super::Method;

/// Every method of the folder, alphabetical by id.
pub static ALL: &[&dyn Method] =
    &[&dtop::DToP, &dymu::DyMu, &expedite_vit::ExpediteVit, &flexdit::FlexDit, &pitome::PiToMe, &tome::ToMe];
