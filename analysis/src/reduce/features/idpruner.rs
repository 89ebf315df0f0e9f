//! IDPruner: maximal marginal relevance over an image's tokens, importance against likeness to what is chosen.
//!
//! Source: Tan et al. 2026, "IDPruner: Harmonizing Importance and Diversity in Visual Token Pruning for MLLMs",
//! arXiv 2602.13315. Takes: image features `[n, d]` and an importance `[n]`. Gives: the order of
//! choice. Departs: see [`Info::departs`]. Cost: O(n² · d).

use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::cosine_matrix;
use crate::passes::marginal_relevance::{self, Rule};
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{head_mean, looked_at, noted, per_feature};
use crate::reduce::place::{KEEP, LAYER, Place, READ_LAYER, image_cut, read_layer};
use crate::reduce::seen::pick;
use crate::reduce::select::{budget, round_half_even};
use crate::reduce::{Decide, Decision, Method, Seen, Table};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const LAMBDA: Param = Param::share("lambda", "Weight of the importance against likeness", 0.5);
const AT_ONCE: Param = Param::count("at_once", "Tokens that are chosen in a step", 1, 1024, 1);
const IMPORTANCE: Param =
    Param::choice("importance", "What stands in for the trained importance", &["attention", "length"]);

static INFO: Info = Info {
    id: "idpruner",
    title: "IDPruner",
    summary: "Keeps important image tokens that are little like those kept before, by maximal marginal relevance.",
    family: "image features",
    basis: Basis::Authors { repo: "Tencent/AngelSlim", commit: "67394ce55f" },
    paper: Some(Paper {
        title: "IDPruner: Harmonizing Importance and Diversity in Visual Token Pruning for MLLMs",
        authors: "Tan et al.",
        year: 2026,
        arxiv: "2602.13315",
    }),
    departs: "the importance comes from a network that has to be trained; how much a patch is looked at in the encoder, or \
              the length of its feature, stands in for it; at least one token stays",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[KEEP, LAMBDA, AT_ONCE, IMPORTANCE, READ_LAYER, LAYER],
    role: Role::StandIn,
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct IdPruner;

impl Method for IdPruner {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let cut = image_cut(on, params, &INFO)?;
        let layer = read_layer(on, params, &READ_LAYER, &INFO)?;
        let (keep, lambda, on) = (params.share(&KEEP), params.share(&LAMBDA), *on);
        let (at_once, by_length) = (params.count(&AT_ONCE) as usize, params.choice(&IMPORTANCE) == "length");
        let note = |seen: &dyn Seen, _: usize, ctx: &Ctx| Ok(head_mean(&looked_at(seen, ctx)?));
        Ok(noted(vec![layer], cut, note, move |seen, notes, ctx| {
            let x = pick(&seen.values()?, seen.open())?;
            let importance = if by_length {
                let length = |i: usize| x.row(i).iter().map(|v| v * v).sum::<f32>().sqrt();
                (0..seen.open().len()).map(length).collect()
            } else {
                per_feature(&on, seen, &notes.of(0).concat())?
            };
            Ok(decide(seen, &importance, (lambda as f32, at_once), budget(seen, keep).max(1), ctx)?.0)
        }))
    }
}

/// The decision, and the order in which tokens were taken with what each was taken for.
fn decide(
    seen: &dyn Seen,
    importance: &[f32],
    rule: (f32, usize),
    k: usize,
    ctx: &Ctx,
) -> Result<(Decision, Vec<(usize, f32)>)> {
    let x = pick(&seen.values()?, seen.open())?;
    let (low, high) = importance.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let even: Vec<f32> = importance.iter().map(|v| (v - low) / (high - low + 1e-6)).collect();
    if k >= even.len() {
        return Ok((Decision::stay().scored(seen, &even), even.into_iter().enumerate().collect()));
    }
    let rule = Rule { k, lambda: rule.0, at_once: rule.1 };
    let order = marginal_relevance::run(&cosine_matrix::of_itself(&x, ctx)?, &even, &rule, ctx)?;
    let mut scores = vec![f32::NAN; even.len()];
    order.iter().for_each(|o| scores[o.0] = o.1);
    let kept: Vec<usize> = order.iter().map(|o| o.0).collect();
    Ok((Decision::keep(seen, &kept).scored(seen, &scores), order))
}

/// Raw entry: `visual_tokens` `[n, d]`, `raw_importance` `[n]`, `ratio` (the share that goes), `mmr_lambda`, `parallel_k`.
const ADAPTER: Adapter = Adapter { name: "idpruner", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, s) = (input.array("visual_tokens")?, input.array("raw_importance")?);
    x.check_finite("visual_tokens")?;
    s.check_finite("raw_importance")?;
    let [n, _] = x.dims("visual_tokens")?;
    if s.shape() != [n] {
        return Err(Error::shape("raw_importance", format!("[{n}]"), s.shape()));
    }
    let (ratio, lambda): (f64, f32) = (input.read("ratio")?, input.read_or("mmr_lambda", 0.5)?);
    let at_once: usize = input.read_or("parallel_k", 1)?;
    if !(0.0..=1.0).contains(&ratio) || at_once == 0 {
        return Err(Error::invalid(format!(
            "ratio is {ratio}, not a share from 0 to 1, or {at_once} tokens in a step"
        )));
    }
    let k = match ratio {
        1.0 => 0,
        _ => round_half_even(n as f64 * (1.0 - ratio)).max(1) as usize,
    };
    let seen = Table::new(Place::Features, n, 0..n).with_values(x);
    let (decision, order) = decide(&seen, s.data(), (lambda, at_once), k, ctx)?;
    let keep = decision.kept(&seen);
    Ok(json!({
        "n_keep": keep.len(), "keep": keep,
        "selection_order": order.iter().map(|o| o.0).collect::<Vec<_>>(),
        "score_of_pick": order.iter().map(|o| o.1).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;

    #[test]
    fn a_twin_of_the_best_gives_way_to_one_that_matters_less() {
        let x = Array::new([3, 2], vec![1.0, 0.0, 1.0, 0.01, 0.0, 1.0]).unwrap();
        let seen = Table::new(Place::Features, 3, 0..3).with_values(&x);
        let kept = |lambda| decide(&seen, &[3.0, 2.9, 0.0], (lambda, 1), 2, &Ctx::default()).unwrap().0.kept(&seen);
        assert_eq!((kept(0.4), kept(1.0)), (vec![0, 2], vec![0, 1]));
    }
}
