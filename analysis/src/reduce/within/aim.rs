//! AIM: features are merged by likeness before the language model, and in its deeper half fewer and fewer go on, by how
//! much attention flows to them.
//!
//! Source: Zhong et al. 2024, "AIM: Adaptive Inference of Multi-Modal LLMs via Token Merging and Pruning",
//! arXiv 2412.03248. Takes: image features `[n, d]`, and the attention `[heads, n, n]` of layers of the language model.
//! Gives: groups, an importance per token, and which stay. Departs: see [`Info::departs`]. Cost: O(n² · d), and
//! O(heads · n² · steps) per layer.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::top_k;
use crate::raw::{Adapter, RawInput};
use crate::reduce::matching::bipartite_soft_matching;
use crate::reduce::noted::ROWS;
use crate::reduce::place::{Half, Place};
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::{Error, Result, Subject};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

const MERGES: Param = Param::count("merges", "Steps that halve the features before the language model", 0, 8, 2);
const FROM: Param = Param::share("from", "Share of the language model's layers that work on all that is left", 0.5);
const SLOPE: Param =
    Param::number("slope", "Share of the tokens that goes over as many layers as the model has", 0.0, 64.0, 3.5);
const TAU: Param = Param::number("tau", "Temperature that attention is sharpened by", 0.01, 10.0, 0.1);
const STEPS: Param = Param::count("steps", "Steps that importance flows along attention", 1, 64, 5);
const DAMPING: Param = Param::share("damping", "Share of the importance that does not flow", 0.0);

static INFO: Info = Info {
    id: "aim",
    title: "AIM",
    summary: "Merges alike features before the language model, then drops those that little attention flows to, layer by layer.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "LaVi-Lab/AIM", commit: "edc24e9f3d" },
    paper: Some(Paper {
        title: "AIM: Adaptive Inference of Multi-Modal LLMs via Token Merging and Pruning",
        authors: "Zhong et al.",
        year: 2024,
        arxiv: "2412.03248",
    }),
    departs: "tokens are really dropped, which gives what the authors' mask gives; the schedule stands at shares of the \
              depth, which is theirs where there are 28 layers; merged rows stand in the order of their first tokens; all \
              tiles are merged together, where frames are merged one by one there",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[MERGES, FROM, SLOPE, TAU, STEPS, DAMPING],
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct Aim;

/// How importance flows.
#[derive(Clone, Copy)]
struct Flow {
    tau: f64,
    steps: usize,
    damping: f64,
}

impl Method for Aim {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let n_layers = on.reader(&INFO)?.n_layers;
        let merges = params.count(&MERGES) as usize;
        let shares = shares(n_layers, params.share(&FROM), params.number(&SLOPE));
        let flow =
            Flow { tau: params.number(&TAU), steps: params.count(&STEPS) as usize, damping: params.share(&DAMPING) };
        let layers = (0..n_layers).filter(|&l| shares[l] < 1.0).map(|l| Place::Decoder(l, Half::After));
        let stops: Vec<Place> = vec![Place::Features; merges].into_iter().chain(layers).collect();
        let mut came = None;
        Ok(Box::new(Asked::at(stops, move |seen, ctx| {
            let Some(layer) = seen.place().layer() else { return merge(seen, seen.open().len() / 2, ctx) };
            let n = *came.get_or_insert(seen.open().len());
            let k = ((n as f64 * shares[layer]) as usize).min(seen.open().len());
            let importance = importance(seen, flow, ctx)?;
            let scores: Vec<f32> = seen.open().iter().map(|&r| importance[r]).collect();
            Ok(Decision::keep(seen, &top_k::of_row(&scores, k, ctx)?).scored(seen, &scores))
        })))
    }
}

/// Share of the tokens left behind each layer: all up to `from`, then less by the same with every layer.
fn shares(n_layers: usize, from: f64, slope: f64) -> Vec<f64> {
    let first = (from * n_layers as f64).round() as usize;
    let step = slope / n_layers.max(1) as f64;
    let share = |l: usize| if l < first { 1.0 } else { (1.0 - step * (l + 1 - first) as f64).max(0.0) };
    (0..n_layers).map(share).collect()
}

