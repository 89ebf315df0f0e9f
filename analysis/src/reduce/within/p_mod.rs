//! p-MoD: deeper layers work on fewer and fewer image tokens; the others pass them by and come back behind.
//!
//! Source: Zhang et al. 2024, "p-MoD: Building Mixture-of-Depths MLLMs via Progressive Ratio Decay", arXiv 2412.04449.
//! Takes: a schedule of shares over layers, and a number per token and layer. Gives: which tokens each layer works on.
//! Departs: see [`Info::departs`]. Cost: O(n · d) per layer.

use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::top_k;
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{Half, Place};
use crate::reduce::{Asked, Decide, Decision, Method, Seen};
use crate::trace::{Regroup, Rows};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const AVERAGE: Param =
    Param::share("average", "Share of the image tokens that layers work on, about which it falls", 0.5);
const MOST: Param = Param::share("most", "Layers whose share is above this one work on all tokens", 0.85);
const LEAST: Param = Param::share("least", "No layer's share falls below this one", 0.15);
const SHAPE: Param = Param::choice("shape", "How the share falls over the layers", &["cosine", "linear"]);

static INFO: Info = Info {
    id: "p_mod",
    title: "p-MoD",
    summary: "Lets deeper layers work on fewer image tokens, while the others pass them by and come back.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "MCG-NJU/p-MoD", commit: "459f6df674" },
    paper: Some(Paper {
        title: "p-MoD: Building Mixture-of-Depths MLLMs via Progressive Ratio Decay",
        authors: "Zhang et al.",
        year: 2024,
        arxiv: "2412.04449",
    }),
    departs: "the routers that choose tokens are trained; how like a token is to the mean of the text stands in for them, \
              and what a layer gives is not weighted; the schedule is stretched to the depth of the model, where the \
              authors' is that of 32 layers",
    needs: &[Need::ReadsImage],
    params: &[AVERAGE, MOST, LEAST, SHAPE],
    role: Role::StandIn,
    budget: Some(&AVERAGE),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct PMod;

/// How the share of the tokens that a layer works on falls.
#[derive(Clone, Copy)]
struct Schedule {
    average: f64,
    most: f64,
    least: f64,
    linear: bool,
}

impl Schedule {
    /// The curve, and each layer's share; 1 where a layer works on all.
    fn of(self, n_layers: usize) -> (Vec<f64>, Vec<f64>) {
        let last = n_layers.saturating_sub(1).max(1) as f64;
        let at = |l: usize| match self.linear {
            true => 0.5 - l as f64 / last + self.average,
            false => (std::f64::consts::PI * l as f64 / last).cos() / 2.0 + self.average,
        };
        let curve: Vec<f64> = (0..n_layers).map(at).collect();
        let share = |f: &f64| if *f <= self.most { f.max(self.least) } else { 1.0 };
        let shares = curve.iter().map(share).collect();
        (curve, shares)
    }
}

impl Method for PMod {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let n_layers = on.reader(&INFO)?.n_layers;
        let schedule = Schedule {
            average: params.share(&AVERAGE),
            most: params.share(&MOST),
            least: params.share(&LEAST),
            linear: params.choice(&SHAPE) == "linear",
        };
        let shares = schedule.of(n_layers).1;
        let before =
            |l: usize| if l == 0 { Place::Decoder(0, Half::Before) } else { Place::Decoder(l - 1, Half::After) };
        let skips = |l: usize| shares[l] < 1.0 || (l > 0 && shares[l - 1] < 1.0);
        let stops: Vec<Place> = (0..n_layers).filter(|&l| skips(l)).map(before).collect();
        // What rows that wait hold, by their first token: it does not change meanwhile.
        let mut waits: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        Ok(Box::new(Asked::at(stops, move |seen, ctx| {
            let next = match seen.place() {
                Place::Decoder(l, Half::After) => l + 1,
                _ => 0,
            };
            route(seen, shares[next.min(n_layers - 1)], &mut waits, ctx)
        })))
    }
}

