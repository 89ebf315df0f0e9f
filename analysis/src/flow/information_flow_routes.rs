//! Information-flow routes: how much each part contributes to what it is added into, by L1 proximity.
//!
//! Source: Ferrando & Voita 2024, "Information Flow Routes: Automatically Interpreting Language Models at Scale",
//! arXiv 2403.00824. Takes: per-head attention contributions, MLP outputs, residual streams. Gives: edges.
//! Departs: feed-forward pairs are renormalised per position, as documented, not over all as the released code does.
//! Cost: O(layers · n² · heads · width).

use super::{Edge, FlowGraph, Method, Node, Part};
use crate::Subject;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::Link;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::attention_map;
use crate::raw::{Adapter, RawInput};
use crate::trace::{Site, Spans};
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const TAU: Param = Param::share("renormalize", "Contributions up to this are zeroed and the rest renormalised", 0.0);

static INFO: Info = Info {
    id: "information_flow_routes",
    title: "Information-flow routes",
    summary: "Weighs every edge of the layer-by-token lattice by how much it contributes.",
    family: "contributions",
    paper: Some(Paper {
        title: "Information Flow Routes: Automatically Interpreting Language Models at Scale",
        authors: "Ferrando, Voita",
        year: 2024,
        arxiv: "2403.00824",
    }),
    departs: "feed-forward pairs are renormalised per position, as documented; biases of values and output are left out of the parts",
    needs: &[Need::Attention, Need::Values, Need::Residual, Need::HeadParts],
    params: &[TAU],
    basis: Basis::Authors { repo: "facebookresearch/llm-transparency-tool", commit: "" },
    raw: &[ADAPTER],
    first: true,
    ..Info::of(Kind::Flow)
};

pub(super) struct InformationFlowRoutes;

/// The smallest contribution: parts farther away than the whole is long count as this.
const FLOOR: f64 = 1e-5;
/// torch's pairwise distance adds this to every coordinate difference.
const PAIRWISE_EPS: f64 = 1e-6;

fn length(whole: &[f32]) -> f64 {
    whole.iter().map(|&w| f64::from(w).abs()).sum()
}

/// `max(|whole|₁ − |part − whole|₁, 1e-5)`.
fn proximity(part: &[f32], whole: &[f32]) -> f64 {
    let distance: f64 = part.iter().zip(whole).map(|(&p, &w)| (f64::from(p) - f64::from(w) + PAIRWISE_EPS).abs()).sum();
    (length(whole) - distance).max(FLOOR)
}

/// What arrives at one token in one layer, as shares.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    heads: usize,
    /// Of token `from` through head `h` at `from · heads + h`.
    attn: Vec<f64>,
    /// Of the residual stream around the attention.
    resid: f64,
    /// Of the MLP to the block's output; the residual has the rest.
    ffn: f64,
    /// Of the residual stream around the MLP.
    ffn_resid: f64,
}

impl Row {
    /// `attn` holds the proximities of what attention adds, laid out as [`Row::attn`].
    fn new(heads: usize, mut attn: Vec<f64>, [pre, mid, mlp, post]: [&[f32]; 4]) -> Self {
        let resid = proximity(pre, mid);
        let sum = resid + attn.iter().sum::<f64>();
        attn.iter_mut().for_each(|x| *x /= sum);
        let (f, r) = (proximity(mlp, post), proximity(mid, post));
        Self { heads, attn, resid: resid / sum, ffn: f / (f + r), ffn_resid: r / (f + r) }
    }

    /// Contributions up to `tau` become zero, the rest is renormalised.
    fn thresholded(&self, tau: f64) -> Self {
        let cut = |x: f64| if x > tau { x } else { 0.0 };
        let share = |x: f64, sum: f64| if sum > 0.0 { x / sum } else { 0.0 };
        let resid = cut(self.resid);
        let sum = resid + self.attn.iter().map(|&x| cut(x)).sum::<f64>();
        let (f, r) = (cut(self.ffn), cut(self.ffn_resid));
        Self {
            heads: self.heads,
            attn: self.attn.iter().map(|&x| share(cut(x), sum)).collect(),
            resid: share(resid, sum),
            ffn: share(f, f + r),
            ffn_resid: share(r, f + r),
        }
    }

