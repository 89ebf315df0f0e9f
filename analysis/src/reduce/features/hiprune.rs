//! HiPrune: anchors that a middle layer of the encoder attends to, their four neighbours, and registers that a deep layer
//! attends to.
//!
//! Source: Liu et al. 2025, "HiPrune: Training-Free Visual Token Pruning via Hierarchical Attention in Vision-Language
//! Models", arXiv 2508.00553. Takes: what each patch receives in two encoder layers `[heads, n]` and its grid. Gives:
//! anchors, buffers, registers. Departs: see [`Info::departs`]. Cost: O(heads · n²).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::top_k;
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{head_mean, noted, per_feature, received};
use crate::reduce::place::{KEEP, LAYER, READ_LAYER, image_cut, read_layer};
use crate::reduce::select::round_half_even;
use crate::reduce::{Decide, Decision, Method, Seen};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ALPHA: Param = Param::share("alpha", "Share of what stays that are anchors and their neighbours", 0.1);
const MIDDLE: Param = Param::share("middle", "Share of the encoder's layers at which anchors are read", 9.0 / 24.0);

static INFO: Info = Info {
    id: "hiprune",
    title: "HiPrune",
    summary: "Keeps anchors that a middle layer attends to with their neighbours, and registers that a deep layer attends to.",
    family: "image features",
    basis: Basis::Authors { repo: "Danielement321/HiPrune", commit: "6e83a12408" },
    paper: Some(Paper {
        title: "HiPrune: Training-Free Visual Token Pruning via Hierarchical Attention in Vision-Language Models",
        authors: "Liu et al.",
        year: 2025,
        arxiv: "2508.00553",
    }),
    departs: "the middle layer stands at a share of the depth, which is theirs where there are 24; grids of any size; \
              neighbours cross the ends of rows, as in the authors' code; where anchors and neighbours alone are more than \
              the share, all of these stay; at least one token of a tile stays",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[KEEP, ALPHA, MIDDLE, READ_LAYER, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct HiPrune;

impl Method for HiPrune {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let cut = image_cut(on, params, &INFO)?;
        let deep = read_layer(on, params, &READ_LAYER, &INFO)?;
        let n_layers = on.trace.tower(Tower::Vision)?.n_layers;
        let middle = ((params.share(&MIDDLE) * n_layers as f64).round() as usize).clamp(1, n_layers) - 1;
        let (keep, alpha, on) = (params.share(&KEEP), params.share(&ALPHA), *on);
        let note = |seen: &dyn Seen, _: usize, _: &Ctx| Ok(head_mean(&received(seen)?));
        Ok(noted(vec![middle, deep], cut, note, move |seen, notes, ctx| {
            let shallow = per_feature(&on, seen, &notes.of(0).concat())?;
            let deep = per_feature(&on, seen, &notes.of(1).concat())?;
            let tiles = seen.tiles();
            if tiles.is_empty() {
                return Err(Error::invalid("neighbours need the whole grid of patches, one row each"));
            }
            let mut kept = Vec::new();
            for (first, rows, cols) in tiles {
                let n = rows * cols;
                let k = (round_half_even(keep * n as f64) as usize).clamp(1, n);
                let of = first..first + n;
                let found =
                    Roles::of(&shallow[of.clone()], &deep[of], cols, k, round_half_even(k as f64 * alpha / 5.0), ctx)?;
                kept.extend(found.kept().into_iter().map(|i| first + i));
            }
            Ok(Decision::keep(seen, &kept).scored(seen, &deep))
        }))
    }
}

struct Roles {
    /// By falling score.
    anchors: Vec<usize>,
    /// Anchors and what stands beside them.
    around: BTreeSet<usize>,
    registers: Vec<usize>,
}

impl Roles {
    fn of(shallow: &[f32], deep: &[f32], cols: usize, k: usize, anchors: i64, ctx: &Ctx) -> Result<Self> {
        let last = shallow.len() as i64 - 1;
        let anchors = largest(shallow, anchors.max(0) as usize);
        let beside = |i: &usize| {
            let (i, w) = (*i as i64, cols as i64);
            [i, i - 1, i + 1, i - w, i + w].map(|j| j.clamp(0, last) as usize)
        };
        let around: BTreeSet<usize> = anchors.iter().flat_map(beside).collect();
        // What is there already comes last.
        let mut rest = deep.to_vec();
        around.iter().for_each(|&i| rest[i] -= 1.0);
        let registers = top_k::of_row(&rest, k.saturating_sub(around.len()), ctx)?;
        Ok(Self { anchors, around, registers })
    }

    fn kept(&self) -> BTreeSet<usize> {
        self.around.iter().chain(&self.registers).copied().collect()
    }
}

/// Raw entry, by what is given. `attn_layer0`, `attn_layer1`, … `[views, heads, queries, 1 + n]` with the class token
/// first, `retention` (of all views), `object_layer_1based`, `deep_layer`, `grid`; or `shallow_score` and `deep_score`
/// `[n]`, `retain_ratio`, `grid`. Both: `alpha`.
const ADAPTER: Adapter = Adapter { name: "hiprune", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let alpha: f64 = input.read_or("alpha", 0.1)?;
    let (rows, cols): (usize, usize) = input.read("grid")?;
    if !(0.0..=1.0).contains(&alpha) {
        return Err(Error::invalid(format!("alpha is {alpha}, not a share from 0 to 1")));
    }
    let whole = |x: &[f32]| match rows.checked_mul(cols) == Some(x.len()) && !x.is_empty() {
        true => Ok(()),
        false => Err(Error::invalid(format!("a grid of {rows} by {cols} for {} patches", x.len()))),
    };
    if input.arrays.contains_key("shallow_score") {
        let (shallow, deep) = (input.array("shallow_score")?, input.array("deep_score")?);
        shallow.check_finite("shallow_score")?;
        deep.check_finite("deep_score")?;
        whole(shallow.data())?;
        whole(deep.data())?;
        let ratio: f64 = input.read("retain_ratio")?;
        let k = round_half_even(ratio.clamp(0.0, 1.0) * shallow.data().len() as f64) as usize;
        let a = round_half_even(k as f64 * alpha / 5.0);
        let found = Roles::of(shallow.data(), deep.data(), cols, k, a, ctx)?;
        return Ok(json!({
            "keep": found.kept(), "shallow_token_num": a, "visual_token_num": k, "anchor": found.anchors,
            "buffer": found.around, "register": found.registers,
        }));
    }
    let layers = (0..).take_while(|i| input.arrays.contains_key(&format!("attn_layer{i}"))).count();
    let object: usize = input.read("object_layer_1based")?;
    let deep: i64 = input.read("deep_layer")?;
    let deep = if deep < 0 { deep + layers as i64 } else { deep };
    if object == 0 || object > layers || deep < 0 || deep >= layers as i64 {
        return Err(Error::invalid(format!(
            "layers {object} (from 1) and {deep} (from 0) of {layers}; give attn_layer0, …"
        )));
    }
    let scores = |layer: usize| -> Result<Vec<Vec<f32>>> {
        let name = format!("attn_layer{layer}");
        let a = input.array(&name)?;
        a.check_finite(&name)?;
        let [views, heads, queries, n] = a.dims(&name)?;
        let view = |v: usize| {
            let mean = Array::new([heads * queries, n], a.row(v).to_vec())?.mean_over_first();
            let patches: Vec<f32> = mean.into_iter().skip(1).map(|x| x as f32).collect();
            whole(&patches)?;
            Ok(patches)
        };
        (0..views).map(view).collect()
    };
    let (shallow, deep) = (scores(object - 1)?, scores(deep as usize)?);
    if shallow.len() != deep.len() || shallow.is_empty() {
        return Err(Error::invalid(format!("{} views in one layer and {} in the other", shallow.len(), deep.len())));
    }
    let k = input.read::<usize>("retention")? / shallow.len();
    let a = round_half_even(k as f64 * alpha / 5.0);
    let found =
        (shallow.iter().zip(&deep)).map(|(s, d)| Roles::of(s, d, cols, k, a, ctx)).collect::<Result<Vec<_>>>()?;
    Ok(json!({
        "keep": found.iter().map(Roles::kept).collect::<Vec<_>>(),
        "anchor": found.iter().map(|f| &f.anchors).collect::<Vec<_>>(),
        "buffer": found.iter().map(|f| &f.around).collect::<Vec<_>>(),
        "register": found.iter().map(|f| &f.registers).collect::<Vec<_>>(),
        "shallow_token_num": a, "tokens_per_view": k, "shallow_score": shallow, "deep_score": deep,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_brings_its_neighbours_over_the_end_of_a_row_and_registers_fill_up() {
        // 2 × 3: the anchor is patch 2, at the end of the first row; patch 3 begins the next.
        let shallow = [0.0, 0.0, 0.9, 0.0, 0.0, 0.0];
        let deep = [0.1, 0.9, 0.9, 0.2, 0.3, 0.4];
        let found = Roles::of(&shallow, &deep, 3, 5, 1, &Ctx::default()).unwrap();
        // Above it is nothing: that place is the first patch.
        assert_eq!(found.around.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 5]);
        assert!(found.registers.is_empty());
        let none = Roles::of(&shallow, &deep, 3, 2, 0, &Ctx::default()).unwrap();
        assert_eq!(none.kept().into_iter().collect::<Vec<_>>(), [1, 2]);
    }
}
