//! Flow graphs.

use super::{subject, trace_of, weights_of};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, RunKey, Scope};
use tokenscope_analysis::flow::{self, FlowGraph};
use tokenscope_analysis::{Ctx, Result};

/// A flow graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FlowOf {
    /// The stack whose flow it is.
    pub scope: Scope,
    /// The method.
    pub call: Call,
}

impl Ask for FlowOf {
    type Out = FlowGraph;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<FlowGraph> {
        let run = &self.scope.run;
        let (t, open) = (trace_of(run, store, ctx)?, weights_of(run, store, ctx)?);
        flow::find(self.call.method)?.graph(&subject(&t, &self.scope, open.as_deref()), &self.call.params, ctx)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.scope.run)
    }

    fn bytes(g: &FlowGraph) -> u64 {
        size_of_val(g.links.links.as_slice()) as u64
    }
}