/// Which image tokens the next layer works on, of those that are there and those that wait.
fn route(seen: &dyn Seen, share: f64, waits: &mut BTreeMap<usize, Vec<f32>>, ctx: &Ctx) -> Result<Decision> {
    let (x, n, open) = (seen.values()?, seen.rows().len(), seen.open());
    let first = |rows: &Rows, r: usize| rows.tokens[r].first().copied().unwrap_or(0);
    let text: Vec<usize> = (0..n).filter(|r| open.binary_search(r).is_err()).collect();
    if text.is_empty() {
        return Ok(Decision::stay());
    }
    // Rows that wait come after those that are there.
    let image: Vec<usize> = open.iter().copied().chain(n..n + seen.waiting().len()).collect();
    let mut mean = vec![0f64; x.shape()[1]];
    text.iter().for_each(|&r| mean.iter_mut().zip(x.row(r)).for_each(|(m, v)| *m += f64::from(*v)));
    let like = |row: &[f32]| {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let dot = row.iter().zip(&mean).map(|(a, b)| f64::from(*a) * b).sum::<f64>();
        if length > 0.0 { (dot / length) as f32 } else { 0.0 }
    };
    let empty = Vec::new();
    let row = |r: usize| match r.checked_sub(n) {
        None => x.row(r),
        Some(i) => waits.get(&first(seen.waiting(), i)).unwrap_or(&empty),
    };
    let scores: Vec<f32> = image.iter().map(|&r| like(row(r))).collect();
    let k = ((image.len() as f64 * share) as usize).min(image.len());
    let kept: Vec<usize> = top_k::of_row(&scores, k, ctx)?.into_iter().map(|i| image[i]).collect();
    let aside: Vec<usize> = open.iter().copied().filter(|r| !kept.contains(r)).collect();
    let held: Vec<(usize, Vec<f32>)> = aside.iter().map(|&r| (first(seen.rows(), r), x.row(r).to_vec())).collect();
    waits.extend(held);
    let mut rows: Vec<usize> = text.into_iter().chain(kept).collect();
    rows.sort_unstable();
    if aside.is_empty() && rows.len() == n {
        return Ok(Decision::stay());
    }
    let by_row = open.iter().zip(&scores).map(|(&r, &s)| (r, s));
    let mut out = Decision { regroup: Some(Regroup { aside, ..Regroup::keep(&rows) }), ..Decision::stay() };
    out.scores = vec![f32::NAN; n];
    by_row.for_each(|(r, s)| out.scores[r] = s);
    Ok(out)
}

/// Raw entry: `router_logits` `[n]` of all tokens, `visual_range`, `schedule` (`shifted_cos_with_ratio` or
/// `shifted_linear_with_ratio`), `average_ratio`, `max_ratio`, `min_ratio`, `layer`, `norm` (`tanh` or `sigmoid`, scale,
/// bias).
const ADAPTER: Adapter = Adapter { name: "p_mod", run: raw };

/// Layers of the authors' model.
const LAYERS: usize = 32;

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let logits = input.array("router_logits")?;
    logits.check_finite("router_logits")?;
    let [n] = logits.dims("router_logits")?;
    let (from, to): (usize, usize) = input.read("visual_range")?;
    let layer: usize = input.read("layer")?;
    if from > to || to > n || layer >= LAYERS {
        return Err(Error::invalid(format!("image tokens {from} to {to} of {n} in layer {layer} of {LAYERS}")));
    }
    let shape: String = input.read_or("schedule", "shifted_cos_with_ratio".into())?;
    let linear = match shape.as_str() {
        "shifted_cos_with_ratio" => false,
        "shifted_linear_with_ratio" => true,
        _ => {
            return Err(Error::invalid(format!(
                "schedule is {shape}; it is shifted_cos_with_ratio or shifted_linear_with_ratio"
            )));
        }
    };
    let schedule = Schedule {
        average: input.read_or("average_ratio", 0.5)?,
        most: input.read_or("max_ratio", 0.85)?,
        least: input.read_or("min_ratio", 0.15)?,
        linear,
    };
    let (curve, shares) = schedule.of(LAYERS);
    let (word, scale, bias): (String, f64, f64) = input.read_or("norm", ("tanh".into(), 0.2, 1.0))?;
    let squash = match word.as_str() {
        "tanh" => f64::tanh as fn(f64) -> f64,
        "sigmoid" => |x: f64| 1.0 / (1.0 + (-x).exp()),
        _ => return Err(Error::invalid(format!("norm is {word}; it is tanh or sigmoid"))),
    };
    let visual = &logits.data()[from..to];
    let weights: Vec<f64> = visual.iter().map(|l| squash(f64::from(*l)) * scale + bias).collect();
    // In single precision, as torch cuts it.
    let k = ((visual.len() as f32 * shares[layer] as f32) as usize).min(visual.len());
    let kept = top_k::of_row(visual, k, ctx)?;
    let modded: Vec<usize> = (0..LAYERS).filter(|&l| curve[l] <= schedule.most).collect();
    let absolute: Vec<usize> = kept.iter().map(|i| i + from).collect();
    Ok(json!({
        "raw_schedule": curve, "layer_ratio": shares, "mod_layers": modded, "k": k, "kept_visual": absolute,
        "router_weight_visual": weights,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::reduce::Table;

    #[test]
    fn the_share_falls_and_early_layers_work_on_all() {
        let schedule = Schedule { average: 0.5, most: 0.85, least: 0.15, linear: true };
        let (curve, shares) = schedule.of(5);
        assert_eq!(curve, [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(shares, [1.0, 0.75, 0.5, 0.25, 0.15]);
    }

    #[test]
    fn tokens_that_are_like_the_text_are_worked_on_and_the_others_wait() {
        // Row 2 is text; row 1 is like it.
        let x = Array::new([3, 2], vec![0.0, 1.0, 1.0, 0.2, 1.0, 0.0]).unwrap();
        let seen = Table::new(Place::Decoder(0, Half::Before), 3, 0..2).with_values(&x);
        let mut waits = BTreeMap::new();
        let decision = route(&seen, 0.5, &mut waits, &Ctx::default()).unwrap();
        let regroup = decision.regroup.unwrap();
        assert_eq!((regroup.groups.len(), regroup.aside.as_slice()), (2, &[0][..]));
        assert_eq!(waits[&0], [0.0, 1.0]);
    }
}
