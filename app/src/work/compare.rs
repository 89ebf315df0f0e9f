//! What was found on one pane minus what was found on another.

use super::{
    CellsOf, CutOf, DraftOf, FindingOf, FlowOf, MAP_SIDE, MapOf, NextReducedOf, OpenModel, ReducedOf, ScoreOf, Serves,
    TimelineOf, main_scope, subject, tower, trace_of, weights_of,
};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, RunKey, Scope};
use crate::pane::{Compared, Fold, Pane};
use std::sync::Arc;
use tokenscope_analysis::finding::{Cuts, Finding, Matrix, Measure, Pairings, Piece, Span, Unit};
use tokenscope_analysis::lens;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::segment::Reads;
use tokenscope_analysis::trace::Trace;
use tokenscope_analysis::{Ctx, Error, Result};

/// Which tokens of two runs stand for the same part of the input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PairingsOf {
    /// The one run.
    pub first: RunKey,
    /// The other.
    pub second: RunKey,
}

impl Ask for PairingsOf {
    type Out = Pairings;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Pairings> {
        Ok(Pairings::new(&*trace_of(&self.first, store, ctx)?, &*trace_of(&self.second, store, ctx)?))
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.first)
    }
}

/// One part of what two panes show, the second taken from the first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MinusOf {
    both: Both,
    fold: Fold,
}

/// What is asked for on each side.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Both {
    Next([Said; 2]),
    Map([MapOf; 2]),
    Score([ScoreOf; 2]),
    Flow([FlowOf; 2]),
    Reduce([ReducedOf; 2]),
    Found([FindingOf; 2]),
    Draft([DraftOf; 2]),
    Reveal([TimelineOf; 2]),
    Tokens([RunKey; 2]),
    Cut([CutOf; 2]),
}

/// What comes next on one side.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Said {
    run: RunKey,
    /// The token behind which it does; the last one where none is named.
    token: Option<usize>,
    /// The reduction after which the model is asked.
    reduced: Option<ReducedOf>,
}

/// A pane and the methods that are shown on it; a run that cannot serve the chosen one is shown another.
pub struct Side<'a> {
    /// The pane.
    pub pane: &'a Pane,
    /// The method of a kind.
    pub call: &'a dyn Fn(Kind) -> Call,
    /// Whether its model writes by filling in masks.
    pub fills: bool,
}

impl MinusOf {
    /// That part of two panes. Errors: parts that the two sides show in ways that have nothing in common.
    pub fn new(part: Compared, sides: [Side; 2], fold: Fold) -> Result<Self> {
        let [a, b] = &sides;
        let call = |s: &Side, kind| (s.call)(kind);
        let next = |s: &Side| Said {
            run: s.pane.run.clone(),
            token: s.pane.aim.tokens().last().copied(),
            reduced: s.pane.reduced.then(|| ReducedOf::of(s.pane, call(s, Kind::Reduce))),
        };
        if a.pane.reduced != b.pane.reduced && !matches!(part, Compared::Next | Compared::Cuts) {
            return Err(Error::invalid(match part {
                Compared::Reduction => "one pane is of the full model, from which nothing is taken away",
                _ => {
                    "one pane is of the full model and the other of the reduced one, whose layers have other rows: this is \
                     shown of the full run in both, so that their difference would not be what the reduction does"
                }
            }));
        }
        let map = |s: &Side| {
            let (layer, head) = s.pane.cursor.head;
            MapOf { scope: s.pane.scope(), layer, head, part: None }
        };
        let found = |s: &Side| FindingOf::of(s.pane, call(s, s.pane.shows.found));
        let both = match part {
            Compared::Next => Both::Next([next(a), next(b)]),
            Compared::Map => Both::Map([map(a), map(b)]),
            Compared::Scores => Both::Score([a, b].map(|s| ScoreOf::of(s.pane, call(s, Kind::Score)))),
            Compared::Flow => Both::Flow([a, b].map(|s| FlowOf::of(s.pane, call(s, Kind::Flow)))),
            Compared::Reduction => Both::Reduce([a, b].map(|s| ReducedOf::of(s.pane, call(s, Kind::Reduce)))),
            Compared::Findings => Both::Found([found(a), found(b)]),
            Compared::Drafts => match (a.fills, b.fills) {
                (true, true) => Both::Reveal([a, b].map(|s| TimelineOf::of(s.pane, call(s, Kind::Reveal)))),
                (false, false) => Both::Draft([a, b].map(|s| DraftOf::of(s.pane, call(s, Kind::Draft)))),
                _ => return Err(Error::invalid("one model writes word by word and the other fills in masks")),
            },
            Compared::Cuts => match [a, b].map(|s| s.pane.shows.cuts.shows) {
                [Reads::Text, Reads::Text] => Both::Tokens([a.pane.run.clone(), b.pane.run.clone()]),
                [x, y] if x == y => Both::Cut([a, b].map(|s| CutOf::of(s.pane, call(s, Kind::Segment)))),
                _ => return Err(Error::invalid("the two panes cut different things")),
            },
        };
        Ok(Self { both, fold })
    }
}

