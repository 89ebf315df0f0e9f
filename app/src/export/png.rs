//! Tessellated shapes → pixels on the CPU, as egui's own shader blends them, so that a figure needs no GPU.

use super::Texture;
use anyhow::{Context as _, bail};
use egui::epaint::{ClippedPrimitive, Primitive, Vertex};
use egui::{Color32, Mesh, Rect, TextureId, Vec2};
use std::collections::HashMap;

/// The longest side of a picture in pixels.
const MAX_SIDE: f32 = 16_384.0;

/// A page of pixels, premultiplied, 0..=1.
struct Page {
    width: usize,
    height: usize,
    rgb: Vec<[f32; 3]>,
}

/// Draws `primitives` on a page of `size` points and encodes it.
pub fn to_png(
    primitives: &[ClippedPrimitive],
    textures: &HashMap<TextureId, Texture>,
    size: Vec2,
    scale: f32,
    background: Color32,
) -> anyhow::Result<Vec<u8>> {
    let side = size * scale;
    if !(side.x >= 1.0 && side.y >= 1.0 && side.max_elem() <= MAX_SIDE) {
        bail!("a figure of {} x {} pixels cannot be made; choose another size or scale", side.x, side.y);
    }
    let (width, height) = (side.x.ceil() as usize, side.y.ceil() as usize);
    let start = [background.r(), background.g(), background.b()].map(|v| f32::from(v) / 255.0);
    let mut page = Page { width, height, rgb: vec![start; width * height] };
    for p in primitives {
        let clip = [
            (p.clip_rect.min.x * scale).round().clamp(0.0, width as f32) as usize,
            (p.clip_rect.min.y * scale).round().clamp(0.0, height as f32) as usize,
            (p.clip_rect.max.x * scale).round().clamp(0.0, width as f32) as usize,
            (p.clip_rect.max.y * scale).round().clamp(0.0, height as f32) as usize,
        ];
        if let Primitive::Mesh(mesh) = &p.primitive {
            page.mesh(mesh, textures.get(&mesh.texture_id), scale, clip);
        }
    }
    let bytes: Vec<u8> = page.rgb.iter().flatten().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
    let picture = tokenscope_analysis::image::Picture::new(width, height, bytes)?;
    let png = picture.to_png().context("the PNG could not be written")?;
    Ok(with_density(png, (f64::from(scale) * 96.0 / 0.0254).round() as u32))
}

impl Texture {
    /// The part between two corners, as shares of it; `None` where that is nothing.
    pub(super) fn part(&self, uv: Rect) -> Option<image::RgbaImage> {
        let [w, h] = self.image.size;
        let within = |share: f32, n: usize| (share * n as f32).round().clamp(0.0, n as f32) as usize;
        let (x, y) = (within(uv.min.x, w)..within(uv.max.x, w), within(uv.min.y, h)..within(uv.max.y, h));
        let mut rgba = Vec::with_capacity(x.len() * y.len() * 4);
        for row in y.clone() {
            for column in x.clone() {
                rgba.extend_from_slice(&self.image.pixels[row * w + column].to_srgba_unmultiplied());
            }
        }
        image::RgbaImage::from_raw(x.len() as u32, y.len() as u32, rgba).filter(|i| !i.is_empty())
    }

    /// The same as a file.
    pub(super) fn png(&self, uv: Rect) -> Option<Vec<u8>> {
        let mut out = std::io::Cursor::new(Vec::new());
        self.part(uv)?.write_to(&mut out, image::ImageFormat::Png).ok()?;
        Some(out.into_inner())
    }
}

/// Says in a PNG how many pixels a metre has, so that it is set in its true size.
fn with_density(png: Vec<u8>, per_metre: u32) -> Vec<u8> {
    let metre = per_metre.to_be_bytes();
    with_chunk(png, b"pHYs", &[&metre[..], &metre, &[1]].concat())
}

/// Says in a PNG what it shows: Latin letters in chunks that every program reads, others as Unicode.
pub(super) fn with_about(mut png: Vec<u8>, about: &super::About) -> Vec<u8> {
    // Each goes before the one written last.
    for (name, words) in about.iter().rev() {
        let mut key: Vec<char> = name.chars().collect();
        key[..1].iter_mut().for_each(|c| *c = c.to_ascii_uppercase());
        let key: String = key.into_iter().collect();
        // A zero ends the words of a chunk.
        let words = &words.replace('\0', "\u{fffd}");
        png = if words.is_ascii() {
            with_chunk(png, b"tEXt", format!("{key}\0{words}").as_bytes())
        } else {
            // Neither compressed nor in a language, nor a translated keyword.
            with_chunk(png, b"iTXt", format!("{key}\0\0\0\0\0{words}").as_bytes())
        };
    }
    png
}

