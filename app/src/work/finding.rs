//! What a method finds out about a run, as pictures, whatever its kind.

use super::{Around, PictureOf, Serves, Told, TraceFrom, subject, trace_of, weights_of};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, RunKey, Scope};
use crate::pane::Pane;
use serde_json::json;
use std::borrow::Cow;
use tokenscope_analysis::finding::Finding;
use tokenscope_analysis::{Ctx, Result, Subject, catalog};

/// What a method finds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
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
        let picture = run.image.as_ref().map(|i| store.get(&PictureOf(i.clone()), ctx)).transpose()?;
        let processor = open.as_ref().and_then(|o| o.processor.as_ref());
        let picture = picture.as_deref().zip(processor);
        let on = Subject { picture, ..subject(&t, &self.scope, open.as_deref()).at(self.target) };
        let found = catalog::find(self.call.method)?.find(&on, &self.call.params, ctx)?;
        found.check()?;
        Ok(found)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.scope.run)
    }
}

impl Serves for FindingOf {
    fn of(pane: &Pane, call: Call) -> Self {
        Self { scope: pane.scope(), target: pane.aim.tokens().last().copied(), call }
    }

    fn found<'a>(&self, found: &'a Finding, _: &TraceFrom) -> Result<Cow<'a, Finding>> {
        Ok(Cow::Borrowed(found))
    }

    fn tell<'a>(&self, found: &'a Finding, around: &Around) -> Result<Told<'a>> {
        let trace = around.trace(&self.scope.run)?;
        let fields = json!({ "tokens": subject(&trace, &self.scope, None).tower()?.tokens });
        Ok(Told { found: Cow::Borrowed(found), fields })
    }
}
