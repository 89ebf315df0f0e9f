//! Image processors: what `preprocessor_config.json` says, done as the Pillow back end of `transformers` does.

use super::prompt::Expansion;
use super::resize::{Filter, Window, resize};
use super::{Picture, prompt};
use crate::model::ImageInput;
use crate::weights::{Weights, read_json};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use serde_json::{Map, Value};

/// How a picture gets its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// Exactly this.
    Exact { width: usize, height: usize },
    /// The shorter side gets this length, the other keeps the shape, cut to whole pixels.
    Shortest(usize),
    /// Into this box, shape kept, never larger than it is asked.
    Longest(usize),
}

/// What becomes of the picture beyond its size.
#[derive(Debug, Clone, PartialEq)]
enum Layout {
    /// One picture.
    Plain {
        size: Option<Size>,
        /// Width and height of the part in the middle.
        crop: Option<(usize, usize)>,
        /// Bars of the mean colour make it square first (LLaVA 1.5's own code).
        square: bool,
    },
    /// Idefics3: tiles of one side length and the whole picture after them.
    Tiles {
        /// Longer side before tiling.
        longest: usize,
        /// Side of a tile.
        tile: usize,
        /// Whether there are tiles, or only the whole picture.
        split: bool,
    },
}

/// How image tokens are written into the prompt.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    /// No text, or a text apart from the image.
    None,
    /// `<image>` once per feature.
    Llava { token: String, patch: usize, extra: usize, skip: usize },
    /// Rows and columns of tiles named, then the whole picture.
    Idefics { per_tile: usize },
}

/// A model's image processor.
#[derive(Debug, Clone, PartialEq)]
pub struct Processor {
    layout: Layout,
    filter: Filter,
    /// Factor from 0..=255, if any.
    rescale: Option<f64>,
    /// Mean and standard deviation per channel, if any.
    normalise: Option<([f64; 3], [f64; 3])>,
    place: Place,
}

/// Means of OpenAI's CLIP.
const CLIP: ([f64; 3], [f64; 3]) = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]);
/// Means of ImageNet.
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
/// To -1..=1.
const HALF: ([f64; 3], [f64; 3]) = ([0.5; 3], [0.5; 3]);
/// The longest side that Idefics3 makes of any picture.
const IDEFICS_MAX: usize = 4096;
/// A processor that asks for more than this per side is damaged.
const MAX_SIDE: u64 = 16_384;

