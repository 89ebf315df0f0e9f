//! Correlation-guided compression: a crop keeps as many patches as it has that few others are like, and chooses these by
//! the class token's attention, mostly a deep layer's and partly a shallow one's.
//!
//! Source: Zhang et al. 2024, "Token-level Correlation-guided Compression for Efficient Multimodal Document
//! Understanding", arXiv 2407.14439. Takes: keys of a deep layer `[n, d]` and class attention of two. Gives: how many
//! others each patch is like, the density, what stays. Departs: see [`Info::departs`]. Cost: O(n² · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::largest;
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::passes::cosine_matrix;
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{both_per_feature, head_mean, looked_at, noted, per_feature, wide};
use crate::reduce::place::{LAYER, READ_LAYER, image_cut, read_layer};
use crate::reduce::seen::pick;
use crate::reduce::{Decide, Decision, Method, Seen};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const LIKE: Param = Param::number("t", "Cosine of keys from which two patches are alike", -1.0, 1.0, 0.8);
const MANY: Param = Param::share("q", "Share of the others that a redundant patch is like", 0.1);
const LOCAL: Param = Param::share("local_share", "Share of the kept patches that the shallow layer chooses", 0.3);
const SHALLOW: Param = Param::layer_of(
    "local_layer",
    "Encoder layer whose class attention chooses what is locally important",
    Tower::Vision,
    LayerPick::At(0),
);

static INFO: Info = Info {
    id: "corr_density",
    title: "Correlation density",
    summary: "Keeps as many patches of each crop as are unlike the others, by deep and shallow class attention.",
    family: "image features",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "Token-level Correlation-guided Compression for Efficient Multimodal Document Understanding",
        authors: "Zhang et al.",
        year: 2024,
        arxiv: "2407.14439",
    }),
    departs: "thresholds, layers and the split between both attentions are ours, as the paper's text leaves them open, and \
              the best are kept where it samples; without a class token what all patches look at stands in",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[LIKE, MANY, LOCAL, SHALLOW, READ_LAYER, LAYER],
    budget: Some(&LIKE),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct CorrDensity;

impl Method for CorrDensity {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let cut = image_cut(on, params, &INFO)?;
        let shallow = read_layer(on, params, &SHALLOW, &INFO)?;
        let deep = read_layer(on, params, &READ_LAYER, &INFO)?;
        let rule = Rule { t: params.number(&LIKE), q: params.share(&MANY), local: params.share(&LOCAL) };
        let on = *on;
        let note = |seen: &dyn Seen, number: usize, ctx: &Ctx| {
            // Keys are those of the deep layer, which is asked for second.
            let keys = if number == 1 { pick(&wide(&seen.head_keys()?)?, seen.open())? } else { Array::default() };
            Ok((head_mean(&looked_at(seen, ctx)?), keys))
        };
        Ok(noted(vec![shallow, deep], cut, note, move |seen, notes, ctx| {
            let local: Vec<f32> = notes.of(0).iter().flat_map(|n| n.0.iter().copied()).collect();
            let local = per_feature(&on, seen, &local)?;
            let (global, keys) = both_per_feature(&on, seen, notes.of(1))?;
            let tiles = seen.tiles();
            let whole = || std::iter::once((0, 1, seen.open().len()));
            let spans: Vec<_> = if tiles.is_empty() { whole().collect() } else { tiles };
            let (mut kept, mut alike) = (Vec::new(), vec![0f32; seen.open().len()]);
            for (i, &(first, rows, cols)) in spans.iter().enumerate() {
                let own = first..first + rows * cols;
                let part = pick(&keys, &own.clone().collect::<Vec<_>>())?;
                let crop = rule.of(&part, &global[own.clone()], &local[own.clone()], &ctx.part(i, spans.len()))?;
                kept.extend(crop.kept().into_iter().map(|k| first + k));
                own.zip(&crop.alike).for_each(|(i, r)| alike[i] = *r as f32);
            }
            Ok(Decision::keep(seen, &kept).scored(seen, &alike))
        }))
    }
}

/// When a patch counts as redundant, and who chooses among the rest.
struct Rule {
    t: f64,
    q: f64,
    local: f64,
}

/// What is decided about a crop.
struct Crop {
    /// Share of the others that each patch is like.
    alike: Vec<f64>,
    /// Share of the patches that are not redundant.
    density: f64,
    /// 0 is dropped, 1 chosen by the deep layer, 2 by the shallow one.
    class: Vec<u8>,
}

