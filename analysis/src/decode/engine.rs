//! The one loop of speculative decoding: a policy drafts, the target reads, a verifier decides, until the text is
//! long enough. Any policy goes with any verifier.

use super::chance::{Chance, Seeded};
use super::cut::Cut;
use super::metrics::{DraftNode, DraftRun, Ended, Learnt, NodeState, Round};
use super::oracle::{Oracle, Reader};
use super::row::Row;
use super::tree::Tree;
use super::verify::{Claim, Offer, Verdict, Verify};
use super::{Method, With};
use crate::ctx::Ctx;
use crate::method::{Need, Param, Params};
use crate::model::Writes;
use crate::subject::Subject;
use crate::{Error, Result};
use std::time::Instant;

/// Length of a decode.
pub const NEW: Param = Param::count("new_tokens", "Tokens to generate", 1, 8192, 32);
/// How far from greedy it samples.
pub const TEMPERATURE: Param = Param::number("temperature", "0 decodes greedily", 0.0, 4.0, 0.0);

/// What a drafting policy is told when a round begins.
pub struct Turn<'a> {
    /// The text so far; guesses follow its last token.
    pub text: &'a [u32],
    /// Tokens that are still wanted, at least one.
    pub room: usize,
    /// 0 decodes greedily.
    pub temperature: f64,
}

impl Turn<'_> {
    /// The last token of the text.
    pub fn root(&self) -> u32 {
        self.text.last().copied().unwrap_or(0)
    }

    /// The temperature at which a policy judges how sure it is: greedy decodes still need degrees.
    pub fn warmth(&self) -> f64 {
        if self.temperature == 0.0 { 1.0 } else { self.temperature }
    }

    /// The token that a chain goes on with after `row`, the most probable one in greedy decodes, and the distribution
    /// `[vocab]` that it is drawn from.
    pub fn draw(&self, row: &Row, chance: &mut dyn Chance) -> (usize, Vec<f64>) {
        let q = row.distribution(self.warmth());
        let x = if self.temperature == 0.0 { row.best() } else { chance.draw(&q) };
        (x, q)
    }
}

/// What a drafting policy is told when a round was verified.
pub struct Verified<'a> {
    /// Its tree.
    pub tree: &'a Tree,
    /// What the target says after each node.
    pub rows: &'a [Row],
    /// The accepted nodes from the root, left out, downwards.
    pub path: &'a [usize],
    /// The target's own token after them.
    pub own: u32,
}

/// One way to guess ahead.
pub trait Draft {
    /// The guesses of a round.
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree>;
    /// What came of them. Not called when the guesses have made the text long enough or ended it.
    fn learn(&mut self, _round: &Verified, _ctx: &Ctx) -> Result<()> {
        Ok(())
    }
    /// What the last [`Draft::learn`] changed of what follows which token, for whoever watches.
    fn learnt(&mut self) -> Vec<Learnt> {
        Vec::new()
    }
}

/// How far a decode goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Tokens to generate.
    pub new: usize,
    /// Rounds at most.
    pub rounds: usize,
    /// 0 decodes greedily.
    pub temperature: f64,
    /// Ids that end the text.
    pub end: Vec<u32>,
}

/// All that a decode is made of.
pub struct Decode<'a, O> {
    /// Has read all of the prompt but its last token.
    pub target: O,
    /// The prompt, at least one token.
    pub prompt: &'a [u32],
    /// Who guesses.
    pub draft: &'a mut dyn Draft,
    /// Who decides.
    pub verify: &'a dyn Verify,
    /// How far.
    pub rules: Rules,
}

impl<O: Oracle> Decode<'_, O> {
    /// Decodes; `partial` is called after each round with what there is so far. A greedy decode that claims to be
    /// lossless is compared with what the target writes alone.
    ///
    /// Errors: an empty prompt, whatever the models fail with, cancelled.
    pub fn run(mut self, chance: &mut dyn Chance, ctx: &Ctx, partial: &mut dyn FnMut(&DraftRun)) -> Result<DraftRun> {
        if self.prompt.is_empty() {
            return Err(Error::invalid("the prompt has no tokens"));
        }
        let (mut run, mut text) = (DraftRun::new(self.prompt), self.prompt.to_vec());
        let greedy = self.rules.temperature == 0.0;
        let alone = (greedy && self.verify.lossless() == Claim::Lossless).then(|| self.target.clone());
        while run.ended == Ended::Not {
            let done = text.len() - self.prompt.len();
            ctx.step(done, self.rules.new)?;
            let turn = Turn { text: &text, room: self.rules.new - done, temperature: self.rules.temperature };
            let mut watch = Watch::start();
            let tree = self.draft.grow(&turn, chance, ctx)?;
            watch.lap(&mut run.spent.draft);
            let before = self.target.len();
            let rows = self.target.read_guesses(&tree, ctx)?;
            watch.lap(&mut run.spent.verify);
            let offer = Offer::new(&tree, &rows, self.rules.temperature);
            let verdict = self.verify.verify(&offer, chance);
            let round = round(&offer, &verdict, turn.room);
            text.extend(&round.emitted);
            run.rounds.push(round);
            run.ended = self.ended(&run, text.len() - self.prompt.len());
            if !matches!(run.ended, Ended::Length | Ended::End) {
                let told = Verified { tree: &tree, rows: &rows, path: &verdict.path, own: verdict.own };
                watch.lap(&mut run.spent.rest);
                self.draft.learn(&told, ctx)?;
                if let Some(last) = run.rounds.last_mut() {
                    last.learnt = self.draft.learnt();
                }
                watch.lap(&mut run.spent.draft);
                let kept = verdict.path.iter().map(|i| before + i);
                self.target.keep(&(0..=before).chain(kept).collect::<Vec<_>>())?;
            }
            watch.lap(&mut run.spent.rest);
            // A measurement of the method, and no part of it.
            run.strayed.extend(self.verify.strays(&offer, &verdict));
            partial(&run);
        }
        if let Some(alone) = alone {
            prove(&mut run, alone, ctx)?;
        }
        Ok(run)
    }

    /// Whether the text ends with the last round, and why.
    fn ended(&self, run: &DraftRun, done: usize) -> Ended {
        let Some(last) = run.rounds.last() else { return Ended::Not };
        let ends = |id: &u32| self.rules.end.contains(id);
        let accepted = last.accepted();
        if ends(&last.root) || accepted.iter().any(ends) {
            Ended::End
        } else if done >= self.rules.new {
            Ended::Length
        } else if last.emitted.last().is_some_and(ends) {
            Ended::OwnEnd
        } else if run.rounds.len() >= self.rules.rounds {
            Ended::Rounds
        } else {
            Ended::Not
        }
    }
}

