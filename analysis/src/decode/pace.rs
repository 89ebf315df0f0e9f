//! How fast a decode is: what passes cost by themselves, what follows from that and from what was accepted, and what
//! was measured; with the definitions of all figures of a decode.

use super::cut::Cut;
use super::metrics::{DraftRun, Spent};
use super::oracle::{Oracle, Reader};
use super::row::Row;
use super::{Method, With};
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure};
use crate::subject::Subject;
use crate::{Error, Result};
use serde::Serialize;
use std::time::Instant;

/// Times of a decode and of the passes that it is made of, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, serde::Deserialize)]
pub struct Pace {
    /// Where the time of the decode went.
    pub spent: Spent,
    /// A pass of the target over one token.
    pub target: f64,
    /// A pass of the target over as many rows as a tree of this decode has on average.
    pub verify: f64,
    /// A pass of the draft model over one token; 0 where no model drafts.
    pub draft: f64,
    /// Weights of the draft model over those of the target; `None` where it is a part of the target that drafts.
    pub size_ratio: Option<f64>,
}

/// Figures of [`DraftRun::figures`] that differ from run to run.
pub const TIMED: [&str; 6] = [
    "draft cost ratio",
    "expected speed-up",
    "measured speed-up",
    "time drafting",
    "time verifying",
    "time bookkeeping",
];

/// Passes that are timed at most.
const PASSES: usize = 32;
/// Verifying passes that are timed.
const TURNS: usize = 3;

/// Seconds of each of `n` passes over one token each, as a plain greedy decode.
fn plain<O: Oracle>(mut model: O, mut last: u32, n: usize, ctx: &Ctx) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..n.max(1) {
        ctx.check()?;
        last = model.read(&[last], ctx)?.last().map_or(0, Row::best) as u32;
    }
    Ok(start.elapsed().as_secs_f64() / n.max(1) as f64)
}

impl Pace {
    /// Times what `run`, a decode by `method`, was made of.
    ///
    /// Errors: those of a decode, cancelled.
    pub fn of(run: &DraftRun, method: &dyn Method, on: &Subject, ctx: &Ctx) -> Result<Self> {
        let (info, input) = (method.info(), on.again());
        let model = on.weights(info)?;
        let Some((&root, before)) = input.ids.split_last() else {
            return Err(Error::invalid("the prompt has no tokens"));
        };
        let n = run.written().0.min(PASSES);
        let mut reader = Reader::new(model);
        reader.begin(before, input.image.clone(), ctx)?;
        let target = plain(reader.clone(), root, n, ctx)?;
        let rows = 1 + (run.drafted().0 as f64 / run.rounds.len().max(1) as f64).round() as usize;
        let verify = if rows > 1 {
            let start = Instant::now();
            for _ in 0..TURNS {
                ctx.check()?;
                reader.clone().read(&vec![root; rows], ctx)?;
            }
            start.elapsed().as_secs_f64() / TURNS as f64
        } else {
            target
        };
        let passes: usize = run.rounds.iter().map(|r| r.draft_passes).sum();
        let (draft, size_ratio) = match on.partner {
            _ if passes == 0 => (0.0, Some(0.0)),
            Some(small) => {
                let own = With { on, info, cut: Cut::NONE, shared: None }.partner(&ctx.apart())?;
                let ratio = small.info().n_params as f64 / model.info().n_params.max(1) as f64;
                (plain(own, root, n, ctx)?, Some(ratio))
            }
            None => (run.spent.draft / passes as f64, None),
        };
        Ok(Self { spent: run.spent, target, verify, draft, size_ratio })
    }

    /// The time of a draft pass over that of a target pass.
    pub fn cost_ratio(&self) -> f64 {
        if self.target > 0.0 { self.draft / self.target } else { 0.0 }
    }
}

