//! Decodes ahead with a draft method and measures it against a plain decode.

use super::{Around, ModelOf, OpenModel, Serves, Told, TraceFrom, model_of, trace_of};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, ModelSource, RunKey};
use crate::pane::Pane;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokenscope_analysis::decode::{DraftRun, NodeState, Pace, decode_at_most, draft};
use tokenscope_analysis::finding::{Figure, Finding};
use tokenscope_analysis::method::{Domain, Info, Kind, Need, Params};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{Tower, Trace};
use tokenscope_analysis::{Ctx, Result, Subject, catalog};

/// A whole decode. While it goes on, the rounds so far are shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct DraftOf {
    /// The run whose input is gone on from.
    pub run: RunKey,
    /// The model that drafts, for methods that need one.
    pub partner: ModelSource,
    /// The method.
    pub call: Call,
    /// Rounds at most; `None` goes on until the text is long enough.
    pub rounds: Option<usize>,
}

/// A decode and the text of its tokens.
#[derive(serde::Serialize, serde::Deserialize)]
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

/// How fast a decode was.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Times {
    /// Its times and those of its passes.
    pub pace: Pace,
    /// Whether no other job computed before, between and after.
    pub alone: bool,
}

impl Drafted {
    /// Its figures with their definitions; those of time where it has its times, or these.
    pub fn figures(&self, times: Option<&Times>) -> Vec<Figure> {
        self.run.figures(times.or(self.times.as_ref()).map(|t| &t.pace))
    }
}

impl Ask for DraftOf {
    type Out = Drafted;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Drafted> {
        let prompt = Prompt::new(self, store, ctx)?;
        let n_prompt = prompt.on().ids().len();
        let (mut texts, mut next) = (Texts::default(), Instant::now());
        let mut so_far = |run: &DraftRun| {
            let now = Instant::now();
            // Each look is a copy of all rounds, which takes a tenth of the time at most. The first ones are few.
            if run.rounds.len() > FIRST && now < next {
                return;
            }
            if let Ok(d) = prompt.drafted(run.clone(), &mut texts, n_prompt, None) {
                store.show::<Self>(d);
            }
            next = now + 10 * now.elapsed();
        };
        let (run, times) = decoded(&prompt, self, &mut so_far, store, ctx)?;
        prompt.drafted(run, &mut texts, n_prompt, Some(times))
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.run)
    }
}

impl Serves for DraftOf {
    fn of(pane: &Pane, call: Call) -> Self {
        Self { run: pane.run.clone(), partner: pane.partner.clone(), call, rounds: None }
    }

    fn found<'a>(&self, d: &'a Drafted, _: &TraceFrom) -> Result<Cow<'a, Finding>> {
        let word = |id: u32| d.text.get(&id).cloned().unwrap_or_default();
        let pace = d.times.map(|t| t.pace);
        Ok(Cow::Owned(d.run.finding(&word, pace.as_ref())))
    }

    fn tell<'a>(&self, d: &'a Drafted, around: &Around) -> Result<Told<'a>> {
        let pace = d.times.map(|t| t.pace);
        let open = around.get(&ModelOf::of(&self.run))?;
        let fields = json!({
            "draft_model": self.partner.title(), "tokens_per_round": d.run.tokens_per_round(),
            "text": d.whole, "run": told(d, open.tokenizer.as_ref())?, "times": pace, "undisturbed": d.times.map(|t| t.alone),
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
        Ok(decoded(&prompt, &self.0, &mut |_| (), store, ctx)?.1)
    }

    fn run(&self) -> Option<&RunKey> {
        self.0.run()
    }
}

/// What is gone on from, and with which models.
pub(super) struct Prompt {
    pub(super) open: Arc<OpenModel>,
    small: Option<Arc<OpenModel>>,
    trace: Arc<Trace>,
    /// The text alone, for the draft model, where the target reads a picture, too.
    text: Option<Vec<u32>>,
}

impl Prompt {
    pub(super) fn new(ask: &DraftOf, store: &Store, ctx: &Ctx) -> Result<Self> {
        let open = model_of(&ask.run, store, ctx)?;
        let drafts = draft::find(ask.call.method)?.info().needs.contains(&Need::DraftModel);
        let small = if drafts { Some(store.get(&ModelOf(ask.partner.clone(), ask.run.placement), ctx)?) } else { None };
        let tokenizer = open.text()?;
        let trace = trace_of(&ask.run, store, ctx)?;
        let text = match trace.image {
            Some(_) => Some(tokenizer.encode(&ask.run.prompt, None, true)?.ids),
            None => None,
        };
        Ok(Self { open, small, trace, text })
    }

    /// A decode with its texts; `texts` holds those of the rounds that were there before, and gets the others.
    fn drafted(&self, run: DraftRun, texts: &mut Texts, n_prompt: usize, times: Option<Times>) -> Result<Drafted> {
        let tokenizer = self.open.tokenizer.as_ref();
        texts.add(&run, tokenizer)?;
        let whole = tokenizer.map_or(Ok(String::new()), |t| t.decode(&run.output(), true))?;
        let Texts { rounds, words } = texts.clone();
        Ok(Drafted { run, text: words, rounds, whole, n_prompt, times })
    }

