//! Files dropped on the window: each kind is taken for what it is, and what is none of them leaves the picture.

use super::{settle, window};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokenscope_app::app::App;
use tokenscope_app::keys::ModelSource;
use tokenscope_app::picture_source::PictureSource;
use tokenscope_app::work::TraceOf;
use tokenscope_tests::{Dropped, golden};

fn drop_files(h: &mut Harness<'static, App>, files: &[PathBuf]) {
    for f in files {
        h.input_mut().dropped_files.push(Arc::new(Dropped(f.clone())));
    }
    settle(h);
}

fn models(name: &str) -> PathBuf {
    golden().join("models").join(name)
}

fn tokens(h: &Harness<'static, App>) -> usize {
    let trace = h.state().jobs.ready(&TraceOf(h.state().doc.pane().run.clone()));
    trace.map_or(0, |t| t.towers[&t.main_tower()].tokens.len())
}

#[test]
fn a_folder_a_weights_file_a_gguf_and_a_file_of_the_folder_open_the_model() {
    let mut h = window();
    let gguf = std::fs::read_dir(models("gguf/llama_spm")).unwrap().flatten().map(|e| e.path());
    let gguf = gguf.filter(|p| p.extension().is_some_and(|e| e == "gguf")).min().expect("a GGUF file");
    let cases = [
        (models("qwen2"), models("qwen2"), "Qwen2ForCausalLM"),
        (models("llama/model.safetensors"), models("llama/model.safetensors"), "LlamaForCausalLM"),
        (gguf.clone(), gguf, "LlamaForCausalLM"),
        (models("qwen3/config.json"), models("qwen3"), "Qwen3ForCausalLM"),
    ];
    for (file, opened, architecture) in cases {
        drop_files(&mut h, std::slice::from_ref(&file));
        assert_eq!(h.state().doc.pane().run.model, ModelSource::Path(opened), "{}", file.display());
        assert!(h.query_all_by_label_contains(architecture).next().is_some(), "{} did not open", file.display());
        assert!(tokens(&h) > 10, "{} did not run", file.display());
    }
}

#[test]
fn a_picture_tokenizers_and_a_recording_are_told_apart_and_may_come_together() {
    let mut h = window();
    let (picture, first) = (models("llava/image.png"), models("tokenizers/gpt2/tokenizer.json"));
    drop_files(&mut h, &[models("llava"), picture.clone(), first.clone()]);
    assert_eq!(h.state().doc.pane().run.image, Some(PictureSource::File(picture)));
    assert_eq!(h.state().doc.pane().run.model, ModelSource::Path(models("llava")));
    assert!(h.query_all_by_label_contains("picture of").next().is_some());
    // A second tokenizer stands beside the first.
    let second = models("tokenizers/qwen2/tokenizer.json");
    drop_files(&mut h, std::slice::from_ref(&second));
    assert_eq!(h.state().doc.pane().shows.cuts.files, [first, second]);
    assert!(h.query_all_by_label("gpt2/tokenizer.json").next().is_some());
    assert!(h.query_all_by_label("qwen2/tokenizer.json").next().is_some());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.safetensors");
    let mut other = window();
    let trace =
        other.state().jobs.ready(&TraceOf(other.state().doc.pane().run.clone())).expect("no trace of the sample");
    tokenscope_analysis::trace::write_trace(&trace, &file).unwrap();
    drop_files(&mut h, std::slice::from_ref(&file));
    assert_eq!(h.state().doc.pane().run.model, ModelSource::Recorded(file));
    // All views are about the recording: its text, a flow that needs no weights, no drafts of the model before.
    let shown = h.get_by_label("prompt of the recording").value().unwrap_or_default();
    assert_eq!(shown, trace.text);
    assert!(h.query_all_by_label("token ·fox").count() >= 2);
    assert!(h.query_all_by_label_contains("Rollout graph is shown").next().is_some());
    assert!(h.query_all_by_label_contains("round of").next().is_none());
    settle(&mut other);
}

#[test]
fn what_is_none_of_these_is_named_with_what_to_do_and_the_picture_stays() {
    let mut h = window();
    let before = h.query_all_by_label("token ·fox").count();
    let dir = tempfile::tempdir().unwrap();
    let note = dir.path().join("note.txt");
    std::fs::write(&note, "hello").unwrap();
    drop_files(&mut h, &[note]);
    let said = h.query_all_by_label_contains("choose a model folder").next();
    assert!(said.is_some_and(|n| format!("{n:?}").contains("note.txt")), "nothing says what was wrong with it");
    assert!(h.query_all_by_label("token ·fox").count() > before / 2, "the previous picture is gone");
}

#[test]
fn a_picture_that_cannot_be_read_is_named_although_the_model_reads_text_only() {
    let mut h = window();
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.png");
    let whole = std::fs::read(models("llava/image.png")).unwrap();
    std::fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    drop_files(&mut h, &[broken]);
    assert!(h.query_all_by_label_contains("broken.png").any(|n| format!("{n:?}").contains("save it again")));
    assert!(h.query_all_by_label("token ·fox").next().is_some());
}

#[test]
fn files_over_the_window_are_told_what_dropping_them_would_do() {
    let mut h = window();
    let over = |path: Option<PathBuf>| egui::HoveredFile { path, ..Default::default() };
    h.input_mut().hovered_files = vec![over(Some(models("gpt2/config.json"))), over(Some("/a/cat.png".into()))];
    h.run_steps(3);
    assert!(h.query_by_label("Drop to open the model gpt2").is_some());
    assert!(h.query_by_label("Drop to show the picture cat.png").is_some());
    h.input_mut().hovered_files = vec![over(None)];
    h.run_steps(3);
    assert!(h.query_by_label_contains("Drop a model folder").is_some());
    h.input_mut().hovered_files.clear();
    h.run_steps(3);
    assert!(h.query_all_by_label_contains("Drop a model").next().is_none());
}

#[test]
fn a_decode_that_does_not_fit_does_not_show_that_of_another_model() {
    let mut h = window();
    assert!(h.query_all_by_label_contains("draft tree").next().is_some());
    let long = "one two three four five six seven eight nine ten eleven twelve thirteen";
    let mut doc = h.state().doc.clone();
    doc.apply(tokenscope_app::state::Command::Model(ModelSource::Path(models("gpt2"))));
    doc.apply(tokenscope_app::state::Command::Prompt(long.into()));
    h.state_mut().doc = doc;
    settle(&mut h);
    assert!(tokens(&h) > 30, "the model runs on the prompt itself");
    assert!(h.query_all_by_label_contains("shorten the prompt").next().is_some());
    assert!(h.query_all_by_label_contains("draft tree").next().is_none(), "a tree of another model");
}
