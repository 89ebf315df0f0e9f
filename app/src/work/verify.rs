//! Compares what a model computes with a reference, and remembers what came out.

use super::ModelOf;
use crate::jobs::{Ask, Store};
use crate::keys::ModelSource;
use crate::verified::{Entry, Verified};
use std::path::PathBuf;
use tokenscope_analysis::parity::{Reference, beside};
use tokenscope_analysis::weights::Placement;
use tokenscope_analysis::{Ctx, Result};

/// What is known of how right a model's numbers are: what was compared lately, and whether something could be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BadgeOf {
    /// The model's folder or file.
    pub model: PathBuf,
    /// How its numbers are computed.
    pub placement: Placement,
    /// How often it was compared since it was opened: each time there is more to know.
    pub turn: usize,
}

/// What a badge says.
#[derive(Debug, Clone, PartialEq)]
pub struct Badge {
    /// Of which model it is.
    pub model: PathBuf,
    /// The last comparison of these weights.
    pub last: Option<Entry>,
    /// What there is to compare with.
    pub reference: Option<PathBuf>,
}

impl Ask for BadgeOf {
    type Out = Badge;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Badge> {
        let open = store.get(&ModelOf(ModelSource::Path(self.model.clone()), self.placement), ctx)?;
        let last = Verified::load().of(&self.model, &open.model.info().fingerprint).cloned();
        // What was compared with once may lie anywhere.
        let before = last.as_ref().map(|e| e.reference.clone()).filter(|p| p.is_file());
        Ok(Badge { model: self.model.clone(), reference: beside(&self.model).or(before), last })
    }
}

/// Compare a model with a reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VerifyOf {
    /// The model's folder or file.
    pub model: PathBuf,
    /// How its numbers are computed.
    pub placement: Placement,
    /// What to compare with.
    pub reference: PathBuf,
    /// As in [`BadgeOf`]: a file may have changed since.
    pub turn: usize,
}

impl Ask for VerifyOf {
    type Out = Entry;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Entry> {
        let open = store.get(&ModelOf(ModelSource::Path(self.model.clone()), self.placement), ctx)?;
        let found = Reference::open(&self.reference, ctx)?.compare(open.model.as_ref(), None, ctx)?;
        let entry = Entry::of(&self.model, &open.model.info().fingerprint, &self.reference, &found);
        Verified::load().add(entry.clone());
        Ok(entry)
    }
}
