//! Linear maps, norms, activations, MLPs, and the scope that finds their weights.

use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{D, Device, Tensor};

/// A prefix in a checkpoint, so that paths read like the checkpoint's own.
#[derive(Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
    device: Device,
}

impl<'a> Scope<'a> {
    /// The root of a checkpoint.
    pub fn root(weights: &'a Weights, device: &Device) -> Self {
        Self { weights, prefix: String::new(), device: device.clone() }
    }

    /// The scope below `name`; an empty name is this one.
    pub fn sub(&self, name: impl std::fmt::Display) -> Self {
        let name = name.to_string();
        let prefix = if name.is_empty() { self.prefix.clone() } else { format!("{}{name}.", self.prefix) };
        Self { weights: self.weights, prefix, device: self.device.clone() }
    }

    /// The first of `names` below which `probe` exists; the last one if none does, so that errors name it.
    pub fn first(&self, names: &[&str], probe: &str) -> Self {
        let found = names.iter().find(|n| self.sub(n).has(probe));
        self.sub(found.or(names.last()).copied().unwrap_or_default())
    }

    /// Whether there is a tensor `name` here.
    pub fn has(&self, name: &str) -> bool {
        self.weights.has(&format!("{}{name}", self.prefix))
    }

    /// The shape of the tensor `name`, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.weights.shape(&format!("{}{name}", self.prefix))
    }

    /// The tensor `name`, of exactly this shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.weights.get(&format!("{}{name}", self.prefix), shape, &self.device)
    }

    /// The device that tensors go to.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// `y = x W + b`, with `W` kept as `[in, out]`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// From a PyTorch `Linear`, stored `[out, in]`.
    pub fn load(s: &Scope, input: usize, output: usize, bias: bool) -> Result<Self> {
        let weight = s.get("weight", &[output, input])?.t()?;
        Ok(Self { weight, bias: bias.then(|| s.get("bias", &[output])).transpose()? })
    }

    /// From a GPT-2 `Conv1D`, stored `[in, out]`.
    pub fn load_conv1d(s: &Scope, input: usize, output: usize) -> Result<Self> {
        Ok(Self { weight: s.get("weight", &[input, output])?, bias: Some(s.get("bias", &[output])?) })
    }

    /// From a matrix `[out, in]`.
    pub fn from_matrix(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        Ok(Self { weight: weight.t()?, bias })
    }

    /// Columns `start..start + len` of the output, as a map of their own.
    pub fn slice(&self, start: usize, len: usize) -> Result<Self> {
        let bias = self.bias.as_ref().map(|b| b.narrow(0, start, len)).transpose()?;
        Ok(Self { weight: self.weight.narrow(1, start, len)?.contiguous()?, bias })
    }

    /// `[n, in]` → `[n, out]`.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight)?;
        Ok(match &self.bias {
            Some(b) => y.broadcast_add(b)?,
            None => y,
        })
    }

    /// The same map followed by a factor per output channel (layer scale).
    pub fn scaled(&self, factor: &Tensor) -> Result<Self> {
        let bias = self.bias.as_ref().map(|b| b * factor).transpose()?;
        Ok(Self { weight: self.weight.broadcast_mul(factor)?, bias })
    }

    /// The matrix `[in, out]`.
    pub fn matrix(&self) -> &Tensor {
        &self.weight
    }
}

/// Layer norm or RMS norm over the last axis.
#[derive(Debug, Clone)]
pub struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f64,
    center: bool,
}

impl Norm {
    /// A layer norm; old checkpoints call weight and bias `gamma` and `beta`.
    pub fn layer(s: &Scope, width: usize, eps: f64) -> Result<Self> {
        let (w, b) = if s.has("gamma") { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Self { weight: s.get(w, &[width])?, bias: Some(s.get(b, &[width])?), eps, center: true })
    }

