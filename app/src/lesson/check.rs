//! Checks what a step claims against what is computed, on the lesson's model or on the user's.

use super::claim::{Claim, Quantity, Target, Test};
use super::token::TokenAt;
use super::{Lesson, Step};
use crate::jobs::{Ask, Store};
use crate::keys::{CutKey, ModelSource, RunKey};
use crate::pane::Pane;
use crate::views;
use crate::work::{
    AnswerOf, CutsOf, DraftOf, FindingOf, FlowOf, ModelOf, NodeLensOf, OWN, OpenModel, ReducedOf, ScoreOf, Serves as _,
    SurprisalOf, TimelineOf, TraceOf, TruthOf,
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokenscope_analysis::flow::{Node, Part};
use tokenscope_analysis::lens::Guess;
use tokenscope_analysis::method::{Kind, Need};
use tokenscope_analysis::passes::attention_map;
use tokenscope_analysis::reduce::Fate;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::token::{Token, TokenKind};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Tower, TowerTrace, Trace};
use tokenscope_analysis::truth::{Agreement, true_tokens};
use tokenscope_analysis::{Ctx, Error, Result, Subject, catalog};

/// Checks a step: whether the model serves it, and whether its claims hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChecksOf {
    /// The lesson.
    pub lesson: Arc<Lesson>,
    /// The step, from 0.
    pub step: usize,
    /// The user's own model; `None` is the lesson's.
    pub own: Option<ModelSource>,
}

/// How a step came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Checks {
    /// What the model lacks for what the step shows, in words.
    pub lacks: Option<String>,
    /// Its claims, in their order.
    pub claims: Vec<Checked>,
}

impl Checks {
    /// The claims that do not hold or could not be checked.
    pub fn failures(&self) -> impl Iterator<Item = &Checked> {
        self.claims.iter().filter(|c| !c.holds)
    }
}

/// How a claim came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Where it stands, as `step 3, claims[1]`.
    pub place: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was found and what was claimed.
    pub words: String,
}

impl Ask for ChecksOf {
    type Out = Checks;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Checks> {
        let steps = &self.lesson.steps;
        let step = steps.get(self.step).ok_or_else(|| Error::invalid(format!("there is no step {}", self.step + 1)))?;
        let mut pane = step.pane(self.own.as_ref());
        let trace = store.get(&TraceOf(pane.run.clone()), ctx)?;
        let recorded = matches!(pane.run.model, ModelSource::Recorded(_));
        let open = if recorded { None } else { Some(store.get(&ModelOf::of(&pane.run), ctx)?) };
        let missing = step.aim(&mut pane, &trace).err();
        let lacks = match lacks(step, &pane, &trace, open.as_deref(), store, ctx)? {
            None => missing,
            some => some,
        };
        let mut claims = Vec::with_capacity(step.claims.len());
        for (i, claim) in step.claims.iter().enumerate() {
            ctx.step(i, step.claims.len())?;
            let look = Look { pane: &pane, trace: &trace, open: open.as_deref(), store, ctx };
            let (holds, words) = match look.answer(&claim.of).and_then(|a| look.compare(claim, a)) {
                Ok(checked) => checked,
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(why) => (false, format!("it cannot be checked: {why}")),
            };
            claims.push(Checked { place: claim.place.clone(), holds, words });
        }
        Ok(Checks { lacks, claims })
    }
}

/// What the model lacks for the methods and needs of a step, in words.
fn lacks(
    step: &Step,
    pane: &Pane,
    trace: &Trace,
    open: Option<&OpenModel>,
    store: &Store,
    ctx: &Ctx,
) -> Result<Option<String>> {
    let shown = |kind: Kind| step.view.is_none_or(|v| views::ALL[v].shows.contains(&kind));
    let calls = Kind::ALL.into_iter().filter(|k| shown(*k)).filter_map(|k| pane.choices.get(k));
    let mut all: Vec<Need> = step.needs.clone();
    for call in calls {
        all.extend(catalog::find(call.method)?.info().needs);
    }
    let partner = match all.contains(&Need::DraftModel) {
        true => Some(store.get(&ModelOf(pane.partner.clone(), pane.run.placement), ctx)?),
        false => None,
    };
    let on = Subject {
        tower: pane.tower_of(trace),
        model: open.map(|m| m.model.as_ref()),
        tokenizer: open.and_then(|m| m.tokenizer.as_ref()),
        partner: partner.as_ref().map(|m| m.model.as_ref()),
        partner_tokenizer: partner.as_ref().and_then(|m| m.tokenizer.as_ref()),
        ..Subject::new(trace)
    };
    Ok(all.into_iter().find_map(|need| on.lacks_need(need)))
}

