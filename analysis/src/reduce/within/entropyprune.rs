//! EntropyPrune: behind an early layer those image tokens go on whose heads say most different things, by the entropy of
//! a token's matrix over heads.
//!
//! Source: Wang et al. 2026, "EntropyPrune: Matrix Entropy Guided Visual Token Pruning for Multimodal Large Language
//! Models". Takes: queries, keys, values `[heads, n, e]` or outputs of one layer. Gives: an entropy per token.
//! Departs: see [`Info::departs`]. Cost: O(n · heads² · (e + heads)).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::passes::host::eigenvalues;
use crate::passes::top_k;
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{Half, Place};
use crate::reduce::select::budget;
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use rayon::prelude::*;
use serde_json::{Value, json};

const KEEP: Param = Param::share("keep", "Share of the image tokens that go on", 0.5);
const MATRIX: Param = Param::choice(
    "matrix",
    "What a token's matrix is made of; its output is cut into as many parts as there are heads",
    &["queries", "keys", "values", "output"],
);
const LAYER: Param = Param::layer_of(
    "layer",
    "Layer of the language model that is read and behind which the others go",
    Tower::Text,
    LayerPick::At(1),
);
/// Components of a head that a matrix has at most; of more, neighbours are averaged.
const WIDTH: usize = 128;

static INFO: Info = Info {
    id: "entropyprune",
    title: "EntropyPrune",
    summary: "Keeps the image tokens whose heads differ most, by the entropy of their matrix over heads.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "YahongWang1/EntropyPrune", commit: "9fc1cbb446" },
    paper: Some(Paper {
        title: "EntropyPrune: Matrix Entropy Guided Visual Token Pruning for Multimodal Large Language Models",
        authors: "Wang et al.",
        year: 2026,
        arxiv: "",
    }),
    departs: "as in the authors' code eigenvalues are not made to sum to 1, so that long vectors count less; the layer at \
              which entropy collapses has to be chosen, where they find it offline; the share is that of one cut and not \
              of the average over layers",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[KEEP, MATRIX, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct EntropyPrune;

impl Method for EntropyPrune {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let layer = params.one_layer(&LAYER, on.reader(&INFO)?.n_layers)?;
        let (share, matrix) = (params.share(&KEEP), params.choice(&MATRIX));
        let behind = Place::Decoder(layer, Half::After);
        Ok(Box::new(Asked::at([behind], move |seen, ctx| {
            let states = match matrix {
                "keys" => seen.head_keys()?,
                "values" => seen.head_values()?,
                "output" => by_head(&seen.values()?, seen.head_queries()?.shape()[0])?,
                _ => seen.head_queries()?,
            };
            decide(seen, &entropies(&states, seen.open(), WIDTH, ctx)?, budget(seen, share), ctx)
        })))
    }
}

/// Rows `[n, d]` cut into `heads` parts, `[heads, n, d / heads]`.
fn by_head(x: &Array, heads: usize) -> Result<Array> {
    let [n, d] = x.dims("rows")?;
    let e = d / heads.max(1);
    let part = |h: usize| (0..n).flat_map(move |i| x.row(i)[h * e..(h + 1) * e].iter().copied());
    Array::new([heads, n, e], (0..heads).flat_map(part).collect())
}

/// Entropy of each of these rows of `[heads, n, e]`.
fn entropies(states: &Array, rows: &[usize], width: usize, ctx: &Ctx) -> Result<Vec<f32>> {
    let [heads, _, e] = states.dims("states")?;
    if heads == 0 || e == 0 {
        return Err(Error::shape("states", "[heads, n, components] that are not empty", states.shape()));
    }
    ctx.check()?;
    let group = if e > width { e / width } else { 1 };
    let (kept, one_head) = (e / group, heads == 1);
    let of = |&r: &usize| {
        let cell = |h: usize, c: usize| {
            let part = &states.row(h)[r * e + c * group..r * e + (c + 1) * group];
            part.iter().map(|v| f64::from(*v)).sum::<f64>() / group as f64
        };
        let mut z: Vec<f64> =
            (0..heads).flat_map(|h| (0..kept).map(move |c| (h, c))).map(|(h, c)| cell(h, c)).collect();
        for c in 0..kept {
            let mean = (0..heads).map(|h| z[h * kept + c]).sum::<f64>() / heads as f64;
            (0..heads).for_each(|h| z[h * kept + c] -= mean);
        }
        let row = |h: usize| &z[h * kept..(h + 1) * kept];
        let dot = |a: usize, b: usize| row(a).iter().zip(row(b)).map(|(x, y)| x * y).sum::<f64>() / heads as f64;
        let gram: Vec<f64> = (0..heads).flat_map(|a| (0..heads).map(move |b| (a, b))).map(|(a, b)| dot(a, b)).collect();
        let terms = eigenvalues::symmetric(gram, heads).into_iter().map(|l| l.max(1e-10));
        let sum: f64 = terms.map(|l| -l * l.ln()).sum();
        // One head has nothing to differ from.
        if one_head { 0.0 } else { (sum / (heads as f64).ln()) as f32 }
    };
    Ok(rows.par_iter().map(of).collect())
}

fn decide(seen: &dyn Seen, scores: &[f32], k: usize, ctx: &Ctx) -> Result<Decision> {
    Ok(Decision::keep(seen, &top_k::of_row(scores, k, ctx)?).scored(seen, scores))
}

/// Raw entry: `states` `[1, heads, n, e]`, `image_start`, `image_len`, `keep`, a number of tokens; `dim_scale`.
const ADAPTER: Adapter = Adapter { name: "entropyprune", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let x = input.array("states")?;
    x.check_finite("states")?;
    let [one, _, n, _] = x.dims("states")?;
    if one != 1 {
        return Err(Error::shape("states", "[1, heads, n, e]", x.shape()));
    }
    let (first, len): (usize, usize) = (input.read("image_start")?, input.read("image_len")?);
    let (k, width): (usize, usize) = (input.read("keep")?, input.read_or("dim_scale", WIDTH)?);
    if first.saturating_add(len) > n || k > len || width == 0 {
        return Err(Error::invalid(format!("{k} of the image tokens {first} to {first} + {len} of {n}, {width} wide")));
    }
    let seen = Table::new(Place::Decoder(0, Half::After), n, first..first + len);
    let scores = entropies(&x.sub(0), seen.open(), width, ctx)?;
    let keep = decide(&seen, &scores, k, ctx)?.kept(&seen);
    let absolute: Vec<usize> = keep.iter().map(|i| first + i).collect();
    Ok(json!({ "entropy": scores, "keep": keep, "keep_absolute": absolute }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_that_say_the_same_have_no_entropy() {
        // Two heads, two rows of two components: the second row's heads differ by 1 in one component.
        let x = Array::new([2, 2, 2], vec![1.0, 2.0, 0.5, 0.0, 1.0, 2.0, -0.5, 0.0]).unwrap();
        let found = entropies(&x, &[0, 1], WIDTH, &Ctx::default()).unwrap();
        // Gram: ±0.125, so the eigenvalues are 0.25 and 0.
        let want = -0.25 * 0.25f64.ln() / 2f64.ln();
        assert!(found[0].abs() < 1e-6 && (f64::from(found[1]) - want).abs() < 1e-6, "{found:?}");
    }
}
