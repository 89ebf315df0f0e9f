//! Triad: what stands out in a picture is looked at once more, in crops around it.
//!
//! Source: Li et al. 2025, "Triad: Empowering LMM-based Anomaly Detection with Vision Expert-guided Visual Tokenizer and
//! Manufacturing Process", arXiv 2503.13184; tzjtatata/Triad at 91cb5aa, `llava/mm_utils.py`. Takes: a map of what is
//! unusual. Gives: boxes around what is most unusual. Departs: see [`Info::departs`]. Cost: O(n² · d + pixels).

use super::Method;
use super::patches::{self, LAYER, Patches};
use crate::ctx::Ctx;
use crate::finding::{Class, Datum, Figure, Finding, Image, Look, Measure, Outline, Raster, Region, Table};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::cosine_matrix;
use crate::passes::host::resample::bilinear_at;
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const TARGET: Param =
    Param::count("target", "Side of a crop in pixels of the map, which is the picture where it is small", 1, 4096, 48);
const SHARE: Param = Param::share("threshold", "Share of the range of the map above which something stands out", 0.9);
const MOST: Param = Param::count("max_boxes", "Crops at most", 1, 64, 4);

static INFO: Info = Info {
    id: "triad_roi",
    title: "Triad's regions",
    summary: "Draws boxes around what is unlike everything else in the picture.",
    family: "image tokens",
    basis: Basis::Authors { repo: "tzjtatata/Triad", commit: "91cb5aa" },
    paper: Some(Paper {
        title: "Triad: Empowering LMM-based Anomaly Detection with Vision Expert-guided Visual Tokenizer and Manufacturing \
                Process",
        authors: "Li et al.",
        year: 2025,
        arxiv: "2503.13184",
    }),
    departs: "the map is an expert's there; here 1 − the largest cosine of a patch with any other patch of the picture \
              stands in, resized to the picture, or to at most 512 pixels a side; of tiles the first is looked at; crops are \
              drawn and not read once more",
    needs: &[Need::ImageTokens, Need::Residual],
    params: &[TARGET, SHARE, MOST, LAYER],
    role: Role::StandIn,
    raw: &[Adapter { name: "triad_roi", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct TriadRoi;

/// Longest side of a map that is made here.
const MAX_SIDE: f32 = 512.0;

impl Method for TriadRoi {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let vision = patches::encoder(on, &INFO)?;
        let tiles = Patches::of(on, params, &INFO)?;
        let tile = &tiles[0];
        let cosines = cosine_matrix::of_itself(&tile.x, ctx)?;
        let alone = |i: usize| {
            let others = cosines.row(i).iter().enumerate().filter(|(j, _)| *j != i).map(|(_, c)| *c);
            1.0 - others.fold(-1.0, f32::max)
        };
        let unusual: Vec<f32> = (0..tile.len()).map(alone).collect();
        // The part of the picture that the tile shows.
        let area = tile.span(vision, 0, tile.len() - 1);
        let [left, top, across, down] = area.unwrap_or([0.0, 0.0, tile.grid.1 as f32, tile.grid.0 as f32]);
        let scale = (MAX_SIDE / across.max(down)).min(1.0);
        let size = |length: f32| ((length * scale).round() as usize).max(1);
        let (width, height) = (size(across), size(down));
        let map = resized(&unusual, tile.grid, (height, width));
        let finder = Finder { width, height, target: params.count(&TARGET) };
        let (mask, least) = over(&map, params.share(&SHARE));
        let boxes = finder.boxes(&mask, params.count(&MOST) as usize, ctx)?;
        let (sx, sy) = (across / width as f32, down / height as f32);
        let region = |(i, b): (usize, &Box4)| {
            let rect = [
                left + b[0] as f32 * sx,
                top + b[1] as f32 * sy,
                (b[2] - b[0] + 1) as f32 * sx,
                (b[3] - b[1] + 1) as f32 * sy,
            ];
            Region { outline: Outline::Rect(rect), label: (i + 1).to_string(), class: Some(0), value: None }
        };
        let measure = Measure::new("unlike", "1 − cosine");
        let values = std::slice::from_ref(&unusual);
        let heat = patches::heat(on, "unlike everything else", measure, vision, std::slice::from_ref(tile), values);
        let mut out = Finding::of(heat);
        if let Some((w, h)) = on.trace.image_size.filter(|s| s.0 > 0 && s.1 > 0) {
            out.pictures.insert(
                0,
                Image {
                    regions: boxes.iter().enumerate().map(region).collect(),
                    classes: vec![Class::new("crop", "looked at once more", Look::Category(0))],
                    ..Image::new("crops", [w as usize, h as usize], Raster::Input)
                }
                .into(),
            );
        }
        let mut table = Table::new(&["box", "left", "top", "right", "bottom"]).titled("boxes in pixels of the map");
        table.rows.extend(
            boxes
                .iter()
                .enumerate()
                .map(|(i, b)| std::iter::once(json!(i + 1)).chain(b.iter().map(|v| json!(v))).collect::<Vec<Value>>()),
        );
        let what = format!("Of a map of {width} by {height}, which goes from 0 up");
        Ok(out
            .with(table)
            .figure(Figure::new("crops", Datum::Count(boxes.len()), "Boxes that are looked at"))
            .figure(Figure::new("threshold", Datum::Number(f64::from(least)), what)))
    }
}

/// A map over a grid, interpolated to this height and width.
fn resized(x: &[f32], (rows, cols): (usize, usize), (height, width): (usize, usize)) -> Vec<f32> {
    let down: Vec<_> = (0..height).map(|i| bilinear_at(i, height, rows)).collect();
    let across: Vec<_> = (0..width).map(|i| bilinear_at(i, width, cols)).collect();
    let cell = |(y, x_at): (usize, usize)| {
        let of =
            |&(r, v): &(usize, f64)| across[x_at].iter().map(|&(c, w)| v * w * f64::from(x[r * cols + c])).sum::<f64>();
        down[y].iter().map(of).sum::<f64>() as f32
    };
    (0..height).flat_map(|y| (0..width).map(move |x| (y, x))).map(cell).collect()
}

/// What is above a share of the range of a map, and where that begins; in single precision.
fn over(map: &[f32], share: f64) -> (Vec<bool>, f32) {
    let (low, high) = map.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let least = low + share as f32 * (high - low);
    (map.iter().map(|v| *v > least).collect(), least)
}

/// Left, top, right and bottom, the last ones inside.
type Box4 = [i64; 4];

/// Finds boxes on a map.
struct Finder {
    width: usize,
    height: usize,
    target: i64,
}

impl Finder {
    /// Boxes around what is set: each is grown to the target and joined with one that it overlaps; then made square, and
    /// the first ones are kept.
    fn boxes(&self, mask: &[bool], most: usize, ctx: &Ctx) -> Result<Vec<Box4>> {
        let mut out: Vec<Box4> = Vec::new();
        let found = self.outer(mask);
        for (i, own) in found.iter().enumerate() {
            ctx.step(i, found.len())?;
            let grown = self.expand(*own, self.target);
            let mut known = false;
            for other in &mut out {
                if overlap(own, other) > 0.8 {
                    known = true;
                } else if overlap(&grown, other) > 0.1 {
                    known = true;
                    *other = [
                        other[0].min(grown[0]),
                        other[1].min(grown[1]),
                        other[2].max(grown[2]),
                        other[3].max(grown[3]),
                    ];
                }
                if known {
                    break;
                }
            }
            if !known {
                out.push(grown);
            }
        }
        Ok(out.into_iter().take(most).map(|b| self.expand(b, 1)).collect())
    }

    /// Boxes of what hangs together over sides and corners and lies in no hole of another, the last found first.
    fn outer(&self, mask: &[bool]) -> Vec<Box4> {
        let (w, h) = (self.width as i64, self.height as i64);
        let inside = |x: i64, y: i64| (0..w).contains(&x) && (0..h).contains(&y);
        let at = |x: i64, y: i64| (y * w + x) as usize;
        // The open ground around everything, which goes on over sides alone.
        let mut open = vec![false; mask.len()];
        let edge = (0..w).flat_map(|x| [(x, 0), (x, h - 1)]).chain((0..h).flat_map(|y| [(0, y), (w - 1, y)]));
        let mut todo: Vec<(i64, i64)> = edge.filter(|&(x, y)| inside(x, y)).collect();
        while let Some((x, y)) = todo.pop() {
            if inside(x, y) && !mask[at(x, y)] && !open[at(x, y)] {
                open[at(x, y)] = true;
                todo.extend([(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]);
            }
        }
        let mut seen = vec![false; mask.len()];
        let mut out = Vec::new();
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            if !mask[at(x, y)] || seen[at(x, y)] {
                continue;
            }
            // Its first pixel has open ground at its left, or it lies in a hole.
            let outside = x == 0 || open[at(x - 1, y)];
            let mut own = [x, y, x, y];
            let mut todo = vec![(x, y)];
            while let Some((x, y)) = todo.pop() {
                if !inside(x, y) || !mask[at(x, y)] || seen[at(x, y)] {
                    continue;
                }
                seen[at(x, y)] = true;
                own = [own[0].min(x), own[1].min(y), own[2].max(x), own[3].max(y)];
                todo.extend((-1..=1).flat_map(|a| (-1..=1).map(move |b| (x + a, y + b))));
            }
            if outside {
                out.push(own);
            }
        }
        out.reverse();
        out
    }

    /// A box of at least `target` a side, as far as it fits: around the old one, else to its left or top, else to its
    /// right or bottom, else the whole length; a box that is longer than that becomes a square.
    fn expand(&self, b: Box4, target: i64) -> Box4 {
        let sides = [b[2] - b[0] + 1, b[3] - b[1] + 1];
        let target = if sides.iter().any(|s| *s >= target) { sides[0].max(sides[1]) } else { target };
        let along = |low: i64, high: i64, size: i64| {
            let more = target - (high - low + 1);
            if more <= 0 {
                return (low, high);
            }
            let tries = [(low - more / 2, high + more - more / 2), (low - more, high), (low, high + more)];
            tries.into_iter().find(|t| t.0 >= 0 && t.1 < size).unwrap_or((0, size - 1))
        };
        let (x, y) = (along(b[0], b[2], self.width as i64), along(b[1], b[3], self.height as i64));
        [x.0, y.0, x.1, y.1]
    }
}

/// What two boxes share of the smaller one; sides count from the first to the last pixel, so that a line has no area.
fn overlap(a: &Box4, b: &Box4) -> f64 {
    let area = |b: &Box4| (b[2] - b[0]) * (b[3] - b[1]);
    let (w, h) = (a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1]));
    let smaller = area(a).min(area(b));
    if w > 0 && h > 0 && smaller > 0 { (w * h) as f64 / smaller as f64 } else { 0.0 }
}

