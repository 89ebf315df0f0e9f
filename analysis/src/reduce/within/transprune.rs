//! TransPrune: drops image tokens in stages inside the language model, by how much its layers turn them and by how much
//! the question will look at them.
//!
//! Source: Li et al. 2025, "TransPrune: Token Transition Pruning for Efficient Large Vision-Language Model",
//! arXiv 2507.20630. Takes: what attention and MLP read and add `[n, d]` in a span of layers, and the attention of the
//! next layer from the text behind the image. Gives: a score per image token and what is kept, by stage.
//! Departs: see [`Info::departs`]. Cost: O(text · n · width) per stage.

use super::layers_at;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::top_k;
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::add_rows;
use crate::reduce::place::{Half, Place};
use crate::reduce::seen::causal;
use crate::reduce::{Asked, Decide, Decision, Method, Part, Seen, Table};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KEEP: Param = Param::share("keep", "Share of the image tokens left after the last stage", 0.125);
const SHARES: Param = Param::schedule(
    "shares",
    "Shares left after the stages before the last, never fewer than in the end",
    0.0,
    1.0,
    &[0.875, 0.625],
);
const DEPTHS: Param = Param::schedule(
    "depths",
    "Shares of the language model's layers that a stage stands behind; one more than shares",
    0.0,
    1.0,
    &[7.0 / 32.0, 9.0 / 32.0, 12.0 / 32.0],
);

static INFO: Info = Info {
    id: "transprune",
    title: "TransPrune",
    summary: "Drops image tokens in stages inside the language model: those that its layers turn least and the question looks at least.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "liaolea/TransPrune", commit: "c9e8284f58" },
    paper: Some(Paper {
        title: "TransPrune: Token Transition Pruning for Efficient Large Vision-Language Model",
        authors: "Li et al.",
        year: 2025,
        arxiv: "2507.20630",
    }),
    departs: "stages stand at shares of the depth, which are the authors' layers 7, 9 and 12 where there are 32; stages \
              that find no layer of their own are one; where no text follows the image, the transition alone counts",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[KEEP, SHARES, DEPTHS],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct TransPrune;

impl Method for TransPrune {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let text = on.reader(&INFO)?;
        let (depths, keep) = (params.schedule(&DEPTHS), params.share(&KEEP));
        let mut shares = params.schedule(&SHARES);
        shares.push(0.0);
        if depths.len() != shares.len() {
            let e = format!("{} depths for {} shares and keep; give one depth a stage", depths.len(), shares.len() - 1);
            return Err(Error::invalid(e));
        }
        if text.n_layers < 2 {
            return Err(INFO.needs("a language model of two layers or more"));
        }
        // Where two stages share a layer, what the later one leaves is left.
        let stages: BTreeMap<usize, f64> =
            layers_at(&depths, text.n_layers, 1).into_iter().zip(shares.iter().map(|s| s.max(keep))).collect();
        let (first, last) = (stages.keys().next().copied().unwrap_or(0), stages.keys().last().copied().unwrap_or(0));
        let stops: Vec<Place> = (first..=last).map(|l| Place::Decoder(l, Half::After)).collect();
        let (mut turned, mut n) = (Turned::default(), None);
        Ok(Box::new(Asked::at(stops, move |seen, ctx| {
            let all = *n.get_or_insert(seen.open().len());
            turned.add(seen)?;
            match seen.place().layer().and_then(|l| stages.get(&l)) {
                Some(share) => Ok(turned.decide(seen, (all as f64 * share) as usize, ctx)?.0),
                None => Ok(Decision::stay()),
            }
        })))
    }
}

/// How much the layers so far turned each token, by the first token of its row.
#[derive(Default)]
struct Turned(BTreeMap<usize, f64>);

/// Scores of the rows that may be touched: transition and the question's attention, each of sum 1, and their sum.
struct Scores {
    ttv: Vec<f64>,
    iga: Vec<f64>,
    sum: Vec<f32>,
}

impl Turned {
    /// Adds the transition of this layer, and gives it for every row.
    fn add(&mut self, seen: &dyn Seen) -> Result<Vec<f64>> {
        let (attention, mlp) = (seen.block(Part::Attention)?, seen.block(Part::Mlp)?);
        let sum: Vec<f64> = transition(&attention).into_iter().zip(transition(&mlp)).map(|(a, m)| a + m).collect();
        for (tokens, v) in seen.rows().tokens.iter().zip(&sum) {
            *self.0.entry(tokens.first().copied().unwrap_or(0)).or_default() += v;
        }
        Ok(sum)
    }