impl Processor {
    /// The processor of an open checkpoint; `None` for models that read no images.
    ///
    /// Errors: a damaged or unknown `preprocessor_config.json`.
    pub fn load(weights: &Weights) -> Result<Option<Self>> {
        let config = weights.config();
        let text = |m: &Map<String, Value>, key: &str| m.get(key).and_then(Value::as_str).unwrap_or("").to_string();
        let kind = text(config, "model_type");
        let family = match kind.as_str() {
            "vit" | "deit" => "ViT",
            "clip" | "clip_vision_model" | "llava" => "CLIP",
            "siglip" | "siglip_vision_model" => "Siglip",
            "dinov2" | "dinov2_with_registers" => "Bit",
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
                _ => Err(Error::file(&path, "not a JSON object", "download the model again")),
            }
        };
        let whole = side_file("processor_config.json")?.unwrap_or_default();
        let own = match side_file("preprocessor_config.json")? {
            Some(map) => map,
            None => whole.get("image_processor").and_then(Value::as_object).cloned().unwrap_or_default(),
        };
        let wrong = |e: Error| {
            let file = weights.dir().join("preprocessor_config.json");
            Error::file(&file, e.to_string(), "download the model again")
        };
        Self::parse(family, &own, &whole, config).map(Some).map_err(wrong)
    }

    /// Reads the settings; `own` may be empty, then the family's defaults at the model's image size hold.
    fn parse(
        family: &str,
        own: &Map<String, Value>,
        whole: &Map<String, Value>,
        config: &Map<String, Value>,
    ) -> Result<Self> {
        let named = ["image_processor_type", "feature_extractor_type"].iter().find_map(|k| own.get(*k)?.as_str());
        let family = match named {
            None => family,
            Some(name) => {
                let short = name.trim_end_matches("Fast").trim_end_matches("Pil");
                let short = short.trim_end_matches("ImageProcessor").trim_end_matches("FeatureExtractor");
                ["ViT", "DeiT", "CLIP", "Siglip", "Bit", "Llava", "Idefics3", "SmolVLM"]
                    .into_iter()
                    .find(|k| *k == short)
                    .ok_or_else(|| Error::invalid(format!("the image processor {name} is not supported")))?
            }
        };
        let vision = config.get("vision_config").and_then(Value::as_object).unwrap_or(config);
        let side = vision.get("image_size").and_then(Value::as_u64).unwrap_or(224);
        let flag = |key: &str, default: bool| own.get(key).and_then(Value::as_bool).unwrap_or(default);
        let tiles = matches!(family, "Idefics3" | "SmolVLM");

        let (filter, means) = match family {
            "ViT" => (Filter::Bilinear, HALF),
            "DeiT" => (Filter::Bicubic, IMAGENET),
            "Siglip" => (Filter::Bicubic, HALF),
            "Bit" => (Filter::Bicubic, if named.is_none() { IMAGENET } else { CLIP }),
            "Idefics3" | "SmolVLM" => (Filter::Lanczos, HALF),
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
        let normalise = match flag("do_normalize", true) {
            true => Some((three("image_mean", means.0)?, three("image_std", means.1)?)),
            false => None,
        };
        if normalise.is_some_and(|(_, std)| std.contains(&0.0)) {
            return Err(Error::invalid("image_std holds a zero"));
        }
        let rescale = flag("do_rescale", true)
            .then(|| own.get("rescale_factor").and_then(Value::as_f64).unwrap_or(1.0 / 255.0))
            .filter(|f| f.is_finite());

        let layout = if tiles {
            let longest = |key: &str, default: u64| -> Result<usize> {
                let v = own.get(key).and_then(|v| v.get("longest_edge").or(Some(v)));
                length(v.filter(|v| !v.is_null()).unwrap_or(&Value::from(default)), key)
            };
            let tile = longest("max_image_size", side)?;
            Layout::Tiles { longest: longest("size", 4 * tile as u64)?, tile, split: flag("do_image_splitting", true) }
        } else {
            let crops = matches!(family, "CLIP" | "Bit" | "DeiT" | "Llava");
            let by_shortest = matches!(family, "CLIP" | "Bit" | "Llava");
            // Without settings DeiT and DINOv2 enlarge before they crop, 256 to 224.
            let larger = match family {
                "DeiT" | "Bit" if own.is_empty() || family == "DeiT" => side * 256 / 224,
                _ => side,
            };
            let size = match flag("do_resize", true) {
                true => Some(Size::read(own.get("size"), larger, by_shortest)?),
                false => None,
            };
            let crop = match flag("do_center_crop", crops) {
                true => match Size::read(own.get("crop_size"), side, false)? {
                    Size::Exact { width, height } => Some((width, height)),
                    Size::Shortest(n) | Size::Longest(n) => Some((n, n)),
                },
                false => None,
            };
            Layout::Plain { size, crop, square: family == "Llava" && flag("do_pad", false) }
        };
        let place = Self::place(&layout, whole, vision, config)?;
        Ok(Self { layout, filter, rescale, normalise, place })
    }

    fn place(
        layout: &Layout,
        whole: &Map<String, Value>,
        vision: &Map<String, Value>,
        config: &Map<String, Value>,
    ) -> Result<Place> {
        let number = |m: &Map<String, Value>, key: &str| m.get(key).and_then(Value::as_u64);
        let patch = |default: u64| {
            let p = number(whole, "patch_size").or(number(vision, "patch_size")).unwrap_or(default);
            usize::try_from(p).ok().filter(|p| *p > 0).ok_or_else(|| Error::invalid("patch_size is 0"))
        };
        match config.get("model_type").and_then(Value::as_str) {
            Some("llava") => {
                let word = |m: &Map<String, Value>, k: &str| m.get(k).and_then(Value::as_str).map(str::to_string);
                let strategy = word(whole, "vision_feature_select_strategy")
                    .or_else(|| word(config, "vision_feature_select_strategy"))
                    .unwrap_or_else(|| "default".into());
                let class = vision.get("model_type").and_then(Value::as_str) != Some("siglip_vision_model");
                Ok(Place::Llava {
                    token: word(whole, "image_token").unwrap_or_else(|| "<image>".into()),
                    patch: patch(14)?,
                    extra: number(whole, "num_additional_image_tokens").unwrap_or(u64::from(class)) as usize,
                    skip: usize::from(strategy == "default"),
                })
            }
            Some("idefics3" | "smolvlm") => {
                let Layout::Tiles { tile, .. } = layout else {
                    return Err(Error::invalid("this model needs a processor that cuts tiles"));
                };
                let factor = number(config, "scale_factor").unwrap_or(2).max(1) as usize;
                let per_side = tile / patch(14)? / factor;
                let per_tile = number(whole, "image_seq_len").map_or(per_side * per_side, |n| n as usize);
                if per_tile > 1 << 16 {
                    return Err(Error::invalid(format!("{per_tile} tokens per tile cannot be right")));
                }
                Ok(Place::Idefics { per_tile })
            }
            _ => Ok(Place::None),
        }
    }

    /// Whether image and text form one sequence, so that the prompt needs a place for the image.
    pub fn writes_into_the_prompt(&self) -> bool {
        self.place != Place::None
    }

    /// Whether a picture may become several tiles, so that its pixel values have a tile axis.
    pub fn has_tiles(&self) -> bool {
        matches!(self.layout, Layout::Tiles { .. })
    }

    /// The model's input from a picture, with the rectangle of the original that each tile shows.
    pub fn process(&self, picture: &Picture) -> Result<ImageInput> {
        let (w, h) = (picture.width as f32, picture.height as f32);
        let mut input = ImageInput { tiles: vec![], rects: vec![], layout: (1, 1), original: (w as u32, h as u32) };
        match self.layout {
            Layout::Plain { size, crop, square } => {
                let (tile, rect) = self.plain(picture, size, crop, square)?;
                input.tiles.push(self.tensor(&tile)?);
                input.rects.push(rect);
            }
            Layout::Tiles { longest, tile, split } => {
                let (width, height) = idefics_size(picture.width, picture.height, longest);
                let first = resize(picture, width, height, self.filter, None)?;
                if !split {
                    input.tiles.push(self.tensor(&resize(&first, tile, tile, self.filter, None)?)?);
                    input.rects.push([0.0, 0.0, w, h]);
                    return Ok(input);
                }
                let (width, height) = whole_tiles(width, height, tile);
                let large = resize(&first, width, height, self.filter, None)?;
                let (rows, cols) = (height / tile, width / tile);
                if rows * cols > 1 {
                    input.layout = (rows, cols);
                    let (sx, sy) = (w / width as f32, h / height as f32);
                    for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                        let part = Window { x: c * tile, y: r * tile, width: tile, height: tile };
                        input.tiles.push(self.tensor(&cut(&large, part)?)?);
                        let (x, y) = (part.x as f32 * sx, part.y as f32 * sy);
                        input.rects.push([x, y, tile as f32 * sx, tile as f32 * sy]);
                    }
                }
                input.tiles.push(self.tensor(&resize(&large, tile, tile, self.filter, None)?)?);
                input.rects.push([0.0, 0.0, w, h]);
            }
        }
        Ok(input)
    }

    /// Resize and crop of one picture, with the rectangle of the original that remains.
    fn plain(
        &self,
        picture: &Picture,
        size: Option<Size>,
        crop: Option<(usize, usize)>,
        square: bool,
    ) -> Result<(Picture, [f32; 4])> {
        let mut left = (0.0, 0.0);
        let squared;
        let mut p = picture;
        if square && p.width != p.height {
            let side = p.width.max(p.height);
            let mean = self.normalise.unwrap_or(CLIP).0.map(|m| (m * 255.0) as u8);
            let (x, y) = ((side - p.width) / 2, (side - p.height) / 2);
            left = (-(x as f32), -(y as f32));
            squared = paste(p, side, side, (x as i64, y as i64), mean)?;
            p = &squared;
        }
        let (width, height) = size.map_or((p.width, p.height), |s| s.of(p.width, p.height));
        let (sx, sy) = (p.width as f32 / width as f32, p.height as f32 / height as f32);
        let rect =
            |x: f32, y: f32, w: usize, h: usize| [left.0 + x * sx, left.1 + y * sy, w as f32 * sx, h as f32 * sy];
        let Some((cw, ch)) = crop else {
            return Ok((resize(p, width, height, self.filter, None)?, rect(0.0, 0.0, width, height)));
        };
        // The middle; where the picture is too small, black surrounds it, with the odd line before it.
        let start = |have: usize, want: usize| (have as i64 - want as i64).div_euclid(2);
        let (x, y) = (start(width, cw), start(height, ch));
        let window =
            Window { x: x.max(0) as usize, y: y.max(0) as usize, width: cw.min(width), height: ch.min(height) };
        let part = resize(p, width, height, self.filter, Some(window))?;
        let part = paste(&part, cw, ch, ((-x).max(0), (-y).max(0)), [0; 3])?;
        Ok((part, rect(x as f32, y as f32, cw, ch)))
    }

    /// `[3, height, width]`, rescaled and normalised.
    fn tensor(&self, p: &Picture) -> Result<Tensor> {
        let n = p.width * p.height;
        let mut out = vec![0f32; 3 * n];
        for c in 0..3 {
            let table: Vec<f32> = (0..256)
                .map(|v| {
                    let v = f64::from(v) * self.rescale.unwrap_or(1.0);
                    self.normalise.map_or(v, |(mean, std)| (v - mean[c]) / std[c]) as f32
                })
                .collect();
            let pixels = p.rgb[c..].iter().step_by(3);
            out[c * n..(c + 1) * n].iter_mut().zip(pixels).for_each(|(o, v)| *o = table[usize::from(*v)]);
        }
        Ok(Tensor::from_vec(out, (3, p.height, p.width), &Device::Cpu)?)
    }

    /// The prompt with its placeholder `<image>` written out for this image; added in front if it has none.
    /// `None` for models whose text knows nothing of the image.
    ///
    /// Errors: several placeholders.
    pub fn expand(&self, prompt: &str, image: &ImageInput) -> Result<Option<prompt::Expansion>> {
        match &self.place {
            Place::None => Ok(None),
            Place::Llava { token, patch, extra, skip } => {
                let patches: usize = image.tiles.iter().map(|t| (t.dims()[1] / patch) * (t.dims()[2] / patch)).sum();
                let n = (patches + extra).saturating_sub(*skip);
                Expansion::new(prompt, token, &token.repeat(n), "\n").map(Some)
            }
            Place::Idefics { per_tile } => {
                let (edge, whole) = ("<fake_token_around_image>", "<global-img>");
                let pixels = "<image>".repeat(*per_tile);
                let mut text = String::new();
                let (rows, cols) = image.layout;
                if image.tiles.len() > 1 {
                    for r in 1..=rows {
                        for c in 1..=cols {
                            text += &format!("{edge}<row_{r}_col_{c}>{pixels}");
                        }
                        text.push('\n');
                    }
                    text.push('\n');
                }
                text += &format!("{edge}{whole}{pixels}{edge}");
                Expansion::new(prompt, "<image>", &text, "").map(Some)
            }
        }
    }
}

