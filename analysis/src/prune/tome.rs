//! ToMe: merges the most similar pairs of an alternating split of the tokens.
//!
//! Source: Bolya et al. 2023, "Token Merging: Your ViT But Faster", arXiv 2210.09461.
//! Takes: a metric per token (keys, mean over heads) `[t, c]`. Gives: groups and sizes. Departs: none known.
//! Cost: O(t² · c) per layer.

use super::place::Place;
use super::{Cut, Method, Plan, Stage};
use crate::Subject;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::model::{Input, LogitRows};
use crate::passes::bipartite_matching;
use crate::passes::segment_reduce::{self, How};
use crate::raw::{Adapter, RawInput};
use crate::token::TokenKind;
use crate::trace::{At, Regroup, Site, Tap, Tower};
use crate::{Error, Result};
use candle_core::Tensor;
use serde_json::{Value, json};

/// One step of bipartite soft matching: per new row, the old rows merged into it, in output order.
///
/// Even rows look for their most similar odd row; the `r` best pairs merge. The first `leading` rows (class,
/// distillation and register tokens) never merge and stay in front; with them unmerged rows keep their order, without
/// they come by falling similarity, as in the authors' code.
pub fn bipartite_soft_matching(metric: &Array, r: usize, leading: usize, ctx: &Ctx) -> Result<Vec<Vec<usize>>> {
    let [t, _] = metric.dims("metric")?;
    let r = r.min(t.saturating_sub(leading) / 2);
    if r == 0 {
        return Ok((0..t).map(|i| vec![i]).collect());
    }
    let best = bipartite_matching::run(metric, leading, ctx)?;
    let mut order: Vec<usize> = (0..best.len()).collect();
    order.sort_by(|&a, &b| best[b].cosine.total_cmp(&best[a].cosine).then(a.cmp(&b)));
    // A row without a partner cannot merge.
    let r = r.min(best.iter().filter(|b| b.cosine > f32::NEG_INFINITY).count());
    let (merged, unmerged) = order.split_at(r);
    let mut unmerged = unmerged.to_vec();
    if leading > 0 {
        unmerged.sort_unstable();
    }
    let mut groups: Vec<Vec<usize>> = unmerged.iter().map(|&a| vec![2 * a]).collect();
    let first_b = groups.len();
    groups.extend((1..t).step_by(2).map(|j| vec![j]));
    for &a in merged {
        groups[first_b + best[a].partner].push(2 * a);
    }
    if leading > 1 {
        // Even and odd rows of the leading ones go back between each other.
        let mut front: Vec<Vec<usize>> = groups.drain(first_b..first_b + leading / 2).collect();
        front.extend(groups.drain(..leading.div_ceil(2)));
        front.sort_unstable_by_key(|g| g[0]);
        groups.splice(0..0, front);
    }
    Ok(groups)
}

/// Means of `x` `[t, d]` over groups, weighted by `size`, and the new sizes.
pub fn merge_weighted(x: &Array, size: &[f64], groups: &[Vec<usize>], ctx: &Ctx) -> Result<(Array, Vec<f64>)> {
    let [t, _] = x.dims("tokens")?;
    if size.len() != t {
        return Err(Error::invalid(format!("{} sizes for {t} tokens", size.len())));
    }
    let segments: Vec<Vec<(usize, f64)>> = groups.iter().map(|g| g.iter().map(|&i| (i, size[i])).collect()).collect();
    let sizes = segments.iter().map(|s| s.iter().map(|m| m.1).sum()).collect();
    Ok((segment_reduce::run(x, &segments, How::Mean, ctx)?, sizes))
}

const R: Param =
    Param::count("r", "Tokens merged away per layer, or per step between encoder and language model", 0, 1024, 2);
const STEPS: Param = Param::count("steps", "Steps between encoder and language model", 1, 16, 1);
const PROPORTIONAL: Param = Param::toggle("proportional", "Attention counts a merged token by its size", true);

