use super::*;
use crate::heatmap::Curve;
use crate::keys::{Call, ModelSource, RunKey};
use crate::pane::{Drill, Measure, Sort};
use crate::picture_source::PictureSource;
use crate::selection::Selection;
use crate::series_source::SeriesSource;
use crate::state::Command;
use crate::theme::ColorMap;
use crate::views;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Kind, Real};
use tokenscope_analysis::trace::Tower;

/// The document of the file of version 1: in its second pane nothing has its default.
fn first_version() -> Doc {
    let other = Pane {
        run: RunKey {
            model: ModelSource::Sample("sample-draft"),
            prompt: "Grüße, \"Welt\"\n\tzwei 🚂".into(),
            image: Some(PictureSource::Scene(7)),
            placement: Default::default(),
        },
        ..Pane::default()
    };
    let mut pane = Pane::default();
    pane.run.model = ModelSource::Path("/models/a".into());
    pane.run.prompt = "The train is late".into();
    pane.run.image = Some(PictureSource::File("/pictures/dot.png".into()));
    pane.series = Some(SeriesSource::File {
        path: "/series/steps.csv".into(),
        column: Some("volt".into()),
        rate: Some(Real::new(50.0)),
    });
    pane.tower = Some(Tower::Text);
    pane.partner = ModelSource::Sample("sample-lm");
    pane.aim = Selection::one(1).picked(3, 3, crate::selection::Pick::Extend);
    for method in ["value_weighted_attention", "tome", "rollout_graph", "lipcot"] {
        pane.choose(Call::of(catalog::find(method).unwrap().info())).unwrap();
    }
    pane.beside.choose(Call::of(catalog::first(Kind::Draft).unwrap())).unwrap();
    pane.cursor.look([0.25, 0.5, 0.25, 0.25]);
    pane.cursor.drill = Some(Drill { level: 2, token: 1, from: Some(0), head: None });
    (pane.cursor.head, pane.cursor.at_layer, pane.cursor.round) = ((1, 2), Some(1), 4);
    let s = &mut pane.shows;
    s.cuts.files = vec!["/tokenizers/t.json".into()];
    s.cuts.named = vec!["words"];
    (s.cuts.reference, s.cuts.surprisal) = ("words".into(), true);
    (s.parts, s.scale.curve, s.sort, s.measure) = ([true, false, true, false], Curve::Rank, Sort::Sink, Measure::Top1);
    (s.curves, s.column, s.threshold, s.cover, s.truth) = (vec!["tome"], 60.0, 0.25, 0.5, false);
    s.found = Kind::FOUND[1];
    let pins = vec![Pin { name: "before \"it\"".into(), pane: other.clone() }];
    let mut doc = Doc::of_parts(vec![other, pane], 1, Look { dark: true, map: ColorMap::Magma, apart: true }, pins);
    doc.apply(Command::Param(Kind::Reduce, "r", 5.into()));
    doc
}

const DOT: &[u8] = b"\x89PNG no picture, but bytes that JSON cannot hold: \xff\x00\n";

/// What the window of the file of version 1 was.
fn first_window() -> Window {
    let tree = egui_tiles::Tree::new_tabs(egui::Id::unique("views"), (0..views::ALL.len()).collect());
    Window { layout: Some(Layout::of(&tree)), alone: Some("flow".into()), sources: false, file: None }
}

fn snapshot(doc: Doc) -> Snapshot {
    Snapshot { doc, window: Window::default(), placed: Arc::default(), traces: Vec::new(), results: Vec::new() }
}

fn written(snapshot: &Snapshot) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::default().write(snapshot, &mut out).unwrap();
    out
}

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/sessions/version1.tokenscope")
}

