//! The computations that can be asked for, a file each: what names it, how it is carried out, what comes back. The
//! window's jobs and the command line both ask for them.

mod board;
mod compare;
mod cut;
mod decode;
mod edge;
mod estimate;
mod faithful;
mod finding;
mod flow;
mod gather;
mod judge;
mod lens;
mod map;
mod model;
mod next;
mod picture;
mod proof;
mod reduction;
mod score;
mod segment;
mod serves;
mod thumbnails;
mod timeline;
mod trace;
mod truth;
mod verify;

pub use compare::{MinusOf, PairingsOf, Side};
pub use cut::{Cut, CutOf, CutSource, SeriesOf, Whole};
pub use decode::{DraftOf, Drafted, SHARED, Times, TimesOf, call_like};
pub use edge::{EdgeOf, EffectOf};
pub use estimate::EstimateOf;
pub use faithful::{Faithful, FaithfulOf};
pub use finding::FindingOf;
pub use flow::FlowOf;
pub use gather::{Gathered, GatheredOf};
pub use lens::{LensOf, NodeLensOf, SurprisalOf};
pub use map::{AttentionMap, Cells, CellsOf, MAP_SIDE, MapOf, Part};
pub use model::{ModelOf, OpenModel, TokenizerOf, hold_weights, open, open_path};
pub use next::NextOf;
pub use picture::PictureOf;
pub use proof::ProofOf;
pub use reduction::{AnswerOf, AtShareOf, NextReducedOf, Reduced, ReducedOf, RetentionOf, Stage};
pub use score::ScoreOf;
pub use segment::{CutsOf, EncodingsOf, MergesOf, OWN, OtherEncodings, Rows, StripOf, TextStrip, row_name};
pub use serves::{Around, Serves, Telling, Told, TraceFrom, tell, tell_of};
pub use thumbnails::{Thumbnail, ThumbnailsOf};
pub use timeline::{TimelineOf, Written};
pub use trace::TraceOf;
pub use truth::TruthOf;
pub use verify::{Badge, BadgeOf, VerifyOf};

use crate::jobs::Store;
use crate::keys::{ModelSource, RunKey, Scope};
use std::sync::Arc;
use tokenscope_analysis::trace::{Tower, Trace};
use tokenscope_analysis::{Ctx, Result, Subject};

/// Shared values, written as those that they share.
mod whole {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, s: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(s)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(d).map(Arc::new)
    }
}

fn model_of(key: &RunKey, store: &Store, ctx: &Ctx) -> Result<Arc<OpenModel>> {
    store.get(&ModelOf::of(key), ctx)
}

fn trace_of(key: &RunKey, store: &Store, ctx: &Ctx) -> Result<Arc<Trace>> {
    store.get(&TraceOf(key.clone()), ctx)
}

/// The model of a run, unless the run was recorded elsewhere and there are no weights.
fn weights_of(key: &RunKey, store: &Store, ctx: &Ctx) -> Result<Option<Arc<OpenModel>>> {
    match key.model {
        ModelSource::Recorded(_) => Ok(None),
        _ => model_of(key, store, ctx).map(Some),
    }
}

/// The main stack of a run.
fn main_scope(run: &RunKey) -> Scope {
    Scope { run: run.clone(), tower: None }
}

/// The run that methods of `scope` are about.
fn subject<'a>(trace: &'a Trace, scope: &Scope, open: Option<&'a OpenModel>) -> Subject<'a> {
    Subject {
        tower: tower(scope, trace),
        model: open.map(|o| o.model.as_ref()),
        tokenizer: open.and_then(|o| o.tokenizer.as_ref()),
        ..Subject::new(trace)
    }
}

fn tower(scope: &Scope, trace: &Trace) -> Tower {
    scope.tower.filter(|t| trace.towers.contains_key(t)).unwrap_or(trace.main_tower())
}