impl Size {
    /// Reads `size` or `crop_size`: a number, `{height, width}`, `{shortest_edge}` or `{longest_edge}`.
    fn read(v: Option<&Value>, default: u64, by_shortest: bool) -> Result<Self> {
        let one = |n: usize| if by_shortest { Size::Shortest(n) } else { Size::Exact { width: n, height: n } };
        match v {
            None | Some(Value::Null) => Ok(one(length(&Value::from(default), "size")?)),
            Some(Value::Object(m)) => {
                if let (Some(h), Some(w)) = (m.get("height"), m.get("width")) {
                    return Ok(Size::Exact { width: length(w, "width")?, height: length(h, "height")? });
                }
                match (m.get("shortest_edge"), m.get("longest_edge")) {
                    (Some(s), None) => Ok(Size::Shortest(length(s, "shortest_edge")?)),
                    (None, Some(l)) => Ok(Size::Longest(length(l, "longest_edge")?)),
                    _ => Err(Error::invalid(format!("size {m:?} is in no known form"))),
                }
            }
            Some(Value::Array(a)) if a.len() == 2 => {
                Ok(Size::Exact { height: length(&a[0], "size")?, width: length(&a[1], "size")? })
            }
            Some(n) => Ok(one(length(n, "size")?)),
        }
    }

