//! Decodes ahead with a draft method and measures it against a plain decode.

use super::{Around, ModelOf, OpenModel, Serves, Told, TraceFrom, model_of, trace_of};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, ModelSource, RunKey};
use crate::pane::Pane;
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokenscope_analysis::decode::{DraftRun, decode, draft};
use tokenscope_analysis::finding::Finding;
use tokenscope_analysis::image::ImageInput;
use tokenscope_analysis::method::Need;
use tokenscope_analysis::model::Model;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Tower, Trace};
use tokenscope_analysis::{Ctx, Result, Subject};

/// A whole decode. While it goes on, the rounds so far are shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DraftOf {
    /// The run whose input is gone on from.
    pub run: RunKey,
    /// The model that drafts, for methods that need one.
    pub partner: ModelSource,
    /// The method.
    pub call: Call,
}

/// A decode and the text of its tokens.
pub struct Drafted {
    /// The rounds.
    pub run: DraftRun,
    /// Text of every id that occurs, standing alone.
    pub text: BTreeMap<u32, String>,
    /// The text that each round adds. A character may be cut between two.
    pub rounds: Vec<String>,
    /// All of the new text.
    pub whole: String,
    /// Number of tokens of the prompt.
    pub n_prompt: usize,
    /// How long it took; `None` while it goes on.
    pub times: Option<Times>,
}

/// How long a decode took, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// The decode, its own check left out.
    pub own: f64,
    /// A plain greedy decode of as many tokens, right after it.
    pub plain: f64,
    /// A pass of the target, decoding one by one.
    pub target: f64,
    /// A pass of the draft model, decoding one by one; 0 without one.
    pub draft: f64,
    /// Whether no other job computed before, between and after.
    pub alone: bool,
}

impl Ask for DraftOf {
    type Out = Drafted;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Drafted> {
        let prompt = Prompt::new(self, store, ctx)?;
        let n_prompt = prompt.on().ids().len();
        let mut rounds = Vec::new();
        let mut so_far = |run: &DraftRun| {
            if let Ok(d) = prompt.drafted(run.clone(), &mut rounds, n_prompt, None) {
                store.show::<Self>(d);
            }
        };
        let (run, times) = decoded(&prompt, &self.call, &mut so_far, store, ctx)?;
        prompt.drafted(run, &mut rounds, n_prompt, Some(times))
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.run)
    }
}

impl Serves for DraftOf {
    fn of(pane: &Pane, call: Call) -> Self {
        Self { run: pane.run.clone(), partner: pane.partner.clone(), call }
    }

    fn found<'a>(&self, d: &'a Drafted, _: &TraceFrom) -> Result<Cow<'a, Finding>> {
        let word = |id: u32| d.text.get(&id).cloned().unwrap_or_default();
        Ok(Cow::Owned(d.run.finding(&word)))
    }

    fn tell<'a>(&self, d: &'a Drafted, around: &Around) -> Result<Told<'a>> {
        let fields = json!({
            "draft_model": self.partner.title(), "tokens_per_round": d.run.tokens_per_round(),
            "text": d.whole, "run": d.run,
        });
        Ok(Told { found: self.found(d, &|| around.trace(&self.run))?, fields })
    }
}

/// The times of such a decode, taken again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TimesOf(pub DraftOf);

impl Ask for TimesOf {
    type Out = Times;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Times> {
        let prompt = Prompt::new(&self.0, store, ctx)?;
        Ok(decoded(&prompt, &self.0.call, &mut |_| (), store, ctx)?.1)
    }

    fn run(&self) -> Option<&RunKey> {
        self.0.run()
    }
}

/// What is gone on from, and with which models.
struct Prompt {
    open: Arc<OpenModel>,
    small: Option<Arc<OpenModel>>,
    trace: Arc<Trace>,
    /// The text alone, for the draft model, where the target reads a picture, too.
    text: Option<Vec<u32>>,
}

impl Prompt {
    fn new(ask: &DraftOf, store: &Store, ctx: &Ctx) -> Result<Self> {
        let open = model_of(&ask.run, store, ctx)?;
        let drafts = draft::find(ask.call.method)?.info().needs.contains(&Need::DraftModel);
        let small = if drafts { Some(store.get(&ModelOf(ask.partner.clone()), ctx)?) } else { None };
        let tokenizer = open.text()?;
        let trace = trace_of(&ask.run, store, ctx)?;
        let text = match trace.image {
            Some(_) => Some(tokenizer.encode(&ask.run.prompt, None, true)?.ids),
            None => None,
        };
        Ok(Self { open, small, trace, text })
    }

