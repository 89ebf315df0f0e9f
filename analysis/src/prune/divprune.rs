//! DivPrune: keeps the tokens that are farthest from each other, by greedy max–min of cosine distance.
//!
//! Source: Alvar et al. 2025, "DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models", arXiv 2503.02175.
//! Takes: projected visual tokens `[n, d]`. Gives: k = round(ratio · n) of them. Departs: distances in f64.
//! Cost: O(n² · d).

use super::select::{dot, normalized, round_half_even};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

/// Indices in the order they are taken. The first has the farthest nearest neighbour. Taken tokens are not
/// masked, as in the authors' code: a picture of duplicates may name one twice.
pub fn selection_order(x: &Array, k: usize, ctx: &Ctx) -> Result<Vec<usize>> {
    let [n, _] = x.dims("visual tokens")?;
    let unit = normalized(x);
    if unit.iter().flatten().any(|v| !v.is_finite()) {
        return Err(Error::invalid("a visual token is zero or not finite, so it has no direction"));
    }
    // f32 at the end: exact duplicates must tie as they do in the authors' arithmetic.
    let distance = |i: usize, j: usize| (1.0 - dot(&unit[i], &unit[j])) as f32;
    let mut nearest = vec![f32::INFINITY; n];
    let mut order = Vec::with_capacity(k);
    for step in 0..k.min(n) {
        ctx.step(step, k)?;
        let score: Vec<f32> = if step == 0 {
            let second = |j: usize| {
                let mut column: Vec<f32> = (0..n).map(|i| distance(i, j)).collect();
                column.sort_by(f32::total_cmp);
                column.get(1).or(column.first()).copied().unwrap_or(0.0)
            };
            (0..n).map(second).collect()
        } else {
            let last = order[step - 1];
            nearest.iter_mut().enumerate().for_each(|(j, d)| *d = d.min(distance(last, j)));
            nearest.clone()
        };
        order.push(crate::run::argmax(&score).ok_or_else(|| Error::invalid("there are no visual tokens"))?);
    }
    Ok(order)
}

/// Raw entry: `visual_tokens` `[n, d]` and `ratio`.
pub(super) static ADAPTER: Adapter = Adapter { name: "divprune", methods: &["divprune"], run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let x = input.array("visual_tokens")?;
    x.check_finite("visual_tokens")?;
    let [n, _] = x.dims("visual_tokens")?;
    let ratio: f64 = input.read_or("ratio", 0.098)?;
    if !(0.0..=1.0).contains(&ratio) {
        return Err(Error::invalid(format!("ratio is {ratio}, not a share from 0 to 1")));
    }
    let order = selection_order(x, round_half_even(ratio * n as f64) as usize, ctx)?;
    let keep: std::collections::BTreeSet<usize> = order.iter().copied().collect();
    Ok(json!({ "unique_kept": keep.len(), "keep": keep, "selection_order": order }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_outlier_first_and_then_its_opposite() {
        let x = Array::new([3, 2], vec![1.0, 0.0, 1.0, 0.01, 0.0, 1.0]).unwrap();
        let order = selection_order(&x, 2, &Ctx::default()).unwrap();
        assert_eq!(order, [2, 0]);
    }
}