    /// What arrives at `to`, whose row this is, from `from`.
    fn edge(&self, to: usize, from: usize) -> f64 {
        let heads: f64 = self.attn[from * self.heads..][..self.heads].iter().sum();
        if to == from { heads + self.resid } else { heads }
    }

    /// Its edges that weigh something.
    fn edges(&self, layer: usize, to: usize) -> impl Iterator<Item = Link> {
        let level = layer as u32 + 1;
        let node = move |level, part, token: usize| Node { level, part, token: token as u32 };
        let [attn, mlp, out] = [Part::Attn, Part::Mlp, Part::Resid].map(|part| node(level, part, to));
        let n = self.attn.len() / self.heads.max(1);
        (0..n)
            .map(move |from| (node(level - 1, Part::Resid, from), attn, self.edge(to, from)))
            .chain([(attn, mlp, self.ffn), (mlp, out, self.ffn), (attn, out, self.ffn_resid)])
            .filter(|e| e.2 > 0.0)
            .map(|(from, to, weight)| Edge { from, to, weight: weight as f32 }.into())
    }
}

/// Tokens whose distances are summed side by side.
const LANES: usize = 8;

/// Every token's value through one head's output projection, [`LANES`] tokens side by side.
struct Moved {
    width: usize,
    /// Coordinate `j` of block `b` at `b · width + j`.
    blocks: Vec<[f32; LANES]>,
}

impl Moved {
    /// `values` is `[n, width]`.
    fn new(values: &Array) -> Self {
        let [n, width] = [values.shape()[0], values.shape()[1]];
        let mut blocks = vec![[0f32; LANES]; n.div_ceil(LANES) * width];
        for from in 0..n {
            let block = &mut blocks[from / LANES * width..][..width];
            block.iter_mut().zip(values.row(from)).for_each(|(lanes, &x)| lanes[from % LANES] = x);
        }
        Self { width, blocks }
    }

    /// L1 distances of `shares[i]` times token `i` of `block` from `whole`.
    #[inline(always)]
    fn distances(&self, block: usize, shares: &[f64; LANES], whole: &[f64]) -> [f64; LANES] {
        let mut sums = [0f64; LANES];
        for (lanes, w) in self.blocks[block * self.width..][..self.width].iter().zip(whole) {
            for i in 0..LANES {
                sums[i] += (shares[i] * f64::from(lanes[i]) - w + PAIRWISE_EPS).abs();
            }
        }
        sums
    }
}

/// Proximities to `whole` of what attention adds to query `to`, laid out as [`Row::attn`]; per head its map and
/// values. `seen` are the runs of keys that the query sees: the others add nothing, and nothing is the same for all.
fn attention_parts(heads: &[(Array, Moved)], seen: &[(usize, usize)], to: usize, n: usize, whole: &[f32]) -> Vec<f64> {
    let norm = length(whole);
    let nothing = proximity(&vec![0.0; whole.len()], whole);
    let mut out = vec![nothing; n * heads.len()];
    let whole: Vec<f64> = whole.iter().map(|&w| f64::from(w)).collect();
    for (h, (map, moved)) in heads.iter().enumerate() {
        let map = map.row(to);
        for &(first, end) in seen {
            for block in first / LANES..end.div_ceil(LANES) {
                let start = block * LANES;
                let mut shares = [0f64; LANES];
                shares.iter_mut().zip(&map[start..]).for_each(|(s, &a)| *s = f64::from(a));
                let distances = moved.distances(block, &shares, &whole);
                for from in first.max(start)..end.min(start + LANES) {
                    out[from * heads.len() + h] = (norm - distances[from - start]).max(FLOOR);
                }
            }
        }
    }
    out
}