/// Merges the `r` most alike pairs of the open rows; each group becomes its plain mean, whatever stood behind its rows.
fn merge(seen: &dyn Seen, r: usize, ctx: &Ctx) -> Result<Decision> {
    let x = crate::reduce::seen::pick(&seen.values()?, seen.open())?;
    if r == 0 {
        return Ok(Decision::stay());
    }
    let groups = bipartite_soft_matching(&x, r, 0, ctx)?;
    let mean = |g: Vec<usize>| {
        let share = 1.0 / g.len() as f64;
        g.into_iter().map(|i| (i, share)).collect()
    };
    Ok(Decision::remade(seen, groups.into_iter().map(mean).collect(), Vec::new()))
}

/// What reaches each row when even importance flows along the sharpened attention of the place: the root of the mean over
/// heads of its square. The attention is looked at some rows at a time, again at each step where all of it would be too
/// much to hold.
fn importance(seen: &dyn Seen, flow: Flow, ctx: &Ctx) -> Result<Vec<f32>> {
    let n = seen.rows().len();
    let even = 1.0 / n.max(1) as f64;
    let blocks: Vec<Vec<usize>> = (0..n).step_by(ROWS).map(|from| (from..n.min(from + ROWS)).collect()).collect();
    // One after the other for each head: where importance is, `[heads][n]`.
    let mut at: Vec<Vec<f64>> = Vec::new();
    let mut held: Vec<Array> = Vec::new();
    for step in 0..flow.steps {
        let mut next: Vec<Vec<f64>> = Vec::new();
        for (i, queries) in blocks.iter().enumerate() {
            ctx.step(step * blocks.len() + i, flow.steps * blocks.len())?;
            let fresh;
            let rows = match held.get(i) {
                Some(rows) => rows,
                None => {
                    let rows = sharpened(seen.pattern(queries)?, n, flow.tau);
                    let whole = rows.data().len() / queries.len().max(1) * n;
                    // Blocks are held in their order, and either all of them or none.
                    if whole <= HELD {
                        held.push(rows);
                        &held[i]
                    } else {
                        fresh = rows;
                        &fresh
                    }
                }
            };
            let heads = rows.shape()[0];
            if at.is_empty() {
                at = vec![vec![even; n]; heads];
            }
            next.resize_with(heads, || vec![flow.damping * even; n]);
            next.par_iter_mut().zip(&at).enumerate().for_each(|(h, (next, at))| {
                for (from, row) in at[queries[0]..].iter().zip(rows.row(h).chunks_exact(n)) {
                    let from = (1.0 - flow.damping) * from;
                    next.iter_mut().zip(row).for_each(|(to, p)| *to += from * f64::from(*p));
                }
            });
        }
        at = next;
    }
    let heads = at.len().max(1) as f64;
    Ok((0..n).map(|j| (at.iter().map(|a| a[j] * a[j]).sum::<f64>() / heads).sqrt() as f32).collect())
}

/// Values of sharpened attention that are held from step to step, at most: a quarter of a gigabyte.
const HELD: usize = 1 << 26;

/// Rows of attention `[heads, queries, n]` with each probability to the power of 1/τ, as shares: a softmax of logits over
/// τ is one of log-probabilities over τ.
fn sharpened(mut rows: Array, n: usize, tau: f64) -> Array {
    let exponent = 1.0 / tau;
    // Whole powers are products.
    let whole = (exponent.fract() == 0.0 && exponent <= 64.0).then_some(exponent as i32);
    rows.data_mut().par_chunks_exact_mut(n.max(1)).for_each(|row| {
        let most = f64::from(row.iter().copied().fold(0.0, f32::max)).max(f64::MIN_POSITIVE);
        let power = |p: f32| {
            let p = f64::from(p) / most;
            whole.map_or_else(|| p.powf(exponent), |e| p.powi(e))
        };
        let total: f64 = row.iter().map(|p| power(*p)).sum();
        row.iter_mut().for_each(|p| *p = if total > 0.0 { (power(*p) / total) as f32 } else { 0.0 });
    });
    rows
}

