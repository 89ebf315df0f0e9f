//! How a picture's tokens are written into the prompt, family by family.

use super::process::Layout;
use super::{AnyRes, Expansion, ImageInput};
use crate::{Error, Result};
use serde_json::{Map, Value};

/// How image tokens are written into the prompt.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// No text, or a text apart from the image.
    None,
    /// `<image>` once per feature.
    Llava { token: String, patch: usize, extra: usize, skip: usize },
    /// The same for a whole and its tiles without their bars, with one more at every row's end (LLaVA-NeXT).
    AnyRes { token: String, patch: usize, extra: usize, skip: usize, most: Option<usize> },
    /// Rows and columns of tiles named, then the whole picture.
    Idefics { per_tile: usize },
    /// A token once per `patches` patches (Qwen2-VL), between two others where the prompt has no place for it.
    Merged { token: &'static str, patches: usize, around: [&'static str; 2] },
    /// A token for every patch, the mark of a beginning, the text, and an end of line (PaliGemma).
    Prefix { token: String, n: usize, begin: String },
    /// A mark, a token as often for every tile, another mark (InternVL, Gemma 3), in the place of `placeholder`.
    Between { placeholder: String, token: String, per_tile: usize, before: String, after: String, glue: &'static str },
}

type Json = Map<String, Value>;

fn number(m: &Json, key: &str) -> Option<u64> {
    m.get(key).and_then(Value::as_u64)
}

fn word(m: &Json, key: &str) -> Option<String> {
    m.get(key).and_then(Value::as_str).map(str::to_string)
}

impl Place {
    /// Reads it from the processor's file (`whole`), the tokenizer's (`words`) and the configuration.
    ///
    /// Errors: settings that do not fit the layout, or ask for more tokens than any model has.
    pub fn read(layout: &Layout, whole: &Json, words: &Json, vision: &Json, config: &Json) -> Result<Self> {
        let patch = |default: u64| {
            let p = number(whole, "patch_size").or(number(vision, "patch_size")).unwrap_or(default);
            usize::try_from(p).ok().filter(|p| *p > 0).ok_or_else(|| Error::invalid("patch_size is 0"))
        };
        let strategy = |default: &str| {
            let key = "vision_feature_select_strategy";
            word(whole, key).or_else(|| word(config, key)).unwrap_or_else(|| default.into())
        };
        let kind = config.get("model_type").and_then(Value::as_str).unwrap_or("");
        match kind {
            "llava" | "llava_next" | "llava_onevision" => {
                let class = vision.get("model_type").and_then(Value::as_str) != Some("siglip_vision_model");
                let extra = match number(whole, "num_additional_image_tokens") {
                    Some(n) => n as usize,
                    None => usize::from(class && kind != "llava_onevision"),
                };
                check_tokens(extra)?;
                let token = word(whole, "image_token").unwrap_or_else(|| "<image>".into());
                let default = if kind == "llava_onevision" { "full" } else { "default" };
                let (patch, skip) = (patch(14)?, usize::from(strategy(default) == "default"));
                Ok(match kind {
                    "llava" => Self::Llava { token, patch, extra, skip },
                    "llava_next" => Self::AnyRes { token, patch, extra, skip, most: None },
                    _ => {
                        let aspect = word(whole, "vision_aspect_ratio").or_else(|| word(config, "vision_aspect_ratio"));
                        let most = most_tiles(aspect.as_deref().unwrap_or("anyres_max_9"))?;
                        Self::AnyRes { token, patch, extra, skip, most }
                    }
                })
            }
            "idefics3" | "smolvlm" => {
                let Layout::Tiles { tile, .. } = layout else {
                    return Err(Error::invalid("this model needs a processor that cuts tiles"));
                };
                let factor = number(config, "scale_factor").unwrap_or(2).max(1) as usize;
                let per_side = tile / patch(14)? / factor;
                let per_tile = number(whole, "image_seq_len").map_or(per_side * per_side, |n| n as usize);
                check_tokens(per_tile)?;
                Ok(Self::Idefics { per_tile })
            }
            "qwen2_vl" | "qwen2_5_vl" | "qwen3_vl" | "qwen3_vl_moe" => {
                let Layout::Patches { merge, .. } = layout else {
                    return Err(Error::invalid("this model needs a processor that makes lists of patches"));
                };
                let around = ["<|vision_start|>", "<|vision_end|>"];
                Ok(Self::Merged { token: "<|image_pad|>", patches: merge * merge, around })
            }
            "internvl" => {
                let per_tile = number(whole, "image_seq_length").or(number(config, "image_seq_length"));
                let per_tile = per_tile.unwrap_or(256) as usize;
                check_tokens(per_tile)?;
                let named = |key: &str, default: &str| word(words, key).unwrap_or_else(|| default.into());
                let token = named("context_image_token", "<IMG_CONTEXT>");
                let (before, after) = (named("start_image_token", "<img>"), named("end_image_token", "</img>"));
                Ok(Self::Between { placeholder: token.clone(), token, per_tile, before, after, glue: "\n" })
            }
            "paligemma" => {
                let side = number(vision, "image_size").unwrap_or(224) as usize / patch(14)?;
                let n = side.saturating_mul(side);
                check_tokens(n)?;
                let named = |key: &str, default: &str| word(words, key).unwrap_or_else(|| default.into());
                Ok(Self::Prefix { token: named("image_token", "<image>"), n, begin: named("bos_token", "<bos>") })
            }
            "gemma3" => {
                let per_tile = number(whole, "image_seq_length").or(number(config, "mm_tokens_per_image"));
                let per_tile = per_tile.unwrap_or(256) as usize;
                check_tokens(per_tile)?;
                let named = |key: &str, default: &str| word(words, key).unwrap_or_else(|| default.into());
                let placeholder = named("boi_token", "<start_of_image>");
                let (before, after) =
                    (format!("\n\n{placeholder}"), format!("{}\n\n", named("eoi_token", "<end_of_image>")));
                let token = named("image_token", "<image_soft_token>");
                Ok(Self::Between { placeholder, token, per_tile, before, after, glue: "" })
            }
            _ => Ok(Self::None),
        }
    }