impl Said {
    /// Natural logarithms of the probabilities of all words. Errors: those of the run; a reduced model that is asked
    /// behind another token than the last.
    fn next(&self, open: Option<&OpenModel>, store: &Store, ctx: &Ctx) -> Result<Vec<f64>> {
        let trace = trace_of(&self.run, store, ctx)?;
        let Some(reduced) = &self.reduced else {
            return lens::next(&subject(&trace, &main_scope(&self.run), open), self.token);
        };
        let n = trace.tower(trace.main_tower())?.tokens.len();
        if self.token.is_some_and(|t| t + 1 != n) {
            return Err(Error::invalid("a reduced model is asked behind the last token; select that one, or none"));
        }
        Ok((*store.get(&NextReducedOf(reduced.clone()), ctx)?).clone())
    }
}

impl Ask for MinusOf {
    type Out = Finding;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Finding> {
        let out = match &self.both {
            Both::Next([a, b]) => {
                let (of_a, of_b) = (weights_of(&a.run, store, ctx)?, weights_of(&b.run, store, ctx)?);
                let (first, second) = (a.next(of_a.as_deref(), store, ctx)?, b.next(of_b.as_deref(), store, ctx)?);
                let words = [&of_a, &of_b].map(|o| o.as_ref().and_then(|o| o.tokenizer.as_ref()));
                lens::held(&first, &second, words[0], words[1])
            }
            Both::Map(pair) => {
                let [a, b] = [map(&pair[0], store, ctx)?, map(&pair[1], store, ctx)?];
                self.differ([&pair[0].scope.run, &pair[1].scope.run], [&a, &b], store, ctx)?
            }
            Both::Tokens(pair) => {
                let [a, b] = [tokens(&pair[0], store, ctx)?, tokens(&pair[1], store, ctx)?];
                a.minus(&b, &Pairings::default(), self.fold.into())
            }
            Both::Score(pair) => self.of(pair, store, ctx)?,
            Both::Flow(pair) => self.of(pair, store, ctx)?,
            Both::Reduce(pair) => self.of(pair, store, ctx)?,
            Both::Found(pair) => self.of(pair, store, ctx)?,
            Both::Draft(pair) => self.of(pair, store, ctx)?,
            Both::Reveal(pair) => self.of(pair, store, ctx)?,
            Both::Cut(pair) => self.of(pair, store, ctx)?,
        };
        out.check()?;
        Ok(out)
    }

    fn run(&self) -> Option<&RunKey> {
        match &self.both {
            Both::Next([Said { run, .. }, _]) | Both::Tokens([run, _]) => Some(run),
            Both::Map([a, _]) => a.run(),
            Both::Score([a, _]) => a.run(),
            Both::Flow([a, _]) => a.run(),
            Both::Reduce([a, _]) => a.run(),
            Both::Found([a, _]) => a.run(),
            Both::Draft([a, _]) => a.run(),
            Both::Reveal([a, _]) => a.run(),
            Both::Cut([a, _]) => a.run(),
        }
    }
}