/// Raw entry, by what is given. `x` `[frames, n, d]` with `r_schedule`: merges before the language model. `attn_logits`
/// `[heads, n, n]` and `attention_mask` `[n]` with `visual_range`, `tau`, `iters`, `damping`, `retain_rate`: one layer.
const ADAPTER: Adapter = Adapter { name: "aim", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let mut out = Map::new();
    if input.arrays.contains_key("x") {
        let x = input.array("x")?;
        x.check_finite("x")?;
        let [frames, n, d] = x.dims("x")?;
        let schedule: Vec<usize> = input.read("r_schedule")?;
        if schedule.len() > MAX_STEPS {
            return Err(Error::invalid(format!("r_schedule has {} steps; at most {MAX_STEPS}", schedule.len())));
        }
        let (mut merged, mut counts) = (Vec::new(), Vec::new());
        for f in 0..frames {
            let mut seen = Table::new(Place::Features, n, 0..n).with_values(&Array::new([n, d], x.row(f).to_vec())?);
            counts.clear();
            for &r in &schedule {
                let decision = merge(&seen, r, ctx)?;
                seen = seen.after(&decision)?;
                counts.push(seen.rows().len());
            }
            let left = seen.values()?;
            merged.push(left.data().chunks(d.max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>());
        }
        out.insert("tokens_after_each".into(), json!(counts));
        out.insert("merged".into(), json!(merged));
    }
    if input.arrays.contains_key("attn_logits") {
        one_layer(input, &mut out, ctx)?;
    }
    if out.is_empty() {
        return Err(Error::invalid("give x or attn_logits"));
    }
    Ok(Value::Object(out))
}

/// Merges of the raw entry at most.
const MAX_STEPS: usize = 64;

fn one_layer(input: &RawInput, out: &mut Map<String, Value>, ctx: &Ctx) -> Result<()> {
    let (logits, alive) = (input.array("attn_logits")?, input.array("attention_mask")?);
    let [heads, n, m] = logits.dims("attn_logits")?;
    if m != n || alive.shape() != [n] || n == 0 {
        return Err(Error::shape(
            "attn_logits",
            format!("[{heads}, {n}, {n}] and attention_mask [{n}]"),
            logits.shape(),
        ));
    }
    if logits.data().iter().any(|v| v.is_nan()) {
        return Err(Error::invalid("attn_logits holds values that are no numbers"));
    }
    let (from, to): (usize, usize) = input.read("visual_range")?;
    let flow = Flow {
        tau: input.read_or("tau", 0.1)?,
        steps: input.rounds("iters", 5)?,
        damping: input.read_or("damping", 0.0)?,
    };
    let rate: f64 = input.read("retain_rate")?;
    if from > to || to > n || !(0.0..=1.0).contains(&rate) || flow.tau <= 0.0 {
        return Err(Error::invalid(format!("image tokens {from} to {to} of {n}, {rate} of them, tau {}", flow.tau)));
    }
    // As probabilities at temperature 1, which sharpening begins from.
    let share = |(i, row): (usize, &[f32])| -> Vec<f32> {
        let seen = |j: usize| j <= i % n && alive.data()[j] > 0.0;
        let most = (0..n).filter(|&j| seen(j)).map(|j| row[j]).fold(f32::NEG_INFINITY, f32::max);
        let e: Vec<f64> = (0..n).map(|j| if seen(j) { f64::from(row[j] - most).exp() } else { 0.0 }).collect();
        let total: f64 = e.iter().sum();
        e.into_iter().map(|e| if total > 0.0 { (e / total) as f32 } else { 0.0 }).collect()
    };
    let pattern = Array::new([heads, n, n], logits.data().chunks_exact(n).enumerate().flat_map(share).collect())?;
    let seen = Table::new(Place::Decoder(0, Half::After), n, from..to).with_pattern(&pattern);
    let mut found = importance(&seen, flow, ctx)?;
    for (i, v) in found.iter_mut().enumerate() {
        if alive.data()[i] <= 0.0 {
            *v = -1.0;
        }
    }
    let ranked: Vec<f32> = (0..n).map(|i| if (from..to).contains(&i) { found[i] } else { 1.0 }).collect();
    let k = ((to - from) as f64 * rate + (n - (to - from)) as f64) as usize;
    let kept = top_k::of_row(&ranked, k, ctx)?;
    let mask: Vec<u8> = (0..n).map(|i| u8::from(kept.binary_search(&i).is_ok())).collect();
    out.insert("importance".into(), json!(found));
    out.insert("keep_mask_after".into(), json!(mask));
    out.insert("keep_num".into(), json!(k));
    out.insert("retain_schedule".into(), json!(shares(28, 0.5, 3.5)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importance_flows_to_what_is_attended_to() {
        // Both rows look at row 0 only: all flows there.
        let of = |n: usize, a: Vec<f32>, flow: Flow| {
            let a = Array::new([a.len() / n / n, n, n], a).unwrap();
            let seen = Table::new(Place::Decoder(0, Half::After), n, 0..n).with_pattern(&a);
            importance(&seen, flow, &Ctx::default()).unwrap()
        };
        let flow = Flow { tau: 0.5, steps: 1, damping: 0.0 };
        assert_eq!(of(2, vec![1.0, 0.0, 1.0, 0.0], flow), [1.0, 0.0]);
        // 0.8 and 0.2 squared are 16 to 1.
        let got = of(2, vec![1.0, 0.0, 0.8, 0.2], flow);
        assert!((got[1] - 0.5 / 17.0).abs() < 1e-6, "{got:?}");
        // Two heads, one of which gives all to row 0: √((1 + 0.25) / 2) there.
        let got = of(2, vec![1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0], flow);
        assert!((f64::from(got[0]) - 0.625f64.sqrt()).abs() < 1e-6, "{got:?}");
    }

    #[test]
    fn rows_seen_block_by_block_and_step_by_step_give_what_all_at_once_do() {
        // More rows than a block; each looks at itself and at the first.
        let n = ROWS + 3;
        let mut a = Array::zeros([1, n, n]);
        for i in 0..n {
            a.data_mut()[i * n] += 0.25;
            a.data_mut()[i * n + i] += 0.75;
        }
        let seen = Table::new(Place::Decoder(0, Half::After), n, 0..n).with_pattern(&a);
        let flow = Flow { tau: 1.0, steps: 3, damping: 0.1 };
        let got = importance(&seen, flow, &Ctx::default()).unwrap();
        // A row but the first keeps 0.9 · 0.75 of what it has and is given a tenth of an even share.
        let even = 1.0 / n as f64;
        let by_hand = (0..3).fold(even, |at, _| 0.1 * even + 0.9 * 0.75 * at);
        assert!((f64::from(got[n - 1]) - by_hand).abs() < 1e-7 && got[1] == got[n - 1], "{} {by_hand}", got[n - 1]);
        let sum: f64 = got.iter().map(|v| f64::from(*v)).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }

    #[test]
    fn the_deeper_half_loses_the_same_share_with_every_layer() {
        assert_eq!(shares(28, 0.5, 3.5)[12..17], [1.0, 1.0, 0.875, 0.75, 0.625]);
        assert_eq!(shares(28, 0.5, 3.5)[27], 0.0);
    }

    #[test]
    fn a_second_merge_counts_what_the_first_made_as_one() {
        let x = Array::new([4, 2], vec![1.0, 0.0, 1.0, 0.01, 0.0, 1.0, -1.0, 0.3]).unwrap();
        let seen = Table::new(Place::Features, 4, 0..4).with_values(&x);
        let first = merge(&seen, 1, &Ctx::default()).unwrap();
        let seen = seen.after(&first).unwrap();
        assert_eq!(seen.rows().tokens, [vec![2], vec![0, 1], vec![3]]);
        let second = merge(&seen, 1, &Ctx::default()).unwrap();
        let weights: Vec<f32> = second.regroup.unwrap().groups.concat().into_iter().map(|m| m.1).collect();
        assert!(weights.contains(&0.5), "{weights:?}");
    }
}
