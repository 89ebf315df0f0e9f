//! Pictures: from a file to RGB pixels as Pillow gives them, and on to what a model's processor makes of them.

mod anyres;
mod clip;
mod input;
mod montage;
mod place;
mod process;
mod prompt;
mod resize;
mod settings;
mod size;
mod whole;

pub use anyres::{AnyRes, pinpoints};
pub use clip::{evenly, frames};
pub use input::{BESIDE, Beside, ImageInput};
pub use place::most_tiles;
pub use process::Processor;
pub use prompt::Expansion;
pub use resize::{Filter, Window, resize};
pub use size::in_units;

use crate::foreign::foreign;
use crate::weights::{read_bounded, recognise};
use crate::{Error, Result};
use ::image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::path::Path;

/// The largest image file that is read, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// The largest picture that is decoded, in pixels. Pillow warns at about this size.
const MAX_PIXELS: u64 = 100_000_000;
/// What a decoder may allocate, in bytes; [`MAX_PIXELS`] of 16-bit RGBA fit.
const MAX_ALLOC: u64 = 1 << 30;

/// An upright picture in 8-bit RGB, alpha dropped without blending, as `Image.open(f).convert("RGB")` of Pillow
/// after `ImageOps.exif_transpose`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Row-major red, green, blue: `3 · width · height` bytes.
    pub rgb: Vec<u8>,
    /// Left, top, width and height of the pictures that lie side by side on this one, in their order; empty for one
    /// picture.
    pub parts: Vec<[usize; 4]>,
}

impl Picture {
    /// A picture from its pixels. Errors unless `rgb` has exactly `3 · width · height` bytes and both sides are
    /// at least 1.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let fits = width.checked_mul(height).and_then(|n| n.checked_mul(3)) == Some(rgb.len());
        if !fits || rgb.is_empty() {
            return Err(Error::shape("picture", format!("[{height}, {width}, 3], not empty"), &[rgb.len()]));
        }
        Ok(Self { width, height, rgb, parts: Vec::new() })
    }

    /// Opens a PNG, JPEG, WebP, BMP or GIF (its first frame), whatever the file is called.
    ///
    /// Errors name the file and say what to do: other formats, damaged or truncated files, files that are not
    /// regular, pictures of more than 100 million pixels.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, MAX_FILE)?;
        Self::decode(&bytes).map_err(|what| {
            recognise::strange(path).unwrap_or_else(|| {
                Error::file(path, what, "save it again as PNG, JPEG, WebP, BMP or GIF with an image program")
            })
        })
    }

    /// Decodes the bytes of an image file. The error says what is wrong, without a file name.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        foreign("image", || Self::decoded(bytes)).unwrap_or_else(Err)
    }

    fn decoded(bytes: &[u8]) -> std::result::Result<Self, String> {
        if bytes.is_empty() {
            return Err("the file is empty".into());
        }
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
        let format = reader.format().ok_or("this is not an image of a known format")?;
        let known = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif];
        if !known.contains(&format) {
            return Err(format!("{format:?} images cannot be read"));
        }
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_ALLOC);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
        let (w, h) = decoder.dimensions();
        if w == 0 || h == 0 {
            return Err(format!("the picture has no pixels ({w} x {h})"));
        }
        if u64::from(w) * u64::from(h) > MAX_PIXELS {
            return Err(format!("{w} x {h} pixels are more than {} million", MAX_PIXELS / 1_000_000));
        }
        let orientation = decoder.orientation().map_err(|e| e.to_string())?;
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
        // What decoders fill in where a file lacks it is nobody's picture.
        whole::check(format, bytes)?;
        decoded.apply_orientation(orientation);
        let (w, h) = (decoded.width() as usize, decoded.height() as usize);
        Self::new(w, h, rgb8(decoded)).map_err(|e| e.to_string())
    }

    /// The pixel at column `x` and row `y`.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let i = 3 * (y * self.width + x);
        [self.rgb[i], self.rgb[i + 1], self.rgb[i + 2]]
    }

    /// The picture as a PNG file.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut out = Cursor::new(Vec::new());
        ::image::write_buffer_with_format(
            &mut out,
            &self.rgb,
            self.width as u32,
            self.height as u32,
            ::image::ExtendedColorType::Rgb8,
            ImageFormat::Png,
        )
        .map_err(|e| Error::invalid(format!("the picture cannot be written as PNG: {e}")))?;
        Ok(out.into_inner())
    }
}

/// Eight bits per channel. Pillow scales 16-bit grey and cuts the low byte of 16-bit colour, and so do we.
fn rgb8(image: DynamicImage) -> Vec<u8> {
    match image.color() {
        ColorType::Rgb16 => image.into_rgb16().into_raw().into_iter().map(high_byte).collect(),
        ColorType::Rgba16 => {
            let raw = image.into_rgba16().into_raw();
            raw.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).map(high_byte).collect()
        }
        ColorType::La8 => image.into_luma_alpha8().into_raw().chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        ColorType::Rgba8 => image.into_rgba8().into_raw().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        _ => image.into_rgb8().into_raw(),
    }
}

fn high_byte(v: u16) -> u8 {
    (v >> 8) as u8
}
