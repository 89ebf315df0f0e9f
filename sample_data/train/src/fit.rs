//! The training loop: samples of a batch in parallel, gradients summed in order, a rate that rises and falls.

use crate::adam::Adam;
use crate::params::Params;
use anyhow::Context as _;
use candle_core::Tensor;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;
use tokenscope_analysis::model::Model;

/// What is learned from.
pub trait Task: Sync {
    /// Configuration of the model, as `config.json` will say it.
    fn config(&self) -> serde_json::Map<String, serde_json::Value>;

    /// Prefix of the model's variables among all; others are heads that only training needs.
    fn prefix(&self) -> &str {
        ""
    }

    /// Learning rate of a variable relative to the stage's; 0 leaves it as it is.
    fn rate_of(&self, _name: &str) -> f64 {
        1.0
    }

    /// Loss of one sample, a scalar. `gone` is the share of the stage that is over.
    fn loss(&self, model: &dyn Model, params: &Params, sample: u64, gone: f64) -> anyhow::Result<Tensor>;
}

/// How long and how fast.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Name, for the log and the checkpoint.
    pub name: String,
    /// Optimiser steps.
    pub steps: usize,
    /// Samples a step.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f64,
    /// First sample; sample numbers count on from here.
    pub first: u64,
}

/// Where a run keeps its checkpoints and loss logs.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder.
    pub dir: PathBuf,
    /// Steps between checkpoints.
    pub every: usize,
}

/// What a stage took and where it ended.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Steps.
    pub steps: usize,
    /// Samples.
    pub samples: usize,
    /// Seconds on the machine that trained, over all parts of a run that was stopped.
    pub seconds: f64,
    /// Mean loss of the last twentieth.
    pub last_loss: f64,
}

impl Stage {
    /// The rate at `step`: rises over 3% of the stage, then falls as a cosine to a fiftieth.
    fn rate_at(&self, step: usize) -> f64 {
        let warm = (self.steps as f64 * 0.03).max(1.0);
        let gone = step as f64 / self.steps.max(1) as f64;
        self.rate * ((step + 1) as f64 / warm).min(1.0) * (0.02 + 0.49 * (1.0 + (std::f64::consts::PI * gone).cos()))
    }
}

/// Trains `params`. A checkpoint of this stage in `place` is gone on from.
pub fn fit(task: &dyn Task, params: &Params, stage: &Stage, place: &Place) -> anyhow::Result<Report> {
    std::fs::create_dir_all(&place.dir).with_context(|| format!("cannot make {}", place.dir.display()))?;
    let file = place.dir.join(format!("{}.safetensors", stage.name));
    let side = place.dir.join(format!("{}.json", stage.name));
    let log = place.dir.join(format!("{}.csv", stage.name));
    let (mut adam, mut report) = (Adam::default(), Report::default());
    if file.exists() && side.exists() {
        adam = Adam::load(params, &file)?;
        report = serde_json::from_str(&std::fs::read_to_string(&side)?)?;
        println!("{}: going on at step {} of {}", stage.name, adam.steps(), stage.steps);
    }
    let mut log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let config = task.config();
    let learns = |name: &str| task.rate_of(name) > 0.0;
    let (start, before) = (Instant::now(), report.seconds);
    let (mut sum, mut count, mut tail, mut n_tail) = (0.0, 0, 0.0, 0);
    for step in adam.steps()..stage.steps {
        let gone = step as f64 / stage.steps as f64;
        let model = params.model(&config, task.prefix(), &learns)?;
        let one = |i: usize| -> anyhow::Result<(f32, BTreeMap<String, Tensor>)> {
            let sample = stage.first + (step * stage.batch + i) as u64;
            let loss = task.loss(model.as_ref(), params, sample, gone)?;
            let store = loss.backward()?;
            let grads = params.iter().filter_map(|(n, v)| Some((n.clone(), store.get(v)?.clone()))).collect();
            Ok((loss.to_scalar::<f32>()?, grads))
        };
        // Collected in order, so that the sum does not depend on the number of threads.
        let parts: Vec<_> = (0..stage.batch).into_par_iter().map(one).collect::<anyhow::Result<_>>()?;
        let mut grads: BTreeMap<String, Tensor> = BTreeMap::new();
        for (loss, part) in parts {
            sum += f64::from(loss) / stage.batch as f64;
            for (name, g) in part {
                let total = match grads.remove(&name) {
                    Some(t) => (t + g)?,
                    None => g,
                };
                grads.insert(name, total);
            }
        }
        for g in grads.values_mut() {
            *g = (&*g / stage.batch as f64)?;
        }
        let rate = stage.rate_at(step);
        adam.step(params, &grads, &|name| rate * task.rate_of(name))?;
        count += 1;
        let done = step + 1;
        if done % 25 == 0 || done == stage.steps {
            let seconds = before + start.elapsed().as_secs_f64();
            let mean = sum / count as f64;
            if done * 20 > stage.steps * 19 {
                tail += sum;
                n_tail += count;
            }
            println!("{} step {done}/{} loss {mean:.4} after {seconds:.0} s", stage.name, stage.steps);
            writeln!(log, "{done},{mean:.5},{rate:.6},{seconds:.1}")?;
            (sum, count) = (0.0, 0);
        }
        if done % place.every == 0 || done == stage.steps {
            report.steps = done;
            report.samples = done * stage.batch;
            report.seconds = before + start.elapsed().as_secs_f64();
            report.last_loss = if n_tail > 0 { tail / n_tail as f64 } else { report.last_loss };
            adam.save(params, &file)?;
            std::fs::write(&side, serde_json::to_string(&report)?)?;
        }
    }
    Ok(report)
}

/// Mean negative log-probability of `targets` `(row, id, weight)` under `logits` `[rows, vocab]`, weighted.
pub fn cross_entropy(logits: &Tensor, targets: &[(u32, u32, f32)]) -> anyhow::Result<Tensor> {
    let d = logits.device();
    let rows: Vec<u32> = targets.iter().map(|t| t.0).collect();
    let ids: Vec<u32> = targets.iter().map(|t| t.1).collect();
    let total: f32 = targets.iter().map(|t| t.2).sum();
    let weights: Vec<f32> = targets.iter().map(|t| t.2 / total).collect();
    let n = targets.len();
    let x = logits.index_select(&Tensor::new(rows, d)?, 0)?;
    let x = x.broadcast_sub(&x.detach().max_keepdim(1)?)?;
    let lse = x.exp()?.sum_keepdim(1)?.log()?;
    let own = x.gather(&Tensor::new(ids, d)?.reshape((n, 1))?, 1)?;
    Ok(((lse - own)?.squeeze(1)? * Tensor::new(weights, d)?)?.sum_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn cross_entropy_by_hand() {
        let logits = Tensor::new(&[[0f32, 0.0], [0.0, 3f32.ln()]], &Device::Cpu).unwrap();
        // A half and three quarters, weighted 1 to 3.
        let got = cross_entropy(&logits, &[(0, 0, 1.0), (1, 1, 3.0)]).unwrap().to_scalar::<f32>().unwrap();
        let want = 0.25 * 2f32.ln() + 0.75 * (4f32 / 3.0).ln();
        assert!((got - want).abs() < 1e-6);
    }

    #[test]
    fn the_rate_rises_then_falls() {
        let s = Stage { name: "s".into(), steps: 100, batch: 1, rate: 1.0, first: 0 };
        assert!(s.rate_at(0) < s.rate_at(2) && s.rate_at(50) < s.rate_at(3) && s.rate_at(99) < 0.03);
    }
}
