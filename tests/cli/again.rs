//! The command in a figure makes the same figure, byte for byte.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Domain, Param, Params, Setting};
use tokenscope_analysis::trace::Tower;
use tokenscope_analysis::weights::Numbers;
use tokenscope_app::export::{PRINT_SCALE, Page, save_page};
use tokenscope_app::heatmap::{Curve, Scale};
use tokenscope_app::jobs::Jobs;
use tokenscope_app::keys::{Call, ModelSource};
use tokenscope_app::pane::{Compared, Drill, Fold, Gather, Measure, Pane, Per, Sort};
use tokenscope_app::picture_source::PictureSource;
use tokenscope_app::selection::{Pick, Selection};
use tokenscope_app::series_source::SeriesSource;
use tokenscope_app::state::Doc;
use tokenscope_app::theme::ColorMap;
use tokenscope_app::views;

/// The command that a figure says, from its metadata.
fn command(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap();
    match file.extension().and_then(|e| e.to_str()) {
        Some("svg") => {
            let text = String::from_utf8(bytes).unwrap();
            let page = roxmltree::Document::parse(&text).unwrap();
            let said = page.descendants().find(|n| n.has_tag_name(("urn:tokenscope:figure", "command")));
            said.and_then(|n| n.text()).expect("no command").to_string()
        }
        Some("png") => chunk(&bytes, "Command"),
        _ => panic!("{}", file.display()),
    }
}

/// The words of a text chunk of a PNG.
fn chunk(png: &[u8], key: &str) -> String {
    let mut rest = &png[8..];
    loop {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let (name, data) = (&rest[4..8], &rest[8..8 + length]);
        let words = data.strip_prefix(key.as_bytes()).and_then(|d| d.strip_prefix(b"\0"));
        match (name, words) {
            (b"tEXt", Some(words)) => return String::from_utf8(words.to_vec()).unwrap(),
            (b"iTXt", Some(words)) => return String::from_utf8(words[4..].to_vec()).unwrap(),
            (b"IEND", _) => panic!("no {key}"),
            _ => rest = &rest[12 + length..],
        }
    }
}

/// Saves the figure of a view, runs its command in a shell in another folder, and compares.
fn made_again(what: &str, view: &str, doc: &Doc, page: &Page, end: &str) -> String {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = first.path().join(format!("a {what}.{end}"));
    let jobs = Jobs::new(|| {});
    save_page(views::find(view).unwrap(), doc, &jobs, page, &file).unwrap_or_else(|e| panic!("{what}: {e:#}"));
    let words = command(&file);
    let bin = PathBuf::from(env!("CARGO_BIN_EXE_tokenscope"));
    let path = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let run = Process::new("sh").args(["-c", &words]).env("PATH", path).current_dir(second.path()).output().unwrap();
    assert!(run.status.success(), "{what}: {words}\n{}", String::from_utf8_lossy(&run.stderr));
    let read = |dir: &Path| std::fs::read(dir.join(file.file_name().unwrap())).unwrap();
    let (first, again) = (read(first.path()), read(second.path()));
    if first != again {
        let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(String::from).collect::<Vec<_>>();
        let differ = lines(&first).into_iter().zip(lines(&again)).find(|(a, b)| a != b && end == "svg");
        panic!("{what}: another figure by\n{words}\n{differ:?}");
    }
    words
}

fn screen() -> Page {
    Page::screen(egui::vec2(700.0, 500.5), 1.5)
}

fn doc_of(change: impl FnOnce(&mut Pane)) -> Doc {
    let mut pane = Pane::default();
    change(&mut pane);
    Doc::of(pane)
}

fn choose(pane: &mut Pane, method: &'static str, params: Params) {
    pane.choose(Call { method, params }).unwrap();
}

