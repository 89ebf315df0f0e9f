//! HiDrop: image tokens enter the language model late, go in a concave pyramid over a few middle layers, and the last of
//! them leave early.
//!
//! Source: Wu et al. 2026, "HiDrop: Hierarchical Vision Token Reduction in MLLMs via Late Injection, Concave Pyramid
//! Pruning, and Early Exit", arXiv 2602.23699. Takes: the last row of attention `[heads, n]` in some layers. Gives: a soft mask and what
//! is kept by layer. Departs: see [`Info::departs`]. Cost: O(heads · n · width + n log n) per layer.

use super::layers_at;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::attended;
use crate::reduce::place::{Half, Place};
use crate::reduce::select::round_half_even;
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::trace::Regroup;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KEEP: Param = Param::share("keep", "Share of the image tokens left behind the last stage", 0.1);
const ENTER: Param = Param::share("enter", "Share of the layers that run before image tokens enter", 9.0 / 32.0);
const DEPTHS: Param = Param::schedule(
    "depths",
    "Shares of the layers that stages of the pyramid stand behind",
    0.0,
    1.0,
    &[10.0 / 32.0, 12.0 / 32.0, 16.0 / 32.0, 20.0 / 32.0],
);
const EXIT: Param = Param::share("exit", "Share of the layers behind which all image tokens leave", 25.0 / 32.0);
const SLOPE: Param = Param::number("slope", "How steep the soft mask is", 0.01, 100.0, 1.0);

static INFO: Info = Info {
    id: "hidrop",
    title: "HiDrop",
    summary: "Lets image tokens enter the language model late, drops them in a concave pyramid, and lets the rest leave early.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "EIT-NLP/HiDrop", commit: "fb79d6c830" },
    paper: Some(Paper {
        title: "HiDrop: Hierarchical Vision Token Reduction in MLLMs via Late Injection, Concave Pyramid Pruning, and Early Exit",
        authors: "Wu et al.",
        year: 2026,
        arxiv: "2602.23699",
    }),
    departs: "the operator is the authors'; their schedules go with trained weights, so the layers here are read off the \
              names of their files and stand at shares of the depth, and each stage keeps the same part of those before, \
              which falls steeply first; stages before the entry do nothing",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[KEEP, ENTER, DEPTHS, EXIT, SLOPE],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct HiDrop;

impl Method for HiDrop {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let n_layers = on.reader(&INFO)?.n_layers;
        let at = |share: f64| ((share * n_layers as f64).round() as usize).min(n_layers);
        // The first layer that image tokens are in, and the first that they are no longer in.
        let enter = at(params.share(&ENTER)).min(n_layers.saturating_sub(1));
        let exit = at(params.share(&EXIT)).max(enter + 1);
        let depths = params.schedule(&DEPTHS);
        let (keep, slope) = (params.share(&KEEP), params.number(&SLOPE));
        let left = |i: usize| keep.powf((i + 1) as f64 / depths.len() as f64);
        let stages: BTreeMap<usize, f64> = (layers_at(&depths, n_layers, 0).into_iter().enumerate())
            .map(|(i, l)| (l, left(i)))
            .filter(|(l, _)| (enter..exit).contains(l))
            .collect();
        let mut stops = Vec::new();
        if enter > 0 {
            stops.extend([Place::Decoder(0, Half::Before), Place::Decoder(enter - 1, Half::After)]);
        }
        stops.extend(stages.keys().map(|&l| Place::Decoder(l, Half::After)));
        if exit < n_layers {
            stops.push(Place::Decoder(exit - 1, Half::After));
        }
        stops.sort();
        stops.dedup();
        let mut n = 0;
        Ok(Box::new(Asked::at(stops, move |seen, ctx| {
            let place = seen.place();
            if place == Place::Decoder(0, Half::Before) {
                return aside(seen, ctx);
            }
            let layer = place.layer().unwrap_or(0);
            if enter > 0 && layer == enter - 1 {
                return Ok(back(seen));
            }
            n = n.max(seen.open().len());
            if exit < n_layers && layer == exit - 1 {
                return Ok(Decision::keep(seen, &[]));
            }
            let Some(share) = stages.get(&layer) else { return Ok(Decision::stay()) };
            let Some(last) = seen.rows().len().checked_sub(1) else { return Ok(Decision::stay()) };
            let scores: Vec<f32> = attended(seen, &[last])?.into_iter().map(|v| v as f32).collect();
            let k = (round_half_even(share * n as f64) as usize).min(scores.len());
            let mask = soft_mask(&scores, k, slope);
            let soft: Vec<f32> = mask.iter().map(|v| *v as f32).collect();
            Ok(Decision { threshold: Some(0.5), ..Decision::keep(seen, &chosen(&mask, 0.5)).scored(seen, &soft) })
        })))
    }
}

