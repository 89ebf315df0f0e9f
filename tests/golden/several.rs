//! Several pictures in one prompt, against `transformers`: from the files and the text to ids, features, streams, maps,
//! logits and what is written on.

use candle_core::Device;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::image::{ImageInput, Picture, Processor};
use tokenscope_analysis::model::load;
use tokenscope_analysis::names::{Named, to_transformers};
use tokenscope_analysis::passes::attention_map::of_trace;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::token::{Source, TokenKind};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Site, Tower, Trace};
use tokenscope_analysis::weights::Weights;
use tokenscope_tests::{close, golden, json, tensors};

fn folders() -> Vec<PathBuf> {
    let mut all: Vec<_> =
        std::fs::read_dir(golden().join("models/several")).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|p| p.is_dir());
    all.sort();
    assert!(all.len() >= 10, "{all:?}");
    all
}

/// The pictures of a fixture on one canvas.
fn pictures(dir: &Path) -> Picture {
    let names = (0..).map(|i| if i == 0 { "image.png".into() } else { format!("image_{i}.png") });
    let files = names.map(|n: String| dir.join(n)).take_while(|p| p.is_file());
    Picture::beside(&files.map(|p| Picture::open(&p).unwrap()).collect::<Vec<_>>()).unwrap()
}

fn request(dir: &Path) -> (RunRequest, Picture) {
    let processor = Processor::load(&Weights::open(dir).unwrap()).unwrap().unwrap();
    let text = json(&dir.join("meta.json"))["input_text"].as_str().unwrap().to_string();
    let (mut request, picture) = (RunRequest { prompt: Some(text), ..RunRequest::default() }, pictures(dir));
    request.add_picture(&processor, &picture).unwrap();
    (request, picture)
}

fn traced(dir: &Path, request: &RunRequest, spec: &CaptureSpec) -> Trace {
    let (model, tokenizer) = (load(dir, &Device::Cpu).unwrap(), Tokenizer::load(dir).unwrap());
    run(model.as_ref(), Some(&tokenizer), request, spec, &Ctx::default()).unwrap()
}

#[test]
fn prompts_with_several_pictures_equal_transformers() {
    for dir in folders() {
        let want = tensors(&dir.join("expected.safetensors"));
        let (mut request, _) = request(&dir);
        request.greedy = want["greedy_ids"].values.len();
        let trace = traced(&dir, &request, &CaptureSpec::views());
        let got: BTreeMap<String, Named> = to_transformers(&trace, &Ctx::default()).unwrap().into_iter().collect();
        let (mut problems, mut seen) = (Vec::new(), 0);
        for (name, w) in &want {
            let values: Vec<f64> = match got.get(name) {
                Some(Named::Float(a)) => a.data().iter().map(|&x| f64::from(x)).collect(),
                Some(Named::Int(v)) => v.iter().map(|&x| x as f64).collect(),
                other => {
                    problems.push(format!("{name}: {other:?}"));
                    continue;
                }
            };
            // Pixels are rounded as there; what is left is arithmetic.
            let size = w.values.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
            problems.extend(close(name, &values, &w.values, if w.whole { 0.0 } else { 2e-5 * size }).err());
            seen += 1;
        }
        assert!(problems.is_empty() && seen > 10, "{}: {problems:#?}", dir.display());
    }
}

