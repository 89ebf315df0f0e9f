//! Drafting policies, each with the verifier that its paper has.
//!
//! | method | guesses | verifier |
//! |---|---|---|
//! | `aded_trigram` | a tree searched among words that followed pairs before | exact match |
//! | `dyspec` | a tree grown where the draft model is most sure | recursive rejection |
//! | `gsd` | a chain of the draft model | acceptance of groups |
//! | `kangaroo` | a chain of the target's own early layer | recursive rejection |
//! | `lantern` | most probable tokens | with the probability of neighbours |
//! | `llmcad_lud` | a chain as long as it is sure enough in all | recursive rejection |
//! | `multidraft_verify` | a tree of fixed widths, siblings drawn independently | multi-draft rejection |
//! | `ppd_typical` | most probable tokens | typical acceptance |
//! | `prompt_lookup` | what followed the same words before | exact match |
//! | `rsd_c`, `rsd_sbs` | trees drawn without replacement | recursive rejection |
//! | `sequoia_dp` | a tree shaped by measured acceptance | recursive rejection |
//! | `spectr` | several drafts side by side | K-SEQ |
//! | `speculative_sampling` | a chain of the draft model | recursive rejection |
//! | `token_recycling` | a fixed tree of what the target itself listed before | exact match |
//! | `tree_greedy_verify` | a fixed tree of most probable tokens | exact match |
//! | `vocabtrim` | a chain over the most frequent ids | recursive rejection |

mod aded_trigram;
mod dyspec;
mod gsd;
mod kangaroo;
mod lantern;
mod llmcad_lud;
mod multidraft_verify;
mod ppd_typical;
mod prompt_lookup;
mod rsd_c;
mod rsd_sbs;
mod sequoia_dp;
mod spectr;
mod speculative_sampling;
mod token_recycling;
mod tree_greedy_verify;
mod vocabtrim;

use super::Method;
use crate::method::Kind;
use crate::{Error, Result};

/// Every draft method; the first that is not shown is what is compared with until another one is chosen.
pub static ALL: &[&dyn Method] = &[
    &dyspec::DySpec,
    &aded_trigram::Aded,
    &gsd::Gsd,
    &kangaroo::Kangaroo,
    &lantern::Lantern,
    &llmcad_lud::LlmCad,
    &multidraft_verify::SpecInfer,
    &ppd_typical::PpdTypical,
    &prompt_lookup::PromptLookup,
    &rsd_c::RsdC,
    &rsd_sbs::RsdS,
    &sequoia_dp::Sequoia,
    &spectr::SpecTr,
    &speculative_sampling::SpeculativeSampling,
    &token_recycling::TokenRecycling,
    &tree_greedy_verify::StaticTree,
    &vocabtrim::VocabTrim,
];

/// The draft method of that id. The error lists the known ones.
pub fn find(id: &str) -> Result<&'static dyn Method> {
    ALL.iter().copied().find(|m| m.info().id == id).ok_or_else(|| Error::Unknown {
        kind: Kind::Draft.noun(),
        name: id.into(),
        known: ALL.iter().map(|m| m.info().id).collect::<Vec<_>>().join(", "),
    })
}
