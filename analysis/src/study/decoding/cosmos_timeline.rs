//! A recorded run of latent text diffusion: how latents near their end, and when words settle.
//!
//! Source: Meshchaninov et al. 2025, "Compressed and Smooth Latent Space for Text Diffusion Modeling", arXiv 2506.21170. Takes:
//! latents by step, times, decoded ids. Gives: schedule, nearness to the end, what changes. Departs: the measures are ours; the
//! autoencoder and the denoiser are trained, so that there is no run of a loaded model.

use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

pub(super) static INFO: Info = Info {
    id: "cosmos_timeline",
    title: "Latent diffusion timeline",
    summary: "Shows how the latents of a recorded text diffusion near their end, and when words settle.",
    family: "masked diffusion",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "Compressed and Smooth Latent Space for Text Diffusion Modeling",
        authors: "Meshchaninov et al.",
        year: 2025,
        arxiv: "2506.21170",
    }),
    departs: "measures of our own on a recorded run; the constant of the paper's schedule is not verified",
    needs: &[Need::Arrays],
    raw: &[Adapter { name: "cosmos_timeline", run: raw }],
    ..Info::of(Kind::Study)
};

/// The tan-d schedule: `1 / (1 + (d tan(π t / 2))²)`, 0 at 1.
fn alpha(t: f64, d: f64) -> f64 {
    if t >= 1.0 { 0.0 } else { 1.0 / (1.0 + (d * (std::f64::consts::FRAC_PI_2 * t).tan()).powi(2)) }
}

/// Cosine; 0 with a zero vector.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let both = (dot(a, a) * dot(b, b)).sqrt();
    if both > 0.0 { dot(a, b) / both } else { 0.0 }
}

/// Raw entry: `latents` `[steps, m, d]`, `times` `[steps]`, optional `tokens` `[steps, n]`, `n_tokens`, `schedule_d`.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let (latents, [steps, m, width]) = input.finite("latents")?;
    let (times, [n_times]) = input.finite("times")?;
    let n: f64 = input.read("n_tokens")?;
    let d: f64 = input.read_or("schedule_d", 5.0)?;
    if n_times != steps || steps == 0 || m == 0 || width == 0 || !d.is_finite() {
        return Err(Error::invalid("times must hold one for each step of latents, which must not be empty"));
    }
    let at = |s: usize, i: usize| &latents.data()[(s * m + i) * width..][..width];
    let near = |s: usize| (0..m).map(|i| cosine(at(s, i), at(steps - 1, i))).collect::<Vec<_>>();
    let step = |s: usize| {
        let (a, b) =
            (&latents.data()[s * m * width..][..m * width], &latents.data()[(s + 1) * m * width..][..m * width]);
        a.iter().zip(b).map(|(a, b)| f64::from(b - a).powi(2)).sum::<f64>().sqrt()
    };
    let mut out = json!({
        "compression": n / m as f64,
        "alpha": times.data().iter().map(|t| alpha(f64::from(*t), d)).collect::<Vec<_>>(),
        "to_final": (0..steps).map(near).collect::<Vec<_>>(),
        "step_norm": (0..steps - 1).map(step).collect::<Vec<_>>(),
    });
    if input.arrays.contains_key("tokens") {
        let (tokens, [rows, n]) = input.finite("tokens")?;
        if rows != steps {
            return Err(Error::shape("tokens", "[steps, n]", tokens.shape()));
        }
        let last = tokens.row(steps - 1);
        let settled =
            |i: usize| (0..steps).rev().take_while(|&s| tokens.row(s)[i] == last[i]).last().unwrap_or(steps - 1);
        let differ = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        let matches = |s: usize| if n > 0 { 1.0 - differ(tokens.row(s), last) as f64 / n as f64 } else { 1.0 };
        out["settled_at"] = json!((0..n).map(settled).collect::<Vec<_>>());
        out["changed"] = json!((1..steps).map(|s| differ(tokens.row(s - 1), tokens.row(s))).collect::<Vec<_>>());
        out["matches_final"] = json!((0..steps).map(matches).collect::<Vec<_>>());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_runs_from_noise_to_nothing_of_it() {
        assert_eq!((alpha(1.0, 5.0), alpha(0.0, 5.0)), (0.0, 1.0));
        // tan 45° is 1, so 1 / (1 + 9).
        assert!((alpha(0.5, 3.0) - 0.1).abs() < 1e-12);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
    }
}