/// Puts a chunk behind the header of a PNG.
fn with_chunk(mut png: Vec<u8>, name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let chunk = [&name[..], data].concat();
    let crc = crc32(&chunk);
    let length = (data.len() as u32).to_be_bytes();
    let whole = length.into_iter().chain(chunk).chain(crc.to_be_bytes());
    // Behind the signature and the header, which is 25 bytes and always first.
    let at = (8 + 25).min(png.len());
    png.splice(at..at, whole);
    png
}

/// The checksum of PNG's chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, &b: &u8| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

impl Page {
    fn mesh(&mut self, mesh: &Mesh, texture: Option<&Texture>, scale: f32, clip: [usize; 4]) {
        for t in mesh.indices.as_chunks::<3>().0 {
            if let [Some(a), Some(b), Some(c)] = t.map(|i| mesh.vertices.get(i as usize)) {
                self.triangle([a, b, c], texture, scale, clip);
            }
        }
    }

    fn triangle(&mut self, v: [&Vertex; 3], texture: Option<&Texture>, scale: f32, [cx0, cy0, cx1, cy1]: [usize; 4]) {
        let p = v.map(|v| (f64::from(v.pos.x * scale), f64::from(v.pos.y * scale)));
        let area = edge(p[0], p[1], p[2]);
        if area == 0.0 || !area.is_finite() {
            return;
        }
        let bound = |f: fn((f64, f64)) -> f64, min: usize, max: usize| {
            let low = p.iter().map(|q| f(*q)).fold(f64::INFINITY, f64::min);
            let high = p.iter().map(|q| f(*q)).fold(f64::NEG_INFINITY, f64::max);
            ((low - 0.5).ceil().max(min as f64) as usize, (high + 0.5).floor().clamp(0.0, max as f64) as usize)
        };
        let (x0, x1) = bound(|q| q.0, cx0, cx1);
        let (y0, y1) = bound(|q| q.1, cy0, cy1);
        let colors = v.map(|v| v.color.to_array().map(|c| f32::from(c) / 255.0));
        for y in y0..y1 {
            // A thin slanted triangle fills little of its rectangle: most pixels of a row need no test.
            let (from, to) = reach(&p, area, y as f64 + 0.5);
            for x in x0.max(from)..x1.min(to) {
                let at = (x as f64 + 0.5, y as f64 + 0.5);
                let mut w = [0.0; 3];
                let inside = (0..3).all(|i| {
                    let (a, b) = (p[(i + 1) % 3], p[(i + 2) % 3]);
                    w[i] = edge(a, b, at) / area;
                    // A pixel centre on a shared edge belongs to one of the two triangles only.
                    let (dx, dy) = ((b.0 - a.0) * area.signum(), (b.1 - a.1) * area.signum());
                    w[i] > 0.0 || (w[i] == 0.0 && (dy < 0.0 || (dy == 0.0 && dx > 0.0)))
                });
                if !inside {
                    continue;
                }
                let w = w.map(|w| w as f32);
                let mix = |a: f32, b: f32, c: f32| w[0] * a + w[1] * b + w[2] * c;
                let mut color: [f32; 4] = std::array::from_fn(|i| mix(colors[0][i], colors[1][i], colors[2][i]));
                if let Some(t) = texture {
                    let [a, b, c] = v.map(|v| v.uv);
                    let texel = t.at(mix(a.x, b.x, c.x), mix(a.y, b.y, c.y));
                    color.iter_mut().zip(texel).for_each(|(c, t)| *c *= t);
                }
                let pixel = &mut self.rgb[y * self.width + x];
                pixel.iter_mut().zip(color).for_each(|(old, new)| *old = new + *old * (1.0 - color[3]));
            }
        }
        debug_assert!(y1 <= self.height);
    }
}

/// First and one past the last pixel of the row with centres at `y` that can lie in the triangle `p`: those between
/// its edges, with a pixel to spare on either side for what rounding does.
fn reach(p: &[(f64, f64); 3], area: f64, y: f64) -> (usize, usize) {
    let (mut from, mut to) = (f64::NEG_INFINITY, f64::INFINITY);
    for i in 0..3 {
        let (a, b) = (p[i], p[(i + 1) % 3]);
        let rise = b.1 - a.1;
        if rise == 0.0 {
            continue;
        }
        let x = a.0 + (b.0 - a.0) * (y - a.1) / rise;
        // Inside is where the edge's area has the sign of the triangle's.
        if (rise < 0.0) == (area > 0.0) {
            from = from.max(x - 1.5);
        } else {
            to = to.min(x + 1.5);
        }
    }
    // Casts hold what is no number or too large to the range of the type.
    (from.floor() as usize, to.ceil() as usize)
}

/// Twice the signed area of a triangle.
fn edge(a: (f64, f64), b: (f64, f64), c: (f64, f64)) -> f64 {
    (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0)
}

