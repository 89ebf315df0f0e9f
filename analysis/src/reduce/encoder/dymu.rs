//! DyMU: ToMe with a threshold, so that simple pictures lose more tokens; merged tokens can be unmerged virtually.
//!
//! Source: Wang et al. 2025, "DyMU: Dynamic Merging and Virtual Unmerging for Efficient VLMs", arXiv 2504.17040.
//! Takes: a metric per token (keys, mean over heads) `[n, e]`. Gives: groups and sizes; thresholds of a batch; attention
//! of the sequence that the groups stand for. Departs: see [`Info::departs`]. Cost: O(n² · e) per layer.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::bipartite_matching;
use crate::raw::{Adapter, RawInput};
use crate::reduce::matching::{by_size, merged};
use crate::reduce::place::{Half, Place, image_cut};
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::{Error, Result, Subject};
use serde_json::{Map, Value, json};

const THRESHOLD: Param = Param::number("threshold", "Cosine above which a pair merges", -1.0, 1.0, 0.9);
const PROPORTIONAL: Param = Param::toggle("proportional", "Attention counts a merged token by its size", true);

static INFO: Info = Info {
    id: "dymu",
    title: "DyMU",
    summary: "Merges the pairs of an alternating split that are more alike than a threshold, so that the picture decides how many.",
    family: "inside the encoder",
    basis: Basis::Authors { repo: "MikeWangWZHL/dymu", commit: "c57d75a1a5" },
    paper: Some(Paper {
        title: "DyMU: Dynamic Merging and Virtual Unmerging for Efficient VLMs",
        authors: "Wang et al.",
        year: 2025,
        arxiv: "2504.17040",
    }),
    departs: "one threshold for all layers, where the authors calibrate one for each on a batch of pictures (the raw entry \
              does so); the language model reads the merged tokens as they are and not virtually unmerged, which the raw \
              entry computes; between encoder and language model the features themselves are compared, once",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[THRESHOLD, PROPORTIONAL],
    budget: Some(&THRESHOLD),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct DyMu;

impl Method for DyMu {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let threshold = params.number(&THRESHOLD) as f32;
        let (stops, proportional) = match image_cut(on, &Params::new(), &INFO)? {
            Place::Features => (vec![Place::Features], false),
            _ => {
                let layers = 0..on.tower()?.n_layers;
                (layers.map(|l| Place::inside(on.tower, l, Half::Mid)).collect(), params.toggle(&PROPORTIONAL))
            }
        };
        Ok(Box::new(Asked::at(stops, move |seen, ctx| decide(seen, threshold, ctx)).proportional(proportional)))
    }
}

/// Merges every even row whose best partner is more alike than the threshold, at most half of all.
fn decide(seen: &dyn Seen, threshold: f32, ctx: &Ctx) -> Result<Decision> {
    let metric = seen.keys()?.map_or_else(|| seen.values(), Ok)?;
    let (t, leading) = (seen.rows().len(), seen.open().first().copied().unwrap_or(0));
    if seen.open().is_empty() {
        return Ok(Decision::stay());
    }
    let best = bipartite_matching::run(&metric, leading, ctx)?;
    let r = best.iter().filter(|b| b.cosine > threshold).count();
    if r.min((t - leading) / 2) == 0 {
        return Ok(Decision::stay());
    }
    Ok(by_size(seen, merged(t, &best, r, leading)))
}

/// Raw entry, by what is given. `x` and `metric` `[n, any]` with `threshold` and `class_token`: one layer. `metric`
/// `[batch, n, e]` with `r`: the threshold at which a batch merges r a picture. `Q_unique` and `K_unique`
/// `[heads, m, e]`, `mapping` `[n]`, `cos` and `sin` `[n, e]`, `scaling`: attention logits of the whole sequence.
const ADAPTER: Adapter = Adapter { name: "dymu", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let mut out = Map::new();
    if input.arrays.contains_key("x") {
        one_layer(input, &mut out, ctx)?;
    } else if input.arrays.contains_key("metric") {
        calibrate(input, &mut out, ctx)?;
    }
    if input.arrays.contains_key("Q_unique") {
        out.insert("vtu_logits".into(), unmerged(input)?);
    }
    if out.is_empty() {
        return Err(Error::invalid("give x with metric, metric of a batch, or Q_unique and K_unique"));
    }
    Ok(Value::Object(out))
}

