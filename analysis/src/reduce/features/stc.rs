//! STC: of each frame those tokens stay that are least like the mean of their frame and of all that was seen; of a frame
//! much like the one before, only what changed most is computed anew.
//!
//! Source: Wang et al. 2025, "Accelerating Streaming Video Large Language Models via Hierarchical Token Compression",
//! arXiv 2512.00891; lern-to-write/STC at 9b13ce0c24, `model/prune.py` and `model/custom_siglip.py`. Takes: features of
//! chunks of frames; keys of a frame and of the one that is kept. Gives: what stays of each frame; what is computed anew.
//! Departs: see [`Info::departs`]. Cost: O(n · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::{dot, largest, length};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{LAYER, Place, image_cut};
use crate::reduce::seen::pick;
use crate::reduce::select::round_half_even;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const KEEP: Param = Param::share("keep", "Share of each frame's tokens that stays", 0.3);
const CHANNELS: Param = Param::share("channels", "Share of the channels looked at, those that vary least", 0.5);
const WIDTHS: Param = Param::schedule(
    "alphas",
    "Widths of the bells by which likeness to a mean is measured, added up",
    1e-3,
    1e3,
    &[0.125, 0.25, 0.5, 1.0, 2.0],
);

static INFO: Info = Info {
    id: "stc",
    title: "STC pruner",
    summary: "Keeps of each frame the tokens that are least like its mean and the mean of all that was seen.",
    family: "image features",
    basis: Basis::Authors { repo: "lern-to-write/STC", commit: "9b13ce0c24" },
    paper: Some(Paper {
        title: "Accelerating Streaming Video Large Language Models via Hierarchical Token Compression",
        authors: "Wang et al.",
        year: 2025,
        arxiv: "2512.00891",
    }),
    departs: "a picture is a chunk of a stream, and its tiles are the frames; the cacher, which needs a frame before, is in \
              the raw entry alone; as in the authors' code the memory adds channels up by their place in the order of \
              variance, and the mean of the clip is not used; at least one token of a frame stays",
    needs: &[Need::ImageTokens],
    params: &[KEEP, CHANNELS, WIDTHS, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct Stc;

impl Method for Stc {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let (share, channels, widths) = (params.share(&KEEP), params.share(&CHANNELS), params.schedule(&WIDTHS));
        Ok(Box::new(Asked::at([image_cut(on, params, &INFO)?], move |seen, ctx| {
            let x = pick(&seen.values()?, seen.open())?;
            let n = seen.open().len();
            let tiles = seen.tiles();
            let frames: Vec<_> = if tiles.is_empty() {
                std::iter::once(0..n).collect()
            } else {
                tiles.iter().map(|&(first, rows, cols)| first..first + rows * cols).collect()
            };
            let scores = Memory::new(widths.clone()).chunk(&x, &frames, channels, ctx)?.1;
            let least = usize::from(seen.place() == Place::Features);
            let mut kept = Vec::new();
            for frame in &frames {
                let k =
                    (round_half_even(share * frame.len() as f64) as usize).clamp(least.min(frame.len()), frame.len());
                kept.extend(lowest(&scores[frame.clone()], k).into_iter().map(|i| frame.start + i));
            }
            let scores: Vec<f32> = scores.iter().map(|s| *s as f32).collect();
            Ok(Decision::keep(seen, &kept).scored(seen, &scores))
        })))
    }
}

/// The `k` lowest, ascending; of equal ones the first.
fn lowest(scores: &[f64], k: usize) -> Vec<usize> {
    let turned: Vec<f64> = scores.iter().map(|s| -s).collect();
    let mut kept = largest(&turned, k);
    kept.sort_unstable();
    kept
}

/// What a stream looked like so far.
struct Memory {
    widths: Vec<f64>,
    /// Sum of the means of all chunks.
    sum: Vec<f64>,
    chunks: usize,
}

impl Memory {
    fn new(widths: Vec<f64>) -> Self {
        Self { widths, sum: Vec::new(), chunks: 0 }
    }

    /// The channels that vary least over a chunk `[n, d]`, and for each token how like it is to the mean of its frame and
    /// to that of all chunks, this one among them.
    fn chunk(
        &mut self,
        x: &Array,
        frames: &[std::ops::Range<usize>],
        share: f64,
        ctx: &Ctx,
    ) -> Result<(Vec<usize>, Vec<f64>)> {
        let [n, d] = x.dims("chunk")?;
        let mean = x.mean_over_first();
        let spread = |c: usize| (0..n).map(|i| (f64::from(x.row(i)[c]) - mean[c]).powi(2)).sum::<f64>();
        let turned: Vec<f64> = (0..d).map(|c| -spread(c)).collect();
        let channels = largest(&turned, (d as f64 * share) as usize);
        if self.chunks > 0 && self.sum.len() != channels.len() {
            return Err(Error::shape("chunk", format!("{} channels as before", self.sum.len()), x.shape()));
        }
        self.sum.resize(channels.len(), 0.0);
        self.chunks += 1;
        self.sum.iter_mut().zip(&channels).for_each(|(s, &c)| *s += mean[c]);
        let memory = unit(self.sum.iter().map(|s| s / self.chunks as f64).collect());
        let mut scores = vec![0f64; n];
        for (i, frame) in frames.iter().enumerate() {
            ctx.step(i, frames.len())?;
            let own: Vec<Vec<f64>> =
                frame.clone().map(|t| unit(channels.iter().map(|&c| f64::from(x.row(t)[c])).collect())).collect();
            let mut middle = vec![0f64; channels.len()];
            for token in &own {
                middle.iter_mut().zip(token).for_each(|(m, v)| *m += v / own.len() as f64);
            }
            for (t, token) in frame.clone().zip(&own) {
                scores[t] = self.like(token, &memory) + self.like(token, &middle);
            }
        }
        Ok((channels, scores))
    }

    /// Sum of bells of the squared distance.
    fn like(&self, a: &[f64], b: &[f64]) -> f64 {
        let squared: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
        self.widths.iter().map(|w| (-squared / (2.0 * w)).exp()).sum()
    }
}

/// Divided by its length, which counts at least 1e-12.
fn unit(v: Vec<f64>) -> Vec<f64> {
    let length = length(&v).max(1e-12);
    v.into_iter().map(|x| x / length).collect()
}

/// Raw entry. `part` "pruner": `chunk0`, `chunk1`, … `[frames · tokens, d]`, `tokens_per_frame`, `token_per_frame_kept`,
/// `channel_keep_ratio`, `alphas`. `part` "cacher": `cur_key` `[frames, n, d]`, `ref_key` `[n, d]`, `update_token_ratio`.
const ADAPTER: Adapter = Adapter { name: "stc", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    match input.read_or("part", "pruner".to_string())?.as_str() {
        "pruner" => pruner(input, ctx),
        "cacher" => cacher(input, ctx),
        other => Err(Error::invalid(format!("field part is {other}; it is pruner or cacher"))),
    }
}

fn pruner(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let per_frame: usize = input.read("tokens_per_frame")?;
    let kept: usize = input.read("token_per_frame_kept")?;
    let share: f64 = input.read_or("channel_keep_ratio", 0.5)?;
    let widths: Vec<f64> = input.read_or("alphas", vec![0.125, 0.25, 0.5, 1.0, 2.0])?;
    if per_frame == 0 || kept > per_frame || !(0.0..=1.0).contains(&share) || widths.iter().any(|w| *w <= 0.0) {
        return Err(Error::invalid(format!(
            "{kept} of {per_frame} tokens a frame, {share} of the channels, bells of {widths:?}"
        )));
    }
    let mut memory = Memory::new(widths);
    let (mut channels, mut scores, mut keep) = (Vec::new(), Vec::new(), Vec::new());
    // The first is asked for by name, so that its absence is said.
    input.array("chunk0")?;
    for i in 0.. {
        let name = format!("chunk{i}");
        let Some(x) = input.arrays.get(&name) else { break };
        x.check_finite(&name)?;
        let [n, _] = x.dims(&name)?;
        if n % per_frame != 0 {
            return Err(Error::shape(name, format!("frames of {per_frame} tokens"), x.shape()));
        }
        let frames: Vec<_> = (0..n / per_frame).map(|f| f * per_frame..(f + 1) * per_frame).collect();
        let (mut used, found) = memory.chunk(x, &frames, share, ctx)?;
        used.sort_unstable();
        channels.push(used);
        let at = |f: &std::ops::Range<usize>| -> Vec<usize> {
            lowest(&found[f.clone()], kept).into_iter().map(|i| f.start + i).collect()
        };
        keep.push(frames.iter().flat_map(at).collect::<Vec<_>>());
        scores.push(frames.iter().map(|f| found[f.clone()].to_vec()).collect::<Vec<_>>());
    }
    Ok(json!({ "channels_kept": channels, "score_memory_plus_frame": scores, "keep_per_chunk": keep }))
}

fn cacher(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (now, before) = (input.array("cur_key")?, input.array("ref_key")?);
    now.check_finite("cur_key")?;
    before.check_finite("ref_key")?;
    let ([frames, n, d], share) = (now.dims("cur_key")?, input.read_or("update_token_ratio", 0.25)?);
    if before.shape() != [n, d] || n == 0 || !(0.0..=1.0).contains(&share) {
        return Err(Error::shape("ref_key", format!("[{n}, {d}], of which a share is computed anew"), before.shape()));
    }
    let k = ((n as f64 * share) as usize).max(1);
    let (mut alike, mut anew) = (Vec::new(), Vec::new());
    for f in 0..frames {
        ctx.step(f, frames)?;
        let cosine = |i: usize| {
            let (a, b) = (&now.row(f)[i * d..(i + 1) * d], before.row(i));
            dot(a, b) / (length(a).max(1e-8) * length(b).max(1e-8))
        };
        let cosines: Vec<f64> = (0..n).map(cosine).collect();
        anew.push(lowest(&cosines, k));
        alike.push(cosines);
    }
    Ok(json!({ "similarity": alike, "recompute": anew, "num_update": k }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unlike_its_frame_stays_and_loud_channels_are_not_looked_at() {
        // The second channel is loud and is left out; of the first, token 2 points the other way.
        let x = Array::new([3, 2], vec![1.0, 90.0, 1.0, -90.0, -1.0, 5.0]).unwrap();
        let (channels, scores) =
            Memory::new(vec![1.0]).chunk(&x, std::slice::from_ref(&(0..3)), 0.5, &Ctx::default()).unwrap();
        assert_eq!((channels, lowest(&scores, 1)), (vec![0], vec![2]));
        // Mean of the frame 1/3, of all 1 once its length is 1.
        let want = (-(4f64 / 9.0) / 2.0).exp() + 1.0;
        assert!((scores[0] - want).abs() < 1e-9);
    }

    #[test]
    fn a_memory_is_the_mean_of_all_chunks() {
        let mut memory = Memory::new(vec![1.0]);
        let chunk = |v: f32| Array::new([2, 2], vec![v, 1.0, v, 1.0]).unwrap();
        let all = std::slice::from_ref(&(0..2));
        memory.chunk(&chunk(1.0), all, 1.0, &Ctx::default()).unwrap();
        memory.chunk(&chunk(3.0), all, 1.0, &Ctx::default()).unwrap();
        assert_eq!((memory.sum.as_slice(), memory.chunks), (&[4.0, 2.0][..], 2));
        assert!(memory.chunk(&Array::zeros([2, 6]), all, 1.0, &Ctx::default()).is_err());
    }
}
