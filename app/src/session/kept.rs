//! Results that a session carries where that was asked for: what was computed on its runs, so that it is shown again
//! without being computed, and the hashes of what it was computed from.

use super::input::{Input, text_of};
use super::sound::Sound;
use super::{Lost, Placed, Stamp, State};
use crate::jobs::{Ask, Jobs};
use crate::keys::{ModelSource, RunKey};
use crate::pane::Pane;
use crate::picture_source::PictureSource;
use crate::state::Doc;
use crate::work::{AnswerOf, DraftOf, FaithfulOf, FindingOf, ReducedOf, RetentionOf, ScoreOf, TimelineOf};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// A result of more bytes is not kept: it is computed again.
const LONG: usize = 64 << 20;
/// Results that are kept, at most.
pub(super) const MOST: usize = 1000;

/// The kinds of results that are kept: what asks for each.
macro_rules! kinds {
    ($($name:ident: $ask:ty),* $(,)?) => {
        /// What a result answers.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each is named as what asks for it")]
        pub enum Asked { $($name($ask)),* }

        /// A result that is there, and what it answers.
        #[derive(Clone)]
        #[expect(missing_docs, reason = "each is named as what asks for it")]
        pub enum Live { $($name($ask, Arc<<$ask as Ask>::Out>)),* }

        impl Asked {
            /// The run that it is about.
            fn run(&self) -> Option<&RunKey> {
                match self { $(Self::$name(ask) => ask.run()),* }
            }

            /// Puts what `data` holds into the jobs as its answer. Errors: data that is none of its kind, or does not
            /// hold together.
            fn put(&self, data: &[u8], jobs: &Jobs, notes: Vec<String>) -> Result<(), String> {
                match self { $(Self::$name(ask) => jobs.put(ask, read::<<$ask as Ask>::Out>(data)?, notes)),* }
                Ok(())
            }
        }

        impl Live {
            /// Everything of these kinds that is there.
            fn all(jobs: &Jobs) -> Vec<Self> {
                let mut out = Vec::new();
                $(out.extend(jobs.products::<$ask>().into_iter().map(|(ask, product)| Self::$name(ask, product)));)*
                out
            }

            fn asked(&self) -> Asked {
                match self { $(Self::$name(ask, _) => Asked::$name(ask.clone())),* }
            }

            /// The answer as bytes; `None` of what is made when it is looked at.
            fn data(&self) -> Option<Vec<u8>> {
                match self { $(Self::$name(_, product) => bytes(product.as_ref())),* }
            }
        }
    };
}

kinds! {
    Score: ScoreOf,
    Faithfulness: FaithfulOf,
    Reduction: ReducedOf,
    Retention: RetentionOf,
    Answer: AnswerOf,
    Draft: DraftOf,
    Decode: TimelineOf,
    Finding: FindingOf,
}

/// As CBOR, since JSON has no number that is none.
fn bytes(value: &impl Serialize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).ok()?;
    Some(out).filter(|o| o.len() <= LONG)
}

fn read<T: for<'de> Deserialize<'de> + Sound>(data: &[u8]) -> Result<T, String> {
    let out: T = ciborium::from_reader(data).map_err(|e| e.to_string())?;
    out.sound().map_err(|e| e.to_string())?;
    Ok(out)
}

/// The results on runs of `doc`, in an order of their own.
pub fn results(doc: &Doc, jobs: &Jobs) -> Vec<Live> {
    let panes = || doc.panes().iter().chain(doc.pins.iter().map(|p| &p.pane));
    let shown = |run: &RunKey| panes().any(|p| p.run == *run);
    let mut out: Vec<(String, Live)> = Live::all(jobs)
        .into_iter()
        .filter(|live| live.asked().run().is_some_and(shown))
        .map(|live| (format!("{:?}", live.asked()), live))
        .collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out.into_iter().map(|o| o.1).take(MOST).collect()
}

/// A result of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// What it answers, with the paths and models that were saved.
    pub asked: Asked,
    /// The program that computed it.
    pub software: String,
    /// The models that it was computed with, each with its hash.
    pub models: Vec<(ModelSource, String)>,
    /// Hashes of the pictures that were read.
    pub inputs: Vec<String>,
    data: Vec<u8>,
}

/// A [`Kept`] as a line says it.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptPart<'a> {
    asked: Asked,
    software: String,
    models: Vec<(ModelSource, String)>,
    inputs: Vec<String>,
    bytes: u64,
    #[serde(borrow)]
    base64: Cow<'a, str>,
}

