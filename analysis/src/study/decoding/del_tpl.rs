//! DEL: how many tokens per layer of work an early exit would give, for every exit and draft length.
//!
//! Source: Entezari Zarch et al. 2025, "DEL: Context-Aware Dynamic Exit Layer for Efficient Self-Speculative Decoding",
//! arXiv 2504.05598. Takes: how often each layer already says what the last one does. Gives: tokens per layer, the best exit.
//! Departs: own reading of the paper; live, acceptance is measured on the tokens of the run by the logit lens.

use super::super::Method;
use super::show;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding, Matrix, Measure, Unit};
use crate::math::argmax;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const LENGTH: Param = Param::count("max_draft", "Longest draft looked at", 1, 16, 6);
const DECAY: Param = Param::share("decay", "What a token counts for, of the one after it", 0.95);

static INFO: Info = Info {
    id: "del_tpl",
    title: "DEL",
    summary: "Finds the early exit and the draft length that give most tokens per layer of work on this text.",
    family: "adaptive compute",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "DEL: Context-Aware Dynamic Exit Layer for Efficient Self-Speculative Decoding",
        authors: "Entezari Zarch et al.",
        year: 2025,
        arxiv: "2504.05598",
    }),
    departs: "own reading of the paper; acceptance is measured by the logit lens on the tokens of the run, and nothing is \
              drafted",
    needs: &[Need::Residual, Need::Logits, Need::Writes],
    params: &[LENGTH, DECAY],
    raw: &[Adapter { name: "del_tpl", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Del;

/// Tokens per layer of an exit behind layer `exit` (from 1) of `layers`, drafting `d`: `(1 − αᵈ⁺¹) / (1 − α) / (d·exit + layers)`.
fn tokens_per_layer(alpha: f64, exit: usize, d: usize, layers: usize) -> f64 {
    let tokens = if alpha >= 1.0 { d as f64 + 1.0 } else { (1.0 - alpha.powi(d as i32 + 1)) / (1.0 - alpha) };
    tokens / (d * exit + layers) as f64
}

/// The table by exit and draft length, and its largest entry, the first on a tie.
fn table(alpha: &[f64], layers: usize, most: usize) -> (Vec<Vec<f64>>, (usize, usize)) {
    let row = |(i, a): (usize, &f64)| (0..=most).map(|d| tokens_per_layer(*a, i + 1, d, layers)).collect();
    let all: Vec<Vec<f64>> = alpha.iter().enumerate().map(row).collect();
    let mut best = (0, 0);
    for (i, row) in all.iter().enumerate() {
        for (d, x) in row.iter().enumerate() {
            if *x > all[best.0][best.1] {
                best = (i, d);
            }
        }
    }
    (all, best)
}

impl Method for Del {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        show::ready(on, &INFO, params)?;
        let layers = on.tower()?.n_layers;
        if layers < 2 {
            return Err(Error::invalid("the model has no layer to exit early from"));
        }
        let best = |layer: usize| -> Result<Vec<usize>> {
            let rows = show::logits(on, &INFO, layer, ctx)?;
            Ok((0..rows.shape()[0]).map(|i| argmax(rows.row(i)).unwrap_or(0)).collect())
        };
        let last = best(layers - 1)?;
        let decay = params.share(&DECAY);
        let mut alpha = Vec::with_capacity(layers - 1);
        for layer in 0..layers - 1 {
            ctx.step(layer, layers)?;
            let (mut hit, mut all, mut weight) = (0.0, 0.0, 1.0);
            for (a, b) in best(layer)?.iter().zip(&last).rev() {
                (hit, all, weight) = (hit + weight * f64::from(u8::from(a == b)), all + weight, weight * decay);
            }
            alpha.push(if all > 0.0 { hit / all } else { 0.0 });
        }
        let most = params.count(&LENGTH) as usize;
        let (all, (exit, d)) = table(&alpha, layers, most);
        let cells = Array::new([all.len(), most + 1], all.iter().flatten().map(|x| *x as f32).collect::<Vec<_>>())?;
        let columns = Unit::named((0..=most).map(|d| format!("draft of {d}")));
        let measure = Measure::new("tokens", "per layer");
        Ok(Finding::of(Matrix::dense("tokens per layer of work", Unit::Layers, columns, measure, cells)?)
            .with(show::bars("tokens that each layer foresees", "layer", Measure::new("acceptance", "share"), alpha))
            .figure(Figure::new("exit", Datum::Count(exit), "layer to draft from, from 0"))
            .figure(Figure::new("draft", Datum::Count(d), "tokens to draft there; 0 is not to draft"))
            .figure(Figure::new(
                "speed-up",
                Datum::Number(all[exit][d] * layers as f64),
                "tokens per layer, times the layers",
            )))
    }
}

/// Raw entry: acceptance of exits, `num_layers`, `max_draft` → the table and the best.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let alpha: Vec<f64> = input.read("alpha_per_exit_layer_1..L-1")?;
    let (layers, most) = (input.within("num_layers", 1..=100_000)?, input.within("max_draft", 0..=10_000)?);
    if alpha.is_empty() || alpha.iter().any(|a| !(0.0..=1.0).contains(a)) || alpha.len() * (most + 1) > 1 << 22 {
        return Err(Error::invalid("alpha_per_exit_layer must be shares from 0 to 1, and max_draft not too large"));
    }
    let (all, (exit, d)) = table(&alpha, layers, most);
    Ok(json!({
        "best_exit_layer": exit + 1,
        "best_draft_len": d,
        "baseline_tpl": 1.0 / layers as f64,
        "theoretical_speedup": all[exit][d] * layers as f64,
        "tpl_table": all,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_right_behind_one_of_four_layers() {
        // One draft: 1.5 tokens for 1 + 4 layers; two: 1.75 for 6; none: 1 for 4.
        let (all, best) = table(&[0.5], 4, 2);
        assert_eq!((all[0].clone(), best), (vec![0.25, 0.3, 1.75 / 6.0], (0, 1)));
        assert_eq!(tokens_per_layer(1.0, 1, 3, 4), 4.0 / 7.0);
    }
}
