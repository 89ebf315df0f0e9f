//! The whole window, driven by keys and pointer as a user would, through what a screen reader sees.

mod atlas;
mod chrome;
mod drafts;
mod drop;
mod findings;
mod gallery;
mod hands;
mod heatmap;
mod importance;
mod lab;
mod lessons;
mod looks;
mod masks;
mod panes;
mod pictures;
mod segmentation;
mod session;
mod snapshots;

use egui::{Key, Modifiers, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use egui_kittest::wgpu::WgpuTestRenderer;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokenscope_analysis::method::Kind;
use tokenscope_app::app::App;
use tokenscope_app::heatmap::Screen;
use tokenscope_app::keys::ModelSource;
use tokenscope_app::pane::{Drill, WHOLE};
use tokenscope_app::picture_source::PictureSource;
use tokenscope_app::state::{Command, Doc};
use tokenscope_app::theme::{ColorMap, Theme};
use tokenscope_app::work::{FlowOf, Serves as _, TraceOf};
use tokenscope_tests::golden;

fn window() -> Harness<'static, App> {
    window_with(Doc::default())
}

fn window_with(doc: Doc) -> Harness<'static, App> {
    window_under(doc, egui::MissingGlyphPolicy::Tofu)
}

/// The harness has a context of its own, and fonts must be there before its first frame.
fn window_under(doc: Doc, policy: egui::MissingGlyphPolicy) -> Harness<'static, App> {
    let app = App::with_doc(&egui::Context::default(), Doc::default());
    let setup = |ctx: &egui::Context| Theme::new(false, ColorMap::default()).install(ctx);
    let mut harness = Harness::builder()
        .with_size(vec2(1280.0, 800.0))
        .with_context_setup(setup)
        .with_max_steps(100_000)
        .build_ui_state(|ui, app: &mut App| app.frame(ui), app);
    // The harness sets a policy of its own when it is built.
    harness.ctx.set_missing_glyph_policy(policy);
    harness.state_mut().doc = doc;
    settle(&mut harness);
    harness
}

/// A window whose frames are rendered on `screen`.
fn window_on(doc: Doc, screen: Screen, prepare: impl FnOnce(&mut App)) -> Harness<'static, App> {
    let mut app = App::with_doc(&egui::Context::default(), doc);
    prepare(&mut app);
    Harness::builder()
        .with_size(vec2(1280.0, 800.0))
        .with_context_setup(|ctx: &egui::Context| Theme::new(false, ColorMap::default()).install(ctx))
        .with_max_steps(100_000)
        .renderer(WgpuTestRenderer::from_render_state(screen))
        .build_ui_state(|ui, app: &mut App| app.frame(ui), app)
}