#[test]
fn every_view_is_made_again_as_it_is_at_first() {
    for view in views::ALL {
        made_again("first", view.id, &Doc::default(), &screen(), "svg");
        made_again("paper", view.id, &Doc::default(), &Page::paper(85.0, 61.3, PRINT_SCALE), "png");
    }
}

#[test]
fn importance_is_made_again_with_methods_parts_heads_and_scales() {
    let mut doc = doc_of(|p| {
        choose(p, "received_attention", Params::new());
        // Both have a seed, which is not the same.
        choose(p, "random", Params::new().set("seed", 7).set("keep", 0.35));
        p.cursor.head = (2, 3);
        p.cursor.look([0.25, 0.1, 0.3, 0.45]);
        p.cursor.at_layer = Some(1);
        p.shows.scale = Scale { curve: Curve::Rank, clip: 98.5, mask_sink: true };
        p.shows.sort = Sort::Entropy;
        p.shows.measure = Measure::Top1;
        p.shows.truth = false;
        p.aim = Selection::one(4);
    });
    (doc.look.dark, doc.look.map) = (true, ColorMap::Magma);
    made_again("full", "importance", &doc, &screen(), "svg");
    let scores = doc_of(|p| {
        choose(p, "random_score", Params::new().set("seed", 11));
        choose(p, "random", Params::new().set("seed", 3));
        p.shows.parts = [true, true, true, false];
        p.shows.curves = vec!["random"];
        // A range, clicked from its end.
        p.aim = Selection::one(9).picked(6, 6, Pick::Extend);
    });
    let words = made_again("two seeds", "importance", &scores, &screen(), "png");
    assert!(words.contains("score.seed=11") && words.contains("reduce.seed=3"), "{words}");
    let none = doc_of(|p| p.shows.parts = [false, false, false, true]);
    made_again("map", "importance", &none, &screen(), "svg");
}

#[test]
fn gathered_scores_and_curves_of_faithfulness_are_made_again() {
    let doc = doc_of(|p| {
        p.shows.parts = [true, false, false, false];
        p.shows.faithful = true;
        p.shows.aggregate.per = Per::Word;
        p.shows.aggregate.by = Gather::Max;
    });
    made_again("words", "importance", &doc, &screen(), "svg");
    let own = doc_of(|p| {
        p.shows.parts = [true, false, false, false];
        p.aim = Selection::one(2).picked(6, 6, Pick::Extend);
        p.shows.aggregate.per = Per::Segment;
        p.add_segments();
    });
    made_again("segments", "importance", &own, &screen(), "svg");
}

#[test]
fn what_a_model_does_not_have_is_made_again_as_it_is_shown() {
    let stale = doc_of(|p| {
        (p.cursor.head, p.cursor.round) = ((9, 9), 99);
        choose(p, "cls_score", Params::new());
    });
    for view in ["importance", "drafts", "flow"] {
        made_again("stale", view, &stale, &screen(), "svg");
    }
}

/// A method with parameters that are not its defaults.
fn moved(id: &str) -> Call {
    let info = catalog::find(id).unwrap().info();
    let other = |p: &Param| -> Option<Setting> {
        Some(match p.domain {
            Domain::Share { default } => (if default == 0.4 { 0.35 } else { 0.4 }).into(),
            Domain::Number { min, default, .. } => ((default + min) / 2.0).into(),
            Domain::Count { max, default, .. } => (default + 1).min(max).into(),
            Domain::Seed => 5.into(),
            Domain::Toggle { default } => (!default).into(),
            Domain::Choice { options } => return p.parse(options.last()?).ok(),
            Domain::Text { presets } => return p.parse(presets.last()?.0).ok(),
            Domain::Layer { .. } | Domain::Schedule { .. } => return None,
        })
    };
    let params = info.params.iter().filter_map(|p| Some((p.key, other(p)?)));
    Call { method: info.id, params: params.fold(Params::new(), |all, (key, v)| all.set(key, v)) }
}

