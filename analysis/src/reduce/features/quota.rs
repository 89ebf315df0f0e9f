//! QuoTA: frames get tokens by how much they have to do with what is asked.
//!
//! Source: Luo et al. 2025, "QuoTA: Query-oriented Token Assignment via CoT Query Decouple for Long Video Comprehension",
//! arXiv 2503.08689; MAC-AutoML/QuoTA at ec194d7cf4, `core/llava_arch.py`. Takes: features of frames, how likely each has
//! to do with the question. Gives: tokens for each frame, and the frame made of as many. Departs: see [`Info::departs`].
//! Cost: O(n · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::{cosine, largest};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::host::resample::{self, Weights};
use crate::raw::{Adapter, RawInput};
use crate::reduce::matching::bipartite_soft_matching;
use crate::reduce::noted::question;
use crate::reduce::place::{Place, image_cut};
use crate::reduce::seen::pick;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const KEEP: Param = Param::share("keep", "Share of all tokens that is given out", 0.25);
const POWER: Param = Param::number("power", "Power of a frame's relevance that its share goes by", 0.0, 16.0, 2.0);

static INFO: Info = Info {
    id: "quota",
    title: "QuoTA",
    summary: "Gives each tile of the picture as many tokens as it has to do with what is asked.",
    family: "image features",
    basis: Basis::Authors { repo: "MAC-AutoML/QuoTA", commit: "ec194d7cf4" },
    paper: Some(Paper {
        title: "QuoTA: Query-oriented Token Assignment via CoT Query Decouple for Long Video Comprehension",
        authors: "Luo et al.",
        year: 2025,
        arxiv: "2503.08689",
    }),
    departs: "tiles of one picture are the frames; there a second model is asked about each frame, here (1 + cosine) / 2 of \
              the tile's mean feature with the mean embedding of the text behind the image stands in; a frame is pooled \
              adaptively (their v2), as resizing by interpolation leaves most of a large frame out; no frame gets more tokens \
              than it has, and one token stays",
    needs: &[Need::ReadsImage],
    params: &[KEEP, POWER],
    role: Role::StandIn,
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct Quota;

impl Method for Quota {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let text = question(on, &INFO)?;
        let place = image_cut(on, params, &INFO)?;
        if place != Place::Features {
            return Err(INFO.needs(Need::ReadsImage.words()));
        }
        let (keep, power) = (params.share(&KEEP), params.number(&POWER));
        Ok(Box::new(Asked::at([place], move |seen, ctx| {
            let x = pick(&seen.values()?, seen.open())?;
            let tiles = seen.tiles();
            let sizes: Vec<usize> = tiles.iter().map(|t| t.1 * t.2).collect();
            let mean = |first: usize, n: usize| {
                pick(&x, &(first..first + n).collect::<Vec<_>>()).map(|part| part.mean_over_first())
            };
            let relevance = tiles
                .iter()
                .zip(&sizes)
                .map(|(t, n)| Ok((1.0 + cosine(&mean(t.0, *n)?, &text)) / 2.0))
                .collect::<Result<Vec<f64>>>()?;
            let total = keep * sizes.iter().sum::<usize>() as f64;
            let weights = normalised(relevance.iter().map(|p| p.powf(power)).collect());
            let most: Vec<f64> = sizes.iter().map(|n| *n as f64 / total.max(1.0)).collect();
            let weights = capped(&weights, &most);
            let mut tokens: Vec<usize> =
                weights.iter().zip(&sizes).map(|(w, n)| ((total * w) as usize).min(*n)).collect();
            if tokens.iter().all(|t| *t == 0)
                && let Some(first) = tokens.get_mut(largest(&weights, 1).first().copied().unwrap_or(0))
            {
                *first = 1;
            }
            let mut scores = vec![0f32; seen.open().len()];
            let mut tile = 0;
            let made = Decision::by_tile(seen, ctx, |first, grid| {
                let n = tokens[tile];
                scores[first..first + sizes[tile]].fill(relevance[tile] as f32);
                tile += 1;
                Ok(if n == 0 { Vec::new() } else { pooled(grid, n) })
            })?;
            Ok(made.scored(seen, &scores))
        })))
    }
}

/// A grid of at most `n` cells pooled adaptively; each old cell belongs to one of the new ones that it is in.
fn pooled(grid: (usize, usize), n: usize) -> Vec<(Weights, Weights)> {
    let (rows, cols) = rectangle(n);
    let to = (rows.min(grid.0), cols.min(grid.1));
    resample::parted(resample::average(grid, to), &resample::owners(grid, to))
}

