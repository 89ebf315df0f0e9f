//! SkipDecode: later tokens run through fewer layers, the lower ones skipped.
//!
//! Source: Del Corro et al. 2023, "SkipDecode: Autoregressive Skip Decoding with Batching and Caching for Efficient LLM
//! Inference", arXiv 2307.02628. Takes: numbers of layers and tokens. Gives: the layers of each token, and what is saved.
//! Departs: own reading of the paper; rounding half up and full depth for the prompt are ours.

use super::super::Method;
use super::show::line;
use crate::ctx::Ctx;
use crate::finding::{Class, Datum, Figure, Finding, Look, Measure, TimeCell, Timeline, Unit};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const MIN: Param = Param::share("min_layers", "Share of the layers that the last token runs through", 0.4);
const MAX: Param = Param::share("max_layers", "Share that the first one does", 0.8);
const WARMUP: Param = Param::count("warmup_layers", "First layers that always run", 0, 8, 1);
const TOKENS: Param = Param::count("new_tokens_shown", "Tokens written after the prompt", 1, 256, 32);

static INFO: Info = Info {
    id: "skipdecode",
    title: "SkipDecode",
    summary: "Shows which layers each token would run through when later tokens get fewer of them.",
    family: "adaptive compute",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "SkipDecode: Autoregressive Skip Decoding with Batching and Caching for Efficient LLM Inference",
        authors: "Del Corro et al.",
        year: 2023,
        arxiv: "2307.02628",
    }),
    departs: "own reading of the paper, whose code is not public; rounding half up, and full depth for the prompt, are ours",
    params: &[MIN, MAX, WARMUP, TOKENS],
    budget: Some(&MIN),
    raw: &[Adapter { name: "skipdecode", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct SkipDecode;

/// Layers of each token: all of the prompt's run through `most`, those after it fall evenly from there to `least`.
fn depths(n: usize, prompt: usize, least: usize, most: usize) -> Vec<usize> {
    let span = n.saturating_sub(prompt + 1).max(1) as f64;
    let of = |t: usize| {
        let down = t.saturating_sub(prompt) as f64 / span;
        (most as f64 + (least as f64 - most as f64) * down + 0.5).floor() as usize
    };
    (0..n).map(of).collect()
}

/// The layers that run where `depth` of `all` do: the first ones and the last ones.
fn layers(all: usize, depth: usize, warmup: usize) -> Vec<usize> {
    let first = warmup.min(depth).min(all);
    let rest = depth.min(all) - first;
    (0..first).chain(all - rest..all).collect()
}

impl Method for SkipDecode {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        super::show::ready(on, &INFO, params)?;
        let tower = on.tower()?;
        let all = tower.n_layers;
        if all == 0 {
            return Err(Error::invalid("the run has no layers"));
        }
        let of = |p| ((params.share(p) * all as f64).round() as usize).clamp(1, all);
        let (most, warmup) = (of(&MAX), params.count(&WARMUP) as usize);
        let least = of(&MIN).min(most);
        let prompt = tower.tokens.len().min(64);
        let n = prompt + params.count(&TOKENS) as usize;
        let depths = depths(n, prompt, least, most);
        let run: Vec<Vec<usize>> = depths.iter().map(|d| layers(all, *d, warmup)).collect();
        let mut cells = Vec::new();
        for layer in 0..all {
            for (t, run) in run.iter().enumerate() {
                let state = usize::from(!run.contains(&layer));
                let (id, text, why) = (None, "".into(), "".into());
                cells.push(TimeCell { step: layer, position: t, id, text, confidence: None, why, state });
            }
        }
        let timeline = Timeline {
            title: "layers that run".into(),
            steps: Unit::Layers,
            n_steps: all,
            places: Unit::Positions,
            n_places: n,
            measure: Measure::new("runs", ""),
            states: vec![Class::new("runs", "", Look::Good), Class::new("skipped", "", Look::Quiet)],
            cells,
        };
        let mean = depths.iter().sum::<usize>() as f64 / n.max(1) as f64;
        Ok(Finding::of(timeline)
            .with(line("layers of each token", "token", Measure::new("layers", ""), depths.iter().map(|d| *d as f64)))
            .figure(Figure::new("layers per token", Datum::Number(mean), "mean over prompt and written tokens"))
            .figure(Figure::new("saved", Datum::Share(1.0 - mean / all as f64), "layers that do not run, of all")))
    }
}

/// Raw entry: numbers of layers and tokens → layers of each token, those that run for the first and the last.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let all = input.within("num_layers", 1..=100_000)?;
    let most = input.within("max_layers", 1..=all)?;
    let least = input.within("min_layers", 0..=most)?;
    let n = input.within("seq_len", 1..=1 << 20)?;
    let prompt = input.within("prompt_len", 0..=n)?;
    let warmup: usize = input.read_or("warmup_layers", 1)?;
    let depths = depths(n, prompt, least, most);
    let mean = depths.iter().sum::<usize>() as f64 / n as f64;
    let ends = [depths[0], depths[n - 1]].map(|d| layers(all, d, warmup));
    Ok(json!({
        "layers_per_token": depths,
        "executed_layers_first_last": ends,
        "average_layers": mean,
        "compute_saving": 1.0 - mean / all as f64,
        "speedup_layers": all as f64 / mean,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_fall_evenly_and_the_last_ones_stay() {
        assert_eq!(depths(5, 2, 2, 4), [4, 4, 4, 3, 2]);
        assert_eq!((layers(6, 3, 1), layers(6, 1, 2)), (vec![0, 4, 5], vec![0]));
    }
}