    /// The prompt with its placeholders written out for these images, one each; added in front if it has none. `None`
    /// for models whose text knows nothing of images.
    ///
    /// Errors: another number of placeholders than of images.
    pub fn expand(&self, prompt: &str, image: &ImageInput, layout: &Layout) -> Result<Option<Expansion>> {
        let texts = || image.all().map(|i| self.text(i, layout)).collect::<Result<Vec<String>>>();
        match self {
            Self::None => Ok(None),
            Self::Llava { token, .. } | Self::AnyRes { token, .. } => {
                Expansion::new(prompt, token, &texts()?, ["", "\n"]).map(Some)
            }
            Self::Idefics { .. } => Expansion::new(prompt, "<image>", &texts()?, ["", ""]).map(Some),
            Self::Merged { token, around, .. } => Expansion::new(prompt, token, &texts()?, *around).map(Some),
            Self::Prefix { token, begin, .. } => {
                // Pictures stand before the text, wherever the prompt may name them.
                let n = 1 + image.rest.len();
                let text = format!("{}{begin}", texts()?.concat());
                let (all, named) = (token.repeat(n), prompt.matches(token.as_str()).count());
                if named == 0 || (named == n && prompt.trim_start().starts_with(&all)) {
                    return Expansion::new(prompt, &all, &[text], ["", ""]).map(|e| Some(e.ended("\n")));
                }
                let it = if n == 1 { "the picture" } else { "the pictures" };
                Err(Error::invalid(format!("this model reads {it} before the text; put {all} at its beginning")))
            }
            Self::Between { placeholder, glue, .. } => {
                Expansion::new(prompt, placeholder, &texts()?, ["", glue]).map(Some)
            }
        }
    }

    /// What stands in the place of one image.
    fn text(&self, image: &ImageInput, layout: &Layout) -> Result<String> {
        let patches = |patch: usize| image.tiles.iter().map(move |t| (t.dims()[1] / patch) * (t.dims()[2] / patch));
        Ok(match self {
            Self::None => String::new(),
            Self::Llava { token, patch, extra, skip } => {
                token.repeat((patches(*patch).sum::<usize>() + extra).saturating_sub(*skip))
            }
            Self::AnyRes { token, patch, extra, skip, most } => {
                let Layout::AnyRes { sizes, tile, .. } = layout else {
                    return Err(Error::invalid("this model needs a processor that cuts tiles of the best size"));
                };
                let marked = if image.tiles.len() == 1 {
                    1
                } else {
                    let (w, h) = image.original;
                    let (rows, cols) = AnyRes::new((w as usize, h as usize), sizes, *tile, *patch, *most)?.grid();
                    rows * (cols + 1)
                };
                token.repeat((patches(*patch).next().unwrap_or(0) + extra + marked).saturating_sub(*skip))
            }
            Self::Idefics { per_tile } => {
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
                text + &format!("{edge}{whole}{pixels}{edge}")
            }
            Self::Merged { token, patches, .. } => {
                token.repeat(image.grid.map_or(0, |g| g.iter().product::<usize>() / patches))
            }
            Self::Prefix { token, n, .. } => token.repeat(n * image.tiles.len()),
            Self::Between { token, per_tile, before, after, .. } => {
                format!("{before}{}{after}", token.repeat(per_tile * image.tiles.len()))
            }
        })
    }
}

/// The number in `anyres_max_N`; no bound for `anyres`.
///
/// Errors: other words.
pub fn most_tiles(aspect: &str) -> Result<Option<usize>> {
    let Some(n) = aspect.strip_prefix("anyres_max_") else {
        return match aspect {
            "anyres" => Ok(None),
            other => Err(Error::invalid(format!("vision_aspect_ratio {other} is not supported"))),
        };
    };
    let n = n.parse().ok().filter(|n| (1..=1 << 16).contains(n));
    n.map(Some).ok_or_else(|| Error::invalid(format!("vision_aspect_ratio {aspect} names no number of tiles")))
}

/// Errors where settings ask for more tokens per tile than any model has.
fn check_tokens(n: usize) -> Result<()> {
    if n > 1 << 16 { Err(Error::invalid(format!("{n} tokens per tile cannot be right"))) } else { Ok(()) }
}