    /// Width and height for a picture.
    fn of(self, width: usize, height: usize) -> (usize, usize) {
        // The other side is cut to whole pixels.
        let part = |n: usize, long: usize, short: usize| ((n as u128 * long as u128 / short as u128) as usize).max(1);
        match self {
            Size::Exact { width, height } => (width, height),
            Size::Shortest(n) if width <= height => (n, part(n, height, width)),
            Size::Shortest(n) => (part(n, width, height), n),
            Size::Longest(n) if width >= height => (n, part(n, height, width)),
            Size::Longest(n) => (part(n, width, height), n),
        }
    }
}

fn length(v: &Value, name: &str) -> Result<usize> {
    v.as_u64()
        .filter(|n| (1..=MAX_SIDE).contains(n))
        .map(|n| n as usize)
        .ok_or_else(|| Error::invalid(format!("{name} {v} is not a length in pixels from 1 to {MAX_SIDE}")))
}

/// Idefics3's first size: the longer side `longest`, the other one even.
fn idefics_size(width: usize, height: usize, longest: usize) -> (usize, usize) {
    // In f64 as the original, where a quotient may fall just below a whole number.
    let ratio = width as f64 / height as f64;
    let even = |n: f64| (n as usize).next_multiple_of(2).max(1);
    let clamp = |n: usize| n.clamp(1, IDEFICS_MAX);
    if width >= height {
        let w = longest.min(IDEFICS_MAX);
        if longest > IDEFICS_MAX { (w, clamp((w as f64 / ratio) as usize)) } else { (w, even(w as f64 / ratio)) }
    } else {
        let h = longest.min(IDEFICS_MAX);
        if longest > IDEFICS_MAX { (clamp((h as f64 * ratio) as usize), h) } else { (even(h as f64 * ratio), h) }
    }
}