impl Rule {
    /// From keys `[n, d]` and class attention `[n]` of a deep and a shallow layer.
    fn of(&self, keys: &Array, deep: &[f32], shallow: &[f32], ctx: &Ctx) -> Result<Crop> {
        let [n, _] = keys.dims("keys")?;
        if n == 0 || deep.len() != n || shallow.len() != n {
            return Err(Error::invalid(format!("{} and {} numbers for {n} patches", deep.len(), shallow.len())));
        }
        let cosines = cosine_matrix::of_itself(keys, ctx)?;
        let like = |i: usize| {
            let others = cosines.row(i).iter().enumerate().filter(|(j, c)| *j != i && **c >= self.t as f32);
            if n > 1 { others.count() as f64 / (n - 1) as f64 } else { 0.0 }
        };
        let alike: Vec<f64> = (0..n).map(like).collect();
        let redundant = alike.iter().filter(|r| **r >= self.q).count();
        let keep = (n - redundant).max(1);
        let local = ((keep as f64 * self.local + 1e-9).floor() as usize).min(keep);
        let mut class = vec![0u8; n];
        largest(deep, keep - local).into_iter().for_each(|i| class[i] = 1);
        let others: Vec<usize> = (0..n).filter(|&i| class[i] == 0).collect();
        let theirs: Vec<f32> = others.iter().map(|&i| shallow[i]).collect();
        largest(&theirs, local).into_iter().for_each(|i| class[others[i]] = 2);
        Ok(Crop { alike, density: 1.0 - redundant as f64 / n as f64, class })
    }
}

impl Crop {
    fn kept(&self) -> Vec<usize> {
        (0..self.class.len()).filter(|&i| self.class[i] > 0).collect()
    }
}

/// Raw entry: `keys` `[crops, n, d]`, `cls_global` and `cls_local` `[crops, n]`, `t`, `q`, `local_share`.
const ADAPTER: Adapter = Adapter { name: "corr_density", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let names = ["keys", "cls_global", "cls_local"];
    let [keys, deep, shallow] = [input.array(names[0])?, input.array(names[1])?, input.array(names[2])?];
    names.iter().zip([keys, deep, shallow]).try_for_each(|(name, x)| x.check_finite(name))?;
    let [crops, n, _] = keys.dims("keys")?;
    if deep.shape() != [crops, n] || shallow.shape() != [crops, n] {
        return Err(Error::shape("cls_global and cls_local", format!("[{crops}, {n}]"), deep.shape()));
    }
    let rule =
        Rule { t: input.read_or("t", 0.8)?, q: input.read_or("q", 0.1)?, local: input.read_or("local_share", 0.3)? };
    if !(0.0..=1.0).contains(&rule.local) {
        return Err(Error::invalid(format!("local_share is {}; it is from 0 to 1", rule.local)));
    }
    let all: Vec<Crop> = (0..crops)
        .map(|c| rule.of(&keys.sub(c), deep.row(c), shallow.row(c), &ctx.part(c, crops)))
        .collect::<Result<_>>()?;
    let kept: Vec<Vec<usize>> = all.iter().map(Crop::kept).collect();
    Ok(json!({
        "r": all.iter().map(|c| &c.alike).collect::<Vec<_>>(),
        "density": all.iter().map(|c| c.density).collect::<Vec<_>>(),
        "keep_count": kept.iter().map(Vec::len).collect::<Vec<_>>(),
        "keep": kept,
        "cls": all.iter().map(|c| &c.class).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_keeps_as_many_as_are_unlike_the_others() {
        // Three alike, two apart.
        let keys = Array::new([5, 2], vec![1.0, 0.0, 2.0, 0.0, 1.0, 0.0, 0.0, 1.0, -1.0, 0.0]).unwrap();
        let rule = Rule { t: 0.9, q: 0.5, local: 0.5 };
        let crop = rule.of(&keys, &[0.1, 0.5, 0.2, 0.0, 0.3], &[0.9, 0.1, 0.9, 0.2, 0.0], &Ctx::default()).unwrap();
        assert_eq!(crop.alike, [0.5, 0.5, 0.5, 0.0, 0.0]);
        // Two stay: the one that the deep layer looks at most, and the first that the shallow one does.
        assert_eq!((crop.density, crop.kept(), crop.class), (0.4, vec![0, 1], vec![2, 1, 0, 0, 0]));
        let all = Rule { q: 0.0, ..rule };
        assert_eq!(all.of(&keys, &[0.0; 5], &[0.0; 5], &Ctx::default()).unwrap().kept(), [0]);
    }
}
