//! Carries out trials: every method on every input, and the figures over them.

use super::{ModelOf, OpenModel};
use crate::jobs::{Ask, Store};
use crate::keys::Call;
use crate::picture_source::PictureSource;
use crate::trial::{Figure, Judged, Row, Trial, Verdict};
use crate::truth::Truth;
use std::time::Duration;
use tokenscope_analysis::method::{Domain, Info, Need, Params, Role};
use tokenscope_analysis::model::Writes;
use tokenscope_analysis::reduce::{self, Fate, Full, Plan, Runner, budget};
use tokenscope_analysis::run::{RunRequest, run, run_with};
use tokenscope_analysis::trace::{CaptureSpec, Tower, Trace};
use tokenscope_analysis::truth::{Agreement, mean_and_error, true_tokens};
use tokenscope_analysis::{Ctx, Error, Result, Subject, catalog, score};
use tokenscope_generate::HELD_OUT;
use tokenscope_generate::scenes::{self, Scene};
use tokenscope_generate::stories::Story;

/// One input with its answer.
pub(super) struct Case {
    pub truth: Truth,
    pub picture: Option<PictureSource>,
}

impl Case {
    /// The `k`-th input: a story up to its last decided word, or a question about a scene, whose kinds take turns.
    pub fn new(k: u64, sees: bool) -> Option<Self> {
        if !sees {
            let story = Story::new(HELD_OUT + k);
            let truth = story.links.last().map(|l| Truth::of_story(&story, l))?;
            return Some(Self { truth, picture: None });
        }
        let scene = Scene::new(HELD_OUT + k);
        let questions = scene.questions();
        // A caption is decided by everything, which makes no truth to find.
        let kinds: Vec<scenes::Ask> = scenes::Ask::ALL.into_iter().filter(|a| *a != scenes::Ask::Caption).collect();
        let turn = |i: usize| kinds[(k as usize + i) % kinds.len()];
        let all = (0..kinds.len()).flat_map(|i| questions.iter().filter(move |q| q.ask == turn(i)));
        let truth = all.into_iter().find_map(|q| Truth::of_question(&scene, q))?;
        Some(Self { truth, picture: Some(PictureSource::test_scene(k)) })
    }

    /// The full run up to the answer, and the ids of the right answer.
    fn run(&self, open: &OpenModel, ctx: &Ctx) -> Result<(Trace, Vec<u32>)> {
        let answer = answer_ids(open, &self.truth.prompt, &self.truth.continuation)?;
        Ok((run_up_to(open, &self.truth.prompt, self.picture.as_ref(), answer.len(), ctx)?, answer))
    }
}

/// The ids of what follows a prompt.
pub(super) fn answer_ids(open: &OpenModel, prompt: &str, continuation: &str) -> Result<Vec<u32>> {
    let tokenizer = open.text()?;
    let before = tokenizer.encode(prompt, None, true)?.ids;
    let all = tokenizer.encode(&format!("{prompt}{continuation}"), None, true)?.ids;
    Ok(match all.strip_prefix(before.as_slice()) {
        Some(rest) => rest.to_vec(),
        // A tokenizer that adds an end token, or cuts the prompt differently with more behind it.
        None => tokenizer.encode(continuation, None, false)?.ids,
    })
}

/// The full run of a prompt with its picture, and so many tokens behind it.
pub(super) fn run_up_to(
    open: &OpenModel,
    prompt: &str,
    picture: Option<&PictureSource>,
    greedy: usize,
    ctx: &Ctx,
) -> Result<Trace> {
    let mut request = RunRequest { prompt: Some(prompt.into()), ..RunRequest::default() };
    if let (Some(source), Some(processor)) = (picture, &open.processor) {
        request.add_picture(processor, &source.open(ctx)?)?;
    }
    request.greedy = greedy;
    let trace = run(open.model.as_ref(), Some(open.text()?), &request, &CaptureSpec::views(), ctx)?;
    trace.check_finite()?;
    Ok(trace)
}

/// What the reduced model goes on with after the input of `t`, by a plan that was carried out on it.
pub(super) fn answered(on: &Subject, plan: &Plan, greedy: usize, ctx: &Ctx) -> Result<Vec<u32>> {
    let model = on.model.ok_or_else(|| Error::invalid("a reduced model can only be run with the model's weights"))?;
    let image = on.trace.image.clone();
    let request = RunRequest { ids: Some(on.ids()), image, greedy, ..RunRequest::default() };
    let mut runner = Runner::new(on, vec![Box::new(plan.again())], ctx)?;
    Ok(run_with(model, None, &request, &CaptureSpec::sites(&[]), &mut runner, ctx)?.continuation)
}

