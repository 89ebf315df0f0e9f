//! Carries out leaderboards: every method at every share on every question, by the code that single reductions are judged
//! by. The table is shown as it grows, a row at a time on the first question and better known with each further one.

use super::judge::{Case, answer_ids, answered, answers, drawn_anew, run_up_to, sees};
use super::{ModelOf, OpenModel};
use crate::board::{Board, Contest, FULL, Figure, SLOT, Standing, is_floor, share};
use crate::jobs::{Ask, Store};
use crate::keys::Call;
use crate::memory;
use crate::picture_source::PictureSource;
use crate::questions::{Questions, is_right};
use std::time::{Duration, Instant};
use tokenscope_analysis::faithful::{area, faithfulness};
use tokenscope_analysis::method::{Kind, Role};
use tokenscope_analysis::reduce::{self, Fate, Full, Judgement, Plan, budget};
use tokenscope_analysis::score::Scores;
use tokenscope_analysis::trace::{Tower, Trace};
use tokenscope_analysis::{Ctx, Error, Result, Subject, catalog};

/// Tokens that are written beyond an answer, so that it is seen to end.
const BEYOND: usize = 3;
/// The most tokens of an answer.
const MAX_ANSWER: usize = 64;

/// A question as it is put to the model.
struct Entry {
    /// Where it stands, for what is said of it.
    place: String,
    prompt: String,
    picture: Option<PictureSource>,
    answers: Answers,
}

/// What counts as right.
enum Answers {
    /// What follows the prompt, token by token.
    Exactly(String),
    /// What the text may begin with.
    AnyOf(Vec<String>),
}

impl Answers {
    /// Whether these ids are right; `own` are those of the exact answer.
    fn has(&self, said: &[u32], own: &[u32], open: &OpenModel) -> Result<bool> {
        Ok(match self {
            Self::Exactly(_) => said == own,
            Self::AnyOf(all) => is_right(&open.text()?.decode(said, true)?, all),
        })
    }
}

/// The questions and what they are, with what could not be read of them.
fn entries(contest: &Contest, sees: bool, board: &mut Board) -> Result<Vec<Entry>> {
    let Some(path) = &contest.data else {
        board.set = if sees { "questions about drawn scenes" } else { "stories" }.into();
        let case = |k: usize| {
            let Case { truth, picture } = Case::new(k as u64, sees)?;
            let place = format!("question {}", k + 1);
            Some(Entry { place, prompt: truth.prompt, picture, answers: Answers::Exactly(truth.continuation) })
        };
        return Ok((0..contest.questions).filter_map(case).collect());
    };
    let read = Questions::open(path)?;
    let name = read.path.file_name().map_or_else(|| read.path.display().to_string(), |n| n.to_string_lossy().into());
    board.set = format!("questions of {name}");
    board.bad.extend(read.bad.iter().map(|why| format!("{name}, {why}")));
    if !read.unread.is_empty() {
        board.notes.push(format!("{name} has columns that are not read: {}", read.unread.join(", ")));
    }
    if read.rows.len() > contest.questions {
        board.notes.push(format!("the first {} of {} questions", contest.questions, read.rows.len()));
    }
    let put = |q: &str| if contest.prompt.is_empty() { q.into() } else { contest.prompt.replace(SLOT, q) };
    let entry = |q: crate::questions::Question| Entry {
        place: format!("{name}, line {}", q.line),
        prompt: put(&q.question),
        picture: q.picture,
        answers: Answers::AnyOf(q.answers),
    };
    Ok(read.rows.into_iter().take(contest.questions).map(entry).collect())
}

/// What a row has gathered so far.
struct Tally {
    call: Option<Call>,
    /// For each figure.
    values: Vec<Gathered>,
    missed: usize,
    why: Option<String>,
    standing: Standing,
    /// What its computations are given; what they note is about this row alone.
    ctx: Ctx,
}

/// Figures of one question; `None` of what it does not have.
type Figures = Vec<(Figure, Option<f64>)>;

/// What a row makes of a question.
struct Seen {
    right: bool,
    figures: Figures,
}

impl Tally {
    fn new(call: Option<Call>, share: Option<u16>, ctx: &Ctx) -> Self {
        let method = call.as_ref().map_or(FULL, |c| c.method);
        let standing = Standing::new(method, share);
        let values = vec![Gathered::default(); standing.values.len()];
        Self { call, values, missed: 0, why: None, standing, ctx: ctx.apart() }
    }