static INFO: Info = Info {
    id: "tome",
    title: "ToMe",
    summary: "Merges the most similar tokens of an alternating split into their size-weighted mean, layer by layer.",
    family: "inside the encoder",
    paper: Some(Paper {
        title: "Token Merging: Your ViT But Faster",
        authors: "Bolya et al.",
        year: 2023,
        arxiv: "2210.09461",
    }),
    departs: "register tokens are left alone like the class token; between encoder and language model the features \
              themselves are compared, for which the paper has no rule, and sizes do not weigh the attention",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[R, STEPS, PROPORTIONAL],
    basis: Basis::Authors { repo: "facebookresearch/ToMe", commit: "" },
    budget: Some(&R),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct ToMe;

impl Method for ToMe {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn plan(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Plan> {
        INFO.check(params)?;
        let place = Place::of_image(input, INFO.id)?;
        let r = params.count(&R) as usize;
        if place.between {
            return between(&place, input, r, params.count(&STEPS) as usize, ctx);
        }
        inside(input, r, params.toggle(&PROPORTIONAL), ctx)
    }
}

/// Merges image features in steps, each on the features that the step before left.
fn between(place: &Place, input: &Subject, r: usize, steps: usize, ctx: &Ctx) -> Result<Plan> {
    let mut x = place.values(input, &Params::new())?;
    let mut tokens: Vec<Vec<usize>> = (0..place.rows.len()).map(|i| vec![i]).collect();
    for step in 0..steps {
        ctx.step(step, steps)?;
        let sizes: Vec<f64> = tokens.iter().map(|t| t.len() as f64).collect();
        let groups = bipartite_soft_matching(&x, r, 0, ctx)?;
        (x, _) = merge_weighted(&x, &sizes, &groups, ctx)?;
        tokens = groups.iter().map(|g| g.iter().flat_map(|&i| tokens[i].iter().copied()).collect()).collect();
    }
    let groups: Vec<Vec<(usize, f32)>> = tokens
        .into_iter()
        .map(|mut g| {
            g.sort_unstable();
            let w = 1.0 / g.len() as f32;
            g.into_iter().map(|i| (i, w)).collect()
        })
        .collect();
    place.merge(input, &Params::new(), &groups, Vec::new())
}

/// Runs the encoder once, merging on the way by the keys of each layer, and notes what was merged.
fn inside(input: &Subject, r: usize, proportional: bool, ctx: &Ctx) -> Result<Plan> {
    let model = input.weights(&INFO)?;
    let tower = input.trace.tower(input.tower)?;
    let leading = tower.tokens.iter().take_while(|t| t.kind != TokenKind::Image).count();
    let mut merger =
        Merger { tower: input.tower, r, leading, proportional, metric: None, cuts: Vec::new(), ctx: ctx.clone() };
    let mut request = Input { logits: Some(LogitRows::None), ..input.again() };
    model.forward(&mut request, &mut merger, ctx)?;
    let plan = Plan {
        tower: input.tower,
        n_rows: tower.tokens.len(),
        cuts: merger.cuts,
        proportional_attention: proportional,
        scores: Vec::new(),
    };
    plan.outcome()?;
    Ok(plan)
}

/// Merges between attention and MLP of every layer, by the keys of that layer.
struct Merger {
    tower: Tower,
    r: usize,
    leading: usize,
    proportional: bool,
    /// Keys of the present layer, mean over heads.
    metric: Option<Array>,
    cuts: Vec<Cut>,
    /// Where to compute.
    ctx: Ctx,
}

impl Tap for Merger {
    fn wants(&self, at: &At) -> bool {
        at.tower == self.tower && at.site == Site::K
    }

    fn pass(&mut self, _at: &At, x: Tensor) -> Result<Tensor> {
        self.metric = Some(Array::from_tensor(&x.mean(0)?)?);
        Ok(x)
    }

    fn regroup(&mut self, at: &At, _x: &Tensor) -> Result<Option<Regroup>> {
        if at.tower != self.tower || at.site != Site::ResidMid || self.r == 0 {
            return Ok(None);
        }
        let Some(metric) = self.metric.take() else { return Ok(None) };
        let groups: Vec<Vec<(usize, f32)>> = bipartite_soft_matching(&metric, self.r, self.leading, &self.ctx)?
            .into_iter()
            .map(|g| {
                let total: usize = g.iter().map(|&i| at.rows.size(i)).sum();
                g.into_iter().map(|i| (i, at.rows.size(i) as f32 / total as f32)).collect()
            })
            .collect();
        if groups.len() == at.rows.len() {
            return Ok(None);
        }
        let regroup = Regroup::of(groups);
        self.cuts.push(Cut { stage: Stage::Mid(at.layer), regroup: regroup.clone() });
        Ok(Some(regroup))
    }

    fn proportional_attention(&self) -> bool {
        self.proportional
    }
}

/// Raw entry: `x`, `metric`, `r`, `class_token`, `distill_token`, `steps`; from the second step on the merged features are the metric.
const ADAPTER: Adapter = Adapter { name: "tome", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, metric) = (input.array("x")?, input.array("metric")?);
    x.check_finite("x")?;
    metric.check_finite("metric")?;
    let [t, d] = x.dims("x")?;
    if metric.dims::<2>("metric")?[0] != t {
        return Err(Error::shape("metric", format!("[{t}, any]"), metric.shape()));
    }
    let r: usize = input.read("r")?;
    let leading = match (input.read_or("class_token", false)?, input.read_or("distill_token", false)?) {
        (false, true) => {
            return Err(Error::invalid("a distillation token stands after a class token; set class_token"));
        }
        (class, distill) => usize::from(class) + usize::from(distill),
    };
    let n_steps: usize = input.read_or("steps", 1)?;
    let nested = |a: &Array| -> Vec<Vec<f32>> { a.data().chunks(d.max(1)).map(<[f32]>::to_vec).collect() };
    let mut tokens: Vec<Vec<usize>> = (0..t).map(|i| vec![i]).collect();
    let (mut x, mut size, mut steps, mut first) = (x.clone(), vec![1.0; t], Vec::new(), Value::Null);
    for step in 0..n_steps {
        ctx.step(step, n_steps)?;
        let groups = bipartite_soft_matching(if step == 0 { metric } else { &x }, r, leading, ctx)?;
        (x, size) = merge_weighted(&x, &size, &groups, ctx)?;
        tokens = groups
            .iter()
            .map(|g| {
                let mut all: Vec<usize> = g.iter().flat_map(|&i| tokens[i].iter().copied()).collect();
                all.sort_unstable();
                all
            })
            .collect();
        if step == 0 {
            first = json!(nested(&x));
        }
        steps.push(json!({ "tokens": tokens.len(), "size": size, "groups": tokens }));
    }
    Ok(json!({ "merged_after_step1": first, "steps": steps, "merged": nested(&x) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_the_most_similar_pair_into_its_odd_partner() {
        let m = Array::new([4, 2], vec![1.0, 0.0, 0.0, 1.0, 0.1, 1.0, -1.0, 0.0]).unwrap();
        assert_eq!(bipartite_soft_matching(&m, 1, 0, &Ctx::default()).unwrap(), [vec![0], vec![1, 2], vec![3]]);
    }

    #[test]
    fn class_and_distillation_token_stay_in_front() {
        // Rows 4 and 6 look like row 3 and row 5; rows 0 and 1 would match anybody.
        let m = Array::new(
            [7, 2],
            [[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [-1.0, 0.0], [-1.0, 0.0]].concat(),
        )
        .unwrap();
        let groups = bipartite_soft_matching(&m, 2, 2, &Ctx::default()).unwrap();
        assert_eq!(groups, [vec![0], vec![1], vec![2], vec![3, 4], vec![5, 6]]);
    }
}
