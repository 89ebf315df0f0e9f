//! LeMo's informativeness: the attention that a token gets in each layer, and which tokens a layer could do without.
//!
//! Source: Wang et al. 2025, "LeMo", arXiv 2501.09767. Takes: maps `[n, n]`, head means. Gives: per layer, column means
//! over the rows that see a token, and the blocks that reach a part of the largest. Departs: see [`Info::departs`].
//! Cost: O(heads · n² · width) a layer, memory O(n²).

use super::{Method, Scores};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Fate, FateStage, Fates, Figure, Finding, Measure, Plot, Series, Style, Unit};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::attention_map;
use crate::raw::{Adapter, RawInput};
use crate::trace::Site;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const THRESHOLD: Param = Param::share("threshold", "Part of a layer's largest block below which a block goes", 0.1);
const BLOCK: Param = Param::count("block", "Tokens of a block, which stay or go together", 1, 4096, 1);

static INFO: Info = Info {
    id: "lemo_informativeness",
    title: "LeMo informativeness",
    summary: "Averages the attention that each token gets in the layers that would not leave it out.",
    family: "attention",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "LeMo: Enabling LEss Token Involvement for MOre Context Fine-tuning",
        authors: "Wang et al.",
        year: 2025,
        arxiv: "2501.09767",
    }),
    departs: "the statistic is our own reading, the mean over the rows that see a token; nothing is predicted, the maps are \
              read; the threshold is one for all layers; a token counts nothing in a layer that leaves it out",
    needs: &[Need::Attention],
    params: &[THRESHOLD, BLOCK],
    raw: &[ADAPTER],
    ..Info::of(Kind::Score)
};

pub(super) struct LemoInformativeness;

const SHARE: Measure = Measure::new("informativeness", "share of attention");

impl Method for LemoInformativeness {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let tower = input.trace.tower(input.tower)?;
        let (n, n_layers) = (tower.tokens.len(), tower.attention.len());
        ctx.fits((8 * n * n) as u64, "shorten the prompt, or choose a score that needs no whole map")?;
        let (threshold, block) = (params.share(&THRESHOLD), params.count(&BLOCK).unsigned_abs() as usize);
        let (mut layers, mut stages) = (Vec::new(), Vec::new());
        let (mut left, mut recall) = (Vec::new(), Vec::new());
        for l in 0..n_layers {
            ctx.step(l, n_layers)?;
            let map = attention_map::head_mean(input.trace, input.tower, l, &ctx.part(l, n_layers))?;
            let heads = attention_map::heads(input.trace, input.tower, 0, l)?;
            let seen_by = heads.first().map_or(Vec::new(), |h| h.spans().seen_by(map.shape()[0]));
            let found = Layer::of(&map, &seen_by, threshold, block);
            let rows = &input.trace.get(input.tower, l, Site::Q)?.rows;
            let by_token =
                |v: &dyn Fn(usize) -> f64| rows.to_tokens(&(0..rows.len()).map(|r| v(r) as f32).collect::<Vec<_>>(), n);
            layers.push(by_token(&|r| if found.kept[r] { found.score[r] } else { 0.0 }));
            let away = by_token(&|r| f64::from(u8::from(!found.kept[r])));
            let fates = away.into_iter().map(|a| if a == Some(1.0) { Fate::Away } else { Fate::Kept });
            let stage = FateStage::new(format!("in layer {l}"), Some(l), fates.collect());
            let scores = by_token(&|r| found.score[r]);
            stages.push(FateStage { scores, threshold: Some(found.bar as f32), ..stage });
            left.push([l as f64, found.kept_ratio()]);
            recall.push([l as f64, found.recall.clamp(0.0, 1.0)]);
        }
        let mean = |all: &[[f64; 2]]| Datum::Share(all.iter().map(|p| p[1]).sum::<f64>() / all.len().max(1) as f64);
        let figures = [
            Figure::new("tokens that stay", mean(&left), "Mean over layers: share of the tokens that a layer works on"),
            Figure::new(
                "recall",
                mean(&recall),
                "Mean over layers and tokens that stay: their attention on one another",
            ),
        ];
        let series = [("tokens that stay", left), ("recall", recall)];
        let series = series.into_iter().map(|(name, points)| Series::new(name, Style::Line, points)).collect();
        let unit = Unit::Tokens(input.tower);
        let fates = Fates { title: "what each layer works on".into(), unit, measure: Some(SHARE), stages };
        let plot = Plot::new("by layer", Axis::Unit(Unit::Layers), Measure::new("share", ""), series);
        let also = Finding { figures: figures.into(), ..Finding::of(fates).with(plot) };
        Ok(Scores { also, ..Scores::over_layers(layers, n, SHARE.unit) })
    }
}