    /// Adds what it makes of a question, or why nothing. Errors only where the work was cancelled.
    fn add(&mut self, seen: Result<Seen>) -> Result<()> {
        match seen {
            Ok(seen) => {
                let right = self.standing.right + usize::from(seen.right);
                self.standing.count(right, self.standing.n + 1);
                for (figure, value) in seen.figures.into_iter().filter_map(|(f, v)| Some((f, v?))) {
                    let gathered = &mut self.values[figure as usize];
                    let measured = Figure::MEASURED.contains(&figure);
                    self.standing.values[figure as usize] =
                        if measured { gathered.median_with(value) } else { Some(gathered.mean_with(value)) };
                }
            }
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(why) => {
                self.missed += 1;
                self.why.get_or_insert_with(|| why.to_string());
            }
        }
        let (n, missed) = (self.standing.n, self.missed);
        let why = self
            .why
            .as_ref()
            .map(|w| if n == 0 { w.clone() } else { format!("not on {missed} of {}: {w}", n + missed) });
        self.standing.notes = why.into_iter().chain(self.ctx.notes()).collect();
        Ok(())
    }
}

/// The values of one figure so far, so that a further one costs no look at all of them.
#[derive(Clone, Default)]
struct Gathered {
    n: usize,
    sum: f64,
    /// In rising order, where their median is asked for.
    rising: Vec<f64>,
}

impl Gathered {
    /// The mean with this one.
    fn mean_with(&mut self, value: f64) -> f64 {
        (self.n, self.sum) = (self.n + 1, self.sum + value);
        self.sum / self.n as f64
    }

    /// The median with this one.
    fn median_with(&mut self, value: f64) -> Option<f64> {
        let at = self.rising.partition_point(|v| v.total_cmp(&value).is_lt());
        self.rising.insert(at, value);
        middle(&self.rising)
    }
}

/// The median of values in rising order.
fn middle(rising: &[f64]) -> Option<f64> {
    let n = rising.len();
    (n > 0).then(|| (rising[(n - 1) / 2] + rising[n / 2]) / 2.0)
}

fn median(list: &[f64]) -> Option<f64> {
    let mut rising = list.to_vec();
    rising.sort_by(f64::total_cmp);
    middle(&rising)
}

impl Ask for Contest {
    type Out = Board;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Board> {
        let open = store.get(&ModelOf(self.model.clone(), self.placement), ctx)?;
        held(self, &open, ctx, &mut |board| store.show::<Self>(board.clone()))
    }
}

/// The table of a contest; `so_far` sees it grow.
///
/// Errors: a model that answers nothing in words; a file of questions that cannot be read, or none of which can be
/// used; cancelled. A method that cannot serve is a row with a note, a question that cannot be used is said.
fn held(contest: &Contest, open: &OpenModel, ctx: &Ctx, so_far: &mut dyn FnMut(&Board)) -> Result<Board> {
    answers(open)?;
    let sees = sees(open);
    let mut board = Board::default();
    let entries = entries(contest, sees, &mut board)?;
    if !sees && entries.iter().any(|e| e.picture.is_some()) {
        return Err(Error::invalid(format!(
            "{} reads no pictures, and the questions are about some; choose another model",
            open.model.info().name
        )));
    }
    board.asked = entries.len();
    // What happens within one question is not worth a step of the bar.
    let quiet = ctx.quiet();
    let mut tallies = tallies(contest, &quiet);
    let steps = entries.len() * tallies.len();
    for (k, entry) in entries.iter().enumerate() {
        ctx.step(k * tallies.len(), steps)?;
        let first = (|| {
            let own = match &entry.answers {
                Answers::Exactly(text) => answer_ids(open, &entry.prompt, text)?,
                Answers::AnyOf(_) => Vec::new(),
            };
            let greedy = match &entry.answers {
                Answers::Exactly(_) => own.len(),
                Answers::AnyOf(all) => {
                    let mut most = 0;
                    for a in all {
                        most = most.max(open.text()?.encode(&format!(" {a}"), None, false)?.ids.len());
                    }
                    most.min(MAX_ANSWER) + BEYOND
                }
            };
            Ok((run_up_to(open, &entry.prompt, entry.picture.as_ref(), greedy, &quiet)?, own, greedy))
        })();
        let Some((trace, own, greedy)) = board.usable(entry, first)? else { continue };
        let on = Subject { tokenizer: open.tokenizer.as_ref(), ..Subject::new(&trace) }
            .with_model(open.model.as_ref())
            .of(Tower::Text);
        let Some((full, seen)) = board.usable(entry, full_row(contest, &on, ctx))? else { continue };
        let question = Asked { contest, entry, own: &own, greedy, trace: &trace, on, full: &full, k: k as u64 };
        for i in 0..tallies.len() {
            ctx.step(k * tallies.len() + i, steps)?;
            let t = &mut tallies[i];
            let found = match &t.call {
                None => (|| {
                    let right = entry.answers.has(&trace.continuation, &own, open)?;
                    Ok(Seen { right, figures: seen.clone() })
                })(),
                Some(call) => question.reduced(call, t.standing.share, open, &t.ctx),
            };
            t.add(found)?;
            board.rows = tallies.iter().filter(|t| t.standing.n + t.missed > 0).map(|t| t.standing.clone()).collect();
            so_far(&board);
        }
        board.done = k + 1;
    }
    match board.bad.first() {
        Some(why) if board.rows.is_empty() => Err(Error::invalid(format!("no question can be used; {why}"))),
        _ => Ok(Board { done: board.asked, ..board }),
    }
}

