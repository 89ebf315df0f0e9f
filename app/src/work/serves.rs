//! What serves a kind of method: the ask for it on what a pane shows, and what scripts are told of the product. A kind
//! is an impl of [`Serves`] beside its ask, and a line of [`tell`].

use super::{CutOf, DraftOf, FindingOf, FlowOf, ReducedOf, ScoreOf, TimelineOf, TraceOf};
use crate::jobs::{Ask, Jobs};
use crate::keys::{Call, RunKey};
use crate::pane::Pane;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::io::{self, Write};
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

    /// Everything that is found, for whoever compares; `trace` gives the run, where it takes that to say it. Errors:
    /// those of the run.
    fn found<'a>(&self, out: &'a Self::Out, trace: &TraceFrom) -> Result<Cow<'a, Finding>>;

    /// What scripts are told of the product. Errors: those of what else is asked for around it.
    fn tell<'a>(&self, out: &'a Self::Out, around: &Around) -> Result<Told<'a>>;

    /// Writes the rows of the field [`Serves::ROWS_IN`] as elements of a list of JSON, where they are too many to be
    /// held as values; `None` where they stand in the fields.
    fn rows(&self, _out: &Arc<Self::Out>, _around: &Around) -> Option<Rows> {
        None
    }

    /// Bytes of the rows that the pane asks for, at most. Errors: those of what has to be known for it.
    fn rows_bytes(&self, _around: &Around) -> Result<u64> {
        Ok(0)
    }
}

/// Gives the run that a product is about.
pub type TraceFrom<'a> = dyn Fn() -> Result<Arc<Trace>> + 'a;

/// Writes elements of a list, with what stands between them.
pub type Rows = Box<dyn Fn(&mut dyn Write) -> io::Result<()>>;

/// Writes values as elements of a list, each on a line of its own.
pub fn write_rows<T: Serialize>(out: &mut dyn Write, values: impl Iterator<Item = T>) -> io::Result<()> {
    for (i, value) in values.enumerate() {
        out.write_all(if i == 0 { b"\n    " } else { b",\n    " })?;
        serde_json::to_writer(&mut *out, &value)?;
    }
    Ok(())
}

/// What scripts are told of a method that was carried out, ready to be written.
pub struct Telling {
    before: Map<String, Value>,
    rows: Option<(&'static str, Rows)>,
    behind: Map<String, Value>,
}

impl Telling {
    /// Writes all of it as an object of JSON; rows that are many go by without being held.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut first = true;
        let mut key = |out: &mut dyn Write, key: &str| {
            out.write_all(if std::mem::take(&mut first) { b"{\n  " } else { b",\n  " })?;
            serde_json::to_writer(&mut *out, key)?;
            out.write_all(b": ")
        };
        for (name, value) in &self.before {
            key(out, name)?;
            write_value(out, value)?;
        }
        if let Some((name, rows)) = &self.rows {
            key(out, name)?;
            out.write_all(b"[")?;
            rows(out)?;
            out.write_all(b"\n  ]")?;
        }
        for (name, value) in &self.behind {
            key(out, name)?;
            write_value(out, value)?;
        }
        out.write_all(b"\n}")
    }
}

/// A value of a field, as it is indented there.
fn write_value(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    // Line breaks in strings are escaped, so those that are left are between values.
    out.write_all(serde_json::to_string_pretty(value)?.replace('\n', "\n  ").as_bytes())
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

/// Bytes of rows from which a user wants to know beforehand what is coming.
const MANY: u64 = 100 << 20;

/// A method of any kind, carried out on what a pane shows and told as JSON: method and parameters, the run if it is
/// about one, the fields of its kind, what is found, notes. `many` hears before the work begins how many bytes of rows
/// there may be, where they are hundreds of megabytes.
///
/// Errors: no method of that id; those of the method.
pub fn tell(pane: &Pane, call: Call, jobs: &Jobs, ctx: &Ctx, many: &dyn Fn(u64)) -> Result<Telling> {
    let told = match catalog::find(call.method)? {
        Entry::Segment(_) => told::<CutOf>,
        Entry::Score(_) => told::<ScoreOf>,
        Entry::Reduce(_) => told::<ReducedOf>,
        Entry::Flow(_) => told::<FlowOf>,
        Entry::Draft(_) => told::<DraftOf>,
        Entry::Reveal(_) => told::<TimelineOf>,
        Entry::Cache(_) | Entry::Study(_) => told::<FindingOf>,
    };
    told(call, &Around { pane, jobs, ctx }, many)
}

/// As [`tell`], for a decode that was asked for in another way than a pane would.
pub fn tell_of(pane: &Pane, ask: DraftOf, jobs: &Jobs, ctx: &Ctx, many: &dyn Fn(u64)) -> Result<Telling> {
    told_of(ask.call.clone(), ask, &Around { pane, jobs, ctx }, many)
}

fn told<A: Serves>(call: Call, around: &Around, many: &dyn Fn(u64)) -> Result<Telling> {
    told_of(call.clone(), A::of(around.pane, call), around, many)
}

fn told_of<A: Serves>(call: Call, ask: A, around: &Around, many: &dyn Fn(u64)) -> Result<Telling> {
    let mut before = Map::new();
    before.insert("software".into(), json!(format!("Tokenscope {}", crate::VERSION)));
    before.insert("method".into(), json!(call.method));
    before.insert("params".into(), json!(call.params.to_json()));
    if let Some(run) = ask.run() {
        before.insert("model".into(), json!(run.model.title()));
        before.insert("prompt".into(), json!(&*run.prompt));
    }
    match ask.rows_bytes(around)? {
        bytes if bytes > MANY => many(bytes),
        _ => {}
    }
    let product = around.get(&ask)?;
    let Told { found, fields } = ask.tell(&product, around)?;
    if let Value::Object(fields) = fields {
        before.extend(fields);
    }
    let mut behind = Map::new();
    behind.insert("finding".into(), found.json_beside(A::ROWS_IN));
    behind.insert("notes".into(), json!(around.ctx.notes()));
    Ok(Telling { before, rows: A::ROWS_IN.zip(ask.rows(&product, around)), behind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_the_object_with_its_rows_in_their_place() {
        let fields = |v: Value| v.as_object().unwrap().clone();
        let rows: Rows = Box::new(|out| write_rows(out, [json!({ "a": 1 }), json!("x\ny")].iter()));
        let telling = Telling {
            before: fields(json!({ "method": "m", "params": { "k": [1, 2] }, "none": {} })),
            rows: Some(("edges", rows)),
            behind: fields(json!({ "notes": ["two\nlines"] })),
        };
        let text = |t: &Telling| {
            let mut out = Vec::new();
            t.write(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let want = json!({ "method": "m", "params": { "k": [1, 2] }, "none": {}, "edges": [{ "a": 1 }, "x\ny"],
            "notes": ["two\nlines"] });
        assert_eq!(serde_json::from_str::<Value>(&text(&telling)).unwrap(), want);
        let without = Telling { rows: None, ..telling };
        let all: Map<String, Value> = without.before.clone().into_iter().chain(without.behind.clone()).collect();
        assert_eq!(text(&without), serde_json::to_string_pretty(&all).unwrap());
    }
}