    /// An RMS norm.
    pub fn rms(s: &Scope, width: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: s.get("weight", &[width])?, bias: None, eps, center: false })
    }

    /// Normalises the last axis.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let x = if self.center { x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)? } else { x.clone() };
        let inv = (x.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?.recip()?;
        let y = x.broadcast_mul(&inv)?.broadcast_mul(&self.weight)?;
        Ok(match &self.bias {
            Some(b) => y.broadcast_add(b)?,
            None => y,
        })
    }
}

/// A non-linearity, by the names of `transformers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Exact GELU.
    Gelu,
    /// GELU by tanh.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`.
    QuickGelu,
    /// `x · sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    Relu2,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x`, or a hundredth of it below zero.
    LeakyRelu,
    /// `tanh(x)`.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x · tanh(ln(1 + exp(x)))`.
    Mish,
    /// `x`.
    Linear,
}

impl Activation {
    /// Errors on a name that is not known, rather than computing something else.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast" | "gelu_accurate" => Self::GeluTanh,
            "quick_gelu" => Self::QuickGelu,
            "silu" | "swish" => Self::Silu,
            "relu" => Self::Relu,
            "relu2" => Self::Relu2,
            "relu6" => Self::Relu6,
            "leaky_relu" => Self::LeakyRelu,
            "tanh" => Self::Tanh,
            "sigmoid" => Self::Sigmoid,
            "mish" => Self::Mish,
            "linear" => Self::Linear,
            other => return Err(Error::invalid(format!("config.json: activation {other} is not supported"))),
        })
    }

    /// Element by element.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Gelu => x.gelu_erf()?,
            Self::GeluTanh => x.gelu()?,
            Self::QuickGelu => (x / ((x * -1.702)?.exp()? + 1.0)?)?,
            Self::Silu => x.silu()?,
            Self::Relu => x.relu()?,
            Self::Relu2 => x.relu()?.sqr()?,
            Self::Relu6 => x.clamp(0f32, 6f32)?,
            Self::LeakyRelu => ((x.relu()? * 0.99)? + (x * 0.01)?)?,
            Self::Tanh => x.tanh()?,
            Self::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip()?,
            // ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|)), which does not overflow.
            Self::Mish => {
                let softplus = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
                (x * softplus.tanh()?)?
            }
            Self::Linear => x.clone(),
        })
    }
}

/// The two-layer part of a block, plain or gated.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// Gate, for gated MLPs.
    pub gate: Option<Linear>,
    /// First map.
    pub up: Linear,
    /// Second map.
    pub down: Linear,
    /// Between them.
    pub act: Activation,
}

impl Mlp {
    /// `[n, d]` → `[n, d]`.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let up = self.up.apply(x)?;
        let h = match &self.gate {
            Some(gate) => (self.act.apply(&gate.apply(x)?)? * up)?,
            None => self.act.apply(&up)?,
        };
        self.down.apply(&h)
    }
}

/// Rows `ids` of a table. Errors on an id outside it.
pub fn embedding(table: &Tensor, ids: &[u32], what: &str) -> Result<Tensor> {
    let rows = table.dim(0)?;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
        return Err(Error::invalid(format!(
            "{what} {id} is outside the model's table of {rows}; is the tokenizer this model's?"
        )));
    }
    let idx = Tensor::new(ids, table.device())?;
    Ok(table.index_select(&idx, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_by_hand() {
        let x = Tensor::new(&[-2f32, 0.5, 7.0], &Device::Cpu).unwrap();
        let mish = |x: f64| (x * x.exp().ln_1p().tanh()) as f32;
        for (name, want) in [
            ("relu2", [0.0, 0.25, 49.0]),
            ("relu6", [0.0, 0.5, 6.0]),
            ("leaky_relu", [-0.02, 0.5, 7.0]),
            ("linear", [-2.0, 0.5, 7.0]),
            ("sigmoid", [0.119_203, 0.622_459, 0.999_089]),
            ("mish", [mish(-2.0), mish(0.5), mish(7.0)]),
        ] {
            let y = Activation::parse(name).unwrap().apply(&x).unwrap().to_vec1::<f32>().unwrap();
            assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {y:?}");
        }
        assert!(Activation::parse("quantum_gelu").is_err());
    }
}
