//! Writes by filling in masks, step by step, with a reveal policy.

use super::{Around, Serves, Told, TraceFrom, model_of, trace_of};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, RunKey};
use crate::pane::Pane;
use serde_json::json;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokenscope_analysis::decode::mask::{Timeline, decode};
use tokenscope_analysis::decode::reveal;
use tokenscope_analysis::finding::Finding;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::Tower;
use tokenscope_analysis::{Ctx, Result, Subject};

/// A text written after a run's prompt. While it goes on, the steps so far are shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct TimelineOf {
    /// The run whose prompt is gone on from.
    pub run: RunKey,
    /// The policy.
    pub call: Call,
}

/// A timeline and the text of its tokens.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Written {
    /// The steps.
    pub timeline: Timeline,
    /// What is seen in them.
    #[serde(with = "super::whole")]
    pub finding: Arc<Finding>,
    /// The prompt and what was written after it, special tokens left out; `None` while it goes on.
    pub whole: Option<String>,
}

impl Written {
    fn new(timeline: Timeline, tokenizer: Option<&Tokenizer>) -> Self {
        // Each id is looked up once.
        let known: RefCell<BTreeMap<u32, String>> = RefCell::default();
        let look_up = |id: u32| tokenizer.map_or_else(|| format!("<{id}>"), |t| t.token_text(id));
        let words = |id: u32| known.borrow_mut().entry(id).or_insert_with(|| look_up(id)).clone();
        let finding = timeline.finding(&words).into();
        Self { timeline, finding, whole: None }
    }
}

impl Ask for TimelineOf {
    type Out = Written;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Written> {
        let (open, trace) = (model_of(&self.run, store, ctx)?, trace_of(&self.run, store, ctx)?);
        let tokenizer = open.tokenizer.as_ref();
        let on = Subject { tokenizer, ..Subject::new(&trace).with_model(open.model.as_ref()).of(Tower::Text) };
        let method = reveal::find(self.call.method)?;
        let mut so_far = |t: &Timeline| store.show::<Self>(Written::new(t.clone(), tokenizer));
        let timeline = decode(method, &on, &self.call.params, ctx, &mut so_far)?;
        let whole = tokenizer.map(|t| t.decode(&timeline.output(), true)).transpose()?;
        Ok(Written { whole, ..Written::new(timeline, tokenizer) })
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.run)
    }
}

impl Serves for TimelineOf {
    fn of(pane: &Pane, call: Call) -> Self {
        Self { run: pane.run.clone(), call }
    }

    fn found<'a>(&self, w: &'a Written, _: &TraceFrom) -> Result<Cow<'a, Finding>> {
        Ok(Cow::Borrowed(w.finding.as_ref()))
    }

    fn tell<'a>(&self, w: &'a Written, _: &Around) -> Result<Told<'a>> {
        let t = &w.timeline;
        let fields = json!({
            "text": w.whole, "tokens_per_forward": t.tokens_per_forward(), "steps_held_back": t.steps_held_back(),
            "timeline": t,
        });
        Ok(Told { found: Cow::Borrowed(w.finding.as_ref()), fields })
    }
}