    /// A decode with its texts. `rounds` holds those of the rounds that were there before, and gets the others.
    fn drafted(
        &self,
        run: DraftRun,
        rounds: &mut Vec<String>,
        n_prompt: usize,
        times: Option<Times>,
    ) -> Result<Drafted> {
        let tokenizer = self.open.tokenizer.as_ref();
        let text = words(&run, tokenizer);
        let known = run.rounds.iter().take(rounds.len()).flat_map(|r| &r.emitted);
        let mut before: Vec<u32> = run.prompt.iter().chain(known).copied().collect();
        for r in run.rounds.iter().skip(rounds.len()) {
            rounds.push(tokenizer.map_or(Ok(String::new()), |t| t.decode_after(&before, &r.emitted))?);
            before.extend(&r.emitted);
        }
        let whole = tokenizer.map_or(Ok(String::new()), |t| t.decode(&run.output(), true))?;
        Ok(Drafted { run, text, rounds: rounds.clone(), whole, n_prompt, times })
    }

    fn on(&self) -> Subject<'_> {
        Subject {
            tokenizer: self.open.tokenizer.as_ref(),
            partner: self.small.as_ref().map(|s| s.model.as_ref()),
            partner_tokenizer: self.small.as_ref().and_then(|s| s.tokenizer.as_ref()),
            partner_ids: self.text.as_deref(),
            ..Subject::new(&self.trace).with_model(self.open.model.as_ref()).of(Tower::Text)
        }
    }
}

/// The decode, whose rounds so far `watch` sees, with the times that a speed-up is made of.
fn decoded(
    prompt: &Prompt,
    call: &Call,
    watch: &mut dyn FnMut(&DraftRun),
    store: &Store,
    ctx: &Ctx,
) -> Result<(DraftRun, Times)> {
    let on = prompt.on();
    // Times are worth something only where nothing else took the cores meanwhile.
    let mut alone = store.others() == 0;
    let start = Instant::now();
    let (mut last, mut watching) = (start, std::time::Duration::ZERO);
    // The check against the greedy text comes after the last round and does not count, nor does what shows the rounds.
    let mut round = |run: &DraftRun| {
        last = Instant::now();
        watch(run);
        watching += last.elapsed();
    };
    let run = decode(draft::find(call.method)?, &on, &call.params, ctx, &mut round)?;
    let own = (last.duration_since(start).saturating_sub(watching)).as_secs_f64();
    let (n, ids) = (run.output().len(), on.ids());
    let per_token = |secs: f64| secs / n.max(1) as f64;
    alone &= store.others() == 0;
    let plain = greedy_secs(prompt.open.model.as_ref(), &ids, prompt.trace.image.as_ref(), n, ctx)?;
    alone &= store.others() == 0;
    let draft = match on.partner {
        Some(small) => {
            // A smaller table may lack ids of the prompt; which ids they are makes no difference to the time.
            let known = |id: &u32| if (*id as usize) < small.info().vocab { *id } else { 0 };
            let ids: Vec<u32> = on.partner_ids.unwrap_or(&ids).iter().map(known).collect();
            per_token(greedy_secs(small, &ids, None, n, ctx)?)
        }
        None => 0.0,
    };
    alone &= store.others() == 0;
    Ok((run, Times { own, plain, target: per_token(plain), draft, alone }))
}

/// Text of every id that occurs in a decode.
fn words(run: &DraftRun, tokenizer: Option<&Tokenizer>) -> BTreeMap<u32, String> {
    let mut words = BTreeMap::new();
    let ids = run
        .rounds
        .iter()
        .flat_map(|r| r.nodes.iter().map(|n| n.token).chain(r.emitted.iter().copied()).chain([r.root]));
    for id in ids {
        words.entry(id).or_insert_with(|| tokenizer.map_or_else(|| format!("<{id}>"), |t| t.token_text(id)));
    }
    words
}

/// Seconds for `n` tokens decoded one by one, the prompt's own pass included.
fn greedy_secs(model: &dyn Model, prompt: &[u32], image: Option<&ImageInput>, n: usize, ctx: &Ctx) -> Result<f64> {
    let (ids, image) = (Some(prompt.to_vec()), image.cloned());
    let request = RunRequest { ids, image, greedy: n.max(1), ..RunRequest::default() };
    let start = Instant::now();
    run(model, None, &request, &CaptureSpec::sites(&[]), ctx)?;
    Ok(start.elapsed().as_secs_f64())
}
