//! HiRED: a budget for the whole picture and one for each of its crops, by what the class token looks at early; each keeps
//! what it looks at late.
//!
//! Source: Arif et al. 2024, "HiRED: Attention-Guided Token Dropping for Efficient Inference of High-Resolution
//! Vision-Language Models in Resource-Constrained Environments", arXiv 2408.10945. Takes: class rows `[1 + crops, heads,
//! n]` of an early and a late encoder layer. Gives: a budget for each crop, and what it keeps. Departs: see
//! [`Info::departs`]. Cost: O(crops · heads · n).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::top_k;
use crate::raw::{Adapter, RawInput};
use crate::reduce::crops::Crops;
use crate::reduce::noted::{head_sum, looked_at, noted, per_feature};
use crate::reduce::place::{LAYER, image_cut};
use crate::reduce::{Decide, Decision, Method, Seen};
use crate::topk::topk;
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const KEEP: Param = Param::share("keep", "Share of the tokens of all crops that are kept", 0.2);
const ALPHA: Param = Param::share(
    "alpha",
    "Share of the budget that the whole picture has; and of its tokens that do not speak for a crop",
    0.5,
);
const SPLIT: Param = Param::choice(
    "split",
    "Which tokens of the whole picture speak for a crop: those in its range of the raster order, as the authors' code has \
     it, or those that show its place",
    &["range", "place"],
);
const LATE: Param = Param::share("late", "Share of the encoder's layers at which tokens are chosen", 23.0 / 24.0);

