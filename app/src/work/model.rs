//! Opens models and tokenizers.

use crate::jobs::{Ask, Jobs, Store};
use crate::keys::{ModelSource, RunKey};
use crate::samples;
use std::path::{Path, PathBuf};
use tokenscope_analysis::image::Processor;
use tokenscope_analysis::model::{self, Model};
use tokenscope_analysis::run::NO_TOKENIZER;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::weights::{Hold, Placement, Weights};
use tokenscope_analysis::{Ctx, Error, Result};

/// Open a model, to compute its numbers so.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelOf(pub ModelSource, pub Placement);

impl ModelOf {
    /// The model of a run.
    pub fn of(run: &RunKey) -> Self {
        Self(run.model.clone(), run.placement)
    }
}

/// An open model.
pub struct OpenModel {
    /// The model.
    pub model: Box<dyn Model>,
    /// Its tokenizer.
    pub tokenizer: Option<Tokenizer>,
    /// Why it has none, where there is one that cannot be read.
    pub unread: Option<Error>,
    /// What it does to pictures, if it reads them.
    pub processor: Option<Processor>,
    /// Where its weights are.
    pub weights: Held,
}

/// Where the weights of a model are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Bytes of memory that they take, of the device's own where that has such.
    pub bytes: u64,
    /// Whether the matrices stay in the file, as stored.
    pub in_file: bool,
}

impl OpenModel {
    /// What the user should know about the model and its tokenizer.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        self.tokenizer.iter().flat_map(Tokenizer::notes)
    }

    /// The tokenizer. Errors: there is none, or why it cannot be read.
    pub fn text(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| self.unread.clone().unwrap_or_else(|| Error::invalid(NO_TOKENIZER)))
    }
}

impl Ask for ModelOf {
    type Out = OpenModel;

    /// Undo goes back to the one before; more are opened again where somebody wants them.
    const KEPT: usize = 1;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<OpenModel> {
        open(&self.0, self.1, store.hold(), ctx)
    }

    fn bytes(open: &OpenModel) -> u64 {
        open.weights.bytes
    }
}

/// Has the weights of models held so from now on; those that are open are opened again where somebody wants them. What
/// was computed stays: the values are the same.
pub fn hold_weights(jobs: &Jobs, hold: Hold) {
    if jobs.hold(hold) {
        jobs.again::<ModelOf>();
    }
}

/// Opens a model with its tokenizer, its numbers computed and its weights held so.
pub fn open(source: &ModelSource, placement: Placement, hold: Hold, ctx: &Ctx) -> Result<OpenModel> {
    match source {
        ModelSource::Sample(name) => open_path(samples::unpack(name)?.path(), placement, hold, ctx),
        ModelSource::Path(path) => open_path(path, placement, hold, ctx),
        ModelSource::Recorded(path) => {
            let what = "this is a recorded run; it holds no weights";
            Err(Error::file(path, what, "open the model itself for what needs them"))
        }
    }
}

/// Opens the model at `path` on its device and its tokenizer, where there is one.
///
/// Errors: what is wrong with a file, weights that do not fit the memory, cancelled.
pub fn open_path(path: &Path, placement: Placement, hold: Hold, ctx: &Ctx) -> Result<OpenModel> {
    let device = placement.chip.open()?;
    // On another device than the processor nothing is computed out of a file.
    let hold = if device.is_cpu() { hold } else { Hold::Memory };
    let weights = Weights::open(path)?.watched(ctx).holding(hold).in_numbers(placement.numbers);
    let remedy = match weights.stay_in_file() {
        true => "close other programs or choose a smaller model",
        false => "leave them in their file (--weights stored, or Weights beside the model), or close other programs",
    };
    if device.is_cpu() {
        ctx.fits(weights.need_bytes(), remedy)?;
    }
    let model = model::from_weights(&weights, &device)?;
    let tokenizer = match weights.gguf_file() {
        Some(gguf) => Tokenizer::load(gguf).map(Some),
        None => Tokenizer::beside(weights.dir()),
    };
    // What needs no text works without one.
    let (tokenizer, unread) = match tokenizer {
        Ok(t) => (t, None),
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(why) => (None, Some(why)),
    };
    let processor = Processor::load(&weights)?;
    let held = Held { bytes: weights.held_bytes(), in_file: weights.stay_in_file() };
    let open = OpenModel { model, tokenizer, unread, processor, weights: held };
    open.notes().for_each(|n| ctx.note(n.clone()));
    Ok(open)
}

/// Load a tokenizer file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenizerOf(pub PathBuf);

impl Ask for TokenizerOf {
    type Out = Tokenizer;

    fn carry_out(&self, _: &Store, _: &Ctx) -> Result<Tokenizer> {
        Tokenizer::load(&self.0)
    }
}
