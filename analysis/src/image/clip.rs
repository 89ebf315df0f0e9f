//! Frames of a clip, as pictures: those of an animated GIF or WebP, or the pictures of a folder in the order of their
//! names.

use super::{MAX_ALLOC, MAX_FILE, MAX_PIXELS, Picture, rgb8};
use crate::foreign::foreign;
use crate::weights::read_bounded;
use crate::{Ctx, Error, Result};
use ::image::codecs::gif::GifDecoder;
use ::image::codecs::webp::WebPDecoder;
use ::image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageFormat, Limits};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Frames of an animation that are looked at.
const MOST: usize = 10_000;
/// What the names of pictures in a folder end with.
const ENDS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "bmp", "gif"];

/// Which `n` of `all` frames are taken: the middle one of each of `n` equal parts, all where there are not more.
pub fn evenly(all: usize, n: usize) -> Vec<usize> {
    let n = n.min(all);
    (0..n).map(|i| (2 * i + 1) * all / (2 * n)).collect()
}

/// `n` frames of the clip at `path`, evenly spread over it.
///
/// Errors: no animation and no folder of pictures, what is wrong with a file, cancelled.
pub fn frames(path: &Path, n: usize, ctx: &Ctx) -> Result<Vec<Picture>> {
    if n == 0 {
        return Err(Error::invalid("no frames of a clip are none to read; take one at least"));
    }
    if path.is_dir() {
        let files = files(path)?;
        let chosen = evenly(files.len(), n);
        let open = |(i, &f): (usize, &usize)| ctx.step(i, chosen.len()).and_then(|()| Picture::open(&files[f]));
        return chosen.iter().enumerate().map(open).collect();
    }
    let bytes = read_bounded(path, MAX_FILE)?;
    let bad = |what: String| Error::file(path, what, "give an animated GIF or WebP, or a folder of pictures");
    // Counted first: to hold every frame would take more room than those that are wanted.
    let mut all = 0;
    each(&bytes, ctx, |_, _| {
        all += 1;
        Ok(())
    })
    .map_err(|e| e.map_or_else(|| Error::Cancelled, &bad))?;
    let chosen = evenly(all, n);
    let mut out = Vec::new();
    each(&bytes, ctx, |i, frame| {
        if chosen.contains(&i) {
            let (w, h) = (frame.width() as usize, frame.height() as usize);
            out.push(Picture::new(w, h, rgb8(frame)).map_err(|e| e.to_string())?);
        }
        Ok(())
    })
    .map_err(|e| e.map_or_else(|| Error::Cancelled, &bad))?;
    Ok(out)
}

/// The pictures of a folder, by name; numbers in names count as numbers do.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))?;
    let picture = |p: &PathBuf| {
        let end = p.extension().map(|e| e.to_string_lossy().to_lowercase());
        p.is_file() && end.is_some_and(|e| ENDS.contains(&e.as_str()))
    };
    let mut out: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(picture).collect();
    if out.is_empty() {
        return Err(Error::file(
            dir,
            "there are no pictures in the folder",
            "choose one that holds frames as PNG or JPEG",
        ));
    }
    out.sort_by_cached_key(|p| natural(&p.file_name().unwrap_or_default().to_string_lossy()));
    Ok(out)
}

/// A name by which `frame 10` comes behind `frame 9`.
fn natural(name: &str) -> Vec<(String, u64, usize)> {
    let (mut out, mut rest) = (Vec::new(), name);
    while !rest.is_empty() {
        let words = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = rest[words..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - words);
        let number = &rest[words..words + digits];
        out.push((rest[..words].to_lowercase(), number.parse().unwrap_or(u64::MAX), number.len()));
        rest = &rest[words + digits..];
    }
    out
}

