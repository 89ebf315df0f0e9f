//! What a run would cost.

use super::{PictureOf, model_of};
use crate::jobs::{Ask, Store};
use crate::keys::RunKey;
use tokenscope_analysis::model::LogitRows;
use tokenscope_analysis::run::{Estimate, RunRequest, estimate};
use tokenscope_analysis::trace::{CaptureSpec, Tower};
use tokenscope_analysis::{Ctx, Result};

/// What the run would cost.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EstimateOf(pub RunKey);

impl Ask for EstimateOf {
    type Out = Estimate;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Estimate> {
        let open = model_of(&self.0, store, ctx)?;
        let key = &self.0;
        let mut request = RunRequest { prompt: Some(key.prompt.to_string()), ..RunRequest::default() };
        if let (Some(source), Some(processor)) = (&key.image, &open.processor) {
            request.add_picture(processor, &*store.get(&PictureOf(source.clone()), ctx)?)?;
        }
        let text = request.expansion.as_ref().map_or(key.prompt.as_ref(), |e| e.text.as_str());
        let n = match (&open.tokenizer, text.is_empty()) {
            (Some(t), false) => t.encode(text, None, true)?.ids.len(),
            _ => 1,
        };
        let vision = open.model.info().towers.get(&Tower::Vision);
        let tiles = vision.filter(|_| request.image.is_some()).map(|t| t.tiles(request.image.as_ref()));
        let tiles = tiles.unwrap_or_default();
        Ok(estimate(open.model.as_ref(), n, &tiles, &LogitRows::Last, &CaptureSpec::views()))
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0)
    }
}
