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
        fewer(files.len(), n, ctx);
        let open = |(i, &f): (usize, &usize)| ctx.step(i, chosen.len()).and_then(|()| Picture::open(&files[f]));
        return chosen.iter().enumerate().map(open).collect();
    }
    let bytes = read_bounded(path, MAX_FILE)?;
    let bad = |what: String| Error::file(path, what, "give an animated GIF or WebP, or a folder of pictures");
    // Counted before any is decoded: to hold every frame would take more room than those that are wanted.
    let all = count(&bytes).map_err(&bad)?;
    let chosen = evenly(all, n);
    fewer(all, n, ctx);
    let last = chosen.last().map_or(0, |i| i + 1);
    let mut out = Vec::new();
    each(&bytes, |i, frame| {
        if i >= last {
            return Ok(false);
        }
        ctx.step(i, last).map_err(|_| None)?;
        if chosen.contains(&i) {
            let (w, h) = (frame.width() as usize, frame.height() as usize);
            out.push(Picture::new(w, h, rgb8(frame)).map_err(|e| Some(e.to_string()))?);
        }
        Ok(true)
    })
    .map_err(|e| e.map_or_else(|| Error::Cancelled, &bad))?;
    if out.len() < chosen.len() {
        return Err(bad(format!("the animation ends before its frame {}", chosen[out.len()] + 1)));
    }
    Ok(out)
}

/// Says that a clip has fewer frames than were asked for.
fn fewer(all: usize, n: usize, ctx: &Ctx) {
    if all < n {
        ctx.note(format!("the clip has {all} frames, fewer than the {n} that were asked for; each is taken once"));
    }
}

/// Frames of an animated GIF or WebP, by its parts alone.
fn count(bytes: &[u8]) -> std::result::Result<usize, String> {
    let n = match ::image::guess_format(bytes).map_err(|e| e.to_string())? {
        ImageFormat::Gif => count_gif(bytes),
        ImageFormat::WebP => match count_webp(bytes) {
            0 => return Err("this WebP is one picture and no animation".into()),
            n => n,
        },
        other => return Err(format!("a {other:?} is one picture and no animation")),
    };
    match n {
        0 => Err("the animation has no frames".into()),
        n if n > MOST => Err(format!("the animation has more than {MOST} frames")),
        n => Ok(n),
    }
}

/// Image blocks of a GIF; what follows damage is not counted.
fn count_gif(bytes: &[u8]) -> usize {
    let byte = |at: usize| bytes.get(at).copied();
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    // Behind the last of the blocks of bytes that begin at `at`.
    let behind = |mut at: usize| loop {
        match byte(at) {
            Some(0) | None => return at + 1,
            Some(len) => at += 1 + usize::from(len),
        }
    };
    let (mut at, mut n) = (13 + byte(10).map_or(0, table), 0);
    loop {
        at = match byte(at) {
            Some(0x21) => behind(at + 2),
            Some(0x2C) => {
                n += 1;
                behind(at + 11 + byte(at + 9).map_or(0, table))
            }
            _ => return n,
        };
    }
}

/// Frame chunks of a WebP.
fn count_webp(bytes: &[u8]) -> usize {
    let (mut at, mut n) = (12, 0);
    while let Some(head) = bytes.get(at..at + 8) {
        n += usize::from(&head[..4] == b"ANMF");
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        at += 8 + len + len % 2;
    }
    n
}

/// The pictures of a folder, by name; numbers in names count as numbers do.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))?;
    let picture = |p: &PathBuf| {
        let end = p.extension().map(|e| e.to_string_lossy().to_lowercase());
        p.is_file() && end.is_some_and(|e| ENDS.contains(&e.as_str()))
    };
    let mut out = Vec::new();
    for entry in entries {
        out.extend(Some(entry.map_err(|e| Error::io(dir, e))?.path()).filter(picture));
    }
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

/// What stops the frames of a clip: what is wrong, or nothing where the job was cancelled.
type Stop = Option<String>;

/// Calls `take` for every frame until it says that it has enough.
fn each(
    bytes: &[u8],
    mut take: impl FnMut(usize, DynamicImage) -> std::result::Result<bool, Stop>,
) -> std::result::Result<(), Stop> {
    let mut run = || -> std::result::Result<(), Stop> {
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
            _ => {
                let mut d = WebPDecoder::new(Cursor::new(bytes)).map_err(say)?;
                check(d.dimensions())?;
                d.set_limits(limits).map_err(say)?;
                d.into_frames()
            }
        };
        for (i, frame) in frames.enumerate() {
            if !take(i, DynamicImage::ImageRgba8(frame.map_err(say)?.into_buffer()))? {
                break;
            }
        }
        Ok(())
    };
    foreign("image", &mut run).unwrap_or_else(|what| Err(Some(what)))
}

fn check((w, h): (u32, u32)) -> std::result::Result<(), Stop> {
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
    fn frames_are_counted_by_the_parts_of_a_file() {
        // A table of two colours, an extension, and two images, the second of which has a table of its own.
        let mut gif = b"GIF89a\x01\0\x01\0\x80\0\0".to_vec();
        gif.extend([0; 6]);
        gif.extend([0x21, 0xF9, 4, 0, 0, 0, 0, 0]);
        gif.extend([0x2C, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0]);
        gif.extend([0x2C, 0, 0, 0, 0, 1, 0, 1, 0, 0x80, 1, 2, 3, 4, 5, 6, 2, 2, 0x44, 1, 0, 0x3B]);
        assert_eq!((count_gif(&gif), count_gif(&gif[..30]), count_gif(b"GIF")), (2, 1, 0));
        // Chunks of odd length are filled up.
        let webp = b"RIFF\0\0\0\0WEBPVP8X\x01\0\0\0\x02\0ANMF\x02\0\0\0..ANMF\0\0\0\0EXIF";
        assert_eq!(count_webp(webp), 2);
        assert!(count(webp).is_ok_and(|n| n == 2));
        assert!(count(b"RIFF\x04\0\0\0WEBPVP8 \0\0\0\0").unwrap_err().contains("no animation"));
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
        assert!(ctx.notes().iter().any(|n| n.contains("12 frames, fewer than the 99")), "{:?}", ctx.notes());
        // Progress goes to the last frame that is wanted; a file that ends before it says so.
        let steps = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = steps.clone();
        let watched = Ctx::new(Default::default(), std::sync::Arc::new(move |x| seen.lock().unwrap().push(x)));
        frames(&gif, 2, &watched).unwrap();
        assert_eq!(steps.lock().unwrap().len(), 10);
        let cut = dir.path().join("cut.gif");
        let all = std::fs::read(&gif).unwrap();
        std::fs::write(&cut, &all[..all.len() * 3 / 4]).unwrap();
        assert!(frames(&cut, 12, &ctx).is_err() || frames(&cut, 12, &ctx).unwrap().len() < 12);
        let stopped = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        assert!(matches!(frames(&gif, 2, &stopped), Err(Error::Cancelled)));
    }
}
