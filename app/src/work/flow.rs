//! Flow graphs.

use super::{Around, Serves, Told, subject, trace_of, weights_of};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, RunKey, Scope};
use crate::pane::Pane;
use serde_json::json;
use std::borrow::Cow;
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

impl Serves for FlowOf {
    // A node of the lattice says more than a level of a picture, and those below the threshold are left out.
    const ROWS_IN: Option<&'static str> = Some("edges");

    fn of(pane: &Pane, call: Call) -> Self {
        Self { scope: pane.scope(), call }
    }

    fn tell<'a>(&self, g: &'a FlowGraph, around: &Around) -> Result<Told<'a>> {
        let trace = around.trace(&self.scope.run)?;
        let threshold = around.pane.shows.threshold;
        let fields = json!({
            "tokens": subject(&trace, &self.scope, None).tower()?.tokens, "n_layers": g.n_layers,
            "unit": g.links.measure.unit, "edges_from": g.links.floor.max(threshold),
            "edges": g.above(threshold).collect::<Vec<_>>(),
        });
        Ok(Told { found: Cow::Owned(g.finding()), fields })
    }
}
