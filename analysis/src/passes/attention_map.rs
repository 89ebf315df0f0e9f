//! One head's attention map from its queries and keys: `softmax(scale · q kᵀ + mask)`.
//!
//! Plain loops with sums in f64: the twin that a reader trusts and faster paths are tested against.

use crate::array::Array;
use crate::trace::{AttentionRule, Key, Site, Tower, Trace};
use crate::{Error, Result};

/// The map `[n, n]` of query head `head`: rows are queries and sum to 1, columns are keys.
///
/// `q` is `[h, n, e]`, `k` is `[g, n, e]`, `positions` are the position ids of the rows. A query that sees no
/// key gives a row of zeros.
pub fn cpu(q: &Array, k: &Array, rule: &AttentionRule, positions: &[usize], head: usize) -> Result<Array> {
    let n = q.dims::<3>("queries")?[1];
    Array::new([n, n], rows(q, k, rule, positions, head, 0..n)?)
}

/// Some rows of the map, one after another.
fn rows(
    q: &Array,
    k: &Array,
    rule: &AttentionRule,
    positions: &[usize],
    head: usize,
    queries: std::ops::Range<usize>,
) -> Result<Vec<f32>> {
    let [h, n, e] = q.dims("queries")?;
    let [g, m, ek] = k.dims("keys")?;
    if g == 0 || h % g != 0 || e != ek || m != n || positions.len() != n {
        return Err(Error::shape("keys", format!("[divisor of {h}, {n}, {e}]"), k.shape()));
    }
    if head >= h {
        return Err(Error::invalid(format!("there is no head {head}; the layer has {h}")));
    }
    let (q, k) = (q.row(head), k.row(head / (h / g)));
    let mut out = vec![0f32; queries.len() * n];
    let mut scores = vec![0f64; n];
    for (i, out) in queries.zip(out.chunks_exact_mut(n.max(1))) {
        let seen = |j: usize| rule.mask.allows(i, positions[i], j, positions[j]);
        let mut max = f64::NEG_INFINITY;
        for (j, score) in scores.iter_mut().enumerate() {
            if !seen(j) {
                *score = f64::NEG_INFINITY;
                continue;
            }
            let dot: f64 = (0..e).map(|c| f64::from(q[i * e + c]) * f64::from(k[j * e + c])).sum();
            let mut s = dot * f64::from(rule.scale);
            if let Some(cap) = rule.soft_cap {
                s = f64::from(cap) * (s / f64::from(cap)).tanh();
            }
            *score = s;
            max = max.max(s);
        }
        if max == f64::NEG_INFINITY {
            continue;
        }
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        for (j, s) in scores.iter().enumerate() {
            out[j] = ((s - max).exp() / sum) as f32;
        }
    }
    Ok(out)
}

/// The map of one head of a trace. Errors if queries and keys of the layer were not captured.
pub fn of_trace(trace: &Trace, tower: Tower, tile: usize, layer: usize, head: usize) -> Result<Array> {
    let (q, k, rule, positions) = parts(trace, tower, tile, layer)?;
    cpu(q, k, rule, positions, head)
}

/// One row of [`of_trace`], without the others.
pub fn row_of_trace(
    trace: &Trace,
    tower: Tower,
    tile: usize,
    layer: usize,
    head: usize,
    row: usize,
) -> Result<Vec<f32>> {
    let (q, k, rule, positions) = parts(trace, tower, tile, layer)?;
    if row >= positions.len() {
        return Err(Error::invalid(format!("there is no row {row}; the map has {}", positions.len())));
    }
    rows(q, k, rule, positions, head, row..row + 1)
}

type Parts<'t> = (&'t Array, &'t Array, &'t AttentionRule, &'t [usize]);

fn parts(trace: &Trace, tower: Tower, tile: usize, layer: usize) -> Result<Parts<'_>> {
    let run = trace.tower(tower)?;
    let rule =
        run.attention.get(layer).ok_or_else(|| Error::invalid(format!("there is no layer {layer} in this run")))?;
    let get = |site| {
        trace.arrays.get(&Key { tower, tile, layer, site }).ok_or_else(|| {
            Error::invalid(format!("the trace holds no {site:?} of layer {layer}; run again with q and k captured"))
        })
    };
    let (q, k) = (get(Site::Q)?, get(Site::K)?);
    Ok((&q.array, &k.array, rule, &q.rows.positions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::MaskRule;

    fn rule(mask: MaskRule) -> AttentionRule {
        AttentionRule { n_heads: 2, n_kv_heads: 1, scale: 1.0, mask, soft_cap: None }
    }

    #[test]
    fn a_causal_map_of_two_tokens_by_hand() {
        // Head 1: q = (ln 3), k = (0, 1): the second row's scores are 0 and ln 3, so shares 1/4 and 3/4.
        let q = Array::new([2, 2, 1], vec![0.0, 0.0, 5.0, 3f32.ln()]).unwrap();
        let k = Array::new([1, 2, 1], vec![0.0, 1.0]).unwrap();
        let map = cpu(&q, &k, &rule(MaskRule::Causal), &[0, 1], 1).unwrap();
        for (got, want) in map.data().iter().zip([1.0, 0.0, 0.25, 0.75]) {
            assert!((got - want).abs() < 1e-6, "{:?}", map.data());
        }
    }

    #[test]
    fn positions_and_not_row_numbers_decide_what_is_seen() {
        let q = Array::zeros([2, 2, 1]);
        let k = Array::zeros([1, 2, 1]);
        let map = cpu(&q, &k, &rule(MaskRule::SlidingWindow(2)), &[0, 5], 0).unwrap();
        assert_eq!(map.data(), [1.0, 0.0, 0.0, 1.0]);
    }
}
