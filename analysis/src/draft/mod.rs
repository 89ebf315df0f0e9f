//! Guessing ahead: draft trees, how they are verified, and what a whole decode looked like round by round.

pub mod dyspec;
mod reader;
pub mod spec_sampling;
mod speculative_sampling;
pub mod token_recycling;

use crate::ctx::Ctx;
use crate::method::{Info, Params};
use crate::model::{ImageInput, Model};
use crate::{Error, Result};
use serde::Serialize;

/// What became of a drafted token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// On the accepted path.
    Accepted,
    /// Looked at by the verifier and refused.
    Rejected,
    /// Drafted but never looked at, because an ancestor was refused or a sibling was taken.
    Unverified,
}

/// One drafted token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DraftNode {
    /// Index of the parent in the round's list; `None` hangs below the last accepted token (the root).
    pub parent: Option<usize>,
    /// Vocabulary id.
    pub token: u32,
    /// 1 for children of the root.
    pub depth: usize,
    /// The draft's probability of this token given its ancestors; `None` where the draft has none.
    pub p_draft: Option<f32>,
    /// The target model's probability given its ancestors.
    pub p_target: Option<f32>,
    /// Probability with which the verifier accepts this node once it looks at it.
    pub p_accept: Option<f32>,
    /// What happened.
    pub state: NodeState,
}

/// One round: a tree, its verification, and the tokens it gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// Token the tree hangs below.
    pub root: u32,
    /// Drafted tokens, parents before children.
    pub nodes: Vec<DraftNode>,
    /// Tokens this round added to the text, the verifier's own last one included.
    pub emitted: Vec<u32>,
    /// Forward passes of the draft model in this round.
    pub draft_passes: usize,
}

/// A whole decode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DraftRun {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// Rounds in order.
    pub rounds: Vec<Round>,
    /// The target's own greedy continuation of the same length, where the method claims to equal it.
    pub reference: Option<Vec<u32>>,
    /// Result of the lossless check in words and whether it passed; `None` if the method makes no such claim.
    pub lossless: Option<(bool, String)>,
    /// Seconds one target pass took, and one draft pass, on average; 0 if not measured.
    pub target_secs: f64,
    /// See `target_secs`.
    pub draft_secs: f64,
}

impl DraftRun {
    /// All emitted tokens.
    pub fn output(&self) -> Vec<u32> {
        self.rounds.iter().flat_map(|r| r.emitted.iter().copied()).collect()
    }
    /// Emitted tokens per round (per target pass).
    pub fn tokens_per_round(&self) -> f64 {
        self.output().len() as f64 / self.rounds.len().max(1) as f64
    }
}

/// What a draft method runs on.
#[derive(Clone, Copy)]
pub struct DraftInput<'a> {
    /// The model whose output must not change.
    pub target: &'a dyn Model,
    /// The small model, for methods that need one.
    pub draft: Option<&'a dyn Model>,
    /// Token ids of the prompt, at least one; those that stand for the image are among them.
    pub prompt: &'a [u32],
    /// The image, where the target reads one.
    pub image: Option<&'a ImageInput>,
    /// What the draft reads before its first guess where it is not the prompt: one that sees no image gets the text
    /// alone. Ends with the token that the prompt ends with.
    pub draft_prompt: Option<&'a [u32]>,
    /// Ids that end the text.
    pub end: &'a [u32],
}

impl<'a> DraftInput<'a> {
    /// A prompt of text alone.
    pub fn text(target: &'a dyn Model, draft: Option<&'a dyn Model>, prompt: &'a [u32]) -> Self {
        Self { target, draft, prompt, image: None, draft_prompt: None, end: &[] }
    }
}

/// One way to draft and verify.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// A whole decode; `partial` is called after each round with what there is so far.
    fn run(
        &self,
        input: &DraftInput,
        params: &Params,
        ctx: &Ctx,
        partial: &mut dyn FnMut(&DraftRun),
    ) -> Result<DraftRun>;
}

/// Every draft method, alphabetical by id.
pub static ALL: &[&dyn Method] =
    &[&dyspec::DySpec, &speculative_sampling::SpeculativeSampling, &token_recycling::TokenRecycling];

/// The draft method of that id.
pub fn find(id: &str) -> Result<&'static dyn Method> {
    ALL.iter().copied().find(|m| m.info().id == id).ok_or_else(|| Error::Unknown {
        kind: "draft method",
        name: id.into(),
        known: ALL.iter().map(|m| m.info().id).collect::<Vec<_>>().join(", "),
    })
}
