//! Decoding: guessing ahead and verifying (`draft`, `verify`), and filling in masks in any order (`reveal`).
//!
//! What varies is small and each in a file of its own; the two loops are written once: [`engine`] for rounds of
//! guesses, [`mask`] for steps of reveals. Both ask an oracle, which is a model or the table of a golden.

pub mod chance;
pub mod costs;
pub mod cut;
pub mod draft;
pub mod engine;
pub mod finding;
pub mod known;
pub mod mask;
pub mod metrics;
pub mod next;
pub mod oracle;
pub mod pace;
pub mod proof;
pub mod reveal;
pub mod row;
pub mod small;
pub mod toy;
pub mod tree;
pub mod verify;

pub use engine::{decode, decode_at_most};
pub use metrics::{DraftNode, DraftRun, Ended, Learnt, NodeState, Round, Spent};
pub use pace::Pace;

use crate::Result;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Info, Need, Param, Params};
use crate::subject::{Subject, common_ids};
use crate::trace::Tower;
use costs::Costs;
use cut::Cut;
use engine::Draft;
use known::{Known, Memory, Partner};
use oracle::Reader;
use small::Small;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use verify::Verify;

/// Where chance starts, of every method that leaves something to it.
pub const SEED: Param = Param::seed();

/// What a drafting policy is made with.
pub struct With<'a> {
    /// The run: prompt, target, draft model.
    pub on: &'a Subject<'a>,
    /// The method.
    pub info: &'static Info,
    /// What sampling leaves of what models say.
    pub cut: Cut,
    /// What many decodes of one prompt share; one decode shares nothing.
    pub shared: Option<Arc<Shared<'a>>>,
}

/// What many decodes of one prompt share: models that have read it, and what they say.
pub struct Shared<'a> {
    /// Makes what is remembered of a model.
    memory: Box<dyn Fn() -> Memory + Send + Sync>,
    /// The draft model, and the target as it stops behind a layer.
    models: Mutex<BTreeMap<Option<usize>, Partner<'a>>>,
    meanings: OnceLock<Arc<Array>>,
    costs: OnceLock<Costs>,
}

impl<'a> Shared<'a> {
    /// Nothing yet. `memory` makes what is remembered of a model.
    pub fn new(memory: impl Fn() -> Memory + Send + Sync + 'static) -> Self {
        Self { memory: Box::new(memory), models: Mutex::default(), meanings: OnceLock::new(), costs: OnceLock::new() }
    }
}

impl<'a> With<'a> {
    /// The draft model, which has read all of the prompt but its last token. One that sees no image reads the text
    /// alone.
    ///
    /// Errors: no draft model, or one of another vocabulary than the target's.
    pub fn partner(&self, ctx: &Ctx) -> Result<Partner<'a>> {
        self.begun(None, || {
            let draft = self.on.partner.ok_or_else(|| self.info.needs(Need::DraftModel.words()))?;
            let target = self.on.weights(self.info)?.info();
            let tokenizers = self.on.tokenizer.zip(self.on.partner_tokenizer);
            let common = common_ids(target, draft.info(), tokenizers)
                .map_err(|why| self.info.needs(format!("{}; {why}", Need::DraftModel.words())))?;
            let mut reader = Reader::new(draft).cut(self.cut);
            if common < target.vocab || draft.info().vocab != target.vocab {
                ctx.note(format!("{} drafts over the {common} ids that both models have", draft.info().name));
                reader = reader.over(common, target.vocab);
            }
            let again = self.on.again();
            if let [before @ .., _] = self.on.partner_ids.unwrap_or(&again.ids) {
                reader.begin(before, None, ctx)?;
            }
            Ok(reader)
        })
    }

    /// The target as it stops behind `layer`, which has read all of the prompt but its last token.
    pub fn early(&self, layer: usize, ctx: &Ctx) -> Result<Partner<'a>> {
        self.begun(Some(layer), || {
            let mut early = Reader::new(self.on.weights(self.info)?).stopping(layer).cut(self.cut);
            let again = self.on.again();
            if let Some((_, before)) = again.ids.split_last() {
                early.begin(before, again.image.clone(), ctx)?;
            }
            Ok(early)
        })
    }

    /// A model that has read the prompt: that of all decodes where they share one, else a new one.
    fn begun(&self, which: Option<usize>, begin: impl FnOnce() -> Result<Reader<'a>>) -> Result<Partner<'a>> {
        let Some(shared) = &self.shared else { return Ok(Known::new(begin()?, None)) };
        let models = || shared.models.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is held while a model reads: threads that wait for it may be those that it computes on.
        if let Some(known) = models().get(&which) {
            return Ok(known.clone());
        }
        let new = Known::new(begin()?, Some(Arc::new((shared.memory)())));
        Ok(models().entry(which).or_insert(new).clone())
    }

    /// The draft model behind a policy that grows trees by levels.
    pub fn small(&self, ctx: &Ctx) -> Result<Small<Partner<'a>>> {
        Ok(Small(self.partner(ctx)?))
    }

    /// What passes of the draft model `small` and those of the target over trees of up to `most` nodes cost on this
    /// machine; measured once for decodes that share something.
    ///
    /// Errors: those of [`Costs::measure`].
    pub fn costs(&self, small: &Partner<'a>, most: usize, ctx: &Ctx) -> Result<Costs> {
        if let Some(known) = self.shared.as_ref().and_then(|s| s.costs.get()) {
            return Ok(known.clone());
        }
        // What is remembered costs nothing, so the model itself is asked.
        let new = Costs::measure(self, small.model(), most, ctx)?;
        Ok(self.shared.as_ref().map_or(new.clone(), |s| s.costs.get_or_init(|| new).clone()))
    }

    /// What each token of the target means: its embedding, scaled to length 1 `[vocab, width]`.
    ///
    /// Errors: no weights, a model without token embeddings, too little memory.
    pub fn meanings(&self, ctx: &Ctx) -> Result<Arc<Array>> {
        if let Some(all) = self.shared.as_ref().and_then(|s| s.meanings.get()) {
            return Ok(all.clone());
        }
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
        let all = Arc::new(all);
        Ok(self.shared.as_ref().map_or(all.clone(), |s| s.meanings.get_or_init(|| all).clone()))
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
