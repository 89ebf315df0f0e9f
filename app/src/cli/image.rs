//! The verb `image`: a picture as the program decodes it, or with a model's token grid on its own pixels.

use super::common;
use super::terminal::say;
use crate::picture_source::PictureSource;
use anyhow::bail;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::run::{RunRequest, run as run_model};
use tokenscope_analysis::save::{save_bytes, spares};
use tokenscope_analysis::token::{Source, TokenKind};
use tokenscope_analysis::trace::CaptureSpec;

/// Arguments of `image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Picture: PNG, JPEG, WebP, BMP or GIF (first frame), by content; or a drawn scene as scene:SEED
    file: OsString,
    /// Draw the image tokens of this model: a folder, or the name of a sample model
    #[arg(long)]
    model: Option<OsString>,
    /// PNG file to write
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    weights: common::Weights,
}

/// A picture with a grid is enlarged by whole factors to about this many pixels on its longer side.
const GRID_SIDE: usize = 768;

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let ending = args.out.extension().map(|e| e.to_string_lossy().to_lowercase());
    if ending.as_deref() != Some("png") {
        bail!("pictures are written as PNG: end the name in .png: {}", args.out.display());
    }
    let inputs = [Some(Path::new(&args.file)), args.model.as_ref().map(Path::new)];
    spares(&args.out, &inputs.into_iter().flatten().collect::<Vec<_>>())?;
    let picture = PictureSource::parse(args.file)?.open(&Ctx::default())?;
    let out = match &args.model {
        None => picture,
        Some(model) => {
            let open = common::open(model, args.weights)?;
            let Some(processor) = &open.processor else {
                bail!("{} reads no images; choose another --model", open.model.info().architecture);
            };
            let mut request = RunRequest::default();
            request.add_picture(processor, &picture)?;
            let spec = CaptureSpec::sites(&[]);
            let trace =
                run_model(open.model.as_ref(), open.tokenizer.as_ref(), &with_text(request), &spec, &Ctx::default())?;
            let tower = trace.tower(trace.main_tower())?;
            let rects: Vec<[f32; 4]> = tower
                .tokens
                .iter()
                .filter(|t| t.kind == TokenKind::Image)
                .filter_map(|t| if let Source::Rect { x, y, w, h } = t.source { Some([x, y, w, h]) } else { None })
                .collect();
            say!("{} image tokens of {}", rects.len(), open.model.info().architecture);
            grid(&picture, &rects)?
        }
    };
    Ok(save_bytes(&args.out, &out.to_png()?)?)
}

/// Two-tower models want a text beside the picture; which one does not change the grid.
fn with_text(mut request: RunRequest) -> RunRequest {
    request.prompt.get_or_insert_default();
    request
}

/// The picture, enlarged so that lines do not hide it, with the outline of every rectangle inverted into it.
fn grid(p: &Picture, rects: &[[f32; 4]]) -> anyhow::Result<Picture> {
    let f = (GRID_SIDE / p.width.max(p.height)).clamp(1, 16);
    let (w, h) = (p.width * f, p.height * f);
    let mut rgb: Vec<u8> = (0..w * h).flat_map(|i| p.pixel(i % w / f, i / w / f)).collect();
    let mut lines = vec![false; w * h];
    for &[x, y, rw, rh] in rects {
        let at = |v: f32, max: usize| ((v * f as f32).round().max(0.0) as usize).min(max - 1);
        let (x0, x1, y0, y1) = (at(x, w), at(x + rw, w), at(y, h), at(y + rh, h));
        (x0..=x1).for_each(|x| [y0, y1].iter().for_each(|y| lines[y * w + x] = true));
        (y0..=y1).for_each(|y| [x0, x1].iter().for_each(|x| lines[y * w + x] = true));
    }
    for (pixel, _) in rgb.chunks_exact_mut(3).zip(&lines).filter(|(_, on)| **on) {
        // Black on light, white on dark: a line that is seen on any picture.
        let light = 299 * u32::from(pixel[0]) + 587 * u32::from(pixel[1]) + 114 * u32::from(pixel[2]) > 127_500;
        pixel.fill(if light { 0 } else { 255 });
    }
    Ok(Picture::new(w, h, rgb)?)
}
