//! What serves a kind of method: the ask for it on what a pane shows, and what scripts are told of the product. A kind
//! is an impl of [`Serves`] beside its ask, and a line of [`tell`].

use super::{CutOf, DraftOf, FindingOf, FlowOf, ReducedOf, ScoreOf, TimelineOf, TraceOf};
use crate::jobs::{Ask, Jobs};
use crate::keys::{Call, RunKey};
use crate::pane::Pane;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use tokenscope_analysis::catalog::{self, Entry};
use tokenscope_analysis::finding::Finding;
use tokenscope_analysis::trace::Trace;
use tokenscope_analysis::{Ctx, Result};

/// An ask for methods of a kind.
pub trait Serves: Ask {
    /// The field that has the rows of the first picture, where they are told once and not with the finding.
    const ROWS_IN: Option<&'static str> = None;

    /// The method on what the pane shows.
    fn of(pane: &Pane, call: Call) -> Self;

    /// What scripts are told of the product. Errors: those of what else is asked for around it.
    fn tell<'a>(&self, out: &'a Self::Out, around: &Around) -> Result<Told<'a>>;
}

/// What scripts are told of a product.
pub struct Told<'a> {
    /// What is found, as of a method of any kind.
    pub found: Cow<'a, Finding>,
    /// An object with the fields of the kind.
    pub fields: Value,
}

/// What a product was asked for with, for what else there is to tell.
pub struct Around<'a> {
    /// The pane whose run it is.
    pub pane: &'a Pane,
    jobs: &'a Jobs,
    ctx: &'a Ctx,
}

impl Around<'_> {
    /// Another product; what the user should know about it is told, too.
    pub fn get<A: Ask>(&self, ask: &A) -> Result<Arc<A::Out>> {
        self.jobs.get(ask, self.ctx)
    }

    /// What a run left behind.
    pub fn trace(&self, run: &RunKey) -> Result<Arc<Trace>> {
        self.get(&TraceOf(run.clone()))
    }

    /// Tells this, too.
    pub fn note(&self, words: &str) {
        self.ctx.note(words);
    }
}

/// A method of any kind, carried out on what a pane shows and told as JSON: method and parameters, the run if it is
/// about one, the fields of its kind, what is found, notes.
///
/// Errors: no method of that id; those of the method.
pub fn tell(pane: &Pane, call: Call, jobs: &Jobs, ctx: &Ctx) -> Result<Value> {
    let told = match catalog::find(call.method)? {
        Entry::Segment(_) => told::<CutOf>,
        Entry::Score(_) => told::<ScoreOf>,
        Entry::Reduce(_) => told::<ReducedOf>,
        Entry::Flow(_) => told::<FlowOf>,
        Entry::Draft(_) => told::<DraftOf>,
        Entry::Reveal(_) => told::<TimelineOf>,
        Entry::Cache(_) | Entry::Study(_) => told::<FindingOf>,
    };
    told(call, &Around { pane, jobs, ctx })
}

fn told<A: Serves>(call: Call, around: &Around) -> Result<Value> {
    let mut out = Map::new();
    let mut put = |key: &str, v: Value| drop(out.insert(key.into(), v));
    put("method", json!(call.method));
    put("params", json!(call.params.to_json()));
    let ask = A::of(around.pane, call);
    if let Some(run) = ask.run() {
        put("model", json!(run.model.title()));
        put("prompt", json!(&*run.prompt));
    }
    let product = around.get(&ask)?;
    let Told { found, fields } = ask.tell(&product, around)?;
    if let Value::Object(fields) = fields {
        fields.into_iter().for_each(|(key, v)| put(&key, v));
    }
    put("finding", found.json_beside(A::ROWS_IN));
    put("notes", json!(around.ctx.notes()));
    Ok(Value::Object(out))
}
