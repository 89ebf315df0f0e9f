//! Merging tokens in pairs of an alternating split, and what the groups of a merge become.

use super::decide::Decision;
use super::place::Place;
use super::seen::Seen;
use crate::Result;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::passes::bipartite_matching::{self, Match};

/// One step of bipartite soft matching: per new row, the old rows merged into it, in output order.
///
/// Even rows look for their most similar odd row; the `r` best pairs merge. The first `leading` rows (class,
/// distillation and register tokens) never merge and stay in front; with them unmerged rows keep their order, without
/// they come by falling similarity, as in the authors' code.
pub fn bipartite_soft_matching(metric: &Array, r: usize, leading: usize, ctx: &Ctx) -> Result<Vec<Vec<usize>>> {
    let [t, _] = metric.dims("metric")?;
    if r.min(t.saturating_sub(leading) / 2) == 0 {
        return Ok((0..t).map(|i| vec![i]).collect());
    }
    Ok(merged(t, &bipartite_matching::run(metric, leading, ctx)?, r, leading))
}

/// The groups of `t` rows when the `r` best of these matches of even rows merge.
pub fn merged(t: usize, best: &[Match], r: usize, leading: usize) -> Vec<Vec<usize>> {
    let r = r.min(t.saturating_sub(leading) / 2);
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
    groups
}

/// New rows of the old ones by groups, each a mean weighted by the tokens behind them.
pub fn by_size(seen: &dyn Seen, groups: Vec<Vec<usize>>) -> Decision {
    let size = |r: &usize| seen.rows().size(*r);
    let weighted = |g: Vec<usize>| {
        let total: usize = g.iter().map(size).sum();
        g.into_iter().map(|r| (r, size(&r) as f32 / total as f32)).collect()
    };
    let merged = Decision::rows(groups.into_iter().map(weighted).collect());
    if seen.place() == Place::Features { merged.renumbered() } else { merged }
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
