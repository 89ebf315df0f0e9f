//! Slow and fast tokens: a language model is given a coarse version of a clip, and looks up the fine one where it must.
//!
//! Source: Shi et al. 2025, "Slow-Fast Architecture for Video Multi-Modal Large Language Models", arXiv 2504.01328;
//! SHI-Labs/Slow-Fast-Video-Multimodal-LLM at 69676a1, `llava_qwen2_slowfast.py`. Takes: features `[frames, n, d]`. Gives:
//! the fast tokens, and the frames behind each. Departs: see [`Info::departs`]. Cost: O(n · d).

use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::host::resample::{self, Weights, pooled};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{LAYER, encoded};
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const STRIDE: Param = Param::count("spatial_stride", "Patches along a side that become one fast token", 1, 16, 2);

static INFO: Info = Info {
    id: "slowfast_split",
    title: "Fast tokens",
    summary: "Gives the language model the means of squares of patches.",
    family: "image features",
    basis: Basis::Authors { repo: "SHI-Labs/Slow-Fast-Video-Multimodal-LLM", commit: "69676a1" },
    paper: Some(Paper {
        title: "Slow-Fast Architecture for Video Multi-Modal Large Language Models",
        authors: "Shi et al.",
        year: 2025,
        arxiv: "2504.01328",
    }),
    departs: "a picture is a clip of one frame, so only its squares are pooled; frames, which the raw entry splits, cannot be \
              loaded yet; the slow tokens are read by trained cross-attention there and by nobody here; what fills no square \
              is left out, as in the authors' code",
    needs: &[Need::ImageTokens],
    params: &[STRIDE, LAYER],
    role: Role::StandIn,
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct SlowFastSplit;

impl Method for SlowFastSplit {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let stride = params.count(&STRIDE) as usize;
        Ok(Box::new(Asked::at([encoded(on, params, &INFO)?], move |seen, ctx| {
            Decision::by_tile(seen, ctx, |_, (rows, cols)| {
                let side = stride.min(rows).min(cols);
                Ok(squares((rows, cols), side).into_iter().map(|s| (s, Weights::new())).collect())
            })
        })))
    }
}

/// Means of squares of this side, from the upper left.
fn squares((rows, cols): (usize, usize), side: usize) -> Vec<Weights> {
    let (down, across) = (rows / side, cols / side);
    let w = 1.0 / (side * side) as f64;
    let cell = |y: usize, x: usize| {
        (0..side).flat_map(move |a| (0..side).map(move |b| ((y * side + a) * cols + x * side + b, w))).collect()
    };
    (0..down).flat_map(|y| (0..across).map(move |x| (y, x))).map(|(y, x)| cell(y, x)).collect()
}

/// How frames are taken.
struct Strides {
    sampling: usize,
    temporal: usize,
    least: usize,
}

impl Strides {
    /// The frames behind each fast one, of `t`.
    fn sources(&self, t: usize) -> Vec<Vec<usize>> {
        if t == 1 {
            return vec![vec![0]];
        }
        let frames: Vec<usize> = if self.sampling > 1 && t >= self.least {
            let k = (t / self.sampling).max(self.least);
            (0..k).map(|i| ((i as f64 * t as f64 / k as f64) as usize).min(t - 1)).collect()
        } else {
            (0..t).collect()
        };
        let n = frames.len();
        if self.temporal <= 1 {
            frames.into_iter().map(|f| vec![f]).collect()
        } else if n / self.temporal >= self.least {
            frames.chunks_exact(self.temporal).map(<[usize]>::to_vec).collect()
        } else {
            let m = n.min(self.least);
            (0..m).map(|i| frames[pooled(i, m, n)].to_vec()).collect()
        }
    }
}

/// Raw entry: `feats` `[frames, n, d]`, each on a square grid; `sampling_stride`, `temporal_stride`, `spatial_stride`,
/// `min_fast`.
const ADAPTER: Adapter = Adapter { name: "slowfast_split", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, [t, n, d]) = input.finite("feats")?;
    let stride = |name: &str| input.read_or(name, 1usize).map(|s| s.max(1));
    let strides = Strides {
        sampling: stride("sampling_stride")?,
        temporal: stride("temporal_stride")?,
        least: input.read_or("min_fast", 16)?,
    };
    let (square, side) = (stride("spatial_stride")?, n.isqrt());
    if t == 0 || n == 0 || side * side != n || square > side || strides.least > 1 << 24 {
        return Err(Error::invalid(format!(
            "squares of {square} of {t} frames of {n} tokens, at least {} frames; tokens lie on a square grid",
            strides.least
        )));
    }
    let sources = strides.sources(t);
    let squares = squares((side, side), square);
    let mut fast = Vec::new();
    for (i, frames) in sources.iter().enumerate() {
        ctx.step(i, sources.len())?;
        let w = 1.0 / frames.len().max(1) as f64;
        let over = |s: &Weights| -> Weights {
            frames.iter().flat_map(|f| s.iter().map(move |&(c, v)| (f * n + c, v * w))).collect()
        };
        let tokens = resample::apply(&squares.iter().map(over).collect::<Vec<_>>(), x.data(), d);
        fast.push(tokens.chunks(d.max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>());
    }
    let (few, all) = (sources.len() * squares.len(), t * n);
    Ok(json!({
        "fast_sources": sources,
        "fast": fast,
        "fast_count": few,
        "slow_count": all,
        "ratio": few as f64 / all as f64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_sampled_then_pooled_and_never_fewer_than_the_least() {
        let of = |sampling, temporal, least, t| Strides { sampling, temporal, least }.sources(t);
        assert_eq!(of(1, 2, 1, 5), [vec![0, 1], vec![2, 3]]);
        assert_eq!(of(2, 1, 1, 5), [vec![0], vec![2]]);
        // Five in pairs are two, fewer than three: pooled to three, which overlap.
        assert_eq!(of(1, 2, 3, 5), [vec![0, 1], vec![1, 2, 3], vec![3, 4]]);
        // Fewer frames than the least: all, then as they are.
        assert_eq!(of(2, 4, 9, 2), [vec![0], vec![1]]);
        assert_eq!(of(2, 4, 3, 1), [vec![0]]);
    }

    #[test]
    fn squares_leave_out_what_fills_none() {
        let s = squares((3, 3), 2);
        assert_eq!(s, [vec![(0, 0.25), (1, 0.25), (3, 0.25), (4, 0.25)]]);
    }
}