/// Raw entry: `map` `[height, width]`, `target`, `threshold`, `max_boxes`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (map, [height, width]) = input.finite("map")?;
    let target: usize = input.read("target")?;
    let share: f64 = input.read_or("threshold", 0.9)?;
    if height * width == 0 || !(1..=1 << 24).contains(&target) {
        return Err(Error::invalid(format!("crops of {target} on a map of {width} by {height}")));
    }
    let (mask, least) = over(map.data(), share);
    let boxes = Finder { width, height, target: target as i64 }.boxes(&mask, input.read_or("max_boxes", 4)?, ctx)?;
    Ok(json!({ "boxes": boxes, "threshold": least }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(rows: &[&str]) -> (Finder, Vec<bool>) {
        let mask = rows.iter().flat_map(|r| r.bytes().map(|b| b == b'#')).collect();
        (Finder { width: rows[0].len(), height: rows.len(), target: 1 }, mask)
    }

    #[test]
    fn what_lies_in_a_hole_is_not_found_and_the_last_comes_first() {
        let (f, m) = mask(&["#####..", "#...#..", "#.#.#.#", "#...#.#", "#####.."]);
        assert_eq!(f.outer(&m), [[6, 2, 6, 3], [0, 0, 4, 4]]);
        // Corners join what is set, but open ground does not go on over them.
        let (f, m) = mask(&[".#.", "#.#", ".#."]);
        assert_eq!(f.outer(&m), [[0, 0, 2, 2]]);
    }

    #[test]
    fn boxes_grow_around_themselves_or_from_the_edge() {
        let f = Finder { width: 10, height: 10, target: 4 };
        // Three more: one to the left, two to the right; at the edge all to one side.
        assert_eq!(f.expand([4, 0, 4, 0], 4), [3, 0, 6, 3]);
        assert_eq!(f.expand([9, 5, 9, 5], 4), [6, 4, 9, 7]);
        // A long one becomes a square, and where that does not fit the whole length is taken.
        assert_eq!(f.expand([0, 2, 7, 3], 4), [0, 2, 7, 9]);
        assert_eq!(Finder { height: 6, ..f }.expand([0, 2, 7, 3], 4), [0, 0, 7, 5]);
    }

    #[test]
    fn boxes_that_overlap_are_joined_and_lines_overlap_nothing() {
        let f = Finder { width: 40, height: 8, target: 4 };
        let mut m = vec![false; 320];
        [(3, 3), (5, 3), (30, 3)].into_iter().for_each(|(x, y): (usize, usize)| m[y * 40 + x] = true);
        // Grown to 2..=5 and 4..=7 they share a third; both together are 2..=7, made square.
        assert_eq!(f.boxes(&m, 4, &Ctx::default()).unwrap(), [[29, 2, 32, 5], [2, 1, 7, 6]]);
        assert_eq!(f.boxes(&m, 1, &Ctx::default()).unwrap().len(), 1);
        assert_eq!(overlap(&[0, 0, 0, 9], &[0, 0, 9, 9]), 0.0);
        assert!(over(&[1.0; 4], 0.9).0.iter().all(|m| !m));
    }
}
