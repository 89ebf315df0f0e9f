//! LongCat-Flash's zero experts: some experts give back what they read, so that tokens need a varying number of real ones.
//!
//! Source: Meituan 2025, "LongCat-Flash Technical Report", arXiv 2509.01322; the router of transformers
//! models/longcat_flash. Takes: hidden rows, router, correction bias. Gives: chosen experts and weights, real experts, load.
//! Departs: the control of the bias is not here, its constants are not verified.

use crate::ctx::Ctx;
use crate::math::{largest, softmax};
use crate::method::{Basis, Info, Kind, Need, Paper};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

pub(super) static INFO: Info = Info {
    id: "zero_experts",
    title: "Zero experts",
    summary: "Counts the real experts of each token where some experts only hand on what they read.",
    family: "routing and systems",
    basis: Basis::Authors { repo: "huggingface/transformers", commit: "5.23.0" },
    paper: Some(Paper { title: "LongCat-Flash Technical Report", authors: "Meituan", year: 2025, arxiv: "2509.01322" }),
    departs: "the control of the correction bias is left out",
    needs: &[Need::Arrays],
    raw: &[Adapter { name: "zero_experts", run: raw }],
    ..Info::of(Kind::Study)
};

/// Experts with the largest biased scores, ascending, and their scores without the bias times `factor`.
fn route(logits: &[f64], bias: &[f32], top: usize, factor: f64) -> (Vec<usize>, Vec<f64>) {
    let p = softmax(logits, 1.0);
    let biased: Vec<f64> = p.iter().zip(bias).map(|(p, b)| p + f64::from(*b)).collect();
    let mut chosen = largest(&biased, top);
    chosen.sort_unstable();
    let weights = chosen.iter().map(|&e| p[e] * factor).collect();
    (chosen, weights)
}

/// Raw entry: `hidden` `[tokens, width]`, `router` `[experts, width]`, `bias` `[experts]`, of which the first `real_experts`
/// are real.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (hidden, [n, width]) = input.finite("hidden")?;
    let (router, [experts, w]) = input.finite("router")?;
    let (bias, [n_bias]) = input.finite("bias")?;
    let real = input.within("real_experts", 0..=experts)?;
    let top = input.within("top_k", 1..=experts.max(1))?;
    let factor: f64 = input.read_or("factor", 6.0)?;
    let (base, each): (f64, f64) = (input.read_or("base_params", 0.0)?, input.read_or("expert_params", 0.0)?);
    if w != width || n_bias != experts || experts == 0 {
        return Err(Error::invalid("hidden, router and bias must be of one width and one number of experts"));
    }
    let (mut selected, mut weights, mut counts, mut identity) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut load = vec![0; experts];
    for t in 0..n {
        ctx.check()?;
        let dot = |e: usize| hidden.row(t).iter().zip(router.row(e)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let (chosen, own) = route(&(0..experts).map(dot).collect::<Vec<f64>>(), bias.data(), top, factor);
        chosen.iter().for_each(|&e| load[e] += 1);
        counts.push(chosen.iter().filter(|e| **e < real).count());
        identity.push(chosen.iter().zip(&own).filter(|(e, _)| **e >= real).map(|(_, w)| w).sum::<f64>());
        selected.push(chosen);
        weights.push(own);
    }
    // Counts of parameters are whole where they were given as such.
    let active = |r: usize| {
        let sum = base + r as f64 * each;
        if sum.fract() == 0.0 && sum.abs() < 9e15 { json!(sum as i64) } else { json!(sum) }
    };
    Ok(json!({
        "zero_share": counts.iter().map(|r| 1.0 - *r as f64 / top as f64).collect::<Vec<_>>(),
        "mean_real": if n > 0 { json!(counts.iter().sum::<usize>() as f64 / n as f64) } else { Value::Null },
        "activated": counts.iter().map(|r| active(*r)).collect::<Vec<_>>(),
        "selected": selected,
        "weights": weights,
        "real": counts,
        "identity_weight": identity,
        "load": load,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bias_chooses_and_does_not_weigh() {
        let (chosen, weights) = route(&[1.0, 0.0, 0.0], &[0.0, 0.0, 0.9], 2, 3.0);
        let p = softmax(&[1.0, 0.0, 0.0], 1.0);
        assert_eq!((chosen, weights), (vec![0, 2], vec![3.0 * p[0], 3.0 * p[2]]));
    }
}
