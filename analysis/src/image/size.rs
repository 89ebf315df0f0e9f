//! The sizes that processors give to a picture, computed as the Python code does, rounding included.

use crate::{Error, Result};
use serde_json::Value;

/// How a picture gets its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// Exactly this.
    Exact { width: usize, height: usize },
    /// The shorter side gets this length, the other keeps the shape, cut to whole pixels.
    Shortest(usize),
    /// As `Shortest`, but the longer side stays within a bound.
    Between { shortest: usize, longest: usize },
    /// As large as fits into this box with its shape kept.
    Within { width: usize, height: usize },
}

/// A processor that asks for more than this per side is damaged.
const MAX_SIDE: u64 = 16_384;

/// A length in pixels, if it is a usable one.
pub(super) fn pixels(v: &Value) -> Option<usize> {
    v.as_u64().filter(|n| (1..=MAX_SIDE).contains(n)).map(|n| n as usize)
}

/// A length in pixels from a settings file.
pub(super) fn length(v: &Value, name: &str) -> Result<usize> {
    pixels(v).ok_or_else(|| Error::invalid(format!("{name} {v} is not a length in pixels from 1 to {MAX_SIDE}")))
}

impl Size {
    /// Reads `size` or `crop_size`: a number, a list of height and width, or an object with `height` and `width`,
    /// `shortest_edge` (and `longest_edge`), or `max_height` and `max_width`.
    pub fn read(v: &Value, by_shortest: bool) -> Result<Self> {
        let m = match v {
            Value::Object(m) => m,
            Value::Array(a) if a.len() == 2 => {
                return Ok(Size::Exact { height: length(&a[0], "size")?, width: length(&a[1], "size")? });
            }
            n => {
                let n = length(n, "size")?;
                return Ok(if by_shortest { Size::Shortest(n) } else { Size::Exact { width: n, height: n } });
            }
        };
        let get = |key: &str| m.get(key).filter(|v| !v.is_null()).map(|v| length(v, key)).transpose();
        let (shortest, longest) = (get("shortest_edge")?, get("longest_edge")?);
        if let Some(shortest) = shortest {
            return Ok(longest.map_or(Size::Shortest(shortest), |longest| Size::Between { shortest, longest }));
        }
        if let (Some(height), Some(width)) = (get("max_height")?, get("max_width")?) {
            return Ok(Size::Within { width, height });
        }
        if let (Some(height), Some(width)) = (get("height")?, get("width")?) {
            return Ok(Size::Exact { width, height });
        }
        Err(Error::invalid(format!("size {v} is in no known form")))
    }

    /// Width and height for a picture.
    pub fn of(self, width: usize, height: usize) -> (usize, usize) {
        // The other side is cut to whole pixels.
        let part = |n: f64, long: usize, short: usize| ((n * long as f64 / short as f64) as usize).max(1);
        let (short, long) = (width.min(height), width.max(height));
        match self {
            Size::Exact { width, height } => (width, height),
            Size::Shortest(n) if width <= height => (n, part(n as f64, height, width)),
            Size::Shortest(n) => (part(n as f64, width, height), n),
            Size::Between { shortest, longest } => {
                let over = long as f64 / short as f64 * shortest as f64 > longest as f64;
                let raw = if over { longest as f64 * short as f64 / long as f64 } else { shortest as f64 };
                let n = (raw.round_ties_even() as usize).max(1);
                if short == n {
                    (width, height)
                } else if width < height {
                    (n, part(raw, height, width))
                } else {
                    (part(raw, width, height), n)
                }
            }
            Size::Within { width: w, height: h } => {
                let scale = (h as f64 / height as f64).min(w as f64 / width as f64);
                let side = |n: usize| ((n as f64 * scale) as usize).max(1);
                (side(width), side(height))
            }
        }
    }
}

/// The longest side that Idefics3 makes of any picture.
const IDEFICS_MAX: usize = 4096;

