//! PVC: what a frame adds to the frames before it, patch by patch, which is what a progressive encoding is for.
//!
//! Source: Yang et al. 2024, "PVC: Progressive Visual Token Compression for Unified Image and Video Processing in Large
//! Vision-Language Models", arXiv 2412.09613; the measure is our own. Takes: features `[frames, rows, columns, d]`. Gives:
//! how new each patch and each group of a pixel shuffle is. Departs: see [`Info::departs`]. Cost: O(frames² · n · d).

use super::Method;
use super::patches::{self, LAYER, Patches};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Figure, Finding, Measure, Plot, Series, Style, Unit};
use crate::math::{dot, length};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const SHUFFLE: Param = Param::count("shuffle", "Patches along a side that become one token", 1, 16, 2);

static INFO: Info = Info {
    id: "pvc_novelty",
    title: "Novelty of frames",
    summary: "Measures what each frame adds to those before it, patch by patch.",
    family: "image tokens",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "PVC: Progressive Visual Token Compression for Unified Image and Video Processing in Large Vision-Language \
                Models",
        authors: "Yang et al.",
        year: 2024,
        arxiv: "2412.09613",
    }),
    departs: "the temporal attention that makes repeated frames differ is trained and left out, so novelty is that of the \
              patches themselves; tiles of one picture stand for frames, in their order; groups that are not whole are left out",
    needs: &[Need::ImageTokens, Need::Residual],
    params: &[SHUFFLE, LAYER],
    role: Role::StandIn,
    raw: &[Adapter { name: "pvc_novelty", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct PvcNovelty;

impl Method for PvcNovelty {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let vision = patches::encoder(on, &INFO)?;
        let (tiles, left_out) = patches::alike(Patches::of(on, params, &INFO)?);
        let side = params.count(&SHUFFLE) as usize;
        let frames: Vec<&Array> = tiles.iter().map(|t| &t.x).collect();
        let new = novelty(&frames, ctx)?;
        let groups = grouped(&new, tiles[0].grid, side);
        let values: Vec<Vec<f32>> = new.iter().map(|f| f.iter().map(|v| *v as f32).collect()).collect();
        let title = "new since the frames before";
        let heat = patches::heat(on, title, Measure::new("novelty", "1 − cosine"), vision, &tiles, &values);
        let share = shares(&new);
        let tokens = groups.first().map_or(0, Vec::len);
        let points = |v: &[f64]| v.iter().enumerate().map(|(t, v)| [t as f64, *v]).collect::<Vec<_>>();
        let plot = Plot::new(
            "novelty by frame",
            Axis::Unit(Unit::Steps),
            Measure::new("novelty", "1 − cosine"),
            vec![Series::new("mean of the patches", Style::Line, points(&share))],
        );
        let mut out = Finding::of(heat)
            .with(plot)
            .figure(Figure::new("tokens a frame", Datum::Count(tokens), "Groups of the pixel shuffle"))
            .figure(Figure::new(
                "new tokens",
                Datum::Number(share.iter().sum::<f64>() * tokens as f64),
                "Tokens of all frames, each frame's by its mean novelty",
            ));
        out.notes.extend(left_out);
        if tiles.len() == 1 {
            out.notes.push("There is one tile, and all of a first frame is new.".into());
        }
        Ok(out)
    }
}

/// 1 − the largest cosine of each patch with the same patch of a frame before; 1 in the first frame.
fn novelty(frames: &[&Array], ctx: &Ctx) -> Result<Vec<Vec<f64>>> {
    let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (length(a).max(1e-12) * length(b).max(1e-12));
    let mut out = Vec::with_capacity(frames.len());
    for (t, frame) in frames.iter().enumerate() {
        ctx.step(t, frames.len())?;
        let [n, _] = frame.dims("frame")?;
        let most =
            |i: usize| frames[..t].iter().map(|f| cosine(frame.row(i), f.row(i))).fold(f64::NEG_INFINITY, f64::max);
        out.push((0..n).map(|i| if t == 0 { 1.0 } else { 1.0 - most(i) }).collect());
    }
    Ok(out)
}

/// Means over squares of this side, row by row; squares that are not whole are left out.
fn grouped(values: &[Vec<f64>], (rows, cols): (usize, usize), side: usize) -> Vec<Vec<f64>> {
    let (down, across) = (rows / side, cols / side);
    let mean = |f: &Vec<f64>, g: usize| {
        let (y, x) = (g / across * side, g % across * side);
        let cells = (0..side).flat_map(|a| (0..side).map(move |b| (y + a) * cols + x + b));
        cells.map(|c| f[c]).sum::<f64>() / (side * side) as f64
    };
    values.iter().map(|f| (0..down * across).map(|g| mean(f, g)).collect()).collect()
}

/// Mean of each frame.
fn shares(values: &[Vec<f64>]) -> Vec<f64> {
    values.iter().map(|f| f.iter().sum::<f64>() / f.len().max(1) as f64).collect()
}

/// Raw entry: `feats` `[frames, rows, columns, d]`, `shuffle`, which divides rows and columns.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, [t, rows, cols, d]) = input.finite("feats")?;
    let side: usize = input.read_or("shuffle", 2)?;
    if side == 0 || rows * cols == 0 || rows % side != 0 || cols % side != 0 {
        return Err(Error::invalid(format!("squares of {side} on a grid of {rows} by {cols}; they must divide it")));
    }
    let frames: Vec<Array> = (0..t).map(|f| Array::new([rows * cols, d], x.row(f).to_vec())).collect::<Result<_>>()?;
    let new = novelty(&frames.iter().collect::<Vec<_>>(), ctx)?;
    let share = shares(&new);
    let tokens = rows * cols / (side * side);
    Ok(json!({
        "group_novelty": grouped(&new, (rows, cols), side),
        "new_tokens": share.iter().map(|s| s * tokens as f64).sum::<f64>(),
        "novelty": new,
        "share_new": share,
        "tokens_per_frame": tokens,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_any_frame_before_showed_is_not_new_and_nothing_is_like_zero() {
        let frame = |v: [f32; 4]| Array::new([2, 2], v.to_vec()).unwrap();
        let frames = [frame([1.0, 0.0, 0.0, 1.0]), frame([0.0, 2.0, 0.0, 0.0]), frame([5.0, 0.0, 0.0, -1.0])];
        let new = novelty(&frames.iter().collect::<Vec<_>>(), &Ctx::default()).unwrap();
        // The second patch points away from the first frame, and has no cosine with the zeros of the second.
        assert_eq!(new, [[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]]);
        assert_eq!((grouped(&new, (1, 2), 1)[2].as_slice(), shares(&new)[2]), (&[0.0, 1.0][..], 0.5));
        assert_eq!(grouped(&[vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], (2, 3), 2), [[3.0]]);
    }
}
