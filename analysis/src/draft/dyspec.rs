//! DySpec: grows the draft tree where the draft model is most sure, with a heap.
//!
//! Source: Xiong et al. 2024, "DySpec: Faster Speculative Decoding with Dynamic Token Tree Structure",
//! arXiv 2410.11744. Takes: draft distributions. Gives: a tree whose node values sum to the expected number of
//! accepted tokens. Departs: own reading of the paper; the authors' code is not public.

use super::reader::{NEW, Reader, SEED, TEMPERATURE, check_greedy, distribution, drafter, start};
use super::spec_sampling::{inverse_cdf, residual};
use super::{DraftInput, DraftNode, DraftRun, Method, NodeState, Round};
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::run::argmax;
use crate::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;

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
        Draw::Uniforms(u) => inverse_cdf(left, u[index]),
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

/// What verification made of a tree.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeVerdict {
    /// Ids of the accepted nodes, from the root down.
    pub path: Vec<usize>,
    /// The token after the last accepted node, from the target.
    pub own: usize,
    /// Per node: the probability it was accepted with, or `None` if it was never looked at.
    pub accept: Vec<Option<f64>>,
}

/// Verifies a tree drawn without replacement: at each accepted node its children are offered in the order they
/// were drawn; a refused one leaves the residual of the target and the remaining draft distribution.
///
/// `q` and `p` give the draft's and the target's distribution after a node (0 is the root). The emitted tokens are
/// distributed as the target's own, whatever the draft is.
pub fn verify_tree(
    nodes: &[Node],
    q: &dyn Fn(usize) -> Vec<f64>,
    p: &dyn Fn(usize) -> Vec<f64>,
    rng: &mut dyn FnMut() -> f64,
) -> TreeVerdict {
    let mut out = TreeVerdict { path: Vec::new(), own: 0, accept: vec![None; nodes.len()] };
    let mut at = 0;
    loop {
        let (mut target, mut left) = (p(at), Some(q(at)));
        let mut next = None;
        for child in nodes.iter().filter(|n| n.parent == at) {
            let Some(draft) = left else { break };
            let share = if draft[child.token] > 0.0 { target[child.token] / draft[child.token] } else { 0.0 };
            out.accept[child.id - 1] = Some(share.min(1.0));
            if rng() < share {
                next = Some(child.id);
                break;
            }
            target = residual(&target, &draft);
            left = without(&draft, child.token);
        }
        match next {
            Some(id) => {
                out.path.push(id);
                at = id;
            }
            None => {
                out.own = inverse_cdf(&target, rng());
                return out;
            }
        }
    }
}

const SIZE: Param = Param::count("tree_size", "Nodes drafted per round", 1, 256, 16);

static INFO: Info = Info {
    id: "dyspec",
    title: "DySpec",
    summary: "Grows the draft tree where the draft model is most sure, node by node.",
    family: "speculative",
    paper: Some(Paper {
        title: "DySpec: Faster Speculative Decoding with Dynamic Token Tree Structure",
        authors: "Xiong et al.",
        year: 2024,
        arxiv: "2410.11744",
    }),
    departs: "own reading of the paper, whose code is not public",
    needs: &[Need::Logits, Need::DraftModel],
    params: &[SIZE, NEW, TEMPERATURE, SEED],
    basis: Basis::OwnReading,
    budget: Some(&SIZE),
    raw: &[ADAPTER],
    ..Info::of(Kind::Draft)
};

pub(super) struct DySpec;

