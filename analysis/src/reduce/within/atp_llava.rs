//! ATP-LLaVA's thresholds: a visual token stays where others look at it enough, or where it is one of an even sample.
//!
//! Source: Ye et al. 2024, "ATP-LLaVA: Adaptive Token Pruning for Large Vision Language Models", arXiv 2412.00447, by a
//! summary and somebody else's code. Takes: products of visual queries and keys, attention of the text to visual tokens.
//! Gives: what stays. Departs: see [`Info::departs`]. Cost: O(n · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::dot;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::attended;
use crate::reduce::place::{Half, Place};
use crate::reduce::within::layers_at;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const DEPTHS: Param = Param::schedule(
    "depths",
    "Shares of the layers after which tokens are dropped",
    0.0,
    1.0,
    &[4.0 / 32.0, 14.0 / 32.0, 24.0 / 32.0],
);
const REDUNDANCY: Param = Param::number(
    "theta_r",
    "A token stays whose mean of visual products and attention of the text is above",
    -50.0,
    50.0,
    0.0,
);
const SPATIAL: Param =
    Param::number("theta_s", "A token of the even sample stays where its score is above", -2.0, 1.0, 0.5);
const SAMPLED: Param =
    Param::number("r_s", "Share of the tokens in the even sample, which score 1 − 3 times it", 0.001, 1.0, 0.1);

static INFO: Info = Info {
    id: "atp_llava",
    title: "ATP-style thresholds",
    summary: "Keeps visual tokens that are looked at enough, and an even sample of the others.",
    family: "inside the language model",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "ATP-LLaVA: Adaptive Token Pruning for Large Vision Language Models",
        authors: "Ye et al.",
        year: 2024,
        arxiv: "2412.00447",
    }),
    departs: "the authors' code is not public, and what it does was read off a summary and another's version, so take it as \
              unconfirmed; thresholds are predicted by trained heads there and set by hand here; a token of high redundancy, \
              as it is called there, is kept",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[DEPTHS, REDUNDANCY, SPATIAL, SAMPLED],
    role: Role::StandIn,
    budget: Some(&REDUNDANCY),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct AtpLlava;

/// The three thresholds.
#[derive(Clone, Copy)]
struct Rule {
    redundancy: f64,
    spatial: f64,
    sampled: f64,
}

impl Method for AtpLlava {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let text = on.reader(&INFO)?;
        let rule = Rule {
            redundancy: params.number(&REDUNDANCY),
            spatial: params.number(&SPATIAL),
            sampled: params.number(&SAMPLED),
        };
        // Row and column of each of the image's tokens in its grid.
        let cells: Vec<(usize, usize)> =
            text.grids.iter().flat_map(|g| (0..g.rows * g.cols).map(move |i| (i / g.cols, i % g.cols))).collect();
        let mut stops: Vec<Place> = layers_at(&params.schedule(&DEPTHS), text.n_layers, 0)
            .into_iter()
            .map(|l| Place::Decoder(l, Half::After))
            .collect();
        stops.dedup();
        Ok(Box::new(Asked::at(stops, move |seen, _| {
            if seen.open().is_empty() {
                return Ok(Decision::stay());
            }
            let products = products(&seen.head_queries()?, &seen.head_keys()?, seen.open())?;
            let attention = attended(seen, &seen.behind())?;
            let place = |&r: &usize| seen.patches(r).first().and_then(|p| cells.get(*p)).copied().unwrap_or((1, 1));
            let places: Vec<(usize, usize)> = seen.open().iter().map(place).collect();
            let found = rule.of(&products, &attention, &places);
            let scores: Vec<f32> = found.redundancy.iter().map(|r| *r as f32).collect();
            Ok(Decision {
                threshold: Some(rule.redundancy as f32),
                ..Decision::keep(seen, &found.kept(&rule)).scored(seen, &scores)
            })
        })))
    }
}

/// Mean over heads and keys of the scaled products of each open query with the open keys: that of its product with the
/// mean key.
fn products(q: &Array, k: &Array, open: &[usize]) -> Result<Vec<f64>> {
    let ([heads, n, e], [kv_heads, m, f]) = (q.dims("queries")?, k.dims("keys")?);
    if kv_heads == 0 || heads % kv_heads != 0 || n != m || e != f {
        return Err(Error::shape("keys", format!("[divisor of {heads}, {n}, {e}]"), k.shape()));
    }
    let mut out = vec![0f64; open.len()];
    for h in 0..heads {
        let (queries, keys) = (q.row(h), k.row(h * kv_heads / heads));
        let mut mean = vec![0f64; e];
        for &r in open {
            let key = &keys[r * e..(r + 1) * e];
            mean.iter_mut().zip(key).for_each(|(m, v)| *m += f64::from(*v) / open.len() as f64);
        }
        for (o, &r) in out.iter_mut().zip(open) {
            *o += dot(&queries[r * e..(r + 1) * e], &mean) / (e as f64).sqrt() / heads as f64;
        }
    }
    Ok(out)
}

