//! Delta tokens: how much of what changes between two frames one token could carry.
//!
//! Source: Kerssies et al. 2026, "A Frame is Worth One Token: Efficient Generative World Modeling with Delta Tokens";
//! the measures are our own. Takes: features `[frames, n, d]`. Gives: the energy of the change of each patch, the share of
//! it that one shared vector explains, and the share that one vector with a weight for each patch could. Departs: see
//! [`Info::departs`]. Cost: O(frames · n² · d) at most, memory O(n²).

use super::Method;
use super::patches::{self, LAYER, Patches};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Figure, Finding, Measure, Plot, Series, Style, Unit};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::host::eigenvalues;
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};

const FIRST: Param =
    Param::choice("first", "What the first frame is compared with: a black frame, or nothing", &["zero", "skip"]);

static INFO: Info = Info {
    id: "delta_frames",
    title: "Delta tokens",
    summary: "Measures how much of what changes from frame to frame one token could carry.",
    family: "image tokens",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "A Frame is Worth One Token: Efficient Generative World Modeling with Delta Tokens",
        authors: "Kerssies et al.",
        year: 2026,
        arxiv: "",
    }),
    departs: "the encoder that makes one token of a change is trained, so only what it could carry at best is measured; \
              tiles of one picture stand for frames, in their order, and a picture that is not tiled is one frame that comes \
              after black",
    needs: &[Need::ImageTokens, Need::Residual],
    params: &[FIRST, LAYER],
    role: Role::StandIn,
    raw: &[Adapter { name: "delta_frames", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct DeltaFrames;

impl Method for DeltaFrames {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let vision = patches::encoder(on, &INFO)?;
        let (tiles, left_out) = patches::alike(Patches::of(on, params, &INFO)?);
        let zero = params.choice(&FIRST) == "zero";
        let frames: Vec<&Array> = tiles.iter().map(|t| &t.x).collect();
        let found = changes(&frames, zero, ctx)?;
        let energy: Vec<Vec<f32>> = found.iter().map(|c| c.energy.iter().map(|e| *e as f32).collect()).collect();
        let heat = patches::heat(
            on,
            "energy of the change",
            Measure::new("energy", "squared length"),
            vision,
            &tiles,
            &energy,
        );
        let points = |f: fn(&Change) -> f64| found.iter().enumerate().map(|(t, c)| [t as f64, f(c)]).collect();
        let series = vec![
            Series::new("one shared vector", Style::Line, points(|c| c.mean_share)),
            Series::new("one vector with a weight a patch", Style::Line, points(|c| c.rank1_share)),
        ];
        let n = tiles[0].len();
        let plot = Plot::new("what one token explains", Axis::Unit(Unit::Steps), Measure::new("share", ""), series);
        let last = found.last().map_or((0.0, 0.0), |c| (c.mean_share, c.rank1_share));
        let mut out = Finding::of(heat)
            .with(plot)
            .figure(Figure::new("tokens before", Datum::Count(n * tiles.len()), "Patches of all frames"))
            .figure(Figure::new("tokens after", Datum::Count(tiles.len()), "One a frame"))
            .figure(Figure::new(
                "shared",
                Datum::Share(last.0),
                "Energy of the last change that is the same everywhere",
            ))
            .figure(Figure::new(
                "one token",
                Datum::Share(last.1),
                "Energy of the last change that one vector explains",
            ));
        out.notes.extend(left_out);
        if tiles.len() == 1 {
            out.notes.push("There is one tile, so what changes is the whole of it, from black.".into());
        }
        Ok(out)
    }
}

/// What changes from one frame to the next.
struct Change {
    /// Squared length of each patch's change.
    energy: Vec<f64>,
    /// Sum of these.
    whole: f64,
    /// Share of it that the mean change explains.
    mean_share: f64,
    /// Share of it that the best vector with a weight for each patch explains.
    rank1_share: f64,
}

/// Changes between frames `[n, d]`; the first one's is from black, or nothing.
fn changes(frames: &[&Array], zero: bool, ctx: &Ctx) -> Result<Vec<Change>> {
    let mut out = Vec::with_capacity(frames.len());
    for (t, frame) in frames.iter().enumerate() {
        ctx.step(t, frames.len())?;
        let [n, d] = frame.dims("frame")?;
        let before = |i: usize| match t {
            0 if zero => 0.0,
            0 => f64::from(frame.data()[i]),
            _ => f64::from(frames[t - 1].data()[i]),
        };
        let delta: Vec<f64> = frame.data().iter().enumerate().map(|(i, v)| f64::from(*v) - before(i)).collect();
        let energy: Vec<f64> = delta.chunks(d.max(1)).map(|r| r.iter().map(|v| v * v).sum()).collect();
        let whole: f64 = energy.iter().sum();
        let mut mean = vec![0f64; d];
        delta.chunks(d.max(1)).for_each(|r| mean.iter_mut().zip(r).for_each(|(m, v)| *m += v / n as f64));
        let (mean_share, rank1_share) = if whole > 0.0 {
            let shared = n as f64 * mean.iter().map(|m| m * m).sum::<f64>();
            (shared / whole, largest_square(&delta, n, d, &ctx.part(t, frames.len()))? / whole)
        } else {
            (0.0, 0.0)
        };
        out.push(Change { energy, whole, mean_share, rank1_share });
    }
    Ok(out)
}

/// Below this side the eigenvalues are all computed.
const SMALL: usize = 48;
/// Most products of a matrix and a vector.
const ROUNDS: usize = 400;

/// The square of the largest singular value of a matrix `[n, d]`.
fn largest_square(x: &[f64], n: usize, d: usize, ctx: &Ctx) -> Result<f64> {
    let side = n.min(d);
    ctx.fits((16 * side * side) as u64, "take a smaller picture")?;
    let x = Tensor::from_slice(x, (n, d), &Device::Cpu)?;
    let t = x.t()?.contiguous()?;
    let gram: Vec<f64> = if n <= d { x.matmul(&t)? } else { t.matmul(&x)? }.flatten_all()?.to_vec1()?;
    if side <= SMALL {
        return Ok(eigenvalues::symmetric(gram, side).into_iter().fold(0.0, f64::max));
    }
    // Powers of the matrix, from a vector that leans to no side.
    let mut v: Vec<f64> = (0..side).map(|i| 1.0 + ((i * 7919 + 13) % 1009) as f64 / 1009.0).collect();
    let mut value = 0.0;
    for round in 0..ROUNDS {
        ctx.step(round, ROUNDS)?;
        let w: Vec<f64> = gram.chunks(side).map(|r| r.iter().zip(&v).map(|(a, b)| a * b).sum()).collect();
        let length = w.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            break;
        }
        v = w.into_iter().map(|x| x / length).collect();
        if (length - value).abs() <= 1e-10 * length {
            return Ok(length);
        }
        value = length;
    }
    Ok(value)
}