/// Calls `take` for every frame. The error is what is wrong, or nothing where the job was cancelled.
fn each(
    bytes: &[u8],
    ctx: &Ctx,
    mut take: impl FnMut(usize, DynamicImage) -> std::result::Result<(), String>,
) -> std::result::Result<(), Option<String>> {
    let mut run = || -> std::result::Result<(), Option<String>> {
        let say = |e: ::image::ImageError| Some(e.to_string());
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_ALLOC);
        let frames = match ::image::guess_format(bytes).map_err(say)? {
            ImageFormat::Gif => {
                let mut d = GifDecoder::new(Cursor::new(bytes)).map_err(say)?;
                check(d.dimensions())?;
                d.set_limits(limits).map_err(say)?;
                d.into_frames()
            }
            ImageFormat::WebP => {
                let mut d = WebPDecoder::new(Cursor::new(bytes)).map_err(say)?;
                check(d.dimensions())?;
                d.set_limits(limits).map_err(say)?;
                if !d.has_animation() {
                    return Err(Some("this WebP is one picture and no animation".into()));
                }
                d.into_frames()
            }
            other => return Err(Some(format!("a {other:?} is one picture and no animation"))),
        };
        let mut n = 0;
        for (i, frame) in frames.enumerate() {
            if ctx.cancelled() {
                return Err(None);
            }
            if i >= MOST {
                return Err(Some(format!("the animation has more than {MOST} frames")));
            }
            take(i, DynamicImage::ImageRgba8(frame.map_err(say)?.into_buffer())).map_err(Some)?;
            n += 1;
        }
        if n == 0 { Err(Some("the animation has no frames".into())) } else { Ok(()) }
    };
    foreign("image", &mut run).unwrap_or_else(|what| Err(Some(what)))
}

fn check((w, h): (u32, u32)) -> std::result::Result<(), Option<String>> {
    match u64::from(w) * u64::from(h) {
        0 => Err(Some(format!("the animation has no pixels ({w} x {h})"))),
        n if n > MAX_PIXELS => Err(Some(format!("{w} x {h} pixels are more than {} million", MAX_PIXELS / 1_000_000))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::codecs::gif::GifEncoder;
    use ::image::{Frame, RgbaImage};

    #[test]
    fn frames_are_taken_from_the_middle_of_equal_parts() {
        assert_eq!((evenly(10, 1), evenly(10, 2), evenly(9, 3)), (vec![5], vec![2, 7], vec![1, 4, 7]));
        assert_eq!((evenly(3, 8), evenly(0, 2)), (vec![0, 1, 2], vec![]));
    }

    #[test]
    fn an_animation_and_a_folder_give_the_same_frames() {
        let dir = tempfile::tempdir().unwrap();
        let gif = dir.path().join("clip.gif");
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new(&mut bytes);
        let folder = dir.path().join("frames");
        std::fs::create_dir(&folder).unwrap();
        for i in 0..12u8 {
            let grey = RgbaImage::from_pixel(4, 3, ::image::Rgba([20 * i, 20 * i, 20 * i, 255]));
            encoder.encode_frame(Frame::new(grey)).unwrap();
            let one = Picture::new(4, 3, vec![20 * i; 36]).unwrap();
            std::fs::write(folder.join(format!("frame {i}.png")), one.to_png().unwrap()).unwrap();
        }
        drop(encoder);
        std::fs::write(&gif, bytes).unwrap();
        std::fs::write(folder.join("notes.txt"), "not a frame").unwrap();
        let ctx = Ctx::default();
        let of = |path: &Path, n: usize| -> Vec<u8> {
            frames(path, n, &ctx).unwrap().iter().map(|p| p.pixel(3, 2)[0]).collect()
        };
        // 2, 6 and 10: numbers in names are numbers.
        assert_eq!((of(&folder, 3), of(&gif, 3)), (vec![40, 120, 200], vec![40, 120, 200]));
        assert_eq!((of(&gif, 99).len(), of(&folder, 99).len()), (12, 12));
        let png = folder.join("frame 1.png");
        assert!(frames(&png, 2, &ctx).unwrap_err().to_string().contains("no animation"));
        assert!(frames(dir.path(), 2, &ctx).is_ok(), "a GIF is a picture, too");
        assert!(frames(&gif, 0, &ctx).is_err());
        let stopped = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        assert!(matches!(frames(&gif, 2, &stopped), Err(Error::Cancelled)));
    }
}
