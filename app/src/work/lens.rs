//! What the model would predict at every layer and position, and how probable it found its tokens.

use super::{main_scope, model_of, subject, trace_of, weights_of};
use crate::jobs::{Ask, Store};
use crate::keys::RunKey;
use tokenscope_analysis::lens::{self, Guess, Lens, Surprisal};
use tokenscope_analysis::{Ctx, Result};

/// Most probable token at every layer and position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LensOf(pub RunKey);

impl Ask for LensOf {
    type Out = Lens;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Lens> {
        let (t, open) = (trace_of(&self.0, store, ctx)?, model_of(&self.0, store, ctx)?);
        lens::read(&subject(&t, &main_scope(&self.0), Some(&open)), ctx)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0)
    }

    fn bytes(l: &Lens) -> u64 {
        l.top.iter().map(|layer| 48 * layer.len() as u64).sum()
    }
}

/// Most probable next tokens at one node of the lattice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeLensOf {
    /// The run.
    pub run: RunKey,
    /// Level of the node, 0 for the inputs.
    pub level: usize,
    /// Its token.
    pub token: usize,
}

impl Ask for NodeLensOf {
    type Out = Vec<Guess>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<Guess>> {
        let (t, open) = (trace_of(&self.run, store, ctx)?, model_of(&self.run, store, ctx)?);
        lens::node(&subject(&t, &main_scope(&self.run), Some(&open)), self.level, self.token)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.run)
    }
}

/// How probable the model found each token of the run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SurprisalOf(pub RunKey);

impl Ask for SurprisalOf {
    type Out = Surprisal;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Surprisal> {
        let (t, open) = (trace_of(&self.0, store, ctx)?, weights_of(&self.0, store, ctx)?);
        lens::surprisal(&subject(&t, &main_scope(&self.0), open.as_deref()), ctx)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0)
    }

    fn bytes(s: &Surprisal) -> u64 {
        size_of_val(s.ln_p.as_slice()) as u64
    }
}
