//! AdamW with its state in reach, so that a run can stop and go on.
//! Loshchilov and Hutter 2017, arXiv 1711.05101.

use crate::params::Params;
use anyhow::Context as _;
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Decay of the two averages.
const BETAS: (f64, f64) = (0.9, 0.98);
/// Added below the fraction.
const EPS: f64 = 1e-8;
/// Pull of matrices towards zero.
const DECAY: f64 = 0.02;
/// Longest gradient, over all variables.
const CLIP: f64 = 1.0;

/// Averages of the gradient and of its square, and the number of steps.
#[derive(Default)]
pub struct Adam {
    moments: BTreeMap<String, (Vec<f32>, Vec<f32>)>,
    steps: usize,
}

impl Adam {
    /// Steps done.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// One step; `rate` gives the learning rate of a variable. Returns the length of the gradient.
    pub fn step(
        &mut self,
        params: &Params,
        grads: &BTreeMap<String, Tensor>,
        rate: &dyn Fn(&str) -> f64,
    ) -> anyhow::Result<f64> {
        self.steps += 1;
        let mut flat = BTreeMap::new();
        let mut length = 0f64;
        for (name, g) in grads {
            let g = g.flatten_all()?.to_vec1::<f32>()?;
            length += g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            flat.insert(name, g);
        }
        let length = length.sqrt();
        anyhow::ensure!(length.is_finite(), "the gradient is not finite at step {}; lower the rate", self.steps);
        let scale = if length > CLIP { CLIP / length } else { 1.0 };
        let (b1, b2) = BETAS;
        let (c1, c2) = (1.0 - b1.powi(self.steps as i32), 1.0 - b2.powi(self.steps as i32));
        for (name, g) in flat {
            let var = params.get(name)?;
            let rate = rate(name);
            let mut x = var.as_tensor().flatten_all()?.to_vec1::<f32>()?;
            let (m, v) = self.moments.entry(name.clone()).or_insert_with(|| (vec![0.0; x.len()], vec![0.0; x.len()]));
            let decay = if var.dims().len() > 1 { (1.0 - rate * DECAY) as f32 } else { 1.0 };
            let (b1, b2) = (b1 as f32, b2 as f32);
            let (step, root, scale) = ((rate / c1) as f32, (1.0 / c2) as f32, scale as f32);
            for (((x, g), m), v) in x.iter_mut().zip(g).zip(m.iter_mut()).zip(v.iter_mut()) {
                let g = g * scale;
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *x = *x * decay - step * *m / ((*v * root).sqrt() + EPS as f32);
            }
            var.set(&Tensor::from_vec(x, var.dims(), &Device::Cpu)?)?;
        }
        Ok(length)
    }

    /// Writes variables and averages; `done` is the number of steps of the stage.
    pub fn save(&self, params: &Params, path: &Path) -> anyhow::Result<()> {
        let mut all = HashMap::new();
        for (name, v) in params.iter() {
            all.insert(format!("x.{name}"), v.as_detached_tensor());
        }
        for (name, (m, v)) in &self.moments {
            all.insert(format!("m.{name}"), Tensor::from_slice(m, m.len(), &Device::Cpu)?);
            all.insert(format!("v.{name}"), Tensor::from_slice(v, v.len(), &Device::Cpu)?);
        }
        all.insert("steps".into(), Tensor::new(&[self.steps as i64], &Device::Cpu)?);
        // Written beside and renamed, so that a run that is cut off leaves the last whole one.
        let part = path.with_extension("part");
        candle_core::safetensors::save(&all, &part).with_context(|| format!("cannot write {}", part.display()))?;
        std::fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads what [`Adam::save`] wrote: values into `params`, averages into the result.
    pub fn load(params: &Params, path: &Path) -> anyhow::Result<Self> {
        let all = candle_core::safetensors::load(path, &Device::Cpu)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut out = Self::default();
        let values = |prefix: &str| -> BTreeMap<String, Tensor> {
            all.iter().filter_map(|(k, t)| Some((k.strip_prefix(prefix)?.to_string(), t.clone()))).collect()
        };
        let n = params.load(&values("x."))?;
        anyhow::ensure!(n == params.iter().count(), "{} belongs to a model of another shape", path.display());
        let second = values("v.");
        for (name, m) in values("m.") {
            let v = second.get(&name).with_context(|| format!("{} is incomplete", path.display()))?;
            out.moments.insert(name, (m.to_vec1()?, v.to_vec1()?));
        }
        let steps = all.get("steps").with_context(|| format!("{} is incomplete", path.display()))?;
        out.steps = steps.to_vec1::<i64>()?[0] as usize;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Spec, Start};

    #[test]
    fn a_step_by_hand_and_on_after_a_stop() {
        let specs = [Spec::new("a", &[2], Start::Value(1.0))];
        let grads: BTreeMap<String, Tensor> =
            [("a".to_string(), Tensor::new(&[0.3f32, -0.4], &Device::Cpu).unwrap())].into();
        let read = |p: &Params| p.get("a").unwrap().to_vec1::<f32>().unwrap();
        let p = Params::new(&specs, 1).unwrap();
        let mut adam = Adam::default();
        // The first step goes by the rate against the sign of the gradient.
        assert!((adam.step(&p, &grads, &|_| 0.1).unwrap() - 0.5).abs() < 1e-6);
        assert!((read(&p)[0] - 0.9).abs() < 1e-5 && (read(&p)[1] - 1.1).abs() < 1e-5);

        let dir = std::env::temp_dir().join(format!("tokenscope-adam-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        adam.save(&p, &dir.join("a.safetensors")).unwrap();
        adam.step(&p, &grads, &|_| 0.1).unwrap();
        let q = Params::new(&specs, 2).unwrap();
        let mut again = Adam::load(&q, &dir.join("a.safetensors")).unwrap();
        assert_eq!(again.steps(), 1);
        again.step(&q, &grads, &|_| 0.1).unwrap();
        assert_eq!(read(&p), read(&q));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