impl Method for DySpec {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn run(
        &self,
        input: &DraftInput,
        params: &Params,
        ctx: &Ctx,
        partial: &mut dyn FnMut(&DraftRun),
    ) -> Result<DraftRun> {
        INFO.check(params)?;
        let draft = drafter(input, INFO.id)?;
        let (size, new) = (params.count(&SIZE) as usize, params.count(&NEW) as usize);
        let temperature = params.number(&TEMPERATURE);
        // Greedy trees still need the draft's confidence to know where to grow.
        let warmth = if temperature == 0.0 { 1.0 } else { temperature };
        let mut rng = ChaCha8Rng::seed_from_u64(params.seed(&SEED));
        let (mut run, mut root) = start(input)?;
        let (mut target, mut small) = (Reader::target(input, ctx)?, Reader::draft(draft, input, ctx)?);
        let mut emitted = 0;
        while emitted < new {
            ctx.step(emitted, new)?;
            let kept = target.cache.len();
            let first = small.read(&[root], ctx)?.pop().unwrap_or_default();
            let known: RefCell<HashMap<Vec<usize>, Vec<f64>>> =
                RefCell::new(HashMap::from([(Vec::new(), distribution(&first, warmth))]));
            let q = |path: &[usize]| -> Result<Vec<f64>> {
                if let Some(dist) = known.borrow().get(path) {
                    return Ok(dist.clone());
                }
                ctx.step(emitted, new)?;
                let ids: Vec<u32> = path.iter().map(|&t| t as u32).collect();
                let logits = small.clone().read(&ids, ctx)?.pop().unwrap_or_default();
                let dist = distribution(&logits, warmth);
                known.borrow_mut().insert(path.to_vec(), dist.clone());
                Ok(dist)
            };
            let uniforms: Vec<f64> = (0..size).map(|_| rng.random()).collect();
            let how = if temperature == 0.0 { Draw::Argmax } else { Draw::Uniforms(&uniforms) };
            let quiet = Ctx::default();
            let nodes = grow(size, &how, &q, &quiet)?;
            let draft_passes = known.borrow().len();
            let ids: Vec<u32> = std::iter::once(root).chain(nodes.iter().map(|n| n.token as u32)).collect();
            let parents: Vec<usize> = std::iter::once(0).chain(nodes.iter().map(|n| n.parent)).collect();
            let logits = target.read_tree(&ids, &parents, ctx)?;
            let verdict = if temperature == 0.0 {
                greedy(&nodes, &logits)
            } else {
                let tokens = |mut at: usize| -> Vec<usize> {
                    let mut path = Vec::new();
                    while at != 0 {
                        path.push(nodes[at - 1].token);
                        at = nodes[at - 1].parent;
                    }
                    path.reverse();
                    path
                };
                let known = known.borrow();
                let draft_at = |at: usize| known.get(&tokens(at)).cloned().unwrap_or_default();
                let target_at = |at: usize| distribution(&logits[at], temperature);
                verify_tree(&nodes, &draft_at, &target_at, &mut || rng.random())
            };
            let mut out: Vec<u32> = verdict.path.iter().map(|&id| ids[id]).collect();
            out.push(verdict.own as u32);
            out.truncate(new - emitted);
            emitted += out.len();
            let shown = nodes
                .iter()
                .map(|n| DraftNode {
                    parent: n.parent.checked_sub(1),
                    token: n.token as u32,
                    depth: n.depth,
                    p_draft: n.q_conditional.map(|q| q as f32),
                    p_target: Some(distribution(&logits[n.parent], warmth)[n.token] as f32),
                    p_accept: verdict.accept[n.id - 1].map(|a| a as f32),
                    state: match (verdict.path.contains(&n.id), verdict.accept[n.id - 1]) {
                        (true, _) => NodeState::Accepted,
                        (false, Some(_)) => NodeState::Rejected,
                        (false, None) => NodeState::Unverified,
                    },
                })
                .collect();
            run.rounds.push(Round { root, nodes: shown, emitted: out, draft_passes });
            target.keep_path(kept, &verdict.path)?;
            // The draft has read the root; the accepted path follows.
            let path: Vec<u32> = verdict.path.iter().map(|&id| ids[id]).collect();
            if !path.is_empty() {
                small.read(&path, ctx)?;
            }
            root = verdict.own as u32;
            partial(&run);
        }
        if temperature == 0.0 {
            check_greedy(&mut run, input, ctx)?;
        }
        Ok(run)
    }
}

