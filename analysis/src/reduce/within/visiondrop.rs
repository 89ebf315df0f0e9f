//! VisionDrop: by what the image itself looks at, in the encoder and then in some layers of the language model, dominant
//! tokens go on, and a few that take the others in.
//!
//! Source: Xu et al. 2025, "Rethinking Visual Token Reduction in LVLMs under Cross-Modal Misalignment", arXiv 2506.22283.
//! Takes: the class row `[heads, patches]`, keys and hidden states of one encoder layer; queries, keys and output of some
//! layers of the language model. Gives: dominant and contextual tokens by stage. Departs: see [`Info::departs`].
//! Cost: O(n² · e) per stage.

use super::layers_at;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{attended, both_per_feature, head_sum, looked_at, noted};
use crate::reduce::place::{Half, Place, READ_LAYER, encoded, read_layer};
use crate::reduce::seen::{causal, pick};
use crate::reduce::select::{Dominant, round_half_even};
use crate::reduce::{Decide, Decision, Method, Seen, Table};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Map, Value, json};

const KEEP: Param = Param::share("keep", "Share of the image tokens left behind the encoder", 0.5);
const SHARES: Param = Param::schedule(
    "shares",
    "Parts of those that are left behind each stage in the language model",
    0.0,
    1.0,
    &[35.0 / 48.0, 26.0 / 48.0, 19.0 / 48.0],
);
const DEPTHS: Param = Param::schedule(
    "depths",
    "Shares of the language model's layers that these stages stand behind; one for each part",
    0.0,
    1.0,
    &[8.0 / 32.0, 16.0 / 32.0, 24.0 / 32.0],
);
const CONTEXTUAL: Param = Param::share("contextual", "Share of the tokens left that take in those that are not", 0.125);

static INFO: Info = Info {
    id: "visiondrop",
    title: "VisionDrop",
    summary: "Keeps what the image itself looks at, in the encoder and in stages of the language model, and adds the rest to a few.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "Ruixxxx/VisionDrop", commit: "f7a944497d" },
    paper: Some(Paper {
        title: "Rethinking Visual Token Reduction in LVLMs under Cross-Modal Misalignment",
        authors: "Xu et al.",
        year: 2025,
        arxiv: "2506.22283",
    }),
    departs: "the class token itself is not handed on; layers stand at shares of the depth, which are the authors' 8, 16 \
              and 24 where there are 32; rows stand in the order of their first tokens, where theirs have contextual \
              tokens last; without a class token what all patches look at stands in",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[KEEP, SHARES, DEPTHS, CONTEXTUAL, READ_LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct VisionDrop;

/// The stage at the encoder, then those in the language model.
struct Stages<'a> {
    stops: Vec<Place>,
    encoder: Box<dyn Decide + 'a>,
    /// Layer and what is left of the tokens that came.
    later: Vec<(usize, f64)>,
    contextual: f64,
    /// How many tokens came.
    came: Option<usize>,
}

impl Decide for Stages<'_> {
    fn stops(&self) -> &[Place] {
        &self.stops
    }

    fn decide(&mut self, seen: &dyn Seen, ctx: &Ctx) -> Result<Decision> {
        let Place::Decoder(layer, _) = seen.place() else { return self.encoder.decide(seen, ctx) };
        let n = *self.came.get_or_insert(seen.open().len());
        let share = self.later.iter().find(|l| l.0 == layer).map_or(1.0, |l| l.1);
        let k = (round_half_even(share * n as f64) as usize).min(seen.open().len());
        if k == seen.open().len() {
            return Ok(Decision::stay());
        }
        let c = round_half_even(self.contextual * k as f64) as usize;
        let scores = by_image(seen)?;
        let stage = Dominant::of(&scores, &keys(seen)?, (k - c, c), ctx)?;
        Ok(stage.decide(seen).scored(seen, &scores).renumbered())
    }
}

impl Method for VisionDrop {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let text = on.reader(&INFO)?;
        let on = on.of(Tower::Text);
        let (depths, shares) = (params.schedule(&DEPTHS), params.schedule(&SHARES));
        if depths.len() != shares.len() {
            return Err(Error::invalid(format!("{} depths for {} parts; give one each", depths.len(), shares.len())));
        }
        let cut = encoded(&on, &Params::new(), &INFO)?;
        let layer = read_layer(&on, params, &READ_LAYER, &INFO)?;
        let (keep, contextual) = (params.share(&KEEP), params.share(&CONTEXTUAL));
        let note = |seen: &dyn Seen, _: usize, ctx: &Ctx| Ok((head_sum(&looked_at(seen, ctx)?), keys(seen)?));
        let encoder = noted(vec![layer], cut, note, move |seen, notes, ctx| {
            let (scores, metric) = both_per_feature(&on, seen, notes.of(0))?;
            let k = (round_half_even(keep * scores.len() as f64) as usize).clamp(1, scores.len().max(1));
            let c = round_half_even(contextual * k as f64) as usize;
            let stage = Dominant::of(&scores, &metric, (k - c, c), ctx)?;
            Ok(stage.decide(seen).scored(seen, &scores))
        });
        let mut later: Vec<(usize, f64)> = layers_at(&depths, text.n_layers, 0).into_iter().zip(shares).collect();
        // Where two stages share a layer, what the later one leaves is left.
        later.reverse();
        later.dedup_by_key(|l| l.0);
        later.reverse();
        let stops = encoder.stops().iter().copied();
        let stops = stops.chain(later.iter().map(|l| Place::Decoder(l.0, Half::After))).collect();
        Ok(Box::new(Stages { stops, encoder, later, contextual, came: None }))
    }
}