impl Board {
    /// What the question gives; where it cannot be used, why is said and the others go on. Errors only where the work was
    /// cancelled.
    fn usable<T>(&mut self, entry: &Entry, found: Result<T>) -> Result<Option<T>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Error::Cancelled) => Err(Error::Cancelled),
            Err(why) => {
                self.bad.push(format!("{}: {why}", entry.place));
                Ok(None)
            }
        }
    }
}

/// The full model, the methods at each share, the floors last.
fn tallies(contest: &Contest, ctx: &Ctx) -> Vec<Tally> {
    let mut calls = contest.calls.clone();
    for info in catalog::of(Kind::Reduce).filter(|i| i.role == Role::Floor) {
        if !calls.iter().any(|c| c.method == info.id) {
            calls.push(Call::of(info));
        }
    }
    calls.sort_by_key(|c| is_floor(c.method));
    let mut out = vec![Tally::new(None, None, ctx)];
    for call in calls {
        let budget = catalog::find(call.method).is_ok_and(|e| e.info().budget.is_some());
        if budget {
            out.extend(contest.shares.iter().map(|s| Tally::new(Some(call.clone()), Some(*s), ctx)));
        } else {
            out.push(Tally::new(Some(call), None, ctx));
        }
    }
    out
}

/// The full model on a question, and its figures.
fn full_row(contest: &Contest, on: &Subject, ctx: &Ctx) -> Result<(Full, Figures)> {
    let quiet = ctx.quiet();
    let clock = Instant::now();
    let (full, taken) = measured(contest.repeats, || reduce::full(on, &|| clock.elapsed(), &quiet), Full::time)?;
    let cost = reduce::cost(on, &Plan::none(on.trace))?;
    let mut figures = vec![
        (Figure::Kl, Some(0.0)),
        (Figure::Top1, Some(1.0)),
        (Figure::Kept, Some(1.0)),
        (Figure::Flops, Some(cost.flops)),
        (Figure::FlopsShare, Some(1.0)),
        (Figure::KvBytes, Some(cost.kv_bytes as f64)),
        (Figure::KvShare, Some(1.0)),
    ];
    figures.extend(taken);
    Ok((full, figures))
}

/// What `once` gives, with the most memory that it takes and the median of its times when it is done again; neither is
/// measured without repeats.
fn measured<T>(
    repeats: u8,
    mut once: impl FnMut() -> Result<T>,
    time: impl Fn(&T) -> Duration,
) -> Result<(T, Figures)> {
    if repeats == 0 {
        return Ok((once()?, Figures::new()));
    }
    let (first, peak) = memory::peak(&mut once);
    let first = first?;
    let time = median_time(repeats, || Ok(time(&once()?)))?;
    Ok((first, vec![(Figure::Milliseconds, time), (Figure::PeakBytes, peak.map(|p| p as f64))]))
}

/// The median of so many times in milliseconds; nothing is done for none.
fn median_time(repeats: u8, mut once: impl FnMut() -> Result<Duration>) -> Result<Option<f64>> {
    let mut times = Vec::new();
    for _ in 0..repeats {
        times.push(once()?.as_secs_f64() * 1e3);
    }
    Ok(median(&times))
}

