//! S2D: a draft model with exits at several depths, of which each token takes the first that is sure.
//!
//! Source: Kavehzadeh et al. 2024, "S2D: Sorted Speculative Decoding For More Efficient Deployment of Nested Large Language
//! Models", arXiv 2407.01955. Takes: confidences at exits. Gives: the exit of each token. Departs: own reading of the paper;
//! live, the logit lens stands in for trained exits, and thresholds are the same at all of them.

use super::super::Method;
use super::show;
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding, Heat, Measure, Unit};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const SURE: Param = Param::share("threshold", "Probability from which an exit is taken", 0.8);
const EVERY: Param = Param::count("every", "Layers from one exit to the next", 1, 16, 1);

static INFO: Info = Info {
    id: "s2d_exit",
    title: "S2D exits",
    summary: "Shows behind which layer each token would leave a draft model that stops where it is sure.",
    family: "adaptive compute",
    basis: Basis::Text,
    role: Role::StandIn,
    paper: Some(Paper {
        title: "S2D: Sorted Speculative Decoding For More Efficient Deployment of Nested Large Language Models",
        authors: "Kavehzadeh et al.",
        year: 2024,
        arxiv: "2407.01955",
    }),
    departs: "own reading of the paper, its thresholds not verified; the logit lens stands in for exits that are trained",
    needs: &[Need::Residual, Need::Logits, Need::Writes],
    params: &[SURE, EVERY],
    budget: Some(&SURE),
    raw: &[Adapter { name: "s2d_exit", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct S2d;

/// The exit of a token: the first whose confidence reaches its threshold, else the last.
fn exit(confidence: &[f64], thresholds: &[f64]) -> usize {
    confidence.iter().zip(thresholds).position(|(c, t)| c >= t).unwrap_or(confidence.len().saturating_sub(1))
}

impl Method for S2d {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        show::ready(on, &INFO, params)?;
        let tower = on.tower()?;
        let (layers, n, every) = (tower.n_layers, tower.tokens.len(), params.count(&EVERY) as usize);
        let exits: Vec<usize> = (1..=layers).filter(|l| l % every == 0 || *l == layers).collect();
        if exits.is_empty() {
            return Err(Error::invalid("the run has no layers"));
        }
        let mut sure = vec![Vec::with_capacity(exits.len()); n];
        let mut says = vec![Vec::with_capacity(exits.len()); n];
        for (i, layer) in exits.iter().enumerate() {
            ctx.step(i, exits.len())?;
            let rows = show::logits(on, &INFO, layer - 1, ctx)?;
            for t in 0..n {
                let (id, p) = show::surest(rows.row(t));
                sure[t].push(p);
                says[t].push(id);
            }
        }
        let thresholds = vec![params.share(&SURE); exits.len() - 1];
        let taken: Vec<usize> = sure.iter().map(|c| exit(c, &thresholds)).collect();
        let values = taken.iter().map(|&e| Some(exits[e] as f32)).collect();
        let mean = taken.iter().map(|&e| exits[e] as f64).sum::<f64>() / n.max(1) as f64;
        let right = taken.iter().enumerate().filter(|(t, e)| says[*t][**e] == says[*t][exits.len() - 1]).count();
        let share = right as f64 / n.max(1) as f64;
        Ok(Finding::of(Heat::new(
            "exit after each token",
            Unit::Tokens(on.tower),
            Measure::new("layers run", ""),
            values,
        ))
        .figure(Figure::new("layers", Datum::Number(mean), "mean of those that run for a token"))
        .figure(Figure::new("same", Datum::Share(share), "exits that say what the last layer says")))
    }
}

/// Raw entry: `exit_layers`, `thresholds` of all but the last, confidences by token and exit.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let layers: Vec<usize> = input.read("exit_layers")?;
    let thresholds: Vec<f64> = input.read("thresholds")?;
    let confidence: Vec<Vec<f64>> = input.read("confidence(token,exit)")?;
    if layers.is_empty() || thresholds.len() + 1 < layers.len() || confidence.iter().any(|c| c.len() != layers.len()) {
        return Err(Error::invalid(
            "confidence needs a value for each of exit_layers, thresholds one for all but the last",
        ));
    }
    let taken: Vec<usize> = confidence.iter().map(|c| layers[exit(c, &thresholds[..layers.len() - 1])]).collect();
    let mean = taken.iter().map(|&l| l as f64).sum::<f64>() / taken.len().max(1) as f64;
    Ok(json!({ "exit_layer_per_token": taken, "mean_draft_layers": mean }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sure_exit_or_the_last() {
        assert_eq!((exit(&[0.5, 0.8, 0.9], &[0.9, 0.8]), exit(&[0.5, 0.7, 0.1], &[0.9, 0.8])), (1, 2));
    }
}
