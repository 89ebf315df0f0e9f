//! Overfocusing: where all queries of a layer look at the same few tokens, and what pooling over neighbours would do to
//! these.
//!
//! Source: Guo et al. 2023, "Robustifying Token Attention for Vision Transformers", arXiv 2303.11126; guoyongcs/TAPADL at
//! 6e4dbff1de, `TAPADL_RVT/engine.py` and `tap_robust_models.py`. Takes: attention maps of all layers; features on a grid.
//! Gives: how alike the rows of each layer are to their mean, what each token gets, and features pooled over several
//! distances. Departs: see [`Info::departs`]. Cost: O(layers · n²).

use super::Method;
use super::patches::{self, Patches};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Figure, Finding, Heat, Measure, Plot, Series, Stages, Style, Unit};
use crate::math::{dot, length};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::attention_map;
use crate::raw::{Adapter, RawInput};
use crate::trace::{Site, Tower};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const LEAST: Param =
    Param::number("threshold", "Attention counts above this over the number of tokens", 0.0, 64.0, 2.0);
const SCALES: Param =
    Param::count("num_scales", "Distances that features are pooled over; the first is the token itself", 1, 8, 4);

static INFO: Info = Info {
    id: "tapadl",
    title: "Overfocusing",
    summary: "Shows the layers in which all tokens look at the same few, and which tokens these are.",
    family: "attention",
    basis: Basis::Authors { repo: "guoyongcs/TAPADL", commit: "6e4dbff1de" },
    paper: Some(Paper {
        title: "Robustifying Token Attention for Vision Transformers",
        authors: "Guo et al.",
        year: 2023,
        arxiv: "2303.11126",
    }),
    departs: "both are means of training there; how much of each distance a token takes is learned there and the same for \
              all here; of a batch of one the authors' code takes the mean over keys, which is the same for every row and \
              counts nowhere: here it is that over queries, as for larger batches; of tiles the first is looked at",
    needs: &[Need::ImageTokens, Need::Attention, Need::Residual],
    params: &[LEAST, SCALES],
    role: Role::StandIn,
    raw: &[Adapter { name: "tapadl", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct TapAdl;

impl Method for TapAdl {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let vision = patches::encoder(on, &INFO)?;
        let tiles = Patches::of(on, &Params::new(), &INFO)?;
        let (least, scales) = (params.number(&LEAST), params.count(&SCALES) as usize);
        let n_layers = vision.attention.len();
        let tile = &tiles[0];
        let only = std::slice::from_ref(tile);
        let (mut points, mut stages) = (Vec::new(), Vec::new());
        let mut loss = 0.0;
        for layer in 0..n_layers {
            ctx.step(layer, n_layers)?;
            let map = attention_map::head_mean(on.trace, Tower::Vision, layer, &ctx.part(layer, n_layers))?;
            let rows = &on.trace.get(Tower::Vision, layer, Site::Q)?.rows;
            let mean = map.mean_over_first();
            let alike = alikeness(&map, Toward::Queries, least)?;
            loss += alike;
            points.push([layer as f64, alike]);
            let got: Vec<f32> = mean.iter().map(|m| (m * mean.len() as f64) as f32).collect();
            let by_token = rows.to_tokens(&got, vision.tokens.len());
            let of = |i: usize| by_token.get(tile.token(i)).copied().flatten().unwrap_or(0.0);
            stages.push((0..tile.len()).map(of).collect::<Vec<f32>>());
        }
        let measure = Measure::new("attention", "of an even share");
        let Some(last) = stages.last() else { return Err(INFO.needs(Need::Attention.words())) };
        let heat = patches::heat(on, "what each patch gets", measure, vision, only, std::slice::from_ref(last));
        let values = stages.iter().map(|s| patches::laid(on, vision, only, std::slice::from_ref(s)).1).collect();
        let heat = Heat { stages: Some(Stages { unit: Unit::Layers, values }), ..heat };
        let d = tile.x.shape()[1];
        let weights = vec![1.0 / scales as f64; scales * tile.len()];
        // Channels first, as the pooling has it.
        let turned: Vec<f32> =
            (0..d).flat_map(|c| (0..tile.len()).map(move |i| (i, c))).map(|(i, c)| tile.x.row(i)[c]).collect();
        let pooled = mixed(&turned, tile.grid, d, &weights, scales);
        let back = (0..tile.len()).flat_map(|i| (0..d).map(move |c| (i, c))).map(|(i, c)| pooled[c * tile.len() + i]);
        let moved = vec![patches::moved(&tile.x, &Array::new([tile.len(), d], back.collect())?)];
        let by = Measure::new("change", "lengths of the patch");
        let plot = Plot::new(
            "how alike the rows are",
            Axis::Unit(Unit::Layers),
            Measure::new("cosine", "with their mean, large attention alone"),
            vec![Series::new("rows of the layer", Style::Line, points)],
        );
        Ok(Finding::of(heat)
            .with(plot)
            .with(patches::heat(on, "what pooling over neighbours moves", by, vision, only, &moved))
            .figure(Figure::new(
                "diversification loss",
                Datum::Number(loss / (n_layers as f64 + EPS)),
                "Mean over layers of how alike the rows are; 0 where none shares what it looks at with the mean",
            )))
    }
}

const EPS: f64 = 1e-6;

/// What a map's rows are compared with: their mean, or what each has over keys.
#[derive(Clone, Copy, PartialEq)]
enum Toward {
    Queries,
    Keys,
}

/// Mean cosine of the rows of a map `[n, n]` with their mean, in both only what is above `least` / n.
fn alikeness(map: &Array, toward: Toward, least: f64) -> Result<f64> {
    let [n, m] = map.dims("attention")?;
    let bar = (least / m.max(1) as f64) as f32;
    let large = |v: f32| if v > bar { f64::from(v) } else { 0.0 };
    let mean: Vec<f64> = match toward {
        Toward::Queries => map.mean_over_first().into_iter().map(|v| large(v as f32)).collect(),
        Toward::Keys => Vec::new(),
    };
    let length = |v: &[f64]| length(v).max(1e-8);
    let whole = length(&mean);
    let cosine = |i: usize| {
        let row: Vec<f64> = map.row(i).iter().map(|v| large(*v)).collect();
        let own = length(&row);
        if toward == Toward::Keys {
            let even = large((map.row(i).iter().map(|v| f64::from(*v)).sum::<f64>() / m as f64) as f32);
            let all = length(&vec![even; m]);
            return row.iter().sum::<f64>() * even / (own * all);
        }
        dot(&row, &mean) / (own * whole)
    };
    Ok((0..n).map(cosine).sum::<f64>() / n.max(1) as f64)
}

/// Maps `[channels, rows · cols]` mixed of themselves and their means over squares of three, whose cells stand 1, 2, …
/// apart and count 0 beyond the edge, by weights `[rows · cols, scales]`.
fn mixed(x: &[f32], (rows, cols): (usize, usize), channels: usize, weights: &[f64], scales: usize) -> Vec<f32> {
    let n = rows * cols;
    let mut out = Vec::with_capacity(x.len());
    for map in x.chunks(n.max(1)).take(channels) {
        for i in 0..n {
            let (y, c) = (i / cols, i % cols);
            let at = |apart: usize| {
                let step = |at: usize, k: usize, n: usize| (at + k * apart).checked_sub(apart).filter(|v| *v < n);
                let cells = (0..3).flat_map(|a| (0..3).map(move |b| (a, b)));
                let cell = |(a, b)| Some(step(y, a, rows)? * cols + step(c, b, cols)?);
                cells.filter_map(cell).map(|k| f64::from(map[k])).sum::<f64>() / 9.0
            };
            let value = |s: usize| if s == 0 { f64::from(map[i]) } else { at(s) };
            out.push((0..scales).map(|s| weights[i * scales + s] * value(s)).sum::<f64>() as f32);
        }
    }
    out
}

/// Raw entry: maps `attn0`, `attn1`, … `[batch, heads, n, n]` and `threshold`; `x` `[channels, rows, columns]` and
/// `scale_weights` `[rows, columns, scales]`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let least: f64 = input.read_or("threshold", 2.0)?;
    let (mut loss, mut layers) = (0.0, EPS);
    for i in 0.. {
        let name = format!("attn{i}");
        let Some(maps) = input.arrays.get(&name) else { break };
        maps.check_finite(&name)?;
        ctx.check()?;
        let [batch, heads, n, m] = maps.dims(&name)?;
        if n != m || batch * heads * n == 0 {
            return Err(Error::shape(name, "[batch, heads, n, n], none of them 0", maps.shape()));
        }
        // A batch of one loses its first axis there, and the mean goes over keys.
        let toward = if batch == 1 { Toward::Keys } else { Toward::Queries };
        let mut sum = 0.0;
        for b in 0..batch {
            let mean: Vec<f32> = maps.sub(b).mean_over_first().into_iter().map(|v| v as f32).collect();
            sum += alikeness(&Array::new([n, n], mean)?, toward, least)?;
        }
        loss += sum / batch as f64;
        layers += 1.0;
    }
    let mut out = json!({ "adl": loss / layers });
    let (x, weights) = (input.array("x")?, input.array("scale_weights")?);
    x.check_finite("x")?;
    weights.check_finite("scale_weights")?;
    let ([channels, rows, cols], [r, c, scales]) = (x.dims("x")?, weights.dims("scale_weights")?);
    if (rows, cols) != (r, c) {
        return Err(Error::shape("scale_weights", format!("[{rows}, {cols}, scales]"), weights.shape()));
    }
    let weights: Vec<f64> = weights.data().iter().map(|w| f64::from(*w)).collect();
    let made = mixed(x.data(), (rows, cols), channels, &weights, scales);
    let maps =
        made.chunks((rows * cols).max(1)).map(|m| m.chunks(cols.max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>());
    out["tap_output"] = json!(maps.collect::<Vec<_>>());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_look_at_one_token_are_alike_and_even_ones_count_nowhere() {
        let one = Array::new([2, 2], vec![0.9, 0.1, 0.9, 0.1]).unwrap();
        assert!((alikeness(&one, Toward::Queries, 1.0).unwrap() - 1.0).abs() < 1e-6);
        let own = Array::new([2, 2], vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        // The mean is a half everywhere, which is not above a half.
        assert_eq!(alikeness(&own, Toward::Queries, 1.0).unwrap(), 0.0);
        assert!((alikeness(&own, Toward::Queries, 0.5).unwrap() - 0.5f64.sqrt()).abs() < 1e-6);
        assert!((alikeness(&own, Toward::Keys, 0.5).unwrap() - 0.5f64.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn cells_beyond_the_edge_count_nothing() {
        let x = [9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 18.0];
        let only = |s: usize| (0..27).map(|i| f64::from(u8::from(i % 3 == s))).collect::<Vec<_>>();
        assert_eq!(mixed(&x, (3, 3), 1, &only(0), 3), x);
        let near = mixed(&x, (3, 3), 1, &only(1), 3);
        assert_eq!((near[0], near[4], near[8]), (1.0, 3.0, 2.0));
        // Two apart, corners meet.
        assert_eq!(mixed(&x, (3, 3), 1, &only(2), 3)[0], 3.0);
    }
}