/// A question that the full model has answered.
struct Asked<'a> {
    contest: &'a Contest,
    entry: &'a Entry,
    own: &'a [u32],
    greedy: usize,
    trace: &'a Trace,
    on: Subject<'a>,
    full: &'a Full,
    /// Number of the question.
    k: u64,
}

impl Asked<'_> {
    /// What the model makes of the question with this reduction, really run.
    fn reduced(&self, call: &Call, kept: Option<u16>, open: &OpenModel, ctx: &Ctx) -> Result<Seen> {
        let on = &self.on;
        let method = reduce::find(call.method)?;
        let mut params = drawn_anew(method.info(), &call.params, self.k);
        if let Some(kept) = kept {
            params = budget::at_share(method, on, &params, share(kept), ctx)?;
        }
        let once = || -> Result<(Plan, Judgement)> {
            // The choice of a decider that looks at the run before it starts is part of the time.
            let clock = Instant::now();
            let decider = method.start(on, &params)?;
            let began = std::cell::Cell::new(false);
            let now = || if began.replace(true) { clock.elapsed() } else { Duration::ZERO };
            reduce::judge(self.full, on, vec![decider], &now, ctx)
        };
        let ((plan, judgement), taken) =
            measured(self.contest.repeats, once, |r: &(Plan, Judgement)| r.1.reduced_time)?;
        let said = answered(on, &plan, self.greedy, ctx)?;
        let (cost, all) = (reduce::cost(on, &plan)?, reduce::cost(on, &Plan::none(self.trace))?);
        let mut figures = vec![
            (Figure::Kl, judgement.kl),
            (Figure::Top1, judgement.top1_same.map(|s| f64::from(u8::from(s)))),
            (Figure::Kept, Some(budget::kept(on, &plan)?)),
            (Figure::Flops, Some(cost.flops)),
            (Figure::FlopsShare, Some(cost.flops / all.flops.max(1.0))),
            (Figure::KvBytes, Some(cost.kv_bytes as f64)),
            (Figure::KvShare, Some(cost.kv_bytes as f64 / (all.kv_bytes as f64).max(1.0))),
        ];
        figures.extend(taken);
        if self.contest.areas {
            let curves = faithfulness(on, &[], &order(on, &plan)?, 0, ctx, &mut |_| ())?.score;
            figures.extend([(Figure::Deletion, area(&curves.deletion)), (Figure::Insertion, area(&curves.insertion))]);
        }
        Ok(Seen { right: self.entry.answers.has(&said, self.own, open)?, figures })
    }
}

