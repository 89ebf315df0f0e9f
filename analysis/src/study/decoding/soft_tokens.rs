//! Soft tokens: the model goes on with a mixture of embeddings instead of one token's.
//!
//! Source: Butt et al. 2025, "Soft Tokens, Hard Truths", arXiv 2509.19170. Takes: next-token logits and the embeddings.
//! Gives: the mixture, its noise, how mixed it is. Departs: own reading of the paper; the scale of the noise is recalled.

use super::super::Method;
use super::show;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::chance::{Chance, Seeded};
use crate::finding::{Datum, Figure, Finding, Measure, Table};
use crate::math::{largest, softmax};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput, number};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const TEMPERATURE: Param =
    Param::number("temperature", "0.5 mixes (soft), 0.0001 is nearly one token (fuzzy)", 0.0001, 4.0, 0.5);
const NOISE: Param = Param::number("noise", "Noise, in root mean squares of the embeddings", 0.0, 2.0, 0.33);

static INFO: Info = Info {
    id: "soft_tokens",
    title: "Soft tokens",
    summary: "Mixes the embeddings of likely next tokens and shows how mixed the result is, and what is near it.",
    family: "adaptive compute",
    basis: Basis::OwnReading,
    paper: Some(Paper { title: "Soft Tokens, Hard Truths", authors: "Butt et al.", year: 2025, arxiv: "2509.19170" }),
    departs: "own reading of the paper; the scale of the noise is recalled, not verified; one step, no training",
    needs: &[Need::Residual, Need::Logits, Need::Writes],
    params: &[TEMPERATURE, NOISE, SEED],
    raw: &[Adapter { name: "soft_tokens", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct SoftTokens;

/// A mixture of embeddings.
struct Soft {
    p: Vec<f64>,
    mixture: Vec<f64>,
    noisy: Vec<f64>,
    /// Standard deviation of the noise.
    sigma: f64,
    entropy: f64,
    log_density: f64,
}

/// Mixes the rows of `embeddings` `[vocab, width]`, and adds noise `z` from the standard normal distribution.
fn soft(embeddings: &[Vec<f64>], logits: &[f64], temperature: f64, noise: f64, z: &[f64]) -> Soft {
    let (p, width) = (softmax(logits, temperature), z.len());
    let mut mixture = vec![0.0; width];
    for (p, row) in p.iter().zip(embeddings).filter(|(p, _)| **p > 0.0) {
        mixture.iter_mut().zip(row).for_each(|(m, e)| *m += p * e);
    }
    let n = (embeddings.len() * width).max(1) as f64;
    let sigma = noise * (embeddings.iter().flatten().map(|e| e * e).sum::<f64>() / n).sqrt();
    let noisy = mixture.iter().zip(z).map(|(m, z)| m + sigma * z).collect();
    let entropy = -p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
    let density = |z: &f64| -0.5 * z * z - sigma.ln() - 0.5 * (2.0 * std::f64::consts::PI).ln();
    Soft { p, mixture, noisy, sigma, entropy, log_density: z.iter().map(density).sum() }
}

/// Cosine of two vectors; 0 with a zero vector.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let both = (dot(a, a) * dot(b, b)).sqrt();
    if both > 0.0 { dot(a, b) / both } else { 0.0 }
}

impl Method for SoftTokens {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        show::ready(on, &INFO, params)?;
        let (tower, model) = (on.tower()?, on.weights(&INFO)?);
        let at = on.explained(tower.tokens.len())?;
        let logits: Vec<f64> = show::last_logits_at(on, &INFO, at, ctx)?.into_iter().map(f64::from).collect();
        let width = model.info().towers.get(&on.tower).map_or(0, |t| t.width);
        ctx.fits((logits.len() * width * 16) as u64, "choose a model with fewer ids")?;
        let all = Array::from_tensor(&model.embed(&(0..logits.len() as u32).collect::<Vec<_>>())?)?;
        let [n, width] = all.dims("token embeddings")?;
        let embeddings: Vec<Vec<f64>> = (0..n).map(|i| all.row(i).iter().map(|x| f64::from(*x)).collect()).collect();
        let mut chance = Seeded::new(params.seed(&SEED));
        let mut normal =
            || (-2.0 * (1.0 - chance.uniform()).ln()).sqrt() * (std::f64::consts::TAU * chance.uniform()).cos();
        let z: Vec<f64> = (0..width).map(|_| normal()).collect();
        let s = soft(&embeddings, &logits, params.number(&TEMPERATURE), params.number(&NOISE), &z);
        let near: Vec<f64> = embeddings.iter().map(|e| cosine(e, &s.noisy)).collect();
        let mut table = Table::new(&["token", "share", "cosine to the mixture"]).titled("what is mixed");
        let mut order = largest(&s.p, 8);
        order.extend(largest(&near, 4).into_iter().filter(|i| !order.contains(i)).collect::<Vec<_>>());
        for i in order {
            table.rows.push(vec![json!(on.word(i as u32)), json!(s.p[i]), json!(near[i])]);
        }
        let shares = largest(&s.p, 32).into_iter().map(|i| s.p[i]);
        Ok(Finding::of(table)
            .with(show::bars("shares of the mixture", "rank", Measure::new("share", ""), shares))
            .figure(Figure::new("entropy", Datum::Number(s.entropy), "of the shares").unit("nats"))
            .figure(Figure::new(
                "noise",
                Datum::Number(s.sigma),
                "standard deviation of what is added to each component",
            )))
    }
}

/// Raw entry: `embeddings`, `logits`, `temperature`, `standard_normal` noise and its coefficient.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let embeddings = input.table("embeddings")?;
    let logits: Vec<f64> = input.read("logits")?;
    let z: Vec<f64> = input.read("standard_normal")?;
    let (temperature, noise): (f64, f64) = (input.read("temperature")?, input.read("noise_coefficient")?);
    if logits.len() != embeddings.len()
        || z.len() != embeddings[0].len()
        || !temperature.is_finite()
        || temperature <= 0.0
    {
        return Err(Error::invalid(
            "logits need a value per row of embeddings, standard_normal one per column; temperature above 0",
        ));
    }
    let s = soft(&embeddings, &logits, temperature, noise, &z);
    Ok(json!({ "probs": s.p, "mixture": s.mixture, "sigma": s.sigma, "noisy_input": s.noisy, "entropy": s.entropy,
        "log_density_given_mean": number(s.log_density) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tokens_alike_are_mixed_half_and_half() {
        let s = soft(&[vec![1.0, 0.0], vec![0.0, 2.0]], &[0.0, 0.0], 0.5, 0.5, &[0.0, 1.0]);
        // Root mean square of 1, 0, 0, 2 is √(5/4); half of it is added to the second component.
        assert_eq!((s.mixture, s.noisy[0]), (vec![0.5, 1.0], 0.5));
        assert!((s.sigma - 0.5 * 1.25f64.sqrt()).abs() < 1e-12 && (s.noisy[1] - 1.0 - s.sigma).abs() < 1e-12);
        assert!((s.entropy - 2f64.ln()).abs() < 1e-12);
    }
}
