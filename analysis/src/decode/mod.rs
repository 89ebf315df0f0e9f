//! Decoding: guessing ahead and verifying (`draft`, `verify`), and filling in masks in any order (`reveal`).
//!
//! What varies is small and each in a file of its own; the two loops are written once: [`engine`] for rounds of
//! guesses, [`mask`] for steps of reveals. Both ask an oracle, which is a model or the table of a golden.

pub mod chance;
pub mod draft;
pub mod engine;
pub mod finding;
pub mod mask;
pub mod metrics;
pub mod oracle;
pub mod reveal;
pub mod row;
pub mod small;
pub mod toy;
pub mod tree;
pub mod verify;

pub use engine::decode;
pub use metrics::{DraftNode, DraftRun, Ended, NodeState, Round};

use crate::Result;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Info, Need, Param, Params};
use crate::subject::{Subject, common_ids};
use crate::trace::Tower;
use engine::Draft;
use oracle::Reader;
use small::Small;
use verify::Verify;

/// Where chance starts, of every method that leaves something to it.
pub const SEED: Param = Param::seed();

/// What a drafting policy is made with.
pub struct With<'a> {
    /// The run: prompt, target, draft model.
    pub on: &'a Subject<'a>,
    /// The method.
    pub info: &'static Info,
}

impl<'a> With<'a> {
    /// The draft model, which has read all of the prompt but its last token. One that sees no image reads the text
    /// alone.
    ///
    /// Errors: no draft model, or one of another vocabulary than the target's.
    pub fn partner(&self, ctx: &Ctx) -> Result<Reader<'a>> {
        let draft = self.on.partner.ok_or_else(|| self.info.needs(Need::DraftModel.words()))?;
        let target = self.on.weights(self.info)?.info();
        let tokenizers = self.on.tokenizer.zip(self.on.partner_tokenizer);
        let common = common_ids(target, draft.info(), tokenizers)
            .map_err(|why| self.info.needs(format!("{}; {why}", Need::DraftModel.words())))?;
        let mut reader = Reader::new(draft);
        if common < target.vocab || draft.info().vocab != target.vocab {
            ctx.note(format!("{} drafts over the {common} ids that both models have", draft.info().name));
            reader = reader.over(common, target.vocab);
        }
        let again = self.on.again();
        if let [before @ .., _] = self.on.partner_ids.unwrap_or(&again.ids) {
            reader.begin(before, None, ctx)?;
        }
        Ok(reader)
    }

    /// The draft model behind a policy that grows trees by levels.
    pub fn small(&self, ctx: &Ctx) -> Result<Small<Reader<'a>>> {
        Ok(Small(self.partner(ctx)?))
    }

    /// What each token of the target means: its embedding, scaled to length 1 `[vocab, width]`.
    ///
    /// Errors: no weights, a model without token embeddings, too little memory.
    pub fn meanings(&self, ctx: &Ctx) -> Result<Array> {
        let model = self.on.weights(self.info)?;
        let width = model.info().towers.get(&Tower::Text).map_or(0, |t| t.width);
        let n = model.info().vocab;
        ctx.fits((n * width * 8) as u64, "choose a model with fewer ids, or another verifier")?;
        let mut all = Array::from_tensor(&model.embed(&(0..n as u32).collect::<Vec<_>>())?)?;
        let [_, width] = all.dims("token embeddings")?;
        for row in all.data_mut().chunks_mut(width.max(1)) {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|x| *x /= length);
            }
        }
        Ok(all)
    }
}

/// One way to guess ahead and to verify.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// The drafting policy.
    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>>;
    /// The verifier. Errors: the run lacks what it goes by.
    fn verify<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Verify + 'a>>;
}