/// The order in which a method would let tokens go, as a score: those that stay longest, and among them those that it
/// scored highest, come first. Equal ones fall as chance has it, with one seed.
fn order(on: &Subject, plan: &Plan) -> Result<Scores> {
    let tokens = &on.tower()?.tokens;
    let n = tokens.len();
    let counted = budget::counted(on)?;
    let fates = plan.fates(on.tower);
    // How many steps a token has survived as a row of its own, or else as a part of one.
    let mut lasts = vec![0.0f32; n];
    for step in &fates {
        for (l, f) in lasts.iter_mut().zip(step) {
            *l += match f {
                Fate::Kept => 1.0,
                Fate::Merged(_) => 0.5,
                Fate::Aside(_) | Fate::Dropped(_) => 0.0,
            };
        }
    }
    let mut score = vec![f32::NEG_INFINITY; n];
    for step in plan.of(on.tower) {
        step.scores.iter().filter(|s| s.0 < n && !s.1.is_nan()).for_each(|&(t, s)| score[t] = s);
    }
    // Scores are of any unit: their ranks stand between two steps.
    let mut ranked: Vec<f32> = score.iter().copied().filter(|s| s.is_finite()).collect();
    ranked.sort_by(f32::total_cmp);
    ranked.dedup();
    let rank = |s: f32| ranked.partition_point(|r| *r < s) as f32 / (ranked.len() + 1) as f32;
    let mut values = vec![None; n];
    for t in counted {
        values[t] = Some(2.0 * lasts[t] + if score[t].is_finite() { 0.9 * rank(score[t]) } else { 0.0 });
    }
    Ok(Scores::new(values, "order"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Jobs;
    use crate::keys::ModelSource;

    fn contest(model: &'static str, methods: &[&str], shares: &[u16]) -> Contest {
        let calls = methods.iter().map(|m| Call::of(catalog::find(m).unwrap().info())).collect();
        Contest {
            model: ModelSource::Sample(model),
            placement: Default::default(),
            data: None,
            questions: 2,
            calls,
            shares: shares.to_vec(),
            prompt: String::new(),
            areas: false,
            repeats: 0,
        }
    }

    fn board(contest: &Contest) -> Result<Board> {
        Jobs::new(|| ()).get(contest, &Ctx::default()).map(|b| b.as_ref().clone())
    }

    #[test]
    fn everything_kept_is_the_full_model_in_every_figure() {
        let mut asked = contest("sample-vlm", &["divprune"], &[1000, 250]);
        asked.areas = true;
        let found = board(&asked).unwrap();
        let ids: Vec<(&str, Option<u16>)> = found.rows.iter().map(|r| (r.method, r.share)).collect();
        let both = |m| [(m, Some(1000)), (m, Some(250))];
        let floors = [both("random"), both("uniform")].concat();
        assert_eq!(ids, [vec![(FULL, None)], both("divprune").to_vec(), floors].concat());
        assert_eq!((found.asked, found.done, found.bad.len()), (2, 2, 0));
        let full = &found.rows[0];
        for r in found.rows.iter().filter(|r| r.share == Some(1000)) {
            assert_eq!((r.n, r.right, r.get(Figure::Accuracy)), (2, full.right, full.get(Figure::Accuracy)));
            for f in [Figure::Flops, Figure::KvBytes, Figure::Top1, Figure::Kept, Figure::FlopsShare, Figure::KvShare] {
                assert_eq!(r.get(f), full.get(f), "{} {f:?}", r.method);
            }
            assert!(r.get(Figure::Kl).unwrap() < 1e-6);
        }
        for r in found.rows.iter().filter(|r| r.share == Some(250)) {
            assert!((r.get(Figure::Kept).unwrap() - 0.25).abs() < 0.01 && r.get(Figure::FlopsShare).unwrap() < 1.0);
            let areas = [Figure::Deletion, Figure::Insertion].map(|f| r.get(f).unwrap());
            assert!(areas.iter().all(|a| (0.0..=1.0).contains(a)), "{areas:?}");
        }
        // No time was asked for, and so no memory; a second time is the same.
        assert!(found.rows.iter().all(|r| Figure::MEASURED.iter().all(|f| r.get(*f).is_none())));
        assert_eq!(board(&asked).unwrap(), found);
    }

    #[test]
    fn a_file_of_questions_is_asked_and_its_bad_rows_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.csv");
        let case = Case::new(0, true).unwrap();
        let picture = case.picture.unwrap().to_string();
        let table = format!(
            "image,question,answer\n{picture},{0},{1}\n{picture},{0},nothing of the kind\nnone.png,{0},a\n",
            case.truth.prompt, case.truth.answer
        );
        std::fs::write(&path, table).unwrap();
        let mut asked = contest("sample-vlm", &["tome"], &[500]);
        (asked.data, asked.repeats, asked.questions) = (Some(path.clone()), 1, 10);
        let found = board(&asked).unwrap();
        assert_eq!((found.asked, found.set.as_str()), (2, "questions of q.csv"));
        assert!(found.bad.len() == 1 && found.bad[0].contains("q.csv, line 4") && found.bad[0].contains("none.png"));
        let full = &found.rows[0];
        let exact = board(&Contest { data: None, questions: 1, ..asked.clone() }).unwrap();
        assert_eq!((full.n, full.right), (2, exact.rows[0].right));
        assert!(found.rows.iter().all(|r| r.get(Figure::Milliseconds).is_some_and(|t| t > 0.0)));
        // A model that reads no pictures is told at once; so is one that writes nothing.
        let of =
            |model| board(&Contest { model: ModelSource::Sample(model), ..asked.clone() }).unwrap_err().to_string();
        assert!(of("sample-lm").contains("reads no pictures"), "{}", of("sample-lm"));
        assert!(of("sample-diffusion").contains("no answers in words"));
    }

    #[test]
    fn medians_by_hand() {
        assert_eq!((median(&[]), median(&[3.0, 1.0]), median(&[3.0, 9.0, 1.0])), (None, Some(2.0), Some(3.0)));
        let mut n = 0;
        assert_eq!(median_time(0, || panic!("none is asked for")).unwrap(), None);
        let times = median_time(3, || {
            n += 1;
            Ok(Duration::from_millis(n * n))
        });
        assert_eq!(times.unwrap(), Some(4.0));
    }
}
