//! The variables of a training run: names and shapes as in a checkpoint, seeded first values.

use anyhow::Context as _;
use candle_core::{Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tokenscope_analysis::model::{Model, from_weights};
use tokenscope_analysis::weights::Weights;

/// Where a variable starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// Normal with this deviation.
    Normal(f64),
    /// One value.
    Value(f32),
    /// These values.
    These(Vec<f32>),
    /// As the matrix of this name.
    As(String),
    /// As the matrix of this name, transposed, times a factor.
    Turned(String, f64),
}

/// A variable that a model needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Name in the checkpoint.
    pub name: String,
    /// Its axes.
    pub shape: Vec<usize>,
    /// First values.
    pub start: Start,
}

impl Spec {
    /// A variable.
    pub fn new(name: impl Into<String>, shape: &[usize], start: Start) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), start }
    }

    /// A matrix `[out, in]` of a linear map whose output has about the deviation of its input times `gain`.
    pub fn linear(name: String, input: usize, output: usize, gain: f64) -> Self {
        Self::new(name + ".weight", &[output, input], Start::Normal(gain / (input as f64).sqrt()))
    }
}

/// All variables by name.
pub struct Params {
    vars: BTreeMap<String, Var>,
}

impl Params {
    /// First values of `specs`; each variable has its own stream of random numbers, so that adding one changes no other.
    pub fn new(specs: &[Spec], seed: u64) -> anyhow::Result<Self> {
        let mut out = Self { vars: BTreeMap::new() };
        // Those that start as others do come last.
        let mut specs: Vec<&Spec> = specs.iter().collect();
        specs.sort_by_key(|s| matches!(s.start, Start::As(_) | Start::Turned(..)));
        for s in specs {
            let n: usize = s.shape.iter().product();
            let t = match &s.start {
                Start::Value(v) => Tensor::from_vec(vec![*v; n], s.shape.clone(), &Device::Cpu)?,
                Start::These(values) => Tensor::from_vec(values.clone(), s.shape.clone(), &Device::Cpu)?,
                Start::Normal(deviation) => {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    rng.set_stream(hash(&s.name));
                    let values: Vec<f32> = (0..n).map(|_| (deviation * normal(&mut rng)) as f32).collect();
                    Tensor::from_vec(values, s.shape.clone(), &Device::Cpu)?
                }
                Start::As(other) => out.get(other)?.as_tensor().copy()?,
                Start::Turned(other, factor) => (out.get(other)?.as_tensor().t()?.contiguous()? * *factor)?,
            };
            anyhow::ensure!(t.dims() == s.shape, "{} cannot start as a matrix of another shape", s.name);
            out.vars.insert(s.name.clone(), Var::from_tensor(&t)?);
        }
        Ok(out)
    }

    /// Names and variables, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Var)> {
        self.vars.iter()
    }

    /// The variable of that name.
    pub fn get(&self, name: &str) -> anyhow::Result<&Var> {
        self.vars.get(name).with_context(|| format!("there is no variable {name}"))
    }

    /// Takes over the values of every variable that `from` has, too.
    pub fn load(&self, from: &BTreeMap<String, Tensor>) -> anyhow::Result<usize> {
        let mut n = 0;
        for (name, var) in &self.vars {
            if let Some(t) = from.get(name) {
                var.set(t)?;
                n += 1;
            }
        }
        Ok(n)
    }

    /// A model over the variables below `prefix`, which is cut off; those that `learns` refuses get no gradient.
    pub fn model(
        &self,
        config: &Map<String, Value>,
        prefix: &str,
        learns: &dyn Fn(&str) -> bool,
    ) -> anyhow::Result<Box<dyn Model>> {
        let tensors = self.vars.iter().filter_map(|(name, v)| {
            let short = name.strip_prefix(prefix)?.to_string();
            Some((short, if learns(name) { v.as_tensor().clone() } else { v.as_detached_tensor() }))
        });
        let weights = Weights::from_tensors("training", config.clone(), tensors)?;
        Ok(from_weights(&weights, &Device::Cpu)?)
    }
}

/// FNV-1a, to turn a name into a stream of random numbers.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_start_as_others_do() {
        let specs = [
            Spec::new("b", &[2, 3], Start::As("a".into())),
            Spec::new("c", &[3, 2], Start::Turned("a".into(), 0.5)),
            Spec::new("a", &[2, 3], Start::Normal(1.0)),
        ];
        let p = Params::new(&specs, 3).unwrap();
        let read = |n: &str| p.get(n).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(read("a"), read("b"));
        assert_eq!(read("c")[2][1], 0.5 * read("a")[1][2]);
        assert!(read("a")[0][0] != read("a")[1][0]);
        assert!(Params::new(&[specs[2].clone(), Spec::new("d", &[2, 3], Start::Turned("a".into(), 1.0))], 3).is_err());
    }
}