/// Keys of the open rows, mean over heads.
fn keys(seen: &dyn Seen) -> Result<Array> {
    pick(&seen.keys()?.map_or_else(|| seen.values(), Ok)?, seen.open())
}

/// How much the image's rows attend to each of them, on average over heads and rows.
fn by_image(seen: &dyn Seen) -> Result<Vec<f32>> {
    Ok(attended(seen, seen.open())?.into_iter().map(|v| v as f32).collect())
}

/// Raw entry, by `stage`. `vision_encoder`: `cls_attn` `[heads, 1 + n]`, `hidden` and `metric` `[1 + n, any]`, the class
/// token first. `llm`: turned `q` and `k` `[heads, n, e]`, `hidden` `[n, d]`, `image_start`, `image_len`. Both:
/// `dominant_num`, `contextual_num`.
const ADAPTER: Adapter = Adapter { name: "visiondrop", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (hidden, [n, d]) = input.finite("hidden")?;
    let (dominant, contextual): (usize, usize) = (input.read("dominant_num")?, input.read("contextual_num")?);
    let stage: String = input.read("stage")?;
    let encoder = stage == "vision_encoder";
    let (seen, score, metric) = if encoder {
        let (a, metric) = (input.array("cls_attn")?, input.array("metric")?);
        a.check_finite("cls_attn")?;
        metric.check_finite("metric")?;
        let ([heads, m], [rows, _]) = (a.dims("cls_attn")?, metric.dims("metric")?);
        if m != n || rows != n || n < 2 {
            return Err(Error::shape("cls_attn", format!("[{heads}, {n}], and metric [{n}, any]"), a.shape()));
        }
        let class = Array::new([heads, n - 1], (0..heads).flat_map(|h| a.row(h)[1..].iter().copied()).collect())?;
        let seen = Table::new(Place::Encoder(0, Half::After), n, 1..n).with_values(hidden).with_keys(metric);
        let metric = keys(&seen)?;
        (seen, head_sum(&class), metric)
    } else if stage == "llm" {
        let (q, k) = (input.array("q")?, input.array("k")?);
        q.check_finite("q")?;
        k.check_finite("k")?;
        let (first, len): (usize, usize) = (input.read("image_start")?, input.read("image_len")?);
        let [_, rows, e] = k.dims("k")?;
        if rows != n || first.saturating_add(len) > n {
            return Err(Error::invalid(format!("image tokens {first} to {first} + {len} of {n}, with {rows} keys")));
        }
        let mean = k.mean_over_first().into_iter().map(|v| v as f32).collect();
        let seen = Table::new(Place::Decoder(0, Half::After), n, first..first + len)
            .with_values(hidden)
            .with_pattern(&causal(q, k)?)
            .with_keys(&Array::new([n, e], mean)?);
        let (score, metric) = (by_image(&seen)?, keys(&seen)?);
        (seen, score, metric)
    } else {
        return Err(Error::invalid(format!("stage is {stage}; it is vision_encoder or llm")));
    };
    let open = seen.open().to_vec();
    if dominant > open.len() {
        return Err(Error::invalid(format!("dominant_num is {dominant}; there are {} tokens", open.len())));
    }
    let found = Dominant::of(&score, &metric, (dominant, contextual), ctx)?;
    let decision = found.decide(&seen);
    let first = open.first().copied().unwrap_or(0);
    let values = seen.after(&decision)?.values()?;
    let rows = |from: usize, n: usize| {
        values.data()[from * d..(from + n) * d].chunks(d.max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>()
    };
    let in_rest = |t: &usize| found.rest.iter().position(|r| r == t);
    let mut out = Map::new();
    out.insert("score".into(), json!(score));
    out.insert("dominant".into(), json!(found.dominant));
    let (name, from) = if encoder { ("dominant_tokens_incl_cls", 0) } else { ("dominant_tokens", first) };
    out.insert(name.into(), json!(rows(from, found.dominant.len() + first - from)));
    out.insert("contextual_tokens".into(), json!(rows(first + found.dominant.len(), found.contextual.targets.len())));
    let targets: Vec<_> = found.contextual.targets.iter().filter_map(in_rest).collect();
    out.insert("target_indices_in_remaining".into(), json!(targets));
    out.insert("assignment".into(), json!(found.contextual.others.iter().map(|o| o.1).collect::<Vec<_>>()));
    Ok(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_image_itself_votes() {
        // Tokens 0 and 1 are the image's, 2 asks: what it says does not count.
        let a = Array::new([1, 3, 3], vec![1.0, 0.0, 0.0, 0.4, 0.6, 0.0, 0.0, 0.9, 0.1]).unwrap();
        let x = Array::new([3, 1], vec![1.0, 2.0, 3.0]).unwrap();
        let seen = Table::new(Place::Decoder(0, Half::After), 3, 0..2).with_pattern(&a).with_values(&x);
        let score = by_image(&seen).unwrap();
        assert!((score[0] - 0.7).abs() < 1e-6 && (score[1] - 0.3).abs() < 1e-6);
        let stage = Dominant::of(&score, &keys(&seen).unwrap(), (1, 1), &Ctx::default()).unwrap();
        assert_eq!((stage.dominant.as_slice(), stage.contextual.targets.as_slice()), (&[0][..], &[1][..]));
    }
}