/// Steps until no job is under way and nothing more is asked for.
fn settle(h: &mut Harness<'static, App>) {
    let start = Instant::now();
    let mut quiet = 0;
    while quiet < 4 {
        h.step();
        quiet = if h.state().jobs.running().0 == 0 { quiet + 1 } else { 0 };
        assert!(start.elapsed() < Duration::from_secs(120), "the jobs do not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn press(h: &mut Harness<'static, App>, modifiers: Modifiers, key: Key) {
    h.key_press_modifiers(modifiers, key);
    settle(h);
}

fn type_text(h: &mut Harness<'static, App>, text: &str) {
    h.event(egui::Event::Text(text.into()));
    settle(h);
}

fn image_doc(model: &str) -> Doc {
    let dir = golden().join("models").join(model);
    let mut doc = Doc::default();
    doc.apply(Command::Model(ModelSource::Path(dir.clone())));
    doc.apply(Command::Prompt("Where is the train?".into()));
    doc.apply(Command::Image(Some(PictureSource::File(dir.join("image.png")))));
    doc
}

#[test]
fn the_first_picture_has_all_four_views_alive_and_a_glyph_for_every_character() {
    let h = window_under(Doc::default(), egui::MissingGlyphPolicy::Panic);
    for words in ["Segmentation", "Importance", "Flow", "Drafts", "this model", "r50k_base"] {
        assert!(h.query_all_by_label(words).next().is_some(), "{words} is not there");
    }
    // The same token in several views, each with its label for a screen reader.
    assert!(h.query_all_by_label("token ·fox").count() >= 4);
    assert!(h.query_by_label_contains("tokens per round").is_some());
    assert!(h.query_by_label_contains("lossless").is_some());
}

#[test]
fn hovering_a_token_in_one_view_is_seen_by_the_others_in_the_same_frame() {
    let mut h = window();
    let chips: Vec<_> = h.query_all_by_label("token ·hen").map(|n| n.rect()).collect();
    h.hover_at(chips[0].center());
    // One frame: the pass that finds the pointer and the pass that is shown.
    h.step();
    assert!(h.query_all_by_label("\" hen\"").next().is_some(), "the inspector shows another token");
}

#[test]
fn a_click_locks_a_token_escape_releases_it_and_undo_brings_it_back() {
    let mut h = window();
    let rect = h.query_all_by_label("token ·fox").map(|n| n.rect()).find(|r| r.left() > 780.0).expect("a scored chip");
    h.drag_at(rect.center());
    h.step();
    h.drop_at(rect.center());
    settle(&mut h);
    let locked = h.state().doc.pane().aim.clone();
    assert_eq!(locked.tokens().len(), 1);
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert!(h.state().doc.pane().aim.is_empty());
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(h.state().doc.pane().aim, locked);
    press(&mut h, Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);
    assert!(h.state().doc.pane().aim.is_empty());
}

#[test]
fn the_palette_finds_a_method_by_a_few_letters() {
    let mut h = window();
    press(&mut h, Modifiers::COMMAND, Key::K);
    type_text(&mut h, "rollout graph");
    press(&mut h, Modifiers::NONE, Key::Enter);
    let pane = h.state().doc.pane();
    let call = pane.call(Kind::Flow);
    assert_eq!(call.method, "rollout_graph");
    let asked = FlowOf::of(pane, call);
    assert!(h.state().jobs.ready(&asked).is_some(), "the view did not follow");
}

#[test]
fn the_palette_adds_a_row_to_the_segmentation_and_takes_it_away() {
    let mut h = window();
    for shown in [true, false] {
        press(&mut h, Modifiers::COMMAND, Key::K);
        type_text(&mut h, "segment: graphemes");
        press(&mut h, Modifiers::NONE, Key::Enter);
        assert_eq!(h.state().doc.pane().shows.cuts.named.contains(&"graphemes"), shown);
        assert!(h.state().doc.pane().shows.cuts.named.contains(&"words"), "another row went");
    }
}

#[test]
fn keys_walk_heads_rounds_and_colours() {
    let mut h = window();
    let (layer, head) = h.state().doc.pane().cursor.head;
    press(&mut h, Modifiers::ALT, Key::ArrowRight);
    press(&mut h, Modifiers::ALT, Key::ArrowUp);
    assert_eq!(h.state().doc.pane().cursor.head, (layer + 1, head + 1));
    press(&mut h, Modifiers::ALT, Key::PageDown);
    assert_eq!(h.state().doc.pane().cursor.round, 1);
    press(&mut h, Modifiers::COMMAND, Key::D);
    assert!(h.state().doc.look.dark);
}

#[test]
fn a_model_that_is_not_there_says_so_and_leaves_what_was_on_screen() {
    let mut h = window();
    let before = h.query_all_by_label("token ·fox").count();
    let mut doc = h.state().doc.clone();
    doc.apply(Command::Model(ModelSource::Path("/nowhere/model".into())));
    h.state_mut().doc = doc;
    settle(&mut h);
    assert!(h.query_all_by_label_contains("/nowhere/model").next().is_some());
    assert!(h.query_all_by_label("token ·fox").count() >= before / 2, "the previous picture is gone");
    press(&mut h, Modifiers::COMMAND, Key::K);
    type_text(&mut h, "back to the sample");
    press(&mut h, Modifiers::NONE, Key::Enter);
    assert_eq!(h.state().doc.pane().run.model, ModelSource::Sample("sample-lm"));
    assert_eq!(h.query_all_by_label_contains("/nowhere/model").count(), 0);
}

#[test]
fn a_picture_reaches_a_vision_language_model_and_lies_under_its_tokens() {
    for model in ["llava", "smolvlm"] {
        let h = window_with(image_doc(model));
        assert!(h.query_all_by_label_contains("picture of").next().is_some(), "{model} shows no picture");
        assert!(h.query_all_by_label_contains("image·tokens").next().is_some(), "{model}");
        // What random weights write may be the picture's own token.
        assert!(h.query_all_by_label_contains("draft tree of").next().is_some(), "{model} drafts nothing");
    }
}

#[test]
fn what_a_model_cannot_do_is_a_face_of_its_own_and_no_failure() {
    let retry = |h: &Harness<'static, App>| h.query_all_by_label("Retry").count();
    // No head of a language model reads what the nodes of CLIP's text encoder predict.
    let h = window_with(image_doc("clip"));
    let pane = h.state().doc.pane();
    let asked = FlowOf::of(pane, pane.call(Kind::Flow));
    assert!(h.state().jobs.ready(&asked).is_some(), "no flow");
    assert_eq!(retry(&h), 0);
    // A model that reads pictures only asks for one.
    let mut doc = image_doc("vit");
    doc.apply(Command::Image(None));
    let h = window_with(doc);
    assert!(h.query_all_by_label_contains("This model reads pictures: drop one").count() >= 2);
    assert_eq!(retry(&h), 0);
}

#[test]
fn every_image_family_opens_without_a_panic() {
    for model in ["vit", "clip", "siglip_vision", "dinov2", "dinov2_registers"] {
        let mut doc = image_doc(model);
        doc.apply(Command::Tower(Some(tokenscope_analysis::trace::Tower::Vision)));
        let h = window_with(doc);
        assert!(h.query_all_by_label_contains("picture of").next().is_some(), "{model} shows no picture");
    }
}

#[test]
fn an_empty_prompt_and_strange_scripts_are_drawn() {
    for prompt in ["", "\n\t ", "naïve 漢字 🚂 \u{202e}abc", &"x ".repeat(300)] {
        let mut doc = Doc::default();
        doc.apply(Command::Prompt(prompt.into()));
        let h = window_with(doc);
        assert!(h.query_all_by_label("Segmentation").next().is_some());
    }
}

#[test]
fn a_recorded_run_opens_without_weights() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.safetensors");
    let trace = {
        let h = window();
        h.state().jobs.ready(&TraceOf(h.state().doc.pane().run.clone())).expect("no trace of the sample")
    };
    tokenscope_analysis::trace::write_trace(&trace, &file).unwrap();
    let mut doc = Doc::default();
    doc.apply(Command::Model(ModelSource::of_path(file.clone())));
    assert_eq!(doc.pane().run.model, ModelSource::Recorded(file));
    doc.apply(Command::Method("attention_rollout"));
    let h = window_with(doc);
    assert!(h.query_all_by_label("token ·fox").next().is_some(), "the tokens of the recording are not there");
    assert!(h.query_all_by_label_contains("recorded run").next().is_some());
}

#[test]
fn the_map_zooms_where_the_pointer_is_and_never_leaves_itself() {
    let mut doc = Doc::default();
    assert_eq!(doc.pane().cursor.window, WHOLE);
    doc.pane_mut().cursor.look([-3.0, 0.9, 0.25, 0.25]);
    assert_eq!(doc.pane().cursor.window, [0.0, 0.75, 0.25, 0.25]);
    doc.pane_mut().cursor.look([f32::MAX, 0.0, 7.0, -1.0]);
    assert_eq!(doc.pane().cursor.window[2], 1.0);
    assert!(doc.pane().cursor.window.iter().all(|v| (0.0..=1.0).contains(v)));
}

#[test]
fn saving_a_view_gives_each_format_and_says_what_is_wrong_with_a_name() {
    let h = window();
    let dir = tempfile::tempdir().unwrap();
    let save = |view: &str, name: &str| {
        let path: PathBuf = dir.path().join(name);
        let view = tokenscope_app::views::find(view).unwrap();
        tokenscope_app::export::save(view, &h.state().doc, &h.state().jobs, vec2(600.0, 400.0), 1.0, &path)
            .map(|()| std::fs::read(path).unwrap())
    };
    for view in ["segmentation", "importance", "flow", "drafts"] {
        let png = save(view, "a.png").unwrap();
        let picture = tokenscope_analysis::image::Picture::decode(&png).unwrap();
        assert_eq!(picture.width, 600);
        let first = picture.pixel(0, 0);
        let inked = (0..picture.width * picture.height).filter(|i| picture.pixel(i % 600, i / 600) != first).count();
        assert!(inked > 500, "{view} is empty");
        let svg = String::from_utf8(save(view, "a.svg").unwrap()).unwrap();
        assert!(svg.contains("<text") && svg.ends_with("</svg>\n"), "{view}");
        let csv = String::from_utf8(save(view, "a.csv").unwrap()).unwrap();
        let columns = csv.lines().next().unwrap().split(',').count();
        assert!(columns > 4 && csv.lines().count() > 5, "{view}");
        let json: serde_json::Value = serde_json::from_slice(&save(view, "a.json").unwrap()).unwrap();
        assert_eq!(json.as_array().unwrap().len() + 1, csv.trim_end().split("\r\n").count(), "{view}");
    }
    let wrong = save("flow", "a.tiff").unwrap_err().to_string();
    assert!(wrong.contains("png, svg, pdf, csv, json"), "{wrong}");
    assert!(tokenscope_app::views::find("nonsense").is_err());
}

#[test]
fn shift_extends_a_selection_and_the_inspector_sums_it_up() {
    let mut h = window();
    press(&mut h, Modifiers::ALT, Key::Comma);
    press(&mut h, Modifiers::ALT, Key::Comma);
    let one = h.state().doc.pane().aim.tokens().to_vec();
    assert_eq!(one.len(), 1);
    press(&mut h, Modifiers::ALT | Modifiers::SHIFT, Key::Comma);
    assert_eq!(h.state().doc.pane().aim.tokens(), [one[0] - 1, one[0]]);
    assert!(h.query_all_by_label("2 tokens").next().is_some(), "the inspector does not follow");
    assert!(h.query_all_by_label_contains("mean over 2 selected tokens").next().is_some());
}

#[test]
fn a_piece_of_another_tokenizer_selects_the_tokens_it_covers() {
    let mut h = window();
    // Below the model's own row in the segmentation view, at the upper left.
    let rows: Vec<_> = h.query_all_by_label("token ·harbour").map(|n| n.rect()).filter(|r| r.left() < 780.0).collect();
    let rect = rows.iter().copied().min_by(|a, b| a.top().total_cmp(&b.top())).expect("a word");
    h.drag_at(rect.center());
    h.step();
    h.drop_at(rect.center());
    settle(&mut h);
    let trace = h.state().jobs.ready(&TraceOf(h.state().doc.pane().run.clone())).expect("no trace");
    let tokens = &trace.towers[&trace.main_tower()].tokens;
    let text: String = h.state().doc.pane().aim.tokens().iter().map(|&i| tokens[i].text.as_str()).collect();
    assert!(text.contains("harbour"), "{text}");
}

#[test]
fn the_flow_drills_from_a_node_to_what_a_head_changes_and_escape_leads_back() {
    let mut doc = Doc::default();
    doc.pane_mut().cursor.drill = Some(Drill { level: 2, token: 5, from: Some(3), head: Some(1) });
    let mut h = window_with(doc);
    assert!(h.query_all_by_label("promoted").next().is_some(), "no effect of the head");
    assert!(h.query_all_by_label("suppressed").next().is_some());
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert_eq!(h.state().doc.pane().cursor.drill.map(|d| d.head), Some(None));
    assert!(h.query_all_by_label("contribution").next().is_some(), "no table of heads");
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert!(h.query_all_by_label_contains("what arrives").next().is_some());
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert_eq!(h.state().doc.pane().cursor.drill, None);
}

#[test]
fn retention_curves_come_with_their_floor_and_are_saved_as_numbers() {
    let mut doc = Doc::default();
    doc.pane_mut().shows.parts = [false, false, true, false];
    let h = window_with(doc);
    let label = "retention curves, Random";
    assert!(h.query_all_by_label_contains(label).next().is_some(), "no curves");
    let file = tempfile::tempdir().unwrap().keep().join("curves.csv");
    let view = tokenscope_app::views::find("importance").unwrap();
    tokenscope_app::export::save(view, &h.state().doc, &h.state().jobs, vec2(600.0, 400.0), 1.0, &file).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    let last = text.lines().rfind(|l| l.starts_with("uniform")).expect("a curve of uniform");
    // Everything kept changes nothing.
    let cells: Vec<f64> = last.split(',').skip(1).take(3).map(|c| c.parse().unwrap()).collect();
    assert_eq!(cells[0], 1.0, "{last}");
    assert!(cells[1] < 1e-6 && cells[2] == 1.0, "{last}");
}

#[test]
fn a_reduction_is_shown_by_layer_and_answers_stand_side_by_side() {
    let h = window();
    assert!(h.query_all_by_label_contains("rows by layer").next().is_some());
    assert!(h.query_all_by_label("full model goes on").next().is_some());
    assert!(h.query_all_by_label("reduced model goes on").next().is_some());
}

#[test]
fn two_draft_methods_stand_beside_each_other_at_one_budget() {
    let mut h = window();
    let mut doc = h.state().doc.clone();
    doc.apply(Command::Param(Kind::Draft, "gamma", 6.into()));
    h.state_mut().doc = doc;
    settle(&mut h);
    h.get_by_label("compare").click();
    settle(&mut h);
    let beside = &h.state().doc.pane().beside;
    let rival = beside.get(Kind::Draft).expect("a second method");
    assert_eq!(
        rival.params.iter().find(|(k, _)| *k == "tree_size").and_then(|(_, v)| v.number()),
        Some(6.0),
        "{rival:?}"
    );
    assert!(h.query_all_by_label_contains("nodes a round").next().is_some());
    assert_eq!(h.query_all_by_label_contains("draft tree of").count(), 2);
    assert!(h.query_all_by_label_contains("speed-up expected").count() == 2);
}

#[test]
fn undo_while_typing_takes_the_text_back_and_redo_returns_it() {
    let mut h = window();
    let before = h.state().doc.pane().run.prompt.clone();
    h.get_by_label("prompt").focus();
    h.step();
    h.event(egui::Event::Text("zebra ".into()));
    h.step();
    h.step();
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(h.state().doc.pane().run.prompt, before);
    press(&mut h, Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);
    assert!(h.state().doc.pane().run.prompt.contains("zebra"), "{}", h.state().doc.pane().run.prompt);
}
