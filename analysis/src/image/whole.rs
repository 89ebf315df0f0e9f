//! Whether an image file ends as its format says, for formats whose decoders go on without the rest.

use ::image::ImageFormat;

/// Errors if the file was cut.
pub(super) fn check(format: ImageFormat, bytes: &[u8]) -> Result<(), String> {
    match format {
        ImageFormat::Jpeg => jpeg(bytes),
        ImageFormat::Gif => gif(bytes),
        ImageFormat::Png => png(bytes),
        ImageFormat::WebP => webp(bytes),
        ImageFormat::Bmp => bmp(bytes),
        _ => Ok(()),
    }
}

fn cut(what: &str) -> Result<(), String> {
    Err(format!("the file is incomplete: {what}"))
}

/// Walks the segments of a JPEG and the coded data between them up to its end mark (ITU T.81, annex B).
fn jpeg(bytes: &[u8]) -> Result<(), String> {
    let mut at = 2;
    loop {
        // Coded data holds no 0xFF but as 0xFF00, and marks of restarts.
        let Some(mark) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == 0xff)) else {
            return cut("it ends in the middle of a JPEG's data");
        };
        at += mark;
        let Some(code) = bytes.get(at + 1).copied() else { return cut("it ends in the middle of a JPEG's data") };
        match code {
            0xd9 => return Ok(()),
            0xff => at += 1,
            0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
            _ => {
                let length = bytes.get(at + 2..at + 4).map(|l| usize::from(u16::from_be_bytes([l[0], l[1]])));
                match length {
                    Some(n) if at + 2 + n <= bytes.len() => at += 2 + n.max(2),
                    _ => return cut("it ends in the middle of a JPEG's header"),
                }
            }
        }
    }
}

/// Walks the blocks of a GIF's first frame (GIF89a): its data end with an empty block.
fn gif(bytes: &[u8]) -> Result<(), String> {
    let ends = || cut("it ends in the middle of a GIF's first frame");
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let Some(flags) = bytes.get(10) else { return ends() };
    let mut at = 13 + table(*flags);
    let blocks = |mut at: usize| loop {
        match bytes.get(at) {
            Some(0) => return Some(at + 1),
            Some(n) => at += 1 + usize::from(*n),
            None => return None,
        }
    };
    loop {
        match bytes.get(at) {
            Some(0x21) => match blocks(at + 2) {
                Some(next) => at = next,
                None => return ends(),
            },
            Some(0x2c) => {
                let Some(flags) = bytes.get(at + 9) else { return ends() };
                return blocks(at + 11 + table(*flags)).map_or_else(ends, |_| Ok(()));
            }
            _ => return ends(),
        }
    }
}

/// Walks the chunks of a PNG up to IEND.
fn png(bytes: &[u8]) -> Result<(), String> {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let n = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if &head[4..] == b"IEND" {
            return Ok(());
        }
        at = at.saturating_add(n).saturating_add(12);
    }
    cut("it ends before a PNG's last chunk")
}

/// A WebP says its length.
fn webp(bytes: &[u8]) -> Result<(), String> {
    let said = bytes.get(4..8).map(|b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])) + 8);
    match said {
        Some(n) if n <= bytes.len() as u64 + 1 => Ok(()),
        _ => cut("it ends before a WebP's data do"),
    }
}

/// A plain BMP has rows of whole words from where its header says.
fn bmp(bytes: &[u8]) -> Result<(), String> {
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let half = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let all = (word(10), word(14), word(18), word(22), half(28), word(30));
    let (Some(start), Some(header), Some(w), Some(h), Some(bits), Some(coding)) = all else {
        return cut("it ends in the middle of a BMP's header");
    };
    // Headers of before Windows 3 are shorter, and runs say themselves where they end.
    if header < 40 || !matches!(coding, 0 | 3 | 6) {
        return Ok(());
    }
    let row = (u64::from(w) * u64::from(bits)).div_ceil(32) * 4;
    let need = u64::from(start) + row * u64::from((h as i32).unsigned_abs());
    if need > bytes.len() as u64 { cut("it ends before a BMP's last row") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::Picture;
    use ::image::codecs::jpeg::JpegEncoder;
    use ::image::{DynamicImage, ImageFormat, RgbImage};
    use std::io::Cursor;

    #[test]
    fn a_file_of_every_format_is_whole_or_an_error() {
        let noise = |x: u32, y: u32| ((x * 7919 + y * 104_729) % 251) as u8;
        let picture = RgbImage::from_fn(40, 30, |x, y| ::image::Rgb([noise(x, y), noise(y, x), noise(x + y, 3)]));
        let picture = DynamicImage::ImageRgb8(picture);
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::WebP] {
            let mut out = Cursor::new(Vec::new());
            match format {
                ImageFormat::Jpeg => {
                    JpegEncoder::new_with_quality(&mut out, 90).encode_image(&picture).unwrap();
                }
                _ => picture.write_to(&mut out, format).unwrap(),
            }
            let bytes = out.into_inner();
            assert!(Picture::decode(&bytes).is_ok(), "{format:?}");
            // What follows a picture is nobody's business.
            assert!(Picture::decode(&[bytes.as_slice(), b"tail"].concat()).is_ok(), "{format:?}");
            for share in [30, 50, 80, 95] {
                let n = bytes.len() * share / 100;
                assert!(Picture::decode(&bytes[..n]).is_err(), "{format:?} cut to {n} of {}", bytes.len());
            }
        }
    }
}
