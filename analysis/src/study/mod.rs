//! Studies: what fits no other kind is found out about a run and given as a finding, pictures and figures in the shapes
//! that every view draws. A study is one file here, its `mod` line and its line in [`ALL`].

mod embedlens;
mod head_table;

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

/// Every study, alphabetical by id.
pub static ALL: &[&dyn Method] = &[&embedlens::EmbedLens, &head_table::HeadTable];