impl MinusOf {
    /// What a kind of methods finds on both sides.
    fn of<A: Serves>(&self, [a, b]: &[A; 2], store: &Store, ctx: &Ctx) -> Result<Finding> {
        let (first, second) = (store.get(a, ctx)?, store.get(b, ctx)?);
        let trace = |ask: &A| match ask.run() {
            Some(run) => trace_of(run, store, ctx),
            None => Err(Error::invalid("this is about no run")),
        };
        let (own, theirs) = (a.found(&first, &|| trace(a))?, b.found(&second, &|| trace(b))?);
        match (a.run(), b.run()) {
            (Some(x), Some(y)) => self.differ([x, y], [&own, &theirs], store, ctx),
            _ => Ok(own.minus(&theirs, &Pairings::default(), self.fold.into())),
        }
    }

    fn differ(&self, runs: [&RunKey; 2], found: [&Finding; 2], store: &Store, ctx: &Ctx) -> Result<Finding> {
        let pairings = match found.iter().any(|f| f.counts_tokens()) {
            true => store.get(&PairingsOf { first: runs[0].clone(), second: runs[1].clone() }, ctx)?,
            false => Arc::default(),
        };
        Ok(found[0].minus(found[1], &pairings, self.fold.into()))
    }
}

/// The map of one head, cell by cell; layer and head are held to what the run has, as the view holds them.
fn map(asked: &MapOf, store: &Store, ctx: &Ctx) -> Result<Finding> {
    let Scope { run, .. } = &asked.scope;
    let trace = trace_of(run, store, ctx)?;
    let name = tower(&asked.scope, &trace);
    let (layer, head) = held(&trace, asked);
    let map = MapOf { layer, head, ..asked.clone() };
    let whole = store.get(&map, ctx)?;
    if !whole.window.is_exact() {
        return Err(Error::invalid(format!(
            "maps of more than {MAP_SIDE} tokens are not subtracted; shorten the input"
        )));
    }
    let cells = store.get(&CellsOf(map), ctx)?;
    let title = format!("attention of layer {layer}, head {head}");
    let unit = || Unit::Tokens(name);
    let matrix = Matrix::dense(title, unit(), unit(), Measure::new("attention", "share"), (**cells).clone())?;
    Ok(Finding::of(matrix))
}

/// Layer and head that a run has, nearest to those that are asked for.
fn held(trace: &Trace, asked: &MapOf) -> (usize, usize) {
    let rules = trace.towers.get(&tower(&asked.scope, trace)).map_or(&[][..], |t| &t.attention);
    let layer = asked.layer.min(rules.len().saturating_sub(1));
    (layer, asked.head.min(rules.get(layer).map_or(0, |r| r.n_heads.saturating_sub(1))))
}