impl Kept {
    /// A result as it is now; `stamp` and `input` give the hashes of a model and of a picture. `None` of what is not kept.
    pub(super) fn of(
        live: &Live,
        placed: &Placed,
        stamp: &mut dyn FnMut(ModelSource) -> Stamp,
        input: &dyn Fn(&PictureSource) -> Vec<String>,
    ) -> Option<Self> {
        let data = live.data()?;
        let asked = placed.as_saved(&live.asked());
        let models = asked.models().into_iter().map(|m| (m.clone(), stamp(m).sha256)).collect();
        let inputs = asked.run().and_then(|r| r.image.as_ref()).map_or_else(Vec::new, input);
        let software = format!("Tokenscope {}", crate::VERSION);
        Some(Self { asked, software, models, inputs, data })
    }

    pub(super) fn part(&self) -> KeptPart<'_> {
        let Self { asked, software, models, inputs, data } = self;
        KeptPart {
            asked: asked.clone(),
            software: software.clone(),
            models: models.clone(),
            inputs: inputs.clone(),
            bytes: data.len() as u64,
            base64: text_of(data).into(),
        }
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// Reads the data of a line; a damaged result is left out, which is said.
    pub(super) fn read(data: &str, intact: bool, lost: &mut Lost) -> Option<Self> {
        let mut bad = |why: String| lost.say(format!("a kept result is lost, and computed again: {why}"));
        let part: KeptPart = serde_json::from_str(data).map_err(|e| bad(e.to_string())).ok()?;
        let KeptPart { asked, software, models, inputs, bytes, base64 } = part;
        let data = STANDARD.decode(base64.as_bytes()).ok().filter(|d| intact && d.len() as u64 == bytes);
        if data.is_none() {
            bad("it is damaged".into());
        }
        Some(Self { asked, software, models, inputs, data: data? })
    }

    /// Shows the result again where it is known to belong to what is there: its models are those that they were, or gone
    /// with its run recorded; its pictures are those of the session.
    ///
    /// Errors: why it is computed again.
    pub(super) fn restore(
        &self,
        placed: &Placed,
        state: &dyn Fn(&ModelSource, &str) -> State,
        inputs: &[Input],
        jobs: &Jobs,
    ) -> Result<(), String> {
        let asked = placed.as_now(&self.asked);
        let recorded = asked.run().is_some_and(|r| matches!(r.model, ModelSource::Recorded(_)));
        for (i, (model, hash)) in self.models.iter().enumerate() {
            // The first is that of the run.
            if state(model, hash) != State::Same && !(recorded && i == 0) {
                return Err(format!("{} is another model now", model.title()));
            }
        }
        let held = |hash: &String| {
            hash.is_empty() || inputs.iter().any(|i| i.sha256 == *hash && (i.content.is_some() || i.stands()))
        };
        if !self.inputs.iter().all(held) {
            return Err("its picture is not there as it was".into());
        }
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let of = |(model, hash): &(ModelSource, String)| format!("{} {}", model.title(), short(hash));
        let models = self.models.iter().map(of).collect::<Vec<_>>().join(", ");
        let pictures = self.inputs.iter().map(|i| short(i)).collect::<Vec<_>>().join(", ");
        let pictures = if pictures.is_empty() { String::new() } else { format!("; picture {pictures}") };
        let note = format!("Kept in the session, not computed again: by {}, of {models}{pictures}", self.software);
        asked.put(&self.data, jobs, vec![note])
    }
}

impl Asked {
    /// The models that it takes, that of the run first.
    fn models(&self) -> Vec<ModelSource> {
        let mut out: Vec<ModelSource> = self.run().map(|r| r.model.clone()).into_iter().collect();
        if let Self::Draft(draft) = self {
            out.push(draft.partner.clone());
        }
        out
    }

    /// The runs that it names, to be changed.
    fn runs_mut(&mut self) -> Vec<&mut RunKey> {
        match self {
            Self::Score(ask) | Self::Faithfulness(FaithfulOf(ask)) => vec![&mut ask.scope.run],
            Self::Reduction(ask) | Self::Retention(RetentionOf(ask)) => vec![&mut ask.scope.run],
            Self::Answer(ask) => {
                std::iter::once(&mut ask.run).chain(ask.reduced.as_mut().map(|r| &mut r.scope.run)).collect()
            }
            Self::Draft(ask) => vec![&mut ask.run],
            Self::Decode(ask) => vec![&mut ask.run],
            Self::Finding(ask) => vec![&mut ask.scope.run],
        }
    }

    fn mapped(&self, to: impl Fn(RunKey) -> RunKey) -> Self {
        let mut out = self.clone();
        out.runs_mut().into_iter().for_each(|run| *run = to(run.clone()));
        out
    }
}

impl Placed {
    /// With the paths and models that the session knows.
    fn as_saved(&self, asked: &Asked) -> Asked {
        asked.mapped(|run| self.original(&Doc::of(Pane { run, ..Pane::default() })).pane().run.clone())
    }

    /// With the paths and recordings that are there now.
    fn as_now(&self, asked: &Asked) -> Asked {
        asked.mapped(|run| self.run_now(run))
    }
}
