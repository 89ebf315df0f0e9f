//! Tutel's dispatch: where each token goes at its experts, and what does not fit.
//!
//! Source: Hwang et al. 2022, "Tutel: Adaptive Mixture-of-Experts at Scale", arXiv 2206.03382; microsoft/tutel
//! impls/fast_dispatch.py, losses.py. Takes: scores of tokens for experts. Gives: places, gates, drops, the balance loss.
//! Departs: none known.

use super::super::Method;
use super::routed;
use super::show::bars;
use crate::ctx::Ctx;
use crate::finding::{Class, Classes, Datum, Figure, Finding, Look, Measure, Unit};
use crate::math::{largest, softmax};
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const LAYER: Param =
    Param::layer("layer", "Layer whose router is looked at; the next one that has experts", LayerPick::At(0));
const TOP: Param = Param::count("top_k", "Experts of a token", 1, 8, 2);
const FACTOR: Param = Param::number(
    "capacity_factor",
    "Room at an expert, in even shares; 0 is as much as is needed, below 0 as much but no more than that",
    -8.0,
    8.0,
    1.0,
);
const PRIORITY: Param = Param::toggle("batch_prioritized", "Whether tokens with surer routers go first", false);

static INFO: Info = Info {
    id: "tutel_dispatch",
    title: "Tutel dispatch",
    summary: "Shows where tokens go at their experts when each has room for so many, and which are dropped.",
    family: "routing and systems",
    basis: Basis::Authors { repo: "microsoft/tutel", commit: "82af7aa" },
    paper: Some(Paper {
        title: "Tutel: Adaptive Mixture-of-Experts at Scale",
        authors: "Hwang et al.",
        year: 2022,
        arxiv: "2206.03382",
    }),
    departs: "none known; the loaded model itself drops nothing",
    needs: &[Need::Experts],
    params: &[LAYER, TOP, FACTOR, PRIORITY],
    budget: Some(&FACTOR),
    raw: &[Adapter { name: "tutel_dispatch", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Tutel;

/// Where tokens go.
struct Dispatch {
    /// `[slot][token]`.
    indices: Vec<Vec<usize>>,
    locations: Vec<Vec<usize>>,
    gates: Vec<Vec<f64>>,
    capacity: usize,
    /// What the authors' code returns under this name: with priorities it counts the last slot up to the last token only.
    per_expert: Vec<usize>,
    loss: f64,
}

/// Dispatches tokens with these scores `[tokens][experts]`.
fn dispatch(scores: &[Vec<f64>], top: usize, factor: f64, priority: bool) -> Dispatch {
    let (n, experts) = (scores.len(), scores.first().map_or(0, Vec::len));
    let top = top.min(experts);
    let ranked: Vec<Vec<usize>> = scores.iter().map(|s| largest(s, top)).collect();
    let mut order: Vec<usize> = (0..n).collect();
    if priority {
        let most = |i: usize| scores[i].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        order.sort_by(|&a, &b| most(b).total_cmp(&most(a)));
    }
    let indices: Vec<Vec<usize>> = (0..top).map(|k| ranked.iter().map(|r| r[k]).collect()).collect();
    let (mut base, mut locations, mut per_expert) = (vec![0; experts], vec![vec![0; n]; top], vec![0; experts]);
    for k in 0..top {
        let mut own = vec![0; experts];
        for &t in &order {
            let e = indices[k][t];
            locations[k][t] = base[e] + own[e];
            own[e] += 1;
        }
        if k + 1 == top {
            per_expert = match (priority, indices[k].last().zip(locations[k].last())) {
                (true, Some((&e, &at))) => {
                    let mut last: Vec<usize> = base.iter().map(|b| b + 1).collect();
                    last[e] = at + 1;
                    last
                }
                _ => base.iter().zip(&own).map(|(b, o)| b + o).collect(),
            };
        }
        base.iter_mut().zip(&own).for_each(|(b, o)| *b += o);
    }
    let even = n.div_ceil(experts.max(1)) as f64;
    let needed = locations.iter().flatten().max().map_or(0, |m| m + 1);
    let room = |f: f64| top.saturating_mul((f * even) as usize);
    let capacity = match factor {
        f if f > 0.0 => room(f),
        f if f < 0.0 => needed.min(room(-f)),
        _ => needed,
    };
    let gate = |k: usize, t: usize| scores[t][indices[k][t]];
    let sum: Vec<f64> =
        (0..n).map(|t| (0..top).map(|k| gate(k, t)).sum::<f64>().max(f64::from(f32::EPSILON))).collect();
    let gates = (0..top).map(|k| (0..n).map(|t| gate(k, t) / sum[t]).collect()).collect();
    let share = |e: usize| {
        let mean = scores.iter().map(|s| s[e]).sum::<f64>() / n.max(1) as f64;
        let first = indices.first().map_or(0, |own| own.iter().filter(|x| **x == e).count());
        mean * first as f64 / n.max(1) as f64
    };
    let loss = (0..experts).map(share).sum::<f64>() * experts as f64;
    Dispatch { indices, locations, gates, capacity, per_expert, loss }
}

impl Method for Tutel {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        super::show::ready(on, &INFO, params)?;
        let at = params.one_layer(&LAYER, on.tower()?.n_layers)?;
        let layers = routed::layers(on, &INFO)?;
        let l = layers.iter().find(|l| l.layer >= at).unwrap_or(&layers[layers.len() - 1]);
        let scores: Vec<Vec<f64>> = l.logits.iter().map(|r| softmax(r, 1.0)).collect();
        let d = dispatch(&scores, params.count(&TOP) as usize, params.number(&FACTOR), params.toggle(&PRIORITY));
        let n = scores.len();
        let dropped = |t: usize| d.locations.iter().filter(|own| own[t] >= d.capacity).count();
        let states =
            (0..n).map(|t| Some(if dropped(t) == 0 { 0 } else { 1 + usize::from(dropped(t) == d.locations.len()) }));
        let classes = vec![
            Class::new("goes everywhere", "all of its experts have room", Look::Good),
            Class::new("dropped somewhere", "some of its experts have no room", Look::Category(1)),
            Class::new("dropped", "none of its experts has room", Look::Bad),
        ];
        let mut load = vec![0.0; scores.first().map_or(0, Vec::len)];
        d.indices.iter().flatten().for_each(|&e| load[e] += 1.0);
        let lost: usize = (0..n).map(dropped).sum();
        let title = format!("tokens at layer {}", l.layer);
        Ok(Finding::of(Classes::new(title, Unit::Tokens(on.tower), classes, states.collect()))
            .with(bars("tokens of each expert", "expert", Measure::new("tokens", ""), load))
            .figure(Figure::new("capacity", Datum::Count(d.capacity), "tokens that an expert has room for"))
            .figure(Figure::new("dropped", Datum::Count(lost), "places of tokens at experts that have no room"))
            .figure(Figure::new(
                "balance loss",
                Datum::Number(d.loss),
                "experts × Σ mean score × share of first choices; 1 is even",
            )))
    }
}

/// Raw entry: `scores` `[tokens, experts]`, `top_k`, `capacity_factor`, `batch_prioritized` → the dispatch.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let (scores, [n, experts]) = input.finite("scores")?;
    let (top, factor): (usize, f64) = (input.within("top_k", 1..=4096)?, input.read_or("capacity_factor", 1.0)?);
    if experts == 0 || !factor.is_finite() || factor.abs() > 1e6 {
        return Err(Error::invalid("scores need experts, and capacity_factor must be a number of at most a million"));
    }
    let scores: Vec<Vec<f64>> = (0..n).map(|i| scores.row(i).iter().map(|x| f64::from(*x)).collect()).collect();
    let d = dispatch(&scores, top, factor, input.read_or("batch_prioritized", false)?);
    let over = |own: &Vec<usize>| own.iter().map(|at| u8::from(*at >= d.capacity)).collect::<Vec<_>>();
    Ok(json!({
        "dropped": d.locations.iter().map(over).collect::<Vec<_>>(),
        "indices": d.indices,
        "locations": d.locations,
        "gates": d.gates,
        "capacity": d.capacity,
        "tokens_per_expert": d.per_expert,
        "gshard_loss": d.loss,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_choices_queue_behind_all_first_ones() {
        let scores = [vec![0.6, 0.4], vec![0.9, 0.1], vec![0.2, 0.8]];
        let d = dispatch(&scores, 2, 1.0, false);
        assert_eq!(d.indices, [[0, 0, 1], [1, 1, 0]]);
        assert_eq!((d.locations, d.capacity, d.per_expert), (vec![vec![0, 1, 0], vec![1, 2, 2]], 4, vec![3, 3]));
        // Even shares of 1.7 by 2/3 and 1.3 by 1/3, twice.
        assert!((d.loss - 2.0 * (1.7 / 3.0 * 2.0 / 3.0 + 1.3 / 3.0 / 3.0)).abs() < 1e-12);
        // Surer ones first, and no more room than is needed.
        let d = dispatch(&scores, 1, 0.0, true);
        assert_eq!((d.locations, d.capacity), (vec![vec![1, 0, 0]], 2));
    }
}