/// Raw entry: `feats` `[frames, n, d]`, `first` "skip" or "zero".
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, [t, n, _]) = input.finite("feats")?;
    let zero = match input.read_or("first", "skip".to_string())?.as_str() {
        "zero" => true,
        "skip" => false,
        other => return Err(Error::invalid(format!("field first is {other}; it is skip or zero"))),
    };
    let frames: Vec<Array> = (0..t).map(|i| x.sub(i)).collect();
    let found = changes(&frames.iter().collect::<Vec<_>>(), zero, ctx)?;
    let of = |f: fn(&Change) -> f64| found.iter().map(f).collect::<Vec<_>>();
    Ok(json!({
        "energy": found.iter().map(|c| &c.energy).collect::<Vec<_>>(),
        "frame_energy": of(|c| c.whole),
        "mean_share": of(|c| c.mean_share),
        "rank1_share": of(|c| c.rank1_share),
        "tokens_before": t * n,
        "tokens_after": t,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_change_is_one_vector_and_two_that_cross_are_half() {
        let a = Array::zeros([2, 2]);
        let same = Array::new([2, 2], vec![3.0, 0.0, 3.0, 0.0]).unwrap();
        let cross = Array::new([2, 2], vec![4.0, 0.0, 3.0, 1.0]).unwrap();
        let found = changes(&[&a, &same, &cross], false, &Ctx::default()).unwrap();
        assert_eq!((found[0].whole, found[0].mean_share, found[0].rank1_share), (0.0, 0.0, 0.0));
        assert!((found[1].mean_share - 1.0).abs() < 1e-12 && (found[1].rank1_share - 1.0).abs() < 1e-12);
        // (1, 0) and (0, 1): the mean explains half, and so does the best single vector.
        assert_eq!(found[2].energy, [1.0, 1.0]);
        assert!((found[2].mean_share - 0.5).abs() < 1e-12 && (found[2].rank1_share - 0.5).abs() < 1e-12);
        // From black the first frame is all change.
        assert_eq!(changes(&[&same], true, &Ctx::default()).unwrap()[0].whole, 18.0);
    }

    #[test]
    fn large_matrices_by_powers_agree_with_the_sum_of_a_rank_one() {
        let (n, d) = (60, 70);
        let row = |i: usize| (0..d).map(move |j| ((i + 1) as f64 * 0.1).sin() * ((j + 2) as f64 * 0.3).cos());
        let x: Vec<f64> = (0..n).flat_map(row).collect();
        let whole: f64 = x.iter().map(|v| v * v).sum();
        assert!((largest_square(&x, n, d, &Ctx::default()).unwrap() / whole - 1.0).abs() < 1e-9);
    }
}
