//! Flow graphs.

use super::serves::{Rows, write_rows};
use super::{Around, Serves, Told, TraceFrom, subject, trace_of, weights_of};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, RunKey, Scope};
use crate::pane::Pane;
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;
use tokenscope_analysis::finding::Finding;
use tokenscope_analysis::flow::{self, FlowGraph};
use tokenscope_analysis::trace::MaskRule;
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

    fn found<'a>(&self, g: &'a FlowGraph, _: &TraceFrom) -> Result<Cow<'a, Finding>> {
        Ok(Cow::Owned(Finding::of(g.links.clone())))
    }

    fn tell<'a>(&self, g: &'a FlowGraph, around: &Around) -> Result<Told<'a>> {
        let trace = around.trace(&self.scope.run)?;
        let fields = json!({
            "tokens": subject(&trace, &self.scope, None).tower()?.tokens, "n_layers": g.n_layers,
            "unit": g.links.measure.unit, "edges_from": g.links.floor.max(around.pane.shows.threshold),
        });
        // The edges are told as rows; millions of them are not copied for the picture's title.
        Ok(Told { found: Cow::Owned(Finding::of(g.links.bare())), fields })
    }

    fn rows(&self, g: &Arc<FlowGraph>, around: &Around) -> Option<Rows> {
        let (g, threshold) = (g.clone(), around.pane.shows.threshold);
        Some(Box::new(move |out| write_rows(out, g.above(threshold))))
    }

    fn rows_bytes(&self, around: &Around) -> Result<u64> {
        let trace = around.trace(&self.scope.run)?;
        let tower = subject(&trace, &self.scope, None).tower()?;
        let n = tower.tokens.len() as f64;
        let seen = if tower.attention.iter().all(|a| a.mask == MaskRule::Causal) { n / 2.0 } else { n };
        // What arrives at a token is 1, so that few edges are strong.
        let into = seen.min(1.0 / f64::from(around.pane.shows.threshold));
        Ok((tower.n_layers as f64 * n * into) as u64 * BYTES_PER_EDGE)
    }
}

/// An edge in JSON, with what stands around it.
const BYTES_PER_EDGE: u64 = 110;
