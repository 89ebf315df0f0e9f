//! Image and vision-language models against `transformers`, and what a reduction does inside them.

use candle_core::{Device, Tensor};
use tokenscope_analysis::image::{ImageInput, Picture, Processor};
use tokenscope_analysis::model::{Input, Model, load};
use tokenscope_analysis::reduce::{Half, Place, Plan, Runner, Step};
use tokenscope_analysis::run::{RunRequest, run, run_with};
use tokenscope_analysis::token::{Source, TokenKind};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, NoTap, Site, Tower, Trace};
use tokenscope_analysis::weights::Weights;
use tokenscope_analysis::{Ctx, Result, Subject};
use tokenscope_tests::{check_fixture, check_forward, close, golden, json, recorded_request, tensors};

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
fn deit() {
    check("deit");
}

#[test]
fn internvl() {
    check("internvl");
}

#[test]
fn qwen2_vl() {
    check("qwen2_vl");
}

#[test]
fn qwen2_5_vl() {
    check("qwen2_5_vl");
}

#[test]
fn siglip_with_both_towers() {
    check("siglip");
}

#[test]
fn siglip2_with_pictures_in_their_own_shape() {
    check("siglip2");
}

/// 41 x 22 pixels as 3 rows of 6 patches and two that fill up, from the picture and the text on.
#[test]
fn patches_of_siglip2_lie_on_the_picture() -> Result<()> {
    let dir = golden().join("models/siglip2");
    let (model, tokenizer) = (load(&dir, &Device::Cpu)?, Tokenizer::load(&dir)?);
    let processor = Processor::load(&Weights::open(&dir)?)?.unwrap();
    let picture = Picture::open(&dir.join("image.png"))?;
    let mut request = RunRequest { prompt: Some("a train".into()), ..RunRequest::default() };
    request.add_picture(&processor, &picture)?;
    let trace = run(model.as_ref(), Some(&tokenizer), &request, &CaptureSpec::views(), &Ctx::default())?;
    let want = tensors(&dir.join("expected.safetensors"));
    let ids: Vec<f64> = trace.tower(Tower::Text)?.tokens.iter().filter_map(|t| t.id.map(f64::from)).collect();
    assert_eq!(ids, want["input_ids"].values);
    let embeds = &trace.extras["image_embeds"];
    assert!(embeds.data().iter().zip(&want["image_embeds"].values).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-4));
    let tower = trace.tower(Tower::Vision)?;
    let grid = &tower.grids[0];
    assert_eq!((grid.rows, grid.cols, grid.first, tower.tokens.len()), (3, 6, 0, 20));
    let wide = 41.0 / 6.0;
    let Source::Rect { x, y, w, h } = tower.tokens[8].source else { panic!("a patch without a place") };
    assert!(
        (x - 2.0 * wide).abs() < 1e-4 && (y - 22.0 / 3.0).abs() < 1e-4 && (w - wide).abs() < 1e-4,
        "{x} {y} {w} {h}"
    );
    assert_eq!((tower.tokens[18].kind, tower.tokens[18].source), (TokenKind::Padding, Source::None));
    // A patch that is cut away takes nothing of what fills up with it.
    let step = Step::keep(Place::Encoder(0, Half::Mid), &[], &[1]);
    let image = RunRequest { image: request.image.clone(), ..RunRequest::default() };
    let cut = carried_out(model.as_ref(), &image, Tower::Vision, step)?;
    let mask = &cut.tower(Tower::Vision)?.attention[1].mask;
    assert!(mask.allows(0, 0, 16, 17) && !mask.allows(0, 0, 17, 18) && !mask.allows(18, 19, 18, 19), "{mask:?}");
    Ok(())
}

#[test]
fn smolvlm() {
    check("smolvlm");
}

#[test]
fn beit() {
    check("beit");
}

#[test]
fn dinov3_vit() {
    check("dinov3_vit");
}

#[test]
fn gemma3() {
    check("gemma3");
}

#[test]
fn llava_onevision() {
    check("llava_onevision");
}

#[test]
fn paligemma() {
    check("paligemma");
}

#[test]
fn qwen3_vl() {
    check("qwen3_vl");
}

#[test]
fn qwen3_vl_moe() {
    check("qwen3_vl_moe");
}

#[test]
fn swin() {
    check("swin");
}

#[test]
fn swin_of_the_second_version() {
    check("swinv2");
}

/// All that a run with other settings keeps.
fn all_of(name: &str) -> Result<Trace> {
    let dir = golden().join("models/settings").join(name);
    let request = recorded_request(&dir.join("expected.safetensors"));
    run(load(&dir, &Device::Cpu)?.as_ref(), None, &request, &CaptureSpec::all(), &Ctx::default())
}

