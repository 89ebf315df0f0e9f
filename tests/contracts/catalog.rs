//! What every method of the catalog owes, whatever its kind: it is tested by being in the list. Small models of every
//! kind, inputs down to one token, ties, nothing to drop, tiles, numbers that are none; every parameter at its ends and
//! outside of them; cancelled at every step; without memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokenscope_analysis::array::Array;
use tokenscope_analysis::catalog::{self, Entry};
use tokenscope_analysis::decode;
use tokenscope_analysis::foreign::words_of;
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::method::{Basis, Domain, FAMILIES, Info, Kind, LayerPick, Param, Params, Setting};
use tokenscope_analysis::segment::{self, Input, Reads, Segmentation};
use tokenscope_analysis::series::Series;
use tokenscope_analysis::subject::Subject;
use tokenscope_analysis::token::TokenKind;
use tokenscope_analysis::trace::{Tower, Trace};
use tokenscope_analysis::{Ctx, Error, Result, reduce};
use tokenscope_tests::tiny::{self, Tiny};
use tokenscope_tests::{golden, root};

/// A run of a small model, one of its towers.
struct Case {
    name: String,
    model: &'static Tiny,
    trace: Trace,
    tower: Tower,
    /// The picture, where the model reads one.
    picture: Option<Picture>,
    /// Whether its numbers are numbers, so that results must be.
    finite: bool,
}

impl Case {
    fn subject(&self) -> Subject<'_> {
        // A model drafts for itself.
        Subject {
            tower: self.tower,
            model: Some(self.model.model.as_ref()),
            tokenizer: self.model.tokenizer.as_ref(),
            partner: Some(self.model.model.as_ref()),
            picture: self.picture.as_ref().zip(self.model.processor.as_ref()),
            ..Subject::new(&self.trace)
        }
    }
}

static MODELS: LazyLock<Vec<Tiny>> = LazyLock::new(tiny::all);

/// Every run that methods are tried on.
static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let mut out = Vec::new();
    for model in MODELS.iter() {
        let pictures: &[(usize, usize)] = if model.processor.is_some() { &[(48, 32), (90, 30)] } else { &[(1, 1)] };
        for (n, same) in [(1, false), (2, false), (9, false), (6, true)] {
            for &picture in pictures {
                let trace = model.trace(&model.request(n, same, picture));
                let what = if same { "equal" } else { "different" };
                let name = format!("{}, {n} {what} tokens, picture of {picture:?}", model.name);
                for &tower in trace.towers.keys() {
                    out.push(Case {
                        name: format!("{name}, {tower:?}"),
                        model,
                        trace: trace.clone(),
                        tower,
                        picture: model.processor.is_some().then(|| tiny::picture_of(picture.0, picture.1, same)),
                        finite: true,
                    });
                }
            }
        }
        // Numbers that are none, as half-precision weights that overflow give.
        let mut trace = model.trace(&model.request(5, false, pictures[0]));
        for entry in trace.arrays.values_mut() {
            let values = vec![f32::NAN; entry.array.data().len()];
            entry.array = Arc::new(Array::new(entry.array.shape().to_vec(), values).unwrap());
        }
        let tower = trace.main_tower();
        out.push(Case {
            name: format!("{}, not a number", model.name),
            model,
            trace,
            tower,
            picture: None,
            finite: false,
        });
    }
    out
});

/// The text for methods that cut one.
const TEXT: &str = "naïve 👩‍👩‍👧 = 12,\n";

/// The picture for methods that cut one.
static PICTURE: LazyLock<Picture> = LazyLock::new(|| tiny::picture_of(48, 32, false));

/// The series for methods that cut one: a wave whose pitch changes.
static SERIES: LazyLock<Series> =
    LazyLock::new(|| series(1200, |i| (i as f32 * if i < 600 { 0.1 } else { 0.37 }).sin()));

fn series(n: usize, of: impl Fn(usize) -> f32) -> Series {
    Series::new("wave", 100.0, (0..n).map(of).collect()).unwrap()
}

/// What a way to cut is given.
fn input_of(m: &dyn segment::Method) -> Input<'static> {
    match m.reads() {
        Reads::Text => Input::Text(TEXT),
        Reads::Image => Input::Image(&PICTURE),
        Reads::Series => Input::Series(&SERIES),
    }
}