fn one_layer(input: &RawInput, out: &mut Map<String, Value>, ctx: &Ctx) -> Result<()> {
    let (x, metric) = (input.array("x")?, input.array("metric")?);
    x.check_finite("x")?;
    metric.check_finite("metric")?;
    let ([n, d], [m, _]) = (x.dims("x")?, metric.dims("metric")?);
    let leading = usize::from(input.read_or("class_token", false)?);
    if m != n || n <= leading {
        return Err(Error::shape("metric", format!("[{n}, any], more than {leading} rows"), metric.shape()));
    }
    let seen = Table::new(Place::Encoder(0, Half::Mid), n, leading..n).with_values(x).with_keys(metric);
    let decision = decide(&seen, input.read("threshold")?, ctx)?;
    let left = seen.after(&decision)?;
    let (rows, values) = (left.rows(), left.values()?);
    let whole = (0..n).map(|t| rows.row_of(t).map(|r| values.row(r)));
    out.insert("virtually_unmerged".into(), json!(whole.collect::<Vec<_>>()));
    out.insert("merged".into(), json!(values.data().chunks(d.max(1)).collect::<Vec<_>>()));
    out.insert("size".into(), (0..rows.len()).map(|i| rows.size(i) as f64).collect());
    out.insert("n_out".into(), json!(rows.len()));
    out.insert("groups".into(), json!(rows.tokens));
    Ok(())
}

fn calibrate(input: &RawInput, out: &mut Map<String, Value>, ctx: &Ctx) -> Result<()> {
    let metric = input.array("metric")?;
    metric.check_finite("metric")?;
    let [batch, n, e] = metric.dims("metric")?;
    let leading = usize::from(input.read_or("class_token", false)?);
    let r = input.read::<usize>("r")?.min(n.saturating_sub(leading) / 2);
    let of = |b: usize| bipartite_matching::run(&Array::new([n, e], metric.row(b).to_vec())?, leading, ctx);
    let all = (0..batch).map(of).collect::<Result<Vec<_>>>()?;
    let mut cosines: Vec<f32> = all.iter().flatten().map(|m| m.cosine).collect();
    cosines.sort_by(|a, b| b.total_cmp(a));
    // What would merge next after r a picture, and never less alike than not at all.
    let threshold = cosines.get(r * batch).copied().unwrap_or(0.0).max(0.0);
    let merged = |m: &Vec<bipartite_matching::Match>| m.iter().filter(|m| m.cosine > threshold).count() as f64;
    out.insert("batch_threshold".into(), json!(threshold));
    out.insert("merged_per_instance".into(), json!(all.iter().map(merged).collect::<Vec<_>>()));
    Ok(())
}

/// Logits `[heads, n, n]` of the sequence in which every group stands at all its places, from one query and key a group.
fn unmerged(input: &RawInput) -> Result<Value> {
    let (q, k) = (input.array("Q_unique")?, input.array("K_unique")?);
    let (of, cos, sin) = (input.array("mapping")?, input.array("cos")?, input.array("sin")?);
    for (name, x) in [("Q_unique", q), ("K_unique", k), ("mapping", of), ("cos", cos), ("sin", sin)] {
        x.check_finite(name)?;
    }
    let ([heads, m, e], [n, width]) = (q.dims("Q_unique")?, cos.dims("cos")?);
    if k.shape() != q.shape() || width != e || sin.shape() != cos.shape() || of.shape() != [n] {
        return Err(Error::shape(
            "K_unique",
            format!("[{heads}, {m}, {e}], mapping [{n}], cos and sin [{n}, {e}]"),
            k.shape(),
        ));
    }
    let of: Vec<usize> = of.data().iter().map(|v| *v as usize).collect();
    if let Some(g) = of.iter().find(|g| **g >= m) {
        return Err(Error::invalid(format!("mapping names group {g} of {m}")));
    }
    let scaling: f64 = input.read_or("scaling", (e as f64).powf(-0.5))?;
    // A row turned to a place; pairs of components stand half a width apart.
    let turned = |x: &Array, h: usize, i: usize| -> Vec<f64> {
        let row = &x.row(h)[of[i] * e..(of[i] + 1) * e];
        let beside = |c: usize| if c < e / 2 { -f64::from(row[c + e / 2]) } else { f64::from(row[c - e / 2]) };
        let (cos, sin) = (cos.row(i), sin.row(i));
        (0..e).map(|c| f64::from(row[c]) * f64::from(cos[c]) + beside(c) * f64::from(sin[c])).collect()
    };
    let logits = |h: usize| {
        let (q, k): (Vec<_>, Vec<_>) = (0..n).map(|i| (turned(q, h, i), turned(k, h, i))).unzip();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>() * scaling;
        q.iter().map(|a| k.iter().map(|b| dot(a, b)).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    Ok(json!((0..heads).map(logits).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_decides_how_many_merge() {
        let x = Array::new([4, 2], vec![1.0, 0.0, 1.0, 0.1, 0.0, 1.0, 0.7, 0.7]).unwrap();
        let seen = Table::new(Place::Encoder(0, Half::Mid), 4, 0..4).with_keys(&x).with_values(&x);
        let left = |threshold: f32| {
            let decision = decide(&seen, threshold, &Ctx::default()).unwrap();
            decision.regroup.map_or(4, |r| r.groups.len())
        };
        // 0 is like 1 by 0.995; 2 is like 3 by 0.707.
        assert_eq!([left(0.999), left(0.9), left(0.5)], [4, 3, 2]);
    }
}
