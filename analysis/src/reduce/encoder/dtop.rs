//! DToP: tokens that are sure of their class leave early, and a few of each class stay for the others to look at.
//!
//! Source: Tang et al. 2023, "Dynamic Token Pruning in Plain Vision Transformers for Semantic Segmentation",
//! arXiv 2308.01045; zbwxp/Dynamic-Token-Pruning at 2baefffc87, `prune_head.py`. Takes: how likely each active token has
//! each class. Gives: the tokens that are done. Departs: see [`Info::departs`]. Cost: O(n · classes · d) a stage.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::{argmax, largest, softmax};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::model::Model;
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{Half, Place, one_tile};
use crate::reduce::seen::pick;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const DEPTHS: Param =
    Param::schedule("depths", "Shares of the layers after which tokens may leave", 0.0, 1.0, &[0.5, 2.0 / 3.0]);
const SURE: Param = Param::number("thresh", "Probability above which a token is sure", 0.0, 1.0, 0.9);
const STAY: Param = Param::count("keep_per_class", "Tokens of each class that stay though they are sure", 0, 64, 5);

static INFO: Info = Info {
    id: "dtop",
    title: "DToP",
    summary: "Lets tokens leave early whose class is clear, all but a few of each class.",
    family: "inside the encoder",
    basis: Basis::Authors { repo: "zbwxp/Dynamic-Token-Pruning", commit: "2baefffc87" },
    paper: Some(Paper {
        title: "Dynamic Token Pruning in Plain Vision Transformers for Semantic Segmentation",
        authors: "Tang et al.",
        year: 2023,
        arxiv: "2308.01045",
    }),
    departs: "heads in the middle are trained there; here the model's own last norm and head read the middle, classes of a \
              classifier, or in a language model the next word, which stands in for a class; a token that left is not put \
              back for a map of classes",
    needs: &[Need::ImageTokens],
    params: &[DEPTHS, SURE, STAY],
    role: Role::StandIn,
    budget: Some(&SURE),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct DToP;

impl Method for DToP {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let tower = on.tower()?;
        if !tower.has_image() {
            return Err(INFO.needs(Need::ImageTokens.words()));
        }
        if on.tower == Tower::Vision {
            one_tile(on, Tower::Vision)?;
        }
        let model: &'a dyn Model = on.weights(&INFO)?;
        // The encoder of a model that writes has no head of its own.
        if on.tower == Tower::Vision && model.info().towers.contains_key(&Tower::Text) {
            return Err(INFO.needs("a head that reads rows of the shown tower"));
        }
        let (sure, stay) = (params.number(&SURE), params.count(&STAY) as usize);
        let n = tower.n_layers;
        let behind = |s: &f64| ((s * n as f64).round() as usize).clamp(1, n) - 1;
        let mut stops: Vec<Place> =
            params.schedule(&DEPTHS).iter().map(|s| Place::inside(on.tower, behind(s), Half::After)).collect();
        stops.sort();
        stops.dedup();
        Ok(Box::new(Asked::at(stops, move |seen, ctx| {
            let x = pick(&seen.values()?, seen.open())?;
            let logits = Array::from_tensor(&model.lens(&x.to_tensor(model.device())?)?)?;
            let mut best = Vec::with_capacity(seen.open().len());
            for i in 0..seen.open().len() {
                ctx.step(i, seen.open().len())?;
                let row = logits.row(i);
                let class = argmax(row).unwrap_or(0);
                best.push((softmax(row, 1.0).get(class).copied().unwrap_or(0.0) as f32, class));
            }
            let done = done(&best, sure, stay);
            let kept: Vec<usize> = (0..best.len()).filter(|i| done.binary_search(i).is_err()).collect();
            let scores: Vec<f32> = best.iter().map(|b| b.0).collect();
            Ok(Decision { threshold: Some(sure as f32), ..Decision::keep(seen, &kept).scored(seen, &scores) })
        })))
    }
}

/// Which tokens are done, ascending, by their best score and its class: those above `sure`, without the `stay` best of
/// each class among them.
fn done(best: &[(f32, usize)], sure: f64, stay: usize) -> Vec<usize> {
    let mut of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, best) in best.iter().enumerate().filter(|(_, b)| b.0 > sure as f32) {
        of.entry(best.1).or_default().push(i);
    }
    let mut out = Vec::new();
    for own in of.values() {
        let scores: Vec<f32> = own.iter().map(|&i| best[i].0).collect();
        let mut stays = vec![false; own.len()];
        largest(&scores, stay).into_iter().for_each(|i| stays[i] = true);
        out.extend(own.iter().zip(stays).filter(|(_, stays)| !stays).map(|(i, _)| *i));
    }
    out.sort_unstable();
    out
}

/// Raw entry: `pred_active` `[classes, active tokens]`, `finalised_before` `[n]` (1 for those that were done), `thresh`,
/// `keep_per_class`.
const ADAPTER: Adapter = Adapter { name: "dtop", run: raw };

fn raw(input: &RawInput, _ctx: &Ctx) -> Result<Value> {
    let (scores, before) = (input.array("pred_active")?, input.array("finalised_before")?);
    scores.check_finite("pred_active")?;
    before.check_finite("finalised_before")?;
    let ([classes, n], [_]) = (scores.dims("pred_active")?, before.dims("finalised_before")?);
    let active: Vec<usize> = (0..before.data().len()).filter(|&i| before.data()[i] == 0.0).collect();
    if active.len() != n || (classes == 0 && n > 0) {
        return Err(Error::shape("pred_active", format!("[classes, {} active tokens]", active.len()), scores.shape()));
    }
    let best = |i: usize| {
        let column = (0..classes).map(|c| (scores.row(c)[i], c));
        column.reduce(|a, b| if b.0 > a.0 { b } else { a }).unwrap_or((0.0, 0))
    };
    let best: Vec<(f32, usize)> = (0..n).map(best).collect();
    let stay = input.read_or("keep_per_class", 5)?;
    let new: Vec<usize> = done(&best, input.read_or("thresh", 0.9)?, stay).into_iter().map(|i| active[i]).collect();
    let mut after: Vec<u8> = before.data().iter().map(|v| u8::from(*v != 0.0)).collect();
    new.iter().for_each(|&i| after[i] = 1);
    Ok(json!({ "finalised_after": after, "newly_finalised": new }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_class_the_surest_stay() {
        let best = [(0.99, 1), (0.95, 1), (0.95, 1), (0.5, 1), (0.97, 0), (0.9, 0)];
        assert_eq!(done(&best, 0.9, 1), [1, 2]);
        assert_eq!(done(&best, 0.9, 2), [2]);
        assert_eq!((done(&best, 0.9, 0).len(), done(&best, 0.9, 9).len()), (4, 0));
    }
}
