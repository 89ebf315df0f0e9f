//! Rotary position embedding, half-split pairs (i, i + e/2) as in Llama.

use super::Config;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// Frequencies of a rotary embedding.
#[derive(Debug, Clone)]
pub struct Rope {
    inv_freq: Vec<f64>,
}

impl Rope {
    /// Reads base and scaling from both spellings of `config.json` (`rope_parameters`, or `rope_theta` with
    /// `rope_scaling`). Scaling types: default, linear, llama3; others are refused.
    pub fn load(config: &Config, head_width: usize) -> Result<Self> {
        if !head_width.is_multiple_of(2) {
            let e = format!("config.json: rotary embedding needs an even head width, not {head_width}");
            return Err(Error::invalid(e));
        }
        let new = config.sub("rope_parameters");
        let scaling = new.or(config.sub("rope_scaling"));
        let legacy = config.number(&["rope_theta"], 10_000.0)?;
        let base = match new {
            Some(p) => p.number(&["rope_theta"], legacy)?,
            None => legacy,
        };
        positive(base, "rope_theta")?;
        let power = |i: usize| base.powf(-2.0 * i as f64 / head_width as f64);
        let mut inv_freq: Vec<f64> = (0..head_width / 2).map(power).collect();
        let kind = scaling.map_or("default", |s| s.word(&["rope_type", "type"], "default"));
        match (kind, scaling) {
            ("default", _) | (_, None) => {}
            ("linear", Some(s)) => {
                let factor = positive(s.number(&["factor"], 1.0)?, "factor")?;
                inv_freq.iter_mut().for_each(|f| *f /= factor);
            }
            ("llama3", Some(s)) => llama3(&mut inv_freq, &s)?,
            ("factors", Some(s)) => divide(&mut inv_freq, &s)?,
            (other, _) => {
                return Err(Error::invalid(format!(
                    "config.json: rope scaling {other} is not supported (default, linear and llama3 are)"
                )));
            }
        }
        Ok(Self { inv_freq })
    }

    /// Cosines and sines `[n, e]` at these positions.
    pub fn tables(&self, positions: &[usize], device: &Device) -> Result<(Tensor, Tensor)> {
        let half = self.inv_freq.len();
        let mut cos = Vec::with_capacity(positions.len() * half * 2);
        let mut sin = Vec::with_capacity(positions.len() * half * 2);
        for &p in positions {
            for _ in 0..2 {
                for f in &self.inv_freq {
                    // transformers forms the angle in f32, and far positions feel it.
                    let angle = p as f32 * *f as f32;
                    cos.push(angle.cos());
                    sin.push(angle.sin());
                }
            }
        }
        let shape = (positions.len(), half * 2);
        Ok((Tensor::from_vec(cos, shape, device)?, Tensor::from_vec(sin, shape, device)?))
    }

    /// Turns `[heads, n, e]` by tables of `[n, e]`.
    pub fn turn(x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
        let e = x.dim(2)?;
        let (a, b) = (x.narrow(2, 0, e / 2)?, x.narrow(2, e / 2, e / 2)?);
        let turned = Tensor::cat(&[&b.neg()?, &a], 2)?;
        Ok((x.broadcast_mul(cos)? + turned.broadcast_mul(sin)?)?)
    }
}

fn positive(v: f64, what: &str) -> Result<f64> {
    if v > 0.0 { Ok(v) } else { Err(Error::invalid(format!("config.json: rope {what} is {v}, not positive"))) }
}

/// A divisor per frequency, as GGUF files store the scaling of Llama 3.1.
fn divide(inv_freq: &mut [f64], s: &Config) -> Result<()> {
    let factors: Vec<f64> = match s.value(&["factors"]).and_then(|v| v.as_array()) {
        Some(list) => list.iter().filter_map(serde_json::Value::as_f64).collect(),
        None => Vec::new(),
    };
    if factors.len() != inv_freq.len() || factors.iter().any(|f| *f <= 0.0) {
        let (have, want) = (factors.len(), inv_freq.len());
        return Err(Error::invalid(format!("rope_freqs.weight has {have} usable factors, the heads need {want}")));
    }
    inv_freq.iter_mut().zip(factors).for_each(|(f, by)| *f /= by);
    Ok(())
}

/// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
fn llama3(inv_freq: &mut [f64], s: &Config) -> Result<()> {
    let factor = positive(s.number(&["factor"], 8.0)?, "factor")?;
    let low = positive(s.number(&["low_freq_factor"], 1.0)?, "low_freq_factor")?;
    let high = positive(s.number(&["high_freq_factor"], 4.0)?, "high_freq_factor")?;
    let old = positive(s.number(&["original_max_position_embeddings"], 8192.0)?, "original_max_position_embeddings")?;
    if high == low {
        return Err(Error::invalid("config.json: rope low_freq_factor and high_freq_factor must differ"));
    }
    for f in inv_freq {
        let wavelength = std::f64::consts::TAU / *f;
        if wavelength > old / low {
            *f /= factor;
        } else if wavelength >= old / high {
            let smooth = (old / wavelength - low) / (high - low);
            *f = (1.0 - smooth) * *f / factor + smooth * *f;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_a_unit_vector_by_its_position() {
        let rope = Rope { inv_freq: vec![1.0] };
        let x = Tensor::new(&[[[1f32, 0.0]]], &Device::Cpu).unwrap();
        let t = rope.tables(&[1], &Device::Cpu).unwrap();
        let y = Rope::turn(&x, &t).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!((y[0] - 1f32.cos()).abs() < 1e-6 && (y[1] - 1f32.sin()).abs() < 1e-6);
    }
}