/// Runs a method of any kind, checks that what it gives and finds fits the input, and prints it whole, times aside.
fn run(entry: Entry, case: &Case, params: &Params, ctx: &Ctx) -> Result<String> {
    let subject = case.subject();
    let (name, n) = (entry.info().id, case.trace.towers[&case.tower].tokens.len());
    let finite = |x: f32| assert!(x.is_finite() || !case.finite, "{name} on {}: {x}", case.name);
    let (printed, found) = match entry {
        Entry::Segment(m) => return cut(m, input_of(m), params, ctx),
        Entry::Score(m) => {
            let s = m.score(&subject, params, ctx)?;
            assert_eq!(s.values.len(), n, "{name} on {}", case.name);
            s.values.iter().flatten().chain(s.layers.iter().flatten()).for_each(|x| finite(*x));
            assert!(s.layers.iter().all(|l| l.len() == n), "{name} on {}", case.name);
            assert!(!s.unit.is_empty());
            (format!("{s:?}"), s.finding(case.tower))
        }
        Entry::Reduce(m) => {
            let plan = reduce::plan(m, &subject, params, ctx)?;
            plan.check()?;
            for (&tower, &tokens) in &plan.tokens {
                assert!(plan.fates(tower).iter().all(|f| f.len() == tokens), "{name} on {}", case.name);
            }
            (format!("{plan:?}"), plan.finding(&subject, None)?)
        }
        Entry::Flow(m) => {
            let g = m.graph(&subject, params, ctx)?;
            let links = &g.links.links;
            assert!(links.iter().all(|e| (e.from.at.max(e.to.at) as usize) < n), "{name} on {}", case.name);
            links.iter().for_each(|e| finite(e.weight));
            assert!(links.is_sorted_by(|a, b| a.weight >= b.weight || !case.finite), "{name} on {}", case.name);
            (format!("{links:?}"), g.finding())
        }
        Entry::Draft(m) => {
            let mut rounds = 0;
            let run = decode::decode(m, &subject, params, ctx, &mut |_| rounds += 1)?;
            assert_eq!(rounds, run.rounds.len(), "{name} on {}: what there is so far", case.name);
            assert!(run.lossless.as_ref().is_none_or(|l| l.0), "{name} on {}: {:?}", case.name, run.lossless);
            (format!("{run:?}"), run.finding(&|id| subject.word(id), None))
        }
        Entry::Reveal(m) => {
            let mut steps = 0;
            let t = decode::mask::decode(m, &subject, params, ctx, &mut |_| steps += 1)?;
            assert_eq!(steps, t.steps.len(), "{name} on {}: what there is so far", case.name);
            let places: BTreeSet<usize> = t.revealed().map(|(_, r)| r.position).collect();
            assert_eq!(places.len(), t.revealed().count(), "{name} on {}: revealed twice", case.name);
            t.revealed().for_each(|(_, r)| finite(r.confidence as f32));
            (format!("{t:?}"), t.finding(&|id| subject.word(id)))
        }
        Entry::Cache(_) | Entry::Study(_) => {
            let found = entry.find(&subject, params, ctx)?;
            (format!("{found:?}"), found)
        }
    };
    let wrong = found.check().err();
    assert!(wrong.is_none() || !case.finite, "{name} on {}: {wrong:?}", case.name);
    Ok(printed)
}

/// The pieces of an input, which cover every byte, pixel or sample, what the cut says it left out among them.
fn cut(m: &dyn segment::Method, input: Input, params: &Params, ctx: &Ctx) -> Result<String> {
    let (name, s) = (m.info().id, m.cut(input, params, ctx)?);
    match (&s, input) {
        (Segmentation::Text(row), Input::Text(text)) => {
            let mut at = 0;
            for p in row.pieces.iter().filter(|p| !p.special) {
                assert!(p.start == at && p.end > at, "{name}: {p:?} of {text:?} begins at {at}");
                at = p.end;
            }
            assert_eq!(at, text.len(), "{name} leaves out the end of {text:?}");
        }
        (Segmentation::Series(w), Input::Series(series)) => {
            assert!(w.windows.iter().all(|w| w.start < w.end && w.end <= series.samples.len()), "{name}: {w:?}");
            assert_eq!(w.rest.end, series.samples.len(), "{name} leaves samples out");
        }
        (Segmentation::Image(tiles), Input::Image(picture)) => {
            let area = |r: &segment::Rect| f64::from(r.w) * f64::from(r.h);
            let covered: f64 = tiles.tiles.iter().map(|t| &t.rect).chain(&tiles.rest).map(area).sum();
            assert!((covered - (picture.width * picture.height) as f64).abs() < 1e-6, "{name} covers {covered} pixels");
        }
        _ => panic!("{name} gave a cut of another input"),
    }
    let vocab = s.vocab().map_or(u64::MAX, |n| n as u64);
    assert!(s.ids().iter().flatten().all(|id| u64::from(*id) < vocab), "{name}: an id outside the vocabulary");
    s.finding(input).check()?;
    Ok(format!("{s:?}"))
}