#[test]
fn a_comparison_is_made_again_with_both_panes_whichever_they_are() {
    let mut doc = doc_of(|p| p.run.prompt = "The red fox met a hen".into());
    doc.split();
    doc.split();
    doc.pane_mut().run.prompt = "The red fox met\na fox".into();
    doc.pane_mut().cursor.head = (2, 1);
    doc.pane_mut().shows.compared = vec![Compared::Next, Compared::Scores, Compared::Map];
    doc.pane_mut().shows.against = Some(0);
    let words = made_again("third minus first", "compare", &doc, &screen(), "svg");
    assert!(words.contains("--with"), "{words}");
    doc.go_to(0);
    doc.pane_mut().choose(moved("random_score")).unwrap();
    doc.pane_mut().shows.fold = Fold::Max;
    made_again("first minus second", "compare", &doc, &screen(), "png");
    // Another view of one of several panes needs that pane alone.
    let words = made_again("one of three", "flow", &doc, &screen(), "svg");
    assert!(!words.contains("--with"), "{words}");
}

#[test]
fn flow_is_made_again_with_its_drill() {
    let mut doc = doc_of(|p| {
        p.shows.threshold = 0.21;
        p.shows.column = 0.0;
        p.cursor.drill = Some(Drill { level: 2, token: 9, from: Some(5), head: Some(1) });
        p.choose(moved("rollout_graph")).unwrap();
    });
    made_again("deep", "flow", &doc, &screen(), "svg");
    doc.pane_mut().cursor.drill = Some(Drill { level: 1, token: 3, from: None, head: None });
    made_again("node", "flow", &doc, &Page::paper(178.0, 100.0, 2.0), "png");
}

#[test]
fn numbers_of_weights_are_said_by_an_option_and_of_panes_beside_by_what_is_another_in_them() {
    let rounded = |p: &mut Pane| p.run.placement.numbers = Numbers::Bf16;
    let words = made_again("rounded", "importance", &doc_of(rounded), &screen(), "svg");
    assert!(words.contains("--dtype bf16"), "{words}");
    // In f32 less in bf16, and the other way round.
    for first in [Numbers::F32, Numbers::Bf16] {
        let mut doc = doc_of(|p| (p.run.placement.numbers, p.shows.compared) = (first, vec![Compared::Next]));
        doc.split_behind();
        doc.pane_mut().run.placement.numbers = if first == Numbers::F32 { Numbers::Bf16 } else { Numbers::F32 };
        doc.go_to(0);
        let words = made_again("both", "compare", &doc, &screen(), "svg");
        assert_eq!(
            (words.contains("--dtype bf16"), words.contains("placement")),
            (first == Numbers::Bf16, true),
            "{words}"
        );
    }
}

#[test]
fn decodes_are_made_again_with_their_round_rival_and_drafter() {
    let doc = doc_of(|p| {
        p.partner = ModelSource::Sample("sample-lm");
        p.cursor.round = 2;
        p.choose(moved("speculative_sampling")).unwrap();
        p.beside.choose(moved("token_recycling")).unwrap();
        p.beside.choose(moved("rollout_graph")).unwrap();
    });
    let words = made_again("two", "drafts", &doc, &screen(), "svg");
    assert!(!words.contains("rollout_graph"), "what the figure does not show is no part of the command: {words}");
    let fills = doc_of(|p| {
        p.run.model = ModelSource::Sample("sample-diffusion");
        p.choose(moved("llada_low_confidence")).unwrap();
        p.cursor.round = 1;
    });
    made_again("fills", "drafts", &fills, &screen(), "svg");
}

#[test]
fn findings_are_made_again_of_either_kind_and_at_a_layer() {
    for id in ["h2o", "head_table"] {
        let doc = doc_of(|p| {
            p.choose(moved(id)).unwrap();
            p.cursor.at_layer = Some(1);
            p.aim = Selection::one(3);
        });
        made_again(id, "findings", &doc, &screen(), "svg");
    }
}

