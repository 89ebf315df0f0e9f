//! Studies of decoding: in which order texts and images are written, how much is computed for each token, what grammars
//! allow, and where tokens of experts, prompts and batches go. Drafting and filling in masks are in [`crate::decode`].
//!
//! What needs a model that is trained for it, so that no loaded model can be shown, has an entry for raw arrays alone.

mod adamoe_routing;
mod assd;
mod awrs;
mod blockffn_sparsity;
mod byte_level;
mod coserve_schedule;
mod cosmos_timeline;
mod cyclicreflex;
mod del_tpl;
mod duollm_oracle;
mod dynamic_pack;
mod ebnf;
mod grammar;
mod hamburger_segment;
mod himar_order;
mod ilm_insertion;
mod kv_chunk_tiers;
mod learn2pd_oracle;
mod moe_load;
mod nar_order;
mod pd_pools;
mod ppd_tree;
mod prepacking;
mod quadratic_mtp;
mod r2r_uncertainty;
mod routed;
mod s2d_exit;
mod show;
mod skipdecode;
mod soft_tokens;
mod star_mask_schedule;
mod token_search;
mod token_shuffle;
mod token_weave;
mod tutel_dispatch;
mod utf_scan;
mod var_scales;
mod window_diffusion;
mod xar_cells;
mod xgrammar_mask;
mod zero_experts;

use super::Method;
use crate::method::Info;

/// Studies of decoding, alphabetical by id.
pub static ALL: &[&dyn Method] = &[
    &assd::Assd,
    &awrs::Awrs,
    &blockffn_sparsity::BlockFfn,
    &coserve_schedule::Coserve,
    &cyclicreflex::CyclicReflex,
    &del_tpl::Del,
    &dynamic_pack::DynamicPack,
    &hamburger_segment::Hamburger,
    &himar_order::Himar,
    &kv_chunk_tiers::KvTiers,
    &learn2pd_oracle::Learn2Pd,
    &moe_load::MoeLoad,
    &nar_order::Nar,
    &pd_pools::PdPools,
    &ppd_tree::PpdTree,
    &prepacking::Prepacking,
    &quadratic_mtp::Quadratic,
    &r2r_uncertainty::R2r,
    &s2d_exit::S2d,
    &skipdecode::SkipDecode,
    &soft_tokens::SoftTokens,
    &star_mask_schedule::Star,
    &token_search::TokenSearch,
    &token_shuffle::Shuffle,
    &token_weave::TokenWeave,
    &tutel_dispatch::Tutel,
    &utf_scan::UtfScan,
    &var_scales::Var,
    &window_diffusion::WindowDiffusion,
    &xar_cells::Xar,
    &xgrammar_mask::XGrammar,
];

/// What computes on raw arrays alone, alphabetical by id.
pub static ARRAYS: &[&Info] = &[
    &adamoe_routing::INFO,
    &byte_level::INFO,
    &cosmos_timeline::INFO,
    &duollm_oracle::INFO,
    &ilm_insertion::INFO,
    &zero_experts::INFO,
];