/// [`run`], where a panic is a problem like any other.
fn attempt(entry: Entry, case: &Case, params: &Params, ctx: &Ctx) -> std::result::Result<Result<String>, String> {
    catch_unwind(AssertUnwindSafe(|| run(entry, case, params, ctx)))
        .map_err(|e| format!("panicked: {}", words_of(e.as_ref())))
}

/// Parameters that say how long a text is.
const LENGTHS: &[&str] = &["new_tokens", "gen_length"];

/// Parameters that keep a run short: as few rounds as there may be, where the method writes a text.
fn short(info: &Info) -> Params {
    let tokens = info.params.iter().filter(|p| LENGTHS.contains(&p.key));
    tokens.fold(Params::new(), |params, p| params.set(p.key, 6))
}

/// The first case that serves each method, with different tokens and more than two.
fn served(entry: Entry) -> &'static Case {
    let serves = |c: &&Case| {
        c.finite
            && c.subject().lacks(entry.info()).is_none()
            && attempt(entry, c, &short(entry.info()), &Ctx::default()).is_ok_and(|r| r.is_ok())
    };
    let large = |c: &&Case| c.name.contains("9 different");
    let found = CASES.iter().filter(large).find(serves).or_else(|| CASES.iter().find(serves));
    found.unwrap_or_else(|| panic!("no small model serves {}", entry.info().id))
}

fn fail_on(problems: Vec<String>) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems[..problems.len().min(40)].join("\n"));
}

#[test]
fn every_method_says_who_it_is() {
    let mut ids = BTreeSet::new();
    let mut problems = Vec::new();
    for info in catalog::infos() {
        let mut wrong = |what: &str| problems.push(format!("{}: {what}", info.id));
        let plain =
            |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !plain(info.id) || !ids.insert(info.id) {
            wrong("the id is not its own, or not in small letters");
        }
        if !info.title.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit())
            && !info.title.contains(char::is_uppercase)
            && info.kind != Kind::Segment
        {
            wrong("the title begins small");
        }
        let sentence = info.summary.strip_suffix('.').is_some_and(|s| !s.contains(". ") && !s.contains('\n'));
        if !sentence || !info.summary.starts_with(|c: char| c.is_uppercase()) {
            wrong("the summary is not one sentence");
        }
        if info.departs.is_empty() {
            wrong("it does not say where it departs from its source");
        }
        if !FAMILIES.contains(&info.family) {
            wrong("its family is not in the list");
        }
        match info.basis {
            Basis::Authors { repo, .. } if repo.split('/').count() != 2 && !repo.starts_with("PyPI") => {
                wrong("the repository is not owner/name");
            }
            Basis::Authors { .. } | Basis::OwnReading | Basis::Text if info.paper.is_none() => wrong("it has no paper"),
            _ => {}
        }
        if info.budget.is_some_and(|b| !info.params.contains(b)) {
            wrong("its budget is none of its parameters");
        }
        let keys: BTreeSet<&str> = info.params.iter().map(|p| p.key).collect();
        if keys.len() != info.params.len() || !keys.iter().all(|k| plain(k)) {
            wrong("its parameters have no names of their own");
        }
        for p in info.params {
            if p.doc.is_empty() || p.doc.ends_with('.') {
                wrong(&format!("{} is not explained in one phrase", p.key));
            }
            if let Err(e) = p.check(&p.default()) {
                wrong(&format!("the default is refused: {e}"));
            }
            let text = p.default().to_string();
            if p.parse(&text).ok() != Some(p.default()) {
                wrong(&format!("{} = {text} does not come back from a text", p.key));
            }
        }
    }
    assert!(ids.len() >= 20, "only {} methods", ids.len());
    fail_on(problems);
}

