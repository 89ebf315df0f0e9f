//! Duo-LLM, its oracle: which module of each layer, none, small or big, gives a token the least loss.
//!
//! Source: Alizadeh et al. 2024, "Duo-LLM: A Framework for Studying Adaptive Computation in Large Language Models",
//! arXiv 2410.10846. Takes: losses of choices by layer and of pairs of neighbouring layers. Gives: the best patterns.
//! Departs: own reading of the paper; small modules are trained, so that there is no run to show.

use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Map, Value, json};

pub(super) static INFO: Info = Info {
    id: "duollm_oracle",
    title: "Duo-LLM oracle",
    summary: "Finds for each token which layers may be skipped or done by a small module.",
    family: "adaptive compute",
    basis: Basis::OwnReading,
    role: crate::method::Role::Oracle,
    paper: Some(Paper {
        title: "Duo-LLM: A Framework for Studying Adaptive Computation in Large Language Models",
        authors: "Alizadeh et al.",
        year: 2024,
        arxiv: "2410.10846",
    }),
    departs: "own reading of the paper, whose code is not public",
    needs: &[Need::Arrays],
    raw: &[Adapter { name: "duollm_oracle", run: raw }],
    ..Info::of(Kind::Study)
};

/// Patterns that are gone through at most.
const MOST: f64 = 3e6;

/// A loss and the pattern that has it.
type Best = (f64, Vec<usize>);

/// The best pattern for each number of `big` modules, of all patterns of choices by layer; on a tie the first in order.
fn search(w: &[Vec<f64>], inter: &[Vec<Vec<f64>>], base: f64, big: usize, ctx: &Ctx) -> Result<Vec<Option<Best>>> {
    let (layers, choices) = (w.len(), w[0].len());
    let mut best: Vec<Option<Best>> = vec![None; layers + 1];
    let mut pattern = vec![0; layers];
    loop {
        ctx.check()?;
        let own: f64 = pattern.iter().enumerate().map(|(l, &c)| w[l][c]).sum();
        let pairs: f64 = (1..layers).map(|l| inter[l - 1][pattern[l - 1]][pattern[l]]).sum();
        let (loss, n) = (base + own + pairs, pattern.iter().filter(|c| **c == big).count());
        if best[n].as_ref().is_none_or(|b| loss < b.0) {
            best[n] = Some((loss, pattern.clone()));
        }
        let Some(at) = pattern.iter().rposition(|c| *c + 1 < choices) else { return Ok(best) };
        pattern[at] += 1;
        pattern[at + 1..].fill(0);
    }
}

/// Raw entry: `tokens` with `w` `[layers, choices]`, `inter` `[layers − 1, choices, choices]`, `base`; `choices`, of which
/// the last is big → the best patterns of each token.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let choices: Vec<String> = input.read("choices")?;
    let tokens: Vec<Value> = input.read("tokens")?;
    let big = choices.iter().position(|c| c == "big").unwrap_or(choices.len().saturating_sub(1));
    let mut out = Vec::with_capacity(tokens.len());
    for t in tokens {
        let of = |key: &str| t.get(key).cloned().unwrap_or(Value::Null);
        let bad = || Error::invalid("tokens need w, a value per layer and one of choices, inter and base, all numbers");
        let w: Vec<Vec<f64>> = serde_json::from_value(of("w")).map_err(|_| bad())?;
        let inter: Vec<Vec<Vec<f64>>> = serde_json::from_value(of("inter")).map_err(|_| bad())?;
        let base = t.get("base").map_or(Some(0.0), Value::as_f64).ok_or_else(bad)?;
        let (n, m) = (choices.len(), w.len());
        let square = |p: &Vec<Vec<f64>>| p.len() == n && p.iter().all(|r| r.len() == n);
        if n == 0 || m == 0 || w.iter().any(|r| r.len() != n) || inter.len() + 1 < m || !inter.iter().all(square) {
            return Err(bad());
        }
        if (n as f64).powi(m.min(1000) as i32) > MOST {
            return Err(Error::invalid(format!(
                "tokens of {m} layers have more patterns of choices than are gone through"
            )));
        }
        let best = search(&w, &inter, base, big, ctx)?;
        let mut by_number = Map::new();
        best.iter().enumerate().for_each(|(k, b)| {
            if let Some(b) = b {
                by_number.insert(k.to_string(), json!(b));
            }
        });
        let less = |a: &Best, b: &Best| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1));
        let oracle = best.iter().flatten().min_by(|a, b| less(a, b)).ok_or_else(bad)?.clone();
        let all_big = best[m].as_ref().map_or(f64::NAN, |b| b.0);
        out.push(json!({ "best_per_num_big": by_number, "difficulty_gain": all_big - oracle.0, "oracle": oracle,
            "all_big_loss": all_big }));
    }
    Ok(json!({ "tokens": out }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_four_patterns_by_hand() {
        // Two layers, two choices: 00 costs 0, 01 2, 10 1, 11 1 − 3 = 0 with the pair.
        let (w, inter) = (vec![vec![0.0, 1.0], vec![0.0, 2.0]], vec![vec![vec![0.0, 0.0], vec![0.0, -3.0]]]);
        let best = search(&w, &inter, 0.5, 1, &Ctx::default()).unwrap();
        assert_eq!(best[0], Some((0.5, vec![0, 0])));
        assert_eq!((best[1].clone(), best[2].clone()), (Some((1.5, vec![1, 0])), Some((0.5, vec![1, 1]))));
    }
}