/// Rows of Swin's later stages stand for the patches that merged, and cover the picture.
#[test]
fn merged_patches_of_swin_know_their_pixels() -> Result<()> {
    let trace = all_of("swin_odd")?;
    let tower = trace.tower(Tower::Vision)?;
    // 21 x 27 pixels in patches of 3: 7 x 9, then 4 x 5, then 2 x 3.
    assert_eq!((tower.grids[0].rows, tower.grids[0].cols, tower.tokens.len()), (7, 9, 63));
    for (layer, n) in [(0, 63), (1, 63), (2, 20), (3, 20), (4, 6)] {
        let rows = &trace.get(Tower::Vision, layer, Site::ResidPost)?.rows;
        let mut all: Vec<usize> = rows.tokens.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!((rows.len(), all), (n, (0..63).collect::<Vec<_>>()), "layer {layer}");
    }
    // The last row of the second stage is the corner patch alone; the second of the last stage is 4 x 4 patches.
    assert_eq!(trace.get(Tower::Vision, 2, Site::ResidPre)?.rows.tokens[19], [62]);
    let square = &trace.get(Tower::Vision, 4, Site::ResidPre)?.rows.tokens[1];
    let want: Vec<usize> = (0..4).flat_map(|r| (4..8).map(move |c| 9 * r + c)).collect();
    assert_eq!(*square, want);
    assert_eq!(tower.tokens[13].source, Source::Rect { x: 12.0, y: 3.0, w: 3.0, h: 3.0 });
    // It is read back, stages of several widths and all.
    let file = tempfile::NamedTempFile::new().unwrap();
    tokenscope_analysis::trace::write_trace(&trace, file.path())?;
    assert_eq!(tokenscope_analysis::trace::read_trace(file.path(), &Ctx::default())?.arrays, trace.arrays);
    // The maps that it used are those that queries and keys give, also where windows are filled up.
    for name in ["swin_odd", "swin_pads", "swinv2_pads"] {
        let trace = all_of(name)?;
        for (key, entry) in trace.arrays.iter().filter(|(k, _)| k.site == Site::Pattern) {
            let map = tokenscope_analysis::passes::attention_map::of_layer(
                &trace,
                Tower::Vision,
                0,
                key.layer,
                &Ctx::default(),
            )?;
            let worst = map.data().iter().zip(entry.array.data()).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst < 3e-6, "{name} layer {}: {worst}", key.layer);
        }
    }
    Ok(())
}

/// Windows need their grid, so nothing is cut out of it.
#[test]
fn a_reduction_inside_swin_is_refused() -> Result<()> {
    let dir = golden().join("models/swin");
    let model = load(&dir, &Device::Cpu)?;
    let step = Step::keep(Place::Encoder(0, Half::Mid), &[], &[3]);
    let request = recorded_request(&dir.join("expected.safetensors"));
    let why = carried_out(model.as_ref(), &request, Tower::Vision, step).unwrap_err().to_string();
    assert!(why.contains("cannot be pruned or merged"), "{why}");
    Ok(())
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
        at: [0.0; 2],
        rest: Vec::new(),
    };
    let mut input = Input { image: Some(image), ..Input::default() };
    let out = Model::forward(model.as_ref(), &mut input, &mut NoTap, &Ctx::default())?;
    let run = &out.towers[&Tower::Vision];
    assert_eq!(run.tokens[0].kind, TokenKind::Special);
    assert_eq!(run.tokens[1 + 5 + 2].source, Source::Rect { x: 40.0, y: 10.0, w: 20.0, h: 10.0 });
    assert_eq!((run.grids[0].rows, run.grids[0].cols, run.grids[0].first), (5, 5, 1));
    Ok(())
}

/// SigLIP was trained on texts of one length without a mask, so that what fills them up counts.
#[test]
fn a_text_for_siglip_is_brought_to_its_length() -> Result<()> {
    let dir = golden().join("models/siglip");
    let (model, tokenizer) = (load(&dir, &Device::Cpu)?, Tokenizer::load(&dir)?);
    let want = tensors(&dir.join("expected.safetensors"))["input_ids"].values.clone();
    let ids = |text: &str| -> Result<(Vec<f64>, Trace)> {
        let request = RunRequest { prompt: Some(text.into()), ..RunRequest::default() };
        let trace = run(model.as_ref(), Some(&tokenizer), &request, &CaptureSpec::sites(&[]), &Ctx::default())?;
        let tokens = &trace.tower(Tower::Text)?.tokens;
        Ok((tokens.iter().filter_map(|t| t.id.map(f64::from)).collect(), trace))
    };
    let (got, trace) = ids("a train on the bridge")?;
    assert_eq!(got, want);
    assert_eq!(trace.tower(Tower::Text)?.tokens[23].kind, TokenKind::Padding);
    // A longer one is cut before its end mark, and says so.
    let (got, trace) = ids(&"a train ".repeat(20))?;
    assert_eq!((got.len(), got[23]), (24, want[15]));
    assert!(trace.notes.iter().any(|n| n.contains("reads 24")), "{:?}", trace.notes);
    Ok(())
}

