//! What a method finds out about a run, as pictures, whatever its kind.

use super::{subject, trace_of, weights_of};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, RunKey, Scope};
use tokenscope_analysis::finding::Finding;
use tokenscope_analysis::{Ctx, Result, catalog};

/// What a method finds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FindingOf {
    /// The stack that it is about.
    pub scope: Scope,
    /// The token that is explained; `None` is the last one.
    pub target: Option<usize>,
    /// The method.
    pub call: Call,
}

impl Ask for FindingOf {
    type Out = Finding;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Finding> {
        let run = &self.scope.run;
        let (t, open) = (trace_of(run, store, ctx)?, weights_of(run, store, ctx)?);
        let on = subject(&t, &self.scope, open.as_deref()).at(self.target);
        let found = catalog::find(self.call.method)?.find(&on, &self.call.params, ctx)?;
        found.check()?;
        Ok(found)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.scope.run)
    }
}
