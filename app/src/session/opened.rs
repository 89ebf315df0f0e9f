//! A session as it is on this machine: which of its models and files are there, and what stands in for those that are
//! not.

use super::{Kept, Placed, Session, Stamp, State};
use crate::jobs::Jobs;
use crate::keys::ModelSource;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use tokenscope_analysis::Result;

/// A session that can be shown.
#[derive(Debug)]
pub struct Opened {
    /// The session; its document names files and recordings where they are now.
    pub session: Session,
    /// What was unpacked for it.
    pub placed: Placed,
    /// What the user should know: what was lost, which models are others now.
    pub remarks: Vec<String>,
    /// Whether it carries results.
    pub keeps_results: bool,
    /// What became of the models.
    states: Vec<(ModelSource, State)>,
}

impl Opened {
    /// Opens the session at `path` as far as it can be shown here.
    ///
    /// Errors: those of [`Session::open`]; no room for its files.
    pub fn open(path: &Path) -> Result<Self> {
        Session::open(path)?.settle()
    }

    /// Has the results that the session carries shown again by `jobs`, those that belong to what is there; says which do
    /// not.
    pub fn restore(&mut self, jobs: &Jobs) {
        let stamped = |source: &ModelSource, hash: &str| {
            self.session.models.iter().find(|m| m.source == *source).is_some_and(|m| m.sha256 == hash)
        };
        // A model takes long to hash, and many results may name it.
        let others: RefCell<HashMap<(ModelSource, String), State>> = RefCell::default();
        let state = |source: &ModelSource, hash: &str| {
            // What became of the session's model says nothing about a result of another one.
            let known = self.states.iter().find(|s| s.0 == *source && stamped(source, hash)).map(|s| s.1);
            let look = || Stamp { sha256: hash.into(), ..Stamp::of(source) }.state();
            known.unwrap_or_else(|| *others.borrow_mut().entry((source.clone(), hash.to_string())).or_insert_with(look))
        };
        let mut why: Vec<String> = Vec::new();
        let restored = |kept: &Kept| kept.restore(&self.placed, &state, &self.session.inputs, jobs);
        why.extend(self.session.results.iter().filter_map(|kept| restored(kept).err()));
        let n = why.len();
        why.sort_unstable();
        why.dedup();
        if n > 0 {
            let s = if n == 1 { " is" } else { "s are" };
            self.remarks.push(format!("{n} kept result{s} computed again: {}", why.join("; ")));
        }
        // They may be large, and the jobs have them now.
        self.session.results.clear();
    }
}

impl Session {
    /// What can be shown of the session here. The same picture comes first: where a model is gone or another one, its
    /// recorded runs are shown.
    ///
    /// Errors: no room for its files.
    pub fn settle(mut self) -> Result<Opened> {
        let mut remarks: Vec<String> = self.lost.words().collect();
        let mut placed = Placed::default();
        let mut states: Vec<(ModelSource, State)> = Vec::new();
        for source in super::model::models_of(&self.doc) {
            let stamp = self.models.iter().find(|m| m.source == source);
            // Of a model that nothing is remembered of, it counts whether there is one.
            let state =
                stamp.map_or_else(|| Stamp { sha256: String::new(), ..Stamp::of(&source) }.state(), Stamp::state);
            states.push((source, state));
        }
        let not_same = |m: &ModelSource| states.iter().any(|(s, state)| s == m && *state != State::Same);
        let before: Vec<ModelSource> = self.doc.panes().iter().map(|p| p.run.model.clone()).collect();
        placed.recordings(&mut self.doc, &self.recordings, &not_same)?;
        placed.files(&mut self.doc, &self.inputs)?;
        for (source, state) in &states {
            let shown = || self.doc.panes().iter().zip(&before).filter(|(_, b)| *b == source);
            let recorded = shown().count() > 0 && shown().all(|(p, b)| p.run.model != *b);
            remarks.extend(words(source, *state, recorded));
        }
        for input in &self.inputs {
            if input.content.is_none() && !input.stands() {
                let (what, path) = (input.kind.noun(), input.path.display());
                remarks.push(format!("the {what} {path} is not there as it was, and the session does not hold it"));
            }
        }
        let keeps_results = !self.results.is_empty();
        Ok(Opened { session: self, placed, remarks, keeps_results, states })
    }
}

/// What is to be said of a model; `recorded` says whether its recorded run is shown instead.
fn words(source: &ModelSource, state: State, recorded: bool) -> Option<String> {
    let name = source.title();
    let place = match source {
        ModelSource::Sample(_) => "in this version of the program".to_string(),
        ModelSource::Path(p) | ModelSource::Recorded(p) => format!("at {}", p.display()),
    };
    let what = match state {
        State::Same => return None,
        State::Other => format!("the model {name} {place} is another one than when the session was saved"),
        State::Gone => format!("the model {name} is not there any more {place}"),
    };
    Some(match (recorded, state) {
        (true, _) => format!("{what}; its recorded run is shown"),
        (false, State::Other) => format!("{what}; numbers may differ"),
        (false, _) => format!("{what}; put it back and retry, or choose another one"),
    })
}