/// Where the time of a round goes.
struct Watch(Instant);

impl Watch {
    fn start() -> Self {
        Self(Instant::now())
    }

    /// Adds what went by since the last look to `to`, in seconds.
    fn lap(&mut self, to: &mut f64) {
        let now = Instant::now();
        *to += now.duration_since(self.0).as_secs_f64();
        self.0 = now;
    }
}

/// A round as it is shown; `room` is how many tokens are still wanted.
fn round(offer: &Offer, verdict: &Verdict, room: usize) -> Round {
    let (tree, p_target) = (offer.tree, offer.shares());
    let mut accepted = vec![false; tree.len()];
    verdict.path.iter().for_each(|&i| accepted[i] = true);
    let best = |i: usize| offer.best(i) as u32;
    let nodes = tree.nodes().iter().enumerate().skip(1).map(|(i, n)| DraftNode {
        parent: n.parent.checked_sub(1),
        token: n.token,
        depth: n.depth,
        p_draft: n.p_draft.map(|p| p as f32),
        p_target: p_target[i].map(|p| p as f32),
        p_accept: Some(verdict.accept[i] as f32),
        value: n.value.map(|v| v as f32),
        next: best(i),
        state: match (accepted[i], verdict.looked[i]) {
            (true, _) => NodeState::Accepted,
            (false, true) => NodeState::Rejected,
            (false, false) => NodeState::Unverified,
        },
    });
    let nodes = nodes.collect();
    let mut emitted: Vec<u32> = verdict.path.iter().map(|&i| tree.nodes()[i].token).collect();
    emitted.push(verdict.own);
    emitted.truncate(room);
    let own_from = verdict.from.iter().map(|&(id, p)| (id, p as f32)).collect();
    Round {
        root: tree.nodes()[0].token,
        next: best(0),
        nodes,
        emitted,
        own_from,
        draft_passes: tree.passes,
        learnt: Vec::new(),
    }
}

/// Decodes as many tokens greedily with the target alone and notes whether the run gave the same.
fn prove<O: Oracle>(run: &mut DraftRun, mut alone: O, ctx: &Ctx) -> Result<()> {
    let (output, mut text) = (run.output(), Vec::new());
    let mut last = run.prompt.last().copied().unwrap_or(0);
    while text.len() < output.len() {
        ctx.step(text.len(), output.len())?;
        last = alone.read(&[last], ctx)?.last().map_or(0, Row::best) as u32;
        text.push(last);
    }
    let same = text == output;
    let words =
        if same { "equal to the target's own greedy text" } else { "differs from the target's own greedy text" };
    run.lossless = Some((same, words.into()));
    run.reference = Some(text);
    Ok(())
}

/// Decodes with a method and its parameters on the weights of a run; `partial` is called after each round with what
/// there is so far.
///
/// Errors: a run without weights or text, a target that does not write texts, a draft model that is missing or has
/// another vocabulary, whatever the models fail with, cancelled.
pub fn decode(
    method: &dyn Method,
    on: &Subject,
    params: &Params,
    ctx: &Ctx,
    partial: &mut dyn FnMut(&DraftRun),
) -> Result<DraftRun> {
    decode_at_most(usize::MAX, method, on, params, ctx, partial)
}

/// The same in so many rounds at most.
///
/// Errors: those of [`decode`].
pub fn decode_at_most(
    rounds: usize,
    method: &dyn Method,
    on: &Subject,
    params: &Params,
    ctx: &Ctx,
    partial: &mut dyn FnMut(&DraftRun),
) -> Result<DraftRun> {
    let info = method.info();
    info.check(params)?;
    let model = on.weights(info)?;
    if model.info().writes != Writes::Causal {
        return Err(info.needs(Need::Writes.words()));
    }
    let input = on.again();
    let Some((_, before)) = input.ids.split_last() else {
        return Err(Error::invalid("the prompt has no tokens"));
    };
    let temperature = params.number(&TEMPERATURE);
    let cut = Cut::of(params, temperature);
    let with = With { on, info, cut, shared: None };
    let mut draft = method.draft(&with, params, ctx)?;
    let verify = method.verify(&with, params, ctx)?;
    let mut target = Reader::new(model).cut(cut);
    target.begin(before, input.image.clone(), ctx)?;
    let rules = Rules { new: params.count(&NEW) as usize, rounds, temperature, end: Vec::new() };
    let whole = Decode { target, prompt: &input.ids, draft: draft.as_mut(), verify: verify.as_ref(), rules };
    whole.run(&mut Seeded::new(params.seed(&super::SEED)), ctx, partial)
}