impl DraftRun {
    /// The figures of a decode, each with its definition; those of time where `pace` is known.
    pub fn figures(&self, pace: Option<&Pace>) -> Vec<Figure> {
        let number = |name: &'static str, x: f64, meaning: &'static str| Figure::new(name, Datum::Number(x), meaning);
        let (drafted, accepted) = self.drafted();
        let (tokens, passes) = self.written();
        let rounds = passes.max(1) as f64;
        let (tau, drafts) = (self.tokens_per_round(), self.draft_passes_per_round());
        let mut out = vec![
            number(
                "tokens per round",
                tau,
                "all new tokens, the target's own last one of each round included, over the rounds; a round is one verifying \
                 pass of the target",
            ),
            number(
                "accepted per round",
                accepted as f64 / rounds,
                "guesses that became text, over the rounds: the mean accepted length, without the target's own token",
            ),
            Figure::new("rounds", Datum::Count(passes), "verifying passes of the target"),
            Figure::new("drafted", Datum::Count(drafted), "tokens that were guessed"),
            Figure::new("accepted", Datum::Count(accepted), "guesses that became text"),
            Figure::new(
                "acceptance",
                Datum::Share(accepted as f64 / drafted.max(1) as f64),
                "accepted guesses over all guesses; in a tree most have no chance, as siblings exclude each other",
            ),
            number(
                "block efficiency",
                tau,
                "new tokens per call of the target; each round calls it once, so it is the tokens per round",
            ),
            number(
                "tokens per forward",
                tau,
                "new tokens over forward passes of the target; those of the draft model are not counted",
            ),
            number("draft passes per round", drafts, "forward passes of the draft model over the rounds"),
        ];
        let Some(pace) = pace else { return out };
        if let Some(ratio) = pace.size_ratio {
            out.push(number(
                "MBSU",
                tau / (1.0 + drafts * ratio),
                "memory-bound speed-up: tokens per round ÷ (1 + draft passes per round · weights of the draft model over \
                 those of the target), as if reading weights were all that takes time",
            ));
        }
        out.push(number(
            "draft cost ratio",
            pace.cost_ratio(),
            "c: the time of a pass of the draft model over that of a pass of the target, each over one token on this machine",
        ));
        let round = pace.verify + drafts * pace.draft;
        if round > 0.0 && pace.target > 0.0 {
            out.push(number(
                "expected speed-up",
                tau * pace.target / round,
                "tokens per round ÷ (draft passes per round · c + verifying pass ÷ plain pass of the target), with passes \
                 timed by themselves on this machine; bookkeeping is free",
            ));
        }
        let all = pace.spent.all();
        if all > 0.0 {
            out.push(number(
                "measured speed-up",
                tokens as f64 * pace.target / all,
                "the time of as many plain passes of the target ÷ the time of this decode, the prompt's pass left out of both",
            ));
            let share = |x: f64| Datum::Share((x / all).clamp(0.0, 1.0));
            out.push(Figure::new("time drafting", share(pace.spent.draft), "of the decode: guessing and learning"));
            out.push(Figure::new("time verifying", share(pace.spent.verify), "of the decode: passes of the target"));
            out.push(Figure::new(
                "time bookkeeping",
                share(pace.spent.rest),
                "of the decode: deciding what is accepted, keeping the cache and the rounds",
            ));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::metrics::{NodeState, Round};

    #[test]
    fn figures_follow_their_definitions() {
        let mut run = DraftRun::new(&[0]);
        run.rounds = vec![
            Round::sample(&[(1, NodeState::Accepted), (1, NodeState::Accepted)], 3),
            Round::sample(&[(1, NodeState::Rejected)], 1),
        ];
        // Four tokens took 5 + 8 + 2 milliseconds; a plain pass takes 4, a verifying one 4.5, a draft pass 1.
        let spent = Spent { draft: 0.005, verify: 0.008, rest: 0.002 };
        let pace = Pace { spent, target: 0.004, verify: 0.0045, draft: 0.001, size_ratio: Some(0.25) };
        let figures = run.figures(Some(&pace));
        let of = |name: &str| match figures.iter().find(|f| f.name == name).map(|f| &f.value) {
            Some(Datum::Number(x) | Datum::Share(x)) => *x,
            Some(Datum::Count(n)) => *n as f64,
            other => panic!("{name}: {other:?}"),
        };
        for (name, want) in [
            ("tokens per round", 2.0),
            ("accepted per round", 1.0),
            ("acceptance", 2.0 / 3.0),
            ("block efficiency", 2.0),
            ("tokens per forward", 2.0),
            ("draft passes per round", 2.0),
            ("MBSU", 2.0 / 1.5),
            ("draft cost ratio", 0.25),
            ("expected speed-up", 2.0 * 4.0 / 6.5),
            ("measured speed-up", 16.0 / 15.0),
            ("time drafting", 1.0 / 3.0),
            ("time verifying", 8.0 / 15.0),
            ("time bookkeeping", 2.0 / 15.0),
        ] {
            assert!((of(name) - want).abs() < 1e-12, "{name}: {} and {want}", of(name));
        }
        assert!(figures.iter().all(|f| !f.meaning.is_empty()));
        assert!(TIMED.iter().all(|name| figures.iter().any(|f| f.name == *name)));
        assert!(run.figures(None).iter().all(|f| !f.name.contains("speed")));
    }
}
