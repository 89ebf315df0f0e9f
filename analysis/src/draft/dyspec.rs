//! DySpec: grows the draft tree where the draft model is most sure, with a heap.
//!
//! Source: Xiong et al. 2024, "DySpec: Faster Speculative Decoding with Dynamic Token Tree Structure",
//! arXiv 2410.11744. Takes: draft distributions. Gives: a tree whose node values sum to the expected number of
//! accepted tokens. Departs: own reading of the paper; the authors' code is not public.

use crate::ctx::Ctx;
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};

/// A drafted node; the root is node 0 and not listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Number of the node, from 1.
    pub id: usize,
    /// Number of its parent.
    pub parent: usize,
    /// Vocabulary id.
    pub token: usize,
    /// 1 below the root.
    pub depth: usize,
    /// Probability among what was left of the parent's distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_conditional: Option<f64>,
    /// Estimated probability of being accepted.
    pub value: f64,
}

/// How a token is drawn from what is left of a distribution.
pub enum Draw<'a> {
    /// The most probable one, ties to the lower id.
    Argmax,
    /// By inverse CDF of these uniforms, one per node.
    Uniforms(&'a [f64]),
}

struct Entry {
    value: f64,
    node: usize,
    left: Vec<f64>,
}

fn draw(left: &[f64], how: &Draw, index: usize) -> usize {
    match how {
        Draw::Argmax => (0..left.len()).fold(0, |b, i| if left[i] > left[b] { i } else { b }),
        Draw::Uniforms(u) => super::spec_sampling::inverse_cdf(left, u[index]),
    }
}

/// `left` without `token`, renormalised; `None` if nothing is left.
fn without(left: &[f64], token: usize) -> Option<Vec<f64>> {
    let mut out = left.to_vec();
    out[token] = 0.0;
    let sum: f64 = out.iter().sum();
    (sum > 0.0).then(|| out.into_iter().map(|x| x / sum).collect())
}

/// Grows a tree of `size` nodes. `q(path)` is the draft's distribution after the tokens below the root.
pub fn grow(size: usize, how: &Draw, q: &dyn Fn(&[usize]) -> Result<Vec<f64>>, ctx: &Ctx) -> Result<Vec<Node>> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut paths: Vec<Vec<usize>> = vec![Vec::new()];
    // Pushed in order; the first of the largest is popped, so ties go to the earlier one.
    let mut heap = vec![Entry { value: 1.0, node: 0, left: q(&[])? }];
    while nodes.len() < size && !heap.is_empty() {
        ctx.step(nodes.len(), size)?;
        let top = (0..heap.len()).fold(0, |b, i| if heap[i].value > heap[b].value { i } else { b });
        let e = heap.remove(top);
        let token = draw(&e.left, how, nodes.len());
        let conditional = e.left[token];
        let value = e.value * conditional;
        let mut path = paths[e.node].clone();
        path.push(token);
        let id = nodes.len() + 1;
        nodes.push(Node { id, parent: e.node, token, depth: path.len(), q_conditional: Some(conditional), value });
        if let Some(left) = without(&e.left, token) {
            heap.push(Entry { value: e.value - value, node: e.node, left });
        }
        heap.push(Entry { value, node: id, left: q(&path)? });
        paths.push(path);
    }
    Ok(nodes)
}

/// Level by level: siblings are drawn while more than `threshold` of their parent's value is left.
pub fn grow_by_threshold(
    threshold: f64,
    max_nodes: usize,
    max_depth: usize,
    q: &dyn Fn(&[usize]) -> Result<Vec<f64>>,
) -> Result<Vec<Node>> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut level: Vec<(usize, f64, Vec<usize>)> = vec![(0, 1.0, Vec::new())];
    for depth in 1..=max_depth {
        let mut next = Vec::new();
        for (parent, value, path) in &level {
            let mut remaining = *value;
            let mut left = if remaining > threshold { Some(q(path)?) } else { None };
            while let Some(dist) = left.take_if(|_| remaining > threshold && nodes.len() < max_nodes) {
                let token = draw(&dist, &Draw::Argmax, 0);
                let own = remaining * dist[token];
                let id = nodes.len() + 1;
                nodes.push(Node { id, parent: *parent, token, depth, q_conditional: None, value: own });
                remaining -= own;
                next.push((id, own, path.iter().copied().chain([token]).collect()));
                left = without(&dist, token);
            }
        }
        if next.is_empty() {
            break;
        }
        level = next;
    }
    Ok(nodes)
}

/// Raw entry: an order-1 Markov draft model and a context.
pub(super) static ADAPTER: Adapter = Adapter { name: "dyspec", methods: &["dyspec"], run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let draft: Vec<Vec<f64>> = input.read("draft")?;
    let start: usize = input.read("ctx")?;
    let size: usize = input.read("tree_size")?;
    let uniforms: Vec<f64> = input.read_or("uniforms", Vec::new())?;
    let v = draft.len();
    let proper = |r: &Vec<f64>| r.len() == v && r.iter().all(|x| x.is_finite() && *x >= 0.0);
    if start >= v || !draft.iter().all(proper) || uniforms.len() < size || size > 100_000 {
        return Err(Error::invalid(
            "draft must be a square matrix of probabilities, ctx inside it, with a uniform per node",
        ));
    }
    let q = |path: &[usize]| Ok(draft[path.last().copied().unwrap_or(start)].clone());
    let argmax = grow(size, &Draw::Argmax, &q, ctx)?;
    let expected: f64 = argmax.iter().map(|n| n.value).sum();
    let threshold = grow_by_threshold(
        input.read("threshold")?,
        input.read("threshold_max_nodes")?,
        input.read("threshold_max_depth")?,
        &q,
    )?;
    Ok(json!({
        "argmax": argmax,
        "sampled": grow(size, &Draw::Uniforms(&uniforms), &q, ctx)?,
        "threshold_tree": threshold,
        "expected_accepted_argmax": expected,
        "expected_tokens_argmax": 1.0 + expected,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_continuation_grows_first() {
        // After the root 0.9 goes to token 0; its child is worth 0.9 · 0.9 = 0.81, more than the sibling's 0.1.
        let q = |_: &[usize]| Ok(vec![0.9, 0.1]);
        let nodes = grow(2, &Draw::Argmax, &q, &Ctx::default()).unwrap();
        assert_eq!((nodes[1].parent, nodes[1].token), (1, 0));
        assert!((nodes[1].value - 0.81).abs() < 1e-12);
    }
}
