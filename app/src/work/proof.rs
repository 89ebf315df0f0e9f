//! Proves that what a draft method emits is the target's own text, by decoding the same prompt many times.

use super::DraftOf;
use super::decode::Prompt;
use crate::jobs::{Ask, Store};
use crate::keys::RunKey;
use tokenscope_analysis::decode::draft;
use tokenscope_analysis::decode::proof::{Proof, prove};
use tokenscope_analysis::{Ctx, Result};

/// A proof of the method of a decode on its prompt. While it goes on, what is counted so far is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProofOf {
    /// The decode.
    pub draft: DraftOf,
    /// Decodes that are counted.
    pub decodes: usize,
}

impl Ask for ProofOf {
    type Out = Proof;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Proof> {
        let prompt = Prompt::new(&self.draft, store, ctx)?;
        let (on, call) = (prompt.on(), &self.draft.call);
        let mut so_far = |proof: &Proof| store.show::<Self>(proof.clone());
        prove(draft::find(call.method)?, &on, &call.params, self.decodes, ctx, &mut so_far)
    }

    fn run(&self) -> Option<&RunKey> {
        self.draft.run()
    }
}
