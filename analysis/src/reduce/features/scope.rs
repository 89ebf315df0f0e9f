//! SCOPE: chooses tokens one by one, each by how much better it covers the others, times how salient it is.
//!
//! Source: Deng et al. 2025, "SCOPE: Saliency-Coverage Oriented Token Pruning for Efficient Multimodal LLMs",
//! arXiv 2510.24214. Takes: patches `[n, d]` of one encoder layer and a saliency `[n]`. Gives: the order of choice.
//! Departs: see [`Info::departs`]. Cost: O(n² · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::cosine_matrix;
use crate::passes::host::greedy::{self, Combined, Covering};
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{both_per_feature, head_sum, looked_at, noted};
use crate::reduce::place::{KEEP, LAYER, READ_LAYER, image_cut, read_layer};
use crate::reduce::seen::pick;
use crate::reduce::select::budget;
use crate::reduce::{Decide, Decision, Method, Seen};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const ALPHA: Param = Param::number("alpha", "Power of the saliency", 0.0, 4.0, 1.0);
const COMBINED: Param = Param::choice("combined", "How gain and saliency become one value", &["multi", "add"]);

static INFO: Info = Info {
    id: "scope",
    title: "SCOPE",
    summary: "Keeps tokens that together cover the others best, preferring those that the class token looks at.",
    family: "image features",
    basis: Basis::Authors { repo: "kinredon/SCOPE", commit: "6bf73069e0" },
    paper: Some(Paper {
        title: "SCOPE: Saliency-Coverage Oriented Token Pruning for Efficient Multimodal LLMs",
        authors: "Deng et al.",
        year: 2025,
        arxiv: "2510.24214",
    }),
    departs: "the share is of all tiles together and not the same for each; without a class token what all patches look \
              at stands in; where patches become one feature, their mean is compared",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[KEEP, ALPHA, COMBINED, READ_LAYER, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct Scope;

impl Method for Scope {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let cut = image_cut(on, params, &INFO)?;
        let layer = read_layer(on, params, &READ_LAYER, &INFO)?;
        let (keep, alpha, on) = (params.share(&KEEP), params.number(&ALPHA), *on);
        let how = combined(params.choice(&COMBINED))?;
        let note = |seen: &dyn Seen, _: usize, ctx: &Ctx| {
            Ok((head_sum(&looked_at(seen, ctx)?), pick(&seen.values()?, seen.open())?))
        };
        Ok(noted(vec![layer], cut, note, move |seen, notes, ctx| {
            let (saliency, x) = both_per_feature(&on, seen, notes.of(0))?;
            let order = choose(&x, &saliency, alpha, how, budget(seen, keep), ctx)?;
            let mut scores = vec![f32::NAN; saliency.len()];
            order.iter().for_each(|c| scores[c.token] = c.value);
            let kept: Vec<usize> = order.iter().map(|c| c.token).collect();
            Ok(Decision::keep(seen, &kept).scored(seen, &scores))
        }))
    }
}

fn combined(word: &str) -> Result<Combined> {
    match word {
        "multi" => Ok(Combined::Product),
        "add" => Ok(Combined::Sum),
        _ => Err(Error::invalid(format!("combined is {word}; it is multi or add"))),
    }
}

fn choose(x: &Array, saliency: &[f32], alpha: f64, how: Combined, k: usize, ctx: &Ctx) -> Result<Vec<Covering>> {
    let cosines = cosine_matrix::of_itself(x, ctx)?;
    let weights: Vec<f32> = saliency.iter().map(|w| f64::from(*w).powf(alpha) as f32).collect();
    greedy::coverage(&cosines, &weights, how, k, ctx)
}

/// Raw entry: `features` `[n, d]`, `saliency` `[n]` (ones where it is missing), `num_selected`, `alpha`, `combined`.
const ADAPTER: Adapter = Adapter { name: "scope", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, [n, _]) = input.finite("features")?;
    let ones = Array::new([n], vec![1.0; n])?;
    let saliency = if input.arrays.contains_key("saliency") { input.array("saliency")? } else { &ones };
    saliency.check_finite("saliency")?;
    if saliency.shape() != [n] {
        return Err(Error::shape("saliency", format!("[{n}]"), saliency.shape()));
    }
    let k: usize = input.read("num_selected")?;
    if k > n {
        return Err(Error::invalid(format!("num_selected is {k}; there are {n} tokens")));
    }
    let how = combined(&input.read_or("combined", "multi".to_string())?)?;
    let order = choose(x, saliency.data(), input.read_or("alpha", 1.0)?, how, k, ctx)?;
    let mut keep: Vec<usize> = order.iter().map(|c| c.token).collect();
    let selected = keep.clone();
    keep.sort_unstable();
    Ok(json!({
        "selection_order": selected,
        "score_of_pick": order.iter().map(|c| c.value).collect::<Vec<_>>(),
        "coverage": order.iter().map(|c| c.covered).collect::<Vec<_>>(),
        "keep": keep,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saliency_decides_between_tokens_that_cover_as_much() {
        let x = Array::new([4, 2], vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]).unwrap();
        let order = |alpha, how| -> Vec<usize> {
            let found = choose(&x, &[0.1, 0.2, 0.3, 0.4], alpha, how, 2, &Ctx::default()).unwrap();
            found.iter().map(|c| c.token).collect()
        };
        assert_eq!(order(1.0, Combined::Product), [3, 1]);
        assert_eq!(order(0.0, Combined::Product), [0, 2]);
        assert_eq!(order(1.0, Combined::Sum), [3, 1]);
    }
}