/// Errors: a model that answers nothing in words.
pub(super) fn answers(open: &OpenModel) -> Result<()> {
    let info = open.model.info();
    if info.writes == Writes::Causal && open.tokenizer.is_some() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} gives no answers in words; judge with a language model or one that answers questions about pictures",
        info.architecture
    )))
}

/// Whether a model reads pictures.
pub(super) fn sees(open: &OpenModel) -> bool {
    open.processor.is_some() && open.model.info().towers.contains_key(&Tower::Vision)
}

/// What one method has gathered so far.
struct Tally {
    method: String,
    stack: &'static str,
    floor: bool,
    /// One list per column.
    values: Vec<Vec<f64>>,
    n: usize,
    missed: usize,
    why: Option<String>,
    /// What its computations are given; what they note is about this method alone.
    ctx: Ctx,
}

impl Tally {
    fn new(method: &str, stack: &'static str, floor: bool, columns: usize, ctx: &Ctx) -> Self {
        let values = vec![Vec::new(); columns];
        Self { method: method.into(), stack, floor, values, n: 0, missed: 0, why: None, ctx: ctx.apart() }
    }

    /// Adds an input's figures, or why there are none. Errors only where the work was cancelled.
    fn add(&mut self, figures: impl FnOnce(&Ctx) -> Result<Vec<Option<f64>>>) -> Result<()> {
        self.ctx.check()?;
        match figures(&self.ctx) {
            Ok(figures) => {
                self.n += 1;
                for (list, v) in self.values.iter_mut().zip(figures) {
                    list.extend(v);
                }
            }
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(why) => {
                self.missed += 1;
                self.why.get_or_insert_with(|| why.to_string());
            }
        }
        Ok(())
    }

    fn row(self) -> Row {
        let Self { method, stack, floor, values, n, missed, why, ctx } = self;
        let figures = values.iter().map(|v| mean_and_error(v).map(|(mean, error)| Figure { mean, error })).collect();
        let why = why.map(|w| if n == 0 { w } else { format!("not on {missed} of {} inputs: {w}", n + missed) });
        Row { method, stack, floor, n, figures, notes: why.into_iter().chain(ctx.notes()).collect() }
    }
}

impl Ask for Trial {
    type Out = Verdict;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Verdict> {
        let open = store.get(&ModelOf(self.model.clone(), self.placement), ctx)?;
        judged(self, &open, ctx)
    }
}

/// The table of a trial. Errors: a model that answers neither stories nor questions, cancelled; a method that cannot
/// serve is a row with a note.
fn judged(trial: &Trial, open: &OpenModel, ctx: &Ctx) -> Result<Verdict> {
    answers(open)?;
    let sees = sees(open);
    // What happens within one input is not worth a step of the bar.
    let quiet = ctx.quiet();
    let columns = trial.judged.columns();
    let mut tallies = tallies(trial, sees, columns.len(), &quiet);
    let (mut asked, mut right) = (0, 0);
    for k in 0..trial.samples {
        ctx.step(k, trial.samples)?;
        let Some(case) = Case::new(k as u64, sees) else { continue };
        let (trace, answer) = case.run(open, &quiet)?;
        asked += 1;
        let is_right = trace.continuation == answer;
        right += usize::from(is_right);
        if !is_right && !trial.wrong_too {
            continue;
        }
        match trial.judged {
            Judged::Scores => {
                for (t, call) in &mut tallies {
                    let stack = t.stack;
                    t.add(|ctx| agreement(stack, call, k as u64, &case, &trace, open, ctx))?;
                }
            }
            Judged::Reductions(keep) => {
                let on = Subject::new(&trace).with_model(open.model.as_ref()).of(Tower::Text);
                let full = reduce::full(&on, &Duration::default, &quiet)?;
                let shares = case.truth.shares(trace.tower(Tower::Text)?).unwrap_or_default();
                let known = Known { answer: &answer, full: &full, tokens: &true_tokens(&shares), k: k as u64 };
                for (t, call) in &mut tallies {
                    t.add(|ctx| reduced(call, f64::from(keep) / 1000.0, &known, &trace, open, ctx))?;
                }
            }
        }
    }
    let set = if sees { "questions about drawn scenes" } else { "stories" };
    Ok(Verdict { set, asked, right, columns, rows: tallies.into_iter().map(|t| t.0.row()).collect() })
}

