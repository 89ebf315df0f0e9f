//! Studies: what fits no other kind is found out about a run and given as a finding, pictures and figures in the shapes
//! that every view draws. A study is one file here, its `mod` line and its line in [`ALL`]; those of decoding have a folder.

mod answer;
mod catanet;
pub mod decoding;
mod delta_frames;
mod embedlens;
mod head_table;
mod llava_sp;
mod lowres_answer;
mod molmopoint;
mod negtome;
mod patches;
mod poolformer;
mod pvc_novelty;
mod read_sasp;
mod tapadl;
mod triad_roi;
mod vlm_frontier;
mod yopo;

use crate::ctx::Ctx;
use crate::finding::Finding;
use crate::method::{Info, Params};
use crate::{Result, Subject};

/// One study. Pure: the same run and parameters give the same finding.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// What it finds. Errors: [`crate::Error::Need`] where the run lacks something.
    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding>;
}

/// Studies that stand here, alphabetical by id; [`all`] has those of folders, too.
pub static ALL: &[&dyn Method] = &[
    &catanet::CataNet,
    &delta_frames::DeltaFrames,
    &embedlens::EmbedLens,
    &head_table::HeadTable,
    &llava_sp::LlavaSp,
    &lowres_answer::LowResAnswer,
    &molmopoint::MolmoPoint,
    &negtome::NegToMe,
    &poolformer::PoolFormer,
    &pvc_novelty::PvcNovelty,
    &read_sasp::ReadSasp,
    &tapadl::TapAdl,
    &triad_roi::TriadRoi,
    &vlm_frontier::VlmFrontier,
    &yopo::Yopo,
];

/// Every study.
pub fn all() -> impl Iterator<Item = &'static dyn Method> {
    ALL.iter().chain(decoding::ALL).copied()
}