    /// Keeps the `k` best of the rows that may be touched.
    fn decide(&self, seen: &dyn Seen, k: usize, ctx: &Ctx) -> Result<(Decision, Scores)> {
        let of = |r: &usize| seen.rows().tokens[*r].first().and_then(|t| self.0.get(t)).copied().unwrap_or(0.0);
        let ttv = shares(seen.open().iter().map(of).collect());
        let behind = seen.behind();
        let mut iga = vec![0.0; seen.open().len()];
        if behind.is_empty() {
            ctx.note("no text follows the image, so only the transition of its tokens counts");
        } else {
            add_rows(&mut iga, &seen.next_pattern(&behind)?, seen);
            iga.iter_mut().for_each(|v| *v /= behind.len() as f64);
        }
        let iga = shares(iga);
        let sum: Vec<f32> = ttv.iter().zip(&iga).map(|(a, b)| (a + b) as f32).collect();
        let kept = top_k::of_row(&sum, k, ctx)?;
        Ok((Decision::keep(seen, &kept).scored(seen, &sum).renumbered(), Scores { ttv, iga, sum }))
    }
}

/// How much a half of a block turns each row: |y| / |x| times the softmax over rows of 1 − cos(x, y).
fn transition((x, y): &(Array, Array)) -> Vec<f64> {
    let n = x.shape()[0];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let (mut ratio, mut turn) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for i in 0..n {
        let (a, b) = (x.row(i), y.row(i));
        let (na, nb) = (dot(a, a).sqrt(), dot(b, b).sqrt());
        ratio.push(nb / na.max(f64::MIN_POSITIVE));
        turn.push((1.0 - dot(a, b) / (na.max(1e-8) * nb.max(1e-8))).exp());
    }
    let sum: f64 = turn.iter().sum();
    ratio.iter().zip(turn).map(|(r, t)| r * t / sum).collect()
}

/// Values over their sum.
fn shares(v: Vec<f64>) -> Vec<f64> {
    let sum = v.iter().sum::<f64>() + 1e-8;
    v.into_iter().map(|x| x / sum).collect()
}

/// Raw entry: `attn_in_i`, `attn_out_i`, `ffn_in_i`, `ffn_out_i` `[n, d]` of `accumulated_layers` layers, turned `q` and
/// `k` `[heads, n, e]` of the next one, `image_start`, `image_len` and `keep`, a number of tokens.
const ADAPTER: Adapter = Adapter { name: "transprune", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (first, len): (usize, usize) = (input.read("image_start")?, input.read("image_len")?);
    let (q, k) = (input.array("q")?, input.array("k")?);
    let [_, n, _] = q.dims("q")?;
    let layers: usize = input.read_or("accumulated_layers", 1)?;
    if first.saturating_add(len) > n || layers == 0 {
        return Err(Error::invalid(format!("image tokens {first} to {first} + {len} of {n}, in {layers} layers")));
    }
    let [_, width] = input.array("attn_in_0")?.dims("attn_in_0")?;
    let (mut turned, mut per_layer) = (Turned::default(), Vec::new());
    let mut seen = Table::new(Place::Decoder(0, Half::After), n, first..first + len);
    for i in 0..layers {
        ctx.step(i, layers)?;
        let get = |name: &str| -> Result<&Array> {
            let (name, d) = (format!("{name}_{i}"), width);
            let x = input.array(&name)?;
            if x.shape() != [n, d] {
                return Err(Error::shape(name, format!("[{n}, {d}]"), x.shape()));
            }
            Ok(x)
        };
        seen = Table::new(Place::Decoder(i, Half::After), n, first..first + len)
            .with_block(Part::Attention, get("attn_in")?, get("attn_out")?)
            .with_block(Part::Mlp, get("ffn_in")?, get("ffn_out")?);
        per_layer.push(turned.add(&seen)?);
    }
    let seen = seen.with_next_pattern(&causal(q, k)?);
    let (decision, s) = turned.decide(&seen, input.read("keep")?, ctx)?;
    Ok(json!({
        "ttv_per_layer": per_layer, "ttv_norm": s.ttv, "iga_norm": s.iga, "score": s.sum,
        "keep": decision.kept(&seen),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_turned_and_stretched_counts_more() {
        // Row 0 is kept as it is, row 1 turned by a right angle and doubled.
        let x = Array::new([2, 2], vec![1.0, 0.0, 1.0, 0.0]).unwrap();
        let y = Array::new([2, 2], vec![1.0, 0.0, 0.0, 2.0]).unwrap();
        let e = std::f64::consts::E;
        let want = [1.0 / (1.0 + e), 2.0 * e / (1.0 + e)];
        assert!(transition(&(x, y)).iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}