/// Everything that `file` says stands in `read`, too.
fn keeps(file: &Value, read: &Value, at: &str) {
    match (file, read) {
        (Value::Object(file), Value::Object(read)) => {
            file.iter().for_each(|(key, v)| keeps(v, read.get(key).unwrap_or(&Value::Null), &format!("{at}.{key}")));
        }
        (Value::Array(file), Value::Array(read)) => {
            assert_eq!(file.len(), read.len(), "{at}");
            file.iter().zip(read).enumerate().for_each(|(i, (f, r))| keeps(f, r, &format!("{at}[{i}]")));
        }
        _ => assert_eq!(file, read, "{at}"),
    }
}

/// Written once with this format: never write it again, or what was saved with it might open no more and nobody would
/// see. `TOKENSCOPE_REWRITE_SESSION=1` makes the file of a version that no program was given out with.
#[test]
fn the_file_of_version_1_opens_for_ever() {
    if std::env::var_os("TOKENSCOPE_REWRITE_SESSION").is_some() {
        // As after a session whose files were unpacked: the paths of the machine before are written.
        let mut placed = Placed::default();
        let input = |kind, path: &str, content: &[u8]| Input {
            kind,
            path: path.into(),
            bytes: content.len() as u64,
            sha256: crate::hash::sha256(content),
            content: Some(content.to_vec()),
        };
        let mut doc = first_version();
        let inputs = [
            input(InputKind::Picture, "/pictures/dot.png", DOT),
            input(InputKind::Series, "/series/steps.csv", b"time,volt\n0,1\n1,2\n"),
        ];
        placed.files(&mut doc, &inputs).unwrap();
        let run = doc.panes()[0].run.clone();
        let trace = crate::jobs::Jobs::new(|| ())
            .get(&crate::work::TraceOf(RunKey { image: None, ..run.clone() }), &tokenscope_analysis::Ctx::default())
            .unwrap();
        let small = tokenscope_analysis::trace::Trace { arrays: Default::default(), ..(*trace).clone() };
        let traces = vec![(run, Arc::new(small))];
        let whole = Snapshot { doc, window: first_window(), placed: placed.into(), traces, results: Vec::new() };
        std::fs::create_dir_all(fixture().parent().unwrap()).unwrap();
        std::fs::write(fixture(), written(&whole)).unwrap();
    }
    let session = Session::open(&fixture()).unwrap();
    assert_eq!(session.lost, Lost::default());
    assert_eq!((session.version, session.program.as_str()), (1, "0.1.0"));
    // Everything that the file says is in the document. What later versions add has its default there.
    let text = std::fs::read_to_string(fixture()).unwrap();
    let data = |section: &str| -> Vec<Value> {
        let lines = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        lines.filter(|l| l["section"] == section).map(|mut l| l["data"].take()).collect()
    };
    let told: Value = serde_json::from_str(&serde_json::to_string(&session.doc).unwrap()).unwrap();
    assert_eq!((data("pane").len(), data("pin").len()), (2, 1));
    keeps(&Value::Array(data("pane")), &told["panes"], "panes");
    keeps(&Value::Array(data("pin")), &told["pins"], "pins");
    keeps(&data("document")[0]["look"], &told["look"], "look");
    assert_eq!(session.doc.active(), 1);
    // And in words of the program: what was chosen when the file was written.
    let (made, pane) = (first_version(), session.doc.pane());
    assert_eq!((&session.doc.panes()[0].run, &pane.run), (&made.panes()[0].run, &made.pane().run));
    assert_eq!((&pane.aim, &pane.cursor, &pane.series), (&made.pane().aim, &made.pane().cursor, &made.pane().series));
    let chosen = [Kind::Score, Kind::Reduce, Kind::Flow].map(|k| pane.call(k));
    assert_eq!(chosen, [Kind::Score, Kind::Reduce, Kind::Flow].map(|k| made.pane().call(k)));
    assert_eq!((pane.shows.scale.curve, pane.shows.curves.as_slice()), (Curve::Rank, ["tome"].as_slice()));
    assert_eq!((&session.window.alone, session.window.sources), (&Some("flow".into()), false));
    assert!(session.window.layout.is_some_and(|l| l.tree().is_some()));
    let inputs: Vec<_> = session.inputs.iter().map(|i| (i.kind, i.path.to_str().unwrap(), i.content.clone())).collect();
    assert_eq!(inputs[0], (InputKind::Picture, "/pictures/dot.png", Some(DOT.to_vec())));
    assert_eq!((inputs[1].0, inputs[1].1), (InputKind::Series, "/series/steps.csv"));
    assert_eq!(inputs.len(), 2);
    let models: Vec<_> = session.models.iter().map(|m| (m.name.as_str(), m.files, m.sha256.len())).collect();
    assert_eq!(models, [("sample-draft", 3, 64), ("a", 0, 0), ("sample-lm", 3, 64)]);
    assert_eq!(session.recordings.len(), 1);
    assert_eq!(session.recordings[0].run, first_version().panes()[0].run);
}