/// How the run's own tokenizer cut the text.
fn tokens(run: &RunKey, store: &Store, ctx: &Ctx) -> Result<Finding> {
    let trace = trace_of(run, store, ctx)?;
    let own = trace.tower(trace.main_tower())?;
    let piece = |t: &tokenscope_analysis::token::Token| {
        let bytes = t.bytes()?;
        let span = Span::Range(bytes.start, bytes.end);
        Some(Piece { span, id: t.id, text: t.text.clone(), class: None, value: None })
    };
    let pieces: Vec<Piece> = own.tokens.iter().filter_map(piece).collect();
    if pieces.is_empty() {
        return Err(Error::invalid("the run has no text"));
    }
    let (title, len) = ("tokens".into(), trace.text.len());
    Ok(Finding::of(Cuts { title, unit: Unit::Bytes, len, pieces, classes: Vec::new(), measure: None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Jobs;
    use tokenscope_analysis::finding::{self, Picture};
    use tokenscope_analysis::method::Params;

    fn side(pane: &Pane) -> (impl Fn(Kind) -> Call + use<'_>, bool) {
        (|kind| pane.call(kind), false)
    }

    fn minus(part: Compared, a: &Pane, b: &Pane) -> Result<Finding> {
        let ((x, fills), (y, _)) = (side(a), side(b));
        let sides = [Side { pane: a, call: &x, fills }, Side { pane: b, call: &y, fills }];
        let jobs = Jobs::new(|| ());
        jobs.get(&MinusOf::new(part, sides, Fold::Sum)?, &Ctx::default()).map(|f| (*f).clone())
    }

    fn pane(prompt: &str) -> Pane {
        let mut pane = Pane::default();
        pane.run.prompt = prompt.into();
        pane
    }

    #[test]
    fn a_run_minus_itself_is_nothing_in_every_part() {
        let a = pane("the owl and the fox");
        for part in Compared::ALL {
            let d = minus(part, &a, &a).unwrap_or_else(|e| panic!("{}: {e}", part.name()));
            assert!(!d.pictures.is_empty(), "{}", part.name());
            for p in &d.pictures {
                let zero = match p {
                    Picture::Heat(h) => h.values.iter().flatten().all(|v| *v == 0.0),
                    Picture::Matrix(m) => m.window(0..m.size[0], 0..m.size[1]).iter().all(|v| v.is_nan() || *v == 0.0),
                    Picture::Links(l) => l.links.is_empty(),
                    Picture::Classes(c) => c.of.iter().flatten().all(|c| *c == 0 || c % 3 == 0),
                    Picture::Tree(t) => t.nodes.iter().all(|n| n.state == 0),
                    _ => true,
                };
                assert!(zero, "{} of {}", p.title(), part.name());
            }
        }
    }

    #[test]
    fn before_and_after_a_reduction_the_next_words_subtract_and_what_cannot_says_why() {
        let full = pane("In the harbour live the owl, the fox and the hen. Every evening the owl, the");
        let mut reduced = full.clone();
        let call = Call { method: "random", params: Params::new() };
        reduced.choose(call.clone()).unwrap();
        reduced.reduced = true;
        let d = minus(Compared::Next, &reduced, &full).unwrap();
        // What the table says of the reduced side is what its judgement says.
        let jobs = Jobs::new(|| ());
        let known = jobs.get(&ReducedOf::of(&reduced, call), &Ctx::default()).unwrap();
        let Picture::Table(table) = &d.pictures[0] else { panic!() };
        let p = |word: &str, column: usize| table.rows.iter().find(|r| r[0] == word).and_then(|r| r[column].as_f64());
        for (side, column) in [(&known.reduced, 1), (&known.full, 2)] {
            let (word, want) = &side[0];
            assert!((p(word, column).unwrap() - f64::from(*want)).abs() < 1e-5, "{word} {want}");
        }
        let Some(finding::Datum::Number(kl)) =
            d.figures.iter().find(|f| f.name == "KL, second to first").map(|f| f.value.clone())
        else {
            panic!()
        };
        assert!((kl - known.judgement.kl.unwrap()).abs() < 1e-4, "{kl} {:?}", known.judgement.kl);
        for part in [Compared::Scores, Compared::Map, Compared::Flow, Compared::Reduction] {
            assert!(
                minus(part, &reduced, &full).is_err_and(|e| e.to_string().contains("full model")),
                "{}",
                part.name()
            );
            assert!(minus(part, &reduced, &reduced).is_ok(), "{}", part.name());
        }
        reduced.aim = crate::selection::Selection::one(2);
        assert!(minus(Compared::Next, &reduced, &full).is_err_and(|e| e.to_string().contains("behind the last token")));
    }

    #[test]
    fn prompts_of_other_lengths_meet_by_their_bytes() {
        let (a, b) = (pane("the owl and the fox"), pane("the owl and then the fox"));
        let d = minus(Compared::Scores, &a, &b).unwrap();
        let Picture::Heat(h) = &d.pictures[0] else { panic!() };
        let jobs = Jobs::new(|| ());
        let n = jobs
            .get(&super::super::TraceOf(a.run.clone()), &Ctx::default())
            .unwrap()
            .towers
            .values()
            .next()
            .unwrap()
            .tokens
            .len();
        assert_eq!((h.values.len(), h.unit.plural()), (n, "tokens"));
        assert!(h.values.iter().flatten().any(|v| *v != 0.0));
        let cut = minus(Compared::Cuts, &a, &b).unwrap();
        assert!(cut.pictures.is_empty() && cut.notes[0].contains("bytes"), "{:?}", cut.notes);
    }
}