/// Idefics3's first size: the longer side `longest`, the other one even; and no side beyond its limit.
pub(super) fn idefics_size(width: usize, height: usize, longest: usize) -> (usize, usize) {
    // In f64 as the original, where a quotient may fall just below a whole number.
    let shape = |w: usize, h: usize| w as f64 / h as f64;
    let even = |n: f64| (n as usize).next_multiple_of(2).max(1);
    let ratio = shape(width, height);
    let (w, h) =
        if width >= height { (longest, even(longest as f64 / ratio)) } else { (even(longest as f64 * ratio), longest) };
    let ratio = shape(w, h);
    if w >= h && w > IDEFICS_MAX {
        (IDEFICS_MAX, ((IDEFICS_MAX as f64 / ratio) as usize).max(1))
    } else if h > w && h > IDEFICS_MAX {
        (((IDEFICS_MAX as f64 * ratio) as usize).max(1), IDEFICS_MAX)
    } else {
        (w, h)
    }
}

/// The next size that whole tiles fill.
pub(super) fn whole_tiles(width: usize, height: usize, tile: usize) -> (usize, usize) {
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

/// Sides that more than this lies between are refused, as by Qwen's own code.
const MAX_SHAPE: usize = 200;

/// Qwen2-VL's size: width and height in multiples of `unit`, the area between two bounds, the shape about the same.
///
/// Errors: a shape that is too extreme for the model.
pub(super) fn qwen_size(
    (width, height): (usize, usize),
    unit: usize,
    bounds: (usize, usize),
) -> Result<(usize, usize)> {
    if width.max(height) > MAX_SHAPE * width.min(height) {
        let e = format!("a picture of {width} x {height} is too narrow; this model takes up to {MAX_SHAPE} : 1");
        return Err(Error::invalid(e));
    }
    // A side that is rounded to nothing makes the area too small there.
    Ok(bounded((width, height), unit, bounds, 0.0))
}

/// The size that Qwen's processor takes, of any shape, a side that would be rounded to nothing being one `unit` from the start.
pub fn in_units(size: (usize, usize), unit: usize, bounds: (usize, usize)) -> (usize, usize) {
    bounded(size, unit, bounds, unit as f64)
}

fn bounded(
    (width, height): (usize, usize),
    unit: usize,
    (least, most): (usize, usize),
    shortest: f64,
) -> (usize, usize) {
    let (w, h, u) = (width as f64, height as f64, unit as f64);
    let near = |n: f64| ((n / u).round_ties_even() * u).max(shortest);
    let (mut to_w, mut to_h) = (near(w), near(h));
    if to_w * to_h > most as f64 {
        let by = (h * w / most as f64).sqrt();
        let down = |n: f64| ((n / by / u).floor() * u).max(u);
        (to_w, to_h) = (down(w), down(h));
    } else if to_w * to_h < least as f64 {
        let by = (least as f64 / (h * w)).sqrt();
        let up = |n: f64| (n * by / u).ceil() * u;
        (to_w, to_h) = (up(w), up(h));
    }
    (to_w.max(u) as usize, to_h.max(u) as usize)
}

/// SigLIP 2's size: as large as `most` patches of `side` pixels allow, the shape about the same, both sides in whole
/// patches. A bisection of the scale, stopped where the library stops it.
pub(super) fn listed_size((width, height): (usize, usize), side: usize, most: usize) -> (usize, usize) {
    const STEP: f64 = 1e-5;
    let u = side as f64;
    let sides = |scale: f64| [width, height].map(|n| ((n as f64 * scale / u).ceil() * u).max(u));
    let (mut low, mut high) = (STEP / 10.0, 100.0);
    while high - low >= STEP {
        let scale = (low + high) / 2.0;
        let [w, h] = sides(scale);
        if (w / u) * (h / u) <= most as f64 { low = scale } else { high = scale }
    }
    let [w, h] = sides(low);
    (w as usize, h as usize)
}

/// Columns and rows of tiles whose shape is nearest that of the picture, of `least` to `most` tiles together (InternVL);
/// of equal ones the last that the picture has pixels for.
pub(super) fn nearest_tiles(
    (width, height): (usize, usize),
    (tile_w, tile_h): (usize, usize),
    (least, most): (usize, usize),
) -> (usize, usize) {
    let shapes = (1..=most).flat_map(|c| (1..=most / c).map(move |r| (c, r)));
    let mut shapes: Vec<(usize, usize)> = shapes.filter(|(c, r)| c * r >= least).collect();
    shapes.sort_by_key(|(c, r)| c * r);
    let shape = width as f64 / height as f64;
    let (mut found, mut best) = ((1, 1), f64::INFINITY);
    for (c, r) in shapes {
        let off = (shape - c as f64 / r as f64).abs();
        let room = (width * height) as f64 > 0.5 * (tile_w * tile_h * c * r) as f64;
        if off < best || (off == best && room) {
            (found, best) = ((c, r), off);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn qwens_sizes_are_multiples_within_bounds() {
        // 50 / 14 = 3.57 and 36 / 14 = 2.57: 56 x 42, more than 1372: by 1.145 less, cut down.
        assert_eq!(qwen_size((50, 36), 14, (784, 1372)).unwrap(), (42, 28));
        assert_eq!(qwen_size((50, 36), 14, (784, 5000)).unwrap(), (56, 42));
        // 14 x 14 is too little: 10 · 2.8 = 28.
        assert_eq!(qwen_size((10, 10), 14, (784, 5000)).unwrap(), (28, 28));
        // Half of a unit goes to the even multiple.
        assert_eq!(qwen_size((35, 21), 14, (1, 5000)).unwrap(), (28, 28));
        assert!(qwen_size((2001, 10), 14, (1, 5000)).is_err());
    }

    #[test]
    fn as_many_patches_as_fit() {
        // 2 : 1 of eight patches is 4 x 2; of seven, 3 x 2, since 4 x 1 is met at a smaller scale.
        assert_eq!(listed_size((200, 100), 16, 8), (64, 32));
        assert_eq!(listed_size((200, 100), 16, 7), (48, 32));
        // A line is one patch high.
        assert_eq!(listed_size((1000, 1), 16, 9), (144, 16));
        assert_eq!(listed_size((3, 3), 4, 1), (4, 4));
    }

    #[test]
    fn tiles_follow_the_shape_of_the_picture() {
        assert_eq!(nearest_tiles((31, 64), (20, 20), (1, 3)), (1, 2));
        // 1 : 1 comes as 1 and as 2 x 2; the larger needs more than half of its pixels.
        assert_eq!(nearest_tiles((30, 30), (20, 20), (1, 4)), (2, 2));
        assert_eq!(nearest_tiles((28, 28), (20, 20), (1, 4)), (1, 1));
        // 3 : 1 comes as 3 and as 12, and there are pixels for the larger.
        assert_eq!(nearest_tiles((300, 100), (20, 20), (2, 12)), (6, 2));
        assert_eq!(nearest_tiles((60, 20), (20, 20), (2, 12)), (3, 1));
    }

    #[test]
    fn sizes_by_hand() {
        let of = |v: Value, by_shortest: bool| Size::read(&v, by_shortest).map(|s| s.of(100, 40));
        assert_eq!(of(json!(20), false).unwrap(), (20, 20));
        assert_eq!(of(json!(20), true).unwrap(), (50, 20));
        assert_eq!(of(json!([30, 20]), true).unwrap(), (20, 30));
        assert_eq!(of(json!({ "height": 30, "width": 20 }), true).unwrap(), (20, 30));
        // 100 would be 75 at 30; the bound 60 asks for 24.
        assert_eq!(of(json!({ "shortest_edge": 30, "longest_edge": 60 }), true).unwrap(), (60, 24));
        assert_eq!(of(json!({ "max_height": 100, "max_width": 33 }), true).unwrap(), (33, 13));
        for bad in [json!({ "longest_edge": 5 }), json!(-1), json!(0), json!("5"), json!({}), json!([1, 2, 3])] {
            assert!(of(bad.clone(), true).is_err(), "{bad}");
        }
    }

    #[test]
    fn idefics_keeps_the_other_side_even_and_both_within_its_limit() {
        assert_eq!(idefics_size(75, 50, 64), (64, 42));
        // 64 · 47 / 61 = 49.3, made even.
        assert_eq!(idefics_size(61, 47, 64), (64, 50));
        assert_eq!(idefics_size(100, 50, 8192), (4096, 2048));
        assert_eq!(whole_tiles(64, 42, 32), (64, 64));
    }
}