/// A line for every method and stack, the floor last.
fn tallies(trial: &Trial, sees: bool, columns: usize, ctx: &Ctx) -> Vec<(Tally, Call)> {
    let scores = trial.judged == Judged::Scores;
    let stacks: &[&'static str] = if sees && scores { &[TEXT, ENCODER] } else { &[TEXT] };
    let floor: Vec<&Info> = catalog::of(trial.judged.kind()).filter(|i| i.role == Role::Floor).collect();
    let mut calls: Vec<(Call, bool)> =
        trial.calls.iter().map(|c| (c.clone(), floor.iter().any(|f| f.id == c.method))).collect();
    for info in &floor {
        if !calls.iter().any(|c| c.0.method == info.id) {
            calls.push((Call::of(info), true));
        }
    }
    calls.sort_by_key(|c| c.1);
    stacks
        .iter()
        .flat_map(|s| calls.iter().map(|(c, floor)| (Tally::new(c.method, s, *floor, columns, ctx), c.clone())))
        .collect()
}

/// The language model, or the only stack.
const TEXT: &str = "text";
/// The image encoder.
const ENCODER: &str = "vision";

/// How well a score agrees with the truth of an input.
fn agreement(
    stack: &str,
    call: &Call,
    k: u64,
    case: &Case,
    trace: &Trace,
    open: &OpenModel,
    ctx: &Ctx,
) -> Result<Vec<Option<f64>>> {
    let tower = if stack == ENCODER { Tower::Vision } else { Tower::Text };
    let t = trace.tower(tower)?;
    let shares = case.truth.shares(t).ok_or_else(|| Error::invalid("no token of this stack decides the answer"))?;
    let method = score::find(call.method)?;
    let info = method.info();
    if tower == Tower::Vision && info.needs.contains(&Need::Logits) {
        return Err(info.needs(Need::Logits.words()));
    }
    // What an encoder with a class token says of the picture is read there, else at the last token.
    let target = if tower == Tower::Vision { t.class_token } else { None };
    let input = Subject::new(trace).with_model(open.model.as_ref()).of(tower).at(target);
    let s = method.score(&input, &drawn_anew(info, &call.params, k), ctx)?;
    let a = Agreement::new(&s.values, s.signed, &shares)
        .ok_or_else(|| Error::invalid("it says nothing about the tokens that could be true"))?;
    Ok(vec![Some(a.hit), Some(a.precision), a.rank])
}

/// The parameters with a seed of the input's own, so that chance draws anew for every input; a seed that was asked for
/// stays.
pub(super) fn drawn_anew(info: &Info, params: &Params, k: u64) -> Params {
    let seed = info.params.iter().find(|p| p.domain == Domain::Seed && !params.has(p.key));
    seed.map_or_else(|| params.clone(), |p| params.clone().set(p.key, k as i64))
}

/// What is known about an input before it is reduced.
struct Known<'a> {
    answer: &'a [u32],
    full: &'a Full,
    /// The true tokens.
    tokens: &'a [usize],
    /// Number of the input.
    k: u64,
}