impl Method for InformationFlowRoutes {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn graph(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<FlowGraph> {
        INFO.check(params)?;
        let model = input.weights(&INFO)?;
        if model.info().towers.get(&input.tower).is_some_and(|t| t.norms_attention) {
            return Err(INFO.needs(Need::HeadParts.words()));
        }
        let tower = input.trace.tower(input.tower)?;
        let n = tower.tokens.len();
        let tau = params.number(&TAU);
        let mut edges = Vec::new();
        let floor = super::floor(tower.n_layers * n * n);
        // The maps of one layer's heads, whole.
        let heads = tower.attention.iter().map(|a| a.n_heads).max().unwrap_or(0);
        ctx.fits((size_of::<f32>() * heads * n * n) as u64, "shorten the prompt")?;
        for layer in 0..tower.n_layers {
            ctx.step(layer, tower.n_layers)?;
            let get = |site| input.trace.get(input.tower, layer, site);
            let (pre, mid, post, mlp) =
                (get(Site::ResidPre)?, get(Site::ResidMid)?, get(Site::ResidPost)?, get(Site::MlpOut)?);
            let v = get(Site::V)?;
            if v.rows.len() != n || mlp.rows.len() != n {
                return Err(Error::invalid("the run was reduced; choose the full run"));
            }
            let rule = &tower.attention[layer];
            let o = model.output_projection(input.tower, layer)?;
            let values = Tensor::from_slice(v.array.data(), v.array.shape().to_vec(), model.device())?;
            let mut heads = Vec::new();
            for h in 0..rule.n_heads {
                let moved = values.get(h / (rule.n_heads / rule.n_kv_heads))?.matmul(&o.get(h)?)?;
                let map = attention_map::of_trace(input.trace, input.tower, 0, layer, h, ctx)?;
                heads.push((map, Moved::new(&Array::from_tensor(&moved)?)));
            }
            let spans = Spans::new(&rule.mask, &v.rows.positions, &v.rows.positions);
            let row = |to: usize| {
                if ctx.cancelled() {
                    return Vec::new();
                }
                let mid = mid.array.row(to);
                let parts = pulp::Arch::new().dispatch(|| attention_parts(&heads, spans.of(to), to, n, mid));
                let mut row =
                    Row::new(heads.len(), parts, [pre.array.row(to), mid, mlp.array.row(to), post.array.row(to)]);
                // What the mask hides is no edge, however small its floor.
                let mut from = 0;
                for &(first, end) in spans.of(to).iter().chain([&(n, n)]) {
                    row.attn[from * heads.len()..first * heads.len()].fill(0.0);
                    from = end;
                }
                row.thresholded(tau).edges(layer, to).filter(|e| e.weight >= floor).collect::<Vec<_>>()
            };
            let rows: Vec<Vec<Link>> = (0..n).into_par_iter().map(row).collect();
            ctx.check()?;
            edges.reserve(rows.iter().map(Vec::len).sum());
            rows.into_iter().for_each(|row| edges.extend(row));
        }
        Ok(FlowGraph::new(input.tower, tower.n_layers, n, edges, floor))
    }
}

/// Raw entry: `decomposed_attn` `[layers, to, from, head, d]`, `ffn_out`, `resid_in`, `resid_mid`, `resid_out` `[layers, n, d]`.
const ADAPTER: Adapter = Adapter { name: "information_flow_routes", run: raw };

type NamedEdge = (String, String, f64);

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let attn = input.array("decomposed_attn")?;
    let [n_layers, n, m, heads, d] = attn.dims("decomposed_attn")?;
    let mut streams = Vec::new();
    for name in ["resid_in", "resid_mid", "ffn_out", "resid_out"] {
        let a = input.array(name)?;
        if a.shape() != [n_layers, n, d] || m != n {
            return Err(Error::shape(name, format!("[{n_layers}, {n}, {d}]"), a.shape()));
        }
        a.check_finite(name)?;
        streams.push(a);
    }
    attn.check_finite("decomposed_attn")?;
    let tau: f64 = input.read_or("threshold", 0.04)?;
    let mut layers = Vec::new();
    for l in 0..n_layers {
        ctx.step(l, n_layers)?;
        let block = attn.row(l);
        let [resid_in, resid_mid, ffn, resid_out] = [0, 1, 2, 3].map(|i: usize| streams[i].sub(l));
        let row = |to: usize| {
            let own = [&resid_in, &resid_mid, &ffn, &resid_out].map(|a| a.row(to));
            let part = |i: usize| proximity(&block[(to * n * heads + i) * d..][..d], own[1]);
            Row::new(heads, (0..n * heads).map(part).collect(), own)
        };
        layers.push((0..n).map(row).collect::<Vec<_>>());
    }
    let cut: Vec<Vec<Row>> = layers.iter().map(|rows| rows.iter().map(|r| r.thresholded(tau)).collect()).collect();
    let (full, thresholded) = (named_edges(&layers), named_edges(&cut));
    let target = format!("I{}_{}", n_layers.saturating_sub(1), n.saturating_sub(1));
    let all = |f: &dyn Fn(&Row) -> Value| -> Vec<Vec<Value>> {
        layers.iter().map(|rows| rows.iter().map(f).collect()).collect()
    };
    Ok(json!({
        "paths_last_token": paths(&thresholded, &target, tau),
        "full": full,
        "thresholded": thresholded,
        "attn_contrib": all(&|r| json!(r.attn.chunks(heads.max(1)).collect::<Vec<_>>())),
        "attn_resid": all(&|r| json!(r.resid)),
        "ffn_contrib": all(&|r| json!(r.ffn)),
    }))
}