/// What is found where a claim looks.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Number(f64),
    Text(String),
    Flag(bool),
    /// A token, by its number and text.
    Token(usize, String),
}

impl Answer {
    fn words(&self) -> String {
        match self {
            Answer::Number(v) if v.fract() == 0.0 && v.abs() < 1e9 => format!("{v}"),
            Answer::Number(v) => format!("{v:.4}"),
            Answer::Text(t) => format!("{t:?}"),
            Answer::Flag(f) => if *f { "true" } else { "false" }.into(),
            Answer::Token(i, t) => format!("token {i} {t:?}"),
        }
    }
}

/// Where claims look.
struct Look<'a> {
    pane: &'a Pane,
    trace: &'a Trace,
    open: Option<&'a OpenModel>,
    store: &'a Store<'a>,
    ctx: &'a Ctx,
}

impl Look<'_> {
    fn run(&self) -> RunKey {
        self.pane.run.clone()
    }

    fn tower(&self) -> Result<&TowerTrace> {
        self.trace.tower(self.pane.tower_of(self.trace))
    }

    fn find(&self, at: &TokenAt, tower: &TowerTrace) -> Result<usize> {
        at.find(&tower.tokens).map_err(Error::invalid)
    }

    fn token(&self, i: usize, tower: &TowerTrace) -> Answer {
        Answer::Token(i, tower.tokens.get(i).map_or_else(String::new, |t| t.text.clone()))
    }

    fn text<'t>(&'t self, own: Option<&'t str>) -> &'t str {
        own.unwrap_or(&self.pane.run.prompt)
    }

    fn answer(&self, of: &Quantity) -> Result<Answer> {
        let (store, ctx) = (self.store, self.ctx);
        let number = |n: usize| Ok(Answer::Number(n as f64));
        match of {
            Quantity::Tokens { row, text } => {
                let text = self.text(text.as_deref()).into();
                let named = match row.as_deref().filter(|r| *r != OWN) {
                    None => Vec::new(),
                    Some(row) => vec![
                        tokenscope_analysis::segment::text::names()
                            .find(|n| *n == row)
                            .ok_or_else(|| Error::invalid(format!("no row of the segmentation is named {row}")))?,
                    ],
                };
                let name = named.first().copied().unwrap_or(OWN);
                let key = CutKey {
                    model: self.pane.run.model.clone(),
                    placement: self.pane.run.placement,
                    text,
                    files: Vec::new(),
                    named,
                };
                let rows = store.get(&CutsOf(key), ctx)?;
                let row = rows.rows.iter().find(|r| r.name == name);
                number(row.ok_or_else(|| Error::invalid("this model has no tokenizer"))?.pieces.len())
            }
            Quantity::Bytes(text) => number(self.text(text.as_deref()).len()),
            Quantity::Characters(text) => number(self.text(text.as_deref()).chars().count()),
            Quantity::Token(at) => {
                let tower = self.tower()?;
                Ok(self.token(self.find(at, tower)?, tower))
            }
            Quantity::Count { image } => {
                let of = |k: TokenKind| image.is_none_or(|image| image == (k == TokenKind::Image));
                number(self.tower()?.tokens.iter().filter(|t| of(t.kind)).count())
            }
            Quantity::Predicts { at, level, rank } => {
                let list = self.predicted(at, *level)?;
                let entry =
                    list.get(rank - 1).ok_or_else(|| Error::invalid(format!("no {rank} tokens are predicted")))?;
                Ok(Answer::Text(entry.text.clone()))
            }
            Quantity::Chance { of, at, level } => {
                let list = self.predicted(at, *level)?;
                let entry = list.iter().find(|e| e.text == *of);
                let entry = entry.ok_or_else(|| {
                    let all: Vec<&str> = list.iter().map(|e| e.text.as_str()).collect();
                    Error::invalid(format!("{of:?} is not among the first {}: {all:?}", all.len()))
                })?;
                Ok(Answer::Number(f64::from(entry.p)))
            }
            Quantity::Largest { call, besides } => {
                let tower = self.tower()?;
                let besides = besides.iter().map(|b| self.find(b, tower)).collect::<Result<Vec<usize>>>()?;
                let s = store.get(&ScoreOf::of(self.pane, call.on(self.pane)), ctx)?;
                let all = s.values.iter().enumerate().filter(|(i, _)| !besides.contains(i));
                let competing = all.filter_map(|(i, v)| Some((i, (*v)?)));
                let best = competing.reduce(|best, next| if next.1 > best.1 { next } else { best });
                Ok(self.token(best.ok_or_else(|| Error::invalid("no token has a score"))?.0, tower))
            }
            Quantity::Score { call, at } => {
                let i = self.find(at, self.tower()?)?;
                let s = store.get(&ScoreOf::of(self.pane, call.on(self.pane)), ctx)?;
                let value = s.values.get(i).copied().flatten();
                value.map(|v| Answer::Number(v.into())).ok_or_else(|| Error::invalid("the score says nothing of it"))
            }
            Quantity::Hit(call) => {
                let shares = self.shares()?;
                let s = store.get(&ScoreOf::of(self.pane, call.on(self.pane)), ctx)?;
                let agreement = Agreement::new(&s.values, s.signed, &shares);
                let hit = agreement.ok_or_else(|| Error::invalid("the score says nothing of them"))?.hit;
                Ok(Answer::Flag(hit >= 1.0))
            }
            Quantity::Attention { head, from, to } => self.attention(*head, from.as_ref(), to),
            Quantity::Answer(call) => {
                let reduced = call.as_ref().map(|c| ReducedOf::of(self.pane, c.on(self.pane)));
                Ok(Answer::Text(self.said(reduced)?))
            }
            Quantity::SameAnswer(call) => {
                let reduced = Some(ReducedOf::of(self.pane, call.on(self.pane)));
                Ok(Answer::Flag(self.said(None)? == self.said(reduced)?))
            }
            Quantity::Kept(call) => {
                let reduced = store.get(&ReducedOf::of(self.pane, call.on(self.pane)), ctx)?;
                let tower = self.tower()?;
                let counts = |t: &Token| t.kind == TokenKind::Image || !tower.has_image();
                let left = tower.tokens.iter().zip(&reduced.fates).filter(|(t, f)| counts(t) && **f == Fate::Kept);
                number(left.count())
            }
            Quantity::TrueLeft(call) => {
                let shares = self.shares()?;
                let reduced = store.get(&ReducedOf::of(self.pane, call.on(self.pane)), ctx)?;
                let left = |i: &usize| !matches!(reduced.fates.get(*i), Some(Fate::Dropped(_)));
                number(true_tokens(&shares).into_iter().filter(left).count())
            }
            Quantity::Round { call, round, accepted } => {
                let rounds = &store.get(&DraftOf::of(self.pane, call.on(self.pane)), ctx)?.run.rounds;
                let of = round.checked_sub(1).and_then(|i| rounds.get(i));
                let of =
                    of.ok_or_else(|| Error::invalid(format!("there is no round {round}: {} are", rounds.len())))?;
                number(if *accepted { of.accepted().len() } else { of.nodes.len() })
            }
            Quantity::Lossless(call) => {
                let drafted = store.get(&DraftOf::of(self.pane, call.on(self.pane)), ctx)?;
                let output = drafted.run.output();
                let open = self.open.ok_or_else(|| Error::invalid("a recorded run has no weights to write with"))?;
                let (ids, image) = (Some(drafted.run.prompt.clone()), self.trace.image.clone());
                let request = RunRequest { ids, image, greedy: output.len().max(1), ..RunRequest::default() };
                let alone = run(open.model.as_ref(), None, &request, &CaptureSpec::sites(&[]), ctx)?;
                Ok(Answer::Flag(alone.continuation == output))
            }
            Quantity::Surprisal(at) => {
                let i = self.find(at, self.trace.tower(Tower::Text)?)?;
                let s = store.get(&SurprisalOf(self.run()), ctx)?;
                let bits = s.of(i).ok_or_else(|| Error::invalid("nothing predicts this token"))?.1;
                Ok(Answer::Number(bits.into()))
            }
            Quantity::ArrivesFrom { call, level, at } => {
                let tower = self.tower()?;
                let token = self.find(at, tower)? as u32;
                let graph = store.get(&FlowOf::of(self.pane, call.on(self.pane)), ctx)?;
                // Information arrives at a token's own place by its residual stream; from others by the attention.
                let (inside, whole) = (Part::Attn, Part::Resid);
                let here =
                    |n: &Node| n.level as usize == *level && n.token == token && [inside, whole].contains(&n.part);
                let from = graph.above(0.0).find(|e| here(&e.to) && e.from.token != token);
                let from = from.ok_or_else(|| Error::invalid("nothing arrives there from another token"))?;
                Ok(self.token(from.from.token as usize, tower))
            }
            Quantity::Fills(call) => {
                let written = store.get(&TimelineOf::of(self.pane, call.on(self.pane)), ctx)?;
                written.whole.clone().map(Answer::Text).ok_or_else(|| Error::invalid("this model has no tokenizer"))
            }
            Quantity::Found { call, figure } => {
                let call = call.on(self.pane);
                let figures = match catalog::find(call.method)?.info().kind {
                    Kind::Draft => {
                        store.get(&DraftOf::of(self.pane, call), ctx)?.run.finding(&|_| String::new(), None).figures
                    }
                    Kind::Reduce => {
                        let reduced = store.get(&ReducedOf::of(self.pane, call), ctx)?;
                        let on = Subject { tower: self.pane.tower_of(self.trace), ..Subject::new(self.trace) };
                        reduced.plan.finding(&on, Some(&reduced.judgement))?.figures
                    }
                    _ => store.get(&FindingOf::of(self.pane, call), ctx)?.figures.clone(),
                };
                let found = figures.iter().find(|f| f.name == *figure).ok_or_else(|| {
                    let all: Vec<&str> = figures.iter().map(|f| f.name.as_ref()).collect();
                    Error::invalid(format!("no figure is named {figure}; there are: {}", all.join(", ")))
                })?;
                Ok(match found.json() {
                    Value::Bool(b) => Answer::Flag(b),
                    Value::String(s) => Answer::Text(s),
                    v => Answer::Number(v.as_f64().ok_or_else(|| Error::invalid(format!("{figure} has no value")))?),
                })
            }
        }
    }

    /// Per token the share of it that decides the answer.
    fn shares(&self) -> Result<Vec<Option<f32>>> {
        let truth = self.store.get(&TruthOf(self.run()), self.ctx)?;
        let tower = self.tower()?;
        let shares = truth.as_ref().as_ref().and_then(|t| t.shares(tower));
        shares.ok_or_else(|| Error::invalid("nobody knows what decides the answer here"))
    }

    /// How the full or the reduced model goes on, up to the first special token, which ends an answer.
    fn said(&self, reduced: Option<ReducedOf>) -> Result<String> {
        let said = self.store.get(&AnswerOf { run: self.run(), reduced }, self.ctx)?;
        let tokenizer = self.open.and_then(|o| o.tokenizer.as_ref());
        let ends = |word: &&String| {
            let ids = |t: &Tokenizer| Some(t.encode(word, None, false).ok()?.ids);
            let unseen = tokenizer.and_then(|t| Some(t.decode(&ids(t)?, true).ok()?.is_empty()));
            !word.is_empty() && unseen == Some(true)
        };
        let words: String = said.iter().take_while(|w| !ends(w)).map(String::as_str).collect();
        Ok(words.trim().into())
    }

    /// The most probable next tokens at a token, by the lens after `level` layers or by the model itself.
    fn predicted(&self, at: &TokenAt, level: Option<usize>) -> Result<Arc<Vec<Guess>>> {
        let tower = self.trace.tower(Tower::Text)?;
        let (token, level) = (self.find(at, tower)?, level.unwrap_or(tower.n_layers));
        self.store.get(&NodeLensOf { run: self.run(), level, token }, self.ctx)
    }

    fn attention(&self, (layer, head): (usize, usize), from: Option<&TokenAt>, to: &Target) -> Result<Answer> {
        let (name, tower) = (self.pane.tower_of(self.trace), self.tower()?);
        let row = |q: usize| attention_map::row_of_trace(self.trace, name, 0, layer, head, q);
        let share = |q: usize, k: usize| Ok::<f64, Error>(f64::from(row(q)?.get(k).copied().unwrap_or(0.0)));
        let key = |q: usize| match to {
            Target::Token(to) => self.find(to, tower),
            Target::Back(n) => q.checked_sub(*n).ok_or_else(|| Error::invalid(format!("token {q} has none {n} back"))),
        };
        if let Some(from) = from {
            let q = self.find(from, tower)?;
            return Ok(Answer::Number(share(q, key(q)?)?));
        }
        // The first token sees itself alone, and nothing can be said of it.
        let first = match to {
            Target::Token(to) => self.find(to, tower)?.max(1),
            Target::Back(n) => (*n).max(1),
        };
        let (n, mut sum) = (tower.tokens.len().saturating_sub(first), 0.0);
        for q in first..tower.tokens.len() {
            self.ctx.step(q - first, n)?;
            sum += share(q, key(q)?)?;
        }
        if n == 0 {
            return Err(Error::invalid("no token sees it"));
        }
        Ok(Answer::Number(sum / n as f64))
    }

    /// Whether what was found is what was claimed, and both in words.
    fn compare(&self, claim: &Claim, found: Answer) -> Result<(bool, String)> {
        let Test { is, is_not, begins, within, above, below } = &claim.test;
        let mut holds = true;
        let mut claimed = Vec::new();
        for (wanted, equal) in [(is, true), (is_not, false)] {
            let Some(wanted) = wanted else { continue };
            holds &= self.equals(&found, wanted, *within)? == equal;
            let words = if equal { "" } else { "not " };
            let about = if *within > 0.0 { format!(" within {within}") } else { String::new() };
            claimed.push(format!("{words}{wanted}{about}"));
        }
        if let Some(start) = begins {
            let (Answer::Text(text) | Answer::Token(_, text)) = &found else {
                return Err(Error::invalid(format!("{} is no text that begins with something", found.words())));
            };
            holds &= text.starts_with(start);
            claimed.push(format!("it begins with {start:?}"));
        }
        for (bound, more) in [(above, true), (below, false)] {
            let Some(bound) = bound else { continue };
            let Answer::Number(v) = found else {
                return Err(Error::invalid(format!("{} is no number to be above or below another", found.words())));
            };
            holds &= if more { v > *bound } else { v < *bound };
            claimed.push(format!("{} {bound}", if more { "above" } else { "below" }));
        }
        Ok((holds, format!("it is {}, claimed is {}", found.words(), claimed.join(", "))))
    }

    fn equals(&self, found: &Answer, wanted: &Value, within: f64) -> Result<bool> {
        let kind = || Error::invalid(format!("{} cannot be compared with {wanted}", found.words()));
        match (found, wanted) {
            (Answer::Number(v), wanted) => Ok((v - wanted.as_f64().ok_or_else(kind)?).abs() <= within),
            (Answer::Flag(f), wanted) => Ok(*f == wanted.as_bool().ok_or_else(kind)?),
            (Answer::Text(t), Value::String(wanted)) => Ok(t == wanted),
            // The text of a token is enough; which of several is asked for by number or as an object.
            (Answer::Token(_, text), Value::String(wanted)) => Ok(text == wanted),
            (Answer::Token(i, _), wanted) if *wanted != json!(null) => {
                let wanted = TokenAt::read(wanted).map_err(Error::invalid)?;
                Ok(self.find(&wanted, self.tower()?)? == *i)
            }
            _ => Err(kind()),
        }
    }
}
