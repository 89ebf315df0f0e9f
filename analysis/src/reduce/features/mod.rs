//! Reductions of the image's features, between encoder and language model; in a plain encoder, of its patches.

mod angelslim_ports;
mod divprune;
mod fastervlm;
mod fourier_vlm;
mod globalcom2;
mod hiprune;
mod hired;
mod idpruner;
mod prumerge;
mod recoverable_compression;
mod scope;
mod super_token_sampling;
mod textmonkey;
mod todre;
mod tokenpacker;
mod visionzip;
mod vispruner;
mod vqtoken;
mod zoo_prune;

use super::Method;

/// Every method of the folder, alphabetical by id.
pub static ALL: &[&dyn Method] = &[
    &angelslim_ports::AngelSlimPorts,
    &divprune::DivPrune,
    &fastervlm::FasterVlm,
    &fourier_vlm::FourierVlm,
    &globalcom2::GlobalCom2,
    &hiprune::HiPrune,
    &hired::HiRed,
    &idpruner::IdPruner,
    &prumerge::PruMerge,
    &recoverable_compression::RecoverableCompression,
    &scope::Scope,
    &super_token_sampling::SuperTokenSampling,
    &textmonkey::TextMonkey,
    &todre::ToDre,
    &tokenpacker::TokenPacker,
    &visionzip::VisionZip,
    &vispruner::VisPruner,
    &vqtoken::VqToken,
    &zoo_prune::ZooPrune,
];
