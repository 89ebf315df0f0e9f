//! VisionZip: the patches that the class token looks at most go on, and a few that take the others in.
//!
//! Source: Yang et al. 2024, "VisionZip: Longer is Better but Not Necessary in Vision Language Models", arXiv 2412.04467.
//! Takes: the class row `[heads, patches]`, keys `[patches, e]` and hidden states `[patches, d]` of one encoder layer.
//! Gives: dominant patches, and targets to which the mean of the patches that are most like them is added.
//! Departs: see [`Info::departs`]. Cost: O(n · targets · e).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{both_per_feature, head_sum, looked_at, noted};
use crate::reduce::place::{Half, KEEP, LAYER, Place, READ_LAYER, encoded, read_layer};
use crate::reduce::seen::pick;
use crate::reduce::select::{Dominant, budget, round_half_even};
use crate::reduce::{Decide, Method, Seen, Table};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const CONTEXTUAL: Param =
    Param::share("contextual", "Share of the tokens left that take in those that are not", 10.0 / 64.0);

static INFO: Info = Info {
    id: "visionzip",
    title: "VisionZip",
    summary: "Keeps the patches that the class token looks at most and adds the others to a few that are most like them.",
    family: "image features",
    basis: Basis::Authors { repo: "dvlab-research/VisionZip", commit: "3151f6df4f" },
    paper: Some(Paper {
        title: "VisionZip: Longer is Better but Not Necessary in Vision Language Models",
        authors: "Yang et al.",
        year: 2024,
        arxiv: "2412.04467",
    }),
    departs: "the class token itself is not handed on, since the text has no place for it; rows stand in the order of \
              their first patches; without a class token what all patches look at stands in, and where the projector reads \
              several patches at once the rows are made behind it",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[KEEP, CONTEXTUAL, READ_LAYER, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct VisionZip;

impl Method for VisionZip {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let cut = encoded(on, params, &INFO)?;
        let layer = read_layer(on, params, &READ_LAYER, &INFO)?;
        let (keep, contextual, on) = (params.share(&KEEP), params.share(&CONTEXTUAL), *on);
        let note = |seen: &dyn Seen, _: usize, ctx: &Ctx| {
            let keys = seen.keys()?.map_or_else(|| seen.values(), Ok)?;
            Ok((head_sum(&looked_at(seen, ctx)?), pick(&keys, seen.open())?))
        };
        Ok(noted(vec![layer], cut, note, move |seen, notes, ctx| {
            let (scores, metric) = both_per_feature(&on, seen, notes.of(0))?;
            let n = budget(seen, keep).max(1);
            let c = round_half_even(contextual * n as f64) as usize;
            let zip = Dominant::of(&scores, &metric, (n - c, c), ctx)?;
            Ok(zip.decide(seen).scored(seen, &scores))
        }))
    }
}

/// Raw entry: `cls_attn` `[heads, 1 + n]`, `hidden` `[1 + n, d]` and `metric` `[1 + n, e]`, the class token first;
/// `dominant_num` patches besides it, `contextual_num` targets.
const ADAPTER: Adapter = Adapter { name: "visionzip", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (a, hidden, metric) = (input.array("cls_attn")?, input.array("hidden")?, input.array("metric")?);
    for (name, x) in [("cls_attn", a), ("hidden", hidden), ("metric", metric)] {
        x.check_finite(name)?;
    }
    let ([heads, rows], [n, _], [m, _]) = (a.dims("cls_attn")?, hidden.dims("hidden")?, metric.dims("metric")?);
    if rows != n || m != n || n < 2 {
        return Err(Error::shape(
            "metric",
            format!("[{n}, any], as hidden, with {n} columns of cls_attn"),
            metric.shape(),
        ));
    }
    let patches: Vec<usize> = (1..n).collect();
    let class = Array::new([heads, n - 1], (0..heads).flat_map(|h| a.row(h)[1..].iter().copied()).collect())?;
    let scores = head_sum(&class);
    let (dominant, contextual): (usize, usize) = (input.read("dominant_num")?, input.read("contextual_num")?);
    if dominant > n - 1 {
        return Err(Error::invalid(format!("dominant_num is {dominant}; there are {} patches", n - 1)));
    }
    let seen = Table::new(Place::Encoder(0, Half::After), n, 1..n).with_values(hidden);
    let zip = Dominant::of(&scores, &pick(metric, &patches)?, (dominant, contextual), ctx)?;
    let merge: Vec<(usize, usize)> =
        zip.contextual.others.iter().map(|&(o, t)| (o, zip.contextual.targets[t])).collect();
    let decision = zip.decide(&seen);
    let made = seen.after(&decision)?.values()?;
    let output: Vec<&[f32]> = (0..made.shape()[0]).map(|i| made.row(i)).collect();
    Ok(json!({
        "score": scores, "dominant": zip.dominant, "targets": zip.contextual.targets, "merge": merge, "output": output,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_itself_plus_the_mean_of_those_that_go_to_it() {
        let x = Array::new([5, 1], vec![100.0, 1.0, 2.0, 4.0, 8.0]).unwrap();
        let metric = Array::new([4, 1], vec![1.0; 4]).unwrap();
        let seen = Table::new(Place::Encoder(0, Half::After), 5, 1..5).with_values(&x);
        let zip = Dominant::of(&[0.1, 0.9, 0.2, 0.3], &metric, (1, 1), &Ctx::default()).unwrap();
        // Patch 1 is dominant; patch 0 takes in the mean of 2 and 3.
        let decision = zip.decide(&seen);
        let left = seen.after(&decision).unwrap();
        assert_eq!(left.values().unwrap().data(), [100.0, 2.0, 1.0 + 6.0]);
        assert_eq!(left.rows().tokens, [vec![0], vec![2], vec![1, 3, 4]]);
    }
}
