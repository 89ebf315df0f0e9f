//! Pictures against Pillow's pixels, processors and prompt expansion against those of transformers, and files
//! that are damaged or hostile.

use std::path::Path;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::image::{Picture, Processor};
use tokenscope_analysis::model::load;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::CaptureSpec;
use tokenscope_analysis::weights::Weights;
use tokenscope_tests::{close, golden, json, tensors};

const MODELS: [&str; 13] = [
    "clip",
    "deit",
    "dinov2",
    "dinov2_registers",
    "internvl",
    "llava",
    "llava_next",
    "qwen2_5_vl",
    "qwen2_vl",
    "siglip",
    "siglip_vision",
    "smolvlm",
    "vit",
];

/// Sides of more than 200 to 1 are refused by these.
const NARROW: [&str; 2] = ["qwen2_5_vl", "qwen2_vl"];

fn pixels(processor: &Processor, image: &Path) -> Vec<f64> {
    let input = processor.process(&Picture::open(image).unwrap()).unwrap();
    input.tiles.iter().flat_map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap()).map(f64::from).collect()
}

#[test]
fn pixel_values_equal_those_of_the_pillow_processors() {
    for name in MODELS {
        let dir = golden().join("models").join(name);
        let want = tensors(&dir.join("expected.safetensors"));
        let processor = Processor::load(&Weights::open(&dir).unwrap()).unwrap().unwrap();
        // One 8-bit step is 1/127 after CLIP's normalisation; the pixels agree to rounding in f32.
        close(name, &pixels(&processor, &dir.join("image.png")), &want["pixel_values"].values, 1e-5).unwrap();
    }
}

#[test]
fn settings_as_older_libraries_wrote_them_give_the_same_pixels() {
    for name in ["clip", "vit"] {
        let dir = golden().join("models").join(name);
        let old = tempfile::tempdir().unwrap();
        for (from, to) in [
            ("config.legacy.json", "config.json"),
            ("preprocessor_config.legacy.json", "preprocessor_config.json"),
            ("model.safetensors", "model.safetensors"),
        ] {
            std::fs::copy(dir.join(from), old.path().join(to)).unwrap();
        }
        let processor = Processor::load(&Weights::open(old.path()).unwrap()).unwrap().unwrap();
        let want = tensors(&dir.join("expected.safetensors"));
        close(name, &pixels(&processor, &dir.join("image.png")), &want["pixel_values"].values, 1e-5).unwrap();
    }
}

#[test]
fn a_prompt_with_a_picture_becomes_the_ids_of_the_processor() {
    for name in ["clip", "internvl", "llava", "llava_next", "qwen2_5_vl", "qwen2_vl", "smolvlm"] {
        let dir = golden().join("models").join(name);
        let meta = json(&dir.join("meta.json"));
        let want = tensors(&dir.join("expected.safetensors"));
        let ids: Vec<u32> = want["input_ids"].values.iter().map(|&x| x as u32).collect();
        let model = load(&dir, &candle_core::Device::Cpu).unwrap();
        let tokenizer = Tokenizer::load(&dir.join("tokenizer.json")).unwrap();
        let processor = Processor::load(&Weights::open(&dir).unwrap()).unwrap().unwrap();
        let text = meta["input_text"].as_str().unwrap();
        let mut request = RunRequest { prompt: Some(text.into()), ..RunRequest::default() };
        request.add_picture(&processor, &Picture::open(&dir.join("image.png")).unwrap()).unwrap();
        let trace = run(model.as_ref(), Some(&tokenizer), &request, &CaptureSpec::sites(&[]), &Ctx::default()).unwrap();
        let tokens = &trace.tower(trace.main_tower()).unwrap().tokens;
        assert_eq!(tokens.iter().filter_map(|t| t.id).collect::<Vec<_>>(), ids, "{name}");
        // Every text token points at its own bytes of the text as the user wrote it.
        for t in tokens {
            if let Some(range) = t.bytes() {
                let own = text.get(range.clone());
                assert!(own.is_none_or(|s| !s.contains("<image>")), "{name}: {t:?}");
                assert!(range.end <= text.len(), "{name}: {t:?}");
            }
        }
        let last = tokens.iter().filter_map(|t| t.bytes()).map(|r| r.end).max();
        assert_eq!(last, Some(text.len()), "{name}");
    }
}

#[test]
fn decoded_pictures_equal_pillow_and_bad_ones_are_refused() {
    let root = golden().join("models/bad_inputs");
    let mut problems = Vec::new();
    let mut seen = 0;
    for entry in json(&root.join("manifest.json"))["entries"].as_array().unwrap() {
        let path = entry["path"].as_str().unwrap();
        if entry["kind"] != "image" || !root.join(path).exists() {
            continue;
        }
        seen += 1;
        let expect = entry["expect"].as_str().unwrap();
        let picture = match Picture::open(&root.join(path)) {
            Ok(p) if expect == "reject" => {
                problems.push(format!("{path} was accepted as {} x {}", p.width, p.height));
                continue;
            }
            Ok(p) => p,
            Err(e) => {
                if expect == "accept" || !e.to_string().contains(path) {
                    problems.push(format!("{path}: {e}"));
                }
                continue;
            }
        };
        let Some(reference) = entry["pillow"]["rgb_reference"].as_str() else { continue };
        let want = Picture::open(&root.join(reference)).unwrap();
        if (picture.width, picture.height) != (want.width, want.height) {
            problems.push(format!("{path}: {} x {}", picture.width, picture.height));
            continue;
        }
        // JPEG decoders interpolate halved colour differently; everything else is exact.
        let jpeg = path.ends_with("jpg") || path.contains("jpeg");
        let values = |p: &Picture| p.rgb.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (got, want) = (values(&picture), values(&want));
        problems.extend(close(path, &got, &want, if jpeg { 16.0 } else { 0.0 }).err());
        let mean = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).sum::<f64>() / got.len() as f64;
        if mean > 1.0 {
            problems.push(format!("{path}: mean difference {mean}"));
        }
    }
    assert!(seen >= 29, "only {seen} pictures were found");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_accepted_picture_passes_through_every_processor() {
    let images = golden().join("models/bad_inputs/images");
    for name in MODELS {
        let dir = golden().join("models").join(name);
        let processor = Processor::load(&Weights::open(&dir).unwrap()).unwrap().unwrap();
        for file in ["1x1.png", "1x20000.png", "20000x1.png", "rgba.png", "animated.gif", "exif_rotated.jpg"] {
            let picture = Picture::open(&images.join(file)).unwrap();
            if NARROW.contains(&name) && picture.width.max(picture.height) > 200 * picture.width.min(picture.height) {
                assert!(processor.process(&picture).is_err(), "{name} {file}");
                continue;
            }
            let input = match processor.process(&picture) {
                // Where all patches of a tile are bars but for a part of one, nothing is left of the picture.
                Err(e) if name == "llava_next" && e.to_string().contains("too narrow") && file.contains("20000") => {
                    continue;
                }
                other => other.unwrap_or_else(|e| panic!("{name} {file}: {e}")),
            };
            assert_eq!(input.original, (picture.width as u32, picture.height as u32));
            for t in &input.tiles {
                let finite = t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|v| v.is_finite());
                assert!(finite, "{name} {file}");
            }
        }
    }
}