/// One name: id, file and raw entry. Ways to cut a text that are a few lines each may share a file.
#[test]
fn a_method_is_found_in_the_file_of_its_name() {
    let mut problems = Vec::new();
    let files: BTreeMap<String, String> = super::sources(&root().join("analysis/src"))
        .iter()
        .map(|f| {
            (super::name_of(f), super::code(f).into_iter().fold(String::new(), |all, (_, line)| all + &line + "\n"))
        })
        .collect();
    for info in catalog::infos() {
        let (own, id) = (format!("/{}.rs", info.id), format!("\"{}\"", info.id));
        let holds: Vec<&String> = files.iter().filter(|(_, text)| text.contains(&id)).map(|(name, _)| name).collect();
        let shared = info.kind == Kind::Segment && holds.iter().any(|name| name.contains("/segment/"));
        if !shared && !holds.iter().any(|name| name.ends_with(&own)) {
            problems.push(format!("{} has no file of its own", info.id));
        }
    }
    fail_on(problems);
}

/// Methods whose numbers are checked elsewhere below `tests/golden`: by the entry of another method, which gives several
/// results in one, or with the tokenizers.
const CHECKED_BY: &[(&str, &str)] = &[
    ("attention_rollout", "methods/text/attention_rollout_flow"),
    ("rollout_graph", "methods/text/attention_rollout_flow"),
    ("r50k_base", "models/tiktoken"),
    ("cl100k_base", "models/tiktoken"),
    ("o200k_base", "models/tiktoken"),
];