static INFO: Info = Info {
    id: "hired",
    title: "HiRED",
    summary: "Shares a budget out among the crops of a picture by early class attention and spends it by late class attention.",
    family: "image features",
    basis: Basis::Authors { repo: "hasanar1f/HiRED", commit: "502d6dd79a" },
    paper: Some(Paper {
        title: "HiRED: Attention-Guided Token Dropping for Efficient Inference of High-Resolution Vision-Language Models in \
                Resource-Constrained Environments",
        authors: "Arif et al.",
        year: 2024,
        arxiv: "2408.10945",
    }),
    departs: "the late layer stands at a share of the depth, which is theirs where there are 24; a picture without crops \
              has the whole budget; ranges need not be equal; without a class token what all patches look at stands in; crops \
              that the model puts together in one grid are one; at least one token stays",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[KEEP, ALPHA, SPLIT, LATE, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct HiRed;

impl Method for HiRed {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let cut = image_cut(on, params, &INFO)?;
        let n_layers = on.trace.tower(Tower::Vision)?.n_layers;
        let late = ((params.share(&LATE) * n_layers as f64).round() as usize).clamp(1, n_layers) - 1;
        let rule = (params.share(&KEEP), params.share(&ALPHA));
        let (by_place, on) = (params.choice(&SPLIT) == "place", *on);
        let crops = Crops::of(&on, on.tower)?;
        let note = |seen: &dyn Seen, _: usize, ctx: &Ctx| Ok(head_sum(&looked_at(seen, ctx)?));
        Ok(noted(vec![0, late], cut, note, move |seen, notes, ctx| {
            let early = per_feature(&on, seen, &notes.of(0).concat())?;
            let late = per_feature(&on, seen, &notes.of(1).concat())?;
            let tiles = seen.tiles();
            let of_whole = |t: usize| tiles.get(t).map(|&(first, rows, cols)| first..first + rows * cols);
            let Some(whole) = of_whole(crops.whole) else {
                return Err(Error::invalid("budgets need the whole grids of patches, one row each"));
            };
            let parts: Vec<_> = crops.parts.iter().filter_map(|&t| of_whole(t)).collect();
            let speaks = |i: usize| match by_place {
                true => crops.part_of(i),
                false => range_of(i, whole.len(), parts.len()),
            };
            let sizes: Vec<usize> = parts.iter().map(|p| p.len()).collect();
            let budgets = Budgets::of(&early[whole.clone()], &sizes, rule, speaks);
            let mut kept = Vec::new();
            for (tile, k) in [&whole].into_iter().chain(&parts).zip(&budgets.all) {
                kept.extend(top_k::of_row(&late[tile.clone()], *k, ctx)?.into_iter().map(|i| tile.start + i));
            }
            if kept.is_empty() {
                kept = top_k::of_row(&late, 1, ctx)?;
            }
            Ok(Decision::keep(seen, &kept).scored(seen, &late))
        }))
    }
}

/// The crop whose range of the raster order holds token `i` of `n`.
fn range_of(i: usize, n: usize, crops: usize) -> Option<usize> {
    (crops > 0).then(|| (i / (n / crops).max(1)).min(crops - 1))
}

/// How many tokens the whole picture keeps, and each crop.
struct Budgets {
    all: Vec<usize>,
}

impl Budgets {
    /// From early attention to the whole picture's tokens and the sizes of crops; `speaks` says which crop a token of the
    /// whole speaks for.
    fn of(early: &[f32], sizes: &[usize], (rate, alpha): (f64, f64), speaks: impl Fn(usize) -> Option<usize>) -> Self {
        let (n, crops) = (early.len(), sizes.iter().sum::<usize>());
        let budget = ((n + crops) as f64 * rate) as usize;
        if sizes.is_empty() {
            return Self { all: vec![budget.min(n)] };
        }
        let whole = ((budget as f64 * alpha) as usize).min(n);
        let rest = (budget - whole).min(crops);
        // Ties are those of the reference: the budgets hang on them.
        let marks = topk(early, (n as f64 * (1.0 - alpha)) as usize);
        let mut counts = vec![0usize; sizes.len()];
        marks.iter().filter_map(|&i| speaks(i)).for_each(|c| counts[c] += 1);
        let all = counts.iter().sum::<usize>().max(1) as f32;
        let of = |(count, size): (&usize, &usize)| ((*count as f32 / all * rest as f32) as usize).min(*size);
        Self { all: [whole].into_iter().chain(counts.iter().zip(sizes).map(of)).collect() }
    }
}

/// Raw entry: `attn_layer0_cls` and `attn_layer22_cls` `[1 + crops, heads, 1 + n]`, the whole picture and the class token
/// first; `token_budget_rate`, `alpha`.
const ADAPTER: Adapter = Adapter { name: "hired", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (early, late) = (input.array("attn_layer0_cls")?, input.array("attn_layer22_cls")?);
    early.check_finite("attn_layer0_cls")?;
    late.check_finite("attn_layer22_cls")?;
    let [views, heads, rows] = late.dims("attn_layer22_cls")?;
    if early.shape() != late.shape() || views == 0 || rows < 2 {
        return Err(Error::shape(
            "attn_layer0_cls",
            format!("[{views}, {heads}, {rows}], more than the class token"),
            early.shape(),
        ));
    }
    let (rate, alpha): (f64, f64) = (input.read_or("token_budget_rate", 0.2)?, input.read_or("alpha", 0.5)?);
    if !(0.0..=1.0).contains(&rate) || !(0.0..=1.0).contains(&alpha) {
        return Err(Error::invalid(format!("token_budget_rate {rate} or alpha {alpha} is not a share from 0 to 1")));
    }
    let patches = |a: &Array, v: usize| -> Result<Vec<f32>> {
        let view = a.row(v).chunks_exact(rows).flat_map(|h| h[1..].iter().copied()).collect();
        Ok(head_sum(&Array::new([heads, rows - 1], view)?))
    };
    let (n, crops) = (rows - 1, views - 1);
    let spatial = patches(early, 0)?;
    if crops > 0 && n % crops != 0 {
        return Err(Error::invalid(format!("{n} tokens do not part into {crops} equal ranges")));
    }
    let budgets = Budgets::of(&spatial, &vec![n; crops], (rate, alpha), |i| range_of(i, n, crops));
    let scores = (0..views).map(|v| patches(late, v)).collect::<Result<Vec<_>>>()?;
    let keep = scores.iter().zip(&budgets.all).map(|(s, k)| top_k::of_row(s, *k, ctx)).collect::<Result<Vec<_>>>()?;
    Ok(json!({ "budget_per_crop": budgets.all, "keep": keep, "score": scores, "spatial_score": spatial }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_share_what_is_left_by_the_marks_in_their_ranges() {
        // 4 tokens in the whole and in each of two crops, 12 · 0.5 = 6: three for the whole, three for the crops.
        let budgets = Budgets::of(&[0.9, 0.8, 0.1, 0.2], &[4, 4], (0.5, 0.5), |i| range_of(i, 4, 2));
        // Both marks lie in the first range.
        assert_eq!(budgets.all, [3, 3, 0]);
        assert_eq!(Budgets::of(&[0.9, 0.8, 0.1, 0.2], &[], (0.5, 0.5), |_| None).all, [2]);
    }

    #[test]
    fn ranges_of_the_raster_are_not_places() {
        // 4 x 4 tokens in the whole, marks in the quarter at the top left; 2 x 2 crops of 4: 32 · 0.25 = 8, 6 for the whole.
        let early: Vec<f32> = (0..16).map(|i| if i % 4 < 2 && i < 8 { 1.0 } else { 0.0 }).collect();
        let of = |speaks: &dyn Fn(usize) -> Option<usize>| Budgets::of(&early, &[4; 4], (0.25, 0.75), speaks).all;
        assert_eq!(of(&|i| Some(i / 8 * 2 + i % 4 / 2)), [6, 2, 0, 0, 0]);
        assert_eq!(of(&|i| range_of(i, 16, 4)), [6, 1, 1, 0, 0]);
    }
}