#[test]
fn a_session_comes_back_as_it_was_and_is_plain_lines() {
    let whole = Snapshot { window: first_window(), ..snapshot(first_version()) };
    let bytes = written(&whole);
    let session = Session::read(&bytes).unwrap();
    assert_eq!((&session.doc, &session.window), (&whole.doc, &whole.window));
    assert!(session.lost.is_empty(), "{:?}", session.lost);
    let text = String::from_utf8(bytes).unwrap();
    for line in text.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok_and(|v| v.is_object()), "{line}");
    }
    assert_eq!(Session::read(&written(&snapshot(session.doc.clone()))).unwrap().doc, session.doc);
}

#[test]
fn a_file_that_is_cut_anywhere_opens_as_far_as_it_goes_and_says_what_is_lost() {
    let doc = first_version();
    let bytes = written(&Snapshot { window: first_window(), ..snapshot(doc.clone()) });
    let mut panes = Vec::new();
    for n in 0..bytes.len() {
        let Some(session) = Session::read(&bytes[..n]) else {
            assert!(n < bytes.iter().position(|b| *b == b'\n').unwrap() + 1, "nothing of {n} bytes");
            continue;
        };
        // The very last byte is the end of the line.
        assert!(!session.lost.is_empty() || n + 2 >= bytes.len(), "{n} of {} bytes and nothing is said", bytes.len());
        panes.push(session.doc.panes().iter().filter(|p| doc.panes().contains(p)).count());
        if session.doc.pins.len() == 1 {
            assert_eq!(session.doc.pins, doc.pins);
        }
    }
    assert!(panes.is_sorted() && panes.first() == Some(&0) && panes.last() == Some(&2), "{panes:?}");
}

