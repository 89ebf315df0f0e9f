//! Every method once. Pickers, palette, command line, help, judge, contract tests and atlas read this list.

use crate::decode::{self, draft, reveal};
use crate::finding::Finding;
use crate::method::{Info, Kind, Params};
use crate::raw::Adapter;
use crate::{Ctx, Error, Result, Subject, cache, flow, reduce, score, segment, study};

/// A method of any kind.
#[derive(Clone, Copy)]
pub enum Entry {
    /// A way to cut an input.
    Segment(&'static dyn segment::Method),
    /// A score.
    Score(&'static dyn score::Method),
    /// A reduction.
    Reduce(&'static dyn reduce::Method),
    /// A flow graph.
    Flow(&'static dyn flow::Method),
    /// A way to draft and verify.
    Draft(&'static dyn decode::Method),
    /// A policy of masked-diffusion decoding.
    Reveal(&'static dyn reveal::Method),
    /// A cache policy.
    Cache(&'static dyn cache::Method),
    /// A study.
    Study(&'static dyn study::Method),
}

impl Entry {
    /// What it says about itself.
    pub fn info(self) -> &'static Info {
        match self {
            Entry::Segment(m) => m.info(),
            Entry::Score(m) => m.info(),
            Entry::Reduce(m) => m.info(),
            Entry::Flow(m) => m.info(),
            Entry::Draft(m) => m.info(),
            Entry::Reveal(m) => m.info(),
            Entry::Cache(m) => m.info(),
            Entry::Study(m) => m.info(),
        }
    }

    /// What it finds out about `on`, as pictures. Errors: [`Error::Need`] where the run lacks something.
    pub fn find(self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        match self {
            Entry::Score(m) => Ok(score::run(m, on, params, ctx)?.finding(on.tower)),
            Entry::Flow(m) => Ok(m.graph(on, params, ctx)?.finding()),
            Entry::Cache(m) => cache::run(m, on, params, ctx)?.finding(on),
            Entry::Study(m) => m.find(on, params, ctx),
            Entry::Reduce(m) => reduce::plan(m, on, params, ctx)?.finding(on, None),
            Entry::Draft(m) => Ok(decode::decode(m, on, params, ctx, &mut |_| ())?.finding(&|id| on.word(id), None)),
            Entry::Reveal(m) => Ok(decode::mask::decode(m, on, params, ctx, &mut |_| ())?.finding(&|id| on.word(id))),
            Entry::Segment(_) => {
                let (id, noun) = (self.info().id, self.info().kind.noun());
                Err(Error::invalid(format!("{id} is a {noun}, which is shown in the view of its kind")))
            }
        }
    }
}

/// Every method, in the order of their kinds and of each kind's own list.
pub fn all() -> impl Iterator<Item = Entry> {
    (segment::all().map(Entry::Segment))
        .chain(score::ALL.iter().map(|m| Entry::Score(*m)))
        .chain(reduce::all().map(Entry::Reduce))
        .chain(flow::ALL.iter().map(|m| Entry::Flow(*m)))
        .chain(draft::ALL.iter().map(|m| Entry::Draft(*m)))
        .chain(reveal::ALL.iter().map(|m| Entry::Reveal(*m)))
        .chain(cache::ALL.iter().map(|m| Entry::Cache(*m)))
        .chain(study::all().map(Entry::Study))
}

/// What the methods of a kind say about themselves.
pub fn of(kind: Kind) -> impl Iterator<Item = &'static Info> {
    all().map(Entry::info).filter(move |i| i.kind == kind)
}

/// The method of that id. The error lists the known ones.
pub fn find(id: &str) -> Result<Entry> {
    all().find(|e| e.info().id == id).ok_or_else(|| unknown("method", id, all().map(|e| e.info().id)))
}

/// What the method of that kind and id says about itself. The error lists the known ones.
pub fn info(kind: Kind, id: &str) -> Result<&'static Info> {
    of(kind).find(|i| i.id == id).ok_or_else(|| unknown(kind.noun(), id, of(kind).map(|i| i.id)))
}

/// What a window shows first of a kind; `None` where the kind has no method.
pub fn first(kind: Kind) -> Option<&'static Info> {
    of(kind).find(|i| i.first).or_else(|| of(kind).next())
}

/// What every method says about itself, and what those do that compute on raw arrays alone: no run can be shown with
/// them, so that [`all`] leaves them out.
pub fn infos() -> impl Iterator<Item = &'static Info> {
    all().map(Entry::info).chain(study::decoding::ARRAYS.iter().copied())
}

/// The entries for raw arrays, alphabetical.
pub fn adapters() -> Vec<&'static Adapter> {
    let mut all: Vec<&'static Adapter> = infos().flat_map(|i| i.raw).collect();
    all.sort_by_key(|a| a.name);
    all
}

/// The entry for raw arrays of that name. The error lists the known ones.
pub fn raw(name: &str) -> Result<&'static Adapter> {
    let all = adapters();
    let known = || unknown("raw entry", name, all.iter().map(|a| a.name));
    all.iter().copied().find(|a| a.name == name).ok_or_else(known)
}

fn unknown(kind: &'static str, name: &str, known: impl Iterator<Item = &'static str>) -> Error {
    Error::Unknown { kind, name: name.into(), known: known.collect::<Vec<_>>().join(", ") }
}