/// Greedy verification: a child is accepted if it is the target's most probable token.
fn greedy(nodes: &[Node], logits: &[Vec<f32>]) -> TreeVerdict {
    let best = |at: usize| argmax(&logits[at]).unwrap_or(0);
    let mut out = TreeVerdict { path: Vec::new(), own: 0, accept: vec![None; nodes.len()] };
    let mut at = 0;
    loop {
        let mut next = None;
        for child in nodes.iter().filter(|n| n.parent == at) {
            let hit = child.token == best(at);
            out.accept[child.id - 1] = Some(f64::from(u8::from(hit)));
            if hit {
                next = Some(child.id);
                break;
            }
        }
        let Some(id) = next else {
            out.own = best(at);
            return out;
        };
        out.path.push(id);
        at = id;
    }
}

/// Raw entry: an order-1 Markov draft model and a context.
const ADAPTER: Adapter = Adapter { name: "dyspec", run: raw };

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

    /// Chi-squared over cells; `None` where a cell is expected too rarely to count.
    fn chi_squared(counts: &[usize], p: &[f64]) -> f64 {
        let n: usize = counts.iter().sum();
        counts.iter().zip(p).map(|(&c, p)| (c as f64 - n as f64 * p).powi(2) / (n as f64 * p)).sum()
    }

    /// Error level 1e-6 in each of the three comparisons: the 1 - 1e-6 quantiles of chi-squared with 3 degrees of
    /// freedom is 30.66, so a correct program fails this test about three times in a million seeds.
    #[test]
    fn what_a_sampled_tree_emits_is_distributed_as_the_target_whatever_the_draft_is() {
        const LIMIT: f64 = 30.66;
        let p = |path: &[usize]| match path {
            [] => vec![0.05, 0.15, 0.3, 0.5],
            [0, ..] => vec![0.7, 0.1, 0.1, 0.1],
            [1, ..] => vec![0.25, 0.25, 0.4, 0.1],
            _ => vec![0.1, 0.2, 0.3, 0.4],
        };
        // The draft is wrong, even in order.
        let q = |path: &[usize]| match path {
            [] => vec![0.4, 0.3, 0.2, 0.1],
            [3, ..] => vec![0.97, 0.01, 0.01, 0.01],
            _ => vec![0.3, 0.1, 0.5, 0.1],
        };
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let (mut first, mut after) = ([0usize; 4], [[0usize; 4]; 4]);
        for _ in 0..60_000 {
            let uniforms: Vec<f64> = (0..7).map(|_| rng.random()).collect();
            let draft = |path: &[usize]| Ok(q(path));
            let nodes = grow(7, &Draw::Uniforms(&uniforms), &draft, &Ctx::default()).unwrap();
            let path_of = |mut at: usize| {
                let mut path = Vec::new();
                while at != 0 {
                    path.push(nodes[at - 1].token);
                    at = nodes[at - 1].parent;
                }
                path.reverse();
                path
            };
            let v = verify_tree(&nodes, &|at| q(&path_of(at)), &|at| p(&path_of(at)), &mut || rng.random());
            let mut out: Vec<usize> = v.path.iter().map(|&id| nodes[id - 1].token).collect();
            out.push(v.own);
            first[out[0]] += 1;
            if let Some(second) = out.get(1) {
                after[out[0]][*second] += 1;
            }
        }
        let x = chi_squared(&first, &p(&[]));
        assert!(x < LIMIT, "first token: {x}");
        for a in [2, 3] {
            let x = chi_squared(&after[a], &p(&[a]));
            assert!(x < LIMIT && after[a].iter().sum::<usize>() > 1000, "after {a}: {x}, {:?}", after[a]);
        }
    }
}