/// Sets the image's rows aside.
fn aside(seen: &dyn Seen, ctx: &Ctx) -> Result<Decision> {
    let open = seen.open();
    let stays: Vec<usize> = (0..seen.rows().len()).filter(|r| open.binary_search(r).is_err()).collect();
    if stays.is_empty() {
        ctx.note("there is no text besides the image, so its tokens enter at once");
        return Ok(Decision::stay());
    }
    let regroup = Regroup { aside: open.to_vec(), ..Regroup::keep(&stays) };
    Ok(Decision { regroup: Some(regroup), ..Decision::stay() })
}

/// Calls back what waits.
fn back(seen: &dyn Seen) -> Decision {
    let all = seen.rows().len() + seen.waiting().len();
    if seen.waiting().is_empty() {
        Decision::stay()
    } else {
        Decision::rows((0..all).map(|r| vec![(r, 1.0)]).collect())
    }
}

/// How far each score's rank is above that of the last of the `k` best: the share of scores that are no larger, through a
/// sigmoid. Equal scores have equal values.
fn soft_mask(scores: &[f32], k: usize, slope: f64) -> Vec<f64> {
    let n = scores.len() as f64;
    let rank = |s: &f32| scores.iter().filter(|t| s >= t).count() as f64 / n;
    scores.iter().map(|s| 1.0 / (1.0 + (-(rank(s) - (1.0 - k as f64 / n)) * n * slope).exp())).collect()
}

fn chosen(mask: &[f64], threshold: f64) -> Vec<usize> {
    (0..mask.len()).filter(|&i| mask[i] > threshold).collect()
}

/// Raw entry: `score` `[n]`, `k`, `lam`, `threshold`.
const ADAPTER: Adapter = Adapter { name: "hidrop", run: raw };

fn raw(input: &RawInput, _ctx: &Ctx) -> Result<Value> {
    let (s, [n]) = input.finite("score")?;
    let (k, slope, threshold): (usize, f64, f64) =
        (input.read("k")?, input.read_or("lam", 1.0)?, input.read_or("threshold", 0.5)?);
    if k > n {
        return Err(Error::invalid(format!("k is {k}; there are {n} tokens")));
    }
    let mask = soft_mask(s.data(), k, slope);
    let seen = Table::new(Place::Decoder(0, Half::After), n, 0..n);
    let keep = Decision::keep(&seen, &chosen(&mask, threshold)).kept(&seen);
    Ok(json!({ "soft_mask": mask, "n_keep": keep.len(), "keep": keep }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_ties_k_stay_and_with_them_all_of_a_rank_move_together() {
        let kept = |scores: &[f32], k| chosen(&soft_mask(scores, k, 1.0), 0.5);
        assert_eq!(kept(&[0.1, 0.4, 0.3, 0.2], 2), [1, 2]);
        assert_eq!(kept(&[0.1, 0.3, 0.3, 0.2], 1), [1, 2]);
        let mask = soft_mask(&[0.1, 0.4], 1, 1.0);
        // Ranks 1/2 and 1, half a rank apart from what the best one needs: sigmoids of 0 and 1.
        assert!((mask[0] - 0.5).abs() < 1e-12 && (mask[1] - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-12);
    }
}