#[test]
fn cuts_are_made_again_with_rows_files_series_and_pictures() {
    let tokenizer = super::models().join("bert/tokenizer.json");
    let doc = doc_of(|p| {
        p.shows.cuts.add(tokenizer);
        p.shows.cuts.named = vec!["bytes", "sentences"];
        p.shows.cuts.reference = "bytes".into();
        p.shows.cuts.surprisal = true;
        p.aim = Selection::one(2);
    });
    made_again("rows", "segmentation", &doc, &screen(), "svg");
    let none = doc_of(|p| p.shows.cuts.named = Vec::new());
    made_again("no rows", "segmentation", &none, &screen(), "svg");
    let series = doc_of(|p| {
        p.cut_series(Some(SeriesSource::Signal(3)));
        p.choose(moved("lipcot")).unwrap();
    });
    made_again("series", "segmentation", &series, &screen(), "svg");
    let hidden = doc_of(|p| {
        p.cut_series(Some(SeriesSource::Signal(3)));
        p.shows.cuts.shows = tokenscope_analysis::segment::Reads::Text;
    });
    made_again("text beside a series", "segmentation", &hidden, &screen(), "svg");
}

#[test]
fn pictures_and_encoders_are_made_again() {
    let mut doc = doc_of(|p| {
        p.run.model = ModelSource::Sample("sample-vlm");
        p.run.image = Some(PictureSource::test_scene(23));
        p.run.prompt = "How many circles are there?".into();
        p.shows.cover = 0.3;
    });
    made_again("scene", "importance", &doc, &screen(), "png");
    doc.pane_mut().tower = Some(Tower::Vision);
    doc.pane_mut().choose(moved("fsq")).unwrap();
    made_again("encoder", "importance", &doc, &screen(), "svg");
    made_again("picture cut", "segmentation", &doc, &screen(), "svg");
    doc.pane_mut().tower = None;
    made_again("flow of a picture", "flow", &doc, &Page::paper(85.0, 80.0, 2.0), "svg");
}

/// Words that shells, terminals, XML and templates read in other ways than they are written.
pub const HOSTILE: [&str; 6] = [
    "</svg><script>alert(1)</script> & \"quotes\" 'single' `back` $(id) ${HOME} \\ %s !x",
    "{{ 7 * 7 }} {% raw %} {# #} <!-- --> ]]> <![CDATA[ &amp; &#x41;",
    "two\nlines\r\nand a\ttab, \u{1}\u{7f}\u{85}\u{2028} and \u{feff}\u{fffe}\u{1fffe} end ",
    "\u{202e}turned\u{202c} \u{2067}العربية\u{2069} עברית 漢字 🚂 e\u{301}",
    "--help",
    "",
];

#[test]
fn prompts_are_made_again_however_they_read() {
    for (i, prompt) in HOSTILE.iter().enumerate() {
        let doc = doc_of(|p| p.run.prompt = (*prompt).into());
        let words = made_again(&format!("prompt {i}"), "segmentation", &doc, &screen(), "svg");
        assert!(!words.contains(['\n', '\u{202e}', '\u{1}']), "{words}");
    }
    let doc = doc_of(|p| p.run.prompt = HOSTILE[0].into());
    made_again("hostile scores", "importance", &doc, &screen(), "png");
}

#[test]
fn what_no_option_says_has_names_that_are_checked() {
    let render = |pane: &str| ["render", "--view", "flow", "--pane", pane, "--out", "x.svg"].map(String::from);
    for (pane, why) in [("{", "no JSON"), ("[]", "object"), (r#"{"cursor":{"hed":[1,2]}}"#, "cursor.hed")] {
        let args = render(pane);
        super::fails_with(&args.each_ref().map(String::as_str), &["--pane", why]);
    }
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("x.csv");
    let file = file.to_str().unwrap();
    super::fails_with(&["render", "--view", "flow", "--set", "score.keep=1", "--out", file], &["keep"]);
}
