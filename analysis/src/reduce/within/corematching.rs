//! CoreMatching: image tokens go on whose neurons are those of the question's, up to the bend of the curve.
//!
//! Source: Wang et al. 2025, "CoreMatching: A Co-adaptive Sparse Inference Framework with Token and Neuron Pruning for
//! Comprehensive Acceleration of Vision-Language Models", arXiv 2505.19235. Takes: the wide middle of one layer's MLP
//! `[n, width]`. Gives: how many active neurons each token shares with one of the question, and where the curve of these
//! bends. Departs: see [`Info::departs`]. Cost: O(n · width).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{Half, Place};
use crate::reduce::{Asked, Decide, Decision, Method, Table};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const QUERY: Param =
    Param::count("query", "The token of the question, counted from the end, that neurons are matched with", 1, 1024, 5);
const STRICT: Param = Param::toggle("strict", "Tokens at the bend go, too", true);
const LAYER: Param = Param::layer_of(
    "layer",
    "Layer of the language model whose neurons are matched and behind which the others go",
    Tower::Text,
    LayerPick::At(1),
);

static INFO: Info = Info {
    id: "corematching",
    title: "CoreMatching",
    summary: "Keeps the image tokens that share most active neurons with a token of the question, up to the bend of the curve.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "wangqinsi1/2025-ICML-CoreMatching", commit: "046b24e6bd" },
    paper: Some(Paper {
        title: "CoreMatching: A Co-adaptive Sparse Inference Framework with Token and Neuron Pruning for Comprehensive \
                Acceleration of Vision-Language Models",
        authors: "Wang et al.",
        year: 2025,
        arxiv: "2505.19235",
    }),
    departs: "one cut, where the authors zero keys and values in a span of layers; neurons are not pruned; the image stands \
              where the run has it and not at places 5 to 580; a question of fewer tokens is matched by its first",
    needs: &[Need::ReadsImage],
    params: &[QUERY, STRICT, LAYER],
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct CoreMatching;

impl Method for CoreMatching {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let layer = params.one_layer(&LAYER, on.reader(&INFO)?.n_layers)?;
        let (back, strict) = (params.count(&QUERY) as usize, params.toggle(&STRICT));
        let behind = Place::Decoder(layer, Half::After);
        let decider = Asked::at([behind], move |seen, _| {
            let n = seen.rows().len();
            // At the earliest what stands behind the image.
            let from = seen.behind().first().copied().unwrap_or(n.saturating_sub(1));
            let query = n.saturating_sub(back).max(from);
            let core = Core::of(&seen.hidden()?, seen.open(), query, strict)?;
            Ok(Decision::keep(seen, &core.kept).scored(seen, &core.overlap))
        });
        Ok(Box::new(decider.reading_hidden()))
    }
}

/// Tokens on this side of the bend.
struct Core {
    overlap: Vec<f32>,
    elbow: usize,
    value: f32,
    kept: Vec<usize>,
}

impl Core {
    fn of(hidden: &Array, rows: &[usize], query: usize, strict: bool) -> Result<Self> {
        let [n, _] = hidden.dims("middle of the MLP")?;
        if query >= n || rows.iter().any(|r| *r >= n) {
            return Err(Error::invalid(format!("row {query} asks, of {n}")));
        }
        let asks = hidden.row(query);
        let shared = |&r: &usize| hidden.row(r).iter().zip(asks).filter(|(a, b)| **a > 0.0 && **b > 0.0).count() as f32;
        let overlap: Vec<f32> = rows.iter().map(shared).collect();
        let mut falling = overlap.clone();
        falling.sort_by(|a, b| b.total_cmp(a));
        let elbow = bend(&falling);
        let value = falling.get(elbow).copied().unwrap_or(0.0);
        let stays = |&i: &usize| overlap[i] > value || (!strict && overlap[i] == value);
        Ok(Self { kept: (0..overlap.len()).filter(stays).collect(), overlap, elbow, value })
    }
}

/// The place that lies farthest from the line between the first and the last, the first of such.
fn bend(values: &[f32]) -> usize {
    let (Some(&first), Some(&last)) = (values.first(), values.last()) else { return 0 };
    let (dx, dy) = ((values.len() - 1) as f64, f64::from(last) - f64::from(first));
    let length = dx.hypot(dy);
    if length == 0.0 {
        return 0;
    }
    let away = |i: usize| (dy * i as f64 - dx * (f64::from(values[i]) - f64::from(first))).abs() / length;
    (1..values.len()).fold(0, |best, i| if away(i) > away(best) { i } else { best })
}

/// Raw entry: `ffn_act` `[n, width]`, `image_start`, `image_end`, `query_token` (from the end where negative), `strict`.
const ADAPTER: Adapter = Adapter { name: "corematching", run: raw };

fn raw(input: &RawInput, _ctx: &Ctx) -> Result<Value> {
    let x = input.array("ffn_act")?;
    x.check_finite("ffn_act")?;
    let [n, _] = x.dims("ffn_act")?;
    let (from, to): (usize, usize) = (input.read_or("image_start", 5)?, input.read_or("image_end", 581)?);
    let query: i64 = input.read_or("query_token", -5)?;
    let query = if query < 0 { query.saturating_add(n as i64) } else { query };
    if from > to || to > n || !(0..n as i64).contains(&query) {
        return Err(Error::invalid(format!("image tokens {from} to {to}, and token {query} asks, of {n}")));
    }
    let seen = Table::new(Place::Decoder(0, Half::After), n, from..to);
    let rows: Vec<usize> = (from..to).collect();
    let core = Core::of(x, &rows, query as usize, input.read_or("strict", true)?)?;
    Ok(json!({
        "overlap_score": core.overlap, "elbow_index": core.elbow, "elbow_value": core.value,
        "keep": Decision::keep(&seen, &core.kept).kept(&seen),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_neurons_count_and_the_curve_bends_where_it_falls_steeply() {
        // The last row asks with neurons 0 and 1.
        let x = Array::new([4, 3], vec![1.0, 2.0, 0.0, 1.0, -1.0, 5.0, -1.0, 0.0, 3.0, 0.1, 0.1, 0.0]).unwrap();
        let core = Core::of(&x, &[0, 1, 2], 3, true).unwrap();
        assert_eq!((core.overlap.as_slice(), core.elbow, core.kept.as_slice()), (&[2.0, 1.0, 0.0][..], 0, &[][..]));
        assert_eq!(Core::of(&x, &[0, 1, 2], 3, false).unwrap().kept, [0]);
        assert_eq!(bend(&[9.0, 3.0, 2.0, 1.0, 0.0]), 1);
    }
}