/// Rows and columns of the largest rectangle of at most `t` cells whose sides differ by at most one, rows first.
fn rectangle(t: usize) -> (usize, usize) {
    let side = t.isqrt();
    if side * side < t && (side + 1) * side <= t { (side + 1, side) } else { (side, side) }
}

/// Divided by their sum.
fn normalised(weights: Vec<f64>) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

/// Weights of at most `most` each: what is above is collected in one pass and given to the others in a second, by their
/// part of the sum before it; what is above there is given on to those behind. As there, they need not sum to 1.
fn capped(weights: &[f64], most: &[f64]) -> Vec<f64> {
    let mut out = weights.to_vec();
    let mut excess = 0.0;
    let cut = |w: &mut f64, most: f64, excess: &mut f64| {
        if *w > most {
            *excess += *w - most;
            *w = most;
        }
    };
    out.iter_mut().zip(most).for_each(|(w, m)| cut(w, *m, &mut excess));
    if excess > 0.0 {
        let sum: f64 = out.iter().sum();
        for (w, m) in out.iter_mut().zip(most).filter(|(w, m)| **w < **m) {
            *w += *w / sum * excess;
            cut(w, *m, &mut excess);
        }
    }
    out
}

/// Rows `[n, d]` merged in pairs until `k` are left, each time the mean of what comes together.
fn merged(mut x: Array, k: usize, ctx: &Ctx) -> Result<Array> {
    while x.shape()[0] > k {
        let [n, d] = x.dims("frame")?;
        let groups = bipartite_soft_matching(&x, n - k, 0, ctx)?;
        if groups.len() == n {
            return Err(Error::invalid(format!("{n} tokens cannot be merged to {k}")));
        }
        let mean = |g: &Vec<usize>| -> Weights { g.iter().map(|&i| (i, 1.0 / g.len() as f64)).collect() };
        let weights: Vec<Weights> = groups.iter().map(mean).collect();
        x = Array::new([weights.len(), d], resample::apply(&weights, x.data(), d))?;
    }
    Ok(x)
}

/// `t` of `n` indices spread evenly, ends included, in single precision as PyTorch counts them from both ends.
fn spread(n: usize, t: usize) -> Vec<usize> {
    let end = (n - 1) as f32;
    let step = if t > 1 { end / (t - 1) as f32 } else { 0.0 };
    let at = |i: usize| if i < t / 2 || t == 1 { step * i as f32 } else { end - step * (t - 1 - i) as f32 };
    (0..t).map(|i| at(i) as usize).collect()
}

/// Raw entry: `frame_features` `[frames, n, d]`, `frame_prob` `[frames]`, `grid`, `version` (v1 interpolated, v2 pooled,
/// v3 every so many, v4 merged, v5 merged along rows, then columns), `enhance_total` frames of `enhance_tokens`,
/// `weight_scale` (factor, power).
const ADAPTER: Adapter = Adapter { name: "quota", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, p) = (input.array("frame_features")?, input.array("frame_prob")?);
    x.check_finite("frame_features")?;
    p.check_finite("frame_prob")?;
    let ([frames, n, d], [m]) = (x.dims("frame_features")?, p.dims("frame_prob")?);
    let version: String = input.read_or("version", "v1".to_string())?;
    let (factor, power): (f64, f64) = input.read_or("weight_scale", (100.0, 2.0))?;
    let (total, each): (usize, usize) = (input.read("enhance_total")?, input.read("enhance_tokens")?);
    let side = n.isqrt();
    let grid: (usize, usize) = input.read_or("grid", (side, side))?;
    let all = total.checked_mul(each).filter(|t| *t <= 1 << 26);
    let (Some(all), true) = (all, frames == m && n > 0 && grid.0.checked_mul(grid.1) == Some(n)) else {
        return Err(Error::invalid(format!(
            "{total} times {each} tokens for {frames} frames of {n} on a grid of {} by {}, with {m} probabilities",
            grid.0, grid.1
        )));
    };
    let weights = normalised(p.data().iter().map(|p| (factor * f64::from(*p)).powf(power)).collect());
    if weights.iter().any(|w| !w.is_finite() || *w < 0.0) {
        return Err(Error::invalid("frame_prob gives no weights: their scaled sum is 0 or not finite"));
    }
    let adjusted = match version.as_str() {
        "v1" => weights.clone(),
        "v2" | "v3" | "v4" | "v5" => capped(&weights, &vec![n as f64 / all as f64; frames]),
        other => return Err(Error::invalid(format!("field version is {other}; it is v1 to v5"))),
    };
    let tokens: Vec<usize> = adjusted.iter().map(|w| (all as f64 * w) as usize).collect();
    // Numbers of a token, and the weights of the four cells that it is between.
    let each = (4 * d as u64).saturating_add(128);
    ctx.fits((tokens.iter().sum::<usize>() as u64).saturating_mul(each), "give out fewer tokens")?;
    let (mut shapes, mut out) = (Vec::new(), Vec::new());
    for (f, &t) in tokens.iter().enumerate().filter(|(_, t)| **t > 0) {
        ctx.step(f, frames)?;
        let frame = x.sub(f);
        let (rows, cols) = rectangle(t);
        let made = match version.as_str() {
            "v1" => resample::apply(&resample::bilinear(grid, (rows, cols)), frame.data(), d),
            "v2" => resample::apply(&resample::average(grid, (rows, cols)), frame.data(), d),
            "v3" => pick(&frame, &spread(n, t))?.into_data(),
            "v4" => merged(frame, t, ctx)?.into_data(),
            _ => by_lines(&frame, grid, (rows, cols), ctx)?,
        };
        shapes.push(match version.as_str() {
            "v3" | "v4" => vec![made.len() / d.max(1), d],
            _ => vec![rows, cols, d],
        });
        out.push(made.chunks(d.max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>());
    }
    Ok(json!({
        "weights_normalised": weights,
        "weights_adjusted": adjusted,
        "target_tokens": tokens,
        "out_shapes": shapes,
        "out": out,
    }))
}