/// Edges under the names of the authors' graph, zero ones too, sorted as text.
fn named_edges(layers: &[Vec<Row>]) -> Vec<NamedEdge> {
    let mut out = Vec::new();
    for (l, rows) in layers.iter().enumerate() {
        for (to, row) in rows.iter().enumerate() {
            for from in 0..rows.len() {
                let source = if l == 0 { format!("X0_{from}") } else { format!("I{}_{from}", l - 1) };
                out.push((source, format!("A{l}_{to}"), row.edge(to, from)));
            }
            out.push((format!("A{l}_{to}"), format!("M{l}_{to}"), row.ffn));
            out.push((format!("M{l}_{to}"), format!("I{l}_{to}"), row.ffn));
            out.push((format!("A{l}_{to}"), format!("I{l}_{to}"), row.ffn_resid));
        }
    }
    out.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    out
}

/// Edges with weight above `tau` from which `target` can be reached, sorted as text.
fn paths(edges: &[NamedEdge], target: &str, tau: f64) -> Vec<(String, String)> {
    let mut reached = BTreeSet::from([target.to_string()]);
    let mut stack = vec![target.to_string()];
    let mut out = BTreeSet::new();
    while let Some(node) = stack.pop() {
        for (from, to, _) in edges.iter().filter(|e| e.1 == node && e.2 > tau) {
            out.insert((from.clone(), to.clone()));
            if reached.insert(from.clone()) {
                stack.push(from.clone());
            }
        }
    }
    out.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::MaskRule;

    /// Numbers between -1 and 1, different for each `seed`.
    fn noise(seed: usize, len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    #[test]
    fn parts_side_by_side_are_those_one_by_one_to_the_last_bit() {
        let (n, d) = (11, 5);
        let positions: Vec<usize> = (0..n).collect();
        for rule in [MaskRule::Causal, MaskRule::SlidingWindow(3), MaskRule::Bidirectional] {
            let spans = Spans::new(&rule, &positions, &positions);
            let sees = |to: usize, from: usize| rule.allows(to, to, from, from);
            let arrays: Vec<(Array, Array)> = (0..2)
                .map(|h| {
                    let mut map = noise(h, n * n);
                    (0..n * n).filter(|i| !sees(i / n, i % n)).for_each(|i| map[i] = 0.0);
                    (Array::new([n, n], map).unwrap(), Array::new([n, d], noise(h + 2, n * d)).unwrap())
                })
                .collect();
            let heads: Vec<(Array, Moved)> = arrays.iter().map(|(m, v)| (m.clone(), Moved::new(v))).collect();
            for to in 0..n {
                let whole = noise(to + 9, d);
                let got = attention_parts(&heads, spans.of(to), to, n, &whole);
                for (i, got) in got.iter().enumerate() {
                    let (map, values) = &arrays[i % 2];
                    let share = f64::from(map.row(to)[i / 2]);
                    let part = values.row(i / 2).iter().map(|&x| share * f64::from(x));
                    let distance: f64 = part.zip(&whole).map(|(p, &w)| (p - f64::from(w) + PAIRWISE_EPS).abs()).sum();
                    assert_eq!(*got, (length(&whole) - distance).max(FLOOR), "{rule:?} {to} {i}");
                }
            }
        }
    }
}
