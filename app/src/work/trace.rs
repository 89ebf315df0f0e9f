//! Runs a model and keeps what the views need, or reads what was recorded.

use super::{PictureOf, model_of};
use crate::jobs::{Ask, Store};
use crate::keys::{ModelSource, RunKey};
use tokenscope_analysis::model::LogitRows;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::{CaptureSpec, Tower, Trace, read_trace};
use tokenscope_analysis::{Ctx, Result};

/// Run a model on an input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceOf(pub RunKey);

impl Ask for TraceOf {
    type Out = Trace;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Trace> {
        let key = &self.0;
        if let ModelSource::Recorded(path) = &key.model {
            let trace = read_trace(path, ctx)?;
            trace.check_finite()?;
            return Ok(trace);
        }
        let open = model_of(key, store, ctx)?;
        let spec = CaptureSpec::views();
        // The logits of other rows are read off the last hidden state where somebody looks.
        let logits = Some(LogitRows::Last);
        let mut request = RunRequest { prompt: Some(key.prompt.to_string()), logits, ..RunRequest::default() };
        if let (Some(source), Some(processor)) = (&key.image, &open.processor) {
            request.add_picture(processor, &*store.get(&PictureOf(source.clone()), ctx)?)?;
        }
        let reads_text = open.model.info().towers.contains_key(&Tower::Text);
        if reads_text {
            open.text()?;
        }
        if !reads_text {
            request.prompt = None;
        }
        let trace = run(open.model.as_ref(), open.tokenizer.as_ref(), &request, &spec, ctx)?;
        trace.check_finite()?;
        Ok(trace)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0)
    }

    fn bytes(t: &Trace) -> u64 {
        t.memory_bytes() as u64
    }
}
