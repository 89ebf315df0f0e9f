//! What could stand behind a text that was decoded, for whoever wants to go on otherwise.

use super::DraftOf;
use super::decode::Prompt;
use crate::jobs::{Ask, Store};
use crate::keys::RunKey;
use tokenscope_analysis::decode::draft;
use tokenscope_analysis::decode::next::{Next, next};
use tokenscope_analysis::{Ctx, Result};

/// The most probable tokens behind the prompt of a decode and some tokens of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NextOf {
    /// The decode.
    pub draft: DraftOf,
    /// New tokens.
    pub ids: Vec<u32>,
}

/// Tokens that are listed.
const LISTED: usize = 12;

impl Ask for NextOf {
    /// Each with its text.
    type Out = Vec<(Next, String)>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Self::Out> {
        let prompt = Prompt::new(&self.draft, store, ctx)?;
        let all = next(draft::find(self.draft.call.method)?, &prompt.on(), &self.ids, LISTED, ctx)?;
        Ok(all.into_iter().map(|n| (n, prompt.on().word(n.id))).collect())
    }

    fn run(&self) -> Option<&RunKey> {
        self.draft.run()
    }
}
