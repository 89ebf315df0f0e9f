//! Reductions of the image's features, between encoder and language model; in a plain encoder, of its patches.

mod angelslim_ports;
mod corr_density;
mod divprune;
mod fastervlm;
mod fourier_vlm;
mod globalcom2;
mod hicom_local;
mod hiprune;
mod hired;
mod idpruner;
mod karl;
mod lavit_selector;
mod prumerge;
mod quota;
mod recoverable_compression;
mod scope;
mod slowfast_split;
mod stc;
mod super_token_sampling;
mod textmonkey;
mod todre;
mod tokenflex_pool;
mod tokenpacker;
mod visionzip;
mod vispruner;
mod vqtoken;
mod zoo_prune;

use super::Method;

/// Every method of the folder, alphabetical by id.
pub static ALL: &[&dyn Method] = &[
    &angelslim_ports::AngelSlimPorts,
    &corr_density::CorrDensity,
    &divprune::DivPrune,
    &fastervlm::FasterVlm,
    &fourier_vlm::FourierVlm,
    &globalcom2::GlobalCom2,
    &hicom_local::HiComLocal,
    &hiprune::HiPrune,
    &hired::HiRed,
    &idpruner::IdPruner,
    &karl::Karl,
    &lavit_selector::LavitSelector,
    &prumerge::PruMerge,
    &quota::Quota,
    &recoverable_compression::RecoverableCompression,
    &scope::Scope,
    &slowfast_split::SlowFastSplit,
    &stc::Stc,
    &super_token_sampling::SuperTokenSampling,
    &textmonkey::TextMonkey,
    &todre::ToDre,
    &tokenflex_pool::TokenFlexPool,
    &tokenpacker::TokenPacker,
    &visionzip::VisionZip,
    &vispruner::VisPruner,
    &vqtoken::VqToken,
    &zoo_prune::ZooPrune,
];
