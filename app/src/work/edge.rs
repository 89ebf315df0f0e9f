//! Looking into one edge of the flow lattice: what each head carries along it and what that does to the prediction.

use super::{model_of, subject, trace_of, weights_of};
use crate::jobs::{Ask, Store};
use crate::keys::{RunKey, Scope};
use tokenscope_analysis::lens::{self, Effect, HeadShare};
use tokenscope_analysis::subject::Aim;
use tokenscope_analysis::{Ctx, Result};

/// What each head of a layer carries from one token to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EdgeOf {
    /// The stack.
    pub scope: Scope,
    /// Layer.
    pub layer: usize,
    /// Giving token.
    pub from: usize,
    /// Receiving token.
    pub to: usize,
}

impl Ask for EdgeOf {
    type Out = Vec<HeadShare>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<HeadShare>> {
        let run = &self.scope.run;
        let (t, open) = (trace_of(run, store, ctx)?, weights_of(run, store, ctx)?);
        lens::heads(&subject(&t, &self.scope, open.as_deref()), self.layer, self.from, self.to, ctx)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.scope.run)
    }
}

/// What one head's share of an edge does to the prediction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EffectOf {
    /// The edge.
    pub edge: EdgeOf,
    /// Head.
    pub head: usize,
    /// What the prediction is held against.
    pub against: Option<u32>,
}

impl Ask for EffectOf {
    type Out = Effect;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Effect> {
        let EdgeOf { scope, layer, from, to } = &self.edge;
        let (t, open) = (trace_of(&scope.run, store, ctx)?, model_of(&scope.run, store, ctx)?);
        let aim = self.against.map_or_else(Aim::default, Aim::rather_than);
        lens::effect(&subject(&t, scope, Some(&open)).aimed(aim), *layer, self.head, *from, *to)
    }

    fn run(&self) -> Option<&RunKey> {
        self.edge.run()
    }
}