#[test]
fn a_damaged_line_costs_that_line_only() {
    let doc = first_version();
    let text = String::from_utf8(written(&snapshot(doc.clone()))).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        // In the middle of the data, where no JSON goes on.
        let bad = [&line[..line.len() / 2], "\u{1}\"", &line[line.len() / 2..]].concat();
        let with = |line: &str| {
            let mut lines = lines.clone();
            lines[i] = line;
            Session::read(lines.join("\n").as_bytes()).unwrap()
        };
        for session in [with(&bad), with("")] {
            let kept = session.doc.panes().iter().filter(|p| doc.panes().contains(p)).count();
            let own = line.contains(r#""section":"pane""#);
            assert_eq!(kept, if own { 1 } else { 2 }, "line {}", i + 1);
            assert_eq!(session.doc.pins == doc.pins, !line.contains(r#""section":"pin""#), "line {}", i + 1);
            assert!(!session.lost.is_empty(), "line {} was damaged and nothing is said", i + 1);
        }
    }
    // A byte that is no text.
    let mut bytes = text.clone().into_bytes();
    let at = text.find("train").unwrap();
    bytes[at] = 0xff;
    let session = Session::read(&bytes).unwrap();
    let words: Vec<String> = session.lost.words().collect();
    assert_eq!(words[0], "line 4 is damaged (a pane)");
    assert_eq!(session.doc.panes().len(), 1);
    // A letter that is another one: it is shown, and said.
    let session = Session::read(text.replace("train is late", "brain is late").as_bytes()).unwrap();
    assert_eq!(&*session.doc.panes()[1].run.prompt, "The brain is late");
    assert_eq!(session.lost.words().collect::<Vec<_>>(), ["line 4 (a pane) is not as it was written"]);
}

#[test]
fn sections_of_a_newer_version_are_passed_over_and_named() {
    let text = String::from_utf8(written(&snapshot(first_version()))).unwrap();
    let mut lines: Vec<String> = text.lines().map(Into::into).collect();
    lines[0] = lines[0].replace(r#""version":1"#, r#""version":7"#);
    let mut later = Vec::new();
    super::lines::write(&mut later, "hologram", r#"{"depth":3}"#).unwrap();
    lines.insert(2, String::from_utf8(later).unwrap().trim().into());
    let session = Session::read(lines.join("\n").as_bytes()).unwrap();
    assert_eq!((session.doc, session.version), (first_version(), 7));
    let words: Vec<String> = session.lost.words().collect();
    assert!(words[0].contains("newer Tokenscope (format 7"), "{words:?}");
    assert!(words[1].contains("hologram"), "{words:?}");
    for other in [&b""[..], b"hello\n", b"{\"a\":1}", b"\x89PNG\r\n\x1a\n", br#"{"section":"x","data":1}"#] {
        assert!(Session::read(other).is_none(), "{other:?}");
    }
}

#[test]
fn files_travel_with_the_session_and_are_read_where_they_stand_if_they_stand_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let (picture, series) = (dir.path().join("a.png"), dir.path().join("b.csv"));
    std::fs::write(&picture, DOT).unwrap();
    std::fs::write(&series, "1\n2\n").unwrap();
    let mut doc = Doc::default();
    doc.apply(Command::Image(Some(PictureSource::File(picture.clone()))));
    doc.apply(Command::Series(Some(SeriesSource::file(series.clone()))));
    let bytes = written(&snapshot(doc.clone()));
    let opened = || Session::read(&bytes).unwrap().settle().unwrap();
    // On the machine that saved it nothing is unpacked.
    assert_eq!(opened().session.doc, doc);
    // On another one it is.
    std::fs::remove_file(&picture).unwrap();
    std::fs::write(&series, "3\n").unwrap();
    let Opened { session, placed, remarks, .. } = opened();
    assert_eq!(remarks, [""; 0]);
    let Some(PictureSource::File(now)) = &session.doc.pane().run.image else { panic!("{:?}", session.doc) };
    assert_eq!((std::fs::read(now).unwrap(), now.file_name()), (DOT.to_vec(), picture.file_name()));
    assert_eq!(session.doc.pane().series.as_ref().unwrap().open().unwrap().samples.len(), 2);
    // Saved again it is the same session, with the paths that it had.
    let again = Snapshot { doc: session.doc, placed: placed.into(), ..snapshot(Doc::default()) };
    let back = Session::read(&written(&again)).unwrap();
    assert_eq!((&back.doc, back.inputs.len()), (&doc, 2));
    assert_eq!(back.inputs, Session::read(&bytes).unwrap().inputs);
}

#[test]
fn a_model_that_is_gone_or_another_one_is_said_and_its_recorded_run_is_shown() {
    let model = crate::samples::unpack("sample-draft").unwrap();
    let mut doc = Doc::default();
    doc.apply(Command::Model(ModelSource::Path(model.path().into())));
    doc.apply(Command::Prompt("The red fox".into()));
    let run = doc.pane().run.clone();
    let jobs = crate::jobs::Jobs::new(|| ());
    let trace = jobs.get(&crate::work::TraceOf(run.clone()), &tokenscope_analysis::Ctx::default()).unwrap();
    let without = written(&snapshot(doc.clone()));
    let with = written(&Snapshot { traces: vec![(run.clone(), trace.clone())], ..snapshot(doc.clone()) });
    assert_eq!(Session::read(&with).unwrap().settle().unwrap().session.doc, doc);
    let config = model.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    for gone in [false, true] {
        if gone {
            std::fs::remove_file(&config).unwrap();
        } else {
            std::fs::write(&config, text.clone() + " ").unwrap();
        }
        let words = if gone { "not there any more" } else { "another one" };
        let Opened { session, remarks, .. } = Session::read(&without).unwrap().settle().unwrap();
        assert_eq!(session.doc, doc);
        assert!(remarks.len() == 1 && remarks[0].contains(words), "{remarks:?}");
        let Opened { session, placed, remarks, .. } = Session::read(&with).unwrap().settle().unwrap();
        assert!(remarks.len() == 1 && remarks[0].contains(words) && remarks[0].contains("recorded run"), "{remarks:?}");
        let shown = &session.doc.pane().run;
        assert!(matches!(shown.model, ModelSource::Recorded(_)), "{shown:?}");
        let again = jobs.get(&crate::work::TraceOf(shown.clone()), &tokenscope_analysis::Ctx::default()).unwrap();
        assert_eq!(again.arrays.len(), trace.arrays.len());
        // Saved again it is about the model, and keeps the recording.
        let again = Snapshot { doc: session.doc, placed: placed.into(), ..snapshot(Doc::default()) };
        let back = Session::read(&written(&again)).unwrap();
        assert_eq!((&back.doc, back.recordings.len()), (&doc, 1));
    }
}

#[test]
fn numbers_that_no_window_can_draw_are_held_to_what_it_can() {
    let data = r#"{"cursor":{"head":[18446744073709551615,3],"window":[9,-1,0,1e38],"round":99999999999},
        "aim":{"tokens":[1,99999999999],"anchor":99999999999},"shows":{"threshold":-3,"cover":1e30,"column":-5}}"#;
    let mut bytes = Vec::new();
    super::lines::write(&mut bytes, "pane", &data.replace('\n', " ")).unwrap();
    let session = Session::read(&bytes).unwrap();
    let pane = session.doc.pane();
    assert_eq!((pane.cursor.head.0, pane.cursor.round), (1 << 24, 1 << 24));
    assert_eq!(
        (pane.cursor.window, pane.aim.tokens(), pane.aim.anchor()),
        ([1.0 - 1e-5, 0.0, 1e-5, 1.0], &[1][..], None)
    );
    assert_eq!((pane.shows.threshold, pane.shows.cover, pane.shows.column), (0.0, 1.0, 0.0));
}

/// The child of the test below: saves one session after the other until it is killed.
#[test]
fn writes_until_it_is_killed_where_the_test_of_it_starts_it() {
    let Some(dir) = std::env::var_os("TOKENSCOPE_TEST_AUTOSAVE").map(PathBuf::from) else { return };
    let saver = Autosaver::start(&dir, || ()).expect("a lock");
    for i in 0u64.. {
        let mut doc = Doc::default();
        // Of any length, so that what is cut off shows.
        let prompt = format!("{i} {}", "word ".repeat((i * 7919 % 3000) as usize));
        doc.apply(Command::Prompt(prompt.into()));
        saver.keep(snapshot(doc));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn what_a_killed_window_leaves_is_whole_and_offered_once() {
    let dir = tempfile::tempdir().unwrap();
    let me = std::env::current_exe().unwrap();
    let mut seen = 0u64;
    for kill in 0..50u64 {
        let mut child = std::process::Command::new(&me)
            .args(["--exact", "session::tests::writes_until_it_is_killed_where_the_test_of_it_starts_it"])
            .env("TOKENSCOPE_TEST_AUTOSAVE", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let start = std::time::Instant::now();
        let own = |end: &str| {
            let files = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.path());
            let pid = format!("{}-", child.id());
            let named = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&pid));
            files.filter(named).find(|p| p.extension().is_some_and(|e| e == end))
        };
        while own(crate::opening::SESSION).is_none() {
            assert!(start.elapsed().as_secs() < 60, "nothing is written");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // While it runs nobody is offered what it writes.
        assert!(orphans(dir.path()).is_empty(), "a window that runs was taken for one that ended");
        std::thread::sleep(std::time::Duration::from_micros(kill * 997 % 23_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut left = orphans(dir.path());
        assert_eq!(left.len(), 1, "kill {kill}");
        // As long as one window offers it no other does.
        assert!(orphans(dir.path()).is_empty());
        let orphan = left.remove(0);
        let session = Session::open(&orphan.path).unwrap();
        assert!(session.lost.is_empty(), "kill {kill}: {:?}", session.lost);
        let prompt = session.doc.pane().run.prompt.to_string();
        let i: u64 = prompt.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(prompt, format!("{i} {}", "word ".repeat((i * 7919 % 3000) as usize)), "kill {kill}");
        seen = seen.max(i);
        orphan.discard();
        assert!(orphans(dir.path()).is_empty());
    }
    assert!(seen > 0, "every one of 50 was killed before its second session");
}

#[test]
fn a_clean_end_leaves_nothing_and_what_is_stale_goes() {
    let dir = tempfile::tempdir().unwrap();
    let saver = Autosaver::start(dir.path(), || ()).unwrap();
    saver.keep(snapshot(first_version()));
    let start = std::time::Instant::now();
    while saver.ended().is_none() {
        assert!(start.elapsed().as_secs() < 60);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(Session::open(saver.path()).unwrap().doc, first_version());
    saver.end();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let day = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 24 * 3600);
    for (name, old) in [(".tokenscope-a.part", true), ("1-1.lock", true), ("1-2.lock", false), ("b.part", false)] {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        if old {
            file.set_modified(day).unwrap();
        }
    }
    assert!(orphans(dir.path()).is_empty());
    let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["1-2.lock", "b.part"]);
}

/// A document whose run has results, and those.
fn computed() -> (Doc, crate::jobs::Jobs) {
    use crate::pane::Contrast;
    use crate::work::{AnswerOf, DraftOf, FindingOf, ReducedOf, ScoreOf, Serves as _};
    let (mut doc, jobs, ctx) = (Doc::default(), crate::jobs::Jobs::new(|| ()), tokenscope_analysis::Ctx::default());
    doc.pane_mut().contrast = Some(Contrast { id: 7, text: "x".into() });
    let pane = doc.pane();
    jobs.get(&ScoreOf::of(pane, pane.call(Kind::Score)), &ctx).unwrap();
    let reduced = ReducedOf::of(pane, Call::of(catalog::info(Kind::Reduce, "random").unwrap()));
    jobs.get(&reduced, &ctx).unwrap();
    jobs.get(&AnswerOf { run: pane.run.clone(), reduced: Some(reduced) }, &ctx).unwrap();
    jobs.get(&DraftOf { rounds: Some(2), ..DraftOf::of(pane, pane.call(Kind::Draft)) }, &ctx).unwrap();
    jobs.get(&FindingOf::of(pane, pane.call(Kind::FOUND[0])), &ctx).unwrap();
    (doc, jobs)
}

fn opened(bytes: &[u8]) -> (Opened, crate::jobs::Jobs) {
    let mut opened = Session::read(bytes).unwrap().settle().unwrap();
    let jobs = crate::jobs::Jobs::new(|| ());
    opened.restore(&jobs);
    (opened, jobs)
}

#[test]
fn results_come_back_as_they_were_without_a_run_and_say_what_they_are_of() {
    use crate::work::{ReducedOf, ScoreOf, Serves as _, TraceOf};
    let (doc, jobs) = computed();
    let whole = Snapshot { results: results(&doc, &jobs), ..snapshot(doc.clone()) };
    assert_eq!(whole.results.len(), 5);
    let bytes = written(&whole);
    let session = Session::read(&bytes).unwrap();
    assert!(session.lost.is_empty() && session.results.len() == 5, "{:?}", session.lost);
    let model = crate::session::Stamp::of(&doc.pane().run.model).sha256;
    assert!(session.results.iter().all(|k| k.models[0].1 == model && k.software.contains(crate::VERSION)));
    let (opened, again) = opened(&bytes);
    assert_eq!(opened.remarks, Vec::<String>::new());
    let ask = ScoreOf::of(doc.pane(), doc.pane().call(Kind::Score));
    assert_eq!(again.ready(&ask).expect("the score"), jobs.ready(&ask).unwrap());
    let ask = ReducedOf::of(doc.pane(), Call::of(catalog::info(Kind::Reduce, "random").unwrap()));
    let (a, b) = (again.ready(&ask).expect("the reduction"), jobs.ready(&ask).unwrap());
    assert_eq!((&a.plan, &a.judgement, &a.reduced), (&b.plan, &b.judgement, &b.reduced));
    assert!(!again.knows(&TraceOf(doc.pane().run.clone())), "a run was computed");
    again.need("score", &ScoreOf::of(doc.pane(), doc.pane().call(Kind::Score)));
    let notes = again.notes("score");
    assert!(notes[0].starts_with("Kept in the session") && notes[0].contains(&model[..12]), "{notes:?}");
}

#[test]
fn results_of_another_model_and_damaged_ones_are_computed_again_and_that_is_said() {
    use crate::work::{ScoreOf, Serves as _};
    let (doc, jobs) = computed();
    let text =
        String::from_utf8(written(&Snapshot { results: results(&doc, &jobs), ..snapshot(doc.clone()) })).unwrap();
    let ask = ScoreOf::of(doc.pane(), doc.pane().call(Kind::Score));
    // Each line by itself: the others stay.
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate().filter(|(_, l)| l.contains(r#""section":"result""#)) {
        let mut bad: Vec<String> = lines.iter().map(|l| l.to_string()).collect();
        bad[i] = line.replace(r#""base64":""#, r#""base64":"AAAA"#);
        let session = Session::read(bad.join("\n").as_bytes()).unwrap();
        assert_eq!((session.results.len(), session.doc == doc), (4, true));
        assert!(session.lost.words().any(|w| w.contains("kept result is lost")), "{:?}", session.lost);
    }
    // The hash of the model in what a session knows of it, or in what the results say alone.
    let (hash, zeros) = (crate::session::Stamp::of(&doc.pane().run.model).sha256, "0".repeat(64));
    let of_result = |l: &str| l.contains(r#""section":"result""#);
    for alone in [false, true] {
        let changed = |l: &str| if alone && !of_result(l) { l.to_string() } else { l.replace(&hash, &zeros) };
        let resummed: Vec<String> = text
            .lines()
            .map(changed)
            .map(|l| match l.split_once(r#""data":"#) {
                Some((head, data)) => {
                    let data = &data[..data.len() - 1];
                    let section = head.split('"').nth(3).unwrap();
                    let mut out = Vec::new();
                    super::lines::write(&mut out, section, data).unwrap();
                    String::from_utf8(out).unwrap().trim_end().to_string()
                }
                None => l,
            })
            .collect();
        let (opened, jobs) = opened(resummed.join("\n").as_bytes());
        assert!(jobs.ready(&ask).is_none());
        assert!(opened.remarks.iter().any(|r| r.contains("5 kept results are computed again")), "{:?}", opened.remarks);
    }
}

fn results_fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/sessions/results1.tokenscope")
}

/// As that of version 1: written once and never again. What it holds is of the model as it was; where that is another one
/// by now, the results are computed again, and read all the same.
#[test]
fn the_file_with_results_opens_for_ever() {
    if std::env::var_os("TOKENSCOPE_REWRITE_SESSION").is_some() {
        let (doc, jobs) = computed();
        let whole = Snapshot { results: results(&doc, &jobs), ..snapshot(doc) };
        std::fs::write(results_fixture(), written(&whole)).unwrap();
    }
    let session = Session::open(&results_fixture()).unwrap();
    assert_eq!((session.lost, session.results.len()), (Lost::default(), 5));
    let jobs = crate::jobs::Jobs::new(|| ());
    for kept in &session.results {
        let same = |_: &ModelSource, _: &str| State::Same;
        kept.restore(&Placed::default(), &same, &[], &jobs).unwrap();
    }
}
