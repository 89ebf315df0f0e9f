//! What a run would cost.

use super::model_of;
use crate::jobs::{Ask, Store};
use crate::keys::RunKey;
use tokenscope_analysis::model::LogitRows;
use tokenscope_analysis::run::{Estimate, estimate};
use tokenscope_analysis::trace::CaptureSpec;
use tokenscope_analysis::{Ctx, Result};

/// What the run would cost.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EstimateOf(pub RunKey);

impl Ask for EstimateOf {
    type Out = Estimate;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Estimate> {
        let open = model_of(&self.0, store, ctx)?;
        let n = match (&open.tokenizer, self.0.prompt.is_empty()) {
            (Some(t), false) => t.encode(&self.0.prompt, None, true)?.ids.len(),
            _ => 1,
        };
        Ok(estimate(open.model.as_ref(), n, &LogitRows::Last, &CaptureSpec::views()))
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0)
    }
}