/// What the reduced model makes of an input, really run.
fn reduced(call: &Call, keep: f64, known: &Known, t: &Trace, open: &OpenModel, ctx: &Ctx) -> Result<Vec<Option<f64>>> {
    let model = open.model.as_ref();
    let on = Subject::new(t).with_model(model).of(Tower::Text);
    let method = reduce::find(call.method)?;
    let params = drawn_anew(method.info(), &call.params, known.k);
    let params = budget::at_share(method, &on, &params, keep, ctx)?;
    let decider = method.start(&on, &params)?;
    let (plan, judgement) = reduce::judge(known.full, &on, vec![decider], &Duration::default, ctx)?;
    let said = answered(&on, &plan, known.answer.len(), ctx)?;
    let fates = plan.fates(Tower::Text).pop().unwrap_or_default();
    let left = known.tokens.iter().filter(|i| !matches!(fates.get(**i), Some(Fate::Dropped(_)))).count();
    let kept = (!known.tokens.is_empty()).then(|| left as f64 / known.tokens.len() as f64);
    let right = f64::from(u8::from(said == known.answer));
    Ok(vec![Some(right), judgement.kl, kept, Some(budget::kept(&on, &plan)?)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Jobs;
    use crate::keys::ModelSource;

    fn verdict(trial: &Trial) -> Verdict {
        Jobs::new(|| ()).get(trial, &Ctx::default()).unwrap().as_ref().clone()
    }

    fn trial(judged: Judged, methods: &[&str]) -> Trial {
        let calls = methods.iter().map(|m| Call::of(tokenscope_analysis::catalog::find(m).unwrap().info())).collect();
        Trial {
            model: ModelSource::Sample("sample-lm"),
            placement: Default::default(),
            judged,
            calls,
            samples: 2,
            wrong_too: true,
        }
    }

    #[test]
    fn two_stories_judge_scores_with_the_floor_below_and_a_note_where_one_cannot_serve() {
        let asked = trial(Judged::Scores, &["received_attention", "cls_score"]);
        let found = verdict(&asked);
        let ids: Vec<&str> = found.rows.iter().map(|r| r.method.as_str()).collect();
        assert_eq!(ids, ["received_attention", "cls_score", "random_score", "uniform_score"]);
        assert_eq!((found.asked, found.set), (2, "stories"));
        let (received, class, uniform) = (&found.rows[0], &found.rows[1], &found.rows[3]);
        assert_eq!((received.n, class.n), (2, 0));
        assert!(class.notes.len() == 1 && class.notes[0].contains("cls_score needs"), "{:?}", class.notes);
        assert!(received.notes.is_empty() && received.figures.iter().all(Option::is_some));
        // A constant score is right by chance: k true tokens of n, in the pointing game as in the precision.
        let by_hand: Vec<f64> = (0..2)
            .map(|k| {
                let case = Case::new(k, false).unwrap();
                let open = super::super::open(
                    &ModelSource::Sample("sample-lm"),
                    Default::default(),
                    Default::default(),
                    &Ctx::default(),
                )
                .unwrap();
                let (trace, _) = case.run(&open, &Ctx::default()).unwrap();
                let shares = case.truth.shares(&trace.towers[&Tower::Text]).unwrap();
                true_tokens(&shares).len() as f64 / shares.iter().flatten().count() as f64
            })
            .collect();
        let mean = (by_hand[0] + by_hand[1]) / 2.0;
        for figure in &uniform.figures[..2] {
            assert!((figure.unwrap().mean - mean).abs() < 1e-12, "{figure:?} {mean}");
        }
        assert_eq!(uniform.figures[2], None);
        assert_eq!(verdict(&asked), found);
    }

    #[test]
    fn a_method_says_what_it_noted_once_and_after_it_why_it_could_not_serve() {
        let ctx = Ctx::default();
        let mut tally = Tally::new("m", TEXT, false, 1, &ctx);
        for figure in [Ok(vec![Some(1.0)]), Err(Error::invalid("too short")), Ok(vec![Some(0.0)])] {
            let noted = |ctx: &Ctx| {
                ctx.note("tied");
                figure
            };
            tally.add(noted).unwrap();
        }
        let row = tally.row();
        assert_eq!(row.notes, ["not on 1 of 3 inputs: too short", "tied"]);
        assert!(ctx.notes().is_empty(), "what is about one method is said of all");
        let verdict = Verdict { set: "stories", asked: 3, right: 3, columns: &[], rows: vec![row] };
        let note = |whole: &[String]| verdict.table(whole).rows[0].last().unwrap().clone();
        assert_eq!(note(&[]), "not on 1 of 3 inputs: too short; tied");
        assert_eq!(note(&["on the CPU".into()]), "not on 1 of 3 inputs: too short; tied; on the CPU");
    }

    #[test]
    fn everything_kept_changes_nothing_and_little_kept_changes_something() {
        let at = |keep: u16| verdict(&trial(Judged::Reductions(keep), &[]));
        let (all, few) = (at(1000), at(200));
        for r in &all.rows {
            let figures: Vec<f64> = r.figures.iter().map(|f| f.unwrap().mean).collect();
            assert_eq!(figures[0], all.right as f64 / all.asked as f64, "{}", r.method);
            assert!(figures[1] < 1e-6 && figures[2] == 1.0 && figures[3] == 1.0, "{figures:?}");
        }
        for r in &few.rows {
            let figures: Vec<f64> = r.figures.iter().map(|f| f.unwrap().mean).collect();
            assert!(figures[1] > 1e-3 && figures[2] < 1.0 && (0.2..0.3).contains(&figures[3]), "{figures:?}");
        }
    }
}
