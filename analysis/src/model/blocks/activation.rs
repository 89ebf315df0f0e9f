//! Non-linearities.

use super::cpu::{self, map_wide};
use super::frozen;
use crate::ctx::Ctx;
use crate::{Error, Result};
use candle_core::Tensor;

/// A non-linearity, by the names of `transformers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Exact GELU.
    Gelu,
    /// Exact GELU within −10 and 10.
    Gelu10,
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
    /// `x · min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// How much of a bell around `1 / √2` of variance `1 / 4π` lies below `x` (Ma et al. 2022, arXiv 2209.10655).
    Laplace,
    /// `√ln(1 + exp(x))`.
    SqrtSoftplus,
    /// `x`.
    Linear,
}

/// Middle of [`Activation::Laplace`], and what the distance to it is divided by: its deviation times the root of 2; both
/// are rounded to six digits as in transformers.
const BELL: (f64, f64) = (707_107.0 / 1e6, 0.282_095 * std::f64::consts::SQRT_2);

impl Activation {
    /// Errors on a name that is not known, rather than computing something else.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast" | "gelu_accurate" => Self::GeluTanh,
            "gelu_10" => Self::Gelu10,
            "quick_gelu" => Self::QuickGelu,
            "silu" | "swish" => Self::Silu,
            "relu" => Self::Relu,
            "relu2" => Self::Relu2,
            "relu6" => Self::Relu6,
            "leaky_relu" => Self::LeakyRelu,
            "tanh" => Self::Tanh,
            "sigmoid" => Self::Sigmoid,
            "mish" => Self::Mish,
            "hardswish" => Self::HardSwish,
            "laplace" => Self::Laplace,
            "sqrtsoftplus" => Self::SqrtSoftplus,
            "linear" => Self::Linear,
            other => return Err(Error::invalid(format!("config.json: activation {other} is not supported"))),
        })
    }

    /// Element by element.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        let asks = frozen::asks(x) && self.has_way_back();
        if asks || cpu::is_plain(x) {
            let mut y = x.flatten_all()?.to_vec1::<f32>()?;
            self.apply_plain(&mut y, &Ctx::default());
            return match asks {
                true => frozen::of_one("activation", x, (y, x.dims().into()), move |x, grad| self.back(x, grad)),
                false => Ok(Tensor::from_vec(y, x.dims(), x.device())?),
            };
        }
        Ok(match self {
            Self::Gelu => x.gelu_erf()?,
            Self::Gelu10 => x.gelu_erf()?.clamp(-10f32, 10f32)?,
            Self::GeluTanh => x.gelu()?,
            Self::QuickGelu => (x / ((x * -1.702)?.exp()? + 1.0)?)?,
            Self::Silu => x.silu()?,
            Self::Relu => x.relu()?,
            Self::Relu2 => x.relu()?.sqr()?,
            Self::Relu6 => x.clamp(0f32, 6f32)?,
            Self::LeakyRelu => ((x.relu()? * 0.99)? + (x * 0.01)?)?,
            Self::Tanh => x.tanh()?,
            Self::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip()?,
            Self::Mish => (x * softplus(x)?.tanh()?)?,
            Self::HardSwish => ((x * (x + 3.0)?.clamp(0f32, 6f32)?)? / 6.0)?,
            Self::Laplace => ((((x - BELL.0)? / BELL.1)?.erf()? + 1.0)? * 0.5)?,
            Self::SqrtSoftplus => softplus(x)?.sqrt()?,
            Self::Linear => x.clone(),
        })
    }

    /// In place.
    pub(super) fn apply_plain(self, x: &mut [f32], ctx: &Ctx) {
        match self {
            Self::Gelu => map_wide!(x, ctx, cpu::gelu),
            Self::Gelu10 => cpu::map(x, ctx, |x| cpu::gelu(x).clamp(-10.0, 10.0)),
            Self::GeluTanh => map_wide!(x, ctx, cpu::gelu_tanh),
            Self::QuickGelu => map_wide!(x, ctx, cpu::quick_gelu),
            Self::Silu => map_wide!(x, ctx, cpu::silu),
            Self::Relu => cpu::map(x, ctx, |x| if x > 0.0 { x } else { 0.0 }),
            Self::Relu2 => cpu::map(x, ctx, |x| if x > 0.0 { x * x } else { 0.0 }),
            Self::Relu6 => cpu::map(x, ctx, |x| x.clamp(0.0, 6.0)),
            Self::LeakyRelu => cpu::map(x, ctx, |x| if x > 0.0 { x } else { 0.01 * x }),
            Self::Tanh => map_wide!(x, ctx, cpu::tanh),
            Self::Sigmoid => map_wide!(x, ctx, cpu::sigmoid),
            Self::Mish => cpu::map(x, ctx, |x| x * softplus_of(x).tanh()),
            Self::HardSwish => cpu::map(x, ctx, |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0),
            // GELU knows the share of the plain bell, of variance 1, below a number.
            Self::Laplace => {
                let by = (std::f64::consts::SQRT_2 / BELL.1) as f32;
                cpu::map(x, ctx, |x| cpu::below((x - BELL.0 as f32) * by));
            }
            Self::SqrtSoftplus => cpu::map(x, ctx, |x| softplus_of(x).sqrt()),
            Self::Linear => {}
        }
    }

    /// Whether [`Activation::back`] knows it.
    fn has_way_back(self) -> bool {
        matches!(self, Self::Gelu | Self::GeluTanh | Self::QuickGelu | Self::Silu | Self::Relu)
    }

    /// The gradient of plain `x` from that of the result.
    fn back(self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => cpu::zip(x, grad, |x, g| g * cpu::gelu_slope(x)),
            Self::GeluTanh => cpu::zip(x, grad, |x, g| g * cpu::gelu_tanh_slope(x)),
            Self::QuickGelu => cpu::zip(x, grad, |x, g| g * cpu::swish_slope(x, 1.702)),
            Self::Silu => cpu::zip(x, grad, |x, g| g * cpu::swish_slope(x, 1.0)),
            Self::Relu => cpu::zip(x, grad, |x, g| if x > 0.0 { g } else { 0.0 }),
            other => Err(Error::invalid(format!("{other:?} has no way back by hand"))),
        }
    }
}