/// What one layer says about its rows.
struct Layer {
    /// Mean over the rows that see it of the attention that each row gets.
    score: Vec<f64>,
    /// The largest of each block.
    blocks: Vec<f64>,
    /// What a block has to reach.
    bar: f64,
    /// Whether each row stays.
    kept: Vec<bool>,
    /// Mean over rows that stay of their attention on such rows.
    recall: f64,
}

impl Layer {
    /// Of a map `[n, n]`, where row `j` is seen by `seen_by[j]` rows.
    fn of(map: &Array, seen_by: &[usize], threshold: f64, block: usize) -> Self {
        let n = map.shape()[0];
        let mut score = vec![0f64; n];
        for i in 0..n {
            score.iter_mut().zip(map.row(i)).for_each(|(s, a)| *s += f64::from(*a));
        }
        score.iter_mut().zip(seen_by).for_each(|(s, rows)| *s /= (*rows).max(1) as f64);
        let most = |of: &[f64]| of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let blocks: Vec<f64> = score.chunks(block.max(1)).map(most).collect();
        let bar = threshold * most(&blocks);
        // What comes next is predicted from the last block.
        let stays = |b: usize| blocks[b] >= bar || b + 1 == blocks.len();
        let kept: Vec<bool> = (0..n).map(|r| stays(r / block.max(1))).collect();
        let on_kept =
            |i: usize| map.row(i).iter().zip(&kept).filter(|(_, k)| **k).map(|(a, _)| f64::from(*a)).sum::<f64>();
        let stay: Vec<f64> = (0..n).filter(|&i| kept[i]).map(on_kept).collect();
        let recall = stay.iter().sum::<f64>() / stay.len().max(1) as f64;
        Self { score, blocks, bar, kept, recall }
    }

    fn kept_ratio(&self) -> f64 {
        self.kept.iter().filter(|k| **k).count() as f64 / self.kept.len().max(1) as f64
    }
}

/// Raw entry: causal `attn` `[layers, heads, n, n]`; `threshold` and `block`.
const ADAPTER: Adapter = Adapter { name: "lemo_informativeness", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let a = input.array("attn")?;
    a.check_finite("attn")?;
    let [layers, heads, n, m] = a.dims("attn")?;
    let (threshold, block): (f64, usize) = (input.read("threshold")?, input.read("block")?);
    if n != m || heads == 0 || block == 0 {
        return Err(Error::invalid(format!("attn {:?} in blocks of {block}: give [layers, heads, n, n]", a.shape())));
    }
    let seen_by: Vec<usize> = (0..n).map(|j| n - j).collect();
    let (mut out, mut before, mut ratio): (Vec<Value>, Option<Vec<bool>>, f64) = (Vec::new(), None, 0.0);
    for l in 0..layers {
        ctx.step(l, layers)?;
        let mean = a.sub(l).mean_over_first().into_iter().map(|x| x as f32).collect();
        let found = Layer::of(&Array::new([n, n], mean)?, &seen_by, threshold, block);
        let those = |kept: bool| (0..n).filter(|&r| found.kept[r] == kept).collect::<Vec<_>>();
        let overlap = before.as_ref().map(|b| {
            let count = |f: &dyn Fn(bool, bool) -> bool| b.iter().zip(&found.kept).filter(|(a, b)| f(**a, **b)).count();
            count(&|a, b| a && b) as f64 / count(&|a, b| a || b).max(1) as f64
        });
        out.push(json!({
            "score": found.score, "block_score": found.blocks, "kept": those(true), "eliminated": those(false),
            "kept_ratio": found.kept_ratio(), "recall": found.recall, "overlap_with_previous": overlap,
        }));
        ratio += found.kept_ratio() / layers as f64;
        before = Some(found.kept);
    }
    Ok(json!({ "layers": out, "mean_kept_ratio": ratio }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_by_the_rows_that_see_them_and_blocks_by_the_largest() {
        let map = Array::new([3, 3], vec![1.0, 0.0, 0.0, 0.8, 0.2, 0.0, 0.5, 0.1, 0.4]).unwrap();
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        let alone = Layer::of(&map, &[3, 2, 1], 0.5, 1);
        assert!(close(&alone.score, &[2.3 / 3.0, 0.15, 0.4]));
        // Half of the largest is 0.383: the middle one goes; of the others 1 and 0.9 fall on one another.
        assert_eq!(alone.kept, [true, false, true]);
        assert!(close(&[alone.recall, alone.kept_ratio()], &[0.95, 2.0 / 3.0]));
        // In pairs the middle one stays with the first; the last pair stays whatever it has.
        let paired = Layer::of(&map, &[3, 2, 1], 0.9, 2);
        assert!(close(&paired.blocks, &[2.3 / 3.0, 0.4]) && close(&[paired.recall], &[1.0]));
        assert_eq!(paired.kept, [true; 3]);
    }
}