/// Scores of tokens.
struct Scores {
    redundancy: Vec<f64>,
    spatial: Vec<f64>,
    stride: usize,
}

impl Rule {
    fn of(&self, products: &[f64], attention: &[f64], places: &[(usize, usize)]) -> Scores {
        let stride = ((1.0 / self.sampled).sqrt().round_ties_even() as usize).max(1);
        let spatial = |&(y, x): &(usize, usize)| {
            if y.is_multiple_of(stride) && x.is_multiple_of(stride) { 1.0 - 3.0 * self.sampled } else { 0.0 }
        };
        Scores {
            redundancy: products.iter().zip(attention).map(|(a, b)| (a + b) / 2.0).collect(),
            spatial: places.iter().map(spatial).collect(),
            stride,
        }
    }
}

impl Scores {
    fn kept(&self, rule: &Rule) -> Vec<usize> {
        let stays = |i: &usize| self.redundancy[*i] > rule.redundancy || self.spatial[*i] > rule.spatial;
        (0..self.redundancy.len()).filter(stays).collect()
    }

    /// The mask that training uses: the larger of two steep sigmoids.
    fn soft(&self, rule: &Rule) -> Vec<f64> {
        let steep = |s: f64, t: f64| 1.0 / (1.0 + (-10.0 * (s - t)).exp());
        let both = self.redundancy.iter().zip(&self.spatial);
        both.map(|(r, s)| steep(*r, rule.redundancy).max(steep(*s, rule.spatial))).collect()
    }
}

/// Raw entry: `vv` `[n, n]` products of visual queries and keys, `tv` `[m, n]` attention of the text, `grid`, `R_s`,
/// `theta_r`, `theta_s`.
const ADAPTER: Adapter = Adapter { name: "atp_llava", run: raw };

fn raw(input: &RawInput, _ctx: &Ctx) -> Result<Value> {
    let (vv, tv) = (input.array("vv")?, input.array("tv")?);
    vv.check_finite("vv")?;
    tv.check_finite("tv")?;
    let ([n, m], [texts, k], grid) = (vv.dims("vv")?, tv.dims("tv")?, input.read::<(usize, usize)>("grid")?);
    let rule =
        Rule { redundancy: input.read("theta_r")?, spatial: input.read("theta_s")?, sampled: input.read("R_s")? };
    let whole = grid.0.checked_mul(grid.1) == Some(n);
    if n != m || n != k || !whole || n == 0 || rule.sampled.is_nan() || rule.sampled <= 0.0 {
        return Err(Error::invalid(format!(
            "{n} by {m} products and attention to {k} tokens on a grid of {} by {}, of which {} are sampled",
            grid.0, grid.1, rule.sampled
        )));
    }
    let mean = |row: &[f32]| row.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
    let products: Vec<f64> = (0..n).map(|i| mean(vv.row(i))).collect();
    let attention = if texts == 0 { vec![0.0; n] } else { tv.mean_over_first() };
    let places: Vec<(usize, usize)> = (0..n).map(|i| (i / grid.1, i % grid.1)).collect();
    let found = rule.of(&products, &attention, &places);
    Ok(json!({
        "keep": found.kept(&rule),
        "soft": found.soft(&rule),
        "redundancy": found.redundancy,
        "spatial": found.spatial,
        "stride": found.stride,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_at_stays_and_so_does_an_even_sample() {
        let rule = Rule { redundancy: 0.5, spatial: 0.2, sampled: 0.25 };
        let places = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let found = rule.of(&[0.0, 0.4, 0.8, 0.0], &[0.0, 0.6, 0.4, 0.0], &places);
        // Every second cell scores a quarter; 0.5 is not above 0.5.
        assert_eq!((found.stride, found.spatial.as_slice()), (2, &[0.25, 0.0, 0.0, 0.0][..]));
        assert_eq!(found.kept(&rule), [0, 2]);
        assert!((found.soft(&rule)[1] - 0.5).abs() < 1e-12);
    }

    #[test]
    fn products_are_the_mean_over_all_pairs() {
        let q = Array::new([1, 3, 1], vec![9.0, 1.0, 2.0]).unwrap();
        let k = Array::new([1, 3, 1], vec![9.0, 3.0, 5.0]).unwrap();
        assert_eq!(products(&q, &k, &[1, 2]).unwrap(), [4.0, 8.0]);
    }
}