/// Each row merged to `cols` tokens, then each column of these to `rows`.
fn by_lines(x: &Array, grid: (usize, usize), (rows, cols): (usize, usize), ctx: &Ctx) -> Result<Vec<f32>> {
    if rows > grid.0 || cols > grid.1 {
        return Err(Error::invalid(format!(
            "a frame of {} by {} cannot be merged to {rows} by {cols}",
            grid.0, grid.1
        )));
    }
    let line = |r: usize| (0..grid.1).map(|c| r * grid.1 + c).collect::<Vec<_>>();
    let lines = (0..grid.0).map(|r| merged(pick(x, &line(r))?, cols, ctx)).collect::<Result<Vec<_>>>()?;
    let d = x.shape()[1];
    let column = |c: usize| {
        let cells = lines.iter().flat_map(|l| l.row(c).iter().copied()).collect();
        merged(Array::new([grid.0, d], cells)?, rows, ctx)
    };
    let columns = (0..cols).map(column).collect::<Result<Vec<_>>>()?;
    Ok((0..rows).flat_map(|r| columns.iter().flat_map(move |c| c.row(r).iter().copied())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_have_one_row_more_where_that_fits() {
        assert_eq!([1, 2, 3, 6, 8, 12, 17].map(rectangle), [(1, 1), (2, 1), (2, 1), (3, 2), (3, 2), (4, 3), (4, 4)]);
    }

    #[test]
    fn what_is_above_the_cap_is_given_on_and_not_all_comes_back() {
        assert_eq!(capped(&[0.2, 0.3, 0.5], &[0.6; 3]), [0.2, 0.3, 0.5]);
        // 0.4 are above; the others get 0.4 · w / 0.6 of it, which leaves the capped frame's part ungiven.
        let got = capped(&[0.2, 0.1, 0.7], &[0.3; 3]);
        let first = (0.2f64 + 0.2 / 0.6 * 0.4, 0.1 + 0.1 / 0.6 * 0.4);
        assert_eq!(got[2], 0.3);
        // The first is above the cap then, and what it cannot take goes to the second.
        let second = 0.1 + 0.1 / 0.6 * (0.4 + first.0 - 0.3);
        assert!((got[0] - 0.3).abs() < 1e-12 && (got[1] - second).abs() < 1e-12 && second > first.1, "{got:?}");
    }

    #[test]
    fn every_so_many_counts_from_both_ends() {
        assert_eq!(spread(10, 4), [0, 3, 6, 9]);
        assert_eq!((spread(10, 1), spread(5, 2)), (vec![0], vec![0, 4]));
    }

    #[test]
    fn merging_stops_at_the_number() {
        let x = Array::new([4, 1], vec![1.0, 1.0, -2.0, -3.0]).unwrap();
        assert_eq!(merged(x.clone(), 3, &Ctx::default()).unwrap().shape(), [3, 1]);
        let one = merged(x, 1, &Ctx::default()).unwrap();
        assert_eq!((one.shape(), one.data()), (&[1, 1][..], &[-0.75][..]));
    }
}