/// Every raw entry has cases; a method that was made from code has an entry.
#[test]
fn numbers_of_others_stand_behind_every_method_or_it_says_why_not() {
    let mut problems = Vec::new();
    let folders: BTreeSet<String> = std::fs::read_dir(golden().join("methods"))
        .unwrap()
        .flat_map(|family| std::fs::read_dir(family.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let mut names = BTreeSet::new();
    for info in catalog::infos() {
        for adapter in info.raw {
            if !names.insert(adapter.name) {
                problems.push(format!("{}: the raw entry {} stands twice", info.id, adapter.name));
            }
            if !folders.contains(adapter.name) {
                problems.push(format!("{}: the raw entry {} has no golden case", info.id, adapter.name));
            }
        }
        let beside = CHECKED_BY.iter().any(|(id, place)| *id == info.id && golden().join(place).is_dir());
        if matches!(info.basis, Basis::Authors { .. }) && info.raw.is_empty() && !beside {
            problems.push(format!("{}: made from the authors' code, and no golden case says so", info.id));
        }
    }
    problems.extend(
        folders
            .difference(&names.iter().map(|n| n.to_string()).collect())
            .map(|f| format!("{f}: a case that no method reads")),
    );
    fail_on(problems);
}

#[test]
fn every_method_takes_every_input_or_says_why_not() {
    let mut problems = Vec::new();
    for entry in catalog::all() {
        let info = entry.info();
        let params = short(info);
        // What goes on with the text does so whichever tower is shown.
        let writes = matches!(entry, Entry::Draft(_) | Entry::Reveal(_));
        let about = |c: &&Case| !writes || c.tower == c.trace.main_tower();
        for case in CASES.iter().filter(about) {
            let lacks = case.subject().lacks(info);
            let mut wrong = |what: String| problems.push(format!("{} on {}: {what}", info.id, case.name));
            match (attempt(entry, case, &params, &Ctx::default()), lacks) {
                (Err(panicked), _) => wrong(panicked),
                (Ok(Ok(_)), Some(why)) => wrong(format!("it is served, though the run {why}")),
                (Ok(Err(_)), Some(_)) | (Ok(Err(Error::Need { .. } | Error::Invalid(_))), None) => {}
                (Ok(Err(e)), None) => wrong(format!("an error of the wrong kind: {e:?}")),
                (Ok(Ok(first)), None) => {
                    if case.finite
                        && attempt(entry, case, &params, &Ctx::default()).ok().and_then(Result::ok) != Some(first)
                    {
                        wrong("another result the second time".into());
                    }
                }
            }
        }
        served(entry);
    }
    fail_on(problems);
}

/// Values at the ends of what a parameter may be, and some outside.
fn ends(p: &Param) -> (Vec<Setting>, Vec<Setting>) {
    let words = || vec![Setting::from("no_such_word")];
    match p.domain {
        Domain::Share { .. } => {
            (vec![0.0.into(), 1.0.into()], vec![(-0.01).into(), 1.01.into(), f64::NAN.into(), true.into()])
        }
        Domain::Number { min, max, .. } => {
            (vec![min.into(), max.into()], vec![(min - 1.0).into(), (max + 1.0).into(), f64::NAN.into(), true.into()])
        }
        Domain::Count { min, max, .. } => {
            let outside = [min.checked_sub(1), max.checked_add(1)].into_iter().flatten().map(Setting::from);
            (vec![min.into(), max.into()], outside.chain(words()).collect())
        }
        Domain::Layer { all, .. } => {
            let mut inside: Vec<Setting> = [0, -1].map(|i| LayerPick::At(i).into()).to_vec();
            let mut outside: Vec<Setting> = [99, -99, i64::MIN, i64::MAX].map(|i| LayerPick::At(i).into()).to_vec();
            if all { &mut inside } else { &mut outside }.push(LayerPick::All.into());
            (inside, outside)
        }
        Domain::Seed => (vec![0.into(), i64::MAX.into()], vec![(-1).into()]),
        Domain::Toggle { .. } => (vec![false.into(), true.into()], vec![0.5.into()]),
        Domain::Choice { options } => (options.iter().map(|o| (*o).into()).collect(), words()),
        Domain::Text { presets } => {
            let inside = presets.iter().map(|p| Setting::Text(p.1.into())).chain([Setting::Text("".into())]).collect();
            (inside, words().into_iter().chain([Setting::Text("x".repeat(1 << 17).into())]).collect())
        }
        Domain::Schedule { min, max, .. } => (
            vec![vec![min].into(), vec![max].into(), vec![min, max, min].into()],
            vec![vec![].into(), vec![min - 1.0].into(), vec![f64::NAN].into()],
        ),
    }
}

/// What would take very long at its largest, because it is asked for: a text of that many tokens.
const LONG: i64 = 64;

#[test]
fn parameters_work_at_their_ends_and_are_refused_outside() {
    let mut problems = Vec::new();
    for entry in catalog::all() {
        let (info, case) = (entry.info(), served(entry));
        for p in info.params {
            let (inside, outside) = ends(p);
            for v in inside {
                let clipped = match v {
                    Setting::Count(n) if LENGTHS.contains(&p.key) => n.min(LONG).into(),
                    _ => v.clone(),
                };
                let params = short(info).set(p.key, clipped);
                match attempt(entry, case, &params, &Ctx::default()) {
                    Ok(Ok(_) | Err(Error::Invalid(_) | Error::Need { .. } | Error::Memory { .. })) => {}
                    Ok(Err(e)) => problems.push(format!("{}: {} = {v}: {e:?}", info.id, p.key)),
                    Err(panicked) => problems.push(format!("{}: {} = {v}: {panicked}", info.id, p.key)),
                }
            }
            // A layer is compared with the stack where it is used, and may not be here.
            let without = attempt(entry, case, &short(info), &Ctx::default()).ok().and_then(Result::ok);
            let unused = |r: &String| matches!(p.domain, Domain::Layer { .. }) && without.as_ref() == Some(r);
            for v in outside {
                let params = short(info).set(p.key, v.clone());
                match attempt(entry, case, &params, &Ctx::default()) {
                    Ok(Ok(r)) if unused(&r) => {}
                    Ok(Err(Error::Invalid(words))) if !words.is_empty() => {}
                    other => problems.push(format!("{}: {} = {v} is not refused: {}", info.id, p.key, words(other))),
                }
            }
        }
        match attempt(entry, case, &Params::new().set("misspelt", 1), &Ctx::default()) {
            Ok(Err(e @ Error::Unknown { .. })) if e.to_string().contains("misspelt") => {}
            other => problems.push(format!("{}: a misspelt parameter is not refused: {}", info.id, words(other))),
        }
    }
    fail_on(problems);
}

fn words(end: std::result::Result<Result<String>, String>) -> String {
    match end {
        Ok(Ok(_)) => "a result".into(),
        Ok(Err(e)) => format!("{e:?}"),
        Err(panicked) => panicked,
    }
}

/// Runs `f` so that it is cancelled at step `at` (from 1); gives the number of steps and how it ended.
fn cancelled_at<T: Send>(at: usize, f: impl FnOnce(&Ctx) -> T + Send) -> (usize, T) {
    let (cancel, n) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (flag, count) = (cancel.clone(), n.clone());
    let progress = move |_| {
        if count.fetch_add(1, Ordering::SeqCst) + 1 == at {
            flag.store(true, Ordering::SeqCst);
        }
    };
    // On one thread: of several, another may be past its look at the flag when it is raised.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let end = pool.install(|| f(&Ctx::new(cancel, Arc::new(progress))));
    (n.load(Ordering::SeqCst), end)
}

#[test]
fn a_method_cancelled_at_any_step_ends_there() {
    let mut problems = Vec::new();
    for entry in catalog::all() {
        let (info, case) = (entry.info(), served(entry));
        let params = short(info);
        let (steps, _) = cancelled_at(usize::MAX, |ctx| attempt(entry, case, &params, ctx));
        // Of very many steps some will do.
        for at in (1..steps).step_by(steps.div_ceil(16).max(1)) {
            match cancelled_at(at, |ctx| attempt(entry, case, &params, ctx)) {
                (n, Ok(Err(Error::Cancelled))) if n == at => {}
                (n, end) => problems.push(format!("{}: step {at} of {steps}: {} after {n}", info.id, words(end))),
            }
        }
    }
    fail_on(problems);
}

#[test]
fn a_method_without_memory_is_refused_or_needs_none() {
    let mut problems = Vec::new();
    for entry in catalog::all() {
        let (info, case) = (entry.info(), served(entry));
        match attempt(entry, case, &short(info), &Ctx::default().with_room(|| 0)) {
            Ok(Ok(_)) => {}
            Ok(Err(Error::Memory { remedy, .. })) if !remedy.is_empty() => {}
            other => problems.push(format!("{}: {}", info.id, words(other))),
        }
    }
    fail_on(problems);
}

#[test]
fn a_way_to_cut_takes_any_input_of_its_kind_and_refuses_others() {
    let texts = ["", "a", "7", "\n", "é", "ab", "  ", "\u{301}", "漢字", "\u{202e}a\0", "👩‍👩‍👧", "x y  z\r\n\r\n"];
    let pictures = [(1, 1), (2, 1), (7, 31), (64, 64)].map(|(w, h)| tiny::picture_of(w, h, w == h));
    let waves = [0, 1, 2, 1000].map(|n| series(n, |_| 0.5));
    for entry in catalog::all() {
        let Entry::Segment(m) = entry else { continue };
        let inputs: Vec<Input> = (texts.iter().map(|t| Input::Text(t)))
            .chain(pictures.iter().map(Input::Image))
            .chain(waves.iter().map(Input::Series))
            .collect();
        for input in inputs {
            match cut(m, input, &Params::new(), &Ctx::default()) {
                Ok(_) => assert_eq!(input.kind(), m.reads(), "{}", m.info().id),
                // A text of any length has pieces; a picture or a series may be smaller than one.
                Err(Error::Invalid(words)) => {
                    let small = input.kind() == m.reads() && input.kind() != Reads::Text;
                    assert!(!words.is_empty() && (small || input.kind() != m.reads()), "{}: {words}", m.info().id);
                }
                Err(e) => panic!("{}: {e:?}", m.info().id),
            }
        }
    }
}

/// The cases are what they are called.
#[test]
fn the_small_models_cover_what_methods_meet() {
    let count = |f: &dyn Fn(&Case) -> bool| CASES.iter().filter(|c| f(c)).count();
    let tokens = |c: &Case| c.trace.towers[&c.tower].tokens.len();
    assert!(count(&|c| tokens(c) == 1) >= 2, "no run of one token");
    assert!(count(&|c| c.trace.towers[&c.tower].n_tiles > 1) >= 2, "no picture in tiles");
    let image = |c: &Case| c.trace.towers[&c.tower].tokens.iter().any(|t| t.kind == TokenKind::Image);
    assert!(count(&|c| c.tower == Tower::Text && image(c)) >= 4, "no picture in a language model");
    assert!(count(&|c| c.trace.towers.values().any(|t| t.class_token.is_some())) >= 4, "no class token");
    let mut names = String::new();
    CASES.iter().for_each(|c| writeln!(names, "{}", c.name).unwrap());
    assert_eq!(names.lines().collect::<BTreeSet<_>>().len(), CASES.len(), "{names}");
}
