//! Image and vision-language models against `transformers`, and what a reduction does inside them.

use candle_core::{Device, Tensor};
use tokenscope_analysis::image::ImageInput;
use tokenscope_analysis::model::{Input, Model, load};
use tokenscope_analysis::reduce::{Half, Place, Plan, Runner, Step};
use tokenscope_analysis::run::{RunRequest, run, run_with};
use tokenscope_analysis::token::{Source, TokenKind};
use tokenscope_analysis::trace::{CaptureSpec, NoTap, Site, Tower, Trace};
use tokenscope_analysis::{Ctx, Result, Subject};
use tokenscope_tests::{check_fixture, check_forward, golden, json, recorded_request};

fn check(name: &str) {
    check_fixture(&golden().join("models").join(name));
}

#[test]
fn vit() {
    check("vit");
}

#[test]
fn clip() {
    check("clip");
}

#[test]
fn siglip() {
    check("siglip_vision");
}

#[test]
fn dinov2_at_three_sizes() {
    check("dinov2");
    let dir = golden().join("models/dinov2");
    let tolerances = json(&dir.join("meta.json"))["tolerances"].clone();
    check_forward(&dir, &dir.join("expected_native.safetensors"), &tolerances);
    check_forward(&dir, &dir.join("expected_wide.safetensors"), &tolerances);
}

#[test]
fn dinov2_with_registers() {
    check("dinov2_registers");
}

#[test]
fn llava() {
    check("llava");
}

#[test]
fn llava_next() {
    check("llava_next");
}

#[test]
fn smolvlm() {
    check("smolvlm");
}

/// A run with one step carried out.
fn carried_out(model: &dyn Model, request: &RunRequest, tower: Tower, step: Step) -> Result<Trace> {
    let full = run(model, None, request, &CaptureSpec::sites(&[]), &Ctx::default())?;
    let plan = Plan::drawn([(tower, full.tower(tower)?.tokens.len())].into(), vec![step])?;
    let on = Subject::new(&full).with_model(model).of(tower);
    let mut runner = Runner::new(&on, vec![Box::new(plan.again())], &Ctx::default())?;
    run_with(model, None, request, &CaptureSpec::views(), &mut runner, &Ctx::default())
}

#[test]
fn merged_patches_of_a_vit_keep_their_tokens() -> Result<()> {
    let dir = golden().join("models/vit");
    let model = load(&dir, &Device::Cpu)?;
    // Tokens 1 and 2 become one; 26 tokens, 25 rows.
    let merge = Step { rows: vec![vec![(1, 0.5), (2, 0.5)]], ..Step::keep(Place::Encoder(0, Half::Mid), &[], &[]) };
    let request = recorded_request(&dir.join("expected.safetensors"));
    let trace = carried_out(model.as_ref(), &request, Tower::Vision, merge)?;
    let before = trace.get(Tower::Vision, 0, Site::ResidMid)?;
    let after = trace.get(Tower::Vision, 1, Site::ResidPre)?;
    assert_eq!((before.array.shape()[0], after.array.shape()[0]), (26, 25));
    assert_eq!(after.rows.tokens[1], [1, 2]);
    assert_eq!(after.rows.row_of(25), Some(24));
    Ok(())
}

#[test]
fn pruned_features_shorten_the_language_model() -> Result<()> {
    let dir = golden().join("models/llava");
    let model = load(&dir, &Device::Cpu)?;
    let request = RunRequest { greedy: 0, ..recorded_request(&dir.join("expected.safetensors")) };
    let ids = request.ids.clone().unwrap();
    let first = ids.iter().position(|&i| Some(i) == model.image_token()).unwrap();
    let gone: Vec<usize> = (1..15).filter(|i| *i != 5).map(|i| first + i).collect();
    let drop = Step::keep(Place::Features, &[], &gone).renumbered();
    let trace = carried_out(model.as_ref(), &request, Tower::Text, drop)?;
    let e = trace.get(Tower::Text, 0, Site::ResidPre)?;
    assert_eq!(e.array.shape()[0], 49 - 13);
    assert_eq!(e.rows.positions, (0..36).collect::<Vec<_>>());
    assert_eq!((e.rows.row_of(first + 5), e.rows.row_of(first + 1)), (Some(first + 1), None));
    let text = trace.tower(Tower::Text)?;
    assert_eq!(text.tokens.len(), 49);
    assert_eq!(text.tokens[first].kind, TokenKind::Image);
    assert_eq!(text.grids[0].first, first);
    Ok(())
}

#[test]
fn rectangles_are_in_pixels_of_the_original() -> Result<()> {
    let model = load(&golden().join("models/vit"), &Device::Cpu)?;
    // 5 x 5 patches over an original of 100 x 50 pixels: 20 x 10 each.
    let image = ImageInput {
        tiles: vec![Tensor::zeros((3, 40, 40), candle_core::DType::F32, &Device::Cpu)?],
        rects: vec![[0.0, 0.0, 100.0, 50.0]],
        layout: (1, 1),
        original: (100, 50),
        grid: None,
    };
    let mut input = Input { image: Some(image), ..Input::default() };
    let out = Model::forward(model.as_ref(), &mut input, &mut NoTap, &Ctx::default())?;
    let run = &out.towers[&Tower::Vision];
    assert_eq!(run.tokens[0].kind, TokenKind::Special);
    assert_eq!(run.tokens[1 + 5 + 2].source, Source::Rect { x: 40.0, y: 10.0, w: 20.0, h: 10.0 });
    assert_eq!((run.grids[0].rows, run.grids[0].cols, run.grids[0].first), (5, 5, 1));
    Ok(())
}
