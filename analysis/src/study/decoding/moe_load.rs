//! Placement of experts: how even the load of devices is, and how often tokens move between them.
//!
//! Source: definitions of our own of what MoETuner (Go & Mahajan 2025, arXiv 2502.06643), Speculative MoE (arXiv 2503.04398)
//! and CloudMatrix384 (arXiv 2506.12708) look at. Takes: experts of each token by layer, and a device for each expert. Gives:
//! loads, moves between devices, tokens that stay at home. Departs: none of the papers has public code.

use super::super::Method;
use super::routed;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding, Matrix, Measure, Unit};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const DEVICES: Param = Param::count("devices", "Devices that share the experts of each layer", 1, 64, 4);
const PLACE: Param = Param::choice(
    "placement",
    "round: one expert after another to the next device; blocks: neighbours together; balanced: the largest load first to \
     the least loaded device",
    &["round", "blocks", "balanced"],
);

static INFO: Info = Info {
    id: "moe_load",
    title: "Expert placement",
    summary: "Measures load and traffic of devices that share the experts, for the tokens of this run.",
    family: "routing and systems",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "MoETuner: Optimized Mixture of Expert Serving with Balanced Expert Placement and Token Routing",
        authors: "Go & Mahajan",
        year: 2025,
        arxiv: "2502.06643",
    }),
    departs: "measures of our own; the papers' integer programs and predictors are not here, nor is their code public",
    needs: &[Need::Experts],
    params: &[DEVICES, PLACE],
    budget: Some(&DEVICES),
    raw: &[Adapter { name: "moe_load", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct MoeLoad;

/// What a placement costs.
struct Load {
    /// `[layer][expert]`.
    experts: Vec<Vec<usize>>,
    /// `[layer][device]`.
    devices: Vec<Vec<usize>>,
    moves: usize,
    transitions: usize,
    local: f64,
}

/// Of experts by layer, token and choice, with a device for each expert; token n is at home at device n mod `devices`.
fn load(routing: &[Vec<Vec<usize>>], placement: &[Vec<usize>], devices: usize, ctx: &Ctx) -> Result<Load> {
    let mut out = Load { experts: Vec::new(), devices: Vec::new(), moves: 0, transitions: 0, local: 0.0 };
    let (mut home, mut all) = (0usize, 0usize);
    for (l, (tokens, place)) in routing.iter().zip(placement).enumerate() {
        let (mut experts, mut own) = (vec![0; place.len()], vec![0; devices]);
        for (n, chosen) in tokens.iter().enumerate() {
            for &e in chosen {
                experts[e] += 1;
                own[place[e]] += 1;
                all += 1;
                home += usize::from(place[e] == n % devices);
            }
            let next = routing.get(l + 1).and_then(|r| r.get(n)).zip(placement.get(l + 1));
            let Some((next, there)) = next else { continue };
            for &a in chosen {
                ctx.check()?;
                out.transitions += next.len();
                out.moves += next.iter().filter(|&&b| place[a] != there[b]).count();
            }
        }
        out.experts.push(experts);
        out.devices.push(own);
    }
    out.local = home as f64 / all.max(1) as f64;
    Ok(out)
}

/// Largest load over the mean; 0 where there is none.
fn imbalance(loads: &[usize]) -> f64 {
    let sum: usize = loads.iter().sum();
    let most = loads.iter().copied().max().unwrap_or(0);
    if sum > 0 { most as f64 * loads.len() as f64 / sum as f64 } else { 0.0 }
}

/// The first placement of the least largest load, of all; `None` where there are too many to go through.
fn best(experts: &[usize], devices: usize) -> Option<(usize, Vec<usize>)> {
    if experts.len() > 6 || (devices as f64).powi(experts.len() as i32) > 1e6 || experts.is_empty() || devices == 0 {
        return None;
    }
    let mut place = vec![0; experts.len()];
    let mut best: Option<(usize, Vec<usize>)> = None;
    loop {
        let mut loads = vec![0; devices];
        place.iter().zip(experts).for_each(|(&d, n)| loads[d] += n);
        let most = loads.into_iter().max().unwrap_or(0);
        if best.as_ref().is_none_or(|b| most < b.0) {
            best = Some((most, place.clone()));
        }
        let Some(at) = place.iter().rposition(|d| d + 1 < devices) else { return best };
        place[at] += 1;
        place[at + 1..].fill(0);
    }
}

/// A device for each expert by a word of [`PLACE`].
fn placed(rule: &str, load: &[usize], devices: usize) -> Vec<usize> {
    let n = load.len();
    match rule {
        "round" => (0..n).map(|e| e % devices).collect(),
        "blocks" => (0..n).map(|e| e * devices / n.max(1)).collect(),
        _ => {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by_key(|&e| std::cmp::Reverse(load[e]));
            let (mut own, mut out) = (vec![0; devices], vec![0; n]);
            for e in order {
                let d = (0..devices).min_by_key(|&d| own[d]).unwrap_or(0);
                (own[d], out[e]) = (own[d] + load[e], d);
            }
            out
        }
    }
}

fn matrix(title: &str, loads: &[Vec<usize>], names: &[String], cols: Unit) -> Result<Matrix> {
    let n = loads.iter().map(Vec::len).max().unwrap_or(0);
    let row = |l: &Vec<usize>| (0..n).map(|i| l.get(i).map_or(f32::NAN, |x| *x as f32)).collect::<Vec<_>>();
    let cells = Array::new([loads.len(), n], loads.iter().flat_map(row).collect::<Vec<_>>())?;
    Matrix::dense(title, Unit::named(names.iter().cloned()), cols, Measure::new("tokens", ""), cells)
}

impl Method for MoeLoad {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        super::show::ready(on, &INFO, params)?;
        let layers = routed::layers(on, &INFO)?;
        let devices = params.count(&DEVICES) as usize;
        let count = |l: &routed::Routed| {
            let mut load = vec![0; l.logits.first().map_or(0, Vec::len)];
            l.chosen.iter().flatten().for_each(|&e| load[e] += 1);
            load
        };
        let placement: Vec<Vec<usize>> =
            layers.iter().map(|l| placed(params.choice(&PLACE), &count(l), devices)).collect();
        let routing: Vec<Vec<Vec<usize>>> = layers.iter().map(|l| l.chosen.clone()).collect();
        let load = load(&routing, &placement, devices, ctx)?;
        let names: Vec<String> = layers.iter().map(|l| format!("layer {}", l.layer)).collect();
        let worst = load.devices.iter().map(|d| imbalance(d)).fold(0.0, f64::max);
        let moved = load.moves as f64 / load.transitions.max(1) as f64;
        let device = Unit::named((0..devices).map(|d| format!("device {d}")));
        Ok(Finding::of(matrix("tokens of each expert", &load.experts, &names, Unit::Experts)?)
            .with(matrix("tokens of each device", &load.devices, &names, device)?)
            .figure(Figure::new(
                "imbalance",
                Datum::Number(worst),
                "largest load of a device over the mean, in the worst layer",
            ))
            .figure(Figure::new("moved", Datum::Share(moved), "steps from a layer to the next that leave the device"))
            .figure(Figure::new(
                "at home",
                Datum::Share(load.local),
                "activations at the device of the token, token n mod devices",
            )))
    }
}

/// Raw entry: experts by layer, token and choice, a device for each expert by layer, `gpus` → loads and moves.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let routing: Vec<Vec<Vec<usize>>> = input.read("routing(layer,token,k)")?;
    let placement: Vec<Vec<usize>> = input.read("placement(layer,expert->gpu)")?;
    let devices = input.within("gpus", 1..=1 << 16)?;
    if routing.len().saturating_mul(devices) > 1 << 22 {
        return Err(Error::invalid("gpus are too many to list for each layer of routing"));
    }
    let inside = |(r, p): (&Vec<Vec<usize>>, &Vec<usize>)| r.iter().flatten().all(|e| *e < p.len());
    let fits = routing.len() == placement.len() && routing.iter().zip(&placement).all(inside);
    if !fits || placement.iter().flatten().any(|d| *d >= devices) {
        return Err(Error::invalid(
            "placement must hold a device below gpus for each expert that routing names, by layer",
        ));
    }
    let load = load(&routing, &placement, devices, ctx)?;
    let first = load.experts.first().and_then(|e| best(e, devices));
    Ok(json!({
        "imbalance_max_over_mean": load.devices.iter().map(|d| imbalance(d)).collect::<Vec<_>>(),
        "expert_tokens": load.experts,
        "gpu_load": load.devices,
        "cross_gpu_transitions": load.moves,
        "transitions": load.transitions,
        "local_activation_rate": load.local,
        "layer0_best_minmax_placement": first.map(|(most, place)| json!({ "max_load": most, "placement": place })),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_layers_two_devices_by_hand() {
        let routing = [vec![vec![0], vec![1], vec![1]], vec![vec![1], vec![1], vec![0]]];
        let l = load(&routing, &[vec![0, 1], vec![0, 1]], 2, &Ctx::default()).unwrap();
        assert_eq!((l.experts, l.devices), (vec![vec![1, 2], vec![1, 2]], vec![vec![1, 2], vec![1, 2]]));
        // Tokens 0 and 2 change devices; at home are 0, 1 and 1, 0 (token 2 is at home at 0).
        assert_eq!((l.moves, l.transitions), (2, 3));
        assert!((l.local - 4.0 / 6.0).abs() < 1e-12 && (imbalance(&[1, 2]) - 4.0 / 3.0).abs() < 1e-12);
        assert_eq!(best(&[3, 1, 2], 2), Some((3, vec![0, 1, 1])));
        assert_eq!(
            (placed("balanced", &[3, 1, 2], 2), placed("blocks", &[0; 4], 2)),
            (vec![0, 1, 1], vec![0, 0, 1, 1])
        );
    }
}
