//! What `preprocessor_config.json` says of an image processor, and what counts where it is silent.

use super::anyres::pinpoints;
use super::place::Place;
use super::process::{First, Layout, Processor};
use super::resize::Filter;
use super::size::{Size, length};
use crate::weights::{Weights, read_json};
use crate::{Error, Result};
use serde_json::{Map, Value};

/// Means of OpenAI's CLIP.
const CLIP: ([f64; 3], [f64; 3]) = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]);
/// Means of ImageNet.
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
/// Image processors by the names of their classes.
const KNOWN: &[&str] = &[
    "ViT",
    "DeiT",
    "Beit",
    "CLIP",
    "Siglip",
    "Siglip2",
    "Bit",
    "Llava",
    "Idefics3",
    "SmolVLM",
    "LlavaNext",
    "LlavaOnevision",
    "Qwen2VL",
    "GotOcr2",
    "Gemma3",
    "DINOv3ViT",
];
/// To -1..=1.
const HALF: ([f64; 3], [f64; 3]) = ([0.5; 3], [0.5; 3]);

impl Processor {
    /// The processor of an open checkpoint; `None` for models that read no images.
    ///
    /// Errors: a damaged or unknown `preprocessor_config.json`.
    pub fn load(weights: &Weights) -> Result<Option<Self>> {
        let config = weights.config();
        let text = |m: &Map<String, Value>, key: &str| m.get(key).and_then(Value::as_str).unwrap_or("").to_string();
        let kind = text(config, "model_type");
        let family = match kind.as_str() {
            "vit" | "deit" | "swin" | "swinv2" => "ViT",
            "beit" => "Beit",
            "clip" | "clip_vision_model" | "llava" => "CLIP",
            "siglip" | "siglip_vision_model" | "paligemma" => "Siglip",
            "siglip2" | "siglip2_vision_model" => "Siglip2",
            "llava_next" => "LlavaNext",
            "llava_onevision" => "LlavaOnevision",
            "qwen2_vl" | "qwen2_5_vl" | "qwen3_vl" | "qwen3_vl_moe" => "Qwen2VL",
            "internvl" => "GotOcr2",
            "gemma3" => "Gemma3",
            "dinov2" | "dinov2_with_registers" => "Bit",
            "dinov3_vit" => "DINOv3ViT",
            "idefics3" | "smolvlm" => "Idefics3",
            _ => return Ok(None),
        };
        let side_file = |name: &str| -> Result<Option<Map<String, Value>>> {
            let path = weights.dir().join(name);
            if !path.exists() {
                return Ok(None);
            }
            match read_json(&path)? {
                Value::Object(map) => Ok(Some(map)),
                _ => Err(Error::file(&path, "not a JSON object", "take the model's own one")),
            }
        };
        let whole = side_file("processor_config.json")?.unwrap_or_default();
        let words = side_file("tokenizer_config.json")?.unwrap_or_default();
        let own = match side_file("preprocessor_config.json")? {
            Some(map) => map,
            None => whole.get("image_processor").and_then(Value::as_object).cloned().unwrap_or_default(),
        };
        let wrong = |e: Error| {
            let file = weights.dir().join("preprocessor_config.json");
            Error::file(&file, e.to_string(), "check that it is this model's own, and what was changed in it")
        };
        Self::parse(family, &own, (&whole, &words), config).map(Some).map_err(wrong)
    }

