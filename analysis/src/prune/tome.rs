//! ToMe: merges the most similar pairs of an alternating split of the tokens.
//!
//! Source: Bolya et al. 2023, "Token Merging: Your ViT But Faster", arXiv 2210.09461.
//! Takes: a metric per token (keys, mean over heads) `[t, c]`. Gives: groups and sizes. Departs: none known.
//! Cost: O(t² · c) per layer.

use super::select::{dot, normalized};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

/// One step of bipartite soft matching: per new row, the old rows merged into it, in output order.
///
/// Even rows look for their most similar odd row; the `r` best pairs merge. With a class token, row 0 never
/// merges and unmerged rows keep their order; without, they come by falling similarity, as in the authors' code.
pub fn bipartite_soft_matching(metric: &Array, r: usize, class_token: bool) -> Result<Vec<Vec<usize>>> {
    let [t, _] = metric.dims("metric")?;
    let protected = usize::from(class_token);
    let r = r.min(t.saturating_sub(protected) / 2);
    if r == 0 {
        return Ok((0..t).map(|i| vec![i]).collect());
    }
    let unit = normalized(metric);
    let mut best: Vec<(f32, usize)> = (0..t)
        .step_by(2)
        .map(|i| {
            let mut found = (f32::NEG_INFINITY, 0);
            if !(class_token && i == 0) {
                for j in (1..t).step_by(2) {
                    let s = dot(&unit[i], &unit[j]) as f32;
                    if s > found.0 {
                        found = (s, j / 2);
                    }
                }
            }
            found
        })
        .collect();
    best.iter_mut().for_each(|b| b.0 = if b.0.is_nan() { f32::NEG_INFINITY } else { b.0 });
    let mut order: Vec<usize> = (0..best.len()).collect();
    order.sort_by(|&a, &b| best[b].0.total_cmp(&best[a].0).then(a.cmp(&b)));
    let (merged, unmerged) = order.split_at(r);
    let mut unmerged = unmerged.to_vec();
    if class_token {
        unmerged.sort_unstable();
    }
    let mut groups: Vec<Vec<usize>> = unmerged.iter().map(|&a| vec![2 * a]).collect();
    let first_b = groups.len();
    groups.extend((1..t).step_by(2).map(|j| vec![j]));
    for &a in merged {
        groups[first_b + best[a].1].push(2 * a);
    }
    Ok(groups)
}

/// Means of `x` `[t, d]` over groups, weighted by `size`, and the new sizes.
pub fn merge_weighted(x: &Array, size: &[f64], groups: &[Vec<usize>]) -> Result<(Array, Vec<f64>)> {
    let [t, d] = x.dims("tokens")?;
    if size.len() != t {
        return Err(Error::invalid(format!("{} sizes for {t} tokens", size.len())));
    }
    let mut out = Vec::with_capacity(groups.len() * d);
    let mut sizes = Vec::with_capacity(groups.len());
    for g in groups {
        let total: f64 = g.iter().map(|&i| size[i]).sum();
        for c in 0..d {
            let sum: f64 = g.iter().map(|&i| size[i] * f64::from(x.row(i)[c])).sum();
            out.push((sum / total) as f32);
        }
        sizes.push(total);
    }
    Ok((Array::new([groups.len(), d], out)?, sizes))
}

/// Raw entry: `x`, `metric`, `r`, `class_token`, `steps`; from the second step on the merged features are the metric.
pub(super) static ADAPTER: Adapter = Adapter { name: "tome", methods: &["tome"], run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, metric) = (input.array("x")?, input.array("metric")?);
    x.check_finite("x")?;
    metric.check_finite("metric")?;
    let [t, d] = x.dims("x")?;
    if metric.dims::<2>("metric")?[0] != t {
        return Err(Error::shape("metric", format!("[{t}, any]"), metric.shape()));
    }
    let r: usize = input.read("r")?;
    let class_token: bool = input.read_or("class_token", false)?;
    let n_steps: usize = input.read_or("steps", 1)?;
    let nested = |a: &Array| -> Vec<Vec<f32>> { a.data().chunks(d.max(1)).map(<[f32]>::to_vec).collect() };
    let mut tokens: Vec<Vec<usize>> = (0..t).map(|i| vec![i]).collect();
    let (mut x, mut size, mut steps, mut first) = (x.clone(), vec![1.0; t], Vec::new(), Value::Null);
    for step in 0..n_steps {
        ctx.step(step, n_steps)?;
        let groups = bipartite_soft_matching(if step == 0 { metric } else { &x }, r, class_token)?;
        (x, size) = merge_weighted(&x, &size, &groups)?;
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
        assert_eq!(bipartite_soft_matching(&m, 1, false).unwrap(), [vec![0], vec![1, 2], vec![3]]);
    }
}