/// Each token of a picture lies on that picture, the first one's before the second one's; those of one view cover it.
#[test]
fn tokens_lie_on_the_picture_that_they_are_of() {
    for dir in folders() {
        let (request, picture) = request(&dir);
        let trace = traced(&dir, &request, &CaptureSpec::sites(&[]));
        assert_eq!(trace.image_size, Some((picture.width as u32, picture.height as u32)), "{}", dir.display());
        let parts = &picture.parts;
        for (tower, run) in &trace.towers {
            let (mut area, mut last) = (vec![0.0; parts.len()], 0);
            for (i, token) in run.tokens.iter().enumerate().filter(|(_, t)| t.kind == TokenKind::Image) {
                let Source::Rect { x, y, w, h } = token.source else { panic!("{} {tower:?} {i}", dir.display()) };
                let on = |&[left, top, wide, high]: &[usize; 4]| {
                    let (left, top) = (left as f32 - 1e-3, top as f32 - 1e-3);
                    x >= left && y >= top && x + w <= left + wide as f32 + 2e-3 && y + h <= top + high as f32 + 2e-3
                };
                let part = parts.iter().position(on);
                let part = part.unwrap_or_else(|| panic!("{} {tower:?}: token {i} is on no picture", dir.display()));
                assert!(part >= last, "{} {tower:?}: token {i} of picture {part} behind {last}", dir.display());
                (last, area[part]) = (part, area[part] + f64::from(w * h));
            }
            // Seen once as a whole, or as a whole and in tiles; of LLaVA 1.5 the square in the middle.
            let cropped = dir.ends_with("llava");
            for (area, &[_, _, w, h]) in area.iter().zip(parts) {
                let (w, h) = if cropped { (w.min(h), w.min(h)) } else { (w, h) };
                let times = area / (w * h) as f64;
                let near = (times - times.round()).abs() < 0.07 && (1..=2).contains(&(times.round() as usize));
                assert!(near, "{} {tower:?}: a picture is covered {times} times", dir.display());
            }
            let tiles: Vec<usize> = run.grids.iter().map(|g| g.tile).collect();
            assert!(run.n_tiles >= parts.len() || *tower == Tower::Text, "{} {tiles:?}", dir.display());
        }
    }
}

/// What the model used, and what the passes make of queries and keys: also where pictures have windows of their own.
#[test]
fn maps_of_each_picture_are_those_that_the_model_used() {
    for dir in folders() {
        let (request, _) = request(&dir);
        let trace = traced(&dir, &request, &CaptureSpec::all());
        let mut tiles = 0;
        for (key, entry) in trace.arrays.iter().filter(|(k, _)| k.site == Site::Pattern) {
            let [heads, n, m] = entry.array.dims("pattern").unwrap();
            for head in 0..heads {
                let map = of_trace(&trace, key.tower, key.tile, key.layer, head, &Ctx::default()).unwrap();
                let own = &entry.array.data()[head * n * m..][..n * m];
                assert!(own.iter().zip(map.data()).all(|(a, b)| (a - b).abs() < 1e-5), "{key:?} {}", dir.display());
            }
            tiles = tiles.max(key.tile);
        }
        assert!(tiles > 0, "{}", dir.display());
    }
}

/// From the arrays that a trace file holds, the same comes out.
#[test]
fn a_run_is_repeated_from_its_pixel_values() {
    for dir in folders() {
        let (request, _) = request(&dir);
        let first = traced(&dir, &request, &CaptureSpec::views());
        let (pixels, beside) = request.image.as_ref().unwrap().to_arrays().unwrap().unwrap();
        let float = |(name, values): (&'static str, Vec<i64>)| (name, values.into_iter().map(|v| v as f32).collect());
        let beside: BTreeMap<&str, Vec<f32>> = beside.into_iter().map(float).collect();
        let image = ImageInput::of_arrays(&pixels, |name| beside.get(name).map(Vec::as_slice)).unwrap();
        let ids = first.tower(Tower::Text).unwrap().tokens.iter().filter_map(|t| t.id).collect();
        let again = RunRequest { ids: Some(ids), image: Some(image), ..RunRequest::default() };
        let second = traced(&dir, &again, &CaptureSpec::views());
        let logits = |t: &Trace| {
            let (_, e) = t.arrays.iter().find(|(k, _)| k.site == Site::Logits).unwrap();
            e.array.clone()
        };
        assert_eq!(logits(&first), logits(&second), "{}", dir.display());
    }
}

#[test]
fn another_number_of_places_or_a_model_of_one_picture_is_refused() {
    let dir = golden().join("models/several/qwen3_vl");
    let processor = Processor::load(&Weights::open(&dir).unwrap()).unwrap().unwrap();
    let said = |text: &str| {
        let mut request = RunRequest { prompt: Some(text.into()), ..RunRequest::default() };
        request.add_picture(&processor, &pictures(&dir)).map_err(|e| e.to_string()).map(|()| request)
    };
    assert!(said("<|image_pad|> one").unwrap_err().contains("1 place"));
    // Without any they stand in front.
    let text = said("both").unwrap().expansion.unwrap().text;
    assert_eq!(text.matches("<|vision_start|>").count(), 2);
    let vit = golden().join("models/vit");
    let processor = Processor::load(&Weights::open(&vit).unwrap()).unwrap().unwrap();
    let why = RunRequest::default().add_picture(&processor, &pictures(&dir)).unwrap_err().to_string();
    assert!(why.contains("one picture"), "{why}");
}