/// Each token of the language model lies where its patches do, and its neighbours touch it.
#[test]
fn tokens_of_pictures_cover_the_picture_once() -> Result<()> {
    for (name, edge) in [("llava_next", 0.05), ("qwen2_vl", 0.01), ("qwen2_5_vl", 0.01), ("internvl", 0.01)] {
        let dir = golden().join("models").join(name);
        let (model, tokenizer) = (load(&dir, &Device::Cpu)?, Tokenizer::load(&dir)?);
        let processor = Processor::load(&Weights::open(&dir)?)?.unwrap();
        let picture = Picture::open(&dir.join("image.png"))?;
        let text = json(&dir.join("meta.json"))["input_text"].as_str().unwrap().to_string();
        let mut request = RunRequest { prompt: Some(text), ..RunRequest::default() };
        request.add_picture(&processor, &picture)?;
        let trace = run(model.as_ref(), Some(&tokenizer), &request, &CaptureSpec::sites(&[]), &Ctx::default())?;
        for (tower, run) in &trace.towers {
            let mut area = 0.0;
            for grid in &run.grids {
                for i in grid.tokens() {
                    assert_eq!(run.tokens[i].kind, TokenKind::Image, "{name} {tower:?} {i}");
                    let Source::Rect { w, h, .. } = run.tokens[i].source else { panic!("{name} {tower:?} {i}") };
                    area += f64::from(w * h);
                }
            }
            // Tiled pictures are seen once as a whole and once in tiles; bars of LLaVA-NeXT reach beyond.
            let whole = (picture.width * picture.height) as f64;
            let times = if name.starts_with("qwen") { 1.0 } else { 2.0 };
            let more = if name == "llava_next" && *tower == Tower::Vision { 0.6 } else { edge };
            assert!((area / whole - times).abs() <= more, "{name} {tower:?}: {} pictures", area / whole);
        }
    }
    Ok(())
}

/// The rows of Qwen2.5-VL's tower are in window order; their tokens are counted row by row.
#[test]
fn rows_of_a_windowed_tower_know_their_tokens() -> Result<()> {
    let dir = golden().join("models/qwen2_5_vl");
    let model = load(&dir, &Device::Cpu)?;
    let request = RunRequest { greedy: 0, ..recorded_request(&dir.join("expected.safetensors")) };
    let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default())?;
    let rows = &trace.get(Tower::Vision, 0, Site::ResidPre)?.rows;
    // 4 x 6 patches; the third merged patch of the first window begins the third row of patches.
    assert_eq!((rows.tokens[8][0], rows.turns[8]), (12, [0, 2, 0]));
    // The language model is turned by rows and columns of the merged patches behind the text before them.
    let text = &trace.get(Tower::Text, 0, Site::ResidPre)?.rows;
    let want = tensors(&dir.join("expected.safetensors"))["position_ids"].values.clone();
    let n = text.len();
    let got = (0..3).flat_map(|axis| text.turns.iter().map(move |t| f64::from(t[axis])));
    assert_eq!((want.len(), got.collect::<Vec<_>>()), (3 * n, want));
    Ok(())
}

/// Classes that give feature maps to others: the rows of the last stage are what the map holds.
#[test]
fn backbones_open_and_give_their_feature_maps() {
    for name in ["beit", "dinov2", "dinov3_vit", "swin", "swinv2"] {
        let dir = golden().join("models/backbones").join(name);
        let (want, about) = (tensors(&dir.join("expected.safetensors")), json(&dir.join("meta.json")));
        let model = load(&dir, &Device::Cpu).unwrap_or_else(|e| panic!("{name}: {e}"));
        let request = recorded_request(&dir.join("expected.safetensors"));
        let spec = CaptureSpec::sites(&[Site::ResidPost, Site::Final]);
        let t = run(model.as_ref(), None, &request, &spec, &Ctx::default()).unwrap();
        let last = t.tower(Tower::Vision).unwrap().n_layers - 1;
        let normed = t.arrays.iter().find(|(k, _)| k.site == Site::Final).map(|(_, e)| &e.array);
        let rows = normed.unwrap_or_else(|| &t.get(Tower::Vision, last, Site::ResidPost).unwrap().array);
        let map = &want["feature_map"];
        // Class token and registers come before the places of the map.
        let all: Vec<f64> = rows.data().iter().map(|&x| f64::from(x)).collect();
        let own = &all[all.len() - map.values.len()..];
        close(name, own, &map.values, about["feature_map"]["atol_f32_cpu"].as_f64().unwrap()).unwrap();
        assert_eq!(model.info().architecture, about["class"].as_str().unwrap());
    }
}