    /// Reads the settings; `own` may be empty, then the family's defaults at the model's image size hold.
    pub(super) fn parse(
        family: &str,
        own: &Map<String, Value>,
        (whole, words): (&Map<String, Value>, &Map<String, Value>),
        config: &Map<String, Value>,
    ) -> Result<Self> {
        let named = ["image_processor_type", "feature_extractor_type"].iter().find_map(|k| own.get(*k)?.as_str());
        let family = match named {
            None => family,
            Some(name) => {
                let short = name.trim_end_matches("Fast").trim_end_matches("Pil");
                let short = short.trim_end_matches("ImageProcessor").trim_end_matches("FeatureExtractor");
                // Families whose own class does what another one does.
                let short = match short {
                    "InternVL" => "GotOcr2",
                    "Qwen2_5_VL" | "Qwen3VL" => "Qwen2VL",
                    other => other,
                };
                KNOWN
                    .iter()
                    .copied()
                    .find(|k| *k == short)
                    .ok_or_else(|| Error::invalid(format!("the image processor {name} is not supported")))?
            }
        };
        let vision = config.get("vision_config").and_then(Value::as_object).unwrap_or(config);
        let of_model = |key: &str, default: u64| vision.get(key).and_then(Value::as_u64).unwrap_or(default);
        let side = of_model("image_size", 224);
        let flag = |key: &str, default: bool| match own.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| Error::invalid(format!("{key} is {v}, not true or false"))),
        };
        let tiles = matches!(family, "Idefics3" | "SmolVLM");

        // Without any settings, those of the family's published models; a settings file that is silent on a value
        // means the default of the class, null the same.
        let (filter, means) = match family {
            "ViT" => (Filter::Bilinear, HALF),
            "DeiT" | "Bit" if own.is_empty() => (Filter::Bicubic, IMAGENET),
            "DeiT" | "Beit" | "Siglip" => (Filter::Bicubic, HALF),
            "Idefics3" | "SmolVLM" => (Filter::Lanczos, HALF),
            "Gemma3" | "Siglip2" => (Filter::Bilinear, HALF),
            "DINOv3ViT" => (Filter::Bilinear, IMAGENET),
            "GotOcr2" if own.is_empty() => (Filter::Bicubic, IMAGENET),
            _ => (Filter::Bicubic, CLIP),
        };
        let filter = match own.get("resample") {
            None | Some(Value::Null) => filter,
            Some(v) => v
                .as_i64()
                .and_then(Filter::from_number)
                .ok_or_else(|| Error::invalid(format!("resample {v} is none of Pillow's kernels 0..=5")))?,
        };
        let three = |key: &str, default: [f64; 3]| -> Result<[f64; 3]> {
            let Some(v) = own.get(key).filter(|v| !v.is_null()) else { return Ok(default) };
            let list: Option<Vec<f64>> = match v {
                Value::Array(a) => a.iter().map(Value::as_f64).collect(),
                v => v.as_f64().map(|x| vec![x; 3]),
            };
            list.and_then(|l| <[f64; 3]>::try_from(l).ok())
                .filter(|l| l.iter().all(|x| x.is_finite()))
                .ok_or_else(|| Error::invalid(format!("{key} is not three numbers")))
        };
        let mean = three("image_mean", means.0)?;
        let normalise = match flag("do_normalize", true)? {
            true => Some((mean, three("image_std", means.1)?)),
            false => None,
        };
        if normalise.is_some_and(|(_, std)| std.contains(&0.0)) {
            return Err(Error::invalid("image_std holds a zero"));
        }
        let factor = match own.get("rescale_factor") {
            None | Some(Value::Null) => 1.0 / 255.0,
            Some(v) => v
                .as_f64()
                .filter(|f| f.is_finite())
                .ok_or_else(|| Error::invalid(format!("rescale_factor is {v}, not a number")))?,
        };
        let rescale = flag("do_rescale", true)?.then_some(factor);
        let given = |key: &str| own.get(key).filter(|v| !v.is_null());
        let number = |key: &str, default: u64| length(given(key).unwrap_or(&Value::from(default)), key);
        if flag("do_pan_and_scan", false)? {
            return Err(Error::invalid("do_pan_and_scan, which adds parts of the picture, is not supported"));
        }

        let layout = if tiles {
            let longest = |key: &str, default: u64| -> Result<usize> {
                let v = given(key).map(|v| v.get("longest_edge").unwrap_or(v));
                length(v.unwrap_or(&Value::from(default)), key)
            };
            let default = if own.is_empty() { side } else { 364 };
            let tile = longest("max_image_size", default)?;
            let first = match given("size") {
                _ if !flag("do_resize", true)? => None,
                Some(v) if v.get("longest_edge").is_none() => match Size::read(v, true)? {
                    Size::Exact { width, height } => Some(First::Exact(width, height)),
                    _ => return Err(Error::invalid(format!("size {v} is in no known form"))),
                },
                _ => Some(First::Longest(longest("size", default.saturating_mul(4))?)),
            };
            Layout::Tiles { first, tile, split: flag("do_image_splitting", true)? }
        } else if family == "Qwen2VL" {
            let size = given("size");
            let bound = |old: &str, new: &str, default: u64| -> Result<usize> {
                let v = given(old).or(size.and_then(|s| s.get(new)).filter(|v| !v.is_null()));
                let n = v.map_or(Some(default), Value::as_u64).filter(|n| (1..=1 << 28).contains(n));
                n.map(|n| n as usize).ok_or_else(|| Error::invalid(format!("{new} is no number of pixels")))
            };
            let area = match flag("do_resize", true)? {
                true => Some((
                    bound("min_pixels", "shortest_edge", 56 * 56)?,
                    bound("max_pixels", "longest_edge", 28 * 28 * 1280)?,
                )),
                false => None,
            };
            Layout::Patches {
                patch: number("patch_size", of_model("patch_size", 14))?,
                merge: number("merge_size", of_model("spatial_merge_size", 2))?,
                frames: number("temporal_patch_size", of_model("temporal_patch_size", 2))?,
                area,
            }
        } else if family == "Siglip2" {
            // Without a file the model's own sizes count, with one those of its class.
            let own_or = |key: &str, default: u64| if own.is_empty() { of_model(key, default) } else { default };
            Layout::Listed {
                patch: number("patch_size", own_or("patch_size", 16))?,
                most: number("max_num_patches", own_or("num_patches", 256))?,
                resizes: flag("do_resize", true)?,
            }
        } else if family == "GotOcr2" {
            let side = vision.get("image_size").cloned().unwrap_or(Value::from(448));
            let tile = exact(given("size").unwrap_or(&side), "size")?;
            // InternVL's processor cuts whatever the setting says.
            let internvl = config.get("model_type").and_then(Value::as_str) == Some("internvl");
            let cut = flag("crop_to_patches", false)? || internvl;
            let bounds = (number("min_patches", 1)?, number("max_patches", 12)?.min(1024));
            Layout::Nearest { tile, tiles: cut.then_some(bounds) }
        } else if matches!(family, "LlavaNext" | "LlavaOnevision") {
            let next = family == "LlavaNext";
            let default = if next { Value::from(side.max(1)) } else { Value::from(384) };
            let size = Size::read(given("size").unwrap_or(&default), next)?;
            let crop = match flag("do_center_crop", next)? {
                true => Some(exact(given("crop_size").unwrap_or(&default), "crop_size")?),
                false => None,
            };
            let whole = match size {
                Size::Exact { width, height } => (width, height),
                Size::Shortest(n) | Size::Between { shortest: n, .. } => (n, n),
                Size::Within { .. } => return Err(Error::invalid("size is in no form that tiles have")),
            };
            let tile = match (given("crop_size"), size) {
                (Some(v), _) => match Size::read(v, false)? {
                    Size::Exact { height, .. } => height,
                    _ => whole.1,
                },
                _ => whole.1,
            };
            let list = given("image_grid_pinpoints").or(config.get("image_grid_pinpoints"));
            let list = list.ok_or_else(|| Error::invalid("there are no image_grid_pinpoints"))?;
            let size = flag("do_resize", true)?.then_some(size);
            let several = (!next).then(|| mean.map(|m| (m * 255.0) as u8));
            Layout::AnyRes { sizes: pinpoints(list)?, tile, whole, size, crop, several }
        } else {
            let by_shortest = matches!(family, "CLIP" | "Bit" | "Llava" | "Siglip" | "Gemma3");
            let default = if own.is_empty() { side } else { 224 };
            // DeiT enlarges before it crops, and so do DINOv2's published settings.
            let larger = match family {
                "DeiT" | "Beit" => default.saturating_mul(256) / 224,
                "Bit" if own.is_empty() => default.saturating_mul(256) / 224,
                _ => default,
            };
            let size = match given("size") {
                _ if !flag("do_resize", true)? => None,
                Some(v) => Some(Size::read(v, by_shortest)?),
                None => Some(Size::read(&Value::from(larger), by_shortest && !matches!(family, "Siglip" | "Gemma3"))?),
            };
            let crop = match flag("do_center_crop", matches!(family, "CLIP" | "Bit" | "DeiT" | "Beit" | "Llava"))? {
                true => Some(exact(given("crop_size").unwrap_or(&Value::from(default)), "crop_size")?),
                false => None,
            };
            let pads = flag("do_pad", false)?;
            let pad = given("pad_size").filter(|_| pads && family != "Llava");
            let pad = pad.map(|v| exact(v, "pad_size")).transpose()?;
            let square = (pads && family == "Llava").then(|| mean.map(|m| (m * 255.0) as u8));
            Layout::Plain { size, crop, pad, square }
        };
        let place = Place::read(&layout, whole, words, vision, config)?;
        let unrounded = family == "DINOv3ViT";
        if unrounded && !matches!(layout, Layout::Plain { crop: None, pad: None, square: None, .. }) {
            return Err(Error::invalid("crops and paddings of DINOv3's image processor are not supported"));
        }
        Ok(Self { layout, filter, rescale, normalise, place, unrounded })
    }
}

/// Width and height of a size that says both.
fn exact(v: &Value, key: &str) -> Result<(usize, usize)> {
    match Size::read(v, false)? {
        Size::Exact { width, height } => Ok((width, height)),
        _ => Err(Error::invalid(format!("{key} has no height and width"))),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A processor of a family by its own settings and the model's.
    pub(in crate::image) fn parse(family: &str, own: Value, config: Value) -> Result<Processor> {
        let map = |v: Value| v.as_object().cloned().unwrap_or_default();
        Processor::parse(family, &map(own), (&Map::new(), &Map::new()), &map(config))
    }

    #[test]
    fn nonsense_is_refused() {
        for own in [
            json!({"size": -1}),
            json!({"size": {"height": 1u64 << 40, "width": 4}}),
            json!({"resample": 17}),
            json!({"image_std": [0, 1, 1]}),
            json!({"image_mean": "grey"}),
            json!({"image_processor_type": "OwlImageProcessor"}),
        ] {
            assert!(parse("CLIP", own.clone(), json!({"model_type": "clip"})).is_err(), "{own}");
        }
    }
}