/// `ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|))`, which does not overflow.
fn softplus(x: &Tensor) -> Result<Tensor> {
    Ok((x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?)
}

/// [`softplus`] of a number.
fn softplus_of(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn slopes_are_what_small_steps_say() {
        for act in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Silu, Activation::Relu] {
            let xs: Vec<f32> = (-60..=60).map(|i| i as f32 / 8.0 + 0.03).collect();
            let x = Var::new(xs.as_slice(), &Device::Cpu).unwrap();
            let grads = (act.apply(&x).unwrap() * 2.0).unwrap().sum_all().unwrap().backward().unwrap();
            let got = grads.get(&x).unwrap().to_vec1::<f32>().unwrap();
            let at = |by: f64| {
                let x: Vec<f64> = xs.iter().map(|&x| f64::from(x) + by).collect();
                act.apply(&Tensor::new(x, &Device::Cpu).unwrap()).unwrap().to_vec1::<f64>().unwrap()
            };
            for ((got, high), low) in got.iter().zip(at(1e-4)).zip(at(-1e-4)) {
                let want = 2.0 * (high - low) / 2e-4;
                assert!((f64::from(*got) - want).abs() < 1e-5, "{act:?}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn activations_by_hand() {
        let x = Tensor::new(&[-2f32, 0.5, 7.0], &Device::Cpu).unwrap();
        let large = Tensor::new(&[12f32, 3.0], &Device::Cpu).unwrap();
        let y = Activation::parse("gelu_10").unwrap().apply(&large).unwrap().to_vec1::<f32>().unwrap();
        assert!(y[0] == 10.0 && (y[1] - 2.995_95).abs() < 1e-5, "{y:?}");
        let mish = |x: f64| (x * x.exp().ln_1p().tanh()) as f32;
        for (name, want) in [
            ("relu2", [0.0, 0.25, 49.0]),
            ("relu6", [0.0, 0.5, 6.0]),
            ("leaky_relu", [-0.02, 0.5, 7.0]),
            ("linear", [-2.0, 0.5, 7.0]),
            ("sigmoid", [0.119_203, 0.622_459, 0.999_089]),
            ("mish", [mish(-2.0), mish(0.5), mish(7.0)]),
            ("hardswish", [-1.0 / 3.0, 1.75 / 6.0, 7.0]),
            ("laplace", [0.0, 0.231_421, 1.0]),
            ("sqrtsoftplus", [0.356_270, 0.986_953, 2.645_924]),
        ] {
            let act = Activation::parse(name).unwrap();
            let y = act.apply(&x).unwrap().to_vec1::<f32>().unwrap();
            assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {y:?}");
            let wide = x.to_dtype(candle_core::DType::F64).unwrap();
            let y = act.apply(&wide).unwrap().to_vec1::<f64>().unwrap();
            assert!(y.iter().zip(want).all(|(a, b)| (a - f64::from(b)).abs() < 1e-5), "{name} of tensors: {y:?}");
        }
        assert!(Activation::parse("quantum_gelu").is_err());
    }
}