/// The next size that whole tiles fill.
fn whole_tiles(width: usize, height: usize, tile: usize) -> (usize, usize) {
    let ratio = width as f64 / height as f64;
    let up = |n: usize| n.next_multiple_of(tile).max(tile);
    if width >= height {
        let w = up(width);
        (w, up((w as f64 / ratio) as usize))
    } else {
        let h = up(height);
        (up((h as f64 * ratio) as usize), h)
    }
}

/// A part of a picture.
fn cut(p: &Picture, w: Window) -> Result<Picture> {
    let rows = (w.y..w.y + w.height).flat_map(|y| &p.rgb[3 * (y * p.width + w.x)..][..3 * w.width]);
    Picture::new(w.width, w.height, rows.copied().collect())
}

/// A picture of `width` x `height` in `fill` with `p` at `(x, y)`.
fn paste(p: &Picture, width: usize, height: usize, (x, y): (i64, i64), fill: [u8; 3]) -> Result<Picture> {
    if (width, height) == (p.width, p.height) {
        return Ok(p.clone());
    }
    let (x, y) = (x as usize, y as usize);
    let mut rgb = fill.repeat(width * height);
    for (r, row) in p.rgb.chunks_exact(3 * p.width).enumerate() {
        rgb[3 * ((y + r) * width + x)..][..3 * p.width].copy_from_slice(row);
    }
    Picture::new(width, height, rgb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(family: &str, own: Value, config: Value) -> Result<Processor> {
        let map = |v: Value| v.as_object().cloned().unwrap_or_default();
        Processor::parse(family, &map(own), &Map::new(), &map(config))
    }

    fn ramp(width: usize, height: usize) -> Picture {
        Picture::new(width, height, (0..3 * width * height).map(|i| (i % 251) as u8).collect()).unwrap()
    }

    #[test]
    fn a_crop_names_the_part_of_the_original_that_it_shows() {
        let own = json!({"size": {"shortest_edge": 10}, "crop_size": 10, "image_processor_type": "CLIPImageProcessor"});
        let p = parse("CLIP", own, json!({"model_type": "clip"})).unwrap();
        let x = p.process(&ramp(40, 20)).unwrap();
        assert_eq!(x.tiles[0].dims(), [3, 10, 10]);
        // 40 x 20 becomes 20 x 10, of which columns 5..15 stay: columns 10..30 of the original.
        assert_eq!(x.rects, [[10.0, 0.0, 20.0, 20.0]]);
    }

    #[test]
    fn a_picture_smaller_than_the_crop_is_surrounded() {
        let own = json!({"do_resize": false, "crop_size": 5, "do_normalize": false, "do_rescale": false});
        let p = parse("CLIP", own, json!({"model_type": "clip"})).unwrap();
        let x = p.process(&Picture::new(2, 2, vec![9; 12]).unwrap()).unwrap();
        let rows = x.tiles[0].get(0).unwrap().to_vec2::<f32>().unwrap();
        let sums: Vec<f32> = rows.iter().map(|r| r.iter().sum()).collect();
        assert_eq!(sums, [0.0, 0.0, 18.0, 18.0, 0.0]);
        assert_eq!(x.rects[0], [-2.0, -2.0, 5.0, 5.0]);
    }

    #[test]
    fn a_long_picture_becomes_two_tiles_and_the_whole() {
        let own = json!({"size": {"longest_edge": 8}, "max_image_size": {"longest_edge": 4}});
        let config = json!({"model_type": "smolvlm", "scale_factor": 1, "vision_config": {"patch_size": 2}});
        let p = parse("Idefics3", own, config).unwrap();
        let x = p.process(&ramp(16, 7)).unwrap();
        assert_eq!((x.layout, x.tiles.len()), ((1, 2), 3));
        assert_eq!(x.rects, [[0.0, 0.0, 8.0, 7.0], [8.0, 0.0, 8.0, 7.0], [0.0, 0.0, 16.0, 7.0]]);
        let text = p.expand("a<image>b", &x).unwrap().unwrap().text;
        assert_eq!(text.matches("<image>").count(), 12);
        assert!(text.starts_with("a<fake_token_around_image><row_1_col_1><image>") && text.ends_with("image>b"));
    }

    #[test]
    fn extreme_shapes_and_nonsense_are_met() {
        let smol = parse(
            "Idefics3",
            json!({"size": {"longest_edge": 8}, "max_image_size": {"longest_edge": 4}}),
            json!({"model_type": "smolvlm", "vision_config": {"patch_size": 2}}),
        )
        .unwrap();
        let clip = parse("CLIP", json!({}), json!({"model_type": "clip", "image_size": 32})).unwrap();
        for p in [ramp(1, 1), ramp(1, 20_000), ramp(20_000, 1)] {
            assert_eq!(clip.process(&p).unwrap().tiles[0].dims(), [3, 32, 32]);
            assert!(smol.process(&p).unwrap().tiles.iter().all(|t| t.dims() == [3, 4, 4]));
        }
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
