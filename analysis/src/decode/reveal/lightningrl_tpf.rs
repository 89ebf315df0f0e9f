//! LightningRL's sampler: each step reveals all guesses that are sure enough, or a fixed number of the surest.
//!
//! Source: "LightningRL: Breaking the Accuracy-Parallelism Trade-off of Block-wise dLLMs via Reinforcement Learning";
//! SJTU-DENG-Lab/LightningRL generate.py, reward/rl_code_reward.py. Takes: guesses and their probabilities. Gives: those that
//! stay; the raw entry also gives the rewards of speed. Departs: see [`crate::decode::mask`]; the training is left out.

use super::Method;
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::mask::{BLOCK, Commit, GUIDANCE, LENGTH, Masked, Reveal, TEMPERATURE};
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

const TAU: Param = Param::share("tau", "Probability that a guess must pass to stay", 0.85);
const LEAST: Param = Param::count("min_transfer", "Guesses that stay where fewer are sure enough", 1, 64, 1);

static INFO: Info = Info {
    id: "lightningrl_tpf",
    title: "Dynamic threshold",
    summary: "Reveals all guesses that pass a threshold, or the surest few where fewer do.",
    family: "masked diffusion",
    basis: Basis::Authors { repo: "SJTU-DENG-Lab/LightningRL", commit: "e4d7d29" },
    paper: Some(Paper {
        title: "LightningRL: Breaking the Accuracy-Parallelism Trade-off of Block-wise dLLMs via Reinforcement Learning",
        authors: "SJTU DENG Lab",
        year: 2026,
        arxiv: "",
    }),
    departs: "the sampler and the figures of the reward; the training is left out",
    needs: &[Need::Fills],
    params: &[TAU, LEAST, LENGTH, BLOCK, TEMPERATURE, GUIDANCE, SEED],
    budget: Some(&TAU),
    raw: &[Adapter { name: "lightningrl_tpf", run: raw }],
    ..Info::of(Kind::Reveal)
};

pub(super) struct LightningRl;

impl Method for LightningRl {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn policy(&self, params: &Params) -> Box<dyn Reveal> {
        Box::new(Dynamic { tau: params.share(&TAU), least: params.count(&LEAST) as usize })
    }
}

struct Dynamic {
    tau: f64,
    least: usize,
}

impl Dynamic {
    /// Which of these stay, ascending, and whether because they are sure enough.
    fn chosen(&self, sure: &[f64]) -> (Vec<usize>, bool) {
        let above: Vec<usize> = (0..sure.len()).filter(|&i| sure[i] > self.tau).collect();
        if above.len() >= self.least {
            return (above, true);
        }
        let mut few = largest(sure, self.least);
        few.sort_unstable();
        (few, false)
    }
}

impl Reveal for Dynamic {
    fn reveal(&mut self, now: &Masked) -> Vec<Commit> {
        let sure: Vec<f64> = now.guesses.iter().map(|g| g.confidence).collect();
        let (chosen, above) = self.chosen(&sure);
        let why = if above { "above the threshold" } else { "among the surest" };
        chosen.into_iter().map(|guess| Commit { guess, why }).collect()
    }
}

/// Values less their mean, by their spread; zeros where there is none.
fn z_scores(x: &[f64]) -> Vec<f64> {
    let n = x.len().max(1) as f64;
    let mean = x.iter().sum::<f64>() / n;
    let spread = (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    x.iter().map(|v| if spread > 1e-12 { (v - mean) / spread } else { 0.0 }).collect()
}

/// Raw entry: `confidence` and `masked` of a block with `tau` and `min_transfer` → what three samplers reveal; lengths,
/// passes and correctness of a group of answers → the rewards.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let sure: Vec<f64> = input.read("confidence")?;
    let masked: Vec<u8> = input.read("masked")?;
    let least: usize = input.read_or("min_transfer", 1)?;
    if masked.len() != sure.len() || least == 0 {
        return Err(Error::invalid("masked needs a value for each of confidence, and min_transfer must be at least 1"));
    }
    let open: Vec<usize> = (0..sure.len()).filter(|&i| masked[i] != 0).collect();
    let own: Vec<f64> = open.iter().map(|&i| sure[i]).collect();
    let places = |chosen: Vec<usize>| chosen.into_iter().map(|i| open[i]).collect::<Vec<_>>();
    let dynamic = Dynamic { tau: input.read("tau")?, least };
    let fixed = Dynamic { tau: f64::INFINITY, least };
    let (lengths, passes): (Vec<f64>, Vec<f64>) = (input.read("lengths")?, input.read("num_forwards")?);
    let correct: Vec<Vec<f64>> = input.read("correctness")?;
    let positive = |x: &f64| *x > 0.0 && x.is_finite();
    if passes.len() != lengths.len() || correct.len() != lengths.len() || !passes.iter().all(positive) {
        return Err(Error::invalid("lengths, num_forwards (above 0) and correctness must hold a value per answer"));
    }
    let tpf: Vec<f64> = lengths.iter().zip(&passes).map(|(l, p)| l / p).collect();
    let (low, high) = tpf.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    let range = if tpf.is_empty() { 0.0 } else { high - low };
    let rate: Vec<f64> = correct.iter().map(|c| c.iter().sum::<f64>() / c.len().max(1) as f64).collect();
    let between = |x: &f64| if range > 0.0 { (x - low) / range } else { 0.0 };
    Ok(json!({
        "dynamic_transfer": places(dynamic.chosen(&own).0),
        "static_transfer": places(fixed.chosen(&own).0),
        "sequential_transfer": open.first().map_or(0..0, |&i| i..sure.len().min(i.saturating_add(least))).collect::<Vec<_>>(),
        "speed_reward": {
            "none_coef1": tpf,
            "z_score_coef1": z_scores(&tpf),
            "minmax": tpf.iter().map(between).collect::<Vec<_>>(),
        },
        "accuracy_z": z_scores(&rate),
        "kept_by_filter_range>=0.01": range >= 0.01 && rate.iter().any(|r| *r > 0.0),
        "accuracy_pass_rate": rate,
        "tpf": tpf,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sure_ones_stay_or_the_surest_few() {
        let pick = |least| Dynamic { tau: 0.8, least }.chosen(&[0.7, 0.9, 0.8, 0.85]);
        assert_eq!((pick(2), pick(3)), ((vec![1, 3], true), (vec![1, 2, 3], false)));
        assert_eq!(z_scores(&[1.0, 3.0]), [-1.0, 1.0]);
        assert_eq!(z_scores(&[2.0, 2.0]), [0.0, 0.0]);
    }
}
