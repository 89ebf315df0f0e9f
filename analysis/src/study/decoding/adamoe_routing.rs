//! AdaMoE: some of the experts that a token may choose do nothing, so that easy tokens need fewer.
//!
//! Source: Zeng et al. 2024, "AdaMoE: Token-Adaptive Routing with Null Experts for Mixture-of-Experts Language Models",
//! arXiv 2406.13233; CengZihao/AdaMoE adaptive_moe_utils.py. Takes: hidden rows, gates of true and null experts. Gives: who is
//! chosen, gates over true experts, the balance loss. Departs: none known; null gates are trained, so that there is no run.

use crate::ctx::Ctx;
use crate::math::{largest, softmax};
use crate::method::{Basis, Info, Kind, Need, Paper};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

pub(super) static INFO: Info = Info {
    id: "adamoe_routing",
    title: "AdaMoE",
    summary: "Routes tokens to true experts and to null experts that do nothing.",
    family: "routing and systems",
    basis: Basis::Authors { repo: "CengZihao/AdaMoE", commit: "180f122" },
    paper: Some(Paper {
        title: "AdaMoE: Token-Adaptive Routing with Null Experts for Mixture-of-Experts Language Models",
        authors: "Zeng et al.",
        year: 2024,
        arxiv: "2406.13233",
    }),
    departs: "the balance loss as coded, without the mean over null experts that the paper has",
    needs: &[Need::Arrays],
    raw: &[Adapter { name: "adamoe_routing", run: raw }],
    ..Info::of(Kind::Study)
};

/// Chosen experts, best first, and their shares over the true ones among them, 0 where there is none.
fn route(logits: &[f64], true_experts: usize, top: usize) -> (Vec<usize>, Vec<f64>, Vec<f64>) {
    let p = softmax(logits, 1.0);
    let chosen = largest(&p, top);
    let own = |&e: &usize| if e < true_experts { p[e] } else { 0.0 };
    let sum: f64 = chosen.iter().map(own).sum();
    let gates = chosen.iter().map(|e| if sum > 0.0 { own(e) / sum } else { 0.0 }).collect();
    (chosen, gates, p)
}

/// Raw entry: `x` `[tokens, width]`, `gate` and `gate_null` `[experts, width]`, `experts` `[experts, width, width]`, `top_k`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, [n, width]) = input.finite("x")?;
    let (gate, [n_true, w1]) = input.finite("gate")?;
    let (null, [n_null, w2]) = input.finite("gate_null")?;
    let (experts, sizes) = input.finite::<3>("experts")?;
    let top = input.within("top_k", 1..=1 << 16)?;
    if w1 != width || w2 != width || sizes != [n_true, width, width] || n == 0 || n_true == 0 {
        return Err(Error::invalid(
            "x, gate, gate_null and experts must be of one width, an expert for each row of gate",
        ));
    }
    let all = n_true + n_null;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let (mut selected, mut gates, mut counts, mut output) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut mean, mut load) = (vec![0.0; all], vec![0.0; all]);
    for t in 0..n {
        ctx.check()?;
        let row = x.row(t);
        let logits: Vec<f64> =
            (0..all).map(|e| dot(row, if e < n_true { gate.row(e) } else { null.row(e - n_true) })).collect();
        let (chosen, own, p) = route(&logits, n_true, top);
        mean.iter_mut().zip(&p).for_each(|(m, p)| *m += p / n as f64);
        chosen.iter().for_each(|&e| load[e] += 1.0 / n as f64);
        let mut y = vec![0.0; width];
        for (&e, g) in chosen.iter().zip(&own).filter(|(e, _)| **e < n_true) {
            // One row per component of the input.
            for (x, own) in row.iter().zip(experts.row(e).chunks(width.max(1))) {
                y.iter_mut().zip(own).for_each(|(y, w)| *y += g * f64::from(*x) * f64::from(*w));
            }
        }
        counts.push(chosen.iter().filter(|e| **e < n_true).count());
        output.push(y);
        selected.push(chosen);
        gates.push(own);
    }
    Ok(json!({
        "mean_true_experts": counts.iter().sum::<usize>() as f64 / n as f64,
        "selected": selected,
        "gate_weight_after_renorm_over_true": gates,
        "true_experts_per_token": counts,
        "balance_loss": all as f64 * mean.iter().zip(&load).map(|(p, f)| p * f).sum::<f64>(),
        "output": output,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_experts_take_their_place_and_no_weight() {
        // Two true experts, a null one between them in probability.
        let (chosen, gates, _) = route(&[0.0, 2.0, 1.0], 2, 2);
        assert_eq!((chosen, gates), (vec![1, 2], vec![1.0, 0.0]));
        assert_eq!(route(&[0.0, 0.0, 5.0], 2, 1).1, [0.0]);
    }
}