    pub(super) fn on(&self) -> Subject<'_> {
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
    ask: &DraftOf,
    watch: &mut dyn FnMut(&DraftRun),
    store: &Store,
    ctx: &Ctx,
) -> Result<(DraftRun, Times)> {
    let (on, method) = (prompt.on(), draft::find(ask.call.method)?);
    // Times are worth something only where nothing else took the cores meanwhile.
    let mut alone = store.others() == 0;
    let run = decode_at_most(ask.rounds.unwrap_or(usize::MAX), method, &on, &ask.call.params, ctx, watch)?;
    alone &= store.others() == 0;
    let pace = Pace::of(&run, method, &on, ctx)?;
    alone &= store.others() == 0;
    Ok((run, Times { pace, alone }))
}

/// A call of `info` that drafts as many nodes and tokens as `like` does, as far as its ranges go, at the same
/// temperature and from the same random numbers.
pub fn call_like(info: &'static Info, params: Params, like: &Call) -> Call {
    let own = catalog::info(Kind::Draft, like.method).ok();
    let mut out = params;
    if let (Some(p), Some(q)) = (info.budget, own.and_then(|i| i.budget))
        && let Domain::Count { min, max, .. } = p.domain
    {
        out = out.set(p.key, like.params.count(q).clamp(min, max));
    }
    for key in SHARED {
        if let (Some(p), Some(q)) = (info.param(key), own.and_then(|i| i.param(key))) {
            out.insert(p.key, like.params.value(q));
        }
    }
    Call { method: info.id, params: out }
}

/// Parameters that two decodes have to share to be compared.
pub const SHARED: [&str; 5] = ["new_tokens", "temperature", "top_k", "top_p", "seed"];

/// Rounds of which each is shown as soon as it is there.
const FIRST: usize = 16;
/// Tokens before a text that say how it is spelled: a space at its start, a character that began before it.
const AROUND: usize = 32;

/// The texts of a decode as it grows.
#[derive(Clone, Default)]
struct Texts {
    /// What each round adds.
    rounds: Vec<String>,
    /// Every id that occurs, standing alone.
    words: BTreeMap<u32, String>,
}

impl Texts {
    /// Adds those of the rounds of `run` that are new.
    fn add(&mut self, run: &DraftRun, tokenizer: Option<&Tokenizer>) -> Result<()> {
        let known = run.rounds.iter().take(self.rounds.len()).flat_map(|r| &r.emitted);
        let mut before: Vec<u32> = run.prompt.iter().chain(known).copied().collect();
        for r in run.rounds.iter().skip(self.rounds.len()) {
            let ids = r.nodes.iter().map(|n| n.token).chain(r.emitted.iter().copied());
            let learnt =
                r.learnt.iter().flat_map(|l| [l.token].into_iter().chain(l.before.iter().chain(&l.after).copied()));
            for id in ids.chain(r.own_from.iter().map(|f| f.0)).chain([r.root]).chain(learnt) {
                let word = || tokenizer.map_or_else(|| format!("<{id}>"), |t| t.token_text(id));
                self.words.entry(id).or_insert_with(word);
            }
            self.rounds.push(tokenizer.map_or(Ok(String::new()), |t| after(t, &before, &r.emitted))?);
            before.extend(&r.emitted);
        }
        Ok(())
    }
}

/// The text that `ids` add behind `before`.
fn after(tokenizer: &Tokenizer, before: &[u32], ids: &[u32]) -> Result<String> {
    tokenizer.decode_after(&before[before.len().saturating_sub(AROUND)..], ids)
}

/// A decode as scripts read it: what [`DraftRun`] has, with the text of everything, and of each round what comes before
/// it, its deciding node, and what the target's own token was drawn from there.
fn told(d: &Drafted, tokenizer: Option<&Tokenizer>) -> Result<Value> {
    let word = |id: u32| match d.text.get(&id) {
        Some(known) => known.clone(),
        None => tokenizer.map_or_else(|| format!("<{id}>"), |t| t.token_text(id)),
    };
    let mut run = json!(d.run);
    let (mut prefix, mut before) = (String::new(), d.run.prompt.clone());
    let told = run.get_mut("rounds").and_then(Value::as_array_mut).into_iter().flatten();
    for ((i, round), told) in d.run.rounds.iter().enumerate().zip(told) {
        let deciding = round.deciding();
        let rest = 1.0 - round.own_from.iter().map(|f| f64::from(f.1)).sum::<f64>();
        let refused = round.nodes.iter().any(|n| n.state == NodeState::Rejected && n.parent == deciding);
        let from = |&(id, p): &(u32, f32)| json!({ "token": id, "text": word(id), "p": p });
        told["index"] = json!(i);
        told["root_text"] = json!(word(round.root));
        told["next_text"] = json!(word(round.next));
        told["text"] = json!(d.rounds.get(i));
        told["prefix"] = json!(prefix);
        told["deciding"] = json!({
            "node": deciding, "own": round.emitted.get(round.accepted().len()),
            "kind": if refused { "residual" } else { "target" },
            "distribution": round.own_from.iter().map(from).collect::<Vec<_>>(), "rest": rest.max(0.0),
        });
        let mut paths: Vec<Vec<u32>> = Vec::with_capacity(round.nodes.len());
        let nodes = told["nodes"].as_array_mut().into_iter().flatten();
        for ((k, n), told) in round.nodes.iter().enumerate().zip(nodes) {
            let mut path = n.parent.and_then(|p| paths.get(p)).cloned().unwrap_or_default();
            path.push(n.token);
            told["index"] = json!(k);
            told["text"] = json!(word(n.token));
            told["next_text"] = json!(word(n.next));
            told["path"] = json!(tokenizer.map_or(Ok(String::new()), |t| after(t, &before, &path))?);
            paths.push(path);
        }
        prefix += d.rounds.get(i).map_or("", String::as_str);
        before.extend(&round.emitted);
    }
    Ok(run)
}