impl Texture {
    /// The colour at a place in 0..=1, premultiplied.
    fn at(&self, u: f32, v: f32) -> [f32; 4] {
        let [w, h] = self.image.size;
        let texel = |x: i64, y: i64| {
            let (x, y) = (x.clamp(0, w as i64 - 1) as usize, y.clamp(0, h as i64 - 1) as usize);
            self.image.pixels[y * w + x].to_array().map(|c| f32::from(c) / 255.0)
        };
        let (x, y) = (u * w as f32, v * h as f32);
        if self.nearest {
            return texel(x.floor() as i64, y.floor() as i64);
        }
        let (x, y) = (x - 0.5, y - 0.5);
        let (fx, fy) = (x - x.floor(), y - y.floor());
        let (x, y) = (x.floor() as i64, y.floor() as i64);
        let (a, b, c, d) = (texel(x, y), texel(x + 1, y), texel(x, y + 1), texel(x + 1, y + 1));
        std::array::from_fn(|i| {
            let top = a[i] * (1.0 - fx) + b[i] * fx;
            let bottom = c[i] * (1.0 - fx) + d[i] * fx;
            top * (1.0 - fy) + bottom * fy
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::{Rect, pos2, vec2};

    fn page(mesh: Mesh, size: Vec2) -> tokenscope_analysis::image::Picture {
        let p = ClippedPrimitive { clip_rect: Rect::EVERYTHING, primitive: Primitive::Mesh(mesh) };
        let png = to_png(&[p], &HashMap::new(), size, 1.0, Color32::BLACK).unwrap();
        tokenscope_analysis::image::Picture::decode(&png).unwrap()
    }

    #[test]
    fn a_half_transparent_square_of_two_triangles_has_no_seam() {
        let mut mesh = Mesh::default();
        let half = Color32::from_rgba_premultiplied(128, 0, 0, 128);
        mesh.add_colored_rect(Rect::from_min_size(pos2(1.0, 1.0), vec2(4.0, 4.0)), half);
        let p = page(mesh, vec2(6.0, 6.0));
        for (x, y) in (0..6).flat_map(|y| (0..6).map(move |x| (x, y))) {
            let inside = (1..5).contains(&x) && (1..5).contains(&y);
            assert_eq!(p.pixel(x, y), if inside { [128, 0, 0] } else { [0, 0, 0] }, "{x},{y}");
        }
    }

    #[test]
    fn pixels_left_out_of_a_row_are_outside_the_triangle() {
        let corner = |i: usize| ((i * 7919 % 401) as f64 / 10.0, (i * 104_729 % 397) as f64 / 10.0);
        let mut spared = 0;
        for i in 0..300 {
            // Flat and upright edges among them, in both senses of rotation.
            let p = [corner(i), if i % 5 == 0 { (corner(i).0, 3.0) } else { corner(i + 1) }, corner(i + 2)];
            let area = edge(p[0], p[1], p[2]);
            for (x, y) in (0..40).flat_map(|y| (0..40).map(move |x| (x, y))) {
                let at = (f64::from(x) + 0.5, f64::from(y) + 0.5);
                let inside = (0..3).all(|i| edge(p[i], p[(i + 1) % 3], at) / area >= 0.0);
                let (from, to) = reach(&p, area, at.1);
                let tested = (from..to).contains(&(x as usize));
                assert!(tested || !inside, "{p:?} {x} {y}");
                spared += usize::from(!tested);
            }
        }
        assert!(spared > 300 * 40 * 20, "{spared}");
    }

    #[test]
    fn the_density_stands_behind_the_header_and_the_picture_still_opens() {
        // The check value of this checksum.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let png = to_png(&[], &HashMap::new(), vec2(3.0, 2.0), 3.125, Color32::BLACK).unwrap();
        assert_eq!(&png[37..41], b"pHYs");
        // 300 dots an inch.
        assert_eq!(u32::from_be_bytes(png[41..45].try_into().unwrap()), 11_811);
        assert_eq!(tokenscope_analysis::image::Picture::decode(&png).unwrap().width, 10);
    }

    #[test]
    fn what_it_shows_stands_in_the_file() {
        let png = to_png(&[], &HashMap::new(), vec2(3.0, 2.0), 1.0, Color32::BLACK).unwrap();
        let png = with_about(png, &vec![("model", "a model".into()), ("prompt", "naïve 漢".into())]);
        let holds = |words: &[u8]| png.windows(words.len()).any(|w| w == words);
        assert!(holds(b"tEXtModel\0a model") && holds("iTXtPrompt\0\0\0\0\0naïve 漢".as_bytes()));
        assert_eq!(tokenscope_analysis::image::Picture::decode(&png).unwrap().width, 3);
    }

    #[test]
    fn a_size_that_cannot_be_made_is_an_error() {
        for size in [vec2(0.0, 5.0), vec2(1e6, 5.0), vec2(f32::NAN, 5.0)] {
            assert!(to_png(&[], &HashMap::new(), size, 1.0, Color32::BLACK).is_err());
        }
    }
}
